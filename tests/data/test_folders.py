"""Folders of class folders: which layouts are read, and which are refused."""

import sys

import numpy as np
import pytest
import torch
from data.pictures import make_folder, noise, table, write
from PIL import Image

from vitlib.data import load_data


def test_folder_of_class_folders(tmp_path):
    root = make_folder(tmp_path / "pets", {"sea lion": 10, "émeu": 5, "cat": 5})
    data = load_data(root)
    assert data.classes == ("cat", "sea lion", "émeu")
    assert data.train.labels.bincount().tolist() == [4, 8, 4]
    assert data.test.labels.bincount().tolist() == [1, 2, 1]
    assert data.name == "pets"
    assert data.skipped == ()
    expected = {np.asarray(Image.open(path)).tobytes() for path in root.glob("cat/*.png")}
    found = {
        image.permute(1, 2, 0).numpy().tobytes()
        for part in (data.train, data.test)
        for image in part.images[part.labels == 0]
    }
    assert found == expected
    again = load_data(str(root))
    assert torch.equal(again.train.images, data.train.images)


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "VAL"), ("training", "valid")]
)
def test_train_and_test_folders(tmp_path, train, test):
    make_folder(tmp_path / train, {"cat": 4, "dog": 3})
    make_folder(tmp_path / test, {"cat": 1, "dog": 2})
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (7, 3)
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.mean == pytest.approx((data.train.images.double() / 255).mean((0, 2, 3)).tolist())


def test_a_test_folder_goes_before_a_validation_folder(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(tmp_path / part, {"cat": count, "dog": count})
    assert len(load_data(tmp_path).test) == 6


def test_only_a_train_folder_is_split(tmp_path):
    make_folder(tmp_path / "train", {"cat": 5, "dog": 10})
    data = load_data(tmp_path)
    assert data.test.labels.bincount().tolist() == [1, 2]


def test_a_class_may_be_called_train(tmp_path):
    make_folder(tmp_path, {"train": 5, "plane": 5})
    assert load_data(tmp_path).classes == ("plane", "train")


def test_what_is_no_image_is_passed_over(tmp_path):
    make_folder(tmp_path, {"cat": 4, "dog": 4})
    deep = tmp_path / "cat" / "2021" / "may"
    deep.mkdir(parents=True)
    noise(1).save(deep / "UPPER.JPG")
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._0.png"):
        (tmp_path / "cat" / name).write_bytes(b"no image")
    make_folder(tmp_path / ".cache", {"bird": 2})
    make_folder(tmp_path, {"__MACOSX": 2})
    noise(2).save(tmp_path / "cover.png")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.test) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_followed_and_loops_end(tmp_path):
    real = make_folder(tmp_path / "real", {"cat": 3, "dog": 3})
    root = tmp_path / "linked"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(real / name, target_is_directory=True)
    (real / "cat" / "up").symlink_to(real / "cat", target_is_directory=True)
    data = load_data(root)
    assert len(data.train) + len(data.test) == 6


def test_layouts_without_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one folder of images for each class, but has no folders"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="its 1 images are in no folder"):
        load_data(tmp_path)
    make_folder(tmp_path, {"cat": 0})
    with pytest.raises(ValueError, match="there is no image in 'cat'"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match="at least two, but has only 'cat'"):
        load_data(tmp_path)
    make_folder(tmp_path, {"dog": 0})
    with pytest.raises(ValueError, match=r"class folder .*dog holds no image"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "dog" / "a.png")
    with pytest.raises(ValueError, match="class 'cat' has 1 image, but a split needs two"):
        load_data(tmp_path)


def test_split_folders_that_do_not_match_are_refused(tmp_path):
    make_folder(tmp_path / "test", {"cat": 2, "owl": 2})
    with pytest.raises(ValueError, match="a folder 'test' but no folder 'train'"):
        load_data(tmp_path)
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    with pytest.raises(
        ValueError, match=r"different classes; only in train: dog; only in test: owl"
    ):
        load_data(tmp_path)


def test_a_test_folder_without_labels_is_refused(tmp_path):
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    make_folder(tmp_path, {"test": 3})
    with pytest.raises(ValueError, match="test has no class folders, so its images have no labels"):
        load_data(tmp_path)


def test_parquet_files_one_folder_down_are_pointed_at(tmp_path):
    write(table([0, 1]), tmp_path / "data" / "train.parquet")
    with pytest.raises(ValueError, match=r"parquet files in .*data: give that path"):
        load_data(tmp_path)
