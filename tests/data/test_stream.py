"""Streams: the same pictures as in memory, in parts; broken, changed and missing ones; orders."""

import errno
import os
import re
import shutil
import warnings
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pytest
import torch
from data.pictures import break_files, make_folder, make_folders, noise, table, write
from PIL import Image
from train.tiny import tiny_model

from vitlib import evaluate, extract_features
from vitlib.data import load_data, shards
from vitlib.data.shards import TableRows, open_shard
from vitlib.data.stream import StreamedSet
from vitlib.train import PartlyLabelled

NAMES = ["owl", "cat", "emu"]


def parts_of(count: int, size: int = 7) -> list[torch.Tensor]:
    return list(torch.arange(count).split(size))


def read_all(images, size: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    read = list(images.batches(parts_of(len(images), size)))
    return torch.cat([batch for batch, _ in read]), torch.cat([labels for _, labels in read])


def parquet(root: Path, shards: int = 3, rows: int = 40, group: int = 8) -> Path:
    """Training rows in shards and row groups, and a test set of three."""
    root.mkdir(parents=True, exist_ok=True)
    for k in range(shards):
        data = table([j % 3 for j in range(rows)], NAMES, seed=rows * k)
        data.to_parquet(root / f"train-{k:05}-of-{shards:05}.parquet", batch_size=group)
    write(table([0, 1, 2], NAMES, seed=900), root / "test.parquet")
    return root


@pytest.fixture
def small_buffer(monkeypatch):
    """About 24 pictures."""
    monkeypatch.setattr(shards, "_BUFFER", 24 * 530)


# The same as in memory


@pytest.mark.parametrize("make", [lambda root: make_folder(root, {"a": 9, "b": 8}), parquet])
@pytest.mark.parametrize("img_size", [None, (8, 10)])
def test_a_stream_holds_what_is_in_memory(tmp_path, make, img_size):
    place = make(tmp_path / "data")
    here, there = load_data(place, img_size), load_data(place, img_size, stream=True)
    assert there.classes == here.classes
    assert (there.mean, there.std) == (here.mean, here.std)
    for streamed, kept in ((there.train, here.train), (there.test, here.test)):
        assert isinstance(streamed, StreamedSet)
        assert streamed.shape == kept.shape
        images, labels = read_all(streamed)
        mine, order = np.unique(images.flatten(1).numpy(), axis=0, return_index=True)
        others, kept_order = np.unique(
            kept.images.flatten(1).float().numpy() / 255, axis=0, return_index=True
        )
        assert np.array_equal(mine, others.astype(np.float32))
        assert torch.equal(labels[order], kept.labels[kept_order])
        assert torch.equal(labels, streamed.labels)
        assert torch.equal(
            streamed[3 % len(streamed)][0], streamed.normalize(images[3 % len(images)])
        )
    assert there.summary().splitlines()[:2] == here.summary().splitlines()[:2]
    assert "streamed: pictures are read when they are needed" in there.summary()


def test_a_sample_tells_mean_and_std_and_the_summary_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("vitlib.data.stream._SAMPLE", 6)
    data = load_data(make_folder(tmp_path / "pets", {"a": 20, "b": 20}), stream=True)
    assert "those of 6 of the 32 training pictures" in data.summary()
    everything = load_data(tmp_path / "pets")
    assert data.mean != everything.mean
    assert data.mean == pytest.approx(everything.mean, abs=0.05)
    before = torch.get_rng_state()
    again = load_data(tmp_path / "pets", stream=True)
    assert again.mean == data.mean  # always the same sample
    assert torch.equal(torch.get_rng_state(), before)


def test_reading_draws_no_random_numbers(tmp_path):
    data = load_data(make_folder(tmp_path / "pets", {"a": 4, "b": 4}), stream=True)
    before = torch.get_rng_state()
    read_all(data.train)
    assert torch.equal(torch.get_rng_state(), before)


def test_grey_pictures_in_colour_and_back(tmp_path):
    grey = load_data(make_folder(tmp_path / "grey", {"a": 5, "b": 5}, mode="L"), stream=True)
    assert grey.train.shape[1] == 1
    colour = grey.train.with_channels(3)
    assert torch.equal(read_all(colour)[0], read_all(grey.train)[0].expand(-1, 3, -1, -1))
    assert colour.mean == grey.mean * 3
    back = colour.with_channels(1)
    assert torch.equal(read_all(back)[0], read_all(grey.train)[0])
    assert back.with_channels(1) is back


def test_16_bit_pictures_get_the_white_of_those_that_were_looked_at(tmp_path):
    root = make_folder(tmp_path, {"a": 4, "b": 4}, mode="L")
    for folder in "ab":
        for k, peak in enumerate((900, 4000, 4000, 4000)):
            pixels = np.linspace(0, peak, 144).astype(np.uint16).reshape(12, 12)
            Image.fromarray(pixels).save(root / folder / f"{k}.png")
    with pytest.warns(UserWarning, match="taken as 12 bits"):
        here, there = load_data(root, whole=True), load_data(root, whole=True, stream=True)
    assert here.white == there.white == 4095
    assert there.train is there.test
    assert torch.equal(read_all(there.train)[0], here.train.images.float() / 255)


def test_evaluating_a_stream(tmp_path):
    place = make_folder(tmp_path / "pets", {"a": 9, "b": 8})
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 144, 2))
    here, there = load_data(place), load_data(place, stream=True)
    kept, streamed = (evaluate(model, part, 3) for part in (here.test, there.test))
    assert streamed.loss == pytest.approx(kept.loss, abs=1e-6)
    assert streamed.accuracy == kept.accuracy


