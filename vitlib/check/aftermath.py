"""What an answer leaves behind in the modules, lists and dictionaries that it is given.

    before = Modules([model])
    answer(model)
    before.changes()   # [Change("mode", "0.1", "..."), ...]

A task may ask for a change. What the reference changes, in the same case and at the same place, an
answer may change, too; for the rest there is `call(..., may_change=[kind])`. The kinds are "mode",
"hooks", "requires_grad", "parameters" and "buffers" (their numbers), "grad", "submodules" (and
parameters exchanged for new ones), "attributes", "inputs" and "shared state" (shared.py).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitlib.check.compare import same_tensors

KINDS = (
    "mode", "hooks", "requires_grad", "parameters", "buffers", "grad", "submodules", "attributes",
    "inputs", "shared state",
)  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SIMPLE = bool | int | float | str | torch.dtype
_PLAIN = frozenset(vars(nn.Module()))  # what every module keeps, looked at by other means


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was. Two are equal if they are of the same kind and place.

    now: what is there instead, where that tells one mistake from another. spot: the place for
    `same_changes`, where the answer is free to choose the name of what it adds.
    """

    kind: str
    place: str
    text: str = field(compare=False)
    now: Any = field(compare=False, default=None, repr=False)
    spot: str = field(compare=False, default="", repr=False)


def same_changes(some: Sequence[Change], others: Sequence[Change]) -> bool:
    """Whether two answers leave the same behind: in kind, in place, and in what is there now."""
    a, b = ({(c.kind, c.spot or c.place): c.now for c in changes} for changes in (some, others))
    return a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a)


def _same_value(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensors(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same_value, a, b))
    return type(a) is type(b) and (not isinstance(a, _SIMPLE) or a == b)


def check_kinds(may_change: Sequence[str]) -> None:
    """Raises ValueError for a kind that there is not."""
    if unknown := set(may_change) - set(KINDS):
        raise ValueError(f"may_change takes {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")


# --- modules


def _nobody(*_: Any) -> None:
    """A hook of somebody else, which should be there afterwards."""


def _lend_gradient(tensor: Tensor) -> bool:
    """Whether a gradient of zeros was put where there was none, so that its loss shows."""
    if not (tensor.is_leaf and tensor.requires_grad and tensor.grad is None):
        return False
    tensor.grad = torch.zeros_like(tensor)
    return True


@dataclass
class _State:
    """One module of a tree, as it was."""

    module: nn.Module
    training: bool
    parts: dict[str, Any]  # the parameters, buffers and submodules that it has itself
    hooks: dict[str, dict[int, Any]]
    attributes: dict[str, Any]


@dataclass
class _Numbers:
    """A parameter or a buffer, as it was."""

    tensor: Tensor
    values: Tensor
    requires_grad: bool
    grad: Tensor | None


class Modules:
    """Some modules with all that is in them, as they are now; `changes` says what is different.

    own: they are the answer's, which may keep in its attributes and buffers what it wants to.
    """

    def __init__(self, roots: Sequence[nn.Module], own: bool = False):
        self._own = own
        modules = {name: m for root in roots for name, m in root.named_modules()}
        self._foreign = [] if own else [m.register_forward_hook(_nobody) for m in modules.values()]
        self._lent = [] if own else [p for _, p in _tensors(roots) if _lend_gradient(p)]
        self._states = {name: _state(m) for name, m in modules.items()}
        self._numbers: dict[str, list[_Numbers]] = defaultdict(list)  # two roots may share a name
        for name, tensor in _tensors(roots):
            self._numbers[name].append(_numbers(tensor))

    def changes(self) -> list[Change]:
        """What is not as it was, one entry for each kind and place."""
        found = [c for name, state in self._states.items() for c in _in_module(name, state)]
        for name, several in self._numbers.items():
            found += [change for numbers in several for change in _in_numbers(name, numbers)]
        for handle in self._foreign:
            handle.remove()
        for parameter in self._lent:
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None
        if self._own:
            found = [c for c in found if c.kind in ("mode", "requires_grad", "parameters")]
        return found


def _tensors(roots: Sequence[nn.Module]) -> list[tuple[str, Tensor]]:
    return [(n, t) for r in roots for n, t in [*r.named_parameters(), *r.named_buffers()]]


def _state(module: nn.Module) -> _State:
    parts = {**module._parameters, **module._buffers, **module._modules}
    hooks = {kind: dict(getattr(module, kind)) for kind in HOOKS}
    return _State(module, module.training, parts, hooks, _attributes(module))


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _PLAIN}


def _numbers(tensor: Tensor) -> _Numbers:
    grad = _grad(tensor)
    kept = None if grad is None else grad.clone()
    return _Numbers(tensor, tensor.detach().clone(), tensor.requires_grad, kept)


def _grad(tensor: Tensor) -> Tensor | None:
    return tensor.grad if tensor.is_leaf else None  # of another, PyTorch warns


