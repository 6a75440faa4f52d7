"""Looking inside: read the attention weights of a model while it runs as always."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.attention import attention_weights, unfused


class AttentionRecorder:
    """Reads every layer's attention weights while the model runs.

        with AttentionRecorder(model) as recorder:
            logits = model(images)
        recorder.attention      # (B, L, H, N, N): image, layer, head, query token, key token

    Rows sum to 1: they are the weights before attention dropout. Each forward replaces the last.
    The model's own computation is left alone: a hook sees each attention module's input, and the
    weights are recomputed from it, so that the fused kernel stays on. Compiled models run
    uncompiled inside. With `gradients=True` the unfused path runs instead, and `recorder.layers`
    are the graph's own tensors, for `torch.autograd.grad(score, recorder.layers)`.

    Works on any model whose attention modules have `qkv`, `num_heads` and `scale`, as vitlib's,
    timm's and the book's own have; for `gradients` they need `fused` and `attn_drop` too.
    Raises ValueError if the model has no such modules, RuntimeError if nothing was recorded.
    """

    def __init__(self, model: nn.Module, gradients: bool = False):
        self._modules: list[Any] = [m for m in model.modules() if _is_attention(m)]
        if not self._modules:
            raise ValueError(
                f"{type(model).__name__} has no attention module to record: expected modules "
                f"with qkv, num_heads and scale"
            )
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
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "AttentionRecorder":
        self._weights.clear()
        self._stance = torch.compiler.set_stance("force_eager")
        self._stance.__enter__()
        for module in self._modules:
            if self.gradients:
                hook = partial(self._keep_dropout_input, module)
                self._handles.append(module.attn_drop.register_forward_pre_hook(hook))
            else:
                self._handles.append(
                    module.register_forward_pre_hook(self._recompute, with_kwargs=True)
                )
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
    def attention(self) -> Float[Tensor, "B L H N N"]:
        """The weights of the last forward, stacked."""
        return torch.stack(self.layers, dim=1)

    @property
    def layers(self) -> list[Float[Tensor, "B H N N"]]:
        """The weights of the last forward, layer by layer in the order in which modules stand."""
        if not self._weights:
            raise RuntimeError(
                "AttentionRecorder has recorded nothing: run the model inside the with block"
            )
        return [self._weights[m] for m in self._modules if m in self._weights]

    @torch.no_grad()
    def _recompute(self, module: Any, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        x, *_ = *inputs, *named.values()
        qkv = module.qkv(x)  # (B, N, 3D)
        q, k, _ = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=module.num_heads)
        self._keep(module, attention_weights(q, k, module.scale))

    def _keep_dropout_input(
        self, module: nn.Module, _: nn.Module, inputs: tuple[Tensor, ...]
    ) -> None:
        self._keep(module, inputs[0])

    def _keep(self, module: nn.Module, weights: Tensor) -> None:
        if module in self._weights:  # a new forward has begun
            self._weights.clear()
        self._weights[module] = weights


def _is_attention(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("qkv", "num_heads", "scale"))
