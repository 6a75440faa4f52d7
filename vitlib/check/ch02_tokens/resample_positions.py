"""2.6 resample_positions: a grid stretches in two directions, the prefix not at all."""

import torch
import torch.nn.functional as F
from einops import rearrange

import vitlib
from vitlib.check.ch02_tokens._observing import gradients
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, single
from vitlib.check.probing import draw, gradient, returns


def resample_positions(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    grid = rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1])
    grid = F.interpolate(grid, size=new_grid, mode="bicubic", antialias=True)
    patches = rearrange(grid, "1 d r c -> 1 (r c) d")
    return torch.cat([prefix, patches], dim=1)


def by_reshape(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    picture = patches.reshape(1, old_grid[0], old_grid[1], -1).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, size=new_grid, mode="bicubic", antialias=True)
    patches = picture.permute(0, 2, 3, 1).reshape(1, new_grid[0] * new_grid[1], -1)
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
        return single(call(answer, numbers(1, prefix + old[0] * old[1], 5), old, new, prefix))

    def the_gradient():
        pos_embed = numbers(1, 10, 5).requires_grad_()
        return single(gradients(call(answer, pos_embed, (3, 3), (2, 4), 1), [pos_embed])[0])

    yield "a grid of 2 × 3 for one of 4 × 5, one prefix token", lambda: resample((2, 3), (4, 5), 1)
    yield "a grid of 6 × 4 for one of 3 × 3, one prefix token", lambda: resample((6, 4), (3, 3), 1)
    yield "4 × 4 for 6 × 6, two prefix tokens", lambda: resample((4, 4), (6, 6), 2)
    yield "3 × 3 for 3 × 2, no prefix token", lambda: resample((3, 3), (3, 2), 0)
    yield "2 × 6 for 4 × 3, one prefix token", lambda: resample((2, 6), (4, 3), 1)
    # 11 · (15 / 11) is a little less than 15: a scale factor would lose a row
    yield "11 × 2 for 15 × 2, one prefix token", lambda: resample((11, 2), (15, 2), 1)
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
    Rows and columns of the new grid are swapped: its sizes are, or the picture lies on its side
    when it is resized (permute(0, 3, 2, 1)). On square grids you would never see it. Grids are
    (rows, columns), and F.interpolate wants (height, width).
old_rows_and_columns_swapped: r=old_grid[0], c=old_grid[1] → r=old_grid[1], c=old_grid[0]
    Rows and columns of the old grid are swapped, so that its rows are cut in the wrong places. On
    square grids you would never see it. old_grid is (rows, columns).
rows_and_columns_of_both_swapped: r=old_grid[0], c=old_grid[1] → r=old_grid[1], c=old_grid[0]
and: size=new_grid → size=new_grid[::-1]
    Rows and columns of both grids are swapped, so that the rows are cut in the wrong places. On
    square grids you would never see it. Grids are (rows, columns).
old_grid_transposed: "1 (r c) d -> 1 d r c" → "1 (r c) d -> 1 d c r"
    The old grid lies on its side when it is resized: its columns come first, and new_grid has the
    rows first. Move D to the front and keep the order of the others: permute(0, 3, 1, 2).
no_permute_there: rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1]) →
→ patches.reshape(1, -1, *old_grid)
    On the way there the positions (N, D) are reshaped to (D, rows, columns) without a permute,
    which mixes channels and places. Reshape to (rows, columns, D) first, then move D to the front.
channels_not_in_front: "1 (r c) d -> 1 d r c" → "1 (r c) d -> 1 r c d"
and: "1 d r c -> 1 (r c) d" → "1 r c d -> 1 (r c) d"
channels_not_in_front_reshaped: "1 (r c) d -> 1 d r c" → "1 (r c) d -> 1 r c d"
and: rearrange(grid, "1 d r c -> 1 (r c) d") → grid.reshape(1, -1, pos_embed.shape[2])
    F.interpolate resizes the last two axes, and here these are columns and channels. Move D in
    front of the grid, (1, D, rows, columns), before it is resized.
channels_resized: rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1]) →
→ patches[None]
and: size=new_grid → size=(new_grid[0] * new_grid[1], patches.shape[2])
and: rearrange(grid, "1 d r c -> 1 (r c) d") → grid[0]
    The list of positions is resized as if tokens and channels were the picture. There, the end of
    one row and the start of the next are neighbours, and so are channels. Lay the tokens on their
    grid, (1, D, rows, columns), and resize that.
places_not_moved_back: -> 1 (r c) d → -> 1 d (r c)
    The grid is flattened to (1, D, N), and the channels still stand in front. Move them to the end:
    (1, N, D).
grid_not_flattened: patches = rearrange(grid, "1 d r c -> 1 (r c) d") → patches = grid
    The resized grid still has axes for rows and columns when it is joined to the prefix. Move D to
    the end and flatten rows and columns to one: (1, N, D).
flattened_on_the_wrong_axis: -> 1 (r c) d → -> 1 r (c d)
    Columns and channels are flattened to one axis. It is rows and columns that become one: flatten
    axes 1 and 2 of (1, rows, columns, D).
