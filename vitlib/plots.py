"""How the book's matplotlib figures look, and the figures that several chapters use.

`use_book_style` sets colours and sizes, `plot_history` and `LivePlot` draw a training run,
`plot_maps`, `plot_heads` and `overlay` maps beside and over images.
"""

import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from textwrap import fill
from typing import Any, ParamSpec, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitlib.palette import BLUE, FAINT, GREY, INK, MUTED, NIGHT, ORANGE, PAPER, SKY, themed
from vitlib.wording import check_count

P = ParamSpec("P")


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


_STYLE = {
    "figure.figsize": (5, 3),  # inches. 5 is the widest, and 9 the smallest type: at 390 pixels,
    "font.size": 10,  # where a figure shrinks to 7/10, its words are 8.7 to 9.7 pixels high
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "image.cmap": "vitlib",
    "image.interpolation": "none",
    "svg.fonttype": "none",  # words stay words: sharp, and in the page's colours
    "svg.hashsalt": "vitlib",  # the same figure is the same file
}


def use_book_style() -> None:
    """Give matplotlib's figures the book's colours, type and size, and show them as SVG.

    In the pages of the book they then follow the theme, light or dark, and stay sharp; elsewhere
    they stand on white. The colour maps "vitlib" (white for 0, then blue, then nearly black) and
    "vitlib_diverging" (blue below 0, white, orange above) are those of the book's live figures.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if _in_notebook():
        from IPython import get_ipython

        plt.switch_backend(plt.get_backend())  # else the first figure would, and undo the next line
        formatters = get_ipython().display_formatter.formatters
        formatters["image/svg+xml"].for_type(Figure, figure_svg)
    plt.rcParams.update(_style())


def _style() -> Any:
    """The book's settings of matplotlib, once it knows the book's colour maps."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.rcsetup import cycler

    for name, colours in {
        "vitlib": ["#ffffff", BLUE, NIGHT],
        "vitlib_diverging": [BLUE, "#ffffff", ORANGE],
    }.items():
        if name not in mpl.colormaps:
            mpl.colormaps.register(LinearSegmentedColormap.from_list(name, colours))
    return _STYLE | {"axes.prop_cycle": cycler(color=[BLUE, ORANGE, SKY, GREY, INK])}


def _in_book_style(draw: Callable[P, Any]) -> Callable[P, Any]:
    """`draw` with the book's settings, whatever those of its caller are: matplotlib asks for some
    when the figure is made and for others when a title or a line is drawn."""

    @wraps(draw)
    def styled(*args: P.args, **options: P.kwargs) -> Any:
        import matplotlib as mpl

        with mpl.rc_context(_style()):
            return draw(*args, **options)

    return styled


