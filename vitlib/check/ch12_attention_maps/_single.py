"""Results in float32: whether an answer's mask or buffer was float32 or float64 is not asked."""

from torch import Tensor


def single(result):
    floating = isinstance(result, Tensor) and result.is_floating_point()
    return result.float() if floating else result


def in_single(run):
    return lambda: single(run())
