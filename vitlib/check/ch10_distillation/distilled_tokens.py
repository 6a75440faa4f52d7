"""10.1 distilled_tokens: one more token, in the second place."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw, gradient, returns


def distilled_tokens(tokens, dist_token, pos_embed):
    class_token, patches = tokens[:, :1], tokens[:, 1:]
    dist_token = dist_token.expand(len(tokens), -1, -1)
    return torch.cat([class_token, dist_token, patches], dim=1) + pos_embed


def by_slices(tokens, dist_token, pos_embed):
    second = dist_token.expand(len(tokens), -1, -1)
    return torch.cat([tokens[:, :1], second, tokens[:, 1:]], dim=1) + pos_embed


def by_parts(tokens, dist_token, pos_embed):
    first = tokens[:, :1] + pos_embed[:, :1]
    second = (dist_token + pos_embed[:, 1:2]).repeat(tokens.shape[0], 1, 1)
    return torch.cat((first, second, tokens[:, 1:] + pos_embed[:, 2:]), 1)


def by_assignment(tokens, dist_token, pos_embed):
    B, T, D = tokens.shape
    joined = torch.empty(B, T + 1, D, dtype=tokens.dtype)
    joined[:, 0] = tokens[:, 0]
    joined[:, 1] = dist_token[:, 0]
    joined[:, 2:] = tokens[:, 1:]
    return joined + pos_embed


def by_loop(tokens, dist_token, pos_embed):
    images = [torch.vstack([image[0], dist_token[0, 0], image[1:]]) for image in tokens]
    return torch.stack([image + pos_embed[0] for image in images])


def cases(answer) -> Cases:
    def parts(images, patches, dim):
        return (
            numbers(images, 1 + patches, dim, seed=1),
            numbers(1, 1, dim, seed=2),
            numbers(1, 2 + patches, dim, seed=3),
        )

    def gradients():
        given = [part.requires_grad_() for part in parts(3, 4, 5)]
        result = call(answer, *given)
        weighted = (result * numbers(*result.shape, seed=9)).sum()
        reached = torch.autograd.grad(weighted, given, materialize_grads=True)  # 0 where none is
        return dict(zip(("tokens", "dist_token", "pos_embed"), reached, strict=True))

    yield "3 images of 4 patches, D = 5", lambda: call(answer, *parts(3, 4, 5))
    yield "one image of 6 patches", lambda: call(answer, *parts(1, 6, 5))
    yield "2 images of one patch", lambda: call(answer, *parts(2, 1, 3))
    yield "the gradients that reach the three inputs", gradients


MUTANTS = edits(distilled_tokens, """
at_the_end: [class_token, dist_token, patches] → [tokens, dist_token]
    The distillation token stands at the end. So the paper draws it, but its published weights have
    it second: here every patch gets the position of its neighbour, and a head that reads token 1
    reads a patch. Cut `tokens` behind the class token, and put the new one in between.
at_the_front: [class_token, dist_token, → [dist_token, class_token,
    The distillation token stands in front of the class token, so the two have changed their
    positions, and the class head reads the wrong one. The order is class, distillation, patches.
behind_the_first_patch: tokens[:, :1], tokens[:, 1:] → tokens[:, :2], tokens[:, 2:]
    The distillation token stands behind the first patch, one place too far. The class token alone
    is `tokens[:, :1]`; all the patches are `tokens[:, 1:]`.
positions_before_joining: + pos_embed →
and: class_token, patches = → tokens = tokens + pos_embed[:, :-1]
→ class_token, patches =
    The first 1 + N positions are added before the new token is in: so it gets none, and each patch
    has the position of the one before it. Join first, then add all of pos_embed.
positions_from_the_end: + pos_embed →
and: class_token, patches = → tokens = tokens + pos_embed[:, 1:]
→ class_token, patches =
    The last 1 + N positions are added before the new token is in: so it gets none, and the class
    token has the position that was meant for it. Join first, then add all of pos_embed.
no_positions: + pos_embed →
    The tokens stand in the right order, but no position is added. A model that gets these cannot
    tell one order of the patches from another.
class_token_twice: [class_token, dist_token, → [class_token, class_token,
    The class token stands in the second place, too, and the distillation token is never used.
zeros: dist_token = dist_token.expand → dist_token = torch.zeros_like(dist_token).expand
    Zeros stand where the distillation token should be, and `dist_token` is never used.
class_token_kept: [class_token, dist_token, patches] → [class_token, dist_token, tokens]
class_token_kept_and_cut: [class_token, dist_token, patches], dim=1) →
→ [class_token, dist_token, tokens], dim=1)[:, :-1]
    The class token is in there twice: at the front, and once more in `tokens`. What follows the
    distillation token is the patches alone, `tokens[:, 1:]`.
first_patch_lost: patches], dim=1) + pos_embed → patches[:, 1:]], dim=1) + pos_embed[:, :-1]
    The distillation token takes the place of the first patch, which is lost. It comes in between,
    and the sequence is longer by one: 2 + N.
