"""Images with labels: one set of them, and a training and a test set (`ImageData`).

`LabelledImages` is what `fit` and `evaluate` need of a set. `ImageSet` has its images in memory, as
bytes, which take a quarter of the memory of float32; `StreamedSet` (stream.py) reads them when they
are needed. Both convert them to floats batch by batch.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, SupportsIndex, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from vitlib.data.contents import hash_images
from vitlib.data.decode import to_channels
from vitlib.wording import first_few

# floats (b, C, H, W) in [0, 1], not normalised, and labels (b,), batch by batch
Batches = Generator[tuple[Tensor, Tensor], None, None]


class LabelledImages(Dataset[tuple[Tensor, int]], ABC):
    """Images and labels. `images[i]` is (normalised float32 image (C, H, W), int label).

    `labels` are int64 (n,); `mean` and `std` have one number per channel, for pixels in [0, 1].
    `fingerprinted` says what `fingerprints` are made of, in one word.
    """

    fingerprinted: str
    labels: Int64[Tensor, "n"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """(n, C, H, W)."""

    @abstractmethod
    def pixels(self, number: int) -> UInt8[Tensor, "C H W"]:
        """One image as bytes."""

    @abstractmethod
    def batches(self, parts: Iterable[Int[Tensor, "_"]]) -> Batches:
        """The images and labels of each part, one after the other; a part is the images' numbers.

        Close it if you stop before the last one.
        """

    @abstractmethod
    def shuffled(self, batch_size: int, processes: int = 1) -> Int64[Tensor, "_"]:
        """The numbers of the images in the order of an epoch, drawn by torch's global generator.

        It is cut into batches, and each batch into as many equal parts as there are `processes`.
        """

    @abstractmethod
    def subset(self, index: Int[Tensor, "b"] | Sequence[int]) -> Any:
        """These images, in this order, with the same mean and std."""

    @abstractmethod
    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
        """The same images with another mean and std."""

    @abstractmethod
    def with_channels(self, channels: int) -> Any:
        """The images in grey (1) or colour (3); if that changes them, so do their mean and std."""

    @abstractmethod
    def fingerprints(self) -> Int64[Tensor, "n"]:
        """A number for each image, by which it is known again."""

    @abstractmethod
    def readable(self) -> Any:
        """The images without those that could not be read so far."""

    def in_reading_order(self, index: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """The same numbers in an order in which one after the other can be read with little memory.

        For images in memory and for files, that is any order.
        """
        return index

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> tuple[Float[Tensor, "C H W"], int]:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number} out of range: there are {len(self)} images")
        return self.normalize(self.pixels(number).float() / 255), int(self.labels[number])

    def __repr__(self) -> str:
        n, channels, height, width = self.shape
        return f"{type(self).__name__}({n} images, {channels}×{height}×{width})"

    def normalize(self, images: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Pixels in [0, 1] to (pixels - mean) / std."""
        return (images - _per_channel(self.mean, images)) / _per_channel(self.std, images)

    def denormalize(self, images: Float[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """The inverse of normalize, clipped to [0, 1]."""
        return (images * _per_channel(self.std, images) + _per_channel(self.mean, images)).clamp(
            0, 1
        )


class ImageSet(LabelledImages):
    """Images and labels, in memory; `image_set[i]` is as in `LabelledImages`.

    `images` are uint8 (n, C, H, W), `labels` int64 (n,); `mean` and `std` have one number per
    channel, for pixels in [0, 1]. Raises ValueError for anything else.
    """

    def __init__(
        self,
        images: Tensor,  # checked here, and not by jaxtyping, because the message is ours
        labels: Tensor,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        for name, tensor, dtype, shape in (
            ("images", images, torch.uint8, "(n, C, H, W)"),
            ("labels", labels, torch.int64, "(n,)"),
        ):
            if tensor.dtype != dtype or tensor.ndim != (4 if name == "images" else 1):
                raise ValueError(
                    f"{name} must be {dtype} of shape {shape}, got {tensor.dtype} of shape "
                    f"{tuple(tensor.shape)}"
                )
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        if not len(mean) == len(std) == images.shape[1]:
            raise ValueError(
                f"images have {images.shape[1]} channels, mean has {len(mean)} and std {len(std)}"
            )
        if not min(std) > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.images, self.labels = images, labels
        self.mean, self.std = mean, std

    fingerprinted = "images"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        n, channels, height, width = self.images.shape
        return n, channels, height, width

    def pixels(self, number: int) -> UInt8[Tensor, "C H W"]:
        return self.images[number]

    def batch(self, index: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b C H W"], Int64[Tensor, "b"]]:
        """The images of `index`, in [0, 1] and not normalised, and their labels."""
        return self.images[index].float() / 255, self.labels[index]

    def batches(self, parts: Iterable[Int[Tensor, "_"]]) -> Batches:
        for part in parts:
            yield self.batch(part)

    def shuffled(self, batch_size: int, processes: int = 1) -> Int64[Tensor, "_"]:
        return torch.randperm(len(self))

    def subset(self, index: Int[Tensor, "b"] | Sequence[int]) -> "ImageSet":
        """These images, in this order, with the same mean and std."""
        chosen = torch.as_tensor(index, dtype=torch.long)
        return ImageSet(self.images[chosen], self.labels[chosen], self.mean, self.std)

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "ImageSet":
        return ImageSet(self.images, self.labels, mean, std)

    def with_channels(self, channels: int) -> "ImageSet":
        if self.images.shape[1] == channels:
            return self
        pixels = np.stack([to_channels(image, channels) for image in self.images.numpy()])
        images = torch.from_numpy(pixels)
        return ImageSet(images, self.labels, *mean_std(images))

    def fingerprints(self) -> Int64[Tensor, "n"]:
        return hash_images(self.images)

    def readable(self) -> "ImageSet":
        return self


def _per_channel(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "C 1 1"]:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


Images = TypeVar("Images", bound=LabelledImages)


@dataclass(frozen=True)
class ImageData(Generic[Images]):
    """A data set: train and test images, class names, and train's mean and std, used for both.

    `skipped` names the files that could not be read; `notes` say where the images were found, what
    was taken for what, and what was passed over; `warned` is what `load_data` warned of.
    `summary()` is all of that in words. `white` is the value that became 255 in 16-bit pictures, 0
    if there are none.
    Raises ValueError for fewer than two classes, for labels outside the classes, for an empty part,
    if train and test differ in channels or size, and if one of them has another mean or std.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    white: int = 0

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"a classifier needs at least two classes, got {self.classes}")
        for part, image_set in (("train", self.train), ("test", self.test)):
            if not len(image_set):
                raise ValueError(f"{part} has no images")
            low, high = int(image_set.labels.min()), int(image_set.labels.max())
            if low < 0 or high >= len(self.classes):
                raise ValueError(
                    f"labels of {part} run from {low} to {high}, but with {len(self.classes)} "
                    f"classes they must be from 0 to {len(self.classes) - 1}"
                )
        train_shape, test_shape = self.train.shape[1:], self.test.shape[1:]
        if train_shape[0] != test_shape[0]:
            raise ValueError(
                f"train images have {train_shape[0]} channels, test images {test_shape[0]}"
            )
        if train_shape != test_shape:
            raise ValueError(
                f"train images are {train_shape[1]}×{train_shape[2]}, test images "
                f"{test_shape[1]}×{test_shape[2]} (height × width). Pass img_size to load_data "
                "to bring all to one size."
            )
        for part, image_set in (("train", self.train), ("test", self.test)):
            if not same_statistics((image_set.mean, image_set.std), (self.mean, self.std)):
                raise ValueError(
                    f"{part} has mean {image_set.mean} and std {image_set.std}, the data set "
                    f"{self.mean} and {self.std}: both parts must be normalised in the same way"
                )

    def summary(self, most: int = 12, warned: bool = True) -> str:
        """What the data set holds, a line for each fact: sizes, classes, images per class, notes.

        Of more than `most` classes, only the first are listed. The last lines are what `load_data`
        warned of, unless `warned` is False.
        """
        channels, height, width = self.train.shape[1:]
        parts = [self.train] if self.train is self.test else [self.train, self.test]
        counts = [
            torch.bincount(part.labels, minlength=len(self.classes)).tolist() for part in parts
        ]
        sizes, which = f"{len(self.train):,} images", "images"
        if len(parts) > 1:
            sizes = f"{len(self.train):,} training and {len(self.test):,} test images"
            which = "training + test images"
        lines = [
            f"{self.name}: {sizes}, {height}×{width}, {channels} channel"
            f"{'s' if channels > 1 else ''}, {len(self.classes)} classes"
        ]
        each = [
            f"{name}: {' + '.join(f'{count:,}' for count in images)}"
            for name, *images in zip(self.classes, *counts, strict=True)
        ]
        lines.append(f"{which} per class: {first_few(each, most)}")
        if len(self.classes) > most:
            lines.append(f"images per class: from {min(counts[0]):,} to {max(counts[0]):,}")
        return "\n".join([*lines, *self.notes, *(self.warned if warned else ())])

    def split(self, fraction: float, seed: int = 0) -> tuple[Images, Images]:
        """The training images in two parts: (all others, `fraction` of them), for validation.

        The split is stratified: each class contributes its share, and at least one image, to both
        parts. The same seed gives the same split. Raises ValueError for a fraction that is not
        between 0 and 1, and for a class with only one image.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
        labels = self.train.labels.numpy()
        rest, held = (
            self.train.in_reading_order(torch.from_numpy(part))
            for part in stratified(labels, round(fraction * len(labels)), seed, self.classes)
        )
        return self.train.subset(rest), self.train.subset(held)


def same_statistics(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether two (mean, std) are the same, but for the rounding of another processor."""
    return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=1e-6, atol=0)  # type: ignore[arg-type]


def mean_std(images: UInt8[Tensor, "n C H W"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels in [0, 1].

    They are computed from the counts of the 256 values, so they are exact for any number of pixels.
    A constant channel gets the std 1/255, one step of a byte, so that it can be divided by.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256) / channel.numel()
        centre = (share * levels).sum()
        mean.append(float(centre))
        std.append(max(float((share * (levels - centre) ** 2).sum().sqrt()), 1 / 255))
    return tuple(mean), tuple(std)


def stratified(
    labels: np.ndarray, held_out: int, seed: int, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices in two parts: all other images, and about `held_out`, divided among the classes.

    Both are in random order, so that any slice of them contains all classes. The order is given by
    PCG64's raw numbers, which numpy never changes, unlike its shuffles; no global state is used.
    Raises ValueError for a class with only one image.
    """
    counts = np.bincount(labels)
    if (counts == 1).any():
        lonely = classes[int(np.flatnonzero(counts == 1)[0])]
        raise ValueError(f"class {lonely!r} has 1 image, but a split needs two or more of each")
    # Largest remainders: round down, then give one more to the classes that lost most.
    shares, lost = np.divmod(counts * held_out, len(labels))
    missing = held_out - int(shares.sum())
    shares[np.argsort(-lost, kind="stable")[:missing]] += 1
    shares = np.clip(shares, 1, counts - 1)  # -1 for a class without images, which is skipped below

    order = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    held = np.zeros(len(labels), bool)
    for label in np.flatnonzero(counts):
        held[order[labels[order] == label][: shares[label]]] = True
    return order[~held[order]], order[held[order]]
