"""`vitlib attend`: its pictures hold what vitlib.explain computes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.running import refused, run
from PIL import Image

import vitlib
from vitlib import plots
from vitlib.checkpoints import TrainingState, save_checkpoint
from vitlib.cli import main
from vitlib.cli.attend import name_pictures
from vitlib.explain.methods import METHODS, methods_with

ATTEND = ["attend", "--model", "vit_nano_patch7_28"]


@pytest.fixture
def digits():
    """Four test digits of MNIST as files, and what the model answers: 7, 0, 9 and 3."""
    test, names = (
        vitlib.load_data("mnist5k").test,
        ["seven.png", "nought.png", "a/x.png", "b/x.bmp"],
    )
    for folder in "ab":
        Path(folder).mkdir()
    for label, name in zip((7, 0, 9, 3), names, strict=True):
        pixels = test.images[int((test.labels == label).nonzero()[1]), 0]
        Image.fromarray(pixels.numpy()).save(name)
    return names


def test_attend_writes_a_picture_an_image(capsys, digits):
    code, out, err = run(capsys, *ATTEND, *digits, "--out", "new/maps")
    assert (code, err) == (0, "")
    names = ["seven-attention", "nought-attention", "x-attention", "x-2-attention"]
    paths = [Path("new/maps") / f"{name}.png" for name in names]
    lines = out.splitlines()
    for line, path, answer in zip(lines, paths, "7093", strict=True):
        assert re.fullmatch(rf"{path}: {answer} \((9\d|100)\.\d%\)", line), line
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width > 2.5 * picture.height  # the image, the map, both together
    assert sorted(Path("new/maps").iterdir()) == sorted(paths)  # nothing else is left


def drawn(monkeypatch, capsys, *arguments):
    """What attend gives to plot_maps: title: map; and the files it wrote."""
    maps = {}

    def plot_maps(images, titled, *args, **options):
        maps.update(titled)
        return plots.plot_maps(images, titled, *args, **options)

    monkeypatch.setattr("vitlib.explain.pictures.plot_maps", plot_maps)
    code, _, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    return maps, sorted(path.name for path in Path("out").iterdir())


@pytest.mark.parametrize(
    ("flags", "title", "name"),
    [
        ([], "attention, layer 3, mean of 4 heads", "attention"),
        (["--layer", "-4"], "attention, layer 0, mean of 4 heads", "attention-layer0"),
        (["--layer", "1", "--head", "-1"], "attention, layer 1, head 3", "attention-layer1-head3"),
        (["--head", "0"], "attention, layer 3, head 0", "attention-head0"),
        (["--method", "rollout"], "attention rollout", "rollout"),
        (["--method", "gradient"], "gradient rollout", "gradient"),
        (["--method", "gradient", "--target", "2"], "gradient rollout for 2", "gradient-class2"),
        (["--method", "occlusion"], "occlusion", "occlusion"),
        (["--method", "occlusion", "--target", "1"], "occlusion for 1", "occlusion-class1"),
    ],
)
def test_attend_draws_what_explain_computes(monkeypatch, capsys, digits, flags, title, name):
    command = [*ATTEND, digits[0], "--out", "out", *flags]
    maps, files = drawn(monkeypatch, capsys, *command)
    assert files == [f"seven-{name}.png"]
    assert list(maps) == [title]

    model = vitlib.create_model("vit_nano_patch7_28", pretrained=True)
    test = vitlib.load_data("mnist5k").test
    image = test[int((test.labels == 7).nonzero()[1])][0][None]
    with torch.no_grad(), vitlib.AttentionRecorder(model) as recorder:
        model(image)
    rows = recorder.attention[0, :, :, 0, 1:].reshape(4, 4, 4, 4)  # (L, H, 4, 4)
    rollout = vitlib.attention_rollout(recorder.attention)[0, 0, 1:].reshape(4, 4)

    def gradient(target):
        return vitlib.gradient_rollout(model, image, target)[0, 0, 1:].reshape(4, 4)

    expected = {
        "attention": rows[3].mean(dim=0),
        "attention-layer0": rows[0].mean(dim=0),
        "attention-layer1-head3": rows[1, 3],
        "attention-head0": rows[3, 0],
        "rollout": rollout,
        "gradient": gradient(7),
        "gradient-class2": gradient(2),
        "occlusion": vitlib.occlusion(model, image, 7)[0],
        "occlusion-class1": vitlib.occlusion(model, image, 1)[0],
    }[name]
    torch.testing.assert_close(maps[title], expected[None])


@pytest.mark.parametrize("options", [{}, {"distilled": True}, {"global_pool": "avg"}])
@pytest.mark.parametrize("method", METHODS)
def test_attend_reads_a_checkpoint_of_any_kind(monkeypatch, capsys, digits, options, method):
    torch.manual_seed(0)
    model = vitlib.VisionTransformer(
        img_size=(8, 12), patch_size=4, in_chans=3, num_classes=2, embed_dim=16, depth=2,
        num_heads=2, reg_tokens=2, **options,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.mean, model.std, model.classes = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), ("cat", "1")
    save_checkpoint(model, "pets")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), np.uint8)).save("colour.jpg")
    command = ["attend", "--checkpoint", "pets", "colour.jpg", digits[0], "--method", method]
    maps, files = drawn(monkeypatch, capsys, *command, "--out", "out")
    assert files == [f"colour-{method}.png", f"seven-{method}.png"]
    (map_,) = maps.values()
    assert map_.shape == (1, 2, 3, *([3] if METHODS[method].paints else []))
    assert map_.abs().max() > 0
    if METHODS[method].needs_class:  # a name goes before a number
        for target, number in {"cat": 0, "1": 1, "0": 0}.items():
            maps, files = drawn(monkeypatch, capsys, *command, "--out", "out", "--target", target)
            assert f"colour-{method}-class{number}.png" in files
            assert list(maps)[-1].endswith(f" for {('cat', '1')[number]}")


def test_attend_turns_colour_to_grey_for_a_grey_model(capsys, digits):
    grey = Image.open(digits[0])
    grey.convert("RGB").save("colour.png")
    grey.resize((280, 280)).save("large.png")
    _, out, _ = run(capsys, *ATTEND, digits[0], "colour.png", "large.png")
    first, second, third = (line.split(": ")[1] for line in out.splitlines())
    assert first == second
    assert third.startswith("7 ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer", "4"], "layer 4 is out of range: the model has 4 layers, 0 to 3, or -4 to -1"),
        (["--head", "4"], "head 4 is out of range: a layer has 4 heads, 0 to 3, or -4 to -1"),
        (["--head", "-5"], "head -5 is out of range"),
        (
            ["--method", "rollout", "--head", "1"],
            f"--head goes with --method {methods_with('head')}, not",
        ),
        (
            ["--method", "occlusion", "--layer", "1"],
            f"--layer goes with --method {methods_with('layer')}",
        ),
        (
            ["--target", "1"],
            f"--target goes with --method {methods_with('target')}, not with attention",
        ),
        (
            ["--method", "occlusion", "--target", "10"],
            "--target 10 is not a class of the model, whose classes are 0,",
        ),
        (["--method", "gradient", "--target", "-1"], "--target -1 is not a class"),
        (["--out", "seven.png"], "--out seven.png is not a folder"),
        (["--out", "seven.png/x"], "seven.png"),
        (["none.png"], "as not all images can be read: none.png (no such file)"),
        (["a"], "as not all images can be read: a (a folder, not an image)"),
        (["text", "cut.png"], "text (cannot identify image file); cut.png ("),
    ],
)
def test_attend_refuses_and_writes_nothing(capsys, digits, flags, message):
    Path("text").write_text("no picture")
    Path("cut.png").write_bytes(Path(digits[0]).read_bytes()[:90])
    before = sorted(Path().rglob("*"))
    assert message in refused(capsys, *ATTEND, digits[0], digits[1], *flags)
    assert sorted(Path().rglob("*")) == before


def test_attend_refuses_models_that_it_cannot_use(capsys, digits, monkeypatch):
    def fetch(name):
        raise ValueError(f"{name} cannot be fetched")

    monkeypatch.setattr("vitlib.checkpoints.reading.fetch", fetch)
    error = refused(capsys, "attend", digits[0], "--model", "vit_nano_patch7")
    assert "unknown model 'vit_nano_patch7'. Did you mean 'vit_nano_patch7_28'?" in error
    error = refused(capsys, "attend", digits[0], "--model", "vit_tiny_patch16_224")
    assert "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k cannot be fetched" in error
    error = refused(capsys, "attend", digits[0], "--checkpoint", "none")
    assert "no checkpoint none" in error
    for options, message in [
        ({"depth": 0}, "plain has no blocks (depth=0)"),
        ({}, "plain does not say by what mean and std"),
        (
            {"in_chans": 2, "mean": (0.0, 0.0), "std": (1.0, 1.0)},
            "images of 2 channels, pictures have 1 or 3",
        ),
    ]:
        statistics = {name: options.pop(name, None) for name in ("mean", "std")}
        model = vitlib.create_model("vit_nano_patch7_28", **options)
        model.mean, model.std = statistics["mean"], statistics["std"]
        save_checkpoint(model, "plain")
        assert message in refused(capsys, "attend", digits[0], "--checkpoint", "plain")
    with pytest.raises(SystemExit) as stop:
        main([*ATTEND, digits[0], "--checkpoint", "plain"])
    assert stop.value.code == 2


@pytest.fixture
def foreign():
    """The packaged digits model with other heads, as a file that tells nothing but its weights."""
    digits = vitlib.create_model("vit_nano_patch7_28", pretrained=True)
    model = vitlib.create_model("vit_nano_patch7_28", num_heads=2).eval()
    model.load_state_dict(digits.state_dict())
    model.mean, model.std = digits.mean, digits.std
    torch.save({"state_dict": model.state_dict()}, "foreign.pth")
    return model


def test_attend_reads_weights_from_elsewhere(monkeypatch, capsys, digits, foreign):
    """Whoever follows the advice arrives: --weights, --num-heads, --mean and --std."""
    error = refused(capsys, "attend", digits[0], "--checkpoint", "foreign.pth")
    assert error.endswith("is PyTorch's or numpy's: --weights reads such weights\n")
    command = ["attend", digits[0], "--weights", "foreign.pth", "--out", "out"]
    assert "give --num-heads" in refused(capsys, *command)
    command += ["--num-heads", "2"]
    error = refused(capsys, *command)
    assert "by what mean and std its images were normalised: give --mean and --std; " in error
    mean, std = foreign.mean[0], foreign.std[0]
    maps, _ = drawn(monkeypatch, capsys, *command, "--mean", mean, "--std", std)
    test = vitlib.load_data("mnist5k").test
    image = test[int((test.labels == 7).nonzero()[1])][0][None]
    with torch.no_grad(), vitlib.AttentionRecorder(foreign) as recorder:
        foreign(image)
    expected = recorder.attention[0, -1, :, 0, 1:].mean(dim=0).view(1, 4, 4)
    torch.testing.assert_close(maps["attention, layer 3, mean of 2 heads"], expected)


def test_what_is_guessed_of_weights_is_said_in_words_of_options(capsys, digits):
    model = vitlib.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=192, depth=1, num_heads=3, num_classes=2
    )
    torch.save(model.state_dict(), "tiny.pth")
    command = [
        "attend",
        digits[0],
        "--weights",
        "tiny.pth",
        "--mean",
        "0.5",
        "--std",
        "0.5,0.5,0.5",
    ]
    code, out, err = run(capsys, *command)
    assert code == 0
    assert "3 are taken, as published ViTs of this width have; --num-heads says otherwise\n" in err
    assert "=..." not in err
    assert "model.mean" not in err
    assert run(capsys, *command, "--num-heads", "3") == (0, out, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "vit_nano_patch7_28", "--mean", "0.1,0.2"],
            "2 numbers, and the model takes 1",
        ),
        (["--model", "vit_nano_patch7_28", "--std", "0"], "--std must be above zero"),
        (["--weights", "none.pth"], "none.pth"),
        (["--num-heads", "2"], "--num-heads needs --weights"),
    ],
)
def test_attend_refuses_what_does_not_fit_the_weights(capsys, digits, options, message):
    assert message in refused(capsys, "attend", digits[0], *options)
    with pytest.raises(SystemExit):
        main(["attend", digits[0], "--mean", "half"])
    assert "expected numbers with commas between them" in capsys.readouterr().err


def test_other_heads_than_the_file_says_are_refused_with_the_right_number(capsys, digits):
    save_checkpoint(vitlib.create_model("vit_nano_patch7_28", pretrained=True), "own")
    command = ["attend", digits[0], "--weights", "own"]
    error = refused(capsys, *command, "--num-heads", "2")
    assert error.endswith("Build the model as the source was: --num-heads 4.\n")
    assert run(capsys, *command, "--num-heads", "4")[0] == 0


def test_advice_for_python_is_said_to_be_for_python(capsys, digits, foreign):
    weights = foreign.state_dict()
    weights["head.2.weight"] = weights.pop("head.weight")
    weights["head.0.weight"] = torch.eye(64)
    del weights["head.bias"]
    torch.save(weights, "odd.pth")
    error = refused(capsys, "attend", digits[0], "--weights", "odd.pth", "--num-heads", "2")
    assert "more than one linear layer" in error
    assert error.endswith("These are arguments of vitlib.create_model, in Python\n")


# --- 16 bits


def deep(name, greatest, seed=0):
    """A picture of 16 bits whose greatest value is this one, and the same in 12 bits as bytes."""
    values = np.random.default_rng(seed).integers(0, greatest + 1, (28, 28), np.uint16)
    values[0, 0] = greatest
    Image.fromarray(values).save(name)
    return values


def shown(monkeypatch, capsys, *arguments):
    """The pixels (n, C, H, W) that attend draws, and what it says on stderr."""
    seen = []

    def plot_maps(images, *args, **options):
        seen.append(images)
        return plots.plot_maps(images, *args, **options)

    monkeypatch.setattr("vitlib.explain.pictures.plot_maps", plot_maps)
    code, _, err = run(capsys, *arguments)
    assert code == 0
    return torch.cat(seen)[:, 0].numpy(), err


def test_16_bit_pictures_have_one_white_and_the_guess_is_said(monkeypatch, capsys):
    bright, dark = deep("bright.png", 4000), deep("dark.png", 900, seed=1)
    pixels, err = shown(monkeypatch, capsys, *ATTEND, "bright.png", "dark.png")
    assert np.abs(pixels - np.stack([bright, dark]) / 4095).max() < 1 / 255
    assert err == (
        "vitlib: warning: bright.png, dark.png have 16 bits per channel but no value above 4,095: "
        "taken as 12 bits, so that 4,095 is white\n"
    )
    pixels, err = shown(monkeypatch, capsys, *ATTEND, "dark.png")
    assert "dark.png has 16 bits per channel but no value above 1,023" in err
    assert np.abs(pixels - dark / 1023).max() < 1 / 255


def test_the_white_of_a_checkpoints_training_images_is_taken(monkeypatch, capsys):
    model = vitlib.create_model("vit_nano_patch7_28", pretrained=True)
    save_checkpoint(model, "deep", training=TrainingState(info={"white": 4095}))
    dark, brighter = deep("dark.png", 900), deep("brighter.png", 16000)
    command = ["attend", "--checkpoint", "deep"]
    pixels, err = shown(monkeypatch, capsys, *command, "dark.png")
    assert np.abs(pixels - dark / 4095).max() < 1 / 255
    assert err == ""
    pixels, err = shown(monkeypatch, capsys, *command, "brighter.png")
    assert np.abs(pixels - brighter / 16383).max() < 1 / 255
    assert "in the training images, 4,095 of 16 bits was white; here it is 16,383" in err


def test_attend_names_pictures_apart_and_spares_the_images():
    def names(*images, out="out"):
        paths = name_pictures([Path(image) for image in images], Path(out), "rollout")
        assert all(path.parent == Path(out) for path in paths)
        return [path.name.removesuffix("-rollout.png") for path in paths]

    assert names("x.png", "a/x.png", "X.jpg", "y.png") == ["x", "x-2", "X-3", "y"]
    assert names("x.png", "a/x.png", "x-2.png", "b/x-2.png") == ["x", "x-3", "x-2", "x-2-2"]
    with pytest.raises(ValueError, match=r"x-rollout\.png would replace an image"):
        names("x.png", "x-rollout.png", out=".")
    assert names("x.png", "x-rollout.png") == ["x", "x-rollout"]


def test_attend_leaves_no_half_picture(capsys, digits, monkeypatch):
    run(capsys, *ATTEND, digits[0])
    before = Path("seven-attention.png").read_bytes()
    listed = sorted(Path().iterdir())

    def savefig(figure, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    assert "disk full" in refused(capsys, *ATTEND, digits[0])
    assert Path("seven-attention.png").read_bytes() == before
    assert sorted(Path().iterdir()) == listed


def test_attend_without_a_model_uses_the_digits_with_fine_patches(capsys, digits, monkeypatch):
    maps, _ = drawn(monkeypatch, capsys, "attend", *digits[:2], "--out", "out")
    assert next(iter(maps.values())).shape == (1, 7, 7)
