"""What DropPath does in training: whom it drops, how often, and how it scales the rest.

Exact where it must be, else coarse: far enough from the borders that luck does not matter.
"""

import torch


def fates(x, passes):
    """What several passes of x, all numbers of which differ from 0, make of its samples."""
    drawn_for = dropped = factor = "unknown"
    if passes[0].shape == x.shape:
        factors = torch.stack([(out / x).flatten(1) for out in passes])  # (passes, B, numbers)
        drawn_for = whose_draw(x, factors)
        share = factors.eq(0).double().mean().item()
        dropped = f"about {25 * round(4 * share)} %"
        if drawn_for == "the whole batch":
            dropped = "all or none"  # where one draw decides all, the share is luck
        kept = factors[factors != 0]
        if kept.numel():
            factor = round(kept.median().item(), 6)
    return {
        "shape": str(tuple(passes[0].shape)),
        "drawn for": drawn_for,
        "dropped": dropped,
        "the kept ones are multiplied by": factor,
    }


def whose_draw(x, factors):
    """Which numbers of x are dropped together; `factors` is (passes, B, numbers)."""
    zero = factors == 0
    if not zero.any():
        return "nobody: nothing is dropped"
    if ((factors != factors[..., :1]) & zero.any(-1, keepdim=True)).any():  # within a sample
        if x.ndim > 2:
            tokens = zero.reshape(-1, x[0, 0].numel())
            channels = zero.reshape(-1, x[0, ..., 0].numel(), x.shape[-1])
            if (tokens == tokens[:, :1]).all():
                return "each token"
            if (channels == channels[:, :1]).all():
                return "each channel"
        return "each number"
    samples = zero[..., 0]
    if not (samples.any(1) & ~samples.all(1)).any():
        return "the whole batch"
    same = (factors == factors[:1]).all()
    return "each sample, but the same in every pass" if same else "each sample"
