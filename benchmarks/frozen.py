"""What it saves that `fit` computes a frozen backbone once per picture, and not once per step.

    python benchmarks/frozen.py

Two runs of `vitlib train --freeze backbone --augment none` take turns: one as `fit` is, and one in
which the whole model is computed at every step. Seconds of one thread's own time, so that other
programs hardly count, and their ratio. It grows with the number of passes over the pictures.
"""

import statistics
import time
from unittest import mock

import torch

from vitlib import ImageData, TrainConfig, create_model, fit
from vitlib.cli.finetune import freeze
from vitlib.data import ImageSet

NAME, PICTURES, BATCH, ROUNDS = "vit_tiny_patch16_224", 64, 32, 3
PASSES = (5, 20)  # over the pictures; the command's 300 steps are 48 passes over 200 pictures
EVERY_STEP = mock.patch("vitlib.train.loop.is_backbone_constant", return_value=False)


def seconds(data: ImageData, passes: int) -> float:
    torch.manual_seed(0)
    model = create_model(NAME, num_classes=len(data.classes))
    freeze(model, "backbone")
    steps = passes * PICTURES // BATCH
    config = TrainConfig(
        steps=steps, batch_size=BATCH, augment="none", val_fraction=0.0, warmup_steps=1,
        progress=False, device="cpu",
    )  # fmt: skip
    start = time.process_time()
    fit(model, data, config)
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    images = torch.randint(256, (PICTURES, 3, 224, 224), dtype=torch.uint8)
    part = ImageSet(images, torch.arange(PICTURES) % 5, (0.5,) * 3, (0.3,) * 3)
    data = ImageData("random", part, part, tuple("abcde"), part.mean, part.std)
    print(f"torch {torch.__version__}, {NAME}, {PICTURES} pictures, seconds")
    for passes in PASSES:
        once, each = [], []
        for _ in range(ROUNDS):
            once.append(seconds(data, passes))
            with EVERY_STEP:
                each.append(seconds(data, passes))
        kept, whole = statistics.median(once), statistics.median(each)
        times = f"kept {kept:6.2f}, at every step {whole:6.2f}"
        print(f"{passes:>3} passes: {times}: {whole / kept:.1f} ×")


if __name__ == "__main__":
    main()
