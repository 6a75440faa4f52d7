"""Can the model learn, and does all of it take part? Start, one batch by heart, gradients, dropout.

the model as it is        -> loss at the start
a copy, trained on a batch -> one batch by heart -> gradients, and what `responding` looks at
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib.check.instruments.asking import (
    check_question,
    copied,
    evaluated,
    logits,
    smaller_batch,
    without_dropout,
)
from vitlib.check.report import Finding
from vitlib.palette import BLUE, GREY, ORANGE
from vitlib.plots import plot_finding
from vitlib.wording import check_count, first_few

RATES = (3e-3, 3e-4)  # the second is for large models, which the first may break


def start_loss(
    model: nn.Module, images: Float[Tensor, "B C H W"], labels: Int[Tensor, "B"]
) -> Finding:
    """Whether the model begins about as unsure as somebody who knows nothing: loss ln K.

    `value` is the cross-entropy, in eval mode. The labels are class numbers.
    Raises ValueError for what is no model or no batch.
    """
    answers = logits(evaluated(check_question(model, images)), images)
    loss, expected = F.cross_entropy(answers, labels).item(), math.log(answers.shape[1])
    number = f"{loss:.2f}, ln K = {expected:.2f}"
    sentence, cause = "The model begins without a preference.", ""
    is_high = not loss <= expected + 0.5
    if is_high:
        sentence = "The model is sure of wrong answers before it has learned anything."
        cause = "its first weights are too large, or its pixels are and no norm tames them."
    if loss < expected - 0.5:
        sentence = "It is below that of a guess, so the model has been trained already."
    return Finding("loss at the start", is_high, loss, number, sentence, cause)


# --- one batch by heart


@dataclass(frozen=True)
class Learned:
    """A copy that was trained on one batch, in training mode without dropout, and its losses."""

    model: nn.Module
    losses: list[float]


def learn_batch(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, "B"],
    steps: int = 150,
) -> Learned:
    """Train a copy on one batch, with the better of two rates."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no parameter that could be trained")
    tries = []
    for rate in RATES:
        copy = without_dropout(copied(model))
        parameters = [p for p in copy.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
        losses: list[float] = []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 10)
            loss = F.cross_entropy(logits(copy, images, grad=True), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]) or losses[-1] < 0.02:
                break
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        tries.append(Learned(copy, losses))
        if losses[-1] < 0.1:
            break
    return min(tries, key=lambda one: one.losses[-1] if math.isfinite(one.losses[-1]) else math.inf)


def learnability(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, "B"] | None = None,
    steps: int = 150,
) -> Finding:
    """Whether a copy of the model can learn a few images by heart: then the gradient's path is
    whole. Such a test of "one batch" is old advice (Karpathy, A Recipe for Training Neural
    Networks, 2019).

    Args:
        model: any module from images to logits. It is left as it is.
        images: at least 2.
        labels: class numbers; by default classes in turn, which any model can learn, too.
        steps: optimiser steps in which they have to be learned.

    `value` is the last loss as a share of the first.
    Raises ValueError for other arguments, and for a model that cannot be trained.
    """
    inner = check_question(model, images)
    check_count("steps", steps)
    if labels is None:
        labels = classes_in_turn(inner, images)
    learned = learn_batch(inner, images, labels, steps)
    return one_batch(learned.losses, logits(learned.model, images).shape[1])


