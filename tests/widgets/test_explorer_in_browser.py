"""Explorer in a page: what a reader does there, and that torch gives the same probabilities."""

import base64
import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from browsing import PHONE, WIDE, serious_violations
from interventions import (
    block_off,
    heads_off,
    hide,
    late,
    made,
    no_positions,
    on_patches,
    temperature,
    uniform,
)
from playwright.sync_api import Page, expect

from vitlib import AttentionRecorder
from vitlib.attention import unfused
from vitlib.explain import logit_lens
from vitlib.widgets import Explorer

CLASSES = ("ant", "bee", "cat", "dog", "elk")
HEADS = 4  # of each of the model's three blocks; a picture is 2×3 patches


def model():
    """Four heads, a class token and a register, weights that attend to something, rounded."""
    small = made(reg_tokens=1).half().float()
    small.classes = CLASSES
    return small


IMAGES = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def of_torch(image=0, *interventions, images=IMAGES) -> np.ndarray:
    """The probabilities (K,) of torch's model, after `interventions`: [function, *arguments]."""
    changed = model()
    for apply, *arguments in interventions:
        apply(changed, *arguments)
    with unfused(changed), torch.no_grad():
        return changed(images[[image]])[0].softmax(dim=0).numpy()


def wait(page: Page) -> None:
    page.wait_for_selector(".ve-explorer[aria-busy=false]")


def answers(page: Page, column=3) -> np.ndarray:
    """The probabilities of the classes; with column 4 those without changes."""
    wait(page)
    cells = page.locator(f".ve-result [data-part=answer] td:nth-child({column})")
    return np.array([float(text.removesuffix(" %")) / 100 for text in cells.all_inner_texts()])


def part(page: Page, name: str):
    return page.locator(f"[data-part={name}]").first


def press(page: Page, words: str) -> None:
    page.get_by_role("button", name=words, exact=True).click()


def radio(page: Page, key: str, value: object) -> None:
    page.locator(f'input[data-key="{key}"][value="{value}"]').check()


def slide(page: Page, key: str, step: int) -> None:
    page.locator(f'input[data-key="{key}"]').fill(str(step))


def choose_head(page: Page, layer: int, head: int) -> None:
    """By keyboard, in the grid of all heads."""
    grid = page.locator('.vf-picker[data-key="cell"]').first
    for key in ["Home", *["ArrowDown"] * layer, *["ArrowRight"] * head]:
        grid.press(key)
    assert f"block {layer}, head {head}" in grid.get_attribute("aria-valuetext")


def patch_at(page: Page, patch: int) -> dict[str, float]:
    box = page.locator(".ve-input .ve-picture").bounding_box()
    row, column = divmod(patch, 3)
    return {"x": (column + 0.5) / 3 * box["width"], "y": (row + 0.5) / 2 * box["height"]}


def hide_patches(page: Page, *patches: int) -> None:
    radio(page, "click", "hide")
    for patch in patches:
        page.locator(".ve-input .ve-picture").click(position=patch_at(page, patch))


def head_is(page: Page, layer: int, head: int, mode: str) -> None:
    choose_head(page, layer, head)
    radio(page, "head", mode)


def block_is(page: Page, layer: int, mode: str) -> None:
    choose_head(page, layer, 0)
    radio(page, "block", mode)


def only(page: Page, layer: int, head: int, words: str) -> None:
    choose_head(page, layer, head)
    press(page, words)


def state(page: Page) -> dict:
    """What the link to the present state says."""
    press(page, "Link")
    link = page.get_by_label("Link to this state").input_value()
    return json.loads(unquote(link.split("=", 1)[1]))


