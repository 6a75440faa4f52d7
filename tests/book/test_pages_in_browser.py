"""The built book in a real browser, served over http and opened as files, wide and on a phone."""

import re

import pytest
from browsing import CHAPTERS, PAGES, PHONE, WIDE, serious_violations, settle
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page(visit, address, name, viewport) -> None:
    page = visit(address, viewport).open(name)
    settle(page)

    broken = page.evaluate(
        """[...document.images]
            .filter(i => !i.naturalWidth || (!i.alt.trim() && i.ariaHidden !== "true"))
            .map(i => i.outerHTML)"""
    )
    assert broken == [], "images that don't load or have no alt text"
    formulas, drawn = page.evaluate(
        "['.math', '.math mjx-container'].map(s => document.querySelectorAll(s).length)"
    )
    assert drawn >= formulas, f"{formulas} formulas, {drawn} drawn"
    assert page.locator("mjx-merror, [data-mml-node=merror]").count() == 0
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"], f"the page is {width} px wide"


TOO_WIDE = """() => [...document.querySelectorAll(".bd-article pre")]
    .filter(pre => !pre.closest(".cell_output") && pre.scrollWidth > pre.clientWidth + 1)
    .map(pre => pre.textContent.slice(0, 60))"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_code_wraps_on_a_phone_and_hangs(visit, server, name) -> None:
    """No block of code is wider than the screen; what is wrapped stands further in."""
    page = visit(server, PHONE).open(name)
    settle(page)
    assert page.evaluate(TOO_WIDE) == []
    first, second = page.evaluate(
        """() => {
            const lines = [...document.querySelectorAll("div.cell_input pre .line")];
            const ranges = lines.filter(line => line.checkVisibility()).map(line => {
                const range = document.createRange();
                range.selectNodeContents(line);
                return [...range.getClientRects()].filter(box => box.width > 1);
            });
            const wrapped = ranges.find(boxes => boxes.at(-1)?.top > boxes[0]?.top + 5);
            const tops = wrapped.filter(box => box.top > wrapped[0].top + 5);
            return [wrapped[0].left, Math.min(...tops.map(box => box.left))];
        }"""
    )
    assert second > first + 15


EMPTY_FIRST = """() => [...document.querySelectorAll(".bd-article pre .line")].filter(line => {
    if (!line.checkVisibility() || !/^ +\\S/.test(line.textContent)) return false;
    const texts = document.createTreeWalker(line, NodeFilter.SHOW_TEXT), range = new Range();
    while (texts.nextNode()) {
        const place = texts.currentNode.textContent.search(/\\S/);
        if (place < 0) continue;
        range.setStart(texts.currentNode, place);
        range.setEnd(texts.currentNode, place + 1);
        return range.getBoundingClientRect().top > line.getBoundingClientRect().top + 10;
    }
}).map(line => line.textContent)"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_long_word_of_code_begins_on_its_line(visit, server, name) -> None:
    page = visit(server, PHONE).open(name)
    settle(page)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate(EMPTY_FIRST) == []


def test_code_does_not_wrap_where_it_can_scroll(visit, server) -> None:
    page = visit(server, WIDE).open("book/09_inductive_bias.html")
    settle(page)
    heights = page.evaluate(
        """[...document.querySelectorAll("div.cell_input pre .line")]
            .filter(line => line.checkVisibility() && line.textContent.trim())
            .map(line => {
                const range = new Range();
                range.selectNodeContents(line);
                const boxes = [...range.getClientRects()];
                return new Set(boxes.map(box => Math.round(box.bottom))).size;
            })"""
    )
    assert set(heights) == {1}


def test_code_is_copied_as_it_was_written(visit, server) -> None:
    page = visit(server).open("book/01_patches.html")
    text = page.locator("div.cell_input pre").filter(has_text="def patchify_loop").text_content()
    assert "        for left in range(0, W, P):\n            patch = images[" in text
    assert "\n\n\npatchify_loop(toy, P)[0]\n" in text