def classes_in_turn(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Int[Tensor, "B"]:
    """Labels 0, 1, 2, ..., up to the model's number of classes and again.

    Raises ValueError for a model with fewer than two classes, which has nothing to learn.
    """
    classes = logits(evaluated(model), images).shape[1]
    if classes < 2:
        raise ValueError(f"expected logits of at least two classes, got {classes}")
    return torch.arange(len(images), device=images.device) % classes


def one_batch(losses: list[float], classes: int, started_well: bool = True) -> Finding:
    """What `learn_batch` found, in words."""
    share = losses[-1] / max(losses[0], 0.1)
    is_found = not share <= 0.25
    number = f"loss {losses[0]:.2f} → {losses[-1]:.2f} in {len(losses)} steps"
    sentence, cause = "The model learns the images of one batch by heart.", ""
    if is_found:
        sentence = "The model cannot learn even one batch by heart."
        cause = "The answer does not depend on the image, or the gradient is cut somewhere."
        # Logits between 0 and 1, the right one 1 and the others 0.
        least = math.log(math.e + classes - 1) - 1
        if abs(losses[-1] - least) < 0.05:
            sentence = (
                f"The loss stops at {least:.2f}, the least that `F.cross_entropy` can give if it "
                "gets probabilities."
            )
            cause = "is there a softmax at the end of the model?"
        if not started_well:
            sentence = "The model cannot learn even one batch by heart."
            cause = "mend its start first."
    picture = partial(plot_finding, partial(_draw_losses, losses, math.log(classes)))
    return Finding("one batch by heart", is_found, share, number, sentence, cause, picture)


def _draw_losses(losses: list[float], guess: float, axes: Any) -> None:
    axes.plot(range(1, len(losses) + 1), losses, color=BLUE)
    axes.axhline(guess, color=GREY, linewidth=0.8, linestyle="--")
    axes.annotate("a guess", (1, guess), color=GREY, va="bottom")
    axes.set(xlabel="step on the same batch", ylabel="loss", ylim=(0, None))


# --- does everything take part?


def gradient_coverage(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, "B"] | None = None,
) -> Finding:
    """Whether the loss depends on every parameter, and whether all that looks like one is one.

    A tensor of random numbers or zeros that a module holds as a plain attribute, neither as a
    Parameter nor as a buffer, is never trained, never saved, and never moved to the GPU.

    Args:
        model: any module from images to logits, looked at as it is: a head of zeros lets no
            gradient through. `learn_batch` gives a copy without that.
        images: at least 2.
        labels: class numbers; by default classes in turn.

    `value` is the number of tensors that are left out. Raises ValueError for other arguments.
    """
    inner = copied(check_question(model, images))
    if labels is None:
        labels = classes_in_turn(inner, images)
    named = [(name, p) for name, p in inner.named_parameters() if p.requires_grad]
    inner.zero_grad(set_to_none=True)
    before = plain_tensors(inner)
    F.cross_entropy(logits(inner, images, grad=True), labels).backward()
    after = plain_tensors(inner)  # what the model keeps of its results is another tensor by now
    plain = [name for name, tensor in before.items() if after.get(name) is tensor]
    sizes = [0.0 if p.grad is None else p.grad.norm().item() for _, p in named]
    idle = [name for (name, _), size in zip(named, sizes, strict=True) if not size > 0]
    offered = parameters_of_other_results(inner, images) if idle else set()
    # A mask token waits for images with a mask, which masked pretraining has.
    idle = [n for n in idle if n not in offered and "mask" not in n.rpartition(".")[2]]
    frozen = sum(not p.requires_grad for p in inner.parameters())
    number = f"{len(named) - len(idle)} of {len(named)} tensors"
    sentence, cause = "The loss depends on every parameter.", ""
    if frozen:
        sentence = f"The loss depends on every parameter but the {frozen} frozen tensors."
    if plain:
        number = f"{len(plain)} of {len(named) + len(plain)} tensors are no parameter"
        sentence = f"No optimiser ever sees {first_few(plain, most=4)}."
        cause = "it is a plain tensor, and should be an `nn.Parameter`, or a buffer if it is fixed."
    if idle:
        sentence = f"No gradient reaches {first_few(idle, most=4)}."
        cause = (
            "it is built but never used, its result is thrown away, or the path to it is cut by "
            "`detach`."
        )
    return Finding(
        "gradients", bool(idle or plain), len(idle) + len(plain), number, sentence, cause,
        partial(plot_finding, partial(_draw_sizes, sizes)),
    )  # fmt: skip


