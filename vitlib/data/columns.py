"""The columns of a table: which hold images and labels, and labels -> class numbers and names.

The columns are found by their types and names, unless the user names them.
"""

from typing import Any

import numpy as np

from vitlib.data.source import refuse_different_classes

Features = dict[str, Any]  # the columns of a table by name


def number_labels(
    name: str, features: dict[str, Features], label: str, values: dict[str, list[Any]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The class number of each row of each split, and the names of the classes.

    Raises ValueError for a split without rows, for rows without a label, and for a label that
    train does not have.
    """
    train_name, *_ = values
    for split, column in values.items():
        if not column:
            raise ValueError(f"split {split!r} of {name} has no rows")
    for split, column in values.items():
        for row, value in enumerate(column):
            if value is None or (isinstance(value, int) and value < 0):
                raise ValueError(
                    f"label {value} in row {row} of {split!r} of {name}: labels start at 0, and "
                    "the Hub marks images without a label by -1. Use a split that has labels."
                )
    named = [getattr(columns[label], "names", None) for columns in features.values()]
    if named[0]:
        if any(names and names != named[0] for names in named):
            refuse_different_classes(set(named[0]), set(named[-1] or ()))
        order: list[Any] = list(range(len(named[0])))
    else:  # without names, the values themselves name the classes, in sorted order
        order = sorted(set(values[train_name]))
    number = {value: k for k, value in enumerate(order)}
    labels = {}
    for split in values:
        if strange := sorted(set(values[split]) - number.keys()):
            raise ValueError(
                f"label {strange[0]!r} in {split!r} of {name} is none of the {len(order)} classes"
                + (f", whose labels are 0 to {len(order) - 1}" if named[0] else " of 'train'")
            )
        labels[split] = np.array([number[value] for value in values[split]], dtype=np.int64)
    return labels, tuple(named[0] or map(str, order))


def find_columns(
    name: str, features: dict[str, Features], image: str | None, label: str | None
) -> tuple[str, str]:
    """The image and label columns of all splits: those asked for, or the only possible ones."""
    train_name, *_ = features
    image, label = _find_columns_of(
        f"{name}, split {train_name}", features[train_name], image, label
    )
    for split, columns in features.items():
        if missing := {image, label} - set(columns):
            raise ValueError(f"split {split!r} of {name} has no column {', '.join(missing)}")
    return image, label


def _find_columns_of(
    where: str, features: Features, image: str | None, label: str | None
) -> tuple[str, str]:

    def is_image(feature: Any) -> bool:
        return type(feature).__name__ == "Image" or (
            isinstance(feature, dict) and "bytes" in feature
        )

    def is_label(feature: Any) -> bool:
        dtype = str(getattr(feature, "dtype", ""))
        return dtype.removeprefix("large_").startswith(("int", "uint", "string", "bool"))

    images = [name for name, feature in features.items() if is_image(feature)]
    labels = [name for name, feature in features.items() if is_label(feature)]
    # Ids and file names may look like labels, too: a column with class names is the label, or else
    # one with a name such as "label".
    certain = [name for name in labels if hasattr(features[name], "names")] or [
        name for name in labels if name.lower().endswith(("label", "labels", "class", "target"))
    ]
    labels = labels if label else (certain or labels)
    chosen = []
    for kind, asked, found in (("image", image, images), ("label", label, labels)):
        if asked is None and len(found) != 1:
            some = f"has several that may hold it: {', '.join(found)}" if found else "has none"
            raise ValueError(
                f"which column holds the {kind}? {where} {some}. "
                f"Its columns are {', '.join(features)}; name one with {kind}_column."
            )
        if asked is not None and asked not in found:
            raise ValueError(
                f"{kind}_column {asked!r} is not a column of {kind}s in {where}, "
                f"whose columns are {', '.join(features)}"
            )
        chosen.append(asked or found[0])
    return chosen[0], chosen[1]
