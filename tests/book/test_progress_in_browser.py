"""Ticks and the badge of the bug clinic, kept by the browser; and its table on paper."""

import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from browsing import PHONE, WIDE
from building import ROOT
from playwright.sync_api import expect

from vitlib import check

CLINIC, SYMPTOMS = "book/14_bug_clinic.html", "book/symptoms.html"
NAMES = {name for name, one in check.EXERCISES.items() if one.chapter == "14_bug_clinic"}
LIT = ".vitlib-progress .part[opacity='1']"


def assert_solved(page, count):
    expect(page.locator(".vitlib-progress text").first).to_have_text(f"{count} of {len(NAMES)}")
    expect(page.locator(".vitlib-progress > p")).to_have_text(
        f"{count} of {len(NAMES)} cases solved."
    )
    expect(page.locator(LIT)).to_have_count(count)
    expect(page.locator(".exercise input:checked")).to_have_count(count)


def test_every_case_has_its_box(visit, address) -> None:
    page = visit(address).open(CLINIC)
    boxes = page.get_by_role("checkbox", name="My checker says ✓")
    assert {box.input_value() for box in boxes.all()} == NAMES
    assert boxes.count() == page.locator(".exercise").count() == len(NAMES)
    assert_solved(page, 0)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_ticks_are_set_by_keyboard_said_and_kept(visit, address, viewport) -> None:
    one = visit(address, viewport)
    page = one.open(CLINIC)
    for number, said in ((2, "1 of 16 solved"), (5, "2 of 16 solved")):
        box = page.locator(".exercise input").nth(number)
        box.focus()
        page.keyboard.press("Space")
        expect(page.locator(".exercise [role=status]").nth(number)).to_have_text(said)
    assert_solved(page, 2)
    names = [page.locator(".exercise input").nth(number).input_value() for number in (2, 5)]
    page.reload()
    assert_solved(page, 2)
    assert [box.input_value() for box in page.locator(".exercise input:checked").all()] == names
    page.locator(".exercise input").nth(2).press("Space")
    one.open("book/01_patches.html")
    assert_solved(one.open(CLINIC), 1)


def test_all_solved(visit, server) -> None:
    page = visit(server).open(CLINIC)
    for box in page.locator(".exercise input").all():
        box.check()
    assert_solved(page, len(NAMES))


def test_what_is_stored_are_names_and_nothing_else(visit, server) -> None:
    page = visit(server).open(CLINIC)
    page.locator(".exercise input").first.check()
    stored = page.evaluate("JSON.stringify(localStorage)")
    assert '"vitlib-solved-14_bug_clinic":"[\\"loud_block\\"]"' in stored


def test_a_browser_that_keeps_nothing_says_so(visit, address) -> None:
    one = visit(address)
    one.page.add_init_script(
        """const { getItem, setItem } = Storage.prototype;
        for (const [name, method] of Object.entries({ getItem, setItem })) {
            Storage.prototype[name] = function (key, ...rest) {
                if (key.startsWith("vitlib")) throw new DOMException("no", "SecurityError");
                return method.call(this, key, ...rest);
            };
        }"""
    )
    page = one.open(CLINIC)
    page.locator(".exercise input").first.check()
    expect(page.locator(".vitlib-progress > p")).to_contain_text(
        "1 of 16 cases solved. This browser keeps"
    )


def test_the_badge_is_saved_as_a_picture(visit, address) -> None:
    page = visit(address).open(CLINIC)
    page.locator(".exercise input").first.check()
    button = page.get_by_role("button", name="Save the badge as a picture")
    with page.expect_download() as download:
        button.press("Enter")
    assert download.value.suggested_filename == "14_bug_clinic.svg"
    svg = Path(download.value.path()).read_text("utf8")
    words = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter()]
    assert "1 of 16" in words
    assert "var(--vitlib-blue, #0072b2)" in svg  # a colour of its own, outside of the page


def test_other_pages_have_no_boxes(visit, server) -> None:
    page = visit(server).open("book/01_patches.html")
    assert page.locator(".exercise").count() > 0
    assert page.locator(".exercise input").count() == 0


# --- the table


def test_the_table_has_one_source(visit, server) -> None:
    one = visit(server)
    rows = [
        one.open(name).locator("#from-symptom-to-cause tbody tr").all_inner_texts()
        for name in (CLINIC, SYMPTOMS)
    ]
    assert rows[0] == rows[1]
    cells = nbformat.read(ROOT / "book" / "14_bug_clinic.ipynb", as_version=4).cells
    (table,) = (cell.source for cell in cells if cell.id == "clinic-table")
    assert len(rows[0]) == table.count("\n|") - 2
    functions = set(re.findall(r"`(\w+)(?:\(model, reference, images\))?`", table))
    assert functions - {"batch_first"} == set(check.instruments.__all__) - {"examine"}
    assert one.page.locator("a[href*='14_bug_clinic']").count() > 0
    assert one.open(CLINIC).locator("article a[href='symptoms.html']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_table_fills_one_sheet_of_paper(visit, address, scheme) -> None:
    page = visit(address, color_scheme=scheme).open(SYMPTOMS)
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme=scheme)
    page.set_viewport_size({"width": 718, "height": 1046})  # A4 within margins of a centimetre
    ink = page.locator("#from-symptom-to-cause td").last
    assert (
        max(map(int, re.findall(r"\d+", ink.evaluate("e => getComputedStyle(e).color"))[:3])) < 90
    )
    first, last = (
        page.locator("tbody tr").first.locator("td").nth(i).bounding_box() for i in (0, 2)
    )
    assert last["x"] > first["x"] + first["width"] / 2, "a table, and not a list as on a phone"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
