"""The built pages as text: they build without a warning, hold together, and need nobody else."""

import gzip
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import notebooks
import pytest
import yaml
from book_site import picture_in_page
from bs4 import BeautifulSoup
from building import ROOT, build_book, copy_sources

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}

MOST_BYTES = 400_000  # a page and what is its own, gzipped; scripts and styles are shared by all


def pages(site: Path) -> dict[Path, BeautifulSoup]:
    found = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    assert len(found) > 4
    return {path: BeautifulSoup(path.read_text("utf8"), "html.parser") for path in found}


def notebook_pages(site: Path) -> dict[Path, BeautifulSoup]:
    stems = {path.stem for path in notebooks.find_notebooks()}
    return {path: page for path, page in pages(site).items() if path.stem in stems}


def test_stray_markdown_does_not_stop_the_build(tmp_path) -> None:
    """Such as pytest's cache leaves in the tree, which Jupyter Book would take for a page."""
    tree = copy_sources(tmp_path / "tree")
    for folder in (".pytest_cache", "book/.ipynb_checkpoints", "tests", "notes"):
        (tree / folder).mkdir()
        (tree / folder / "README.md").write_text("# Stray")
    built = build_book(tree)
    assert built.returncode == 0, built.stderr


def test_every_notebook_is_in_the_contents() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    listed = {Path(name).name for name in [toc["root"], *chapters]}
    assert {path.stem for path in notebooks.find_notebooks()} <= listed


