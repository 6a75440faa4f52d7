"""`draw_block`: one encoder block with its residual stream in colour."""

from collections.abc import Iterable, Mapping, Sequence

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, INK, LIT, MUTED
from vitlib.wording import did_you_mean

ORDERS = {"pre-norm": "x + f(LN(x))", "post-norm": "LN(x + f(x))"}
PLACES = ("tokens", "norm1", "attention", "middle", "norm2", "mlp", "out")
SIZE = 17  # pixels of 640, so that it is legible on a phone
BRANCH = {"attention": "all tokens", "MLP": "each alone"}  # what each branch reads


def draw_block(
    orders: str | Iterable[str] = tuple(ORDERS),
    values: Mapping[str, Sequence[float]] | None = None,
) -> Drawing:
    """Draw a block in each of `orders` ("pre-norm", "post-norm"), side by side.

    The residual stream is a blue line from top to bottom, which the norms of a post-norm block
    interrupt. Where there are several, each has its name and its formula. With `values`, draw a
    single pre-norm block and the numbers of one token, at most four: what enters ("tokens"),
    "norm1", what "attention" adds, the sum ("middle"), "norm2", what the "mlp" adds, and the sum
    ("out").

    Raises ValueError for no order or an unknown one, and for other values than these.
    """
    orders = [orders] if isinstance(orders, str) else list(orders)
    for name in orders:
        if name not in ORDERS:
            hint = did_you_mean(name, ORDERS, f"Its orders are {', '.join(ORDERS)}")
            raise ValueError(f"a block cannot be drawn as {name!r}. {hint}")
    if not orders:
        raise ValueError(f"expected at least one order of {', '.join(ORDERS)}")
    if values is not None:
        if orders != ["pre-norm"]:
            raise ValueError('values can be shown for orders="pre-norm" alone')
        return _draw_values(values)
    height = 428 if len(orders) > 1 else 396
    canvas = Canvas(320 * len(orders), height, "An encoder block: " + " and ".join(orders))
    for column, name in enumerate(orders):
        left = 320 * column
        draw = _draw_pre_norm if name == "pre-norm" else _draw_post_norm
        draw(canvas, left)
        if len(orders) > 1:
            canvas.text(left + 160, 26, name, size=SIZE, bold=True)
            canvas.text(left + 160, 416, f"{ORDERS[name]}, twice", size=SIZE, colour=MUTED)
    return canvas.drawing()


def _draw_values(values: Mapping[str, Sequence[float]]) -> Drawing:
    """A pre-norm block with the numbers of one token."""
    if set(values) != set(PLACES):
        raise ValueError(f"expected values for {', '.join(PLACES)}, got {', '.join(values)}")
    if len({len(row) for row in values.values()}) > 1 or len(values["tokens"]) > 4:
        raise ValueError("expected the same number of channels everywhere, at most 4")
    canvas = Canvas(640, 500, "One token on its way through a block")
    _stream(canvas, 110, 56, 456)
    for top, branch, norm, added, after in (
        (72, "attention", "norm1", "attention", "middle"),
        (272, "MLP", "norm2", "mlp", "out"),
    ):
        canvas.line(f"M110 {top}H310V{top + 12}", tip=True)
        canvas.box(238, top + 14, 144, 34, "LayerNorm", size=SIZE)
        canvas.line(f"M310 {top + 48}V{top + 60}", tip=True)
        _branch(canvas, 238, top + 62, 144, branch)
        canvas.line(f"M310 {top + 112}V{top + 130}H124", tip=True)
        canvas.plus(110, top + 130, colour=BLUE)
        _cells(canvas, 400, top + 17, values[norm])
        _cells(canvas, 400, top + 73, values[added])
        _cells(canvas, 18, top + 158, values[after], ground=True)
    _cells(canvas, 18, 28, values["tokens"], ground=True)
    canvas.text(18, 18, "what the token was", size=SIZE, anchor="start", colour=BLUE)
    canvas.text(18, 482, "what it has become", size=SIZE, anchor="start", colour=BLUE)
    return canvas.drawing()


def _draw_pre_norm(canvas: Canvas, left: int) -> None:
    """Norm and branch beside the stream, which nothing interrupts."""
    x = left + 60
    _stream(canvas, x, 42, 388, tip=True)
    for top, branch in ((56, "attention"), (216, "MLP")):
        canvas.line(f"M{x} {top}H{left + 214}V{top + 12}", tip=True)
        canvas.box(left + 142, top + 14, 144, 32, "LayerNorm", size=SIZE)
        canvas.line(f"M{left + 214} {top + 46}V{top + 58}", tip=True)
        _branch(canvas, left + 142, top + 60, 144, branch)
        canvas.line(f"M{left + 214} {top + 110}V{top + 128}H{x + 14}", tip=True)
        canvas.plus(x, top + 128, colour=BLUE)


def _draw_post_norm(canvas: Canvas, left: int) -> None:
    """The branch beside the stream, and the norm upon it, behind each addition."""
    x = left + 78
    ends = 42
    for top, branch in ((56, "attention"), (216, "MLP")):
        _stream(canvas, x, ends, top + 112, tip=True)
        canvas.line(f"M{x} {top}H{left + 234}V{top + 12}", tip=True)
        _branch(canvas, left + 166, top + 14, 136, branch)
        canvas.line(f"M{left + 234} {top + 64}V{top + 82}H{x + 14}", tip=True)
        canvas.plus(x, top + 82, colour=BLUE)
        canvas.box(left + 20, top + 113, 116, 32, "LayerNorm", size=SIZE)
        ends = top + 145
    _stream(canvas, x, ends, 388, tip=True)


def _stream(canvas: Canvas, x: float, top: float, bottom: float, tip: bool = False) -> None:
    """The residual stream: a thick blue line, with an arrow's tip if asked for."""
    canvas.line(f"M{x} {top}V{bottom - (8 if tip else 0)}", colour=BLUE, weight=5)
    if tip:
        canvas.line(f"M{x} {bottom - 10}V{bottom}", colour=BLUE, weight=2.5, tip=True)


def _branch(canvas: Canvas, x: float, y: float, width: float, name: str) -> None:
    lines = (name, f"({BRANCH[name]})")
    canvas.box(x, y, width, 50, lines, size=SIZE, colour=INK, fill=LIT)


def _cells(canvas: Canvas, x: float, y: float, row: Sequence[float], ground: bool = False) -> None:
    """One token's numbers; `ground` hides the line behind them."""
    if ground:
        canvas.box(x, y, 46 * len(row), 28, colour=BLUE)
    canvas.cells(x, y, [row], width=46, height=28, size=SIZE)
