"""RunsFigure in a page: by mouse, touch and keyboard, its numbers are the record's."""

import math
from statistics import mean

import pytest
from browsing import PHONE, serious_violations
from widgets.test_runs import changed, record

from vitlib.widgets import RunsFigure


def part(page, name, figure=0):
    return page.locator(f"[data-part={name}]").nth(figure).inner_text().replace("\xa0", " ")


def shown_lines(page):
    """The chosen lines as lists of (x, y), by kind; and how many faint ones are seen."""
    points = """nodes => nodes.map(node =>
        node.getAttribute("d").slice(1).split("L").map(pair => pair.split(" ").map(Number)))"""
    thin, thick = (
        page.locator(f".vf-lines .vf-{kind}").evaluate_all(points) for kind in ("seed", "chosen")
    )
    others = page.locator(".vf-lines .vf-other").evaluate_all(
        "nodes => nodes.filter(node => node.style.display !== 'none').length"
    )
    return thin, thick, others


def test_controls_choose_the_run_by_keyboard(show):
    page = show(RunsFigure(record()))
    # learning rate 0.125, no clipping: 0.625 and 0.75
    assert part(page, "status") == (
        "Learning rate 0.125, Clipping none: "
        "Test accuracy 68.8 % (mean of 2 seeds: 62.5 %, 75.0 %)."
    )
    page.locator("input[data-key=lr]").press("ArrowRight")
    assert part(page, "status").startswith(
        "Learning rate 0.25, Clipping none: Test accuracy 81.3 %"
    )
    page.locator("input[data-key=clip]").first.press("ArrowRight")
    assert part(page, "status") == (
        "Learning rate 0.25, Clipping 1: "
        "Test accuracy 75.0 % (seed 0), none (seed 1). Seed 1 diverged at step 13."
    )


def test_curves_are_drawn_where_their_numbers_are(show):
    page = show(RunsFigure(record()))
    thin, thick, others = shown_lines(page)

    # values from 0.5 to 3: rows at 0, 1, 2, 3; steps from 0 to 30
    def places(values):
        pairs = zip((10, 20, 30), values, strict=True)
        return [
            pytest.approx([1000 * step / 30, 1000 * (3 - value) / 3], abs=0.06)
            for step, value in pairs
        ]

    both = [[2.0, 1.125, 0.5], [3.0, 1.125, 0.5]]
    assert thin == [places(values) for values in both]
    assert thick == [places([mean(pair) for pair in zip(*both, strict=True)])]
    assert others == 10
    page.locator("input[data-key=curve]").nth(1).check()
    _, thick, _ = shown_lines(page)
    assert [x for x, _ in thick[0]] == pytest.approx([500, 1000])
    ticks = page.locator(".vf-ticks-y span").all_inner_texts()
    assert ticks == ["20 %", "40 %", "60 %", "80 %"]


def test_a_run_that_diverged_is_drawn_as_far_as_it_came_and_marked(show):
    page = show(RunsFigure(record(), chosen={"lr": 0.25, "clip": 1.0}))
    thin, thick, _ = shown_lines(page)
    assert [len(line) for line in thin] == [3, 1]
    assert [len(line) for line in thick] == [1]
    cross = page.locator(".vf-mark")
    assert cross.count() == 1
    assert cross.get_attribute("class") == "vf-mark vf-chosen"
    spot = cross.evaluate("c => [c.style.left, c.style.top].map(parseFloat)")
    assert spot == pytest.approx([100 / 3, 0], abs=0.01)
    assert part(page, "reading") == "Loss, step 30: 0.500 (seed 0), none (seed 1)."
    page.locator("input[data-key=lr]").press("Home")
    assert page.locator(".vf-mark.vf-other").count() == 1
    # without a single number, the mark still stands
    page.locator("input[data-key=curve]").nth(1).check()
    assert cross.evaluate("c => c.style.left") == "50%"


