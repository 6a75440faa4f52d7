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

    yield "what ClassToken(5) learns", lambda: amount(build(answer, 5), 5)
    yield "2 images of 4 tokens, D = 5", lambda: join(2)
    yield "3 images of 4 tokens, D = 5", lambda: join(3)  # one token for each would not fit
    yield "one image of 4 tokens", lambda: join(1)
    yield "the gradient that reaches the class token", the_gradient


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
""")  # fmt: skip


def probe(answer):
    run = [forward(answer, (4,), draw(n, 3, 4)) for n in (1, 2, 5)]
    return [*run, learned(answer, 4), parameter_gradients(answer, (4,), draw(2, 3, 4))]


EXERCISE = Exercise(
    name="class_token",
    chapter="02_tokens",
    task="ClassToken(dim), a module with one learned vector: tokens (B, N, D) -> (B, 1 + N, D), "
    "the same class token in front of every image, whatever B is",
    reference=ClassToken,
    cases=cases,
    mutants=MUTANTS,
    accepted=[AsRow, ByEmbedding],
    probe=probe,
)
