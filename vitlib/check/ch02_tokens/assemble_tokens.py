"""2.3 assemble_tokens: class, registers, patches, and then the positions of all of them."""

import torch

from vitlib.check.ch02_tokens._observing import gradients
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, gradient, returns


def assemble_tokens(patch_tokens, cls_token, reg_tokens, pos_embed):
    B = len(patch_tokens)
    cls, reg = cls_token.expand(B, -1, -1), reg_tokens.expand(B, -1, -1)
    return torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed


def by_parts(patch_tokens, cls_token, reg_tokens, pos_embed):
    prefix = torch.cat([cls_token, reg_tokens], dim=1)  # (1, 1 + R, D)
    count = prefix.shape[1]
    prefix = (prefix + pos_embed[:, :count]).repeat(len(patch_tokens), 1, 1)
    return torch.cat([prefix, patch_tokens + pos_embed[:, count:]], dim=1)


def by_loop(patch_tokens, cls_token, reg_tokens, pos_embed):
    images = [torch.vstack([cls_token[0], reg_tokens[0], x]) for x in patch_tokens]
    return torch.stack([image + pos_embed[0] for image in images])


def cases(answer) -> Cases:
    def parts(images, patches, registers, dim=5):
        return (
            numbers(images, patches, dim, seed=1),
            numbers(1, 1, dim, seed=2),
            numbers(1, registers, dim, seed=3),
            numbers(1, 1 + registers + patches, dim, seed=4),
        )

    def the_gradients():
        given = [part.requires_grad_() for part in parts(3, 4, 2)]
        names = ("patch_tokens", "cls_token", "reg_tokens", "pos_embed")
        return dict(zip(names, gradients(call(answer, *given), given), strict=True))

    yield "3 images of 4 patches, 2 registers, D = 5", lambda: call(answer, *parts(3, 4, 2))
    yield "one image of 6 patches, 3 registers", lambda: call(answer, *parts(1, 6, 3))
    yield "2 images of 4 patches, no registers", lambda: call(answer, *parts(2, 4, 0))
    yield "the gradients that reach the four inputs", the_gradients


