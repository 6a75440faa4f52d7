"""The recorded trainings of five kinds of blocks, and what chapter 4 says of them."""

from dataclasses import replace
from statistics import mean

import torch
from runs.test_record import read
from torch import nn

from vitlib import Block, TrainConfig
from vitlib.runs import train_blocks
from vitlib.runs.log import loss_curve
from vitlib.runs.record import Record

BLOCKS = read("blocks")


def accuracy(rule, lr, warmup_steps=0):
    """The mean over the starts; a run that diverged counts as chance."""
    wanted = {"rule": rule, "lr": lr, "warmup_steps": warmup_steps}
    runs = [run for run in BLOCKS["runs"] if wanted.items() <= run.items()]
    return mean(0.1 if run["diverged_at"] else run["val_accuracy"] for run in runs)


def test_blocks_were_trained_by_the_recipe_of_their_script():
    recipe = replace(
        TrainConfig(), steps=160, batch_size=32, warmup_steps=0, label_smoothing=0.0,
        clip_grad=None, ema_decay=None, augment="none", val_fraction=0.25, eval_every=160,
        progress=False,
    )  # fmt: skip
    assert TrainConfig.from_dict(BLOCKS["recipe"]) == train_blocks.RECIPE == recipe
    assert BLOCKS["depth"] == train_blocks.DEPTH == 12


def test_blocks_hold_three_starts_of_each_rule_at_each_rate():
    runs = [(r["rule"], r["warmup_steps"], r["lr"], r["seed"]) for r in BLOCKS["runs"]]
    rates = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    variants = [(rule, 0) for rule in train_blocks.RULES]
    variants += [("pre-norm", 40), ("post-norm", 40)]
    assert runs == [
        (*variant, lr, seed) for variant in variants for lr in rates for seed in (0, 1, 2)
    ]


def test_the_best_rates_lie_between_others_or_nothing_rises_above_the_lowest():
    for rule in train_blocks.RULES:
        best = max(train_blocks.RATES, key=lambda lr, rule=rule: accuracy(rule, lr))
        rise = accuracy(rule, best) - accuracy(rule, train_blocks.RATES[0])
        assert best != train_blocks.RATES[-1]
        assert best != train_blocks.RATES[0] or rise < 0.02
        assert (rise > 0.1) == (rule in ("pre-norm", "neither"))


def test_pre_norm_bears_larger_rates_and_is_no_better_at_small_ones():
    assert abs(accuracy("pre-norm", 1e-4) - accuracy("post-norm", 1e-4)) < 0.03
    for rule, warmup_steps in train_blocks.VARIANTS:
        if rule != "pre-norm":
            best = max(accuracy(rule, lr, warmup_steps) for lr in train_blocks.RATES)
            assert accuracy("pre-norm", 1e-3) > best + 0.1
    assert accuracy("post-norm", 3e-3) < 0.12 < accuracy("pre-norm", 1e-2)


def test_rules_are_what_their_names_say():
    torch.manual_seed(0)
    block, x = Block(12, 3), torch.randn(2, 5, 12)
    rules = train_blocks.RULES
    torch.testing.assert_close(rules["pre-norm"](block, x), block(x))
    post = rules["post-norm"](block, x)
    torch.testing.assert_close(post.mean(dim=-1), torch.zeros(2, 5), atol=1e-6, rtol=0)
    block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    torch.testing.assert_close(rules["residuals only"](block, x), rules["pre-norm"](block, x))
    torch.testing.assert_close(rules["neither"](block, x), rules["norms only"](block, x))


def test_a_run_that_breaks_off_is_recorded_as_far_as_it_came(monkeypatch):
    """The learning rate is infinite from the second step on."""
    recipe = replace(train_blocks.RECIPE, steps=4, eval_every=4, batch_size=8)
    monkeypatch.setattr(train_blocks, "RECIPE", recipe)
    monkeypatch.setattr(train_blocks, "WINDOW", 1)
    monkeypatch.setattr(train_blocks, "DEPTH", 2)
    run = train_blocks.run("post-norm", warmup_steps=0, lr=1e30, seed=0)
    assert run["diverged_at"] == len(run["loss"]) + 1
    assert run["val_accuracy"] is None


def test_blocks_are_a_record_in_which_only_rules_without_norms_diverge():
    record = Record("blocks")
    diverged = {run["settings"]["rule"] for run in record.runs if run["diverged"]}
    assert diverged == {"residuals only", "neither"}
    assert BLOCKS["curves"] == loss_curve(train_blocks.RECIPE.steps, train_blocks.WINDOW)
