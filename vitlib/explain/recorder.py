"""Reading the attention weights of a model while it runs as usual.

    the input of each attention module -> q, k -> weights (B, L, H, T, T)

The model's own computation is not changed.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from typing import Any

import torch
from einops import EinopsError, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.attention import Attention, attention_weights, unfused


class AttentionRecorder:
    """Reads the attention weights of every layer, or of some, while the model runs.

        with AttentionRecorder(model) as recorder:
            logits = model(images)
        recorder.attention      # (B, L, H, T, T): image, layer, head, query token, key token

    Rows sum to 1, because these are the weights before attention dropout. Each forward pass
    replaces the weights of the one before. The model's own computation does not change: a hook gets
    the input of each attention module, and the weights are recomputed from it, so that the fused
    kernel stays on. Compiled models run uncompiled inside the with block. With `gradients=True` the
    unfused path runs instead, and `recorder.layers` are the tensors of the graph itself, for
    `torch.autograd.grad(score, recorder.layers)`.

    Modules of other classes than vitlib's are compared: what follows from the recomputed weights,
    weights · v, must be what the module hands to its `proj`, or gives back if it has none. Relative
    positions, talking heads, rotary positions, masks and the like are so refused.

    Args:
        model: any model whose attention modules have `qkv`, `num_heads` and `scale`, such as
            vitlib's, timm's and the book's; for `gradients` they also need `fused` and `attn_drop`.
        layers: which blocks to record, counted from 0 in forward order, or from -1 backwards.
            They must be given in forward order, since the result is in that order; None means all.
        gradients: whether to record tensors that gradients can reach.

    Raises ValueError if the model has no such modules or not that many layers, and, while the model
    runs, if a module computes its attention in another way; RuntimeError if nothing was recorded.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[int] | None = None, gradients: bool = False
    ):
        modules: list[Any] = [m for m in model.modules() if _is_attention(m)]
        if not modules:
            raise ValueError(
                f"{type(model).__name__} has no attention module to record: expected modules "
                f"with one layer qkv for queries, keys and values, num_heads and scale"
            )
        if layers is not None:
            modules = [modules[number] for number in _find_layers(layers, modules)]
        self._modules = modules
        for module in self._modules:
            if not isinstance(getattr(module, "q_norm", nn.Identity()), nn.Identity):
                raise ValueError(
                    f"{type(module).__name__} normalises q and k before the scores (q_norm), "
                    f"which AttentionRecorder does not recompute"
                )
            if gradients and not (hasattr(module, "fused") and hasattr(module, "attn_drop")):
                raise ValueError(
                    f"gradients=True needs attention modules with fused and attn_drop, "
                    f"which {type(module).__name__} lacks"
                )
        self.gradients = gradients
        self._weights: dict[nn.Module, Tensor] = {}
        self._expected: dict[nn.Module, Tensor] = {}  # weights · v, until it has been compared
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "AttentionRecorder":
        self._weights.clear()
        self._expected.clear()
        self._stance = torch.compiler.set_stance("force_eager")
        self._stance.__enter__()
        for module in self._modules:
            if self.gradients:
                hook = partial(self._store_dropout_input, module)
                self._handles.append(module.attn_drop.register_forward_pre_hook(hook))
            else:
                self._handles.append(
                    module.register_forward_pre_hook(self._recompute, with_kwargs=True)
                )
                if type(module) is not Attention:
                    self._watch(module)
        self._path = unfused(*self._modules) if self.gradients else nullcontext()
        self._path.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._path.__exit__(*exception)
        self._stance.__exit__(*exception)

    @property
    def attention(self) -> Float[Tensor, "B L H T T"]:
        """The weights of the last forward pass, stacked."""
        return torch.stack(self.layers, dim=1)

    @property
    def layers(self) -> list[Float[Tensor, "B H T T"]]:
        """The weights of the last forward pass, one tensor per layer, in forward order."""
        if not self._weights:
            raise RuntimeError(
                "AttentionRecorder has recorded nothing: run the model inside the with block"
            )
        return [self._weights[m] for m in self._modules if m in self._weights]

    @torch.no_grad()
    def _recompute(self, module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        x, *others = *inputs, *named.values()
        if any(isinstance(other, Tensor) for other in others):
            raise ValueError(
                f"{type(module).__name__} was called with more than its tokens, perhaps with a "
                f"mask, which AttentionRecorder does not recompute"
            )
        try:
            qkv = module.qkv(x)  # (B, T, 3D)
            q, k, v = rearrange(
                qkv, "b n (three h d) -> three b h n d", three=3, h=module.num_heads
            )
            weights = attention_weights(q, k, module.scale)
        except (EinopsError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{type(module).__name__} does not make q, k and v as (3, heads, width of a head) "
                f"from tokens (B, T, D), which is all that AttentionRecorder recomputes"
            ) from error
        self._store(module, weights)
        if type(module) is not Attention:
            self._expected[module] = rearrange(weights @ v, "b h n d -> b n (h d)")

    def _watch(self, module: Any) -> None:
        """Compare weights · v with what `module` hands to `proj`, else with what it gives back."""

        def before_projection(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if module in self._expected:
                self._compare(module, next(iter((*inputs, *named.values())), None))

        def after(_: nn.Module, __: Any, output: Any) -> None:
            if module in self._expected:
                self._compare(module, output)

        if isinstance(getattr(module, "proj", None), nn.Module):
            hook = module.proj.register_forward_pre_hook(before_projection, with_kwargs=True)
            self._handles.append(hook)
        self._handles.append(module.register_forward_hook(after))

    @torch.no_grad()
    def _compare(self, module: nn.Module, found: Any) -> None:
        expected = self._expected.pop(module)
        if isinstance(found, Tensor) and found.shape == expected.shape:
            precision = max(torch.finfo(t.dtype).eps for t in (found, expected)) ** 0.5
            difference = (found.double() - expected.double()).abs()
            if not (difference > precision * expected.double().abs().max()).any():
                return
        self._weights.clear()
        dropout = (
            " The module is in training mode, where dropout changes the weights: call model.eval()"
            " first, and see whether that is all."
        )
        raise ValueError(
            f"{type(module).__name__} does not compute softmax(q kᵀ · scale) · v: what it gives "
            f"differs from that, perhaps by relative or rotary positions, a mask, talking heads "
            f"or a norm. AttentionRecorder does not recompute these, and would record wrong "
            f"weights.{dropout if module.training else ''}"
        )

    def _store_dropout_input(
        self, module: nn.Module, _: nn.Module, inputs: tuple[Tensor, ...]
    ) -> None:
        self._store(module, inputs[0])

    def _store(self, module: nn.Module, weights: Tensor) -> None:
        if module in self._weights:  # a new forward pass has begun
            self._weights.clear()
        self._weights[module] = weights


def _is_attention(module: nn.Module) -> bool:
    has_all = all(hasattr(module, name) for name in ("qkv", "num_heads", "scale"))
    return has_all and callable(module.qkv)


def _find_layers(layers: Sequence[int], modules: list[Any]) -> list[int]:
    """The layers, all counted from 0; a ValueError, with the valid ones, if one does not exist."""
    is_list = isinstance(layers, Sequence) and not isinstance(layers, str)
    if not is_list or not layers or not all(isinstance(layer, Integral) for layer in layers):
        raise ValueError(f"layers must be a list of block numbers such as [0, -1], got {layers!r}")
    count = len(modules)
    for layer in layers:
        if not -count <= layer < count:
            raise ValueError(
                f"layer {layer} is out of range: the model has {count} layers, 0 to {count - 1}, "
                f"or -{count} to -1 counted from the last"
            )
    found = [int(layer) % count for layer in layers]
    if found != sorted(set(found)):
        raise ValueError(
            f"layers must be given in forward order, each once, got {list(layers)}: "
            f"of {count} layers these are {found}"
        )
    return found
