"""`draw_attention_heads`: one query in two small heads, cut apart and put together again."""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor

from vitlib.drawing.attention_head import MOST_TOKENS, ROW, SIZE, SMALL, baseline, check_query
from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import INK, MUTED

HEADS, WIDTH = 2, 2  # heads, and numbers per head, for which there is room
CELL = 36  # pixels, the width of a cell
LEFT = (60, 296)  # where the two heads begin


def draw_attention_heads(
    q: Float[Tensor, "N D"],
    k: Float[Tensor, "N D"],
    v: Float[Tensor, "N D"],
    w_o: Float[Tensor, "D D"],
    *,
    names: Sequence[str],
    query: int = 0,
) -> Drawing:
    """Draw attention with two heads for one query, all numbers written out.

    Each head gets its half of `q`, `k` and `v`, scales its scores by 1/√2 and has a softmax of its
    own; the two outputs stand side by side and are multiplied by `w_o`. Weights and outputs are
    computed here. Numbers above zero are orange, below zero blue.

    Args:
        names: of the N tokens.
        query: which token collects.

    Raises ValueError for another width than 4, more than 5 tokens, names that are too many or too
    few, and a query that is none of the tokens.
    """
    count, width = q.shape
    if count > MOST_TOKENS or width != HEADS * WIDTH:
        raise ValueError(
            f"the drawing has room for {MOST_TOKENS} tokens of width {HEADS * WIDTH}, got {count} "
            f"of width {width}"
        )
    if len(names) != count:
        raise ValueError(f"expected {count} names, got {len(names)}")
    check_query(query, count)

    halves = [t.reshape(count, HEADS, WIDTH).transpose(0, 1) for t in (q, k, v)]  # (H, N, d)
    weights = (halves[0] @ halves[1].mT * WIDTH**-0.5).softmax(dim=-1)  # (H, N, N)
    outputs = (weights @ halves[2])[:, query]  # (H, d)

    height = count * ROW
    top, table = 34, 126  # of the query, and of keys, weights and values
    below = table + height + 40  # of the heads' outputs
    joined = below + ROW + 52
    final = joined + ROW + 46
    canvas = Canvas(520, final + ROW + 12, f"Two attention heads, and what {names[query]} collects")
    most = max(1.0, *(float(t.abs().max()) for t in (q, k, v)))
    cells = partial(canvas.cells, width=CELL, height=ROW, size=SIZE, digits=0, most=most)

    canvas.text(180, top + 18, f"query of {names[query]}", size=SIZE, anchor="end", bold=True)
    for i, name in enumerate(names):
        y = baseline(table, i)
        canvas.text(LEFT[0] - 8, y, name, size=SIZE, anchor="end", bold=i == query)
    for head, left in enumerate(LEFT):
        place = 188 + head * (WIDTH * CELL + 12)  # of this head's piece of the query
        q_h, k_h, v_h = (half[head] for half in halves)
        cells(place, top, [q_h[query].tolist()])
        canvas.text(place + CELL, top - 10, f"head {head}", size=SIZE, bold=True)
        keys, shares, values = left, left + 80, left + 142
        middle = keys + CELL
        canvas.line(f"M{place + CELL} {top + ROW}V{top + ROW + 18}H{middle}V{table - 26}", tip=True)
        for x, title in [(middle, "keys"), (shares + 27, "weights"), (values + CELL, "values")]:
            canvas.text(x, table - 8, title, size=SMALL, colour=MUTED)
        cells(keys, table, k_h.tolist())
        canvas.cells(shares, table, [[w] for w in weights[head, query].tolist()], width=54,
                     height=ROW, size=SIZE, digits=3, most=1.0)  # fmt: skip
        cells(values, table, v_h.tolist())
        _outputs(canvas, values - 8, below, outputs[head].tolist())
        canvas.line(f"M{values + CELL} {table + height}V{below - 6}", tip=True)
        into = 220 + (head * WIDTH + 1) * 44
        canvas.line(
            f"M{values + CELL} {below + ROW}V{below + ROW + 22}H{into}V{joined - 6}", tip=True
        )
    both = outputs.flatten()  # (D,)
    canvas.text(212, joined + 18, "side by side", size=SIZE, anchor="end", bold=True)
    _outputs(canvas, 220, joined, both.tolist())
    canvas.line(f"M308 {joined + ROW}V{final - 6}", tip=True)
    canvas.text(316, joined + ROW + 28, "× Wo", size=SIZE, colour=MUTED, anchor="start")
    canvas.text(212, final + 18, f"output for {names[query]}", size=SIZE, anchor="end", bold=True)
    _outputs(canvas, 220, final, (both @ w_o).tolist())
    canvas.box(220, final, 176, ROW, colour=INK, fill="none", weight=2)
    return canvas.drawing()


def _outputs(canvas: Canvas, x: float, y: float, numbers: list[float]) -> None:
    canvas.cells(x, y, [numbers], width=44, height=ROW, size=SMALL, digits=2)
