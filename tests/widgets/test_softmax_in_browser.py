"""SoftmaxFigure in a page: its numbers are torch's, whatever is moved, and however."""

import math
import re
from itertools import product

import pytest
import torch
from browsing import PHONE, serious_violations
from widgets.test_softmax import jacobian_norms, products_of

from vitlib.palette import ORANGE, SKY
from vitlib.widgets import SoftmaxFigure
from vitlib.widgets.figure import KIT
from vitlib.widgets.softmax import WIDTHS


def number(text):
    """0.215 or 3.1 × 10⁻⁷ or −2 as a float."""
    text = text.replace("−", "-").replace(" × 10⁻", "e-")
    return float(text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")))


def shown(page, part, figure=0):
    return page.locator(f"[data-part={part}]").nth(figure).text_content()


def shown_list(page, part, figure=0):
    return [number(text) for text in shown(page, part, figure).split(": ")[1].split()]


def scores_of(figure):
    power = {"divide": -0.5, "none": 0, "multiply": 0.5}[figure.scale]
    products = products_of(figure)[WIDTHS.index(figure.d), figure.query, : figure.num_keys]
    return products * figure.d**power / figure.temperature


def check_numbers(page, figure, place=0):
    """All that the page says of `figure`, which stands for the state it should be in."""
    scores = scores_of(figure)
    weights = scores.softmax(dim=-1)
    nats = float(-torch.xlogy(weights, weights).sum())
    gradient = float(jacobian_norms(scores[None]))
    assert shown_list(page, "scores", place) == pytest.approx(scores.tolist(), abs=5.1e-4)
    assert shown_list(page, "weights", place) == pytest.approx(weights.tolist(), abs=5.1e-5)
    of = {part: shown(page, part, place) for part in ("spread", "largest", "entropy", "gradient")}
    assert number(of["spread"]) == pytest.approx(float(scores.std()), abs=5.1e-3)
    assert number(of["largest"]) == pytest.approx(float(weights.max()), abs=5.1e-4)
    assert number(of["entropy"]) == pytest.approx(nats, abs=5.1e-4)
    assert number(of["gradient"]) == pytest.approx(gradient, rel=0.05, abs=1e-15)
    share = shown(page, "share", place).removesuffix(" %")
    assert float(share) == pytest.approx(100 * nats / math.log(figure.num_keys), abs=0.051)
    status = shown(page, "status", place)
    assert f"Products of {figure.d} numbers" in status
    assert f"{math.exp(nats):.1f} of {figure.num_keys} keys" in status


STATES = [
    {},
    {"d": 4, "num_keys": 2, "query": 8},
    {"d": 512, "scale": "none", "num_keys": 64},
    {"d": 512, "scale": "multiply", "temperature": 0.1, "num_keys": 64, "query": 3},
    {"d": 16, "scale": "none", "temperature": 10.0, "num_keys": 32, "query": 5},
    {"d": 128, "scale": "multiply", "temperature": 2.5, "num_keys": 8},
]


def test_numbers_are_torchs_at_many_settings_and_figures_stay_apart(show):
    figures = [SoftmaxFigure(**state) for state in STATES]
    page = show(*figures)
    page.locator("[data-key=scale][value=divide]").nth(1).check()
    figures[1].scale = "divide"
    for place, figure in enumerate(figures):
        check_numbers(page, figure, place)


def test_the_scripts_own_functions_agree_with_torch(show):
    """To 1e-6, relative for the gradient: also where one weight is 1 but for rounding."""
    page = show("<p>nothing</p>")
    script = KIT + SoftmaxFigure._script
    torch.manual_seed(0)
    for count, spread in product([2, 7, 64], [0, 0.1, 1, 8, 30, 700]):
        scores = torch.randn(count, dtype=torch.float64) * spread
        got = page.evaluate(
            f"scores => {{ {script}; const w = softmax(scores);"
            "return [w, entropy(w), jacobianNorm(w)]; }",
            scores.tolist(),
        )
        weights = scores.softmax(dim=-1)
        assert got[0] == pytest.approx(weights.tolist(), abs=1e-12)
        nats = -torch.xlogy(weights, weights).sum()
        assert got[1] == pytest.approx(float(nats), abs=1e-9)
        gradient = float(jacobian_norms(scores[None]))
        assert got[2] == pytest.approx(gradient, rel=1e-6, abs=1e-15)
    extreme = page.evaluate(f"() => {{ {script}; return softmax([1000, 0, 1000]); }}")
    assert extreme == [0.5, 0, 0.5]


def test_keys_mouse_and_finger_move_it(show):
    page = show(SoftmaxFigure(), touch=True)
    want = SoftmaxFigure()
    page.locator("input[data-key=d]").press("End")
    want.d = 512
    check_numbers(page, want)
    page.locator("input[data-key=d]").press("ArrowLeft")
    want.d = 256
    check_numbers(page, want)
    page.locator("input[data-key=scale]:checked").press("ArrowRight")
    want.scale = "none"
    check_numbers(page, want)
    box = page.locator("input[data-key=temperature]").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    want.temperature = 10.0
    check_numbers(page, want)
    box = page.locator("input[data-key=num_keys]").bounding_box()
    page.touchscreen.tap(box["x"] + 2, box["y"] + box["height"] / 2)
    want.num_keys = 2
    check_numbers(page, want)
    page.locator("label", has_text="× √d").tap()
    want.scale = "multiply"
    check_numbers(page, want)
    page.locator("input[data-key=query]").press("End")
    want.query = 8
    check_numbers(page, want)


def test_bars_and_curves_are_drawn_to_scale(show):
    figure = SoftmaxFigure(d=32, num_keys=8, scale="none")
    page = show(figure)
    scores = scores_of(figure)
    heights = page.locator("svg[role=img]").evaluate_all(
        "pictures => pictures.slice(0, 2).map(picture => [...picture.querySelectorAll('rect')]"
        ".filter(bar => bar.style.display !== 'none')"
        ".map(bar => Number(bar.getAttribute('height'))))"
    )
    ticks = page.locator("svg[role=img]").first.locator("text").all_text_contents()
    limit = number(ticks[-1])
    assert limit >= float(scores.abs().max()) > limit / 4
    assert heights[0] == pytest.approx((scores.abs() / (2 * limit) * 124).tolist(), abs=1e-3)
    assert heights[1] == pytest.approx((scores.softmax(-1) * 124).tolist(), abs=1e-3)

    fills = (
        page.locator("svg[role=img]")
        .first.locator("rect")
        .evaluate_all(
            "bars => bars.filter(bar => bar.style.display !== 'none')"
            ".map(bar => bar.getAttribute('fill'))"
        )
    )
    assert fills == [ORANGE if score > 0 else SKY for score in scores]

    label = page.locator("svg[role=img]").nth(3).get_attribute("aria-label")
    median = jacobian_norms(products_of(figure)[WIDTHS.index(32), :, :8]).median()
    said = re.search(r"At d = 32, as they are: (.*)\.$", label).group(1)
    assert number(said) == pytest.approx(float(median), abs=5.1e-4)
    label = page.locator("svg[role=img]").nth(2).get_attribute("aria-label")
    weights = products_of(figure)[WIDTHS.index(32), :, :8].softmax(-1)
    share = -torch.xlogy(weights, weights).sum(-1).mean() / math.log(8)
    said = re.search(r"At d = 32, as they are: (.*)\.$", label).group(1)
    assert number(said) == pytest.approx(float(share), abs=5.1e-4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_fits_a_phone(show, scheme):
    page = show(SoftmaxFigure(num_keys=64), viewport=PHONE, scheme=scheme)
    page.locator("summary").click()
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.locator("svg text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 11
