"""Results in float32, because this chapter does not ask in which precision they are computed."""

import torch
from torch import Tensor

from vitlib.check.exercise import Refused, call, single


def loss(answer, *given):
    """The loss in float32; one that is not finite is refused."""
    result = call(answer, *given)
    if isinstance(result, Tensor) and result.shape == () and not result.isfinite():
        raise Refused(f"the loss is {result.item()}", "not finite")
    return single(result)


def gradients(answer, given, **named):
    """The gradients of a loss that reach the named inputs, by their places; 0 where none does."""
    given = [g.clone().requires_grad_() if i in named.values() else g for i, g in enumerate(given)]
    leaves = [given[place] for place in named.values()]
    reached = torch.autograd.grad(call(answer, *given), leaves, materialize_grads=True)
    return {name: grad.float() for name, grad in zip(named, reached, strict=True)}
