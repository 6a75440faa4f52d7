"""`vitlib attend --weights`: photos through other people's models, and all that can be wrong."""

import os
import re

import numpy as np
import pytest
import torch
from checkpoints.pretend_hub import Hub
from checkpoints.test_dinov2 import BAD, write
from cli.running import refused, run
from data.test_decode import png_header
from PIL import Image

from vitlib import create_model
from vitlib.checkpoints import save_checkpoint
from vitlib.explain import pictures


@pytest.fixture
def dino(tmp_path_factory, capsys):
    """A small DINOv2 without a head in a folder, as transformers writes it: patches of 4, 5×5."""
    folder = tmp_path_factory.mktemp("dino")
    theirs = write(folder)
    capsys.readouterr()  # transformers' progress bar
    return folder, theirs


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return "photo.png"


def seen_by(monkeypatch, capsys, *arguments):
    """What attend draws, what it printed, and the files that it wrote."""
    drawn = []

    def plot(self):
        drawn.append(self)
        return original(self)

    original = pictures.AttendedPicture.plot
    monkeypatch.setattr(pictures.AttendedPicture, "plot", plot)
    code, out, err = run(capsys, "attend", *arguments, "--out", "out")
    assert (code, err) == (0, "")
    return drawn, out, sorted(os.listdir("out"))


@torch.no_grad()
def test_a_photo_keeps_its_shape_and_the_map_is_that_of_transformers(
    monkeypatch, capsys, dino, photo
):
    folder, theirs = dino
    (seen,), out, names = seen_by(monkeypatch, capsys, photo, "--weights", folder)
    assert names == ["photo-attention.png"]
    first, second = out.splitlines()
    assert first == (
        "each picture gets about as many pixels as a square of 20×20, the size of the weights; "
        "--img-size takes another"
    )
    assert second == f"{os.path.join('out', names[0])}: 16×24 pixels"
    theirs.set_attn_implementation("eager")
    inputs = (seen.pixels - 0.4) / 0.2
    attention = theirs(inputs, output_attentions=True).attentions[-1]  # (1, H, T, T)
    expected = attention[0, :, 0, 1:].mean(dim=0).view(4, 6)
    torch.testing.assert_close(seen.map, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "kind", "shape", "name"),
    [
        (["--head", "all"], "heads", (3, 4, 6), "attention-heads"),
        (["--head", "all", "--layer", "0"], "heads", (3, 4, 6), "attention-layer0-heads"),
        (["--method", "pca"], "colours", (4, 6, 3), "pca"),
        (["--method", "rollout"], "values", (4, 6), "rollout"),
        (["--img-size", "40"], "values", (8, 13), "attention"),
    ],
)
def test_what_is_drawn(monkeypatch, capsys, dino, photo, flags, kind, shape, name):
    (seen,), out, names = seen_by(monkeypatch, capsys, photo, "--weights", dino[0], *flags)
    assert (seen.kind, seen.map.shape) == (kind, shape)
    assert names == [f"photo-{name}.png"]
    assert seen.answer is None
    assert ("each picture gets" in out) == ("--img-size" not in flags)


def test_img_size_with_a_model_of_vitlibs_own(monkeypatch, capsys, photo):
    (seen,), out, _ = seen_by(monkeypatch, capsys, photo, "--model", "vit_nano_patch7_28")
    assert seen.map.shape == (4, 4)  # the centre, as in its training
    assert len(out.splitlines()) == 1
    command = [photo, "--model", "vit_nano_patch7_28", "--img-size", "56"]
    (seen,), _, _ = seen_by(monkeypatch, capsys, *command)
    assert seen.map.shape == (6, 10)
    save_checkpoint(create_model("vit_nano_patch7_28", pretrained=True), "own")
    command = [photo, "--checkpoint", "own", "--img-size", "56"]
    (other,), _, _ = seen_by(monkeypatch, capsys, *command)
    torch.testing.assert_close(other.map, seen.map)
    assert other.answer == seen.answer


def test_a_size_that_would_be_slow_is_reduced_and_the_reason_is_printed(
    monkeypatch, capsys, dino, photo
):
    monkeypatch.setattr(pictures, "_MOST", 1e5)
    (seen,), out, _ = seen_by(monkeypatch, capsys, photo, "--weights", dino[0])
    assert seen.map.numel() < 24
    assert "at 20×20, the size of the weights, it would be" in out.splitlines()[0]


# What is refused, in one line, with nothing written


@pytest.mark.parametrize("bad", BAD)
def test_weights_that_cannot_be_used(capsys, dino, photo, bad):
    spoil, message = BAD[bad]
    spoil(dino[0])
    error = refused(capsys, "attend", photo, "--weights", dino[0], "--out", "out")
    assert re.search(message, error)
    assert os.listdir() == [photo]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_weights_from_elsewhere_given_as_a_checkpoint(capsys, dino, photo, what):
    place = dino[0] if what == "folder" else dino[0] / "model.safetensors"
    error = refused(capsys, "attend", photo, "--checkpoint", place)
    assert error.endswith(": --weights reads such weights\n")
    assert run(capsys, "attend", photo, "--weights", place)[0] == 0


def test_an_id_of_the_hub_given_as_a_checkpoint(capsys, photo):
    error = refused(capsys, "attend", photo, "--checkpoint", "facebook/dinov2-small")
    assert error == (
        "vitlib: error: there is no file facebook/dinov2-small. If it is a model on the Hub: "
        "--weights reads such weights\n"
    )


def test_no_network_and_no_cache(capsys, photo, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    Hub(tmp_path / "elsewhere", monkeypatch).failure = OSError("no route to host")
    error = refused(capsys, "attend", photo, "--weights", "facebook/dinov2-small")
    assert "Hub can't be reached (OSError: no route to host), nor is facebook/dinov2-small" in error
    assert "give the folder's path instead of the id" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--head", "9"], "head 9 is out of range: a layer has 3 heads, 0 to 2, or -3 to -1"),
        (["--layer", "2"], "layer 2 is out of range: the model has 2 layers"),
        (["--method", "gradient"], "the model has no head (num_classes=0) to give one"),
        (["--method", "occlusion"], "choose one of attention, rollout, pca"),
        (["--method", "pca", "--head", "all"], "--head goes with --method attention, not with pca"),
        (["--method", "pca", "--layer", "0"], "--layer goes with --method attention, not with pca"),
        (["--img-size", "3"], "--img-size 3 is less than one patch, 4 pixels"),
        (["--img-size", "-20"], "--img-size -20 is less than one patch, 4 pixels"),
    ],
)
def test_options_that_do_not_fit(capsys, dino, photo, flags, message):
    assert message in refused(capsys, "attend", photo, "--weights", dino[0], *flags)
    assert os.listdir() == [photo]


def test_a_head_is_a_number_or_all(capsys, dino, photo):
    with pytest.raises(SystemExit) as stop:
        run(capsys, "attend", photo, "--weights", dino[0], "--head", "every")
    assert stop.value.code == 2
    assert "expected a head's number or all, got 'every'" in capsys.readouterr().err


def test_photos_that_cannot_be_seen(capsys, dino, photo, tmp_path):
    Image.new("RGB", (1, 1)).save("dot.png")
    png_header(tmp_path / "huge.png", 20_000, 20_000)
    before = sorted(os.listdir())
    error = refused(capsys, "attend", photo, "dot.png", "huge.png", "--weights", dino[0])
    assert "dot.png (1×1 pixels (height × width), less than one patch of 4×4)" in error
    assert "huge.png (more than 178,956,970 pixels, Pillow's limit: save it smaller)" in error
    assert sorted(os.listdir()) == before
