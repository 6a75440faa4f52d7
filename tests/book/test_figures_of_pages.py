"""The figures on the pages of the built book: each is alive, and each control does something.

Whether what they show is right is tested figure by figure, in tests/widgets/test_*_in_browser.py.
"""

import pytest
from browsing import CHAPTERS, PHONE, WIDE
from playwright.sync_api import ElementHandle, Locator

from vitlib import check

WITH_FIGURES = {exercise.chapter for exercise in check.EXERCISES.values()}

# All that a reader sees of a figure but its controls, which show themselves that they moved.
LOOK = """figure => JSON.stringify([
    [...figure.children].filter(e => !e.matches(".vf-controls")).map(e => e.innerText),
    [...figure.querySelectorAll("canvas")].map(c => c.toDataURL()),
    [...figure.querySelectorAll("svg")].map(s => s.outerHTML),
])"""
CONTROLS = "[role=slider], select, input:is([type=range], [type=radio], [type=checkbox])"
# A slider may stand at one of its ends, and a picker may have a single row or column.
ARROWS = ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"]


def does_something(figure: Locator, control: ElementHandle, said: set[str]) -> bool:
    """Whether a key, pressed on this control, changes what the figure shows.

    A choice is put back as it was, so what the figure said meanwhile is added to `said`.
    """
    control.focus()
    before = figure.evaluate(LOOK)
    if control.get_attribute("type") == "checkbox":
        control.press("Space")
        changed = figure.evaluate(LOOK) != before
        control.press("Space")
    elif control.get_attribute("type") == "radio":
        chosen = figure.locator(f"[name={control.get_attribute('name')}]:checked").element_handles()
        control.press("Space")
        changed = figure.evaluate(LOOK) != before
        said.add(figure.locator("[data-part=status]").inner_text())
        for other in chosen:  # back, since some choices leave the other controls nothing to do
            other.press("Space")
    else:
        for key in ARROWS:
            control.press(key)
            if changed := figure.evaluate(LOOK) != before:
                break
    return changed


@pytest.mark.parametrize(
    ("protocol", "viewport"), [("http", WIDE), ("file", PHONE)], ids=["http, wide", "file, phone"]
)
@pytest.mark.parametrize("name", CHAPTERS)
def test_every_control_of_every_figure(visit, server, site, name, protocol, viewport) -> None:
    page = visit(server if protocol == "http" else site.as_uri(), viewport).open(name)
    figures = page.locator(".vitlib-figure")
    if any(chapter in name for chapter in WITH_FIGURES):
        assert figures.count() >= 1, "a chapter with exercises wants a figure to touch"
    for number, figure in enumerate(figures.all()):
        what = f"figure {number}, {figure.get_attribute('aria-label')}"
        assert figure.get_attribute("data-live") is not None, f"{what}: no script found it"
        assert figure.evaluate("f => f.scrollWidth <= f.clientWidth"), f"{what}: too wide"
        status = figure.locator("[data-part=status]")
        said = {status.inner_text()}
        assert said != {""}, what
        controls = figure.locator(CONTROLS).element_handles()
        assert controls, f"{what}: nothing to do"
        for control in controls:
            chosen = control.get_attribute("type") == "radio" and control.is_checked()
            if chosen or control.is_disabled() or not control.is_visible():
                continue
            assert does_something(figure, control, said), (
                f"{what}: {control.evaluate('e => e.outerHTML')}"
            )
            said.add(status.inner_text())
        assert len(said) > 1, f"{what}: its words never change"
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"], f"the page is {width} px wide"


def test_figures_move_in_chapters_that_are_listed() -> None:
    """So that a chapter that was renamed does not go untested."""
    listed = {name.removeprefix("book/").removesuffix(".html") for name in CHAPTERS}
    assert listed >= WITH_FIGURES
