"""PositionFigure in a page: the map, the words and the means are torch's, on every grid."""

import re

import numpy as np
import pytest
import torch
from browsing import PHONE, serious_violations
from widgets.test_position import cosines, make

from vitlib import resample_pos_embed, sincos_2d
from vitlib.widgets import PositionFigure

# From a pixel back to a cosine: blue is −1, white 0, orange 1.
PIXELS = """canvas => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = make(img_size=(12, 20), distilled=True)
    torch.nn.init.normal_(model.pos_embed)
    return model


def wanted(model, kind, grid):
    """The cosines (T, T) that the figure should show."""
    prefix = model.num_prefix_tokens
    if kind == "learned":
        vectors = resample_pos_embed(model.pos_embed, grid, model.grid_size, prefix)[0].detach()
    else:
        vectors = torch.cat([torch.zeros(prefix, 16), sincos_2d(16, grid)])
    return cosines(vectors.double())


def number(text):
    return float(text.replace("−", "-"))


def shown(page, part, figure=0):
    return page.locator(f"[data-part={part}]").nth(figure).text_content()


def pixels_to_cosines(page, nth):
    canvas = page.locator("canvas").nth(nth)
    size = canvas.evaluate("canvas => [canvas.height, canvas.width]")
    pixels = np.array(canvas.evaluate(PIXELS), float).reshape(*size, 4)
    # blue falls from 255 to 178 towards −1 and to 0 towards 1; red only towards −1 as far as 0
    positive = (255 - pixels[..., 2]) / 255
    negative = (255 - pixels[..., 0]) / 255
    return np.where(pixels[..., 0] < pixels[..., 2], -negative, positive), pixels


def check(page, model, kind, grid, position):
    prefix, (rows, columns) = model.num_prefix_tokens, grid
    want = wanted(model, kind, grid)
    patches = want[prefix:, prefix:]
    colours, _ = pixels_to_cosines(page, 0)
    row = want[position, prefix:].reshape(rows, columns).numpy()
    assert np.abs(colours - row).max() < 0.0041
    colours, pixels = pixels_to_cosines(page, 2)
    blocks = colours.reshape(rows, rows + 1, columns, columns + 1)[:, :rows, :, :columns]
    every = patches.reshape(rows, columns, rows, columns).permute(0, 2, 1, 3)
    assert np.abs(blocks - every.numpy()).max() < 0.0041
    assert (pixels.reshape(rows, rows + 1, -1)[:, rows] == 0).all()  # the gaps

    others = {
        prefix + i: float(want[position, prefix + i])
        for i in range(rows * columns)
        if prefix + i != position
    }
    most, least = [number(text) for text in re.findall(r"\((−?\d\.\d{3})\)", shown(page, "status"))]
    assert most == pytest.approx(max(others.values()), abs=5.1e-4)
    assert least == pytest.approx(min(others.values()), abs=5.1e-4)
    facts = shown(page, "facts")
    for words, step in {"left": -1, "right": 1, "above": -columns, "below": columns}.items():
        if found := re.search(rf"{words} (−?[\d.]+\d)", facts):
            assert number(found[1]) == pytest.approx(others[position + step], abs=5.1e-4)
    for i, token in enumerate(["class token", "distillation token"]):
        if found := re.search(rf"{token} (−?[\d.]+\d)", facts):
            assert number(found[1]) == pytest.approx(float(want[position, i]), abs=5.1e-4)
        else:
            assert kind == "sincos" or i == position

    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    steps = torch.cdist(place, place, p=1)
    near, far = re.findall(r"of (−?\d\.\d{3})", shown(page, "whole"))[:2]
    assert number(near) == pytest.approx(float(patches[steps == 1].mean()), abs=5.1e-4)
    assert number(far) == pytest.approx(float(patches[steps > 1].mean()), abs=5.1e-4)


def test_by_mouse_keys_and_finger_on_every_kind_of_grid(show, model):
    page = show(PositionFigure(model), touch=True)
    check(page, model, "learned", (3, 5), 2 + 7)
    pickers = page.locator(".vf-picker")
    for words in ("left", "right", "above", "below", "class token", "distillation token"):
        assert words in shown(page, "facts")

    box = pickers.nth(0).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    check(page, model, "learned", (3, 5), 2 + 14)
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] - 10)  # nothing was clicked
    check(page, model, "learned", (3, 5), 2 + 7)
    box = pickers.nth(1).bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.3, box["y"] + 3)
    check(page, model, "learned", (3, 5), 2 + 1)
    pickers.nth(0).press("ArrowDown")
    check(page, model, "learned", (3, 5), 2 + 6)
    assert pickers.nth(0).get_attribute("aria-valuetext") == "row 1, column 1"

    pickers.nth(0).press("End")
    page.locator("input[data-key=rows]").press("ArrowRight")  # the corner stays the corner
    check(page, model, "learned", (4, 7), 2 + 27)
    assert "On the model's own 3 × 5 grid" in shown(page, "whole")
    page.locator("input[data-key=rows]").press("Home")
    check(page, model, "learned", (2, 3), 2 + 5)
    page.locator("label", has_text="distillation token").tap()
    check(page, model, "learned", (2, 3), 1)
    assert "The distillation token: most like" in shown(page, "status")
    assert page.locator(".vf-ring").evaluate_all("rings => rings.every(ring => ring.hidden)")

    page.locator("label", has_text="sin-cos").tap()
    assert "has length 0" in shown(page, "status")
    assert shown(page, "facts") == ""
    pickers.nth(0).press("ArrowRight")
    page.locator("input[data-key=rows]").press("End")
    check(page, model, "sincos", (12, 20), 2 + 3 * 20 + 3)

    page.locator("input[data-key=kind]:checked").press("ArrowRight")
    assert shown(page, "status").startswith("Without positions nothing is added")
    assert shown(page, "facts") == shown(page, "whole") == ""
    _, pixels = pixels_to_cosines(page, 0)
    assert (pixels == [190, 190, 190, 255]).all()


def test_stretched_colours_run_from_the_least_to_the_most(show, model):
    page = show(PositionFigure(model, kind="sincos", rows=3), PositionFigure(model))
    other = shown(page, "status", 1)
    page.locator("[data-key=colours][value=stretched]").first.check()
    want = wanted(model, "sincos", (3, 5))[2:, 2:]
    off = want[~torch.eye(15, dtype=torch.bool)]
    ends = [number(shown(page, part)) for part in ("low", "high")]
    assert ends == pytest.approx([float(off.min()), float(off.max())], abs=5.1e-4)
    _, pixels = pixels_to_cosines(page, 0)
    order = want[7].argsort()
    brightness = pixels.reshape(-1, 4)[:, :3].sum(-1)[order.numpy()]
    assert (np.diff(brightness) <= 3).all()
    assert brightness[0] - brightness[-1] > 150
    assert shown(page, "status", 1) == other
    assert shown(page, "low", 1) == "−1"


def test_positions_of_length_0_are_said_to_have_no_cosine(show):
    zero = make()
    torch.nn.init.zeros_(zero.pos_embed)
    one = make()
    with torch.no_grad():
        one.pos_embed[0, 1] = 0  # the first patch alone
    page = show(PositionFigure(zero), PositionFigure(one), PositionFigure(make(), kind="none"))
    assert "row 1, column 1 has length 0" in shown(page, "status", 0)
    assert shown(page, "whole", 0) == ""
    assert re.search(r"most like .* \(−?\d\.\d{3}\), least like", shown(page, "status", 1))
    assert "NaN" not in page.locator("main, body").first.inner_text()
    page.locator(".vf-picker").nth(2).press("Home")
    assert "row 0, column 0 has length 0" in shown(page, "status", 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_fits_a_phone(show, model, scheme):
    page = show(PositionFigure(model), PositionFigure(make()), viewport=PHONE, scheme=scheme)
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
