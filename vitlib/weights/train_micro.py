"""Trains vit_micro_patch4_32 on CIFAR-10, for hours, in stages that can be stopped and continued.

    python -m vitlib.weights.train_micro DATA        # the first stage that the log does not hold
    python -m vitlib.weights.train_micro DATA test   # once, after the last stage

DATA is what `vitlib train --data` takes: a folder of parquet files, or the id of CIFAR-10 on the
Hub. Each stage is one call of `vitlib train`, with the options below. It starts from the averaged
weights of the stage before, with a fresh optimizer: the learning rate goes on where that one ended.
A stage that was interrupted continues, as long as its checkpoint is there, in a folder that git
ignores.

After a stage its averaged weights are kept in float16, and its options, validation accuracies and
time in vit_micro_patch4_32.json. The validation photos, a tenth of the training photos, are the
same in all stages; no stage learns from them. The test photos choose nothing. The last call also
writes the names of the classes into the file: some copies of the data have only their numbers.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vitlib import evaluate, load_checkpoint, load_data, save_checkpoint
from vitlib.checkpoints import read_checkpoint

NAME = "vit_micro_patch4_32"
FOLDER = Path(__file__).parent
WEIGHTS, LOG = FOLDER / f"{NAME}.safetensors", FOLDER / f"{NAME}.json"
RUNS = Path("_build") / "micro"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

SHARED: dict[str, Any] = {
    "batch-size": 128, "label-smoothing": 0.1, "augment": "randaugment", "val-fraction": 0.1,
    "amp": "bf16", "eval-every": 350, "checkpoint-every": 350,
}  # fmt: skip
# 351 steps are one pass over the 45,000 photos: 25, 15 and 40 passes. At half the size there are a
# quarter of the tokens, and a step takes a quarter of the time.
STAGES: tuple[dict[str, Any], ...] = (
    {"img-size": 16, "patch-size": 4, "steps": 8750, "lr": 1e-3, "min-lr": 7e-4,
     "warmup-steps": 500},
    {"img-size": 24, "steps": 5265, "lr": 8e-4, "min-lr": 7e-4, "warmup-steps": 200},
    {"img-size": 32, "steps": 14040, "lr": 7e-4, "min-lr": 1e-6, "warmup-steps": 200},
)  # fmt: skip


def train_next(data: str) -> None:
    """Run the next stage to its end, and keep its weights and its record."""
    log: dict[str, Any] = {"model": NAME, "stages": []}
    if LOG.exists():
        log = json.loads(LOG.read_text())
    number = len(log["stages"])
    if number == len(STAGES):
        raise SystemExit(f"all {number} stages are done: see {LOG}")
    options = SHARED | STAGES[number]
    checkpoint = RUNS / f"stage{number + 1}.safetensors"
    start = {"weights": WEIGHTS} if number else {"model": NAME}
    words = {"data": data, "out": checkpoint, **start, **options}
    command = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "vitlib", "train", *command], check=True)
    training = read_checkpoint(checkpoint).training
    assert training is not None
    history = training.info["history"]
    entry = {
        "options": options,
        "val_steps": history["val_steps"],
        "val_accuracy": [round(value, 4) for value in history["val_accuracy"]],
        "seconds": round(history["seconds"]),
    }
    save_checkpoint(load_checkpoint(checkpoint).half(), WEIGHTS, notes={"stage": number + 1})
    log["stages"].append(entry)
    LOG.write_text(json.dumps(log, indent=1) + "\n")


def test(data: str) -> None:
    """Test the kept weights, once, and name their classes."""
    log = json.loads(LOG.read_text())
    model = load_checkpoint(WEIGHTS)
    log["test_accuracy"] = round(evaluate(model, load_data(data).test).accuracy, 4)
    save_checkpoint(model.half(), WEIGHTS, classes=CLASSES, notes={"stage": len(log["stages"])})
    LOG.write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    (test if sys.argv[2:] == ["test"] else train_next)(sys.argv[1])
