"""Explorer in Python: which models it writes, what it refuses, and what a failure leaves behind.

What the file holds and what vit.js computes from it: test_vit_js.py.
"""

from functools import partial

import pytest
import torch
from torch import nn

from vitlib import VisionTransformer, create_model
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