@pytest.mark.parametrize("touch", [False, True])
def test_pointing_reads_the_nearest_recorded_step(show, touch):
    page = show(RunsFigure(record()), touch=touch, viewport=PHONE)
    area = page.locator(".vf-plot")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    for share, step, words in [
        (0.05, 10, "2.500 (mean of 2 seeds: 2.000, 3.000)"),
        (0.60, 20, "1.125 (mean of 2 seeds: 1.125, 1.125)"),
        (0.95, 30, "0.500 (mean of 2 seeds: 0.500, 0.500)"),
    ]:
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        page.touchscreen.tap(x, y) if touch else page.mouse.move(x, y)
        assert part(page, "reading") == f"Loss, step {step}: {words}."
        assert area.get_attribute("aria-valuenow") == str(step)


def test_keys_read_along_the_curve(show):
    page = show(RunsFigure(record()))
    area = page.locator(".vf-plot")
    for key, step in [
        ("ArrowLeft", 20), ("Home", 10), ("ArrowLeft", 10), ("ArrowRight", 20), ("End", 30),
        ("ArrowRight", 30),
    ]:  # fmt: skip
        area.press(key)
        assert part(page, "reading").startswith(f"Loss, step {step}:")
        assert area.get_attribute("aria-valuetext").replace("\xa0", " ") == part(page, "reading")
    assert page.evaluate("scrollY") == 0
    page.locator("input[data-key=curve]").nth(1).check()
    area.press("Home")
    assert part(page, "reading") == (
        "Validation accuracy, step 15: 25.0 % (mean of 2 seeds: 25.0 %, 25.0 %)."
    )


def test_combinations_that_nobody_ran_are_named(show):
    page = show(RunsFigure(changed(lambda r: r.update(runs=r["runs"][:6]))))
    page.locator("input[data-key=clip]").nth(1).check()
    page.locator("input[data-key=lr]").first.check()
    assert part(page, "status") == (
        "Learning rate 0.0625, Clipping 1: no run was recorded with these."
    )
    assert part(page, "reading") == "Loss, step 30: no such run."


def test_the_table_holds_every_result(show):
    page = show(RunsFigure(record()))
    page.locator("summary").press("Enter")
    rows = [row.locator("td").all_inner_texts() for row in page.locator("tbody tr").all()]
    rows = [[cell.replace("\xa0", " ") for cell in row] for row in rows]
    assert rows[0] == ["0.125", "none", "68.8 % (mean of 2 seeds: 62.5 %, 75.0 %)"]
    assert rows[-1] == ["0.25", "1", "75.0 % (seed 0), none (seed 1); diverged at step 13"]
    assert len(rows) == 6


def test_a_logarithmic_scale(show):
    def spread(made):
        made["curves"]["loss"]["scale"] = "log"
        made["runs"][0]["loss"] = [1000.0, 1.0, 0.5]

    page = show(RunsFigure(changed(spread)))
    assert page.locator(".vf-ticks-y span").all_inner_texts() == ["0.1", "1", "10", "100", "1000"]
    thin, _, _ = shown_lines(page)
    tops = [y for _, y in thin[0]]
    assert tops == pytest.approx([250 * (3 - math.log10(v)) for v in (1000, 1, 0.5)], abs=0.06)


def test_a_record_of_a_single_step(show):
    def keep_one(made):
        made["curves"] = {"loss": {"label": "Loss", "steps": [0]}}
        made["runs"] = [{**run, "loss": [1.0], "diverged_at": None} for run in made["runs"][:-1]]

    page = show(RunsFigure(changed(keep_one)))
    assert part(page, "reading").startswith("Loss, step 0: 1.000")
    assert "NaN" not in page.locator(".vitlib-figure").inner_html()


def test_figures_of_one_page_leave_each_other_alone(show):
    page = show(RunsFigure(record()), RunsFigure(record()), RunsFigure("positions"))
    page.locator("input[data-key=lr]").nth(1).press("End")
    page.locator("input[data-key=pos_embed]").nth(2).check()
    assert part(page, "status", 0).startswith("Learning rate 0.125")
    assert part(page, "status", 1).startswith("Learning rate 0.25")
    assert part(page, "status", 2).startswith("Position embedding none, Learning rate 0.0015: ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_axe_finds_nothing_serious(show, scheme):
    page = show(RunsFigure(record()), RunsFigure("learning_rates"), viewport=PHONE, scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious_violations(page) == []
