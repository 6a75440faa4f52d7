"""What tests share: the CPU, the built book, once per session, and a way past the type checker."""

import hashlib
import os
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from building import ROOT, build_book, copy_sources
from filelock import FileLock

sys.path.insert(0, str(ROOT / "book" / "_ext"))  # so that tests import the Makefile's own tool
pytest_plugins = ["browsing"]  # the fixtures of the tests that need a browser

# Tests compare with the CPU's numbers, to the bit: where there is a GPU, "auto" must not take it.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.backends.mps.is_available = lambda: False


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(request, tmp_path_factory, monkeypatch):
    """Features that a test keeps are no other test's, nor the user's."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    monkeypatch.setenv("VITLIB_CACHE", str(tmp_path_factory.getbasetemp() / "caches" / name))


@pytest.fixture
def unchecked():
    """Without jaxtyping's check, which would speak before vitlib does, and stops torch.compile."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def _build_once(tmp_path_factory: pytest.TempPathFactory, name: str, prepare=None) -> Path:
    """Build under a lock in the folder that all of xdist's workers share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    sources = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not sources.exists():
            copy_sources(sources)
            if prepare is not None:
                prepare(sources)
            built = build_book(sources)
            (sources / "log.txt").write_text(f"{built.returncode}\n{built.stdout}{built.stderr}")
    log = (sources / "log.txt").read_text()
    assert log.startswith("0\n"), f"the book does not build:\n{log}"
    return sources / "_build" / "html"


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The pages of the book, its repository's address being as it is in the tree."""
    return _build_once(tmp_path_factory, "site")


@pytest.fixture(scope="session")
def site_without_address(tmp_path_factory) -> Path:
    from notebooks import set_repository

    return _build_once(tmp_path_factory, "unset", lambda root: set_repository("", root))


@pytest.fixture(scope="session")
def site_with_address(tmp_path_factory) -> Path:
    from notebooks import set_repository

    url = "https://github.com/example/vision-transformers"
    return _build_once(tmp_path_factory, "set", lambda root: set_repository(url, root))
