"""Trains twelve blocks put together by five rules, at seven learning rates, three starts each.

    python -m vitlib.runs.train_blocks

Writes blocks.json, which chapter 4 shows (record.py describes such files). The rules say where the
norms stand and whether there are residual connections; the parts of the blocks, the norm before
the head, and everything else are the same. Pre-norm and post-norm are trained with a warm-up as
well. Runs are short, without augmentation and without clipping. A quarter of the training digits is
held out for validation, and the test digits are never used.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitlib import Block, TrainConfig, VisionTransformer, create_model, load_data
from vitlib.runs.diverging import fit_or_diverge
from vitlib.runs.in_parallel import one_core_each
from vitlib.runs.log import loss_curve, window_means, write_log

LOG = Path(__file__).with_name("blocks.json")
NAME, DEPTH, SEEDS = "vit_nano_patch7_28", 12, (0, 1, 2)
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
RECIPE = TrainConfig(
    steps=160, batch_size=32, warmup_steps=0, label_smoothing=0.0, clip_grad=None, ema_decay=None,
    augment="none", val_fraction=0.25, eval_every=160, progress=False,
)  # fmt: skip
WARMUP = 40  # steps
WINDOW = 20  # steps whose mean loss is one point of the curve


def pre_norm(block: Block, x: Tensor) -> Tensor:
    x = x + block.attn(block.norm1(x))
    return x + block.mlp(block.norm2(x))


def post_norm(block: Block, x: Tensor) -> Tensor:
    x = block.norm1(x + block.attn(x))
    return block.norm2(x + block.mlp(x))


def norms_only(block: Block, x: Tensor) -> Tensor:
    return block.mlp(block.norm2(block.attn(block.norm1(x))))


def residuals_only(block: Block, x: Tensor) -> Tensor:
    x = x + block.attn(x)
    return x + block.mlp(x)


def neither(block: Block, x: Tensor) -> Tensor:
    return block.mlp(block.attn(x))


Rule = Callable[[Block, Tensor], Tensor]
RULES: dict[str, Rule] = {
    "pre-norm": pre_norm,
    "post-norm": post_norm,
    "norms only": norms_only,
    "residuals only": residuals_only,
    "neither": neither,
}
VARIANTS = [(rule, 0) for rule in RULES] + [("pre-norm", WARMUP), ("post-norm", WARMUP)]


class Rewired(nn.Module):
    """A block whose parts are connected by `rule`."""

    def __init__(self, block: Block, rule: Rule):
        super().__init__()
        self.block, self.rule = block, rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self.block, x)


def build(rule: str, seed: int) -> VisionTransformer:
    """The deep model of one run."""
    torch.manual_seed(seed)
    model = create_model(NAME, depth=DEPTH)
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    model.blocks = nn.Sequential(*(Rewired(block, RULES[rule]) for block in blocks))
    return model


def run(rule: str, warmup_steps: int, lr: float, seed: int) -> dict[str, Any]:
    """Train and validate one model; return its entry in the log.

    A run that diverges is recorded up to that step.
    """
    model = build(rule, seed)
    config = replace(RECIPE, lr=lr, warmup_steps=warmup_steps, seed=seed)
    history, diverged_at = fit_or_diverge(model, load_data("mnist5k"), config)
    accuracy = None if diverged_at else round(history.val_accuracy[-1], 4)
    print(rule, warmup_steps, lr, seed, accuracy, diverged_at, flush=True)
    return {
        "rule": rule,
        "warmup_steps": warmup_steps,
        "lr": lr,
        "seed": seed,
        "val_accuracy": accuracy,
        "diverged_at": diverged_at,
        "loss": window_means(history.loss, WINDOW),
    }


if __name__ == "__main__":
    jobs = [(*variant, lr, seed) for variant in VARIANTS for lr in RATES for seed in SEEDS]
    write_log(
        LOG,
        model=NAME,
        details={"depth": DEPTH},
        recipe=RECIPE,
        settings={"rule": "Rule", "warmup_steps": "Warm-up steps", "lr": "Learning rate"},
        curves=loss_curve(RECIPE.steps, WINDOW),
        results={"val_accuracy": {"label": "Validation accuracy", "percent": True}},
        runs=one_core_each(run, jobs),
    )
