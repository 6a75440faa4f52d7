"""Pictures known by their pixels: twice in a data set, or changed since a run."""

import shutil
import warnings

import pytest
import torch
from data.pictures import make_folders

from vitlib.data import load_data
from vitlib.data.contents import among, describe_changes, hash_images


def test_hashes_tell_images_apart_and_stay_the_same():
    images = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8)
    hashes = hash_images(images)
    assert hashes.dtype == torch.int64
    assert len(hashes.unique()) == 50
    assert torch.equal(hash_images(images.flip(0)).flip(0), hashes)
    assert torch.equal(hash_images(images[::2]), hashes[::2])  # not contiguous
    changed = images.clone()
    changed[7, 2, 5, 4] ^= 1  # one bit
    assert (hash_images(changed) != hashes).nonzero().tolist() == [[7]]
    assert not among(hash_images(images.reshape(50, 3, 5, 6)), hashes).any()  # another shape
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert hash_images(black).item() == 6801541461080733308  # checkpoints hold such numbers


def test_pictures_in_training_and_test_set_are_counted(tmp_path):
    root = make_folders(tmp_path, {"train/cat": 5, "train/dog": 5, "test/cat": 3, "test/dog": 3})
    for k in range(2):
        shutil.copy(
            root / "train" / "cat" / f"train-cat{k}.png", root / "test" / "cat" / f"{k}.png"
        )
    with pytest.warns(UserWarning, match="2 of 8 test images are also among the training") as said:
        load_data(root)
    assert len(said) == 1
    for k in range(2):  # the advice
        (root / "test" / "cat" / f"{k}.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_data(root)


def test_copies_in_a_plain_folder_are_counted_after_the_split(tmp_path):
    root = make_folders(tmp_path, {"cat": 5, "dog": 5})
    for k in range(5):
        shutil.copy(root / "cat" / f"cat{k}.png", root / "cat" / f"copy{k}.png")
    with pytest.warns(UserWarning, match="2 of 3 test images are also among the training images"):
        load_data(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_data(root, whole=True).test) == 15  # nothing is split, nothing leaks


def test_a_picture_in_two_classes_is_told_of(tmp_path):
    root = make_folders(tmp_path, {"train/cat": 5, "train/dog": 5, "test/cat": 1, "test/dog": 1})
    shutil.copy(root / "train" / "cat" / "train-cat0.png", root / "train" / "dog" / "same.png")
    with pytest.warns(UserWarning, match="images that are in more than one class: 1$"):
        load_data(root)


def test_changes_are_named():
    old = (torch.tensor([1, 2, 3, 4]), torch.tensor([0, 0, 1, 1]))

    def changes(images: list[int], labels: list[int]) -> str:
        return describe_changes(old, (torch.tensor(images), torch.tensor(labels)), ("cat", "dog"))

    assert changes([1, 2, 3, 4], [0, 0, 1, 1]) == ""
    changed = "its training images have changed: "
    assert changes([1, 2, 3], [0, 0, 1]) == f"{changed}1 gone (dog)"
    assert changes([1, 2, 3, 5], [0, 0, 1, 1]) == f"{changed}1 gone (dog), 1 new (dog)"
    assert changes([1, 2, 3, 4], [1, 0, 0, 1]) == f"{changed}2 with another label"
    assert changes([2, 1, 3, 4], [0, 0, 1, 1]).startswith(
        "its training images are in another order"
    )
    assert changes([1, 2, 3, 4, 4], [0, 0, 1, 1, 1]).endswith("or not as often")
