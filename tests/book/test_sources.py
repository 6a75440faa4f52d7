"""The papers that the chapters link to: each is in the bibliography, with that author and year."""

import re
import unicodedata

import nbformat
import notebooks
import pytest
from building import ROOT

LINK = re.compile(r"\[([^\]]*)\]\(https://arxiv\.org/abs/(\d{4}\.\d{4,5})\)")


def entries() -> dict[str, tuple[str, str]]:
    """arXiv number -> (first author's family name, year)."""
    found = {}
    for entry in (ROOT / "references.bib").read_text("utf8").split("\n@")[1:]:
        number = re.search(r"\d{4}\.\d{4,5}", entry)
        author = re.search(r"author\s*=\s*\{(.+?),", entry)
        year = re.search(r"year\s*=\s*\{(\d{4})\}", entry)
        assert author, entry
        assert year, entry
        if number:
            found[number[0]] = (re.sub(r"[{}\\'\"]", "", author[1]), year[1])
    return found


def links() -> list[tuple[str, str, str]]:
    return [
        (path.stem, text, number)
        for path in notebooks.find_notebooks()
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
        for text, number in LINK.findall(cell.source)
    ]


BIBLIOGRAPHY, LINKS = entries(), links()


def test_each_paper_is_in_the_bibliography() -> None:
    assert len(LINKS) > 50
    missing = sorted({number for _, _, number in LINKS} - BIBLIOGRAPHY.keys())
    assert not missing, f"not in references.bib: {', '.join(missing)}"


@pytest.mark.parametrize("number", sorted({number for _, _, number in LINKS}))
def test_a_link_names_the_papers_first_author_and_year(number) -> None:
    author, year = BIBLIOGRAPHY[number]
    for chapter, text, linked in LINKS:
        named = re.search(r"\b(\d{4})\b", text)
        if linked == number and named:  # some links name a method or a section
            plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
            assert author.split()[-1] in plain.replace("'", ""), f"{chapter}: {text} ({author})"
            assert named[1] == year, f"{chapter}: {text} ({year})"
