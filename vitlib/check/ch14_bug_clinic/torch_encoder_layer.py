"""14.9 torch_encoder_layer: attention runs over the images of a batch."""

import torch
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw, filled


class Encoder(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=4 * dim, dropout=0.0, activation="gelu",
            norm_first=True, batch_first=True,
        )  # fmt: skip

    def forward(self, x):
        """(B, N, D) -> (B, N, D)"""
        return self.layer(x)


class SequenceFirst(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=4 * dim, dropout=0.0, activation="gelu", norm_first=True
        )

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


class ByPermute(SequenceFirst):
    def forward(self, x):
        return self.layer(x.permute(1, 0, 2)).permute(1, 0, 2)


class OneByOne(SequenceFirst):
    """Without a batch axis, the layer takes (N, D), whatever batch_first says."""

    def forward(self, x):
        return torch.stack([self.layer(image) for image in x])


def cases(answer) -> Cases:
    def output(B, N, D, heads, training=False):
        return call(twin(answer, Encoder, D, heads).train(training), numbers(B, N, D))

    yield "3 images of 5 tokens, D = 12, 2 heads", lambda: output(3, 5, 12, 2)
    yield "one image of 5 tokens, D = 12, 2 heads", lambda: output(1, 5, 12, 2)
    yield "2 images of 7 tokens, D = 9, 3 heads, training", lambda: output(2, 7, 9, 3, True)


MUTANTS = edits(SequenceFirst, """
unchanged: self.layer(x.transpose(0, 1)).transpose(0, 1) → self.layer(x)
    The symptom is still there: what the layer makes of an image depends on the others of the batch.
    Put it into a model and ask `check.batch_independence(model, images)`, and what
    `check.token_mixing(model, images)` says of the tokens within one image.
one_transpose: .transpose(0, 1)) → )
one_transpose_before: self.layer(x.transpose(0, 1)).transpose(0, 1) → self.layer(x.transpose(0, 1))
    One swap of the axes is missing: (N, B, D) goes into the layer, and (N, B, D) comes back. Swap
    before and after, or not at all.
reshaped: self.layer(x.transpose(0, 1)).transpose(0, 1) →
→ self.layer(x.reshape(x.shape[1], x.shape[0], -1)).reshape(x.shape)
    A reshape does not swap axes. It cuts the same row of numbers anew, so that tokens of different
    images end up in one sequence. Use transpose.
batches_of_one: self.layer(x.transpose(0, 1)).transpose(0, 1) →
→ torch.cat([self.layer(image[None]) for image in x])
    Images are now kept apart, and so are the tokens: each attends to itself alone. The layer still
    takes the first axis for the sequence.
one_long_sequence: self.layer(x.transpose(0, 1)).transpose(0, 1) →
→ self.layer(x.flatten(0, 1)).reshape(x.shape)
    All tokens of all images stand in one sequence. The tokens of an image now meet, but they meet
    those of the other images as well.
mean_of_both: self.layer(x.transpose(0, 1)).transpose(0, 1) →
→ (self.layer(x) + self.layer(x.transpose(0, 1)).transpose(0, 1)) / 2
    You average over both orders of the axes. In one of them, images still attend to each other.
pre_norm_lost: norm_first=True → batch_first=True
and: self.layer(x.transpose(0, 1)).transpose(0, 1) → self.layer(x)
    The axes are right now, and norm_first=True is gone: ViT normalises before attention and MLP.
dropout_lost: dropout=0.0, → dropout=0.1,
    The axes are right now, and dropout=0.0 is gone, or changed: the default is 0.1.
gelu_lost: activation="gelu", →
    The axes are right now, and activation="gelu" is gone: the default is ReLU.
width_lost: dim_feedforward=4 * dim, →
    The axes are right now, and dim_feedforward is gone: the default is 2048, whatever dim is.
one_head: dim, heads, dim_feed → dim, 1, dim_feed
    The axes are right now, and there is one head only.
""")  # fmt: skip


def probe(answer):
    def output(training, B, N, D, heads):
        return filled(answer, D, heads).train(training)(draw(B, N, D))

    def gradient():
        x = draw(2, 3, 8).requires_grad_()
        filled(answer, 8, 4)(x)[1].sum().backward()
        return x.grad

    return [
        lambda: output(False, 4, 3, 8, 2),
        lambda: output(True, 2, 6, 10, 5),
        lambda: output(False, 1, 4, 6, 3),
        gradient,
    ]


EXERCISE = Exercise(
    name="torch_encoder_layer",
    chapter="14_bug_clinic",
    task="Encoder(dim, heads), a module: one encoder layer of PyTorch, pre-norm, with GELU, an MLP "
    "of width 4 · dim and no dropout, over the tokens of each image, (B, N, D) -> (B, N, D)",
    reference=Encoder,
    cases=cases,
    mutants=MUTANTS,
    accepted=[SequenceFirst, ByPermute, OneByOne],
    probe=probe,
)
