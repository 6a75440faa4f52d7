"""9.2 shift_images: pictures moved within their frame."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw, returns


def shift_images(images, down, right, fill):
    colour = fill.view(-1, 1, 1)
    moved = images.roll((down, right), dims=(2, 3))
    if down > 0:
        moved[:, :, :down] = colour
    if down < 0:
        moved[:, :, down:] = colour
    if right > 0:
        moved[:, :, :, :right] = colour
    if right < 0:
        moved[:, :, :, right:] = colour
    return moved


def by_window(images, down, right, fill):
    B, C, H, W = images.shape
    moved = fill.to(images.dtype).view(1, C, 1, 1).repeat(B, 1, H, W)
    top, bottom = max(0, down), min(H, H + down)
    left, end = max(0, right), min(W, W + right)
    if top < bottom and left < end:
        window = images[:, :, top - down : bottom - down, left - right : end - right]
        moved[:, :, top:bottom, left:end] = window
    return moved


def by_steps(images, down, right, fill):
    colour = fill[:, None, None]
    rows = images.clone()
    if down > 0:
        rows[:, :, down:] = images[:, :, :-down]
        rows[:, :, :down] = colour
    elif down < 0:
        rows[:, :, :down] = images[:, :, -down:]
        rows[:, :, down:] = colour
    moved = rows.clone()
    if right > 0:
        moved[..., right:] = rows[..., :-right]
        moved[..., :right] = colour
    elif right < 0:
        moved[..., :right] = rows[..., -right:]
        moved[..., right:] = colour
    return moved


def by_pad(images, down, right, fill):
    H, W = images.shape[2:]
    down, right = max(-H, min(down, H)), max(-W, min(right, W))
    margins = (right, -right, down, -down)
    parts = []
    for c in range(len(fill)):
        parts.append(F.pad(images[:, c], margins, value=fill[c].item()))
    return torch.stack(parts, dim=1)


def by_cat(images, down, right, fill):
    B, C, H, W = images.shape
    down, right = max(-H, min(down, H)), max(-W, min(right, W))
    colour = fill.to(images.dtype).view(1, C, 1, 1)
    rows = colour.expand(B, C, abs(down), W)
    columns = colour.expand(B, C, H, abs(right))
    if down > 0:
        images = torch.cat([rows, images[:, :, : H - down]], dim=2)
    else:
        images = torch.cat([images[:, :, -down:], rows], dim=2)
    if right > 0:
        return torch.cat([columns, images[:, :, :, : W - right]], dim=3)
    return torch.cat([images[:, :, :, -right:], columns], dim=3)


def by_where(images, down, right, fill):
    H, W = images.shape[2:]
    y, x = torch.arange(H)[:, None] - down, torch.arange(W) - right
    inside_rows, inside_columns = (y >= 0) & (y < H), (x >= 0) & (x < W)
    moved = images[:, :, y.clamp(0, H - 1), x.clamp(0, W - 1)]
    colour = fill.to(images.dtype).view(-1, 1, 1)
    return torch.where(inside_rows & inside_columns, moved, colour)


def by_pixel(images, down, right, fill):
    moved = torch.empty_like(images)
    H, W = images.shape[-2:]
    for i in range(H):
        for j in range(W):
            y, x = i - down, j - right
            if 0 <= y < H and 0 <= x < W:
                moved[:, :, i, j] = images[:, :, y, x]
            else:
                moved[:, :, i, j] = fill
    return moved


def cases(answer) -> Cases:
    colours = numbers(9, seed=5) + 2

    def run(shape, down, right, fill=None, dtype=torch.float64):
        images = numbers(*shape, seed=3).to(dtype)
        images[:, :, -1, 1] = 0  # 0 is a colour like others
        return call(answer, images, down, right, colours[: shape[1]] if fill is None else fill)

    yield "2 wide images, 1 down", lambda: run((2, 3, 4, 6), 1, 0)
    yield "2 to the right", lambda: run((2, 3, 4, 6), 0, 2)
    yield "1 down and 2 to the right", lambda: run((2, 3, 5, 7), 1, 2)
    yield "2 up", lambda: run((1, 2, 5, 3), -2, 0)
    yield "3 to the left", lambda: run((1, 2, 3, 5), 0, -3)
    yield "3 up and 1 to the left", lambda: run((2, 3, 5, 7), -3, -1)
    yield "2 up and 1 to the right", lambda: run((3, 1, 6, 4), -2, 1)
    yield "1 down and 3 to the left", lambda: run((3, 2, 4, 5), 1, -3)
    yield "no shift", lambda: run((1, 3, 4, 2), 0, 0)
    yield "down by the height", lambda: run((1, 2, 3, 5), 3, 0)
    yield "to the left by more than the width", lambda: run((2, 3, 5, 4), 1, -6)
    yield "up by more than the height, and right by the width", lambda: run((2, 1, 3, 4), -5, 4)
    yield "down and to the right, by more than the picture", lambda: run((3, 2, 4, 5), 6, 7)
    yield "a fill of 0", lambda: run((2, 3, 5, 4), 2, -1, torch.zeros(3).double())
    yield "3 channels of 3 × 3 in 3 images", lambda: run((3, 3, 3, 3), -1, 2)
    yield (
        "images in float32, the fill in float64",
        lambda: run((1, 2, 3, 5), 2, 1, None, torch.float),
    )


MUTANTS = edits(shift_images, """
in_a_circle: return moved → return images.roll((down, right), dims=(2, 3))
    The pictures go round in a circle: what leaves at one side comes in at the other. What leaves is
    gone. Give the rows and columns of the gap the colour `fill`.
