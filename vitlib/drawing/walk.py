"""`draw_walk`: the shapes on the way from a photo to the tokens of a ViT-B/16."""

from collections.abc import Callable
from functools import partial

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, FAINT, GREY, GROUND, INK, MUTED, ORANGE, SKY

WIDTH, LEFT, BAND, SIZE = 420, 116, 106, 15  # BAND: from one shape to the next
# The shape, what it is, and the words for the step to the next one.
STATIONS = (
    (
        "(1, 3, 224, 224)",
        "one photo, three colours",
        ("cut into 16 × 16 patches and embed:", "one convolution, stride 16"),
    ),
    (
        "(1, 768, 14, 14)",
        "a grid of 14 × 14 vectors",
        ("lay the rows one after another:", "flatten, then transpose"),
    ),
    ("(1, 196, 768)", "196 patch tokens of width 768", ("join the class token in front",)),
    ("(1, 197, 768)", "197 tokens, class token first", ("add a vector to each place",)),
    ("(1, 197, 768)", "197 tokens that know their place", ()),
)


def draw_walk() -> Drawing:
    """Five shapes, one below the other, and beside each arrow what happens on the way."""
    height = BAND * (len(STATIONS) - 1) + 76
    canvas = Canvas(WIDTH, height, "From a photo to 197 tokens")
    row, whole = partial(_bars, with_class=False), partial(_bars, with_positions=True)
    pictures: tuple[Callable[[Canvas, float, float], None], ...]
    pictures = (_photo, _grid, row, _bars, whole)
    for i, ((shape, what, step), picture) in enumerate(zip(STATIONS, pictures, strict=True)):
        top = 10 + BAND * i
        picture(canvas, 14, top)
        canvas.text(LEFT, top + 22, shape, size=17, anchor="start", bold=True)
        canvas.text(LEFT, top + 43, what, size=SIZE, anchor="start")
        if step:
            canvas.line(f"M52 {top + 60}v38", tip=True)
        for j, line in enumerate(step):
            place = top + 85 + 19 * j - 9.5 * (len(step) - 1)
            canvas.text(LEFT, place, line, size=SIZE, anchor="start", colour=MUTED)
    return canvas.drawing()


def _photo(canvas: Canvas, x: float, y: float) -> None:
    """Three channels, one behind another."""
    for i, colour in enumerate((BLUE, SKY, ORANGE)):
        canvas.box(x + 14 - 7 * i + 6, y + 6 * i, 44, 40, colour=colour, weight=2)


def _grid(canvas: Canvas, x: float, y: float) -> None:
    """A square of 6 × 6 cells, standing for 14 × 14."""
    side, left = 52, x + 12
    canvas.add(
        f'<rect x="{left}" y="{y}" width="{side}" height="{side}" fill="{GROUND}" '
        f'stroke="{INK}" stroke-width="1.5"/>'
    )
    steps = [side * i / 6 for i in range(1, 6)]
    lines = "".join(f"M{left} {y + s:g}h{side}M{left + s:g} {y}v{side}" for s in steps)
    canvas.line(lines, colour=FAINT, weight=1)


def _bars(
    canvas: Canvas, x: float, y: float, with_class: bool = True, with_positions: bool = False
) -> None:
    """One bar per token; the class token is blue, and a position is an orange foot."""
    for i in range(0 if with_class else 1, 6):
        fill = BLUE if i == 0 else GROUND
        left = x + 2 + 13 * i
        canvas.add(
            f'<rect x="{left}" y="{y}" width="9" height="50" fill="{fill}" '
            f'stroke="{BLUE if i == 0 else GREY}" stroke-width="1.5"/>'
        )
        if with_positions:
            canvas.add(
                f'<rect x="{left}" y="{y + 36}" width="9" height="14" fill="{ORANGE}" '
                f'stroke="{ORANGE}" stroke-width="1.5"/>'
            )
