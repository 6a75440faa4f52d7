"""What is read from files, folders and the Hub, and what is refused in which words."""

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from foreign_files import lively, vit, write_hugging_face
from huggingface_hub import errors
from safetensors.torch import save_file
from torch import nn

from vitlib import create_model, save_checkpoint
from vitlib.checkpoints import load_pretrained, read_foreign
from vitlib.presets import PRESETS

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


def equal(tensors, expected) -> bool:
    return tensors.keys() == expected.keys() and all(
        np.array_equal(np.asarray(tensors[name]), np.asarray(expected[name])) for name in expected
    )


# Kinds of files, told by their content ------------------------------------------------------------


def write_safetensors(path: Path) -> None:
    save_file(WEIGHTS, path)


def write_pickle(path: Path) -> None:
    torch.save(WEIGHTS, path)


def write_old_pickle(path: Path) -> None:
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)


def write_npz(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in WEIGHTS.items()})


def write_small_npz(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **{name: tensor.numpy() for name, tensor in WEIGHTS.items()})


WRITERS = [write_safetensors, write_pickle, write_old_pickle, write_npz, write_small_npz]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "model.npz", "no suffix"])
def test_a_file_is_told_by_its_content(write, name, tmp_path):
    write(tmp_path / name)
    found = read_foreign(tmp_path / name)
    assert equal(found.tensors, WEIGHTS)
    assert found.origin == str(tmp_path / name)
    assert (found.config, found.preprocessor, found.native) == (None, None, None)


def test_a_training_checkpoint_with_its_command_line(tmp_path):
    content = {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(content, tmp_path / "m.pth")
    assert equal(read_foreign(tmp_path / "m.pth").tensors["model"], WEIGHTS)


def test_a_path_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pickle(tmp_path / "m.pth")
    assert equal(read_foreign("~/m.pth").tensors, WEIGHTS)


def test_vitlibs_own_file_is_known(tmp_path):
    model = vit()
    found = read_foreign(save_checkpoint(model, tmp_path / "m", classes="abcde"))
    assert found.native.info["classes"] == list("abcde")
    assert equal(found.tensors, model.state_dict())


# Files that cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_truncated_files(write, share, tmp_path):
    path = tmp_path / "m"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"m is damaged or cut off \([\d,]+ bytes"):
        read_foreign(path)