square_new_grid: size=new_grid → size=new_grid[0]
square_new_grid_by_columns: size=new_grid → size=new_grid[1]
    The new grid is taken to be square, with one size for rows and columns. Give both:
    size=new_grid.
scale_factor: size=new_grid → scale_factor=tuple(n / o for n, o in zip(new_grid, old_grid))
    The new size is given as a factor. What comes out is rounded *down*: 11 · (15 / 11) is a little
    less than 15 on a computer, and a row is lost. Say what you want: size=new_grid.
one_scale_factor: size=new_grid → scale_factor=new_grid[0] / old_grid[0]
    One factor stretches rows and columns alike, and grids need not keep their shape. Say what you
    want: size=new_grid.
sides_of_the_number_of_patches: size=new_grid → size=(int((new_grid[0] * new_grid[1]) ** 0.5),) * 2
    The new grid is made square, with the root of its number of patches as side. Give both sizes:
    size=new_grid.
nearest_exact: mode="bicubic", antialias=True → mode="nearest-exact"
    Every new place gets a copy of the nearest old position. Asked for is mode="bicubic", with
    antialias=True.
averaged: mode="bicubic", antialias=True → mode="area"
    Each new position is the mean of the old ones that it covers, as by mode="area" or adaptive
    pooling. Asked for is mode="bicubic", with antialias=True.
bilinear_with_corners: "bicubic", antialias=True → "bilinear", align_corners=True
    This is bilinear interpolation, with the corners of the grids laid on each other. Asked for is
    mode="bicubic", antialias=True and align_corners=False.
corners_aligned_without_antialias: antialias=True → align_corners=True
    The corners of the two grids are laid on each other, align_corners=True, and antialias=True is
    missing. It must be align_corners=False, antialias=True.
nearest_of_the_list: "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1] → "1 n d -> 1 d n"
and: size=new_grid, mode="bicubic", antialias=True → size=new_grid[0] * new_grid[1]
and: "1 d r c -> 1 (r c) d" → "1 d n -> 1 n d"
    The list of positions is stretched as a list, with copies of the nearest. There, the end of one
    row and the start of the next are neighbours, which on the image they are not. Interpolate on
    the grid of rows and columns, with mode="bicubic".
padded: patches = rearrange(grid, "1 d r c -> 1 (r c) d") →
→ patches = patches[:, : new_grid[0] * new_grid[1]]
→ zeros = patches.new_zeros(1, new_grid[0] * new_grid[1] - patches.shape[1], patches.shape[2])
→ patches = torch.cat([patches, zeros], dim=1)
    The list of positions is cut off, or filled up with zeros, to the length that is needed. It runs
    along the rows of the old grid, so that patches get the positions of other places. Lay the
    positions on their grid and interpolate it.
prefix_dropped: return torch.cat([prefix, patches], dim=1) → return patches
    The prefix is missing: only the patches come back. Put it in front: torch.cat([prefix, patches],
    dim=1).
prefix_twice: [prefix, patches] → [prefix, prefix, patches]
    The prefix stands there twice. Once is enough.
prefix_from_the_end: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:, -num_prefix:], pos_embed[:, :-num_prefix]
    The prefix is taken from the end of pos_embed. It stands in front: pos_embed[:, :num_prefix].
prefix_resized_too: , pos_embed[:, num_prefix:] → , pos_embed
    The prefix is resized with the patches. It has no place on the grid: cut it off first,
    pos_embed[:, num_prefix:].
prefix_added: return torch.cat([prefix, patches], dim=1) → return prefix + patches
    The prefix is added to the patches. Join them: torch.cat([prefix, patches], dim=1).
joined_along_the_batch: dim=1 → dim=0
    torch.cat joins along axis 0, which is also what it does if it is told no axis. Tokens are
    joined along dim=1.
joined_along_the_channels: dim=1 → dim=2
    torch.cat joins along the last axis, the channels. Tokens are joined along dim=1.
prefix_without_gradient: prefix, patches = → prefix, patches = pos_embed[:, :num_prefix].detach(), 0
→ _, patches =
and: pos_embed[:, :num_prefix], pos_embed → 0, pos_embed
    The numbers are right, but no gradient reaches the positions of the prefix. Look for .data,
    .detach() or torch.no_grad().
patches_without_gradient: grid = F.interpolate(grid → grid = F.interpolate(grid.detach()
    The numbers are right, but no gradient reaches the positions of the patches. Look for .data,
    .detach() or torch.no_grad().
only_larger_grids: prefix, patches = →
→ if new_grid[0] * new_grid[1] <= old_grid[0] * old_grid[1]:
→     return pos_embed[:, : num_prefix + new_grid[0] * new_grid[1]]
→ prefix, patches =
    For a smaller grid the list of positions is cut off. It runs along the rows of the old grid, so
    that patches get the positions of other places. Interpolate smaller grids, too.
same_number_left_alone: prefix, patches = →
→ if new_grid[0] * new_grid[1] == old_grid[0] * old_grid[1]:
→     return pos_embed
→ prefix, patches =
    Where the number of patches stays, the positions come back as they were. A grid of the same
    number may have another shape, 2 × 6 for 3 × 4: compare the grids.
no_prefix_left_alone: prefix, patches = → if num_prefix == 0:
→     return pos_embed
→ prefix, patches =
    Without prefix the positions come back as they were. num_prefix = 0 only means that there is
    nothing to cut off: pos_embed[:, :0] is empty, and torch.cat takes it.
lengths_made_one: return torch → patches = F.normalize(patches, dim=2)
→ return torch
    The new positions are brought to length 1. Leave them as the interpolation makes them.
axis_of_the_batch_lost: dim=1) → dim=1)[0]
    The axis in front is missing: asked for is (1, num_prefix + N, D).
