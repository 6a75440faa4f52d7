"""The report's charts as SVG text, coloured by its style sheet."""

import math
from collections.abc import Sequence
from html import escape

from jaxtyping import Int64
from torch import Tensor

from vitlib.plots import smooth

_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 10, 26  # room for "0.00015" on the left
_MAX_POINTS = 600  # of a curve; more than it has pixels would only make the page larger


def line_chart(
    title: str,
    values: Sequence[float],
    steps: Sequence[int] | None = None,
    last: int | None = None,
    smoothed: bool = False,
) -> str:
    """A curve over steps 1, 2, ..., or over `steps`, which are marked by dots.

    The axis ends at step `last`, by default that of the curve. With `smoothed`, the values are
    drawn faintly, and their running mean over them.
    """
    xs = list(range(1, len(values) + 1)) if steps is None else list(steps)
    last = last or xs[-1]
    ticks = nice_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    def line(numbers: Sequence[float], kind: str) -> str:
        every = -(-len(numbers) // _MAX_POINTS)
        chosen = [k for k in range(len(numbers)) if k % every == 0 or k == len(numbers) - 1]
        points = " ".join(f"{x(xs[k]):.1f},{y(numbers[k]):.1f}" for k in chosen)
        return f'<polyline class="{kind}" points="{points}"/>'

    parts = []
    for tick in ticks:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/><text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{tick:.6g}</text>'
        )
    for step, anchor in ((0, "start"), (last, "end")):
        parts.append(
            f'<text x="{x(step):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{step:,}</text>'
        )
    parts.append(f'<text x="{x(last / 2):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>')
    if smoothed:
        beta = max(0.0, 1 - 50 / len(values))  # a window of about 2 % of the run
        parts += [line(values, "line faint"), line(smooth(list(values), beta), "line")]
    else:
        parts.append(line(values, "line"))
    if steps is not None:
        parts += [
            f'<circle class="dot" cx="{x(step):.1f}" cy="{y(value):.1f}" r="3"/>'
            for step, value in zip(xs, values, strict=True)
        ]
    summary = f"{title}: from {values[0]:.4g} to {values[-1]:.4g}"
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(summary)}">'
        f"{''.join(parts)}</svg></figure>\n"
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """3 to 6 round numbers; the first is at most `low`, and the last is at least `high`."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-30):
        margin = abs(high) / 2 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, final = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, final + 1)]


def heat_map(counts: Int64[Tensor, "K K"]) -> str:
    """A confusion matrix as coloured squares, with the number of every fifth or tenth class."""
    size = len(counts)
    cell = 500 / size
    every = 5 if size <= 50 else 10
    parts = [f'<rect class="frame" x="30" y="20" width="{500}" height="{500}"/>']
    for number in range(0, size, every):
        middle = (number + 0.5) * cell
        parts.append(
            f'<text x="26" y="{20 + middle + 4:.1f}" text-anchor="end">{number}</text>'
            f'<text x="{30 + middle:.1f}" y="14" text-anchor="middle">{number}</text>'
        )
    for true, row in enumerate(counts.tolist()):
        for given, count in enumerate(row):
            if count:
                kind = "right" if given == true else "wrong"
                opacity = 0.15 + 0.85 * count / sum(row)  # even a single one is visible
                parts.append(
                    f'<rect class="{kind}" x="{30 + given * cell:.2f}" '
                    f'y="{20 + true * cell:.2f}" width="{cell:.2f}" height="{cell:.2f}" '
                    f'opacity="{opacity:.2f}"><title>{true} answered {given}: {count}</title>'
                    f"</rect>"
                )
    return (
        '<svg class="heat" viewBox="0 0 532 522" role="img" aria-label="confusion matrix: '
        f'{int(counts.diagonal().sum())} of {int(counts.sum())} on its diagonal">'
        f"{''.join(parts)}</svg>\n"
    )


def interval_bar(share: float, low: float, high: float) -> str:
    """A dot at `share` and a line from `low` to `high`, on an axis from 0 to 1."""
    return (
        '<svg viewBox="-4 0 208 16" role="img" '
        f'aria-label="{low:.0%} to {high:.0%}"><line class="grid" x1="0" x2="200" y1="8" y2="8"/>'
        f'<line class="line" x1="{200 * low:.1f}" x2="{200 * high:.1f}" y1="8" y2="8"/>'
        f'<circle class="dot" cx="{200 * share:.1f}" cy="8" r="4"/></svg>'
    )
