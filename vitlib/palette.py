"""The book's colours, for figures in Python and in JavaScript, style sheets and checkers.

Blue and orange can be told apart by colour-blind readers, too (Okabe and Ito 2008). One rule for
signs: orange is above zero, blue below.
"""

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
SKY = "#2a8fcf"  # a second series next to orange, light enough for a dark page
NIGHT = "#00243d"  # where a scale that begins with white and blue ends
COLOURS = {"blue": BLUE, "orange": ORANGE, "grey": GREY, "sky": SKY, "night": NIGHT}  # for JS, CSS

INK, MUTED, FAINT = "#1f2933", "#52606d", "#9aa5b1"  # words and lines; paler words; pale lines
PAPER, INVERSE = "#ffffff", "#fdfdfd"  # the ground; words on something filled with a colour
GROUND, LIT = "#f0f2f5", "#d6eaf6"  # the inside of a box, and of one that is highlighted
# The names under which a picture asks a page for its own colours (see `themed`), with what it has
# otherwise; and what the book's pages answer in the dark.
PAGE_COLOURS = {
    "ink": INK, "muted": MUTED, "faint": FAINT, "paper": PAPER, "inverse": INVERSE,
    "ground": GROUND, "lit": LIT, **COLOURS,
}  # fmt: skip
DARK = {
    "ink": "#ced6dd", "muted": "#a3b1bf", "faint": "#6b7783", "paper": "transparent",
    "inverse": "#10151b", "ground": "#222832", "lit": "#12394f", "blue": "#4aa8e0",
    "orange": "#f08a3c", "grey": "#9a9a9a", "sky": "#8ccbf0", "night": "#cfe8f7",
}  # fmt: skip


def rgb(colour: str) -> tuple[int, int, int]:
    """The three numbers of a colour such as "#0072b2": (0, 114, 178)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def themed(svg: str) -> str:
    """`svg` with each of PAGE_COLOURS as a CSS variable, so that a page can set its own.

    In a page that defines `--vitlib-ink` and the others (book/_assets/book.css does, for light and
    for dark), the picture follows it. Elsewhere, and as a file, it keeps the colours that it has.
    """
    for name, colour in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var(--vitlib-{name}, {colour})")
    return svg
