"""2.6 resample_positions: a grid stretches in two directions, the prefix not at all."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.ch02_tokens._observing import gradients
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, gradient, returns


def resample_positions(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    grid = rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1])
    grid = F.interpolate(grid, size=new_grid, mode="bicubic", antialias=True)
    patches = rearrange(grid, "1 d r c -> 1 (r c) d")
    return torch.cat([prefix, patches], dim=1)


def by_channel(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    planes = patches[0].T.reshape(-1, 1, 1, *old_grid)  # one picture for each channel
    planes = [F.interpolate(plane, new_grid, mode="bicubic", antialias=True) for plane in planes]
    return torch.cat([prefix, torch.cat(planes).flatten(1).T[None]], dim=1)


def by_matrix(pos_embed, old_grid, new_grid, num_prefix):
    def matrix(old, new):  # what the interpolation does to each unit vector
        units = torch.eye(old, dtype=pos_embed.dtype)[None, None]
        return F.interpolate(units, (new, old), mode="bicubic", antialias=True)[0, 0]

    grid = pos_embed[0, num_prefix:].unflatten(0, old_grid)  # (rows, columns, D)
    down, across = (matrix(*sizes) for sizes in zip(old_grid, new_grid, strict=True))
    new = torch.einsum("yr,xc,rcd->yxd", down, across, grid).flatten(0, 1)
    return torch.cat([pos_embed[:, :num_prefix], new[None]], dim=1)


def by_vitlib(pos_embed, old_grid, new_grid, num_prefix):
    return vitlib.resample_pos_embed(pos_embed, new_grid, old_grid, num_prefix)


def cases(answer) -> Cases:
    def resample(old, new, prefix):
        return call(answer, numbers(1, prefix + old[0] * old[1], 5), old, new, prefix)

    def the_gradient():
        pos_embed = numbers(1, 10, 5).requires_grad_()
        return gradients(call(answer, pos_embed, (3, 3), (2, 4), 1), [pos_embed])[0]

    yield "a grid of 2 × 3 for one of 4 × 5, one prefix token", lambda: resample((2, 3), (4, 5), 1)
    yield "a grid of 6 × 4 for one of 3 × 3, one prefix token", lambda: resample((6, 4), (3, 3), 1)
    yield "4 × 4 for 6 × 6, two prefix tokens", lambda: resample((4, 4), (6, 6), 2)
    yield "3 × 3 for 3 × 2, no prefix token", lambda: resample((3, 3), (3, 2), 0)
    yield "the gradient that reaches the positions", the_gradient


MUTANTS = edits(resample_positions, """
sliced: rearrange(grid, "1 d r c -> 1 (r c) d") → patches[:, : new_grid[0] * new_grid[1]]
    The list of positions is cut off at the length that is needed. It runs along the rows of the old
    grid, so from the second row on every patch gets the position of another place; and a larger
    grid gets too few. Lay the positions on their grid and interpolate it.
one_prefix_token: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:, :1], pos_embed[:, 1:]
    You take it that there is exactly one token before the patches. With a distillation token or
    registers there are more, and a model without a class token may have none: use num_prefix.
no_permute: rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1]) →
→ patches.reshape(1, -1, *old_grid)
and: rearrange(grid, "1 d r c -> 1 (r c) d") → grid.reshape(1, -1, pos_embed.shape[2])
    The positions (N, D) are reshaped to (D, rows, columns) without a permute: channels and places
    are mixed. Reshape to (rows, columns, D) first, then move D to the front, and back afterwards.
no_permute_back: rearrange(grid, "1 d r c -> 1 (r c) d") →
→ grid.reshape(1, -1, pos_embed.shape[2])
    The way there is right. On the way back (D, rows, columns) is reshaped to (N, D) without a
    permute, which mixes channels and places: move D to the end first.
down_the_columns: -> 1 (r c) d → -> 1 (c r) d
    The new grid is read down its columns, but tokens run along its rows. Look at the permute or the
    pattern that makes a list of the grid again.
prefix_last: [prefix, patches] → [patches, prefix]
    The prefix stands behind the patches, so that every token gets the position of another. Put it
    first in torch.cat.
one_dimensional: "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1] → "1 n d -> 1 d n"
and: size=new_grid, mode="bicubic", antialias=True → size=new_grid[0] * new_grid[1], mode="linear"
and: "1 d r c -> 1 (r c) d" → "1 d n -> 1 n d"
    The positions are interpolated along the sequence. There, the end of one row and the start of
    the next are neighbours, which on the image they are not. Interpolate on the grid of rows and
    columns.
no_antialias: , antialias=True →
    Larger grids are right and smaller ones are not: antialias=True is missing. Without it, a
    smaller grid reads single old positions and skips those between.
bilinear: bicubic → bilinear
bilinear_without_antialias: "bicubic", antialias=True → "bilinear"
    This is bilinear interpolation. It works as well, and the first ViT code used a linear one, but
    asked for is mode="bicubic".
nearest: , mode="bicubic", antialias=True →
    Every new place gets a copy of the nearest old position. That is what F.interpolate does if it
    is not told a mode: asked for is mode="bicubic", with antialias=True.
detached: prefix, patches = → pos_embed = pos_embed.detach()
→ prefix, patches =
    The numbers are right, but no gradient reaches the positions, so that they could not be trained
    at the new size. Look for .data, .detach(), torch.no_grad() or a detour by NumPy.
corners_aligned: antialias=True → antialias=True, align_corners=True
    The corners of the two grids are laid on each other: align_corners=True. Patches have an area,
    and it is the edges of the images that coincide, so it must be False.
rows_and_columns_swapped: size=new_grid → size=new_grid[::-1]
    Rows and columns of the new grid are swapped. On square grids you would never see it. Grids are
    (rows, columns), and F.interpolate wants (height, width).
""")  # fmt: skip


def probe(answer):
    given = [((3, 2), (5, 3), 1), ((5, 6), (2, 4), 2), ((3, 3), (4, 4), 0), ((4, 2), (2, 4), 3)]
    given = [(draw(1, n + a * b, 4), (a, b), new, n) for (a, b), new, n in given]
    return [returns(answer, *g) for g in given] + [gradient(answer, *given[1])]


EXERCISE = Exercise(
    name="resample_positions",
    chapter="02_tokens",
    task="resample_positions(pos_embed, old_grid, new_grid, num_prefix) -> (1, num_prefix + rows · "
    "columns of the new grid, D): bicubic, antialias=True, align_corners=False; the prefix as it "
    "was",
    reference=resample_positions,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_channel, by_matrix, by_vitlib],
    probe=probe,
)
