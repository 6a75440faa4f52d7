"""Splits and classes in folders: what is taken for what, what is not used, what is refused."""

import re
import shutil
from pathlib import Path

import pytest
from data.pictures import make_folders

from vitlib.data import load_data


def counts(data) -> list[list[int]]:
    """Images per class, of train and of test."""
    return [part.labels.bincount(minlength=len(data.classes)).tolist()
            for part in (data.train, data.test)]  # fmt: skip


def halves(train: str, test: str, cat: str = "cat", dog: str = "dog") -> dict[str, int]:
    return {f"{train}/{cat}": 3, f"{train}/{dog}": 4, f"{test}/{cat}": 1, f"{test}/{dog}": 2}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"), ("train_images", "test_images"), ("train_data", "val_data"),
        ("Training", "Testing"), ("trainset", "TestSet"), ("TRAIN", "dev"), ("train", "eval"),
        ("train", "holdout"), ("flowers_train", "flowers_valid"), ("cifar10-train", "cifar10-test"),
        ("01_train", "02_val"), ("train.v1", "validation.v1"),
        ("seg_train/seg_train", "seg_test/seg_test"), ("train/images", "test/images"),
        ("train/train", "test"),
    ],
)  # fmt: skip
def test_split_folders(tmp_path, train, test):
    data = load_data(make_folders(tmp_path, halves(train, test)))
    assert data.classes == ("cat", "dog")
    assert counts(data) == [[3, 4], [1, 2]]
    outer = [name.split("/")[0] for name in (train, test)]
    assert data.notes[0] == f"training images from {outer[0]}, test images from {outer[1]}"


def test_splits_inside_each_class(tmp_path):
    folders = {"cat/train": 3, "cat/test": 1, "cat/val": 2, "dog/train": 4, "dog/test": 2}
    data = load_data(make_folders(tmp_path, folders))
    assert data.classes == ("cat", "dog")
    assert counts(data) == [[3, 4], [1, 2]]
    assert data.notes == (
        "each class folder is divided into training and test images", "not used: val (2 pictures)",
    )  # fmt: skip
    make_folders(tmp_path, {"owl": 5})
    with pytest.raises(ValueError, match=r"divided .*: 'cat' and 'dog'; not divided: 'owl'\. Div"):
        load_data(tmp_path)


def test_pictures_beside_the_splits_of_a_class_are_refused(tmp_path):
    make_folders(tmp_path, {"cat/train": 3, "cat/test": 1, "cat": 2, "dog/train": 3, "dog/test": 2})
    match = r"'cat' and 'dog' have folders .* these lie 2 pictures, such as cat/cat0.png: move them"
    with pytest.raises(ValueError, match=match):
        load_data(tmp_path)
    for path in (tmp_path / "cat").glob("*.png"):
        path.rename(tmp_path / "cat" / "train" / path.name)
    assert counts(load_data(tmp_path)) == [[5, 3], [1, 2]]


