"""The recorded trainings with three kinds of positions, and what chapter 2 says of them."""

from dataclasses import replace
from statistics import mean

from runs.test_record import POSITIONS

from vitlib import TrainConfig


def test_positions_were_trained_by_the_recipe_that_fit_uses():
    assert POSITIONS["recipe"] == replace(TrainConfig(), val_fraction=0.0, progress=False).to_dict()


def test_positions_hold_three_seeds_of_each_kind():
    runs = [(run["pos_embed"], run["seed"]) for run in POSITIONS["runs"]]
    assert runs == [(kind, seed) for kind in ("learned", "sincos", "none") for seed in (0, 1, 2)]
    assert all(len(run["loss"]) == TrainConfig().steps // 50 for run in POSITIONS["runs"])


def test_having_positions_matters_more_than_which():
    accuracy = {
        kind: mean(r["test_accuracy"] for r in POSITIONS["runs"] if r["pos_embed"] == kind)
        for kind in ("learned", "sincos", "none")
    }
    assert abs(accuracy["learned"] - accuracy["sincos"]) < 0.01
    assert min(accuracy["learned"], accuracy["sincos"]) - accuracy["none"] > 0.02
