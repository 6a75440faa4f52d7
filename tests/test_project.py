"""What the project says about itself: requirements, lock, citation and README agree; the house."""

import ast
import importlib
import operator
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

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
    allowed = [*PROJECT["dependencies"], *EXTRAS["hub"], *EXTRAS["onnx"], *EXTRAS["record"]]
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


# The house


def test_what_the_reader_built_can_be_read_in_one_sitting() -> None:
    """The six modules of chapters 1 to 5."""
    parts = ("patch", "pos_embed", "attention", "blocks", "init", "model")
    lines = {p: len((ROOT / "vitlib" / f"{p}.py").read_text("utf8").splitlines()) for p in parts}
    assert sum(lines.values()) < 960, lines


def check_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of the pyproject.toml in `folder`, on the vitlib that lies there."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_go_one_way() -> None:
    checked = check_imports(ROOT)
    assert checked.returncode == 0, checked.stdout
    assert "Contracts: 2 kept, 0 broken." in checked.stdout


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory) -> Path:
    """vitlib's modules with nothing in them but their imports, and its contracts."""
    root = tmp_path_factory.mktemp("skeleton")
    shutil.copy(ROOT / "pyproject.toml", root)
    for path in (ROOT / "vitlib").rglob("*.py"):
        imports = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text("utf8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(imports) + "\n", "utf8")
    return root


def test_the_skeleton_keeps_the_contracts(skeleton) -> None:
    checked = check_imports(skeleton)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        (
            "model.py",
            "def load():\n    from vitlib.checkpoints import load_checkpoint",
            "vitlib.model is not allowed to import vitlib.checkpoints",
        ),
        (
            "plots.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from vitlib.train import History",
            "vitlib.plots is not allowed to import vitlib.train",
        ),
        (
            "wording.py",
            "import vitlib.widgets",
            "vitlib.wording is not allowed to import vitlib.widgets",
        ),
        (
            "train/history.py",
            "def go_on():\n    from vitlib.train.resume import ResumableRun",
            "No cycles are allowed in vitlib.train.",
        ),
        ("new.py", "import torch", "modules are not listed as layers: - vitlib.new"),
    ],
    ids=["in a function", "for types only", "upwards", "within a folder", "in no layer"],
)
def test_a_circle_is_noticed_wherever_the_import_stands(skeleton, module, line, said) -> None:
    path = skeleton / "vitlib" / module
    before = path.read_text("utf8") if path.exists() else ""
    path.write_text(f"{before}\n{line}\n", "utf8")
    try:
        checked = check_imports(skeleton)
    finally:
        path.write_text(before, "utf8") if before else path.unlink()
    assert checked.returncode == 1, checked.stdout
    assert said in " ".join(checked.stdout.split()), checked.stdout


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "vitlib"],
        [sys.executable, "-m", "vitlib.cli"],
        [str(Path(sys.executable).with_name("vitlib"))],
    ],
    ids=["vitlib as a module", "vitlib.cli as a module", "vitlib"],
)
def test_each_way_to_start_it_works(command, tmp_path) -> None:
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"vitlib {PROJECT['version']}\n"), done.stderr
    refused = subprocess.run([*command, "fly"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "usage: vitlib " in refused.stderr


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("vitlib.cli", "main"),
        ("vitlib.attention", "unfused"),
        ("vitlib.export", "export_onnx"),
        ("vitlib.data.decode", "decode"),
    ],
)
def test_names_of_modules_lead_to_modules(module, name) -> None:
    """No function of a package's own hides the module that bears its name."""
    found = importlib.import_module(module)
    assert operator.attrgetter(module.removeprefix("vitlib."))(sys.modules["vitlib"]) is found
    assert callable(getattr(found, name))


@pytest.mark.parametrize(
    "name", ["my books", "Bücher", "it's", 'a "b"', "$HOME", "a$b", "#1", "a;b"]
)
def test_make_works_in_a_folder_with_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    for file in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, folder)
    for tool in ("jupyter-book", "python"):  # each notes that it was called
        (tools / tool).write_text('#!/bin/sh\necho "$0" >> called\n')
        (tools / tool).chmod(0o755)
    (folder / ".venv" / "installed").touch()
    for target in ("book", "set-repo"):
        done = subprocess.run(["make", target], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if target == "book":
            assert f"Open {folder}/_build/html/index.html" in done.stdout
    called = (folder / "called").read_text("utf8").splitlines()
    assert called == [f"{tools}/jupyter-book", f"{tools}/python"]
