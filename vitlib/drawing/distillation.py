"""`draw_distillation`: a teacher, a student with two tokens and two heads, and two losses."""

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, FAINT, GROUND, INK, LIT, MUTED, ORANGE

SIZE = 17  # pixels of 640, so that it is legible on a phone


def draw_distillation() -> Drawing:
    """Draw how a distilled ViT learns: what it hears from the label blue, from the teacher orange.

    The image goes to both models. In the student a class token and a distillation token pass
    through the blocks beside the patches; each has a head and a loss of its own.
    """
    canvas = Canvas(640, 566, "A teacher and its student with two tokens, two heads and two losses")
    _digit(canvas, 359, 14)
    canvas.text(340, 58, "image", size=SIZE, anchor="end")
    canvas.line("M409 96V136", tip=True)
    canvas.line("M453 52H494", tip=True)
    canvas.box(500, 14, 126, 82, ["teacher:", "a CNN,", "frozen"], colour=ORANGE, size=SIZE)

    canvas.box(118, 142, 84, 42, "class", colour=BLUE, fill=LIT, weight=2.5, size=SIZE)
    canvas.box(214, 142, 124, 42, "distillation", colour=ORANGE, weight=2.5, size=SIZE)
    canvas.box(350, 142, 118, 42, "patches", size=SIZE)
    canvas.text(106, 169, "tokens", colour=MUTED, size=SIZE, anchor="end")
    for x in (160, 276, 409):
        canvas.line(f"M{x} 184V204", tip=True)
    canvas.box(118, 210, 350, 50, "blocks: attention and MLP, × L", size=SIZE)
    canvas.text(106, 241, "student", colour=MUTED, size=SIZE, anchor="end")

    for x, left, width, name, colour in (
        (160, 118, 84, "head", BLUE),
        (276, 214, 124, "head_dist", ORANGE),
    ):
        canvas.line(f"M{x} 260V290", colour=colour, tip=True)
        fill = LIT if colour == BLUE else GROUND
        canvas.box(left, 296, width, 42, name, colour=colour, fill=fill, weight=2.5, size=SIZE)
        canvas.line(f"M{x} 338V384", colour=colour, tip=True)
        canvas.text(x + 10, 366, "logits", colour=MUTED, size=SIZE, anchor="start")
    canvas.box(118, 390, 84, 42, "loss", colour=BLUE, fill=LIT, size=SIZE)
    canvas.box(214, 390, 124, 42, "loss", colour=ORANGE, size=SIZE)

    canvas.box(14, 390, 68, 42, "“4”", colour=BLUE, fill=LIT, size=SIZE)
    canvas.text(48, 380, "label", colour=MUTED, size=SIZE)
    canvas.line("M82 411H112", colour=BLUE, tip=True)
    canvas.line("M563 96V411H344", colour=ORANGE, tip=True)
    canvas.text(553, 366, "hard: “4”", colour=ORANGE, size=SIZE, anchor="end")
    canvas.text(553, 392, "soft: “4, or 9?”", colour=ORANGE, size=SIZE, anchor="end")

    canvas.line("M160 432V482H202", colour=BLUE, tip=True)
    canvas.line("M276 432V482H226", colour=ORANGE, tip=True)
    canvas.text(150, 464, "(1 − α) ×", size=SIZE, anchor="end")
    canvas.text(286, 464, "α ×", size=SIZE, anchor="start")
    canvas.plus(214, 482)
    canvas.line("M214 492V518", tip=True)
    canvas.text(214, 544, "the student’s loss", size=SIZE, bold=True)
    return canvas.drawing()


def _digit(canvas: Canvas, x: float, y: float) -> None:
    """A four whose top is nearly closed, 88 × 82."""
    canvas.box(x + 6, y, 88, 82, colour=FAINT)
    canvas.line(f"M{x + 62} {y + 16}C{x + 44} {y + 12} {x + 34} {y + 26} {x + 34} {y + 44}"
                f"H{x + 68}M{x + 65} {y + 18}L{x + 60} {y + 70}", colour=INK, weight=7)  # fmt: skip