# In the page, and in torch.
INTERVENTIONS = {
    "a head off": (lambda page: head_is(page, 1, 2, "off"), [(heads_off, 1, [2])]),
    "only a head": (
        lambda page: only(page, 0, 2, "Only this head in its block"),
        [(heads_off, 0, [0, 1, 3])],
    ),
    "even": (lambda page: head_is(page, 0, 1, "uniform"), [(uniform, 0, [1])]),
    "a block off": (lambda page: block_is(page, 1, "off"), [(block_off, 1)]),
    "only a block": (
        lambda page: only(page, 1, 0, "Only this block"),
        [(block_off, 0), (block_off, 2)],
    ),
    "attention off": (lambda page: block_is(page, 2, "attention"), [(block_off, 2, ["ls1"])]),
    "MLP off": (lambda page: block_is(page, 0, "mlp"), [(block_off, 0, ["ls2"])]),
    "hidden": (lambda page: hide_patches(page, 0, 4), [(hide([0, 4], [0.0, 0.0, 0.0]),)]),
    "warm": (lambda page: slide(page, "temperature", 5), [(temperature, None, [0, 1, 2, 3], 4)]),
    "cold": (lambda page: slide(page, "temperature", 1), [(temperature, None, [0, 1, 2, 3], 0.25)]),
    "late": (lambda page: slide(page, "entry", 2), [(late, 2)]),
    "never": (lambda page: slide(page, "entry", 3), [(late, 3)]),
    "no positions": (lambda page: radio(page, "positions", "false"), [(no_positions,)]),
}


@pytest.mark.parametrize("http", [True, False], ids=["http", "file"])
def test_each_intervention_is_torchs(show, http) -> None:
    page = show(Explorer(model(), IMAGES), http=http)
    plain = of_torch()
    np.testing.assert_allclose(answers(page), plain, atol=1e-3)
    for name, (act, changes) in INTERVENTIONS.items():
        act(page)
        expected = of_torch(0, *changes)
        assert np.abs(expected - plain).max() > 2e-3, f"{name} must be seen to matter"
        np.testing.assert_allclose(answers(page), expected, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(answers(page, 4), plain, atol=1e-3)
        press(page, "Reset")
    np.testing.assert_allclose(answers(page), plain, atol=1e-3)
    assert len(page.workers) == 1, "the model runs beside the page, not in it"


def test_several_at_once_on_another_picture(show) -> None:
    page = show(Explorer(model(), IMAGES))
    page.locator("input[data-key=picture]").nth(1).check(force=True)
    press(page, "Shuffle patches")
    hide_patches(page, 1)
    head_is(page, 2, 0, "off")
    block_is(page, 1, "mlp")
    slide(page, "temperature", 4)
    link = state(page)
    assert sorted(link["order"]) == list(range(6))
    changes = [
        (on_patches(lambda x: x[:, link["order"]]),),
        (hide([1], [0.0, 0.0, 0.0]),),
        (temperature, None, [0, 1, 2, 3], 2),
        (heads_off, 2, [0]),
        (block_off, 1, ["ls2"]),
    ]
    found = answers(page)
    np.testing.assert_allclose(found, of_torch(1, *changes), atol=1e-3)
    told = part(page, "changes").inner_text()
    for words in ("Patches shuffled", "1 patch hidden", "Block 2, head 0 off", "Block 1, MLP off"):
        assert words in told
    page.get_by_role("button", name="Take back: Temperature 2").click()
    del changes[2]
    np.testing.assert_allclose(answers(page), of_torch(1, *changes), atol=1e-3)


def test_what_is_seen_between_is_torchs(show) -> None:
    page = show(Explorer(model(), IMAGES))
    wait(page)
    choose_head(page, 1, 3)
    page.locator('.ve-first .vf-picker[data-key="token"]').press("End")
    rounded = model()
    with torch.no_grad(), AttentionRecorder(rounded) as recorder:
        rounded(IMAGES[:1])
        tokens = rounded.forward_intermediates(IMAGES[:1])
    weights = recorder.layers[1][0, 3, 7]
    largest = int(weights[2:].argmax())
    words = part(page, "attention").inner_text()
    assert f"patch 5 (row 1, column 2) takes {100 * weights[2 + largest]:.1f} % from" in words
    assert f"from patch {largest} (row" in words
    norms = page.locator("[data-part=stream] td:nth-child(3)").all_inner_texts()[1:]
    expected = [float(x[0, 7].norm()) for x in tokens]
    assert [float(n) for n in norms] == pytest.approx(expected, abs=0.051)
    lens = page.locator("[data-part=lens] tbody td").all_inner_texts()[5:]
    expected = 100 * logit_lens(rounded, IMAGES[:1])[0].flatten()
    np.testing.assert_allclose([float(n) for n in lens], expected, atol=0.52)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["1280", "390"])
