"""A file, folder or Hub id -> `Foreign`: tensors under their own names, and the settings with them.

The kind of a file is recognised by its first bytes, never by its name, and no code in it is run:
pickles are read with `weights_only=True`, numpy's files without pickles.
"""

import argparse
import json
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vitlib.checkpoints.dialects import translate
from vitlib.checkpoints.hub import SETTINGS, choose_weights, fetch, is_hub_id, list_shards
from vitlib.checkpoints.native import (
    Checkpoint,
    is_native,
    read_checkpoint,
    suggest_similar_name,
)
from vitlib.presets import PRESETS

_UNREADABLE = {  # first bytes -> what such a file is
    b"version https://git-lfs": (
        "is a pointer of git-lfs, not the weights themselves: run `git lfs pull` in its "
        "repository, or download the file again"
    ),
    b"<": (
        "is a web page, not weights: the download was answered by a page, perhaps one that asks "
        "to log in. Download the file itself"
    ),
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
    b"\x89HDF": "is a TensorFlow file (HDF5), which vitlib does not read",
    b"\x93NUMPY": "holds one numpy array without a name, not a model's weights",
    b"{": "is a text file (JSON), not weights",
}


_SMALL = 64 * 2**20  # bytes; archives that unpack to less are read without further ado
_MOST_COMPRESSION = 20  # weights shrink by a tenth or so; even those with many zeros by less
_NPY_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass
class Foreign:
    """What a file, a folder or a Hub repository holds.

    `tensors` are under the file's own names and may be nested, as in {"model": {...}}. `origin` is
    what messages call the source. `native` is the checkpoint, if vitlib's save_checkpoint wrote it.
    """

    tensors: Mapping[str, Any]
    origin: str
    config: dict[str, Any] | None = None  # config.json
    preprocessor: dict[str, Any] | None = None  # preprocessor_config.json
    native: Checkpoint | None = None
    is_folder: bool = False  # or a repository on the Hub, and not one file


def read_foreign(path_or_hub_id: str | os.PathLike[str]) -> Foreign:
    """Read weights from a file, from a folder, or from the Hub ("owner/name", "owner/name@tag").

    A file may be safetensors, PyTorch's .bin/.pth/.pt or numpy's .npz. A folder is as
    `save_pretrained` writes it: model.safetensors, pytorch_model.bin, shards with their index, or a
    single file of weights. If config.json and preprocessor_config.json are there, too, they are
    read. A local file or folder takes precedence over the Hub, and a `Path` is never an id.

    Raises FileNotFoundError for a path that does not exist, and ValueError for a file that is
    damaged, holds no weights, or could only be read by running code.
    """
    if not isinstance(path_or_hub_id, str | os.PathLike) or not str(path_or_hub_id):
        given = type(path_or_hub_id).__name__ if path_or_hub_id != "" else "an empty name"
        in_memory = isinstance(path_or_hub_id, Mapping)
        raise ValueError(
            f"expected the path of a file or folder, or a Hub id, got {given}"
            + (": model.load_state_dict(convert_state_dict(weights)) takes it" if in_memory else "")
        )
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return _read_folder(path, str(path))
    if path.exists():
        return _read_beside(path, path.parent, str(path))
    name = str(path_or_hub_id)
    if name.startswith(("http://", "https://")):
        raise ValueError(
            f"{name} is an address: download the file and give its path, or give a Hub id, "
            '"owner/name"'
        )
    if isinstance(path_or_hub_id, str) and is_hub_id(name):
        return _read_folder(fetch(name), name)
    hint = suggest_similar_name(path)
    if name in PRESETS:
        hint = f"; the preset's weights come with create_model({name!r}, pretrained=True)"
    raise FileNotFoundError(f"there is no file or folder {path}{hint}")


def _read_folder(folder: Path, origin: str) -> Foreign:
    names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    foreign = _read_beside(folder / choose_weights(names, origin), folder, origin)
    return replace(foreign, is_folder=True)


