"""Initialisation: every kind of weight against the table of schemes."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import VisionTransformer, init_weights
from vitlib.init import SCHEMES

CLASSES = 10
JAX = ("jax", "jax_nlhb")
NLHB = ("nlhb", "jax_nlhb")
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(scheme="", **options):
    sizes = {"img_size": 24, "patch_size": 8, "in_chans": 3, "num_classes": CLASSES}
    width = {"embed_dim": 96, "depth": 2, "num_heads": 3, "mlp_ratio": 3.0, "reg_tokens": 4}
    return VisionTransformer(**{**sizes, **width, "weight_init": scheme, **options})


def assert_deviation(weight, std, tails=None):
    """Mean 0 and deviation `std`, as far as so many samples can tell; `tails` is |w|'s largest."""
    n = weight.numel()
    assert abs(weight.mean()) < 4 * std / n**0.5
    assert weight.std().item() == pytest.approx(std, rel=3 / n**0.5)
    if tails:
        assert 0.9 * tails < weight.abs().max() <= tails * (1 + 1e-6)
    elif n > 1000:
        assert weight.abs().max() > 2.9 * std  # a normal has tails, where a uniform has none


def linears(model):
    """The names and modules of every Linear but heads and representation layer."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    return {n: m for n, m in found.items() if not n.startswith(("head", "pre_logits"))}


@every_scheme
def test_tokens_and_positions(scheme):
    model = make(scheme, distilled=True, embed_dim=384, reg_tokens=16)
    for tensor in (model.pos_embed, model.reg_token, model.dist_token):
        assert_deviation(tensor, 0.02)
    if scheme in JAX:
        assert not model.cls_token.any()
    else:
        assert_deviation(model.cls_token, 0.02)


@every_scheme
def test_linear_layers(scheme):
    layers = linears(make(scheme))
    assert len(layers) == 2 * 4
    for name, layer in layers.items():
        if scheme in JAX:
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            assert_deviation(layer.weight, bound / math.sqrt(3), tails=bound)
        else:
            assert_deviation(layer.weight, 0.02)
        if scheme in JAX and "mlp" in name:
            assert_deviation(layer.bias, 1e-6)
        else:
            assert not layer.bias.any()


@every_scheme
def test_patch_convolution(scheme):
    proj = make(scheme).patch_embed.proj
    fan_in = 3 * 8 * 8
    if scheme in JAX:
        tails = 2 / 0.87962566 / math.sqrt(fan_in)  # cut at two deviations of the uncut normal
        assert_deviation(proj.weight, 1 / math.sqrt(fan_in), tails)
        assert not proj.bias.any()
    else:
        bound = 1 / math.sqrt(fan_in)
        assert_deviation(proj.weight, bound / math.sqrt(3), tails=bound)
        assert_deviation(proj.bias, bound / math.sqrt(3), tails=bound)


@every_scheme
@pytest.mark.parametrize("distilled", [False, True])
def test_heads(scheme, distilled):
    model = make(scheme, distilled=distilled, num_classes=100)
    for head in [model.head, model.head_dist] if distilled else [model.head]:
        bias = -math.log(100) if scheme in NLHB else 0.0
        torch.testing.assert_close(head.bias, torch.full((100,), bias))
        if scheme:
            assert not head.weight.any()
        else:
            assert_deviation(head.weight, 0.02)


@every_scheme
def test_representation_layer(scheme):
    fc = make(scheme, representation_size=64).pre_logits.fc
    std = 1 / math.sqrt(96)
    assert_deviation(fc.weight, std, tails=2 * std / 0.87962566)
    assert not fc.bias.any()


@every_scheme
@pytest.mark.parametrize("distilled", [False, True])
def test_losses_at_the_start(scheme, distilled):
    model = make(scheme, distilled=distilled)
    logits, labels = model(torch.randn(50, 3, 24, 24)), torch.arange(50) % CLASSES
    softmax = F.cross_entropy(logits, labels)
    targets = F.one_hot(labels, CLASSES).float()
    sigmoid = F.binary_cross_entropy_with_logits(logits, targets)
    atol = 1e-5 if scheme else 0.1
    expected = math.log(11) - 0.9 * math.log(10) if scheme in NLHB else math.log(2)  # 0.326, 0.693
    torch.testing.assert_close(softmax.item(), math.log(CLASSES), rtol=0, atol=atol)
    torch.testing.assert_close(sigmoid.item(), expected, rtol=0, atol=atol)


@every_scheme
def test_the_same_seed_gives_the_same_weights(scheme):
    torch.manual_seed(1)
    first = make(scheme).state_dict()
    torch.manual_seed(1)
    second = make(scheme).state_dict()
    torch.manual_seed(2)
    third = make(scheme).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    for name in ("pos_embed", "blocks.1.mlp.fc2.weight", "patch_embed.proj.weight"):
        assert not torch.equal(first[name], third[name])


@every_scheme
def test_a_trained_model_starts_anew(scheme):
    """Nothing of the old weights is left, whichever scheme they came from."""
    models = [make(), make("jax")]
    for value, model in enumerate(models):
        for parameter in model.parameters():
            nn.init.constant_(parameter, 5.0 + value)
        torch.manual_seed(1)
        init_weights(model, scheme)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    for norm in [m for m in models[0].modules() if isinstance(m, nn.LayerNorm)]:
        assert (norm.weight == 1).all()
        assert not norm.bias.any()


@every_scheme
def test_initialisation_draws_no_graph_and_keeps_parameters_trainable(scheme):
    model = make(scheme)
    assert all(p.requires_grad and p.is_leaf and p.grad_fn is None for p in model.parameters())


@pytest.mark.parametrize(
    ("scheme", "hint"), [("jax_nlbh", ". Did you mean 'jax_nlhb'?"), ("xavier", "")]
)
def test_an_unknown_scheme_is_refused(scheme, hint):
    message = f"unknown weight_init '{scheme}': expected one of {SCHEMES}{hint}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        init_weights(make(), scheme)


def test_layer_scale_is_initialised_too():
    model = VisionTransformer(16, 8, 1, 3, 16, 1, 2, init_values=0.1)
    nn.init.constant_(model.blocks[0].ls1.gamma, 7.0)
    init_weights(model)
    assert model.blocks[0].ls1.gamma.tolist() == pytest.approx([0.1] * 16)