def test_the_first_picture_is_there_before_the_model(show, browser, tmp_path, viewport) -> None:
    """What torch computed is shown while the worker does not answer."""
    silent = "<script>window.Worker = class { postMessage() {} terminate() {} };</script>"
    page = show(silent, Explorer(model(), IMAGES), viewport=viewport)
    page.wait_for_selector(".ve-explorer[aria-busy=true]")
    cells = page.locator(".ve-result [data-part=answer] .ve-before").all_inner_texts()
    shown = [float(text.removesuffix(" %")) / 100 for text in cells]
    np.testing.assert_allclose(shown, of_torch(), atol=1e-3)


def test_where_workers_are_forbidden_the_page_computes(browser, tmp_path) -> None:
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    (tmp_path / "page.html").write_text(
        '<!doctype html><html><head><meta charset="utf-8"><meta http-equiv='
        f'"Content-Security-Policy" content="{policy}; worker-src \'none\'"></head>'
        f"<body>{Explorer(model(), IMAGES).to_html()}</body></html>"
    )
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    head_is(page, 1, 2, "off")
    np.testing.assert_allclose(answers(page), of_torch(0, (heads_off, 1, [2])), atol=1e-3)
    assert page.workers == []
    page.close()


def test_which_head_matters(show) -> None:
    page = show(Explorer(model(), IMAGES))
    hide_patches(page, 3)
    wait(page)
    press(page, "Which head matters?")
    cells = page.locator(".ve-drops span")
    page.wait_for_function("!document.querySelector('.ve-drops').innerText.includes('…')")
    hidden = (hide([3], [0.0, 0.0, 0.0]),)
    before = of_torch(0, hidden)
    answer = before.argmax()
    drops = [
        before[answer] - of_torch(0, hidden, (heads_off, layer, [head]))[answer]
        for layer in range(3)
        for head in range(HEADS)
    ]
    found = [float(text.replace("−", "-")) / 100 for text in cells.all_inner_texts()]
    np.testing.assert_allclose(found, drops, atol=1e-3)
    layer, head = divmod(int(np.argmax(drops)), HEADS)
    assert part(page, "note").inner_text().startswith(f"Block {layer}, head {head} matters most")
    head_is(page, 0, 0, "off")
    assert not cells.first.is_visible(), "drops belong to the state that they were measured in"


def test_undo_takes_back_one_gesture_after_the_other(show) -> None:
    page = show(Explorer(model(), IMAGES))
    seen = [answers(page)]
    for act in (
        lambda: hide_patches(page, 2),
        lambda: block_is(page, 0, "off"),
        lambda: press(page, "Reset"),
        lambda: slide(page, "entry", 1),
        lambda: page.locator("input[data-key=picture]").nth(2).check(force=True),
    ):
        act()
        seen.append(answers(page))
    for expected in reversed(seen[:-1]):
        press(page, "Undo")
        np.testing.assert_array_equal(answers(page), expected)
    assert page.get_by_role("button", name="Undo", exact=True).is_disabled()
    box = page.locator(".ve-input .ve-picture").bounding_box()
    for patch in (0, 1, 2):  # a stroke over three patches
        at = patch_at(page, patch)
        page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
        if patch == 0:
            page.mouse.down()
    page.mouse.up()
    assert "3 patches hidden" in part(page, "changes").inner_text()
    press(page, "Undo")
    assert part(page, "changes").inner_text() == "Nothing is changed."


def test_a_link_brings_a_state_back(show) -> None:
    page = show(Explorer(model(), IMAGES), http=True)
    hide_patches(page, 1, 5)
    head_is(page, 2, 1, "uniform")
    expected, link = answers(page), state(page)
    assert link == {
        "hidden": [1, 5],
        "heads": {"9": "uniform"},
        "token": 7,
        "cell": 9,
        "picture": 0,
    }
    press(page, "Reset")
    page.reload()
    np.testing.assert_array_equal(answers(page), expected)
    address = page.url
    for broken in ("%7B", unquote(address.split("=")[1]).replace("[1,5]", "[1,6]"), "%22x%22"):
        page.goto("about:blank")
        page.goto(f"{address.split('=')[0]}={broken}")
        np.testing.assert_allclose(answers(page), of_torch(), atol=1e-3)
        assert "could not be read" in part(page, "note").inner_text()
    page.evaluate("url => { location.href = url }", address)  # a link in the page itself
    page.wait_for_function("document.querySelector('[data-part=changes]').innerText.includes('2')")
    np.testing.assert_array_equal(answers(page), expected)


