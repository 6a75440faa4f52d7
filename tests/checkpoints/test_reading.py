"""What is read from files and folders, and what is refused in which words."""

import argparse
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints.spellings import google, timm_names
from foreign_files import lively, vit, write_hugging_face
from safetensors.torch import save_file

from vitlib import save_checkpoint
from vitlib.checkpoints import read_foreign, reading, translate

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
        (bytes(range(1, 50)), "is not a file of weights that vitlib knows: it starts with b'"),
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
    with pytest.raises(ValueError, match="holds Python objects besides arrays"):
        read_foreign(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


# Archives and tensors that claim more than they hold ----------------------------------------------


def write_npy(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], size: int) -> None:
    """An array of zeros whose header says `shape`, with `size` bytes behind it."""
    with archive.open(f"{name}.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
        file.write(bytes(size % 2**20))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_archives_that_unpack_to_much_more_are_refused_unread(library, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "m", "w", zipfile.ZIP_DEFLATED) as archive:
        write_npy(archive, "embedding/kernel", (16, 16, 3, 30_000), 16 * 16 * 3 * 30_000 * 4)
        if library == "torch":
            archive.writestr("m/data.pkl", b"")
    monkeypatch.setattr(np, "load", None)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match=r"would unpack from \d\d,\d{3} to 92,160,\d{3} bytes"):
        read_foreign(tmp_path / "m")


def test_large_arrays_of_no_vit_are_refused_by_their_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL", 1000)
    np.savez(tmp_path / "m.npz", conv1=np.ones((20, 20), np.float32), fc=np.ones(3))
    kernel = np.ones((4, 4, 300), np.float32)
    np.savez(tmp_path / "axes.npz", **{"embedding/kernel": kernel, "cls": np.ones((1, 1, 3))})
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(ValueError, match=r"m\.npz: the weights have no names of a known ViT"):
        read_foreign(tmp_path / "m.npz")
    with pytest.raises(ValueError, match=r"axes\.npz: embedding/kernel has shape \(4, 4, 300\)"):
        read_foreign(tmp_path / "axes.npz")


def test_a_header_that_does_not_fit_its_array_is_damage(tmp_path):
    for shape in ((10**9,), (2,)):
        with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
            write_npy(archive, "cls", shape, 40)
        with pytest.raises(ValueError, match=r"m\.npz is damaged or cut off .*cls\.npy says shape"):
            read_foreign(tmp_path / "m.npz")


def test_weights_that_shrink_a_little_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL", 1000)
    arrays = google(timm_names())
    np.savez_compressed(tmp_path / "m.npz", **arrays)
    assert equal(read_foreign(tmp_path / "m.npz").tensors, arrays)


def test_tensors_that_claim_more_than_the_file_holds_are_refused(tmp_path):
    names = timm_names()
    for name, tensor, words in (
        ("cls_token", torch.zeros(1).expand(1, 1, 2**33), "claims 8,589,934,592 numbers, shape"),
        ("norm.bias", torch.eye(3).to_sparse(), "is a sparse tensor: save it as a dense one"),
    ):
        torch.save({**names, name: tensor}, tmp_path / "m.pth")
        with pytest.raises(ValueError, match=f"{name} {words}"):
            translate(read_foreign(tmp_path / "m.pth").tensors)
    small = {**names, "norm.bias": torch.ones(1).expand(12)}
    assert torch.equal(translate(small).weights["norm.bias"], torch.ones(12))


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
    with pytest.raises(
        FileNotFoundError, match=r"deit_tyny\.pth\. Did you mean 'deit_tiny\.pth'\?"
    ):
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
