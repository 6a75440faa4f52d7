"""What tests of several modules start from: weights in a file, and a Hub without a network."""

import pytest
from checkpoints.pretend_hub import Hub
from foreign_files import lively, vit
from safetensors.torch import save_file

from vitlib import VisionTransformer


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Hub(tmp_path, monkeypatch)


@pytest.fixture
def source() -> VisionTransformer:
    return lively(vit())


@pytest.fixture
def file(source, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(source.state_dict(), path)
    return path
