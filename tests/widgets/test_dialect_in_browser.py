"""DialectFigure in a page: where a number stands in the file, found there by its value."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from browsing import PHONE, serious_violations
from PIL import Image
from playwright.sync_api import expect
from widgets.test_dialect import written

from vitlib.checkpoints.dialects import SOURCES, translate
from vitlib.widgets import DialectFigure
from vitlib.widgets.dialect import _small_model
from vitlib.widgets.figure import KIT

MODEL = _small_model()
FILES = {source: written(MODEL, source) for source in SOURCES}
FILES["deit"] = FILES["deit"]["model"]
READ = {source: translate(FILES[source], source) for source in SOURCES}
QKV = "blocks.0.attn.qkv.weight"


def whereabouts(source, tensor, entry):
    """(name, flat index) in the file of timm's number: no two numbers of a tensor are equal."""
    value = MODEL.state_dict()[tensor].flatten()[entry]
    (found,) = [
        (origin, int(place))
        for origin in READ[source].origins[tensor]
        for place in (FILES[source][origin].flatten() == value).nonzero()
    ]
    return found


def index(flat, shape):
    return f"[{', '.join(map(str, np.unravel_index(flat, shape)))}]"


def sentence(source, tensor, entry):
    weight = MODEL.state_dict()[tensor]
    origin, place = whereabouts(source, tensor, entry)
    value = f"{weight.flatten()[entry]:.3f}".replace("-", "−")
    return (
        f"{tensor}{index(entry, weight.shape)} = {value} stands in the file as "
        f"{origin}{index(place, FILES[source][origin].shape)}."
    )


# Of each picture: whose it is, its rows and columns, and the middle of its ring in them.
LOOK = """figure => [figure.querySelector("[data-part=status]").textContent,
    [...figure.querySelectorAll(".vf-picker")].filter((box) => box.checkVisibility()).map((box) => {
        const area = box.getBoundingClientRect(), canvas = box.querySelector("canvas");
        const ring = box.querySelector(".vf-ring"), seen = ring.getBoundingClientRect();
        const part = (low, length, from, whole) => (low + length / 2 - from) / whole;
        return {
            name: box.ariaLabel, now: box.getAttribute("aria-valuenow"), hidden: ring.hidden,
            text: box.getAttribute("aria-valuetext"), rows: canvas.height, columns: canvas.width,
            across: part(seen.left, seen.width, area.left, area.width),
            down: part(seen.top, seen.height, area.top, area.height),
        };
    })]"""


def check(page, source, tensor, entry, place=0):
    status = page.locator("[data-part=status]").nth(place)
    expect(status).to_have_text(sentence(source, tensor, entry))  # waits: touch comes late
    _, boxes = page.locator(".vitlib-figure").nth(place).evaluate(LOOK)
    origin, inside = whereabouts(source, tensor, entry)
    assert [box["name"] for box in boxes] == [*READ[source].origins[tensor], tensor]
    for number, box in enumerate(boxes):
        in_timm = number == len(boxes) - 1
        if not in_timm and box["name"] != origin:
            assert box["hidden"]
            assert box["text"] == "the number is in another tensor"
            continue
        flat = entry if in_timm else inside
        row, column = divmod(flat, box["columns"])
        assert box["across"] == pytest.approx((column + 0.5) / box["columns"], abs=0.02)
        assert box["down"] == pytest.approx((row + 0.5) / box["rows"], abs=0.05)
        assert box["now"] == str(flat)
        shape = (MODEL.state_dict()[tensor] if in_timm else FILES[source][origin]).shape
        assert box["text"].startswith(f"{index(flat, shape)}, ")


def grid(box):
    canvas = box.locator("canvas")
    return int(canvas.get_attribute("height")), int(canvas.get_attribute("width"))


def spot(area, flat, rows, columns):
    row, column = divmod(flat, columns)
    return (
        area["x"] + (column + 0.5) / columns * area["width"],
        area["y"] + (row + 0.5) / rows * area["height"],
    )


def pixels_of_canvas(box):
    """(rows · columns, 3)"""
    url = box.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
    return torch.tensor(np.array(picture)).view(-1, 3).int()


def at(box, flat):
    box.scroll_into_view_if_needed()
    return spot(box.bounding_box(), flat, *grid(box))


def target(page):
    return page.locator(".vf-picker:visible").last


def names_of(source):
    """All tensors where something is done to the numbers; else some, of each number of axes."""
    if source in ("hf", "google_npz"):
        return list(MODEL.state_dict())
    return ["pos_embed", "patch_embed.proj.weight", QKV, "blocks.0.attn.qkv.bias", "head.weight"]


