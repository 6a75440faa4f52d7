"""`draw_ladder`: two models side by side, and how far apart they are at each rung between them."""

from collections.abc import Mapping

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, FAINT, INK, ORANGE

WIDTH, STEP, HEIGHT, SIZE = 520, 54, 28, 14
LEFT, RIGHT = (8, 162), (316, 196)  # x and width of the boxes on either side


def draw_ladder(
    rungs: Mapping[str, tuple[str, str, float]],
    titles: tuple[str, str] = ("ours", "theirs"),
    limit: float = 1e-12,
) -> Drawing:
    """Two chains of places, joined by rungs: blue where they agree, orange and dashed where not.

    `rungs` maps a rung's name to the place in the left model, the place in the right one, and the
    difference there. One of at most `limit` is written as "equal"; NaN never is.
    """
    canvas = Canvas(WIDTH, 38 + STEP * len(rungs), "A ladder between two models")
    for (x, width), title in zip((LEFT, RIGHT), titles, strict=True):
        canvas.text(x + width / 2, 22, title, size=15, bold=True)
        canvas.line(f"M{x + width / 2} 48V{30 + STEP * len(rungs) - HEIGHT / 2}", colour=FAINT)
    start, end = LEFT[0] + LEFT[1], RIGHT[0]
    for i, (name, (left, right, difference)) in enumerate(rungs.items()):
        top, equal = 34 + STEP * i, difference <= limit
        middle = top + HEIGHT / 2
        for (x, width), text in zip((LEFT, RIGHT), (left, right), strict=True):
            canvas.box(x, top, width, HEIGHT, text, size=SIZE)
        colour = BLUE if equal else ORANGE
        canvas.line(f"M{start} {middle}H{end}", colour=colour, weight=3, dashed=not equal)
        centre = (start + end) / 2
        canvas.text(centre, middle - 6, name, size=SIZE, colour=INK)
        told = (
            "equal" if equal else f"{difference:.2f}" if difference > 0.01 else f"{difference:.0e}"
        )
        canvas.text(centre, middle + 18, told, size=SIZE, colour=INK, bold=not equal)
    return canvas.drawing()