def test_a_drawing_of_ones_own_is_computed_linked_and_undone(show) -> None:
    page = show(Explorer(model(), IMAGES), http=True)
    before = answers(page)
    page.locator(".ve-own summary").click()
    pad = page.locator("[data-part=pad]")
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 90, steps=5)
    page.mouse.up()
    page.wait_for_function("!document.querySelector('.ve-examples input:checked')")
    wait(page)
    pixels = np.frombuffer(base64.b64decode(state(page)["own"]), np.uint8)
    drawn = torch.from_numpy(pixels.reshape(8, 12, 3) / np.float32(255)).permute(2, 0, 1)[None]
    assert 0.05 < float((drawn != drawn[0, 0, 0, 0]).float().mean()) < 0.95
    expected = of_torch(0, images=drawn)
    np.testing.assert_allclose(answers(page), expected, atol=2e-3)
    page.reload()
    np.testing.assert_allclose(answers(page), expected, atol=2e-3)
    press(page, "Undo")
    np.testing.assert_array_equal(answers(page), before)


def test_two_states_side_by_side(show) -> None:
    page = show(Explorer(model(), IMAGES))
    block_is(page, 1, "off")
    wait(page)
    press(page, "Keep to compare")
    press(page, "Reset")
    hide_patches(page, 0)
    wait(page)
    kept, now = (page.get_by_role("group", name=name, exact=True) for name in ("Kept", "Now"))
    for card, words, changes in (
        (kept, "Block 1 off", [(block_off, 1)]),
        (now, "1 patch hidden", [(hide([0], [0.0, 0.0, 0.0]),)]),
    ):
        assert words in card.inner_text()
        shown = card.locator("tbody td:nth-child(3)").all_inner_texts()
        expected = of_torch(0, *changes)
        np.testing.assert_allclose([float(s[:-2]) / 100 for s in shown], expected, atol=1e-3)
    press(page, "Go back to the kept state")
    np.testing.assert_allclose(answers(page), of_torch(0, (block_off, 1)), atol=1e-3)
    press(page, "Stop comparing")
    assert kept.is_hidden()


def test_two_figures_do_not_disturb_each_other(show) -> None:
    page = show(Explorer(model(), IMAGES), Explorer(model(), IMAGES[1:]))
    first, second = (page.locator(".ve-explorer").nth(i) for i in (0, 1))
    second.locator('input[data-key="temperature"]').fill("6")
    page.wait_for_function("document.querySelectorAll('[aria-busy=false]').length === 2")
    assert "Nothing is changed." in first.locator("[data-part=changes]").inner_text()
    assert "Temperature 10" in second.locator("[data-part=changes]").inner_text()


def test_without_a_head_the_page_says_so(show) -> None:
    page = show(Explorer(made(num_classes=0)))
    assert "There is nothing to explore" in page.locator(".ve-explorer").inner_text()


# --- the tour, and everyone


