"""`draw_row_orders`: two orders in which the rows of a fused qkv can lie."""

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, GREY, INK, MUTED, ORANGE

KINDS = {"q": BLUE, "k": ORANGE, "v": GREY}
WIDTH, BOX, HEIGHT, STEP, SIZE = 400, 104, 26, 32, 14


def draw_row_orders(num_heads: int = 3) -> Drawing:
    """The same pieces of d rows twice: all queries first, (3, H, d); head by head, (H, 3, d)."""
    by_kind = [(kind, head) for kind in KINDS for head in range(num_heads)]
    by_head = sorted(by_kind, key=lambda piece: piece[1])
    canvas = Canvas(WIDTH, 70 + STEP * len(by_kind), "Two orders of the rows of qkv")
    right = WIDTH - 16 - BOX
    titles = [(16, "kind by kind", "(3, H, d)"), (right, "head by head", "(H, 3, d)")]
    for x, title, shape in titles:
        canvas.text(x + BOX / 2, 24, title, size=15, bold=True)
        canvas.text(x + BOX / 2, 43, shape, size=SIZE, colour=MUTED)
    for row, (kind, head) in enumerate(by_kind):
        y, other = _top(row) + HEIGHT / 2, _top(by_head.index((kind, head))) + HEIGHT / 2
        canvas.line(f"M{16 + BOX} {y}L{right} {other}", colour=KINDS[kind], weight=1.5)
    for x, pieces in [(16, by_kind), (right, by_head)]:
        for row, (kind, head) in enumerate(pieces):
            canvas.box(
                x, _top(row), BOX, HEIGHT, f"{kind}, head {head}", size=SIZE, ink=INK,
                colour=KINDS[kind], weight=2,
            )  # fmt: skip
    return canvas.drawing()


def _top(row: int) -> int:
    return 56 + STEP * row
