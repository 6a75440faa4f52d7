"""3.5 merge_heads: the transpose back."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def merge_heads(x):
    B, H, N, d = x.shape
    return x.transpose(1, 2).reshape(B, N, H * d)


def by_rearrange(x):
    return rearrange(x, "b h n d -> b n (h d)")


def cases(answer) -> Cases:
    token, head, channel = torch.meshgrid(*(torch.arange(1, n) for n in (4, 3, 3)), indexing="ij")
    labels = (100.0 * token + 10 * head + channel).transpose(0, 1)[None].contiguous()
    yield "the labels: 3 tokens, 2 heads, d = 2", lambda: call(answer, labels)
    yield "2 images, 3 heads, 5 tokens, d = 4", lambda: call(answer, numbers(2, 3, 5, 4))
    yield "as many heads as tokens", lambda: call(answer, numbers(2, 3, 3, 4))
    yield "d = 1", lambda: call(answer, numbers(2, 3, 5, 1))


MUTANTS = edits(merge_heads, """
no_transpose: .transpose(1, 2) →
    The transpose back is missing. The reshape reads head after head, so that a “token” of the
    result is made of several tokens of one head. Swap H and N first, (B, N, H, d), then join the
    last two axes.
view_after_transpose: .reshape( → .view(
    The idea is right. After a transpose the numbers are not in order in memory, and view refuses.
    Use reshape, which copies where it must, and keep the transpose.
wrong_axes: transpose(1, 2) → transpose(2, 3)
    You swap the tokens with the channels. It is the heads and the tokens, axes 1 and 2, that must
    change places.
heads_added: .transpose(1, 2).reshape(B, N, H * d) → .sum(dim=1)
    The heads are added up, and only d numbers are left for each token. Put them side by side
    instead; it is the output projection that mixes them.
""") | edits(by_rearrange, """
channels_first: (h d) → (d h)
    The heads of a token are interleaved, channel by channel: (d, H) where it should be (H, d).
    Each head's d numbers belong side by side, or the output projection of trained weights meets
    the wrong ones.
not_joined: (h d) → h d
    The heads are back behind the tokens, but not joined yet: (B, N, H, d). Join the last two axes.
""")  # fmt: skip


def probe(answer):
    return [returns(answer, draw(*s)) for s in [(3, 2, 4, 5), (1, 4, 2, 3), (2, 5, 5, 1)]]


EXERCISE = Exercise(
    name="merge_heads",
    chapter="03_attention",
    task="merge_heads(x): (B, H, N, d) -> (B, N, H·d), each token with its heads side by side",
    reference=merge_heads,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_rearrange,
        lambda x: x.transpose(1, 2).flatten(2),
        lambda x: torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1),
    ],
    probe=probe,
)
