"""Results in float32, because this chapter does not ask in which precision they are computed."""

from torch import Tensor


def single(result):
    floating = isinstance(result, Tensor) and result.is_floating_point()
    return result.float() if floating else result
