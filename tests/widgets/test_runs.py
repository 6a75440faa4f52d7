"""RunsFigure in Python, and the records it reads: what they hold, and what is refused."""

import copy
import json
import math

import pytest
from building import ROOT

from vitlib.runs.record import Record
from vitlib.widgets import RunsFigure
from vitlib.widgets.figure import BadValue


def record():
    """Two settings, two seeds; at the larger rate one seed diverges, and says so."""
    runs = [
        {
            "lr": lr, "clip": clip, "seed": seed, "kept": "of no interest",
            "loss": [2.0 + seed, 1.0 + lr, 0.5], "accuracy": [0.25, 0.75],
            "test": 0.5 + lr + seed / 8, "diverged_at": None,
        }
        for lr in (0.125, 0.0625, 0.25) for clip in (None, 1.0) for seed in (0, 1)
    ]  # fmt: skip
    runs[-1] |= {"diverged_at": 13, "loss": [3.0], "accuracy": [], "test": None}
    return {
        "model": "of no interest",
        "settings": {"lr": "Learning rate", "clip": "Clipping"},
        "curves": {
            "loss": {"label": "Loss", "steps": [10, 20, 30]},
            "accuracy": {"label": "Validation accuracy", "steps": [15, 30], "percent": True},
        },
        "results": {"test": {"label": "Test accuracy", "percent": True}},
        "runs": runs,
    }


def changed(change):
    made = record()
    change(made)
    return made


def test_the_figure_holds_the_record():
    given = record()
    before = copy.deepcopy(given)
    figure = RunsFigure(given)
    assert given == before
    assert figure.settings == [
        {"key": "lr", "label": "Learning rate", "values": [0.0625, 0.125, 0.25]},
        {"key": "clip", "label": "Clipping", "values": [None, 1.0]},
    ]
    assert [curve["steps"] for curve in figure.curves] == [[10, 20, 30], [15, 30]]
    for run, theirs in zip(figure.runs, given["runs"], strict=True):
        assert run["settings"] == {"lr": theirs["lr"], "clip": theirs["clip"]}
        assert run["curves"] == {"loss": theirs["loss"], "accuracy": theirs["accuracy"]}
        assert run["results"] == {"test": theirs["test"]}
    assert [run["diverged"] for run in figure.runs] == [None] * 11 + ["at step 13"]
    assert figure.chosen == {"lr": 0.125, "clip": None}
    assert (figure.curve, figure.step) == ("loss", 30)


def test_what_was_chosen_fills_up_from_the_first_run():
    figure = RunsFigure(record(), chosen={"lr": 0.25}, curve="accuracy", step=12)
    assert figure.chosen == {"lr": 0.25, "clip": None}
    assert (figure.curve, figure.step) == ("accuracy", 12)


@pytest.mark.parametrize("broken", [math.nan, math.inf, None])
def test_a_run_whose_numbers_end_diverged(broken):
    given = changed(lambda r: r["runs"][2].update(loss=[2.0, broken, 1.0], test=broken))
    run = RunsFigure(given).runs[2]
    assert run["diverged"] == "by step 20"
    assert run["curves"] == {"loss": [2.0], "accuracy": [0.25, 0.75]}
    assert run["results"] == {"test": None}


def test_words_tell_every_result():
    figure = RunsFigure(record())
    assert figure.alt.startswith("12 recorded training runs, which differ in Learning rate and Cl")
    assert "Learning rate 0.25, Clipping none, seed 1: Test accuracy 87.5 %." in figure.alt
    assert "Learning rate 0.25, Clipping 1.0, seed 1: diverged at step 13." in figure.alt


@pytest.mark.parametrize("name", ["positions", "learning_rates"])
def test_packaged_records(name):
    figure = RunsFigure(name)
    raw = json.loads((ROOT / f"vitlib/runs/{name}.json").read_text())
    assert [run["curves"]["loss"] for run in figure.runs] == [run["loss"] for run in raw["runs"]]
    assert len(figure.to_html()) < 120_000


def test_a_record_may_be_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(record()))
    assert RunsFigure(path).runs == RunsFigure(str(path)).runs == RunsFigure(record()).runs


