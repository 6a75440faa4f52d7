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
no_positions: + pos_embed →
    The tokens are joined in the right order, but no position is added: a model that gets these
    cannot tell one order of the patches from another.
""") | edits(by_parts, """
positions_before_joining: (prefix + pos_embed[:, :count]) → prefix
    The positions are added to the patches before the other tokens are joined, so the class token
    and the registers get none. Join first, then add all of pos_embed.
positions_shifted: (prefix + pos_embed[:, :count]) → prefix
and: pos_embed[:, count:] → pos_embed[:, : patch_tokens.shape[1]]
    The patches get the first N positions, which belong to the class token and the registers: every
    patch wears the position of another. Join first, then add.
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