def test_chapters_have_formulas_to_draw(visit, server) -> None:
    """So that the check above can't pass on pages without any."""
    page = visit(server).open("book/01_patches.html")
    settle(page)
    assert page.locator(".math mjx-container svg").count() > 0
    assert "\\(" not in page.locator("article").inner_text()


# Whether the sidebar's list of chapters really lies on the screen, on top of all else.
_LIST_IS_SEEN = """() => {
        const links = [...document.querySelectorAll('a.reference.internal')].filter(
            a => a.closest('.bd-sidebar-primary, #pst-primary-sidebar-modal'));
        return links.some(a => {
            const box = a.getBoundingClientRect();
            const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
            return box.width > 0 && x > 0 && y > 0 && a.contains(document.elementFromPoint(x, y));
        });
    }"""


def wait_for_list(page: Page, seen: bool) -> None:
    """Until the list of chapters is seen, or is not: it slides."""
    page.wait_for_function(f"seen => ({_LIST_IS_SEEN})() === seen", arg=seen)


@pytest.mark.parametrize("name", PAGES[:2])
def test_sidebar_closes_and_opens_on_a_wide_screen(visit, address, name) -> None:
    page = visit(address).open(name)
    button = page.locator("button.primary-toggle:visible")
    wait_for_list(page, seen=True)
    left = "document.querySelector('.bd-article').getBoundingClientRect().x"
    before = page.evaluate(left)
    button.click()
    wait_for_list(page, seen=False)
    page.wait_for_function(f"before => {left} < before", arg=before)  # the text takes the room
    button.click()
    wait_for_list(page, seen=True)


@pytest.mark.parametrize("name", PAGES[:2])
def test_sidebar_opens_and_closes_on_a_phone(visit, address, name) -> None:
    page = visit(address, PHONE).open(name)
    wait_for_list(page, seen=False)
    page.locator("button.primary-toggle:visible").click()
    wait_for_list(page, seen=True)
    page.keyboard.press("Escape")
    wait_for_list(page, seen=False)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_search_from_a_page(visit, address, viewport) -> None:
    page = visit(address, viewport).open(PAGES[0])
    page.locator(".search-button:visible, .search-button-field:visible").first.click()
    field = page.locator("input[name=q]:visible")
    field.fill("patches")
    field.press("Enter")
    hits = page.locator("#search-results li a")
    hits.first.wait_for()
    page.wait_for_function("document.querySelector('#search-results').innerText.includes('found')")
    assert any("01_patches" in hit.get_attribute("href") for hit in hits.all())
    hits.first.click()
    page.wait_for_url("**/book/*.html*")


def test_search_for_nothing_says_so(visit, address) -> None:
    page = visit(address).open("search.html?q=xylophone")
    page.get_by_text("did not match any documents").wait_for()


