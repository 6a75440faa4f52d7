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
        one, other = yours.item(), target.item()
        return f"yours is {one:.4g}, and it should be {other:.4g}" + one_number(one, other)
    return pattern(yours, target) or count_right(yours, target)


def pattern(yours: Tensor, target: Tensor) -> str:
    """What all the numbers have in common; empty if nothing is found."""
    looks = (_all_alike, _reordered, _along_axes, _functions)
    return next((found for look in looks for found in look(yours, target)), "")


def kinds(yours: Tensor, target: Tensor) -> Iterator[str]:
    """What is true of all numbers of a case, said without its values: it may hold in others, too.

    Tensors of one shape and floating-point dtype with at least 3 finite numbers; else nothing.
    """
    if yours.shape != target.shape or yours.dtype != target.dtype or yours.numel() < 3:
        return
    if not (target.is_floating_point() and yours.isfinite().all() and target.isfinite().all()):
        return
    if close(yours, -target):
        yield "all numbers have the wrong sign"
    ratio = (yours / target)[target.abs() > 1e-6]
    if ratio.numel() > 2 and ratio[0].abs() > 1e-6 and close(yours, ratio[0] * target):
        yield "the numbers are right up to one factor"
    offset = (yours - target).flatten()
    if close(offset, offset[0].expand_as(offset), target):
        yield "the numbers are right up to one shift, which is the same for all of them"
    for axis, size in enumerate(target.shape):
        if _order(yours, target, axis):
            yield f"what stands along axis {axis} is right, in another order"
        if size < 2:
            continue
        right = [close(a, b) for a, b in zip(yours.unbind(axis), target.unbind(axis), strict=True)]
        for index, name in ((0, "first"), (size - 1, "last")):
            if right[index] and sum(right) == 1:
                yield f"only the {name} index of axis {axis} is right"
            if not right[index] and sum(right) == size - 1:
                yield f"only the {name} index of axis {axis} is wrong"
    yield from _scattered(yours, target)


def _scattered(yours: Tensor, target: Tensor) -> Iterator[str]:
    """The right numbers in wrong places, and along which axes they are mixed."""
    if not _same_numbers(yours, target):
        return
    parts = [zip(yours.unbind(a), target.unbind(a), strict=True) for a in range(target.ndim)]
    kept = [a for a, both in enumerate(parts) if all(itertools.starmap(_same_numbers, both))]
    kept = [a for a in kept if target.shape[a] > 1]
    mixed = [a for a in range(target.ndim) if target.shape[a] > 1 and a not in kept]
    said = "the numbers are the right ones, and stand in wrong places"
    if kept and mixed:
        yield f"{said} along axis {' and '.join(map(str, mixed))}"
    yield said


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    return close(*(t.flatten().sort().values for t in (a, b)))


def one_number(yours: float, target: float) -> str:
    """How one number relates to the right one, beginning with a colon; empty if it does not."""
    ratio = yours / target if target and math.isfinite(yours) else 0.0
    if math.isclose(ratio, -1, rel_tol=1e-5):
        return ": the sign is wrong"
    for factor, words in ((ratio, "{} times too much"), (1 / (ratio or math.inf), "1/{} of it")):
        if factor > 1.5 and math.isclose(factor, round(factor), rel_tol=1e-5):
            return f": {words.format(round(factor))}"
    if isinstance(target, int) and abs(yours - target) == 1:
        return ": 1 too many" if yours > target else ": 1 too few"
    return ""


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
    if yours.numel() < 2 or not _same_numbers(yours, target):
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
                f"the numbers are right, in another order along axis {axis}: index {order[0]} "
                f"holds what belongs at index {order[1]}"
            )
    for axes in itertools.permutations(range(yours.ndim)) if yours.ndim <= 4 else ():
        if close(target.permute(axes).reshape(target.shape), yours):
            yield (
                "the numbers are the right ones, but laid out as "
                f"target.permute{axes}.reshape{tuple(target.shape)} would"
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
    if yours.ndim < 2 or torch.isclose(yours, target, rtol=1e-6, atol=1e-6).any():
        return
    yield from _pattern("minus", yours - target, target)
    if (target.abs() > 1e-6).all():
        yield from _pattern("divided by", yours / target, torch.ones(1))


def _pattern(verb: str, values: Tensor, scale: Tensor) -> Iterator[str]:
    """Along which axes these values, of yours and the target, are all the same."""
    axes = range(values.ndim)
    same = [a for a in axes if close(values, values.narrow(a, 0, 1).expand_as(values), scale)]
    if math.prod(values.shape[axis] for axis in same) < 3:
        return
    shown = values
    for axis in same:
        shown = shown.narrow(axis, 0, 1)
    differ = [axis for axis in axes if axis not in same and values.shape[axis] > 1]
    if len(differ) == 1:
        where = f"depend on axis {differ[0]} alone"
    else:
        where = f"are the same at every index of axis {' and '.join(map(str, same))}"
    yield f"your numbers {verb} the right ones {where}: {_some(shown)}"


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
        if yours.squeeze().shape == target.squeeze().shape:
            return f": an axis of size 1 is {'missing' if yours.ndim < target.ndim else 'too many'}"
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
