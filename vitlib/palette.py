"""The book's colours, for figures in Python and in JavaScript, style sheets and checkers.

Blue and orange can be told apart by colour-blind readers, too (Okabe and Ito 2008).
"""

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
SKY = "#2a8fcf"  # a second series next to orange, light enough for a dark page
COLOURS = {"blue": BLUE, "orange": ORANGE, "grey": GREY, "sky": SKY}  # for JavaScript and CSS


def rgb(colour: str) -> tuple[int, int, int]:
    """The three numbers of a colour such as "#0072b2": (0, 114, 178)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
