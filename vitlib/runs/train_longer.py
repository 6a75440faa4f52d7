"""Trains some of the variants of train_mistakes.py four times as long, for 1,600 steps.

    python -m vitlib.runs.train_longer

Writes longer.json, for chapter 8 (record.py describes such files). In 400 steps, what learns faster
wins. These are variants that won there or made no difference, and "nothing" beside them: is it
still so after a run as long as chapter 7's? There are two rates, of which the lower one had too few
steps before. All numbers are of the validation digits.
"""

from pathlib import Path

from vitlib.runs.train_mistakes import RECIPE, SEEDS, record

LOG = Path(__file__).with_name("longer.json")
STEPS, RATES = 4 * RECIPE.steps, (1e-3, 3e-3)
CHANGES = (
    "nothing",
    "tokens start with deviation 1",
    "patches of 14",
    "no augmentation",
    "400 digits",
    "softmax over the queries",
)

if __name__ == "__main__":
    record(LOG, [(c, lr, seed) for seed in SEEDS for lr in RATES for c in CHANGES], STEPS)