class Keys:
    """The keyboard alone: Tab to an element, then press."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def reach(self, selector: str, back: bool = False) -> None:
        for _ in range(80):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def test_the_tour_is_walked_by_keyboard_alone(show) -> None:
    page = show(Explorer(model(), IMAGES), http=True)
    wait(page)
    keys = Keys(page)
    grid, own = '.ve-grid [data-key="cell"]', '.ve-input [data-key="token"]'
    tokens, reset = '.ve-first [data-key="token"]', ".ve-result .vf-controls button:nth-child(2)"
    steps = [
        [("input[data-key=picture]", ["ArrowRight"])],
        [(own, ["ArrowRight"])],
        [(tokens, ["Home"])],
        [(grid, ["ArrowRight"])],
        [('.ve-head[data-key="token"]', ["ArrowRight"])],
        [(tokens, ["Home"])],
        [("input[data-key=block]", ["ArrowRight"])],
        [(".ve-changes button", ["Tab", "Enter"])],
        [(own, ["Home", " ", "ArrowRight", " ", "ArrowRight", " "])],
        [
            (reset, ["Enter"]),
            ("input[data-key=positions]", ["ArrowRight"], "back"),
            (".ve-input > .vf-controls button", ["Enter", "Enter"], "back"),
        ],
        [(reset, ["Enter"]), ("input[data-key=head]", ["ArrowRight"])],
        [("[data-tour=drops] button", ["Enter"])],
    ]  # fmt: skip
    keys.reach(".ve-explorer > button")
    keys.press("Enter")
    for number, acts in enumerate(steps, 1):
        words = part(page, "step").inner_text()
        assert words.startswith(f"{number} of 12 ")
        assert part(page, "step").evaluate("e => e === document.activeElement"), "it is read"
        assert not page.locator(".ve-done").inner_text(), words
        for selector, pressed, *back in acts:
            keys.reach(selector, bool(back))
            keys.press(*pressed)
        expect(page.locator(".ve-done"), words).to_contain_text("Done")
        if number == 3:  # leave, come back another day
            keys.reach(".ve-tour .vf-controls button:nth-child(3)", back=True)
            keys.press("Enter")
            page.reload()
            wait(page)
            keys.reach(".ve-explorer > button")
            assert "step 3 of 12" in page.locator(".ve-explorer > button").inner_text()
            keys.press("Enter")
        keys.reach(".ve-tour .vf-controls button:nth-child(2)", back=True)
        keys.press("Enter")
    assert page.locator(".ve-tour").is_hidden()
    assert "Take the tour" in page.locator(".ve-explorer > button").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["1280", "390"])
def test_nothing_keeps_anyone_out(show, scheme, viewport) -> None:
    page = show(Explorer(model(), IMAGES), scheme=scheme, viewport=viewport)
    wait(page)
    page.locator(".ve-explorer > button").click()
    page.locator(".ve-own summary").click()
    block_is(page, 1, "off")
    press(page, "Keep to compare")
    press(page, "Which head matters?")
    page.wait_for_function("!document.querySelector('.ve-drops').innerText.includes('…')")
    state(page)
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_by_touch_on_a_phone(show) -> None:
    page = show(Explorer(model(), IMAGES), viewport=PHONE, touch=True)
    wait(page)
    page.locator('input[data-key="click"][value="hide"]').tap()
    page.locator(".ve-input .ve-picture").tap(position=patch_at(page, 4))
    expected = of_torch(0, (hide([4], [0.0, 0.0, 0.0]),))
    np.testing.assert_allclose(answers(page), expected, atol=1e-3)
    page.locator(".ve-flow").evaluate("e => e.scrollIntoView()")
    said = part(page, "status").bounding_box()
    assert said["y"] + said["height"] <= PHONE["height"] + 1, "what a change does stays in sight"


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["1280", "390"])
def test_200_random_gestures(show, viewport) -> None:
    """Whatever a reader does, no error is logged (`show` sees to that) and the page answers."""
    page = show(Explorer(model(), IMAGES), viewport=viewport)
    wait(page)
    rng = np.random.default_rng(0)
    page.locator(".ve-own summary").click()
    keys = ["Tab", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "Home", "End", " ", "Enter"]
    shown = "button:visible:not(:disabled), input:visible:not([type=text]), .vf-picker:visible"
    for _ in range(200):
        if rng.random() < 0.4:
            page.keyboard.press(str(rng.choice(keys)))
            continue
        targets = page.locator(f".ve-explorer :is({shown})")
        target = targets.nth(int(rng.integers(targets.count())))
        if target.inner_text() == "Choose a picture":
            continue  # opens the system's own dialogue
        x, y = rng.random(2)
        target.evaluate(
            """(target, [x, y]) => {
                target.scrollIntoView({ block: "center" });
                const { left, top, width, height } = target.getBoundingClientRect();
                window.aim = [left + x * width, top + y * height];
            }""",
            [x, y],
        )
        page.mouse.click(*page.evaluate("window.aim"))
    wait(page)
    assert re.fullmatch(r"(The model|Still|From) .*\.", part(page, "status").inner_text())
    press(page, "Reset")
    np.testing.assert_allclose(answers(page), answers(page, 4), atol=1e-6)
