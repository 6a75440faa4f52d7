"""Fine-tuning on made pictures, from the command line, with small weights as files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from cli import running
from cli.running import run
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from vitlib import VisionTransformer, fit, load_data
from vitlib.checkpoints import load_checkpoint, read_checkpoint, reading, save_checkpoint
from vitlib.cli import finetune, main
from vitlib.matching import match_model

COLOURS = {"blue": (30, 60, 200), "green": (20, 180, 60), "red": (200, 30, 30)}
QUICK = ["--steps", "4", "--warmup-steps", "1", "--device", "cpu", "--quiet"]
OUT = Path("runs/pictures-start.safetensors")


@pytest.fixture
def pictures() -> Path:
    """Ten pictures of each of three colours, 20×20."""
    return paint(Path("pictures"))


@pytest.fixture
def start() -> Path:
    """Weights under timm's names, of a model of 16×16 pixels and 7 classes."""
    return keep(tiny(), "start.safetensors")


def paint(folder: Path, count: int = 10, mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(colour, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.png")
    return folder


def tiny(**options) -> VisionTransformer:
    torch.manual_seed(3)
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 192, "depth": 2, "num_heads": 3}
    model = VisionTransformer(**size | {"mlp_ratio": 0.25, "num_classes": 7} | options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def keep(model: VisionTransformer, name: str) -> Path:
    save_file(model.state_dict(), name)
    return Path(name)


def tuned(capsys, *arguments) -> str:
    code, out, err = run(capsys, "train", *arguments, *QUICK)
    assert code == 0, err
    return out


def refused(capsys, *arguments) -> str:
    """The one line that a refused training prints, having written nothing."""
    err = running.refused(capsys, "train", *arguments, *QUICK)
    assert not Path("runs").exists()
    return err


def test_train_eval_attend_export(capsys, pictures, start):
    Path("config.json").write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}))
    code, out, err = run(capsys, "train", "--data", pictures, "--weights", start, *QUICK)
    assert (code, err) == (0, "")
    assert "pictures: 24 training and 6 test images, 16×16, 3 channels, 3 classes" in out
    assert "loaded from start.safetensors" in out
    assert "3 classes in the model, 7 classes in the file" in out
    assert "pixels normalised by mean 0.1 0.2 0.3 and std 0.5 0.6 0.7" in out
    assert re.search(r"([\d,]+) of \1 parameters are trained \(--freeze none\)", out)
    assert out.endswith(f"checkpoint {OUT}\nreport {OUT.with_suffix('.html')}\n")
    model = load_checkpoint(OUT)
    assert model.classes == ("blue", "green", "red")
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert not torch.equal(model.blocks[0].attn.qkv.weight, tiny().blocks[0].attn.qkv.weight)

    result = re.search(r"test accuracy .*", out).group()
    code, out, err = run(capsys, "eval", "--checkpoint", OUT, "--data", pictures)
    assert (code, err) == (0, "")
    assert out.endswith(f"training images of this checkpoint: evaluating the other 6\n{result}\n")
    code, out, err = run(capsys, "attend", pictures / "red" / "3.png", "--checkpoint", OUT)
    assert (code, err) == (0, "")
    assert re.match(r"3-attention.png: (red|green|blue) \(", out)


def test_it_learns(capsys, pictures, start):
    out = tuned(
        capsys, "--data", pictures, "--weights", start, "--steps", "60", "--lr", "1e-3",
        "--augment", "none",
    )  # fmt: skip
    assert "test accuracy 100.00% (6 of 6)" in out