not_moved: images.roll((down, right), dims=(2, 3)) → images.clone()
    The gap is painted, and the picture has not moved. (images.roll(...) leaves `images` as they
    are: use what it returns.)
unchanged: return moved → return images.clone()
    The images come back as they were. Move the picture, and paint the gap.
in_place: images.roll((down, right), dims=(2, 3)) → images.copy_(images.roll((down, right), (2, 3)))
    You change the images that you are given. Write into a new tensor, such as images.clone() or
    what torch.roll returns.
no_columns: moved = → right = 0
→ moved =
    The pictures move up and down only: `right` is not used.
no_rows: moved = → down = 0
→ moved =
    The pictures move to the left and right only: `down` is not used.
sideways_for_down: moved = → down, right = right, down
→ moved =
    Height and width are exchanged: you move by `right` rows and `down` columns. In (B, C, H, W) the
    rows go along axis 2 and the columns along axis 3.
against_the_numbers: moved = → down, right = -down, -right
→ moved =
    The pictures move the other way: up where `down` is positive, and left where `right` is. Change
    both signs.
up_for_down: moved = → down = -down
→ moved =
    The pictures move up where `down` is positive. Row 0 is at the top: with down = 1, it becomes
    row 1.
left_for_right: moved = → right = -right
→ moved =
    The pictures move left where `right` is positive. With right = 1, column 0 becomes column 1.
only_positive: moved = → down, right = max(down, 0), max(right, 0)
→ moved =
    A negative number does nothing. It should move the pictures up, or to the left. (Who makes the
    frame larger and cuts it again begins to cut at row −down then.)
without_the_sign: moved = → down, right = abs(down), abs(right)
→ moved =
    The sign is dropped: a negative number moves the pictures down or right, as a positive one does.
    It should move them up, or to the left.
