"""What the site needs beyond Jupyter Book: no request leaves it, and Colab is always explained.

- MathJax comes from a package and is copied beside the pages: one file, which draws SVG and so
  needs no font files, which some browsers refuse to load from file://.
- sphinx-thebe, which Jupyter Book always loads, is switched off: it names a CDN on every page.
- Pictures that notebooks hold as SVG stand in the page itself, where they take its colours.
- No line of text begins with a percent sign.
- A page can show the table of a notebook's cell: `<!-- table: NOTEBOOK ID -->`.
- While the repository's address is unknown, the Colab button of every notebook leads to a page
  of the site that says so; once it is known, the theme makes the real button.
"""

import re
import shutil
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

COLAB_PAGE = "open-in-colab"
HERE = Path(__file__).parent


def silence_thebe(app: Sphinx) -> None:
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [
        (name, options) for name, options in app.registry.css_files if "thebe" not in name
    ]


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    config.mathjax_path = "mathjax/tex-svg-full.js"
    config.mathjax3_config = {
        "options": {"enableMenu": False},  # the menu would fetch its own parts
        "svg": {"fontCache": "global"},
    }


def copy_mathjax(app: Sphinx) -> None:
    package = find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ImportError("sphinx-mathjax-offline is missing: run make, which installs it")
    target = Path(app.outdir, "_static", "mathjax")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(package.origin).parent / "static/mathjax/tex-svg-full.js", target)


def put_tables(app: Sphinx, docname: str, source: list[str]) -> None:
    """The table of a notebook's cell, where a Markdown page names the cell."""

    def table_of(match: re.Match[str]) -> str:
        notebook = Path(app.srcdir, docname).with_name(f"{match[1]}.ipynb")
        app.env.note_dependency(str(notebook))
        cells = {cell.id: cell.source for cell in nbformat.read(notebook, as_version=4).cells}
        return "\n".join(line for line in cells[match[2]].splitlines() if line.startswith("|"))

    source[0] = re.sub(r"^<!-- table: (\w+) ([\w-]+) -->$", table_of, source[0], flags=re.MULTILINE)


def put_pictures_in_page(app: Sphinx, doctree: nodes.document) -> None:
    """Notebooks' SVG pictures, from files beside the page into it, each with ids of its own."""
    for number, image in enumerate(doctree.findall(nodes.image)):
        if image["uri"].endswith(".svg") and "jupyter_execute" in image["uri"]:
            svg = Path(app.env.relfn2path(image["uri"])[1]).read_text("utf8")
            picture = picture_in_page(svg, image.get("alt", ""), f"p{number}-")
            image.replace_self(nodes.raw("", picture, format="html"))


def picture_in_page(svg: str, alt: str, prefix: str) -> str:
    """`svg` as an element of a page that has others: named by `alt`, its ids with a prefix."""
    svg = re.sub(r'( id="|url\(#|href="#)', lambda m: m[1] + prefix, svg)
    svg = re.sub(r"<title>.*?</title>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    tag, rest = svg.replace(' role="img"', "", 1).split(">", 1)
    return f'{tag} class="vitlib-picture" role="img" aria-label="{escape(alt)}">{rest}'


def keep_percent_signs(app: Sphinx, doctree: nodes.document) -> None:
    """The space between a number and its percent sign does not break."""
    verbatim = nodes.FixedTextElement | nodes.literal | nodes.math
    for text in list(doctree.findall(nodes.Text)):
        # Of HTML, the choices of a question alone.
        if not isinstance(text.parent, verbatim) or "<summary" in text:
            bound = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)
            if bound != text:
                text.parent.replace(text, nodes.Text(bound))


def repository_is_known(config: Config) -> bool:
    return bool(config.html_theme_options.get("repository_url"))


def drop_launch_buttons(app: Sphinx, config: Config) -> None:
    """The theme fails on launch buttons without an address."""
    if not repository_is_known(config):
        config.html_theme_options["launch_buttons"] = {}


def explain_colab(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    if repository_is_known(app.config) or "kernelspec" not in app.env.metadata[pagename]:
        return
    link = {
        "type": "link",
        "text": "Colab",
        "tooltip": "Launch on Colab",
        "icon": "_static/images/logo_colab.png",
        "url": context["pathto"](COLAB_PAGE),
    }
    group = {
        "type": "group",
        "tooltip": "Launch interactive content",
        "icon": "fas fa-rocket",
        "buttons": [link],
        "label": "launch-buttons",
    }
    context["header_buttons"].insert(0, group)


def mend_citation_list(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """docutils calls it a list of things that are not list items, which screen readers refuse."""
    wrong = '<div role="list" class="citation-list">'
    if "body" in context:
        context["body"] = context["body"].replace(wrong, '<div class="citation-list">')


def add_colab_page(app: Sphinx) -> list[tuple[str, dict[str, str], str]]:
    if repository_is_known(app.config):
        return []
    body = (HERE / f"{COLAB_PAGE}.html").read_text("utf8")
    return [(COLAB_PAGE, {"title": "Open in Colab", "body": body}, "page.html")]


def setup(app: Sphinx) -> dict[str, bool]:
    silence_thebe(app)
    app.connect("config-inited", use_local_mathjax)
    app.connect("config-inited", drop_launch_buttons)
    app.connect("builder-inited", copy_mathjax)
    app.connect("source-read", put_tables)
    app.connect("doctree-read", put_pictures_in_page, priority=400)  # before images are collected
    app.connect("doctree-read", keep_percent_signs)
    app.connect("html-page-context", explain_colab, priority=502)  # after the theme's buttons
    app.connect("html-page-context", mend_citation_list)
    app.connect("html-collect-pages", add_colab_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
