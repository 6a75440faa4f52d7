"""Figures that a reader can touch: widgets in Jupyter and Colab, and by themselves in a page."""

from vitlib.widgets.patch import PatchFigure

__all__ = ["PatchFigure"]
