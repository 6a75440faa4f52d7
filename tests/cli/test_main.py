"""The command line, mostly on scikit-learn's small digits."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from building import ROOT
from PIL import Image

import vitlib
from vitlib import plots
from vitlib.checkpoints import load_checkpoint, read_checkpoint, save_checkpoint
from vitlib.cli import main
from vitlib.cli.attend import name_pictures

QUICK = ["--steps", "3", "--batch-size", "20", "--augment", "none", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments: str) -> str:
    """The one line that a refused command prints."""
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith("vitlib: error: ")
    assert err.count("\n") == 1
    return err


def test_without_a_command_it_prints_help(capsys):
    code, out, err = run(capsys)
    assert code == 0
    assert "usage: vitlib" in out
    assert "train" in out
    assert err == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"vitlib {vitlib.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["train"], ["eval", "--data", "digits"], ["fly"], ["train", "--steps", "x"]]
)
def test_usage_errors_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_train_then_eval(capsys):
    code, out, err = run(capsys, "train", "--data", "digits", *QUICK)
    assert code == 0
    assert "digits: 1,437 training and 360 test images, 8×8, 1 channel, 10 classes" in out
    assert "patches of 2×2, 16 of them" in out
    assert "3/3" in err  # the progress bar
    assert "validation accuracy" in out
    result = re.search(r"test accuracy [\d.]+% \(\d+ of 360\), loss [\d.]+", out).group()
    path = Path("runs/digits-vit_nano_patch7_28.safetensors")
    assert out.endswith(f"checkpoint {path}\n")
    assert load_checkpoint(path).img_size == (8, 8)

    code, out, err = run(capsys, "eval", "--checkpoint", str(path), "--data", "digits")
    assert (code, out, err) == (0, f"{result}\n", "")

    code, out, _ = run(capsys, "train", "--data", "digits", "--quiet", *QUICK)
    assert f"continuing {path} (--fresh starts anew)" in out
    assert result in out


def test_flags_reach_the_run(capsys):
    flags = {
        "--lr": "0.01", "--min-lr": "0.001", "--warmup-steps": "2", "--weight-decay": "0.1",
        "--label-smoothing": "0.2", "--mixup": "0.3", "--cutmix": "0.4", "--val-fraction": "0",
        "--eval-every": "7", "--checkpoint-every": "9", "--amp": "off", "--seed": "5",
        "--patch-size": "4", "--out": "deep/er/run.safetensors",
    }  # fmt: skip
    pairs = [text for pair in flags.items() for text in pair]
    code, out, err = run(capsys, "train", "--data", "digits", "--quiet", *QUICK, *pairs)
    assert code == 0
    assert err == ""
    assert "validation" not in out
    found = read_checkpoint("deep/er/run.safetensors")
    config = found.training.info["history"]["config"]
    for flag in list(flags)[:12]:
        assert config[flag[2:].replace("-", "_")] == pytest.approx(
            flags[flag] if flag == "--amp" else float(flags[flag])
        )
    assert (config["steps"], config["batch_size"], config["augment"]) == (3, 20, "none")
    assert found.info["model"]["config"]["patch_size"] == 4


def test_the_first_weights_follow_the_seed(capsys):
    for seed in ("1", "1", "2"):
        assert (
            run(capsys, "train", "--data", "digits", "--fresh", "--quiet", *QUICK, "--seed", seed,
                "--lr", "1e-5", "--out", f"{seed}.safetensors")[0] == 0
        )  # fmt: skip
        if seed == "1":
            Path("1.safetensors").rename("first") if not Path("first").exists() else None
    first, again, other = (
        load_checkpoint(name).patch_embed.proj.weight
        for name in ("first", "1.safetensors", "2.safetensors")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_img_size_resizes(capsys):
    code, out, _ = run(capsys, "train", "--data", "digits", "--img-size", "28", "--quiet", *QUICK)
    assert code == 0
    assert "28×28" in out
    assert "patches of 7×7, 16 of them" in out


def test_settings_that_fit_no_image(capsys):
    error = refused(capsys, "train", "--data", "digits", "--model", "vit_nano_patch7_28", *QUICK)
    assert "8×8" in error
    assert "--patch-size from 1, 2" in error
    assert "--img-size, for instance 28" in error
    error = refused(capsys, "train", "--data", "digits", "--img-size", "29", *QUICK)
    assert "29×29" in error
    assert "--img-size, for instance 32" in error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist5"], "mnist5k"),
        (["--data", "digits", "--model", "vit_nano_patch7"], "vit_nano_patch7_28"),
        (["--data", "digits", "--steps", "0"], "steps must be at least 1, got 0"),
        (["--data", "digits", "--batch-size", "5000"], "batch_size 5000 is larger than the 129"),
        (["--data", "digits", "--device", "warp"], "device 'warp'"),
        (["--data", "digits", "--patch-size", "3"], "3"),
        (["--data", "digits", "--resume"], "nothing to resume: there is no runs/digits-"),
    ],
)
def test_bad_requests(capsys, arguments, message):
    assert message in refused(capsys, "train", *arguments)
    assert not list(Path().rglob("*.safetensors"))


def test_a_run_with_other_settings_is_not_overwritten(capsys):
    run(capsys, "train", "--data", "digits", "--quiet", *QUICK)
    path = Path("runs/digits-vit_nano_patch7_28.safetensors")
    before = path.read_bytes()
    error = refused(capsys, "train", "--data", "digits", "--lr", "0.1", *QUICK)
    assert "lr 0.003 there, 0.1 here" in error
    assert error.endswith("--fresh starts over, or choose another --out\n")
    assert "resume=False" not in error
    assert path.read_bytes() == before
    code, _, _ = run(capsys, "train", "--data", "digits", "--fresh", "--lr", "0.1", *QUICK)
    assert code == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit_nano_patch7"], "did you mean 'vit_nano_patch7_28'?"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--augment", "afine"], "augment must be one of none, affine"),
        (["--device", "meta"], "device 'meta' holds no numbers"),
        (["--out", "pipe"], "pipe is a device or a pipe"),
        (["--out", "file/deep/run"], "file is not a folder"),
        (["--out", "locked/run"], "locked is write-protected"),
        (["--out", "."], ". is a folder"),
    ],
)
def test_what_can_be_told_before_the_data_are_read(capsys, monkeypatch, arguments, message):
    def load_data(*args, **kwargs):
        raise AssertionError("the data were read")

    monkeypatch.setattr("vitlib.cli.train.load_data", load_data)
    access = os.access  # the superuser may write everywhere
    monkeypatch.setattr(os, "access", lambda p, mode: p.name != "locked" and access(p, mode))
    os.mkfifo("pipe")
    Path("file").write_text("")
    Path("locked").mkdir()
    assert message in refused(capsys, "train", "--data", "digits", *arguments)


def test_a_damaged_run_is_not_said_to_be_continued(capsys):
    Path("run").write_bytes(b"damaged")
    code, out, err = run(capsys, "train", "--data", "digits", *QUICK, "--out", "run")
    assert code == 2
    assert "continuing" not in out
    assert "damaged or cut off" in err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_line(capsys, monkeypatch, error):
    def fit(*args):
        raise error

    monkeypatch.setattr("vitlib.cli.train.fit", fit)
    message = refused(capsys, "train", "--data", "digits", *QUICK)
    assert "not enough memory: try a smaller --batch-size or --img-size" in message


def test_a_defect_of_ours_keeps_its_traceback(capsys, monkeypatch):
    def fit(*args):
        raise RuntimeError("a defect")

    monkeypatch.setattr("vitlib.cli.train.fit", fit)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train", "--data", "digits", *QUICK])


def test_divergence_is_one_line(capsys):
    error = refused(capsys, "train", "--data", "digits", "--quiet", *QUICK, "--lr", "1e38")
    assert "training diverged" in error


def test_eval_refuses(capsys, tmp_path):
    error = refused(capsys, "eval", "--checkpoint", "none.safetensors", "--data", "digits")
    assert "no checkpoint none.safetensors" in error
    torch.manual_seed(0)
    model = vitlib.create_model("vit_nano_patch7_28", num_classes=2)
    model.classes = ("cat", "dog")
    save_checkpoint(model, "pets")
    error = refused(capsys, "eval", "--checkpoint", "pets", "--data", "digits")
    assert "cat, dog" in error
    assert "0, 1, 2, 3, 4, … (10)" in error
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


def test_ctrl_c_keeps_the_run_and_says_how_to_go_on():
    command = [sys.executable, "-m", "vitlib.cli", "train", "--data", "digits", "--augment", "none",
               "--steps", "100000", "--warmup-steps", "10"]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        seen = ""
        while "loss=" not in seen:  # training has begun
            seen += (character := process.stderr.read(1))
            assert character, seen
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    path = "runs/digits-vit_nano_patch7_28.safetensors"
    assert f"vitlib: interrupted; {path} keeps the run: the same command goes on" in err
    assert "test accuracy" not in out
    assert len(read_checkpoint(path).training.info["history"]["loss"]) >= 1


def test_ctrl_c_before_training(capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitlib.cli.train.load_data", interrupt)
    assert run(capsys, "train", "--data", "digits") == (130, "", "vitlib: interrupted\n")


# attend

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
@pytest.mark.parametrize("method", ["attention", "rollout", "gradient", "occlusion"])
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
    if method in ("gradient", "occlusion"):  # a name goes before a number
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
        (["--method", "rollout", "--head", "1"], "--head goes with --method attention, not with"),
        (["--method", "occlusion", "--layer", "1"], "--layer goes with --method attention"),
        (
            ["--target", "1"],
            "--target goes with --method gradient or occlusion, not with attention",
        ),
        (
            ["--method", "occlusion", "--target", "10"],
            "--target 10 is no class: the model knows 0,",
        ),
        (["--method", "gradient", "--target", "-1"], "--target -1 is no class"),
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
    assert "did you mean" in refused(capsys, "attend", digits[0], "--model", "vit_nano_patch7")
    error = refused(capsys, "attend", digits[0], "--model", "vit_tiny_patch16_224")
    assert "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k cannot be fetched" in error
    error = refused(capsys, "attend", digits[0], "--checkpoint", "none")
    assert "no checkpoint none" in error
    for options, message in [
        ({"num_classes": 0}, "plain holds a model without a head"),
        ({}, "plain does not say by what mean and std"),
        ({"in_chans": 2, "mean": (0.0, 0.0), "std": (1.0, 1.0)}, "images of 2 channels, files"),
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
