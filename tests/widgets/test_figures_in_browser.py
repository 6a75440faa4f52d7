"""PatchFigure in a browser: pointed at, tapped, by keyboard, beside others, and on a phone.

What the page shows is compared with what torch computes from the same picture.
"""

import re

import pytest
import torch
from browsing import PHONE, serious_violations
from playwright.sync_api import Locator, Page, expect
from torch import Tensor
from torch.nn import functional as F

from vitlib.widgets import PatchFigure
from vitlib.widgets.patch import DIM

GREY = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
RGB = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(1))
PICTURES = {"grey": GREY, "rgb": RGB}

STEP = 1 / 510  # how far a pixel, kept in 256 steps, may be from the picture's
DIGITS = 0.0005 + 1e-6  # how far a number of three decimals may be from the true one


def rows(image: Tensor, size: int, mode: str) -> Tensor:
    """(C, H, W) -> (N, C·P·P), by torch's own functions."""
    if mode == "view":
        return image.reshape(-1, image.shape[0] * size**2)
    return F.unfold(image[None], size, stride=size)[0].T


def kernels(figure: PatchFigure, size: int) -> Tensor:
    """(8, C, P, P), read from the figure's bytes."""
    lengths = [DIM * figure.channels * p**2 for p in figure.patch_sizes]
    parts = torch.frombuffer(bytearray(figure.kernels), dtype=torch.float32).split(lengths)
    part = parts[figure.patch_sizes.index(size)]
    return part.view(DIM, figure.channels, size, size)


def tokens(figure: PatchFigure, image: Tensor, size: int, mode: str) -> Tensor:
    """(N, 8): the convolution; for the wrong rows, the same kernels as a matrix."""
    weight = kernels(figure, size)
    if mode == "view":
        return rows(image, size, mode) @ weight.flatten(1).T
    return F.conv2d(image[None], weight, stride=size)[0].flatten(1).T


def seen(image: Tensor) -> Tensor:
    """The picture in the figure's 256 steps."""
    return (image * 255).round() / 255


def part(page: Page | Locator, name: str) -> str:
    return page.locator(f"[data-part={name}]").inner_text()


def numbers(text: str) -> Tensor:
    return torch.tensor([float(n.replace("−", "-")) for n in re.findall(r"−?\d+\.\d+", text)])