def test_what_lies_beside_the_splits_is_said_to_be_unused(tmp_path):
    root = make_folders(tmp_path, {
        **halves("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred": 5,
        **halves("copy/train", "copy/test"), "seg_val/cat": 1, "seg_val/dog": 1,
    })  # fmt: skip
    with pytest.warns(UserWarning, match="not used") as record:
        data = load_data(root)
    assert counts(data) == [[3, 4], [1, 2]]
    said = [str(warning.message) for warning in record]
    assert said == ["not used: copy (10 pictures)", "not used: seg_pred (5 pictures)"]
    assert data.warned == tuple(said)
    assert data.summary().splitlines()[-2:] == said
    assert "seg_pred" not in data.summary(warned=False)
    assert "not used: seg_val (2 pictures)" in data.notes


def test_loose_pictures_beside_class_folders_are_said_to_be_unused(tmp_path):
    make_folders(tmp_path, {".": 1, "train": 2, **halves("train", "test")})
    with pytest.warns(UserWarning, match=r"pictures in no class folder, 3: \S+.png, train/") as _:
        assert counts(load_data(tmp_path)) == [[3, 4], [1, 2]]


def test_an_empty_test_folder_is_said_to_be_unused(tmp_path):
    make_folders(tmp_path, {"train/cat": 5, "train/dog": 5})
    (tmp_path / "test").mkdir()
    with pytest.warns(UserWarning, match=r"not used: test \(0 pictures\)"):
        data = load_data(tmp_path)
    assert counts(data) == [[4, 4], [1, 1]]
    assert "there is no test set: a fifth of each class is kept back as one" in data.notes


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"other/cat": 3, "other/dog": 3}, r"'other' has the same classes.* rename it to 'test'"),
        ({"plane": 3}, "a folder 'train', the name of a split, and beside it is 'plane'"),
        ({"plane/jet": 3, "plane/glider": 3}, "beside it is 'plane'. If 'train' is a split"),
    ],
)
def test_one_split_beside_another_folder_may_be_a_class(tmp_path, beside, said):
    root = make_folders(tmp_path / "a", {"train/cat": 5, "train/dog": 10, **beside})
    with pytest.raises(ValueError, match=said):
        load_data(root)
    (other,) = {name.split("/")[0] for name in beside}
    # The three ways out: the path of the split, the rest moved away, or another name for the class.
    assert load_data(root / "train").classes == ("cat", "dog")
    if other == "other":
        (root / other).rename(root / "test")
        assert counts(load_data(root)) == [[5, 10], [3, 3]]
    else:
        shutil.copytree(root, tmp_path / "b")
        (tmp_path / "b" / "train").rename(tmp_path / "b" / "trains")
        assert load_data(tmp_path / "b").classes == (other, "trains")
        shutil.rmtree(root / other)
        assert load_data(root).classes == ("cat", "dog")


def test_a_test_set_beside_a_training_set_of_an_unknown_name(tmp_path):
    make_folders(tmp_path, halves("Trainning", "Testing"))
    with pytest.raises(ValueError, match="If that is the training set, rename it to 'train'"):
        load_data(tmp_path)
    (tmp_path / "Trainning").rename(tmp_path / "train")
    assert counts(load_data(tmp_path)) == [[3, 4], [1, 2]]


def test_a_class_may_have_a_splits_word_in_its_name(tmp_path):
    names = ("train_station", "bus_stop", "test_tube")
    data = load_data(make_folders(tmp_path / "a", dict.fromkeys(names, 5)))
    assert data.classes == ("bus_stop", "test_tube", "train_station")
    inner = {f"{name}/{inner}": 3 for name, inner in zip(names, "xyz", strict=True)}
    data = load_data(make_folders(tmp_path / "b", inner))
    assert data.classes == ("bus_stop", "test_tube", "train_station")
    assert data.notes[0] == (
        "pictures in inner folders belong to the outer class: bus_stop/y, test_tube/z, "
        "train_station/x"
    )


def test_splits_without_class_folders_are_refused(tmp_path):
    root = make_folders(tmp_path, {"train": 5, "test1": 5})
    with pytest.raises(ValueError, match=r"'test1' and 'train' of .* are names of splits, but"):
        load_data(root)
    for name in ("train", "test1"):  # the advice: a folder for each class in each
        for k, path in enumerate(sorted((root / name).iterdir())):
            folder = root / name / ("cat" if k % 2 else "dog")
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
    assert counts(load_data(root)) == [[2, 3], [2, 3]]


def test_a_test_set_in_a_folder_of_its_own_name_has_no_labels(tmp_path):
    make_folders(tmp_path, {"train/cat": 2, "train/dog": 2, "test/test": 3})
    with pytest.raises(ValueError, match="test has no class folders, so its images have no labels"):
        load_data(tmp_path)


