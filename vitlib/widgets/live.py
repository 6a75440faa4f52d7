"""The attention explorer: choose any picture, model and method; ipywidgets, for a live kernel."""

import warnings
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from vitlib.create import create_model, list_models
from vitlib.data import load_data
from vitlib.data.decode import decode, read_size, to_channels
from vitlib.explain.methods import METHODS, class_names, find_method
from vitlib.explain.pictures import choose_img_size, size_in_patches
from vitlib.matching import check_explains_pictures, in_eval_mode
from vitlib.model import VisionTransformer
from vitlib.plots import plot_maps
from vitlib.presets import PRESETS

_DIGITS = "72345"  # one test digit of each of these classes
_PHOTOS = {"photo: astronaut": "astronaut", "photo: cat": "chelsea"}  # of scikit-image
_MAX_BYTES, _MAX_PIXELS = 20_000_000, 50_000_000  # of an upload
_NONE = "none"  # no particular head or class; to a Dropdown, None means that nothing is chosen
_WITHOUT_KERNEL = (
    "<p><em>In a live notebook, an explorer stands here: upload a picture, choose a model, layer, "
    "head and method, and see the maps. Open this chapter in Jupyter or Colab to use it.</em></p>"
)


def attention_explorer(models: Mapping[str, VisionTransformer] | None = None) -> "LiveExplorer":
    """Controls for a live kernel: upload a picture, choose a model and a method, see the map.

    Args:
        models: {name: model}, each with the `mean` and `std` of its data. One that was built with
            dynamic_img_size=True sees whole pictures, in the shape and at the size that `attend`
            gives them, any other their centre; one without a head gives no answer. Default: the
            pretrained models that come with vitlib, two that read digits, white on black, and one
            for small photos.

    Raises ValueError for models that can't be used.
    """
    return LiveExplorer(models)


class LiveExplorer(ipywidgets.VBox):
    """What `attention_explorer` makes.

    The controls offer the layers, heads and classes that the chosen model has, and only those
    options that the method takes. `message` shows the model's answer, and errors in words.
    """

    def __init__(self, models: Mapping[str, VisionTransformer] | None = None) -> None:
        if not isinstance(models, Mapping | None):
            raise ValueError(f"expected models as {{name: model}}, got {type(models).__name__}")
        self._models: dict[str, VisionTransformer] = {}
        for name, model in (models or {}).items():
            self._models[name] = check_explains_pictures(model, name, needs_head=False)
        names = list(self._models) or _packaged_models()
        self._pictures = _example_pictures()
        self._paused = True  # nothing is drawn while controls are being set

        wide = {"style": {"description_width": "4.5rem"}}
        self.picture = ipywidgets.Dropdown(
            options=list(self._pictures), description="Picture", **wide
        )
        self.upload = ipywidgets.FileUpload(
            accept="image/*", description="Upload a picture", layout=ipywidgets.Layout(width="auto")
        )
        self.invert = ipywidgets.Checkbox(
            description="Invert (dark ink on light paper)", indent=False,
            layout=ipywidgets.Layout(width="auto"),
        )  # fmt: skip
        self.model = ipywidgets.Dropdown(options=names, description="Model", **wide)
        self.method = ipywidgets.Dropdown(description="Method", **wide)
        self.layer = ipywidgets.IntSlider(min=0, max=0, description="Layer", **wide)
        self.head = ipywidgets.Dropdown(description="Head", **wide)
        self.target = ipywidgets.Dropdown(description="Class", **wide)
        self.message = ipywidgets.HTML()
        self.shown = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        super().__init__([
            ipywidgets.HBox([self.picture, self.upload, self.invert],
                            layout=ipywidgets.Layout(flex_flow="row wrap")),
            ipywidgets.HBox([self.model, self.method, self.layer, self.head, self.target],
                            layout=ipywidgets.Layout(flex_flow="row wrap")),
            self.message,
            self.shown,
        ])  # fmt: skip
        self._follow_model()
        for control in (self.picture, self.invert, self.layer, self.head, self.target):
            control.observe(self._draw, "value")
        self.upload.observe(self._take_upload, "value")
        self.model.observe(self._follow_model, "value")
        self.method.observe(self._follow_method, "value")

    def __repr__(self) -> str:
        return "Explorer: upload a picture, choose a model and a method, see the map"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        data = dict(super()._repr_mimebundle_(**options) or {})
        return {**data, "text/plain": repr(self), "text/html": _WITHOUT_KERNEL}

    # The controls

    def _follow_model(self, change: Any = None) -> None:
        """Offer what the chosen model has, of methods too; keep the choices that it has as well."""
        model = self._chosen_model()
        heads: int = model.config["num_heads"]
        layer, head, target = self.layer.value, self.head.value, self.target.value
        method, first = self.method.value, change is None
        self._paused = True
        fitting = {n: row for n, row in METHODS.items() if model.num_classes or not row.needs_class}
        self.method.options = [(row.label, name) for name, row in fitting.items()]
        self.method.value = method if method in fitting else next(iter(fitting))
        self.layer.max = len(model.blocks) - 1
        self.layer.value = self.layer.max if first else min(layer, self.layer.max)
        self.head.options = [("mean of all", _NONE), *((str(h), h) for h in range(heads))]
        self.head.value = head if head in range(heads) else _NONE
        classes = [(name, number) for number, name in enumerate(class_names(model))]
        self.target.options = [("as predicted", _NONE), *classes]
        self.target.value = target if target in range(len(classes)) else _NONE
        self._follow_method()

    def _follow_method(self, change: Any = None) -> None:
        if change is not None and self._paused:
            return  # the model's options are being set
        for name in ("layer", "head", "target"):
            getattr(self, name).disabled = name not in METHODS[self.method.value].options
        self._paused = False
        self._draw()

    def _take_upload(self, change: Any) -> None:
        """Make the uploaded picture one of the choices, or say why that is not possible."""
        for file in self.upload.value:
            name, content = f"uploaded: {file['name']}", bytes(file["content"])
            if reason := _why_unusable(content):
                self._show(f"{file['name']} {reason}. The picture below is still the previous one.")
                continue
            self._pictures[name] = content
            self._paused = True
            self.picture.options = list(self._pictures)
            self.picture.value = name
            self._paused = False
            self._draw()

    # The picture

    def _draw(self, change: Any = None) -> None:
        if self._paused:
            return
        try:
            self._draw_map()
        except Exception as error:  # in a callback, a traceback would end in the kernel's log
            self.shown.value = b""
            self._show(f"This can't be drawn: {type(error).__name__}: {error}")

    def _draw_map(self) -> None:
        model, method = self._chosen_model(), self.method.value
        with warnings.catch_warnings(record=True, action="always") as guessed:  # what is white
            pixels = torch.from_numpy(self._chosen_pixels(model)) / 255  # (1, C, H, W)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
        weight = model.cls_token
        inputs = ((pixels - mean) / std).to(weight.device, weight.dtype)
        values = {name: getattr(self, name).value for name in METHODS[method].options}
        chosen = {name: None if value == _NONE else value for name, value in values.items()}
        maker = find_method(model, method, **chosen)
        grid = maker.make(inputs).cpu()  # (1, h, w), or colours (1, h, w, 3)
        answer = ""
        if model.num_classes:
            with in_eval_mode(model), torch.no_grad():
                probability, best = model(inputs)[0].float().softmax(dim=0).max(dim=0)
            answer = f"The model's answer: {class_names(model)[int(best)]} ({probability:.1%}). "
        figure = plot_maps(pixels, {maker.title: grid}, ["picture"], alone=True)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        self.shown.value = buffer.getvalue()
        if maker.kind == "colours":
            about = "paints them as red, green and blue."
        else:
            row, column = divmod(int(grid.argmax()), grid.shape[-1])
            about = (
                f"is largest in row {row}, column {column} of {grid.shape[-2]} × "
                f"{grid.shape[-1]}: {float(grid.max()):.3g}."
            )
        self._show(
            f"{answer}The map, {maker.title}, {about}"
            + "".join(f" Note: {warning.message}." for warning in guessed)
        )

    def _chosen_model(self) -> VisionTransformer:
        name = self.model.value
        if name not in self._models:  # packaged models are loaded when they are first needed
            self._models[name] = create_model(name, pretrained=True)
        return self._models[name]

    def _chosen_pixels(self, model: VisionTransformer) -> np.ndarray:
        picture, size = self._pictures[self.picture.value], model.img_size
        if model.dynamic_img_size:
            size = size_in_patches(read_size(picture), choose_img_size(model), model.patch_size)
        pixels = decode(picture, size)
        batch = np.array([to_channels(pixels, model.in_chans)])  # a copy, which torch may own
        return 255 - batch if self.invert.value else batch

    def _show(self, text: str) -> None:
        self.message.value = escape(text)


