"""9.1 mixer_block: an MLP over the tokens where a ViT has attention."""

from functools import reduce

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.check.probing import changes, draw, returns


def mixer_block(x, norm1, mlp_tokens, norm2, mlp_channels):
    turned = norm1(x).transpose(1, 2)  # (B, D, N)
    mixed = mlp_tokens(turned).transpose(1, 2)
    x = x + mixed
    return x + mlp_channels(norm2(x))


def on_a_copy(x, norm1, mlp_tokens, norm2, mlp_channels):
    y = x.clone()
    y += mlp_tokens(norm1(x).mT).permute(0, 2, 1)
    z = norm2(y)
    z = mlp_channels(z)
    return torch.add(z, y)


def image_by_image(x, norm1, mlp_tokens, norm2, mlp_channels):
    out = torch.zeros_like(x)
    for i in range(len(x)):
        image = x[i] + mlp_tokens(norm1(x[i]).T).T
        out[i] = image + mlp_channels(norm2(image))
    return out


def by_branches(x, norm1, mlp_tokens, norm2, mlp_channels):
    def tokens(x):
        mixed = mlp_tokens(rearrange(norm1(x), "b n d -> b d n"))
        return rearrange(mixed, "b d n -> b n d")

    def channels(x):
        return mlp_channels(norm2(x))

    return reduce(lambda x, branch: x + branch(x), [tokens, channels], x)


class Mlp(nn.Module):
    """A small MLP, (..., width) to (..., width), whose error says in its name what did not fit."""

    def __init__(self, name, width):
        super().__init__()
        self.name, self.linear = name, nn.Linear(width, width)

    def forward(self, x):
        wanted, last = self.linear.in_features, x.shape[-1]
        if last != wanted:
            text = f"{self.name} takes (..., {wanted}), and the last axis of what it got has {last}"
            raise RuntimeError(text)
        return F.gelu(self.linear(x))


def parts(N, D, seed=0):
    """norm1, mlp_tokens, norm2, mlp_channels, with random weights."""
    made = nn.LayerNorm(D), Mlp("mlp_tokens", N), nn.LayerNorm(D), Mlp("mlp_channels", D)
    return [fill(part, seed=seed + i) for i, part in enumerate(made)]


def cases(answer) -> Cases:
    def run(B, N, D):
        return call(answer, numbers(B, N, D, seed=3), *parts(N, D))

    def turned():
        return call(answer, numbers(2, 5, 4, seed=5).transpose(1, 2), *parts(4, 5))

    def two_blocks():
        first = call(answer, numbers(2, 3, 4, seed=6), *parts(3, 4))
        if not isinstance(first, torch.Tensor):
            return first
        return call(answer, first, *parts(3, 4, seed=9))

    def gradients():
        x, (norm1, mlp_tokens, norm2, mlp_channels) = numbers(2, 3, 5), parts(3, 5)
        x.requires_grad_()
        result = call(answer, x, norm1, mlp_tokens, norm2, mlp_channels)
        if not result.requires_grad:
            raise Refused("no gradient can flow from what comes back to x and to the weights")
        given = {
            "x": x,
            "norm1's weight": norm1.weight,
            "mlp_tokens' weight": mlp_tokens.linear.weight,
            "norm2's weight": norm2.weight,
            "mlp_channels' weight": mlp_channels.linear.weight,
        }
        try:
            result.square().sum().backward()
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            raise Refused("backward() fails after a `+=`: write x = x + … instead") from None
        return {
            f"the gradient of {name}": t.grad if t.grad is not None else 0 * t
            for name, t in given.items()
        }

    yield "2 images of 3 tokens, D = 5", lambda: run(2, 3, 5)
    yield "3 images of 6 tokens, D = 4", lambda: run(3, 6, 4)
    yield "one image", lambda: run(1, 4, 3)
    # the rest runs with the wrong axes, too
    yield "as many tokens as channels", lambda: run(2, 4, 4)
    yield "as many images as tokens and channels", lambda: run(3, 3, 3)
    yield "x that is not contiguous", turned
    yield "two blocks, one after the other", two_blocks
    yield "the gradients", gradients