@pytest.mark.parametrize("write", [write_npz, write_small_npz])
def test_a_damaged_archive(write, tmp_path):
    path = tmp_path / "m"
    write(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="m is damaged or cut off"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: the download may have failed"),
        (b"\n<!DOCTYPE html><html>Log in", "is a web page, not weights"),
        (b"<?xml version='1.0'?><Error>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a pointer of git-lfs"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), r"is a TensorFlow file \(HDF5\)"),
        (b"\x93NUMPY\x01\x00" + bytes(90), "holds one numpy array without a name"),
        (b'{"weights": [1, 2, 3]}', "is a text file"),
        (bytes(range(1, 50)), "is no file of weights that vitlib knows: it starts with b'"),
        (b"\x80\x02" + bytes(40), "is damaged or cut off .* or is a pickle that torch.save did"),
    ],
)
def test_files_that_hold_no_weights(content, words, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_foreign(path)
    assert str(path) in str(caught.value)


def test_a_header_that_starts_like_a_web_page_is_still_safetensors(tmp_path):
    path = tmp_path / "m"
    for length in range(1, 400):  # until the header's length begins with the byte of "<"
        save_file({"x" * length: torch.ones(1)}, path)
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        padding = (ord("<") - size) % 256
        header = content[8 : 8 + size] + b" " * padding
        path.write_bytes((size + padding).to_bytes(8, "little") + header + content[8 + size :])
        break
    assert path.read_bytes().startswith(b"<")
    assert len(read_foreign(path).tensors) == 1


def test_pickles_that_would_run_code(tmp_path):
    torch.save(vit(), tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"would run code that the file names") as caught:
        read_foreign(tmp_path / "whole.pth")
    assert "vitlib.model.VisionTransformer" in str(caught.value)
    assert "torch.load('whole.pth', weights_only=False)" in str(caught.value)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"would run code that the file names \(posix\.mkdir\)"):
        read_foreign(tmp_path / "trap.pth")
    arrays = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "trap.npz", arrays)
    with pytest.raises(ValueError, match="holds Python objects beside arrays"):
        read_foreign(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


def test_other_things_in_files(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not a dictionary of weights by name"):
        read_foreign(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("cat.jpg", b"miau")
    with pytest.raises(ValueError, match=r"neither PyTorch's nor numpy's: it holds cat\.jpg"):
        read_foreign(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"")
    with pytest.raises(ValueError, match=r"is a TorchScript program.*torch\.jit\.load"):
        read_foreign(tmp_path / "script.pt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a device or a pipe"):
        read_foreign(tmp_path / "pipe")


# Folders ------------------------------------------------------------------------------------------


def test_a_folder_with_settings(tmp_path):
    model = lively(vit())
    write_hugging_face(model, tmp_path, preprocessor={"image_mean": [0.5] * 3})
    (tmp_path / "training_args.bin").write_bytes(b"no weights, and not looked at")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        found = read_foreign(place)
        assert found.config["hidden_size"] == 16
        assert found.preprocessor == {"image_mean": [0.5] * 3}
        assert found.origin == str(place)
        assert len(found.tensors) == 40


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (["model.safetensors", "pytorch_model.bin", "other.pth"], "model.safetensors"),
        (["pytorch_model.bin", "optimizer.pt"], "pytorch_model.bin"),
        (["deit_tiny.pth", "log.txt"], "deit_tiny.pth"),
        (["Ti_16.NPZ"], "Ti_16.NPZ"),
    ],
)
def test_the_file_that_is_taken_from_a_folder(present, taken, tmp_path):
    for name in present:
        (tmp_path / name).write_bytes(b"something else")
    write_pickle(tmp_path / taken)
    assert equal(read_foreign(tmp_path).tensors, WEIGHTS)


def test_folders_without_weights_or_with_several(tmp_path):
    with pytest.raises(ValueError, match=r"holds no weights that vitlib reads .*; it has no files"):
        read_foreign(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no weights .*; it has tf_model\.h5"):
        read_foreign(tmp_path)
    for name in ("a.pth", "b.npz"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"several files of weights: a\.pth, b\.npz\..* its path"):
        read_foreign(tmp_path)


def write_shards(folder: Path, ending: str = "safetensors") -> None:
    names = {"a.weight": f"model-00001-of-00002.{ending}", "b": f"model-00002-of-00002.{ending}"}
    for name, file in names.items():
        save_file({name: WEIGHTS[name]}, folder / file)
    index = {"metadata": {"total_size": 40}, "weight_map": names}
    (folder / f"model.{ending}.index.json").write_text(json.dumps(index))


def test_shards(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    found = read_foreign(tmp_path)
    assert equal(found.tensors, WEIGHTS)
    assert found.config == {"hidden_size": 3}
    assert equal(read_foreign(tmp_path / "model.safetensors.index.json").tensors, WEIGHTS)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-00002-of-00002\.safetensors, which model"):
        read_foreign(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("no JSON", "lists no shards in a weight_map"),
        ('{"weights": {}}', "lists no shards in a weight_map"),
        ('{"weight_map": {}}', "names no files"),
        ('{"weight_map": {"a": "../secret.bin"}}', r"outside its folder: \.\./secret\.bin"),
    ],
)
def test_an_index_that_is_none(index, words, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=words):
        read_foreign(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"config\.json can't be read as JSON"),
        ("[1]", "holds no settings by name, but a list"),
    ],
)
def test_a_broken_config(text, words, tmp_path):
    write_safetensors(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_foreign(tmp_path)


# Paths and ids ------------------------------------------------------------------------------------


class Hub:
    """The Hub without a network: its repositories are folders, its cache is another folder."""

    def __init__(self, root: Path, monkeypatch):
        self.root, self.asked, self.failure = root, [], None
        (root / "cache").mkdir()
        for name in ("model_info", "hf_hub_download"):
            monkeypatch.setattr(huggingface_hub, name, getattr(self, name))

    def repository(self, name: str) -> Path:
        folder = self.root / "hub" / name
        folder.mkdir(parents=True)
        return folder

    def _reach(self, name: str, revision: str | None) -> Path:
        self.asked.append((name, revision))
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5].")
        if self.failure:
            raise self.failure
        return self.root / "hub" / name

    def model_info(self, repo_id, *, revision=None) -> SimpleNamespace:
        folder = self._reach(repo_id, revision)
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(self, repo_id, filename, *, revision=None, local_files_only=False) -> str:
        target = self.root / "cache" / repo_id / filename
        if local_files_only:
            if not target.exists():
                raise errors.LocalEntryNotFoundError(f"{filename} is not in the cache")
            return str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._reach(repo_id, revision) / filename, target)
        return str(target)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Hub(tmp_path, monkeypatch)