two_results: return torch.cat([prefix, patches], dim=1) → return prefix, patches
    Prefix and patches come back side by side, as a tuple. Join them: torch.cat along dim=1.
unchanged: return torch.cat([prefix, patches], dim=1) → return pos_embed
    The old positions come back. Return the prefix with the new ones: torch.cat([prefix, patches],
    dim=1).
one_prefix_token_kept: [prefix, patches] → [prefix[:, :1], patches]
    Only the first prefix token is kept. There are num_prefix of them: pos_embed[:, :num_prefix].
nothing_returned: return torch → torch
    The result is computed and not returned. The last line needs `return`.
""") | edits(by_reshape, """
one_prefix_token_by_reshape: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:, :1], pos_embed[:, 1:]
    You take it that there is exactly one token before the patches. With a distillation token or
    registers there are more, and a model without a class token may have none: use num_prefix.
prefix_resized_too_by_reshape: , pos_embed[:, num_prefix:] → , pos_embed
    The prefix is resized with the patches. It has no place on the grid: cut it off first,
    pos_embed[:, num_prefix:].
prefix_from_the_end_by_reshape: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:, -num_prefix:], pos_embed[:, :-num_prefix]
    The prefix is taken from the end of pos_embed. It stands in front: pos_embed[:, :num_prefix].
square_old_grid: old_grid[0], old_grid[1], → *2 * (int(patches.shape[1] ** 0.5),),
square_old_grid_by_rows: old_grid[0], old_grid[1], → old_grid[0], old_grid[0],
square_old_grid_by_columns: old_grid[0], old_grid[1], → old_grid[1], old_grid[1],
    The old grid is taken to be square. It has old_grid[0] rows and old_grid[1] columns.
fixed_grid: old_grid[0], old_grid[1], → 14, 14,
    The old grid is fixed at 14 × 14. Its sizes are in old_grid.
prefix_one_token_longer: pos_embed[:, num_prefix:] → pos_embed[:, num_prefix + 1 :]
    The first patch is dropped with the prefix. Row num_prefix is the first patch already:
    pos_embed[:, num_prefix:].
prefix_among_the_images: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:num_prefix], pos_embed[num_prefix:]
    The prefix is cut off along axis 0, which holds the one set of positions. Tokens are axis 1:
    pos_embed[:, num_prefix:].
class_token_without_its_axis: pos_embed[:, :num_prefix], pos_embed[:, num_prefix:] →
→ pos_embed[:, 0], pos_embed[:, 1:]
    pos_embed[:, 0] has lost the axis of the tokens, and is one token, however many the prefix has.
    Use slices: pos_embed[:, :num_prefix].
everything_flattened: .reshape(1, new_grid[0] * new_grid[1], -1) → .flatten(1)
    flatten(1) joins the channels as well. Rows and columns alone become one axis: flatten(1, 2).
batch_flattened_too: .reshape(1, new_grid[0] * new_grid[1], -1) → .flatten(0, 1)
    The axis in front and the rows are joined. Rows and columns become one axis: flatten(1, 2).
new_grid_for_the_old: old_grid[0], old_grid[1], → new_grid[0], new_grid[1],
    The old positions are laid on the new grid, and there are not as many. Their grid is old_grid.
not_resized: F.interpolate(picture, size=new_grid, mode="bicubic", antialias=True) → picture
    The grid is not resized: F.interpolate is missing.
channels_not_in_front_by_reshape: -1).permute(0, 3, 1, 2) → -1)
    F.interpolate resizes the last two axes, and here these are columns and channels. Move D in
    front of the grid, (1, D, rows, columns), before it is resized.
moved_back_wrongly: (0, 2, 3, 1) → (0, 3, 1, 2)
    On the way back the permute is that of the way there once more. From (1, D, rows, columns) to
    (1, rows, columns, D) it is permute(0, 2, 3, 1).
scale_factor_by_reshape: size=new_grid →
→ scale_factor=tuple(n / o for n, o in zip(new_grid, old_grid))
    The new size is given as a factor. What comes out is rounded *down*: 11 · (15 / 11) is a little
    less than 15 on a computer, and a row is lost. Say what you want: size=new_grid.
one_scale_factor_by_reshape: size=new_grid → scale_factor=new_grid[0] / old_grid[0]
    One factor stretches rows and columns alike, and grids need not keep their shape. Say what you
    want: size=new_grid.
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
    accepted=[by_reshape, by_channel, by_matrix, by_vitlib],
    probe=probe,
)
