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
        return "all equal" if mean else "all zero"
    if values.unique().numel() <= 20:  # of 80 times 20
        return "the same for every token"
    if abs(mean) > 0.2 * std:
        return "not around 0"
    if (values - mean).abs().max() < 1.8 * std:
        return "evenly spread around 0, not normal"
    for named in (0.02, 1.0):
        if abs(std / named - 1) < 0.17:
            return f"around 0, with a deviation near {named}"
    return f"around 0, with a deviation {'larger' if std > 0.02 else 'smaller'} than 0.02"


def cases(answer) -> Cases:
    def add(module):
        return call(module, numbers(2, 6, 5))

    def add_to(number):
        def run(module):
            try:
                module(numbers(2, number, 5))
            except Exception:
                return "refused"
            return "accepted"

        return run

    def start():  # of a size at which none of the usual other starts comes near 0.02
        large = build(answer, 80, 20)
        learned = amount(large, 1600)
        return start_of(large) if learned == "1600 learned numbers" else learned

    def saved():
        return "saved" if build(answer, 6, 5).state_dict() else "not saved"

    def the_gradient():
        return filled(answer, (6, 5), lambda module: gradient(module, numbers(2, 6, 5)))

    yield "what PositionEmbedding(6, 5) learns", lambda: amount(build(answer, 6, 5), 30)
    yield "whether it is saved with the model", saved
    yield "2 × 6 tokens, D = 5", lambda: filled(answer, (6, 5), add)
    yield "the numbers that it starts from", start
    yield "the gradient that reaches the positions", the_gradient
    yield "4 tokens where there are 6 positions", lambda: filled(answer, (6, 5), add_to(4))
    yield "8 tokens where there are 6 positions", lambda: filled(answer, (6, 5), add_to(8))


MUTANTS = edits(PositionEmbedding, """
plain_tensor: nn.Parameter →
    The positions are not among the module's parameters. They are added, so the shapes are right and
    the loss may even fall, but no optimiser changes them, and they are not saved with the model. A
    plain tensor, a Python list of Parameters, a buffer with persistent=False, or arithmetic on a
    Parameter is not enough: set self.pos_embed = nn.Parameter(...), with the whole calculation
    inside.
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
constant: 0.02 * torch.randn(1, num_tokens, dim) → torch.full((1, num_tokens, dim), 0.02)
    All positions start with the same number. The start asked for is a normal one: random numbers
    around 0 with deviation 0.02.
alike_for_all_tokens: torch.randn(1, num_tokens, dim) →
→ torch.randn(1, 1, dim).repeat(1, num_tokens, 1)
    All tokens start with the same vector, so that positions tell nothing apart at first. Each needs
    random numbers of its own: torch.randn(1, num_tokens, dim), times 0.02.
uniform: 0.02 * torch.randn → torch.rand
    The positions do not start around 0. (torch.rand gives numbers between 0 and 1, so that every
    position points the same way at first.) You want torch.randn, times 0.02.
uniform_around_zero: 0.02 * torch.randn(1, num_tokens, dim) →
→ 0.04 * (torch.rand(1, num_tokens, dim) - 0.5)
    The positions start evenly spread over an interval, as from uniform_, xavier_uniform_ or
    kaiming_uniform_. The start asked for is a normal distribution with deviation 0.02: torch.randn,
    times 0.02, or nn.init.trunc_normal_(..., std=0.02).
larger_deviation: 0.02 * → 0.02**0.5 *
    The positions start around 0, but with a larger deviation than 0.02. Multiply torch.randn, whose
    deviation is 1, by 0.02 itself: not by its root, which belongs to a variance, and not by a
    number made from the width.
smaller_deviation: 0.02 * → 0.02**2 *
    The positions start around 0, but with a smaller deviation than 0.02. Multiply torch.randn,
    whose deviation is 1, by 0.02 once, and not by its square or by a number made from the sizes.
sliced: + self.pos_embed → + self.pos_embed[:, : tokens.shape[1]]
    Fewer tokens are accepted, and get the first positions in reading order. For a smaller image
    that is wrong from the second row of patches on, and nothing says so. Let it fail here, and
    resample the grid where another size is wanted.
more_are_accepted: tokens + → tokens[:, : self.pos_embed.shape[1]] +
    More tokens than positions are accepted, and nothing says so. Any other number of tokens must be
    an error, whether fewer or more: tokens + self.pos_embed raises one by itself.
any_number_is_accepted: tokens + self.pos_embed →
→ tokens[:, : self.pos_embed.shape[1]] + self.pos_embed[:, : tokens.shape[1]]
    Any number of tokens is accepted, fewer than there are positions as well as more. Both must be
    an error (and an error is raised, not printed or returned): tokens + self.pos_embed raises one
    by itself.
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
subtracted: tokens + → tokens -
    The positions are subtracted. They are learned, so training could turn them round, but it is an
    addition that is asked for.
only_positions: tokens + self.pos_embed → self.pos_embed.expand(len(tokens), -1, -1)
only_positions_for_one_image: tokens + self.pos_embed → self.pos_embed
    Only the positions come back, and the tokens are lost. Return tokens + self.pos_embed.
nothing_added: tokens + self.pos_embed → tokens
    The tokens come back as they were: the positions are learned, but not added.
joined_as_channels: tokens + self.pos_embed →
→ torch.cat([tokens, self.pos_embed.expand(len(tokens), -1, -1)], dim=2)
    The positions are joined to the tokens as further channels, and the width doubles. They are
    added: tokens + self.pos_embed.
joined_as_tokens: tokens + self.pos_embed →
→ torch.cat([self.pos_embed.expand(len(tokens), -1, -1), tokens], dim=1)
joined_as_tokens_behind: tokens + self.pos_embed →
→ torch.cat([tokens, self.pos_embed.expand(len(tokens), -1, -1)], dim=1)
    The positions are joined to the tokens as further tokens. They are added: tokens +
    self.pos_embed.
first_position_for_all: + self.pos_embed → + self.pos_embed[:, :1]
    Every token gets the first position. Each has its own: add the whole of self.pos_embed.
added_twice: + self.pos_embed → + 2 * self.pos_embed
    The positions are added twice. Once is enough.
in_place: return tokens + self.pos_embed → tokens += self.pos_embed
→ return tokens
    Your code changes the tokens that it is given, and the caller's tensor with them. Make a new
    one: tokens + self.pos_embed.
nothing_returned: return tokens → tokens
    The result is computed and not returned. The last line needs `return`.
one_for_each_image: (1, num_tokens, dim) → (2, num_tokens, dim)
    There is a set of positions for each image of a batch, and another batch size does not fit. All
    images share theirs: (1, num_tokens, dim), which broadcasts.
more_is_learned: (1, num_tokens, dim) → (1, num_tokens + 1, dim)
    More is learned than num_tokens vectors of dim numbers. There is no further row for a class
    token, which is among the num_tokens, and no other layer: (1, num_tokens, dim).
less_is_learned: (1, num_tokens, dim) → (1, 1, dim)
    Fewer numbers are learned than num_tokens times dim. Every token has a vector of its own, and a
    vector has dim numbers: (1, num_tokens, dim).
axes_swapped: (1, num_tokens, dim) → (1, dim, num_tokens)
    Tokens and channels are swapped: the positions are (1, dim, num_tokens). They should lie as the
    tokens do, (1, num_tokens, dim).
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
    "number of tokens is an error of any kind, but a single one may pass",
    reference=PositionEmbedding,
    cases=cases,
    mutants=MUTANTS,
    accepted=[ByLookUp, ByLoop],
    probe=probe,
)
