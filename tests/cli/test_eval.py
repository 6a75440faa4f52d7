"""`vitlib eval`: what it refuses, and grey images for a model of colour."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.running import refused, run
from data.pictures import make_folders
from PIL import Image

import vitlib
from vitlib.checkpoints import load_checkpoint, save_checkpoint
from vitlib.train import evaluate as evaluate_with


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
    assert "only the model has cat, dog; only digits has 0, 1, 2, 3, 4, 5 and 4 more" in error
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


def test_eval_of_weights_from_elsewhere_says_what_to_do_with_them(capsys):
    torch.save(vitlib.create_model("vit_nano_patch7_28").state_dict(), "foreign.pth")
    error = refused(capsys, "eval", "--checkpoint", "foreign.pth", "--data", "digits")
    assert error.endswith(
        "is PyTorch's or numpy's: vitlib train --weights fine-tunes such weights\n"
    )
    code, out, _ = run(
        capsys, "train", "--weights", "foreign.pth", "--data", "digits", "--num-heads", "4",
        "--freeze", "backbone", "--steps", "2", "--warmup-steps", "1", "--quiet", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert "test accuracy" in out


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


QUICK = ["--steps", 2, "--warmup-steps", 1, "--batch-size", 8, "--augment", "none", "--quiet",
         "--device", "cpu", "--patch-size", 4, "--out", "m.safetensors"]  # fmt: skip


@pytest.fixture
def trained(capsys, tmp_path) -> Path:
    """A folder of 10 cats and 15 dogs, on 20 of which m.safetensors was trained."""
    make_folders(tmp_path / "pets", {"cat": 10, "dog": 15})
    assert run(capsys, "train", "--data", "pets", *QUICK)[0] == 0
    return tmp_path / "pets"


def evaluate(capsys, place: object, **expected: str) -> list[str]:
    """What is printed, line by line, without the first line on the size and the last one."""
    code, out, err = run(capsys, "eval", "--data", place, "--checkpoint", "m.safetensors")
    assert (code, err) == (0, expected.get("err", ""))
    lines = out.splitlines()
    assert f" of {expected['of']}), loss " in lines[-1]
    return lines[1:-1]


def test_eval_takes_all_of_a_plain_folder(capsys, trained, tmp_path):
    make_folders(tmp_path / "new", {"cat": 4, "dog": 1})
    assert evaluate(capsys, "new", of="5") == [
        "images per class: cat: 4, dog: 1", "evaluating all 5 images",
    ]  # fmt: skip


def test_eval_of_the_runs_own_folder_leaves_its_training_images_out(capsys, trained):
    assert evaluate(capsys, trained, of="5") == [
        "images per class: cat: 10, dog: 15",
        "20 of 25 images were training images of this checkpoint: evaluating the other 5",
    ]
    result = run(capsys, "train", "--data", trained, *QUICK)[1].splitlines()[-2]
    out = run(capsys, "eval", "--data", trained, "--checkpoint", "m.safetensors")[1]
    assert out.splitlines()[-1] == result  # the five that training kept for testing
    make_folders(trained, {"dog/later": 3})  # of a folder that has changed since, too
    assert "20 of 28 images were" in evaluate(capsys, trained, of="8")[-1]


def test_eval_says_if_the_model_was_trained_on_the_test_images(capsys, trained, tmp_path):
    make_folders(tmp_path / "split", {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    lines = evaluate(capsys, "split", of="2")
    assert lines[1:] == ["training images from train, test images from test",
                         "evaluating the 2 test images"]  # fmt: skip
    for path in trained.glob("cat/*"):
        shutil.copy(path, tmp_path / "split" / "test" / "cat" / path.name)
    said = "vitlib: warning: 8 of 12 images were training images of this checkpoint\n"
    assert evaluate(capsys, "split", of="12", err=said)[-1] == "evaluating the 12 test images"


def test_eval_says_if_the_checkpoint_does_not_know_its_images(capsys, trained):
    save_checkpoint(load_checkpoint("m.safetensors"), "m.safetensors")
    assert evaluate(capsys, trained, of="25")[-2:] == [
        "evaluating all 25 images", "the checkpoint does not say on which images it was trained",
    ]  # fmt: skip


def test_eval_refuses_other_classes_by_name(capsys, trained, tmp_path):
    make_folders(tmp_path / "new", {"cat": 2, "dog": 2, "猫": 2})
    command = ["eval", "--data", "new", "--checkpoint", "m.safetensors"]
    assert "the model has the classes cat, dog, but new has cat, dog, 猫: only new has 猫" in (
        refused(capsys, *command)
    )
    shutil.rmtree(tmp_path / "new" / "dog")
    assert "only the model has dog; only new has 猫" in refused(capsys, *command)
    (tmp_path / "new" / "猫").rename(tmp_path / "new" / "dog")
    assert evaluate(capsys, "new", of="4")[-1] == "evaluating all 4 images"


def test_eval_takes_the_white_of_the_training_images(capsys, tmp_path):
    """Dark pictures of 12 bits stay dark, though none of them has more than 10."""
    shades = np.random.default_rng(0)

    def save(place: str, low: int, high: int) -> None:
        Path(place).mkdir(parents=True)
        for k in range(10):
            Image.fromarray(shades.integers(low, high, (12, 12), np.uint16)).save(
                f"{place}/{k}.png"
            )

    save("pets/dark", 0, 900)
    save("pets/light", 3000, 4096)
    save("new/dark", 0, 900)
    save("new/light", 600, 900)
    assert "taken as 12 bits" in run(capsys, "train", "--data", "pets", *QUICK)[2]
    images = []

    def remember(model, image_set, batch_size):
        images.append(image_set.images)
        return evaluate_with(model, image_set, batch_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitlib.cli.eval.evaluate", remember)
        err = run(capsys, "eval", "--data", "new", "--checkpoint", "m.safetensors")[2]
    assert "20 pictures of new have 16 bits per channel but no value above 4,095" in err
    assert images[0].max() <= 900 * 255 // 4095 + 1
    shutil.rmtree("new")
    save("new/dark", 0, 900)
    save("new/light", 60000, 65536)
    err = run(capsys, "eval", "--data", "new", "--checkpoint", "m.safetensors")[2]
    assert "4,095 of 16 bits was white; here it is 65,535" in err
