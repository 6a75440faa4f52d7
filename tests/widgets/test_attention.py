"""AttentionFigure in Python: its bytes against torch, its defaults, and what it refuses."""

import base64
import re
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from vitlib import AttentionRecorder, VisionTransformer, attention_rollout
from vitlib.explain import record_attention
from vitlib.widgets import AttentionFigure

# H != W, C = 3, a grid of 2×3, a width that no other number equals
make = partial(
    VisionTransformer, img_size=(8, 12), patch_size=4, embed_dim=18, depth=3, num_heads=2,
    num_classes=5, weight_init="jax",
)  # fmt: skip
KINDS = {
    "plain": ({}, ["class token"]),
    "distilled": ({"distilled": True}, ["class token", "distillation token"]),
    "registers": ({"reg_tokens": 2}, ["class token", "register 0", "register 1"]),
    "pooled": ({"global_pool": "avg"}, ["class token"]),
}


def seeded(**options):
    torch.manual_seed(1)
    model = make(**options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)  # weights that attend to something
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


def decoded(figure):
    """(B, L, H + 1, T, T), as the JavaScript computes it."""
    ((rows, columns),) = set(map(tuple, figure.grids))
    tokens = len(figure.prefix) + rows * columns
    shape = (len(figure.names), len(figure.layers), figure.heads + 1, tokens)
    maps = np.frombuffer(figure.maps, np.uint8).reshape(*shape, tokens)
    scales = np.frombuffer(figure.scales, np.float32).reshape(shape)
    return maps, scales, maps / 255 * scales[..., None]


def shown(picture):
    """The pixels (H, W, C) of a data URL."""
    with Image.open(BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
        return np.array(image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [None, (0, -1)])
def test_bytes_are_the_weights_to_half_a_step(images, kind, layers):
    options, prefix = KINDS[kind]
    model = seeded(**options).eval()
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        probabilities = model(images).softmax(dim=1)
    attention = recorder.attention
    kept = [0, 1, 2] if layers is None else [0, 2]
    rollouts = [attention_rollout(attention[:, : layer + 1]) for layer in kept]
    expected = torch.cat([attention[:, kept], torch.stack(rollouts, 1)[:, :, None]], 2).numpy()

    figure = AttentionFigure(model, images, layers)
    assert (figure.layers, figure.prefix) == (kept, prefix)
    maps, scales, weights = decoded(figure)
    assert weights.shape == expected.shape
    np.testing.assert_allclose(scales, expected.max(-1), rtol=1e-5)
    assert (maps.max(-1) == 255).all()
    assert (np.abs(weights - expected) <= expected.max(-1, keepdims=True) / 510 + 1e-6).all()
    assert figure.answers == [str(int(k)) for k in probabilities.argmax(1)]
    assert figure.sureness == pytest.approx(probabilities.amax(1).tolist(), abs=1e-4)


def test_starts_where_the_head_reads(images):
    figure = AttentionFigure(seeded(), images[0], head=1, method="rollout", layer=0, query=2)
    assert (len(figure.names), figure.layer, figure.head, figure.query) == (1, 0, 1, 2)
    figure = AttentionFigure(seeded(), images, image=1)
    assert (figure.image, figure.layer, figure.head, figure.query) == (1, 2, "mean", 0)
    pooled = AttentionFigure(seeded(global_pool="avg", reg_tokens=1), images)
    assert pooled.query == 2 + 1 * 3 + 1  # two prefix tokens, then row 1, column 1 of 2×3
    assert pooled.averages
    assert "mean of its patches" in pooled.alt


def test_picture_is_shown_as_pixels_and_classes_by_name(images):
    model = seeded()
    model.mean, model.std, model.classes = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), tuple("abcde")
    figure = AttentionFigure(model, images)
    pixels = np.stack([shown(picture) for picture in figure.pictures])
    assert pixels.shape == (2, 8, 12, 3)
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    expected = (images.permute(0, 2, 3, 1) * std + mean).clamp(0, 1) * 255
    assert np.abs(pixels - expected.numpy()).max() <= 0.51
    assert set(figure.answers) <= set("abcde")


def test_model_runs_in_eval_mode_and_is_left_as_it_was(images):
    model = seeded(attn_drop_rate=0.5, drop_rate=0.5, drop_path_rate=0.5)
    expected = AttentionFigure(model.eval(), images).to_html()
    model.train()
    model.blocks[1].eval()
    before = [module.training for module in model.modules()]
    assert AttentionFigure(model, images).to_html() == expected
    assert [module.training for module in model.modules()] == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_float64_images_and_model(images):
    figure = AttentionFigure(seeded(), images.double())
    assert figure.maps == AttentionFigure(seeded(), images).maps
    assert len(AttentionFigure(seeded().double(), images).names) == 2


