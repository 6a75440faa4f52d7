"""Figures that chapters share. White ground, and colours that colour-blind readers can tell apart
(Okabe and Ito 2008), so that a figure reads the same on light and dark pages.
"""

from typing import Any

from vitlib.history import History, TrainState

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8a8a8a"


def smooth(values: list[float], beta: float) -> list[float]:
    """Exponential moving average, each value divided by the weight that it has gathered so far."""
    smoothed, average = [], 0.0
    for count, value in enumerate(values, start=1):
        average = beta * average + (1 - beta) * value
        smoothed.append(average / (1 - beta**count))
    return smoothed


def plot_history(history: History) -> Any:
    """Figure with the loss of each step and its running mean, and the validation accuracy."""
    import matplotlib.pyplot as plt

    validated = bool(history.val_steps)
    figure = plt.figure(
        figsize=(9 if validated else 5, 3.2), facecolor="white", layout="constrained"
    )
    axes = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]

    axes[0].plot(history.steps, history.loss, color=BLUE, alpha=0.25, linewidth=0.8)
    beta = max(0.0, 1 - 50 / len(history.loss))  # a window of about 2 % of the run
    axes[0].plot(history.steps, smooth(history.loss, beta), color=BLUE, linewidth=1.8)
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
    plt.close(figure)  # else a notebook shows it twice: when pyplot ends the cell, and as a value
    return figure


class LivePlot:
    """Callback for `fit` that draws the history while it grows, in a notebook's output.

    One display is redrawn every `every` steps and at the end. Outside a notebook it does nothing.
    """

    def __init__(self, every: int = 100):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every
        self._display: Any = None

    def __call__(self, state: TrainState) -> None:
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