@pytest.mark.parametrize(
    ("how", "frozen"),
    [
        ("none", ()),
        ("backbone", ("patch_embed", "cls_token", "pos_embed", "blocks.", "norm.")),
        ("0", ("patch_embed", "cls_token", "pos_embed")),
        ("1", ("patch_embed", "cls_token", "pos_embed", "blocks.0.")),
        ("2", ("patch_embed", "cls_token", "pos_embed", "blocks.")),
    ],
)
def test_frozen_weights_stay_and_the_others_move(capsys, pictures, start, how, frozen):
    before = tiny().state_dict()
    out = tuned(capsys, "--data", pictures, "--weights", start, "--freeze", how)
    after = load_checkpoint(OUT).state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        if name.startswith("head"):
            assert tensor.shape[0] == 3
        else:
            stays = bool(frozen) and name.startswith(frozen)
            assert torch.equal(tensor, before[name]) == stays, name
    assert f"(--freeze {how})" in out


def test_the_weights_are_read_once(capsys, pictures, start, monkeypatch):
    places, read = [], reading._read_beside

    def counted(path, *rest):
        places.append(path)
        return read(path, *rest)

    monkeypatch.setattr(reading, "_read_beside", counted)
    tuned(capsys, "--data", pictures, "--weights", start)
    assert places == [start]


def test_the_head_moves_where_all_else_is_frozen(pictures, start):
    data = load_data(pictures, img_size=16)
    found = finetune.read_starting_weights(str(start))
    for distilled in (False, True):
        model, _ = finetune.build(found, data, None, False)
        if distilled:
            model = tiny(distilled=True)
        finetune.freeze(model, "backbone")
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        heads = {"head.weight", "head.bias"}
        heads |= {"head_dist.weight", "head_dist.bias"} if distilled else set()
        assert trained == heads


def test_statistics_of_the_preset_or_of_the_data_where_the_weights_tell_none(capsys, pictures):
    size = {"img_size": 32, "patch_size": 16, "depth": 12}
    start = keep(tiny(mlp_ratio=4, **size), "start.safetensors")
    command = ["train", "--data", pictures, "--weights", start, "--freeze", "backbone", *QUICK]
    _, out, err = run(capsys, *command, "--model", "vit_tiny_patch16_224", "--img-size", "32")
    assert "pixels normalised by mean 0.5 0.5 0.5 and std 0.5 0.5 0.5" in out
    assert err == ""
    path = Path("runs/pictures-vit_tiny_patch16_224.safetensors")
    assert path.exists()
    assert path.with_suffix(".html").exists()

    keep(tiny(), "start.safetensors")
    _, out, err = run(capsys, *command)
    mean = " ".join(f"{x:.4g}" for x in load_data("pictures", img_size=16).mean)
    assert f"pixels normalised by mean {mean} and" in out
    assert "vitlib: warning: start.safetensors does not say by which mean and std" in err


def test_grey_pictures_become_colour_and_colour_grey(capsys, start):
    grey = paint(Path("grey"), mode="L")
    tuned(capsys, "--data", grey, "--weights", start, "--out", "a.safetensors")
    model = load_checkpoint("a.safetensors")
    assert model.in_chans == 3
    assert model.mean[0] == model.mean[1] == model.mean[2]  # each channel holds the same

    keep(tiny(in_chans=1), "one.safetensors")
    colour = paint(Path("colour"))
    out = tuned(capsys, "--data", colour, "--weights", "one.safetensors", "--out", "b.safetensors")
    assert "1 channel, 3 classes" in out
    data = load_data(colour, img_size=16)
    suited = match_model(data, tiny(in_chans=1))
    expected = Image.fromarray(data.train.images[0].permute(1, 2, 0).numpy()).convert("L")
    assert np.array_equal(suited.train.images[0, 0].numpy(), np.asarray(expected))
    with pytest.raises(ValueError, match="takes images of 2 channels, pictures have 1 or 3"):
        match_model(data, tiny(in_chans=2))


def test_another_size_resamples_the_positions(capsys, pictures, start):
    out = tuned(capsys, "--data", pictures, "--weights", start, "--img-size", "24")
    assert "4×4 -> 6×6" in out
    assert load_checkpoint(OUT).img_size == (24, 24)