def test_html_is_deterministic_and_alone(images):
    figure = AttentionFigure(seeded(), images)
    data, _ = figure._repr_mimebundle_()
    assert data["text/html"] == AttentionFigure(seeded(), images).to_html()
    assert figure.alt in data["text/html"]
    assert figure.alt in data["text/plain"]
    assert data["text/html"] != AttentionFigure(seeded(), images, query=3).to_html()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", 2, "image must be from 0 to 1, for 2 pictures: got 2"),
        ("layer", 1, "layer must be one of 0, 2: got 1"),
        ("layer", -1, "layer must be one of 0, 2: got -1"),
        ("head", 2, "head must be from 0 to 1, for 2 heads: got 2"),
        ("head", "min", "head must be from 0 to 1, or one of mean, max, all: got 'min'"),
        ("method", "flow", "method must be one of attention, rollout: got 'flow'"),
        ("query", 7, "query must be from 0 to 6, for 7 tokens: got 7"),
        ("layer", "last", "layer must be an int: got 'last'"),
        ("head", None, "head must be an int or a unicode string: got None"),
        ("query", 1.5, "query must be an int: got 1.5"),
        ("strength", 55, "strength must be a multiple of 10 percent, from 0 to 100: got 55"),
    ],
)
def test_values_out_of_range(images, name, value, message, unchecked):
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionFigure(seeded(), images, (0, 2), **{name: value})
    figure = AttentionFigure(seeded(), images, (0, 2))
    before = getattr(figure, name)
    with pytest.raises(TraitError, match=re.escape(message)):
        setattr(figure, name, value)
    assert getattr(figure, name) == before


NAN = torch.full((1, 3, 8, 12), float("nan"))


@pytest.mark.parametrize(
    ("model", "pictures", "layers", "message"),
    [
        (torch.nn.Linear(2, 2), torch.zeros(1, 3, 8, 12), None, "expected a vitlib.Vision"),
        (VisionTransformer, torch.zeros(1, 3, 8, 12), None, "got the class VisionTransformer"),
        (
            {},
            torch.zeros(1, 3, 12, 8),
            None,
            "expected images of 8×12 pixels, got 12×8: resize them",
        ),
        ({}, torch.zeros(0, 3, 8, 12), None, "expected at least one image, got none"),
        ({}, torch.zeros(1, 3, 8, 12, dtype=torch.uint8), None, "got torch.uint8"),
        ({}, np.zeros((1, 3, 8, 12)), None, "expected a tensor of images (B, C, H, W)"),
        ({}, NAN, None, "images hold NaN or infinity: 1 of 1, first number 0"),
        ({}, torch.zeros(1, 3, 8, 12), (3,), "layer 3 is out of range: the model has 3 layers"),
        ({}, torch.zeros(1, 3, 8, 12), (2, 0), "forward order"),
        ({}, torch.zeros(1, 3, 8, 12), (), "layers must be a list of block numbers"),
        ({"depth": 0}, torch.zeros(1, 3, 8, 12), None, "the model has no blocks (depth=0)"),
    ],
)
def test_bad_input(model, pictures, layers, message, unchecked):
    model = make(**model) if isinstance(model, dict) else model
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionFigure(model, pictures, layers)


def test_model_that_answers_nan(images):
    model = seeded()
    model.blocks[1].attn.qkv.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        AttentionFigure(model, images)


def offered(error):
    """The call that a message offers, and the bytes that it says this embeds."""
    call, size = re.search(r"(AttentionFigure\(.*?\)) embeds ([\d,]+)", str(error.value)).groups()
    return call, int(size.replace(",", ""))


