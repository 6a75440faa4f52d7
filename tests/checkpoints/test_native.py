"""Checkpoints: what comes back, and what happens to a file that is damaged or can't be written."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from building import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import vitlib.checkpoints.native
from vitlib.checkpoints import TrainingState, load_checkpoint, read_checkpoint, save_checkpoint
from vitlib.model import VisionTransformer


def tiny_model(seed: int = 0, **options) -> VisionTransformer:
    torch.manual_seed(seed)
    settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 3} | options
    return VisionTransformer(**{"embed_dim": 16, "depth": 2, "num_heads": 2} | settings)


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, others = a.state_dict(), b.state_dict()
    return mine.keys() == others.keys() and all(
        torch.equal(mine[k], others[k]) and mine[k].dtype == others[k].dtype for k in mine
    )


def edit(path: Path, change) -> None:
    """Rewrite the JSON part of a checkpoint."""
    with safe_open(path, "pt") as file:
        info = json.loads(file.metadata()["vitlib"])
    change(info)
    save_file(load_file(path), path, metadata={"vitlib": json.dumps(info)})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"img_size": (8, 12), "patch_size": (4, 3)},
        {"distilled": True, "reg_tokens": 2, "init_values": 0.1},
        {"pos_embed": "sincos", "global_pool": "avg"},
        {"pos_embed": "none", "num_classes": 0},
        {"representation_size": 5, "qkv_bias": False, "qk_scale": 0.3},
        {"reg_tokens": 2, "no_embed_class": True, "pos_antialias": False},
    ],
)
def test_a_model_comes_back_as_it_was(tmp_path, options):
    model = tiny_model(**options).train()
    model.mean, model.std = (0.1,), (0.3,)
    path = save_checkpoint(model, tmp_path / "new" / "m.safetensors", classes=("a", "b", "c"))
    assert path == tmp_path / "new" / "m.safetensors"
    back = load_checkpoint(str(path))
    assert same(back, model)
    assert not back.training
    assert model.training
    assert back.config == model.config
    assert (back.mean, back.std, back.classes) == ((0.1,), (0.3,), ("a", "b", "c"))
    images = torch.randn(2, 1, *model.img_size)
    assert torch.equal(back(images), model.eval()(images))


def test_own_classes_notes_and_training_state_come_back(tmp_path):
    model = tiny_model()
    model.classes = ("x", "y", "z")
    state = TrainingState({"order": torch.tensor([2, 0, 1])}, {"step": 7})
    notes = {"accuracy": torch.tensor(0.98, dtype=torch.float64), "n": np.int64(3)}
    path = save_checkpoint(model, tmp_path / "m", training=state, notes=notes)
    found = read_checkpoint(path)
    assert found.info["notes"] == {"accuracy": 0.98, "n": 3}
    assert found.training.info == {"step": 7}
    assert found.training.tensors["order"].tolist() == [2, 0, 1]
    assert found.weights.keys() == model.state_dict().keys()
    back = load_checkpoint(path)
    assert back.classes == ("x", "y", "z")
    assert back.mean is None
    assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_survive(tmp_path, dtype):
    model = tiny_model(pos_embed="sincos").to(dtype)
    path = save_checkpoint(model, tmp_path / "m")
    assert same(load_checkpoint(path), model)
    into = load_checkpoint(path, tiny_model(3, pos_embed="sincos"))
    assert into.head.weight.dtype == torch.float32  # a given model keeps its own
    assert torch.equal(into.head.weight, model.head.weight.float())


def test_shared_and_strided_tensors_survive(tmp_path):
    model = tiny_model(distilled=True)
    model.head_dist.weight = model.head.weight
    model.blocks[0].mlp.fc1.weight.data = torch.randn(16, 64).t()
    store = torch.randn(32)
    model.blocks[0].norm1.weight.data, model.blocks[0].norm1.bias.data = store[:16], store[16:]
    model.patch_embed.to(memory_format=torch.channels_last)
    path = save_checkpoint(model, tmp_path / "m")
    assert same(load_checkpoint(path), model)


def test_custom_layers_save_but_have_to_be_passed(tmp_path):
    norm = partial(nn.LayerNorm, elementwise_affine=False)
    model = tiny_model(norm_layer=norm, act_layer=nn.ReLU)
    path = save_checkpoint(model, tmp_path / "m")
    with pytest.raises(ValueError, match=r"norm_layer=.*LayerNorm.*act_layer=ReLU.*model="):
        load_checkpoint(path)
    assert same(load_checkpoint(path, tiny_model(2, norm_layer=norm, act_layer=nn.ReLU)), model)


@pytest.mark.parametrize(
    ("norm", "act", "eps", "approximate"),
    [
        (partial(nn.LayerNorm, eps=1e-12), None, 1e-12, "none"),
        (None, partial(nn.GELU, approximate="tanh"), 1e-6, "tanh"),
        (nn.LayerNorm, nn.GELU, 1e-5, "none"),
    ],
)
def test_known_layers_are_built_again(tmp_path, norm, act, eps, approximate):
    model = tiny_model(norm_layer=norm, act_layer=act)
    path = save_checkpoint(model, tmp_path / "m")
    back = load_checkpoint(path)
    assert [m.eps for m in back.modules() if isinstance(m, nn.LayerNorm)] == [eps] * 5
    assert [block.mlp.act.approximate for block in back.blocks] == [approximate] * 2
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(back(images), model.eval()(images))
    again = save_checkpoint(back, tmp_path / "again")
    assert read_checkpoint(again).info["model"] == read_checkpoint(path).info["model"]


def test_known_layers_stand_so_that_older_readers_name_them(tmp_path):
    model = tiny_model(norm_layer=partial(nn.LayerNorm, eps=1e-12))
    path = save_checkpoint(model, tmp_path / "m")
    stored = read_checkpoint(path).info
    assert stored["format"] == 1
    described = {"custom": "LayerNorm", "layer": "LayerNorm", "eps": 1e-12}
    assert stored["model"]["config"]["norm_layer"] == described
    edit(path, lambda info: info["model"]["config"]["norm_layer"].update(layer="RMSNorm"))
    with pytest.raises(ValueError, match=r"a file cannot hold \(norm_layer=LayerNorm\)"):
        load_checkpoint(path)


def test_models_that_are_no_vision_transformer(tmp_path):
    model = nn.Linear(2, 3)
    path = save_checkpoint(model, tmp_path / "m", classes=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"holds a Linear: build it and pass it"):
        load_checkpoint(path)
    back = load_checkpoint(path, nn.Linear(2, 3))
    assert same(back, model)
    assert back.classes == ("a", "b", "c")


def test_a_checkpoint_of_another_shape_names_what_differs(tmp_path):
    path = save_checkpoint(tiny_model(), tmp_path / "m")
    other = tiny_model(1, embed_dim=32)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"cls_token is \(1, 1, 16\) in the checkpoint, \(1, 1, 32\) in the model.*and \d+ m",
    ):
        load_checkpoint(path, other)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    assert other.classes is None
    with pytest.raises(ValueError, match=r"head_dist\.weight is missing in the checkpoint"):
        load_checkpoint(path, tiny_model(distilled=True))
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.proj\.weight is not in the model"):
        load_checkpoint(path, tiny_model(depth=1))


@pytest.mark.parametrize("keep", [0, 4, 200, -4000, -1])
def test_truncated_checkpoints(tmp_path, keep):
    path = save_checkpoint(tiny_model(), tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged or cut off \([\d,]+ bytes"):
        load_checkpoint(path)


def test_files_that_are_no_checkpoints(tmp_path):
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(os.urandom(5000))
    with pytest.raises(ValueError, match="is damaged or cut off"):
        load_checkpoint(noise)
    pickle = tmp_path / "model.pt"
    torch.save(tiny_model().state_dict(), pickle)
    with pytest.raises(ValueError, match=r"is PyTorch's or numpy's: load_pretrained"):
        load_checkpoint(pickle)
    foreign = tmp_path / "foreign.safetensors"
    save_file(tiny_model().state_dict(), foreign)
    with pytest.raises(ValueError, match="not written by vitlib's save_checkpoint"):
        load_checkpoint(foreign, tiny_model())
    with pytest.raises(ValueError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_a_missing_file_names_similar_ones(tmp_path):
    save_checkpoint(tiny_model(), tmp_path / "digits.safetensors")
    with pytest.raises(FileNotFoundError, match=r"digit\.safetensors\. Did you mean 'digits\.safe"):
        load_checkpoint(tmp_path / "digit.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        load_checkpoint(tmp_path / "nowhere" / "m.safetensors")


def test_checkpoints_from_the_future(tmp_path):
    path = save_checkpoint(tiny_model(), tmp_path / "m")
    edit(path, lambda info: info["model"]["config"].update(rotary=True, depth2=1))
    with pytest.raises(ValueError, match="does not know: depth2, rotary: upgrade vitlib"):
        load_checkpoint(path)
    edit(path, lambda info: info.update(format=2))
    with pytest.raises(ValueError, match="has format 2, this vitlib reads up to 1"):
        load_checkpoint(path)


# Writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["save_file", "fsync", "replace"])
def test_a_failed_write_keeps_the_former_file(tmp_path, monkeypatch, step):
    model = tiny_model()
    path = save_checkpoint(model, tmp_path / "m.safetensors")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vitlib.checkpoints.native if step == "save_file" else os, step, full)
    with pytest.raises(OSError, match=r"m\.safetensors.*No space left.*older checkpoint.*untouch"):
        save_checkpoint(tiny_model(1), path)
    with pytest.raises(OSError, match=r"could not write checkpoint .*new: .*device\.$"):
        save_checkpoint(tiny_model(1), tmp_path / "new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert same(load_checkpoint(path), model)


FULL_DISK = """
import resource, sys
sys.path.insert(0, {tests!r})
from checkpoints import test_native as t
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
t.save_checkpoint(t.tiny_model(1, embed_dim=32), {path!r})
"""


def test_a_file_that_really_cannot_grow(tmp_path):
    model = tiny_model()
    path = save_checkpoint(model, tmp_path / "m.safetensors")
    script = FULL_DISK.format(tests=str(ROOT / "tests"), path=str(path))
    failed = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: could not write checkpoint")
    assert "File too large" in last
    assert "untouched" in last
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert same(load_checkpoint(path), model)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tiny_model(), tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_notes_that_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="must be JSON values: tensor"):
        save_checkpoint(tiny_model(), tmp_path / "m", notes={"confusion": torch.zeros(2, 2)})
    assert os.listdir(tmp_path) == []


def test_impossible_places(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        save_checkpoint(tiny_model(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write checkpoint .*file/m"):
        save_checkpoint(tiny_model(), tmp_path / "file" / "m")


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    link, target = tmp_path / "link", tmp_path / "store" / "m.safetensors"
    link.symlink_to(target)
    for seed in (0, 1):  # first a link to nothing, then to a file
        model = tiny_model(seed)
        assert save_checkpoint(model, link) == link
        assert link.is_symlink()
        assert same(load_checkpoint(target), model)
    assert os.listdir(tmp_path / "store") == ["m.safetensors"]


def test_what_is_no_file_is_neither_replaced_nor_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        for use in (partial(save_checkpoint, tiny_model()), load_checkpoint):
            with pytest.raises(ValueError, match="is a device or a pipe; give the name of a file"):
                use(path)
    assert pipe.is_fifo()


def test_a_compiled_model_is_written_and_loaded_under_its_own_names(tmp_path):
    model = tiny_model()
    path = save_checkpoint(torch.compile(model, backend="eager"), tmp_path / "m", classes="abc")
    assert same(load_checkpoint(path), model)
    other = tiny_model(1)
    compiled = torch.compile(other, backend="eager")
    assert load_checkpoint(path, compiled) is compiled
    assert same(other, model)
    assert other.classes == ("a", "b", "c")
    assert not other.training


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda info: info.clear(), "format, model, mean, std, classes missing"),
        (lambda info: info.pop("std"), "damaged: std missing"),
        (lambda info: info.update(format="pt"), "damaged: format missing"),
        (lambda info: info["model"].pop("class"), "model's class and config missing"),
    ],
)
def test_metadata_that_lack_something(tmp_path, change, missing):
    path = save_checkpoint(tiny_model(), tmp_path / "m")
    edit(path, change)
    with pytest.raises(ValueError, match=f"written by another program or is .*{missing}"):
        load_checkpoint(path)
    save_file(tiny_model().state_dict(), path, metadata={"vitlib": "no JSON"})
    with pytest.raises(ValueError, match="written by another program"):
        load_checkpoint(path)
