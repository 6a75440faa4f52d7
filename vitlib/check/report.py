"""What a checker answers: in words, and in a notebook with your result drawn beside the target.

`Report` is the answer to an exercise, `Finding` that of an instrument, and `Checklist` that of
several, such as `check.training`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

from torch import Tensor

from vitlib.check.compare import Difference
from vitlib.palette import BLUE, FAINT, ORANGE, rgb

NOT_ATTEMPTED = "not attempted"
_RULE = f"var(--vitlib-faint, {FAINT})"  # between two lines
_TICK, _CROSS = f"var(--vitlib-blue, {BLUE})", f"var(--vitlib-orange, {ORANGE})"  # the page's own
CELL = 34  # side of a drawn cell, in pixels: a number of five signs in it is 11 pixels high
MAX_CELLS = 8  # rows and columns that are drawn: on a phone, no more stand side by side


@dataclass(frozen=True)
class Report:
    """The answer to one attempt at an exercise.

    Attributes:
        exercise: its name.
        passed: whether the answer is right.
        message: the whole answer in words.
        diagnosis: the mistake, if it is a known one; "not attempted" for a stub; else empty.
        mutants: the names of the known wrong answers that behave the same.
        difference: between the answer's result and the right one, to be drawn.
    """

    exercise: str
    passed: bool
    message: str
    diagnosis: str = ""
    mutants: tuple[str, ...] = ()
    difference: Difference | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return f"{self._heading()}\n{self.message}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        color = "#8a8f98" if self.diagnosis == NOT_ATTEMPTED else (BLUE if self else ORANGE)
        paragraphs = "".join(
            f'<p style="margin:.4em 0;white-space:pre-wrap">{markdown_to_html(line)}</p>'
            for line in self.message.split("\n\n")
        )
        return (
            f'<div class="check-report" role="status" style="border-left:4px solid {color};'
            f'padding:.2em .9em;margin:.4em 0"><strong>{escape(self._heading())}</strong>'
            f"{paragraphs}{_picture(self.difference)}</div>"
        )

    def _heading(self) -> str:
        if self.diagnosis == NOT_ATTEMPTED:
            return f"○ {self.exercise}: {NOT_ATTEMPTED}"
        return f"✓ {self.exercise}: right" if self else f"✗ {self.exercise}: not yet"


@dataclass(frozen=True)
class Finding:
    """What one instrument found about a model. True if nothing is wrong. A notebook shows it.

    Attributes:
        name: of the instrument, in a word or two.
        found: whether something is wrong; None where there was nothing to look at.
        value: the number that decides.
        number: that number, and what it counts, in words.
        sentence: what was found.
        cause: the usual cause, if something was. It goes on from the sentence.
        picture: draws it, as an SVG.
    """

    name: str
    found: bool | None
    value: float
    number: str
    sentence: str
    cause: str = ""
    picture: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, as far as it could be looked at."""
        return not self.found

    @property
    def text(self) -> str:
        """The sentence, and the usual cause."""
        if self.cause[:1].islower():
            return f"{self.sentence.removesuffix('.')}: {self.cause}"
        return f"{self.sentence} {self.cause}".rstrip()

    @property
    def mark(self) -> str:
        """✓, ✗, or ○ where there was nothing to look at."""
        return "○" if self.found is None else "✗" if self.found else "✓"

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return f"{self.mark} {self.name}: {self.number}. {self.text}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        picture = "" if self.picture is None else self.picture()
        picture = picture.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)
        return (
            f'<div class="check-report" role="status" style="border-left:4px solid '
            f'{_colour(self)};padding:.2em .9em;margin:.4em 0"><strong>{self.mark} '
            f"{escape(self.name)}: {markdown_to_html(self.number)}</strong>"
            f'<p style="margin:.4em 0">{markdown_to_html(self.text)}</p>{picture}</div>'
        )


def _colour(finding: Finding) -> str:
    return FAINT if finding.found is None else ORANGE if finding.found else BLUE


