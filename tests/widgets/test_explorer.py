"""Explorer in Python: which models it writes, what it refuses, and what a failure leaves behind.

What the file holds and what vit.js computes from it: test_vit_js.py. What a reader does with it in
a page: test_explorer_in_browser.py.
"""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from vitlib import AttentionRecorder, VisionTransformer, create_model
from vitlib.explain import logit_lens
from vitlib.patch import PatchEmbed
from vitlib.widgets import Explorer

make = partial(
    VisionTransformer, img_size=(8, 12), patch_size=4, embed_dim=16, depth=2, num_heads=2,
    num_classes=5,
)  # fmt: skip


class Own(PatchEmbed):
    pass


class OwnModel(VisionTransformer):
    pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_layer": Own}, "embed_layer makes a Own, expected a PatchEmbed"),
        (
            {"embed_layer": partial(PatchEmbed, norm_layer=nn.LayerNorm)},
            "embed_layer has norm_layer=LayerNorm, expected None",
        ),
        ({"norm_layer": nn.RMSNorm}, "norm_layer=RMSNorm, expected LayerNorm"),
        (
            {"norm_layer": nn.RMSNorm, "global_pool": "avg"},
            "norm_layer=RMSNorm, expected LayerNorm",
        ),
        (
            {"norm_layer": partial(nn.LayerNorm, bias=False)},
            "norm_layer has no weight or no bias, expected both",
        ),
        ({"act_layer": nn.SiLU}, "act_layer=SiLU, expected GELU"),
        (
            {"act_layer": partial(nn.GELU, approximate="tanh")},
            "act_layer=GELU with approximate='tanh', expected 'none'",
        ),
    ],
    ids=str,
)
def test_options_that_a_page_cannot_compute_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Explorer(make(**options)).save_weights(tmp_path / "weights")
    assert list(tmp_path.iterdir()) == []


def exchanged(name, part):
    model = make()
    model.set_submodule(name, part)
    return model


def changed(name, attribute, value):
    model = make()
    setattr(model.get_submodule(name), attribute, value)
    return model


def with_weight(name, value):
    model = make()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3] = value
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OwnModel(img_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2), "a OwnModel"),
        (exchanged("blocks.1.attn", nn.Identity()), r"blocks.1.attn is Identity, by the model's"),
        (exchanged("head", nn.Sequential(nn.Linear(16, 5))), "head is Sequential, by the model's"),
        (exchanged("blocks.0.mlp.fc1", nn.Linear(16, 64, bias=False)), r"fc1.bias is None, by"),
        (exchanged("blocks.0.mlp.fc1", nn.Linear(16, 65)), r"fc1.weight is \(65, 16\), by the"),
        (exchanged("blocks.2", nn.Identity()), "blocks.2 is Identity, by the model's .* missing"),
        (changed("blocks.1.attn", "num_heads", 4), "Attention with 4 heads, by the model's"),
        (changed("blocks.1.attn", "scale", 0.5), "qk_scale must be the same everywhere, got"),
        (changed("norm", "eps", 0.5), "eps of LayerNorm must be the same everywhere, got"),
        (with_weight("blocks.0.attn.qkv.weight", float("nan")), r"qkv.weight holds numbers that"),
        (with_weight("pos_embed", 70_000.0), "pos_embed holds numbers that half precision does"),
        (make(embed_dim=256, depth=6), "the weights take 9.5 MB in half precision"),
        (make(embed_dim=256, depth=6), "up to 8: use a smaller model, for example vit_micro"),
    ],
    ids=range(13),
)
def test_models_that_a_page_cannot_hold_are_refused(tmp_path, model, message):
    path = tmp_path / "weights"
    path.write_bytes(b"former")
    with pytest.raises(ValueError, match=message):
        Explorer(model).save_weights(path)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_the_examples_size_is_right(tmp_path):
    size = Explorer(create_model("vit_micro_patch4_32")).save_weights(tmp_path / "w").stat().st_size
    assert round(size / 1e6, 1) == 3.2


@pytest.mark.usefixtures("unchecked")
def test_only_vision_transformers_and_files(tmp_path):
    with pytest.raises(ValueError, match=r"expected a vitlib.VisionTransformer, got Linear"):
        Explorer(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        Explorer(make()).save_weights(tmp_path)


def test_the_model_is_not_touched(tmp_path):
    model = make(drop_rate=0.5).train().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    assert Explorer(model).save_weights(str(tmp_path / "a")) == tmp_path / "a"
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, before[name])


