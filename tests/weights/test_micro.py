"""vit_micro_patch4_32, trained on CIFAR-10 for hours: the file is what its log says, and the log
is of the script's stages. tests/shared measures its accuracy again, where the photos are at hand.
"""

import json
from itertools import pairwise

import pytest
import torch

from vitlib import create_model
from vitlib.weights.train_micro import LOG, NAME, SHARED, STAGES

RECORD = json.loads(LOG.read_text())


def test_the_log_is_of_the_scripts_stages():
    assert [stage["options"] for stage in RECORD["stages"]] == [SHARED | own for own in STAGES]


def test_each_stage_was_validated_to_its_end_and_is_better_than_the_one_before():
    for stage in RECORD["stages"]:
        assert len(stage["val_steps"]) == len(stage["val_accuracy"])
        assert stage["val_steps"][-1] == stage["options"]["steps"]
    last = [stage["val_accuracy"][-1] for stage in RECORD["stages"]]
    assert all(later > earlier + 0.05 for earlier, later in pairwise(last))


def test_it_reads_photos_of_the_test_set():
    assert RECORD["test_accuracy"] >= 0.78
    assert abs(RECORD["test_accuracy"] - RECORD["stages"][-1]["val_accuracy"][-1]) < 0.015


def test_the_packaged_file_is_a_whole_model():
    model = create_model(NAME, pretrained=True)
    assert model.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert model.img_size == (32, 32)
    assert model.mean == pytest.approx((0.491, 0.482, 0.447), abs=1e-3)
    assert not model.training
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())