rolled_the_other_way: images.roll((down, right) → images.roll((-down, -right)
    The gap is painted on the right side, and the picture has moved the other way, so that a part of
    it is painted over. Change the signs of the move.
rolled_up: images.roll((down, → images.roll((-down,
    The rows move the other way, up where `down` is positive, and the gap is painted on the right
    side. Change the sign of the move.
rolled_left: images.roll((down, right) → images.roll((down, -right)
    The columns move the other way, left where `right` is positive, and the gap is painted on the
    right side. Change the sign of the move.
rolled_along_the_other_axes: dims=(2, 3) → dims=(3, 2)
    The picture moves by `down` columns and `right` rows, while the gap is painted where it should
    be. Rows go along axis 2 of (B, C, H, W), columns along axis 3.
channels_last: dims=(2, 3) → dims=(1, 2)
    The picture is moved along axes 1 and 2, the channels and the rows. In (B, C, H, W) the rows go
    along axis 2 and the columns along axis 3.
other_images: dims=(2, 3) → dims=(0, 1)
    The picture is moved along axes 0 and 1, the images and the channels. Rows go along axis 2 and
    columns along axis 3.
all_in_one_row: images.roll((down, right), dims=(2, 3)) → images.roll(down).roll(right)
    Without `dims`, torch.roll moves the numbers as if all of them stood in one long row. Tell it
    the axes: dims=(2, 3).
rows_rolled_only: images.roll((down, right), dims=(2, 3)) → images.roll(down, 2)
    The picture moves by `down` only, while the gap at its side is painted. Move it by `right`, too.
columns_rolled_only: images.roll((down, right), dims=(2, 3)) → images.roll(right, 3)
    The picture moves by `right` only, while the gap above or below it is painted. Move it by
    `down`, too.
gap_on_the_wrong_side: moved[:, :, :down] → moved[:, :, -down:]
and: moved[:, :, down:] → moved[:, :, :-down]
and: moved[:, :, :, :right] → moved[:, :, :, -right:]
and: moved[:, :, :, right:] → moved[:, :, :, :-right]
gap_on_the_wrong_side_rows: moved[:, :, :down] → moved[:, :, -down:]
and: moved[:, :, down:] → moved[:, :, :-down]
gap_on_the_wrong_side_columns: moved[:, :, :, :right] → moved[:, :, :, -right:]
and: moved[:, :, :, right:] → moved[:, :, :, :-right]
gap_on_the_wrong_side_positive: moved[:, :, :down] → moved[:, :, -down:]
and: moved[:, :, :, :right] → moved[:, :, :, -right:]
gap_on_the_wrong_side_negative: moved[:, :, down:] → moved[:, :, :-down]
and: moved[:, :, :, right:] → moved[:, :, :, :-right]
    The gap is painted on the wrong side: over the picture, where it has arrived. After a move down
    the gap is at the top, and after a move to the right it is at the left; for negative numbers it
    is the other way round.
all_but_the_gap: moved[:, :, down:] → moved[:, :, :down]
and: moved[:, :, :, right:] → moved[:, :, :, :right]
all_but_the_gap_in_rows: moved[:, :, down:] → moved[:, :, :down]
all_but_the_gap_in_columns: moved[:, :, :, right:] → moved[:, :, :, :right]
    With a negative number n, `[:n]` is everything but the last |n|: you paint the picture, and
    leave the gap. The last |n| are `[n:]`. Positive and negative numbers need a case each.
negative_read_as_positive: moved[:, :, down:] → moved[:, :, -down:]
and: moved[:, :, :, right:] → moved[:, :, :, -right:]
    With a negative number n, `[-n:]` leaves out the first |n| and paints the rest. The gap is the
    last |n|: `[n:]`.
negative_in_a_circle: if down < 0: → if False:
and: if right < 0: → if False:
    With a negative number, what leaves at one side comes in at the other. Paint the gap in that
    case, too: the last rows, or columns.
positive_in_a_circle: if down > 0: → if False:
and: if right > 0: → if False:
    With a positive number, what leaves at one side comes in at the other. Paint the gap in that
    case, too: the first rows, or columns.
rows_in_a_circle: if down > 0: → if False:
and: if down < 0: → if False:
    The rows that leave come in at the other side. Paint that gap, too, not only the columns.
columns_in_a_circle: if right > 0: → if False:
and: if right < 0: → if False:
    The columns that leave come in at the other side. Paint that gap, too, not only the rows.
corner_only: moved[:, :, :down] → moved[:, :, :down, :right]
and: if down > 0: → if True:
and: if down < 0: → if False:
and: if right > 0: → if False:
and: if right < 0: → if False:
    `[:, :, :down, :right]` is only the corner in which the two gaps meet. Paint the rows and the
    columns one after the other, and for negative numbers those at the end.
one_gap_only: if down < 0: → elif down < 0:
and: if right > 0: → elif right > 0:
and: if right < 0: → elif right < 0:
    Where a picture moves in both directions, only one of the two gaps is painted. Both may be
    there: begin again with `if` for the columns, not with `elif`.
zero_paints_everything: if down < 0: → else:
and: if right < 0: → else:
zero_paints_everything_by_rows: if down < 0: → else:
zero_paints_everything_by_columns: if right < 0: → else:
    Where a number is 0, the whole picture is painted over: `[0:]` and `[-0:]` are everything. Ask
    for < 0, and leave 0 alone.
unchanged_if_large: moved = → if abs(down) >= images.shape[2] or abs(right) >= images.shape[3]:
→     return images.clone()
→ moved =
    Where a number is as large as the picture or larger, the images come back as they were. Nothing
    of the picture is left then: all of it has the colour `fill`.
large_in_a_circle: moved = → H, W = images.shape[2:]
→ down = down % H if down > 0 else -(-down % H)
→ right = right % W if right > 0 else -(-right % W)
→ moved =
    Numbers that are too large begin again at 0: a move by H + 1 is taken for one by 1. Nothing of
    the picture is left then.
larger_in_a_circle: moved = → H, W = images.shape[2:]
→ down = down - H if down > H else down + H if down < -H else down
→ right = right - W if right > W else right + W if right < -W else right
→ moved =
larger_in_a_circle_if_positive: moved = → H, W = images.shape[2:]
→ down, right = down - H if down > H else down, right - W if right > W else right
→ moved =
larger_in_a_circle_if_negative: moved = → H, W = images.shape[2:]
→ down, right = down + H if down < -H else down, right + W if right < -W else right
→ moved =
    Where a number is larger than the picture, only a part is painted: H − n falls below 0, and such
    an index counts from the other end. All is gap then: limit the numbers to H and W.
modulo: moved = → down, right = down % images.shape[2], right % images.shape[3]
→ moved =
    The numbers are taken modulo the size, as in a circle: −1 becomes H − 1, and H + 1 becomes 1.
    The pictures move on a line, on which negative and large numbers have places of their own.
large_not_painted: if down > 0: → if 0 < down < images.shape[2]:
and: if down < 0: → if -images.shape[2] < down < 0:
and: if right > 0: → if 0 < right < images.shape[3]:
and: if right < 0: → if -images.shape[3] < right < 0:
    Where a number is as large as the picture or larger, the gap is not painted. All of it is gap
    then.
one_row_stays: moved = → H, W = images.shape[2:]
→ down, right = max(1 - H, min(down, H - 1)), max(1 - W, min(right, W - 1))
→ moved =
    A large number is reduced to H − 1 or W − 1, so that one row or column stays in the frame. With
    H or W, nothing is left of the picture.
large_refused: moved = → if abs(down) >= images.shape[2] or abs(right) >= images.shape[3]:
→     raise ValueError("the shift is larger than the picture")
→ moved =
large_refused_by_assert: moved = →
→ assert abs(down) < images.shape[2] and abs(right) < images.shape[3]
→ moved =
    You refuse numbers that are as large as the picture or larger. They are allowed: only the fill
    is left then.
gap_too_wide: moved[:, :, :down] → moved[:, :, :down + 1]
and: moved[:, :, down:] → moved[:, :, down - 1:]
and: moved[:, :, :, :right] → moved[:, :, :, :right + 1]
and: moved[:, :, :, right:] → moved[:, :, :, right - 1:]
    The gap is one row or column too wide. `[:n]` is the first n, and `[-n:]` the last n.
gap_too_narrow_if_negative: moved[:, :, down:] →
→ moved[:, :, max(0, images.shape[2] + down + 1):]
and: moved[:, :, :, right:] → moved[:, :, :, max(0, images.shape[3] + right + 1):]
    For a negative number n, the gap is one row or column too narrow. It begins at H + n itself:
    >= for >.
gap_too_narrow: moved[:, :, :down] → moved[:, :, :down - 1]
and: moved[:, :, down:] → moved[:, :, down + 1:]
and: moved[:, :, :, :right] → moved[:, :, :, :right - 1]
and: moved[:, :, :, right:] → moved[:, :, :, right + 1:]
    The gap is one row or column too narrow. `[:n]` is the first n, and `[-n:]` the last n.
black: fill.view(-1, 1, 1) → 0
    The gap is filled with 0. In normalised images that is not black, but grey: take the colour
    `fill`.
white: fill.view(-1, 1, 1) → 1
    The gap is filled with 1. Take the colour `fill`.
first_colour: fill.view(-1, 1, 1) → fill[0]
    All channels get the first number of `fill`. Channel c gets fill[c]: fill.view(-1, 1, 1) has the
    channels where (B, C, H, W) has them.
mean_colour: fill.view(-1, 1, 1) → fill.mean()
    All channels get the mean of `fill`. Channel c gets fill[c]: fill.view(-1, 1, 1) has the
    channels where (B, C, H, W) has them.
along_the_columns: fill.view(-1, 1, 1) → fill
    PyTorch matches axes from the last: `fill` of shape (C,) is laid along the columns. Give it two
    more axes, (C, 1, 1): fill.view(-1, 1, 1).
along_the_rows: fill.view(-1, 1, 1) → fill[:, None]
    PyTorch matches axes from the last: `fill` of shape (C, 1) is laid along the rows. It needs two
    axes behind it, (C, 1, 1): fill.view(-1, 1, 1).
a_colour_for_each_image: fill.view(-1, 1, 1) → fill.view(-1, 1, 1, 1)
    `fill` of shape (C, 1, 1, 1) is laid along the images. One axis less, (C, 1, 1), lays it along
    the channels.
channels_backwards: fill.view(-1, 1, 1) → fill.flip(0).view(-1, 1, 1)
    The numbers of `fill` are taken from the last to the first. Channel c gets fill[c].
added: moved[:, :, :down] = → moved[:, :, :down] +=
and: moved[:, :, down:] = → moved[:, :, down:] +=
and: moved[:, :, :, :right] = → moved[:, :, :, :right] +=
and: moved[:, :, :, right:] = → moved[:, :, :, right:] +=
    The colour is added to what stands in the gap. Put it in its place.
always_float32: return moved → return moved.float()
    The result is in float32, whatever the images are. Return images of the same dtype:
    torch.empty_like(images) has it.
one_image: return moved → return moved[:1]
    Only the first image comes back. Return all of them, (B, C, H, W).
returns_too_early: return moved → return torch.cat([moved[:1], images[1:]])
    Only the first image has moved, and the others come back as they were. (A `return` inside of a
    loop ends it in its first round.)
as_array: return moved → return moved.numpy()
    An array of NumPy came back. Return a tensor (B, C, H, W).
nothing_returned: return moved → moved
    The images are moved and not returned. The last line needs `return`.
""") | edits(by_window, """
no_place_for_large: if top < bottom and left < end: → if True:
no_place_for_large_positive: min(H, H + down) → max(0, min(H, H + down))
and: min(W, W + right) → max(0, min(W, W + right))
and: if top < bottom and left < end: → if True:
    Numbers that are larger than the picture end in an error: the end of a slice falls below 0 and
    counts from the other side. Ask first whether anything of the picture is left.
dtype_of_the_fill: fill.to(images.dtype) → fill
    The result has the dtype of `fill`. Return images of the dtype that they had:
    torch.empty_like(images) has it, and fill.to(images.dtype).
gap_keeps_the_picture: moved = fill.to(images.dtype).view(1, C, 1, 1).repeat(B, 1, H, W) →
→ moved = images.clone()
    The gap shows what was there before: you begin with a copy of the images, and never paint it.
    Begin with a frame full of `fill`.
window_read_on_the_wrong_side: top - down : bottom - down, left - right : end - right →
→ top + down : bottom + down, left + right : end + right
    The window in the images is on the wrong side of that in the result. Row i of the result is row
    i − down of the images.
end_not_cut: min(H, H + down) → H
and: min(W, W + right) → W
    With a negative number, the window in the result is larger than what is left of the picture. It
    ends at H + down then, and at W + right.
slices_for_positive_only: if top < bottom and left < end: → if True:
and: top - down : bottom - down, left - right : end - right → : H - down, : W - right
and: top:bottom, left:end → down:, right:
slices_for_positive_only_by_minus: if top < bottom and left < end: → if True:
and: top - down : bottom - down, left - right : end - right → :-down, :-right
and: top:bottom, left:end → down:, right:
    The slices fit positive numbers only. With 0, `[:-0]` is empty; with a negative number, `[n:]`
    and `[:H - n]` are not of the same length. Begin at max(0, down), end at min(H, H + down).
two_cases_of_four: if top < bottom and left < end: → if down < 0 or right < 0:
→     moved[:, :, :down, :right] = images[:, :, -down:, -right:]
→ elif top < bottom and left < end:
    Both numbers are taken for negative where one of them is. Each has its own sign: settle the rows
    and the columns apart from each other.
canvas_too_small: return moved →
→ big = fill.to(images.dtype).view(1, C, 1, 1).repeat(B, 1, 3 * H, 3 * W)
→ big[:, :, H : 2 * H, W : 2 * W] = images
→ return big[:, :, H - down : 2 * H - down, W - right : 2 * W - right]
    The window that you cut out reaches beyond the large frame where a number is larger than the
    picture. Limit the numbers to H and W first.
sizes_exchanged: B, C, H, W = → B, C, W, H =
    Height and width of the result are exchanged. The shape is (B, C, H, W): height before width.
sizes_channels_last: B, C, H, W = → B, H, W, C =
    You read the shape as (B, H, W, C). In PyTorch the channels come second: (B, C, H, W).
""") | edits(by_steps, """
columns_from_the_original: rows[..., :-right] → images[..., :-right]
and: rows[..., -right:] → images[..., -right:]
    Where a picture moves in both directions, the move down is lost: the columns are taken from
    `images` again. Take them from what has already moved down.
one_direction_at_a_time: if right > 0: → if down == 0 and right > 0:
and: elif right < 0: → elif down == 0 and right < 0:
    A picture moves in one direction only, where it should move in both. Do one step after the
    other: the second begins with what the first has made.
gap_keeps_rows_and_columns: rows[:, :, :down] = colour → pass
and: rows[:, :, down:] = colour → pass
and: moved[..., :right] = colour → pass
and: moved[..., right:] = colour → pass
    The picture moves, and the gap shows what was there before. Paint it with `fill`.
reads_what_is_overwritten: rows[:, :, down:] = images[:, :, :-down] →
→ for i in range(down, rows.shape[2]):
→     rows[:, :, i] = rows[:, :, i - down]
reads_what_is_overwritten_both_ways: rows[:, :, down:] = images[:, :, :-down] →
→ for i in range(down, rows.shape[2]):
→     rows[:, :, i] = rows[:, :, i - down]
and: moved[..., right:] = rows[..., :-right] →
→ for i in range(right, rows.shape[3]):
→     moved[..., i] = moved[..., i - right]
    You read from the tensor into which you write: the first rows come again and again. Read from
    the images as they were.
minus_zero: if down > 0: → if down >= 0:
and: if right > 0: → if right >= 0:
    With 0, `[:-0]` is the same as `[:0]`, which is empty. Ask for > 0, or write `[:H - down]`.
negative_end_for_start: images[:, :, -down:] → images[:, :, down:]
and: rows[..., -right:] → rows[..., right:]
    With a negative number n, `[n:]` are the last |n| rows, which is as many as leave. What stays is
    all but the first |n|: `[-n:]`, or `[abs(n):]`.
""") | edits(by_pad, """
no_limit_for_pad: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
    F.pad cannot cut off more than there is: numbers that are larger than the picture end in an
    error. Limit them to H and W first.
no_limit_for_pad_nor_dtype: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: images[:, c] → images[:, c].to(fill.dtype)
    F.pad cannot cut off more than there is: limit the numbers to H and W first. And where `fill`
    has another dtype, the result has that one: it should have the dtype of the images.
zero_is_gap: return torch.stack(parts, dim=1) → moved = F.pad(images, margins)
→ return torch.where(moved == 0, fill.to(images.dtype).view(-1, 1, 1), moved)
zero_is_gap_without_limit: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: return torch.stack(parts, dim=1) → moved = F.pad(images, margins)
→ return torch.where(moved == 0, fill.to(images.dtype).view(-1, 1, 1), moved)
zero_is_gap_without_limit_nor_dtype: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: return torch.stack(parts, dim=1) → moved = F.pad(images, margins)
→ return torch.where(moved == 0, fill.view(-1, 1, 1), moved)
    You take for gap whatever is 0. A picture can have zeros, too, and these are painted over. (Look
    at numbers that are larger than the picture, and at the dtype of the result, too.)
black_by_pad: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: value=fill[c].item() → value=0.0
    The gap is filled with 0, and the colour is `fill`, one number per channel: pad each channel by
    itself, with value=fill[c].item(). And F.pad cannot cut off more than there is: limit the
    numbers to H and W.
first_margins_are_rows: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: (right, -right, down, -down) → (down, -down, right, -right)
    Height and width are exchanged: F.pad takes the *last* axis first, (left, right, top, bottom).
    It cannot cut off more than there is, either: limit the numbers to H and W.
a_tensor_for_value: parts.append(F.pad(images[:, c], margins, value=fill[c].item())) →
→ return F.pad(images, margins, value=fill)
    F.pad takes one number as `value`, for all channels. Pad each channel by itself, or paint the
    gap afterwards.
frame_grows: (right, -right, down, -down) →
→ (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    The frame grows by the gap. What leaves it is gone: cut the result to the height and width that
    the images had. (F.pad cuts where a margin is negative.)
frame_grows_or_shrinks: (right, -right, down, -down) → (right, 0, down, 0)
    The frame grows by the gap, or shrinks where the number is negative. Its size stays: what F.pad
    adds on one side, −n takes away on the other.
""") | edits(by_cat, """
joined_in_the_wrong_order: [rows, images[:, :, : H - down]] → [images[:, :, : H - down], rows]
and: [images[:, :, -down:], rows] → [rows, images[:, :, -down:]]
and: [columns, images[:, :, :, : W - right]] → [images[:, :, :, : W - right], columns]
and: [images[:, :, :, -right:], columns] → [columns, images[:, :, :, -right:]]
    The gap is joined to the wrong end, and what is left of the picture stays in place. After a move
    down the gap comes first, then the picture.
cat_without_limit: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: : H - down → :-down
and: : W - right → :-right
cat_without_limit_but_h: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
    Where a number is larger than the picture, the result is too large, because the gap is larger
    than the frame. Limit the numbers to H and W first.
cat_without_limit_nor_dtype: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: : H - down → :-down
and: : W - right → :-right
and: fill.to(images.dtype) → fill
    Where a number is larger than the picture, so is the gap, and the result is too large: limit the
    numbers to H and W first. And torch.cat gives the result the dtype of `fill` where that is the
    wider one: take fill.to(images.dtype).
cat_for_positive_only: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: abs(down), W) → down, W)
and: abs(right)) → right)
and: if down > 0: → if True:
and: if right > 0: → if True:
    A gap of −2 rows cannot be made: a negative number needs a case of its own, in which the gap
    comes behind the picture and has abs(down) rows.
cat_for_positive_only_nor_dtype: down, right = max(-H, min(down, H)), max(-W, min(right, W)) →
and: abs(down), W) → down, W)
and: abs(right)) → right)
and: if down > 0: → if True:
and: if right > 0: → if True:
and: fill.to(images.dtype) → fill
    A gap of −2 rows cannot be made: a negative number needs a case of its own, in which the gap
    comes behind the picture. Besides, torch.cat gives the result the dtype of `fill` where that is
    the wider one: take fill.to(images.dtype).
""") | edits(by_where, """
edge_repeated: torch.where(inside_rows & inside_columns, moved, colour) → moved
    The gap repeats the edge of the picture. Give it the colour `fill`.
either_is_enough: inside_rows & inside_columns → inside_rows | inside_columns
    The gap is only painted where both the row and the column come from outside of the picture. One
    of the two is enough: a pixel is picture where row *and* column lie inside.
lower_bound_only: (y >= 0) & (y < H), (x >= 0) & (x < W) → y >= 0, x >= 0
    A negative number leaves the gap without the fill: you ask only whether the place in the images
    is at least 0. It has to be below H, or W, too.
upper_bound_only: (y >= 0) & (y < H), (x >= 0) & (x < W) → y < H, x < W
    A positive number leaves the gap without the fill: you ask only whether the place in the images
    is below H, or W. It has to be at least 0, too.
""") | edits(by_pixel, """
index_below_zero: 0 <= y < H and 0 <= x < W → y < H and x < W
    Python counts a negative index from the end, and so what leaves at the bottom comes in at the
    top. Ask for 0 <= y, too, and the same of x.
written_below_zero: moved = torch.empty_like(images) → moved = torch.empty_like(images)
→ moved[:] = fill.view(-1, 1, 1)
and: i - down, j - right → i + down, j + right
and: 0 <= y < H and 0 <= x < W → y < H and x < W
and: moved[:, :, i, j] = images[:, :, y, x] → moved[:, :, y, x] = images[:, :, i, j]
and: moved[:, :, i, j] = fill → pass
    Python counts a negative index from the end, and so what leaves at the top comes in at the
    bottom. Ask for 0 <= y, too, and the same of x.
written_below_zero_in_the_dtype_of_the_fill: moved = torch.empty_like(images) →
→ moved = torch.empty_like(images, dtype=fill.dtype)
→ moved[:] = fill.view(-1, 1, 1)
and: i - down, j - right → i + down, j + right
and: 0 <= y < H and 0 <= x < W → y < H and x < W
and: moved[:, :, i, j] = images[:, :, y, x] → moved[:, :, y, x] = images[:, :, i, j]
and: moved[:, :, i, j] = fill → pass
    Python counts a negative index from the end, and so what leaves at the top comes in at the
    bottom: ask for 0 <= y, too, and the same of x. Besides, the result has the dtype of `fill`:
    take fill.to(images.dtype).
index_too_large: 0 <= y < H and 0 <= x < W → 0 <= y and 0 <= x
    A pixel is asked for that lies beyond the edge. Ask for y < H, too, and the same of x.
index_unchecked: if 0 <= y < H and 0 <= x < W: → if True:
    Nothing asks whether the place from which you take a pixel lies in the picture: 0 <= y < H and
    0 <= x < W. Where it does not, the colour is `fill`.
square_by_height: H, W = images.shape[-2:] → H = W = images.shape[2]
and: moved = torch.empty_like(images) → moved = torch.empty_like(images)
→ moved[:] = fill.view(-1, 1, 1)
square_by_height_painted_before: H, W = images.shape[-2:] → H = W = images.shape[2]
and: moved = torch.empty_like(images) → moved = torch.empty_like(images)
→ moved[:] = fill.view(-1, 1, 1)
and: moved[:, :, i, j] = fill → pass
    The pictures are taken for square, with as many columns as rows. The width is a number of its
    own: images.shape[3].
first_row_lost: 0 <= y < H and 0 <= x < W → 0 < y < H and 0 < x < W
    Row 0 and column 0 of the picture are lost. Indices begin with 0: ask for 0 <= y.
last_row_lost: 0 <= y < H and 0 <= x < W → 0 <= y < H - 1 and 0 <= x < W - 1
    The last row and column of the picture are lost. The last index is H − 1: ask for y < H.
""")  # fmt: skip


def probe(answer):
    runs = []
    moves = [(0, 0), (1, 0), (-1, 2), (2, -1), (0, -3), (3, 4), (-4, 1), (1, -9), (-8, -7)]
    for seed, (down, right) in enumerate(moves):
        images, fill = draw(3, 2, 4, 7, seed=seed), draw(2, seed=seed + 20)
        runs += [returns(answer, images, down, right, fill)]
        runs += [changes(answer, images, down, right, fill)]
    given = draw(2, 4, 6, 3, dtype=torch.float32), 1, -2, draw(4)
    square = draw(4, 4, 4, 4), 2, 1, draw(4, seed=8)
    return [*runs, returns(answer, *given), returns(answer, *square)]


EXERCISE = Exercise(
    name="shift_images",
    chapter="09_inductive_bias",
    task="shift_images(images, down, right, fill) -> new images of the same shape and dtype, moved "
    "by `down` rows and `right` columns, up or left for negative numbers; the gap has the colour "
    "`fill` (C,)",
    reference=shift_images,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_window, by_steps, by_pad, by_cat, by_where, by_pixel],
    probe=probe,
)
