"""2.1 ClassToken: one for all images, learned, in front."""

import torch
from torch import nn

from vitlib.check.ch02_tokens._observing import amount, filled, gradient
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers
from vitlib.check.probing import draw, forward, learned, parameter_gradients


class ClassToken(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, tokens):
        cls = self.cls_token.expand(len(tokens), -1, -1)
        return torch.cat([cls, tokens], dim=1)


class AsRow(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.row = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, tokens):
        return torch.stack([torch.vstack([self.row, image]) for image in tokens])


class ByEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.token = nn.Embedding(1, dim)

    def forward(self, tokens):
        index = torch.zeros(len(tokens), 1, dtype=torch.long)
        return torch.cat([self.token(index), tokens], dim=1)


def cases(answer) -> Cases:
    def join(images):
        return filled(answer, (5,), lambda module: call(module, numbers(images, 4, 5)))

    def the_gradient():
        return filled(answer, (5,), lambda module: gradient(module, numbers(3, 4, 5)))

    def again():
        def run(module):
            call(module, numbers(2, 4, 5))
            with torch.no_grad():  # as a step of training does
                for parameter in module.parameters():
                    parameter += 1
            return [call(module, numbers(images, 4, 5)) for images in (2, 1, 3)]

        return filled(answer, (5,), run)

    yield "what ClassToken(5) learns", lambda: amount(build(answer, 5), 5)
    yield "2 images of 4 tokens, D = 5", lambda: join(2)
    yield "3 images of 4 tokens, D = 5", lambda: join(3)  # one token for each would not fit
    yield "one image of 4 tokens", lambda: join(1)
    yield "the gradient that reaches the class token", the_gradient
    yield "2 images, a step of training, then 2, 1 and 3 images", again


