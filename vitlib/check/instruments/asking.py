"""How a model of any kind is asked: for logits, for what its head reads, for tokens and patches.

A model is any module from images (B, C, H, W) to logits (B, K), given as a tensor, as the first of
a tuple, or as `.logits` of an object.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from vitlib.checkpoints import unwrapped
from vitlib.patch import pair
from vitlib.wording import check_count

VISIBLE = 1e-3  # a smaller share of a change is rounding


def check_question(model: Any, images: Any, least: int = 2) -> nn.Module:
    """The model, without `torch.compile`'s wrapper, if it and the images can be looked at.

    Raises ValueError for what is no module, and for what is no batch of at least `least` images.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected a model, a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else images
        raise ValueError(f"expected images, floats of shape (B, C, H, W), got {found}")
    check_count("the number of images", len(images), least)
    return unwrapped(model)


def logits(
    model: nn.Module, images: Float[Tensor, "B C H W"], grad: bool = False
) -> Float[Tensor, "B K"]:
    """The model's answer as logits, taken out of a tuple or an object with `.logits`."""
    with torch.set_grad_enabled(grad):
        answer = model(images)
    answer = getattr(answer, "logits", answer)
    answer = answer[0] if isinstance(answer, tuple) else answer
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != len(images):
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"expected logits of shape ({len(images)}, K) for {len(images)} images, got {found}"
        )
    return answer.to(torch.promote_types(answer.dtype, torch.float32))


def reader(
    model: nn.Module, images: Float[Tensor, "B C H W"]
) -> Callable[[Tensor], Float[Tensor, "B F"]]:
    """What is compared when images change: the logits, or what the head makes them of.

    Many models start with a head of zeros, which answers alike to everything. There, the input of
    the head says more than its answers. Probabilities are read as their logarithms.
    """

    def answers(others: Tensor) -> Tensor:
        return unsquashed(logits(model, others))

    def head_inputs(others: Tensor) -> Tensor:
        found: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 2 and isinstance(inputs[0], Tensor):
                found[:] = [inputs[0].detach().flatten(1)]

        hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, nn.Linear)]
        try:
            result = logits(model, others)
        finally:
            for hook in hooks:
                hook.remove()
        return found[0] if found else result

    is_constant = answers(images).std(dim=0).max() == 0
    return head_inputs if is_constant else answers


def unsquashed(answers: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """The logarithm of answers that are probabilities: near 0 and 1 they hardly change at all."""
    sums = answers.sum(dim=1)
    if answers.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return answers
    return answers.clamp_min(1e-9).log()


def copied(model: nn.Module) -> nn.Module:
    """A copy, also of a model that keeps results with their graph, which deepcopy refuses."""
    kept = (value for module in model.modules() for value in vars(module).values())
    results = [value for value in kept if isinstance(value, Tensor) and value.grad_fn is not None]
    return deepcopy(model, {id(value): value.detach() for value in results})


def evaluated(model: nn.Module) -> nn.Module:
    """A copy in eval mode."""
    return copied(model).eval()


def without_dropout(model: nn.Module) -> nn.Module:
    """The model in training mode, but for its dropout and stochastic depth."""
    for module in model.train().modules():
        if isinstance(module, _DropoutNd) or "drop" in type(module).__name__.lower():
            module.eval()
    return model


def is_norm(module: nn.Module) -> bool:
    """Whether it is a norm by its name, and not a block or a wrapper that contains one."""
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())


def smaller_batch(
    model: nn.Module, images: Float[Tensor, "B C H W"], count: int
) -> Float[Tensor, "b C H W"]:
    """The first `count` images; all of them, if the model takes no other number."""
    try:
        logits(model, images[:count])
    except Exception:  # whatever the reader's model raises
        return images
    return images[:count]


# --- images and patches


def patch_size(model: nn.Module, images: Tensor) -> tuple[int, int]:
    """(height, width) of a patch: what the model states, or of a convolution that moves by its own
    width, or half an image, which contains whole patches of most sizes."""
    stated = getattr(model, "patch_size", None)
    if stated is not None:
        return pair(stated, "the model's patch_size")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1):
            return pair(module.kernel_size)
    return images.shape[2] // 2, images.shape[3] // 2


def negative(images: Tensor, rows: slice, columns: slice) -> Tensor:
    """The images with other pixels in that part: 1 minus each of them."""
    changed = images.clone()
    changed[:, :, rows, columns] = 1.0 - changed[:, :, rows, columns]
    return changed
