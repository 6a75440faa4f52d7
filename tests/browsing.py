"""Fixtures that open pages in headless Chromium: those of the built book, or a single figure.

`visit(address).open(name)` opens a page of the book, `show(figure)` a page with nothing but that
figure. Either way the test fails if the page asks anything of another host, logs an error or a
warning, or throws. conftest.py makes these fixtures known to every test.
"""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import playwright
import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from building import ROOT
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds until a condition must hold: a busy machine is no failure
expect.set_options(timeout=PATIENCE)
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def toc_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [f"{name}.html" for name in [toc["root"], *chapters]]


PAGES = [*toc_pages(), "search.html"]
CHAPTERS = [page for page in toc_pages() if (ROOT / page).with_suffix(".ipynb").exists()]

# A page as plain as can be. Its ground follows the scheme, as the book's does.
FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Figures</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>:root {{ color-scheme: light dark }} body {{ margin: 12px; font-family: sans-serif }}</style>
</head><body><main><h1>Figures</h1>{body}</main></body></html>"""


def chromium(playwright: Playwright) -> str | None:
    """Where a Chromium is installed: by the system, or by `playwright install`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    installed = next((path for name in names if (path := shutil.which(name))), None)
    path = installed or playwright.chromium.executable_path
    return path if Path(path).exists() else None


@functools.cache
def node() -> str:
    """Playwright's own node, or the system's."""
    own = Path(playwright.__file__).parent / "driver" / "node"
    path = str(own) if own.exists() else shutil.which("node")
    if path is None:
        pytest.skip("no node is installed, which runs JavaScript: apt-get install nodejs")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            reason = "no Chromium is installed: apt-get install chromium"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        with playwright.chromium.launch(executable_path=path, args=FLAGS) as launched:
            yield launched


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address at which the files of `folder` are served over http."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """The address of the built book over http."""
    with serve(site) as address:
        yield address


@pytest.fixture(params=["http", "file"])
def address(request: pytest.FixtureRequest, server: str, site: Path) -> str:
    return server if request.param == "http" else site.as_uri()


class Visit:
    """A page that notes every request that leaves `address`, every error, and every failure."""

    def __init__(
        self, browser: Browser, address: str, viewport: dict[str, int] = WIDE, **options: Any
    ) -> None:
        self.address = address
        self.troubles: list[str] = []
        self.context = browser.new_context(viewport=viewport, **options)
        self.context.set_default_timeout(PATIENCE)
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
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """visit(address, viewport=WIDE, **options of a browser's context) -> Visit"""
    visits: list[Visit] = []

    def start(address: str, viewport: dict[str, int] = WIDE, **options: Any) -> Visit:
        visits.append(Visit(browser, address, viewport, **options))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()
    assert [trouble for one in visits for trouble in one.troubles] == []


@pytest.fixture
def show(visit: Callable[..., Visit], tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """show(figure, ..., viewport=WIDE, scheme="light", touch=False, ...) -> Page

    Opens a page with these figures, or strings of HTML, one below the other, and nothing else: as
    a file, or with http=True from a server. scripts=False switches JavaScript off.
    """
    folder = tmp_path / "shown"
    folder.mkdir()

    def open_figures(
        *figures: Any,
        viewport: dict[str, int] = WIDE,
        scheme: str = "light",
        touch: bool = False,
        http: bool = False,
        scripts: bool = True,
    ) -> Page:
        texts = [figure if isinstance(figure, str) else figure.to_html() for figure in figures]
        name = f"{len(list(folder.iterdir()))}.html"
        (folder / name).write_text(FRAME.format(body="\n".join(texts)), "utf8")
        options = {"color_scheme": scheme, "has_touch": touch, "java_script_enabled": scripts}
        address = servers.enter_context(serve(folder)) if http else folder.as_uri()
        return visit(address, viewport, **options).open(name)

    with ExitStack() as servers:
        yield open_figures


def settle(page: Page) -> None:
    """Wait until formulas are drawn and lazily loaded pictures are there."""
    page.evaluate("window.MathJax?.startup?.promise")
    page.evaluate("document.querySelectorAll('img').forEach(img => { img.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(img => img.complete)")


# Each word of highlighted code is an element of its own, thousands on a page, and axe takes a
# millisecond to find the ground under each. Words that look alike on grounds that are alike have
# the same contrast, so that one of them speaks for all: the others ("twins") are passed over by
# the one rule on contrast. Only elements that hold nothing but a word and have nothing but a class.
_MARK_TWINS = """() => {
    const under = new Map();  // an element -> all backgrounds and opacities from it upwards
    const ground = (element) => {
        if (!element) return "";
        if (!under.has(element)) {
            const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
            under.set(element, [backgroundColor, backgroundImage, opacity,
                                ground(element.parentElement)].join("|"));
        }
        return under.get(element);
    };
    const seen = new Set();
    for (const word of document.querySelectorAll(".highlight pre span")) {
        delete word.dataset.twin;
        if (word.childElementCount || word.getAttributeNames().join() !== "class") continue;
        const { color, fontSize, fontWeight, textShadow } = getComputedStyle(word);
        const look = [color, fontSize, fontWeight, textShadow, ground(word)].join("|");
        if (seen.has(look)) word.dataset.twin = "";
        seen.add(look);
    }
    axe.configure({ rules: [{ id: "color-contrast", selector: "*:not([data-twin])" }] });
}"""


def serious_violations(page: Page) -> list[str]:
    """What axe finds on the whole page that is serious or critical: impact, rule, an element."""
    page.evaluate(AXE_SCRIPT)
    page.evaluate(_MARK_TWINS)
    # preload would fetch the style sheets' imports again, from where they are not
    found = page.evaluate(
        "axe.run(document, { preload: false, resultTypes: ['violations'] }).then(r => r.violations)"
    )
    return [
        f"{v['impact']} {v['id']}: {v['nodes'][0]['html'][:160]} ({len(v['nodes'])} such)"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