def _read_beside(path: Path, folder: Path, origin: str) -> Foreign:
    """The weights in `path`, with the settings that are in `folder`."""
    if path.name.endswith(".index.json"):
        tensors: dict[str, Any] = {}
        for shard in list_shards(path):
            if not (folder / shard).is_file():
                raise ValueError(f"{folder} lacks {shard}, which {path.name} lists")
            tensors |= _read_file(folder / shard)
    elif is_native(path):
        native = read_checkpoint(path)
        return Foreign(native.weights, origin, native=native)
    else:
        tensors = _read_file(path)
    config, preprocessor = (_read_json(folder / name) for name in SETTINGS)
    return Foreign(tensors, origin, config, preprocessor)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is a device or a pipe; give the name of a file of weights")
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty: the download may have failed")
    if start[5:9] == b"\0\0\0{":  # the header's length in eight bytes, then the header
        return _read_undamaged(path, _read_safetensors)
    if start.startswith(b"PK"):
        return _read_undamaged(path, _read_zip)
    if start.startswith(b"\x80"):
        return _read_undamaged(path, _read_pickle)
    for magic, what in _UNREADABLE.items():
        if start.lstrip().startswith(magic):
            raise ValueError(f"{path} {what}")
    raise ValueError(
        f"{path} is not a file of weights that vitlib knows: it starts with {start[:8]!r}, as "
        "neither safetensors nor PyTorch's files nor numpy's .npz do"
    )


def _read_undamaged(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Read the file with `read`; whatever error a damaged file causes, the message is the same."""
    try:
        return read(path)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # each reader has its own words for a file that ends too early
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} is damaged or cut off ({path.stat().st_size:,} bytes: {first}): "
            "download or copy it again"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    return dict(load_file(path))


def _read_zip(path: Path) -> dict[str, Any]:
    """Read PyTorch's files and numpy's .npz, both of which are zip archives."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        _check_sizes(path, archive)
    parts = [part for name in names for part in Path(name).parts]
    if "constants.pkl" in parts and "code" in parts:
        raise ValueError(
            f"{path} is a TorchScript program, not a file of weights. If you trust where it comes "
            f"from: torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        )
    if "data.pkl" in parts:
        return _read_pickle(path)
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(path)
    raise ValueError(
        f"{path} is a zip archive, but neither PyTorch's nor numpy's: it holds "
        f"{', '.join(names[:3]) or 'nothing'}. Unpack it, and give the path of the weights"
    )


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise a ValueError if the archive claims so much more than it holds that it is no weights."""
    claimed = sum(entry.file_size for entry in archive.infolist())
    held = sum(entry.compress_size for entry in archive.infolist())
    if claimed > _SMALL and claimed > _MOST_COMPRESSION * held:
        raise ValueError(
            f"{path} would unpack from {held:,} to {claimed:,} bytes: trained weights hardly "
            "shrink when they are compressed, so this is something else"
        )


def _read_npz(path: Path) -> dict[str, Any]:
    """Read numpy's arrays; the headers first, so that large ones of no ViT are never unpacked."""
    headers: dict[str, Tensor] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                try:
                    version = np.lib.format.read_magic(file)
                    read = _NPY_HEADERS[version]
                    shape, _, dtype = read(file, max_header_size=10_000)
                except (ValueError, KeyError) as error:
                    raise zipfile.BadZipFile(f"{entry.filename}: {error}") from error
                size = file.tell() + math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError(
                    f"{path} holds Python objects besides arrays, which only a pickle could read: "
                    "save the arrays alone, np.savez(new_path, **arrays)"
                )
            if size != entry.file_size:
                raise zipfile.BadZipFile(
                    f"{entry.filename} says shape {shape}, but has {entry.file_size:,} bytes"
                )
            headers[entry.filename.removesuffix(".npy")] = torch.empty(shape, device="meta")
        if sum(entry.file_size for entry in archive.infolist()) > _SMALL:
            try:
                translate(headers)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        # DeiT, DINO and MAE store their command line with the weights: names and plain values.
        # torch gets an open file, because it judges a path by its suffix.
        with torch.serialization.safe_globals([argparse.Namespace]), open(path, "rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise ValueError(
                f"{path} is damaged or cut off ({path.stat().st_size:,} bytes), or is a pickle "
                "that torch.save did not write"
            ) from error
        raise ValueError(
            f"{path} holds more than weights, and reading it would run code that the file names "
            f"({code[1]}): vitlib does not. If you trust where it comes from, open it where that "
            "code is installed, and save the weights alone:\n"
            f"    content = torch.load({path.name!r}, weights_only=False)\n"
            "    torch.save(content.state_dict(), 'weights.pth')  # a dict: content['model']"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a dictionary of weights by name"
        )
    return dict(content)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings by name, but a {type(content).__name__}")
    return content
