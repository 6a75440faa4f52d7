"""PatchFigure in Python: its bytes, the sizes it offers, and what it refuses."""

import re

import numpy as np
import pytest
import torch
from traitlets import TraitError
from widgets.test_figure import GREY, RGB

from vitlib.widgets import PatchFigure


@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_bytes_are_the_picture_and_the_kernels(image) -> None:
    figure = PatchFigure(image)
    assert (figure.channels, figure.height, figure.width) == image.shape
    pixels = np.frombuffer(figure.pixels, np.uint8).reshape(image.shape)
    assert np.abs(pixels / 255 - image.numpy()).max() <= 1 / 510 + 1e-6
    start = 0
    stored = np.frombuffer(figure.kernels, np.float32)
    for size in figure.patch_sizes:  # drawn anew for each size, from a seed of its own
        length = len(image) * size**2
        drawn = torch.randn(8, length, generator=torch.Generator().manual_seed(size))
        part = stored[start : start + 8 * length].reshape(8, length)
        np.testing.assert_allclose(part, drawn / length**0.5, rtol=1e-6)
        start += 8 * length
    assert start == len(stored)
    assert figure.dim == 8


def test_sizes_offered_and_the_one_taken() -> None:
    assert PatchFigure(GREY).patch_sizes == [2, 4, 7, 14]
    assert PatchFigure(GREY).patch_size == 7
    assert PatchFigure(RGB).patch_sizes == [2, 3, 4, 6, 12]
    assert PatchFigure(RGB).patch_size == 6
    assert PatchFigure(torch.zeros(4, 4)).patch_sizes == [2]
    assert PatchFigure(torch.zeros(2, 8)).patch_sizes == [2]
    assert PatchFigure(torch.zeros(256, 256)).patch_sizes[-1] == 128


def test_what_it_is_given_at_first() -> None:
    figure = PatchFigure(GREY, patch_size=14, patch=3, mode="conv")
    assert (figure.patch_size, figure.patch, figure.mode, figure.count) == (14, 3, "conv", 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 5}, "patch_size must be one of 2, 4, 7, 14, which divide 28×28: got 5"),
        ({"patch_size": 28}, "got 28"),
        ({"patch_size": 7, "patch": 16}, "patch must be from 0 to 15, for 16 patches: got 16"),
        ({"patch": -1}, "got -1"),
        ({"mode": "fold"}, "mode must be one of unfold, conv, view: got 'fold'"),
        ({"image": torch.zeros(7, 7)}, "no patch size from 2 divides 7×7 into at least 4 patches"),
        ({"image": torch.zeros(1, 258, 2)}, "258×2: make it at most 256 pixels a side"),
        ({"image": torch.zeros(2, 3, 28, 28)}, "expected one picture"),
    ],
)
def test_what_it_refuses(options, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PatchFigure(**{"image": GREY, **options})


def test_a_bad_value_leaves_the_figure_as_it_was() -> None:
    figure = PatchFigure(GREY, patch_size=7, patch=15)
    for name, wrong in [("patch", 16), ("patch_size", 3), ("mode", "x"), ("patch", "one")]:
        with pytest.raises(TraitError):
            setattr(figure, name, wrong)
    assert (figure.patch_size, figure.patch, figure.mode) == (7, 15, "unfold")


def test_a_patch_that_a_larger_size_does_not_have() -> None:
    figure = PatchFigure(GREY, patch_size=2, patch=195)
    figure.patch_size = 4
    assert figure.patch == 0
    figure.patch = 3
    figure.patch_size = 14
    assert figure.patch == 3


def test_the_figure_of_the_book_is_light() -> None:
    assert len(PatchFigure(GREY).to_html().encode()) < 120_000


def test_html_of_equal_patch_figures_is_equal() -> None:
    assert PatchFigure(RGB, patch=2).to_html() == PatchFigure(RGB, patch=2).to_html()
    assert PatchFigure(RGB, patch=2).to_html() != PatchFigure(RGB, patch=1).to_html()
