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
from vitlib.checkpoints import save_checkpoint
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

    monkeypatch.setattr("vitlib.cli.attend.plot_maps", plot_maps)
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
    assert map_.shape == (1, 2, 3)
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
        ({"num_classes": 0}, "plain has no head (num_classes=0), so it has no answer to explain"),
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
