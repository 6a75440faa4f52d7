"""What the cases of this chapter look at: what a module learns, gradients, numbers in float32."""

from math import prod

import torch
from torch import nn

from vitlib.check.exercise import build, numbers


def amount(module, needed):
    """How much a module learns, in words: from what it starts, or in how many pieces, is free."""
    learned = sum(p.numel() for p in module.parameters())
    if learned in (0, needed):
        return f"{learned or 'no'} learned numbers"
    if any(p.ndim == 3 and p.shape[0] > 1 for p in module.parameters()):
        return "learned numbers for each image of a batch"
    return f"{'more' if learned > needed else 'fewer'} than {needed} learned numbers"


def _turned(module, sizes):
    """Whether what it learns has its two axes the other way round, which is free."""
    first = next(module.parameters()).squeeze()
    return first.ndim == 2 and first.shape == sizes[::-1]


def filled(answer, sizes, run):
    """run(module), with random weights; if the module learns something else, only that it does."""
    module = build(answer, *sizes).double()
    learned = amount(module, prod(sizes))
    if learned != f"{prod(sizes)} learned numbers":
        return learned
    values = numbers(*sizes, seed=5)
    if _turned(module, sizes):
        values = values.T
    nn.utils.vector_to_parameters(values.flatten(), module.parameters())
    return run(module)


def gradients(out, given):
    """The gradients that one weighted sum of `out` sends to the given tensors."""
    if out.requires_grad:
        (out * numbers(*out.shape, seed=7)).sum().backward()
    return [torch.zeros_like(part) if part.grad is None else part.grad for part in given]


def gradient(module, tokens):
    """The gradient that a weighted sum of module(tokens) sends to all that the module learns."""
    found = gradients(module(tokens), list(module.parameters()))
    if _turned(module, tokens.shape[1:]):
        found = [found[0].squeeze().T]
    return torch.cat([part.flatten() for part in found])
