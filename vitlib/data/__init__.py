"""Labelled images, held in memory: how they are loaded, stored, batched and augmented.

    load.py          load_data, and the table of what it reads (DATA_SOURCES)
    packaged.py, folders.py, tables.py
                     the readers: digits that come with packages; class folders; parquet and the Hub
    decode.py        a picture file of any kind, size and colour mode -> bytes (C, H, W)
    source.py        what each of these readers returns
    sets.py          ImageSet and ImageData: bytes with labels, and batches of floats
    augmentation.py  augment, mixup, cutmix

Data go one way: files -> bytes -> sets -> augmented, normalised batches.
"""

from vitlib.data.augmentation import augment, cutmix, mixup
from vitlib.data.load import DATA_SOURCES, load_data
from vitlib.data.sets import ImageData, ImageSet, mean_std

__all__ = [
    "DATA_SOURCES", "ImageData", "ImageSet", "augment", "cutmix", "load_data", "mean_std", "mixup",
]  # fmt: skip