def refusal(kind: type[Exception], text: str) -> Exception:
    """An error of the Hub's client, whose classes want a response."""
    error = kind.__new__(kind)
    error.args = (text,)
    return error


def test_a_repository_on_the_hub(hub, caplog):
    folder = write_hugging_face(lively(vit()), hub.repository("owner/a.vit_tiny-16"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"another file")
    found = read_foreign("owner/a.vit_tiny-16")
    assert found.origin == "owner/a.vit_tiny-16"
    assert len(found.tensors) == 40
    assert found.config["num_attention_heads"] == 2
    assert sorted(os.listdir(hub.root / "cache" / "owner" / "a.vit_tiny-16")) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    assert {revision for _, revision in hub.asked} == {None}
    read_foreign("owner/a.vit_tiny-16@v1.0")
    assert hub.asked[-1] == ("owner/a.vit_tiny-16", "v1.0")
    assert caplog.text == ""  # the client's retries are not announced


def test_shards_on_the_hub(hub):
    write_shards(hub.repository("owner/big"))
    assert equal(read_foreign("owner/big").tensors, WEIGHTS)


def test_without_a_connection_the_cache_serves_or_the_way_out_is_said(hub):
    write_hugging_face(lively(vit()), hub.repository("owner/name"))
    hub.failure = errors.OfflineModeIsEnabled("offline mode is enabled")
    with pytest.raises(ValueError, match="no file or folder 'owner/name' here, and") as caught:
        read_foreign("owner/name")
    for words in (
        "can't be reached (OfflineModeIsEnabled: offline mode is enabled)",
        "download model.safetensors (or what weights there are), config.json and preprocessor_con",
        "from https://huggingface.co/owner/name/tree/main into one folder",
        "give the folder's path instead of the id",
    ):
        assert words in str(caught.value)
    hub.failure = None
    read_foreign("owner/name")
    hub.failure = ConnectionError("Name or service not known")
    assert len(read_foreign("owner/name").tensors) == 40
    (
        hub.root / "cache" / "owner" / "name" / "model.safetensors"
    ).unlink()  # a download that stopped
    with pytest.raises(ValueError, match=r"can't be reached \(ConnectionError: Name or service"):
        read_foreign("owner/name")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.GatedRepoError, r"is gated: accept its terms on https://.*owner/name, log in with"),
        (errors.RepositoryNotFoundError, "has no model 'owner/name' that you may see"),
        (errors.RevisionNotFoundError, "on the Hub has no revision 'v9'"),
    ],
)
def test_repositories_that_cannot_be_had(kind, words, hub):
    hub.failure = refusal(kind, "403 Client Error")
    with pytest.raises(ValueError, match=words):
        read_foreign("owner/name@v9")


def test_a_repository_without_weights(hub):
    (hub.repository("owner/empty") / "flax_model.msgpack").write_bytes(b"")
    with pytest.raises(ValueError, match=r"owner/empty on the Hub holds no weights.*flax_model"):
        read_foreign("owner/empty")


def test_what_is_here_goes_before_the_hub(hub):
    Path("owner").mkdir()
    write_pickle(Path("owner/name"))
    assert equal(read_foreign("owner/name").tensors, WEIGHTS)
    assert hub.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "runs/model.safetensors", "runs/best.pth", "./owner/name", "/owner/name", "a/b/c", "model",
        "../name", "~/name", "owner/", "owner/name@", Path("owner/name"),
    ],
)  # fmt: skip
def test_paths_that_are_not_there_do_not_reach_the_hub(path, hub):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        read_foreign(path)
    assert hub.asked == []


def test_missing_files_and_addresses(tmp_path):
    write_pickle(tmp_path / "deit_tiny.pth")
    with pytest.raises(FileNotFoundError, match=r"deit_tyny\.pth; did you mean deit_tiny\.pth"):
        read_foreign(tmp_path / "deit_tyny.pth")
    with pytest.raises(ValueError, match="is an address: download the file and give its path"):
        read_foreign("https://example.org/deit.pth")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "or a Hub id, got NoneType$"),
        ("", "got an empty name$"),
        (WEIGHTS, r"got dict: model\.load_state_dict\(convert_state_dict\(weights\)\) takes it"),
    ],
    ids=str,
)
def test_what_is_no_path(given, words, unchecked):
    with pytest.raises(ValueError, match=words):
        read_foreign(given)


def test_the_name_of_a_preset_is_not_a_path():
    with pytest.raises(FileNotFoundError, match=r"create_model\('deit_tiny_patch16_224', pretrai"):
        read_foreign("deit_tiny_patch16_224")


