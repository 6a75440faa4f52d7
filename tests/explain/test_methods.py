"""The table of map methods: what each row makes, and that a row is all that a new method needs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from explain.test_answers import every_variant, make
from PIL import Image
from torch.nn import functional as F

from vitlib import (
    AttentionRecorder,
    VisionTransformer,
    attention_rollout,
    gradient_rollout,
    occlusion,
    read_by_head,
)
from vitlib.cli import main
from vitlib.explain.methods import METHODS, MapMethod, class_names, find_method, methods_with
from vitlib.plots import plot_maps
from vitlib.widgets import attention, attention_explorer

OPTIONS = ("layer", "head", "target")
each_method = pytest.mark.parametrize("name", METHODS)


def images(batch=3):
    return torch.randn(batch, 2, 8, 12, generator=torch.Generator().manual_seed(2))


def model_of(**options):
    return make(torch.float32, **options)


# What the rows make


@each_method
@every_variant
def test_every_row_makes_a_finite_map_of_the_models_grid(name, options):
    model = model_of(**options)
    maps = find_method(model, name).make(images())
    assert maps.shape == (3, *model.grid_size, *([3] if METHODS[name].paints else []))
    assert maps.isfinite().all()
    assert maps.flatten(1).std(dim=1).min() > 0  # not the same everywhere
    assert maps.diff(dim=0).flatten(1).abs().amax(dim=1).min() > 0  # nor for every image
    assert not maps.requires_grad


@each_method
def test_every_row_answers_as_in_eval_mode_and_leaves_the_model_as_it_was(name):
    model = model_of(drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5)
    expected = find_method(model.eval(), name).make(images())
    made = find_method(model.train(), name).make(images())
    torch.testing.assert_close(made, expected)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@each_method
def test_every_row_takes_its_own_options(name):
    model, method = model_of(), METHODS[name]
    plain = find_method(model, name)
    assert plain.suffix == name == method.name
    assert plain.title.startswith(method.label)
    assert method.needs_class == ("target" in method.options)
    for option in method.options:
        other = find_method(model, name, **{option: 0})
        assert other.suffix.startswith(f"{name}-{ {'target': 'class'}.get(option, option) }0")
        assert other.title.startswith(method.label)
        assert other.make(images()).shape == (3, *model.grid_size)
    assert find_method(model, name, **dict.fromkeys(OPTIONS)).title == plain.title  # None: not said


def test_the_rows_are_what_explain_computes():
    model, inputs = model_of(reg_tokens=1).eval(), images()
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        model(inputs)
    weights, prefix = recorder.attention, model.num_prefix_tokens  # (B, L, H, T, T)

    def grid(matrix):
        return read_by_head(matrix, model)[:, prefix:].reshape(3, 2, 3)

    expected = {
        ("attention", ()): grid(weights[:, -1].mean(dim=1)),
        ("attention", (("layer", 0), ("head", -1))): grid(weights[:, 0, 1]),
        ("attention", (("layer", -2),)): grid(weights[:, 1].mean(dim=1)),
        ("rollout", ()): grid(attention_rollout(weights)),
        ("gradient", ()): grid(gradient_rollout(model, inputs)),
        ("gradient", (("target", 3),)): grid(gradient_rollout(model, inputs, 3)),
        ("occlusion", ()): occlusion(model, inputs),
        ("occlusion", (("target", 3),)): occlusion(model, inputs, 3),
        ("attention", (("head", "all"),)): read_by_head(weights[:, -1], model)[
            ..., prefix:
        ].reshape(3, 2, 2, 3),
        ("pca", ()): painted(model.forward_features(inputs)[:, prefix:].detach()),
    }
    for (name, options), maps in expected.items():
        found = find_method(model, name, **dict(options)).make(inputs)
        torch.testing.assert_close(found, maps)
    assert {name for name, _ in expected} == set(METHODS), "`expected` wants each method's numbers"


def painted(tokens):
    """Colours by numpy's singular vectors, whose signs are set so that the extreme is positive."""
    colours = []
    for image in tokens.numpy():
        left, lengths, _ = np.linalg.svd(image - image.mean(axis=0), full_matrices=False)
        parts = (left * lengths)[:, :3]
        parts = parts * np.sign(parts[np.abs(parts).argmax(axis=0), range(3)])
        colours.append((parts - parts.min(axis=0)) / np.ptp(parts, axis=0))
    return torch.tensor(np.array(colours)).reshape(len(tokens), 2, 3, 3).to(tokens.dtype)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if not row.needs_class])
def test_a_model_without_a_head_has_maps_that_need_no_answer(name):
    headless, headed = model_of(num_classes=0), model_of()
    headed.load_state_dict(headless.state_dict(), strict=False)
    maps = [find_method(model, name).make(images()) for model in (headless, headed)]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.needs_class])
def test_a_method_that_explains_an_answer_says_what_a_model_without_a_head_would_need(name):
    message = (
        f"{name} explains the answer for a class, and the model has no head .*--freeze backbone` "
        "trains a head .* choose one of attention, rollout, pca$"
    )
    with pytest.raises(ValueError, match=message):
        find_method(model_of(num_classes=0), name)


@each_method
def test_maps_have_the_grid_of_the_images_where_every_size_is_taken(name):
    model = model_of(dynamic_img_size=True)
    wide = torch.randn(2, 2, 8, 20, generator=torch.Generator().manual_seed(3))
    assert find_method(model, name).make(wide).shape[:3] == (2, 2, 5)


