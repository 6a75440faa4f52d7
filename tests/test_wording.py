"""What error messages share: guesses at what was meant, lists that stay short, refused counts."""

import re

import numpy as np
import pytest

from vitlib.wording import check_count, did_you_mean, first_few

KNOWN = ("vit_nano_patch7_28", "vit_micro_patch4_32", "deit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("vit_nano_patch7", KNOWN[0]), ("vit_mikro_patch4_32", KNOWN[1]), ("deit_tiny", KNOWN[2])],
)
def test_the_nearest_name_is_asked_for(name, nearest):
    assert did_you_mean(name, KNOWN) == f"Did you mean '{nearest}'?"
    assert did_you_mean(name, iter(KNOWN), "See list_models()") == f"Did you mean '{nearest}'?"


def test_where_nothing_is_near_another_way_out_is_said():
    assert did_you_mean("resnet50", KNOWN) == ""
    assert did_you_mean("resnet50", KNOWN, "See list_models()") == "See list_models()"
    assert did_you_mean("vit_nano_patch7", [], "There are none") == "There are none"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, ""),
        (1, "n0"),
        (6, "n0, n1, n2, n3, n4, n5"),
        (7, "n0, n1, n2, n3, n4, n5 and 1 more"),
        (100, "n0, n1, n2, n3, n4, n5 and 94 more"),
    ],
)
def test_six_names_are_listed_and_the_others_counted(count, expected):
    names = [f"n{k}" for k in range(count)]
    assert first_few(names) == first_few(tuple(names)) == expected


def test_how_many_and_what_stands_between_them_can_be_chosen():
    assert first_few("abcd", 2) == "a, b and 2 more"
    assert first_few("abcd", 4) == "a, b, c, d"
    assert first_few("abc", 2, "; ") == "a; b and 1 more"


def test_names_that_hold_commas_are_parted_by_semicolons():
    assert first_few(["a (1, 2)", "b"]) == "a (1, 2); b"
    assert first_few(["a", "b", "c (1, 2)"], 1) == "a and 2 more"


@pytest.mark.parametrize("value", [1, 7, True, np.int64(3)])
def test_counts_from_1_on_pass(value):
    check_count("depth", value)


def test_other_counts_are_refused_with_the_bound_and_the_value():
    check_count("depth", 0, least=0)
    for value, least, message in [
        (0, 1, "depth must be at least 1, got 0"),
        (-1, 0, "depth must be at least 0, got -1"),
        (4.0, 1, "depth must be a whole number, got 4.0"),
        ("4", 1, "depth must be a whole number, got '4'"),
        (None, 1, "depth must be a whole number, got None"),
    ]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check_count("depth", value, least)
