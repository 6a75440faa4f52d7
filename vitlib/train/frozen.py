"""A frozen backbone, computed once per picture and not once per step.

    images -> frozen model, up to the heads -> what the heads get, kept -> heads, at each step

`fit` trains so where nothing changes what the heads get from one step to the next.
"""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from tqdm import tqdm

from vitlib.blocks import DropPath
from vitlib.data import ImageSet
from vitlib.data.sets import Batches
from vitlib.matching import as_vision_transformer
from vitlib.model import VisionTransformer
from vitlib.train.evaluation import Evaluation, inputs_of
from vitlib.train.history import TrainConfig

_BATCH = 100  # pictures at once


def is_backbone_constant(model: nn.Module, config: TrainConfig) -> bool:
    """Whether the heads get the same for a picture at every step, however they are trained."""
    if type(model) is not VisionTransformer:
        return False  # another forward pass
    if config.augment != "none" or config.mixup or config.cutmix:
        return False  # other pixels at each step
    in_heads = {id(p) for head in heads_of(model) for p in head.parameters()}
    if any(p.requires_grad and id(p) not in in_heads for p in model.parameters()):
        return False
    return not any(map(_changes, model.modules()))


def heads_of(model: VisionTransformer) -> tuple[nn.Module, ...]:
    """The head; of a distilled model, both."""
    found = model.get_classifier()
    return found if isinstance(found, tuple) else (found,)


def _changes(module: nn.Module) -> bool:
    """Whether its output for the same input changes during training, without a trained weight."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, DropPath):
        return module.drop_prob > 0
    return isinstance(module, _NormBase) and module.track_running_stats


class Heads(nn.Module):
    """The heads of `model` as a model of its own: from what they get, to logits (B, K)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = as_vision_transformer(model)

    def forward(self, inputs: Float[Tensor, "B *rest"]) -> Float[Tensor, "B K"]:
        if self.model.distilled:  # the two tokens (B, 2, D)
            return self.model.forward_head(inputs)
        logits: Tensor = self.model.head(inputs)  # pooled (B, D)
        return logits


class HeadInputs:
    """What the heads of `model` get for each picture of a set; it stands in `fit` for the set.

    It is computed when it is first asked for. Of several processes, each computes all of it.
    """

    def __init__(
        self,
        model: nn.Module,
        image_set: ImageSet,
        autocast: AbstractContextManager[Any],
        progress: bool,
    ):
        self.model, self.image_set = as_vision_transformer(model), image_set
        self.autocast, self.progress = autocast, progress

    def __len__(self) -> int:
        return len(self.image_set)

    @cached_property
    def inputs(self) -> Float[Tensor, "n *rest"]:
        model, image_set, found = self.model, self.image_set, []
        bar = tqdm(
            inputs_of(model, image_set, _BATCH), "frozen features", math.ceil(len(self) / _BATCH),
            dynamic_ncols=True, disable=not self.progress, leave=False,
        )  # fmt: skip
        with torch.no_grad(), self.autocast:
            for images, _ in bar:
                tokens = model.forward_features(images)
                if model.distilled:
                    found.append(tokens[:, :2].clone())  # not a view: all tokens would be kept
                else:
                    found.append(model.forward_head(tokens, pre_logits=True))
        return torch.cat(found)

    def batches(self, parts: Iterable[Int[Tensor, "_"]]) -> Batches:
        for part in parts:
            yield self.inputs[part], self.image_set.labels[part]

    def shuffled(self, batch_size: int, processes: int = 1) -> Int64[Tensor, "_"]:
        return self.image_set.shuffled(batch_size, processes)

    def normalize(self, inputs: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        return inputs  # the images were

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """Loss and accuracy with the heads of `model`, whose backbone is the same."""
        with torch.no_grad():
            logits = Heads(model)(self.inputs).float().cpu()
        found = Evaluation.of(logits, self.image_set.labels)
        return found.loss, found.accuracy