def _packaged_models() -> list[str]:
    """The presets whose weights come with vitlib: those that read digits, then that for photos."""
    weights = files("vitlib") / "weights"
    names = [name for name in list_models() if (weights / f"{name}.safetensors").is_file()]
    return sorted(names, key=lambda name: PRESETS[name].arguments.get("in_chans", 3))


def _example_pictures() -> dict[str, bytes]:
    """Pictures to start with, as files: some test digits, and photos."""
    from skimage import data as photos  # takes a while to import

    test = load_data("mnist5k").test
    pictures = {}
    for digit in _DIGITS:
        first = int((test.labels == int(digit)).nonzero()[0])
        pictures[f"test digit {first}: a {digit}"] = _as_file(test.images[first, 0].numpy())
    for name, photo in _PHOTOS.items():
        pictures[name] = _as_file(getattr(photos, photo)())
    return pictures


def _as_file(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _why_unusable(content: bytes) -> str | None:
    """Why an uploaded file can't be used, in words that follow its name; None if it can."""
    if len(content) > _MAX_BYTES:
        return f"has {len(content) / 1e6:.0f} MB, more than {_MAX_BYTES / 1e6:.0f}"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(content)) as image:
            width, height = image.size  # known before anything is decoded
        if width * height > _MAX_PIXELS:
            return f"has {width} × {height} pixels, more than {_MAX_PIXELS // 10**6} million"
        with warnings.catch_warnings(action="ignore"):  # said when it is drawn
            decode(content, (28, 28))
    except Image.DecompressionBombError:  # Pillow's own limit
        return f"has far more than {_MAX_PIXELS // 10**6} million pixels"
    except UnidentifiedImageError:
        return "is not a picture, or of a kind that can't be read here"
    except Exception as error:  # a broken file can raise nearly anything in a decoder
        return f"can't be read: {error}"
    return None