def test_the_settings_of_the_weights_are_kept(capsys, pictures):
    """eps and tanh of a folder in Hugging Face's manner, through training, saving and loading."""
    Path("hf").mkdir()
    model = tiny()
    tensors = {}
    for name, tensor in model.state_dict().items():
        block = re.match(r"blocks\.(\d+)\.", name)
        if name.endswith(("qkv.weight", "qkv.bias")):
            kind = name.rpartition(".")[2]
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                key = f"vit.encoder.layer.{block[1]}.attention.attention.{part}.{kind}"
                tensors[key] = value.clone()
            continue
        for old, new in {
            "cls_token": "vit.embeddings.cls_token",
            "pos_embed": "vit.embeddings.position_embeddings",
            "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
            "attn.proj": "attention.output.dense", "norm1": "layernorm_before",
            "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense", "head.": "classifier.",
        }.items():  # fmt: skip
            name = name.replace(old, new)
        name = re.sub(r"^blocks\.", "vit.encoder.layer.", name)
        name = re.sub(r"^norm\.", "vit.layernorm.", name)
        tensors[name] = tensor
    save_file(tensors, "hf/model.safetensors")
    config = {
        "hidden_size": 192, "num_attention_heads": 6, "image_size": 16, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu_new", "id2label": {"0": "blue", "1": "green", "2": "red"},
    }  # fmt: skip
    Path("hf/config.json").write_text(json.dumps(config))
    Path("hf/preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.3, 0.2, 0.1]})
    )
    out = tuned(capsys, "--data", pictures, "--weights", "hf", "--out", "hf.safetensors")
    assert "mean 0.5 0.4 0.3 and std 0.3 0.2 0.1" in out
    model = load_checkpoint("hf.safetensors")
    assert model.blocks[0].norm1.eps == 1e-12
    assert model.blocks[0].mlp.act.approximate == "tanh"
    assert model.config["num_heads"] == 6
    assert (model.mean, model.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))


def test_the_head_is_kept_where_the_classes_agree(capsys, pictures):
    model = tiny(num_classes=3)
    model.mean, model.std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    found = {}
    for classes in (("blue", "green", "red"), ("red", "green", "blue")):
        model.classes = classes
        save_checkpoint(model, f"{classes[0]}.safetensors")
        start = finetune.read_starting_weights(f"{classes[0]}.safetensors")
        built, _ = finetune.build(start, load_data(pictures, img_size=16), None, False)
        found[classes[0]] = torch.equal(built.head.weight, model.head.weight)
    assert found == {"blue": True, "red": False}