MUTANTS = edits(assemble_tokens, """
class_token_last: [cls, reg, patch_tokens] → [reg, patch_tokens, cls]
    The class token stands at the end. The head reads token 0, which is now a register or a patch,
    and nothing complains. Put the class token first.
registers_last: [cls, reg, patch_tokens] → [cls, patch_tokens, reg]
    The registers stand behind the patches, so the first patches get the registers' positions. The
    order is class, registers, patches.
registers_first: [cls, reg, patch_tokens] → [reg, cls, patch_tokens]
    The registers stand in front of the class token, and the head, which reads token 0, reads a
    register. The order is class, registers, patches.
registers_without_positions: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls + pos_embed[:, :1], reg, patch_tokens + pos_embed[:, 1 + reg.shape[1] :]], dim=1)
    The registers get no position. Some models do it so, but here pos_embed has a row for every
    token: add it whole, after joining.
detached: return → cls, reg, pos_embed = cls.detach(), reg.detach(), pos_embed.detach()
→ return
    The numbers are right, but what is learned here gets no gradient. Look for .data, .detach(),
    torch.no_grad() or torch.tensor(...).
one_detached: cls_token.expand → cls_token.detach().expand
one_detached_registers: reg_tokens.expand → reg_tokens.detach().expand
one_detached_positions: + pos_embed → + pos_embed.detach()
one_detached_patches: reg, patch_tokens] → reg, patch_tokens.detach()]
    The numbers are right, but one of the four inputs gets no gradient, and could not be trained.
    Look for .data, .detach(), torch.no_grad() or torch.tensor(...).
no_positions: + pos_embed →
    The tokens are joined in the right order, but no position is added: a model that gets these
    cannot tell one order of the patches from another.
nothing_expanded: cls_token.expand(B, -1, -1), reg_tokens.expand(B, -1, -1) →
→ cls_token, reg_tokens
    There is one class token and one set of registers, and a batch of several images: torch.cat does
    not broadcast. Give each image a copy first: cls_token.expand(B, -1, -1), and the same for the
    registers.
registers_not_expanded: reg_tokens.expand(B, -1, -1) → reg_tokens
    The registers are not expanded to the batch, and torch.cat does not broadcast:
    reg_tokens.expand(B, -1, -1).
class_token_not_expanded: cls_token.expand(B, -1, -1) → cls_token
    The class token is not expanded to the batch, and torch.cat does not broadcast:
    cls_token.expand(B, -1, -1).
registers_expanded_to_one: reg_tokens.expand(B, -1, -1) → reg_tokens.expand(B, 1, -1)
    The registers are expanded as if there were one. There are R of them: with -1, expand keeps that
    axis as it is.
batch_from_the_wrong_axis: len(patch_tokens) → patch_tokens.shape[1]
    B is read off the axis of the tokens. The images are axis 0: B, N, D = patch_tokens.shape.
joined_along_the_batch: dim=1 → dim=0
    torch.cat joins along axis 0, the images, which is also what it does if it is told no axis.
    Tokens are joined along dim=1.
joined_along_the_channels: dim=1 → dim=2
    torch.cat joins along the last axis, the channels. Tokens are joined along dim=1.
patches_in_front: [cls, reg, patch_tokens] → [patch_tokens, cls, reg]
patches_in_front_registers_next: [cls, reg, patch_tokens] → [patch_tokens, reg, cls]
    The patches stand in front, and class token and registers behind them, so that all get the
    positions of others. The order is class, registers, patches.
class_token_without_position: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls, torch.cat([reg, patch_tokens], dim=1) + pos_embed[:, 1:]], dim=1)
    The class token gets no position. Some models do it so, but here pos_embed has a row for every
    token: add it whole, after joining.
class_token_joined_afterwards: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls, torch.cat([reg, patch_tokens], dim=1) + pos_embed[:, :-1]], dim=1)
    The class token gets no position, and the others get those of the token before: row 0 of
    pos_embed belongs to the class token. Join first, then add all of pos_embed.
registers_joined_afterwards: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls + pos_embed[:, :1], reg, patch_tokens + pos_embed[:, 1 : 1 + patch_tokens.shape[1]]], dim=1)
    The registers are put in after the positions were added: they have none, and the patches have
    those that begin with the registers'. Join all three first, then add pos_embed.
registers_moved_afterwards: return torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed →
→ x = torch.cat([cls, patch_tokens, reg], dim=1) + pos_embed
→ cut = 1 + patch_tokens.shape[1]
→ return torch.cat([x[:, :1], x[:, cut:], x[:, 1:cut]], dim=1)
    The tokens stand in the right order, but registers and patches have the positions of another
    order: class, patches, registers. pos_embed is ordered as the result is: class, registers,
    patches.
positions_added_to_the_patches_alone: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls, reg, patch_tokens + pos_embed], dim=1)
    pos_embed is added to the patches alone, and has 1 + R + N rows for N patches. Join all tokens
    first, then add it whole.
positions_multiplied: + pos_embed → * pos_embed
    The tokens are multiplied by the positions. Positions are added.
positions_joined: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [torch.cat([cls, reg, patch_tokens], dim=1), pos_embed.expand(B, -1, -1)], dim=2)
    The positions are joined as further channels, and the width doubles. Positions are added.
positions_backwards: + pos_embed → + pos_embed.flip(1)
    The positions are added in the reverse order: the first token gets the last of them.
positions_added_twice: + pos_embed → + 2 * pos_embed
    All the positions are added twice. Once is enough, when all tokens are joined.
one_position_for_all: + pos_embed → + pos_embed[:, :1]
    Every token gets the first position. Each has its own: add the whole of pos_embed.
no_registers: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls, patch_tokens], dim=1) + pos_embed[:, : 1 + patch_tokens.shape[1]]
no_registers_though_with_positions: [cls, reg, patch_tokens] → [cls, patch_tokens]
    The registers are missing. Join all three: class token, registers, patches.
one_register: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [cls, reg[:, :1], patch_tokens], dim=1) + pos_embed[:, : 2 + patch_tokens.shape[1]]
    One register is joined, however many there are. Take all R of them: reg_tokens.expand(B, -1,
    -1).
no_class_token: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [reg, patch_tokens], dim=1) + pos_embed[:, 1:]
    The class token is missing as a token. Join all three: class token, registers, patches.
registers_backwards: [cls, reg, → [cls, reg.flip(1),
    The registers stand in the reverse order. Keep them as they are given.
registers_asked_for_their_truth: B = len → reg_tokens = reg_tokens if reg_tokens else reg_tokens
→ B = len
    `if reg_tokens` asks a tensor for its truth, which many numbers do not have. You need no such
    question: with R = 0, torch.cat joins a tensor without rows, and nothing happens.
added_in_place: return torch → patch_tokens += pos_embed[:, 1 + reg.shape[1] :]
→ return torch
    Your code changes a tensor that it is given, and so the caller's. Write x = x + pos, not x +=
    pos, and join copies.
two_results: torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed →
→ (torch.cat([cls, reg, patch_tokens], dim=1), pos_embed)
    Several things come back, as a tuple. Only the tokens, with their positions, are asked for.
registers_joined_at_the_end: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [torch.cat([cls, patch_tokens], dim=1) + pos_embed[:, : 1 + patch_tokens.shape[1]], reg], dim=1)
    The registers are joined at the end, after the positions were added, and have none. The order is
    class, registers, patches: join all three, then add pos_embed.
no_positions_without_registers: return → if reg.shape[1] == 0:
→     return torch.cat([cls, patch_tokens], dim=1)
→ return
    Without registers no position is added. You need no case of its own: torch.cat joins a tensor
    without rows, and pos_embed fits.
patches_first_in_the_positions: + pos_embed → + pos_embed.roll(1 + reg.shape[1], 1)
    The patches get the first N positions, and class token and registers those behind. pos_embed is
    ordered as the result is: class, registers, patches.
positions_shifted_by_one: + pos_embed → + pos_embed.roll(1, 1)
    Every token gets the position of the one before, and the first that of the last. Token i gets
    row i of pos_embed.
mean_position: + pos_embed → + pos_embed.mean(dim=1, keepdim=True)
    Every token gets the mean of all positions. Each has its own: add the whole of pos_embed.
positions_subtracted: + pos_embed → - pos_embed
    The positions are subtracted. They are added.
patches_without_positions: [cls, reg, patch_tokens], dim=1) + pos_embed →
→ [torch.cat([cls, reg], dim=1) + pos_embed[:, : 1 + reg.shape[1]], patch_tokens], dim=1)
    The patches get no position. They need one most: add pos_embed whole, after joining.
patches_alone_come_back: return torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed →
→ return (torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed)[:, 1 + reg.shape[1] :]
    Only the patches come back. All tokens are asked for: (B, 1 + R + N, D).
transposed: return torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed →
→ return (torch.cat([cls, reg, patch_tokens], dim=1) + pos_embed).transpose(1, 2)
    The last two axes are swapped. It should be (B, 1 + R + N, D).
nothing_returned: return torch → torch
    The result is computed and not returned. The last line needs `return`.
""") | edits(by_parts, """
prefix_shares_a_position: pos_embed[:, :count] → pos_embed[:, :1]
    The registers get the position of the class token. Each token has its own: the class token and
    the registers the first 1 + R, in their order.
positions_before_joining: (prefix + pos_embed[:, :count]) → prefix
    The positions are added to the patches before the other tokens are joined, so the class token
    and the registers get none. Join first, then add all of pos_embed.
positions_shifted: (prefix + pos_embed[:, :count]) → prefix
and: pos_embed[:, count:] → pos_embed[:, : patch_tokens.shape[1]]
    The patches get the first N positions, which belong to the class token and the registers: every
    patch wears the position of another. Join first, then add.
patches_shifted_by_one: pos_embed[:, count:] → pos_embed[:, count - 1 : -1]
    Class token and registers have their positions, but each patch has that of the token before. The
    patches begin at row 1 + R of pos_embed.
patches_after_the_class_token: pos_embed[:, count:] →
→ pos_embed[:, 1 : 1 + patch_tokens.shape[1]]
    Class token and registers have their positions, but the patches' are counted from row 1, as if
    there were no registers. The patches begin at row 1 + R of pos_embed.
patch_positions_twice: pos_embed[:, count:] → 2 * pos_embed[:, count:]
    The patches get their positions twice, before joining and after it. Add pos_embed once, when all
    tokens are joined.
""")  # fmt: skip


def probe(answer):
    given = [
        (draw(b, n, d), draw(1, 1, d, seed=1), draw(1, r, d, seed=2), draw(1, 1 + r + n, d, seed=3))
        for b, n, r, d in [(2, 5, 3, 4), (1, 3, 1, 6), (4, 2, 0, 3), (3, 1, 2, 2)]
    ]
    reached = [gradient(answer, *given[0], of=i) for i in range(4)]
    return [returns(answer, *g) for g in given] + reached


EXERCISE = Exercise(
    name="assemble_tokens",
    chapter="02_tokens",
    task="assemble_tokens(patch_tokens, cls_token, reg_tokens, pos_embed) -> (B, 1 + R + N, D): "
    "class token, registers, patches, in this order, and a position for every one of them",
    reference=assemble_tokens,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_parts, by_loop],
    probe=probe,
)
