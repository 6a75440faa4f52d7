"""RunsFigure: recorded training runs, chosen by their settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traitlets import Dict, Int, List, Unicode, validate

from vitlib.runs.record import Record
from vitlib.widgets.figure import BadValue, Figure, check_choice

_MAX_NUMBERS = 20_000  # in all curves together, about 120 kB in a page


class RunsFigure(Figure, script="runs.js"):
    """Choose the settings of a recorded experiment: its curve, among those of all other runs.

    Several seeds of the same settings are drawn as thin lines, with their mean. A run that diverged
    is drawn up to that step, marked with a cross, and named. The numbers are those of the record.

    Args:
        runs: a record as vitlib/runs/record.py describes it, its name ("positions",
            "learning_rates"), or the path of its JSON file.
        chosen: the value of each setting; for those left out, the first run's.
        curve: the curve to show; None means the first.
        step: where to read it; None means the last step.
        title: what a screen reader calls the figure.

    Raises ValueError for anything but a record, for one whose runs do not have the same settings,
    curves and results or that is too large for a page, and for settings, curves and steps that it
    does not have.
    """

    settings = List(Dict(), help="[{key, label, values}]").tag(sync=True)
    curves = List(Dict(), help="[{key, label, steps, percent, scale}]").tag(sync=True)
    results = List(Dict(), help="[{key, label, percent}]").tag(sync=True)
    runs = List(Dict(), help="[{settings, seed, curves, results, diverged}]").tag(sync=True)
    chosen = Dict(help="the value of each setting").tag(sync=True)
    curve = Unicode().tag(sync=True)
    step = Int(help="the curve is read at its recorded step nearest to this one").tag(sync=True)

    def __init__(
        self,
        runs: str | Path | Mapping[str, Any],
        chosen: Mapping[str, Any] | None = None,
        curve: str | None = None,
        step: int | None = None,
        title: str = "Recorded training runs",
    ):
        record = Record(runs)
        numbers = sum(len(line) for run in record.runs for line in run["curves"].values())
        if numbers > _MAX_NUMBERS:
            raise ValueError(
                f"the curves hold {numbers:,} numbers, more than the {_MAX_NUMBERS:,} that a page "
                "should carry: record the mean of every so many steps"
            )
        super().__init__(
            title=title,
            alt=record.describe(),
            settings=record.settings,
            curves=record.curves,
            results=record.results,
            runs=record.runs,
        )
        if not isinstance(chosen, Mapping | None):
            raise BadValue(f"chosen must be a mapping, setting: value: got {chosen!r}")
        self.chosen = {**record.runs[0]["settings"], **(chosen or {})}
        self.curve = self.curves[0]["key"] if curve is None else curve
        self.step = self._last_step if step is None else step

    @property
    def _last_step(self) -> int:
        return max(curve["steps"][-1] for curve in self.curves)

    @validate("chosen")
    def _check_chosen(self, proposal: Any) -> dict[str, Any]:
        keys = [setting["key"] for setting in self.settings]
        if set(proposal.value) != set(keys):
            raise BadValue(
                f"chosen must hold the settings {', '.join(keys)}: got {list(proposal.value)}"
            )
        for setting in self.settings:
            check_choice(setting["key"], proposal.value[setting["key"]], setting["values"])
        return proposal.value

    @validate("curve")
    def _check_curve(self, proposal: Any) -> str:
        return check_choice("curve", proposal.value, [curve["key"] for curve in self.curves])

    @validate("step")
    def _check_step(self, proposal: Any) -> int:
        if not 0 <= proposal.value <= self._last_step:
            raise BadValue(f"step must be from 0 to {self._last_step}: got {proposal.value}")
        return proposal.value
