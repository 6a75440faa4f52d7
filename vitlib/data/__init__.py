"""Labelled images, in memory or streamed: how they are loaded, stored, batched and augmented.

    load.py          load_data, and the table of what it reads (DATA_SOURCES)
    packaged.py, folders.py, tables.py
                     the readers: digits that come with packages; class folders; parquet and the Hub
    columns.py       which columns of a table hold images and labels
    rows.py, shards.py, stream.py
                     pictures that stay where they are: files, row groups, and the set made of them
    layout.py, splits.py, classes.py, walk.py
                     what a folder holds: splits, by their names; classes; which files are pictures
    decode.py, formats.py, depth.py
                     a picture file of any kind, size, colour mode and depth -> bytes (C, H, W)
    source.py        what each of these readers returns
    contents.py      images that are there twice, or have changed since a run
    sets.py          ImageSet and ImageData: bytes with labels, and batches of floats
    augmentation.py  augment, mixup, cutmix

Data go one way: files -> bytes -> sets -> augmented, normalised batches. In a stream, sets come
before bytes: files -> rows -> sets -> bytes, batch by batch.
"""

from vitlib.data.augmentation import augment, cutmix, mixup
from vitlib.data.load import DATA_SOURCES, load_data
from vitlib.data.sets import ImageData, ImageSet, LabelledImages, mean_std

__all__ = [
    "DATA_SOURCES", "ImageData", "ImageSet", "LabelledImages",
    "augment", "cutmix", "load_data", "mean_std", "mixup",
]  # fmt: skip