def test_300_tokens_and_24_layers_are_refused_with_a_call_that_works():
    # 13 × 23 patches and the class token are 300 tokens
    model = VisionTransformer(
        img_size=(52, 92), patch_size=4, in_chans=1, embed_dim=16, depth=24, num_heads=8,
        num_classes=3,
    )  # fmt: skip
    images = torch.zeros(1, 1, 52, 92)
    layer = 9 * 300 * (300 + 4)
    with pytest.raises(ValueError, match=f"would embed {24 * layer:,} bytes") as error:
        AttentionFigure(model, images)
    call, size = offered(error)
    assert "layers=(0, 23)" in call
    figure = eval(call)
    assert len(figure.maps) + len(figure.scales) == size <= 2_000_000
    # What is offered keeps to the bytes that were allowed, be they fewer or more.
    for most, kept in [(1_000_000, [23]), (3_400_000, [0, 8, 15, 23])]:
        with pytest.raises(ValueError, match=re.escape(f"max_bytes={most}) embeds")) as error:
            AttentionFigure(model, images, max_bytes=most)
        call, size = offered(error)
        assert size == len(kept) * layer
        figure = eval(call)
        assert (figure.layer, figure.layers) == (23, kept)


def test_too_many_images_offers_the_first_and_too_many_tokens_says_so():
    model, images = make(), torch.zeros(9, 3, 8, 12)
    layer = 3 * 7 * (7 + 4)
    with pytest.raises(ValueError, match="9 images") as error:
        AttentionFigure(model, images, max_bytes=3 * layer)
    call, size = offered(error)
    assert call == "AttentionFigure(model, images[:1], layers=(0, 1, 2), max_bytes=693)"
    assert size == 3 * layer
    with pytest.raises(ValueError, match=f"one layer of one image embeds {layer:,}"):
        AttentionFigure(model, images, max_bytes=100)


def test_a_model_without_a_head_and_photos_of_another_size_than_its_own():
    """A map is the same, whether a page holds the maps of all queries or of few."""
    model = seeded(num_classes=0, dynamic_img_size=True, reg_tokens=1)
    images = torch.randn(2, 3, 132, 8, generator=torch.Generator().manual_seed(0))
    figure = AttentionFigure(model, images)
    assert (figure.grids, figure.sizes) == ([[33, 2]] * 2, [[132, 8]] * 2)
    assert figure.answers == ["", ""]
    assert figure.all_queries
    assert figure.pictures[0].startswith("data:image/webp")  # too large to see single pixels
    less = AttentionFigure.from_record(record_attention(model, images))
    assert not less.all_queries
    maps, scales, _ = decoded(figure)
    assert less.maps == maps[..., :2, :].tobytes()  # the class token and a register
    assert less.scales == scales[..., :2].tobytes()


PHOTOS = [
    torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    for size in ((8, 12), (12, 20))
]


def test_a_record_of_pictures_that_differ_in_size():
    model = seeded(dynamic_img_size=True)
    record = record_attention(model, PHOTOS, names=["wide", "larger"], source="Two of noise.")
    figure = AttentionFigure.from_record(record, image=1, query=15, layer=1, head=0)
    assert (figure.names, figure.grids) == (["wide", "larger"], [[2, 3], [3, 5]])
    assert (figure.query, figure.layer, figure.head) == (15, 1, 0)
    assert figure.source == "Two of noise."
    assert "2 pictures of 2×3 or 3×5 patches" in figure.alt
    figure.image = 0
    assert figure.query == 6  # the last of its seven tokens
    with pytest.raises(TraitError, match="query must be from 0 to 6, for 7 tokens: got 15"):
        figure.query = 15

    packed = np.frombuffer(figure.patch_maps, np.uint8)
    steps = np.stack([packed >> 4, packed & 15], 1).ravel()[: 6 * 7 + 15 * 16]
    scales = np.frombuffer(figure.patch_scales, np.float32)
    start, first = 0, 0
    for photo in PHOTOS:
        with torch.no_grad(), AttentionRecorder(model.eval(), [-1]) as recorder:
            model(photo[None])
        expected = recorder.attention[0, 0, :, 1:].mean(dim=0).numpy()  # (N, T)
        count, tokens = expected.shape
        rows = steps[start : start + count * tokens].reshape(count, tokens)
        largest = scales[first : first + count, None]
        assert (np.abs(rows / 15 * largest - expected) <= largest / 30 + 1e-6).all()
        start, first = start + count * tokens, first + count
    assert (start, first) == (len(steps), len(scales))


def test_what_cannot_be_recorded(unchecked):
    with pytest.raises(ValueError, match="expected images of 8×12 pixels, got 12×20"):
        record_attention(seeded(), PHOTOS)
    with pytest.raises(ValueError, match="the model has no blocks"):
        record_attention(make(depth=0), PHOTOS[:1])
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        record_attention(seeded(), PHOTOS[:1], [3])
    with pytest.raises(ValueError, match="expected at least one image, got none"):
        record_attention(seeded(), [])
