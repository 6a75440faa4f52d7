"""4.7 encoder_layer: PyTorch's own layer, set up as ViT's block."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, build, call, numbers, twin
from vitlib.check.probing import draw, filled


def encoder_layer(dim, num_heads):
    return nn.TransformerEncoderLayer(
        dim,
        num_heads,
        dim_feedforward=4 * dim,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )


def by_position(dim, num_heads):
    return nn.TransformerEncoderLayer(dim, num_heads, dim * 4, 0, F.gelu, 1e-6, True, True)


def by_settings(dim, num_heads):
    settings = {"activation": F.gelu, "batch_first": True, "norm_first": True, "dropout": 0}
    return nn.TransformerEncoderLayer(dim, num_heads, 4 * dim, layer_norm_eps=1e-6, **settings)


class Layer(nn.TransformerEncoderLayer):
    def __init__(self, dim, num_heads):
        super().__init__(dim, num_heads, 4 * dim, 0.0, nn.GELU(), 1e-6, True, norm_first=True)


def cases(answer) -> Cases:
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
        layer = twin(answer, encoder_layer, 20, 4).train(training)
        return call(layer, scale * numbers(2, 5, 20))

    yield "how encoder_layer(20, 4) is set up", settings
    yield "2 images of 5 tokens, evaluation", lambda: run(False)
    yield "the same in training", lambda: run(True)
    yield "tokens that hardly vary", lambda: run(False, scale=1e-3)


MUTANTS = edits(encoder_layer, """
sequence_first: batch_first=True, →
    batch_first=True is missing. The layer then reads (B, N, D) as B tokens of N images: attention
    runs across the images of the batch, and the tokens of one image never meet. The shape is right,
    and nothing complains.
post_norm: norm_first=True, →
    norm_first=True is missing: this layer is post-norm, and ViT's block is pre-norm.
relu: activation="gelu", →
    The activation is ReLU, the default. ViT uses GELU: activation='gelu'.
tanh_gelu: "gelu" → nn.GELU(approximate="tanh")
    The activation is the tanh approximation of GELU. vitlib, timm and DeiT use the exact one.
keeps_dropout: dropout=0.0, →
    Dropout is left at 0.1, its default: two training passes differ. Set dropout=0.0.
wide: dim_feedforward=4 * dim, →
    The hidden width is 2048 whatever the width is, the default. It should be 4·D: dim_feedforward=4
    * dim.
width_of_the_text: 4 * dim → 48
    The hidden width is 48 whatever the width is: that fitted the text's block of width 12. It
    should be 4·D: dim_feedforward=4 * dim.
half_as_wide: 4 * dim → 2 * dim
    The hidden width is 2·D, and ViT's is 4·D.
as_wide_as_the_tokens: 4 * dim → dim
    The hidden width is D, and ViT's is 4·D.
eps_of_bert: 1e-6 → 1e-12
    The norms have eps 1e-12, which BERT and Hugging Face's ViT use. Here it is 1e-6, as in timm.
without_biases: layer_norm_eps=1e-6, → layer_norm_eps=1e-6, bias=False,
    The layer has no biases at all. ViT's have: leave bias=True, the default.
one_head: num_heads, → 1,
    There is one head, whatever num_heads says.
activation_class: "gelu" → nn.GELU
    activation is the class nn.GELU, and calling it makes a module instead of numbers. Give 'gelu',
    the function F.gelu, or an object, nn.GELU().
eps_of_torch: layer_norm_eps=1e-6, →
    The norms have eps 1e-5, the default. ViT's have 1e-6: layer_norm_eps=1e-6. The difference is
    small, and it shows where tokens hardly vary.
""") | edits(by_position, """
in_an_encoder: return nn.TransformerEncoderLayer( → return nn.TransformerEncoder(*[
→         nn.TransformerEncoderLayer(
and: True, True) → True, True)], 1)
    A whole nn.TransformerEncoder comes back, a stack of layers. One layer is asked for.
the_class_itself: (dim, num_heads, dim * 4, 0, F.gelu, 1e-6, True, True) →
    The class comes back, and not a layer: call it, with its settings.
defaults: num_heads, dim * 4, 0, F.gelu, 1e-6, True, True → num_heads
    The layer is left at its defaults: sequence first, post-norm, ReLU, dropout 0.1, hidden width
    2048, eps 1e-5. That is the encoder of 2017, not ViT's block. Six arguments are to be set.
""")  # fmt: skip


def probe(answer):
    x = draw(3, 4, 10)

    def settings():
        layer = answer(10, 2)
        return layer.norm_first, layer.linear1.out_features, layer.norm2.eps, layer.dropout1.p

    def outputs(train, scale):
        torch.manual_seed(0)
        return filled(answer, 10, 2).train(train)(scale * x)

    return [settings, *[partial(outputs, *g) for g in [(True, 1.0), (False, 1.0), (False, 0.01)]]]


EXERCISE = Exercise(
    name="encoder_layer",
    chapter="04_block",
    task="encoder_layer(dim, num_heads) -> an nn.TransformerEncoderLayer that computes ViT's "
    "block: (B, N, D), pre-norm, exact GELU, hidden width 4·D, no dropout, eps 1e-6",
    reference=encoder_layer,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_position, by_settings, Layer],
    probe=probe,
)
