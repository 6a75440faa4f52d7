"""What all interactive figures have in common.

A `Figure` is an anywidget: live in Jupyter and Colab, where its traits and its controls stay in
step. It can also be shown as HTML that needs neither a kernel nor a network: the same JavaScript
with the current values of the traits, and a small object that takes the place of the kernel's
model. The book shows this HTML.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from traitlets import TraitError, Unicode

from vitlib.matching import check_inputs
from vitlib.model import VisionTransformer
from vitlib.palette import COLOURS

STATIC = Path(__file__).parent / "static"
KIT = f"const COLOURS = {json.dumps(COLOURS)};\n" + (STATIC / "figure.js").read_text("utf8")
_VARIABLES = " ".join(f"--vitlib-{name}: {colour};" for name, colour in COLOURS.items())
STYLE = f".vitlib-figure {{ {_VARIABLES} }}\n" + (STATIC / "figure.css").read_text("utf8")

# In a page: finds the first element of this figure that has not been rendered yet, and renders it.
_MOUNT = """
const el = document.querySelector('[data-figure="%(key)s"]:not([data-live])');
el.dataset.live = "";
render({ model: standIn(%(state)s), el });
"""


def _script_text(name: str) -> str:
    """A file's JavaScript; of one that exports, as a function."""
    text = (STATIC / name).read_text("utf8")
    exports = re.findall(r"^export (?:const|function) (\w+)", text, re.M)
    if not exports:
        return text
    body = re.sub(r"^export ", "", text, flags=re.M)
    return f"function {Path(name).stem}() {{\n{body}\nreturn {{ {', '.join(exports)} }};\n}}\n"


class BadValue(TraitError, ValueError):
    """A value that a figure cannot show; the message says what was expected and what was given."""


class Figure(anywidget.AnyWidget):
    """Base class of the figures. A subclass names its file: `class Mine(Figure, script="mine.js")`.

    The file defines `render({ model, el })`, with the functions of static/figure.js in scope. It
    reads every synced trait of the subclass by `model.get(name)`; Bytes arrive as a DataView.

    There may be several files, one after the other in one scope. One that exports becomes a
    function of its own name instead, which returns what it exports. `style` names a style sheet
    that follows static/figure.css.
    """

    title = Unicode(help="what a screen reader calls the figure").tag(sync=True)
    alt = Unicode(help="what it shows, in words, also where no script runs").tag(sync=True)

    _esm = KIT
    _css = STYLE
    _script = ""

    def __init_subclass__(
        cls, script: str | Sequence[str] = (), style: str | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if script:  # traitlets makes subclasses, too
            names = [script] if isinstance(script, str) else script
            cls._script = "\n".join(map(_script_text, names))
            cls._esm = f"{KIT}\n{cls._script}\nexport default {{ render }};\n"
        if style:
            cls._css = STYLE + (STATIC / style).read_text("utf8")

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except BadValue:
            raise
        except TraitError:  # another type: traitlets' error is not a ValueError
            wanted = self.traits()[name].info()
            raise BadValue(f"{name} must be {wanted}: got {value!r}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.alt}"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self.to_html()}, metadata

    def to_html(self) -> str:
        """The figure in its current state, as HTML that loads nothing, for a page or a file."""
        state = json.dumps(self._shown_state(), sort_keys=True).replace("<", "\\u003c")
        name = type(self).__name__
        key = f"{name}-{hashlib.sha256((state + self._script).encode()).hexdigest()[:12]}"
        return (
            f"<style>{self._css}</style>\n"
            f'<div class="vitlib-figure" data-figure="{key}"><p>{escape(self.alt)}</p></div>\n'
            f'<script type="module">\n{KIT}\n{self._script}\n'
            f"{_MOUNT % {'key': key, 'state': state}}</script>"
        )

    def _shown_state(self) -> dict[str, Any]:
        """The traits of the figure's own classes, as JSON values; bytes become base64."""
        own = set(self.traits(sync=True)) - set(anywidget.AnyWidget.class_traits(sync=True))
        values = {name: getattr(self, name) for name in own if not name.startswith("_")}
        return {
            name: {"base64": base64.b64encode(value).decode()}
            if isinstance(value, bytes)
            else value
            for name, value in values.items()
        }


def check_index(name: str, value: int, count: int, of: str) -> int:
    """Return `value` if it is an index of one of `count` things, which `of` names.

    Raises a BadValue that calls it `name` otherwise.
    """
    if not 0 <= value < count:
        raise BadValue(f"{name} must be from 0 to {count - 1}, for {count} {of}: got {value}")
    return value


def check_choice(name: str, value: Any, allowed: Iterable[Any], of: str = "") -> Any:
    """Return `value` if it is one of the `allowed`, about which `of` may say more.

    Raises a BadValue that calls it `name` otherwise.
    """
    allowed = list(allowed)
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise BadValue(f"{name} must be one of {listed}{of}: got {value!r}")
    return value


def middle_patch(num_prefix_tokens: int, grid_size: tuple[int, int]) -> int:
    """The index of the token of the patch in the middle of the grid."""
    rows, columns = grid_size
    return num_prefix_tokens + rows // 2 * columns + columns // 2


def pixels_of(image: Any) -> np.ndarray:
    """A picture of any of the usual types as uint8 pixels (H, W, C).

    It may be a tensor (C, H, W) or (H, W), an array (H, W, C) or (H, W), with 1 or 3 channels,
    floats from 0 to 1 or uint8; or a PIL image in grey or RGB.
    Raises ValueError for anything else, normalised images included.
    """
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB"):
        raise ValueError(  # the array of a picture with a palette holds indices of colours
            f"the picture's mode is {image.mode!r}: make it grey or RGB, by image.convert('RGB')"
        )
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        # Scaled to 255, half precision would be rounded twice; and numpy has no bfloat16 at all.
        image = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
        array = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    else:
        array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            "expected one picture, a tensor (C, H, W) or an array (H, W, C) of 1 or 3 channels, "
            f"got {f'the shape {tuple(image.shape)}' if hasattr(image, 'shape') else repr(image)}"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ValueError(
            f"expected floats from 0 to 1, or uint8 from 0 to 255, got the type {array.dtype}"
        )
    if not np.isfinite(array).all():
        raise ValueError("the picture holds values that are not finite (NaN or infinity)")
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            f"expected values from 0 to 1, got {array.min():.3g} to {array.max():.3g}: is the "
            "picture normalised? Then undo that first: image * std + mean"
        )
    return np.round(array * 255).astype(np.uint8)


def check_model_images(model: VisionTransformer, images: Any) -> Tensor:
    """`images` as a batch (B, C, H, W) for `model`; one image (C, H, W) becomes a batch of 1.

    Raises ValueError for another type, shape or dtype, and for values that are not finite. A figure
    draws the model's own grid, so images of its own size are needed also with dynamic_img_size.
    """
    batch = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
    check_inputs(model, batch, own_size=True)
    return batch