MUTANTS = edits(ClassToken, """
one_for_each_image: 1, 1, dim → 2, 1, dim
    There is one class token for each image of the batch. So what an image gets depends on its row
    in the batch, and another batch size does not fit. Learn one vector, (1, 1, D), and expand it to
    the batch in forward.
plain_tensor: nn.Parameter →
    The class token is not among the module's parameters, so no optimiser ever changes it. A plain
    tensor, a buffer, a list, or a Parameter made in forward is not enough: in __init__, set
    self.something = nn.Parameter(...).
joined_at_the_end: [cls, tokens] → [tokens, cls]
    The class token stands behind the patches. A head that reads token 0 then reads the first patch,
    with the right shape and no error. Put it first in torch.cat.
in_place_of_a_patch: [cls, tokens] → [cls, tokens[:, 1:]]
    The class token replaces the first patch, and that corner of the image is lost. It is one more
    token: (B, 1 + N, D) comes back.
added: torch.cat([cls, tokens], dim=1) → tokens + cls
    The class token is added to every patch token. It should be a token of its own, joined along the
    second axis: torch.cat(..., dim=1).
detached: .expand → .detach().expand
    The numbers are right, but no gradient reaches the class token, and it stays as it started. Look
    for .data, .detach(), requires_grad=False or torch.tensor(...).
not_expanded: .expand(len(tokens), -1, -1) →
    There is one class token, and a batch of several images: torch.cat does not broadcast. Give each
    image a copy first: cls.expand(B, -1, -1) is (B, 1, D).
only_a_vector: torch.zeros(1, 1, dim) → torch.zeros(dim)
and: .expand(len(tokens), -1, -1) →
    A vector (D,) is joined to tokens (B, N, D), and torch.cat wants three axes of both. Make it
    (1, 1, D), and expand that to (B, 1, D).
a_vector_for_each_row: torch.zeros(1, 1, dim) → torch.zeros(1, dim)
and: .expand(len(tokens), -1, -1) → .expand(len(tokens), -1)
    The class token has two axes, and torch.cat wants three as in the tokens: (B, 1, D).
lies_along_the_wrong_axis: 1, 1, dim → 1, dim, 1
    The vector lies along the axis of the tokens: (1, D, 1) is D tokens of one channel. One token of
    D channels is (1, 1, D).
joined_along_the_batch: dim=1 → dim=0
    torch.cat joins along axis 0, the images, which is also what it does if it is told no axis. The
    class token is one more *token*: dim=1.
joined_along_the_batch_for_each_patch: .expand(len(tokens), -1, -1) →
→ .expand(-1, tokens.shape[1], -1)
and: dim=1 → dim=0
    The class token is joined along axis 0, as one more image made of class tokens. It is one more
    token of every image: dim=1.
joined_along_the_channels: dim=1 → dim=2
joined_along_the_channels_for_each_patch: .expand(len(tokens), -1, -1) →
→ .expand(len(tokens), tokens.shape[1], -1)
and: dim=1 → dim=2
    The class token is joined along the last axis, the channels. It is one more token: dim=1.
one_for_each_patch: .expand(len(tokens), -1, -1) → .expand(len(tokens), tokens.shape[1], -1)
    There are as many class tokens as patches, N of them in front of each image. There should be
    one: expand to (B, 1, D).
kept_from_the_first_batch: cls = self.cls_token.expand(len(tokens), -1, -1)
→ if not hasattr(self, "cls"):
→     self.cls = self.cls_token.expand(len(tokens), -1, -1)
and: [cls, → [self.cls,
kept_from_the_first_batch_and_cut: cls = self.cls_token.expand(len(tokens), -1, -1)
→ if not hasattr(self, "cls"):
→     self.cls = self.cls_token.expand(len(tokens), -1, -1)
and: [cls, → [self.cls[: len(tokens)],
kept_from_the_first_batch_as_a_copy: cls = self.cls_token.expand(len(tokens), -1, -1)
→ if getattr(self, "cls", None) is None or len(self.cls) != len(tokens):
→     self.cls = self.cls_token.repeat(len(tokens), 1, 1)
and: [cls, → [self.cls,
    The class token is expanded once, for the first batch, and kept. It does not fit a batch of
    another size, and a copy does not follow when training changes the class token. Expand it anew
    in every forward.
parameter_replaced: cls = self.cls_token.expand(len(tokens), -1, -1)
→ cls = self.cls_token = nn.Parameter(self.cls_token[:1].expand(len(tokens), -1, -1))
    forward puts a new Parameter in the place of the class token, as large as the batch. The
    optimiser holds the old one. Expand under another name: cls = self.cls_token.expand(...).
in_front_and_added: [cls, tokens] → [cls, tokens + cls]
    The class token is put in front, and added to every patch token as well. In front is enough.
twice: [cls, tokens] → [cls, cls, tokens]
    The class token stands there twice. (B, 1 + N, D) comes back.
at_both_ends: [cls, tokens] → [cls, tokens, cls]
    The class token stands at both ends. It should be in front only: (B, 1 + N, D) comes back.
alone: [cls, tokens] → [cls]
    Only the class token comes back, without the patches. Join both: torch.cat([cls, tokens],
    dim=1).
first_image_only: [cls, tokens] → [cls[:1], tokens[:1]]
    Only the first image comes back. Expand the class token to the batch, (B, 1, D), and join it to
    all of them.
added_to_the_first_patch: return → tokens = tokens.clone()
→ tokens[:, 0] = tokens[:, 0] + cls[:, 0]
→ return tokens
→ return
    The class token is added to the first patch. It should be a token of its own, joined in front:
    (B, 1 + N, D) comes back.
written_into_the_tokens: return torch.cat([cls, tokens], dim=1) → tokens[:, :1] = cls
→ return tokens
    Your code writes into the tokens that it is given, and so into the caller's tensor. Make a new
    one: torch.cat([cls, tokens], dim=1).
backwards: torch.cat([cls, tokens], dim=1) → torch.cat([tokens, cls], dim=1).flip(1)
    The tokens run backwards. The class token is in front, but behind it the patches should keep
    their order.
more_is_learned: 1, 1, dim → 1, 2, dim
    The module learns more than one vector of `dim` numbers. That vector is all: one nn.Parameter of
    shape (1, 1, dim). Neither a layer nor positions belong to it.
less_is_learned: 1, 1, dim → 1, 1, 1
    The module learns fewer than `dim` numbers. The class token is a whole vector: (1, 1, dim), with
    a number for each channel.
scaled: [cls → [0.02 * cls
    The class token is scaled in forward. Put it in front as it is; how large it starts is decided
    once, in __init__.
transposed: dim=1) → dim=1).transpose(1, 2)
    The last two axes are swapped: (B, D, 1 + N) comes back. It should be (B, 1 + N, D).
not_joined: torch.cat([cls, tokens], dim=1) → (cls, tokens)
    Class token and patches come back side by side, as a tuple. Join them to one tensor: torch.cat
    along dim=1.
a_list_of_images: torch.cat([cls, tokens], dim=1) → list(torch.cat([cls, tokens], dim=1))
    A list comes back, not a tensor. torch.stack makes one tensor of a list of images.
fixed_batch: len(tokens) → 2
    The class token is expanded to a fixed number of images. Take it from the tokens: len(tokens).
in_place_of_the_last_patch: [cls, tokens] → [cls, tokens[:, :-1]]
    The last patch is lost. The class token is one more token: (B, 1 + N, D) comes back.
averaged: dim=1) → dim=1).mean(dim=1)
    The tokens are averaged to one. All come back, (B, 1 + N, D); what reads them comes later.
stacked: torch.cat([cls, tokens], dim=1) → torch.stack([cls.expand(tokens.shape), tokens], dim=1)
    torch.stack makes a new axis. The class token is one more token on an axis that is there:
    torch.cat along dim=1.
nothing_returned: return torch → torch
    The result is computed and not returned. The last line needs `return`.
""")  # fmt: skip


def probe(answer):
    run = [forward(answer, (4,), draw(n, 3, 4)) for n in (1, 2, 5)]
    return [*run, learned(answer, 4), parameter_gradients(answer, (4,), draw(2, 3, 4))]


EXERCISE = Exercise(
    name="class_token",
    chapter="02_tokens",
    task="ClassToken(dim), a module with one learned vector: tokens (B, N, D) -> (B, 1 + N, D), "
    "the same class token in front of every image, whatever B is; how it starts is free",
    reference=ClassToken,
    cases=cases,
    mutants=MUTANTS,
    accepted=[AsRow, ByEmbedding],
    probe=probe,
)
