"""Chapter 15 with weights at hand: it computes what its stored outputs, the record's, say.

`make test` runs the chapter without weights, as every other notebook.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from building import ROOT

SHARED = os.environ.get("VITLIB_SHARED")
pytestmark = pytest.mark.skipif(not SHARED, reason="VITLIB_SHARED names no folder of real files")
NOTEBOOK = ROOT / "book" / "15_pretrained.ipynb"


def test_the_chapter_computes_what_it_shows_from_the_record(tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    weights = Path(SHARED or ".").resolve() / "data" / "dinov2_small"
    command = [sys.executable, "-m", "pytest", "--rootdir", tmp_path, "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "900", NOTEBOOK.name]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"VITLIB_DINOV2": str(weights)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_stored_outputs_are_those_of_the_record():
    """Or the run above would compare weights with themselves."""
    cells = {cell.id: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    (said,) = cells["dino-source"].outputs
    assert "This run shows the record." in said.data["text/markdown"]