def background(page: Page) -> int:
    """The brightness of the page's background, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(colour.split("(")[1].split(",")[0])


def switch_theme(page: Page) -> None:
    """One click further: light, dark, and what the system prefers."""
    mode = page.evaluate("document.documentElement.dataset.mode")
    page.locator("button.theme-switch-button:visible").first.click()
    page.wait_for_function("mode => document.documentElement.dataset.mode !== mode", arg=mode)


def test_dark_mode_and_back(visit, address) -> None:
    page = visit(address).open(PAGES[0])
    assert background(page) > 200
    seen = []
    for _ in range(3):
        switch_theme(page)
        seen.append(background(page) < 60)
    assert any(seen)
    assert not all(seen)


PICTURE_WORDS = """() => [...document.querySelectorAll("svg.vitlib-picture text")]
    .filter(text => text.checkVisibility() && text.textContent.trim())
    .map(text => {
        const { a, b } = text.getScreenCTM();
        const style = getComputedStyle(text);
        return [text.textContent, parseFloat(style.fontSize) * Math.hypot(a, b), style.fill,
                text.getAttribute("fill") ?? text.style.fill];
    })"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_pictures_are_legible_on_a_phone_in_light_and_dark(visit, server, name) -> None:
    page = visit(server, PHONE, color_scheme="light", reduced_motion="reduce").open(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for text, pixels, colour, asked in page.evaluate(PICTURE_WORDS):
            assert pixels > 8.6, f"{text!r} is {pixels:.1f} pixels high"
            if "--vitlib-ink" in asked or "--vitlib-muted" in asked:
                contrast = contrast_of(colour, ground)
                assert contrast > 4.5, f"{text!r} is {colour} on {ground} in {scheme}"
        wide = page.evaluate(
            "[...document.querySelectorAll('svg.vitlib-picture')].filter("
            "p => p.getBoundingClientRect().right > innerWidth).length"
        )
        assert wide == 0


def contrast_of(one: str, other: str) -> float:
    """Of two CSS colours "rgb(1, 2, 3)", by WCAG 2.1."""

    def luminance(colour: str) -> float:
        shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_wcags() -> None:
    assert contrast_of("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast_of("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


def test_dark_mode_stays_on_the_next_page(visit, server) -> None:
    one = visit(server)
    page = one.open(PAGES[0])
    for _ in range(3):
        if background(page) < 60:
            break
        switch_theme(page)
    assert background(one.open(PAGES[1])) < 60


@pytest.mark.parametrize("name", PAGES)
def test_accessibility(visit, server, name) -> None:
    """axe finds nothing serious, on the whole page, in light and in dark."""
    page = visit(server, color_scheme="light", reduced_motion="reduce").open(name)
    settle(page)
    assert background(page) > 200
    assert serious_violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert background(page) < 60
    assert serious_violations(page) == []


def test_accessibility_would_not_pass_just_anything(visit, server) -> None:
    """Every kind of fault that is planted is found; also on code, most words of which are alike."""
    page = visit(server, color_scheme="light", reduced_motion="reduce").open("book/intro.html")
    plant = """(css) => document.head.append(
        Object.assign(document.createElement('style'), { textContent: css }))"""
    for fault in (
        ".highlight .k { color: #bbb !important }",
        ".highlight pre { background: #777 !important }",
        "article p { opacity: 0.4 }",
        ".cell_output { color: #999 }",
    ):
        style = page.evaluate_handle(plant, fault)
        (found,) = serious_violations(page)
        assert found.startswith("serious color-contrast"), fault
        style.evaluate("style => document.head.lastChild.remove()")
    assert serious_violations(page) == []
    picture = page.locator("svg.vitlib-picture").first
    picture.evaluate("picture => picture.removeAttribute('aria-label')")
    (found,) = serious_violations(page)
    assert found.startswith("serious svg-img-alt")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", [name for name in CHAPTERS if "intro" not in name])
def test_answers_are_folded_and_open_by_keyboard(visit, address, name, viewport) -> None:
    """Questions, hints and solutions, in a page without a kernel."""
    page = visit(address, viewport).open(name)
    for fold in (".predict details", "details.hint", ".tag_solution details"):
        folds = page.locator(fold)
        assert folds.count() >= 2, fold
        for details in (folds.first, folds.last):
            summary, inside = details.locator("summary").first, details.locator("> *").last
            expect(inside, fold).to_be_hidden()
            summary.focus()
            page.keyboard.press("Enter")
            expect(inside, fold).to_be_visible()
            assert inside.inner_text().strip(), fold
            page.keyboard.press("Enter")
            expect(inside, fold).to_be_hidden()


@pytest.mark.parametrize("name", CHAPTERS)
def test_colab_button_is_on_every_notebook(visit, server, name) -> None:
    page = visit(server).open(name)
    page.locator(".dropdown-launch-buttons > button").click()
    link = page.locator(".dropdown-launch-buttons a:visible")
    assert "Colab" in link.inner_text()
    href = link.get_attribute("href")
    if not href.startswith("https://colab.research.google.com/github/"):
        link.evaluate("a => a.removeAttribute('target')")
        link.click()
        page.get_by_text("make set-repo URL=").wait_for()
