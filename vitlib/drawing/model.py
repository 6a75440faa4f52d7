"""`draw_model`: the drawing of the whole model, in which each chapter highlights its own part."""

from collections.abc import Iterable

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import BLUE, FAINT, GROUND, INK, LIT, MUTED
from vitlib.wording import did_you_mean

# part: (x, y, width, height, lines of text), in the order of the arrows
BOXES: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    "image": (14, 40, 106, 106, ()),
    "patches": (160, 40, 96, 106, ()),
    "embedding": (296, 40, 104, 106, ("linear", "C·P·P → D")),
    "tokens": (440, 40, 186, 106, ()),
    "attention": (458, 198, 158, 46, ("norm,", "attention")),
    "mlp": (458, 296, 158, 46, ("norm,", "MLP")),
    "head": (160, 240, 104, 64, ("head", "D → K")),
    "logits": (14, 240, 106, 64, ("logits", "“seven”")),
}
CAPTIONS = {
    "image": (73, "image H×W×C"),
    "patches": (208, "N patches"),
    "embedding": (348, "embedding"),
    "tokens": (533, "tokens (1+N)×D"),
}
ARROWS = (
    "M120 93H154",
    "M256 93H290",
    "M400 93H434",
    "M537 154V192",  # into the block
    "M537 244V256",
    "M537 280V290",
    "M537 342V354",
    "M537 184H440V270H524",  # the two residual connections
    "M548 270H626V366H550",
    "M424 272H398",
    "M306 272H270",
    "M160 272H126",
)
SIZE = 17  # pixels of 640, so that it is legible on a phone


def draw_model(highlight: Iterable[str] = ()) -> Drawing:
    """Draw the Vision Transformer: the parts named in `highlight` in colour, the others faint.

    Parts: image, patches, embedding, tokens, attention, mlp, encoder (both of these), norm, head,
    logits. Without any, all parts look alike. Raises ValueError for another name.
    """
    parts = {*BOXES, "encoder", "norm"}
    lit = {highlight} if isinstance(highlight, str) else set(highlight)
    for name in lit - parts:
        hint = did_you_mean(name, parts, f"Its parts are {', '.join(sorted(parts))}")
        raise ValueError(f"the drawing has no part {name!r}. {hint}")
    if "encoder" in lit:
        lit |= {"attention", "mlp"}

    def colour(name: str) -> str:
        return BLUE if name in lit else (INK if not lit else FAINT)

    canvas = Canvas(640, 412, "The Vision Transformer")
    for path in ARROWS:
        canvas.line(path, tip=True)
    _box(canvas, (424, 168, 210, 238), colour("encoder"), dashed=True)
    _text(canvas, 529, 396, "encoder block × L", colour("encoder"))
    for y in (270, 366):
        canvas.plus(537, y, colour=colour("encoder"))
    _box(canvas, (306, 240, 90, 64), colour("norm"), ("norm,", "class"))
    for name, (x, y, width, height, lines) in BOXES.items():
        if name not in ("image", "patches", "tokens"):
            _box(canvas, (x, y, width, height), colour(name), lines)
    for name, (middle, caption) in CAPTIONS.items():
        _text(canvas, middle, 26, caption, colour(name))
    _image(canvas, colour("image"))
    _patches(canvas, colour("patches"))
    _tokens(canvas, colour("tokens"))
    return canvas.drawing()


def _box(
    canvas: Canvas,
    place: tuple[int, int, int, int],
    ink: str,
    lines: tuple[str, ...] = (),
    dashed: bool = False,
) -> None:
    x, y, width, height = place
    lit = ink == BLUE
    fill = "none" if dashed else (LIT if lit else GROUND)
    weight = 3 if lit else 1.5
    canvas.box(
        x, y, width, height, lines,
        colour=ink, fill=fill, weight=weight, dashed=dashed, size=SIZE, bold=lit,
    )  # fmt: skip


def _text(canvas: Canvas, x: float, y: float, text: str, ink: str) -> None:
    canvas.text(x, y, text, colour=ink, size=SIZE, bold=ink == BLUE)


def _image(canvas: Canvas, ink: str) -> None:
    """A seven on a 4×4 grid of patches."""
    canvas.line("M34 62H98L60 128", colour=MUTED if ink == FAINT else INK, weight=10)
    lines = "".join(f"M{14 + 26.5 * i} 40v106M14 {40 + 26.5 * i}h106" for i in range(5))
    canvas.line(lines, colour=ink, weight=1.5)


def _patches(canvas: Canvas, ink: str) -> None:
    """The same patches, drawn apart."""
    fill = LIT if ink == BLUE else GROUND
    for row in range(4):
        for column in range(4):
            canvas.box(161 + 25 * column, 43 + 26 * row, 19, 20, colour=ink, fill=fill)


def _tokens(canvas: Canvas, ink: str) -> None:
    """One bar per token; the class token comes first and is filled."""
    fill = LIT if ink == BLUE else GROUND
    for i in range(8):
        canvas.box(442 + 23.5 * i, 42, 16, 84, colour=ink, fill=ink if i == 0 else fill)
    _text(canvas, 461, 146, "class", ink)
    _text(canvas, 566, 146, "+ positions", ink)
