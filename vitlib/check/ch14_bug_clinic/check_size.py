"""14.8 check_size: a message with two products."""

import re

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call


def check_size(images, img_size):
    H, W = images.shape[-2:]
    if img_size != (H, W):
        raise ValueError(
            f"Input image size ({H}×{W}) doesn't match model ({img_size[0]}×{img_size[1]})"
        )


def in_words(images, img_size):
    names = "height", "width"
    for name, found, wanted in zip(names, images.shape[-2:], img_size, strict=True):
        if found != wanted:
            shape, expected = tuple(images.shape), " by ".join(map(str, img_size))
            raise ValueError(f"expected {expected} pixels, got images {shape}: the {name} differs")


def as_pairs(images, img_size):
    size = tuple(images.shape[2:])
    if size != tuple(img_size):
        raise ValueError(f"Input image size {size} doesn't match model {img_size}")


def spelled_out(images, img_size):
    *_, H, W = images.shape
    if img_size[0] == H and img_size[1] == W:
        return
    raise ValueError(
        f"The images are {H} pixels high and {W} wide, and the model takes {img_size[0]} and "
        f"{img_size[1]}: resize them."
    )


def cases(answer) -> Cases:
    def message(H, W, size):
        """Which of the four numbers that someone needs are in the message."""
        try:
            returned = call(answer, torch.zeros(2, 3, H, W), size)
        except ValueError as error:
            found = set(map(int, re.findall(r"\d+", str(error))))
        else:
            if size != (H, W):
                raise Refused("no error is raised, and a ValueError should be", f"{returned}")
            return returned
        names = ["the images' height", "their width", "the model's height", "the model's width"]
        said = {n: number in found for n, number in zip(names, (H, W, *size), strict=True)}
        product = bool({H * W, size[0] * size[1]} & found)
        return said | {"a product in their place": product and not all(said.values())}

    yield "images of 32 × 8 for a model of 16 × 17", lambda: message(32, 8, (16, 17))
    yield "images of 32 × 8 for a model of 16 × 16", lambda: message(32, 8, (16, 16))
    yield "images of 12 × 20 for a model of 20 × 12", lambda: message(12, 20, (20, 12))
    yield "images of 24 × 18 for a model of 24 × 30", lambda: message(24, 18, (24, 30))
    yield "images of 18 × 24 for a model of 30 × 24", lambda: message(18, 24, (30, 24))
    yield "images of 24 × 36 for a model of 24 × 30", lambda: message(24, 36, (24, 30))
    yield "images of 36 × 24 for a model of 30 × 24", lambda: message(36, 24, (30, 24))
    yield "images of 24 × 18 for a model of 24 × 18", lambda: message(24, 18, (24, 18))


TEXT = "({H}×{W}) doesn't match model ({img_size[0]}×{img_size[1]})"
MUTANTS = edits(check_size, f"""
unchanged: {TEXT} → ({{H*W}}) doesn't match model ({{img_size[0]*img_size[1]}})
    The symptom is still there: whoever reads the message cannot tell what was wrong with the
    images. Read it as somebody who does not have your code open.
model_only: ({{H}}×{{W}}) → ({{H*W}})
    The model's height and width can be read now. The images' size is still one number, a product.
images_only: ({{img_size[0]}}×{{img_size[1]}}) → ({{img_size[0]*img_size[1]}})
    The images' height and width can be read now. The model's size is still one number, a product.
height_twice: ({{H}}×{{W}}) → ({{H}}×{{H}})
    You print the height of the images twice, and not their width.
height_of_the_model_twice: {{img_size[1]}} → {{img_size[0]}}
    You print the model's height twice, and not its width.
no_numbers: {TEXT} → doesn't match the model
    No number is left. The message should say what came and what was expected.
images_alone: {TEXT} → ({{H}}×{{W}}) is wrong
    The message says what came, and not what the model takes.
products_compared: img_size != (H, W) → H * W != img_size[0] * img_size[1]
    Products are compared now, too: 32 × 8 goes through where 16 × 16 is meant.
returned: raise ValueError( → return (
    The message is right, and it is returned: nobody looks at it, and images of the wrong size go
    through. Raise it.
and_for_or: img_size != (H, W) → img_size[0] != H and img_size[1] != W
    Images are refused only where both sides differ. One side that differs is enough: `or`, not
    `and`.
height_only: img_size != (H, W) → img_size[0] != H
    Only the heights are compared. Compare the widths, too.
width_only: img_size != (H, W) → img_size[1] != W
    Only the widths are compared. Compare the heights, too.
larger_only: img_size != (H, W) → H > img_size[0] or W > img_size[1]
    Only larger images are refused. Smaller ones do not fit either.
smaller_only: img_size != (H, W) → H < img_size[0] or W < img_size[1]
    Only smaller images are refused. Larger ones do not fit either.
never_equal: img_size != (H, W) → img_size != [H, W]
    Images of the right size are refused as well: a tuple never equals a list. (A torch.Size is a
    tuple.)
the_wrong_way_round: img_size != (H, W) → img_size == (H, W)
    Images of the right size are refused, and all others go through. Turn the condition round.
last_axes_mistaken: H, W = images.shape[-2:] → H, W = images.shape[1:3]
    You read channels and height. In (B, C, H, W) height and width are the last two axes.
asserted: raise ValueError( → raise AssertionError(
    An AssertionError is raised. Raise a ValueError.
sides_swapped: img_size != (H, W) → img_size != (W, H)
    Height is compared with width. img_size is (height, width), as (H, W) is.
sides_in_any_order: img_size != (H, W) → sorted((H, W)) != sorted(img_size)
    The message is right, and images whose height and width have changed places go through.
""")  # fmt: skip


def probe(answer):
    def outcome(H, W, size):
        try:
            answer(torch.zeros(1, 3, H, W), size)
        except ValueError:
            return "refused"
        return "accepted"

    sizes = [(28, 14, (28, 14)), (14, 28, (28, 14)), (28, 7, (14, 14)), (28, 21, (28, 14))]
    return [*[lambda s=s: outcome(*s) for s in sizes], lambda: outcome(21, 14, (28, 14))]


EXERCISE = Exercise(
    name="check_size",
    chapter="14_bug_clinic",
    task="check_size(images, img_size): raises a ValueError for images (B, C, H, W) of another "
    "size than img_size = (height, width), with all four numbers in its message; returns nothing",
    reference=check_size,
    cases=cases,
    mutants=MUTANTS,
    accepted=[in_words, as_pairs, spelled_out],
    probe=probe,
)
