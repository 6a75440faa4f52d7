"""Figures that several chapters use, on white, so that they suit both light and dark pages.

`plot_history` and `LivePlot` draw a training run, `plot_maps` and `overlay` maps beside and over
images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.palette import BLUE, GREY, ORANGE
from vitlib.wording import check_count


@runtime_checkable
class HistoryLike(Protocol):
    """What `plot_history` reads of a training run; `vitlib.train.History` is one."""

    loss: list[float]
    val_steps: list[int]
    val_accuracy: list[float]

    @property
    def config(self) -> Any: ...


@runtime_checkable
class TrainStateLike(Protocol):
    """What `LivePlot` reads after a step; `vitlib.train.TrainState` is one."""

    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def history(self) -> Any: ...


def smooth(values: list[float], beta: float) -> list[float]:
    """Exponential moving average of `values`; `beta` is the weight of the past.

    Each average is divided by the sum of its weights, so that the first ones are not too small.
    """
    smoothed, average = [], 0.0
    for count, value in enumerate(values, start=1):
        average = beta * average + (1 - beta) * value
        smoothed.append(average / (1 - beta**count))
    return smoothed


def plot_history(history: HistoryLike) -> Any:
    """A figure with the loss of each step and its running mean, and the validation accuracy."""
    import matplotlib.pyplot as plt

    validated = bool(history.val_steps)
    figure = plt.figure(
        figsize=(9 if validated else 5, 3.2), facecolor="white", layout="constrained"
    )
    axes = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]

    steps = range(1, len(history.loss) + 1)
    axes[0].plot(steps, history.loss, color=BLUE, alpha=0.25, linewidth=0.8)
    beta = max(0.0, 1 - 50 / len(history.loss))  # a window of about 2 % of the run
    axes[0].plot(steps, smooth(history.loss, beta), color=BLUE, linewidth=1.8)
    axes[0].set(xlabel="step", ylabel="training loss")
    if validated:
        percent = [100 * accuracy for accuracy in history.val_accuracy]
        axes[1].plot(history.val_steps, percent, color=ORANGE, marker="o", markersize=3.5)
        axes[1].set(xlabel="step", ylabel="validation accuracy (%)")
        axes[1].set_title(f"{percent[-1]:.1f} %", color=ORANGE, loc="right", fontsize=10)
    for ax in axes:
        ax.set_facecolor("white")
        ax.set_xlim(0, history.config.steps)
        ax.grid(color=GREY, alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    plt.close(figure)  # or a notebook would show it twice: pyplot's own display, and as a value
    return figure


def plot_maps(
    images: Float[Tensor, "B C H W"],
    maps: Mapping[str, Float[Tensor, "B h w"]],
    titles: Sequence[str] | None = None,
    *,
    alone: bool = False,
    cmap: str = "gray",
) -> Any:
    """A figure with one row per image: the image, then each map over it.

    Args:
        images: pixels in [0, 1], grey (C = 1) or colour (C = 3).
        maps: title -> one map per image, on any coarser grid; see `overlay` for the colours. The
            range of its values is written below each map, since each map has its own scale.
        titles: one per image.
        alone: whether to show each map by itself as well, on white.
        cmap: colours of grey images: "gray", or "gray_r" for black ink on white.

    Raises ValueError for pixels outside [0, 1], maps that are not finite, and numbers of images,
    maps and titles that differ.
    """
    import matplotlib.pyplot as plt

    batch, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"expected images with 1 or 3 channels, got {channels}")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"expected pixels in [0, 1], got {images.min():.3g} to {images.max():.3g}: "
            f"undo the normalisation first, as ImageSet.denormalize does"
        )
    for name, values in {"titles": titles, **maps}.items():
        if values is not None and len(values) != batch:
            raise ValueError(f"{batch} images, but {len(values)} of {name}")

    columns = 1 + len(maps) * (2 if alone else 1)
    side = 6.4 / max(columns, 3)
    figure, grid = plt.subplots(
        batch, columns, squeeze=False, facecolor="white", layout="constrained",
        figsize=(side * columns, batch * (side * height / width + 0.35)),
    )  # fmt: skip
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[], facecolor="white")
        ax.spines[:].set_color(GREY)
    for row, image in enumerate(images.detach().cpu().permute(0, 2, 3, 1)):  # (H, W, C)
        picture, *panels = grid[row]
        pictures = [picture]
        picture.set_title(titles[row] if titles else "", fontsize=9, parse_math=False)
        for name, values in maps.items():
            low, high = float(values[row].min()), float(values[row].max())
            first_panel = panels[0]
            if alone:
                overlay(panels.pop(0), values[row], (height, width), strength=1.0)
            overlay(panels[0], values[row], (height, width))
            pictures.append(panels.pop(0))
            first_panel.set_title(name if row == 0 else "", fontsize=8, parse_math=False)
            value_range = f"{low:.2g} to {high:.2g}"
            first_panel.set_xlabel(value_range, fontsize=7, color="#555555", labelpad=2)
        for ax in pictures:
            ax.imshow(image.numpy(), cmap=cmap, vmin=0, vmax=1, zorder=0)
    plt.close(figure)  # or a notebook would show it twice: pyplot's own display, and as a value
    return figure


def overlay(
    ax: Any, values: Float[Tensor, "h w"], size: tuple[int, int], strength: float = 0.75
) -> None:
    """Lay a map over an image of `size` (H, W) in the matplotlib axes `ax`.

    Orange where the map is positive, blue where it is negative. The nearer a value is to 0, the
    more transparent it is; the value farthest from 0 gets the opacity `strength`.
    Raises ValueError for NaN or infinity.
    """
    from matplotlib.colors import to_rgb

    values = values.detach().cpu().float()
    if not values.isfinite().all():
        raise ValueError("the map holds NaN or infinity")
    positive, negative = torch.tensor(to_rgb(ORANGE)), torch.tensor(to_rgb(BLUE))
    colours = torch.where(values[..., None] < 0, negative, positive)  # (h, w, 3)
    opacity = strength * values.abs() / values.abs().max().clamp(min=1e-30)
    ax.imshow(
        torch.cat([colours, opacity[..., None]], dim=-1).numpy(),
        extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
        interpolation="nearest",
        zorder=1,
    )


class LivePlot:
    """A callback for `fit` that draws the history while it grows, in a notebook's output.

    It redraws one display every `every` steps and at the end. Outside a notebook it does nothing.
    Raises ValueError for `every` below 1.
    """

    def __init__(self, every: int = 100):
        check_count("every", every)
        self.every = every
        self._display: Any = None

    def __call__(self, state: TrainStateLike) -> None:
        if state.step % self.every and state.step != state.steps:
            return
        if not _in_notebook():
            return
        from IPython.display import Image, display

        picture = Image(state.history._repr_png_(), format="png")
        if self._display is None:
            self._display = display(picture, display_id=True)
        else:
            self._display.update(picture)
        if state.step == state.steps:
            self._display = None  # the next run draws a figure of its own


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
