"""9.6 mixer_logits: MLP-Mixer's way from images to logits, to repair."""

from functools import reduce

import torch
from einops import rearrange
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import changes, draw, returns


def mixer_logits(images, stem, blocks, norm, head):
    grid = stem(images)
    B, D, h, w = grid.shape
    x = grid.reshape(B, D, h * w).transpose(1, 2)
    for block in blocks:
        x = block(x)
    return head(norm(x).mean(dim=1))


def by_permute(images, stem, blocks, norm, head):
    grid = stem(images).permute(0, 2, 3, 1)
    B, h, w, D = grid.shape
    x = nn.Sequential(*blocks)(grid.reshape(B, h * w, D))
    tokens = norm(x)
    return head(torch.einsum("bnd->bd", tokens) / (h * w))


def by_rearrange(images, stem, blocks, norm, head):
    x = rearrange(stem(images), "b d h w -> b (h w) d")
    x = reduce(lambda x, block: block(x), blocks, x)
    return head(norm(x).sum(1) / x.shape[1])


def by_flatten(images, stem, blocks, norm, head):
    out = stem(images).flatten(2).mT
    for i in range(len(blocks)):
        out = blocks[i](out)
    out = torch.stack([norm(out[:, n]) for n in range(out.shape[1])])
    return head(out.mean(dim=0))


class Mixing(nn.Module):
    """A small block (B, N, D) to (B, N, D), with weights for each place."""

    def __init__(self, N, D):
        super().__init__()
        self.tokens, self.channels = nn.Linear(N, N), nn.Linear(D, D)

    def forward(self, x):
        wanted = self.tokens.in_features, self.channels.in_features
        if x.ndim != 3 or x.shape[1:] != wanted:
            raise RuntimeError(f"a block takes (B, {wanted[0]}, {wanted[1]}), got {tuple(x.shape)}")
        return x + self.channels(self.tokens(x.mT).tanh().mT)


def parts(B, C, D, h, w, depth, K, seed=0):
    """images, stem, blocks, norm, head, with random weights; the patches are 2 pixels wide."""
    stem = nn.Conv2d(C, D, (1, 2), stride=(1, 2))
    blocks = [Mixing(h * w, D) for _ in range(depth)]
    # what it makes of a mean is not the mean of what it makes
    head = nn.Sequential(nn.Linear(D, K), nn.GELU())
    made = [stem, *blocks, nn.LayerNorm(D), head]
    stem, *blocks, norm, head = (fill(part, seed=seed + i) for i, part in enumerate(made))
    return numbers(B, C, h, 2 * w, seed=seed + 3), stem, blocks, norm, head


def cases(answer) -> Cases:
    def run(*sizes):
        return call(answer, *parts(*sizes))

    def gradients():
        images, stem, blocks, norm, head = parts(2, 1, 5, 2, 3, 2, 3)
        logits = call(answer, images, stem, blocks, norm, head)
        if not logits.requires_grad:
            raise Refused("no gradient can flow from what comes back to the weights")
        logits.square().sum().backward()
        found = {"the stem's": stem.weight, "the norm's": norm.weight, "the head's": head[0].weight}
        found |= {f"block {i}'s": b.tokens.weight for i, b in enumerate(blocks)}
        return {
            f"the gradient of {name} weight": p.grad if p.grad is not None else 0 * p
            for name, p in found.items()
        }

    yield "2 images, 2 × 3 tokens, D = 5, 2 blocks, K = 4", lambda: run(2, 3, 5, 2, 3, 2, 4)
    yield "one block, 4 × 2 tokens, D = 3", lambda: run(3, 1, 3, 4, 2, 1, 2)
    yield "one image, 3 blocks, 1 × 4 tokens", lambda: run(1, 2, 5, 1, 4, 3, 6)
    # the rest runs with the wrong axes, too
    yield "as many tokens as channels", lambda: run(2, 1, 6, 3, 2, 3, 5)
    yield "as many images as tokens", lambda: run(4, 3, 3, 2, 2, 2, 5)
    yield "as many images as tokens and channels", lambda: run(4, 1, 4, 2, 2, 2, 3)
    yield "the gradients", gradients


