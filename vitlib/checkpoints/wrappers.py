"""Unwrapping a file's weights: from training checkpoints, DataParallel, Lightning, compile.

    nested dictionaries and prefixed names -> where a ViT's names begin -> names without all that

A ViT is recognised by the names of its patch projection (the "anchors" that `dialects.py` passes),
at whatever depth they are. What precedes them, keys and prefixes alike, is taken off and recorded;
what stands beside the model is left out and named.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from vitlib.checkpoints.arrays import is_tensor
from vitlib.wording import first_few

# Where a file holds several models, the first of these is taken: "" is a model without a prefix.
# The averaged weights of DINO's teacher are what its authors evaluate; of other pairs, the one that
# was trained by gradients. Of models under other words, the user has to choose.
_TAKEN_FIRST = (
    "", "state_dict", "model_state_dict", "model", "module", "teacher", "base_encoder",
    "encoder_q", "online_encoder", "target_encoder", "ema_model", "backbone", "encoder", "net",
)  # fmt: skip
# Words that torch puts into the middle of names: compiled, sharded and checkpointed modules.
_INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_INNER_WORDS = re.compile("|".join(rf"(?:^|(?<=[./])){re.escape(word)}" for word in _INNER))

Anchor = tuple[re.Pattern[str], tuple[str, ...]]  # of a name's end; the dialect's own prefixes
Path = tuple[str, ...]  # keys as '["model"]', prefixes as '"module."', from the outside in


class UnwrappedWeights(NamedTuple):
    """The weights without their wrappers, and a record of what was taken off and left out."""

    values: dict[str, tuple[str, Any]]  # name without wrappers -> (name in the file, value)
    wrappers: list[str]  # what was taken off, from the outside in
    left_out: dict[str, str]  # what else the file holds -> why it is left out
    guesses: list[str]  # sentences: which of several models was taken, what stands beside it


class _Model(NamedTuple):
    """A place in the file where a ViT's names begin."""

    path: Path
    keys: tuple[str, ...]  # that lead to `mapping`
    mapping: Mapping[str, Any]
    prefix: str  # of the cleaned names in `mapping`


def unwrap_weights(
    state_dict: Mapping[str, Any], tiers: Sequence[Sequence[Anchor]]
) -> UnwrappedWeights:
    """Find the weights in a state dict, however they are nested and prefixed.

    Args:
        state_dict: tensors by name, perhaps within dictionaries and under prefixes.
        tiers: names by which a model is recognised; later ones count if no earlier one is found.

    Raises ValueError for something that holds no weights, or those of several models between which
    no rule decides.
    """
    _check_state_dict(state_dict)
    found: list[_Model] = []
    for anchors in tiers:
        found = found or list(_find_models(state_dict, anchors))
    if not found:
        return _unwrap_unrecognised(state_dict)
    model = _choose(found)
    guesses = []
    if len(found) > 1:
        others = [describe_path(other.path) for other in found if other.path != model.path]
        guesses.append(
            f"The file holds {len(found)} models: {describe_path(model.path)} was taken, and not "
            f"{first_few(others, 3)}."
        )
    values, inner = _strip(model, found)
    left_out, beside = _describe_rest(state_dict, model, found)
    if beside:
        guesses.append(
            f"{first_few(beside, 4)} {'stands' if len(beside) == 1 else 'stand'} beside the model, "
            f"which is under {describe_path(model.path)}, and {'is' if len(beside) == 1 else 'are'}"
            " left out; if the model's head is among them, it has to be copied by hand."
        )
    return UnwrappedWeights(values, [*model.path, *inner], left_out, guesses)


def describe_path(path: Path) -> str:
    """A path in words: keys and prefixes as they are written, or "the names without a prefix"."""
    return " ".join(path) or "the names without a prefix"


def _find_models(
    mapping: Mapping[Any, Any], anchors: Sequence[Anchor], keys: tuple[str, ...] = ()
) -> Iterator[_Model]:
    """Every place in `mapping`, and in the dictionaries within it, where a model's names begin."""
    prefixes: dict[str, Path] = {}  # cleaned prefix -> its parts as the file has them
    for name, value in mapping.items():
        if not isinstance(name, str):
            continue
        if is_tensor(value):
            for pattern, own in anchors:
                if match := pattern.search(_clean(name)):
                    start = _clean(name)[: match.start()]
                    start = next((start.removesuffix(p) for p in own if start.endswith(p)), start)
                    prefixes.setdefault(start, _parts(name, start))
                    break
        elif isinstance(value, Mapping):
            yield from _find_models(value, anchors, (*keys, name))
    for prefix, parts in prefixes.items():
        yield _Model((*map(_quote, keys), *parts), keys, mapping, prefix)


def _choose(found: list[_Model]) -> _Model:
    """The one of several models that the words around them decide for."""
    depth = 0
    while len(found) > 1:
        words = [_word(model.path, depth) for model in found]
        if len(set(words)) > 1:
            known = [word for word in _TAKEN_FIRST if word in words]
            if not known:
                raise ValueError(_describe_several(found))
            found = [m for m, word in zip(found, words, strict=True) if word == known[0]]
        depth += 1
    return found[0]


