"""What all figures share, in Python: HTML, traits, pictures and models that they take."""

import base64
import json
import re

import nbformat
import notebooks
import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import Bytes, Int, TraitError

import vitlib.widgets
from vitlib import VisionTransformer
from vitlib.matching import as_vision_transformer, shown_pixels
from vitlib.widgets import PatchFigure
from vitlib.widgets.figure import (
    KIT,
    STYLE,
    BadValue,
    Figure,
    check_index,
    check_model_images,
    pixels_of,
)

GREY = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
RGB = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(1))


class Small(Figure):
    """A figure with one trait of each kind."""

    _script = "function render({ model, el }) { frame(model, el); }"
    number = Int(3).tag(sync=True)
    raw = Bytes(b"").tag(sync=True)
    inner = Int(5)  # not synced: Python's own


def state(html: str) -> dict:
    """What a figure's HTML gives to its script."""
    return json.loads(re.search(r"standIn\((\{.*\})\), el \}\);\n</script>", html)[1])


# --- the base


def test_html_holds_the_synced_traits_and_nothing_else() -> None:
    html = Small(number=7, raw=bytes(range(256)), title="Small", alt="Seen.").to_html()
    found = state(html)
    assert found.keys() == {"number", "raw", "title", "alt"}
    assert (found["number"], found["title"], found["alt"]) == (7, "Small", "Seen.")
    assert base64.b64decode(found["raw"]["base64"]) == bytes(range(256))


def test_html_loads_nothing_and_runs_by_itself() -> None:
    html = Small().to_html()
    assert not re.search(r"https?:|\bimport\(|^import|\bfetch\(|\bsrc=|url\(", html, flags=re.M)
    assert STYLE in html
    assert KIT in html
    assert Small._script in html


def test_equal_figures_give_equal_html_and_others_other_keys() -> None:
    one, same = Small(number=1, raw=b"1"), Small(number=1, raw=b"1")
    assert one.model_id != same.model_id
    assert one.to_html() == same.to_html()
    keys = {
        re.search('data-figure="(.*?)"', figure.to_html())[1]
        for figure in (one, Small(number=2, raw=b"1"), Small(number=1, raw=b"2"), Small(alt="x"))
    }
    assert len(keys) == 4


def test_html_follows_the_traits_as_they_stand() -> None:
    figure = Small(number=1)
    figure.number = 9
    assert state(figure.to_html())["number"] == 9


def test_words_are_escaped() -> None:
    html = Small(alt="</script><!-- & <b>").to_html()
    assert html.count("</script>") == 1
    assert "<!--" not in html
    assert "<p>&lt;/script&gt;&lt;!-- &amp; &lt;b&gt;</p>" in html
    assert state(html)["alt"] == "</script><!-- & <b>"


def test_a_notebook_gets_a_live_widget_and_html_and_words() -> None:
    figure = Small(alt="Seen.")
    data, _ = figure._repr_mimebundle_()
    view = data["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == figure.model_id
    assert data["text/html"] == figure.to_html()
    assert data["text/plain"] == "Small: Seen."


def test_the_live_widget_has_the_same_script_and_style() -> None:
    figure = PatchFigure(GREY)
    assert figure._esm.startswith(KIT)
    assert figure._script in figure._esm
    assert figure._esm.rstrip().endswith("export default { render };")
    assert figure._css == STYLE
    assert figure._script in figure.to_html()


# --- what figures take


@pytest.mark.parametrize(
    "picture",
    [
        RGB,
        RGB.double(),
        RGB.clone().requires_grad_(),
        RGB.permute(1, 2, 0).numpy(),
        np.round(RGB.permute(1, 2, 0).numpy() * 255).astype(np.uint8),
        (RGB * 255).round().to(torch.uint8),
        Image.fromarray((RGB * 255).round().byte().permute(1, 2, 0).numpy()),
    ],
    ids=["tensor", "float64", "with a gradient", "array", "uint8 array", "uint8 tensor", "PIL"],
)
def test_a_picture_in_many_forms(picture) -> None:
    pixels = pixels_of(picture)
    assert pixels.shape == (24, 36, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels / 255 - RGB.permute(1, 2, 0).numpy()).max() <= 1 / 510 + 1e-6


def test_a_picture_of_half_precision() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        half = RGB.to(dtype)
        assert np.array_equal(pixels_of(half), pixels_of(half.float()))


@pytest.mark.parametrize("picture", [GREY, GREY[0], GREY[0].numpy(), GREY[0, ..., None].numpy()])
def test_a_grey_picture_has_one_channel(picture) -> None:
    assert pixels_of(picture).shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.rand(2, 1, 28, 28), "the shape (2, 1, 28, 28)"),
        (torch.rand(4, 28, 28), "the shape (4, 28, 28)"),
        (torch.rand(28), "the shape (28,)"),
        (torch.rand(1, 0, 28), "the shape (1, 0, 28)"),
        (np.zeros((3, 28, 28)), "the shape (3, 28, 28)"),
        ("a.png", "got 'a.png'"),
        (None, "got None"),
        (Image.new("P", (28, 28)), "the picture's mode is 'P': make it grey or RGB"),
        (Image.new("RGBA", (28, 28)), "the picture's mode is 'RGBA'"),
        (torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0)), "image * std + mean"),
        (torch.full((1, 4, 4), float("nan")), "not finite"),
        (torch.full((1, 4, 4), float("inf")), "not finite"),
        (torch.ones(1, 4, 4, dtype=torch.int64), "got the type int64"),
        (torch.ones(1, 4, 4, dtype=torch.bool), "got the type bool"),
    ],
)
def test_what_is_no_picture(picture, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        pixels_of(picture)


def test_an_index_out_of_range_is_said_in_words() -> None:
    assert check_index("layer", 2, 3, "layers") == 2
    for wrong in (-1, 3):
        with pytest.raises(BadValue, match=f"layer must be from 0 to 2, for 3 layers: got {wrong}"):
            check_index("layer", wrong, 3, "layers")
    assert issubclass(BadValue, ValueError)
    assert issubclass(BadValue, TraitError)


def small_model(**options) -> VisionTransformer:
    wanted = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2}
    return VisionTransformer(**{**wanted, "in_chans": 3, "num_classes": 2, **options})


