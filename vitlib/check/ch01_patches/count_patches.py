"""1.1 count_patches: one that does not divide must be refused."""

import re
from functools import partial
from math import prod

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call
from vitlib.patch import grid_of


def count_patches(height, width, patch_size):
    if height % patch_size or width % patch_size:
        raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}")
    return (height // patch_size) * (width // patch_size)


def by_loop(height, width, patch_size):
    corners = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]
    if len(corners) * patch_size**2 != height * width:
        raise ValueError(f"height {height} or width {width} is no multiple of {patch_size}")
    return len(corners)


def cases(answer) -> Cases:
    def refusal(*sizes):
        try:
            result = call(answer, *sizes)
        except ValueError as error:
            named = [int(number) for number in re.findall(r"\d+", str(error))]
            missing = ", ".join(str(size) for size in sizes if size not in named)
            if not missing:
                return "refused"
            reason = f"the message of your ValueError does not name {missing}"
            sides = sizes[:2]
            product = prod(sides) in named and not {*sides} & {*named}
            raise Refused(
                f"{reason}. It says “{error}”", reason + ", but their product" * product
            ) from None
        except RuntimeError as error:
            raise Refused(f"a RuntimeError was raised: {error}", "RuntimeError") from None
        text = f"no ValueError was raised, and {result!r} came back"
        words = isinstance(result, str | BaseException)  # which ones, does not matter
        raise Refused(text, type(result).__name__ if words else text)

    yield "28 × 28 pixels, P = 7", lambda: call(answer, 28, 28, 7)
    yield "32 × 48 pixels, P = 8", lambda: call(answer, 32, 48, 8)
    yield "5 × 3 pixels, P = 1", lambda: call(answer, 5, 3, 1)
    yield "30 × 32 pixels, P = 8, to be refused", lambda: refusal(30, 32, 8)
    yield "32 × 30 pixels, P = 8, to be refused", lambda: refusal(32, 30, 8)
    yield "30 × 30 pixels, P = 8, to be refused", lambda: refusal(30, 30, 8)
    # P divides the sum of the sides
    yield "30 × 34 pixels, P = 8, to be refused", lambda: refusal(30, 34, 8)
    yield "16 × 30 pixels, P = 8, to be refused", lambda: refusal(16, 30, 8)
    # P divides the number of pixels
    yield "12 × 10 pixels, P = 8, to be refused", lambda: refusal(12, 10, 8)
    # P² divides the number of pixels, and P does not divide the sides
    yield "12 × 27 pixels, P = 18, to be refused", lambda: refusal(12, 27, 18)


