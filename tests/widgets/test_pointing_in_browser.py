"""What pointing must not do: choose on the way, take over from the keyboard, hold up the page."""

import pytest
import torch
from browsing import PHONE
from playwright.sync_api import Locator, Page
from widgets.test_runs import record

from vitlib import VisionTransformer
from vitlib.widgets import DialectFigure, LensFigure, PatchFigure, PositionFigure, RunsFigure

GREY = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
BLANK = '<div style="height:150vh"></div>'  # so that there is something to scroll


def model() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=28, patch_size=7, in_chans=1, embed_dim=16, depth=3,
                             num_heads=2, num_classes=5).eval()  # fmt: skip


FIGURES = {
    "patch": (lambda: PatchFigure(GREY, patch_size=7, patch=3), ".vf-picker"),
    "position": (lambda: PositionFigure(model()), ".vf-picker"),
    "lens": (lambda: LensFigure(model(), GREY), "td[data-layer='0']"),
    "runs": (lambda: RunsFigure(record()), ".vf-plot"),
    "dialect": (lambda: DialectFigure(dialect="google_npz"), ".vf-picker"),
}


# Until the page no longer glides: 15 frames in the same place.
GLIDED = """() => new Promise((done) => {
    let top = scrollY, still = 0;
    const look = () => {
        still = scrollY === top ? still + 1 : 0;
        top = scrollY;
        still < 15 ? requestAnimationFrame(look) : done();
    };
    look();
})"""


def status(page: Page) -> str:
    return page.locator("[data-part=status]").inner_text()


def spot(box: Locator, across: float, down: float) -> tuple[float, float]:
    area = box.bounding_box()
    return area["x"] + across * area["width"], area["y"] + down * area["height"]


@pytest.mark.parametrize("name", FIGURES)
def test_a_finger_that_scrolls_the_page_chooses_nothing(show, name) -> None:
    make, where = FIGURES[name]
    page = show(BLANK, make(), BLANK, viewport=PHONE, touch=True)
    box = page.locator(where).first
    box.evaluate("box => box.scrollIntoView({ block: 'center' })")
    before, top = page.locator(".vitlib-figure").inner_text(), page.evaluate("scrollY")
    x, y = spot(box, 0.3, 0.9)
    finger = page.context.new_cdp_session(page)
    for step in range(15):
        kind = "touchMove" if step else "touchStart"
        point = {"x": x, "y": y - 12 * step}
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        page.wait_for_timeout(16)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("top => scrollY > top + 60", arg=top)
    assert page.locator(".vitlib-figure").inner_text() == before

    page.evaluate(GLIDED)
    box.evaluate("box => box.scrollIntoView({ block: 'center' })")
    page.touchscreen.tap(*spot(box, 0.3, 0.9))  # a tap does choose
    page.wait_for_function(
        "before => document.querySelector('.vitlib-figure').innerText !== before", arg=before
    )


def test_what_the_keyboard_changes_below_a_resting_mouse_stays(show) -> None:
    """Then the patch that was kept may be gone: 4 are left of 16."""
    page = show(PatchFigure(GREY, patch_size=7, patch=15))
    picture = page.locator(".vf-picker").first
    page.mouse.move(*spot(picture, 0.3, 0.1))
    assert status(page).startswith("Patch 1 of 0 to 15")
    page.locator("input[type=range]").press("ArrowRight")
    assert status(page).startswith("Patch 1 of 0 to 3")
    page.mouse.move(0, 0)
    assert status(page).startswith("Patch 1 of 0 to 3")
    assert "NaN" not in page.locator(".vitlib-figure").inner_text()


def test_a_token_chosen_by_keyboard_below_a_resting_mouse_stays(show) -> None:
    page = show(PositionFigure(model(), position=5))
    page.mouse.move(*spot(page.locator(".vf-picker").first, 0.9, 0.9))
    assert status(page).startswith("Patch 15")
    page.locator("input[type=radio][data-key=position]").press("Space")
    assert status(page).startswith("The class token")
    page.mouse.move(0, 0)
    assert status(page).startswith("The class token")


def test_a_click_keeps_what_is_pointed_at_and_leaving_gives_it_back(show) -> None:
    page = show(PatchFigure(GREY, patch_size=7))
    first, second = page.locator(".vf-picker").first, page.locator(".vf-picker").last
    page.mouse.click(*spot(first, 0.6, 0.1))
    for box, patch in [(first, 0), (second, 0), (first, 12)]:
        page.mouse.move(*spot(box, 0.05, 0.01 if patch == 0 else 0.95))
        assert status(page).startswith(f"Patch {patch} of 0 to 15")
    page.mouse.move(0, 0)
    assert status(page).startswith("Patch 2 of 0 to 15")


@pytest.mark.parametrize("name", ["patch", "runs"])
def test_keys_of_the_browser_are_left_to_it(show, name) -> None:
    """Alt and an arrow goes back a page, Control and End to the end of this one."""
    make, where = FIGURES[name]
    page = show(make())
    box = page.locator(where).first
    before = page.locator(".vitlib-figure").inner_text()
    prevented = box.evaluate(
        """box => ["altKey", "ctrlKey", "metaKey"].flatMap((held) =>
            ["ArrowLeft", "Home", "End"].map((key) => !box.dispatchEvent(
                new KeyboardEvent("keydown", { key, [held]: true, cancelable: true }))))"""
    )
    assert not any(prevented)
    assert page.locator(".vitlib-figure").inner_text() == before