def check(page: Page | Locator, figure: PatchFigure, image: Tensor, size, patch, mode) -> None:
    """Status, vector and token are those of this patch, as torch has them."""
    count, length = len(rows(image, size, mode)), image.shape[0] * size**2
    if mode == "view":
        first, last = patch * length, (patch + 1) * length - 1
        wanted = f"Row {patch} of reshape({count}, −1): pixels {first} to {last} "
    else:
        top, left = (size * place for place in divmod(patch, image.shape[2] // size))
        wanted = f"Patch {patch} of 0 to {count - 1}: rows {top} to {top + size - 1}, "
        wanted += f"columns {left} to {left + size - 1} "
    expect(page.locator("[data-part=status]")).to_contain_text(wanted)  # waits: touch comes late

    shown = numbers(part(page, "vector"))
    assert len(shown) == min(length, 64)
    expected = rows(image, size, mode)[patch][:64]
    torch.testing.assert_close(shown, expected, atol=STEP + DIGITS, rtol=0)

    shown = numbers(part(page, "token"))
    expected = tokens(figure, seen(image), size, mode)[patch]
    torch.testing.assert_close(shown, expected, atol=DIGITS, rtol=0)


def picture(page: Page | Locator) -> Locator:
    return page.locator(".vf-picker").first


def matrix(page: Page | Locator) -> Locator:
    return page.locator(".vf-picker").last


def middle(box: Locator, cell: int, grid: tuple[int, int]) -> tuple[float, float]:
    """Where on the screen the middle of this cell lies."""
    box.scroll_into_view_if_needed()
    area = box.bounding_box()
    row, column = divmod(cell, grid[1])
    return (
        area["x"] + (column + 0.5) / grid[1] * area["width"],
        area["y"] + (row + 0.5) / grid[0] * area["height"],
    )


def pixels(canvas: Locator) -> Tensor:
    """(H, W, 4), what the canvas holds."""
    width, height, values = canvas.evaluate(
        "c => [c.width, c.height, "
        "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    return torch.tensor(values).view(height, width, 4)


def choose(page: Page | Locator, mode: str) -> None:
    page.locator(f"input[type=radio][value={mode}]").check()


def set_size(page: Page | Locator, figure: PatchFigure, size: int) -> None:
    page.locator("input[type=range]").fill(str(figure.patch_sizes.index(size)))


# --- PatchFigure: every way to choose a patch, in every mode


@pytest.mark.parametrize("mode", ["unfold", "conv", "view"])
@pytest.mark.parametrize(
    ("name", "size"), [("grey", 2), ("grey", 7), ("grey", 14), ("rgb", 3), ("rgb", 12)]
)
def test_a_patch_that_is_pointed_at_shows_torchs_numbers(show, name, size, mode) -> None:
    image = PICTURES[name]
    figure = PatchFigure(image)
    page = show(figure)
    set_size(page, figure, size)
    choose(page, mode)
    grid = (image.shape[1] // size, image.shape[2] // size)
    count = grid[0] * grid[1]
    for patch in (1, count // 2, count - 1):
        page.mouse.move(*middle(picture(page), patch, grid))
        check(page, figure, image, size, patch, mode)
    for patch in (0, count - 2):  # the matrix has a row for each patch
        page.mouse.move(*middle(matrix(page), patch, (count, 1)))
        check(page, figure, image, size, patch, mode)


@pytest.mark.parametrize("http", [False, True], ids=["file", "http"])
def test_by_touch(show, http) -> None:
    figure = PatchFigure(GREY, patch_size=7)
    page = show(figure, viewport=PHONE, touch=True, http=http)
    for patch in (5, 15, 0):
        page.touchscreen.tap(*middle(picture(page), patch, (4, 4)))
        check(page, figure, GREY, 7, patch, "unfold")
    page.locator("label", has_text="conv").tap()
    check(page, figure, GREY, 7, 0, "conv")

    finger = page.context.new_cdp_session(page)  # playwright's own can only tap
    for patch in (4, 5, 6, 7):  # a finger that goes across chooses what lies under it
        x, y = middle(picture(page), patch, (4, 4))
        kind = "touchStart" if patch == 4 else "touchMove"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        check(page, figure, GREY, 7, patch, "conv")
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    check(page, figure, GREY, 7, 7, "conv")


def test_by_keyboard(show) -> None:
    figure = PatchFigure(RGB, patch_size=6)  # 4 rows of 6 patches
    page = show(figure)
    for _ in range(3):
        page.keyboard.press("Tab")
    assert picture(page).evaluate("box => box === document.activeElement")
    for key, patch in [
        ("ArrowRight", 1), ("ArrowDown", 7), ("ArrowLeft", 6), ("ArrowUp", 0), ("ArrowUp", 0),
        ("ArrowLeft", 0), ("End", 23), ("ArrowRight", 23), ("ArrowDown", 23), ("x", 23),
        ("ArrowUp", 17), ("Home", 0),
    ]:  # fmt: skip
        page.keyboard.press(key)
        check(page, figure, RGB, 6, patch, "unfold")
        assert picture(page).get_attribute("aria-valuenow") == str(patch)
        row, column = divmod(patch, 6)
        words = f"patch {patch} of 0 to 23, row {row} of 0 to 3, column {column} of 0 to 5"
        assert picture(page).get_attribute("aria-valuetext") == words
    page.keyboard.press("Tab")
    for key, patch in [("ArrowDown", 1), ("ArrowUp", 0), ("End", 23)]:
        page.keyboard.press(key)
        check(page, figure, RGB, 6, patch, "unfold")


def test_slider_by_keyboard(show) -> None:
    figure = PatchFigure(RGB, patch_size=2, patch=200)
    assert figure.patch_sizes == [2, 3, 4, 6, 12]
    page = show(figure)
    check(page, figure, RGB, 2, 200, "unfold")
    page.keyboard.press("Tab")
    # 36 * 24 / 4**2 = 54 patches are left: number 200 is gone, and the figure starts anew
    for key, size in [("ArrowRight", 3), ("ArrowRight", 4), ("End", 12), ("ArrowLeft", 6)]:
        page.keyboard.press(key)
        check(page, figure, RGB, size, 0, "unfold")
        slider = page.locator("input[type=range]")
        assert slider.get_attribute("aria-valuetext") == f"{size} × {size} pixels"
        assert page.locator("output").inner_text() == f"{size} × {size} pixels"
        assert picture(page).get_attribute("aria-valuemax") == str(24 * 36 // size**2 - 1)


def test_a_patch_that_is_still_there_stays_chosen(show) -> None:
    figure = PatchFigure(GREY, patch_size=4, patch=3)
    page = show(figure)
    set_size(page, figure, 7)
    check(page, figure, GREY, 7, 3, "unfold")


def test_radio_by_keyboard(show) -> None:
    figure = PatchFigure(GREY, patch_size=7, patch=6)
    page = show(figure)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    for mode in ("conv", "view", "unfold"):
        page.keyboard.press("ArrowRight")
        assert page.locator("input[type=radio]:checked").get_attribute("value") == mode
        check(page, figure, GREY, 7, 6, mode)


# --- PatchFigure: what is drawn


@pytest.mark.parametrize(("name", "size"), [("grey", 7), ("rgb", 6)])
@pytest.mark.parametrize("mode", ["unfold", "conv", "view"])
def test_the_picture_and_what_is_lit_of_it(show, name, size, mode) -> None:
    image, patch = PICTURES[name], 3
    channels, height, width = image.shape
    page = show(PatchFigure(image, patch_size=size, patch=patch, mode=mode))
    photo, shade = (pixels(picture(page).locator("canvas").nth(i)) for i in (0, 1))
    expected = (image * 255).round().int().expand(3, -1, -1).permute(1, 2, 0)
    assert torch.equal(photo[..., :3].int(), expected)
    assert (photo[..., 3] == 255).all()

    # Which pixels does the row hold? Send each pixel's own number through the same function.
    place = torch.arange(height * width, dtype=torch.float32).view(1, height, width)
    row = rows(place.expand(channels, -1, -1), size, mode)[patch]
    if mode == "view":  # the numbers of all channels lie one after the other
        row = torch.arange(patch * len(row), (patch + 1) * len(row)) % (height * width)
    lit = torch.zeros(height * width, dtype=torch.bool)
    lit[row.long()] = True
    assert torch.equal(shade[..., 3].flatten() == 0, lit)


@pytest.mark.parametrize("mode", ["unfold", "conv", "view"])
def test_the_matrix_is_drawn_as_torch_has_it(show, mode) -> None:
    figure = PatchFigure(RGB, patch_size=6, mode=mode)
    page = show(figure)
    table = pixels(matrix(page).locator("canvas"))[..., :3]
    caption = page.locator(".vf-panel .vf-caption").nth(1).inner_text()
    if mode != "conv":
        expected = (rows(RGB, 6, mode) * 255).round()[..., None].expand(-1, -1, 3)
        assert (table - expected).abs().max() <= 1
        assert caption == "24 rows of 108 numbers"
        return
    made = tokens(figure, seen(RGB), 6, mode)
    assert table.shape[:2] == made.shape
    strength = made / made.abs().max()
    blue, white, orange = (torch.tensor(c) for c in ([0, 114, 178], [255] * 3, [213, 94, 0]))
    end = torch.where(strength[..., None] < 0, blue, orange)
    expected = white + (end - white) * strength.abs()[..., None]
    assert (table - expected).abs().max() <= 1
    assert caption.startswith("24 tokens of 8 numbers")


def test_the_rings_lie_around_the_patch_and_its_row(show) -> None:
    page = show(PatchFigure(RGB, patch_size=6))  # 4 rows of 6
    page.mouse.move(*middle(picture(page), 9, (4, 6)))
    for box, (row, column), (down, across) in [
        (picture(page), (1, 3), (4, 6)),
        (matrix(page), (9, 0), (24, 1)),
    ]:
        area, ring = box.bounding_box(), box.locator(".vf-ring").bounding_box()
        assert ring["x"] == pytest.approx(area["x"] + column / across * area["width"], abs=2)
        assert ring["y"] == pytest.approx(area["y"] + row / down * area["height"], abs=2)
        assert ring["width"] == pytest.approx(area["width"] / across, abs=2)
        assert ring["height"] == pytest.approx(area["height"] / down, abs=4)


def test_the_row_is_drawn_as_pixels_and_kernels_as_many(show) -> None:
    page = show(PatchFigure(RGB, patch_size=6, patch=9))
    squares = page.locator("[data-part=pixels] canvas")
    assert squares.count() == 3
    expected = (rows(RGB, 6, "unfold")[9].view(3, 6, 6) * 255).round()
    for square, channel in zip(squares.all(), expected, strict=True):
        assert (pixels(square)[..., 0] - channel).abs().max() <= 1
    choose(page, "conv")
    assert squares.count() == 3 * DIM


# --- any figure, on a page with others, and for everyone


@pytest.mark.parametrize("other", [RGB, GREY], ids=["another", "the same twice"])
def test_two_figures_do_not_disturb_each_other(show, other) -> None:
    figures = PatchFigure(GREY, patch_size=7), PatchFigure(other, patch_size=4, patch=2)
    if other is GREY:
        figures = (figures[0], figures[0])
    page = show(*figures)
    first, second = (page.locator(".vitlib-figure").nth(i) for i in (0, 1))
    before = first.inner_html()
    size = 4 if other is GREY else 6
    set_size(second, figures[1], size)
    choose(second, "view")
    picture(second).focus()
    page.keyboard.press("End")
    check(second, figures[1], other, size, other[0].numel() // size**2 - 1, "view")
    assert first.inner_html() == before
    check(first, figures[0], GREY, 7, 0, "unfold")
    choose(first, "conv")  # a group of radio buttons of its own
    assert second.locator("input[type=radio]:checked").get_attribute("value") == "view"


def test_without_scripts_the_words_remain(show) -> None:
    figure = PatchFigure(GREY)
    page = show(figure, scripts=False)
    assert page.locator(".vitlib-figure").inner_text().strip() == figure.alt
    assert page.locator(".vitlib-figure").is_visible()
    assert page.locator("input, canvas").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anyone_out(show, scheme) -> None:
    page = show(PatchFigure(GREY), PatchFigure(RGB, mode="view"), scheme=scheme)
    assert serious_violations(page) == []
    words = page.locator("[data-part=status]").first
    bright = words.evaluate("e => getComputedStyle(e).color") == "rgb(255, 255, 255)"
    assert bright == (scheme == "dark")
    words.evaluate("e => { e.style.color = 'rgb(128, 128, 128)'; e.style.opacity = 0.5 }")
    assert "color-contrast" in serious_violations(page)[0], "axe would not find a pale text"


@pytest.mark.parametrize("mode", ["unfold", "conv", "view"])
def test_it_fits_a_phone(show, mode) -> None:
    figure = PatchFigure(RGB, mode=mode)
    page = show(figure, viewport=PHONE, touch=True)
    for size in figure.patch_sizes:
        set_size(page, figure, size)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert picture(page).bounding_box()["width"] > 140, "room for a finger"
