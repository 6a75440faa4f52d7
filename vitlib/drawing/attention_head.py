"""`draw_attention_head`: what one query of a small attention head collects, with all numbers."""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import INK, MUTED

MOST_TOKENS, MOST_CHANNELS = 5, 4  # for which there is room
ROW = 26  # pixels, the height of a cell
SIZE, SMALL = 15, 14  # of 520 pixels, so that it is legible on a phone


def draw_attention_head(
    tokens: Float[Tensor, "N D"],
    q: Float[Tensor, "N d"],
    k: Float[Tensor, "N d"],
    v: Float[Tensor, "N e"],
    *,
    names: Sequence[str],
    channels: Sequence[str],
    query: int = 0,
    scale: float | None = None,
) -> Drawing:
    """Draw the way from the tokens to one row of softmax(q kᵀ · scale) v, all numbers written out.

    Scores, weights and output are computed here from `q`, `k` and `v`. Numbers above zero are
    orange, below zero blue.

    Args:
        tokens: drawn at the top.
        names: of the N tokens.
        channels: of the tokens' D numbers, written above them.
        query: which token collects.
        scale: factor on the scores; None means 1/√d.

    Raises ValueError for names that are too many or too few, a query that is none of the tokens,
    and more than 5 tokens or 4 channels.
    """
    count, width = tokens.shape
    most = max(width, q.shape[1], v.shape[1])
    if count > MOST_TOKENS or most > MOST_CHANNELS:
        raise ValueError(
            f"the drawing has room for {MOST_TOKENS} tokens of {MOST_CHANNELS} channels, got "
            f"{count} of {most}"
        )
    if len(names) != count or len(channels) != width:
        raise ValueError(
            f"expected {count} names and {width} channels, got {len(names)} and {len(channels)}"
        )
    check_query(query, count)

    scores = q[query] @ k.T * (q.shape[1] ** -0.5 if scale is None else scale)  # (N,)
    weights = scores.softmax(dim=0)  # (N,)
    output = weights @ v  # (e,)

    height = count * ROW
    top, middle = 54, 118 + height  # of the tokens, and of the query
    table = middle + 76  # of keys, scores, weights and values
    end = table + height + 44  # of the output
    canvas = Canvas(520, end + ROW + 12, f"One attention head, and what {names[query]} collects")

    # the tokens
    left = 260 - 22 * width
    canvas.text(left - 8, 24, "tokens", size=SIZE, anchor="end", bold=True)
    for j, channel in enumerate(channels):
        canvas.text(left + 44 * j + 22, 44, channel, size=SMALL, colour=MUTED)
    for i, name in enumerate(names):
        lit = i == query
        canvas.text(left - 8, baseline(top, i), name, size=SIZE, anchor="end", bold=lit)
    canvas.cells(left, top, tokens.tolist(), width=44, height=ROW, size=SIZE, digits=0)
    _frame(canvas, left, top + query * ROW, 44 * width)

    # query, keys and values, each by its own matrix
    low = top + height
    for path, x, y, label in [
        (f"M260 {low}V{middle - 6}", 268, low + 30, "× Wq"),
        (f"M196 {low}V{low + 18}H126V{table - 26}", 118, low + 50, "× Wk"),
        (f"M324 {low}V{low + 18}H448V{table - 26}", 456, low + 50, "× Wv"),
    ]:
        canvas.line(path, tip=True)
        anchor = "end" if x < 200 else "start"
        canvas.text(x, y, label, size=SIZE, colour=MUTED, anchor=anchor)
    start = 260 - 16 * q.shape[1]
    canvas.text(start - 8, baseline(middle, 0), "query", size=SIZE, anchor="end", bold=True)
    canvas.cells(start, middle, [q[query].tolist()], width=32, height=ROW, size=SIZE, digits=0)
    _frame(canvas, start, middle, 32 * q.shape[1])

    # the table: one line per token
    for middle_x, title in [(126, "keys"), (238, "scores"), (322, "weights"), (448, "values")]:
        canvas.text(middle_x, table - 8, title, size=SIZE, bold=True)
    for i, name in enumerate(names):
        canvas.text(54, baseline(table, i), name, size=SIZE, anchor="end", bold=i == query)
        line = table + ROW * i + ROW // 2
        for begin, tip in [(190, 211), (262, 291), (352, 379)]:
            canvas.line(f"M{begin} {line}H{tip}", tip=True)
    canvas.line(f"M238 {middle + ROW}V{table - 26}", tip=True)
    keys, values = k.shape[1], v.shape[1]
    cells = partial(canvas.cells, height=ROW, size=SIZE)
    cells(126 - 16 * keys, table, k.tolist(), width=32, digits=0)
    one = 0 if scores.equal(scores.round()) else 1
    cells(216, table, _column(scores), width=44, digits=one)
    cells(296, table, _column(weights), width=54, digits=3, most=1.0)
    cells(448 - 16 * values, table, v.tolist(), width=32, digits=0)

    # the steps' names, and the output
    below = table + height
    canvas.text(277, below + 24, "softmax", size=SIZE, colour=MUTED)
    canvas.line(f"M448 {below}V{end - 6}", tip=True)
    canvas.text(440, below + 24, "weighted sum", size=SIZE, colour=MUTED, anchor="end")
    place = 448 - 20 * values - 16 * (values == MOST_CHANNELS)  # within the frame
    canvas.text(place - 8, baseline(end, 0), f"output for {names[query]}", size=SIZE, anchor="end",
                bold=True)  # fmt: skip
    canvas.cells(place, end, [output.tolist()], width=40, digits=2, height=ROW, size=SMALL)
    _frame(canvas, place, end, 40 * values)
    return canvas.drawing()


def check_query(query: int, count: int) -> None:
    """Raises ValueError if `query` is none of `count` tokens."""
    if not 0 <= query < count:
        raise ValueError(f"query must be from 0 to {count - 1}, got {query}")


def baseline(top: float, i: int) -> float:
    """Of a word beside row i of cells that begin at `top`."""
    return top + ROW * (i + 0.5) + 0.35 * SIZE


def _column(numbers: Float[Tensor, " N"]) -> list[list[float]]:
    return [[number] for number in numbers.tolist()]


def _frame(canvas: Canvas, x: float, y: float, width: float) -> None:
    """A thick line around the cells that belong to the query's token."""
    canvas.box(x, y, width, ROW, colour=INK, fill="none", weight=2)
