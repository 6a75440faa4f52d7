"""CostFigure in a page: its numbers are TrainingCost's, whatever is moved."""

from itertools import product

import pytest
from browsing import PHONE, serious_violations

from vitlib.costs import TrainingCost
from vitlib.widgets import CostFigure
from vitlib.widgets.figure import KIT

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def number(text):
    value, unit = text.split()
    return float(value.replace(",", "")) * UNITS[unit]


def cost_of(figure):
    sizes = {name: getattr(figure, name) for name in figure.sizes}
    options = {"bf16": figure.bf16, "checkpointing": figure.checkpointing}
    return TrainingCost(num_heads=figure.embed_dim // 64, **sizes, **options)


def check_numbers(page, figure):
    cost = cost_of(figure)
    parts = {
        "weights": cost.weights, "gradients": cost.gradients, "AdamW": cost.optimizer,
        "activations": cost.activations,
    }  # fmt: skip
    for part, expected in parts.items():
        shown = page.locator(f"strong[data-part={part}]").text_content()
        assert number(shown) == pytest.approx(expected, rel=5e-3), part
    widths = page.locator("[data-part=bar] > div").evaluate_all(
        "pieces => pieces.map(piece => piece.getBoundingClientRect().width)"
    )
    for width, expected in zip(widths, parts.values(), strict=True):
        assert width / sum(widths) == pytest.approx(expected / cost.memory, abs=0.01)
    names = [*figure.sizes, "bf16", "checkpointing"]
    fixed = [name for name in names if name != figure.along]
    dots = [p for p in figure.measured if all(p[n] == getattr(figure, n) for n in fixed)]
    assert page.locator("[data-part=dot]").count() == 2 * len(dots)


def test_the_scripts_formulas_are_those_of_the_library(show):
    page = show("<p>nothing</p>")
    script = KIT + CostFigure._script
    for img_size, width, depth, bf16, checkpointing in product(
        (64, 224), (64, 768), (1, 12), (False, True), (False, True)
    ):
        sizes = {"img_size": img_size, "embed_dim": width, "depth": depth, "batch": 3}
        options = {"bf16": bf16, "checkpointing": checkpointing}
        cost = TrainingCost(num_heads=width // 64, **sizes, **options)
        got = page.evaluate(
            f"settings => {{ {script}; return trainingCost(settings); }}", sizes | options
        )
        assert got == {
            "parameters": cost.parameters,
            "flops": cost.flops,
            "memory": cost.memory,
            "parts": {
                "weights": cost.weights,
                "gradients": cost.gradients,
                "AdamW": cost.optimizer,
                "activations": cost.activations,
            },
        }


def test_every_control_is_followed(show):
    page = show(CostFigure())
    want = CostFigure()
    check_numbers(page, want)
    for name, key, value in [
        ("img_size", "End", 512), ("embed_dim", "Home", 64), ("depth", "ArrowRight", 16),
        ("batch", "ArrowLeft", 4),
    ]:  # fmt: skip
        said = page.locator("[data-part=status]").text_content()
        page.locator(f"input[data-key={name}]").press(key)
        setattr(want, name, value)
        check_numbers(page, want)
        assert page.locator("[data-part=status]").text_content() != said
    for name, label in [("bf16", "bfloat16"), ("checkpointing", "on")]:
        said = page.locator("[data-part=status]").text_content()
        page.get_by_label(label, exact=True).check()
        setattr(want, name, True)
        check_numbers(page, want)
        assert page.locator("[data-part=status]").text_content() != said
    page.locator("select[data-key=along]").select_option("batch")
    want.along = "batch"
    check_numbers(page, want)
    label = page.locator("svg[role=img]").first.get_attribute("aria-label")
    assert label.startswith("Memory by batch: ")


def test_dots_lie_where_they_were_measured(show):
    """Close to the line in memory: a quarter of the axis at most, for the larger ones."""
    figure = CostFigure(along="batch")
    page = show(figure)
    label = page.locator("svg[role=img]").first.get_attribute("aria-label")
    seen = label.split("Measured: ")[1].rstrip(".").split(", ")
    assert [one.split(": ")[0] for one in seen] == ["1", "8", "32"]
    fixed = ("img_size", "embed_dim", "depth", "bf16", "checkpointing")
    points = [p for p in figure.measured if all(p[n] == getattr(figure, n) for n in fixed)]
    for one, point in zip(seen, sorted(points, key=lambda p: p["batch"]), strict=True):
        assert number(one.split(": ")[1]) == pytest.approx(point["bytes"], rel=5e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_fits_a_phone(show, scheme):
    page = show(CostFigure(batch=64), viewport=PHONE, scheme=scheme)
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.locator("svg text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 11
