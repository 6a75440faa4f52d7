"""Real data and real weights, where they are at hand: the folder that VITLIB_SHARED names.

CI says so in its log; elsewhere these tests are skipped. Nothing that vitlib ships needs them.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from vitlib import create_model, load_data
from vitlib.checkpoints import load_pretrained, read_foreign

SHARED = os.environ.get("VITLIB_SHARED")
pytestmark = pytest.mark.skipif(not SHARED, reason="VITLIB_SHARED names no folder of real files")
DATA = Path(SHARED or ".") / "data"


def test_cifar10_as_the_hub_stores_it():
    data = load_data(DATA / "cifar10")
    assert (len(data.train), len(data.test), len(data.classes)) == (50_000, 10_000, 10)
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    # these files hold the pictures as JPEG: the published mean is 0.4914, 0.4822, 0.4465
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-4)
    assert data.skipped == ()


def test_a_real_pretrained_vit_is_read_whole():
    found = read_foreign(DATA / "dinov2_small")
    config = json.loads((DATA / "dinov2_small/config.json").read_text())
    width, patch = config["hidden_size"], config["patch_size"]
    projection = found.tensors["embeddings.patch_embeddings.projection.weight"]
    assert projection.shape == (width, 3, patch, patch)
    assert found.tensors["embeddings.cls_token"].shape == (1, 1, width)
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())


def test_weights_of_another_architecture_are_called_by_name_and_leave_the_model_as_it_was():
    model = create_model("vit_small_patch16_224", patch_size=14, num_classes=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"config\.json calls it a 'dinov2' model"):
        load_pretrained(model, DATA / "dinov2_small")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
