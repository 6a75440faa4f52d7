"""A badge: how many of a chapter's exercises are solved."""

from math import cos, pi, sin

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, INK, MUTED

SIDE, RADIUS, GAP = 180, 76, 0.25  # pixels, and the gap's share of a part of the ring
LIT, UNLIT = "1", "0.2"  # opacities; progress.js reads them off the badge


def draw_badge(solved: int, total: int) -> Drawing:
    """A ring of `total` parts, `solved` of them lit, around the two numbers.

    Raises ValueError unless 0 <= solved <= total and total >= 1.
    """
    if not 0 <= solved <= total or total < 1:
        raise ValueError(f"expected 0 <= solved <= total with total >= 1, got {solved} of {total}")
    canvas = Canvas(SIDE, SIDE, f"{solved} of {total} solved")
    for part in range(total):
        ends = [2 * pi * (part + share) / total for share in (GAP / 2, 1 - GAP / 2)]
        (x1, y1), (x2, y2) = [
            (SIDE / 2 + RADIUS * sin(end), SIDE / 2 - RADIUS * cos(end)) for end in ends
        ]
        large = int(ends[1] - ends[0] > pi)
        canvas.add(
            f'<path class="part" d="M{x1:.1f} {y1:.1f}A{RADIUS} {RADIUS} 0 {large} 1 '
            f'{x2:.1f} {y2:.1f}" fill="none" stroke="{BLUE}" stroke-width="14" '
            f'opacity="{LIT if part < solved else UNLIT}"/>'
        )
    canvas.text(SIDE / 2, SIDE / 2 + 8, f"{solved} of {total}", colour=INK, size=28, bold=True)
    canvas.text(SIDE / 2, SIDE / 2 + 34, "solved", colour=MUTED, size=18)
    return canvas.drawing()