def _in_module(name: str, was: _State) -> Iterator[Change]:
    module, at = was.module, f"`{name}`" if name else "the model"
    if module.training is not was.training:
        mode, then = ("training", "eval") if module.training else ("eval", "training")
        yield Change(
            "mode", name,
            f"{at} is in {mode} mode afterwards, and it was in {then} mode before. Keep "
            "model.training at the beginning, and give it to model.train(...) at the end",
            module.training,
        )  # fmt: skip
    for kind in HOOKS:
        hooks = getattr(module, kind)
        if any(hooks.get(key) is not hook for key, hook in was.hooks[kind].items()):
            yield Change(
                "hooks", f"{name} removed",
                f"{at} had a hook of somebody else's, and it is gone. Keep what "
                "register_forward_hook returns, and remove that one alone",
            )  # fmt: skip
        if hooks.keys() - was.hooks[kind].keys():
            yield Change(
                "hooks", name,
                f"a hook is left on {at}. Keep what register_forward_hook returns, and call its "
                "remove()",
            )  # fmt: skip
    now = {**module._parameters, **module._buffers, **module._modules}
    for part in sorted(was.parts.keys() | now.keys()):
        if was.parts.get(part) is not now.get(part) and part not in was.module._buffers:
            where = f"{name}.{part}".strip(".")
            new = now.get(part)
            text = _exchanged(where, was.parts.get(part), new)
            yield Change("submodules", where, text, _kept(new))
    after = _attributes(module)
    for part in sorted(was.attributes.keys() | after.keys()):
        before_, now_ = was.attributes.get(part), after.get(part)
        if part not in was.attributes and _is_own_method(module, part, now_):
            continue
        if not _same(before_, now_):
            place, text = f"{name}.{part}".strip("."), _changed(at, part, was, after)
            is_new = part not in was.attributes  # under a name that the answer has chosen
            kept, spot = (None, f"{name}: new") if is_new else (_kept(now_), "")
            yield Change("attributes", place, text, kept, spot)


def _exchanged(where: str, before: Any, after: Any) -> str:
    if before is None:
        return f"`{where}` is new in the model"
    if after is None:
        return f"`{where}` is gone from the model"
    return f"`{where}` is not the one that was there, but a new one in its place"


def _changed(at: str, name: str, was: _State, after: Mapping[str, Any]) -> str:
    if name not in was.attributes:
        return f"{at} has an attribute `{name}` afterwards that it did not have before"
    if name not in after:
        return f"the attribute `{name}` of {at} is gone"
    before, now = was.attributes[name], after[name]
    if isinstance(before, bool | int | float | str) and isinstance(now, bool | int | float | str):
        return f"`{name}` of {at} is {now!r} afterwards, and it was {before!r}. Restore it"
    return f"`{name}` of {at} is not what it was. Restore it"


def _is_own_method(module: nn.Module, name: str, value: Any) -> bool:
    """Whether it is the method of the class again, put back by `module.forward = before`."""
    method = getattr(type(module), name, None)
    return method is not None and value == method.__get__(module)


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    return isinstance(a, _SIMPLE | tuple) and type(a) is type(b) and a == b


def _in_numbers(name: str, was: _Numbers) -> Iterator[Change]:
    tensor = was.tensor
    what = "parameters" if isinstance(tensor, nn.Parameter) else "buffers"
    if not same_bits(tensor.detach(), was.values):
        now = tensor.detach().clone()
        yield Change(what, name, f"the numbers in `{name}` are not what they were", now)
    if tensor.requires_grad is not was.requires_grad:
        yield Change(
            "requires_grad", name,
            f"`{name}` has requires_grad={tensor.requires_grad} afterwards, and it had "
            f"{was.requires_grad}. To compute without gradients, torch.no_grad() is enough",
            tensor.requires_grad,
        )  # fmt: skip
    grad = _grad(tensor)
    if (grad is None) is not (was.grad is None) or (
        grad is not None and was.grad is not None and not same_bits(grad, was.grad)
    ):
        how = "cleared" if grad is None else "not what it was"
        text = f"`{name}.grad` is {how} afterwards: it belongs to whoever trains the model"
        yield Change("grad", name, text, _kept(grad))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, nan included, in the same shape and dtype."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())


# --- what is inside of what an answer is given


def modules_in(values: Sequence[Any]) -> list[nn.Module]:
    """The modules among these values, and in lists, dictionaries and partial functions of them."""
    return [value for value in _unpacked(values) if isinstance(value, nn.Module)]


class Contents:
    """The tensors in lists and dictionaries, and what these hold; a tensor by itself is not one."""

    def __init__(self, values: Sequence[Any]):
        inside = [v for v in _unpacked(values) if not any(v is value for value in values)]
        self._tensors = [(t, t.detach().clone()) for t in inside if isinstance(t, Tensor)]
        self._holders = [(v, _held(v)) for v in _unpacked(values) if isinstance(v, list | dict)]

    def changes(self) -> list[Change]:
        """What is not as it was."""
        if any(not same_bits(tensor.detach(), before) for tensor, before in self._tensors):
            text = "a tensor in what your code was given is changed: copy before you write into it"
            return [Change("inputs", "tensor", text, [_kept(t) for t, _ in self._tensors])]
        for value, before in self._holders:
            now = _held(value)
            if now.keys() != before.keys() or any(now[k] is not before[k] for k in now):
                kind = "dictionary" if isinstance(value, dict) else "list"
                text = f"the {kind} that your code was given is changed: make a new one"
                return [Change("inputs", kind, text, _kept(value))]
        return []


def _kept(value: Any) -> Any:
    """What it is now, however it changes later: tensors are copied, in lists and the like, too."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _kept(inner) for key, inner in value.items()}
    return [_kept(inner) for inner in value] if isinstance(value, list | tuple) else value


def _held(value: list | dict) -> dict[Any, Any]:
    return dict(value) if isinstance(value, dict) else dict(enumerate(value))


def _unpacked(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield value
        if isinstance(value, list | tuple):
            yield from _unpacked(value)
        elif isinstance(value, dict):
            yield from _unpacked(list(value.values()))
        elif isinstance(value, partial):
            yield from _unpacked([*value.args, *value.keywords.values()])
