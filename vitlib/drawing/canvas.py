"""`Canvas`: the few shapes that the book's drawings are made of, as one SVG picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from vitlib.palette import BLUE, FAINT, GROUND, INK, MUTED, ORANGE, PAPER, themed

LINE_HEIGHT = 1.25  # of the font size


@dataclass(frozen=True)
class Drawing:
    """An SVG picture that a notebook shows as it is."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


class Canvas:
    """Shapes in the order in which they are drawn; coordinates in pixels, y downwards.

    A page column is at most 640 pixels wide, and 358 on a phone, where the whole picture shrinks:
    text needs a size of at least width / 38 to stay legible there (9.4 pixels).
    """

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []

    def add(self, shape: str) -> None:
        """Any other SVG element."""
        self._shapes.append(shape)

    def box(
        self, x: float, y: float, width: float, height: float, text: str | Sequence[str] = (), *,
        colour: str = INK, ink: str | None = None, fill: str = GROUND, weight: float = 1.5,
        dashed: bool = False, size: float = 16, bold: bool = False,
    ) -> None:  # fmt: skip
        """A box with rounded corners and lines of text in its middle, in `ink` or as its frame."""
        dash = ' stroke-dasharray="6 5"' if dashed else ""
        self.add(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
            f'fill="{fill}" stroke="{colour}" stroke-width="{weight:g}"{dash}/>'
        )
        lines = [text] if isinstance(text, str) else list(text)
        first = y + height / 2 + 0.35 * size - 0.5 * LINE_HEIGHT * size * (len(lines) - 1)
        for i, line in enumerate(lines):
            place = first + i * LINE_HEIGHT * size
            self.text(x + width / 2, place, line, colour=ink or colour, size=size, bold=bold)

    def text(
        self, x: float, y: float, text: str, *, colour: str = INK, size: float = 16,
        anchor: str = "middle", bold: bool = False, italic: bool = False,
    ) -> None:  # fmt: skip
        """One line of text on the baseline `y`; `anchor` is start, middle or end."""
        style = (' font-weight="600"' if bold else "") + (' font-style="italic"' if italic else "")
        colour = MUTED if colour == FAINT else colour  # lines may be pale, text may not
        self.add(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{colour}"{style}>{escape(text)}</text>'
        )

    def line(self, path: str, *, colour: str = FAINT, weight: float = 2, tip: bool = False,
             dashed: bool = False) -> None:  # fmt: skip
        """A line along an SVG path such as "M10 20H60V80", with an arrow's tip if asked for."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        end = f' marker-end="url(#tip-{colour[1:]})"' if tip else ""
        self.add(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{weight:g}" '
            f'stroke-linejoin="round"{dash}{end}/>'
        )

    def plus(self, x: float, y: float, *, colour: str = INK) -> None:
        """A plus in a circle: the sum of what arrives there."""
        self.add(
            f'<circle cx="{x:g}" cy="{y:g}" r="10" fill="{GROUND}" stroke="{colour}" '
            f'stroke-width="1.5"/>'
        )
        self.line(f"M{x - 5:g} {y:g}h10M{x:g} {y - 5:g}v10", colour=colour, weight=1.5)

    def cells(
        self, x: float, y: float, rows: Sequence[Sequence[float]], *, width: float = 40,
        height: float = 26, size: float = 14, most: float | None = None, digits: int = 1,
        numbers: bool = True, colour: str = INK,
    ) -> None:  # fmt: skip
        """A matrix as a grid of numbers, orange above zero and blue below; `most` is full colour.

        Without `most`, the largest magnitude in `rows`.
        """
        full = most or max((abs(v) for row in rows for v in row), default=1.0) or 1.0
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                left, top = x + j * width, y + i * height
                share = min(1.0, abs(value) / full)
                hue = ORANGE if value > 0 else BLUE
                self.add(
                    f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" '
                    f'fill="{hue}" fill-opacity="{0.45 * share:.2f}" stroke="{FAINT}"/>'
                )
                if numbers:
                    shown = f"{value:.{digits}f}".replace("-", "−")
                    middle = top + height / 2 + 0.35 * size
                    self.text(left + width / 2, middle, shown, size=size, colour=colour)

    def drawing(self) -> Drawing:
        """The picture as it is now."""
        body = "".join(self._shapes)
        tips = "".join(
            f'<marker id="tip-{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
            for colour in (INK, FAINT, BLUE, ORANGE)
            if f"tip-{colour[1:]}" in body
        )
        return Drawing(
            themed(
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" role="img" font-family="system-ui, sans-serif">'
                f"<title>{escape(self.title)}</title><defs>{tips}</defs>"
                f'<rect width="{self.width}" height="{self.height}" rx="8" fill="{PAPER}"/>'
                f"{body}</svg>"
            )
        )
