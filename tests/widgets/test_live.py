"""The attention explorer without a browser: controls are set, and words and maps follow."""

import datetime
import html
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from vitlib import (
    AttentionRecorder,
    VisionTransformer,
    attention_rollout,
    create_model,
    gradient_rollout,
    load_data,
    occlusion,
    read_by_head,
    tokens_to_grid,
)
from vitlib.widgets import attention_explorer


def made(depth=3, heads=2, in_chans=3, classes=("cat", "dog"), **options):
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=(8, 12), patch_size=4, embed_dim=16, depth=depth, num_heads=heads,
        in_chans=in_chans, num_classes=len(classes), **options,
    )  # fmt: skip
    model.classes, model.mean, model.std = classes, (0.5,) * in_chans, (0.25,) * in_chans
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def maps(monkeypatch):
    """The maps that were drawn, by their titles, in the order of drawing."""
    import vitlib.widgets.live as module

    drawn = []

    def plot_maps(pixels, maps, *rest, **options):
        drawn.append((pixels, maps))
        return original(pixels, maps, *rest, **options)

    original = module.plot_maps
    monkeypatch.setattr(module, "plot_maps", plot_maps)
    return drawn


def said(explorer):
    return html.unescape(explorer.message.value)


def upload(explorer, name, content):
    when = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    file = {"name": name, "type": "", "size": len(content), "content": content}
    explorer.upload.value = ({**file, "last_modified": when},)


def png(pixels):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def test_it_works_at_once(maps):
    explorer = attention_explorer()
    digits = ("vit_nano_patch4_28", "vit_nano_patch7_28")
    assert explorer.model.options == (*digits, "vit_micro_patch4_32")
    picture = matplotlib.image.imread(BytesIO(explorer.shown.value))
    assert picture.ndim == 3
    model, data = create_model("vit_nano_patch4_28", pretrained=True), load_data("mnist5k")
    number = int(explorer.picture.value.split()[2].rstrip(":"))
    inputs, label = data.test[number]
    assert explorer.picture.value == f"test digit {number}: a {int(label)}"
    probability, answer = model(inputs[None]).softmax(dim=1)[0].max(dim=0)
    assert said(explorer).startswith(f"The model's answer: {int(answer)} ({probability:.1%}).")
    torch.testing.assert_close(maps[0][0], data.test.batch(torch.tensor([number]))[0])


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_each_method_draws_its_map(maps, pool):
    model = made(global_pool=pool, drop_rate=0.5)
    explorer = attention_explorer({"mine": model})
    explorer.picture.value = "photo: astronaut"
    assert model.training
    model.eval()
    inputs = (maps[-1][0] - 0.5) / 0.25
    with AttentionRecorder(model) as recorder, torch.no_grad():
        model(inputs)
    weights = recorder.attention  # (1, L, H, T, T)

    def grid(matrix):
        return tokens_to_grid(read_by_head(matrix, model), (2, 3))

    explorer.layer.value, explorer.head.value = 1, 1
    expected = {"attention, layer 1, head 1": grid(weights[:, 1, 1])}
    explorer.method.value = "rollout"
    expected["attention rollout"] = grid(attention_rollout(weights))
    explorer.method.value = "gradient"
    explorer.target.value = 1
    expected["gradient rollout for dog"] = grid(gradient_rollout(model, inputs, 1) - torch.eye(7))
    explorer.method.value = "occlusion"
    expected["occlusion for dog"] = occlusion(model, inputs, 1)
    drawn = {title: values for _, one in maps for title, values in one.items()}
    for title, values in expected.items():
        torch.testing.assert_close(drawn[title], values)
    top = float(expected["occlusion for dog"].max())
    assert "The map, occlusion for dog, is largest in row" in said(explorer)
    assert said(explorer).endswith(f"of 2 × 3: {top:.3g}.")


def test_controls_that_a_method_does_not_take_are_switched_off():
    explorer = attention_explorer({"mine": made()})
    for method, used in [
        ("rollout", ()), ("gradient", ("target",)), ("occlusion", ("target",)),
        ("attention", ("layer", "head")),
    ]:  # fmt: skip
        explorer.method.value = method
        controls = ("layer", "head", "target")
        assert tuple(c for c in controls if not getattr(explorer, c).disabled) == used


def test_layers_heads_and_classes_follow_the_model(maps):
    small = made(depth=2, heads=1, in_chans=1, classes=("a", "b", "c"))
    explorer = attention_explorer({"deep": made(depth=5, heads=4), "small": small})
    assert (explorer.layer.max, explorer.layer.value, len(explorer.head.options)) == (4, 4, 5)
    # what a page shows as chosen; None would be shown as nothing
    assert (explorer.head.index, explorer.head.label) == (0, "mean of all")
    assert (explorer.target.index, explorer.target.label) == (0, "as predicted")
    explorer.head.value, explorer.target.value = 3, 1
    before = len(maps)
    explorer.model.value = "small"
    assert (explorer.layer.max, explorer.layer.value, len(explorer.head.options)) == (1, 1, 2)
    assert [name for name, _ in explorer.target.options] == ["as predicted", "a", "b", "c"]
    assert (explorer.head.label, explorer.target.label) == ("mean of all", "b")
    assert len(maps) == before + 1
    explorer.model.value = "deep"
    assert (explorer.layer.max, explorer.layer.value) == (4, 1)


