"""The built book in a real browser, served over http and opened as files, wide and on a phone."""

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def toc_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [f"{name}.html" for name in [toc["root"], *chapters]]


PAGES = [*toc_pages(), "search.html"]
CHAPTERS = [page for page in toc_pages() if (ROOT / page).with_suffix(".ipynb").exists()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next((path for name in names if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        path = installed or playwright.chromium.executable_path
        if not Path(path).exists():
            reason = "no Chromium is installed: apt-get install chromium"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        with playwright.chromium.launch(executable_path=path, args=FLAGS) as launched:
            yield launched


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(params=["http", "file"])
def address(request: pytest.FixtureRequest, server: str, site: Path) -> str:
    return server if request.param == "http" else site.as_uri()


class Visit:
    """A page that notes every request that leaves the site, every error, and every failure."""

    def __init__(self, browser: Browser, address: str, viewport: dict[str, int]) -> None:
        self.address = address
        self.troubles: list[str] = []
        self.context = browser.new_context(viewport=viewport)
        self.context.set_default_timeout(10_000)
        self.context.route("**/*", self._route)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("response", self._response)
        self.page.on("request", self._request)

    def _is_local(self, url: str) -> bool:
        return url.startswith((self.address + "/", "data:", "blob:", "about:"))

    def _route(self, route) -> None:
        if self._is_local(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _request(self, request) -> None:
        if not self._is_local(request.url):
            self.troubles.append(f"foreign request: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.troubles.append(f"HTTP {response.status}: {response.url}")

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"console {message.type}: {message.text}")

    def open(self, name: str) -> Page:
        self.page.goto(f"{self.address}/{name}")
        self.page.wait_for_load_state("load")
        return self.page


@pytest.fixture
def visit(browser: Browser):
    visits: list[Visit] = []

    def start(address: str, viewport: dict[str, int] = WIDE) -> Visit:
        visits.append(Visit(browser, address, viewport))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()
    assert [trouble for one in visits for trouble in one.troubles] == []


def settle(page: Page) -> None:
    """Wait until formulas are drawn and lazily loaded pictures are there."""
    page.evaluate("window.MathJax?.startup?.promise")
    page.evaluate("document.querySelectorAll('img').forEach(img => { img.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(img => img.complete)")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page(visit, address, name, viewport) -> None:
    page = visit(address, viewport).open(name)
    settle(page)

    broken = page.evaluate(
        "[...document.images].filter(i => !i.naturalWidth || !i.alt.trim()).map(i => i.outerHTML)"
    )
    assert broken == [], "images that don't load or have no alt text"
    formulas, drawn = page.evaluate(
        "['.math', '.math mjx-container'].map(s => document.querySelectorAll(s).length)"
    )
    assert drawn >= formulas, f"{formulas} formulas, {drawn} drawn"
    assert page.locator("mjx-merror, [data-mml-node=merror]").count() == 0
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"], f"the page is {width} px wide"


def test_chapters_have_formulas_to_draw(visit, server) -> None:
    """So that the check above can't pass on pages without any."""
    page = visit(server).open("book/01_patches.html")
    settle(page)
    assert page.locator(".math mjx-container svg").count() > 0
    assert "\\(" not in page.locator("article").inner_text()


def left_edge_is_visible(page: Page) -> bool:
    """Whether the sidebar's list of chapters really lies on the screen, on top of all else."""
    return page.evaluate("""() => {
        const link = document.querySelector('.bd-sidebar-primary nav a, dialog nav a');
        const links = [...document.querySelectorAll('a.reference.internal')].filter(
            a => a.closest('.bd-sidebar-primary, #pst-primary-sidebar-modal'));
        return links.some(a => {
            const box = a.getBoundingClientRect();
            const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
            return box.width > 0 && x > 0 && y > 0 && a.contains(document.elementFromPoint(x, y));
        });
    }""")


@pytest.mark.parametrize("name", PAGES[:2])
def test_sidebar_closes_and_opens_on_a_wide_screen(visit, address, name) -> None:
    page = visit(address).open(name)
    button = page.locator("button.primary-toggle:visible")
    assert left_edge_is_visible(page)
    wide = page.locator(".bd-article").bounding_box()["x"]
    button.click()
    page.wait_for_timeout(500)
    assert not left_edge_is_visible(page)
    assert page.locator(".bd-article").bounding_box()["x"] < wide, "the text takes the room"
    button.click()
    page.wait_for_timeout(500)
    assert left_edge_is_visible(page)


@pytest.mark.parametrize("name", PAGES[:2])
def test_sidebar_opens_and_closes_on_a_phone(visit, address, name) -> None:
    page = visit(address, PHONE).open(name)
    assert not left_edge_is_visible(page)
    page.locator("button.primary-toggle:visible").click()
    page.wait_for_timeout(500)
    assert left_edge_is_visible(page)
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert not left_edge_is_visible(page)


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


def test_dark_mode_and_back(visit, address) -> None:
    page = visit(address).open(PAGES[0])
    assert background(page) > 200
    button = page.locator("button.theme-switch-button:visible").first
    seen = []
    for _ in range(3):  # light, dark, and what the system prefers
        button.click()
        page.wait_for_timeout(100)
        seen.append(background(page) < 60)
    assert any(seen)
    assert not all(seen)


def test_dark_mode_stays_on_the_next_page(visit, server) -> None:
    one = visit(server)
    page = one.open(PAGES[0])
    for _ in range(3):
        if background(page) < 60:
            break
        page.locator("button.theme-switch-button:visible").first.click()
        page.wait_for_timeout(100)
    assert background(one.open(PAGES[1])) < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_accessibility(visit, server, name, scheme) -> None:
    """axe finds nothing serious, on the whole page."""
    one = visit(server)
    one.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page = one.open(name)
    settle(page)
    # preload would fetch the style sheets' imports again, from where they are not
    found = Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        f"{v['impact']} {v['id']}: {node['html'][:160]} ({len(v['nodes'])} such)"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:1]
    ]
    assert serious == []


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("name", [name for name in CHAPTERS if "/0" in name])
def test_answers_are_folded_and_open_by_keyboard(visit, address, name, viewport) -> None:
    """Questions, hints and solutions, in a page without a kernel."""
    page = visit(address, viewport).open(name)
    for fold in (".predict details", "details.hint", ".tag_solution details"):
        folds = page.locator(fold)
        assert folds.count() >= 2, fold
        for details in (folds.first, folds.last):
            summary, inside = details.locator("summary").first, details.locator("> *").last
            assert not inside.is_visible(), fold
            summary.focus()
            page.keyboard.press("Enter")
            assert inside.is_visible(), fold
            assert inside.inner_text().strip(), fold
            page.keyboard.press("Enter")
            assert not inside.is_visible(), fold


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
