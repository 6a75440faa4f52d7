"""2.2 PositionEmbedding: a vector that looks learned and is not."""

from math import log

import torch
from torch import nn

from vitlib.check.ch02_tokens._observing import amount, filled, gradient
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers
from vitlib.check.probing import draw, forward, parameter_gradients, refuses


class PositionEmbedding(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, num_tokens, dim))

    def forward(self, tokens):
        return tokens + self.pos_embed


class ByLookUp(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.table = nn.Embedding(num_tokens, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens):
        return tokens + self.table(torch.arange(self.table.num_embeddings))


class ByLoop(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        rows = [nn.init.trunc_normal_(torch.empty(dim), std=0.02) for _ in range(num_tokens)]
        self.rows = nn.ParameterList(rows)

    def forward(self, tokens):
        pairs = zip(tokens.unbind(1), self.rows, strict=True)
        return torch.stack([token + row for token, row in pairs], dim=1)


def start_of(module):
    """How large the learned numbers are before training, in words."""
    values = torch.cat([p.detach().flatten() for p in module.parameters()])
    mean, std = values.mean().item(), values.std().item()
    if std == 0:
        return "all equal"
    if abs(mean) > 0.2 * std:
        return "not around 0"
    named = next((s for s in (0.02, 1.0) if abs(std / s - 1) < 0.15), None)
    return f"around 0, with a deviation near {named or float(f'{std:.1g}')}"


def cases(answer) -> Cases:
    def add(module):
        return call(module, numbers(2, 6, 5))

    def add_to_fewer(module):
        try:
            module(numbers(2, 4, 5))
        except Exception:
            return "refused"
        return "accepted"

    def start():
        large = build(answer, 60, 64)
        learned = amount(large, 60 * 64)
        return start_of(large) if learned == f"{60 * 64} learned numbers" else learned

    def saved():
        return "saved" if build(answer, 6, 5).state_dict() else "not saved"

    def the_gradient():
        return filled(answer, (6, 5), lambda module: gradient(module, numbers(2, 6, 5)))

    yield "what PositionEmbedding(6, 5) learns", lambda: amount(build(answer, 6, 5), 30)
    yield "whether it is saved with the model", saved
    yield "2 × 6 tokens, D = 5", lambda: filled(answer, (6, 5), add)
    yield "the numbers that it starts from", start
    yield "the gradient that reaches the positions", the_gradient
    yield "4 tokens where there are 6 positions", lambda: filled(answer, (6, 5), add_to_fewer)


MUTANTS = edits(PositionEmbedding, """
plain_tensor: nn.Parameter →
    The positions are a plain tensor. They are added, so the shapes and even the losses look well,
    but they are not among the parameters: no optimiser changes them, and they are not saved. List
    your module's parameters() and see. (What comes of arithmetic on a Parameter is a plain tensor
    again.)
buffer: self.pos_embed = nn.Parameter( → self.register_buffer("pos_embed",
    The positions are a buffer. That is right for fixed ones, such as sin-cos: a buffer is saved and
    moved with the model, but never trained. Learned ones need nn.Parameter.
deviation_of_one: 0.02 * →
    The positions start with deviation 1, fifty times what ViT, DeiT and timm take. That can drown
    what the patches say, or help, as this chapter measures; it is another model to begin with.
    Scale torch.randn by 0.02, or use nn.init.trunc_normal_.
zeros: 0.02 * torch.randn → torch.zeros
    The positions start at zero, all the same. They would part in training, but the start asked for
    is a normal one with deviation 0.02.
uniform: 0.02 * torch.randn → torch.rand
    torch.rand gives numbers between 0 and 1: all positive, so that every position points the same
    way at first. You want torch.randn, times 0.02.
sliced: + self.pos_embed → + self.pos_embed[:, : tokens.shape[1]]
    Fewer tokens are accepted, and get the first positions in reading order. For a smaller image
    that is wrong from the second row of patches on, and nothing says so. Let it fail here, and
    resample the grid where another size is wanted.
deviation_of_one_and_sliced: 0.02 * →
and: + self.pos_embed → + self.pos_embed[:, : tokens.shape[1]]
    The positions are learned now. Two things are left: they start with deviation 1 instead of 0.02,
    and the slice accepts fewer tokens, which gives the patches of a smaller image the positions of
    other places.
detached: + self.pos_embed → + self.pos_embed.detach()
    The numbers are right, but no gradient reaches the positions, and they stay as they started.
    Look for .data, .detach(), requires_grad=False or torch.no_grad().
scaled_in_forward: 0.02 * →
and: + self.pos_embed → + 0.02 * self.pos_embed
    The positions are scaled in forward, at every call. What is learned then starts with deviation 1
    and is not what is added. Scale once, in __init__, before nn.Parameter.
multiplied: tokens + → tokens *
    The tokens are multiplied by the positions. With numbers near 0.02 that nearly wipes them out.
    Positions are added.
""")  # fmt: skip


def probe(answer):
    def start():
        """Coarse, since two honest draws differ."""
        values = torch.cat([p.detach().flatten() for p in answer(70, 50).parameters()]).double()
        mean, deviation = values.mean().item(), values.std().item()
        if deviation < 1e-12:
            return "constant"
        return round(log(deviation, 1.5)), abs(mean) > 0.2 * deviation

    return [
        forward(answer, (3, 4), draw(2, 3, 4)),
        forward(answer, (3, 4), draw(1, 3, 4)),
        parameter_gradients(answer, (3, 4), draw(2, 3, 4)),
        lambda: sum(p.numel() for p in answer(3, 4).parameters()),
        lambda: sum(v.numel() for v in answer(3, 4).state_dict().values()),
        start,
        *[refuses(lambda n=n: answer(5, 4)(torch.zeros(2, n, 4))) for n in (2, 4, 7)],
    ]


EXERCISE = Exercise(
    name="position_embedding",
    chapter="02_tokens",
    task="PositionEmbedding(num_tokens, dim), a module: adds one learned vector to each token of "
    "(B, num_tokens, dim), the same for every image; started normal with deviation 0.02; another "
    "number of tokens is an error",
    reference=PositionEmbedding,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByLookUp, ByLoop],
    probe=probe,
)
