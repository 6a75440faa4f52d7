"""Chapter 4, the encoder block: the exercises, their right answers and their usual mistakes."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

import vitlib
from vitlib.check.exercise import Cases, Exercise, Refused, build, call, numbers, twin

# --- 4.1 layer_norm: the last axis, each token for itself


def _layer_norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def _layer_norm_by_var(x, weight, bias, eps):
    variance, mean = torch.var_mean(x, dim=-1, unbiased=False, keepdim=True)
    return weight * (x - mean) * torch.rsqrt(variance + eps) + bias


def _layer_norm_by_loop(x, weight, bias, eps):
    tokens = [(t - t.mean()) / (t.var(correction=0) + eps) ** 0.5 for t in x.flatten(0, -2)]
    return (torch.stack(tokens) * weight + bias).reshape(x.shape)


def _normalised(x, weight, bias, eps, dims=-1, correction=0):
    variance, mean = torch.var_mean(x, dim=dims, correction=correction, keepdim=True)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def _eps_outside(x, weight, bias, eps):
    deviation = x.std(-1, correction=0, keepdim=True)
    return (x - x.mean(-1, keepdim=True)) / (deviation + eps) * weight + bias


def _by_the_variance(x, weight, bias, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) / (variance + eps) * weight + bias


def _layer_norm_cases(answer) -> Cases:
    def run(*shape, scale=1.0, eps=1e-2):
        x, weight = 1 + scale * numbers(*shape), numbers(shape[-1], seed=1)
        return call(answer, x, weight, numbers(shape[-1], seed=2), eps)

    yield "two images of 3 tokens, D = 5", lambda: run(2, 3, 5)
    yield "as many tokens as channels", lambda: run(2, 4, 4)
    yield "four axes, (2, 3, 4, 6)", lambda: run(2, 3, 4, 6)
    yield "tokens that hardly vary, eps = 1e-6", lambda: run(2, 3, 5, scale=1e-3, eps=1e-6)
    yield "a large eps, 0.5", lambda: run(2, 3, 5, eps=0.5)


layer_norm = Exercise(
    name="layer_norm",
    chapter="04_block",
    task="layer_norm(x, weight, bias, eps) -> the shape of x: each token of x (..., D) with mean 0 "
    "and variance 1 over its D channels, then times weight (D) plus bias (D)",
    reference=_layer_norm,
    cases=_layer_norm_cases,
    mutants={
        "both_axes": (
            partial(_normalised, dims=(-2, -1)),
            "Mean and variance are taken over the last two axes, over all tokens of an image "
            "together. LayerNorm takes the last axis only, each token for itself. Look at the "
            "mean of a single token: it should be 0.",
        ),
        "over_the_tokens": (
            partial(_normalised, dims=-2),
            "Each channel is normalised over the tokens. LayerNorm goes the other way: each token "
            "over its channels, dim=-1.",
        ),
        "over_everything": (
            partial(_normalised, dims=None),
            "There is one mean and one variance for the whole tensor: mean() without dim takes all "
            "axes. Each token has its own: dim=-1, keepdim=True.",
        ),
        "over_axis_1": (
            partial(_normalised, dims=1),
            "Mean and variance are taken over axis 1. The channels are the last axis, wherever it "
            "is: dim=-1.",
        ),
        "over_axis_2": (
            partial(_normalised, dims=2),
            "Mean and variance are taken over axis 2. With three axes that is the last, with four "
            "it is not: dim=-1 always is.",
        ),
        "over_all_but_the_last": (
            lambda x, weight, bias, eps: _normalised(
                x, weight, bias, eps, tuple(range(x.ndim - 1))
            ),
            "Each channel is normalised over all images and tokens: that is BatchNorm. LayerNorm "
            "takes the channels of one token, dim=-1.",
        ),
        "keepdim_forgotten": (
            lambda x, weight, bias, eps: x - x.mean(-1),
            "The mean has lost the axis over which it was taken: (B, N) does not fit to "
            "(B, N, D), or fits wrongly. keepdim=True makes it (B, N, 1).",
        ),
        "unbiased_variance": (
            partial(_normalised, correction=1),
            "The variance is divided by D − 1. That is PyTorch's default for var and std, and "
            "LayerNorm divides by D: pass correction=0 (or unbiased=False). With D = 768 the "
            "difference is too small for the eye.",
        ),
        "eps_outside_the_root": (
            _eps_outside,
            "eps is added to the standard deviation. It belongs under the root, beside the "
            "variance: √(variance + eps). The two part where a token hardly varies.",
        ),
        "eps_outside_and_unbiased": (
            lambda x, weight, bias, eps: (
                (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + eps) * weight + bias
            ),
            "This is a form that is often copied, and two things are different in it: std divides "
            "by D − 1, and eps stands outside the root. You want √(variance + eps), with the "
            "variance divided by D.",
        ),
        "no_eps": (
            lambda x, weight, bias, eps: _layer_norm(x, weight, bias, 0),
            "eps is not used. It belongs under the root: √(variance + eps). Without it a token "
            "whose channels are all equal becomes 0/0.",
        ),
        "eps_of_torch": (
            lambda x, weight, bias, eps: _layer_norm(x, weight, bias, 1e-5),
            "Your eps is 1e-5, whatever is asked for. That is the default of nn.LayerNorm; ViT's "
            "weights were trained with 1e-6. Use the argument.",
        ),
        "divided_by_the_variance": (
            _by_the_variance,
            "The tokens are divided by their variance. Divide by its root, the standard deviation.",
        ),
        "mean_left_in": (
            lambda x, weight, bias, eps: (
                x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias
            ),
            "The mean is not subtracted. What you wrote is RMSNorm, which some language models "
            "use; LayerNorm first takes the mean away.",
        ),
        "weight_and_bias_forgotten": (
            lambda x, weight, bias, eps: _layer_norm(x, 1.0, 0.0, eps),
            "Weight and bias are not used. In a fresh layer they are 1 and 0, so that a test on a "
            "fresh layer does not notice.",
        ),
        "weight_forgotten": (
            lambda x, weight, bias, eps: _layer_norm(x, 1.0, bias, eps),
            "The weight is not used: multiply each channel by it, before the bias is added.",
        ),
        "bias_forgotten": (
            lambda x, weight, bias, eps: _layer_norm(x, weight, 0.0, eps),
            "The bias is not used: add it at the end.",
        ),
        "bias_before_weight": (
            lambda x, weight, bias, eps: (_layer_norm(x, 1.0, 0.0, eps) + bias) * weight,
            "The bias is added before the weight multiplies. It is the other way round: first "
            "times weight, then plus bias.",
        ),
    },
    accepted=[
        _layer_norm_by_var,
        _layer_norm_by_loop,
        lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias, eps),
    ],
)

# --- 4.2 gelu: by the error function


def _gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def _gelu_cases(answer) -> Cases:
    grid = torch.linspace(-4, 4, 17, dtype=torch.float64)

    def run(x):  # 5 decimals: √2 may come from a float32 tensor
        result = call(answer, x)
        return result.round(decimals=5) if isinstance(result, torch.Tensor) else result

    yield "17 numbers from −4 to 4", lambda: run(grid)
    yield "tokens (2, 3, 5)", lambda: run(numbers(2, 3, 5))
    yield "large numbers, ±30", lambda: run(30 * torch.tensor([-1.0, 1.0]).double())


gelu = Exercise(
    name="gelu",
    chapter="04_block",
    task="gelu(x) -> the shape of x: x · Φ(x), with Φ from the error function torch.erf",
    reference=_gelu,
    cases=_gelu_cases,
    mutants={
        "tanh": (
            lambda x: F.gelu(x, approximate="tanh"),
            "This is the tanh approximation. It differs by up to 0.0005, and weights that were "
            "trained with the exact form then give slightly other logits. Use torch.erf.",
        ),
        "sigmoid": (
            lambda x: x * torch.sigmoid(1.702 * x),
            "This is the sigmoid approximation, x · σ(1.702 x), which CLIP's models use. It "
            "differs from GELU by up to 0.02. Use torch.erf.",
        ),
        "silu": (
            lambda x: x * torch.sigmoid(x),
            "This is SiLU, x · σ(x): the gate is the logistic function, and it should be Φ, the "
            "distribution function of the normal distribution.",
        ),
        "relu": (
            lambda x: x.clamp(min=0),
            "This is ReLU: everything below zero becomes 0. GELU lets small negative numbers "
            "through, a little: GELU(−1) = −0.159.",
        ),
        "without_root_two": (
            lambda x: 0.5 * x * (1 + torch.erf(x)),
            "The √2 is missing: Φ(x) = (1 + erf(x / √2)) / 2. erf(x) belongs to a normal "
            "distribution of variance 1/2.",
        ),
        "times_root_two": (
            lambda x: 0.5 * x * (1 + torch.erf(x * math.sqrt(2))),
            "x is multiplied by √2 inside erf. Divide: Φ(x) = (1 + erf(x / √2)) / 2.",
        ),
        "without_the_one": (
            lambda x: 0.5 * x * torch.erf(x / math.sqrt(2)),
            "The 1 is missing: erf runs from −1 to 1, and a gate must run from 0 to 1. "
            "Φ(x) = (1 + erf(x / √2)) / 2.",
        ),
        "mirrored": (
            lambda x: x - _gelu(x),
            "The gate is mirrored: it lets negative numbers through and holds back positive ones. "
            "It is 1 + erf, not 1 − erf.",
        ),
        "without_the_half": (
            lambda x: 2 * _gelu(x),
            "Everything is twice too large: 1 + erf runs from 0 to 2, and Φ from 0 to 1. Take half "
            "of it.",
        ),
        "gate_only": (
            lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2))),
            "This is Φ(x), the gate alone. Multiply it by x.",
        ),
    },
    accepted=[
        F.gelu,
        lambda x: x * torch.special.ndtr(x),
        lambda x: x / 2 * torch.special.erfc(-x * 0.5**0.5),
        lambda x: x / 2 * (1 + torch.erf(x / torch.sqrt(torch.tensor(2.0)))),  # √2 in float32
        nn.GELU(),
    ],
)

# --- 4.3 drop_path: a whole branch of one sample, or nothing


class _DropPath(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def shape(self, x):
        return (x.shape[0],) + (1,) * (x.ndim - 1)

    def forward(self, x):
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * x.new_empty(self.shape(x)).bernoulli_(keep) / keep


class _DropPathByFloor(_DropPath):
    """A form that is often seen: floor(keep + uniform) is 1 with probability keep."""

    def forward(self, x):
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        return x.div(keep) * (keep + torch.rand(self.shape(x))).floor().to(x)


class _DropPathByDropout(_DropPath):
    def forward(self, x):
        return x * F.dropout(x.new_ones(self.shape(x)), self.drop_prob, self.training)


class _DropPathByLoop(_DropPath):
    def forward(self, x):
        if not self.training:
            return x
        kept = [sample * (torch.rand(()) >= self.drop_prob) for sample in x]
        return torch.stack(kept) / (1 - self.drop_prob)


class _MaskOfTheWrongShape(_DropPath):
    def shape(self, x):
        return (x.shape[0], 1, x.ndim - 1)


class _MaskOfThreeAxes(_DropPath):
    def shape(self, x):
        return (x.shape[0], 1, 1)


class _PerElement(_DropPath):
    def shape(self, x):
        return x.shape


class _PerToken(_DropPath):
    def shape(self, x):
        return (*x.shape[:2], *(1,) * (x.ndim - 2))


class _WholeBatch(_DropPath):
    def shape(self, x):
        return (1,) * x.ndim


class _MaskWithoutOnes(_DropPath):
    def shape(self, x):
        return (x.shape[0],)


class _OneOneTooMany(_DropPath):
    def shape(self, x):
        return (x.shape[0],) + (1,) * x.ndim


class _PerChannel(_DropPath):
    def shape(self, x):
        return (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])


class _NotRescaled(_DropPath):
    def forward(self, x):
        return super().forward(x) * (1 - self.drop_prob) if self.training else x


class _ScaledInTheTest(_NotRescaled):
    def forward(self, x):
        return super().forward(x) if self.training else x * (1 - self.drop_prob)


class _KeepsWhatItShouldDrop(_DropPath):
    def __init__(self, drop_prob):
        super().__init__(1 - drop_prob if drop_prob else 0)


class _ComparedTheWrongWay(_DropPath):
    def forward(self, x):
        if self.drop_prob == 0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        return x * (torch.rand(self.shape(x)) > keep) / keep


class _OnlyInEvaluation(_DropPath):
    def forward(self, x):
        if self.drop_prob == 0 or self.training:
            return x
        return _AlwaysDrops.forward(self, x)


class _TheSameEachTime(_DropPath):
    def forward(self, x):
        torch.manual_seed(0)
        return super().forward(x)


class _DropsOneScalesOther(_DropPath):
    def forward(self, x):
        if self.drop_prob == 0 or not self.training:
            return x
        return x * x.new_empty(self.shape(x)).bernoulli_(1 - self.drop_prob) / self.drop_prob


class _AlwaysDrops(_DropPath):
    def forward(self, x):
        keep = 1 - self.drop_prob
        return x * x.new_empty(self.shape(x)).bernoulli_(keep) / keep


def _fates(passes):
    """What several training passes [(x, out), ...] show; exact where it must be, else coarse."""
    x, first = passes[0]
    seen = {"shape": str(tuple(first.shape)), "drawn for": "unknown", "dropped": "unknown"}
    seen["the kept ones are multiplied by"] = "unknown"
    if first.shape != x.shape:
        return seen
    factors = torch.stack([(out / x).flatten(1) for x, out in passes])  # passes, samples, numbers
    mixed = bool((factors != factors[..., :1]).logical_and(factors.eq(0).any(-1, True)).any())
    alone = any(bool((f[:, 0].eq(0)).any() and (f[:, 0].ne(0)).any()) for f in factors)
    share = factors.eq(0).double().mean().item()
    kept = factors[factors != 0]
    if share == 0:
        seen["drawn for"] = "nobody: nothing is dropped"
    elif mixed:
        zero = factors.reshape(*factors.shape[:2], *x.shape[1:]).eq(0)
        tokens, channels = zero.flatten(3).flatten(0, 1), zero.flatten(2, -2).flatten(0, 1)
        if x.ndim > 2 and bool((tokens == tokens[..., :1]).all()):
            seen["drawn for"] = "each token"
        elif x.ndim > 2 and bool((channels == channels[:, :1]).all()):
            seen["drawn for"] = "each channel"
        else:
            seen["drawn for"] = "each number"
    else:
        seen["drawn for"] = "each sample" if alone else "the whole batch"
        if alone and bool((factors == factors[:1]).all()):
            seen["drawn for"] += ", but the same in every pass"
    # far enough from the borders that luck does not matter, except where one draw decides all
    drawn = mixed or alone or share == 0
    seen["dropped"] = f"about {25 * round(4 * share)} %" if drawn else "all or none"
    if kept.numel():
        seen["the kept ones are multiplied by"] = round(kept.median().item(), 6)
    return seen


def _drop_path_cases(answer) -> Cases:
    def train(*shape, p=0.25):
        layer, x = build(answer, p).train(), 1 + numbers(*shape).abs()
        passes = [(x, call(layer, x)) for _ in range(32)]
        return _fates(passes)

    def unchanged(p, training):
        out = call(build(answer, p).train(training), numbers(40, 3, 4))
        drops = isinstance(out, torch.Tensor) and bool((out == 0).any())
        # whom it hits is luck, and says nothing about the mistake
        return {"something is dropped": drops, "what comes back": "changed" if drops else out}

    def gradient():
        x = (1 + numbers(40, 3, 4).abs()).requires_grad_()
        out = build(answer, 0.25).train()(x)
        out.sum().backward()
        if x.grad is None:
            return False
        return bool(torch.allclose(x.grad * x, out))

    yield "80 samples of 3 tokens, D = 4", lambda: train(80, 3, 4)
    yield "width 2", lambda: train(80, 3, 2)
    yield "width 1", lambda: train(80, 3, 1)
    yield "one vector a sample, (80, 5)", lambda: train(80, 5)
    yield "pictures, (80, 3, 4, 5)", lambda: train(80, 3, 4, 5)
    yield "evaluation, where nothing should change", lambda: unchanged(0.25, training=False)
    yield (
        "training with drop_prob 0, where nothing should change",
        (lambda: unchanged(0.0, training=True)),
    )
    yield "the gradient, which should pass where the branch is kept", gradient


drop_path = Exercise(
    name="drop_path",
    chapter="04_block",
    task="DropPath(drop_prob), a module: in training each sample of x (B, ...) becomes 0 as a "
    "whole with probability drop_prob, and else is divided by 1 − drop_prob; in evaluation x "
    "comes back",
    reference=_DropPath,
    cases=_drop_path_cases,
    mutants={
        "mask_of_the_wrong_shape": (
            _MaskOfTheWrongShape,
            "The mask has the shape (B, 1, x.ndim − 1), where the last entry is a *number of axes* "
            "used as a size. At width 2 that goes unnoticed, as a mask for each channel; at width "
            "1 the result grows; elsewhere it clashes. You want B, followed by a 1 for each of the "
            "other axes.",
        ),
        "mask_of_three_axes": (
            _MaskOfThreeAxes,
            "The mask is (B, 1, 1) whatever x is. That is right for tokens (B, N, D) only: a "
            "(B, D) becomes (B, B, D), and pictures clash. Give it as many axes as x has.",
        ),
        "mask_without_ones": (
            _MaskWithoutOnes,
            "The mask is (B,), and the last axes are matched first: it meets the channels instead "
            "of the samples. Append a 1 for each of the other axes.",
        ),
        "one_one_too_many": (
            _OneOneTooMany,
            "The mask has one axis more than x, and so has the result. B is an axis, too: "
            "x.ndim − 1 ones follow it.",
        ),
        "each_channel": (
            _PerChannel,
            "Channels are dropped one by one. DropPath drops a sample's whole branch, all tokens "
            "and channels together: for tokens, a mask of shape (B, 1, 1).",
        ),
        "each_number": (
            _PerElement,
            "Every number is dropped by itself. That is ordinary dropout. DropPath drops a "
            "sample's whole branch: one draw a sample, a mask of shape (B, 1, 1).",
        ),
        "each_token": (
            _PerToken,
            "Tokens are dropped one by one, with a mask of shape (B, N, 1). DropPath drops a "
            "sample's whole branch: (B, 1, 1).",
        ),
        "the_whole_batch": (
            _WholeBatch,
            "One draw decides for the whole batch. Each sample should have a draw of its own: a "
            "mask of shape (B, 1, 1).",
        ),
        "not_rescaled": (
            _NotRescaled,
            "What is kept is not divided by 1 − drop_prob. On average the branch is then weaker "
            "in training than in evaluation.",
        ),
        "rescaled_in_evaluation": (
            _ScaledInTheTest,
            "You multiply by 1 − drop_prob in evaluation, as the first paper did. That has the "
            "right mean, but ViT code divides in training, so that evaluation is the identity.",
        ),
        "keeps_what_it_should_drop": (
            _KeepsWhatItShouldDrop,
            "drop_prob and 1 − drop_prob are exchanged: three quarters are dropped where one "
            "should be. bernoulli_(q) gives 1, which keeps, with probability q.",
        ),
        "compared_the_wrong_way": (
            _ComparedTheWrongWay,
            "Three quarters are dropped where one should be. rand() < keep is true with "
            "probability keep; with > it is true with probability drop_prob.",
        ),
        "divided_by_the_wrong_one": (
            _DropsOneScalesOther,
            "The kept samples are divided by drop_prob. Divide by 1 − drop_prob, the share that is "
            "kept: only then does the mean stay the same.",
        ),
        "only_in_evaluation": (
            _OnlyInEvaluation,
            "It drops in evaluation and not in training: it should be the other way round. "
            "self.training is true in training.",
        ),
        "the_same_each_time": (
            _TheSameEachTime,
            "The same samples are dropped in every pass. The coins must be tossed anew each time, "
            "without a fixed seed.",
        ),
        "drops_in_evaluation": (
            _AlwaysDrops,
            "It drops in evaluation, too: the same image would get another answer each time. Ask "
            "self.training.",
        ),
    },
    accepted=[_DropPathByFloor, _DropPathByDropout, _DropPathByLoop, vitlib.DropPath],
)

# --- 4.4 drop_path_rates: from 0 to the rate


def _rates(rate, depth):
    return [rate * i / (depth - 1) if depth > 1 else 0.0 for i in range(depth)]


def _rates_cases(answer) -> Cases:
    def run(rate, depth):
        result = call(answer, rate, depth)
        if result is None or isinstance(result, str | int | float):
            return result
        return [float(r) for r in result]

    yield "rate 0.3, 4 blocks", lambda: run(0.3, 4)
    yield "rate 0.1, 12 blocks", lambda: run(0.1, 12)
    yield "rate 0, 3 blocks", lambda: run(0.0, 3)
    yield "two blocks", lambda: run(0.2, 2)
    yield "one block only", lambda: run(0.2, 1)


drop_path_rates = Exercise(
    name="drop_path_rates",
    chapter="04_block",
    task="drop_path_rates(rate, depth) -> a list of `depth` numbers: 0 for the first block, rate "
    "for the last, equal steps between; a single block gets 0",
    reference=_rates,
    cases=_rates_cases,
    mutants={
        "never_reaches_the_rate": (
            lambda rate, depth: [rate * i / depth for i in range(depth)],
            "The last block does not reach the rate: you divide by depth. Between `depth` blocks "
            "there are depth − 1 steps.",
        ),
        "starts_above_zero": (
            lambda rate, depth: [rate * (i + 1) / depth for i in range(depth)],
            "The first block is dropped already. That is the rule of the first paper, l/L for "
            "l = 1 … L; ViT code starts at 0 and makes depth − 1 steps.",
        ),
        "backwards": (
            lambda rate, depth: _rates(rate, depth)[::-1],
            "The rates fall with depth. The first blocks should be dropped least: everything after "
            "them builds on what they find.",
        ),
        "the_same_everywhere": (
            lambda rate, depth: [rate] * depth,
            "Every block has the same rate. It should grow from 0 in the first block to the rate "
            "in the last.",
        ),
        "rate_forgotten": (
            lambda rate, depth: _rates(1.0, depth),
            "The last block has 1, whatever the rate is: it would always be dropped. Multiply by "
            "rate.",
        ),
        "chance_to_be_kept": (
            lambda rate, depth: [1 - r for r in _rates(rate, depth)],
            "These are the probabilities to be *kept*. The rate is the probability to be dropped.",
        ),
        "no_steps_for_one_block": (
            lambda rate, depth: [rate * i / (depth - 1) for i in range(depth)],
            "It divides by depth − 1, which is 0 for a single block. Treat that case, or use "
            "torch.linspace.",
        ),
        "one_block_gets_the_rate": (
            lambda rate, depth: _rates(rate, depth) if depth > 1 else [rate],
            "A single block gets the whole rate. It is the first block, and the first gets 0.",
        ),
    },
    accepted=[
        lambda rate, depth: torch.linspace(0, rate, depth, dtype=torch.float64).tolist(),
        lambda rate, depth: [rate * i / max(1, depth - 1) for i in range(depth)],
    ],
)

# --- 4.5 encoder_block: pre-norm, two residuals, and layers of the reader's choice


class _Block(vitlib.Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(
            dim, num_heads, mlp_ratio, qkv_bias=True, act_layer=act_layer, norm_layer=norm_layer
        )


class _BlockOfTorchsAttention(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = norm_layer(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = norm_layer(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), act_layer(), nn.Linear(hidden, dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class _BlockByLoop(_Block):
    def forward(self, x):
        for norm, branch in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            x = branch(norm(x)) + x
        return x


def _with_forward(forward):
    return type("Block", (_Block,), {"forward": forward})


@_with_forward
def _post_norm(self, x):
    x = self.norm1(x + self.attn(x))
    return self.norm2(x + self.mlp(x))


@_with_forward
def _norm_after_the_branch(self, x):
    x = x + self.norm1(self.attn(x))
    return x + self.norm2(self.mlp(x))


@_with_forward
def _residual_from_the_norms(self, x):
    x = self.norm1(x)
    x = x + self.attn(x)
    x = self.norm2(x)
    return x + self.mlp(x)


@_with_forward
def _residual_from_norm1(self, x):
    x = self.norm1(x)
    x = x + self.attn(x)
    return x + self.mlp(self.norm2(x))


@_with_forward
def _residual_from_norm2(self, x):
    x = self.norm2(x + self.attn(self.norm1(x)))
    return x + self.mlp(x)


@_with_forward
def _no_first_residual(self, x):
    x = self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


@_with_forward
def _no_second_residual(self, x):
    x = x + self.attn(self.norm1(x))
    return self.mlp(self.norm2(x))


@_with_forward
def _no_residual(self, x):
    return self.mlp(self.norm2(self.attn(self.norm1(x))))


@_with_forward
def _mlp_added_to_the_input(self, x):
    return x + self.mlp(self.norm2(x + self.attn(self.norm1(x))))


@_with_forward
def _parallel(self, x):
    return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))


@_with_forward
def _mlp_first(self, x):
    x = x + self.mlp(self.norm2(x))
    return x + self.attn(self.norm1(x))


@_with_forward
def _one_norm_twice(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm1(x))


@_with_forward
def _norms_swapped(self, x):
    x = x + self.attn(self.norm2(x))
    return x + self.mlp(self.norm1(x))


@_with_forward
def _norms_forgotten(self, x):
    x = x + self.attn(x)
    return x + self.mlp(x)


@_with_forward
def _norm1_forgotten(self, x):
    x = x + self.attn(x)
    return x + self.mlp(self.norm2(x))


@_with_forward
def _norm2_forgotten(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(x)


class _OneNormShared(_Block):
    def __init__(self, *arguments, **layers):
        super().__init__(*arguments, **layers)
        self.norm2 = self.norm1


class _NoQkvBias(_Block):
    def __init__(self, dim, num_heads, *rest, **layers):
        super().__init__(dim, num_heads, *rest, **layers)
        self.attn = vitlib.Attention(dim, num_heads)


class _NormIgnored(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(dim, num_heads, mlp_ratio, act_layer)


class _EpsAdded(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(dim, num_heads, mlp_ratio, act_layer, partial(norm_layer, eps=1e-6))


class _RatioCutOff(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, **layers):
        super().__init__(dim, num_heads, int(mlp_ratio), **layers)


class _ActAndNormSwapped(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(dim, num_heads, mlp_ratio, norm_layer, act_layer)


class _ActIgnored(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(dim, num_heads, mlp_ratio, norm_layer=norm_layer)


class _RatioIgnored(_Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(dim, num_heads, 4, act_layer, norm_layer)


def _block_cases(answer) -> Cases:
    def run(ratio, **layers):
        return call(twin(answer, _Block, 12, 3, ratio, **layers), numbers(2, 5, 12))

    def gradient():
        x = numbers(2, 5, 12).requires_grad_()
        twin(answer, _Block, 12, 3, 4)(x)[:, 0].square().sum().backward()
        return x.grad

    yield "2 images of 5 tokens, D = 12, 3 heads", lambda: run(4)
    yield "mlp_ratio 2.5", lambda: run(2.5)
    # ELU takes a number and Identity takes anything: here a swap is silent
    yield (
        "act_layer=nn.ELU, norm_layer=nn.Identity",
        (lambda: run(2, act_layer=nn.ELU, norm_layer=nn.Identity)),
    )
    yield "the gradient that reaches x", gradient


encoder_block = Exercise(
    name="encoder_block",  # "block" is this file
    chapter="04_block",
    task="Block(dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm), a module "
    "(B, N, D) -> (B, N, D) with norm1, attn, norm2 and mlp: x + attn(norm1(x)), and of that "
    "x + mlp(norm2(x))",
    reference=_Block,
    cases=_block_cases,
    mutants={
        "post_norm": (
            _post_norm,
            "This is post-norm, the order of the first Transformer: the norm stands on the sum, "
            "and no path leads around it. ViT is pre-norm: x + branch(norm(x)). The shapes are the "
            "same, and weights trained for one give nonsense in the other.",
        ),
        "residual_from_the_norm": (
            _residual_from_the_norms,
            "The normalised x replaces x, and the branch is added to *that*. So the identity path "
            "is lost: x itself must stay as it is, and only the branch sees norm(x). Do not assign "
            "norm(x) to x.",
        ),
        "residual_from_norm1": (
            _residual_from_norm1,
            "Before attention, norm(x) replaces x, and the branch is added to *that*. x itself "
            "must stay as it is: x = x + attn(norm1(x)). The MLP's line is right.",
        ),
        "residual_from_norm2": (
            _residual_from_norm2,
            "Before the MLP, norm(x) replaces x, and the branch is added to *that*. x itself must "
            "stay as it is, as it does in your attention line.",
        ),
        "norm_after_the_branch": (
            _norm_after_the_branch,
            "The norms stand behind the branches. They belong before them: what a branch reads is "
            "norm(x), and what it writes is added as it is.",
        ),
        "no_first_residual": (
            _no_first_residual,
            "Attention's output replaces the tokens instead of being added to them. Each of the "
            "two branches needs its own x + …",
        ),
        "no_second_residual": (
            _no_second_residual,
            "The MLP's output replaces the tokens instead of being added to them. Each of the two "
            "branches needs its own x + …",
        ),
        "no_residual": (
            _no_residual,
            "Nothing is added to x: both residual connections are missing.",
        ),
        "mlp_added_to_the_input": (
            _mlp_added_to_the_input,
            "The MLP's branch is added to the input of the block, so that attention's result is "
            "lost but for what the MLP makes of it. Add it to x *after* attention.",
        ),
        "parallel": (
            _parallel,
            "Attention and MLP both read the input of the block, side by side. There are large "
            "models that do so, but ViT's MLP reads what attention has already written.",
        ),
        "mlp_first": (
            _mlp_first,
            "The MLP comes first and attention second. It is the other way round: tokens read from "
            "each other, and then each works on what it has read.",
        ),
        "norms_swapped": (
            _norms_swapped,
            "norm1 and norm2 are exchanged. In a fresh block they are alike, but with trained "
            "weights they are not: norm1 stands before attention.",
        ),
        "norm1_forgotten": (
            _norm1_forgotten,
            "Attention reads x itself. Give it norm1(x).",
        ),
        "norm2_forgotten": (
            _norm2_forgotten,
            "The MLP reads x itself, without a norm. Give it norm2(x).",
        ),
        "one_norm_shared": (
            _OneNormShared,
            "norm1 and norm2 are one and the same module, so that they share weight and bias. Make "
            "two: norm_layer(dim) for each.",
        ),
        "one_norm_twice": (
            _one_norm_twice,
            "norm1 is used for both branches. Each has its own norm, with its own weight and "
            "bias: norm2 stands before the MLP.",
        ),
        "norms_forgotten": (
            _norms_forgotten,
            "The branches see x itself: the norms are made and not used. Give each branch norm(x).",
        ),
        "act_and_norm_swapped": (
            _ActAndNormSwapped,
            "act_layer and norm_layer are swapped: the norm is an activation, and the activation a "
            "norm. It happens where they are passed on by position. Pass them by name: "
            "act_layer=act_layer.",
        ),
        "act_ignored": (
            _ActIgnored,
            "act_layer is not passed on to the MLP: it is always GELU.",
        ),
        "norm_ignored": (
            _NormIgnored,
            "norm_layer is not used: both norms are always nn.LayerNorm. Write norm_layer(dim).",
        ),
        "eps_added": (
            _EpsAdded,
            "You pass eps=1e-6 to the norm. It is asked for as norm_layer(dim), with the norm's "
            "own eps: whoever wants another passes a partial, and not every norm has an eps.",
        ),
        "no_qkv_bias": (
            _NoQkvBias,
            "Attention has no bias for queries, keys and values: that is vitlib's default. ViT has "
            "one: qkv_bias=True.",
        ),
        "ratio_cut_off": (
            _RatioCutOff,
            "mlp_ratio is made a whole number before it multiplies: 2.5 becomes 2. Multiply first, "
            "then cut off: int(dim * mlp_ratio).",
        ),
        "ratio_ignored": (
            _RatioIgnored,
            "The hidden width is always 4·D. It should be int(dim * mlp_ratio).",
        ),
    },
    accepted=[_BlockOfTorchsAttention, _BlockByLoop],
)

# --- 4.6 reach: which token depends on which


def _reach(f, x):
    jacobian = torch.autograd.functional.jacobian(f, x)[0, :, :, 0]  # (N, D, N, D)
    return jacobian.abs().sum((1, 3)) > 1e-12


def _poked(f, x, poke, changed=lambda a, b: (a != b).any(-1)):
    with torch.no_grad():
        before, columns = f(x)[0], []
        for j in range(x.shape[1]):
            other = x.clone()
            other[0, j] = poke(other[0, j])
            columns.append(changed(f(other)[0], before))  # (N,)
    return torch.stack(columns, dim=1)


def _shaken(token):
    return token + torch.randn(token.shape, dtype=token.dtype)


def _reach_by_gradients(f, x):
    x = x.clone().requires_grad_()
    out = f(x)[0]
    weights = torch.randn(out.shape, dtype=out.dtype)  # a plain sum would miss a LayerNorm
    sums = (weights * out).sum(-1)  # (N,)
    rows = [torch.autograd.grad(number, x, retain_graph=True)[0][0] for number in sums]
    return torch.stack([row.abs().amax(-1) > 1e-12 for row in rows])


def _reach_by_a_sum(f, x):
    x = x.clone().requires_grad_()
    rows = [torch.autograd.grad(token.sum(), x, retain_graph=True)[0] for token in f(x)[0]]
    return torch.stack([row[0].abs().amax(-1) > 1e-9 for row in rows])


def _reach_by_signed_sums(f, x):
    return torch.autograd.functional.jacobian(f, x)[0, :, :, 0].sum((1, 3)).abs() > 1e-9


def _reach_by_positive(f, x):
    return (torch.autograd.functional.jacobian(f, x)[0, :, :, 0] > 0).any(3).any(1)


def _reach_not_restored(f, x):
    with torch.no_grad():
        before, columns, x = f(x)[0], [], x.clone()
        for j in range(x.shape[1]):
            x[0, j] = _shaken(x[0, j])
            columns.append((f(x)[0] != before).any(-1))
    return torch.stack(columns, dim=1)


def _far(a, b):
    return (a - b).abs().amax(-1) > 1e-9


def _first_channel(token):
    return token + F.one_hot(torch.tensor(0), len(token))


def _reach_cases(answer) -> Cases:
    torch.manual_seed(0)
    exact = partial(nn.LayerNorm, eps=1e-12)  # a factor leaves no trace through eps
    attention = vitlib.Attention(6, 2, qkv_bias=True).double()
    block, mlp = vitlib.Block(6, 2, norm_layer=exact).double(), vitlib.Mlp(6, 12).double()
    attention.fused = block.attn.fused = False  # the fused kernel has no forward derivative
    norm, both = exact(6).double(), exact((4, 6)).double()
    x = numbers(1, 4, 6, seed=3).mul(64).round() / 64  # whole numbers can be added exactly

    def neighbour(x, read, written):  # less one channel of the token before, in another channel
        before = F.pad(x[:, :-1, read], (1, 0))
        return x - before[..., None] * F.one_hot(torch.tensor(written), x.shape[-1])

    def run(f):
        result = call(answer, f, x)
        whole = isinstance(result, torch.Tensor) and not result.is_floating_point()
        return result.bool() if whole else result

    yield "an MLP", lambda: run(mlp)
    yield "attention", lambda: run(attention)
    yield "a LayerNorm over the last axis", lambda: run(norm)
    yield "a LayerNorm over tokens and channels", lambda: run(both)
    yield "a LayerNorm, then an MLP", lambda: run(lambda x: mlp(norm(x)))
    yield "an MLP, then a LayerNorm", lambda: run(lambda x: norm(mlp(x)))
    yield "each channel minus the next one", lambda: run(lambda x: x - x.roll(-1, dims=-1))
    yield "each token divided by its length", lambda: run(lambda x: F.normalize(x, dim=-1))
    for read, written in ((0, 5), (5, 0), (0, 0)):
        yield (
            f"channel {read} of the token before, taken away from channel {written}",
            partial(run, partial(neighbour, read=read, written=written)),
        )
    yield "the token before, taken away", lambda: run(lambda x: x - F.pad(x, (0, 0, 1, 0))[:, :-1])
    yield "a block", lambda: run(block)


reach = Exercise(
    name="reach",
    chapter="04_block",
    task="reach(f, x) -> bool (N, N): for a function f from (1, N, D) to (1, N, D), entry [i, j] "
    "says whether output token i depends on input token j of x",
    reference=_reach,
    cases=_reach_cases,
    mutants={
        "transposed": (
            lambda f, x: _reach(f, x).T,
            "Rows and columns are swapped. The row i is the *output* token, and the column j the "
            "input token.",
        ),
        "adds_a_constant": (
            lambda f, x: _poked(f, x, lambda t: t + 1, _far),
            "You add the same number to all channels of a token. LayerNorm takes the mean away, so "
            "it cannot see that. Add different numbers to the channels.",
        ),
        "adds_a_constant_and_compares_exactly": (
            lambda f, x: _poked(f, x, lambda t: t + 1),
            "You add the same number to all channels of a token. LayerNorm takes the mean away, so "
            "it cannot see that. Add different numbers to the channels.",
        ),
        "multiplies": (
            lambda f, x: _poked(f, x, lambda t: t * 2, _far),
            "You multiply a token by a number. LayerNorm divides by the standard deviation, so it "
            "cannot see that. Add different numbers to the channels.",
        ),
        "multiplies_and_compares_exactly": (
            lambda f, x: _poked(f, x, lambda t: t * 2),
            "You multiply a token by a number. LayerNorm divides by the standard deviation, so it "
            "cannot see that. Add different numbers to the channels.",
        ),
        "one_channel_poked": (
            lambda f, x: _poked(f, x, _first_channel),
            "Only the first channel of the input token is changed. The function may read another "
            "one: change all channels, each by another number.",
        ),
        "one_channel_unmoved": (
            lambda f, x: _poked(f, x, lambda t: t + torch.arange(len(t))),
            "The first channel gets 0 added to it, so it does not move, and the function may read "
            "just that one. Change every channel, each by another number.",
        ),
        "derivatives_cancel": (
            _reach_by_signed_sums,
            "You add up derivatives of both signs, and behind or before a LayerNorm they cancel "
            "to zero. Take abs() before the sum, or ask for != 0 and any.",
        ),
        "positive_only": (
            _reach_by_positive,
            "You ask for derivatives above zero. A negative one is a dependence, too: != 0.",
        ),
        "sum_over_the_channels": (
            _reach_by_a_sum,
            "You take the gradient of the *sum* of an output token's channels. Behind a LayerNorm "
            "that sum is constant, and its gradient zero, although every channel depends on the "
            "input. Take each channel by itself, or a sum with random weights.",
        ),
        "not_restored": (
            _reach_not_restored,
            "The tokens that were changed stay changed, so that each column shows the effect of "
            "all tokens up to j. Start from a fresh copy of x for each token.",
        ),
        "all_channels_must_change": (
            lambda f, x: _poked(f, x, _shaken, lambda a, b: (a != b).all(-1)),
            "A token counts as reached only if *all* of its channels change. One is enough: any, "
            "not all.",
        ),
        "first_channel_only": (
            lambda f, x: _poked(f, x, _shaken, lambda a, b: a[:, 0] != b[:, 0]),
            "Only the first channel of the output is looked at. Tokens may mix in another one.",
        ),
    },
    accepted=[
        _reach_by_gradients,
        lambda f, x: _poked(f, x, _shaken),
        lambda f, x: torch.func.jacrev(lambda y: f(y[None])[0])(x[0]).ne(0).any(3).any(1),
    ],
)

# --- 4.7 encoder_layer: PyTorch's own layer, set up as ViT's block


def _layer(dim, num_heads, **change):
    settings = {
        "dim_feedforward": 4 * dim, "dropout": 0.0, "activation": "gelu", "layer_norm_eps": 1e-6,
        "batch_first": True, "norm_first": True,
    }  # fmt: skip
    return nn.TransformerEncoderLayer(dim, num_heads, **settings | change)


def _layer_positional(dim, num_heads):
    return nn.TransformerEncoderLayer(dim, num_heads, dim * 4, 0, F.gelu, 1e-6, True, True)


class _LayerClass(nn.TransformerEncoderLayer):
    def __init__(self, dim, num_heads):
        super().__init__(dim, num_heads, 4 * dim, 0.0, nn.GELU(), 1e-6, True, norm_first=True)


def _layer_cases(answer) -> Cases:
    def settings():
        layer = build(answer, 20, 4)
        if not isinstance(layer, nn.TransformerEncoderLayer):
            raise Refused(
                f"an nn.TransformerEncoderLayer should come back, not a {type(layer).__name__}"
            )
        return {
            "batch_first": layer.self_attn.batch_first,
            "norm_first": layer.norm_first,
            "hidden width": layer.linear1.out_features,
            "dropout": float(layer.dropout.p),
            "eps": float(layer.norm1.eps),
            "heads": layer.self_attn.num_heads,
        }

    def run(training, scale=1.0):
        layer = twin(answer, _layer, 20, 4).train(training)
        return call(layer, scale * numbers(2, 5, 20))

    yield "how encoder_layer(20, 4) is set up", settings
    yield "2 images of 5 tokens, evaluation", lambda: run(False)
    yield "the same in training", lambda: run(True)
    yield "tokens that hardly vary", lambda: run(False, scale=1e-3)


encoder_layer = Exercise(
    name="encoder_layer",
    chapter="04_block",
    task="encoder_layer(dim, num_heads) -> an nn.TransformerEncoderLayer that computes ViT's "
    "block: (B, N, D), pre-norm, exact GELU, hidden width 4·D, no dropout, eps 1e-6",
    reference=_layer,
    cases=_layer_cases,
    mutants={
        "sequence_first": (
            partial(_layer, batch_first=False),
            "batch_first=True is missing. The layer then reads (B, N, D) as B tokens of N images: "
            "attention runs across the images of the batch, and the tokens of one image never "
            "meet. The shape is right, and nothing complains.",
        ),
        "defaults": (
            nn.TransformerEncoderLayer,
            "The layer is left at its defaults: sequence first, post-norm, ReLU, dropout 0.1, "
            "hidden width 2048, eps 1e-5. That is the encoder of 2017, not ViT's block. Six "
            "arguments are to be set.",
        ),
        "post_norm": (
            partial(_layer, norm_first=False),
            "norm_first=True is missing: this layer is post-norm, and ViT's block is pre-norm.",
        ),
        "relu": (
            partial(_layer, activation="relu"),
            "The activation is ReLU, the default. ViT uses GELU: activation='gelu'.",
        ),
        "tanh_gelu": (
            partial(_layer, activation=nn.GELU(approximate="tanh")),
            "The activation is the tanh approximation of GELU. vitlib, timm and DeiT use the exact "
            "one.",
        ),
        "keeps_dropout": (
            partial(_layer, dropout=0.1),
            "Dropout is left at 0.1, its default: two training passes differ. Set dropout=0.0.",
        ),
        "wide": (
            partial(_layer, dim_feedforward=2048),
            "The hidden width is 2048 whatever the width is, the default. It should be 4·D: "
            "dim_feedforward=4 * dim.",
        ),
        "width_of_the_text": (
            partial(_layer, dim_feedforward=48),
            "The hidden width is 48 whatever the width is: that fitted the text's block of width "
            "12. It should be 4·D: dim_feedforward=4 * dim.",
        ),
        "activation_class": (
            partial(_layer, activation=nn.GELU),
            "activation is the class nn.GELU, and calling it makes a module instead of numbers. "
            "Give 'gelu', the function F.gelu, or an object, nn.GELU().",
        ),
        "eps_of_torch": (
            partial(_layer, layer_norm_eps=1e-5),
            "The norms have eps 1e-5, the default. ViT's have 1e-6: layer_norm_eps=1e-6. The "
            "difference is small, and it shows where tokens hardly vary.",
        ),
    },
    accepted=[_layer_positional, _LayerClass, partial(_layer, activation=F.gelu)],
)

EXERCISES = [layer_norm, gelu, drop_path, drop_path_rates, encoder_block, reach, encoder_layer]