def test_what_is_written_is_the_model_as_it_is_now(tmp_path):
    """Trained after the Explorer was made, with another head, compiled, in another precision."""
    model = make(init_values=0.5)
    explorer = Explorer(torch.compile(model))
    first = explorer.save_weights(tmp_path / "a").read_bytes()
    assert Explorer(model.half()).save_weights(tmp_path / "b").read_bytes() == first
    model.reset_classifier(3, global_pool="avg")
    second = explorer.save_weights(tmp_path / "a").read_bytes()
    assert b'"global_pool": "avg"' in second
    assert b'["head.weight", [3, 16]]' in second


# What the page gets


def test_the_page_holds_the_file_and_the_examples(tmp_path):
    model, images = make(), torch.randn(2, 3, 8, 12)
    explorer = Explorer(model, images, classes="abcde")
    assert explorer.weights == explorer.save_weights(tmp_path / "w").read_bytes()
    assert explorer.classes == list("abcde")
    assert (explorer.grid, explorer.shape, explorer.sizes) == ([2, 3], [8, 12, 3], [2, 2, 16])
    np.testing.assert_array_equal(np.frombuffer(explorer.images, "<f4"), images.flatten())


def test_what_is_shown_first_is_torchs():
    model = make(distilled=True, reg_tokens=1).half().float().eval()
    images = torch.randn(2, 3, 8, 12)
    values = torch.from_numpy(np.frombuffer(Explorer(model, images).first, "<f2").astype("f4"))
    with torch.no_grad(), AttentionRecorder(model) as recorder:
        model(images[:1])
        blocks = model.forward_intermediates(images[:1])
    tokens, attention, lens = values.split([3 * 9 * 16, 2 * 2 * 9 * 9, 3 * 5])
    close = partial(torch.testing.assert_close, atol=1e-3, rtol=1e-3)
    close(tokens.view(3, 9, 16)[1:], torch.cat(blocks))
    close(attention.view(2, 2, 9, 9), torch.cat(recorder.layers))
    close(lens.view(3, 5)[1:], logit_lens(model, images[:1])[0])
    patches = model.patch_embed(images[:1]) + model.pos_embed[:, 3:]
    close(tokens.view(3, 9, 16)[0, 3:], patches[0].detach())


def test_without_examples_the_page_begins_with_a_black_picture():
    model = make(in_chans=1)
    assert not np.frombuffer(Explorer(model).images, "<f4").any()
    model.mean, model.std = (0.25,), (0.5,)
    explorer = Explorer(model)
    np.testing.assert_array_equal(np.frombuffer(explorer.images, "<f4"), np.full(96, -0.5))
    assert not np.frombuffer(explorer.pixels, np.uint8).any()


@pytest.mark.parametrize(
    ("images", "classes", "message"),
    [
        (torch.zeros(1, 3, 8, 8), None, "8"),
        (torch.full((3, 8, 12), float("nan")), None, "images hold NaN or infinity"),
        (torch.zeros(1737, 3, 8, 12), None, r"at most 500,000 fit .* such as images\[:1736\]"),
        (None, ["a"], "expected 5 names, one for each class, got 1"),
    ],
    ids=range(4),
)
def test_examples_and_names_that_do_not_fit_are_refused(images, classes, message):
    with pytest.raises(ValueError, match=message):
        Explorer(make(), images, classes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "has no head"),
        ({"depth": 0}, "has no blocks"),
        ({"in_chans": 2}, "images of 2 channels"),
    ],
    ids=str,
)
def test_a_model_with_nothing_to_show_can_still_be_written(tmp_path, options, words):
    explorer = Explorer(make(**options))
    assert words in explorer.obstacle == explorer.alt
    assert explorer.save_weights(tmp_path / "w").stat().st_size > 0


def test_the_words_say_what_torch_says():
    model, images = make().half().float().eval(), torch.randn(1, 3, 8, 12)
    probability, answer = model(images).detach().softmax(dim=1).max(dim=1)
    alt = Explorer(model, images, classes=["ant", "bee", "cat", "dog", "elk"]).alt
    name = ["ant", "bee", "cat", "dog", "elk"][int(answer)]
    assert f"answers {name} for the first one, with probability {float(probability):.3f}" in alt
    assert "2 blocks with 2 heads each" in alt
    assert "1 example of 2×3 patches" in alt


def test_the_page_names_no_other_host():
    assert not re.search(r"https?:|//[a-z]+\.", Explorer(make(), torch.zeros(3, 8, 12)).to_html())
