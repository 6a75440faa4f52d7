"""The code of chapter 14's cases is really broken: what its user would report is seen."""

import re

import nbformat
import pytest
import torch
from building import ROOT
from torch import nn

from vitlib import check


@pytest.fixture(autouse=True)
def _seeded(unchecked):
    torch.manual_seed(0)


def broken(name):
    """The case's own code."""
    return check.EXERCISES[name].mutants["unchanged"][0]


def reach(layer, tokens=5, dim=12):
    """Whether token i of the result depends on token j."""
    x = torch.randn(1, tokens, dim)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x).sum(-1), x)
    return jacobian.abs().sum(-1).squeeze().gt(1e-7)  # (tokens, tokens)


LOUD = {  # what Python reports of the first case, in order -> the repair that brings the next
    "has no len": ("range(len(depth))", "range(depth)"),
    "missing 1 required positional argument": ("act_layer=nn.GELU()", "act_layer=nn.GELU"),
    "no attribute '_init_weights'": ("        self.apply(self._init_weights)\n", ""),
    "name 'rearrange' is not defined": ("class", "from einops import rearrange\nclass"),
    "no attribute 'num_heads'": ("self.num_head =", "self.num_heads ="),
    "no attribute 'transposr'": ("transposr", "transpose"),
    "name 'out' is not defined": ("joined =", "out = weights @ v\n        joined ="),
    "'Tensor' and 'Identity'": ("nn.Identity", "nn.Identity()"),
}


def test_loud_block():
    """The chapter's listing: eight errors, one after the other, and then it runs."""
    notebook = nbformat.read(ROOT / "book" / "14_bug_clinic.ipynb", as_version=4)
    (source,) = (c.source for c in notebook.cells if c.id == "clinic-loud_block-listing")
    x = torch.randn(2, 5, 12)

    def runs():
        names = {"nn": nn}
        exec(source, names)
        return names["EncoderBlock"](12, 3, 2)(x)

    for message, (old, new) in LOUD.items():
        with pytest.raises((TypeError, NameError, AttributeError), match=re.escape(message)):
            runs()
        assert source.count(old) == 1
        source = source.replace(old, new)
    assert runs().shape == x.shape


def test_stuck_at_chance():
    assert reach(broken("stuck_at_chance")(12, 3).eval()).equal(torch.eye(5).bool())


def test_one_hot_attention():
    """Of queries and keys with deviation 1, as norms give, most rows see one token."""
    layer = broken("one_hot_attention")(64, 1)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.eye(64).repeat(3, 1))
        q = k = torch.randn(50, 64)
        weights = (q @ k.T * layer.scale).softmax(-1)
    assert weights.amax(-1).median() > 0.999


def test_torch_encoder_layer():
    layer, x = broken("torch_encoder_layer")(12, 3).eval(), torch.randn(2, 5, 12)
    assert reach(layer).equal(torch.eye(5).bool())
    assert not torch.allclose(layer(x)[:1], layer(x[:1]), atol=1e-4)


def test_prepend_token():
    module = broken("prepend_token")(4)
    with pytest.raises(RuntimeError, match="Sizes of tensors"):
        module(torch.randn(7, 3, 4))
    module(torch.randn(32, 3, 4))[:, 0].pow(2).sum().backward()
    assert module.cls_token.shape[0] == 32


def test_add_positions():
    module = broken("add_positions")(5, 4)
    assert not list(module.parameters())
    assert not module.state_dict()


def test_attn_drop():
    layer, x = broken("attn_drop")(12, 3, 0.5).train(), torch.randn(2, 5, 12)
    assert layer(x).equal(layer(x))


def test_torch_encoder():
    """With the blocks' weights of a right one, it loads without a complaint and answers otherwise.

    Strictly, the last norm would be missed.
    """
    right = check.torch_encoder.reference(12, 3, 2).eval()
    wrong = broken("torch_encoder")(12, 3, 2).eval()
    wrong.layers.load_state_dict(right.layers.state_dict())
    x = torch.randn(2, 5, 12)
    assert (wrong(x) - right(x)).abs().mean() > 0.1


def test_stochastic_depth():
    layer = broken("stochastic_depth")(0.5).train()
    with pytest.raises(RuntimeError, match="must match the size"):
        layer(torch.randn(8, 3, 5))
    assert layer(torch.randn(8, 2)).shape == (8, 8, 2)
    single_channels = layer(torch.ones(64, 3, 2)).eq(0).any(1).sum(1).eq(1)
    assert single_channels.any()


def test_configurable_block():
    """Weights of a right block do not fit, and where only those that do are loaded, it differs."""
    right, wrong = check.configurable_block.reference(6), broken("configurable_block")(6)
    with pytest.raises(RuntimeError, match=r'Missing key.* "act.weight"'):
        wrong.load_state_dict(right.state_dict())
    wrong.load_state_dict(right.state_dict(), strict=False)
    x = torch.randn(2, 5, 6)
    assert (wrong(x) - right(x)).abs().mean() > 0.1


def test_classifier_head():
    head = broken("classifier_head")
    assert head(64, 64)(torch.randn(2, 64)).shape == (2, 64)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        head(64, 10)(torch.randn(2, 64))


def test_pre_norm():
    module = broken("pre_norm")(8)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        module(torch.randn(2, 144, 8))
    assert reach(module, tokens=196, dim=8).float().mean() > 0.9


def test_check_size():
    with pytest.raises(ValueError, match=r"\(256\) doesn't match model \(256\)"):
        broken("check_size")(torch.zeros(1, 3, 32, 8), (16, 16))


def test_load_trained():
    torch.manual_seed(1)
    state = nn.Linear(3, 2).state_dict()
    renamed = {f"head.{name}": weight for name, weight in state.items()}
    torch.manual_seed(2)
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    assert broken("load_trained")(model, renamed).weight.equal(before)


def test_build_from_config():
    def make(width):
        return width

    assert broken("build_from_config")(make, {"width": 3, "rope": True}) == 3


def test_labels_of():
    assert broken("labels_of")(["train/cat/1.jpg", "val/dog/2.jpg"]) == ["train", "val"]