MUTANTS = edits(mixer_block, """
not_turned: norm1(x).transpose(1, 2) → norm1(x)
and: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned)
    Nothing is transposed: mlp_tokens works on the last axis, and in (B, N, D) these are the
    channels. It fails, or mixes channels where N = D. (transpose(0, 1), too, leaves the channels
    where they are.) Bring the tokens to the end first, (B, D, N), and back afterwards:
    mlp_tokens(norm1(x).transpose(1, 2)).transpose(1, 2).
not_turned_there: norm1(x).transpose(1, 2) → norm1(x)
    Only what mlp_tokens returns is transposed. Transpose what goes in, too: it should be (B, D, N),
    the tokens' axis last.
not_turned_back: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned)
    What mlp_tokens returns is (B, D, N), and it is added to x, which is (B, N, D). Transpose it
    back first.
stays_turned: x = x + mixed → x = (x + mixed).transpose(1, 2)
    After the tokens are mixed, all is still (B, D, N), so that norm2 and mlp_channels run over the
    tokens. Transpose back to (B, N, D) before them.
turned_back_at_the_end: x = x + mixed → x = (x + mixed).transpose(1, 2)
and: return x + mlp_channels(norm2(x)) →
→ return (x + mlp_channels(norm2(x))).transpose(1, 2)
    The transpose back comes at the end only, so that norm2 and mlp_channels run over the tokens.
    Transpose back to (B, N, D) as soon as the tokens are mixed.
returned_turned: return x + mlp_channels(norm2(x)) →
→ return (x + mlp_channels(norm2(x))).transpose(1, 2)
    The numbers are right, and the result is transposed, (B, D, N). Return (B, N, D).
normed_over_tokens: norm1(x).transpose(1, 2) → norm1(x.transpose(1, 2))
    The transpose comes before norm1, which therefore runs over the tokens. It is a norm over the
    channels, as in a ViT: first norm1(x), then transpose.
turned_for_the_norm: norm1(x).transpose(1, 2) → norm1(x.transpose(1, 2)).transpose(1, 2)
and: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned)
turned_for_the_norm_and_back: norm1(x).transpose(1, 2) →
→ norm1(x.transpose(1, 2)).transpose(1, 2)
    norm1 gets (B, D, N), and mlp_tokens (B, N, D). It should be the other way round: norm1 runs
    over the channels, and mlp_tokens over the tokens. Mind the brackets: norm1(x).transpose(1, 2).
norm2_over_tokens: norm2(x) → norm2(x.transpose(1, 2)).transpose(1, 2)
    norm2 gets (B, D, N) and runs over the tokens. It is a norm over the channels: norm2(x).
reshaped: norm1(x).transpose(1, 2) → norm1(x).reshape(x.shape[0], x.shape[2], x.shape[1])
and: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned).reshape(x.shape)
    reshape gives the shape (B, D, N) without moving a number: each row of it is made of pieces of
    several tokens. To exchange two axes, use transpose(1, 2), there and back.
reshaped_there: norm1(x).transpose(1, 2) → norm1(x).reshape(x.shape[0], x.shape[2], x.shape[1])
    On the way there you reshape, which gives the shape (B, D, N) without moving a number. Use
    transpose(1, 2), as you do on the way back.
reshaped_back: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned).reshape(x.shape)
    On the way back you reshape, which gives the shape (B, N, D) without moving a number. Use
    transpose(1, 2), as you do on the way there.
images_with_channels: norm1(x).transpose(1, 2) → norm1(x).transpose(0, 2)
and: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned).transpose(0, 2)
    The images come last in what mlp_tokens gets, as transpose(0, 2) makes it, or .T of three axes:
    it fails, or mixes images, which should never meet. The tokens have to come last, and the images
    stay first: transpose(1, 2).
both_turned: mlp_channels(norm2(x)) → mlp_channels(norm2(x).transpose(1, 2)).transpose(1, 2)
    mlp_channels gets its input transposed, too, and works on the tokens' axis. In (B, N, D) the
    channels are last already: mlp_channels(norm2(x)).
channels_turned_alone: norm1(x).transpose(1, 2) → norm1(x)
and: mlp_tokens(turned).transpose(1, 2) → mlp_tokens(turned)
and: mlp_channels(norm2(x)) → mlp_channels(norm2(x).transpose(1, 2)).transpose(1, 2)
    You transpose for the wrong MLP. mlp_channels works on the last axis of (B, N, D) as it is; it
    is mlp_tokens that needs (B, D, N), and a transpose back.
no_residuals: x = x + mixed → x = mixed
and: return x + mlp_channels(norm2(x)) → return mlp_channels(norm2(x))
    Nothing is added to what went in: both residual connections are missing. What an MLP returns is
    added to the tokens before it: x = x + …, twice.
no_first_residual: x = x + mixed → x = mixed
    What mlp_tokens returns replaces the tokens. Add it to them: x = x + ….
no_second_residual: return x + mlp_channels(norm2(x)) → return mlp_channels(norm2(x))
    What mlp_channels returns replaces the tokens. Add it to what went in: return x + ….
residuals_from_the_norms: norm1(x).transpose(1, 2) → norm1(x).transpose(1, 2)
→ x = norm1(x)
and: return x + mlp_channels(norm2(x)) → x = norm2(x)
→ return x + mlp_channels(x)
    What the MLPs return is added to the *normalised* tokens. Only the MLP sees these: add to the
    tokens as they were before the norm. Do not assign norm1(x) or norm2(x) to x.
residual_from_norm1: norm1(x).transpose(1, 2) → norm1(x).transpose(1, 2)
→ x = norm1(x)
    What mlp_tokens returns is added to norm1(x). Add it to x itself, as it was before the norm: do
    not assign norm1(x) to x. (In the transposed form it is the same: y + mlp_tokens(y) adds to the
    normalised tokens.)
residual_from_norm2: return x + mlp_channels(norm2(x)) → x = norm2(x)
→ return x + mlp_channels(x)
    What mlp_channels returns is added to norm2(x). Add it to the tokens as they were before this
    norm.
post_norm: norm1(x).transpose(1, 2) → x.transpose(1, 2)
and: x = x + mixed → x = norm1(x + mixed)
and: return x + mlp_channels(norm2(x)) → return norm2(x + mlp_channels(x))
    The norms stand on the sums, as in the first Transformer. Here each stands before its MLP and
    nowhere else: x + mlp(norm(x)).
post_norm_in_the_second_half: return x + mlp_channels(norm2(x)) →
→ return norm2(x + mlp_channels(x))
    norm2 stands on the sum, behind mlp_channels. It stands before it: x + mlp_channels(norm2(x)).
post_norm_in_the_first_half: norm1(x).transpose(1, 2) → x.transpose(1, 2)
and: x = x + mixed → x = norm1(x + mixed)
    norm1 stands on the sum, behind mlp_tokens. It stands before it, so that the MLP sees normalised
    tokens.
norms_after_the_mlps: norm1(x).transpose(1, 2) → x.transpose(1, 2)
and: mlp_tokens(turned).transpose(1, 2) → norm1(mlp_tokens(turned).transpose(1, 2))
and: mlp_channels(norm2(x)) → norm2(mlp_channels(x))
    The norms stand behind the MLPs. Each belongs before its MLP, which should see normalised
    tokens; what it returns is added as it is.
first_norm_after_the_mlp: norm1(x).transpose(1, 2) → x.transpose(1, 2)
and: mlp_tokens(turned).transpose(1, 2) → norm1(mlp_tokens(turned).transpose(1, 2))
    norm1 stands behind mlp_tokens. It belongs before it: mlp_tokens should see normalised tokens.
second_norm_after_the_mlp: mlp_channels(norm2(x)) → norm2(mlp_channels(x))
    norm2 stands behind mlp_channels. It belongs before it: mlp_channels(norm2(x)).
norms_exchanged: norm1(x).transpose(1, 2) → norm2(x).transpose(1, 2)
and: mlp_channels(norm2(x)) → mlp_channels(norm1(x))
    norm1 and norm2 are exchanged. Fresh norms are alike, and trained ones are not: norm1 stands
    before mlp_tokens, norm2 before mlp_channels.
norm1_twice: mlp_channels(norm2(x)) → mlp_channels(norm1(x))
    norm1 stands before both MLPs. Each has a norm of its own: norm2 stands before mlp_channels.
norm2_twice: norm1(x).transpose(1, 2) → norm2(x).transpose(1, 2)
    norm2 stands before both MLPs. Each has a norm of its own: norm1 stands before mlp_tokens.
both_norms_first: norm1(x).transpose(1, 2) → norm2(norm1(x)).transpose(1, 2)
and: mlp_channels(norm2(x)) → mlp_channels(x)
    Both norms stand before mlp_tokens, and none before mlp_channels. Give each MLP its own.
norms_forgotten: norm1(x).transpose(1, 2) → x.transpose(1, 2)
and: mlp_channels(norm2(x)) → mlp_channels(x)
    Neither norm is used. Each MLP sees normalised tokens: norm1 before mlp_tokens, norm2 before
    mlp_channels.
norm1_forgotten: norm1(x).transpose(1, 2) → x.transpose(1, 2)
    norm1 is not used, or what it returns is lost. mlp_tokens should see norm1(x), transposed.
norm2_forgotten: mlp_channels(norm2(x)) → mlp_channels(x)
    norm2 is not used, or what it returns is lost. mlp_channels should see norm2(x).
norm_at_the_end: return x + mlp_channels(norm2(x)) → return norm2(x + mlp_channels(norm2(x)))
    There is one more norm, on the result. Return the sum as it is: the next block normalises it for
    itself.
norm_between: x = x + mixed → x = norm1(x + mixed)
    There is one more norm, on the sum after mlp_tokens. Leave the sum as it is; the next MLP has
    norm2.
parallel: x = x + mixed → y = x + mixed
and: return x + mlp_channels(norm2(x)) → return y + mlp_channels(norm2(x))
    Both MLPs read the tokens that came in, side by side. They work one after the other: norm2 and
    mlp_channels get the *mixed* tokens, the sum from the first half.
added_to_the_input: x = x + mixed → y = x + mixed
and: mlp_channels(norm2(x)) → mlp_channels(norm2(y))
    What mlp_channels returns is added to the x that came in, so that the first half is lost from
    the sum. Add it to what went into the second half, x + mixed.
input_added_again: x = x + mixed → y = x
→ x = x + mixed
and: return x + → return y + x +
    The x that came in is added twice. It is in the sum of the first half already.
added_twice: return x + → return x + x +
    The tokens are added twice in the second half. Once is right: x + mlp_channels(norm2(x)).
added_to_the_mixture: return x + mlp → return mixed + mlp
    What mlp_channels returns is added to what mlp_tokens returns, and the tokens themselves are
    lost. Add it to the sum that went in: x after x = x + ….
reads_what_norm1_returns: norm2(x) → norm2(turned.transpose(1, 2))
    norm2 gets what norm1 returns. It should get the tokens after the first half, x + what
    mlp_tokens returns.
norm1_read_twice: mlp_channels(norm2(x)) → mlp_channels(turned.transpose(1, 2))
    Both MLPs read what norm1 returns. The second half begins anew: norm2 of the sum, and
    mlp_channels of that.
mixture_doubled: x = x + mixed → x = 2 * mixed
    What mlp_tokens returns is added to itself: x was overwritten with it before the sum. Give it
    another name, or keep what went in, and add the two.
second_result_doubled: return x + mlp_channels(norm2(x)) → return 2 * mlp_channels(norm2(x))
    What mlp_channels returns is added to itself: x was overwritten with it before the sum. Give it
    another name, or keep what went in, and add the two.
norm1_added_too: x = x + mixed → x = x + norm1(x) + mixed
    In the first half, the normalised tokens are added, too. Only what mlp_tokens returns is added
    to x.
norm2_added_too: return x + mlp → return x + norm2(x) + mlp
    In the second half, the normalised tokens are added, too. Only what mlp_channels returns is
    added to x.
reads_the_mixture_alone: norm2(x) → norm2(mixed)
    norm2 and mlp_channels get what mlp_tokens returns, without the tokens to which it is added.
    Give them the sum: norm2(x) after x = x + ….
one_residual_for_both: x = x + mixed →
and: norm2(x) → norm2(mixed)
    There is one residual connection around both MLPs. Each MLP has its own: first x = x + what
    mlp_tokens returns, then the same with mlp_channels.
channels_first: norm1(x).transpose(1, 2) → norm2(x)
and: mlp_tokens(turned).transpose(1, 2) → mlp_channels(turned)
and: mlp_channels(norm2(x)) → mlp_tokens(norm1(x).transpose(1, 2)).transpose(1, 2)
    The channels are mixed first, then the tokens. It is the other way round: norm1 and mlp_tokens,
    then norm2 and mlp_channels.
channels_first_norms_in_order: norm1(x).transpose(1, 2) → norm1(x)
and: mlp_tokens(turned).transpose(1, 2) → mlp_channels(turned)
and: mlp_channels(norm2(x)) → mlp_tokens(norm2(x).transpose(1, 2)).transpose(1, 2)
    The channels are mixed first, with norm1, then the tokens, with norm2. The tokens come first:
    norm1 and mlp_tokens, then norm2 and mlp_channels.
mlps_exchanged: mlp_tokens(turned) → mlp_channels(turned)
and: mlp_channels(norm2(x)) → mlp_tokens(norm2(x))
    The two MLPs have changed places: mlp_channels gets (B, D, N) and mlp_tokens (B, N, D). Each
    works on the last axis: it is mlp_tokens that needs the tokens there.
channels_twice: norm1(x).transpose(1, 2) → norm1(x)
and: mlp_tokens(turned).transpose(1, 2) → mlp_channels(turned)
    mlp_channels is used in both halves, and no token meets another one. The first half takes
    mlp_tokens, on (B, D, N).
channels_for_tokens: mlp_tokens(turned) → mlp_channels(turned)
    mlp_channels is used in both halves. On the transposed tokens it is the turn of mlp_tokens.
tokens_twice: mlp_channels(norm2(x)) → mlp_tokens(norm2(x).transpose(1, 2)).transpose(1, 2)
    mlp_tokens is used in both halves. The second one takes mlp_channels, and needs no transpose.
tokens_for_channels: mlp_channels(norm2(x)) → mlp_tokens(norm2(x))
    mlp_tokens is used in both halves, the second time on the channels. There it is the turn of
    mlp_channels.
tokens_only: return x + mlp_channels(norm2(x)) → return x
    Only the tokens are mixed. The second half is missing, or not returned: x + mlp_channels of
    norm2(x).
channels_only: x = x + mixed →
    Only the channels are mixed. The first half is missing, or what it gives is lost: x = x + what
    mlp_tokens returns.
in_place: x = x + mixed → x += mixed
    You change the tensor that you are given, as x += … and x[:] = … do: whoever called you loses
    what was there. Write x = x + ….
in_place_later: return x + mlp_channels(norm2(x)) → x += mlp_channels(norm2(x))
→ return x
    The numbers are right, but nothing can be learned with them: `+=` writes into a tensor that a
    norm has kept for its gradient, and backward() fails. Write x = x + …, which makes a new one.
minus: x = x + mixed → x = x - mixed
    What mlp_tokens returns is subtracted. Add it.
times: x = x + mixed → x = x * mixed
and: return x + mlp → return x * mlp
    The tokens are multiplied by what the MLPs return. Add it to them.
activations_added: = mlp_tokens(turned) → = F.gelu(mlp_tokens(turned))
and: return x + mlp_channels(norm2(x)) → return x + F.gelu(mlp_channels(norm2(x)))
    What the MLPs return goes through one more activation. They have theirs inside: add what they
    return as it is.
averaged: return x + mlp_channels(norm2(x)) → return (x + mlp_channels(norm2(x))).mean(dim=1)
    The mean of the tokens came back. A block returns all of them, (B, N, D); the mean is for the
    end of the model.
first_image_only: return x + mlp_channels(norm2(x)) → return (x + mlp_channels(norm2(x)))[0]
first_image_only_with_its_axis: x = x + mixed → x = (x + mixed)[:1]
    Only the first image came back. Return all of them, (B, N, D).
first_image_for_all: return x + mlp_channels(norm2(x)) →
→ return (x + mlp_channels(norm2(x)))[:1].expand_as(x)
    Every image is the first one. Each has its own tokens.
both_halves_returned: return x + mlp_channels(norm2(x)) → return x, x + mlp_channels(norm2(x))
    Two tensors came back. Return the last one alone, (B, N, D).
as_array: return x + mlp_channels(norm2(x)) → return (x + mlp_channels(norm2(x))).detach().numpy()
    An array of NumPy came back, through which nothing could be learned. Return a tensor (B, N, D).
token_branch_detached: turned = norm1(x) → turned = norm1(x.detach())
    The tokens that norm1 gets are cut off from x, by detach or .data, and the gradient of x lacks
    what comes through mlp_tokens. Leave that out.
halved: x = x + mixed → x = (x + mixed) / 2
and: return x + mlp_channels(norm2(x)) → return (x + mlp_channels(norm2(x))) / 2
    Both sums are halved, as for a mean. What an MLP returns is added to what went in, and nothing
    is divided.
nothing_returned: return x + → x = x +
    The result is computed and not returned. The last line needs `return`.
unchanged: return x + mlp_channels(norm2(x)) → return x
and: x = x + mixed →
    x comes back as it is: nothing that is computed is added to it. Write x = x + …, twice, and
    return x.
detached: return x + mlp_channels(norm2(x)) → return (x + mlp_channels(norm2(x))).detach()
    The result is cut off from x and from the weights, by detach, .data or no_grad: nothing could be
    learned. Leave that out.
""") | edits(image_by_image, """
in_single: torch.zeros_like(x) → torch.zeros(x.shape)
    The result is in float32, whatever x is. torch.zeros_like(x) has the dtype of x.
loop_ends_after_one: return out →
and: out[i] = image + mlp_channels(norm2(image)) → out[i] = image + mlp_channels(norm2(image))
→ return out
    The loop ends after the first image: the return is inside it. Move it to the left.
listed: return out → return list(out)
    A list came back, one tensor for each image. Return one tensor (B, N, D): torch.stack(…).
images_second: return out → return out.transpose(0, 1)
    The images have come to axis 1, as torch.stack(…, dim=1) puts them. They come first, (B, N, D).
last_image_for_all: out[i] = → out[:] =
    Every image of the result is the last one. Write each to its own place: out[i] = ….
""")  # fmt: skip


def probe(answer):
    def gradients(B, N, D):
        x, given = draw(B, N, D).requires_grad_(), parts(N, D, seed=21)
        answer(x.clone(), *given).pow(3).sum().backward()
        return [x.grad, *(p.grad.clone() for part in given for p in part.parameters())]

    sizes = [(2, 5, 3), (1, 3, 7), (4, 2, 6), (3, 5, 5), (4, 4, 4)]
    given = [(draw(B, N, D, seed=B), *parts(N, D, seed=N)) for B, N, D in sizes]
    runs = [f for g in given for f in (returns(answer, *g), changes(answer, *g))]
    return [*runs, lambda: gradients(3, 4, 2)]


EXERCISE = Exercise(
    name="mixer_block",
    chapter="09_inductive_bias",
    task="mixer_block(x, norm1, mlp_tokens, norm2, mlp_channels): (B, N, D) -> (B, N, D), a block "
    "of MLP-Mixer: first the tokens are mixed, then the channels; each MLP sees normalised tokens, "
    "and what it returns is added to what went in",
    reference=mixer_block,
    cases=cases,
    mutants=MUTANTS,
    accepted=[on_a_copy, image_by_image, by_branches],
    probe=probe,
)
