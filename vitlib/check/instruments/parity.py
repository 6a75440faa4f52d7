"""The parity ladder: where two models with the same weights first give different results."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.check.instruments.asking import check_question, evaluated, logits
from vitlib.check.report import Finding
from vitlib.drawing import draw_ladder
from vitlib.wording import first_few

Rungs = Mapping[str, tuple[str, str, str]]  # name -> path here, path there, "in" or "out"
EQUAL = 1e-9  # of the size of what is compared, in double precision
MOST = 10  # rungs that are drawn


@torch.no_grad()
def parity_ladder(
    model: nn.Module,
    reference: nn.Module,
    images: Float[Tensor, "B C H W"],
    rungs: Rungs | None = None,
) -> Finding:
    """The first place where a model parts from a reference that has the same weights.

    If the weights of both have the same names and shapes, the reference's copy gets the model's.
    Otherwise they must have been converted before, as by `vitlib.convert_state_dict`. Both are
    compared in eval mode and in double precision, where rounding is far below any mistake.

    Args:
        model: any module from images to logits. It is left as it is, and so is the reference.
        reference: another one, known to be right.
        images: at least 2.
        rungs: the places to compare, in order, each as (path of a module in the model, path in the
            reference, "in" for the first thing it is given or "out" for what it gives). By default
            every module that has the same path in both, and the logits.

    `value` is the largest difference at the first rung that parts, as a share of the size there.
    Raises ValueError for other arguments, and for paths that are not there.
    """
    ours, theirs = (evaluated(check_question(m, images)).double() for m in (model, reference))
    if _shapes(ours) == _shapes(theirs):
        theirs.load_state_dict(deepcopy(ours.state_dict()))
    elif rungs is None:
        raise ValueError(
            f"the weights have other names or shapes than the reference's: "
            f"{_first_apart(ours, theirs)}. Convert them first, and say by rungs what to compare"
        )
    left, right = (_record(m, images.double()) for m in (ours, theirs))
    if rungs is None:
        shared = (path for path, side in left if side == "out" and (path, side) in right)
        rungs = {path or "logits": (path, path, "out") for path in shared}
    apart: dict[str, float] = {}
    for name, (path, other, side) in rungs.items():
        for places, place in ((left, path), (right, other)):
            if (place, side) not in places:
                known = sorted({p for p, s in places if s == side})
                raise ValueError(f"nothing was seen at {place!r}: {first_few(known)} were")
        apart[name] = _distance(left[path, side], right[other, side])
    first = next((name for name, distance in apart.items() if not distance <= EQUAL), None)
    value = 0.0 if first is None else apart[first]
    sentence, cause = "Both models give the same at every rung.", ""
    if first is not None:
        number = list(apart).index(first)
        above = {0: "it is the first rung", 1: "the rung before it agrees"}.get(
            number, f"all {number} rungs before it agree"
        )
        sentence = f"The models part at {first}; {above}."
        cause = (
            "this module computes something else than the reference's, or is given something else. "
            "Compare its code, its settings, then its order."
        )
    return Finding(
        "parity ladder", first is not None, value,
        f"{sum(d <= EQUAL for d in apart.values())} of {len(apart)} rungs agree",
        sentence, cause, partial(_draw, rungs, apart, first),
    )  # fmt: skip


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _first_apart(ours: nn.Module, theirs: nn.Module) -> str:
    mine, its = _shapes(ours), _shapes(theirs)
    names = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
    return first_few(
        [f"{n} {mine.get(n, 'missing')} and {its.get(n, 'missing')}" for n in names], 3
    )


def _record(model: nn.Module, images: Float[Tensor, "B C H W"]) -> dict[tuple[str, str], Tensor]:
    """(path, "in" or "out") -> the tensor at the first call of each module, in order of results."""
    values: dict[tuple[str, str], Tensor] = {}

    def keep(path: str, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        for side, value in (("in", inputs[0] if inputs else None), ("out", output)):
            if isinstance(value, Tensor):
                values.setdefault((path, side), value.detach())

    named = [(path, module) for path, module in model.named_modules() if path]
    hooks = [module.register_forward_hook(partial(keep, path)) for path, module in named]
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it calls no module, so that none is seen
    try:
        values["", "out"] = logits(model, images).double()
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
        for hook in hooks:
            hook.remove()
    return values


def _distance(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return torch.inf
    ours, theirs = ours.double(), theirs.double()
    size = theirs.abs().max().clamp_min(1e-30)
    return ((ours - theirs).abs().max() / size).item()


def _draw(rungs: Rungs, apart: Mapping[str, float], first: str | None) -> str:
    """The rungs up to the first that parts, the last of them, and the logits."""
    names = list(apart)
    end = len(names) if first is None else names.index(first) + 1
    chosen = list(dict.fromkeys([*names[max(0, end - MOST) : end], names[-1]]))
    words = {"in": "into {}", "out": "{}"}
    rows = {
        name: (
            words[side].format(_short(path) or "logits"),
            words[side].format(_short(other) or "logits"),
            apart[name],
        )
        for name, (path, other, side) in ((name, rungs[name]) for name in chosen)
    }
    return draw_ladder(rows, ("the model", "the reference"), limit=EQUAL).svg


def _short(path: str) -> str:
    """A path that fits a box of the ladder: the end of a long one."""
    return path if len(path) <= 18 else "…" + ".".join(path.split(".")[-2:])
