"""A report of what happened when foreign weights were loaded, as a short text."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isclose
from typing import Any

from torch import nn

from vitlib.checkpoints.settings import SourceSettings, heads_of
from vitlib.checkpoints.tables import DIALECTS
from vitlib.wording import first_few


@dataclass(frozen=True, repr=False)
class LoadReport:
    """What `load_pretrained` did; str() is a short text, which a notebook shows as well.

    Attributes:
        origin: the file, folder or Hub id.
        source: whose names it has, one of SOURCES.
        loaded: names of the model's tensors that were filled.
        missing: the model's tensors that the file lacks; they stay as they were initialised.
        extra: names in the file that have no place in the model.
        mismatched, resized, reshaped, cast: entries of a name, a space, and what differs or was
            done; "num_heads 12 in the source, 6 in the model" counts as mismatched, too.
        left_out: names in the file that were left out on purpose -> why.
        head: what became of the head.
        settings: a sentence for each setting of the source that the model does not share, and for
            whatever was guessed.
        mean, std: the source's pixel statistics; None if nothing tells them.
    """

    origin: str
    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    mismatched: tuple[str, ...]
    resized: tuple[str, ...]
    reshaped: tuple[str, ...]
    cast: tuple[str, ...]
    left_out: dict[str, str]
    head: str
    settings: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def ok(self) -> bool:
        """Whether every tensor found its place, and attention has the source's number of heads."""
        return not self.misfits

    @property
    def misfits(self) -> dict[str, Sequence[str]]:
        """What does not fit, by kind: see `group_misfits`."""
        return group_misfits(self.missing, self.extra, self.mismatched)

    def __str__(self) -> str:
        number = "1 tensor" if len(self.loaded) == 1 else f"{len(self.loaded)} tensors"
        lines = [f"{number} loaded from {self.origin} ({title_of(self.source)})"]
        rows = [
            ("head", self.head),
            ("missing", listed(self.missing)),
            ("extra", listed(self.extra)),
            ("mismatched", listed(self.mismatched)),
            ("resized", listed(self.resized)),
            ("reshaped", _count_by_operation(self.reshaped)),
            ("cast", _count_by_operation(self.cast)),
            *(("left out", line) for line in _group_by_reason(self.left_out)),
            *(("settings", sentence) for sentence in self.settings),
        ]
        before = ""
        for title, text in rows:
            if text:
                shown = "" if title == before else title
                indent = " " * 14
                lines += textwrap.wrap(
                    text, 82, initial_indent=f"  {shown:<12}", subsequent_indent=indent,
                    break_long_words=False, break_on_hyphens=False,
                )  # fmt: skip
                before = title
        return "\n".join(lines)

    __repr__ = __str__


def group_misfits(
    missing: Sequence[str], extra: Sequence[str], mismatched: Sequence[str]
) -> dict[str, Sequence[str]]:
    """What does not fit between a file and a model, by kind, for a message; empty if all fits."""
    groups = {"missing in the file": missing, "not in the model": extra, "mismatched": mismatched}
    return {title: names for title, names in groups.items() if names}


def differences(model: nn.Module, settings: SourceSettings) -> list[str]:
    """A sentence for each setting that the model does not share with the source."""
    eps = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    kinds = {module.approximate for module in model.modules() if isinstance(module, nn.GELU)}
    activations = {"gelu_tanh" if kind == "tanh" else "gelu" for kind in kinds}
    heads, theirs = heads_of(model), settings.arguments.get("num_heads")
    sentences = list(settings.notes)
    if settings.eps is not None and eps and eps != {settings.eps}:
        sentences.append(
            f"LayerNorm eps is {settings.eps:g} in the source, "
            f"{' and '.join(f'{value:g}' for value in sorted(eps))} in the model; as the source: "
            f"norm_layer=partial(nn.LayerNorm, eps={settings.eps:g})."
        )
    if settings.activation is not None and activations != {settings.activation}:
        words = {"gelu": "exact GELU", "gelu_tanh": "GELU by its tanh approximation"}
        layers = {"gelu": "nn.GELU", "gelu_tanh": 'partial(nn.GELU, approximate="tanh")'}
        mine = " and ".join(words[kind] for kind in sorted(activations)) or "no GELU"
        sentences.append(
            f"The activation is {words[settings.activation]} in the source, {mine} in the model; "
            f"as the source: act_layer={layers[settings.activation]}."
        )
    if settings.heads_are_a_guess and heads is not None:
        usual = ", as published ViTs of this width have"
        if heads != theirs:
            usual = f"; published ViTs of this width have {theirs}" if theirs else ""
        sentences.append(
            f"Nothing in the source tells the number of attention heads: the model has {heads}"
            f"{usual}. num_heads=... (--num-heads) sets another."
        )
    antialias = settings.arguments.get("pos_antialias")
    own = getattr(model, "pos_antialias", None)
    if getattr(model, "dynamic_img_size", False) and antialias not in (None, own):
        source, mine = ("with" if is_on else "without" for is_on in (antialias, own))
        sentences.append(
            f"At other sizes than its own, the source resamples positions {source} anti-aliasing, "
            f"the model {mine}; as the source: pos_antialias={antialias}."
        )
    if settings.assumed:
        sentences.append(
            f"No file states {', '.join(settings.assumed)}: those that published models under such "
            "names have (and a square grid) are taken for the source's."
        )
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if settings.mean is None:
        if mean is None:
            sentences.append("Neither the source nor the model states the pixels' mean and std.")
    elif not _nearly_equal(settings.mean, mean) or not _nearly_equal(settings.std, std):
        mine = "not set in the model"
        if mean is not None and std is not None:
            mine = f"{_rounded(mean)} and {_rounded(std)} in the model"
        sentences.append(
            f"Pixels' mean and std are {_rounded(settings.mean)} and {_rounded(settings.std)} in "
            f"the source, {mine}."
        )
    if settings.pictures:
        sentences.append(
            f"How pictures are cut and resized is not taken from the source "
            f"({', '.join(settings.pictures)}): vitlib resizes each, bicubic, until it covers the "
            "model's size, and cuts out the middle."
        )
    return sentences


def title_of(source: str) -> str:
    """Whose names the tensors have, in words."""
    return f"{DIALECTS[source].title}'s names"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first `most` names; if there are more, also their number: "14: a, b, c and 11 more"."""
    return (f"{len(names)}: " if len(names) > most else "") + first_few(names, most)


def _count_by_operation(entries: Sequence[str]) -> str:
    """How many tensors each operation was done to."""
    done = Counter(entry.partition(" ")[2] for entry in entries)
    return ", ".join(f"{count} {what}" for what, count in done.items())


def _group_by_reason(left_out: dict[str, str]) -> list[str]:
    """One line per reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{listed(names, 3)} ({reason})" for reason, names in reasons.items()]


def _nearly_equal(a: Any, b: Any) -> bool:
    """Whether two lists of numbers are equal, up to the precision of float32."""
    return bool(a and b) and len(a) == len(b) and all(map(partial(isclose, abs_tol=1e-6), a, b))


def _rounded(numbers: Any) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