# Orders


def test_files_are_shuffled_as_in_memory(tmp_path):
    data = load_data(make_folder(tmp_path / "pets", {"a": 20, "b": 20}), stream=True)
    torch.manual_seed(3)
    order = data.train.shuffled(8, 2)
    torch.manual_seed(3)
    assert torch.equal(order, torch.randperm(32))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_process_reads_row_groups_of_its_own(tmp_path, small_buffer, processes):
    data = load_data(parquet(tmp_path, shards=6, rows=48), stream=True)
    rows = data.train.rows
    assert 20 <= rows._window <= 28
    torch.manual_seed(0)
    order, again = (data.train.shuffled(24, processes) for _ in range(2))
    assert not torch.equal(order, again)
    assert sorted(order.tolist()) == list(range(288))  # nothing is left out, nothing comes twice
    shares = [[] for _ in range(processes)]
    for batch in order.split(24):
        for share, part in zip(shares, batch.chunk(processes), strict=True):
            share.append(part)
    groups = [set(rows._group_of(torch.cat(share)).tolist()) for share in shares]
    assert sum(map(len, groups)) <= 36 + processes - 1  # only one at each border is read twice
    for share in shares:  # shuffled within a window, and no further
        seen = torch.cat(share)
        first = rows._group_of(seen[: rows._window])
        assert 3 <= len(first.unique()) <= 5
        assert (seen[1:] != seen[:-1] + 1).any()


def test_a_row_group_is_read_once_in_a_pass_and_not_kept(tmp_path, small_buffer, monkeypatch):
    data = load_data(parquet(tmp_path, shards=6, rows=48), stream=True)
    reads, read_group = [], TableRows._read_group
    monkeypatch.setattr(
        TableRows, "_read_group", lambda self, group: reads.append(group) or read_group(self, group)
    )
    order = data.train.shuffled(8)
    held = []
    for k, items in enumerate(data.train.rows.read(list(order.split(8)))):
        assert len(items) == 8
        held.append(len(reads) - len(set(data.train.rows._group_of(order[: 8 * k + 8]).tolist())))
    assert sorted(reads) == list(range(36))
    assert max(held) <= 5  # not further ahead than the next window


def test_a_validation_set_of_tables_is_read_row_group_by_row_group(tmp_path, small_buffer):
    data = load_data(parquet(tmp_path, shards=6, rows=48), stream=True)
    rest, held = data.split(0.25, seed=1)
    assert len(held) == 72
    assert sorted(rest.numbers.tolist() + held.numbers.tolist()) == list(range(288))
    assert held.labels.bincount().tolist() == [24, 24, 24]
    assert (held.numbers.diff() > 0).all()
    mine, other = (part.split(0.25, seed=1)[1] for part in (data, load_data(tmp_path)))
    bytes_of = (read_all(mine)[0] * 255).round().flatten(1).sum(1).sort().values
    assert torch.equal(bytes_of, other.images.flatten(1).sum(1).float().sort().values)


