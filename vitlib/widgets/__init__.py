"""Interactive figures: widgets in Jupyter and Colab, which also work alone in a web page.

    a model and images -> traits, checked in Python -> render() in static/NAME.js

`figure.py` has what they share; only `live.py` needs a live kernel. In the page of `explorer.py`
the model itself runs, by static/vit.js.
"""

from vitlib.widgets.attention import AttentionFigure
from vitlib.widgets.costs import CostFigure
from vitlib.widgets.dialect import DialectFigure
from vitlib.widgets.explorer import Explorer
from vitlib.widgets.lens import LensFigure
from vitlib.widgets.live import attention_explorer
from vitlib.widgets.patch import PatchFigure
from vitlib.widgets.position import PositionFigure
from vitlib.widgets.runs import RunsFigure
from vitlib.widgets.softmax import SoftmaxFigure
from vitlib.widgets.teacher import TeacherFigure

__all__ = [
    "AttentionFigure",
    "CostFigure",
    "DialectFigure",
    "Explorer",
    "LensFigure",
    "PatchFigure",
    "PositionFigure",
    "RunsFigure",
    "SoftmaxFigure",
    "TeacherFigure",
    "attention_explorer",
]
