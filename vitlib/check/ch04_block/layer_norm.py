"""4.1 layer_norm: the last axis, each token for itself."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def layer_norm(x, weight, bias, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    normalised = centred / (variance + eps).sqrt()
    return normalised * weight + bias


def by_var_mean(x, weight, bias, eps):
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return weight * (x - mean) * torch.rsqrt(variance + eps) + bias


def by_loop(x, weight, bias, eps):
    tokens = [(t - t.mean()) / (t.var(correction=0) + eps) ** 0.5 for t in x.flatten(0, -2)]
    return (torch.stack(tokens) * weight + bias).reshape(x.shape)


def cases(answer) -> Cases:
    def run(*shape, scale=1.0, eps=1e-2):
        x, weight = 1 + scale * numbers(*shape), numbers(shape[-1], seed=1)
        return call(answer, x, weight, numbers(shape[-1], seed=2), eps)

    yield "two images of 3 tokens, D = 5", lambda: run(2, 3, 5)
    yield "as many tokens as channels", lambda: run(2, 4, 4)
    yield "four axes, (2, 3, 4, 6)", lambda: run(2, 3, 4, 6)
    yield "tokens that hardly vary, eps = 1e-6", lambda: run(2, 3, 5, scale=1e-3, eps=1e-6)
    yield "a large eps, 0.5", lambda: run(2, 3, 5, eps=0.5)


MUTANTS = edits(by_var_mean, """
both_axes: dim=-1 → dim=(-2, -1)
    Mean and variance are taken over the last two axes, over all tokens of an image together.
    LayerNorm takes the last axis only, each token for itself. Look at the mean of a single token:
    it should be 0.
over_the_tokens: dim=-1 → dim=-2
    Each channel is normalised over the tokens. LayerNorm goes the other way: each token over its
    channels, dim=-1.
over_everything: dim=-1 → dim=None
    There is one mean and one variance for the whole tensor: mean() without dim takes all axes. Each
    token has its own: dim=-1, keepdim=True.
over_axis_1: dim=-1 → dim=1
    Mean and variance are taken over axis 1. The channels are the last axis, wherever it is: dim=-1.
over_axis_2: dim=-1 → dim=2
    Mean and variance are taken over axis 2. With three axes that is the last, with four it is not:
    dim=-1 always is.
over_all_but_the_last: dim=-1 → dim=tuple(range(x.ndim - 1))
    Each channel is normalised over all images and tokens: that is BatchNorm. LayerNorm takes the
    channels of one token, dim=-1.
unbiased_variance: correction=0 → correction=1
    The variance is divided by D − 1. That is PyTorch's default for var and std, and LayerNorm
    divides by D: pass correction=0 (or unbiased=False). With D = 768 the difference is too small
    for the eye.
eps_outside_the_root: * torch.rsqrt(variance + eps) → / (variance.sqrt() + eps)
    eps is added to the standard deviation. It belongs under the root, beside the variance:
    √(variance + eps). The two part where a token hardly varies.
eps_outside_and_unbiased: * torch.rsqrt(variance + eps) → / (variance.sqrt() + eps)
and: correction=0 → correction=1
    This is a form that is often copied, and two things are different in it: std divides by D − 1,
    and eps stands outside the root. You want √(variance + eps), with the variance divided by D.
""") | edits(layer_norm, """
keepdim_forgotten: x.mean(dim=-1, keepdim=True) → x.mean(dim=-1)
    The mean has lost the axis over which it was taken: (B, N) does not fit to (B, N, D), or fits
    wrongly. keepdim=True makes it (B, N, 1).
no_eps: (variance + eps) → variance
    eps is not used. It belongs under the root: √(variance + eps). Without it a token whose channels
    are all equal becomes 0/0.
eps_of_torch: + eps → + 1e-5
    Your eps is 1e-5, whatever is asked for. That is the default of nn.LayerNorm; ViT's weights were
    trained with 1e-6. Use the argument.
divided_by_the_variance: .sqrt() →
    The tokens are divided by their variance. Divide by its root, the standard deviation.
mean_left_in: x - x.mean(dim=-1, keepdim=True) → x
    The mean is not subtracted. What you wrote is RMSNorm, which some language models use; LayerNorm
    first takes the mean away.
weight_and_bias_forgotten: * weight + bias →
    Weight and bias are not used. In a fresh layer they are 1 and 0, so that a test on a fresh layer
    does not notice.
weight_forgotten: * weight →
    The weight is not used: multiply each channel by it, before the bias is added.
bias_forgotten: + bias →
    The bias is not used: add it at the end.
bias_before_weight: normalised * weight + bias → (normalised + bias) * weight
    The bias is added before the weight multiplies. It is the other way round: first times weight,
    then plus bias.
""")  # fmt: skip


def probe(answer):
    given = [((3, 2, 4), 1.0, 1e-6), ((5, 6), 1e-2, 1e-5), ((2, 3, 3, 7), 3.0, 0.1)]
    return [
        returns(answer, 2 + scale * draw(*s), draw(s[-1], seed=1), draw(s[-1], seed=2), eps)
        for s, scale, eps in given
    ]


EXERCISE = Exercise(
    name="layer_norm",
    chapter="04_block",
    task="layer_norm(x, weight, bias, eps) -> the shape of x: each token of x (..., D) with mean 0 "
    "and variance 1 over its D channels, then times weight (D) plus bias (D)",
    reference=layer_norm,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_var_mean,
        by_loop,
        lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias, eps),
    ],
    probe=probe,
)