def test_a_part_of_an_epoch_is_read_from_where_it_begins(tmp_path, small_buffer):
    data = load_data(parquet(tmp_path), stream=True)
    parts = list(data.train.shuffled(8).split(8))
    whole = list(data.train.batches(parts))
    rest = list(data.train.batches(parts[9:]))
    for (images, labels), (others, other_labels) in zip(whole[9:], rest, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


# What is wrong with the data


def test_broken_pictures_are_left_out_and_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr("vitlib.data.stream._SAMPLE", 8)
    root = make_folder(tmp_path / "pets", {"a": 20, "b": 20})
    broken = break_files(root / "b")
    with warnings.catch_warnings(record=True, action="always") as record:
        data = load_data(root, stream=True, whole=True)
        images, labels = read_all(data.train, 15)
        read_all(data.train, 15)
    told = [str(warning.message) for warning in record]
    for name in broken:
        assert (
            sum(text.startswith(f"b/{name} can't be read and is skipped (") for text in told) == 1
        )
    assert len(images) == len(labels) == 40
    assert labels.bincount().tolist() == [20, 20]
    assert len(data.train.readable()) == 40
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 144, 2))
    model.mean, model.std = (0.5,) * 3, (0.3,) * 3  # another set with the same pictures is read
    found = load_data(root, stream=True, whole=True).train
    with pytest.warns(UserWarning, match=r"b/half.jpg can't be read and is skipped"):
        assert len(evaluate(model, found, 15).labels) == 40
    assert len(found.readable()) == 40


def test_broken_pictures_among_those_looked_at(tmp_path):
    root = make_folder(tmp_path / "pets", {"a": 20, "b": 20})
    names = break_files(root / "b")
    with pytest.warns(UserWarning, match=r"of the 45 images of pets that were looked at can't be"):
        data = load_data(root, stream=True, whole=True)
    assert sorted(data.skipped) == sorted(f"b/{name}" for name in names)
    for path in root.glob("*/*.png"):
        path.write_text("I am no image")
    with pytest.raises(ValueError, match="images of pets can't be read, more than half"):
        load_data(root, stream=True)


def test_a_batch_without_a_readable_picture_is_refused(tmp_path):
    root = make_folder(tmp_path / "pets", {"a": 9, "b": 9})
    data = load_data(root, stream=True, whole=True)
    path = root / "a" / "3.png"
    path.write_bytes(bytes(path.stat().st_size))
    with (
        pytest.raises(
            ValueError, match=r"none of the 1 pictures of a batch can be read, from a/3.png"
        ),
        pytest.warns(UserWarning, match=r"a/3.png can't be read and is skipped"),
    ):
        read_all(data.train, 1)
    with pytest.raises(ValueError, match=r"a/3.png can't be read: UnidentifiedImageError"):
        data.train[3]


def test_a_file_that_changes_or_goes_during_the_run_is_named(tmp_path):
    root = make_folder(tmp_path / "pets", {"a": 9, "b": 9})
    data = load_data(root, stream=True, whole=True)
    size = (root / "a" / "3.png").stat().st_size
    shutil.copy(root / "a" / "4.png", root / "a" / "3.png")
    with open(root / "a" / "3.png", "ab") as file:
        file.write(b"1234567890" * 9)
    with pytest.raises(ValueError, match=rf"a/3.png has changed since the run began: {size} bytes"):
        read_all(data.train)
    (root / "a" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"a/3.png was there when the run began, and is not now"):
        read_all(data.train)


def test_a_table_that_changes_or_goes_during_the_run_is_named(tmp_path):
    data = load_data(parquet(tmp_path), stream=True)
    shutil.copy(tmp_path / "test.parquet", tmp_path / "train-00001-of-00003.parquet")
    with pytest.raises(ValueError, match=r"train-00001-of-00003.parquet has changed since the run"):
        read_all(data.train)
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-00001-of-00003.parquet can't be read"):
        read_all(data.train)


def test_what_the_system_cannot_read_now_is_not_taken_for_broken(tmp_path, monkeypatch):
    def decode_fully(source, size):
        raise OSError(errno.EIO, "Input/output error")

    data = load_data(make_folder(tmp_path / "pets", {"a": 9, "b": 9}), stream=True, whole=True)
    monkeypatch.setattr("vitlib.data.stream.decode_fully", decode_fully)  # the workers are forked
    with pytest.raises(ValueError, match=r"a/0.png can't be read now: OSError: .*output error"):
        read_all(data.train)


