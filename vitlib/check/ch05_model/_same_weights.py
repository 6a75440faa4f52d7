"""A Vision Transformer with the reference's parameters, whatever it calls them."""

from collections import Counter
from contextlib import suppress
from functools import cache

import torch
from torch import nn

from vitlib.blocks import Block
from vitlib.check.exercise import Refused, build, fill, twin


def shapes_right(answer, reference, *sizes):
    """True, or a refusal that says which learned tensors are missing or too many."""
    theirs, ours = (
        Counter(tuple(p.shape) for p in model.parameters())
        for model in (build(answer, *sizes), _filled(reference, *sizes))
    )
    said = [
        f"{what}: " + ", ".join(f"{n} of {shape}" for shape, n in sorted(shapes.items()))
        for what, shapes in [("missing", ours - theirs), ("too many", theirs - ours)]
        if shapes
    ]
    if said:
        text = "; ".join(said)
        whole_blocks = (ours - theirs).total() >= 12
        reason = f"{text}; {_norms_applied(answer, *sizes)} norms" if whole_blocks else text
        raise Refused(text, reason)
    return True


def _norms_applied(answer, img_size, patch_size, in_chans, *sizes):
    """How often a LayerNorm runs: one block that is used again is told from one block alone."""
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    model = build(answer, img_size, patch_size, in_chans, *sizes)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(note)
    with suppress(Exception), torch.no_grad():
        model(torch.zeros(1, in_chans, img_size, img_size))
    return count


def vit_twin(answer, reference, *sizes):
    """twin(); but with other names, a last norm made before the blocks keeps its own weights."""
    module, model = build(answer, *sizes).double(), _filled(reference, *sizes)
    theirs, ours = _in_order(module), _in_order(model)
    if [kind for kind, _ in theirs] != [kind for kind, _ in ours]:
        return twin(answer, reference, *sizes)
    with torch.no_grad():
        for (_, mine), (_, wanted) in zip(theirs, ours, strict=True):
            mine.copy_(wanted)
    return module


@cache
def _filled(reference, *sizes):
    """The reference with random weights, to be read only: it is built once, beside the seed."""
    with torch.random.fork_rng([]):
        return fill(build(reference, *sizes))


def _in_order(model):
    """Pairs (kind, parameter), so sorted that it does not matter what is made first."""
    blocks = tuple(f"{path}." for path, m in model.named_modules() if isinstance(m, Block))
    pairs = [
        ((path.startswith(blocks), isinstance(owner, nn.LayerNorm), tuple(p.shape)), p)
        for path, owner in model.named_modules()
        for p in owner.parameters(recurse=False)
    ]
    return sorted(pairs, key=lambda pair: pair[0])
