"""Parquet files and the Hub: splits, columns and labels, through load_data."""

import logging
import sys

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from data.pictures import noise, table, write

from vitlib.data import load_data

# Parquet files -----------------------------------------------------------------------------------


def test_parquet_folder_with_class_names(tmp_path):
    write(table([0, 1, 2, 1], ["owl", "cat", "emu"]), tmp_path / "train-00000-of-00002.parquet")
    write(table([2], ["owl", "cat", "emu"], 10), tmp_path / "train-00001-of-00002.parquet")
    write(table([1, 1], ["owl", "cat", "emu"], 20), tmp_path / "test.parquet")
    data = load_data(tmp_path)
    assert data.classes == ("owl", "cat", "emu")  # the order of the labels, not of the alphabet
    assert data.train.labels.tolist() == [0, 1, 2, 1, 2]
    assert data.test.labels.tolist() == [1, 1]
    expected = np.asarray(noise(10)).transpose(2, 0, 1)
    assert np.array_equal(data.train.images[4].numpy(), expected)


def test_parquet_without_metadata(tmp_path):
    """The schema of a file that no Hugging Face library wrote, as in the copies of CIFAR-10."""
    for part, labels in (("train", [3, 0, 10, 3]), ("val", [10])):
        rows = table(labels, image="img").with_format("arrow")[:]
        pyarrow.parquet.write_table(
            rows.replace_schema_metadata(None), tmp_path / f"{part}.parquet"
        )
    data = load_data(tmp_path, img_size=8)
    assert data.classes == ("0", "3", "10")  # what occurs, in numerical order
    assert data.train.labels.tolist() == [1, 0, 2, 1]
    assert data.test.labels.tolist() == [2]
    assert data.train.images.shape == (4, 3, 8, 8)


def test_splits_of_other_names_and_files_that_are_not_used(tmp_path):
    for k, name in enumerate(("Training-00000-of-00001", "dev", "eval_0", "extra")):
        write(table([0, 1], seed=10 * k), tmp_path / f"{name}.parquet")
    with pytest.warns(UserWarning, match="^not used: extra.parquet$"):
        data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (2, 2)
    assert data.notes == ("training images from Training, test images from eval",
                          "not used: dev.parquet")  # fmt: skip
    expected = np.asarray(noise(20)).transpose(2, 0, 1)
    assert np.array_equal(data.test.images[0].numpy(), expected)
    write(table([0, 1]), tmp_path / "train_more.parquet")
    with pytest.raises(ValueError, match="of Training, train_more, which all look like training"):
        load_data(tmp_path)


def test_labels_may_be_words(tmp_path):
    write(table(["owl", "cat", "owl"]), tmp_path / "train.parquet")
    write(table(["owl"]), tmp_path / "test.parquet")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "owl")
    assert data.train.labels.tolist() == [1, 0, 1]


