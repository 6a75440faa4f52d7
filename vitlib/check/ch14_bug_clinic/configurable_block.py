"""14.12 configurable_block: two classes passed by position, in the other order."""

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers
from vitlib.check.probing import draw


class QuickGELU(nn.Module):
    """The activation of CLIP. Like nn.Identity, it takes any arguments and ignores them."""

    def __init__(self, *ignored):
        super().__init__()

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class MlpBlock(nn.Module):
    def __init__(self, dim, act_layer=QuickGELU, norm_layer=nn.LayerNorm):
        super().__init__()
        self.norm = norm_layer(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = act_layer(4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


def make_block(dim):
    return MlpBlock(dim, QuickGELU, nn.LayerNorm)


def by_keyword(dim):
    return MlpBlock(dim, norm_layer=nn.LayerNorm, act_layer=QuickGELU)


def by_default(dim):
    return MlpBlock(dim, norm_layer=nn.LayerNorm)


class NormFirst(MlpBlock):
    def __init__(self, dim, norm_layer=nn.LayerNorm, act_layer=QuickGELU):
        super().__init__(dim, act_layer, norm_layer)


def other_signature(dim):
    return NormFirst(dim, nn.LayerNorm, QuickGELU)


def cases(answer) -> Cases:
    def output(size, training=False):
        module = with_random_layers(build(answer, 6)).train(training)
        return call(module, size * numbers(2, 5, 6))

    yield "2 images of 5 tokens, D = 6", lambda: output(1.0)
    yield "the same, with tokens ten times as large", lambda: output(10.0)
    yield "the first in training", lambda: output(1.0, training=True)
    yield (
        "the count of learned numbers",
        lambda: sum(p.numel() for p in build(answer, 6).parameters()),
    )


def with_random_layers(module):
    """The module in float64, its linear layers random; a norm stays as it starts."""
    for layer in module.double().modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = numbers(*layer.weight.shape, seed=layer.in_features)
            layer.bias.data = numbers(layer.out_features, seed=layer.out_features)
    return module


MUTANTS = edits(make_block, """
unchanged: QuickGELU, nn.LayerNorm → nn.LayerNorm, QuickGELU
    The symptom is still there: the weights of a block that is built as it should be do not fit, or,
    with strict=False, they give other answers. Look at what was built, with
    `print(make_block(6))`, and not at what it is called.
two_norms: QuickGELU, nn.LayerNorm → nn.LayerNorm, nn.LayerNorm
    Now there are two norms. With one in the place of the activation, the MLP is linear but for a
    scale.
two_activations: QuickGELU, nn.LayerNorm → QuickGELU, QuickGELU
    Now there are two activations, and still no norm.
no_activation: QuickGELU, nn.LayerNorm → nn.Identity, nn.LayerNorm
    The norm is right, and there is no activation any more: two linear layers in a row are one.
no_norm: QuickGELU, nn.LayerNorm → QuickGELU, nn.Identity
    The activation is right, and there is no norm before the MLP.
gelu: QuickGELU, nn.LayerNorm → nn.GELU, nn.LayerNorm
    The activation is nn.GELU now, which is another one. (It fails, since MlpBlock calls
    act_layer(4 * dim) and nn.GELU takes that for its argument `approximate`.) Keep QuickGELU.
layers_for_classes: QuickGELU, nn.LayerNorm → QuickGELU(), nn.LayerNorm(dim)
    A layer that is built already is passed where a class is wanted: MlpBlock builds it itself, as
    norm_layer(dim) and act_layer(4 * dim). Pass nn.LayerNorm and QuickGELU, without brackets.
another_activation: QuickGELU, nn.LayerNorm → nn.SiLU, nn.LayerNorm
    The norm is right, and the activation is another one now. Keep QuickGELU.
another_norm: QuickGELU, nn.LayerNorm → QuickGELU, nn.RMSNorm
    The activation is right, and the norm is another one now: nn.RMSNorm does not take the mean
    away. Keep nn.LayerNorm.
norm_added: return MlpBlock(dim, QuickGELU, nn.LayerNorm) →
→ return nn.Sequential(nn.LayerNorm(dim), MlpBlock(dim, nn.LayerNorm, QuickGELU))
    You put one more norm in front of the block. That bounds its input, but the block is as wrong
    as before, and the residual now starts from the normalised tokens.
""")  # fmt: skip


def probe(answer):
    def output(*shape):
        torch.manual_seed(3)
        module = answer(shape[-1]).double()
        with torch.no_grad():
            for i, layer in enumerate(m for m in module.modules() if isinstance(m, nn.Linear)):
                layer.weight.copy_(draw(*layer.weight.shape, seed=i))
                layer.bias.copy_(draw(*layer.bias.shape, seed=i))
        return module(3 * draw(*shape))

    return [
        lambda: output(2, 3, 8),
        lambda: output(4, 2, 5),
        lambda: sum(p.numel() for p in answer(7).parameters()),
    ]


EXERCISE = Exercise(
    name="configurable_block",
    chapter="14_bug_clinic",
    task="make_block(dim): a pre-norm MLP block, (B, N, D) -> (B, N, D), with nn.LayerNorm as its "
    "norm and QuickGELU as its activation",
    reference=make_block,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_keyword, by_default, other_signature],
    probe=probe,
)
