"""12.6 mean_distance: how far a head looks."""

import math

import torch
import torch.nn.functional as F

from vitlib.check.ch12_attention_maps._single import single
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, in_single, returns
from vitlib.explain import attention_distance


def mean_distance(attention, grid_size, num_prefix_tokens, patch_size):
    h, w = grid_size
    patches = slice(num_prefix_tokens, num_prefix_tokens + h * w)
    among = attention[..., patches, patches]
    share = among / among.sum(dim=-1, keepdim=True)
    index = torch.arange(h * w, dtype=attention.dtype)
    y, x = index // w, index % w
    dy, dx = y[:, None] - y, x[:, None] - x
    far = (dy**2 + dx**2).sqrt() * patch_size
    return (share * far).sum(dim=-1).mean(dim=-1)


def by_cdist(attention, grid_size, num_prefix_tokens, patch_size):
    ys, xs = torch.meshgrid(*(torch.arange(n) for n in grid_size), indexing="ij")
    places = torch.stack([ys, xs], dim=-1).reshape(-1, 2).to(attention.dtype) * patch_size
    far = torch.cdist(places, places)
    among = F.normalize(attention[..., num_prefix_tokens:, num_prefix_tokens:], p=1, dim=-1)
    return torch.einsum("blhij,ij->blh", among, far) / len(places)