def test_the_client_is_quiet_from_its_first_word_on():
    # Its logger gets its level when the client is first imported, here within quiet_hub.
    code = (
        "import logging\n"
        "from vitlib.checkpoints.hub import quiet_hub\n"
        "with quiet_hub():\n"
        "    import huggingface_hub.hf_api\n"
        "    logging.getLogger('huggingface_hub.utils').warning('Retrying')\n"
        "logging.getLogger('huggingface_hub.utils').warning('and afterwards')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "and afterwards\n"


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"'owner/name' here\. .*pip install \"vitlib\[hub\]\""):
        read_foreign("owner/name")


# Presets with weights on the Hub ------------------------------------------------------------------

TIMM = {
    "architecture": "deit_tiny_patch16_224",
    "num_features": 192,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.4] * 3, "std": [0.2] * 3},
}


@pytest.fixture
def deit_tiny(hub, monkeypatch) -> nn.Module:
    """DeiT-Ti on the Hub, two blocks deep, and here as deep."""
    preset = PRESETS["deit_tiny_patch16_224"]
    monkeypatch.setitem(
        PRESETS, preset.name, replace(preset, arguments={**preset.arguments, "depth": 2})
    )
    model = lively(create_model("deit_tiny_patch16_224"))
    folder = hub.repository("timm/deit_tiny_patch16_224.fb_in1k")
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TIMM))
    return model


def test_a_preset_from_the_hub(deit_tiny, hub):
    model = create_model("deit_tiny_patch16_224", pretrained=True)
    assert not model.training
    assert torch.equal(model.head.weight, deit_tiny.head.weight)
    assert (model.mean, model.std) == ((0.4,) * 3, (0.2,) * 3)
    small = create_model("deit_tiny_patch16_224", pretrained=True, img_size=32, num_classes=7)
    assert small.pos_embed.shape == (1, 5, 192)
    assert small.head.weight.shape == (7, 192)
    assert torch.equal(small.norm.weight, deit_tiny.norm.weight)
    built = create_model("timm/deit_tiny_patch16_224.fb_in1k", pretrained=True)
    assert built.config["num_heads"] == 3
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(built(images), deit_tiny(images))


def test_presets_that_refuse_before_they_download(hub):
    with pytest.raises(ValueError, match=r"read 3 channels, in_chans=1 was asked for.*expand"):
        create_model("vit_tiny_patch16_224", pretrained=True, in_chans=1)
    with pytest.raises(ValueError, match=r"vit_huge_patch14_224 have no head: .*num_classes=0"):
        create_model("vit_huge_patch14_224", pretrained=True, embed_dim=16, depth=1)
    with pytest.raises(ValueError, match="no weights for 'vit_micro_patch4_32'"):
        create_model("vit_micro_patch4_32", pretrained=True)
    assert hub.asked == []


def test_a_head_is_new_where_the_published_weights_have_none(hub, monkeypatch):
    preset = PRESETS["vit_huge_patch14_224"]
    small = {"img_size": 224, "embed_dim": 16, "depth": 1, "num_heads": 16}
    tiny = replace(preset, arguments=small, mean=None, std=None)
    monkeypatch.setitem(PRESETS, preset.name, tiny)
    source = lively(create_model("vit_huge_patch14_224", num_classes=0))
    folder = hub.repository("timm/vit_huge_patch14_224.orig_in21k")
    save_file(source.state_dict(), folder / "model.safetensors")
    with pytest.warns(UserWarning, match="does not say with which mean and std"):
        model = create_model("vit_huge_patch14_224", pretrained=True, num_classes=3)
    assert model.head.weight.shape == (3, 16)
    assert torch.equal(model.norm.weight, source.norm.weight)


def test_every_preset_with_timms_name_has_an_id():
    ids = {name: preset.hub_id for name, preset in PRESETS.items() if preset.hub_id}
    assert ids.keys() == {name for name in PRESETS if name.endswith("224")}
    assert ids["vit_base_patch16_224"] == "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"
    assert ids["deit_small_distilled_patch16_224"] == (
        "timm/deit_small_distilled_patch16_224.fb_in1k"
    )


def test_load_pretrained_takes_an_id(deit_tiny):
    model = create_model("deit_tiny_patch16_224")
    report = load_pretrained(model, "timm/deit_tiny_patch16_224.fb_in1k")
    assert report.origin == "timm/deit_tiny_patch16_224.fb_in1k"
    assert str(report).startswith("32 tensors loaded from timm/deit_tiny_patch16_224.fb_in1k (timm")
