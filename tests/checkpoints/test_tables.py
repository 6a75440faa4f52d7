"""The tables of names: each name fits one row, and each row leads to a name of the model."""

import itertools
import re

import pytest
from checkpoints.spellings import timm_names

from vitlib.checkpoints.tables import DIALECTS, compiled, table_of

EVERY_TABLE = {
    **DIALECTS,
    "hf, one head and a distillation token": table_of("hf", ["classifier.weight"]),
    "hf, pooler": table_of("hf", []),
    "hf, two heads": table_of("hf", ["cls_classifier.bias", "distillation_classifier.bias"]),
}


def expand(pattern):
    """Every name that a pattern stands for, with some block numbers."""
    places = re.findall(r"\{[^}]*\}", pattern)
    words = {"{i}": ("0", "11"), "{p}": ("weight", "bias"), "{*}": ("", "x", "0.x.weight")}
    for choice in itertools.product(*(words.get(p, re.split(r"[|+]", p[1:-1])) for p in places)):
        name = pattern
        for place, word in zip(places, choice, strict=True):
            name = name.replace(place, word, 1)
        yield name


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_no_name_fits_two_rows(table):
    dialect = EVERY_TABLE[table]
    patterns = [*(row.pattern for row in dialect.rows), *dialect.left_out, *dialect.refused]
    for pattern in patterns:
        for name in expand(pattern):
            assert [p for p in patterns if compiled(p).fullmatch(name)] == [pattern], name


@pytest.mark.parametrize("table", EVERY_TABLE)
def test_rows_lead_to_names_of_the_model(table):
    options = [
        {"distilled": True, "init_values": 0.1, "reg_tokens": 1},
        {"representation_size": 7},
        {"global_pool": "avg"},
    ]
    known = {re.sub(r"\d+", "11", name) for o in options for name in timm_names(**o)}
    known = {re.sub(r"(norm|ls|fc)11", r"\1#", name) for name in known}
    for row in EVERY_TABLE[table].rows:
        for name in expand(row.target):
            name = re.sub(r"(norm|ls|fc)\d", r"\1#", name).replace("blocks.0.", "blocks.11.")
            assert name in known, f"{name}: add the option that makes it to `options` above"


def test_patterns_fit_whole_names_only():
    for name in ("x.head.weight", "head.weight.x", "head.weights", "headxweight"):
        assert not compiled("head.{p}").fullmatch(name)
