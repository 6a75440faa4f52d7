"""Is memory flat while `fit` trains on pictures that it streams from a folder?

    python benchmarks/streaming.py [pictures] [steps] [folder]

Makes that many small JPEGs (100,000) in a folder (a temporary one), unless they are there, and
trains a small model on them for that many steps (2,500, three passes). Every hundredth of the steps
it adds up the memory of this process and of the workers that read for it, in which pages that they
share count once (proportional set size, so that it needs Linux). The first pass is start-up, since
the workers are started anew for each pass; after it, memory should stay within 5 %. There is no
validation: it computes 500 images at once, streamed or not, and what a model needs for that would
be seen here.
"""

import math
import sys
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from vitlib import TrainConfig, VisionTransformer, fit, load_data

CLASSES, SIDE, IMG_SIZE = 10, 48, 32


def save_picture(path: Path) -> None:
    """Soft random colours, which grow lighter from class to class."""
    generator = np.random.default_rng(int(path.stem))
    colours = generator.integers(0, 110, (6, 6, 3)) + 14 * int(path.parent.name)
    image = Image.fromarray(colours.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    image.save(path, quality=85)


def make_pictures(root: Path, count: int) -> None:
    for label in range(CLASSES):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
    paths = (root / str(k % CLASSES) / f"{k}.jpg" for k in range(count))
    missing = [path for path in paths if not path.exists()]
    with Pool() as pool:
        pool.map(save_picture, missing, chunksize=500)


def memory() -> float:
    """Megabytes of this process and of its workers."""
    total = 0
    here = psutil.Process()
    for process in [here, *here.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # a worker that has just ended
            continue
    return total / 1e6


def train_on(root: Path, steps: int) -> list[float]:
    """The memory after every hundredth of the steps, from the second pass on."""
    data = load_data(root, img_size=IMG_SIZE, stream=True)
    print(data.summary())
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=IMG_SIZE, patch_size=8, num_classes=CLASSES, embed_dim=32, depth=2, num_heads=2
    )
    config = TrainConfig(
        steps=steps, augment="none", val_fraction=0.0, device="cpu", progress=False
    )
    used = []

    def look(state: object) -> None:
        if state.step % max(1, steps // 100) == 0:
            used.append(memory())

    history = fit(model, data, config, callbacks=[look])
    print(f"{history}, {history.images_per_second:,.0f} pictures per second")
    passes = steps * config.batch_size / len(data.train)
    return used[math.ceil(len(used) / passes) :]


def main() -> None:
    torch.set_num_threads(1)
    count, steps, folder = (*sys.argv[1:], *("100_000", "2500", "")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(folder or temporary)
        begun = time.perf_counter()
        make_pictures(root, int(count))
        print(f"{int(count):,} pictures in {root}, made in {time.perf_counter() - begun:.0f} s")
        used = train_on(root, int(steps))
    first, last, low, high = used[0], used[-1], min(used), max(used)
    print(
        f"memory in MB, {len(used)} times: first {first:.0f}, last {last:.0f}, from {low:.0f} to "
        f"{high:.0f}, {high / low - 1:.1%} apart"
    )


if __name__ == "__main__":
    main()
