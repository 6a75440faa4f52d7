"""load_data: what it takes a name or path for, and what it makes of all sources alike."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures import break_files, make_folder, make_folders, noise, table, write

from vitlib.cli import main
from vitlib.data import DATA_SOURCES, load_data
from vitlib.data.load import DataSource
from vitlib.data.source import Labelled, Source


@pytest.mark.parametrize("size", [0, -3, (28, 0)])
def test_img_size_must_be_positive(size):
    with pytest.raises(ValueError, match="img_size must be a positive integer"):
        load_data("digits", img_size=size)


def test_broken_images_are_named_and_skipped(tmp_path):
    make_folder(tmp_path, {"cat": 10, "dog": 10})
    broken = break_files(tmp_path / "dog")
    with pytest.warns(UserWarning, match="5 of 25 images of .* are skipped: dog/") as record:
        data = load_data(tmp_path)
    assert sorted(data.skipped) == sorted(f"dog/{name}" for name in broken)
    assert len(data.train) + len(data.test) == 20
    assert sum(part.labels.bincount()[1] for part in (data.train, data.test)) == 10
    message = str(record[0].message)
    assert "dog/text.png (UnidentifiedImageError: cannot identify image file)" in message
    assert "truncated" in message
    assert str(tmp_path) not in message


def test_train_and_test_of_different_size_need_img_size(tmp_path):
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2}, size=(20, 20))
    make_folder(tmp_path / "test", {"cat": 2, "dog": 2}, size=(24, 20))
    with pytest.raises(ValueError, match="train images are 20×20, test images 24×20"):
        load_data(tmp_path)


def test_grey_stays_one_channel_unless_one_image_has_colour(tmp_path):
    make_folder(tmp_path / "train", {"cat": 3, "dog": 3}, mode="L")
    make_folder(tmp_path / "test", {"cat": 2, "dog": 2}, mode="L")
    grey = load_data(tmp_path)
    assert grey.train.images.shape[1] == len(grey.mean) == 1

    noise(9).save(tmp_path / "train" / "dog" / "1.png")
    mixed = load_data(tmp_path)
    assert mixed.train.images.shape[1] == mixed.test.images.shape[1] == len(mixed.mean) == 3
    assert torch.equal(mixed.train.images[:4], grey.train.images[:4].expand(-1, 3, -1, -1))
    assert torch.equal(mixed.train.images[5], grey.train.images[5].expand(3, -1, -1))
    assert (mixed.train.images[4, 0] != mixed.train.images[4, 1]).any()
    assert torch.equal(mixed.test.images, grey.test.images.expand(-1, 3, -1, -1))


def test_columns_mean_nothing_elsewhere(tmp_path):
    make_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    for place in ("mnist5k", tmp_path / "pets"):
        with pytest.raises(ValueError, match=r"takes no columns: leave out"):
            load_data(place, label_column="label")


def test_an_existing_folder_goes_before_the_hub(hub, tmp_path, monkeypatch):
    make_folder(tmp_path / "owner" / "name", {"cat": 2, "dog": 2})
    monkeypatch.chdir(tmp_path)
    assert load_data("owner/name").classes == ("cat", "dog")


def test_unknown_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"unknown data 'mnist': .*mnist5k, digits.*mean 'mnist5k'\?"
    ):
        load_data("mnist")
    with pytest.raises(ValueError, match="unknown data 'imagenet'") as caught:
        load_data("imagenet")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown data ''"):
        load_data("")
    for path in ("./pets", "my/own/pets", "~/no such folder", str(tmp_path / "pets")):
        with pytest.raises(ValueError, match=r"there is no folder .* \(looked for"):
            load_data(path)
    with pytest.raises(ValueError, match=re.escape(f"looked for {tmp_path / 'a' / 'b'}")):
        load_data(Path("a/b"))  # a Path is never a name on the Hub
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pets.zip is a file; load_data takes the folder"):
        load_data("pets.zip")


# The whole of a data set, and the words about it


def test_whole_splits_nothing_off(tmp_path):
    root = make_folders(tmp_path, {"cat": 1, "dog": 4})
    data = load_data(root, whole=True)
    assert data.train is data.test
    assert data.test.labels.bincount().tolist() == [1, 4]
    assert data.summary().splitlines() == [
        f"{root.name}: 5 images, 12×12, 3 channels, 2 classes", "images per class: cat: 1, dog: 4",
    ]  # fmt: skip
    make_folders(root, {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    for name in ("cat", "dog"):
        shutil.rmtree(root / name)
    assert len(load_data(root, whole=True).test) == 2  # a test set of its own stays one


def test_the_summary_says_what_was_found(tmp_path):
    counts = {"train/cat": 3, "train/狗🐕": 4, "test/cat": 1, "test/狗🐕": 2}
    root = make_folders(tmp_path / "pets", counts | {"val/cat": 1, "val/狗🐕": 1})
    (root / "train" / "cat" / "notes.txt").write_text("notes")
    assert load_data(root).summary() == (
        "pets: 7 training and 3 test images, 12×12, 3 channels, 2 classes\n"
        "training + test images per class: cat: 3 + 1, 狗🐕: 4 + 2\n"
        "training images from train, test images from test\n"
        "not used: val (2 pictures)\n"
        "passed over: files that are no pictures, 1: train/cat/notes.txt"
    )


# The table


@pytest.fixture
def row(monkeypatch) -> DataSource:
    """A source that vitlib does not have: random pictures, recognised by its name."""

    def read(place, size):
        images = np.stack([np.asarray(noise(k, size or (12, 12))) for k in range(20)])
        labels = np.arange(20) % 2
        return Source(Labelled(images.transpose(0, 3, 1, 2), labels, []), None, ("even", "odd"))

    row = DataSource(
        "noise", "20 random pictures, 100% noise", lambda place: place == "noise", read
    )
    for module in ("vitlib.data.load", "vitlib.data", "vitlib.cli.options"):
        monkeypatch.setattr(f"{module}.DATA_SOURCES", (*DATA_SOURCES, row))
    return row


def test_a_row_is_enough_to_load_from_a_new_source(row):
    data = load_data("noise", img_size=8)
    assert (data.name, data.classes) == ("noise", ("even", "odd"))
    assert data.train.images.shape == (16, 3, 8, 8)
    assert data.test.labels.bincount().tolist() == [2, 2]  # a fifth of each class, held out
    with pytest.raises(ValueError, match="noise takes no columns"):
        load_data("noise", label_column="label")
    with pytest.raises(ValueError, match=r"one of mnist5k, .*noise, nor .* mean 'noise'\?$"):
        load_data("nois")


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_row_is_enough_to_stand_in_the_help(row, command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for kind in (*DATA_SOURCES, row):
        assert f"{kind.name}: {kind.help}" in told


def test_a_place_is_read_by_the_first_row_that_recognises_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    write(table([0, 1]), tmp_path / "pets" / "train.parquet")
    make_folder(tmp_path / "mnist5k", {"cat": 2, "dog": 2})
    (tmp_path / "digits").mkdir()
    parquet, folders, hub = ("FOLDER", True), ("FOLDER", False), ("OWNER/NAME", True)
    for place, expected in [
        ("mnist5k", ("mnist5k", False)), ("digits", ("digits", False)), ("pets", parquet),
        ("./mnist5k", folders), ("pets/cat", folders), (Path("pets/cat"), folders),
        ("owner/name", hub), ("pets/none", hub), ("nowhere", None), (Path("a/b"), None),
    ]:  # fmt: skip
        found = [(row.name, row.has_columns) for row in DATA_SOURCES if row.recognises(place)]
        assert (found[0] if found else None) == expected, place