added_to_the_class_token: [class_token, dist_token, patches], dim=1) + pos_embed →
→ [class_token + dist_token, patches], dim=1) + pos_embed[:, 1:]
added_to_the_class_token_first_positions: [class_token, dist_token, patches], dim=1) + pos_embed →
→ [class_token + dist_token, patches], dim=1) + pos_embed[:, :-1]
    The distillation token is added to the class token. It is a token by itself: join the two with
    torch.cat, so that the sequence is longer by one.
joined_along_the_batch: dim=1 → dim=0
    The tokens are joined along axis 0, the images. The tokens are axis 1: torch.cat(..., dim=1).
multiplied: + pos_embed → * pos_embed
    Tokens and positions are multiplied. Positions are added.
positions_twice: + pos_embed → + pos_embed + pos_embed
    The positions are added twice. Once is enough.
first_positions_swapped: + pos_embed → + pos_embed[:, [1, 0, *range(2, pos_embed.shape[1])]]
    Class and distillation token have each other's positions. Row 0 of pos_embed is for the class
    token, row 1 for the distillation token.
not_expanded: .expand(len(tokens), -1, -1) →
    There is one distillation token, and torch.cat wants one for every image. Expand it to the batch
    first: dist_token.expand(B, -1, -1).
torn_off: dist_token.expand → dist_token.detach().expand
and: + pos_embed → + pos_embed.detach()
    The numbers are right, but the distillation token and the positions get no gradient, so they
    would stay as they began. Look for .data, .detach(), torch.no_grad() or torch.tensor(...).
""") | edits(by_parts, """
without_position: (dist_token + pos_embed[:, 1:2]) → dist_token
    The distillation token gets no position; the others have theirs. Row 1 of pos_embed is for it.
    Join first, then add all of pos_embed.
class_token_without_position: tokens[:, :1] + pos_embed[:, :1] → tokens[:, :1]
    The class token gets no position; the others have theirs. Row 0 of pos_embed is for it. Join
    first, then add all of pos_embed.
patches_only: tokens[:, :1] + pos_embed[:, :1] → tokens[:, :1]
and: (dist_token + pos_embed[:, 1:2]) → dist_token
    Only the patches get positions. There is one for each of the 2 + N tokens: join first, then add
    all of pos_embed.
last_position: pos_embed[:, 1:2] → pos_embed[:, -1:]
and: pos_embed[:, 2:] → pos_embed[:, 1:-1]
    The distillation token gets the last position, and each patch that of the one before it. Its
    position is the second one, row 1. Join first, then add all of pos_embed.
""")  # fmt: skip


def probe(answer):
    given = [
        (draw(b, 1 + n, d), draw(1, 1, d, seed=1), draw(1, 2 + n, d, seed=2))
        for b, n, d in [(2, 5, 4), (1, 3, 6), (4, 1, 2), (3, 2, 3)]
    ]
    gradients = [gradient(answer, *given[0], of=i) for i in range(3)]
    return [returns(answer, *g) for g in given] + gradients + [changes(answer, *given[0])]


EXERCISE = Exercise(
    name="distilled_tokens",
    chapter="10_distillation",
    task="distilled_tokens(tokens, dist_token, pos_embed) -> (B, 2 + N, D): from the tokens of a "
    "plain model (B, 1 + N, D), class token first, a distillation token (1, 1, D) and positions "
    "(1, 2 + N, D); class, distillation, patches, in this order, each with its position",
    reference=distilled_tokens,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_slices, by_parts, by_assignment, by_loop],
    probe=probe,
)