def test_sizes_that_differ_need_img_size(tmp_path, monkeypatch):
    monkeypatch.setattr("vitlib.data.stream._SAMPLE", 2)
    root = make_folder(tmp_path / "pets", {"a": 9, "b": 9})
    data = load_data(root, stream=True, whole=True)
    noise(1, (14, 12)).save(root / "b" / "99.png")
    data = load_data(root, stream=True, whole=True)
    with pytest.raises(ValueError, match=r"b/99.png is 14×12, others are 12×12 .*Pass img_size"):
        read_all(data.train)
    assert len(read_all(load_data(root, 12, stream=True, whole=True).train)[0]) == 19


def test_fingerprints_know_names_and_sizes(tmp_path):
    root = make_folder(tmp_path / "pets", {"a": 5, "b": 5})
    first = load_data(root, stream=True, whole=True).train.fingerprints()
    assert len(first.unique()) == 10
    assert torch.equal(load_data(root, stream=True, whole=True).train.fingerprints(), first)
    noise(77, (12, 13)).save(root / "a" / "3.png")
    os.utime(root / "a" / "1.png")  # as after copying: no other picture
    changed = load_data(root, 12, stream=True, whole=True).train.fingerprints() != first
    assert changed.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [([0, 1, -1], NAMES, "label -1 in row 2 of 'train'"), ([], NAMES, "has no rows")],
)
def test_missing_labels_and_rows_are_refused_at_once(tmp_path, labels, names, message):
    parquet(tmp_path)
    for path in tmp_path.glob("train*"):
        path.unlink()
    write(table(labels, names), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_data(tmp_path, stream=True)


def test_shards_of_other_columns_and_broken_ones_are_refused(tmp_path):
    parquet(tmp_path)
    write(table([0, 1], NAMES, image="picture"), tmp_path / "train-00003-of-00003.parquet")
    with pytest.raises(ValueError, match=r"train-00003-of-00003.parquet have different columns"):
        load_data(tmp_path, stream=True)
    (tmp_path / "train-00003-of-00003.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"train-00003-of-00003.parquet can't be read as parquet"):
        load_data(tmp_path, stream=True)


def test_what_is_in_memory_anyway_is_not_streamed():
    with pytest.raises(ValueError, match="mnist5k fits into memory and cannot be streamed"):
        load_data("mnist5k", stream=True)


def test_what_needs_images_in_memory_says_so(tmp_path):
    data = load_data(make_folder(tmp_path / "pets", {"a": 5, "b": 5}), stream=True)
    with pytest.raises(ValueError, match="extract_features takes images in memory"):
        extract_features(tiny_model(img_size=12, in_chans=3), data.train)
    with pytest.raises(ValueError, match="PartlyLabelled takes images in memory"):
        PartlyLabelled(data.train, data.train)


# The Hub


@pytest.fixture
def hub_of_files(monkeypatch, tmp_path):
    """`datasets` as it is, but owner/name is a folder here."""
    build = datasets.load_dataset_builder

    def load_dataset_builder(name: str):
        if not (tmp_path / name).exists():
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub")
        return build(str(tmp_path / name), cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    monkeypatch.chdir(tmp_path.parent)
    return tmp_path


def test_a_hub_data_set_is_streamed_from_its_parquet_files(hub_of_files):
    parquet(hub_of_files / "owner" / "birds")
    data = load_data("owner/birds", stream=True)
    assert data.summary().startswith("owner/birds: 120 training and 3 test images, 12×12, 3 ch")
    assert "training images from train, test images from test" in data.notes
    assert data.classes == tuple(NAMES)
    here = load_data(hub_of_files / "owner" / "birds")
    assert torch.equal(read_all(data.train)[0], here.train.images.float() / 255)
    with pytest.raises(ValueError, match=r"data set of that name can't be reached"):
        load_data("owner/fish", stream=True)


def test_a_hub_data_set_in_other_files_is_refused(hub_of_files):
    make_folders(hub_of_files / "owner" / "birds", {"train/owl": 2, "train/emu": 2})
    with pytest.raises(ValueError, match="'owner/birds' is not stored as parquet files"):
        load_data("owner/birds", stream=True)


def test_row_groups_are_read_from_any_file_system(tmp_path):
    files = parquet(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put_file(str(files / "test.parquet"), "/far/test.parquet")
    near, far = (
        TableRows("test", [open_shard(place)], "image")
        for place in (str(files / "test.parquet"), "memory://far/test.parquet")
    )
    ((mine,), (other,)) = (list(rows.read([torch.arange(3)])) for rows in (near, far))
    assert mine == other
    assert torch.equal(near.fingerprints(), far.fingerprints())
