"""2.7 position_similarity: a cosine, of patches only."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, returns


def position_similarity(pos_embed, num_prefix):
    directions = F.normalize(pos_embed[0, num_prefix:], dim=1)
    return directions @ directions.T


def by_broadcast(pos_embed, num_prefix):
    patches = pos_embed[0, num_prefix:]
    return F.cosine_similarity(patches[:, None], patches[None], dim=2)


def by_division(pos_embed, num_prefix):
    patches = pos_embed[:, num_prefix:].squeeze(0)
    norms = patches.square().sum(1).sqrt()
    return torch.einsum("id,jd->ij", patches, patches) / torch.outer(norms, norms)


def cases(answer) -> Cases:
    def compare(tokens, dim, prefix):  # in float32: a small number added to the lengths is no bug
        return single(call(answer, numbers(1, tokens, dim), prefix))

    yield "one prefix token and 6 patches, D = 5", lambda: compare(7, 5, 1)
    yield "two prefix tokens and 4 patches, D = 8", lambda: compare(6, 8, 2)
    yield "no prefix token and 3 patches, D = 4", lambda: compare(3, 4, 0)


MUTANTS = edits(position_similarity, """
prefix_included: [0, num_prefix:] → [0]
    The prefix tokens are compared, too. They have no place in the image, and with them the N maps
    no longer fit the grid: drop the first num_prefix rows.
one_prefix_token: [0, num_prefix:] → [0, 1:]
    Exactly one row is dropped, however many prefix tokens there are: every map of a model with
    registers would be shifted. Use num_prefix.
wrong_axis: dim=1 → dim=0
    The vectors are normalised along the wrong axis: over the positions, not over the channels. Look
    at dim: each row should have length 1.
""") | edits(by_division, """
dot_product: / torch.outer(norms, norms) →
    This is the dot product. A long vector then seems alike to everything. Divide by both lengths:
    the diagonal of a cosine is 1.
one_length: torch.outer(norms, norms) → norms[:, None]
one_length_of_the_other: torch.outer(norms, norms) → norms
    You divide by one of the two lengths only, so the result is not symmetric.
same_length_twice: torch.outer(norms, norms) → norms**2
same_length_twice_of_the_other: torch.outer(norms, norms) → norms[:, None] ** 2
    The diagonal is right, and the rest is not: you divide twice by the length of the same vector. A
    cosine has the lengths of both in it, |a| · |b|, and is symmetric.
squared_lengths: .sqrt() →
    You divide by the *squares* of both lengths. The diagonal of the dot products holds squares:
    take the root before you divide. The diagonal of a cosine is 1.
correlation: norms = → patches = patches - patches.mean(dim=1, keepdim=True)
→ norms =
    The mean of each vector is taken off before, which makes this a correlation. A cosine compares
    the vectors as they are.
""")  # fmt: skip


def probe(answer):
    return [returns(answer, draw(1, n, d), k) for n, d, k in [(6, 4, 1), (9, 3, 3), (4, 7, 0)]]


EXERCISE = Exercise(
    name="position_similarity",
    chapter="02_tokens",
    task="position_similarity(pos_embed, num_prefix) -> (N, N): the cosine between the positions "
    "of every two patches; pos_embed is (1, num_prefix + N, D)",
    reference=position_similarity,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_broadcast, by_division],
    probe=probe,
)
