"""Figures that a reader can touch: widgets in Jupyter and Colab, and by themselves in a page."""

from vitlib.widgets.attention import AttentionFigure
from vitlib.widgets.explorer import attention_explorer
from vitlib.widgets.lens import LensFigure
from vitlib.widgets.patch import PatchFigure
from vitlib.widgets.position import PositionFigure
from vitlib.widgets.runs import RunsFigure
from vitlib.widgets.softmax import SoftmaxFigure

__all__ = [
    "AttentionFigure",
    "LensFigure",
    "PatchFigure",
    "PositionFigure",
    "RunsFigure",
    "SoftmaxFigure",
    "attention_explorer",
]