def test_it_goes_on_and_refuses_other_weights(capsys, pictures, start):
    command = ["--data", pictures, "--weights", start, "--freeze", "1"]
    out = tuned(capsys, *command)
    result = re.search(r"test accuracy .*", out).group()
    OUT.with_suffix(".html").unlink()
    out = tuned(capsys, *command, "--resume")
    assert f"{OUT} holds this run, and it is finished (--fresh starts anew)\n" in out
    assert result in out
    assert OUT.with_suffix(".html").exists()
    before = OUT.read_bytes()

    def said(*arguments):
        code, _, err = run(capsys, "train", *arguments, *QUICK, "--out", OUT)
        assert code == 2
        assert "belongs to another run" in err
        assert err.endswith("--fresh starts over, or choose another --out\n")
        return err

    assert "freeze '1' there, '0' here" in said(*command[:-1], "0")
    other = tiny()
    other.cls_token.data += 1
    keep(other, "start.safetensors")  # of the same name, with other numbers in it
    assert re.search(r"weights 'start, \w{12}' there, 'start, \w{12}' here", said(*command))
    assert "weights 'start, " in said("--data", pictures, "--img-size", "16", "--batch-size", "21")
    assert OUT.read_bytes() == before
    keep(tiny(), "moved.safetensors").rename("start.safetensors")
    tuned(capsys, *command, "--resume")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(capsys, pictures, start, monkeypatch):
    command = ["--data", pictures, "--weights", start, "--freeze", "1", "--checkpoint-every", "2"]
    tuned(capsys, *command, "--out", "whole.safetensors")

    def stop(state):
        if state.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr("vitlib.cli.train.fit", lambda *a, **_: fit(*a, callbacks=[stop]))
        code, _, err = run(capsys, "train", *command, *QUICK, "--out", "cut.safetensors")
    assert code == 130
    assert "cut.safetensors holds the run" in err
    assert not Path("cut.html").exists()
    out = tuned(capsys, *command, "--out", "cut.safetensors")
    assert "continuing cut.safetensors after step 2 (--fresh starts anew)\n" in out
    whole, cut = (load_checkpoint(f"{name}.safetensors").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_settings_that_suit_fine_tuning_can_be_overridden(capsys, pictures, start):
    def config(*arguments):
        tuned(capsys, "--data", pictures, "--weights", start, "--fresh", *arguments)
        return read_checkpoint(OUT).training.info["history"]["config"]

    usual = config()
    assert usual["lr"] == finetune.SETTINGS["lr"]
    assert (usual["label_smoothing"], usual["augment"]) == (0.0, "flip_crop")
    assert usual["batch_size"] == 21  # of 24 training images, one of each class is kept back
    assert config("--freeze", "backbone")["lr"] == finetune.HEAD_LR
    other = config("--lr", "0.01", "--batch-size", "5", "--augment", "none",
                   "--label-smoothing", "0.1", "--freeze", "backbone")  # fmt: skip
    assert (other["lr"], other["batch_size"], other["augment"]) == (0.01, 5, "none")
    assert other["label_smoothing"] == 0.1
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "(default: 0.003; with --weights 0.0002, or 0.003 if the backbone is frozen)" in told
    assert "(default: affine; with --weights flip_crop)" in told


def test_small_classes(capsys, start):
    few = paint(Path("few"), count=2)
    command = ["--data", few, "--weights", start]
    error = refused(capsys, *command)
    assert "class 'blue' has 1 training picture, too few to keep one back for validation" in error
    assert "--val-fraction 0" in error
    tuned(capsys, *command, "--val-fraction", "0")

    one = paint(Path("one"), count=1)
    Path("runs").rename("elsewhere")
    assert "class 'blue' has 1 image" in refused(capsys, "--data", one, "--weights", start)

    three = paint(Path("three"), count=3)  # of two training images of each class, one is kept back
    data = load_data(three, img_size=16)
    assert finetune.choose_batch_size(data, 0.1) == 3
    tuned(capsys, "--data", three, "--weights", start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "none.safetensors"], "there is no file or folder none.safetensors"),
        (["--weights", "start.safetensors", "--freeze", "3"], "blocks from 0 to 2, got '3'"),
        (["--weights", "start.safetensors", "--model", "vit_tiny_patch16_224"], "does not fit the"),
        (["--weights", "page.bin"], "page.bin is a web page, not weights"),
        (
            ["--weights", "deep.safetensors"],
            "missing in the file: blocks.1.norm1.weight, blocks.1.norm1.bias and 21 more",
        ),
        (["--freeze", "backbone"], "--freeze needs --weights"),
        (["--weights", "start.safetensors", "--patch-size", "8"], ". Leave out --patch-size: "),
        (
            ["--weights", "start.safetensors", "--out", "x.html", "--report", "x.html"],
            "x.html is already the name of the checkpoint",
        ),
        (["--weights", "start.safetensors", "--report", "pictures"], "pictures is a folder"),
        (["--weights", "narrow.safetensors"], "tell its model's num_heads: give --num-heads"),
        (["--weights", "timm/some_vit"], "timm/some_vit cannot be fetched"),
        (["--weights", "odd.safetensors"], "odd.safetensors: "),
    ],
)
def test_refusals(capsys, monkeypatch, pictures, start, arguments, message):
    def fetch(name):
        raise ValueError(f"{name} cannot be fetched")

    monkeypatch.setattr("vitlib.checkpoints.reading.fetch", fetch)
    Path("config.json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}))
    Path("page.bin").write_text("<!doctype html><p>Log in")
    weights = tiny().state_dict()
    gone = [name for name in weights if name.startswith("blocks.1.")]
    kept = {name: tensor for name, tensor in weights.items() if name not in gone}
    save_file(kept | {"blocks.2.norm1.bias": torch.ones(192)}, "deep.safetensors")
    keep(tiny(embed_dim=48), "narrow.safetensors")
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, "odd.safetensors")
    assert message in refused(capsys, "--data", pictures, *arguments)