def test_classes_are_called_by_their_names_or_numbers():
    model = model_of()
    assert class_names(model) == [f"class {k}" for k in range(5)]
    assert find_method(model, "gradient", target=3).title == "gradient rollout for class 3"
    model.classes = tuple("abcde")
    assert find_method(model, "gradient", target=3).title == "gradient rollout for d"


# What they refuse


@pytest.mark.parametrize(
    ("name", "option"),
    [(n, option) for n, row in METHODS.items() for option in OPTIONS if option not in row.options],
)
def test_an_option_that_does_not_go_with_a_method_is_refused_in_words(name, option):
    fitting = " or ".join(row.name for row in METHODS.values() if option in row.options)
    assert methods_with(option) == fitting
    with pytest.raises(ValueError, match=f"^{option} goes with {fitting}, not with {name}$"):
        find_method(model_of(), name, **{option: 0})


def test_methods_layers_and_heads_that_there_are_not_are_refused():
    for name, options, message in [
        ("rolout", {}, f"the method must be one of {', '.join(METHODS)}, got 'rolout'"),
        ("attention", {"layer": 3}, "layer 3 is out of range: the model has 3 layers, 0 to 2"),
        ("attention", {"head": 2}, "head 2 is out of range: a layer has 2 heads, 0 to 1, or -2"),
        ("attention", {"head": -3}, "head -3 is out of range"),
        ("attention", {"head": "any"}, "head any is out of range: a layer has 2 heads, 0 to 1, or"),
        ("gradient", {"target": 99}, "target must be from 0 to "),
        ("occlusion", {"target": -1}, "the model's classes, got -1"),
        ("gradient", {"colour": 1}, "no method; the options are layer, head and target"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            find_method(model_of(), name, **options)


# A row is enough


def brightness(model, inputs, target):
    """The mean pixel of each patch, times the class."""
    return F.avg_pool2d(inputs.mean(dim=1), model.patch_size) * (1 if target is None else target)


@pytest.fixture
def row(monkeypatch):
    """A method that vitlib does not have."""
    row = MapMethod("bright", "brightness", "how bright each patch is", brightness, ("target",))
    monkeypatch.setitem(METHODS, row.name, row)
    return row


def test_a_row_is_enough_for_find_method(row):
    maker = find_method(model_of(), "bright", target=2)
    assert (maker.title, maker.suffix) == ("brightness for class 2", "bright-class2")
    expected = 2 * images().mean(dim=1).unfold(1, 4, 4).unfold(2, 4, 4).mean(dim=(-2, -1))
    torch.testing.assert_close(maker.make(images()), expected)
    assert methods_with("target").endswith("gradient or occlusion or bright")
    with pytest.raises(ValueError, match=f"target goes with {methods_with('target')}, not with"):
        find_method(model_of(), "rollout", target=0)


def test_a_row_is_enough_for_the_command_line(row, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = np.zeros((28, 28), np.uint8)
    pixels[7:14, 14:21] = 255
    Image.fromarray(pixels).save("picture.png")
    drawn = {}

    def plot(pixels, maps, *titles, **options):
        drawn.update(maps)
        return plot_maps(pixels, maps, *titles, **options)

    monkeypatch.setattr("vitlib.explain.pictures.plot_maps", plot)
    command = ["attend", "picture.png", "--model", "vit_nano_patch7_28", "--method", "bright"]
    assert main([*command, "--target", "2"]) == 0
    assert Path("picture-bright-class2.png").is_file()
    ((title, maps),) = drawn.items()
    assert title == "brightness for 2"
    assert divmod(int(maps[0].argmax()), 4) == (1, 2)
    with pytest.raises(SystemExit):
        main(["attend", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "bright: how bright each patch is" in told
    assert f"of {methods_with('target')}: the class" in told


def test_a_row_is_enough_for_the_explorer(row):
    explorer = attention_explorer()
    assert ("brightness", "bright") in explorer.method.options
    explorer.method.value = "bright"
    assert (explorer.layer.disabled, explorer.head.disabled) == (True, True)
    assert not explorer.target.disabled
    explorer.target.value = 3
    assert "The map, brightness for 3, is largest in row" in explorer.message.value
    assert bytes(explorer.shown.value).startswith(b"\x89PNG")


def test_the_figure_of_weights_shows_methods_of_the_table():
    assert set(attention.METHODS) <= METHODS.keys()


@pytest.mark.parametrize("channels", range(1, 7))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_in_other_precisions_channels_and_memory_formats(name, dtype, channels):
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = VisionTransformer(**sizes, in_chans=channels, num_classes=3).eval()
    images = torch.randn(2, channels, 8, 8)
    options = {"layer": None, "head": None, "target": 1}
    options = {k: v if k in METHODS[name].options else None for k, v in options.items()}
    expected = find_method(model, name, **options).make(images)
    model = model.to(dtype).to(memory_format=torch.channels_last)
    found = find_method(model, name, **options).make(images.to(dtype))
    tolerance = 0.1 * expected.abs().max().item() + 0.01
    difference = (found.double() - expected.double()).abs()
    if METHODS[name].paints:  # of two patches equally far out, rounding chooses the sign
        flipped = (1 - found.double() - expected.double()).abs()
        difference = torch.minimum(difference.amax(dim=(1, 2)), flipped.amax(dim=(1, 2)))
    assert difference.max() <= tolerance
