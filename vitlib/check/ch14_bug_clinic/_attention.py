"""What the cases about an attention layer look at: what dropout does to its output."""

import torch

from vitlib.check.exercise import call


def dropped(module, x):
    """What dropout in training does to the output in evaluation, coarsely."""
    kept, out = call(module.eval(), x), call(module.train(), x)
    factors = (out / kept)[out != 0]
    even = bool(torch.allclose(factors, factors[:1].expand_as(factors)))
    return {
        "numbers that are 0": f"about {round(20 * out.eq(0).double().mean().item()) * 5} %",
        "the others are those of evaluation, times": round(factors[0].item(), 6)
        if even
        else "various",
    }
