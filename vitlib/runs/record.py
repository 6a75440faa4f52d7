"""A recorded experiment: several trainings that differ in a few settings, and their results.

The JSON files of this folder are such records, and so is any file or mapping with

    "settings": {"lr": "Learning rate"}          what varies, each with its label
    "curves": {"loss": {"label": "Training loss", "steps": [20, 40, 60]}}
    "results": {"test_accuracy": {"label": "Test accuracy", "percent": true}}
    "runs": [{"lr": 0.001, "seed": 0, "loss": [2.2, 1.9, 1.6],
              "test_accuracy": 0.43, "diverged_at": null}, ...]

Every run has every setting (a number, text, true, false or null), every curve (one number for each
of its steps) and every result. These are optional: a run's "seed", which numbers repetitions with
the same settings; "percent": true for shares of 1, which are shown in %; and "scale": "log" for the
axis of a curve. Other keys are ignored.

A run that diverged is marked: "diverged_at" is the step, and its curves may end before it; or its
curves contain null, NaN or infinity from there on. Its results may be null.
"""

import json
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

SCALES = ("linear", "log")


class Record:
    """A record that has been checked, as plain JSON values without NaN.

    Args:
        runs: the record itself, its name in vitlib/runs (such as "learning_rates"), or the
            path of a JSON file.

    `settings` is a list of {key, label, values}, `curves` of {key, label, steps, percent, scale},
    `results` of {key, label, percent}, and `runs` of {settings, seed, curves, results, diverged}.
    Curves end before their first value that is not a finite number; `diverged` is None or words
    such as "at step 40".

    Raises ValueError for anything but a record, and for runs that do not have the same settings,
    curves and results.
    """

    def __init__(self, runs: str | Path | Mapping[str, Any]) -> None:
        given = _load_record(runs)
        for key in ("settings", "curves", "results"):
            if not isinstance(given.get(key), Mapping):
                raise ValueError(
                    f"a record of runs needs {key!r}, a mapping: see vitlib.runs.record"
                )
        if not isinstance(given.get("runs"), list) or not given["runs"]:
            raise ValueError("a record of runs needs 'runs', a list of at least one")
        if not given["curves"]:
            raise ValueError("the record has no curves: there is nothing to draw")
        self.curves = [_read_curve(key, entry) for key, entry in given["curves"].items()]
        self.results = [_read_result(key, entry) for key, entry in given["results"].items()]
        keys = list(given["settings"])
        self.runs = [self._read_run(number, run, keys) for number, run in enumerate(given["runs"])]
        self.settings = [
            {
                "key": key,
                "label": str(label),
                "values": _distinct(run["settings"][key] for run in self.runs),
            }
            for key, label in given["settings"].items()
        ]
        self._check_repetitions()
        self._check_scales()

    def describe(self) -> str:
        """The record in words; a small one with every result."""
        varied = " and ".join(setting["label"] for setting in self.settings) or "the seed"
        words = [f"{len(self.runs)} recorded training runs, which differ in {varied}."]
        if len(self.runs) * len(self.results) <= 40:
            words += [self._describe_run(run) for run in self.runs]
        return " ".join(words)

    def _describe_run(self, run: Mapping[str, Any]) -> str:
        chosen = {k: "none" if v is None else v for k, v in run["settings"].items()}
        settings = [f"{one['label']} {chosen[one['key']]}" for one in self.settings]
        ends = [f"diverged {run['diverged']}"] if run["diverged"] else []
        for one in self.results:
            value = run["results"][one["key"]]
            if value is not None:
                number = f"{100 * value:.1f} %" if one["percent"] else f"{value:.4g}"
                ends.append(f"{one['label']} {number}")
        settings.append(f"seed {run['seed']}")
        return f"{', '.join(settings)}: {', '.join(ends) or 'no result'}."

    def _read_run(self, number: int, run: Any, settings: list[str]) -> dict[str, Any]:
        """One entry of `runs`, checked."""
        if not isinstance(run, Mapping):
            raise ValueError(f"run {number} is a {type(run).__name__}, not a mapping")
        wanted = [*settings, *(one["key"] for one in self.curves + self.results)]
        if missing := [key for key in wanted if key not in run]:
            raise ValueError(
                f"run {number} lacks {', '.join(missing)}: all runs must have the same"
            )
        for key in settings:
            if not (_is_finite(run[key]) or run[key] is None or isinstance(run[key], str | bool)):
                raise ValueError(
                    f"run {number}: {key} must be a number, text, True, False or None, "
                    f"got {run[key]!r}"
                )
        diverged_at = run.get("diverged_at")
        lines, ends = {}, []
        for curve in self.curves:
            values = run[curve["key"]]
            lines[curve["key"]], end = _read_values(number, values, curve, diverged_at)
            ends += [] if end is None else [end]
        diverged = None
        if diverged_at is not None or ends:
            diverged = f"by step {min(ends)}" if diverged_at is None else f"at step {diverged_at}"
        results = {one["key"]: run[one["key"]] for one in self.results}
        for key, value in results.items():
            if _is_finite(value):
                continue
            if diverged is None or not (value is None or isinstance(value, Real)):
                raise ValueError(
                    f"run {number}: {key} must be a number in a run that did not diverge, "
                    f"got {value!r}"
                )
            results[key] = None
        return {
            "settings": {key: run[key] for key in settings},
            "seed": run.get("seed", 0),
            "curves": lines,
            "results": results,
            "diverged": diverged,
        }

    def _check_repetitions(self) -> None:
        seen: dict[tuple[Any, ...], int] = {}
        for number, run in enumerate(self.runs):
            first = seen.setdefault((*run["settings"].values(), run["seed"]), number)
            if first != number:
                raise ValueError(
                    f"runs {first} and {number} have the same settings and seed {run['seed']}"
                )

    def _check_scales(self) -> None:
        for curve in self.curves:
            values = [value for run in self.runs for value in run["curves"][curve["key"]]]
            if curve["scale"] == "log" and min(values, default=1) <= 0:
                raise ValueError(f"{curve['key']} has values of 0 or less: its scale can't be log")


