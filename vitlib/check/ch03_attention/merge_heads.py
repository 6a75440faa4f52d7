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
    last two axes. (x.transpose(1, 2) by itself leaves x as it is: use what it returns.)
view_after_transpose: .reshape( → .view(
    The idea is right. After a transpose the numbers are not in order in memory, and view refuses.
    Use reshape, which copies where it must, and keep the transpose.
wrong_axes: transpose(1, 2) → transpose(2, 3)
    You swap the tokens with the channels. It is the heads and the tokens, axes 1 and 2, that must
    change places.
heads_with_channels: transpose(1, 2) → transpose(1, 3)
    You swap the heads with the channels, axes 1 and 3. It is the heads and the tokens, axes 1 and
    2, that must change places.
images_with_tokens: transpose(1, 2) → transpose(0, 2)
    You swap the images with the tokens, axes 0 and 2. It is the heads and the tokens, axes 1 and 2,
    that must change places: an image keeps its place.
images_with_heads: transpose(1, 2) → transpose(0, 1)
    You swap the images with the heads, axes 0 and 1. It is the heads and the tokens, axes 1 and 2,
    that must change places: an image keeps its place.
images_with_channels: transpose(1, 2) → transpose(0, 3)
    You swap the images with the channels, axes 0 and 3. It is the heads and the tokens, axes 1 and
    2, that must change places: an image keeps its place.
turned: transpose(1, 2) → permute(0, 3, 1, 2)
    The axes are brought to (B, d, H, N) before the reshape. It should be (B, N, H, d):
    transpose(1, 2).
reshape_first: .transpose(1, 2).reshape(B, N, H * d) → .reshape(B, H * d, N).transpose(1, 2)
    The reshape comes first, the transpose after it. When the reshape joins axes that do not stand
    side by side, numbers are mixed: first transpose(1, 2), then reshape.
transposed_result: .transpose(1, 2).reshape(B, N, H * d) →
→ .transpose(2, 3).reshape(B, H * d, N)
    The numbers are right, and the result is transposed, (B, H·d, N). One row for each token comes
    back: (B, N, H·d).
sizes_misread: B, H, N, d → B, N, H, d
    The result is (B, H, N·d), where it should be (B, N, H·d). The sizes of x are B, H, N, d, in
    this order; after the transpose the tokens are axis 1.
heads_and_tokens_joined: .transpose(1, 2).reshape(B, N, H * d) → .reshape(B, H * N, d)
    The heads are put one after the other along the *tokens*, (B, H·N, d). A token's heads belong
    side by side, in its channels: (B, N, H·d).
tokens_and_heads_joined: N, H * d → N * H, d
    The tokens and the heads are joined, (B, N·H, d). Join the heads with the channels:
    (B, N, H·d).
all_joined: B, N, H * d → B, N * H * d
    Tokens, heads and channels are joined to one row for each image. Keep the tokens: (B, N, H·d).
images_joined: reshape(B, N, H * d) → reshape(B * N, H * d)
images_joined_by_squeeze: reshape(B, N, H * d) → reshape(B, N, H * d).squeeze(0)
    The axis of the images is gone. It stays, of size 1, too: (B, N, H·d).
sizes_changed_about: reshape(B, N, H * d) → reshape(N, B, H * d)
    The result is (N, B, H·d). The images come first: (B, N, H·d).
fixed_width: H * d → 192
fixed_width_768: H * d → 768
    The width is fixed. It is H * d, from the shape of x.
heads_added: .transpose(1, 2).reshape(B, N, H * d) → .sum(dim=1)
    The heads are added up, and only d numbers are left for each token. Put them side by side
    instead; it is the output projection that mixes them.
heads_averaged: .transpose(1, 2).reshape(B, N, H * d) → .mean(dim=1)
    The heads are averaged, and only d numbers are left for each token. Put them side by side
    instead; it is the output projection that mixes them.
heads_backwards: return x → return x.flip(1)
    The heads stand in the reverse order. Head 0 has the first d channels.
one_head: .transpose(1, 2).reshape(B, N, H * d) → [:, 0]
    Only the first head is left. Put all the heads side by side: (B, N, H·d).
one_head_repeated: return x → return x[:, :1].expand(x.shape)
    The first head is repeated. Each head has its own numbers: put all of them side by side.
in_place: .transpose( → .transpose_(
    You change the tensor that you are given: transpose_ turns its axes in place. Use transpose,
    without the underscore.
unchanged: .transpose(1, 2).reshape(B, N, H * d) →
    The input comes back as it is. Swap the heads and the tokens, and join the heads with the
    channels.
nothing_returned: return x → x
    The result is computed and not returned. The last line needs `return`.
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
    excluded=["einops.rearrange"],
    accepted=[
        by_rearrange,
        lambda x: x.transpose(1, 2).flatten(2),
        lambda x: torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1),
    ],
    probe=probe,
)