def test_several_training_sets_are_refused(tmp_path):
    make_folders(tmp_path, {**halves("train", "test"), "train_aug/cat": 2, "train_aug/dog": 2})
    with pytest.raises(ValueError, match="'train' and 'train_aug', which all look like training"):
        load_data(tmp_path)
    shutil.rmtree(tmp_path / "train_aug")
    assert counts(load_data(tmp_path)) == [[3, 4], [1, 2]]


def test_a_test_set_alone_is_evaluated_by_its_own_path(tmp_path):
    make_folders(tmp_path, {"test/cat": 2, "test/dog": 1})
    with pytest.raises(ValueError, match=r"no folder 'train'.* give the path of 'test'"):
        load_data(tmp_path, whole=True)
    assert len(load_data(tmp_path / "test", whole=True).test) == 3


def test_empty_and_missing_classes_of_a_split_are_refused(tmp_path):
    make_folders(tmp_path, halves("train", "test"))
    shutil.rmtree(tmp_path / "test" / "dog")
    with pytest.raises(ValueError, match=r"test should hold .* at least two, but has only 'cat'"):
        load_data(tmp_path)
    make_folders(tmp_path, {"test/owl": 1})
    match = "only in train: dog; only in test: owl. Both need the same: add what is missing"
    with pytest.raises(ValueError, match=match):
        load_data(tmp_path)
    (tmp_path / "test" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*dog holds no image that can be read"):
        load_data(tmp_path)


def test_folders_with_the_same_folders_in_them_are_pointed_at(tmp_path):
    make_folders(tmp_path, halves("2020", "2021"))
    with pytest.warns(UserWarning, match="'2020' and '2021' hold folders of the same names, cat, "):
        data = load_data(tmp_path)
    assert data.classes == ("2020", "2021")
    for old, new in (("2020", "train"), ("2021", "test")):
        (tmp_path / old).rename(tmp_path / new)
    assert counts(load_data(tmp_path)) == [[3, 4], [1, 2]]


def test_names_in_two_forms_of_unicode_are_one_class(tmp_path):
    """macOS writes é as two characters."""
    folders = {"train/caf\u00e9": 2, "train/bar": 2, "test/cafe\u0301": 1, "test/bar": 1}
    data = load_data(make_folders(tmp_path, folders))
    assert data.classes == ("bar", "caf\u00e9")
    make_folders(tmp_path, {"train/cafe\u0301": 1})
    if len(list((tmp_path / "train").iterdir())) == 3:  # a file system that keeps them apart
        with pytest.raises(ValueError, match="names that look the same"):
            load_data(tmp_path)


def test_the_folder_may_be_the_one_where_one_is(tmp_path, monkeypatch):
    make_folders(tmp_path / "pets", halves("train", "test"))
    for here, place in ((tmp_path, "pets"), (tmp_path / "pets", "."), (tmp_path / "pets", "./")):
        monkeypatch.chdir(here)
        data = load_data(place)
        assert (data.name, counts(data)) == ("pets", [[3, 4], [1, 2]])


def test_the_summary_of_many_classes_is_short(tmp_path):
    data = load_data(make_folders(tmp_path / "pets", {f"{k:02}": 2 + k % 2 for k in range(30)}))
    first, classes, spread, *_ = data.summary().splitlines()
    assert first == "pets: 45 training and 30 test images, 12×12, 3 channels, 30 classes"
    assert classes.startswith("training + test images per class: 00: 1 + 1, 01: 2 + 1, 02: 1 + 1")
    assert classes.endswith("11: 2 + 1 and 18 more")
    assert spread == "images per class: from 1 to 2"


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    root = make_folders(tmp_path, {"cat": 3, "dog/far": 3})
    scandir = __import__("os").scandir

    def refuse(path):
        if str(path).endswith("far"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(OSError, match=re.escape(f"cannot list {Path(root, 'dog', 'far')}: Perm")):
        load_data(root)