def _load_record(runs: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(runs, Mapping):
        return runs
    if not isinstance(runs, str | Path):
        raise ValueError(f"expected a record, its name or its path, got {type(runs).__name__}")
    packaged = files("vitlib") / "runs"
    names = sorted(one.name[:-5] for one in packaged.iterdir() if one.name.endswith(".json"))
    if runs in names:
        text = (packaged / f"{runs}.json").read_text("utf8")
    elif Path(runs).is_file():
        text = Path(runs).read_text("utf8")
    else:
        raise ValueError(
            f"there is no record {str(runs)!r}: neither a file, nor one of {', '.join(names)}"
        )
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{runs} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{runs} holds a {type(record).__name__}, not a record of runs")
    return record


def _read_result(key: str, entry: Any) -> dict[str, Any]:
    """One entry of `results`, checked."""
    if not isinstance(entry, Mapping) or "label" not in entry:
        raise ValueError(f"{key!r} must be described as {{'label': ...}}, got {entry!r}")
    return {"key": key, "label": str(entry["label"]), "percent": bool(entry.get("percent"))}


def _read_curve(key: str, entry: Any) -> dict[str, Any]:
    """One entry of `curves`, checked."""
    described = _read_result(key, entry)
    steps, scale = entry.get("steps"), entry.get("scale", "linear")
    are_whole = isinstance(steps, list) and steps and all(isinstance(step, int) for step in steps)
    if not are_whole or steps[0] < 0 or any(a >= b for a, b in pairwise(steps)):
        wanted = "a list of increasing whole numbers"
        raise ValueError(f"{key!r} needs 'steps', {wanted}, got {steps!r}")
    if scale not in SCALES:
        raise ValueError(f"the scale of {key!r} must be {' or '.join(SCALES)}, got {scale!r}")
    return {**described, "steps": steps, "scale": scale}


def _read_values(
    number: int, values: Any, curve: Mapping[str, Any], diverged_at: int | None
) -> tuple[list[float], int | None]:
    """A run's curve up to its first value that is not a finite number, and that one's step."""
    key, steps = curve["key"], curve["steps"]
    if not isinstance(values, list):
        raise ValueError(f"run {number}: {key} must be a list, got {type(values).__name__}")
    if len(values) > len(steps) or (len(values) < len(steps) and diverged_at is None):
        raise ValueError(
            f"run {number} has {len(values)} values of {key}, for {len(steps)} steps: a run that "
            "ended before must say 'diverged_at'"
        )
    for i, value in enumerate(values):
        if not _is_finite(value):
            if value is None or isinstance(value, Real):
                return values[:i], steps[i]
            raise ValueError(f"run {number}: {key} must hold numbers, got {value!r}")
    return values, None


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _distinct(found: Iterable[Any]) -> list[Any]:
    """Each value once: numbers in rising order, anything else in the order of appearance."""
    values = list(dict.fromkeys(found))
    return sorted(values) if all(_is_finite(value) for value in values) else values
