"""`vitlib check`: one line per instrument, its exit status, and what it says of code that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from building import ROOT
from cli.running import refused, run

MODEL = """
import torch
from torch import nn
from vitlib import VisionTransformer

def small(**options):
    sizes = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 3}
    return VisionTransformer(**sizes, embed_dim=12, depth=2, num_heads=3, **options)

def right():
    return small()

def unpositioned():
    return small(pos_embed="none")

class Plain(nn.Module):
    "States nothing about its images."
    def __init__(self):
        super().__init__()
        self.inside = small()
        self.inside.requires_grad_(True)
    def forward(self, images):
        return self.inside(images)

class OfRows(nn.Module):
    "Has the batch in the shape of a parameter."
    def __init__(self):
        super().__init__()
        self.inside, self.rows = small(), nn.Parameter(0.1 * torch.randn(8, 1, 8, 8))
    def forward(self, images):
        return self.inside(images + self.rows)

class Silly:
    make = staticmethod(right)

a_model, a_number = right(), 3

def nothing():
    pass

def needs(size):
    return small()

def fails():
    rearrange(1)

class Loud(nn.Module):
    def forward(self, images):
        return images.transposr(1, 2)

class InTraining(Plain):
    img_size = 8
    def forward(self, images):
        return self.inside(images) + (torch.zeros(5) if self.training else 0)

def features():
    return nn.Conv2d(1, 3, 3)

def features_in_four():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
"""


@pytest.fixture(autouse=True)
def _a_module_in_the_folder(monkeypatch):
    Path("my_vit.py").write_text(MODEL)
    Path("broken.py").write_text("import torch\n\nassert torch.rand(1) > 1, 'never'\n")
    Path("unwritten.py").write_text("def f(:\n")
    Path("lacking.py").write_text("import no_such_package\n")
    Path("leaving.py").write_text("raise SystemExit(3)\n")
    Path("package").mkdir()
    Path("package/inner.py").write_text("from my_vit import right")
    before = list(sys.path), set(sys.modules)
    yield
    assert sys.path == before[0]
    for name in set(sys.modules) - before[1]:
        if name in ("my_vit", "broken", "unwritten", "lacking", "leaving", "package.inner"):
            del sys.modules[name]


def test_a_right_model(capsys):
    code, out, err = run(capsys, "check", "my_vit:right")
    assert (code, err) == (0, ""), out
    *lines, last = out.splitlines()
    assert len(lines) == 13
    assert all(line.startswith("not found      ") for line in lines)
    assert "order: change " in out
    assert last == "nothing was found"
    assert run(capsys, "check", "my_vit:right")[1] == out


def test_a_bug(capsys):
    code, out, err = run(capsys, "check", "my_vit:unpositioned")
    assert (code, err) == (1, "")
    (line,) = (line for line in out.splitlines() if line.startswith("found"))
    assert line.startswith("found          order: change 0%. Shuffled patches get the same answer.")
    assert "Usual cause: the model does not know where a patch was" in line
    assert out.splitlines()[-1] == "1 of the instruments found something"


def test_a_reference(capsys):
    options = "--img-size", "8", "--in-chans", "1", "--reference", "my_vit:right"
    code, out, _ = run(capsys, "check", "my_vit:Silly.make", *options)
    assert code == 0
    assert "parity ladder: " in out
    error = refused(capsys, "check", "my_vit:Plain", *options)
    assert "the weights have other names or shapes than the reference's" in error


def test_a_factory_in_a_package_and_a_class(capsys):
    assert run(capsys, "check", "package.inner:right")[0] == 0
    assert run(capsys, "check", "my_vit:Plain", "--img-size", "8")[0] == 0


def test_a_model_for_one_size_of_batch(capsys):
    code, out, _ = run(capsys, "check", "my_vit:OfRows", "--img-size", "8")
    assert code == 1
    assert "The model only takes batches of 8. Usual cause: a parameter or a buffer has the" in out


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("my_vit", "expected MODULE:FACTORY, such as my_vit:make_model, got 'my_vit'"),
        ("my_vit.py:right", "expected the name of a module, not of its file: my_vit:right"),
        ("their_vit:right", "there is no module 'their_vit' in "),
        ("package.outer:right", "there is no module 'package.outer' in "),
        ("my_vit:rihgt", "my_vit has no 'rihgt'. Did you mean 'right'?"),
        ("my_vit:a_number", "my_vit:a_number is a int, not a function that makes a model"),
        ("my_vit:a_model", "my_vit:a_model is a model, not a function that makes a model"),
        ("my_vit:nothing", "my_vit:nothing returned NoneType, not a torch.nn.Module"),
        ("my_vit:needs", "my_vit:needs failed: TypeError: needs() missing 1 required positional"),
        ("my_vit:fails", "NameError: name 'rearrange' is not defined (my_vit.py, line 45)"),
        ("my_vit:Loud", "'Tensor' object has no attribute 'transposr'"),
        (
            "my_vit:InTraining",
            "the instruments stopped at my_vit:InTraining: RuntimeError: The size",
        ),
        ("my_vit:features", "expected logits of shape (7, K) for 7 images, got (7, 3, "),
        ("my_vit:Plain", "does not run on images (7, 1, 224, 224)"),
        ("broken:right", "importing broken failed: AssertionError: never (broken.py, line 3)"),
        ("unwritten:right", "importing unwritten failed: SyntaxError: "),
        (
            "lacking:f",
            "ModuleNotFoundError: No module named 'no_such_package' (lacking.py, line 1)",
        ),
        ("leaving:f", "importing leaving failed: SystemExit: 3"),
    ],
)
def test_what_could_not_run_exits_with_2_and_one_line(capsys, factory, message):
    assert message in refused(capsys, "check", factory)


@pytest.mark.parametrize("option", ["--img-size", "--in-chans"])
def test_sizes_are_counts(capsys, option):
    assert f"{option} must be at least 1, got 0" in refused(
        capsys, "check", "my_vit:right", option, 0
    )
    assert "does not run on images" in refused(capsys, "check", "my_vit:right", option, 9)


def test_in_a_process_of_its_own(tmp_path):
    """As a user calls it: the folder is not on Python's path before."""
    command = "import sys; sys.path.pop(0); from vitlib.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "check", "my_vit:unpositioned"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1, done.stderr
    assert "found          order" in done.stdout
