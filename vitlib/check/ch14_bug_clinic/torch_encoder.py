"""14.13 torch_encoder: the defaults of another paper."""

import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, fill, numbers, single
from vitlib.check.probing import draw


def make_encoder(dim, heads, depth):
    layer = nn.TransformerEncoderLayer(
        dim, heads, dim_feedforward=4 * dim, dropout=0.0, batch_first=True,
        activation="gelu", norm_first=True,
    )  # fmt: skip
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)


def by_keyword(dim, heads, depth):
    layer = nn.TransformerEncoderLayer(
        dim, heads, dim_feedforward=4 * dim, dropout=0.0, batch_first=True,
        activation=F.gelu, norm_first=True, layer_norm_eps=1e-6,
    )  # fmt: skip
    norm = nn.LayerNorm(dim, eps=1e-6)
    return nn.TransformerEncoder(layer, depth, norm=norm, enable_nested_tensor=False)


def set_afterwards(dim, heads, depth):
    layer = nn.TransformerEncoderLayer(
        dim, heads, dim_feedforward=4 * dim, dropout=0.0, batch_first=True, activation=nn.GELU()
    )
    layer.norm_first = True
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    encoder.norm = nn.LayerNorm(dim)
    return encoder


def without_clones(dim, heads, depth):
    """Each layer is initialised by itself; TransformerEncoder copies one."""
    layers = [
        nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, 0.0, "gelu", norm_first=True, batch_first=True
        )
        for _ in range(depth)
    ]
    return nn.Sequential(*layers, nn.LayerNorm(dim))


def with_weights(answer, *sizes):
    """The answer's encoder with the weights of a ViT, loaded without a complaint if some are left.

    In the order in which they are registered, each into the next of its shape.
    """
    model, module = fill(make_encoder(*sizes)), build(answer, *sizes).double()
    left = list(model.parameters())
    for parameter in module.parameters():
        found = next((i for i, p in enumerate(left) if p.shape == parameter.shape), None)
        if found is not None:
            parameter.data = left.pop(found).data
    return module


def cases(answer) -> Cases:
    def output(B, N, D, heads, depth, training=False):
        module = with_weights(answer, D, heads, depth).train(training)
        return single(call(module, numbers(B, N, D)))  # the norms' eps is free

    def learned():
        return sum(p.numel() for p in build(answer, 10, 2, 2).parameters())

    yield "2 images of 5 tokens, D = 12, 3 heads, one layer", lambda: output(2, 5, 12, 3, 1)
    yield "3 images of 4 tokens, D = 10, 2 heads, 2 layers", lambda: output(3, 4, 10, 2, 2)
    yield "the same in training", lambda: output(3, 4, 10, 2, 2, True)
    yield "the count of its learned numbers", learned


MUTANTS = edits(make_encoder, """
unchanged: activation="gelu", norm_first=True, →
and: nn.LayerNorm(dim), enable → enable
    The symptom is still there: with the weights of a trained ViT, this encoder computes something
    else. Build a model of both kinds and ask `check.parity_ladder(model, reference, images)` where
    they part. There is more than one place.
still_post_norm: , norm_first=True →
    Post-norm is left: each layer normalises after it has added. ViT normalises before attention and
    MLP.
no_last_norm: nn.LayerNorm(dim), enable → enable
    With pre-norm nothing normalises what the layers have added up. ViT has one more norm, behind
    the last of them.
still_relu: activation="gelu",  →
    The MLP still has ReLU. ViT has GELU.
tanh: "gelu" → nn.GELU("tanh")
    This is the tanh approximation of GELU. ViT's weights are trained with GELU itself.
norm_in_front: return nn. → encoder = nn.
and: enable_nested_tensor=False) → enable_nested_tensor=False)
→ encoder.norm, norm = None, encoder.norm
→ return nn.Sequential(norm, encoder)
    The added norm stands in front of the layers. It belongs behind the last of them.
norm_without_weights: nn.LayerNorm(dim), enable →
→ nn.LayerNorm(dim, elementwise_affine=False), enable
    The last norm has no weight and no bias, and those of the trained ViT have no place to go.
narrow_mlp: dim_feedforward=4 * dim → dim_feedforward=dim
    The MLP is as wide as the tokens. In a ViT it is four times as wide.
with_dropout: dropout=0.0,  →
    Without dropout=0.0 you get PyTorch's default, 0.1, in training.
""")  # fmt: skip


def probe(answer):
    def output(training, *sizes):
        module = with_weights(answer, *sizes).train(training)
        return single(module(draw(3, 6, sizes[0])))

    return [
        lambda: output(False, 8, 4, 1),
        lambda: output(True, 9, 3, 3),
        lambda: sum(p.numel() for p in answer(8, 2, 3).parameters()),
    ]


EXERCISE = Exercise(
    name="torch_encoder",
    chapter="14_bug_clinic",
    task="make_encoder(dim, heads, depth): a module of PyTorch's encoder layers that computes what "
    "the blocks of a ViT and its last norm compute, (B, N, D) -> (B, N, D), without dropout",
    reference=make_encoder,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_keyword, set_afterwards, without_clones],
    probe=probe,
)
