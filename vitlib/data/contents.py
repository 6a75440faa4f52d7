"""Pictures recognised by their pixels: which are the same, and which have changed."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vitlib.wording import first_few


def hash_images(images: UInt8[Tensor, "n C H W"]) -> Int64[Tensor, "n"]:
    """A number for each image, the same for the same pixels and for no others (in practice)."""
    pixels = np.ascontiguousarray(images.cpu().numpy())
    shape = repr(pixels.shape[1:]).encode()
    digests = b"".join(blake2b(image, digest_size=8, salt=shape[:16]).digest() for image in pixels)
    return torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64))


def among(hashes: Int64[Tensor, "n"], others: Int64[Tensor, "m"]) -> Tensor:
    """Which of the hashes, (n,) booleans, are also among the others."""
    return torch.isin(hashes, others)


def describe_duplicates(
    train: tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]],
    test: tuple[Int64[Tensor, "m"], Int64[Tensor, "m"]],
) -> list[str]:
    """What is wrong with images that are there twice; each part is given as (hashes, labels)."""
    lines = []
    if leaked := int(among(test[0], train[0]).sum()):
        lines.append(
            f"{leaked:,} of {len(test[0]):,} test images are also among the training images, pixel "
            "by pixel: remove one of each two, or the accuracy says too much"
        )
    both = zip(*(torch.cat([a, b]).tolist() for a, b in zip(train, test, strict=True)), strict=True)
    classes_of = Counter(image for image, _ in set(both))
    if twofold := sum(count > 1 for count in classes_of.values()):
        lines.append(f"images that are in more than one class: {twofold:,}")
    return lines


def describe_changes(
    before: tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]],
    now: tuple[Int64[Tensor, "m"], Int64[Tensor, "m"]],
    classes: Sequence[str],
) -> str:
    """How the training images, given as (hashes, labels), differ from those before, or nothing."""
    (old, old_labels), (new, new_labels) = before, now
    if len(old) == len(new) and torch.equal(old, new) and torch.equal(old_labels, new_labels):
        return ""
    gone, added = ~among(old, new), ~among(new, old)
    changes = []
    for which, labels, what in ((gone, old_labels, "gone"), (added, new_labels, "new")):
        if which.any():
            known = range(len(classes))
            some = [classes[k] for k in labels[which].unique().tolist() if k in known]
            changes.append(
                f"{int(which.sum()):,} {what}" + (f" ({first_few(some)})" if some else "")
            )
    if not changes:
        label_of = dict(zip(old.tolist(), old_labels.tolist(), strict=True))
        now_label = zip(new.tolist(), new_labels.tolist(), strict=True)
        relabelled = sum(label_of[image] != label for image, label in now_label)
        if not relabelled:
            return "its training images are in another order, or not as often"
        changes.append(f"{relabelled:,} with another label")
    return f"its training images have changed: {', '.join(changes)}"
