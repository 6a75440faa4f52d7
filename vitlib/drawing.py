"""`draw_model`: the drawing of the whole model, in which each chapter highlights its own part."""

from collections.abc import Iterable
from dataclasses import dataclass

from vitlib.palette import BLUE
from vitlib.wording import did_you_mean

INK, FAINT, LIT, PAPER, GREY = "#1f2933", "#9aa5b1", BLUE, "#ffffff", "#f0f2f5"

# part: (x, y, width, height, lines of text), in the order of the arrows
BOXES: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    "image": (14, 40, 106, 106, ()),
    "patches": (160, 40, 96, 106, ()),
    "embedding": (296, 40, 104, 106, ("linear", "C·P·P → D")),
    "tokens": (440, 40, 186, 106, ()),
    "attention": (458, 204, 158, 42, ("norm, attention",)),
    "mlp": (458, 294, 158, 42, ("norm, MLP",)),
    "head": (160, 240, 104, 64, ("head", "D → K")),
    "logits": (14, 240, 106, 64, ("logits", "“seven”")),
}
CAPTIONS = {
    "image": (67, "image  H×W×C"),
    "patches": (208, "N patches"),
    "embedding": (348, "embedding"),
    "tokens": (533, "tokens  (1+N)×D"),
}
ARROWS = (
    "M120 93H154",
    "M256 93H290",
    "M400 93H434",
    "M537 154V198",  # into the block
    "M537 246V258",
    "M537 280V288",
    "M537 336V348",
    "M537 184H440V270H524",  # the two residual connections
    "M548 270H626V359H550",
    "M424 272H398",
    "M306 272H270",
    "M160 272H126",
)


@dataclass(frozen=True)
class Drawing:
    """An SVG picture that a notebook shows as it is."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


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
        return LIT if name in lit else (INK if not lit else FAINT)

    shapes = [
        f'<path d="{path}" fill="none" stroke="{FAINT}" stroke-width="2" marker-end="url(#tip)"/>'
        for path in ARROWS
    ]
    shapes.append(_box(424, 168, 210, 236, colour("encoder"), dashed=True))
    shapes.append(_text(529, 393, "encoder block × L", colour("encoder"), 16))
    shapes += [_plus(537, y, colour("encoder")) for y in (270, 359)]
    shapes.append(_box(306, 240, 90, 64, colour("norm")))
    shapes += [_text(351, 266, "norm,", colour("norm")), _text(351, 287, "class", colour("norm"))]
    for name, (x, y, width, height, lines) in BOXES.items():
        if name not in ("image", "patches", "tokens"):
            shapes.append(_box(x, y, width, height, colour(name)))
        first = y + height / 2 + 6 - 10.5 * (len(lines) - 1)
        shapes += [
            _text(x + width / 2, first + 21 * i, line, colour(name)) for i, line in enumerate(lines)
        ]
    for name, (x, caption) in CAPTIONS.items():
        shapes.append(_text(x, 26, caption, colour(name), 16))
    shapes += [_image(colour("image")), _patches(colour("patches")), _tokens(colour("tokens"))]
    body = "".join(shapes)
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 412" width="640" role="img" '
        f'font-family="system-ui, sans-serif"><title>The Vision Transformer</title>'
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        f'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker></defs>'
        f'<rect width="640" height="412" rx="8" fill="{PAPER}"/>{body}</svg>'
    )


def _box(x: float, y: float, width: float, height: float, ink: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="6 5"' if dashed else ""
    fill = "none" if dashed else (GREY if ink != LIT else "#d6eaf6")
    weight = 3 if ink == LIT else 1.5
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" '
        f'stroke="{ink}" stroke-width="{weight}"{dash}/>'
    )


def _text(x: float, y: float, text: str, ink: str, size: int = 17) -> str:
    weight = ' font-weight="600"' if ink == LIT else ""
    colour = "#52606d" if ink == FAINT else ink  # lines may be pale, text may not
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="middle" fill="{colour}"{weight}>'
        f"{text}</text>"
    )


def _plus(x: int, y: int, ink: str) -> str:
    return (
        f'<circle cx="{x}" cy="{y}" r="10" fill="{PAPER}" stroke="{ink}" stroke-width="1.5"/>'
        f'<path d="M{x - 5} {y}h10M{x} {y - 5}v10" stroke="{ink}" stroke-width="1.5"/>'
    )


def _image(ink: str) -> str:
    """A seven on a 4×4 grid of patches."""
    lines = "".join(f"M{14 + 26.5 * i} 40v106M14 {40 + 26.5 * i}h106" for i in range(5))
    return (
        f'<path d="M34 62H98L60 128" fill="none" stroke="{INK if ink != FAINT else "#7b8794"}" '
        f'stroke-width="10" stroke-linejoin="round"/>'
        f'<path d="{lines}" stroke="{ink}" stroke-width="1.5" fill="none"/>'
    )


def _patches(ink: str) -> str:
    """The same patches, drawn apart."""
    return "".join(
        f'<rect x="{161 + 25 * column}" y="{43 + 26 * row}" width="19" height="20" rx="2" '
        f'fill="{"#d6eaf6" if ink == LIT else GREY}" stroke="{ink}" stroke-width="1.5"/>'
        for row in range(4)
        for column in range(4)
    )


def _tokens(ink: str) -> str:
    """One bar per token; the class token comes first and is filled."""
    bars = "".join(
        f'<rect x="{442 + 23.5 * i}" y="42" width="16" height="86" rx="3" '
        f'fill="{ink if i == 0 else ("#d6eaf6" if ink == LIT else GREY)}" stroke="{ink}" '
        f'stroke-width="1.5"/>'
        for i in range(8)
    )
    return bars + _text(450, 146, "class", ink, 14) + _text(545, 146, "+ positions", ink, 14)