def test_broken_rows_are_named_and_skipped(tmp_path):
    kind = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    whole = table([0, 1, 0, 1]).cast_column("image", datasets.Image(decode=False))["image"]
    images = [*whole, {"bytes": b"no image", "path": "x/bad.png"}, {"bytes": b"", "path": None}]
    rows = {"image": images, "label": [0, 1, 0, 1, 1, 0]}
    write(datasets.Dataset.from_dict(rows, features=kind), tmp_path / "train.parquet")
    write(table([0, 1]), tmp_path / "test.parquet")
    with pytest.warns(UserWarning, match=r"2 of 8 .*train row 4, bad.png \(.*; train row 5 \("):
        data = load_data(tmp_path)
    assert data.skipped == ("train row 4, bad.png", "train row 5")
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_what_is_missing_of_parquet_files_is_named(tmp_path):
    write(table([0, 1]), tmp_path / "train.parquet")
    with pytest.raises(
        ValueError, match=r"no test\*.parquet .or val\*.parquet., only train.parquet"
    ):
        load_data(tmp_path)
    (tmp_path / "train.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"no train\*.parquet, only test.parquet"):
        load_data(tmp_path)


def test_broken_parquet_files_are_named(tmp_path):
    write(table([0, 1]), tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    for cut in (content[:200], b""):
        (tmp_path / "test.parquet").write_bytes(cut)
        with pytest.raises(ValueError, match=r"test.parquet can't be read as parquet"):
            load_data(tmp_path)
    write(table([], image="image").rename_column("image", "img"), tmp_path / "train-1.parquet")
    with pytest.raises(
        ValueError, match=r"train-1.parquet and train.parquet have different columns"
    ):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (table([0, 1], ["a", "b"]), table([-1, -1], ["a", "b"]), "label -1 in row 0 of 'test'"),
        (table([0, 1]), table([-1, 0]), "label -1 in row 0 of 'test'"),
        (table([0, None], ["a", "b"]), table([0]), "label None in row 1 of 'train'"),
        (table([0, 1], ["a", "b"]), table([0, 2]), "label 2 in 'test' .* labels are 0 to 1"),
        (table([0, 1]), table([0, 2]), "label 2 in 'test' .* none of the 2 classes of 'train'"),
        (table([0, 1], ["a", "b"]), table([0], ["a", "c"]), "only in train: b; only in test: c"),
        (table([0, 1], ["a", "b"]), table([0], ["b", "a"]), "their order differs"),
        (table([0, 0], ["a"]), table([0], ["a"]), "at least two classes"),
        (table([0, 1]), table([]), "split 'test' of .* has no rows"),
        (table([0, 1]), table([1]).remove_columns("label"), "'test' of .* has no column label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, train, test, message):
    write(train, tmp_path / "train.parquet")
    write(test, tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path)


def test_columns_are_found_or_asked_for(tmp_path):
    def two_labels(labels: list[int]) -> datasets.Dataset:
        data = table(labels, ["a", "b"]).rename_column("label", "fine_label")
        names = datasets.ClassLabel(names=["x", "y"])
        data = data.add_column("coarse_label", [1 - label for label in labels])
        data = data.add_column("id", list(range(len(labels))))
        return data.cast_column("coarse_label", names)

    write(two_labels([0, 1, 0]), tmp_path / "train.parquet")
    write(two_labels([0, 1]), tmp_path / "test.parquet")
    wanted = (
        "which column holds the label.*several that may hold it: fine_label, coarse_label. "
        "Its columns are image, fine_label, coarse_label, id; name one with label_column"
    )
    with pytest.raises(ValueError, match=wanted):
        load_data(tmp_path)
    assert load_data(tmp_path, label_column="coarse_label").classes == ("x", "y")
    assert load_data(tmp_path, label_column="fine_label").train.labels.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"label_column 'labels' is not a column of labels"):
        load_data(tmp_path, label_column="labels")
    with pytest.raises(ValueError, match=r"image_column 'id' is not a column of images"):
        load_data(tmp_path, label_column="fine_label", image_column="id")


def test_a_table_without_images_is_refused(tmp_path):
    for part in ("train", "test"):
        write(table([0, 1]).remove_columns("image"), tmp_path / f"{part}.parquet")
    with pytest.raises(ValueError, match=r"holds the image\? .* has none. Its columns are label"):
        load_data(tmp_path)


def test_without_datasets_the_extra_is_named(tmp_path, monkeypatch):
    write(table([0, 1]), tmp_path / "train.parquet")
    write(table([0, 1]), tmp_path / "test.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for place in (tmp_path, "owner/name"):
        with pytest.raises(ImportError, match=r'pip install "vitlib\[hub\]"') as caught:
            load_data(place)
        about_a_folder = str(caught.value).startswith("there is no folder 'owner/name' here. ")
        assert about_a_folder == (place == "owner/name")


# The Hub -----------------------------------------------------------------------------------------


def test_hub_data_set(hub):
    names = ["a", "b"]
    hub["owner/birds_2.0-x"] = datasets.DatasetDict(
        validation=table([0], names), train=table([0, 1, 1, 0], names), test=table([1, 1], names, 9)
    )
    data = load_data("owner/birds_2.0-x")
    assert data.name == "owner/birds_2.0-x"
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(data.test.images[0].numpy(), np.asarray(noise(9)).transpose(2, 0, 1))


def test_hub_data_set_in_another_row_order(hub):
    data = table([0, 1, 0, 1], ["a", "b"]).select([3, 0, 1])
    hub["owner/mixed"] = datasets.DatasetDict(train=data, validation=data)
    found = load_data("owner/mixed")
    assert found.train.labels.tolist() == [1, 0, 1]
    assert np.array_equal(found.test.images[0].numpy(), np.asarray(noise(3)).transpose(2, 0, 1))


def test_hub_data_set_with_only_train_is_split(hub):
    hub["owner/one"] = datasets.DatasetDict(train=table([0] * 5 + [1] * 10))
    data = load_data("owner/one")
    assert data.test.labels.bincount().tolist() == [1, 2]
    hub["owner/none"] = datasets.DatasetDict(all=table([0, 1]))
    with pytest.raises(ValueError, match="'owner/none' has no split 'train', only all"):
        load_data("owner/none")


def test_hub_out_of_reach(hub, caplog):
    message = (
        r"no folder 'owner/name' here.*can't be reached \(ConnectionError.*download its parquet"
    )
    with pytest.raises(ValueError, match=message):
        load_data("owner/name")
    assert caplog.text == ""  # the client's retries are not announced
    logging.getLogger("huggingface_hub").warning("and afterwards others are again")
    assert "afterwards" in caplog.text
