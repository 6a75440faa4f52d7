"""What `fit` adds to a model's bare step, and what its options save.

    python benchmarks/training.py [device]

Milliseconds for each step of 100 images: the bare step (forward, backward, AdamW on a batch that is
there already), `fit` without augmentation, averages and clipping, and `fit` with an option. "×" is
the time as a multiple of the bare step's. Variants take turns for some rounds; each number is the
median over all steps but the first ones of a round, in which a compiled model is still compiled.

On a CPU this is one thread and its own time, so that other programs hardly count; on a GPU it is
the time that passes.
"""

import statistics
import sys
import time
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F

from vitlib import ImageData, TrainConfig, create_model, fit
from vitlib.data import ImageSet
from vitlib.train import param_groups

NAMES = ("vit_nano_patch7_28", "vit_micro_patch4_32")
BATCH, STEPS, WARM_UP, ROUNDS = 100, 12, 4, 4
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
PLAIN = TrainConfig(
    steps=STEPS, batch_size=BATCH, augment="none", ema_decay=None, val_fraction=0.0, amp="off",
    label_smoothing=0.0, clip_grad=None, progress=False, device=DEVICE,
)  # fmt: skip
VARIANTS = {
    "fit": PLAIN,
    "accumulate=2": replace(PLAIN, accumulate=2),
    'amp="bf16"': replace(PLAIN, amp="bf16"),
    "compile": replace(PLAIN, compile=True),
}


def now() -> float:
    if DEVICE == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def differences(times: list[float]) -> list[float]:
    """Milliseconds from one to the next, without those of the first steps."""
    return [1000 * (b - a) for a, b in pairwise(times)][WARM_UP - 1 :]


def bare_steps(name: str, data: ImageData) -> list[float]:
    model = create_model(name).to(DEVICE)
    optimizer = torch.optim.AdamW(param_groups(model, 0.05), lr=1e-3, fused=True)
    images, labels = data.train.batch(torch.arange(BATCH))
    images, labels = data.train.normalize(images).to(DEVICE), labels.to(DEVICE)
    times = []
    for _ in range(STEPS):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(now())
    return differences(times)


def fit_steps(name: str, data: ImageData, config: TrainConfig) -> list[float]:
    times: list[float] = []
    fit(create_model(name), data, config, callbacks=[lambda state: times.append(now())])
    return differences(times)


def random_images(name: str) -> ImageData:
    model = create_model(name)
    channels, (height, width) = model.in_chans, model.img_size
    images = torch.randint(256, (10 * BATCH, channels, height, width), dtype=torch.uint8)
    labels = torch.arange(10 * BATCH) % 10
    mean, std = (0.5,) * channels, (0.3,) * channels
    part = ImageSet(images, labels, mean, std)
    return ImageData("random", part, part, tuple("0123456789"), mean, std)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {DEVICE}, batches of {BATCH}, milliseconds per step")
    for name in NAMES:
        data = random_images(name)
        found: dict[str, list[float]] = {label: [] for label in ("bare step", *VARIANTS)}
        for _ in range(ROUNDS):
            found["bare step"] += bare_steps(name, data)
            for label, config in VARIANTS.items():
                found[label] += fit_steps(name, data, config)
        bare = statistics.median(found["bare step"])
        for label, times in found.items():
            print(f"{name:<22}{label:<14}{(t := statistics.median(times)):>9.2f}{t / bare:>7.2f} ×")


if __name__ == "__main__":
    main()
