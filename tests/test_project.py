"""What the project says about itself: requirements, lock, citation and README agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import jaxtyping
import pytest
import torch
import yaml
from building import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text("utf8").splitlines()
    if line and not line.startswith("#")
]
EXTRAS = PROJECT["optional-dependencies"]


def test_every_locked_line_is_exact() -> None:
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
    assert "torch==2.13.0" in LINES


@pytest.mark.parametrize("extra", [None, "book", "test", "hub", "onnx"])
def test_the_lock_satisfies_pyproject(extra) -> None:
    locked = {canonicalize_name(n): Version(v) for n, v in (line.split("==") for line in LINES)}
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        wanted = Requirement(text)
        if wanted.name != PROJECT["name"]:
            assert locked[canonicalize_name(wanted.name)] in wanted.specifier, text


def test_vitlib_imports_only_what_it_requires() -> None:
    allowed = [*PROJECT["dependencies"], *EXTRAS["hub"], *EXTRAS["onnx"]]
    required = {canonicalize_name(Requirement(text).name) for text in allowed}
    distributions = packages_distributions()
    for path in (ROOT / "vitlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - {"vitlib"}:
                if name not in sys.stdlib_module_names:
                    offered = {canonicalize_name(d) for d in distributions.get(name, [name])}
                    assert offered & required, f"{path.name} imports {name}, not in pyproject.toml"


def test_citation_has_the_packages_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["title"] == "Vision Transformers from Scratch"


def test_licence_covers_code_and_text() -> None:
    text = (ROOT / "LICENSE").read_text("utf8")
    assert "Permission is hereby granted, free of charge" in text
    assert "https://creativecommons.org/licenses/by/4.0/" in text


def test_the_readmes_commands_and_files_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf8")
    makefile = (ROOT / "Makefile").read_text("utf8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    used = set(re.findall(r"\bmake ([a-z-]+)", readme))
    assert {"book", "test"} <= used <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert "://" in link or (ROOT / link).exists(), link


def test_shapes_in_vitlib_are_checked_while_testing() -> None:
    """pyproject.toml's `--jaxtyping-packages` is on, in xdist's workers too."""
    from vitlib import patchify

    with pytest.raises(jaxtyping.TypeCheckError):
        patchify(torch.zeros(28, 28), 7)