def test_an_upload_becomes_the_picture(maps):
    explorer = attention_explorer({"mine": made()})
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    upload(explorer, "mine.png", png(pixels))
    assert explorer.picture.value == "uploaded: mine.png"
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(maps[-1][0], expected)
    explorer.invert.value = True
    torch.testing.assert_close(maps[-1][0], 1 - expected)
    explorer.picture.value = "photo: cat"
    explorer.picture.value = "uploaded: mine.png"  # it stays among the choices
    torch.testing.assert_close(maps[-1][0], 1 - expected)


def test_what_is_guessed_of_a_16_bit_picture_is_said(maps, recwarn):
    explorer = attention_explorer({"mine": made(in_chans=1)})
    upload(explorer, "deep.png", png(np.full((8, 12), 3000, np.uint16)))
    assert explorer.picture.value == "uploaded: deep.png"
    assert "Note: a picture has 16 bits per channel but no value above 4,095: " in said(explorer)
    upload(explorer, "plain.png", png(np.full((8, 12), 30, np.uint8)))
    assert "16 bits" not in said(explorer)
    assert list(recwarn) == []


def test_the_same_name_uploaded_again_is_the_new_picture(maps):
    explorer = attention_explorer({"mine": made()})
    upload(explorer, "a.png", png(np.zeros((8, 12), np.uint8)))
    upload(explorer, "a.png", png(np.full((8, 12), 255, np.uint8)))
    assert maps[-1][0].min() == 1
    assert explorer.picture.options.count("uploaded: a.png") == 1


NOISE = png(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
BROAD = b"P5 60000 60000 255\n"  # the head of a picture of 3.6 thousand million pixels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<script>", "<x>.png is not a picture"),
        (b"", "<x>.png is not a picture"),
        (NOISE[: len(NOISE) // 2], "<x>.png can't be read: "),
        (bytes(25_000_000), "<x>.png has 25 MB, more than 20"),
        (BROAD, "<x>.png has far more than 50 million pixels"),
        (b"P5 9000 9000 255\n", "<x>.png has 9000 × 9000 pixels, more than 50 million"),
    ],
    ids=["text", "empty", "half", "heavy", "far too broad", "too broad"],
)
@pytest.mark.filterwarnings("error")
def test_a_bad_upload_is_told_in_words(content, message):
    explorer = attention_explorer({"mine": made()})
    picture, options = explorer.picture.value, explorer.picture.options
    upload(explorer, "<x>.png", content)
    assert said(explorer).startswith(message)
    assert "<x>" not in explorer.message.value  # it is text, and no HTML
    assert (explorer.picture.value, explorer.picture.options) == (picture, options)


def test_an_error_while_drawing_is_told_in_words(monkeypatch):
    explorer = attention_explorer({"mine": made()})
    monkeypatch.setattr("vitlib.widgets.live.plot_maps", lambda *a, **k: 1 / 0)
    explorer.layer.value = 0
    assert said(explorer) == "This can't be drawn: ZeroDivisionError: division by zero"
    assert explorer.shown.value == b""


def without(name, value):
    model = made()
    setattr(model, name, value)
    return model


def test_models_without_names_are_refused(unchecked):
    for models in (made(), [made()]):
        with pytest.raises(ValueError, match=r"expected models as \{name: model\}, got"):
            attention_explorer(models)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Linear(2, 2), "expected a vitlib.VisionTransformer, got Linear"),
        (without("mean", None), "mine does not say by what mean and std"),
        (made(in_chans=4), "mine takes images of 4 channels, pictures have 1 or 3"),
    ],
)
def test_models_that_cannot_be_used_are_refused(unchecked, model, message):
    with pytest.raises(ValueError, match=message):
        attention_explorer({"mine": model})


def test_photos_keep_their_shape_and_a_model_without_a_head_gives_no_answer(maps):
    headless = made(classes=(), dynamic_img_size=True)
    explorer = attention_explorer({"headless": headless, "mine": made()})
    explorer.picture.value = "photo: cat"  # 300×451 pixels; 2×3 patches of 4 make up the model's
    pixels, drawn = maps[-1]
    assert pixels.shape == (1, 3, 8, 12)
    upload(explorer, "tall.png", png(np.zeros((50, 12, 3), np.uint8)))
    pixels, drawn = maps[-1]
    assert (pixels.shape, *(one.shape for one in drawn.values())) == ((1, 3, 20, 4), (1, 5, 1))
    assert said(explorer).startswith("The map, attention, layer 2, mean of 2 heads, is largest in")
    assert dict(explorer.method.options).keys() == {
        "attention", "attention rollout", "principal components"
    }  # fmt: skip
    explorer.method.value = "pca"
    assert "paints them as red, green and blue" in said(explorer)
    before = len(maps)
    explorer.model.value = "mine"
    assert (len(maps), explorer.method.value) == (before + 1, "pca")
    explorer.method.value = "occlusion"
    assert said(explorer).startswith("The model's answer: ")
    explorer.model.value = "headless"  # which has no such method
    assert explorer.method.value == "attention"


def test_a_page_without_a_kernel_gets_a_line_of_words():
    from notebooks import clean

    bundle = attention_explorer({"mine": made()})._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    cell = new_code_cell("attention_explorer()", outputs=[new_output("execute_result", bundle)])
    clean(new_notebook(cells=[cell]))
    (output,) = cell.outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert "Open this chapter in Jupyter or Colab" in output.data["text/html"]
    assert "<input" not in output.data["text/html"]