MUTANTS = edits(mixer_logits, """
as_posted: grid.reshape(B, D, h * w).transpose(1, 2) → grid.reshape(B, h * w, D)
and: in blocks: → in blocks[-1:]:
and: norm(x).mean(dim=1) → norm(x.mean(dim=1))
    All three mistakes are still there. Begin with the tokens: after the reshape, from which places
    of the grid are the D numbers of one of them? Then look at what the second block gets, and at
    the order of norm and mean. The checker names what is left, one or two.
reshaped: grid.reshape(B, D, h * w).transpose(1, 2) → grid.reshape(B, h * w, D)
    The reshape from (B, D, h, w) to (B, N, D) moves no number: a “token” of it is made of one
    channel at many places, and should be made of all channels at one. Flatten the grid to
    (B, D, N), then exchange the two axes: grid.flatten(2).transpose(1, 2).
every_block_gets_the_first: in blocks: → in blocks[-1:]:
    Every block gets the first tokens, and only what the last block makes of them counts. Each block
    should get what the one before it returns: x = block(x).
mean_before_norm: norm(x).mean(dim=1) → norm(x.mean(dim=1))
    The mean comes before the norm. The head reads the mean of the *normalised* tokens: norm(x)
    first, then the mean over them. A token of large numbers would count for more than the others
    otherwise.
not_turned: .transpose(1, 2) →
    The grid is flattened to (B, D, N), and the blocks take (B, N, D). Exchange the last two axes:
    transpose(1, 2).
reshaped_and_turned: grid.reshape(B, D, h * w) → grid.reshape(B, h * w, D)
    You reshape to (B, N, D), which moves no number, and exchange the axes after that. Flatten the
    grid to (B, D, N) first: grid.flatten(2).transpose(1, 2).
grid_kept: grid.reshape(B, D, h * w).transpose(1, 2) → grid.permute(0, 2, 3, 1)
    The channels come last, and rows and columns are still two axes: (B, h, w, D). The blocks take
    (B, N, D): make one axis of the two, as by flatten(1, 2).
flattened_whole: .reshape(B, D, h * w).transpose(1, 2) → .flatten(1)
    flatten(1) makes one row of each image, (B, D · h · w). Flatten the two axes of the grid alone:
    flatten(2).
flattened_from_the_channels: .reshape(B, D, h * w) → .flatten(1, 2)
    flatten(1, 2) joins the channels with the rows of the grid. The rows and the columns, axes 2 and
    3, become one: flatten(2).
column_by_column: grid.reshape(B, D, h * w) → grid.mT.flatten(2)
    The tokens are numbered column by column. Each block has weights for each place, so the order
    counts: row by row, as grid.flatten(2) reads.
rows_with_channels: grid.reshape(B, D, h * w).transpose(1, 2) →
→ grid.transpose(1, 2).reshape(B, h * w, D)
    You exchange axes 1 and 2 of the grid, the channels and the rows, before the reshape. The
    channels have to come last, behind the columns: grid.permute(0, 2, 3, 1), or flatten(2) first.
rows_with_channels_flattened: grid.reshape(B, D, h * w).transpose(1, 2) →
→ grid.transpose(1, 2).flatten(2)
    You exchange axes 1 and 2 of the grid, the channels and the rows, and flatten(2) joins the
    channels with the columns. Flatten first, then exchange: grid.flatten(2).transpose(1, 2).
permuted_and_reshaped: grid.reshape(B, D, h * w) →
→ grid.permute(0, 2, 3, 1).reshape(B, D, h * w)
    permute(0, 2, 3, 1) brings the channels to the end, and your reshape reads them as if they came
    first. After this permute only rows and columns are to be joined: reshape(B, h * w, D).
columns_with_channels: grid.reshape(B, D, h * w).transpose(1, 2) →
→ grid.permute(0, 3, 1, 2).reshape(B, h * w, D)
    The axes are brought to (B, w, D, h) before the reshape. The channels have to come last, behind
    the rows and the columns: grid.permute(0, 2, 3, 1).
images_with_tokens: .transpose(1, 2) → .transpose(0, 2)
    The tokens have changed places with the images. The images come first, (B, N, D): exchange axes
    1 and 2 of the flattened grid.
images_with_channels: .transpose(1, 2) → .transpose(0, 1)
    The channels have changed places with the images. The images come first, (B, N, D): exchange
    axes 1 and 2 of the flattened grid.
square_grid: B, D, h, w = grid.shape → B, D, h, _ = grid.shape
and: grid.reshape(B, D, h * w) → grid.reshape(B, D, h * h)
    You take the grid for a square. It has h rows and w columns: N = h · w.
fixed_size: grid.reshape(B, D, h * w) → grid.reshape(B, D, 196)
    The number of tokens is fixed. It is h · w, from the shape of the grid.
blocks_backwards: in blocks → in reversed(blocks)
    The blocks come in the reverse order. The first of the list comes first.
first_block_only: in blocks → in blocks[:1]
    Only the first block is used. Is the return, or a break, inside the loop? Each block gets what
    the one before it returns.
last_block_only_once_more: in blocks → in [blocks[-1]] * len(blocks)
    The last block is used again and again. Take each block of the list once.
first_block_again: in blocks → in [blocks[0]] * len(blocks)
    The first block is used again and again. Take each block of the list once.
first_block_left_out: in blocks → in blocks[1:]
    The first block is left out. Take each block of the list.
last_block_left_out: in blocks → in blocks[:-1]
    The last block is left out. Take each block of the list.
blocks_twice: in blocks → in [*blocks, *blocks]
    All blocks come twice, one round after the other. Take each block of the list once.
each_block_twice: x = block(x) → x = block(block(x))
    Each block is used twice in a row. Once is enough: x = block(x).
blocks_lost: x = block(x) → block(x)
    The blocks have no effect: what they return is never used. Is it put under another name than the
    one that the norm reads? Write x = block(x).
residual_added: x = block(x) → x = x + block(x)
    The tokens are added to what a block returns. The residual connections are inside the blocks:
    x = block(x).
first_tokens_added: x = block(x) → x = x + block(first)
and: .transpose(1, 2) → .transpose(1, 2)
→ first = x
    Every block gets the first tokens, and what they return is added up. Each block should get what
    the one before it returns, and nothing else is added: x = block(x).
first_tokens_added_at_the_end: return head(norm(x) → return head(norm(x + first)
and: .transpose(1, 2) → .transpose(1, 2)
→ first = x
    The first tokens are added to what the last block returns. The residual connections are inside
    the blocks: the norm reads what the last block returns.
outputs_put_together: for block in blocks: → x = sum(block(x) for block in blocks) / len(blocks)
→ for block in ():
outputs_put_together_by_sum: for block in blocks: → x = sum(block(x) for block in blocks)
→ for block in ():
    Every block gets the first tokens, and what they return is put together. The blocks come one
    after the other: each gets what the one before it returns.
name_before_its_value: for block in blocks: → for block in blocks:
→     out = block(out)
    The loop reads `out` before anything is in it. Its first round needs the first tokens: use one
    name throughout, x = block(x).
name_without_value: norm(x) → norm(out)
    The norm reads `out`, and nothing is called so any more. Use one name throughout: x = block(x),
    and then norm(x).
list_called: for block in blocks: → x = blocks(x)
→ for block in ():
    `blocks` is a list, and a list cannot be called. Loop over it, or make one module of it:
    nn.Sequential(*blocks).
norm_forgotten: norm(x) → x
    The norm is not used. The head reads the mean of the *normalised* tokens: norm(x).mean(dim=1).
norm_twice: norm(x).mean(dim=1) → norm(norm(x).mean(dim=1))
    The norm comes twice, before the mean and after it. Once is right, before it: the head reads the
    mean of the normalised tokens.
norm_in_the_loop: x = block(x) → x = norm(block(x))
and: norm(x).mean → x.mean
    The norm is inside the loop, after every block. It comes once, after the last: the blocks have
    norms of their own.
norm_before_every_block: x = block(x) → x = block(norm(x))
and: norm(x).mean → x.mean
    The norm comes before every block, and not after the last. The blocks have norms of their own;
    this one comes once, after them.
norm_in_the_loop_and_after_it: x = block(x) → x = norm(block(x))
    The norm comes after every block, and once more after the last. It comes once, after the loop:
    the blocks have norms of their own.
norm_before_the_blocks: .transpose(1, 2) → .transpose(1, 2)
→ x = norm(x)
and: norm(x).mean → x.mean
    The norm comes before the blocks. It comes after the last one.
norm_before_and_after_the_blocks: .transpose(1, 2) → .transpose(1, 2)
→ x = norm(x)
    The norm comes before the blocks, too. It comes once, after the last.
norm_after_the_head: head(norm(x).mean(dim=1)) → norm(head(x.mean(dim=1)))
    The norm comes after the head. It normalises the tokens, over their D channels: the order is
    norm, mean, head.
norm_over_tokens: norm(x).mean(dim=1) → norm(x.transpose(1, 2)).mean(dim=2)
    The norm runs over the tokens. It is one over the channels: norm(x), with x as (B, N, D).
mean_over_channels: mean(dim=1) → mean(dim=2)
    The mean runs over the channels, and leaves one number a token. Take it over the tokens, axis 1.
mean_over_images: mean(dim=1) → mean(dim=0)
    The mean runs over the images of the batch. Take it over the tokens, axis 1.
mean_over_images_and_tokens: mean(dim=1) → mean(dim=(0, 1))
    The mean runs over the images as well, and one row is left for all of them. Take it over the
    tokens alone, axis 1.
mean_over_everything: mean(dim=1) → mean()
    mean() without an axis leaves one number for the whole batch. Take it over the tokens, axis 1.
sum_for_mean: mean(dim=1) → sum(dim=1)
    The tokens are summed. Take their mean: the sum grows with the number of tokens.
divided_by_channels: mean(dim=1) → sum(dim=1) / D
    The sum of the tokens is divided by D. Divide by their number, h · w, as mean(dim=1) does.
maximum: mean(dim=1) → amax(dim=1)
    This is the largest value of each channel. The head reads the mean of the tokens.
first_token: .mean(dim=1) → [:, 0]
    The head reads the first token, as if it were a class token. A Mixer has none: here the first
    token is a patch like the others, and the head reads the mean of all.
last_token: .mean(dim=1) → [:, -1]
    The head reads the last token. It should read the mean of all.
first_token_left_out: .mean(dim=1) → [:, 1:].mean(dim=1)
    The mean leaves the first token out, as if it were a class token. A Mixer has none: all tokens
    are patches, and all of them count.
axis_kept: mean(dim=1) → mean(dim=1, keepdim=True)
    keepdim=True leaves an axis of length 1 in the middle, (B, 1, K). Leave it out.
not_averaged: .mean(dim=1) →
    The head reads every token, and logits for each came back, (B, N, K). Take the mean over the
    tokens before the head.
head_before_mean: head(norm(x).mean(dim=1)) → head(norm(x)).mean(dim=1)
    The mean comes after the head: these are the averaged logits of all tokens. With a head that is
    one linear layer it is the same, with others it is not. The head reads the mean of the tokens.
head_forgotten: head(norm(x).mean(dim=1)) → norm(x).mean(dim=1)
    The mean of the tokens came back, (B, D). Give it to the head, which makes logits of it.
tokens_come_back: head(norm(x).mean(dim=1)) → norm(x)
    The tokens came back, (B, N, D). Take their mean, and give it to the head.
probabilities: return head(norm(x).mean(dim=1)) → return head(norm(x).mean(dim=1)).softmax(dim=-1)
    Probabilities came back. Return the logits, as the head gives them.
classes: return head(norm(x).mean(dim=1)) → return head(norm(x).mean(dim=1)).argmax(dim=-1)
    Classes came back, one for each image. Return the logits, as the head gives them.
squeezed: return head(norm(x).mean(dim=1)) → return head(norm(x).mean(dim=1)).squeeze()
    squeeze() takes the axis of the images away where there is one image. Leave it out: (B, K).
first_image_only: return head(norm(x).mean(dim=1)) → return head(norm(x).mean(dim=1))[0]
first_image_only_with_its_axis: norm(x) → norm(x[:1])
    Only the logits of the first image came back. Return those of all, (B, K).
activation_after_the_stem: grid.reshape(B, D, h * w) → torch.relu(grid).reshape(B, D, h * w)
    An activation follows the stem. The grid goes to the blocks as it is.
list_used_up: for block in blocks: → while blocks:
→     block = blocks.pop(0)
    The list of blocks is empty afterwards, because pop takes them out: the next call would find
    none. Loop over it: for block in blocks.
stem_detached: grid.reshape → grid.detach().reshape
    The gradient does not reach the stem, which is cut off by detach, .data or no_grad: it could not
    learn. Leave that out.
detached: return head(norm(x).mean(dim=1)) → return head(norm(x).mean(dim=1)).detach()
    The logits are cut off from the weights, by detach, .data or no_grad: nothing could be learned.
    Leave that out.
nothing_returned: return head( → x = head(
    The logits are computed and not returned. The last line needs `return`.
""")  # fmt: skip


