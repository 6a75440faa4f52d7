"""LensFigure: what a model would answer if it ended after each of its layers."""

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from traitlets import Bytes, Int, List, Unicode, validate

from vitlib.explain import logit_lens
from vitlib.matching import as_vision_transformer, shown_pixels
from vitlib.model import VisionTransformer
from vitlib.widgets.figure import (
    BadValue,
    Figure,
    check_index,
    check_model_images,
)

_MAX_CLASSES = 20  # rows of the table; the other classes are added up in one more row


class LensFigure(Figure, script="lens.js"):
    """Class probabilities read from every layer of a model, for one picture.

    It shows a table of classes × layers, bars for the chosen layer, and how the probability of the
    model's answer (and of the true class, if that is another) changes with depth. See `logit_lens`:
    what is read before the last layer is only a hint, since the head was trained on the last only.

    Args:
        model: a VisionTransformer with a head; class names come from `model.classes`.
        image: what the model takes, normalised: (C, H, W) or (1, C, H, W).
        label: the true class, if known.
        layer: the layer shown first; None means the last.

    If there are more than 20 classes, the table has the 20 that are most probable in some layer
    (the answer and the label among them), and the sum of the others. Probabilities are float32, not
    rounded.
    Raises ValueError for a model, image or label that do not fit.
    """

    layer = Int(help="which block, counted from 0").tag(sync=True)
    depth = Int(help="number of blocks, L").tag(sync=True)
    classes = List(Unicode(), help="names of the classes in the table").tag(sync=True)
    others = Int(help="number of classes that are not in the table").tag(sync=True)
    answer = Int(help="row of the class that the model predicts").tag(sync=True)
    label = Int(None, allow_none=True, help="row of the true class, if known").tag(sync=True)
    source = Unicode(help="what the head reads").tag(sync=True)
    pixels = Bytes(help="uint8 (H, W, C)").tag(sync=True)
    shape = List(Int(), help="height, width and channels of the picture").tag(sync=True)
    probabilities = Bytes(help="float32 (L, number of classes in the table)").tag(sync=True)

    def __init__(
        self,
        model: VisionTransformer,
        image: Tensor,
        label: int | None = None,
        *,
        layer: int | None = None,
    ):
        model = as_vision_transformer(model)
        images = check_model_images(model, image)
        if len(images) != 1:
            raise ValueError(f"expected one image, got a batch of {len(images)}")
        probabilities = logit_lens(model, images.to(model.cls_token))[0].float().cpu()  # (L, K)
        if not probabilities.isfinite().all():
            raise ValueError("the model's answers are not finite (NaN): are its weights sound?")
        depth, count = probabilities.shape
        answer = int(probabilities[-1].argmax())
        if label is not None:
            label = check_index("label", _class_number(label), count, "classes")
        rows = _choose_rows(probabilities, {answer, answer if label is None else label})
        names = model.classes or [str(k) for k in range(count)]
        super().__init__(
            title="A Vision Transformer read after every layer",
            alt=f"What a model of {depth} layers would answer after each of them. At the end it "
            f"gives {names[answer]} the probability {probabilities[-1, answer]:.3f}. Choose a "
            "layer to see what can be read there.",
            depth=depth,
            classes=[str(names[k]) for k in rows],
            others=count - len(rows),
            answer=rows.index(answer),
            label=None if label is None else rows.index(label),
            source=_describe_source(model),
            pixels=shown_pixels(model, images)[0].tobytes(),
            shape=[*model.img_size, model.in_chans],
            probabilities=np.ascontiguousarray(probabilities[:, rows].numpy()).tobytes(),
        )
        self.layer = depth - 1 if layer is None else layer

    @validate("layer")
    def _check_layer(self, proposal: Any) -> int:
        return check_index("layer", proposal.value, self.depth, "layers")


def _choose_rows(probabilities: Tensor, wanted: set[int]) -> list[int]:
    """The classes in the table, in their order: all, or those most probable in some layer."""
    highest = probabilities.amax(dim=0)
    highest[sorted(wanted)] = 2.0  # these come first
    return sorted(torch.argsort(highest, descending=True, stable=True)[:_MAX_CLASSES].tolist())


def _class_number(label: Any) -> int:
    try:
        return operator.index(label)  # a data set's tensor or numpy number will do, too
    except TypeError:
        raise BadValue(f"label must be the number of a class: got {label!r}") from None


def _describe_source(model: VisionTransformer) -> str:
    """What the head reads."""
    if model.global_pool == "avg":
        return "the mean of the patch tokens"
    return "the class and distillation tokens" if model.distilled else "the class token"
