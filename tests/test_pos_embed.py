"""Positions: the fixed vectors by value, and fitting vectors to another grid."""

from math import cos, sin

import pytest
import torch
from torch.nn import functional as F

from vitlib import resample_pos_embed, sincos_2d


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 2), (1, 0), (1, 2)])
def test_sincos_by_value(row, column):
    vector = sincos_2d(8, (2, 3))[row * 3 + column]  # row by row
    x, y = column, row
    expected = [
        *(sin(x), sin(x / 100), cos(x), cos(x / 100)),  # frequencies 1 and 10000^(-1/2)
        *(sin(y), sin(y / 100), cos(y), cos(y / 100)),
    ]
    torch.testing.assert_close(vector, torch.tensor(expected))


def test_sincos_temperature():
    vector = sincos_2d(8, 2, temperature=4.0)[3]
    quarter = [sin(1), sin(0.5), cos(1), cos(0.5)]
    torch.testing.assert_close(vector, torch.tensor(quarter + quarter))


def test_sincos_products_depend_on_the_offset_only():
    grid = sincos_2d(16, (5, 7)).reshape(5, 7, 16)
    by_offset = {}
    for r1, c1, r2, c2 in torch.cartesian_prod(*map(torch.arange, (5, 7, 5, 7))).tolist():
        product = grid[r1, c1] @ grid[r2, c2]
        expected = by_offset.setdefault((r2 - r1, c2 - c1), product)
        torch.testing.assert_close(product, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(by_offset[0, 0], torch.tensor(8.0))  # |vector|² = D/2
    assert all(p < 8 - 1e-3 for offset, p in by_offset.items() if offset != (0, 0))


def test_sincos_has_the_default_dtype():
    assert sincos_2d(4, 2).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert sincos_2d(4, 2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_sincos_refuses_a_width_that_4_does_not_divide():
    with pytest.raises(ValueError, match="divisible by 4, got 10"):
        sincos_2d(10, 2)


def test_resample_to_the_same_grid_changes_nothing():
    pos = torch.randn(1, 2 + 15, 4)
    assert torch.equal(resample_pos_embed(pos, (3, 5), (3, 5), num_prefix_tokens=2), pos)


@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 3])
def test_resample_keeps_the_prefix(num_prefix_tokens):
    pos = torch.randn(1, num_prefix_tokens + 9, 4)
    new = resample_pos_embed(pos, (4, 5), num_prefix_tokens=num_prefix_tokens)
    assert new.shape == (1, num_prefix_tokens + 20, 4)
    assert torch.equal(new[:, :num_prefix_tokens], pos[:, :num_prefix_tokens])


@pytest.mark.parametrize("new_size", [(2, 2), (7, 7), (5, 3), 6])
def test_resample_keeps_a_constant(new_size):
    pos = torch.tensor([1.5, -2.0]).expand(1, 1 + 16, 2)
    new = resample_pos_embed(pos, new_size)
    torch.testing.assert_close(new, pos[:, :1].expand_as(new))


def test_resample_does_not_confuse_rows_with_columns():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    pos = torch.stack([rows, columns], dim=-1).reshape(1, 24, 2)
    new = resample_pos_embed(pos, (8, 3), (4, 6), num_prefix_tokens=0).reshape(8, 3, 2)
    torch.testing.assert_close(new[..., 0], new[:, :1, 0].expand(8, 3))
    torch.testing.assert_close(new[..., 1], new[:1, :, 1].expand(8, 3))
    assert (new[:, 0, 0].diff() > 0.1).all()
    assert (new[0, :, 1].diff() > 1).all()


def test_resample_between_grids_of_equal_area():
    pos = torch.randn(1, 1 + 16, 4)
    new = resample_pos_embed(pos, (2, 8))
    assert new.shape == pos.shape
    assert not torch.allclose(new, pos, atol=0.1)


@pytest.mark.parametrize("antialias", [True, False])
def test_resample_is_bicubic_interpolation(antialias):
    pos = torch.randn(1, 49, 3)
    image = pos.transpose(1, 2).reshape(1, 3, 7, 7)
    expected = F.interpolate(image, (3, 10), mode="bicubic", antialias=antialias)
    new = resample_pos_embed(pos, (3, 10), num_prefix_tokens=0, antialias=antialias)
    torch.testing.assert_close(new, expected.flatten(2).transpose(1, 2))


def test_resample_passes_gradients_on():
    pos = torch.randn(1, 1 + 9, 4, requires_grad=True)
    resample_pos_embed(pos, 5).square().sum().backward()
    assert (pos.grad.abs() > 0).all()


def test_resample_keeps_dtype_and_precision():
    pos = torch.randn(1, 1 + 9, 4, dtype=torch.float64)
    new = resample_pos_embed(pos, 5)
    for dtype, atol in [(torch.float32, 1e-6), (torch.bfloat16, 0.05), (torch.float16, 0.01)]:
        low = resample_pos_embed(pos.to(dtype), 5)
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), new, rtol=0, atol=atol)
    thirds = resample_pos_embed(pos / 3, 5)  # linear, to float64's precision
    torch.testing.assert_close(thirds * 3, new, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("length", "prefix", "old_size", "message"),
    [
        (8, 1, None, "8 position vectors, 1 of them for prefix, do not fill a grid of 2×2"),
        (9, 0, (2, 4), "9 position vectors, 0 of them for prefix, do not fill a grid of 2×4"),
    ],
)
def test_resample_refuses_vectors_that_do_not_fill_the_old_grid(length, prefix, old_size, message):
    with pytest.raises(ValueError, match=message):
        resample_pos_embed(torch.zeros(1, length, 4), 5, old_size, prefix)