def probe(answer):
    def gradients():
        images, *given = parts(3, 2, 4, 3, 2, 2, 5, seed=40)
        answer(images, *given).pow(3).sum().backward()
        stem, blocks, *rest = given
        return [p.grad.clone() for part in (stem, *blocks, *rest) for p in part.parameters()]

    sizes = [(2, 3, 4, 3, 5, 2, 6), (3, 2, 7, 2, 4, 1, 4), (1, 1, 6, 2, 3, 4, 5)]
    sizes += [(4, 2, 5, 2, 2, 2, 3), (6, 1, 6, 2, 3, 3, 2)]
    runs = []
    for i, given in enumerate(sizes):
        B, C, _, h, w, *_ = given
        images, others = draw(B, C, h, 2 * w, seed=i), parts(*given, seed=20 + i)[1:]
        runs += [returns(answer, images, *others), changes(answer, images, *others)]
        runs.append(lambda blocks=others[1]: len(blocks))
    return [*runs, gradients]


EXERCISE = Exercise(
    name="mixer_logits",
    chapter="09_inductive_bias",
    task="mixer_logits(images, stem, blocks, norm, head): images (B, C, H, W) -> logits (B, K), by "
    "the stem, its grid (B, D, h, w) as tokens (B, N, D), row by row, the blocks one after the "
    "other, and the head, which reads the mean of the normalised tokens",
    reference=mixer_logits,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_permute, by_rearrange, by_flatten],
    probe=probe,
)
