"""The block by value against torch's own, and its parts one by one."""

from functools import partial

import pytest
import torch
from torch import nn

from vitlib import Block, DropPath, LayerScale, Mlp


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_mlp_is_linear_gelu_linear():
    mlp = Mlp(3, 5, 4).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2  # the exact GELU
    torch.testing.assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias)
    torch.testing.assert_close(mlp(x[0, 0]), mlp(x)[0, 0])


def test_mlp_widths_default_to_the_input():
    mlp = Mlp(3)
    assert (mlp.fc1.out_features, mlp.fc2.in_features, mlp.fc2.out_features) == (3, 3, 3)


def test_mlp_takes_another_activation():
    mlp = Mlp(3, 5, act_layer=partial(nn.Threshold, 1e9, 0.0))  # which is always 0
    torch.testing.assert_close(mlp(torch.randn(2, 3)), mlp.fc2.bias.expand(2, 3))


def test_mlp_dropout_acts_after_both_layers():
    mlp = Mlp(3, 4, 64, act_layer=nn.Identity, drop=0.5)
    nn.init.zeros_(mlp.fc1.weight)
    nn.init.ones_(mlp.fc1.bias)
    nn.init.ones_(mlp.fc2.weight)
    nn.init.ones_(mlp.fc2.bias)
    out = mlp(torch.zeros(200, 3))  # 2 · (1 + 2 · how many of the 4 hidden ones are kept), or 0
    assert set(out.unique().tolist()) == {0, 2, 6, 10, 14, 18}
    assert 0.4 < (out == 0).float().mean() < 0.6
    assert (mlp.eval()(torch.zeros(2, 3)) == 5).all()


@pytest.mark.parametrize("drop_prob", [0.1, 0.5, 0.8])
def test_drop_path_keeps_the_mean_and_drops_whole_samples(drop_prob):
    samples = 20_000
    out = DropPath(drop_prob)(torch.ones(samples, 2, 3)).flatten(1)
    kept = 1 - drop_prob
    assert (out == out[:, :1]).all()
    torch.testing.assert_close(out.unique(), torch.tensor([0, 1 / kept]))
    deviation = (drop_prob / kept / samples) ** 0.5
    assert abs(out[:, 0].mean() - 1) < 4 * deviation


def test_drop_path_draws_anew_each_time():
    drop_path, x = DropPath(0.5), torch.ones(64, 1)
    assert not torch.equal(drop_path(x), drop_path(x))


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 2), (50, 4, 3), (50, 2, 2, 2, 2)])
def test_drop_path_keeps_every_shape(shape):
    out = DropPath(0.5)(torch.ones(shape))
    assert out.shape == shape
    assert set(out.reshape(50, -1).mean(dim=1).tolist()) == {0.0, 2.0}


def test_drop_path_is_off_in_eval_and_at_zero():
    x = torch.randn(8, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0)(x) is x
    assert DropPath()(x) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_drop_path_keeps_the_dtype(dtype):
    out = DropPath(0.5)(torch.ones(64, 3, dtype=dtype))
    assert out.dtype == dtype
    assert out.unique().tolist() == [0, 2]


def test_drop_path_stops_gradients_of_dropped_samples():
    x = torch.ones(64, 3, requires_grad=True)
    out = DropPath(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out)


@pytest.mark.parametrize("drop_prob", [-0.1, 1.0, 1.5, float("nan")])
def test_drop_path_refuses_what_is_not_a_probability(drop_prob):
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {drop_prob}"):
        DropPath(drop_prob)


def test_drop_path_shows_its_probability():
    assert repr(DropPath(0.1)) == "DropPath(drop_prob=0.100)"


def test_layer_scale_multiplies_each_channel():
    scale = LayerScale(3, 0.5)
    assert torch.equal(scale(torch.ones(2, 4, 3)), torch.full((2, 4, 3), 0.5))
    scale.gamma.data = torch.tensor([1.0, 2.0, 3.0])
    assert scale(torch.ones(2, 3)).tolist() == [[1, 2, 3], [1, 2, 3]]
    assert scale.gamma.requires_grad


def make_pair(**kwargs):
    """A block, and torch's own layer with the block's weights."""
    ours = Block(12, 3, mlp_ratio=2.5, qkv_bias=True, **kwargs).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)  # biases and norms too
    theirs = nn.TransformerEncoderLayer(
        12, 3, 30, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {new + w: state[old + w] for new, old in names.items() for w in ("weight", "bias")}
    )
    return ours, theirs


@pytest.mark.parametrize("fused", [True, False])
def test_block_is_torchs_pre_norm_encoder_layer(fused):
    ours, theirs = make_pair()
    ours.attn.fused = fused
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_block_is_not_post_norm():
    ours, theirs = make_pair()
    theirs.norm_first = False
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    assert not torch.allclose(ours(x), theirs(x), atol=0.1)


def test_block_drops_its_two_branches_apart():
    block = Block(4, 2, drop_path=0.5)
    for layer, value in [(block.attn.proj, 1.0), (block.mlp.fc2, 10.0)]:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, value)  # what the branch adds, doubled where it is kept
    x = torch.zeros(100, 3, 4)
    out = block(x)
    assert set(out.unique().tolist()) == {0, 2, 20, 22}
    assert (out == out[:, :1, :1]).all()
    assert (block.eval()(x) == 11).all()


def test_block_without_drop_path_has_none():
    assert not any(isinstance(m, DropPath) for m in Block(4, 2).modules())


@pytest.mark.parametrize("branch", ["ls1", "ls2"])
def test_layer_scale_sits_on_each_branch(branch):
    block, x = Block(4, 2, init_values=0.0), torch.randn(2, 3, 4)
    assert torch.equal(block(x), x)
    getattr(block, branch).gamma.data.fill_(1.0)
    other = {"ls1": block.attn(block.norm1(x)), "ls2": block.mlp(block.norm2(x))}[branch]
    torch.testing.assert_close(block(x), x + other)


def test_block_hands_its_options_on():
    block = Block(
        8, 2, mlp_ratio=1.5, qk_scale=0.3, drop=0.1, attn_drop=0.2, act_layer=nn.ReLU,
        norm_layer=partial(nn.LayerNorm, eps=0.5), init_values=0.01, drop_path=0.25,
    )  # fmt: skip
    assert block.attn.num_heads == 2
    assert block.attn.scale == 0.3
    assert block.attn.qkv.bias is None
    assert (block.attn.proj_drop.p, block.attn.attn_drop.p) == (0.1, 0.2)
    assert (block.mlp.drop1.p, block.mlp.drop2.p) == (0.1, 0.1)
    assert block.mlp.fc1.out_features == 12
    assert isinstance(block.mlp.act, nn.ReLU)
    assert (block.norm1.eps, block.norm2.eps) == (0.5, 0.5)
    assert (block.ls1.gamma == 0.01).all()
    assert (block.drop_path1.drop_prob, block.drop_path2.drop_prob) == (0.25, 0.25)


def test_an_mlp_without_width_is_refused():
    with pytest.raises(ValueError, match="hidden_features must be at least 1, got 0"):
        Mlp(10, 0)


def test_layer_scale_can_start_anew():
    scale = LayerScale(3, 0.25)
    nn.init.constant_(scale.gamma, 7.0)
    scale.reset_parameters()
    assert scale.gamma.tolist() == [0.25] * 3
