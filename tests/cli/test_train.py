"""`vitlib train` from the start, mostly on scikit-learn's small digits."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from building import ROOT
from cli.running import QUICK, refused, run
from data.pictures import make_folders

from vitlib import TrainConfig, create_model, load_data
from vitlib.checkpoints import load_checkpoint, read_checkpoint
from vitlib.cli import main


def test_train_then_eval(capsys):
    code, out, err = run(capsys, "train", "--data", "digits", *QUICK)
    assert code == 0
    assert "digits: 1,437 training and 360 test images, 8×8, 1 channel, 10 classes" in out
    assert "training + test images per class: 0: 142 + 36, 1: 145 + 37, 2: 142 + 35, 3: " in out
    assert "patches of 2×2, 16 of them" in out
    assert "3/3" in err  # the progress bar
    assert "validation accuracy" in out
    result = re.search(r"test accuracy [\d.]+% \(\d+ of 360\), loss [\d.]+", out).group()
    path = Path("runs/digits-vit_nano_patch7_28.safetensors")
    assert out.endswith(f"checkpoint {path}\n")
    assert load_checkpoint(path).img_size == (8, 8)

    code, out, err = run(capsys, "eval", "--checkpoint", str(path), "--data", "digits")
    assert (code, err) == (0, "")
    assert out.startswith(
        "digits: 1,437 training and 360 test images, 8×8, 1 channel, 10 classes\n"
    )
    assert out.endswith(f"\nevaluating the 360 test images\n{result}\n")

    code, out, _ = run(capsys, "train", "--data", "digits", "--quiet", *QUICK)
    assert f"{path} holds this run, and it is finished (--fresh starts anew)\n" in out
    assert result in out


def test_flags_reach_the_run(capsys):
    flags = {
        "--lr": "0.01", "--min-lr": "0.001", "--warmup-steps": "2", "--weight-decay": "0.1",
        "--label-smoothing": "0.2", "--mixup": "0.3", "--cutmix": "0.4", "--val-fraction": "0",
        "--eval-every": "7", "--checkpoint-every": "9", "--amp": "off", "--seed": "5",
        "--accumulate": "2", "--patch-size": "4", "--out": "deep/er/run.safetensors",
    }  # fmt: skip
    pairs = [text for pair in flags.items() for text in pair]
    code, out, err = run(capsys, "train", "--data", "digits", "--quiet", *QUICK, *pairs)
    assert code == 0
    assert err == ""
    assert "validation" not in out
    found = read_checkpoint("deep/er/run.safetensors")
    config = found.training.info["history"]["config"]
    for flag in list(flags)[:13]:
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


def test_chapter_7s_command_is_chapter_7s_run(monkeypatch):
    """The same data, first weights and settings, but a progress bar and a checkpoint."""
    cells = nbformat.read(ROOT / "book/07_training.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    (command,) = re.findall(r"```\nvitlib (train .+)\n```", text)
    (settings,) = re.findall(r"^config = vitlib\.(TrainConfig\(.+\))$", code, re.MULTILINE)
    first_weights = (
        'torch.manual_seed(0)\nmodel = vitlib.create_model("vit_nano_patch7_28")\n'
        "history = vitlib.fit(model, data, config, "
    )
    assert first_weights in code
    assert '\ndata = load_data("mnist5k")\n' in code

    class Called(Exception):
        pass

    def fit(*arguments, callbacks, profile):
        assert callbacks == []
        assert profile is None
        raise Called(*arguments)

    monkeypatch.setattr("vitlib.cli.train.fit", fit)
    with pytest.raises(Called) as called:
        main(command.split())
    model, data, config = called.value.args
    config = replace(config, checkpoint=None, progress=False)
    assert config == eval(settings, {"TrainConfig": TrainConfig})
    torch.manual_seed(0)
    theirs = create_model("vit_nano_patch7_28").state_dict()
    assert model.state_dict().keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.state_dict().items())
    expected = load_data("mnist5k")
    assert (data.mean, data.std) == (expected.mean, expected.std)
    for part in ("train", "test"):
        assert torch.equal(getattr(data, part).images, getattr(expected, part).images)
        assert torch.equal(getattr(data, part).labels, getattr(expected, part).labels)


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
    code, out, error = run(capsys, "train", "--data", "digits", "--lr", "0.1", *QUICK)
    assert code == 2
    assert "continuing" not in out
    assert "holds this run" not in out
    assert "lr 0.003 there, 0.1 here" in error
    assert error.endswith("--fresh starts over, or choose another --out\n")
    assert "resume=False" not in error
    assert path.read_bytes() == before
    code, _, _ = run(capsys, "train", "--data", "digits", "--fresh", "--lr", "0.1", *QUICK)
    assert code == 0
    assert path.read_bytes() != before


FOLDER = [*QUICK, "--batch-size", "8", "--patch-size", "4", "--quiet"]


def test_another_folder_of_the_same_name_does_not_share_a_run(capsys, tmp_path):
    for place in ("a", "b"):
        make_folders(tmp_path / place / "pets", {"cat": 10, "dog": 10})
    out = run(capsys, "train", "--data", "a/pets", *FOLDER)[1]
    assert "training + test images per class: cat: 8 + 2, dog: 8 + 2\n" in out
    shutil.copytree("a/pets", "c/pets")
    assert run(capsys, "train", "--data", "c/pets", *FOLDER)[0] == 0  # the same pictures elsewhere
    error = refused(capsys, "train", "--data", "b/pets", *FOLDER)
    assert "its training images have changed: 16 gone (cat, dog), 16 new (cat, dog)" in error
    assert error.endswith("--fresh starts over, or choose another --out\n")
    assert run(capsys, "train", "--data", "b/pets", *FOLDER, "--out", "b.safetensors")[0] == 0
    assert run(capsys, "train", "--data", "b/pets", *FOLDER, "--fresh")[0] == 0


def test_changed_labels_do_not_continue_a_run(capsys, tmp_path):
    make_folders(tmp_path / "pets", {"cat": 10, "dog": 10})
    run(capsys, "train", "--data", "pets", *FOLDER)
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        Path("pets", old).rename(Path("pets", new))
    assert "its training images have changed: " in refused(
        capsys, "train", "--data", "pets", *FOLDER
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_classes_of_any_script_are_printed(tmp_path, encoding):
    """A console that can't show them shows their codes, and the run goes on."""
    make_folders(tmp_path / "动物", {"猫": 5, "hund": 5, "🐕‍🦺": 5})
    command = [sys.executable, "-m", "vitlib.cli", "train", "--data", "动物", *FOLDER]
    command += ["--steps", "1", "--warmup-steps", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    out = done.stdout.decode(encoding)
    assert done.returncode == 0, done.stderr
    expected = "hund: 4 + 1, 猫: 4 + 1, 🐕‍🦺: 4 + 1"
    assert expected.encode(encoding, "backslashreplace").decode(encoding) in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vit_nano_patch7"], "Did you mean 'vit_nano_patch7_28'?"),
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


def test_weights_from_elsewhere_are_not_overwritten_unasked(capsys):
    torch.save({"cls_token": torch.zeros(1, 1, 4)}, "run")
    before = Path("run").read_bytes()
    command = ["train", "--data", "digits", "--quiet", *QUICK, "--out", "run"]
    code, out, err = run(capsys, *command)
    assert code == 2
    assert "continuing" not in out
    assert err.endswith(
        "run is PyTorch's or numpy's: it would be overwritten. --fresh does so, or choose another "
        "--out\n"
    )
    assert Path("run").read_bytes() == before
    assert run(capsys, *command, "--fresh")[0] == 0


def test_divergence_is_one_line(capsys):
    error = refused(capsys, "train", "--data", "digits", "--quiet", *QUICK, "--lr", "1e38")
    assert "training diverged" in error


def test_profile_says_where_the_time_went(capsys):
    command = ("train", "--data", "digits", "--quiet", *QUICK, "--out", "run", "--steps", "6")
    out = run(capsys, *command, "--profile", "trace.json")[1]
    assert re.search(r"time of 5 steps: data [\d.]+%, augmentation .*, forward .*, rest ", out)
    assert re.search(r"[\d,]+ images and [\d,]+ tokens per second\n", out)
    assert "trace trace.json" in out
    assert Path("trace.json").stat().st_size > 1000
    out = run(capsys, *command, "--fresh", "--profile")[1]
    assert "tokens per second" in out
    assert "trace" not in out
    assert "run is already the name of the checkpoint" in refused(
        capsys, *command, "--fresh", "--profile", "run"
    )


def test_other_processes_than_the_first_print_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")  # alone, to be quick: two are in tests/train
    out = run(capsys, "train", "--data", "digits", "--quiet", *QUICK, "--report", "page.html")
    assert out == (0, "", "")
    assert not Path("page.html").exists()
    error = refused(capsys, "train", "--data", "digits", *QUICK, "--accumulate", "3")
    assert error.startswith("vitlib: error: process 1: batch_size 20 cannot be divided equally")


@pytest.mark.parametrize(
    ("signum", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_ctrl_c_and_sigterm_keep_the_run_and_say_how_to_go_on(signum, code, word):
    command = [sys.executable, "-m", "vitlib.cli", "train", "--data", "digits", "--augment", "none",
               "--steps", "100000", "--warmup-steps", "10"]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        # Whoever runs the tests in the background ignores Ctrl-C, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        seen = ""
        while "loss=" not in seen:  # training has begun
            seen += (character := process.stderr.read(1))
            assert character, seen
        process.send_signal(signum)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in err
    path = "runs/digits-vit_nano_patch7_28.safetensors"
    assert f"vitlib: {word}; {path} holds the run: the same command continues it" in err
    assert "test accuracy" not in out
    assert len(read_checkpoint(path).training.info["history"]["loss"]) >= 1


def test_a_streamed_run_and_its_evaluation(capsys):
    make_folders(Path("pets"), {"cat": 30, "dog": 30})
    train = ("train", "--data", "pets", "--quiet", *QUICK)
    code, out, err = run(capsys, *train, "--stream", "--report", "pets.html")
    assert (code, err) == (0, "")
    assert "\nstreamed: pictures are read when they are needed; mean, std and channels are " in out
    result = re.search(r"test accuracy .*", out).group()
    assert Path("pets.html").exists()
    path = re.search(r"checkpoint (.*)", out).group(1)

    assert "streamed True there, False here" in refused(capsys, *train)
    evaluation = ("eval", "--checkpoint", path, "--data", "pets")
    code, out, err = run(capsys, *evaluation, "--stream")
    assert (code, err) == (0, "")
    assert "48 of 60 images were training images of this checkpoint: evaluating the other 12" in out
    assert out.endswith(f"{result}\n")
    code, out, _ = run(capsys, *evaluation)
    assert "evaluating all 60 images\n" in out
    assert "is not known: it was trained with --stream\n" in out
    assert "mnist5k fits into memory and cannot be streamed" in refused(
        capsys, "train", "--data", "mnist5k", "--stream", *QUICK
    )