def _describe_several(found: list[_Model]) -> str:
    alone = "content" + "".join(map(_quote, found[0].keys))
    if found[0].prefix:
        alone = f"{{n: t for n, t in {alone}.items() if n.startswith({found[0].prefix!r})}}"
    return (
        f"the file holds several models, {', '.join(describe_path(m.path) for m in found)}, and "
        "nothing says which is meant. Save one of them alone:\n"
        f"    content = torch.load('old.pth')\n    torch.save({alone}, 'new.pth')"
    )


def _word(path: Path, depth: int) -> str:
    return path[depth].strip('["]').rstrip("./") if depth < len(path) else ""


def _belongs(name: str, model: _Model, found: list[_Model]) -> bool:
    """Whether a name in the model's dictionary is its own, and not one of a model within it."""
    inside = [m.prefix for m in found if m.mapping is model.mapping and m.prefix != model.prefix]
    inside = [prefix for prefix in inside if prefix.startswith(model.prefix)]
    return _clean(name).startswith(model.prefix) and not _clean(name).startswith(tuple(inside))


def _strip(model: _Model, found: list[_Model]) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """The model's values by their names without wrappers, and the words within these names."""
    values: dict[str, tuple[str, Any]] = {}
    inner: dict[str, None] = {}
    for origin, value in model.mapping.items():
        if not isinstance(origin, str):
            raise ValueError(f"weights are stored by name, got the key {origin!r}")
        if not _belongs(origin, model, found):
            continue
        name = _clean(origin).removeprefix(model.prefix)
        if name in values:
            raise ValueError(f"{values[name][0]} and {origin} are two names of one tensor, {name}")
        values[name] = (origin, value)
        outside = "".join(_parts(origin, model.prefix)).replace('"', "")
        within = origin.removeprefix(outside)
        inner |= dict.fromkeys(f'"{word}"' for word in _INNER_WORDS.findall(within))
    return values, list(inner)


def _describe_rest(
    state_dict: Mapping[str, Any], model: _Model, found: list[_Model]
) -> tuple[dict[str, str], list[str]]:
    """What the file holds besides the model -> why it is left out; and what may be a part of it."""
    left_out: dict[str, str] = {}
    others = [other.path for other in found if other.path != model.path]

    def note(name: Any, value: Any, here: Path, taken: str) -> None:
        if any(path[: len(here)] == here or here[: len(path)] == path for path in others):
            left_out[str(name)] = f"another model's weights: {taken} was taken"
        elif _holds_weights(value):
            left_out[str(name)] = f"stands beside the model, which is under {taken}"
        else:
            left_out[str(name)] = "no weights"

    mapping = state_dict
    for depth, key in enumerate(model.keys):  # beside the dictionaries that lead to the model
        for name, value in mapping.items():
            if name != key:
                note(name, value, (*model.path[:depth], _quote(name)), model.path[depth])
        mapping = mapping[key]
    for name, value in mapping.items():  # in its own dictionary, under other prefixes
        if not _belongs(name, model, found):
            here = (*model.path[: len(model.keys)], *_parts(name, _clean(name)))
            note(name, value, here, describe_path(model.path))
    return left_out, [name for name, why in left_out.items() if why.startswith("stands")]


def _quote(key: Any) -> str:
    return f'["{key}"]'


def _unwrap_unrecognised(state_dict: Mapping[str, Any]) -> UnwrappedWeights:
    """No model was recognised: the known keys alone are followed, so that messages show names."""
    path: list[str] = []
    while key := next((k for k in _TAKEN_FIRST if _holds_tensors(state_dict.get(k))), None):
        path.append(f'["{key}"]')
        state_dict = state_dict[key]
    inner = [name for name, value in state_dict.items() if _holds_tensors(value)]
    if inner and not any(map(is_tensor, state_dict.values())):
        path.append(f'["{inner[0]}"]')
        state_dict = state_dict[inner[0]]
    _check_state_dict(state_dict)
    return UnwrappedWeights({n: (n, value) for n, value in state_dict.items()}, path, {}, [])


def _clean(name: str) -> str:
    return _INNER_WORDS.sub("", name)


def _parts(name: str, cleaned_start: str) -> Path:
    """The parts of `name`, each with its separator, that `cleaned_start` is left of."""
    parts: list[str] = []
    for part in re.findall(r"[^./]*[./]|[^./]+$", name):
        so_far = _clean("".join(parts) + part)
        if not cleaned_start.startswith(so_far):
            break
        parts.append(part)
    return tuple(f'"{part}"' for part in parts)


def _check_state_dict(state_dict: Any) -> None:
    if not isinstance(state_dict, Mapping):
        hint = ": give its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise ValueError(
            f"expected weights by name, a state dict, got {type(state_dict).__name__}{hint}"
        )
    if not state_dict:
        raise ValueError("expected weights by name, a state dict, got an empty one")
    if strange := [key for key in state_dict if not isinstance(key, str)]:
        raise ValueError(f"weights are stored by name, got the key {strange[0]!r}")


def _holds_weights(value: Any) -> bool:
    """Whether it is, or holds, a tensor of real numbers with at least one axis."""
    if isinstance(value, Mapping):
        return any(isinstance(key, str) and _holds_weights(inner) for key, inner in value.items())
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    is_real |= isinstance(value, np.ndarray) and value.dtype.kind in "fV"
    return is_real and value.ndim > 0


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(key, str) and (is_tensor(inner) or _holds_tensors(inner))
        for key, inner in value.items()
    )


def sample(names: Iterable[str]) -> str:
    """The first three names, and how many there are, for a message."""
    names = list(names)
    more = f", ... ({len(names)} names)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
