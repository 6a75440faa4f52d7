"""Chapter 2, class token and positions: exercises, their right answers, their usual mistakes."""

from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import vitlib
from vitlib.check.exercise import Cases, Exercise, build, call, numbers


def _single(result):
    """Tables may come in float32 or float64: both are right."""
    return result.float() if isinstance(result, Tensor) else result


def _amount(module, needed):
    """How much a module learns, in words: from what it starts, or in how many pieces, is free."""
    learned = sum(p.numel() for p in module.parameters())
    if learned in (0, needed):
        return f"{learned or 'no'} learned numbers"
    if any(p.ndim == 3 and p.shape[0] > 1 for p in module.parameters()):
        return "learned numbers for each image of a batch"
    return f"{'more' if learned > needed else 'fewer'} than {needed} learned numbers"


def _filled(answer, sizes, run):
    """run(module), with random weights; if the module learns something else, only that it does."""
    module = build(answer, *sizes).double()
    amount = _amount(module, prod(sizes))
    if amount != f"{prod(sizes)} learned numbers":
        return amount
    nn.utils.vector_to_parameters(numbers(prod(sizes), seed=5), module.parameters())
    return run(module)


def _gradient(module, tokens):
    """The gradient that one weighted sum of the module's output sends to what it learns."""
    out = module(tokens)
    if out.requires_grad:
        (out * numbers(*out.shape, seed=7)).sum().backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
    return torch.cat([grad.flatten() for grad in grads])


def _gradients(function, given, *more):
    """The gradients that one weighted sum of function(*given, *more) sends to the given tensors."""
    given = [part.requires_grad_() for part in given]
    out = (function() if isinstance(function, type) else function)(*given, *more)
    if out.requires_grad:
        (out * numbers(*out.shape, seed=7)).sum().backward()
    return [torch.zeros_like(part) if part.grad is None else part.grad for part in given]


# --- 2.1 ClassToken: one for all images, learned, in front


class _ClassToken(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, tokens):
        return torch.cat([self.token().expand(len(tokens), -1, -1), tokens], dim=1)

    def token(self):
        return self.cls_token


class _ClassTokenAsRow(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.row = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, tokens):
        return torch.stack([torch.vstack([self.row, image]) for image in tokens])


class _ClassTokenByEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.token = nn.Embedding(1, dim)

    def forward(self, tokens):
        index = torch.zeros(len(tokens), 1, dtype=torch.long)
        return torch.cat([self.token(index), tokens], dim=1)


class _OneForEachImage(_ClassToken):
    def __init__(self, dim):
        super().__init__(dim)
        self.cls_token = nn.Parameter(torch.zeros(2, 1, dim))


class _PlainClassToken(_ClassToken):
    def __init__(self, dim):
        super().__init__(dim)
        del self.cls_token
        self.cls_token = torch.zeros(1, 1, dim)


class _ClassTokenLast(_ClassToken):
    def forward(self, tokens):
        return torch.cat([tokens, self.cls_token.expand(len(tokens), -1, -1)], dim=1)


class _ClassTokenInPlaceOfThePatch(_ClassToken):
    def forward(self, tokens):
        return super().forward(tokens[:, 1:])


class _ClassTokenAdded(_ClassToken):
    def forward(self, tokens):
        return tokens + self.cls_token


class _ClassTokenDetached(_ClassToken):
    def token(self):
        return self.cls_token.detach()


def _class_token_cases(answer) -> Cases:
    def join(images):
        return _filled(answer, (5,), lambda module: call(module, numbers(images, 4, 5)))

    yield "what ClassToken(5) learns", lambda: _amount(build(answer, 5), 5)
    yield "2 images of 4 tokens, D = 5", lambda: join(2)
    yield "3 images of 4 tokens, D = 5", lambda: join(3)  # one token for each would not fit
    yield "one image of 4 tokens", lambda: join(1)
    yield (
        "the gradient that reaches the class token",
        (lambda: _filled(answer, (5,), lambda module: _gradient(module, numbers(3, 4, 5)))),
    )


class_token = Exercise(
    name="class_token",
    chapter="02_tokens",
    task="ClassToken(dim), a module with one learned vector: tokens (B, N, D) -> (B, 1 + N, D), "
    "the same class token in front of every image, whatever B is",
    reference=_ClassToken,
    cases=_class_token_cases,
    mutants={
        "one_for_each_image": (
            _OneForEachImage,
            "There is one class token for each image of the batch. So what an image gets depends "
            "on its row in the batch, and another batch size does not fit. Learn one vector, "
            "(1, 1, D), and expand it to the batch in forward.",
        ),
        "plain_tensor": (
            _PlainClassToken,
            "The class token is not among the module's parameters, so no optimiser ever changes "
            "it. A plain tensor, a buffer, a list, or a Parameter made in forward is not enough: "
            "in __init__, set self.something = nn.Parameter(...).",
        ),
        "joined_at_the_end": (
            _ClassTokenLast,
            "The class token stands behind the patches. A head that reads token 0 then reads the "
            "first patch, with the right shape and no error. Put it first in torch.cat.",
        ),
        "in_place_of_a_patch": (
            _ClassTokenInPlaceOfThePatch,
            "The class token replaces the first patch, and that corner of the image is lost. It is "
            "one more token: (B, 1 + N, D) comes back.",
        ),
        "added": (
            _ClassTokenAdded,
            "The class token is added to every patch token. It should be a token of its own, "
            "joined along the second axis: torch.cat(..., dim=1).",
        ),
        "detached": (
            _ClassTokenDetached,
            "The numbers are right, but no gradient reaches the class token, and it stays as it "
            "started. Look for .data, .detach(), requires_grad=False or torch.tensor(...).",
        ),
    },
    accepted=[_ClassTokenAsRow, _ClassTokenByEmbedding],
)