def query_by_query(attention, grid_size, num_prefix_tokens, patch_size):
    B, L, H = attention.shape[:3]
    h, w = grid_size
    result = torch.zeros(B, L, H, dtype=attention.dtype)
    for i in range(h * w):
        row = attention[..., num_prefix_tokens + i, num_prefix_tokens:]
        far = [math.hypot(i // w - j // w, i % w - j % w) * patch_size for j in range(h * w)]
        result += (row * torch.tensor(far, dtype=row.dtype)).sum(-1) / row.sum(-1)
    return result / (h * w)


def cases(answer) -> Cases:
    def run(grid, prefix, patch, B=2, L=1, H=3, seed=0):
        T = prefix + grid[0] * grid[1]
        weights = (1.5 * numbers(B, L, H, T, T, seed=seed)).softmax(dim=-1)
        return single(call(answer, weights, grid, prefix, patch))

    eye = torch.eye(5, dtype=torch.float64)[None, None, None]
    yield "patches that look at themselves only", lambda: single(call(answer, eye, (2, 2), 1, 4))
    yield "2 × 3 patches of 4 pixels behind a class token", lambda: run((2, 3), 1, 4)
    yield "4 × 2 patches of 7 pixels behind 3 tokens, 2 layers", lambda: run((4, 2), 3, 7, L=2)
    yield "3 × 3 patches of 1 pixel, no prefix token", lambda: run((3, 3), 0, 1, B=1, seed=1)


MUTANTS = edits(mean_distance, """
class_token_only: slice(num_prefix_tokens, num_prefix_tokens + h * w) → slice(1, 1 + h * w)
    One token is left out, however many stand before the patches. Registers and the distillation
    token have no place in the image, and no distance: leave out num_prefix_tokens.
prefix_counted: slice(num_prefix_tokens, num_prefix_tokens + h * w) → slice(h * w)
    The prefix tokens are counted as patches, and all patches are shifted. They have no place in the
    image: leave them out on both axes.
not_a_share: / among.sum(dim=-1, keepdim=True) →
    A part of each row goes to the class token, and what is left for the patches sums to less than
    1: heads that look at the class token seem to look near. Divide each row by its sum over
    patches.
softmax_again: among / among.sum(dim=-1, keepdim=True) → among.softmax(dim=-1)
    The weights among patches go through a softmax a second time, which makes them nearly equal.
    They are shares already: divide each row by its sum.
itself_left_out: patches, patches] → patches, patches] * (1 - torch.eye(h * w))
    What a patch gives to itself is left out. It counts, at distance 0: a head that looks at its own
    patch looks near.
ratio_of_sums: keepdim=True) → keepdim=True).mean(dim=-2, keepdim=True)
    Sums are formed over all query patches before the division, so that a patch counts less if it
    gives much to the class token. Divide each row by its own sum first, then take the mean over
    rows.
in_patches: * patch_size →
    This is the distance in patches. In pixels, neighbours are patch_size apart.
squared: .sqrt() →
    These are squared distances: the root is missing.
squared_in_pixels: .sqrt() * patch_size → * patch_size**2
    These are squared distances: the root is missing.
root_of_the_mean_square: (share * far).sum(dim=-1) → (share * far**2).sum(dim=-1).sqrt()
    The squares of the distances are averaged, and the root is taken of that: far patches count for
    more. Average the distances themselves.
along_the_sequence: (dy**2 + dx**2).sqrt() → (index[:, None] - index).abs()
    This is how far apart two patches stand in the sequence. At the end of a row the next patch is
    far away in the image: turn the number into row and column first.
rows_only: (dy**2 + dx**2).sqrt() → dy.abs()
rows_only_or_columns: (dy**2 + dx**2).sqrt() → dx.abs()
    Only one direction counts. The straight line is √(Δy² + Δx²).
sum_over_the_patches: .sum(dim=-1).mean(dim=-1) → .sum(dim=(-1, -2))
    The distances of all patches that look are added up. Take their mean.
mean_over_both: .sum(dim=-1).mean(dim=-1) → .mean(dim=(-1, -2))
    The mean is taken over both axes. Over the keys it is a *sum*, weighted with shares that sum to
    1; over the patches that look, a mean.
divided_by_all_tokens: .mean(dim=-1) → .sum(dim=-1) / attention.shape[-1]
    The sum over the patches is divided by the number of all tokens. Prefix tokens do not look from
    anywhere: divide by the number of patches.
one_for_each_patch: .sum(dim=-1).mean(dim=-1) → .sum(dim=-1)
    One number for each patch comes back. Take the mean over the patches that look.
most_attended_patch: return (share * far).sum(dim=-1).mean(dim=-1) →
→ far = far.expand_as(share).gather(-1, share.argmax(-1, keepdim=True))
→ return far[..., 0].mean(dim=-1)
    Only the patch that gets the most attention counts. All of them do, each with its share.
mean_over_layers: .mean(dim=-1) → .mean(dim=-1).mean(dim=1)
    The layers are averaged. Each layer and head has its own distance: (B, L, H).
mean_over_heads: .mean(dim=-1) → .mean(dim=-1).mean(dim=-1)
    The heads are averaged. Each head has its own distance: (B, L, H).
not_weighted: share * far → far.expand_as(share) / (h * w)
    The attention is not used: this is the mean distance of all patches. Weight each distance with
    the share that its patch gets.
distance_to_the_mean_place: return (share * far).sum(dim=-1).mean(dim=-1) →
→ at = torch.stack([y, x], dim=-1) * patch_size
→ return (share @ at - at).norm(dim=-1).mean(dim=-1)
    This is the distance to the *mean place* that a patch looks at: who looks as far left as right
    seems to look at itself. Distances first, then their mean.
scaled_twice: * patch_size → * patch_size**2
    Distances are multiplied by patch_size twice. Neighbours are patch_size apart; areas have the
    square.
along_the_streets: (dy**2 + dx**2).sqrt() → (dy.abs() + dx.abs())
    Rows and columns are added, as one walks in a town of square blocks. The straight line is √(Δy²
    + Δx²).
larger_of_both: (dy**2 + dx**2).sqrt() → torch.maximum(dy.abs(), dx.abs())
    This takes the larger of the two differences, so that a diagonal neighbour is as near as the one
    beside it. The straight line is √(Δy² + Δx²).
columns_first: index // w, index % w → index % h, index // h
    The place of a patch is worked out with the number of rows, as if patches were counted down the
    columns. They come row by row: patch i lies in row i // columns and in column i % columns.
queries_and_keys_swapped: patches, patches] → patches, patches].mT
    Queries and keys have changed places, or the columns are made to sum to 1: this is how far away
    those are who look at a patch. The rows are the queries, and it is they that sum to 1.
mean_over_images: .mean(dim=-1) → .mean(dim=-1).mean(dim=0)
    The images are averaged. The result has one number for each image, layer and head.
""")  # fmt: skip


def probe(answer):
    def given(shape, grid, prefix, patch, seed):
        T = prefix + grid[0] * grid[1]
        return (2 * draw(*shape, T, T, seed=seed)).softmax(dim=-1), grid, prefix, patch

    cases = [given((2, 3, 1), (3, 2), 2, 5, 0), given((1, 2, 4), (2, 5), 1, 3, 1)]
    cases += [given((3, 1, 2), (4, 4), 0, 2, 2), given((2, 2, 2), (1, 3), 4, 1, 3)]
    return [in_single(returns(answer, *g)) for g in cases]


EXERCISE = Exercise(
    name="mean_distance",
    chapter="12_attention_maps",
    task="mean_distance(attention, grid_size, num_prefix_tokens, patch_size): (B, L, H, T, T) -> "
    "(B, L, H): for each query patch the distance to the other patches in pixels, centre to "
    "centre, weighted by its attention among patches; then the mean over query patches",
    reference=mean_distance,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_cdist, query_by_query, attention_distance],
    probe=probe,
)
