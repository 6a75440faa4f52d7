"""1.1 count_patches: one that does not divide must be refused."""

from functools import partial
from math import prod

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call
from vitlib.patch import grid_of


def count_patches(height, width, patch_size):
    if height % patch_size or width % patch_size:
        raise ValueError(f"{height}×{width} pixels cannot be cut into patches of {patch_size}")
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
            missing = ", ".join(str(size) for size in sizes if str(size) not in str(error))
            if not missing:
                return "refused"
            reason = f"the message of your ValueError does not name {missing}"
            raise Refused(f"{reason}. It says “{error}”", reason) from None
        raise Refused(f"no ValueError was raised, and {result!r} came back")

    yield "28 × 28 pixels, P = 7", lambda: call(answer, 28, 28, 7)
    yield "32 × 48 pixels, P = 8", lambda: call(answer, 32, 48, 8)
    yield "5 × 3 pixels, P = 1", lambda: call(answer, 5, 3, 1)
    yield "30 × 32 pixels, P = 8, to be refused", lambda: refusal(30, 32, 8)
    yield "32 × 30 pixels, P = 8, to be refused", lambda: refusal(32, 30, 8)
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
checks_the_height_only: or width % patch_size →
    Only the height is checked. A width that the patch does not divide gets through, and its last
    columns of pixels are dropped.
checks_the_width_only: height % patch_size or →
    Only the width is checked. A height that the patch does not divide gets through, and its last
    rows of pixels are dropped.
and_for_or: patch_size or → patch_size and
    An image is refused only if *both* its sides are wrong. One side that the patch does not divide
    is enough: `or`, not `and`.
asserts: if height % patch_size or width % patch_size: → for side in (height, width):
and: raise ValueError(f"{height}×{width} pixels cannot be cut into patches of {patch_size}") →
→ assert side % patch_size == 0, f"{side} is no multiple of {patch_size}"
    The right images are refused, but by an `assert`: it raises an AssertionError, and `python -O`
    leaves it out. Say `if ...: raise ValueError(...)`.
names_the_product: {height}×{width} → {height * width}
    The message names the product of height and width, which helps nobody to find what is wrong.
    Name the height, the width and the patch size.
takes_it_to_be_square: * (width // patch_size) → ** 2
    The rows of patches are squared. That is right for a square image only: there are H/P rows and
    W/P columns.
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