def test_what_is_guessed_about_the_weights_is_printed(capsys, pictures):
    weights = {f"backbone.{name}": tensor for name, tensor in tiny().state_dict().items()}
    save_file(weights | {"fc.weight": torch.ones(3, 192)}, "start.safetensors")
    out = tuned(capsys, "--data", pictures, "--weights", "start.safetensors")
    words = " ".join(out.split())
    assert 'fc.weight stands beside the model, which is under "backbone.", and is left out' in words
    assert "tells the number of attention heads: the model has 3, as published ViTs of" in words
    assert "No file states eps, activation, pooling, the grid of patches: those that" in words
    out = tuned(capsys, "--data", pictures, "--weights", "start.safetensors", "--num-heads", "6",
                "--out", "six.safetensors")  # fmt: skip
    assert load_checkpoint("six.safetensors").config["num_heads"] == 6
    assert "the model has 6; published ViTs of this width have 3" in " ".join(out.split())
    error = running.refused(capsys, "train", "--data", pictures, "--num-heads", "6", *QUICK)
    assert "--num-heads needs --weights" in error


def test_heads_that_nothing_tells_are_asked_for_and_the_advice_works(capsys, pictures):
    keep(tiny(embed_dim=48), "narrow.safetensors")
    command = ["--data", pictures, "--weights", "narrow.safetensors"]
    assert "tell its model's num_heads: give --num-heads" in refused(capsys, *command)
    tuned(capsys, *command, "--num-heads", "4", "--out", "a.safetensors")
    assert load_checkpoint("a.safetensors").config["num_heads"] == 4
    assert "--num-heads" not in tuned(  # a checkpoint of vitlib's own tells it
        capsys, "--data", pictures, "--weights", "a.safetensors", "--out", "b.safetensors"
    )


def test_fine_tuning_goes_on_from_a_replaced_head(capsys, pictures):
    """Its own classes are new anyway; what was in the file is said."""
    weights = {n: t for n, t in tiny().state_dict().items() if not n.startswith("head.")}
    for parts, words in (
        (
            {"head.1.weight": torch.ones(7, 192), "head.1.bias": torch.ones(7)},
            "7 classes in the file",
        ),
        (
            {"head.0.weight": torch.ones(5, 192), "head.2.weight": torch.ones(7, 5)},
            "another kind of head in the file (head.0.weight, head.2.weight)",
        ),
    ):
        save_file(weights | parts, "start.safetensors")
        out = tuned(capsys, "--data", pictures, "--weights", "start.safetensors", "--fresh")
        assert f"3 classes in the model, {words}" in " ".join(out.split())


def test_weights_that_no_plain_vit_holds_are_refused(capsys, pictures):
    save_file(tiny(pos_embed="none").state_dict(), "rope.safetensors")
    error = refused(capsys, "--data", pictures, "--weights", "rope.safetensors", "--img-size", "16")
    assert "rope.safetensors holds no position embeddings: " in error
    Path("folder").mkdir()
    keep(tiny(), "folder/model.safetensors")
    for config, words in (
        ({"architecture": "vit_small_patch16_dinov3"}, "(RoPE)"),
        ({"model_args": {"num_heads": 3, "act_layer": "relu"}}, "activation is 'relu'"),
        ({"model_args": {"num_heads": 3}, "global_pool": "avg"}, "averages its patch tokens after"),
    ):
        Path("folder/config.json").write_text(json.dumps(config))
        assert words in refused(capsys, "--data", pictures, "--weights", "folder")


