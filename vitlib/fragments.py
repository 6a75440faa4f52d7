"""A task in which we know which pixels matter: one whole digit among fragments of others.

Each image is a black canvas with one whole picture in one of its corners. Elsewhere on it are three
squares, cut out of the middle of other pictures. The label is that of the whole picture. The
fragments are chosen independently of it, so they tell nothing about the label, and a map of what a
model looked at can be scored by how much of it lies on the whole digit. Chapter 12 does so. On
canvases with two whole digits, it asks for a map of each of the two classes.
"""

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from vitlib.data import ImageData, ImageSet, mean_std

SIDE = 42  # of a canvas: 3 × 3 squares of 14 pixels, of which the whole digit takes 2 × 2
_SQUARE, _DIGIT, _PIECE, _PIECES = 14, 28, 10, 3


def make_canvases(
    digits: ImageSet, n: int, seed: int
) -> tuple[UInt8[Tensor, "n 1 H W"], Int64[Tensor, "n"], Bool[Tensor, "n H W"]]:
    """`n` canvases of 42 × 42 pixels, their labels, and a mask of where the whole digit has ink.

    Canvas i shows digit i as a whole; after the last digit it starts again with the first. Each of
    its three fragments is a square of 10 × 10 pixels from the middle 20 × 20 of any digit, and each
    lies in a different square of the canvas. The same seed gives the same canvases.

    `digits` are grey pictures of 28 × 28 pixels, as in "mnist5k".
    Raises ValueError for other pictures, and for n below 1.
    """
    _check(digits, n)
    generator = torch.Generator().manual_seed(seed)

    def draw(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    pictures = digits.images[:, 0]
    image, which = torch.arange(n), torch.arange(n) % len(digits)
    canvas, whole_only = torch.zeros(2, n, SIDE, SIDE, dtype=torch.uint8)
    row, column = draw(2, 2, n)  # of the corner
    for layer in (canvas, whole_only):
        _windows(layer, _DIGIT)[image, _SQUARE * row, _SQUARE * column] = pictures[which]

    squares = torch.arange(9)
    down, right = squares // 3 - row[:, None], squares % 3 - column[:, None]  # (n, 9)
    taken = (down // 2 == 0) & (right // 2 == 0)  # by the whole digit
    priority = torch.rand(n, 9, generator=generator).masked_fill(taken, -1)
    margin, room = (_DIGIT - 2 * _PIECE) // 2, _SQUARE - _PIECE + 1
    for square in priority.topk(_PIECES).indices.T:
        piece = _windows(pictures, _PIECE)[
            draw(len(digits), n), margin + draw(_PIECE + 1, n), margin + draw(_PIECE + 1, n)
        ]
        y = _SQUARE * (square // 3) + draw(room, n)
        x = _SQUARE * (square % 3) + draw(room, n)
        _windows(canvas, _PIECE)[image, y, x] = piece
    return canvas[:, None], digits.labels[which], whole_only > 0


def make_pairs(
    digits: ImageSet, n: int, seed: int
) -> tuple[UInt8[Tensor, "n 1 H W"], Int64[Tensor, "n 2"], Bool[Tensor, "n 2 H W"]]:
    """`n` canvases with two whole digits each, their two labels, and masks of where each has ink.

    The digits are of different classes and stand in opposite corners. Where their squares overlap,
    in the middle of the canvas, the brighter pixel is seen. The same seed gives the same canvases.

    `digits` are grey pictures of 28 × 28 pixels, as in "mnist5k".
    Raises ValueError for other pictures, for n below 1, and for digits of one class only.
    """
    _check(digits, n)
    if len(digits.labels.unique()) < 2:
        raise ValueError(f"expected digits of at least two classes, got {digits} of one")
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(digits), (n, 2), generator=generator)
    while (same := digits.labels[which[:, 0]] == digits.labels[which[:, 1]]).any():
        which[same, 1] = torch.randint(len(digits), (int(same.sum()),), generator=generator)
    corner = torch.randint(2, (n, 2), generator=generator)  # row and column, of the first digit
    each = torch.zeros(2, n, SIDE, SIDE, dtype=torch.uint8)
    for number, (layer, place) in enumerate(zip(each, (corner, 1 - corner), strict=True)):
        y, x = _SQUARE * place.T
        _windows(layer, _DIGIT)[torch.arange(n), y, x] = digits.images[which[:, number], 0]
    return each.amax(dim=0)[:, None], digits.labels[which], each.transpose(0, 1) > 0


def fragments_data(
    data: ImageData, train: int = 20_000, test: int = 1000
) -> tuple[ImageData, Bool[Tensor, "n H W"]]:
    """A data set of canvases made from `data`'s digits, and the masks of its test canvases.

    `train` and `test` are the numbers of canvases. Test canvases consist of test digits, fragments
    included. A mask shows where the whole digit has ink.
    Raises ValueError where `make_canvases` does.
    """
    canvases, labels, _ = make_canvases(data.train, train, seed=0)
    test_canvases, test_labels, whole = make_canvases(data.test, test, seed=1)
    mean, std = mean_std(canvases)
    return (
        ImageData(
            f"fragments of {data.name}",
            ImageSet(canvases, labels, mean, std),
            ImageSet(test_canvases, test_labels, mean, std),
            classes=data.classes,
            mean=mean,
            std=std,
        ),
        whole,
    )


def _check(digits: ImageSet, n: int) -> None:
    if digits.images.shape[1:] != (1, _DIGIT, _DIGIT):
        raise ValueError(
            f"expected grey pictures of {_DIGIT}×{_DIGIT} pixels, such as mnist5k's, got {digits}"
        )
    if n < 1:
        raise ValueError(f"expected at least one canvas, got n = {n}")


def _windows(pictures: UInt8[Tensor, "n H W"], size: int) -> UInt8[Tensor, "n y x size size"]:
    """A view of every square of that size; writing to it writes to the pictures."""
    return pictures.unfold(1, size, 1).unfold(2, size, 1)