@dataclass(frozen=True)
class Checklist:
    """Several findings, in order; true if nothing is wrong. Shows itself in a notebook."""

    lines: tuple[Finding, ...]

    @property
    def failed(self) -> list[str]:
        """The names of the lines that did not pass."""
        return [line.name for line in self.lines if not line.passed]

    def __bool__(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr style="vertical-align:top;border-top:1px solid {_RULE}">'
            f'<td style="color:{_TICK if one.passed else _CROSS}">{one.mark}</td>'
            f'<td style="text-align:left"><strong>{escape(one.name)}</strong><br>'
            f"{markdown_to_html(one.number)}</td>"
            f'<td style="text-align:left">{markdown_to_html(one.text)}</td></tr>'
            for one in self.lines
        )
        return f'<table class="check-report" role="status">{rows}</table>'


def markdown_to_html(text: str) -> str:
    """The text as HTML, with Markdown's `code` and *emphasis*."""
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"(?<![\w*])\*(\w[^*\n]*\w)\*(?![\w*])", r"<em>\1</em>", text)


def _picture(difference: Difference | None) -> str:
    """Your result beside the target: two small grids of cells, orange above zero, blue below."""
    if difference is None or difference.yours is None or difference.target is None:
        return ""
    yours, target = _matrices_to_draw(difference.yours, difference.target)
    if target.numel() < 2:
        return ""
    drawn = target[:MAX_CELLS, :MAX_CELLS]
    limit = max([1e-12, *drawn[drawn.isfinite()].abs().tolist()])  # the strongest colour
    grids = _grid(yours, limit, "yours"), _grid(target, limit, "target")
    return f'<div style="display:flex;gap:1.5em;flex-wrap:wrap">{"".join(grids)}</div>'


def _matrices_to_draw(yours: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The last two axes of both, at the first index of the others where they differ."""
    yours, target = yours.double(), target.double()
    while target.ndim < 2:
        yours, target = yours[None], target[None]
    rows, columns = target.shape[-2:]
    yours, target = (t.reshape(-1, rows, columns) for t in (yours, target))
    apart = [not a.allclose(b, equal_nan=True) for a, b in zip(yours, target, strict=True)]
    first = apart.index(True) if True in apart else 0
    return yours[first], target[first]


def _grid(values: Tensor, limit: float, name: str) -> str:
    left_out = [
        f"{MAX_CELLS} of {count} {what}"
        for count, what in zip(values.shape, ("rows", "columns"), strict=True)
        if count > MAX_CELLS
    ]
    values = values[:MAX_CELLS, :MAX_CELLS]
    rows, columns = values.shape
    cells = []
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            strength = min(abs(value) / limit, 1.0) if value == value else 0.0
            colour = rgb(ORANGE if value > 0 else BLUE)
            shade = (round(255 + (part - 255) * strength) for part in colour)
            ink = "#fff" if value < 0 and strength > 0.6 else "#000"  # black is read on orange
            cells.append(
                f'<g transform="translate({column * CELL} {row * CELL})">'
                f'<rect width="{CELL}" height="{CELL}" fill="rgb{tuple(shade)}"/>'
                f'<text x="{CELL / 2:g}" y="{CELL / 2 + 4:g}" font-size="11" fill="{ink}" '
                f'text-anchor="middle" font-family="sans-serif">{_format_number(value)}</text></g>'
            )
    label = f"{name}: {rows} by {columns} numbers"
    title = f"{name}, the first {' and '.join(left_out)}" if left_out else name
    return (
        f'<div style="margin:.4em 0"><div>{title}</div>'
        f'<svg role="img" aria-label="{label}" width="{columns * CELL}" height="{rows * CELL}" '
        f'viewBox="0 0 {columns * CELL} {rows * CELL}">{"".join(cells)}</svg></div>'
    )


def _format_number(value: float) -> str:
    if value != value or abs(value) == float("inf"):
        return str(value)
    if abs(value) >= 10_000:
        text = f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    else:
        text = f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.1f}"
    return text.replace("-0.0", "0.0").replace("-", "−")
