"""Trains three of the models of train_bias.py four times as long, for 4,000 steps.

    python -m vitlib.runs.train_bias_longer

Writes bias_longer.json, for chapter 9 (record.py describes such files). In 1,000 steps, what learns
faster wins. Are the models that are behind the CNN there short of digits, or short of steps? They
learn from all 3,600 digits, with augmentation, so that a long run does not only learn the digits by
heart. The rates are chosen anew.

This takes about a quarter of an hour on two cores.
"""

from pathlib import Path

from vitlib.runs.train_bias import DIGITS, ORDERS, RECIPE, Arm, record

LOG = Path(__file__).with_name("bias_longer.json")
STEPS = 4 * RECIPE.steps
ARMS: tuple[Arm, ...] = tuple((m, DIGITS[-1], "affine", ORDERS[0]) for m in ("ViT", "Mixer", "MLP"))

if __name__ == "__main__":
    record(LOG, ARMS, STEPS)
