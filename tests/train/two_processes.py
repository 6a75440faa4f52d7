"""Runs that test_distributed.py starts as two processes, and some of them as one to compare with.

torchrun --nproc-per-node 2 two_processes.py cases FOLDER     each rank writes FOLDER/RANK.pt
torchrun --nproc-per-node 2 two_processes.py run FILE [die]   one run, in which rank 1 may die
"""

import faulthandler
import json
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from train.tiny import DROPS, RANDOM, SHORT, Teacher, tiny_data, tiny_model, weights_of

from vitlib.data import ImageSet
from vitlib.train import DistillationLoss, PartlyLabelled, TrainConfig, fit

# Without biases of the keys: softmax does not see them, so that their gradients are rounding alone,
# which AdamW makes as large as any other.
EXACT = {"qkv_bias": False}
AVERAGED = replace(SHORT, ema_decay=0.9)


@dataclass
class Case:
    config: TrainConfig = AVERAGED
    model: dict[str, Any] = field(default_factory=lambda: EXACT)
    teacher: str | None = None
    partly: bool = False

    def run(self, seed: int = 0, callbacks=(), **changes) -> dict[str, Any]:
        """Train, and return the weights and the history."""
        data = tiny_data()
        if self.partly:
            labelled, others = (data.train.subset(range(a, a + 16)) for a in (0, 16))
            data = replace(data, train=PartlyLabelled(labelled, others))
        loss = None
        if self.teacher:
            torch.manual_seed(7)
            loss = DistillationLoss(Teacher(), self.teacher)
        model = tiny_model(seed, **self.model)
        config = replace(self.config, **changes)
        history = fit(model, data, config, callbacks=callbacks, distillation=loss).to_dict()
        del history["seconds"], history["config"]
        return {"weights": weights_of(model), "history": json.dumps(history)}


# The same in one process and in two, to 1e-5.
EQUAL = {
    "plain": Case(),
    "no average": Case(replace(SHORT, ema_decay=None)),
    "in parts": Case(replace(SHORT, accumulate=2)),
    "hard teacher": Case(model=EXACT | {"distilled": True}, teacher="hard"),
    "partly labelled": Case(
        replace(SHORT, val_fraction=0.0), EXACT | {"distilled": True}, "soft", partly=True
    ),
}
DRAWING = Case(RANDOM, DROPS)


def terminate_at(step: int):
    """A callback that sends SIGTERM to the first process, as to all it would arrive there first."""

    def callback(state):
        if state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return callback


def run_cases(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    # Other weights on each: those of the first process count.
    found = {name: case.run(seed=rank) for name, case in EQUAL.items()}
    found["drawing"] = DRAWING.run(seed=rank, checkpoint=folder / "whole.safetensors")
    found["again"] = DRAWING.run(seed=3 * rank)
    parts = folder / "parts.safetensors"
    try:
        DRAWING.run(seed=rank, checkpoint=parts, callbacks=[terminate_at(7)])
    except SystemExit as stop:
        found["terminated"] = {"code": stop.code}
    found["continued"] = DRAWING.run(seed=rank + 5, checkpoint=parts)
    calls: list[int] = []
    Case().run(callbacks=[lambda state: calls.append(state.step)])
    found["calls"] = {"steps": calls}
    found["refusals"] = {}
    for name, change in {
        "batch": {"batch_size": 9},
        "parts": {"batch_size": 10, "accumulate": 2},
        "device": {"device": "cuda:1"},
    }.items():
        try:
            Case().run(**change)
        except ValueError as error:
            found["refusals"][name] = str(error)
    torch.save(found, folder / f"{rank}.pt")


class Dying(ImageSet):
    """Rank 1 is killed in step 7, as by kill -9."""

    calls = 0

    def batch(self, index):
        Dying.calls += 1
        if os.environ["RANK"] == "1" and Dying.calls == 7:
            Path(f"{sys.argv[2]}.died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(index)

    def subset(self, index):
        return Dying(*super().subset(index).__dict__.values())


def run_once(path: Path, dies: bool) -> None:
    data = tiny_data()
    if dies:
        data = replace(data, train=Dying(*data.train.__dict__.values()))
    fit(tiny_model(**DROPS), data, replace(RANDOM, checkpoint=path))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(400, exit=True)  # nothing stays behind, whatever happens
    torch.set_num_threads(1)
    command, path, *rest = sys.argv[1:]
    if command == "cases":
        run_cases(Path(path))
    else:
        run_once(Path(path), dies=bool(rest))
