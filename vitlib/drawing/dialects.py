"""`draw_dialects`: how three styles of code write the eight steps of a Vision Transformer."""

from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.palette import FAINT, INK, MUTED, ORANGE

STYLES = ("modules (timm)", "einops", "PyTorch's encoder")
# step: how each style writes it. "!" marks what computes something other than ViT, as it comes.
STEPS: dict[str, tuple[str, str, str]] = {
    "patches": ("Conv2d, stride P", "!Rearrange (p p c)", "unfold, linear"),
    "queries, keys and values": ("qkv", "!to_qkv, no bias", "in_proj_weight"),
    "heads": ("reshape, permute", "rearrange", "!tokens on axis 0"),
    "output of the attention": ("proj", "to_out", "!out_proj, dropout"),
    "MLP": ("fc1, GELU, fc2", "net.0, GELU, net.3", "!2048 wide, ReLU"),
    "norms of a block": ("norm1, norm2", "!PreNorm, eps 1e-5", "!post-norm, 1e-5"),
    "last norm": ("norm", "transformer.norm", "!none"),
    "classifier": ("head", "mlp_head", "head"),
}
WIDTH, GAP, HEIGHT, SIZE = 480, 8, 28, 14


def draw_dialects() -> Drawing:
    """A row for each step, a column for each style; what differs from ViT has an orange frame."""
    column = (WIDTH - 4 * GAP) / 3
    step = HEIGHT + 24
    canvas = Canvas(WIDTH, 42 + step * len(STEPS), "Three ways to write a Vision Transformer")
    for i, style in enumerate(STYLES):
        canvas.text(GAP + i * (column + GAP) + column / 2, 24, style, size=15, bold=True)
    for row, (name, cells) in enumerate(STEPS.items()):
        top = 54 + row * step
        canvas.text(GAP, top - 5, name, size=13, colour=MUTED, anchor="start")
        for i, cell in enumerate(cells):
            left = GAP + i * (column + GAP)
            differs = cell.startswith("!")
            canvas.box(
                left, top, column, HEIGHT, cell.removeprefix("!"), size=SIZE, ink=INK,
                colour=ORANGE if differs else FAINT, weight=3 if differs else 1,
            )  # fmt: skip
    return canvas.drawing()