def test_stray_names_are_refused_and_the_advice_works(capsys, pictures):
    weights = tiny().state_dict()
    save_file(weights | {"extra.weight": torch.ones(2)}, "start.safetensors")
    error = refused(capsys, "--data", pictures, "--weights", "start.safetensors")
    assert "not in the model: extra.weight. If the model does without them, save the" in error
    save_file(weights, "start.safetensors")
    tuned(capsys, "--data", pictures, "--weights", "start.safetensors")


def test_advice_where_weights_do_not_fit(capsys, pictures):
    size = {"patch_size": 16, "depth": 12, "mlp_ratio": 4}
    keep(tiny(img_size=64, **size), "small.safetensors")
    command = ["--data", pictures, "--model", "vit_tiny_patch16_224", "--weights"]
    error = refused(capsys, *command, "small.safetensors")
    assert "pos_embed 4×4 patches in the file, 14×14 in the model" in error
    assert error.endswith("--img-size 224 resamples the positions\n")
    keep(tiny(), "start.safetensors")
    error = refused(capsys, *command, "start.safetensors")
    assert error.endswith(". Without --model, it is built as they need it\n")

    heads = tiny(num_heads=6, img_size=224, **size)
    heads.mean = heads.std = (0.5, 0.5, 0.5)
    save_checkpoint(heads, "heads.safetensors")
    error = refused(capsys, *command, "heads.safetensors")
    assert "num_heads 6 in the source, 3 in the model" in error


def test_no_file_of_the_command_is_written_over(capsys, pictures, start):
    Path("runs/checkpoint").mkdir(parents=True)  # is in nobody's way
    tuned(capsys, "--data", pictures, "--weights", start)
    before = {path: path.read_bytes() for path in (start, OUT)}
    train = ["train", "--data", pictures, "--weights", start, "--fresh", *QUICK]
    score = ["eval", "--data", pictures, "--checkpoint", OUT]
    for what, arguments in (
        ("weights", [*train, "--out", start]),
        ("weights", [*train, "--report", f"runs/../{start}"]),
        ("checkpoint", [*score, "--report", OUT]),
        ("checkpoint", ["export", "--checkpoint", OUT, "--out", OUT]),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert f"is already the name of the {what}: choose another\n" in err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_reports_place_is_checked_before_training(capsys, pictures, start):
    OUT.with_suffix(".html").mkdir(parents=True)
    code, out, err = run(capsys, "train", "--data", pictures, "--weights", start, *QUICK)
    assert (code, out) == (2, "")
    assert f"{OUT.with_suffix('.html')} is a folder" in err
    assert not OUT.exists()


def test_a_bad_part_to_freeze_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--data", "x", "--weights", "y", "--freeze", "all"])
    assert stop.value.code == 2
    assert "none, backbone or a number of blocks, not 'all'" in capsys.readouterr().err


def test_training_from_the_start_writes_a_report_when_asked(capsys, pictures):
    command = ["--data", pictures, "--batch-size", "20", "--out", "a.safetensors"]
    tuned(capsys, *command)
    assert not Path("a.html").exists()
    tuned(capsys, *command, "--report", "new/page.html")
    page = BeautifulSoup(Path("new/page.html").read_text("utf-8"), "html.parser")
    assert "pictures: vit_micro_patch4_32" in page.h1.text
    assert "vitlib train --data pictures" in page.text
    run(capsys, "eval", "--checkpoint", "a.safetensors", "--data", pictures, "--report", "e.html")
    page = BeautifulSoup(Path("e.html").read_text("utf-8"), "html.parser")
    assert [h.text for h in page.find_all("h2")][-1] == "What was done"
    assert "The run" not in page.text
