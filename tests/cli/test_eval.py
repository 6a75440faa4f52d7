"""`vitlib eval`: what it refuses, and grey images for a model of colour."""

from pathlib import Path

import torch
from cli.running import refused, run

import vitlib
from vitlib.checkpoints import save_checkpoint


def test_eval_refuses(capsys, tmp_path):
    error = refused(capsys, "eval", "--checkpoint", "none.safetensors", "--data", "digits")
    assert "no checkpoint none.safetensors" in error
    torch.manual_seed(0)
    model = vitlib.create_model("vit_nano_patch7_28", num_classes=2)
    model.classes = ("cat", "dog")
    save_checkpoint(model, "pets")
    error = refused(capsys, "eval", "--checkpoint", "pets", "--data", "digits")
    assert "cat, dog" in error
    assert "digits has 0, 1, 2, 3, 4, 5 and 4 more" in error
    model.classes = None
    save_checkpoint(model, "pets")
    error = refused(capsys, "eval", "--checkpoint", "pets", "--data", "digits")
    assert "labels go from 0 to 9" in error
    Path("cut").write_bytes(Path("pets").read_bytes()[:5000])
    assert "cut off" in refused(capsys, "eval", "--checkpoint", "cut", "--data", "digits")
    model = vitlib.create_model("vit_nano_patch7_28", in_chans=2)
    save_checkpoint(model, "two")
    error = refused(capsys, "eval", "--checkpoint", "two", "--data", "digits")
    assert "takes images of 2 channels, pictures have 1 or 3" in error


def test_eval_repeats_grey_images_for_a_model_of_colour(capsys):
    grey = vitlib.create_model("vit_nano_patch7_28", pretrained=True)
    colour = vitlib.create_model("vit_nano_patch7_28", in_chans=3)
    weights = grey.state_dict()
    kernel = weights["patch_embed.proj.weight"]
    colour.load_state_dict(weights | {"patch_embed.proj.weight": kernel.repeat(1, 3, 1, 1) / 3})
    colour.mean, colour.std, colour.classes = grey.mean * 3, grey.std * 3, grey.classes
    save_checkpoint(grey, "grey")
    save_checkpoint(colour, "colour")
    said = [
        run(capsys, "eval", "--checkpoint", name, "--data", "digits") for name in ("grey", "colour")
    ]
    assert said[0] == said[1]
    assert said[0][0] == 0