def test_only_models_of_vitlib(unchecked) -> None:
    model = small_model()
    assert as_vision_transformer(model) is model
    for wrong, name in [
        (torch.nn.Linear(2, 2), "Linear"),
        (None, "NoneType"),
        (VisionTransformer, "the class VisionTransformer"),
    ]:
        with pytest.raises(ValueError, match=f"expected a vitlib.VisionTransformer.*got {name}"):
            as_vision_transformer(wrong)


def test_images_for_a_model(unchecked) -> None:
    model, images = small_model(), torch.randn(2, 3, 8, 8)
    assert check_model_images(model, images) is images
    assert check_model_images(model, images[0]).shape == (1, 3, 8, 8)
    for wrong, message in [
        (torch.randn(2, 1, 8, 8), "expected 3 channels, got 1 in shape (2, 1, 8, 8)"),
        (torch.randn(3, 8, 9), "expected images of 8×8 pixels, got 8×9: resize them"),
        (torch.randn(0, 3, 8, 8), "expected at least one image, got none"),
        (torch.randn(8, 8), "got (8, 8)"),
        (images.to(torch.uint8), "got torch.uint8"),
        (images / 0, "images hold NaN or infinity: 2 of 2, first number 0"),
        (images.numpy(), "got ndarray"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            check_model_images(model, wrong)


def test_images_are_shown_as_they_were_before_normalisation() -> None:
    model, picture = small_model(), torch.rand(2, 3, 8, 8)
    model.mean, model.std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.3)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.mean, model.std))
    shown = shown_pixels(model, (picture - mean) / std)
    assert shown.dtype == np.uint8
    expected = picture.permute(0, 2, 3, 1).numpy()
    assert np.abs(shown / 255 - expected).max() <= 1 / 510 + 1e-6


def test_images_of_unknown_normalisation_are_stretched() -> None:
    images = torch.stack([torch.linspace(-3, 5, 192), torch.full((192,), 2.0)]).view(2, 3, 8, 8)
    shown = shown_pixels(small_model(), images)
    assert (shown[0].min(), shown[0].max()) == (0, 255)
    assert (shown[1] == 0).all(), "one value everywhere: nothing to stretch"


# --- PatchFigure


def test_figures_in_the_notebooks_are_of_todays_scripts() -> None:
    """Their HTML holds the JavaScript as it was when the notebook ran: `make execute` renews it."""
    classes = {name: getattr(vitlib.widgets, name) for name in vitlib.widgets.__all__}
    found = set()
    for path in notebooks.find_notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                for name in re.findall(r'data-figure="(\w+)-', html):
                    today = all(part in html for part in (classes[name]._script, KIT, STYLE))
                    assert today, f"run `make execute NB=book/{path.name}`: {cell.id} is older"
                    found.add(name)
    missing = {name for name in classes if name.endswith("Figure")} - found
    assert not missing, f"in no notebook: {missing}"
