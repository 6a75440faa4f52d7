"""The attention weights of any model, by watching which tensors a softmax makes and who uses them.

No module has to have a certain name. PyTorch's own operations are watched below all modules: a
softmax over tensors of three axes or more makes weights; what follows it without changing their
number (dropout, a factor, another order of axes) still has them; the product that uses them says
over which axis they are summed. Fused kernels are asked to compute step by step meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vitlib.check.instruments.asking import logits


@dataclass
class AttentionSeen:
    """One softmax and its product with the values.

    Attributes:
        scores: what the softmax was given.
        weights: what was multiplied, with the axis that is summed over as the last. Without a
            product that could be seen, what the softmax gave.
    """

    scores: Float[Tensor, "... T S"]
    weights: Float[Tensor, "... T S"]

    @property
    def is_square(self) -> bool:
        """Whether there are as many queries as keys, as in self-attention over all tokens."""
        return self.weights.shape[-2] == self.weights.shape[-1]


@torch.no_grad()
def attention_seen(model: nn.Module, images: Float[Tensor, "B C H W"]) -> list[AttentionSeen]:
    """What every attention layer does with these images, in the order of the calls."""
    with _step_by_step(), _Watch() as watch:
        logits(model, images)
    return watch.seen


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Without fused kernels, in which there is nothing to watch."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


@dataclass
class _Watch(TorchDispatchMode):
    seen: list[AttentionSeen] = field(default_factory=list)
    _holders: dict[int, tuple[Tensor, AttentionSeen]] = field(default_factory=dict)  # by storage

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_softmax", "_safe_softmax"):
            if args[0].ndim >= 3:
                self._begin(args[0], result)
        elif name in ("mm", "bmm"):
            self._use(*args[:2])
        elif isinstance(result, Tensor):
            self._follow(args, result)
        return result

    def _begin(self, scores: Tensor, weights: Tensor) -> None:
        seen = AttentionSeen(scores, weights)
        self.seen.append(seen)
        self._hold(weights, seen)

    def _hold(self, tensor: Tensor, seen: AttentionSeen) -> None:
        """Keep the tensor, so that its place in memory is nobody else's."""
        self._holders[tensor.untyped_storage().data_ptr()] = tensor, seen

    def _held(self, tensor: Any) -> AttentionSeen | None:
        if not isinstance(tensor, Tensor):
            return None
        return self._holders.get(tensor.untyped_storage().data_ptr(), (None, None))[1]

    def _follow(self, inputs: tuple[Any, ...], result: Tensor) -> None:
        for tensor in inputs:
            seen = self._held(tensor)
            if seen is not None and result.numel() == tensor.numel():
                self._hold(result, seen)

    def _use(self, left: Tensor, right: Tensor) -> None:
        """A product sums over the last axis of the left tensor, and the one before of the right."""
        for tensor, weights in ((left, left), (right, right.mT)):
            seen = self._held(tensor)
            if seen is not None and tensor.numel() == seen.scores.numel():
                seen.weights = weights
                self._holders.pop(tensor.untyped_storage().data_ptr())
