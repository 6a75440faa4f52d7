"""Pictures per second from a folder: a stream of `load_data` beside torchvision's ImageFolder.

    python benchmarks/reading.py [pictures] [rounds]

Makes JPEGs of photos (600, unless another number is given) in a temporary folder, in the sizes of
`KINDS`: large photos, ImageNet's usual size, and small ones. Both bring them to 224×224, or 32×32
the small ones, in shuffled batches of 50 on the CPU, floats from 0 to 1, by two worker processes.
torchvision's way is its own: ImageFolder, Resize, CenterCrop, ToTensor, and torch's DataLoader.
They take turns; each number is the median over the rounds (5) of one pass, workers' start included;
the first round is not counted, so that the files are in the cache. "×" is vitlib's speed as a
multiple of torchvision's, the median over the rounds.

It is the time that passes, so the machine should be idle: the load is printed.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import skimage.data
import torch
from PIL import Image
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from peers import torchvision

from vitlib import load_data

BATCH, WORKERS = 50, 2
KINDS = {"large": ((1600, 1200), 224), "usual": ((500, 375), 224), "small": ((48, 48), 32)}
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")  # that come with scikit-image


def make_pictures(root: Path, count: int, size: tuple[int, int]) -> None:
    for label, name in enumerate(PHOTOS):
        (root / name).mkdir(parents=True)
        photo = Image.fromarray(getattr(skimage.data, name)())
        for k in range(label, count, len(PHOTOS)):
            corner = (k % 40, k % 30)  # no two alike
            part = photo.crop((*corner, corner[0] + 380, corner[1] + 285))
            part.resize(size, Image.Resampling.BICUBIC).save(root / name / f"{k}.jpg", quality=90)


def vitlib_pass(root: Path, side: int) -> Callable[[], int]:
    images = load_data(root, img_size=side, stream=True, whole=True).train

    def read() -> int:
        parts = images.shuffled(BATCH).split(BATCH)
        return sum(len(batch) for batch, _ in images.batches(parts))

    return read


def torchvision_pass(root: Path, side: int) -> Callable[[], int]:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    transform = transforms.Compose(
        [transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()]
    )
    loader = DataLoader(
        ImageFolder(root, transform), batch_size=BATCH, shuffle=True, num_workers=WORKERS
    )
    return lambda: sum(len(batch) for batch, _ in loader)


def main() -> None:
    torch.set_num_threads(1)
    count, rounds = (int(text) for text in (*sys.argv[1:], *("600", "5")[len(sys.argv) - 1 :]))
    load, versions = os.getloadavg()[0], f"torch {torch.__version__}"
    versions += f", torchvision {torchvision.__version__}"
    print(f"{versions}, {os.cpu_count()} cores, load {load:.1f}, {count} pictures")
    for kind, (size, side) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "photos"
            make_pictures(root, count, size)
            passes = {
                "vitlib": vitlib_pass(root, side),
                "torchvision": torchvision_pass(root, side),
            }
            speeds = {name: [] for name in passes}
            for _ in range(rounds + 1):
                for name, read in passes.items():
                    begun = time.perf_counter()
                    found = read()
                    speeds[name].append(found / (time.perf_counter() - begun))
            ours, theirs = (speeds[name][1:] for name in passes)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            print(
                f"{kind:<6} {size[0]}×{size[1]} to {side}: vitlib {statistics.median(ours):7,.0f}, "
                f"torchvision {statistics.median(theirs):7,.0f} pictures per second, {ratio:.2f} ×"
            )


if __name__ == "__main__":
    with mock.patch("vitlib.data.stream._count_workers", return_value=WORKERS):
        main()
