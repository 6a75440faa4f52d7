"""`draw_mixing`: the two directions in which a ViT and a Mixer combine numbers."""

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, FAINT, GROUND, MUTED, ORANGE

TOKENS, CHANNELS = 5, 6
CELL, SIZE = 24, 15
LIT_COLUMN, LIT_ROW = 2, 1


def draw_mixing() -> Drawing:
    """The table of tokens twice: once with one channel of all tokens lit, once with one token."""
    canvas = Canvas(440, 278, "Tokens are mixed column by column, channels row by row")
    for left, name, colour, words in (
        (64, "mix the tokens", ORANGE, ("one column at a time", "ViT: attention", "Mixer: an MLP")),
        (284, "mix the channels", BLUE, ("one row at a time", "ViT: an MLP", "Mixer: an MLP")),
    ):
        middle = left + CHANNELS * CELL / 2
        canvas.text(middle, 26, name, size=17, bold=True, colour=colour)
        canvas.text(middle, 56, "channels", size=SIZE, colour=MUTED)
        canvas.text(left - 8, 131, "tokens", size=SIZE, anchor="end", colour=MUTED)
        _table(canvas, left, 66, colour)
        for i, line in enumerate(words):
            canvas.text(middle, 214 + 26 * i, line, size=SIZE, colour=MUTED)
    return canvas.drawing()


def _table(canvas: Canvas, left: float, top: float, colour: str) -> None:
    """N rows of D cells; the column or the row that is mixed has its colour."""
    for row in range(TOKENS):
        for column in range(CHANNELS):
            lit = column == LIT_COLUMN if colour == ORANGE else row == LIT_ROW
            canvas.add(
                f'<rect x="{left + column * CELL:g}" y="{top + row * CELL:g}" width="{CELL}" '
                f'height="{CELL}" fill="{colour if lit else GROUND}" stroke="{FAINT}"/>'
            )
