"""Which names speak of a training, a validation or a test set."""

import pytest

from vitlib.data.splits import choose_splits, parse_split


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train Train TRAIN training Training_Set trainset TrainSet train_images traindata "
         "seg_train flowers-train train_224 01_train train.v2 trn trainval train_val imagestrain "
         "train-00000-of-00002", "train"),
        ("test TEST Testing test_set testset test1 seg_test eval evaluation holdout hold-out "
         "Hold_Out heldout tst TestImages", "test"),
        ("val valid validation Validation-Set val_data dev DEV valset ValidationImages",
         "validation"),
        ("cat other trains testament latest contest value device strain unseen evaluate 2020 "
         "train_test_split @eaDir ''", None),
    ],
)  # fmt: skip
def test_names_of_splits(names, split):
    found = {name: parse_split(name) for name in names.split()}
    assert {name: got and got.split for name, got in found.items()} == dict.fromkeys(found, split)


def test_other_words_are_kept_apart():
    assert parse_split("train_images").rest == set()
    assert parse_split("train_station").rest == {"station"}
    assert parse_split("cifar10_test").rest == {"cifar"}


def test_a_test_set_goes_before_a_validation_set_and_plain_names_before_others():
    names = ["my_test", "dev", "val", "Test", "train", "eval", "cat"]
    assert choose_splits(names) == (["train"], ["Test", "my_test", "eval", "val", "dev"])
