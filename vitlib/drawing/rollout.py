"""`draw_rollout`: through which tokens, and in which shares, content reaches the class token."""

from collections.abc import Sequence
from math import prod

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import FAINT, GROUND, INK, LIT, ORANGE

SIZE = 17  # pixels of 640, so that it is legible on a phone
LEFT, TOP, WIDTH, HEIGHT = 14, 44, 84, 42  # of the first box
BELOW = 84  # from one token to the next


def draw_rollout(
    tables: Sequence[Sequence[Sequence[float]]], names: Sequence[str], path: Sequence[int]
) -> Drawing:
    """Tokens in rows, layers in columns; each line is a share that one token takes of another.

    Args:
        tables: for each layer, first to last, a table [takes][gives] whose rows sum to 1.
        names: of the tokens; the first is the one to which everything is followed.
        path: one token before the first layer and one after each layer, highlighted, with the
            product of their shares below.

    Raises ValueError for a path that does not have one token for each column.
    """
    if len(path) != len(tables) + 1:
        raise ValueError(f"{len(tables)} tables need a path of {len(tables) + 1}, got {list(path)}")
    bottom = TOP + BELOW * (len(names) - 1) + HEIGHT
    canvas = Canvas(640, bottom + 44, "What reaches the first token, layer by layer")
    step = (640 - 2 * LEFT - WIDTH) / len(tables)

    arrives = {0}  # tokens of a column whose content reaches the first token at the end
    lines, labels = [], []
    for layer in reversed(range(len(tables))):
        gives: set[int] = set()
        for taker, row in enumerate(tables[layer]):
            for giver, share in enumerate(row):
                if not share:
                    continue
                on_path = (giver, taker) == tuple(path[layer : layer + 2])
                counts = taker in arrives
                if counts:
                    gives.add(giver)
                colour = ORANGE if on_path else INK if counts else FAINT
                x1, x2 = LEFT + WIDTH + step * layer, LEFT + step * (layer + 1)
                y1, y2 = (TOP + HEIGHT / 2 + BELOW * token for token in (giver, taker))
                lines.append((on_path, f"M{x1:g} {y1:g}L{x2:g} {y2:g}", colour, 1 + 4 * share))
                level = y1 == y2  # if not, the number stands to the left of the slanting line
                x, y = x1 + 0.4 * (x2 - x1), y1 + 0.4 * (y2 - y1)
                labels.append((x if level else x - 22, y - 8, share, colour))
        arrives = gives
    for on_path, line, colour, weight in sorted(lines):
        canvas.line(line, colour=colour, weight=weight if not on_path else weight + 1)
    for x, y, share, colour in labels:
        canvas.text(x, y, f"{share:.3g}", colour=colour, size=SIZE, bold=colour == ORANGE)

    for column in range(len(path)):
        x = LEFT + step * column
        title = f"after layer {column}" if column else "input"
        anchor = "start" if column == 0 else "end" if column == len(tables) else "middle"
        place = {"start": x, "middle": x + WIDTH / 2, "end": x + WIDTH}[anchor]
        canvas.text(place, 24, title, size=SIZE, anchor=anchor)
        for token, name in enumerate(names):
            lit = token == path[column]
            canvas.box(
                x, TOP + BELOW * token, WIDTH, HEIGHT, name, size=SIZE, bold=lit,
                colour=ORANGE if lit else INK, fill=LIT if lit else GROUND,
                weight=3 if lit else 1.5,
            )  # fmt: skip
    shares = [tables[layer][path[layer + 1]][path[layer]] for layer in range(len(tables))]
    sum_ = " × ".join(f"{share:.3g}" for share in shares)
    words = " → ".join(names[token] for token in path)
    canvas.text(320, bottom + 32, f"{words}: {sum_} = {prod(shares):.3g}", colour=ORANGE, size=SIZE)
    return canvas.drawing()