def test_the_contents_number_the_chapters_as_the_text_does() -> None:
    """ "chapter 12" is found in the sidebar, although chapter 13 is not written yet."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    for chapter in (chapter for part in toc["parts"] for chapter in part["chapters"]):
        number, _, _ = Path(chapter["file"]).name.partition("_")
        if number.isdigit():
            first = nbformat.read(ROOT / f"{chapter['file']}.ipynb", as_version=4).cells[0].source
            heading = first.splitlines()[0].removeprefix("# ")
            assert chapter["title"] == f"{int(number)}. {heading}"


def test_pages_load_nothing_from_elsewhere(site) -> None:
    for path, page in pages(site).items():
        for tag, attribute in LOADED.items():
            for element in page.find_all(tag, attrs={attribute: True}):
                assert not urlsplit(element[attribute]).netloc, f"{path.name}: {element}"
        for element in page.find_all("link", href=True):
            assert not urlsplit(element["href"]).netloc, f"{path.name}: {element}"
        code = " ".join(script.text for script in page.find_all("script"))
        assert not re.search(r"https?://", code), path.name
        assert "thebe" not in page.decode().lower(), path.name


def test_style_sheets_load_nothing_from_elsewhere(site) -> None:
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", path.read_text("utf8")), path


def test_links_within_the_book_lead_somewhere(site) -> None:
    known: dict[Path, set[str]] = {}  # a page's ids: to parse it for each link took minutes

    def ids(file: Path) -> set[str]:
        if file not in known:
            there = BeautifulSoup(file.read_text("utf8"), "html.parser")
            known[file] = {element["id"] for element in there.find_all(id=True)}
        return known[file]

    for path, page in pages(site).items():
        for link in page.find_all("a", href=True):
            target = urlsplit(link["href"])
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            assert file.exists(), f"{path.name}: {link}"
            if target.fragment and file.suffix == ".html":
                assert unquote(target.fragment) in ids(file), f"{path.name}: {link}"


def test_pictures_say_what_they_show(site) -> None:
    for path, page in notebook_pages(site).items():
        for image in page.find("article").find_all("img"):
            alt = image.get("alt", "")
            assert len(alt) > 10, f"{path.name}: {image}"
            assert "_images/" not in alt, f"{path.name}: {image}"
        for picture in page.find("article").select("svg.vitlib-picture"):
            assert len(picture.get("aria-label", "")) > 10, f"{path.name}: {str(picture)[:200]}"


def test_pictures_stand_in_the_page_and_take_its_colours(site) -> None:
    """An <img> would keep its white ground in the dark."""
    for path, page in notebook_pages(site).items():
        article = page.find("article")
        assert not article.select(".cell_output img"), path.name
        pictures = article.select("svg.vitlib-picture")
        assert pictures, path.name
        ids = [element["id"] for picture in pictures for element in picture.select("[id]")]
        assert len(set(ids)) == len(ids), f"{path.name}: one id twice"
        used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', "".join(map(str, pictures))))
        assert used <= set(ids), path.name


def test_an_svg_picture_is_named_and_its_ids_are_its_own() -> None:
    svg = (
        '<svg xmlns="x" width="9" role="img"><title>file name</title><defs><g id="i0"/></defs>'
        '<use href="#i0"/><path clip-path="url(#i0)" fill="#1f2933"/></svg>'
    )
    assert picture_in_page(svg, 'a "b" & c', "p1-") == (
        '<svg xmlns="x" width="9" class="vitlib-picture" role="img" '
        'aria-label="a &quot;b&quot; &amp; c"><defs><g id="p1-i0"/></defs>'
        '<use href="#p1-i0"/><path clip-path="url(#p1-i0)" fill="#1f2933"/></svg>'
    )


def test_formulas_are_drawn_by_a_file_of_the_site(site) -> None:
    for path, page in pages(site).items():
        if page.select(".math"):
            (script,) = [s["src"] for s in page.select("script[src*=mathjax]")]
            assert (path.parent / script.split("?")[0]).resolve().is_file()


def test_no_formula_or_markup_is_left_in_the_text(site) -> None:
    """In what a cell computed, and in what a checker reports, too."""
    for path, page in notebook_pages(site).items():
        article = page.find("article")
        for apart in article.select("pre, code, script, .math"):
            apart.decompose()
        left = re.search(r".{0,40}(\$|\*\*|`).{0,40}", article.get_text(" "))
        assert left is None, f"{path.name}: {left}"


def test_no_line_begins_with_a_percent_sign(site) -> None:
    bound = 0
    for path, page in notebook_pages(site).items():
        article = page.find("article")
        for apart in article.select("pre, code, script, svg, .math, .check-report, .vitlib-figure"):
            apart.decompose()
        text = article.get_text(" ")
        loose = re.search(r".{0,40}\d %", text)
        assert loose is None, f"{path.name}: {loose}"
        bound += len(re.findall(r"\d\xa0%", text))
    assert bound > 50


def test_the_bibliography_lists_every_source(site) -> None:
    sources = re.findall(r"^@", (ROOT / "references.bib").read_text("utf8"), flags=re.M)
    page = BeautifulSoup((site / "book/bibliography.html").read_text("utf8"), "html.parser")
    assert len(page.select("article .citation")) == len(sources) > 10


def test_pages_are_light(site) -> None:
    """What a reader loads for one page: its HTML, figures included, and the pictures in it."""
    for path, page in notebook_pages(site).items():
        files = {path} | {
            (path.parent / unquote(image["src"])).resolve()
            for image in page.find("article").find_all("img")
            if not image["src"].startswith("data:")
        }
        sizes = {file.name: len(gzip.compress(file.read_bytes())) for file in files}
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:4]
        assert sum(sizes.values()) <= MOST_BYTES, f"{path.name}: {sum(sizes.values())}, {largest}"


def test_footer_and_titles_are_the_books_own(site) -> None:
    for path, page in notebook_pages(site).items():
        assert "2023" not in page.select_one("footer.bd-footer-content").text, path.name
        assert "CC BY 4.0" in page.select_one("footer.bd-footer-content").text, path.name
        assert "Vision Transformers from Scratch" in page.title.text, path.name


def test_without_an_address_the_colab_button_explains(site_without_address) -> None:
    for path, page in notebook_pages(site_without_address).items():
        (link,) = page.select(".dropdown-launch-buttons a")
        assert "Colab" in link.text
        explanation = (path.parent / link["href"]).resolve()
        assert "make set-repo URL=" in explanation.read_text("utf8")
        assert "make lab" in explanation.read_text("utf8")
    for path, page in pages(site_without_address).items():
        hosts = {urlsplit(a["href"]).netloc for a in page.find_all("a", href=True)}
        assert "colab.research.google.com" not in hosts, path.name


def test_with_an_address_the_colab_button_opens_the_notebook(site_with_address) -> None:
    for path, page in notebook_pages(site_with_address).items():
        (link,) = page.select(".dropdown-launch-buttons a")
        assert link["href"] == (
            "https://colab.research.google.com/github/example/vision-transformers"
            f"/blob/main/book/{path.stem}.ipynb"
        )
    assert not list(site_with_address.glob("open-in-colab*"))


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        ("See [](missing.ipynb).", "missing.ipynb"),
        ("# One\n\n### Three", "Non-consecutive header level"),
        ("![a picture](figures/missing.png)", "image file not readable"),
        ("{cite:p}`nobody1900`", "could not find bibtex key"),
    ],
)
def test_a_warning_fails_the_build(tmp_path, source, warning) -> None:
    tree = copy_sources(tmp_path / "tree")
    for path in (tree / "book").glob("*.ipynb"):
        path.unlink()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\n" + source)])
    notebooks.clean(book)
    nbformat.write(book, tree / "book" / "intro.ipynb")
    (tree / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters: [{file: book/bibliography}]\n"
    )
    built = build_book(tree)
    assert built.returncode != 0
    assert warning in built.stdout + built.stderr
