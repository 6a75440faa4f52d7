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

    def gradient():
        x, weights = numbers(2, 3, 5).requires_grad_(), numbers(2, 3, 5, seed=4)
        result = call(answer, x, numbers(5, seed=1), numbers(5, seed=2), 1e-2)
        (result * weights).sum().backward()
        return x.grad

    yield "two images of 3 tokens, D = 5", lambda: run(2, 3, 5)
    yield "as many tokens as channels", lambda: run(2, 4, 4)
    yield "four axes, (2, 3, 4, 6)", lambda: run(2, 3, 4, 6)
    yield "tokens that hardly vary, eps = 1e-6", lambda: run(2, 3, 5, scale=1e-3, eps=1e-6)
    yield "a large eps, 0.5", lambda: run(2, 3, 5, eps=0.5)
    yield "the gradient that reaches x", gradient


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
eps_outside_as_a_root: * torch.rsqrt(variance + eps) → / (variance.sqrt() + eps**0.5)
    The roots of the variance and of eps are added. The sum comes first, and then the root:
    √(variance + eps).
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
affine_first: centred = x - x.mean → x = x * weight + bias
→ centred = x - x.mean
and: normalised * weight + bias → normalised
    Weight and bias come before the norm, which then takes most of them away again. First
    normalise, then times weight plus bias.
affine_first_and_last: centred = x - x.mean → x = x * weight + bias
→ centred = x - x.mean
    Weight and bias are applied twice, before the norm and after it. Only after it.
variance_summed: square().mean( → square().sum(
    The squares are added up, but not divided by D. The variance is their mean.
mean_summed: x - x.mean( → x - x.sum(
mean_summed_there: normalised = centred → normalised = (x - x.sum(dim=-1, keepdim=True))
    The sum of the channels is subtracted where their mean should be.
squares_uncentred: centred.square() → x.square()
    The squares are those of x itself. The variance is the mean of the squares of x *minus its
    mean*.
first_axis: x - x.mean(dim=-1 → x - x.mean(dim=0
and: square().mean(dim=-1 → square().mean(dim=0
    Mean and variance are taken over axis 0, the images of a batch. Each token has its own, over its
    channels: dim=-1.
whole_image: x - x.mean(dim=-1 → x - x.mean(dim=tuple(range(1, x.ndim))
and: square().mean(dim=-1 → square().mean(dim=tuple(range(1, x.ndim))
    Each image has one mean and one variance, over all of its tokens together. Each token has its
    own: dim=-1.
eps_squared: + eps → + eps**2
    eps is squared. It is added to the variance as it is.
eps_twice: centred / (variance + eps).sqrt() → centred / ((variance + eps).sqrt() + eps)
    eps is added twice, under the root and to the root. Once, under the root, is enough.
eps_subtracted: + eps → - eps
    eps is subtracted from the variance, which may become negative then. Add it.
mean_absolute_deviation: centred.square().mean(dim=-1, keepdim=True) → centred.abs().mean(-1, True)
and: (variance + eps).sqrt() → (variance + eps)
    The tokens are divided by the mean distance from their mean. LayerNorm divides by the standard
    deviation: square, take the mean, then the root.
weight_plus_one: * weight → * (1 + weight)
    The factor is 1 + weight. Some models store their weight so; here it is weight itself.
multiplied: centred / → centred *
    The tokens are multiplied by their standard deviation. Divide by it.
mean_not_squared: centred.square().mean(dim=-1, keepdim=True) → (x * x - x).mean(-1, True)
    From the mean of the squares you subtract the mean, not its square. The variance is E[x²] −
    (E[x])².
mean_squared_added: variance = centred.square().mean(dim=-1, keepdim=True) → mean = x.mean(-1, True)
→ variance = (x * x).mean(-1, True) + mean**2
    The square of the mean is added to the mean of the squares. It has to be subtracted: E[x²] −
    (E[x])².
sign: x - x.mean(dim=-1, keepdim=True) → x.mean(dim=-1, keepdim=True) - x
    x is subtracted from its mean, so that every sign is turned round. Subtract the mean from x.
weight_added: * weight + bias → + weight + bias
    The weight is added. It is a factor: times weight, plus bias.
weight_and_bias_swapped: * weight + bias → * bias + weight
    Weight and bias have changed places: the factor is weight, and bias is added.
variance_detached: / (variance + eps).sqrt() → / (variance + eps).sqrt().detach()
    The numbers are right, but no gradient passes through the standard deviation: it is detached,
    or made under no_grad. It depends on x, too.
mean_detached: x - x.mean(dim=-1, keepdim=True) → x - x.mean(dim=-1, keepdim=True).detach()
    The numbers are right, but no gradient passes through the mean: it is detached, or made under
    no_grad. It depends on x, too.
in_place: x - x.mean(dim=-1, keepdim=True) → x.sub_(x.mean(dim=-1, keepdim=True))
    The mean is subtracted in place, so that the caller's x is changed. Write x = x - mean, which
    makes a new tensor.
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
    "and variance 1 over its D channels, then times weight (D) plus bias (D); without PyTorch's "
    "norms, var or std",
    reference=layer_norm,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_var_mean,
        by_loop,
        lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias, eps),
    ],
    excluded=[
        "torch.nn.functional.layer_norm", "torch.nn.functional.batch_norm", "torch.var",
        "torch.std", "torch.var_mean", "torch.std_mean",
    ],
    probe=probe,
)  # fmt: skip