@_in_book_style
def figure_svg(figure: Any) -> str:
    """A matplotlib figure as an SVG picture whose words and grounds follow a page's theme."""
    figure.savefig(
        buffer := io.StringIO(), format="svg", bbox_inches="tight", metadata={"Date": None}
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without the declaration, so that it can stand in a page
    reference = r'(url\(#|href="#)(\w+)'
    used = dict.fromkeys(m[2] for m in re.finditer(reference, svg))
    numbers = {name: f"i{number}" for number, name in enumerate(used)}  # names vary from run to run
    svg = re.sub(reference, lambda m: m[1] + numbers[m[2]], svg)
    svg = re.sub(r' id="(\w+)"', lambda m: f' id="{numbers[m[1]]}"' if m[1] in used else "", svg)
    return themed(svg).replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")


def smooth(values: list[float], beta: float) -> list[float]:
    """Exponential moving average of `values`; `beta` is the weight of the past.

    Each average is divided by the sum of its weights, so that the first ones are not too small.
    """
    smoothed, average = [], 0.0
    for count, value in enumerate(values, start=1):
        average = beta * average + (1 - beta) * value
        smoothed.append(average / (1 - beta**count))
    return smoothed


@_in_book_style
def plot_history(history: HistoryLike) -> Any:
    """A figure with the loss of each step and its running mean, and the validation accuracy."""
    import matplotlib.pyplot as plt

    validated = bool(history.val_steps)
    figure = plt.figure(figsize=(5, 4.6 if validated else 2.8))
    axes = figure.subplots(2 if validated else 1, 1, squeeze=False, sharex=True)[:, 0]

    steps = range(1, len(history.loss) + 1)
    axes[0].plot(steps, history.loss, color=BLUE, alpha=0.25, linewidth=0.8)
    beta = max(0.0, 1 - 50 / len(history.loss))  # a window of about 2 % of the run
    axes[0].plot(steps, smooth(history.loss, beta), color=BLUE, linewidth=1.8)
    axes[0].set(ylabel="training loss")
    if validated:
        percent = [100 * accuracy for accuracy in history.val_accuracy]
        axes[1].plot(history.val_steps, percent, color=ORANGE, marker="o", markersize=3.5)
        axes[1].set(ylabel="validation accuracy (%)")
        axes[1].set_title(f"{percent[-1]:.1f} %", color=ORANGE, loc="right")
    axes[-1].set(xlabel="step")
    for ax in axes:
        ax.set_xlim(0, history.config.steps)
        ax.grid(True)
    plt.close(figure)  # or a notebook would show it twice: pyplot's own display, and as a value
    return figure


@_in_book_style
def plot_maps(
    images: Float[Tensor, "B C H W"],
    maps: Mapping[str, Float[Tensor, "B *map"]],
    titles: Sequence[str] | None = None,
    *,
    alone: bool = False,
    cmap: str = "gray",
) -> Any:
    """A figure with one row per image: the image, then each map over it.

    Args:
        images: pixels in [0, 1], grey (C = 1) or colour (C = 3).
        maps: title -> one map per image, on any coarser grid, of values or of colours (h, w, 3);
            see `overlay`. The range of its values is written below each map of them, since each has
            its own scale.
        titles: one per image.
        alone: whether to show each map by itself as well.
        cmap: colours of grey images: "gray", or "gray_r" for black ink on white.

    Raises ValueError for pixels outside [0, 1], maps that are not finite, and numbers of images,
    maps and titles that differ.
    """
    import matplotlib.pyplot as plt

    _check_pixels(images)
    batch, _, height, width = images.shape
    for name, values in {"titles": titles, **maps}.items():
        if values is not None and len(values) != batch:
            raise ValueError(f"{batch} images, but {len(values)} of {name}")

    columns = 1 + len(maps) * (2 if alone else 1)
    side = 5 / max(columns, 3)  # inches
    figure, grid = plt.subplots(
        batch, columns, squeeze=False,
        figsize=(side * columns, batch * (side * height / width + 0.3)),
    )  # fmt: skip
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GREY)
    letters = int(14 * side)  # that fit on one line above a picture
    for row, image in enumerate(images.detach().cpu().permute(0, 2, 3, 1)):  # (H, W, C)
        picture, *panels = grid[row]
        pictures = [picture]
        title = drawable(titles[row]) if titles else ""
        picture.set_title(fill(title, letters), size=9, parse_math=False)
        for name, values in maps.items():
            first_panel = panels[0]
            if alone:
                overlay(panels.pop(0), values[row], (height, width), strength=1.0)
            overlay(panels[0], values[row], (height, width))
            pictures.append(panels.pop(0))
            title = fill(drawable(name), letters) if row == 0 else ""
            first_panel.set_title(title, size=9, parse_math=False)
            _label_range(first_panel, values[row])
        for ax in pictures:
            ax.imshow(image.numpy(), cmap=cmap, vmin=0, vmax=1, zorder=0)
    plt.close(figure)  # or a notebook would show it twice: pyplot's own display, and as a value
    return figure


@_in_book_style
def plot_heads(
    image: Float[Tensor, "C H W"],
    maps: Float[Tensor, "heads h w"],
    title: str = "",
    caption: str = "",
) -> Any:
    """A figure of one image, and then of each head's map over a pale grey copy of it.

    `title` stands above the figure, `caption` above the image. Each map has its own scale, which is
    written below it.
    Raises ValueError for pixels outside [0, 1] and maps that are not finite.
    """
    import matplotlib.pyplot as plt

    _check_pixels(image[None])
    image = image.detach().cpu()
    height, width = image.shape[-2:]
    count = 1 + len(maps)
    columns = 3 if count in (1, 2, 3, 5, 6) else 4 if count <= 8 else 5  # few gaps, in few rows
    rows = -(-count // columns)
    side = 5 / columns  # inches
    figure, grid = plt.subplots(
        rows, columns, squeeze=False, figsize=(5, rows * (side * height / width + 0.45) + 0.2)
    )
    figure.suptitle(drawable(title), size=9, parse_math=False)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GREY)
    first, *panels = grid.flat
    first.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
    first.set_title(fill(drawable(caption), int(14 * side)), size=9, parse_math=False)
    pale = (0.6 + 0.4 * image.mean(dim=0)).numpy()  # so that orange is the only colour
    for number, values in enumerate(maps):
        panels[number].imshow(pale, cmap="gray", vmin=0, vmax=1, zorder=0)
        overlay(panels[number], values, (height, width), strength=0.9)
        panels[number].set_title(f"head {number}", size=9)
        _label_range(panels[number], values)
    for ax in panels[len(maps) :]:
        ax.set_visible(False)
    plt.close(figure)  # or a notebook would show it twice: pyplot's own display, and as a value
    return figure


