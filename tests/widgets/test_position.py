"""PositionFigure in Python: what it embeds stands for torch's own vectors, and what it refuses."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from traitlets import TraitError

from vitlib import VisionTransformer, create_model, resample_pos_embed
from vitlib.widgets import PositionFigure

make = partial(VisionTransformer, img_size=12, patch_size=4, embed_dim=16, num_heads=2, depth=1)


def cosines(vectors):
    return F.normalize(vectors, dim=-1) @ F.normalize(vectors, dim=-1).T


def decoded(figure, prefix):
    """The embedded vectors, and the mixing matrices (rows, columns) of each grid."""
    own = figure.own_grid
    vectors = np.frombuffer(figure.vectors, np.float32)
    vectors = torch.tensor(vectors.reshape(prefix + own[0] * own[1], -1)).double()
    numbers, maps = torch.tensor(np.frombuffer(figure.maps, np.float32)).double(), {}
    for grid in figure.grids:
        sizes = [(grid[i], own[i]) for i in (0, 1)]
        parts = numbers.split(
            [a * b for a, b in sizes] + [len(numbers) - sum(a * b for a, b in sizes)]
        )
        maps[grid[0]] = [part.reshape(size) for part, size in zip(parts[:2], sizes, strict=True)]
        numbers = parts[2]
    assert not len(numbers)
    return vectors, maps


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"embed_dim": 4},  # fewer numbers in a vector than vectors
        {"img_size": (8, 20)},
        {"distilled": True},
        {"reg_tokens": 3},
        {"reg_tokens": 3, "no_embed_class": True},
        {"pos_antialias": False},
    ],
)
def test_the_bytes_give_the_cosines_of_resampled_positions(options):
    torch.manual_seed(0)
    model = make(**options).double()
    torch.nn.init.normal_(model.pos_embed)
    prefix, antialias = model.num_prefix_positions, model.pos_antialias
    figure = PositionFigure(model)
    assert len(figure.prefix) == prefix
    vectors, maps = decoded(figure, prefix)
    assert vectors.shape[1] == min(model.pos_embed.shape[1:])
    assert len(figure.grids) >= 5
    for rows, columns in figure.grids:
        want = resample_pos_embed(
            model.pos_embed, (rows, columns), model.grid_size, prefix, antialias
        )[0]
        patches = vectors[prefix:].unflatten(0, model.grid_size)
        patches = torch.einsum("yr,xc,rcd->yxd", *maps[rows], patches).flatten(0, 1)
        got = torch.cat([vectors[:prefix], patches])
        torch.testing.assert_close(cosines(got), cosines(want.detach()), rtol=0, atol=2e-6)
        torch.testing.assert_close(got.norm(dim=1), want.norm(dim=1).detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["learned", "sincos", "none"]),
        ({"pos_embed": "sincos"}, ["sincos", "none"]),
        ({"pos_embed": "none"}, ["sincos", "none"]),
        ({"pos_embed": "none", "embed_dim": 18}, ["none"]),
        ({"embed_dim": 18}, ["learned", "none"]),
    ],
)
def test_only_kinds_that_the_model_can_have(options, kinds):
    model = make(**options)
    figure = PositionFigure(model)
    assert figure.kinds == kinds
    assert figure.kind == options.get("pos_embed", "learned")
    assert bool(figure.vectors) == bool(figure.maps) == (figure.kind == "learned")
    with pytest.raises(ValueError, match=f"kind must be one of {', '.join(kinds)} for this model"):
        PositionFigure(model, kind="relative")


def test_starts_in_the_middle_and_counts_the_prefix_tokens():
    figure = PositionFigure(make(img_size=(12, 20), distilled=True, reg_tokens=2))
    assert figure.prefix == ["class token", "distillation token", "register 0", "register 1"]
    assert figure.position == 4 + 1 * 5 + 2
    assert (figure.grid_size, figure.count) == ((3, 5), 19)
    figure.rows = 6
    assert (figure.grid_size, figure.count) == ((6, 10), 64)
    figure.position = 63
    figure.rows = 2  # no place 63 any more: the first patch
    assert (figure.position, figure.count) == (4, 4 + 2 * 3)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("position", 10, "position must be from 0 to 9, for 10 positions, prefix included: got 10"),
        ("position", -1, "position must be from 0 to 9"),
        ("rows", 17, "rows must be one of 2, 3, .*, 16: got 17"),
        ("kind", "rope", "kind must be one of learned, sincos, none for this model: got 'rope'"),
        ("colours", "viridis", "colours must be one of fixed, stretched: got 'viridis'"),
    ],
)
def test_bad_values(name, value, said):
    with pytest.raises(ValueError, match=said):
        PositionFigure(make(), **{name: value})
    figure = PositionFigure(make())
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=said):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


def test_bad_models(unchecked):
    with pytest.raises(ValueError, match=r"expected a vitlib\.VisionTransformer, got Linear"):
        PositionFigure(torch.nn.Linear(2, 2))
    broken = make()
    with torch.no_grad():
        broken.pos_embed[0, 3, 2] = float("nan")
    with pytest.raises(ValueError, match=r"pos_embed holds values that are not finite"):
        PositionFigure(broken)


def test_too_many_positions_are_counted_in_bytes_and_what_is_offered_works():
    big = make(img_size=68)  # 17 × 17 patches, 16 numbers each
    with pytest.raises(ValueError, match=r"17×17 positions, .* embed 18,560 bytes: at most 256"):
        PositionFigure(big)
    offered = make(img_size=64)
    fitted = resample_pos_embed(
        big.pos_embed, offered.grid_size, big.grid_size, big.num_prefix_tokens
    )
    offered.pos_embed = torch.nn.Parameter(fitted)
    assert PositionFigure(offered).own_grid == [16, 16]


def test_the_models_of_the_book_make_small_pages_and_they_stay_the_same():
    model = create_model("vit_nano_patch4_28", pretrained=True)
    pages = [PositionFigure(model)._repr_mimebundle_()[0]["text/html"] for _ in "ab"]
    assert pages[0] == pages[1] != PositionFigure(model, rows=14).to_html()
    assert len(pages[0]) < 120_000