@pytest.mark.parametrize("source", SOURCES)
def test_whatever_is_pointed_at_is_found_on_the_other_side(show, source):
    page = show(DialectFigure(dialect=source))
    for tensor in names_of(source):
        weight = MODEL.state_dict()[tensor]
        page.locator("select").select_option(tensor)
        for entry in (weight.numel() // 3, weight.numel() - 1):
            page.mouse.move(*at(target(page), entry))
            check(page, source, tensor, entry)
        for number, origin in enumerate(READ[source].origins[tensor]):
            numbers = FILES[source][origin].flatten()
            place = 2 * len(numbers) // 3
            page.mouse.move(*at(page.locator(".vf-picker:visible").nth(number), place))
            (entry,) = (weight.flatten() == numbers[place]).nonzero()
            check(page, source, tensor, int(entry))


@pytest.mark.parametrize("source", SOURCES)
def test_every_single_number_is_found(show, source):
    """Not pointed at but set, which is quicker; the status is compared with the file's numbers."""
    figure = DialectFigure(dialect=source)
    told = show("<p>nothing</p>").evaluate(
        """([kit, script, state, tensors]) => new Function(
            "state", "tensors", `${kit}\n${script}
            const el = document.querySelector("main"), model = standIn(state);
            render({ model, el });
            const status = el.querySelector("[data-part=status]");
            return tensors.flatMap(([name, count]) => {
                assign(model, "tensor", name);
                return Array.from({ length: count }, (_, entry) => {
                    assign(model, "entry", entry);
                    return status.textContent;
                });
            });`,
        )(state, tensors)""",
        [
            KIT,
            DialectFigure._script,
            figure._shown_state(),
            [[name, weight.numel()] for name, weight in MODEL.state_dict().items()],
        ],
    )
    assert told == [
        sentence(source, name, entry)
        for name, weight in MODEL.state_dict().items()
        for entry in range(weight.numel())
    ]


def test_the_pictures_are_the_true_numbers(show):
    page = show(DialectFigure(dialect="google_npz"))
    blue, white, orange = (torch.tensor(c) for c in ([0, 114, 178], [255] * 3, [213, 94, 0]))
    for tensor in (QKV, "patch_embed.proj.weight", "blocks.0.attn.proj.weight", "head.bias"):
        page.locator("select").select_option(tensor)
        weight = MODEL.state_dict()[tensor]
        boxes = page.locator(".vf-picker:visible").all()
        drawn = [FILES["google_npz"][origin] for origin in READ["google_npz"].origins[tensor]]
        for box, numbers in zip(boxes, [*drawn, weight], strict=True):
            pixels = pixels_of_canvas(box)
            share = numbers.flatten() / weight.abs().max()
            end = torch.where(share[:, None] < 0, blue, orange)
            expected = white + (end - white) * share.abs()[:, None]
            assert (pixels - expected).abs().max() <= 1
    page.locator("select").select_option(QKV)
    seams = page.locator(".vd-seam").evaluate_all("lines => lines.map(line => line.style.top)")
    assert [float(top.rstrip("%")) for top in seams] == pytest.approx([100 / 3, 200 / 3], abs=1e-3)


def test_words_say_what_is_done(show):
    page = show(DialectFigure(dialect="google_npz"))
    done = page.locator("[data-part=done]")
    shapes = "(8, 2, 4), (8, 2, 4), (8, 2, 4) → (24, 8)"
    expect(done).to_have_text(f"The numbers are transposed and joined: {shapes}.")
    page.locator("input[value=hf]").check()
    shapes = "(8, 8), (8, 8), (8, 8) → (24, 8)"
    expect(done).to_have_text(
        f'First the prefix "vit." is taken off. The numbers are joined: {shapes}.'
    )
    page.locator("input[value=torchvision]").check()
    expect(done).to_have_text("Only the name changes; shape and numbers stay.")
    page.locator("input[value=deit]").check()
    expect(done).to_have_text(
        'First the wrapper ["model"] is taken off. Name, shape and numbers are the same as in timm.'
    )
    page.locator("input[value=google_npz]").check()
    page.locator("summary").click()
    rows = page.locator("[data-part=list] tbody tr").all_inner_texts()
    assert len(rows) == len(MODEL.state_dict())
    for row, (name, weight) in zip(rows, MODEL.state_dict().items(), strict=True):
        shape = str(tuple(weight.shape))
        assert f"{name} {shape}" in row
        for origin in READ["google_npz"].origins[name]:
            assert f"{origin} {tuple(FILES['google_npz'][origin].shape)}" in row
        assert row.endswith(READ["google_npz"].operations[name] or "renamed") or name == "pos_embed"


def test_by_keyboard(show):
    page = show(DialectFigure(entry=107))  # [13, 3], of the key's tensor
    dialect = page.locator("input[type=radio]:checked")
    page.keyboard.press("Tab")
    assert dialect.evaluate("one => one === document.activeElement")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    for _ in range(3):
        page.keyboard.press("Tab")  # query, key, value
    value = page.locator(".vf-picker:visible").nth(2)
    check(page, "hf", QKV, 107)
    key = page.locator(".vf-picker:visible").nth(1)
    key.press("ArrowRight")
    check(page, "hf", QKV, 108)
    key.press("ArrowDown")
    check(page, "hf", QKV, 116)
    key.press("End")
    check(page, "hf", QKV, 127)
    key.press("ArrowRight")  # here this tensor ends
    check(page, "hf", QKV, 127)
    value.press("ArrowRight")  # from another tensor to the first number of this one
    check(page, "hf", QKV, 128)
    target(page).press("ArrowUp")
    check(page, "hf", QKV, 120)
    page.locator("input[type=radio]:checked").press("ArrowRight")
    page.locator("input[type=radio]:checked").press("ArrowRight")
    check(page, "google_npz", QKV, 120)
    page.locator("select").press("ArrowDown")
    check(page, "google_npz", "blocks.0.attn.qkv.bias", 0)  # number 120 is none of 24


def test_a_click_keeps_a_number_and_leaving_gives_it_back(show):
    page = show(DialectFigure(dialect="google_npz", entry=5))
    boxes = page.locator(".vf-picker:visible")
    page.mouse.click(*at(boxes.nth(2), 9))
    (kept,) = (
        MODEL.state_dict()[QKV].flatten() == FILES["google_npz"][
            READ["google_npz"].origins[QKV][2]
        ].flatten()[9]
    ).nonzero()  # fmt: skip
    check(page, "google_npz", QKV, int(kept))
    for box, place in [(boxes.nth(0), 3), (target(page), 77), (boxes.nth(1), 63)]:
        page.mouse.move(*at(box, place))
        assert (
            sentence("google_npz", QKV, int(kept))
            != page.locator("[data-part=status]").inner_text()
        )
        page.mouse.move(0, 0)
        check(page, "google_npz", QKV, int(kept))


def test_by_touch(show):
    page = show(DialectFigure(), viewport=PHONE, touch=True)
    page.touchscreen.tap(*at(target(page), 170))
    check(page, "hf", QKV, 170)
    page.touchscreen.tap(*at(page.locator(".vf-picker:visible").nth(1), 10))
    check(page, "hf", QKV, 74)
    page.locator("label", has_text="Google").tap()
    check(page, "google_npz", QKV, 74)


def test_two_figures_do_not_disturb_each_other(show):
    page = show(DialectFigure(), DialectFigure(dialect="google_npz", tensor="norm.bias"))
    first = page.locator(".vitlib-figure").first.inner_html()
    second = page.locator(".vitlib-figure").nth(1)
    second.locator("input[value=timm]").check()
    second.locator("select").select_option("head.weight")
    second.locator(".vf-picker:visible").last.press("End")
    check(page, "timm", "head.weight", 23, place=1)
    assert page.locator(".vitlib-figure").first.inner_html() == first


@pytest.mark.parametrize("source", SOURCES)
def test_it_fits_a_phone_and_nothing_moves_under_the_finger(show, source):
    page = show(DialectFigure(dialect=source), viewport=PHONE)
    page.locator("summary").click()
    for tensor in MODEL.state_dict():
        page.locator("select").select_option(tensor)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        box = target(page)
        tops = set()
        for key in ("Home", "ArrowRight", "ArrowDown", "End", "ArrowLeft", "ArrowUp"):
            box.press(key)
            tops.add(page.evaluate("document.querySelector('.vd-sides').offsetTop"))
        assert len(tops) == 1
        for one in page.locator(".vf-picker:visible").all():
            area = one.bounding_box()
            assert area["height"] >= 22
            assert area["width"] / grid(one)[1] > 6, "each number can be seen"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(show, scheme):
    page = show(DialectFigure(), DialectFigure(dialect="google_npz"), scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert serious_violations(page) == []
    assert re.search(r"±\d", page.locator("[data-part=scale]").first.inner_text())