def parameters_of_other_results(model: nn.Module, images: Float[Tensor, "B C H W"]) -> set[str]:
    """The names of parameters that a named result depends on, beside the logits.

    Hugging Face's models hand a `pooler_output` from one module to the next, in a mapping. Where
    the logits are computed without it, its layers are idle by intention.
    """
    results: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Mapping):
            results.extend(v for v in output.values() if isinstance(v, Tensor) and v.grad_fn)

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        logits(model, images, grad=True)
    finally:
        for hook in hooks:
            hook.remove()
    if not results:
        return set()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    total = sum(((result.square()).sum() for result in results), torch.zeros(()))
    grads = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
    return {name for (name, _), grad in zip(named, grads, strict=True) if grad is not None}


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The attributes, by name, that are tensors to be learned by their looks, and no parameters.

    Only unstructured ones, random numbers or zeros, count: rows of a table of sines and cosines,
    which code often keeps like this, all have one length.
    """
    found = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if value.ndim < 2 or value.numel() < 2 or not value.isfinite().all():
                continue  # a number, or a mask
            lengths = value.detach().flatten(0, -2).norm(dim=-1)
            is_table = (
                lengths.min() > 0 and len(lengths) > 1 and lengths.std() < 1e-3 * lengths.mean()
            )
            is_random = len(value.unique()) > 0.9 * value.numel()
            if (is_random and not is_table) or not value.any():
                found[f"{path}.{name}".removeprefix(".")] = value
    return found


def _draw_sizes(sizes: Sequence[float], axes: Any) -> None:
    idle = [number for number, size in enumerate(sizes) if not size > 0]
    least = min([size for size in sizes if size > 0], default=1.0)
    axes.bar(range(len(sizes)), [max(size, least / 10) for size in sizes], color=BLUE, width=0.8)
    for number in idle:
        axes.text(number, least / 10, "×", color=ORANGE, ha="center", va="bottom")
    axes.set(yscale="log", xlabel="parameter, from the first to the last", ylabel="gradient's norm")


@torch.no_grad()
def dropout_coverage(model: nn.Module, images: Float[Tensor, "B C H W"]) -> Finding:
    """Whether each `nn.Dropout` of the model changes anything in training mode.

    Each one by itself is put in training mode with p = 0.5, all else in eval mode. A layer that
    is built and never applied leaves every result as it was.

    Args:
        model: any module from images to logits, looked at as it is, and left so: nothing passes
            through a head of zeros.
        images: at least 2.

    `value` is the number of dropout layers that change nothing. Raises ValueError for other
    arguments.
    """
    inner = evaluated(check_question(model, images))
    images = smaller_batch(inner, images, 2)
    parents = dict(inner.named_modules())
    layers = [name for name, module in parents.items() if isinstance(module, nn.Dropout)]
    if not layers:
        return Finding("dropout", None, 0, "no nn.Dropout", "There is no dropout layer to look at.")
    idle = []
    for name in layers:
        path, _, own = name.rpartition(".")
        before, after = (_in_training(inner, path, own, p, images) for p in (0.0, 0.5))
        if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            idle.append(name)
    sentence, cause = "Each dropout layer changes what the model computes in training.", ""
    if idle:
        sentence = f"Nothing ever passes through {first_few(idle, most=4)}."
        cause = "the layer is built in `__init__` and never applied in `forward`."
    number = f"{len(layers) - len(idle)} of {len(layers)} layers are applied"
    return Finding("dropout", bool(idle), len(idle), number, sentence, cause)


def _in_training(
    model: nn.Module, path: str, name: str, p: float, images: Float[Tensor, "B C H W"]
) -> list[Tensor]:
    """What all modules give while one dropout layer, with rate p, and its parent are in training
    mode. Code with a fused kernel asks the parent for its mode, and often for the rate as well, as
    a number of the layer's name: `attn_drop_p` for `attn_drop`."""
    model = copied(model)
    parent = model.get_submodule(path)
    dropout = parent.get_submodule(name)
    assert isinstance(dropout, nn.Dropout)
    dropout.p = p
    for other, value in list(vars(parent).items()):
        if other.startswith(name) and type(value) in (int, float):
            setattr(parent, other, p)
    for module in (parent, dropout):
        module.training = True
    return all_outputs(model, images)


def all_outputs(model: nn.Module, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
    """What every module that has weights of its own gives, in the order of the calls."""
    found: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output.detach())

    owners = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    hooks = [module.register_forward_hook(keep) for module in owners]
    try:
        found.append(logits(model, images))
    finally:
        for hook in hooks:
            hook.remove()
    return found
