"""3.4 split_heads: which piece is a head, and where it stands."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def split_heads(x, num_heads):
    B, N, D = x.shape
    return x.reshape(B, N, num_heads, D // num_heads).transpose(1, 2)


def by_chunks(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=1)


def by_rearrange(x, num_heads):
    return rearrange(x, "b n (h d) -> b h n d", h=num_heads)


def by_slices(x, num_heads):
    d = x.shape[-1] // num_heads
    heads = x.new_empty(x.shape[0], num_heads, x.shape[1], d)
    for h in range(num_heads):
        heads[:, h] = x[:, :, h * d : (h + 1) * d]
    return heads


def cases(answer) -> Cases:
    toy = torch.arange(12.0, dtype=torch.float64).reshape(1, 3, 4)
    yield "3 tokens of the numbers 0 to 11, 2 heads", lambda: call(answer, toy, 2)
    yield "2 images, 5 tokens, width 12, 3 heads", lambda: call(answer, numbers(2, 5, 12), 3)
    yield "as many tokens as heads", lambda: call(answer, numbers(2, 4, 8), 4)
    yield "as many images as heads", lambda: call(answer, numbers(3, 5, 6), 3)


MUTANTS = edits(split_heads, """
reshape_only: N, num_heads, D // num_heads).transpose(1, 2) → num_heads, N, D // num_heads)
    The heads are cut by a reshape alone. It reads in the order of memory, token by token, so a
    “head” holds whole tokens instead of a piece of each. Split the last axis first, then bring the
    heads in front of the tokens.
heads_behind_tokens: .transpose(1, 2) →
    The width is split, but the heads stand behind the tokens. In q @ kᵀ the heads of one token
    would then attend to each other, and no token to any other. Bring H in front of N.
""") | edits(by_rearrange, """
every_hth_channel: (h d) → (d h)
    A head takes every Hth channel. It should take D/H neighbours: head 0 the first D/H channels,
    and so on. That is where the trained weights of a head are.
heads_last: b h n d → b n d h
    The heads are the last axis. The last two axes must be the tokens and the channels of one head,
    so that q @ kᵀ compares tokens: (B, H, N, d).
heads_first: b h n d → h b n d
    The heads stand in front of everything, the images included. They belong directly in front of
    the tokens: (B, H, N, d).
""") | edits(by_chunks, """
pieces_of_h_channels: x.chunk → x.split
    There are D/H pieces of H channels. It should be H pieces of D/H channels. (Tensor.split takes
    the size of a piece, Tensor.chunk the number of pieces.)
joined: stack → cat
    The pieces are joined along the tokens, as if there were H times as many. torch.cat uses an axis
    that is there; torch.stack makes a new one for the heads.
""")  # fmt: skip


def probe(answer):
    return [returns(answer, draw(*s), h) for *s, h in [(2, 3, 8, 4), (1, 5, 6, 2), (3, 2, 10, 5)]]


EXERCISE = Exercise(
    name="split_heads",
    chapter="03_attention",
    task="split_heads(x, num_heads): (B, N, D) -> (B, H, N, D/H); head h has D/H neighbouring "
    "channels, the first head the first ones",
    reference=split_heads,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_slices, by_chunks, by_rearrange],
    probe=probe,
)
