"""Instruments: small functions that look for one kind of mistake each, in a model of any kind.

    finding = token_mixing(model, images)   # a Finding: one sentence, one number, the usual cause
    examine(model, images)                  # all of them: a Checklist

    asking.py     how any model is asked          weights.py    how its attention is watched
    initial.py    first weights, norms            learning.py   one batch, gradients, dropout
    mixing.py     the tokens' Jacobian            responding.py parts, order, batch, eval mode
    attention.py  sums and scores                 parity.py     the ladder to a reference

A model is any `nn.Module` from images (B, C, H, W) to logits, timm's and Hugging Face's too. It is
never changed: every instrument works on copies. Where a number is compared with a limit, the limit
comes from benchmarks/instruments.py, which runs them all over models known to be right.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitlib.check.instruments.asking import check_question, logits
from vitlib.check.instruments.attention import attention_rows, entropy_by_depth
from vitlib.check.instruments.initial import init_statistics, is_fresh, norm_scope
from vitlib.check.instruments.learning import (
    classes_in_turn,
    dropout_coverage,
    gradient_coverage,
    learn_batch,
    learnability,
    one_batch,
    start_loss,
)
from vitlib.check.instruments.mixing import token_mixing
from vitlib.check.instruments.parity import parity_ladder
from vitlib.check.instruments.responding import (
    batch_independence,
    eval_determinism,
    every_part,
    permutation,
)
from vitlib.check.report import Checklist, Finding

__all__ = [
    "attention_rows",
    "batch_independence",
    "dropout_coverage",
    "entropy_by_depth",
    "eval_determinism",
    "every_part",
    "examine",
    "gradient_coverage",
    "init_statistics",
    "learnability",
    "norm_scope",
    "parity_ladder",
    "permutation",
    "start_loss",
    "token_mixing",
]

Instrument = Callable[[nn.Module, Tensor], Finding]

# How a copy that has learned a batch answers. As it is made, a model may answer alike to all.
RESPONSES: tuple[Instrument, ...] = (
    every_part, token_mixing, permutation, batch_independence, eval_determinism,
)  # fmt: skip
WEIGHTS: tuple[Instrument, ...] = (init_statistics, norm_scope, attention_rows, entropy_by_depth)


def examine(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, "B"] | None = None,
    reference: nn.Module | None = None,
    steps: int = 150,
    seed: int = 0,
) -> Checklist:
    """All instruments, one after the other.

    Args:
        model: any module from images to logits. It is left as it is.
        images: at least 2, normalised as in training. Noise does: nothing is learned of them
            that outlives this call.
        labels: class numbers; by default classes in turn.
        reference: a model with the same weights that is known to be right, for the parity ladder.
        steps: optimiser steps in which the images have to be learned by heart.
        seed: of dropout, and whatever else is drawn.

    Raises ValueError for what is no model or no batch, for answers that are not logits (B, K) with
    K at least 2, and for weights that the reference does not have.
    """
    return Checklist(tuple(findings(model, images, labels, reference, steps, seed)))


def findings(
    model: nn.Module,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, "B"] | None = None,
    reference: nn.Module | None = None,
    steps: int = 150,
    seed: int = 0,
) -> Iterator[Finding]:
    """What `examine` finds, each as soon as it is found."""
    inner = check_question(model, images)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        labels = classes_in_turn(inner, images) if labels is None else labels
        start = start_loss(inner, images, labels)
        if is_fresh(inner):
            yield start
        for instrument in WEIGHTS:
            yield instrument(inner, images)
        learned = learn_batch(inner, images, labels, steps)
        classes = logits(learned.model, images).shape[1]
        yield one_batch(learned.losses, classes, start.passed)
        yield gradient_coverage(learned.model, images, labels)
        yield dropout_coverage(learned.model, images)
        for instrument in RESPONSES:
            yield instrument(learned.model, images)
        if reference is not None:
            yield parity_ladder(inner, reference, images)