def _check_pixels(images: Tensor) -> None:
    """Raise a ValueError unless the images (B, C, H, W) are grey or colour, in [0, 1]."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"expected images with 1 or 3 channels, got {images.shape[1]}")
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"expected pixels in [0, 1], got {images.min():.3g} to {images.max():.3g}: "
            f"undo the normalisation first, as ImageSet.denormalize does"
        )


def _label_range(ax: Any, values: Tensor) -> None:
    """Write the range of a map's values below it; colours have none."""
    if values.ndim == 2:
        low, high = float(values.min()), float(values.max())
        ax.set_xlabel(f"{low:.2g} to {high:.2g}", size=9, color=MUTED, labelpad=2)


@_in_book_style
def plot_finding(draw: Callable[[Any], None], square: bool = False) -> str:
    """An SVG picture, in the book's style, of what `draw` draws into matplotlib axes.

    It can stand in a page beside others: the names inside it are its own.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(3, 3) if square else (4.4, 2.4))  # beside a report's rule
    draw(axes)
    plt.close(figure)
    svg = re.sub(r' id="matplotlib[^"]*"', "", figure_svg(figure))
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r'(id="|url\(#|href="#)i(\d+)\b', rf"\g<1>f{own}-\2", svg)


def drawable(text: str) -> str:
    """`text` with a substitute for each character that matplotlib's font would draw as a box.

    An emoji becomes its name, "[cat face]", and any other character its number in Unicode, "猫"
    for instance "[U+732B]". Marks that only change the character before them are left out.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont, get_font

    settings: Any = mpl.rcParams
    fonts = []  # those that matplotlib looks through in turn
    for family in settings["font.family"]:
        for name in settings.get(f"font.{family}", [family]):
            with suppress(ValueError):  # not installed here
                font = FontProperties(family=[name])
                fonts.append(get_font(findfont(font, fallback_to_default=False)))

    def substitute(character: str) -> str:
        if "\ufe00" <= character <= "\ufe0f":  # says how the emoji before it is drawn
            return ""
        if character.isspace() or any(font.get_char_index(ord(character)) for font in fonts):
            return character
        category = unicodedata.category(character)
        if category.startswith("M") or category == "Cf":
            return ""
        name = unicodedata.name(character, "").lower()
        return f"[{name}]" if category == "So" and name else f"[U+{ord(character):04X}]"

    return "".join(map(substitute, text))


def overlay(
    ax: Any,
    values: Float[Tensor, "h w *colour"],
    size: tuple[int, int],
    strength: float = 0.75,
    most: float | None = None,
) -> None:
    """Lay a map over an image of `size` (H, W) in the matplotlib axes `ax`.

    Orange where the map is positive, blue where it is negative. The nearer a value is to 0, the
    more transparent it is; the magnitude `most` gets the opacity `strength`. Without `most` that is
    the map's own largest magnitude: give it where maps are to be compared with each other.
    A map of colours (h, w, 3), in [0, 1], is laid over the image as it is, with that opacity.
    Raises ValueError for NaN or infinity.
    """
    from matplotlib.colors import to_rgb

    values = values.detach().cpu().float()
    if not values.isfinite().all():
        raise ValueError("the map holds NaN or infinity")
    if values.ndim == 3:
        colours, opacity = values, torch.full(values.shape[:2], strength)
    else:
        positive, negative = torch.tensor(to_rgb(ORANGE)), torch.tensor(to_rgb(BLUE))
        colours = torch.where(values[..., None] < 0, negative, positive)  # (h, w, 3)
        full = max(float(values.abs().max()) if most is None else most, 1e-30)
        opacity = strength * (values.abs() / full).clamp(max=1)
    ax.imshow(
        torch.cat([colours, opacity[..., None]], dim=-1).numpy(),
        extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
        interpolation="none",
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
        from IPython.display import display

        if self._display is None:
            self._display = display(state.history, display_id=True)
        else:
            self._display.update(state.history)
        if state.step == state.steps:
            self._display = None  # the next run draws a figure of its own


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
