"""How wrong numbers relate to the right ones, in words that are true of all of them.

`same_shape` compares tensors of one shape, `other_shape` those of two. What is said is looked for
in the numbers: a factor, a sign, a shift, an order. How many are right comes last, as the least.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor


def same_shape(yours: Tensor, target: Tensor) -> str:
    """How floating-point numbers that are not equal relate, where that says more than how far."""
    if target.dtype == torch.float64 and torch.allclose(
        yours, target, rtol=1e-6, atol=1e-6, equal_nan=True
    ):
        far = (yours - target).abs().nan_to_num().max()
        return f"the numbers are up to {far:.1g} off: right in float32, but these are float64"
    if yours.isnan().any() and not target.isnan().any():
        return f"{int(yours.isnan().sum())} of {yours.numel()} numbers are nan"
    if yours.isinf().any() and not target.isinf().any():
        return f"{int(yours.isinf().sum())} of {yours.numel()} numbers are infinite"
    if (yours == 0).all():
        return "all numbers are zero"
    if yours.ndim == 0:
        return _one_number(yours.item(), target.item())
    looks = (_all_alike, _reordered, _along_axes, _functions)
    return next((found for look in looks for found in look(yours, target)), "") or count_right(
        yours, target
    )


def _one_number(yours: float, target: float) -> str:
    text = f"yours is {yours:.4g}, and it should be {target:.4g}"
    ratio = yours / target if target else math.nan
    if math.isclose(ratio, -1, rel_tol=1e-5):
        return f"{text}: the sign is wrong"
    for factor, words in ((ratio, "{} times too much"), (1 / (ratio or math.nan), "1/{} of it")):
        if factor > 1.5 and math.isclose(factor, round(factor), rel_tol=1e-5):
            return f"{text}: {words.format(round(factor))}"
    return text


def _all_alike(yours: Tensor, target: Tensor) -> Iterator[str]:
    """One sign, factor or shift for all numbers."""
    if close(yours, -target):
        yield "the numbers have the wrong sign"
    ratio = (yours / target)[target.abs() > 1e-6]
    if ratio.numel() > 1 and close(yours, ratio[0] * target):
        yield f"every number is {ratio[0]:.4g} times the right one"
    offset = yours - target
    if offset.numel() > 1 and close(offset, offset.flatten()[0].expand_as(offset)):
        yield f"every number is {offset.flatten()[0]:.4g} away from the right one"


def _reordered(yours: Tensor, target: Tensor) -> Iterator[str]:
    """The right numbers in another order: of axes, or along one of them."""
    if yours.numel() < 2 or not close(*(t.flatten().sort().values for t in (yours, target))):
        return
    if swapped := as_permuted(yours, target):
        yield "the axes are not where they should be" + swapped
    for axis in range(yours.ndim):
        if yours.shape[axis] > 1 and close(yours.flip(axis), target):
            yield f"the numbers are right, and run backwards along axis {axis}"
    for axis, size in enumerate(yours.shape):
        for by in range(1, size):
            if size > 2 and close(yours.roll(-by, axis), target):
                far = f"{by}" if by <= size // 2 else f"−{size - by}"
                yield f"the numbers are right, and shifted by {far} along axis {axis}, in a circle"
        if order := _order(yours, target, axis):
            yield (
                f"the numbers are right, in another order along axis {axis}: at {order[0]} stands "
                f"what belongs at {order[1]}"
            )
    for axes in itertools.permutations(range(yours.ndim)) if yours.ndim <= 4 else ():
        if close(target.permute(axes).reshape(target.shape), yours):
            yield (
                f"the numbers are the right ones, in the order of target.permute{axes}, and the "
                "shape is the target's: somewhere, a reshape stands for a swap of axes"
            )
    yield "the numbers are the right ones, in wrong places"


def _order(yours: Tensor, target: Tensor, axis: int) -> tuple[int, int] | None:
    """Whether the slices along an axis have changed places; then one such: where, and whence."""
    mine, its = yours.unbind(axis), target.unbind(axis)
    if not 2 <= len(mine) <= 32 or mine[0].numel() < 2:
        return None
    places = [next((j for j, b in enumerate(its) if close(a, b)), -1) for a in mine]
    if sorted(places) != list(range(len(mine))):
        return None
    return next((i, j) for i, j in enumerate(places) if i != j)


def _along_axes(yours: Tensor, target: Tensor) -> Iterator[str]:
    """A factor or a shift that differs along some axes and is the same along the others."""
    if yours.ndim < 2:
        return
    offset, ratio = yours - target, yours / target
    known = bool((target.abs() > 1e-6).all())
    for axis, size in enumerate(yours.shape):
        if size < 3 or yours.numel() == size:
            continue
        if close(offset, offset.narrow(axis, 0, 1).expand_as(offset), target):
            yield (
                f"what is wrong is a shift that is the same all along axis {axis}: "
                f"{_some(offset.select(axis, 0))}"
            )
        if known and close(yours, ratio.narrow(axis, 0, 1) * target):
            yield (
                f"what is wrong is a factor that is the same all along axis {axis}: "
                f"{_some(ratio.select(axis, 0))}"
            )


def _some(values: Tensor) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values.flatten()[:3].tolist())
    return shown + ", …" * (values.numel() > 3)


def _functions(yours: Tensor, target: Tensor) -> Iterator[str]:
    """What became of each number by itself."""
    for name, function in {
        "the absolute value": torch.abs,
        "the square": torch.square,
        "the square root": torch.sqrt,
        "the exponential": torch.exp,
        "the logarithm": torch.log,
        "1 divided by": torch.reciprocal,
        "1 minus": lambda t: 1 - t,
    }.items():
        if yours.numel() > 2 and close(yours, function(target)):
            yield f"every number is {name}{' of' * (name[0] != '1')} the right one"


def count_right(yours: Tensor, target: Tensor) -> str:
    """How many numbers are right, where the wrong ones are, and the first of them."""
    a, b = yours.double(), target.double()
    rough = {torch.float64: 1e-6}.get(target.dtype, 1e-4) if target.is_floating_point() else 0.0
    same = torch.isclose(a, b, rtol=rough, atol=rough, equal_nan=True)
    place = (~same).nonzero()[0].tolist() if yours.ndim else []
    at = f" at {place}" if place else ""
    values = f"yours is {a[tuple(place)]:.4g}{at}, and it should be {b[tuple(place)]:.4g}"
    if not same.any():
        return f"no number is right: {values}"
    return f"{int(same.sum())} of {same.numel()} numbers are right{_region(~same)}; {values}"


def _region(wrong: Tensor) -> str:
    """Which numbers are wrong, if it is all of one index of an axis and nothing else."""
    for axis, size in enumerate(wrong.shape if wrong.ndim > 1 else ()):
        whole = [bool(part.all()) for part in wrong.unbind(axis)]
        if size > 2 and sum(whole) == 1 and wrong.sum() * size == wrong.numel():
            return f", all but those at index {whole.index(True)} of axis {axis}"
    return ""


# --- two shapes


def other_shape(yours: Tensor, target: Tensor) -> str:
    """What would make the shape right, beginning with a colon; empty if it is not known."""
    if sorted(yours.shape) == sorted(target.shape):
        return as_permuted(yours, target)
    if yours.dtype != target.dtype:
        return ""
    if yours.numel() == target.numel():
        if close(yours.reshape(target.shape), target):
            return f": yours.reshape{tuple(target.shape)} would be right"
        return ": the same number of values, in other axes"
    return next(_parts(yours, target), "")


def _parts(yours: Tensor, target: Tensor) -> Iterator[str]:
    if yours.ndim == target.ndim:
        apart = [
            i for i, (a, b) in enumerate(zip(yours.shape, target.shape, strict=True)) if a != b
        ]
        if len(apart) == 1 and yours.numel() and target.numel():
            axis = apart[0]
            short, long = sorted((yours, target), key=lambda t: t.shape[axis])
            size, whole = short.shape[axis], long.shape[axis]
            what = "missing" if short is yours else "too many"
            for start in range(whole - size + 1):
                if close(long.narrow(axis, start, size), short):
                    ends = _ends(start, whole - size, what)
                    yield f": the rest is right, along axis {axis} {ends}"
    if yours.ndim == target.ndim - 1:
        for axis in range(target.ndim):
            if yours.shape == target.select(axis, 0).shape:
                for index in {0, target.shape[axis] - 1}:
                    if close(yours, target.select(axis, index)):
                        yield f": yours is the right one at index {index} of axis {axis} alone"
                for name, made in (("mean", target.mean), ("sum", target.sum)):
                    if target.is_floating_point() and close(yours, made(dim=axis)):
                        yield f": yours is the {name} of the right one along axis {axis}"


def _ends(before: int, together: int, what: str) -> str:
    after = together - before
    sides = [f"the first {before}"] * bool(before) + [f"the last {after}"] * bool(after)
    verb = "is" if together == 1 else "are"
    return f"{' and '.join(sides)} {verb} {what}".replace("first 1 ", "first ").replace(
        "last 1 ", "last "
    )


def as_permuted(yours: Tensor, target: Tensor) -> str:
    """Which axes to swap so that yours becomes the target; empty if none do."""
    if not 2 <= yours.ndim <= 4 or yours.dtype != target.dtype:
        return ""
    for order in itertools.permutations(range(yours.ndim)):
        moved = yours.permute(order)
        unmoved = order == tuple(range(yours.ndim))
        if not unmoved and moved.shape == target.shape and close(moved, target):
            return f": yours.permute{order} would be right"
    return ""


def close(a: Tensor, b: Tensor, scale: Tensor | None = None) -> bool:
    """Equal up to rounding, which is as large as the largest number (of `scale`) lets it be."""
    if not a.is_floating_point():
        return bool((a == b).all())
    largest = max([1e-30, *(b if scale is None else scale).abs().flatten().tolist()])
    rough = 1e-7 if a.dtype == torch.float64 else 2e-6
    return torch.allclose(a, b, rtol=1e-5, atol=rough * min(largest, 1e6))