def test_equal_figures_give_equal_html_that_needs_no_kernel():
    data, _ = RunsFigure(record())._repr_mimebundle_()
    assert data["text/html"] == RunsFigure(record()).to_html()
    assert "12 recorded training runs" in data["text/html"]
    assert "NaN" not in data["text/html"].split("standIn({")[1]


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("chosen", {"lr": 0.125}, "chosen must hold the settings lr, clip"),
        ("chosen", {"lr": 0.125, "clip": None, "seed": 0}, "chosen must hold"),
        ("chosen", {"lr": 0.1, "clip": None}, "lr must be one of 0.0625, 0.125, 0.25: got 0.1"),
        ("curve", "los", "curve must be one of loss, accuracy: got 'los'"),
        ("step", 31, "step must be from 0 to 30: got 31"),
        ("step", -1, "step must be from 0 to 30: got -1"),
    ],
)
def test_values_that_the_record_lacks_are_refused(trait, value, message):
    figure = RunsFigure(record())
    before = getattr(figure, trait)
    with pytest.raises(BadValue, match=message):
        setattr(figure, trait, value)
    assert getattr(figure, trait) == before


def test_values_that_the_record_lacks_are_refused_from_the_start(unchecked):
    with pytest.raises(ValueError, match="lr must be one of"):
        RunsFigure(record(), chosen={"lr": 0.1})
    with pytest.raises(ValueError, match="chosen must hold the settings lr, clip"):
        RunsFigure(record(), chosen={"seed": 0})
    with pytest.raises(ValueError, match=r"chosen must be a mapping, .*: got \[0.1\]"):
        RunsFigure(record(), chosen=[0.1])
    with pytest.raises(ValueError, match="curve must be one of"):
        RunsFigure(record(), curve="los")
    with pytest.raises(ValueError, match="step must be from 0 to 30"):
        RunsFigure(record(), step=31)


def drop(*path):
    def change(made):
        *parents, last = path
        for parent in parents:
            made = made[parent]
        del made[last]

    return changed(change)


def put(value, *path):
    def change(made):
        *parents, last = path
        for parent in parents:
            made = made[parent]
        made[last] = value

    return changed(change)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (drop("settings"), "needs 'settings', a mapping"),
        (drop("results"), "needs 'results'"),
        (put([], "runs"), "'runs', a list of at least one"),
        (put({}, "curves"), "no curves"),
        (put({"steps": [1]}, "curves", "loss"), "'loss' must be described"),
        (drop("curves", "loss", "steps"), "'loss' needs 'steps'"),
        (put([10, 10, 20], "curves", "loss", "steps"), "increasing whole numbers"),
        (put([10, 20, 30.5], "curves", "loss", "steps"), "increasing whole numbers"),
        (put("cube", "curves", "loss", "scale"), "must be linear or log, got 'cube'"),
        (put("Accuracy", "results", "test"), "'test' must be described"),
        (put([1], "runs", 3), "run 3 is a list"),
        (drop("runs", 3, "lr"), "run 3 lacks lr: all runs must have the same"),
        (drop("runs", 3, "test"), "run 3 lacks test"),
        (put([1], "runs", 3, "lr"), "run 3: lr must be a number, text"),
        (put(math.nan, "runs", 3, "lr"), "run 3: lr must be a number, text"),
        (put([1.0, 2.0], "runs", 3, "loss"), "run 3 has 2 values of loss, for 3 steps"),
        (put([1.0] * 4, "runs", 11, "loss"), "run 11 has 4 values of loss, for 3 steps"),
        (put(2.0, "runs", 3, "loss"), "run 3: loss must be a list, got float"),
        (put([1.0, "x", 2.0], "runs", 3, "loss"), "run 3: loss must hold numbers, got 'x'"),
        (put(None, "runs", 3, "test"), "run 3: test must be a number in a run that did not"),
        (put("x", "runs", 11, "test"), "run 11: test must be a number"),
        (put(0, "runs", 3, "seed"), "runs 2 and 3 have the same settings and seed 0"),
        ([1], "expected a record, its name or its path, got list"),
        ("position", "there is no record 'position': neither a file, nor one of .*positions"),
    ],
)
def test_what_is_no_record_is_refused(unchecked, given, message):
    with pytest.raises(ValueError, match=message):
        RunsFigure(given)


def test_a_log_scale_wants_values_above_0():
    given = put("log", "curves", "accuracy", "scale")
    assert Record(given).curves[1]["scale"] == "log"
    given["runs"][0]["accuracy"] = [0.0, 0.5]
    with pytest.raises(ValueError, match="accuracy has values of 0 or less"):
        Record(given)


def test_files_that_hold_no_record_are_refused(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        RunsFigure(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list"):
        RunsFigure(tmp_path / "list.json")


def test_curves_too_long_for_a_page_are_refused():
    given = record()
    steps = list(range(1, 2001))
    given["curves"] = {"loss": {"label": "Loss", "steps": steps}}
    for run in given["runs"]:
        run["loss"] = [1.0] * len(steps)
    with pytest.raises(ValueError, match="24,000 numbers, more than the 20,000"):
        RunsFigure(given)
