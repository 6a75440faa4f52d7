"""What loading foreign weights did, as a short text."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isclose
from typing import Any

from torch import nn

from vitlib.checkpoints.settings import SourceSettings, heads_of
from vitlib.wording import first_few

_TITLES = {
    "timm": "timm's names", "deit": "DeiT's names", "hf": "Hugging Face's names",
    "torchvision": "torchvision's names", "google_npz": "Google's names",
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class LoadReport:
    """What `load_pretrained` did; str() is a short text, which a notebook shows, too.

    Attributes:
        origin, source: the file, folder or Hub id; whose names it bears, one of SOURCES.
        loaded: names of the model's tensors that were filled.
        missing: the model's tensors that the file lacks; they stay as they were initialised.
        extra: names in the file that the model has no place for.
        mismatched, resized, reshaped, cast: name, and after a space what differs or was done;
            "num_heads 12 in the source, 6 in the model" counts as mismatched, too.
        left_out: names in the file that were left out on purpose -> why.
        head: what became of the head.
        settings: a sentence for each setting of the source that the model does not share.
        mean, std: the source's pixel statistics; None where nothing tells them.
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
        return not (self.missing or self.extra or self.mismatched)

    def __str__(self) -> str:
        number = "1 tensor" if len(self.loaded) == 1 else f"{len(self.loaded)} tensors"
        lines = [f"{number} loaded from {self.origin} ({title_of(self.source)})"]
        rows = [
            ("head", self.head),
            ("missing", listed(self.missing)),
            ("extra", listed(self.extra)),
            ("mismatched", listed(self.mismatched)),
            ("resized", listed(self.resized)),
            ("reshaped", _counted(self.reshaped)),
            ("cast", _counted(self.cast)),
            *(("left out", line) for line in _reasons(self.left_out)),
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


def differences(model: nn.Module, settings: SourceSettings) -> list[str]:
    """A sentence for each setting that the model does not share with the source."""
    eps = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    kinds = {module.approximate for module in model.modules() if isinstance(module, nn.GELU)}
    activations = {"gelu_tanh" if kind == "tanh" else "gelu" for kind in kinds}
    heads, theirs = heads_of(model), settings.arguments.get("num_heads")
    said = list(settings.notes)
    if settings.eps is not None and eps and eps != {settings.eps}:
        said.append(
            f"LayerNorm eps is {settings.eps:g} in the source, "
            f"{' and '.join(f'{value:g}' for value in sorted(eps))} in the model; as the source: "
            f"norm_layer=partial(nn.LayerNorm, eps={settings.eps:g})."
        )
    if settings.activation is not None and activations != {settings.activation}:
        words = {"gelu": "exact GELU", "gelu_tanh": "GELU by its tanh approximation"}
        alike = {"gelu": "nn.GELU", "gelu_tanh": 'partial(nn.GELU, approximate="tanh")'}
        mine = " and ".join(words[kind] for kind in sorted(activations)) or "no GELU"
        said.append(
            f"The activation is {words[settings.activation]} in the source, {mine} in the model; "
            f"as the source: act_layer={alike[settings.activation]}."
        )
    if settings.heads_are_a_guess and None not in (heads, theirs) and heads != theirs:
        said.append(f"Attention has {theirs} heads usually at this width, {heads} in the model.")
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if settings.mean is None:
        if mean is None:
            said.append("Neither the source nor the model says mean and std of the pixels.")
    elif not _alike(settings.mean, mean) or not _alike(settings.std, std):
        known = mean is not None and std is not None
        mine = f"{_short(mean)} and {_short(std)} in the model" if known else "not set in the model"
        said.append(
            f"Pixels' mean and std are {_short(settings.mean)} and {_short(settings.std)} in the "
            f"source, {mine}."
        )
    return said


def title_of(source: str) -> str:
    """Whose names the tensors bear, in words."""
    return _TITLES[source]


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, with their number where there are more: "14: a, b, c and 11 more"."""
    return (f"{len(names)}: " if len(names) > most else "") + first_few(names, most)


def _counted(entries: Sequence[str]) -> str:
    """The number of tensors for each thing that was done to them."""
    done = Counter(entry.partition(" ")[2] for entry in entries)
    return ", ".join(f"{count} {what}" for what, count in done.items())


def _reasons(left_out: dict[str, str]) -> list[str]:
    """One line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{listed(names, 3)} ({reason})" for reason, names in reasons.items()]


def _alike(a: Any, b: Any) -> bool:
    """Whether two lots of numbers are equal, as far as float32 tells."""
    return bool(a and b) and len(a) == len(b) and all(map(partial(isclose, abs_tol=1e-6), a, b))


def _short(numbers: Any) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in numbers) + ")"
