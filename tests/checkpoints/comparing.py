"""Whether two models answer alike, and whether one was touched."""

import torch
from torch import nn

from vitlib import VisionTransformer


def images_for(model: VisionTransformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, model.in_chans, *model.img_size, generator=generator)


def equal_logits(a: VisionTransformer, b: VisionTransformer) -> bool:
    images = images_for(a)
    return torch.equal(a.eval()(images), b.eval()(images))


def frozen(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    after = model.state_dict()
    return all(torch.equal(after[name], tensor) for name, tensor in before.items())
