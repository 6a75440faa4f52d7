"""The functions that all figures share, in a browser; and that a figure which fails is noticed."""

import pytest
import torch
from browsing import Visit
from playwright.sync_api import Page

from vitlib.widgets import PatchFigure
from vitlib.widgets.figure import KIT, Figure


@pytest.fixture
def kit(show) -> Page:
    page = show("<p>nothing</p>")
    page.add_script_tag(content=KIT)
    return page


def test_numbers_as_text(kit) -> None:
    for value, text in [(0.12345, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (12, "12.000")]:
        assert kit.evaluate("v => decimals(v)", value) == text
    assert kit.evaluate("decimals(0.26, 1)") == "0.3"


def test_the_scales_of_colour(kit) -> None:
    colours = kit.evaluate("[sequential(0), sequential(0.5), sequential(1)]")
    assert colours == [[255, 255, 255], [0, 114, 178], [0, 36, 61]]
    colours = kit.evaluate("[diverging(-1), diverging(0), diverging(1)]")
    assert colours == [[0, 114, 178], [255, 255, 255], [213, 94, 0]]


def test_the_stand_in_for_a_kernels_model(kit) -> None:
    """It answers as anywidget's model does, as far as the figures ask."""
    state = {"n": 1, "none": None, "list": [1, 2], "raw": {"base64": "AAECAwQFBgc="}}
    heard = kit.evaluate(
        """(state) => {
            const model = standIn(state), heard = [];
            const view = model.get("raw");
            heard.push(view instanceof DataView, Array.from(uint8(model, "raw")));
            heard.push(float32(model, "raw").length, model.get("none"), model.get("list"));
            observe(model, ["n"], () => heard.push(model.get("n")));
            assign(model, "n", 2);
            assign(model, "n", 2);
            return heard;
        }""",
        state,
    )
    assert heard == [True, list(range(8)), 2, None, [1, 2], 1, 2]


def test_floats_that_do_not_start_at_a_multiple_of_four(kit) -> None:
    """As they may, in the messages of a kernel."""
    values = kit.evaluate(
        """() => {
            const bytes = new Uint8Array(9);
            bytes.set(new Uint8Array(new Float32Array([1.5, -2]).buffer), 1);
            return Array.from(float32({ get: () => new DataView(bytes.buffer, 1, 8) }, "any"));
        }"""
    )
    assert values == [1.5, -2]


def test_words_cannot_break_out_of_the_page(show) -> None:
    """A title or a text that looks like HTML is shown as it is."""
    figure = PatchFigure(torch.rand(4, 4))
    figure.title = figure.alt = "</script><script>document.body.id = 'taken'</script> & <b>so</b>"
    page = show(figure)
    assert page.evaluate("document.body.id") == ""
    group = page.locator(".vitlib-figure")
    assert group.get_attribute("aria-label") == figure.title
    assert group.locator(".vf-hidden").text_content() == figure.alt
    assert page.locator("b").count() == 0


def test_a_page_that_errs_or_asks_elsewhere_is_noticed(browser, tmp_path) -> None:
    """So that the checks which `show` and `visit` make can't pass on just anything."""
    faults = {
        "foreign request": "<img src='https://example.org/a.png' alt=''>",
        "console error": "<script>console.error('no')</script>",
        "console warning": "<script>console.warn('no')</script>",
        "error": "<script>undefined.no</script>",
    }
    for trouble, html in faults.items():
        (tmp_path / "page.html").write_text(html)
        visit = Visit(browser, tmp_path.as_uri())
        visit.open("page.html")
        visit.context.close()
        assert any(text.startswith(trouble) for text in visit.troubles), trouble


def test_a_figure_that_fails_is_noticed(browser, tmp_path) -> None:
    class Broken(Figure):
        _script = "function render() { throw new Error('cannot be drawn'); }"

    (tmp_path / "page.html").write_text(Broken(alt="nothing").to_html())
    visit = Visit(browser, tmp_path.as_uri())
    visit.open("page.html")
    visit.context.close()
    assert visit.troubles == ["error: cannot be drawn"]
