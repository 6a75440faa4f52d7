"""Real data and real weights, where they are at hand: the folder that VITLIB_SHARED names.

CI says so in its log; elsewhere these tests are skipped. Nothing that vitlib ships needs them.
"""

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.running import run
from peers import random_images, transformers
from PIL import Image
from skimage.data import coffee
from sklearn.neighbors import KNeighborsClassifier as NearestNeighbour
from test_export import answers
from torch.nn import functional as F

from vitlib import ImageSet, create_model, evaluate, fit_probe, load_data, save_checkpoint
from vitlib.checkpoints import load_pretrained, read_foreign
from vitlib.runs.photos import read_photos
from vitlib.runs.record_photos import record_photos
from vitlib.weights.train_micro import LOG

SHARED = os.environ.get("VITLIB_SHARED")
pytestmark = pytest.mark.skipif(not SHARED, reason="VITLIB_SHARED names no folder of real files")
DATA = Path(SHARED or ".") / "data"


@pytest.fixture(scope="module")
def cifar10():
    return load_data(DATA / "cifar10")


def test_cifar10_as_the_hub_stores_it(cifar10):
    data = cifar10
    assert (len(data.train), len(data.test), len(data.classes)) == (50_000, 10_000, 10)
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    # these files hold the pictures as JPEG: the published mean is 0.4914, 0.4822, 0.4465
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-4)
    assert data.skipped == ()


def test_the_packaged_model_of_photos_is_as_good_as_its_log_says(cifar10):
    model = create_model("vit_micro_patch4_32", pretrained=True)
    found = evaluate(model, cifar10.test).accuracy
    assert found == pytest.approx(json.loads(LOG.read_text())["test_accuracy"], abs=0.0005)


def test_a_real_pretrained_vit_is_read_whole():
    found = read_foreign(DATA / "dinov2_small")
    config = json.loads((DATA / "dinov2_small/config.json").read_text())
    width, patch = config["hidden_size"], config["patch_size"]
    projection = found.tensors["embeddings.patch_embeddings.projection.weight"]
    assert projection.shape == (width, 3, patch, patch)
    assert found.tensors["embeddings.cls_token"].shape == (1, 1, width)
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (224, 308)], ids=str)
def test_features_of_a_real_dinov2_are_those_of_transformers(size):
    """The weights are float16; transformers computes with them in float32, as vitlib does."""
    place, images = DATA / "dinov2_small", random_images(3, *size, count=1)
    theirs = transformers.Dinov2Model.from_pretrained(place, dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dynamic = create_model(str(place), pretrained=True, dynamic_img_size=True)
        fixed = create_model(str(place), pretrained=True, img_size=size)
    assert (fixed.mean, fixed.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = theirs(images).last_hidden_state
        for ours in (dynamic, fixed):
            difference = (ours.forward_features(images) - expected).norm() / expected.norm()
            assert difference < 1e-5


@pytest.mark.parametrize("size", [224, 518])
def test_onnxruntime_computes_the_features_of_transformers(tmp_path, capsys, size, unchecked):
    """From the file that `vitlib export` writes; its size is the model's, which is 518 at first."""
    place, written = DATA / "dinov2_small", tmp_path / "dinov2.onnx"
    source = ["--weights", place]
    if size != 518:
        model = create_model(str(place), pretrained=True, img_size=size)
        save_checkpoint(model, tmp_path / "resized.safetensors")
        source = ["--checkpoint", tmp_path / "resized.safetensors"]
    code, out, _ = run(capsys, "export", *source, "--out", written)
    assert code == 0
    assert f"images (batch, 3, {size}, {size}) to features (batch, 384)" in out
    theirs = transformers.Dinov2Model.from_pretrained(place, dtype=torch.float32).eval()
    images = random_images(3, size, size, count=1)
    with torch.no_grad():
        expected = theirs(images).pooler_output  # the class token
    difference = (torch.from_numpy(answers(written, images)) - expected).norm()
    assert difference / expected.norm() < 1e-4


def test_attend_draws_what_the_heads_of_a_real_dinov2_look_at(tmp_path, capsys):
    """The 518 pixels of the weights would take seconds, and a photo keeps its shape."""
    Image.fromarray(coffee()).save(tmp_path / "coffee.png")  # 400×600 pixels
    command = ["attend", tmp_path / "coffee.png", "--weights", DATA / "dinov2_small"]
    code, out, err = run(capsys, *command, "--head", "all", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("each picture gets about as many pixels as a square of 448×448")
    assert out.endswith("coffee-attention-heads.png: 364×546 pixels\n")
    with Image.open(tmp_path / "coffee-attention-heads.png") as drawn:
        assert min(drawn.size) > 600
        shown = torch.from_numpy(np.array(drawn.convert("RGB"))).flatten(0, 1)
    assert len(shown.unique(dim=0)) > 1000  # a photo, not an empty sheet
    code, _, err = run(capsys, *command, "--method", "pca", "--img-size", "224", "--out", tmp_path)
    assert (code, err, (tmp_path / "coffee-pca.png").is_file()) == (0, "", True)


def test_the_recorded_photos_are_what_these_weights_give():
    """To one step: another CPU rounds otherwise."""
    model = create_model(str(DATA / "dinov2_small"), pretrained=True, dynamic_img_size=True)
    made, kept = record_photos(model, "these"), read_photos()
    for one, other in zip(made.pictures, kept.pictures, strict=True):
        assert one.grid == other.grid
        for key in ("maps", "patch_maps"):
            assert np.abs(getattr(one, key).astype(int) - getattr(other, key)).max() <= 1
        for key in ("scales", "patch_scales"):
            np.testing.assert_allclose(getattr(one, key), getattr(other, key), rtol=1e-3)
    for one, other in zip(made.colours, kept.colours, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2


def test_a_real_dinov2_in_the_preset_is_reported():
    model = create_model("vit_small_patch14_dinov2", img_size=224)
    report = load_pretrained(model, DATA / "dinov2_small", resize_pos_embed=True)
    assert report.ok
    assert len(report.cast) == len(report.loaded) == len(model.state_dict())
    assert report.settings == (
        "Positions are resampled by bicubic interpolation, without anti-aliasing, as transformers "
        "does for DINOv2.",
    )
    other = create_model("vit_base_patch14_dinov2", img_size=28, depth=1)
    with pytest.raises(ValueError, match="Build the model as the source was: depth=12, embed_dim"):
        load_pretrained(other, DATA / "dinov2_small", resize_pos_embed=True)


def test_the_features_of_a_real_dinov2_tell_photos_apart(cifar10, tmp_path):
    """How well is chapter 15's to say; here, that they do, and better than the photos' pixels."""

    def few(part, count):
        index = torch.cat([(part.labels == label).nonzero()[:count, 0] for label in range(10)])
        images = F.interpolate(part.images[index], (112, 112), mode="bilinear", antialias=True)
        return ImageSet(images, part.labels[index], part.mean, part.std)

    photos = replace(cifar10, train=few(cifar10.train, 10), test=few(cifar10.test, 5))
    model = create_model(str(DATA / "dinov2_small"), pretrained=True, img_size=112)
    found = fit_probe(model, photos, neighbours=5, cache=tmp_path)
    pixels = NearestNeighbour(1).fit(photos.train.images.flatten(1), photos.train.labels)
    score = pixels.score(photos.test.images.flatten(1), photos.test.labels)
    assert found.logistic.accuracy > max(score, 0.25)  # 0.1 is chance
