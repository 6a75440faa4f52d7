"""LensFigure in a page: by mouse, touch and keyboard, its numbers are torch's."""

import re

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE

from vitlib import VisionTransformer, logit_lens
from vitlib.widgets import LensFigure


def make(depth=3, num_classes=5):
    torch.manual_seed(1)
    model = VisionTransformer(
        img_size=(8, 12), patch_size=4, embed_dim=18, depth=depth, num_heads=2,
        num_classes=num_classes,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def image():
    return torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lens(model, image):
    return logit_lens(model, image[None])[0]  # (3, 5)


def status(page, figure=0):
    return page.locator("[data-part=status]").nth(figure).inner_text()


def check_layer(page, lens, layer):
    """Words, bars and the marked column are those of this layer."""
    top, answer = int(lens[layer].argmax()), int(lens[-1].argmax())
    words = status(page)
    assert words.startswith(f"After layer {layer}")
    numbers = [float(number) for number in re.findall(r"\d\.\d+", words)]
    if layer == len(lens) - 1:
        assert f"the model answers {top}" in words
    else:
        assert f"{top} leads" in words
        end = numbers[1 if top == answer else 2]
        assert end == pytest.approx(float(lens[-1, answer]), abs=6e-4)
    assert numbers[0] == pytest.approx(float(lens[layer, top]), abs=6e-4)
    widths = page.locator(".vl-bar").evaluate_all("bars => bars.map(bar => bar.style.width)")
    shown = [float(width.rstrip("%")) / 100 for width in widths]
    assert shown == pytest.approx(lens[layer].tolist(), abs=1e-5)
    chosen = page.locator("td.vl-chosen").all_inner_texts()
    assert chosen == [f"{p:.2f}" for p in lens[layer].tolist()]


def test_the_table_is_the_lens(show, model, image, lens):
    page = show(LensFigure(model, image))
    for row, cells in enumerate(page.locator("tbody tr").all()):
        assert cells.locator("th").inner_text() == str(row)
        shown = [float(cell) for cell in cells.locator("td[data-layer]").all_inner_texts()]
        assert shown == pytest.approx(lens[:, row].tolist(), abs=0.00501)
    check_layer(page, lens, 2)


def test_keys_mouse_and_finger_choose_a_layer(show, model, image, lens):
    page = show(LensFigure(model, image), touch=True)
    slider = page.locator("input[data-key=layer]")
    slider.press("Home")
    check_layer(page, lens, 0)
    slider.press("ArrowRight")
    check_layer(page, lens, 1)
    page.locator("td[data-layer='2']").first.hover()
    check_layer(page, lens, 2)
    page.locator("td[data-layer='0']").nth(3).tap()
    check_layer(page, lens, 0)
    assert slider.input_value() == "0"


def test_the_curve_is_the_answer_by_layer_and_the_truth(show, model, image, lens):
    answer = int(lens[-1].argmax())
    wrong = (answer + 1) % 5
    page = show(LensFigure(model, image, label=wrong))
    points = page.locator("polyline").evaluate_all(
        "lines => lines.map(line => [...line.points].map(point => point.y))"
    )
    zero, one = (
        page.locator("svg line").nth(i).evaluate("line => line.y1.baseVal.value") for i in (0, 2)
    )
    for heights, row in zip(points, (answer, wrong), strict=True):
        values = [(y - zero) / (one - zero) for y in heights]
        assert values == pytest.approx(lens[:, row].tolist(), abs=1e-3)
    label = page.locator("svg").get_attribute("aria-label")
    assert f"{answer}: {', '.join(f'{p:.3f}' for p in lens[:, answer].tolist())}" in label
    assert f"{wrong} (true)" in label
    assert f"The true class is {wrong}: {lens[2, wrong]:.3f} here." in status(page)
    page = show(LensFigure(model, image, label=answer))
    assert "That is right." in status(page)
    assert page.locator("polyline").count() == 1


def test_of_many_classes_the_rest_is_summed_and_a_wide_table_scrolls(show, image):
    model = make(depth=24, num_classes=40)
    lens = logit_lens(model, image[None])[0]
    figure = LensFigure(model, image)
    page = show(figure, viewport=PHONE)
    assert page.locator("tbody tr").count() == 21
    last = page.locator("tbody tr").last
    assert last.locator("th").inner_text() == "20 others"
    kept = [int(name) for name in figure.classes]
    rest = 1 - lens[:, kept].sum(dim=1)
    shown = [float(cell) for cell in last.locator("td[data-layer]").all_inner_texts()]
    assert shown == pytest.approx(rest.tolist(), abs=0.00501)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    area = page.locator(".vl-scroller")
    for key in ("End", "Home"):  # the chosen column is brought into view
        page.locator("input[data-key=layer]").press(key)
        column, box = page.locator("th.vl-chosen").bounding_box(), area.bounding_box()
        name = page.locator("tbody th").first.bounding_box()  # stays, and covers no chosen number
        assert name["x"] == pytest.approx(box["x"], abs=1)
        assert name["x"] + name["width"] - 1 <= column["x"]
        assert column["x"] + column["width"] <= box["x"] + box["width"] + 1


def test_two_figures_on_a_page_leave_each_other_alone(show, model, image):
    page = show(LensFigure(model, image), LensFigure(model, image))
    before = status(page, 1)
    page.locator("input[data-key=layer]").first.press("Home")
    assert status(page, 0) != before
    assert status(page, 1) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(show, model, image, scheme):
    page = show(LensFigure(model, image, label=0), viewport=PHONE, scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_grounds_stay_on_paper_and_in_a_systems_contrast_theme(show, model, image):
    """White words would stand on white paper, and bars would be gone."""
    page = show(LensFigure(model, image))
    ground = "part => getComputedStyle(part).backgroundColor"
    parts = [page.locator(".vl-bar").first, *page.locator("td[data-layer]").all()]
    before = [part.evaluate(ground) for part in parts]
    adjust = "part => getComputedStyle(part).printColorAdjust"
    assert {part.evaluate(adjust) for part in parts} == {"exact"}
    page.emulate_media(forced_colors="active")
    assert [part.evaluate(ground) for part in parts] == before
