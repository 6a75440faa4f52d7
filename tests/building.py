"""Where the repository is, and its book built from a copy, so that no build touches the tree."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["_config.yml", "_toc.yml", "references.bib", "README.md", "CITATION.cff", "book"]


def copy_sources(target: Path) -> Path:
    """Copy all that the book is built from into `target`, so that no build touches the tree."""
    target.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def build_book(sources: Path) -> subprocess.CompletedProcess[str]:
    """`make book`'s own command; the pages then lie in sources/_build/html."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", ".", "-W", "--keep-going", "--all", "-q"]
    return subprocess.run(command, cwd=sources, capture_output=True, text=True)
