"""Attention: one head at a time, all at once, fused, and torch's own are one function."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import Attention, attention_weights

B, N, D, H = 3, 5, 12, 2  # heads, batch and head width all differ


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_attention(fused=True, **kwargs):
    attention = Attention(D, **{"num_heads": H, "qkv_bias": True, **kwargs}).double()
    attention.fused = fused
    return attention


def tokens():
    return torch.randn(B, N, D, dtype=torch.float64)


def one_head_at_a_time(attention, x, scale):
    """Vaswani et al.'s formulas, image by image and head by head."""
    width = D // H
    linear = attention.qkv
    bias = torch.zeros(3 * D, dtype=x.dtype) if linear.bias is None else linear.bias
    outputs = []
    for image in x:
        heads = []
        for h in range(H):
            q, k, v = (
                image @ linear.weight[start : start + width].T + bias[start : start + width]
                for start in (part * D + h * width for part in range(3))
            )
            heads.append(torch.softmax(q @ k.T * scale, dim=1) @ v)
        outputs.append(torch.cat(heads, dim=1) @ attention.proj.weight.T + attention.proj.bias)
    return torch.stack(outputs)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("qk_scale", "scale"), [(None, 6**-0.5), (0.0, 0.0), (0.37, 0.37)])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_attention_is_its_heads_one_at_a_time(fused, qk_scale, scale, qkv_bias):
    attention = make_attention(fused, qk_scale=qk_scale, qkv_bias=qkv_bias)
    x = tokens()
    assert (attention.qkv.bias is not None) == qkv_bias
    torch.testing.assert_close(attention(x), one_head_at_a_time(attention, x, scale))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_torchs_multihead_attention(fused):
    ours, x = make_attention(fused), tokens()
    theirs = nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_attention_weights_are_those_of_scaled_dot_product_attention():
    q, k, v = torch.randn(3, B, H, N, 4, dtype=torch.float64)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights @ v, F.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, H, N, dtype=torch.float64))
    torch.testing.assert_close(attention_weights(q, k, 0.0), torch.full_like(weights, 1 / N))
    torch.testing.assert_close(attention_weights(q * 2, k, 0.3), attention_weights(q, k, 0.6))


def test_attention_weights_take_more_keys_than_queries_and_any_batch():
    assert attention_weights(torch.randn(2, 4), torch.randn(7, 4)).shape == (2, 7)
    assert attention_weights(torch.randn(5, 1, 2, 4), torch.randn(5, 1, 7, 4)).shape == (5, 1, 2, 7)


def test_scale_comes_from_the_width_of_a_head():
    assert make_attention().scale == 6**-0.5
    assert make_attention(qk_scale=0.0).scale == 0.0


@pytest.mark.parametrize("fused", [True, False])
def test_attention_follows_a_permutation_of_its_tokens(fused):
    attention, x = make_attention(fused), tokens()
    order = torch.randperm(N)
    torch.testing.assert_close(attention(x)[:, order], attention(x[:, order]))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_dropout_acts_in_training_and_only_there(fused):
    attention, x = make_attention(fused, attn_drop=0.5), tokens()
    expected = one_head_at_a_time(attention, x, 6**-0.5)
    first, second = attention(x), attention(x)
    assert not torch.allclose(first, second)
    assert (first != 0).all()  # weights are dropped, not outputs
    mean = attention(x.repeat(2000, 1, 1)).reshape(2000, B, N, D).mean(dim=0)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(attention.eval()(x), expected)


@pytest.mark.parametrize("fused", [True, False])
def test_projection_dropout_acts_on_the_output(fused):
    attention, x = make_attention(fused, proj_drop=0.5), tokens()
    expected = attention.eval()(x)
    out = attention.train()(x)
    kept = out != 0
    assert 0.3 < kept.double().mean() < 0.7
    torch.testing.assert_close(out[kept], 2 * expected[kept])


def test_unfused_weights_pass_through_the_dropout_layer():
    attention, seen = make_attention(fused=False), []
    attention.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    attention(tokens())
    assert [w.shape for w in seen] == [(B, H, N, N)]
    torch.testing.assert_close(seen[0].sum(dim=-1), torch.ones(B, H, N, dtype=torch.float64))


@pytest.mark.parametrize(
    ("dim", "heads", "message"),
    [
        (10, 3, "num_heads must divide the width 10, got 3"),
        (8, 0, "num_heads must be at least 1, got 0"),
        (8, -2, "num_heads must be at least 1, got -2"),
        (0, 2, "dim must be at least 1, got 0"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(dim, heads, message):
    with pytest.raises(ValueError, match=message):
        Attention(dim, heads)
