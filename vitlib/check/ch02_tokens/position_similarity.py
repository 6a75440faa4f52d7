"""2.7 position_similarity: a cosine, of patches only."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, returns


def position_similarity(pos_embed, num_prefix):
    patches = pos_embed[0, num_prefix:]
    dots = patches @ patches.T
    lengths = dots.diagonal().sqrt()
    return dots / (lengths[:, None] * lengths)


def by_normalize(pos_embed, num_prefix):
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
prefix_kept_alone: [0, num_prefix:] → [0, :num_prefix]
    The prefix tokens are compared, and the patches left out. The patches are pos_embed[0,
    num_prefix:].
prefix_from_the_end: [0, num_prefix:] → [0, : pos_embed.shape[1] - num_prefix]
prefix_from_the_end_by_a_minus: [0, num_prefix:] → [0, :-num_prefix]
    The last tokens are dropped, and the prefix stands in front: pos_embed[0, num_prefix:].
one_patch_too_few: num_prefix:] → num_prefix + 1 :]
    The first patch is dropped with the prefix. Row num_prefix is the first patch already:
    pos_embed[0, num_prefix:].
prefix_among_the_channels: [0, num_prefix:] → [0, :, num_prefix:]
    The prefix is cut off along the channels. Tokens are axis 1 of (1, num_prefix + N, D):
    pos_embed[0, num_prefix:].
prefix_among_the_images: [0, num_prefix:] → [num_prefix:]
and: patches.T → patches.mT
and: dots.diagonal() → dots.diagonal(dim1=1, dim2=2)
and: lengths[:, None] * lengths → lengths[:, :, None] * lengths[:, None]
    The prefix is cut off along axis 0, which holds the one set of positions. Tokens are axis 1:
    pos_embed[0, num_prefix:].
prefix_still_in_the_columns: dots = patches @ patches.T → dots = patches @ pos_embed[0].T
and: lengths = dots.diagonal().sqrt() → lengths = pos_embed[0].square().sum(1).sqrt()
and: (lengths[:, None] * lengths) → (lengths[num_prefix:, None] * lengths)
    The prefix tokens are dropped from the rows and stand in the columns still. Drop them before the
    product, or from both axes.
prefix_still_in_the_rows: dots = patches @ patches.T → dots = pos_embed[0] @ patches.T
and: lengths = dots.diagonal().sqrt() → lengths = pos_embed[0].square().sum(1).sqrt()
and: (lengths[:, None] * lengths) → (lengths[:, None] * lengths[num_prefix:])
    The prefix tokens are dropped from the columns and stand in the rows still. Drop them before the
    product, or from both axes.
channels_compared: patches @ patches.T → patches.T @ patches
    Channels are compared with channels, (D, D). For tokens it is patches @ patches.T, (N, N).
not_transposed: patches.T → patches
    The second factor is not transposed: (N, D) times (N, D). It is patches @ patches.T.
reversed_axes: [0, num_prefix:] → [:, num_prefix:]
    On three axes .T turns all of them round. Take the one set of positions out first, pos_embed[0,
    num_prefix:], or use .mT.
an_axis_too_many: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths))[None]
    The axis in front is still there: (1, N, N). Asked for is (N, N): take pos_embed[0] first.
diagonal_of_the_wrong_axes: [0, num_prefix:] → [:, num_prefix:]
and: patches.T → patches.mT
    On three axes .diagonal() takes the first two, and the lengths are read off the wrong places.
    Take the one set of positions out first: pos_embed[0, num_prefix:].
with_itself_alone: return dots / (lengths[:, None] * lengths) → return lengths**2
    Each position meets itself alone. Each should meet all others: patches @ patches.T, (N, N).
everything_by_the_largest: (lengths[:, None] * lengths) → lengths.max() ** 2
    All is divided by the one largest number. Each pair has lengths of its own: divide by
    lengths[:, None] * lengths[None].
mean_of_the_squares: (lengths[:, None] * lengths) →
→ ((lengths[:, None] ** 2 + lengths**2) / 2)
    The dot products are divided by the *mean* of the two squared lengths. A cosine has their
    product in it, |a| · |b|.
lengths_added: (lengths[:, None] * lengths) → (lengths[:, None] + lengths)
    The dot products are divided by the *sum* of the two lengths. A cosine has their product in it,
    |a| · |b|.
multiplied_by_the_lengths: dots / (lengths → dots * (lengths
    The dot products are multiplied by the lengths. Divide by them.
divided_by_a_matrix_of_zeros: (lengths[:, None] * lengths) → torch.diag(lengths)
divided_by_a_matrix_of_zeros_squared: (lengths[:, None] * lengths) → torch.diag(lengths**2)
    You divide by a matrix that has the lengths on its diagonal, and zeros everywhere else. Divide
    by the product of both lengths: lengths[:, None] * lengths[None].
width_for_the_lengths: (lengths[:, None] * lengths) → patches.shape[1] ** 0.5
    The dot products are divided by √D, as in attention. A cosine is divided by both lengths: the
    diagonal is 1.
shares: return dots / (lengths[:, None] * lengths) → return dots / dots.sum(1, keepdim=True)
    Each row is divided by its sum. A cosine is divided by both lengths: the diagonal is 1.
softmax: return dots / (lengths[:, None] * lengths) → return dots.softmax(dim=1)
softmax_of_the_cosine: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).softmax(dim=1)
    A softmax is taken of the rows. This is no attention: asked for is the cosine itself.
distance: return dots / → return 1 - dots /
    This is the cosine's distance, 1 − cos: alike are 0. Asked for is the cosine.
distance_in_space: return dots / (lengths[:, None] * lengths) → return torch.cdist(patches, patches)
    This is how far the vectors are apart. Asked for is the cosine of their angle.
angle: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).clamp(-1, 1).acos()
    This is the angle. Asked for is its cosine.
without_sign: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).abs()
    The sign is taken off. A cosine of −1, opposite, is not the same as 1.
negative_left_out: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).clamp(min=0)
    Negative cosines are set to 0. Leave them: they point apart.
squeezed_to_shares: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths) + 1) / 2
    The cosines are moved to 0 … 1. Leave them between −1 and 1.
opposite: return dots / → return -dots /
    The sign is turned round: alike come out as −1.
diagonal_emptied: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).fill_diagonal_(0)
    The diagonal is 0. Each position is like itself: its cosine is 1, and the diagonal stays.
one_triangle: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).triu()
one_triangle_below: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).tril()
    Only one half of the matrix is filled. It is symmetric: the other half holds the same again.
first_patch_only: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths))[0]
    Only the first patch is compared with the others. All are: (N, N).
flattened: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).flatten()
    The matrix is flattened to one row. Asked for is (N, N).
root_of_the_dots: return dots / → return dots.sqrt() /
root_of_the_dots_before: dots = patches @ patches.T → dots = (patches @ patches.T).sqrt()
root_of_the_dots_over_squares: return dots / (lengths[:, None] * lengths) →
→ return dots.sqrt() / (lengths[:, None] * lengths) ** 2
root_of_the_dots_over_one_square: return dots / (lengths[:, None] * lengths) →
→ return dots.sqrt() / lengths**2
    A root is taken of all the dot products, or of the quotient, and some of them are negative. Take
    it of the diagonal alone, before you divide.
diagonal_changed_in_place: lengths = dots.diagonal().sqrt() → lengths = dots.diagonal().sqrt_()
    The root is taken in place, and .diagonal() is a view of the dot products: their own diagonal is
    changed. Use .sqrt() without _.
divided_one_after_the_other: return dots / (lengths[:, None] * lengths) → dots = dots / lengths
→ return dots / dots.diagonal().sqrt()[:, None]
divided_one_after_the_other_rows_first: return dots / (lengths[:, None] * lengths) →
→ dots = dots / lengths[:, None]
→ return dots / dots.diagonal().sqrt()
    The second lengths are read off a diagonal that has been divided already. Keep the lengths in a
    variable before you divide by the first.
centred_over_the_patches: dots = patches → patches = patches - patches.mean(dim=0)
→ dots = patches
    The mean of all positions is taken off before. A cosine compares the vectors as they are.
covariance: [0, num_prefix:] → [0, num_prefix:] / pos_embed.shape[2] ** 0.5
and: return dots / (lengths[:, None] * lengths) → return dots
    The mean of the products is taken, not their cosine. Divide the dot products by both lengths:
    the diagonal is 1.
divided_and_multiplied: (lengths[:, None] * lengths) → lengths[:, None] * lengths
    You divide by one length and multiply by the other: a / b * c is read as (a / b) * c. Put the
    product of the lengths in brackets.
divided_and_multiplied_the_other: (lengths[:, None] * lengths) → lengths * lengths[:, None]
    You divide by one length and multiply by the other: a / b * c is read as (a / b) * c. Put the
    product of lengths in brackets, as in a / (b * c).
root_of_the_sum: (lengths[:, None] * lengths) → (lengths[:, None] ** 2 + lengths**2).sqrt()
    The dot products are divided by the root of the *sum* of the squares. A cosine has the product
    of both lengths in it, |a| · |b|.
root_of_the_lengths: (lengths[:, None] * lengths) → (lengths[:, None] * lengths).sqrt()
    One root too many is taken: the lengths are the roots of the diagonal, and a cosine is divided
    by their product itself.
mean_square: dots.diagonal().sqrt() → (dots.diagonal() / patches.shape[1]).sqrt()
    The lengths are the roots of the *mean* of the squares. They are the roots of the sum, which is
    what the diagonal holds.
deviation: dots.diagonal().sqrt() → patches.std(dim=1)
    The dot products are divided by standard deviations. A length is the root of the sum of the
    squares: read it off the diagonal.
mean_of_each_row: return dots / (lengths[:, None] * lengths) →
→ return (dots / (lengths[:, None] * lengths)).mean(dim=1)
    The cosines are averaged over a row. Asked for are all of them: (N, N).
sums_for_the_diagonal: dots.diagonal().sqrt() → dots.sum(dim=1).sqrt()
    The lengths are taken from the sums of the rows. It is the diagonal that holds their squares.
first_row_for_the_diagonal: dots.diagonal().sqrt() → dots[0].sqrt()
    The lengths are taken from the first row. It is the diagonal that holds their squares.
nothing_returned: return dots → dots
    The result is computed and not returned. The last line needs `return`.
""") | edits(by_normalize, """
wrong_axis: dim=1 → dim=0
    The vectors are normalised along the wrong axis: over the positions, not over the channels. Look
    at dim: each row should have length 1.
wrong_axis_with_the_prefix: F.normalize(pos_embed[0, num_prefix:], dim=1) →
→ F.normalize(pos_embed, dim=1)[0, num_prefix:]
    The vectors are normalised along axis 1 of (1, num_prefix + N, D), which is that of the
    positions. The channels are the last axis: dim=-1.
lengths_summed_without_squares: dim=1) → dim=1, p=1)
    The vectors are divided by the sum of their absolute values. The length is the root of the sum
    of *squares*: what the diagonal of the dot products holds, under a root.
one_length_for_all: F.normalize(pos_embed[0, num_prefix:], dim=1) →
→ pos_embed[0, num_prefix:] / pos_embed[0, num_prefix:].norm()
    All is divided by one number: the trace, which is the sum of all squared lengths, or the length
    of all the numbers together. Each pair has lengths of its own: the diagonal of a cosine is 1.
length_without_keepdim: F.normalize(pos_embed[0, num_prefix:], dim=1) →
→ pos_embed[0, num_prefix:] / pos_embed[0, num_prefix:].norm(dim=1)
    The lengths are (N,), and broadcast along the channels. Give them an axis, (N, 1): keepdim=True,
    or [:, None].
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
    excluded=["torch.nn.functional.normalize", "torch.nn.functional.cosine_similarity"],
    accepted=[by_normalize, by_broadcast, by_division],
    probe=probe,
)