MUTANTS = edits(count_patches, """
drops_the_rest: height % patch_size or width % patch_size → False
    A size that the patch does not divide is accepted, and the pixels that are left over are
    dropped: no model will ever see them. Raise a ValueError instead.
pads_the_rest: height % patch_size or width % patch_size → False
and: (height // patch_size) * (width // patch_size) →
→ -(-height // patch_size) * -(-width // patch_size)
    A size that the patch does not divide is rounded up, so that patches are counted which reach
    beyond the image. Raise a ValueError instead.
checks_the_area: height % patch_size or width % patch_size → height * width % patch_size**2
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    You check that P² divides the number of pixels. That is not enough: 12 × 27 pixels are as many
    as one patch of 18 × 18, which does not fit. Check both sides.
checks_the_sum: height % patch_size or width % patch_size → (height + width) % patch_size
    You check the sum of the two sides, and what one has too much may be what the other lacks: 30 +
    34 is a multiple of 8, and neither side is. Check both sides.
checks_that_it_is_not_larger: height % patch_size or width % patch_size →
→ patch_size > height or patch_size > width
    Only a patch that is larger than the image is refused. One that leaves a rest of pixels is to be
    refused, too: look at the remainder, height % patch_size.
divides_the_area: height % patch_size or width % patch_size → False
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    The number of pixels is divided by P², and nothing is refused. The pixels of a row that is cut
    off do not make up for another patch: check that P divides both sides, and raise a ValueError if
    it does not.
divides_the_area_into_fractions: height % patch_size or width % patch_size → False
and: (height // patch_size) * (width // patch_size) → height * width / patch_size**2
    The number of pixels is divided by P², nothing is refused, and a fraction may come out. Check
    that P divides both sides, raise a ValueError if it does not, and divide with //.
checks_the_area_and_divides_the_sides: height % patch_size or width % patch_size →
→ height * width % patch_size**2
    You check that P² divides the number of pixels. That is not enough: 12 × 27 pixels are as many
    as one patch of 18 × 18, which does not fit. Check both sides.
checks_the_area_by_the_side: height % patch_size or width % patch_size →
→ height * width % patch_size
    You check that P divides the number of pixels. That is so if it divides *one* of the sides, and
    it must divide both: check each.
checks_the_area_by_the_side_and_divides: height % patch_size or width % patch_size →
→ height * width % patch_size
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    You check that P divides the number of pixels. That is so if it divides *one* of the sides, and
    it must divide both: check each.
checks_by_the_square: height % patch_size or width % patch_size →
→ height % patch_size**2 or width % patch_size**2
    Sides are refused that P divides and P² does not. A side of P pixels is one patch long: compare
    with P.
the_wrong_way_round: if height % patch_size or width % patch_size →
→ if not (height % patch_size or width % patch_size)
    It is the wrong way round: what fits is refused, and what does not fit is accepted. The
    remainder, height % patch_size, is 0 where the patch fits.
refuses_where_one_side_fits: if height % patch_size or width % patch_size →
→ if not (height % patch_size and width % patch_size)
    An image is refused if *one* of its sides fits. The remainder, height % patch_size, is 0 where
    the patch fits: raise the error where one of them is *not* 0.
always_refuses: height % patch_size or width % patch_size → True
    Every one of the images is refused, also those that fit. A patch fits if height % patch_size is
    0, in this order, and width % patch_size, too.
checks_the_height_only: or width % patch_size →
checks_the_height_only_with_the_area: or width % patch_size →
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    Only the height is checked. A width that the patch does not divide gets through, and its last
    columns of pixels are dropped.
checks_the_width_only: height % patch_size or →
checks_the_width_only_with_the_area: height % patch_size or →
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    Only the width is checked. A height that the patch does not divide gets through, and its last
    rows of pixels are dropped.
and_for_or: patch_size or → patch_size and
and_for_or_with_the_area: patch_size or → patch_size and
and: (height // patch_size) * (width // patch_size) → height * width // patch_size**2
    An image is refused only if *both* its sides are wrong. One side that the patch does not divide
    is enough: `or`, not `and`.
checks_the_longer_side_only: height % patch_size or width % patch_size →
→ max(height, width) % patch_size
    Only the longer side is checked. The patch must divide both.
checks_the_shorter_side_only: height % patch_size or width % patch_size →
→ min(height, width) % patch_size
    Only the shorter side is checked. The patch must divide both.
refuses_what_is_not_square: height % patch_size or width % patch_size → height != width
    Images that are not square are refused, and a square one whose sides the patch does not divide
    is not. An image may be wide: check that the patch divides each side.
rounds: height % patch_size or width % patch_size → False
and: (height // patch_size) * (width // patch_size) →
→ round(height / patch_size) * round(width / patch_size)
    A size that the patch does not divide is rounded, up or down, and nothing is refused. Raise a
    ValueError instead.
names_the_product_and_the_square: {height}×{width} pixels, no multiples of {patch_size} →
→ {height * width} pixels, no multiple of {patch_size**2}
    The message names the product of height and width, and the square of the patch size, which helps
    nobody to find what is wrong. Name height, width and patch size.
asserts: if height % patch_size or width % patch_size: → for side in (height, width):
and: raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}") →
→ assert side % patch_size == 0, f"{side} is no multiple of {patch_size}"
    The right images are refused, but by an `assert`: it raises an AssertionError, and `python -O`
    leaves it out. Say `if ...: raise ValueError(...)`.
names_the_product: {height}×{width} → {height * width}
    The message names the product of height and width, which helps nobody to find what is wrong.
    Name the height, the width and the patch size.
takes_it_to_be_square: * (width // patch_size) → ** 2
    The rows of patches are squared. That is right for a square image only: there are H/P rows and
    W/P columns.
error_returned: raise ValueError → return ValueError
    The error is returned, and whoever called takes it for a number. Errors are raised: raise
    ValueError(...).
message_returned: raise ValueError( → return str(
    The message is returned, and whoever called takes it for a number. Raise it: raise
    ValueError(message).
nothing_for_an_error: raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}") →
→ return None
    Where the patch does not fit, None comes back, and the error will show up somewhere else. Raise
    a ValueError there.
zero_for_an_error: raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}") →
→ return 0
    Where the patch does not fit, 0 comes back, and nobody hears what is wrong. Raise a ValueError
    there.
minus_one_for_an_error: raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}") →
→ return -1
    Where the patch does not fit, −1 comes back, and nobody hears what is wrong. Raise a ValueError
    there.
false_for_an_error: raise ValueError(f"{height}×{width} pixels, no multiples of {patch_size}") →
→ return False
    Where the patch does not fit, False comes back, and nobody hears what is wrong. Raise a
    ValueError there.
type_error: raise ValueError → raise TypeError
    What is raised is a TypeError. That is for values of a wrong *type*; numbers that do not fit are
    wrong *values*: raise ValueError(...).
runtime_error: raise ValueError → raise RuntimeError
    The right images are refused, but by a RuntimeError. A caller that waits for a ValueError does
    not catch it: raise ValueError(...).
any_exception: raise ValueError → raise Exception
    The right images are refused, but by a plain Exception. A caller that waits for a ValueError
    does not catch it: raise ValueError(...).
names_nothing: {height}×{width} pixels, no multiples of {patch_size} →
    The ValueError does not say which numbers it is about. Name all three, height, width and patch
    size: f"... {height} ...", with an f before the quotes.
names_no_patch_size: of {patch_size} →
    The message names the two sides, and not the patch size, so that nobody sees what does not fit.
    Name all three numbers.
names_the_patch_size_only: {height}×{width} →
    The message names the patch size, and neither height nor width. Name all three numbers.
names_no_width: ×{width} →
    The message names no width. Name all three numbers: height, width and patch size.
names_no_height: {height}× →
    The message names no height. Name all three numbers: height, width and patch size.
names_the_height_only: ×{width} pixels, no multiples of {patch_size} →
    The message names the height alone. Name all three numbers: height, width and patch size.
names_the_width_only: {height}×{width} pixels, no multiples of {patch_size} → {width}
    The message names the width alone. Name all three numbers: height, width and patch size.
names_the_wrong_side: {height}×{width} → {height if height % patch_size else width}
    The message names only the side that does not fit. The task asks for all three numbers: height,
    width and patch size.
names_the_wrong_side_and_no_patch: {height}×{width} pixels, no multiples of {patch_size} →
→ {height if height % patch_size else width}
    The message names only the side that does not fit. The task asks for all three numbers: height,
    width and patch size.
a_fraction: (height // patch_size) * (width // patch_size) →
→ (height / patch_size) * (width / patch_size)
    The number of patches comes back as a float, as `/` always makes one. It is a count: divide with
    //.
added: (height // patch_size) * (width → (height // patch_size) + (width
    The rows and the columns of patches are added. Each row has as many patches as there are
    columns: multiply.
area_by_the_side: (height // patch_size) * (width // patch_size) → height * width // patch_size
    The number of pixels is divided by P, and a patch has P² of them: divide each side by P.
pixels: (height // patch_size) * (width // patch_size) → height * width
    This is the number of pixels. A patch has P² of them: divide each side by P.
rows_only: * (width // patch_size) →
    This is the number of rows of patches. Multiply it by the number of columns, width //
    patch_size.
columns_only: return (height // patch_size) * (width → return (width
    This is the number of columns of patches. Multiply it by the number of rows, height //
    patch_size.
counts_the_class_token: return (height // patch_size) * (width // patch_size) →
→ return (height // patch_size) * (width // patch_size) + 1
    One too many: a class token, say, is a token and no patch. Return rows times columns.
rows_and_columns: (height // patch_size) * (width → (height // patch_size), (width
    Rows and columns come back as a pair. How many patches are these? Multiply them.
one_less_each: (height // patch_size) * (width // patch_size) →
→ ((height - patch_size) // patch_size) * ((width - patch_size) // patch_size)
    There is one row and one column of patches more than this: height // patch_size of them, from
    the first to the last.
one_more_each: (height // patch_size) * (width // patch_size) →
→ (height // patch_size + 1) * (width // patch_size + 1)
    A row and a column too many are counted. Where the patch fits, there are exactly height //
    patch_size rows.
every_place: (height // patch_size) * (width // patch_size) →
→ (height - patch_size + 1) * (width - patch_size + 1)
    This is how many places a window can take that moves on by one pixel. Patches do not overlap:
    divide each side by P.
width_squared: (height // patch_size) * (width // patch_size) → (width // patch_size) ** 2
    The columns of patches are squared. That is right for a square image only: there are H/P rows
    and W/P columns.
nothing_returned: return (height → (height
    Nothing comes back: the `return` before the number is missing.
""")  # fmt: skip


def probe(answer):
    def refusal(*sizes):
        try:
            return answer(*sizes)
        except ValueError as error:
            return [str(size) in str(error) for size in sizes]

    sizes = [(35, 14, 7), (6, 6, 6), (64, 16, 4), (5, 3, 1), (33, 32, 8), (32, 33, 8), (9, 16, 12),
             (16, 9, 12), (7, 14, 14), (14, 7, 14), (25, 36, 10), (2, 50, 10)]  # fmt: skip
    return [partial(refusal, *size) for size in sizes]


EXERCISE = Exercise(
    name="count_patches",
    chapter="01_patches",
    task="count_patches(height, width, patch_size) -> the number of patches, a whole number; "
    "a ValueError that names all three numbers if the patch does not divide both sides",
    reference=count_patches,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_loop, lambda height, width, P: prod(grid_of((height, width), P))],
    probe=probe,
)
