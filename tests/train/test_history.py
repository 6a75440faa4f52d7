"""TrainConfig and History: what no run can use, JSON and back, a figure."""

import json
import math
from dataclasses import replace
from inspect import unwrap

import pytest
from train.tiny import SHORT, tiny_data, tiny_model

from vitlib.plots import plot_history, smooth
from vitlib.train import History, TrainConfig, fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        ({"lr": math.nan}, "lr must be above 0, got nan"),
        ({"lr": 1e-6}, r"min_lr must be between 0 and lr \(1e-06\), got 1e-05"),
        ({"warmup_steps": -3}, "warmup_steps must be 0 or more, got -3"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63, got 9223372036854775808"),
        (
            {"augment": "afine"},
            "augment must be one of none, affine, handwriting, flip_crop, randaugment, got",
        ),
        ({"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1"),
        ({"val_fraction": 1.0}, "val_fraction must be from 0 to below 1"),
        ({"ema_decay": 1.0}, "ema_decay must be from 0 to below 1, or None"),
        ({"clip_grad": 0.0}, r"clip_grad must be above 0, or None, got 0\.0"),
        ({"amp": "fp8"}, "'auto', 'bf16' or 'off', got 'fp8'"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
    ],
)
def test_settings_that_no_run_can_use(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999)])
def test_betas_are_two(betas):
    settings = object.__new__(TrainConfig)
    with pytest.raises(ValueError, match="betas must be two numbers from 0 to below 1, got"):
        unwrap(TrainConfig.__init__)(settings, betas=betas)  # beartype would stop it before


def test_history_survives_json(tmp_path):
    history = fit(tiny_model(), tiny_data(), replace(SHORT, checkpoint=tmp_path / "x"))
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again.loss == history.loss
    assert again.config == replace(history.config, checkpoint=str(tmp_path / "x"))
    assert repr(again) == repr(history)
    assert "12 steps, loss" in repr(history)
    values = history.to_dict()
    values["config"]["warp"] = 9
    with pytest.raises(ValueError, match=r"unknown training settings warp.*newer vitlib"):
        History.from_dict(values)


def test_history_draws_itself():
    history = fit(tiny_model(), tiny_data(), SHORT)
    assert history._repr_png_().startswith(b"\x89PNG")
    loss, accuracy = history.plot().axes
    assert list(loss.lines[0].get_ydata()) == history.loss
    assert list(accuracy.lines[0].get_xdata()) == [5, 10, 12]
    bare = History(SHORT, loss=[1.0], lr=[0.1])
    assert len(plot_history(bare).axes) == 1
    assert History(SHORT)._repr_png_() is None
    assert repr(History(SHORT)) == "History(no steps yet)"
    assert smooth([2.0, 2.0, 2.0], 0.9) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1.0, 7 / 3])