# --- 2.2 PositionEmbedding: a vector that looks learned and is not


class _PositionEmbedding(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.pos_embed = nn.Parameter(self.start(num_tokens, dim))

    def start(self, *shape):
        return nn.init.trunc_normal_(torch.empty(1, *shape), std=0.02)

    def forward(self, tokens):
        return tokens + self.pos_embed


class _PositionsByLookUp(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.table = nn.Embedding(num_tokens, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens):
        return tokens + self.table(torch.arange(self.table.num_embeddings))


class _PositionsByLoop(nn.Module):
    def __init__(self, num_tokens, dim):
        super().__init__()
        self.rows = nn.ParameterList([torch.randn(dim) * 0.02 for _ in range(num_tokens)])

    def forward(self, tokens):
        pairs = zip(tokens.unbind(1), self.rows, strict=True)
        return torch.stack([token + row for token, row in pairs], dim=1)


class _PlainPositions(_PositionEmbedding):
    def __init__(self, num_tokens, dim):
        super().__init__(num_tokens, dim)
        del self.pos_embed
        self.pos_embed = torch.randn(1, num_tokens, dim)


class _BufferedPositions(_PositionEmbedding):
    def __init__(self, num_tokens, dim):
        super().__init__(num_tokens, dim)
        del self.pos_embed
        self.register_buffer("pos_embed", self.start(num_tokens, dim))


class _LargePositions(_PositionEmbedding):
    def start(self, *shape):
        return torch.randn(1, *shape)


class _ZeroPositions(_PositionEmbedding):
    def start(self, *shape):
        return torch.zeros(1, *shape)


class _PositivePositions(_PositionEmbedding):
    def start(self, *shape):
        return torch.rand(1, *shape)


class _SlicedPositions(_PositionEmbedding):
    def forward(self, tokens):
        return tokens + self.pos_embed[:, : tokens.shape[1]]


class _LargeSlicedPositions(_LargePositions, _SlicedPositions):
    """What is left of the exercise's stub when only nn.Parameter was mended."""


class _DetachedPositions(_PositionEmbedding):
    def forward(self, tokens):
        return tokens + self.pos_embed.detach()


class _PositionsScaledInForward(_LargePositions):
    def forward(self, tokens):
        return tokens + 0.02 * self.pos_embed


class _MultipliedPositions(_PositionEmbedding):
    def forward(self, tokens):
        return tokens * self.pos_embed


def _start(module):
    """How large the learned numbers are before training, in words."""
    values = torch.cat([p.detach().flatten() for p in module.parameters()])
    mean, std = values.mean().item(), values.std().item()
    if std == 0:
        return "all equal"
    if abs(mean) > 0.2 * std:
        return "not around 0"
    named = next((s for s in (0.02, 1.0) if abs(std / s - 1) < 0.15), None)
    return f"around 0, with a deviation near {named or float(f'{std:.1g}')}"


def _position_embedding_cases(answer) -> Cases:
    def add(module):
        return call(module, numbers(2, 6, 5))

    def add_to_fewer(module):
        try:
            module(numbers(2, 4, 5))
        except Exception:
            return "refused"
        return "accepted"

    def start(large):
        amount = _amount(large, 60 * 64)
        return _start(large) if amount == f"{60 * 64} learned numbers" else amount

    yield "what PositionEmbedding(6, 5) learns", lambda: _amount(build(answer, 6, 5), 30)
    yield (
        "whether it is saved with the model",
        (lambda: "saved" if build(answer, 6, 5).state_dict() else "not saved"),
    )
    yield "2 × 6 tokens, D = 5", lambda: _filled(answer, (6, 5), add)
    yield "the numbers that it starts from", lambda: start(build(answer, 60, 64))
    yield (
        "the gradient that reaches the positions",
        (lambda: _filled(answer, (6, 5), lambda module: _gradient(module, numbers(2, 6, 5)))),
    )
    yield "4 tokens where there are 6 positions", lambda: _filled(answer, (6, 5), add_to_fewer)


position_embedding = Exercise(
    name="position_embedding",
    chapter="02_tokens",
    task="PositionEmbedding(num_tokens, dim), a module: adds one learned vector to each token of "
    "(B, num_tokens, dim), the same for every image; started normal with deviation 0.02; another "
    "number of tokens is an error",
    reference=_PositionEmbedding,
    cases=_position_embedding_cases,
    mutants={
        "plain_tensor": (
            _PlainPositions,
            "The positions are a plain tensor. They are added, so the shapes and even the losses "
            "look well, but they are not among the parameters: no optimiser changes them, and "
            "they are not saved. List your module's parameters() and see. (What comes of "
            "arithmetic on a Parameter is a plain tensor again.)",
        ),
        "buffer": (
            _BufferedPositions,
            "The positions are a buffer. That is right for fixed ones, such as sin-cos: a buffer "
            "is saved and moved with the model, but never trained. Learned ones need "
            "nn.Parameter.",
        ),
        "deviation_of_one": (
            _LargePositions,
            "The positions start with deviation 1, fifty times what ViT, DeiT and timm take. That "
            "can drown what the patches say, or help, as this chapter measures; it is another "
            "model to begin with. Scale torch.randn by 0.02, or use nn.init.trunc_normal_.",
        ),
        "zeros": (
            _ZeroPositions,
            "The positions start at zero, all the same. They would part in training, but the start "
            "asked for is a normal one with deviation 0.02.",
        ),
        "uniform": (
            _PositivePositions,
            "torch.rand gives numbers between 0 and 1: all positive, so that every position points "
            "the same way at first. You want torch.randn, times 0.02.",
        ),
        "sliced": (
            _SlicedPositions,
            "Fewer tokens are accepted, and get the first positions in reading order. For a "
            "smaller image that is wrong from the second row of patches on, and nothing says so. "
            "Let it fail here, and resample the grid where another size is wanted.",
        ),
        "deviation_of_one_and_sliced": (
            _LargeSlicedPositions,
            "The positions are learned now. Two things are left: they start with deviation 1 "
            "instead of 0.02, and the slice accepts fewer tokens, which gives the patches of a "
            "smaller image the positions of other places.",
        ),
        "detached": (
            _DetachedPositions,
            "The numbers are right, but no gradient reaches the positions, and they stay as they "
            "started. Look for .data, .detach(), requires_grad=False or torch.no_grad().",
        ),
        "scaled_in_forward": (
            _PositionsScaledInForward,
            "The positions are scaled in forward, at every call. What is learned then starts with "
            "deviation 1 and is not what is added. Scale once, in __init__, before nn.Parameter.",
        ),
        "multiplied": (
            _MultipliedPositions,
            "The tokens are multiplied by the positions. With numbers near 0.02 that nearly wipes "
            "them out. Positions are added.",
        ),
    },
    accepted=[_PositionsByLookUp, _PositionsByLoop],
)

# --- 2.3 assemble_tokens: class, registers, patches, and then the positions of all of them


def _assemble(patch_tokens, cls_token, reg_tokens, pos_embed):
    return _join(patch_tokens, cls_token, reg_tokens, patch_tokens) + pos_embed


def _join(like, *parts):
    return torch.cat([part.expand(len(like), -1, -1) for part in parts], dim=1)


def _assemble_by_parts(patch_tokens, cls_token, reg_tokens, pos_embed):
    prefix = torch.cat([cls_token, reg_tokens], dim=1)  # (1, 1 + R, D)
    count = prefix.shape[1]
    prefix = (prefix + pos_embed[:, :count]).repeat(len(patch_tokens), 1, 1)
    return torch.cat([prefix, patch_tokens + pos_embed[:, count:]], dim=1)


def _assemble_by_loop(patch_tokens, cls_token, reg_tokens, pos_embed):
    images = [torch.vstack([cls_token[0], reg_tokens[0], x]) for x in patch_tokens]
    return torch.stack([image + pos_embed[0] for image in images])


def _assemble_no_prefix_positions(patch_tokens, cls_token, reg_tokens, pos_embed):
    patch_tokens = patch_tokens + pos_embed[:, 1 + reg_tokens.shape[1] :]
    return _join(patch_tokens, cls_token, reg_tokens, patch_tokens)


def _assemble_shifted(patch_tokens, cls_token, reg_tokens, pos_embed):
    patch_tokens = patch_tokens + pos_embed[:, : patch_tokens.shape[1]]
    return _join(patch_tokens, cls_token, reg_tokens, patch_tokens)


def _assemble_no_register_positions(patch_tokens, cls_token, reg_tokens, pos_embed):
    pos_embed = pos_embed.clone()
    pos_embed[:, 1 : 1 + reg_tokens.shape[1]] = 0
    return _assemble(patch_tokens, cls_token, reg_tokens, pos_embed)


def _assemble_cases(answer) -> Cases:
    def parts(images, patches, registers, dim=5):
        return (
            numbers(images, patches, dim, seed=1),
            numbers(1, 1, dim, seed=2),
            numbers(1, registers, dim, seed=3),
            numbers(1, 1 + registers + patches, dim, seed=4),
        )

    def gradients():
        given = parts(3, 4, 2)
        names = ("patch_tokens", "cls_token", "reg_tokens", "pos_embed")
        return dict(zip(names, _gradients(answer, given), strict=True))

    yield "3 images of 4 patches, 2 registers, D = 5", lambda: call(answer, *parts(3, 4, 2))
    yield "one image of 6 patches, 3 registers", lambda: call(answer, *parts(1, 6, 3))
    yield "2 images of 4 patches, no registers", lambda: call(answer, *parts(2, 4, 0))
    yield "the gradients that reach the four inputs", gradients


assemble_tokens = Exercise(
    name="assemble_tokens",
    chapter="02_tokens",
    task="assemble_tokens(patch_tokens, cls_token, reg_tokens, pos_embed) -> (B, 1 + R + N, D): "
    "class token, registers, patches, in this order, and a position for every one of them",
    reference=_assemble,
    cases=_assemble_cases,
    mutants={
        "class_token_last": (
            lambda x, c, r, p: _join(x, r, x, c) + p,
            "The class token stands at the end. The head reads token 0, which is now a register or "
            "a patch, and nothing complains. Put the class token first.",
        ),
        "registers_last": (
            lambda x, c, r, p: _join(x, c, x, r) + p,
            "The registers stand behind the patches, so the first patches get the registers' "
            "positions. The order is class, registers, patches.",
        ),
        "registers_first": (
            lambda x, c, r, p: _join(x, r, c, x) + p,
            "The registers stand in front of the class token, and the head, which reads token 0, "
            "reads a register. The order is class, registers, patches.",
        ),
        "positions_before_joining": (
            _assemble_no_prefix_positions,
            "The positions are added to the patches before the other tokens are joined, so the "
            "class token and the registers get none. Join first, then add all of pos_embed.",
        ),
        "positions_shifted": (
            _assemble_shifted,
            "The patches get the first N positions, which belong to the class token and the "
            "registers: every patch wears the position of another. Join first, then add.",
        ),
        "registers_without_positions": (
            _assemble_no_register_positions,
            "The registers get no position. Some models do it so, but here pos_embed has a row for "
            "every token: add it whole, after joining.",
        ),
        "patch_positions_twice": (
            lambda x, c, r, p: _assemble(x + p[:, 1 + r.shape[1] :], c, r, p),
            "The patches get their positions twice, before joining and after it. Add pos_embed "
            "once, when all tokens are joined.",
        ),
        "detached": (
            lambda x, c, r, p: _assemble(x, c.detach(), r.detach(), p.detach()),
            "The numbers are right, but what is learned here gets no gradient. Look for .data, "
            ".detach(), torch.no_grad() or torch.tensor(...).",
        ),
        "no_positions": (
            lambda x, c, r, p: _join(x, c, r, x),
            "The tokens are joined in the right order, but no position is added: a model that gets "
            "these cannot tell one order of the patches from another.",
        ),
    },
    accepted=[_assemble_by_parts, _assemble_by_loop],
)

# --- 2.4 sincos_1d: sine and cosine in turn, as in the first Transformer


def _sincos_1d(length, dim, exponent=2.0, first=0):
    k = torch.arange(dim // 2, dtype=torch.float64)
    omega = 10_000.0 ** (-exponent * k / dim)
    angles = torch.arange(first, first + length)[:, None] * omega  # (length, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _sincos_1d_by_slices(length, dim):
    table = torch.zeros(length, dim)
    omega = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.outer(torch.arange(length).float(), omega)
    table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
    return table


def _sincos_1d_by_loop(length, dim):
    place = torch.arange(length, dtype=torch.float64)
    columns = []
    for i in range(dim // 2):
        angle = place / 10_000 ** (2 * i / dim)
        columns += [angle.sin(), angle.cos()]
    return torch.stack(columns, dim=1)


def _sincos_1d_each_channel(length, dim, factor=1.0):
    channel = torch.arange(dim, dtype=torch.float64)
    angles = torch.arange(length)[:, None] * 10_000.0 ** (-factor * channel / dim)
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos())


def _in_halves(table):
    return torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)


def _cosine_first(table):
    return table.unflatten(1, (-1, 2)).flip(2).flatten(1)


def _sincos_1d_cases(answer) -> Cases:
    yield "6 positions, D = 8", lambda: _single(call(answer, 6, 8))
    yield "50 positions, D = 12", lambda: _single(call(answer, 50, 12))
    yield "one position, D = 4", lambda: _single(call(answer, 1, 4))


sincos_1d = Exercise(
    name="sincos_1d",
    chapter="02_tokens",
    task="sincos_1d(length, dim) -> (length, dim): sine in the even channels and cosine in the odd "
    "ones, sin(pos / 10000^(2i/dim)) in channel 2i",
    reference=lambda length, dim: _sincos_1d(length, dim).float(),
    cases=_sincos_1d_cases,
    mutants={
        "in_halves": (
            lambda length, dim: _in_halves(_sincos_1d(length, dim)),
            "All sines come first and all cosines after them. The numbers are the right ones, and "
            "it is vitlib's order; asked for is the older one, sine and cosine in turn. Stack them "
            "along a new last axis and flatten, or write into table[:, 0::2] and table[:, 1::2].",
        ),
        "cosine_first": (
            lambda length, dim: _cosine_first(_sincos_1d(length, dim)),
            "Sine and cosine are swapped: channel 0 is a sine, which is 0 at position 0.",
        ),
        "frequencies_fall_too_slowly": (
            lambda length, dim: _sincos_1d(length, dim, exponent=1.0),
            "The frequencies fall half as fast as they should: the exponent is 2i/D, where i "
            "counts *pairs* of channels. The factor 2 is missing.",
        ),
        "frequencies_fall_too_fast": (
            lambda length, dim: _sincos_1d(length, dim, exponent=4.0),
            "The frequencies fall twice as fast as they should. If you count the even channels, 0, "
            "2, 4, …, then the factor 2 of 2i is in the count already.",
        ),
        "one_frequency": (
            lambda length, dim: _sincos_1d(length, dim, exponent=0.0),
            "All pairs of channels turn at the same frequency, so that each row holds no more than "
            "two different numbers. Divide the position by 10000^(2i/D), and 2i by D with / and "
            "not with //.",
        ),
        "frequency_for_each_channel": (
            _sincos_1d_each_channel,
            "Each cosine turns at another frequency than the sine before it. Channels 2i and "
            "2i + 1 share one angle: count pairs of channels, not channels.",
        ),
        "frequency_for_each_channel_doubled": (
            lambda length, dim: _sincos_1d_each_channel(length, dim, factor=2.0),
            "Each cosine turns at another frequency than the sine before it. Channels 2i and "
            "2i + 1 share one angle: count pairs of channels, not channels.",
        ),
        "reaches_the_end": (
            lambda length, dim: _sincos_1d(length, dim, exponent=dim / (dim // 2 - 1)),
            "Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In "
            "the formula the last exponent stays one step short of 1: i runs to D/2 − 1, and is "
            "divided by D/2.",
        ),
        "counts_from_one": (
            lambda length, dim: _sincos_1d(length, dim, first=1),
            "Positions count from 1. They should count from 0: the first row is 0, 1, 0, 1, …",
        ),
        "frequencies_grow": (
            lambda length, dim: _sincos_1d(length, dim, exponent=-2.0),
            "The position is multiplied by 10000^(2i/D) where it should be divided. The angles "
            "become huge, and neighbouring positions have nothing in common.",
        ),
    },
    accepted=[_sincos_1d_by_slices, _sincos_1d_by_loop],
)

# --- 2.5 sincos_2d: half of the channels for the column, half for the row


def _halves(embed_dim, places, denominator=None):
    """Sines, then cosines, of positions (N,): (N, embed_dim / 2)."""
    quarter = embed_dim // 4
    k = torch.arange(quarter, dtype=torch.float64)
    angles = places.reshape(-1, 1) * 10_000.0 ** (-k / (denominator or quarter))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _places(rows, columns):
    n = torch.arange(rows * columns)
    return n // columns, n % columns  # the row and the column of each patch


def _sincos_2d(embed_dim, rows, columns, denominator=None):
    y, x = _places(rows, columns)
    halves = [_halves(embed_dim, x, denominator), _halves(embed_dim, y, denominator)]
    return torch.cat(halves, dim=1)


def _sincos_2d_by_loop(embed_dim, rows, columns):
    def vector(place):
        angles = [place / 10_000 ** (4 * k / embed_dim) for k in range(embed_dim // 4)]
        return torch.cat([torch.tensor(angles).sin(), torch.tensor(angles).cos()])

    grid = [(y, x) for y in range(rows) for x in range(columns)]
    return torch.stack([torch.cat([vector(x), vector(y)]) for y, x in grid])


def _sincos_2d_by_broadcast(embed_dim, rows, columns):
    x = _halves(embed_dim, torch.arange(columns)).expand(rows, -1, -1)  # (rows, columns, D/2)
    y = _halves(embed_dim, torch.arange(rows))[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=2).flatten(0, 1)


def _sincos_2d_down(embed_dim, rows, columns):
    table = _sincos_2d(embed_dim, rows, columns)
    return rearrange(table, "(r c) d -> (c r) d", r=rows)


def _sincos_2d_sequence(embed_dim, rows, columns):
    k = torch.arange(embed_dim // 2, dtype=torch.float64)
    angles = torch.arange(rows * columns)[:, None] * 10_000.0 ** (-2 * k / embed_dim)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _sincos_2d_one_twice(axis, embed_dim, rows, columns):
    place = _places(rows, columns)[axis]
    return torch.cat([_halves(embed_dim, place)] * 2, dim=1)


def _sincos_2d_divided_by_rows(embed_dim, rows, columns):
    n = torch.arange(rows * columns)
    return torch.cat([_halves(embed_dim, n % rows), _halves(embed_dim, n // rows)], dim=1)


def _sincos_2d_in_turn(embed_dim, rows, columns):
    table = _sincos_2d(embed_dim, rows, columns)
    return rearrange(table, "n (half wave k) -> n (half k wave)", half=2, wave=2)


def _sincos_2d_added(embed_dim, rows, columns):
    y, x = _places(rows, columns)
    return _halves(2 * embed_dim, x) + _halves(2 * embed_dim, y)


def _quarters(order):
    def swapped(embed_dim, rows, columns):
        parts = _sincos_2d(embed_dim, rows, columns).chunk(4, dim=1)
        return torch.cat([parts[i] for i in order], dim=1)

    return swapped


def _sincos_2d_cases(answer) -> Cases:
    yield "2 rows and 3 columns of patches, D = 8", lambda: _single(call(answer, 8, 2, 3))
    yield "5 rows and 4 columns, D = 24", lambda: _single(call(answer, 24, 5, 4))
    yield "3 rows and 3 columns, D = 16", lambda: _single(call(answer, 16, 3, 3))


sincos_2d = Exercise(
    name="sincos_2d",
    chapter="02_tokens",
    task="sincos_2d(embed_dim, rows, columns) -> (rows · columns, embed_dim): for each patch, row "
    "by row, sin and cos of its column, then sin and cos of its row, a quarter of the width each",
    reference=lambda dim, rows, columns: vitlib.sincos_2d(dim, (rows, columns)),
    cases=_sincos_2d_cases,
    mutants={
        "row_first": (
            _quarters((2, 3, 0, 1)),
            "Row and column are swapped: the first half of the channels should describe x, the "
            "column, and the second half y, the row.",
        ),
        "down_the_columns": (
            _sincos_2d_down,
            "The patches are counted down the columns of the grid, but tokens run along its rows: "
            'every token gets the position of another. Look at indexing="ij" in meshgrid, and at '
            "which of rows and columns you flatten last.",
        ),
        "frequencies_fall_too_slowly": (
            lambda dim, rows, columns: _sincos_2d(dim, rows, columns, denominator=dim // 2),
            "The frequencies fall half as fast as they should. Each direction has D/4 of them, so "
            "the exponent is k / (D/4).",
        ),
        "frequencies_fall_too_fast": (
            lambda dim, rows, columns: _sincos_2d(dim, rows, columns, denominator=dim / 8),
            "The frequencies fall twice as fast as they should. Each direction has D/4 of them, so "
            "the exponent is k / (D/4), without a further factor of 2.",
        ),
        "reaches_the_end": (
            lambda dim, rows, columns: _sincos_2d(dim, rows, columns, denominator=dim // 4 - 1),
            "Your slowest frequency is exactly 1/10000, as linspace or logspace would have it. In "
            "the formula the last exponent stays one step short of 1: k runs to D/4 − 1, and is "
            "divided by D/4.",
        ),
        "divided_by_rows": (
            _sincos_2d_divided_by_rows,
            "You divide the token's number by the number of rows. A row of the grid holds as many "
            "tokens as there are columns: token n stands in row n // columns. On a square grid you "
            "would never see it.",
        ),
        "counts_the_sequence": (
            _sincos_2d_sequence,
            "This is a one-dimensional table, of the token's number in the sequence: a patch and "
            "the one below it seem far apart. Give half of the channels to the row and half to "
            "the column.",
        ),
        "cosine_first": (
            _quarters((1, 0, 3, 2)),
            "Sine and cosine are swapped in both halves. The first patch, at row 0 and column 0, "
            "has sines of 0 in its first quarter.",
        ),
        "sines_first": (
            _quarters((0, 2, 1, 3)),
            "Both sines come first and both cosines after them. The numbers are right; asked for "
            "are sine and cosine of the column, and then sine and cosine of the row.",
        ),
        "in_turn": (
            _sincos_2d_in_turn,
            "Sine and cosine alternate from channel to channel, as in the exercise before. Here "
            "all sines of a direction come first, and then its cosines.",
        ),
        "column_twice": (
            lambda *sizes: _sincos_2d_one_twice(1, *sizes),
            "Both halves describe the column. All the patches of one column get the same position, "
            "and the row is lost.",
        ),
        "row_twice": (
            lambda *sizes: _sincos_2d_one_twice(0, *sizes),
            "Both halves describe the row. All the patches of one row get the same position, and "
            "the column is lost.",
        ),
        "added": (
            _sincos_2d_added,
            "The vectors of row and column are added instead of joined. Row 1, column 2 and row 2, "
            "column 1 then have the same position.",
        ),
    },
    accepted=[_sincos_2d_by_loop, _sincos_2d_by_broadcast],
)

# --- 2.6 resample_positions: a grid stretches in two directions, the prefix not at all


def _resample(pos_embed, old_grid, new_grid, num_prefix, **options):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    grid = rearrange(patches, "1 (r c) d -> 1 d r c", r=old_grid[0], c=old_grid[1])
    options = {"mode": "bicubic", "antialias": True} | options
    grid = F.interpolate(grid, size=new_grid, **options)
    return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


def _resample_by_channel(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    planes = patches[0].T.reshape(-1, 1, *old_grid)  # one picture for each channel
    planes = [
        F.interpolate(plane[None], new_grid, mode="bicubic", antialias=True) for plane in planes
    ]
    return torch.cat([prefix, torch.cat(planes).flatten(1).T[None]], dim=1)


def _resample_by_matrix(pos_embed, old_grid, new_grid, num_prefix):
    def matrix(old, new):  # what the interpolation does to each unit vector
        units = torch.eye(old, dtype=pos_embed.dtype)[None, None]
        return F.interpolate(units, (new, old), mode="bicubic", antialias=True)[0, 0]

    grid = pos_embed[0, num_prefix:].unflatten(0, old_grid)  # (rows, columns, D)
    down, across = (matrix(*sizes) for sizes in zip(old_grid, new_grid, strict=True))
    new = torch.einsum("yr,xc,rcd->yxd", down, across, grid).flatten(0, 1)
    return torch.cat([pos_embed[:, :num_prefix], new[None]], dim=1)


def _resample_one_prefix(pos_embed, old_grid, new_grid, num_prefix):
    return _resample(pos_embed, old_grid, new_grid, 1)


def _resample_no_permute(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    grid = patches.reshape(1, -1, *old_grid)
    grid = F.interpolate(grid, size=new_grid, mode="bicubic", antialias=True)
    return torch.cat([prefix, grid.reshape(1, -1, pos_embed.shape[2])], dim=1)


def _resample_no_permute_back(pos_embed, old_grid, new_grid, num_prefix):
    resampled = _resample(pos_embed, old_grid, new_grid, num_prefix)
    prefix, patches = resampled[:, :num_prefix], resampled[:, num_prefix:]
    return torch.cat([prefix, patches.mT.reshape(patches.shape)], dim=1)


def _resample_down(pos_embed, old_grid, new_grid, num_prefix):
    resampled = _resample(pos_embed, old_grid, new_grid, num_prefix)
    prefix, patches = resampled[:, :num_prefix], resampled[:, num_prefix:]
    patches = rearrange(patches, "1 (r c) d -> 1 (c r) d", r=new_grid[0])
    return torch.cat([prefix, patches], dim=1)


def _resample_prefix_last(pos_embed, old_grid, new_grid, num_prefix):
    resampled = _resample(pos_embed, old_grid, new_grid, num_prefix)
    return torch.cat([resampled[:, num_prefix:], resampled[:, :num_prefix]], dim=1)


def _resample_sequence(pos_embed, old_grid, new_grid, num_prefix):
    prefix, patches = pos_embed[:, :num_prefix], pos_embed[:, num_prefix:]
    count = new_grid[0] * new_grid[1]
    patches = F.interpolate(patches.mT, count, mode="linear").mT
    return torch.cat([prefix, patches], dim=1)


def _resample_slice(pos_embed, old_grid, new_grid, num_prefix):
    return pos_embed[:, : num_prefix + new_grid[0] * new_grid[1]]


def _resample_swapped(pos_embed, old_grid, new_grid, num_prefix):
    return _resample(pos_embed, old_grid, new_grid[::-1], num_prefix)


def _resample_cases(answer) -> Cases:
    def resample(old, new, prefix):
        return call(answer, numbers(1, prefix + old[0] * old[1], 5), old, new, prefix)

    def gradient():
        (gradient,) = _gradients(answer, [numbers(1, 10, 5)], (3, 3), (2, 4), 1)
        return gradient

    yield "a grid of 2 × 3 for one of 4 × 5, one prefix token", lambda: resample((2, 3), (4, 5), 1)
    yield "a grid of 6 × 4 for one of 3 × 3, one prefix token", lambda: resample((6, 4), (3, 3), 1)
    yield "4 × 4 for 6 × 6, two prefix tokens", lambda: resample((4, 4), (6, 6), 2)
    yield "3 × 3 for 3 × 2, no prefix token", lambda: resample((3, 3), (3, 2), 0)
    yield "the gradient that reaches the positions", gradient


resample_positions = Exercise(
    name="resample_positions",
    chapter="02_tokens",
    task="resample_positions(pos_embed, old_grid, new_grid, num_prefix) -> (1, num_prefix + rows · "
    "columns of the new grid, D): bicubic, antialias=True, align_corners=False; the prefix as it "
    "was",
    reference=lambda pos_embed, old_grid, new_grid, num_prefix: vitlib.resample_pos_embed(
        pos_embed, new_grid, old_grid, num_prefix
    ),
    cases=_resample_cases,
    mutants={
        "sliced": (
            _resample_slice,
            "The list of positions is cut off at the length that is needed. It runs along the rows "
            "of the old grid, so from the second row on every patch gets the position of another "
            "place; and a larger grid gets too few. Lay the positions on their grid and "
            "interpolate it.",
        ),
        "one_prefix_token": (
            _resample_one_prefix,
            "You take it that there is exactly one token before the patches. With a distillation "
            "token or registers there are more, and a model without a class token may have none: "
            "use num_prefix.",
        ),
        "no_permute": (
            _resample_no_permute,
            "The positions (N, D) are reshaped to (D, rows, columns) without a permute: channels "
            "and places are mixed. Reshape to (rows, columns, D) first, then move D to the front, "
            "and back afterwards.",
        ),
        "no_permute_back": (
            _resample_no_permute_back,
            "The way there is right. On the way back (D, rows, columns) is reshaped to (N, D) "
            "without a permute, which mixes channels and places: move D to the end first.",
        ),
        "down_the_columns": (
            _resample_down,
            "The new grid is read down its columns, but tokens run along its rows. Look at the "
            "permute or the pattern that makes a list of the grid again.",
        ),
        "prefix_last": (
            _resample_prefix_last,
            "The prefix stands behind the patches, so that every token gets the position of "
            "another. Put it first in torch.cat.",
        ),
        "one_dimensional": (
            _resample_sequence,
            "The positions are interpolated along the sequence. There, the end of one row and the "
            "start of the next are neighbours, which on the image they are not. Interpolate on the "
            "grid of rows and columns.",
        ),
        "no_antialias": (
            lambda *given: _resample(*given, antialias=False),
            "Larger grids are right and smaller ones are not: antialias=True is missing. Without "
            "it, a smaller grid reads single old positions and skips those between.",
        ),
        "bilinear": (
            lambda *given: _resample(*given, mode="bilinear"),
            "This is bilinear interpolation. It works as well, and the first ViT code used a "
            'linear one, but asked for is mode="bicubic".',
        ),
        "bilinear_without_antialias": (
            lambda *given: _resample(*given, mode="bilinear", antialias=False),
            "This is bilinear interpolation. It works as well, and the first ViT code used a "
            'linear one, but asked for is mode="bicubic".',
        ),
        "nearest": (
            lambda *given: _resample(*given, mode="nearest", antialias=False),
            "Every new place gets a copy of the nearest old position. That is what F.interpolate "
            'does if it is not told a mode: asked for is mode="bicubic", with antialias=True.',
        ),
        "detached": (
            lambda pos_embed, *sizes: _resample(pos_embed.detach(), *sizes),
            "The numbers are right, but no gradient reaches the positions, so that they could not "
            "be trained at the new size. Look for .data, .detach(), torch.no_grad() or a detour "
            "by NumPy.",
        ),
        "corners_aligned": (
            lambda *given: _resample(*given, align_corners=True),
            "The corners of the two grids are laid on each other: align_corners=True. Patches have "
            "an area, and it is the edges of the images that coincide, so it must be False.",
        ),
        "rows_and_columns_swapped": (
            _resample_swapped,
            "Rows and columns of the new grid are swapped. On square grids you would never see it. "
            "Grids are (rows, columns), and F.interpolate wants (height, width).",
        ),
    },
    accepted=[_resample_by_channel, _resample_by_matrix],
)

# --- 2.7 position_similarity: a cosine, of patches only


def _similarity(pos_embed, num_prefix):
    directions = F.normalize(pos_embed[0, num_prefix:], dim=1)
    return directions @ directions.T


def _similarity_by_broadcast(pos_embed, num_prefix):
    patches = pos_embed[0, num_prefix:]
    return F.cosine_similarity(patches[:, None], patches[None], dim=2)


def _similarity_by_division(pos_embed, num_prefix):
    patches = pos_embed[:, num_prefix:].squeeze(0)
    norms = patches.square().sum(1).sqrt()
    return torch.einsum("id,jd->ij", patches, patches) / torch.outer(norms, norms)


def _similarity_dot(pos_embed, num_prefix):
    return pos_embed[0, num_prefix:] @ pos_embed[0, num_prefix:].T


def _similarity_centred(pos_embed, num_prefix):
    patches = pos_embed[:, num_prefix:]
    return _similarity(patches - patches.mean(dim=2, keepdim=True), 0)


def _similarity_one_sided(pos_embed, num_prefix):
    patches = pos_embed[0, num_prefix:]
    return F.normalize(patches, dim=1) @ patches.T


def _similarity_wrong_axis(pos_embed, num_prefix):
    patches = F.normalize(pos_embed[0, num_prefix:], dim=0)
    return patches @ patches.T


def _similarity_squared(pos_embed, num_prefix):
    products = _similarity_dot(pos_embed, num_prefix)
    return products / torch.outer(products.diagonal(), products.diagonal())


def _similarity_same_length_twice(pos_embed, num_prefix):
    products = _similarity_dot(pos_embed, num_prefix)
    return products / products.diagonal()


def _similarity_cases(answer) -> Cases:
    def compare(tokens, dim, prefix):  # in float32: a small number added to the lengths is no bug
        return _single(call(answer, numbers(1, tokens, dim), prefix))

    yield "one prefix token and 6 patches, D = 5", lambda: compare(7, 5, 1)
    yield "two prefix tokens and 4 patches, D = 8", lambda: compare(6, 8, 2)
    yield "no prefix token and 3 patches, D = 4", lambda: compare(3, 4, 0)


position_similarity = Exercise(
    name="position_similarity",
    chapter="02_tokens",
    task="position_similarity(pos_embed, num_prefix) -> (N, N): the cosine between the positions "
    "of every two patches; pos_embed is (1, num_prefix + N, D)",
    reference=lambda pos_embed, num_prefix: _similarity(pos_embed, num_prefix).float(),
    cases=_similarity_cases,
    mutants={
        "prefix_included": (
            lambda pos_embed, num_prefix: _similarity(pos_embed, 0),
            "The prefix tokens are compared, too. They have no place in the image, and with them "
            "the N maps no longer fit the grid: drop the first num_prefix rows.",
        ),
        "one_prefix_token": (
            lambda pos_embed, num_prefix: _similarity(pos_embed, 1),
            "Exactly one row is dropped, however many prefix tokens there are: every map of a "
            "model with registers would be shifted. Use num_prefix.",
        ),
        "dot_product": (
            _similarity_dot,
            "This is the dot product. A long vector then seems alike to everything. Divide by both "
            "lengths: the diagonal of a cosine is 1.",
        ),
        "one_length": (
            _similarity_one_sided,
            "You divide by one of the two lengths only, so the result is not symmetric.",
        ),
        "one_length_of_the_other": (
            lambda *given: _similarity_one_sided(*given).T,
            "You divide by one of the two lengths only, so the result is not symmetric.",
        ),
        "same_length_twice": (
            _similarity_same_length_twice,
            "The diagonal is right, and the rest is not: you divide twice by the length of the "
            "same vector. A cosine has the lengths of both in it, |a| · |b|, and is symmetric.",
        ),
        "same_length_twice_of_the_other": (
            lambda *given: _similarity_same_length_twice(*given).T,
            "The diagonal is right, and the rest is not: you divide twice by the length of the "
            "same vector. A cosine has the lengths of both in it, |a| · |b|, and is symmetric.",
        ),
        "squared_lengths": (
            _similarity_squared,
            "You divide by the *squares* of both lengths. The diagonal of the dot products holds "
            "squares: take the root before you divide. The diagonal of a cosine is 1.",
        ),
        "wrong_axis": (
            _similarity_wrong_axis,
            "The vectors are normalised along the wrong axis: over the positions, not over the "
            "channels. Look at dim: each row should have length 1.",
        ),
        "correlation": (
            _similarity_centred,
            "The mean of each vector is taken off before, which makes this a correlation. A cosine "
            "compares the vectors as they are.",
        ),
    },
    accepted=[_similarity_by_broadcast, _similarity_by_division],
)

EXERCISES = [
    class_token,
    position_embedding,
    assemble_tokens,
    sincos_1d,
    sincos_2d,
    resample_positions,
    position_similarity,
]
