"""The book's drawings, one module each, made of the shapes in `canvas.py`.

Words and grounds take the colours of the page: see `vitlib.palette.themed`.
"""

from vitlib.drawing.attention_head import draw_attention_head
from vitlib.drawing.attention_heads import draw_attention_heads
from vitlib.drawing.badge import draw_badge
from vitlib.drawing.block import draw_block
from vitlib.drawing.canvas import Canvas, Drawing
from vitlib.drawing.dialects import draw_dialects
from vitlib.drawing.distillation import draw_distillation
from vitlib.drawing.ladder import draw_ladder
from vitlib.drawing.mixing import draw_mixing
from vitlib.drawing.model import draw_model
from vitlib.drawing.rollout import draw_rollout
from vitlib.drawing.row_orders import draw_row_orders
from vitlib.drawing.walk import draw_walk

__all__ = [
    "Canvas",
    "Drawing",
    "draw_attention_head",
    "draw_attention_heads",
    "draw_badge",
    "draw_block",
    "draw_dialects",
    "draw_distillation",
    "draw_ladder",
    "draw_mixing",
    "draw_model",
    "draw_rollout",
    "draw_row_orders",
    "draw_walk",
]
