"""3.4 split_heads: which piece is a head, and where it stands."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def split_heads(x, num_heads):
    pieces = x.chunk(num_heads, dim=-1)
    return torch.stack(pieces, dim=1)


def by_list(x, num_heads):
    d = x.shape[-1] // num_heads
    return torch.stack([x[..., h * d : (h + 1) * d] for h in range(num_heads)], dim=1)


def by_reshape(x, num_heads):
    B, N, D = x.shape
    return x.reshape(B, N, num_heads, D // num_heads).transpose(1, 2)


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


MUTANTS = edits(by_reshape, """
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
heads_within_channels: b h n d → b h d n
    The last two axes are swapped: (B, H, D/H, N). Each head holds its tokens as rows: (B, H, N, d).
""") | edits(split_heads, """
pieces_of_h_channels: x.chunk → x.split
    There are D/H pieces of H channels. It should be H pieces of D/H channels. (Tensor.split takes
    the size of a piece, Tensor.chunk the number of pieces.)
joined: stack → cat
    The pieces are joined along the tokens, as if there were H times as many. torch.cat uses an axis
    that is there; torch.stack makes a new one for the heads.
joined_along_images: stack(pieces, dim=1) → cat(pieces)
    The pieces are joined along the images, as if there were H times as many. torch.cat uses an axis
    that is there; torch.stack makes a new one for the heads.
joined_again: stack(pieces, dim=1) → cat(pieces, dim=-1)
    The input comes back as it was, (B, N, D). (torch.cat along the width undoes the cut.) Stack the
    pieces on a new axis for the heads: torch.stack(pieces, dim=1).
backwards: pieces, dim → pieces[::-1], dim
    The heads run backwards. Head 0 gets the first D/H channels.
tokens_cut: dim=-1 → dim=1
    The *tokens* are cut into pieces, (B, N/H, D). Every head sees all the tokens, and a piece of
    their width: cut along dim=-1.
images_cut: dim=-1 → dim=0
    The *batch* is cut into pieces: chunk and split take axis 0 if you do not name one. Cut the
    width: dim=-1.
pieces_returned: return torch.stack(pieces, dim=1) → return pieces
    The pieces come back one by one. Stack them on a new axis: torch.stack(pieces, dim=1).
squeezed: dim=1) → dim=1).squeeze()
    squeeze() takes away every axis of size 1, the batch of one image included. Leave it out.
first_piece_everywhere: pieces, dim=1 → [pieces[0]] * num_heads, dim=1
    Every head gets the first piece. Head h gets the channels from h · D/H to (h + 1) · D/H.
last_piece_everywhere: pieces, dim=1 → [pieces[-1]] * num_heads, dim=1
    Every head gets the last piece. Head h gets the channels from h · D/H to (h + 1) · D/H.
whole_width: pieces, dim=1 → [x] * num_heads, dim=1
    Every head gets the whole width D. Cut it: each head gets D/H channels.
masked: return torch.stack(pieces, dim=1) → d = x.shape[-1] // num_heads
→ heads = x.new_zeros(len(x), num_heads, *x.shape[1:])
→ for h, piece in enumerate(pieces):
→     heads[:, h, :, h * d : (h + 1) * d] = piece
→ return heads
    Each head keeps the whole width D, with zeros outside of its piece. Cut the width: a head has
    D/H channels.
fixed_number: chunk(num_heads → chunk(2
fixed_number_3: chunk(num_heads → chunk(3
    The number of heads is fixed. Use num_heads.
single_channels: chunk(num_heads → split(1
    There is a piece for each channel. It should be H pieces of D/H channels.
divided_by_the_number: x.chunk → (x / num_heads).chunk
    The *numbers* are divided by H. It is the width that is cut into H pieces.
pieces_added: torch.stack(pieces, dim=1) → sum(pieces)
    The pieces are added up. Keep all of them: torch.stack(pieces, dim=1).
nothing_returned: return torch → torch
    The result is computed and not returned. The last line needs `return`.
""") | edits(by_list, """
overlapping: h * d : (h + 1) * d → h : h + d
    The pieces overlap: each starts only one channel after the last. Head h begins at channel
    h · D/H.
overlapping_at_one_end: h * d : (h + 1) * d → h * d : (h + 1) * d + 1
overlapping_at_one_end_or_short: h * d : (h + 1) * d → h * d : (h + 1) * d - 1
    The end of the slices is off by one. A slice leaves its end out: h * d : (h + 1) * d.
first_head_missing: range(num_heads) → range(1, num_heads)
    The first head is missing: range starts at 1, and counting starts at 0. Use range(num_heads).
last_head_missing: range(num_heads) → range(num_heads - 1)
    The last head is missing. range(num_heads) goes up to num_heads − 1.
counted_from_one: range(num_heads) → range(1, num_heads + 1)
    The heads are counted from 1, so that the last slice is empty. Use range(num_heads).
as_many_as_channels: range(num_heads) → range(d)
    The loop runs D/H times, and there are H heads: range(num_heads).
up_to_the_end: h * d : (h + 1) * d → h * d :
    Each slice runs to the end of the width. It should end after D/H channels, at (h + 1) * d.
from_the_start: h * d : (h + 1) * d → : (h + 1) * d
    Each slice begins at channel 0. Head h begins at h * d.
tokens_sliced: x[..., h * d → x[:, h * d
    The slice cuts the *tokens*, axis 1. Cut the last axis: x[..., a:b], or x[:, :, a:b].
tokens_sliced_of_images: x[..., h * d → x[h * d
    The slice cuts the *images*, axis 0. Cut the last axis: x[..., a:b], or x[:, :, a:b].
not_a_whole_number: // → /
    D / H is a float, and slices want whole numbers. Divide with //.
width_of_h: x.shape[-1] // num_heads → num_heads
    Each slice is H channels wide. A head has D/H: d = D // num_heads.
tokens_for_the_width: x.shape[-1] // num_heads → x.shape[1] // num_heads
    The width of a slice is made from the number of tokens, N // H. Divide the width:
    x.shape[-1] // num_heads.
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
    excluded=[
        "torch.Tensor.reshape",
        "torch.Tensor.view",
        "torch.Tensor.transpose",
        "torch.Tensor.permute",
    ],
    accepted=[by_slices, by_list, by_reshape, by_rearrange],
    probe=probe,
)
