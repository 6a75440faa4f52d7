"""5.3 pool: what comes behind the prefix is a patch, and only that."""

from functools import partial

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def pool(tokens, num_prefix, kind):
    if kind == "token":
        return tokens[:, 0]
    return tokens[:, num_prefix:].mean(dim=1)


def by_split(tokens, num_prefix, kind):
    prefix, patches = tokens.split([num_prefix, tokens.shape[1] - num_prefix], dim=1)
    return {"token": prefix[:, 0], "avg": torch.einsum("bnd->bd", patches) / patches.shape[1]}[kind]


def by_weights(tokens, num_prefix, kind):
    wanted = torch.arange(tokens.shape[1])
    wanted = (wanted == 0) if kind == "token" else (wanted >= num_prefix)
    weights = wanted.to(tokens.dtype) / wanted.sum()
    return (weights[None, :, None] * tokens).sum(dim=1)


def cases(answer) -> Cases:
    for num_prefix, what in [(1, "a class token"), (2, "class and distillation token"),
                             (5, "a class token and 4 registers")]:  # fmt: skip
        tokens = numbers(3, num_prefix + 6, 4, seed=num_prefix)
        for kind in ("token", "avg"):
            label = f'3 images, {what}, 6 patches, "{kind}"'
            yield label, partial(call, answer, tokens, num_prefix, kind)


MUTANTS = edits(pool, """
whole_prefix_averaged: [:, num_prefix:] →
    The mean runs over all tokens, the class token and the rest of the prefix included. Average the
    patches: they begin at index num_prefix.
only_the_class_token_skipped: num_prefix: → 1:
    tokens[:, 1:] skips the class token only. A distillation token or registers are then averaged as
    if they were patches. Patches begin at index num_prefix.
first_patch_for_class_token: [:, 0] → [:, num_prefix]
    The token at index num_prefix is the first patch. The class token stands at index 0.
last_token_for_class_token: [:, 0] → [:, -1]
    The last token is a patch. The class token was joined in front: it stands at index 0.
mean_over_channels: dim=1 → dim=2
    The mean is taken over the channels, which leaves one number a patch. Average over the tokens,
    axis 1.
sum: mean → sum
    The patches are summed. For a mean, divide by how many there are; otherwise another image size
    would change the scale of what the head sees.
kind_ignored: [:, num_prefix:].mean(dim=1) → [:, 0]
    The class token is returned whatever kind is. For "avg" average the patch tokens.
always_averaged: [:, 0] → [:, num_prefix:].mean(dim=1)
    The patches are averaged whatever kind is. For "token" return the class token, at index 0.
rest_of_the_prefix_averaged: num_prefix: → 1:num_prefix
    tokens[:, 1:num_prefix] are the other tokens of the prefix, and none where there is only the
    class token. The patches come after them: tokens[:, num_prefix:].
class_token_where_it_is_alone: kind == "token" → kind == "token" or num_prefix == 1
    The class token comes back for "avg", too, where it is the only one of the prefix. kind alone
    decides.
class_token_where_there_are_more: kind == "token" → kind == "token" or num_prefix > 1
    The class token comes back for "avg", too, where the prefix has more tokens. kind alone decides.
prefix_averaged: num_prefix: → :num_prefix
    tokens[:, :num_prefix] are the tokens that are *not* patches. The patches come after them:
    tokens[:, num_prefix:].
prefix_for_class_token: [:, 0] → [:, :num_prefix].mean(dim=1)
    For "token" the whole prefix is averaged. The class token alone is wanted, the one at index 0.
divided_by_all_tokens: mean(dim=1) → sum(dim=1) / tokens.shape[1]
    The patches are summed and then divided by the number of all tokens. Divide by the number of
    patches, T − num_prefix.
first_image_for_first_token: [:, 0] → [0]
first_image_for_first_token_in_both: [:, 0] → [0]
and: [:, num_prefix:].mean(dim=1) → [num_prefix:].mean(dim=0)
first_image_for_first_token_axis_1: [:, 0] → [0]
and: [:, num_prefix:] → [num_prefix:]
first_image_for_first_token_averaged: [:, num_prefix:].mean(dim=1) → [num_prefix:].mean(dim=0)
first_image_for_first_token_sliced: [:, num_prefix:] → [num_prefix:]
    Axis 0 counts the images, and axis 1 the tokens: tokens[0] is the whole first image. Index as in
    tokens[:, 0].
axis_kept: [:, 0] → [:, :1]
and: dim=1 → dim=1, keepdim=True
    The numbers are right, but an axis of length 1 is left in the middle: (B, 1, D). Index with 0
    instead of slicing, and average without keepdim.
axis_of_the_slice_kept: [:, 0] → [:, :1]
    A slice keeps its axis: tokens[:, :1] is (B, 1, D). Index the class token with tokens[:, 0],
    which is (B, D).
axis_of_the_mean_kept: dim=1 → dim=1, keepdim=True
    keepdim=True leaves an axis of length 1 in the middle of the mean, (B, 1, D). Leave it out.
last_of_the_prefix: [:, 0] → [:, num_prefix - 1]
    The last token of the prefix is returned, which is a distillation token or a register where
    there are any. The class token stands first: tokens[:, 0].
second_token: [:, 0] → [:, 1]
    tokens[:, 1] is the second token. Counting begins at 0: the class token is tokens[:, 0].
whole_prefix_for_class_token: [:, 0] → [:, :num_prefix]
    For "token" the whole prefix is returned. The class token is the first of it, tokens[:, 0].
prefix_summed_for_class_token: [:, 0] → [:, :num_prefix].sum(dim=1)
    For "token" the prefix is summed. The class token alone is wanted, the one at index 0.
average_for_class_token: [:, 0] → .mean(dim=1)
    For "token" all tokens are averaged. The class token alone is wanted, the one at index 0.
channel_for_token: [:, 0] → [:, :, 0]
    tokens[:, :, 0] is the first channel of every token. The axes are (B, T, D): the first token is
    tokens[:, 0].
first_patch_missed: num_prefix: → num_prefix + 1:
    The mean leaves out the first patch. Indices begin at 0: behind num_prefix tokens, the first
    patch has index num_prefix.
last_of_the_prefix_averaged: num_prefix: → num_prefix - 1:
    The mean begins one token too early, with the last of the prefix. Indices begin at 0: behind
    num_prefix tokens, the first patch has index num_prefix.
last_patch_missed: num_prefix: → num_prefix:-1
    The slice ends before the last patch: the end of a slice does not belong to it. Leave the end
    out: tokens[:, num_prefix:].
prefix_at_the_end: num_prefix: → :-num_prefix
    tokens[:, :-num_prefix] drops tokens from the end, where patches are. The prefix stands in
    front: tokens[:, num_prefix:].
last_tokens: num_prefix: → -num_prefix:
    A negative index counts from the end: tokens[:, -num_prefix:] are the last num_prefix patches.
    All from index num_prefix on are patches.
two_always_skipped: num_prefix: → 2:
    Two tokens are skipped, whatever num_prefix says. Patches begin at index num_prefix.
mean_over_images: dim=1 → dim=0
    Axis 0 counts the images: every image gets the mean of its neighbours in the batch. Average over
    the tokens, axis 1.
mean_over_everything_but_channels: dim=1 → dim=(0, 1)
    The mean runs over the images as well, and one row is left for the whole batch. Average over the
    tokens alone, axis 1.
mean_over_everything: dim=1 →
    mean() without an axis leaves one number for the whole batch. Average over the tokens, axis 1.
divided_by_the_prefix: mean(dim=1) → sum(dim=1) / num_prefix
    The sum of the patches is divided by num_prefix. Divide by the number of patches,
    T − num_prefix.
maximum: mean(dim=1) → amax(dim=1)
    This is the largest value of each channel. The mean over the patches is wanted.
median: mean(dim=1) → median(dim=1).values
    This is the median of each channel. The mean over the patches is wanted.
patches_not_averaged: .mean(dim=1) →
    For "avg" the patches come back one by one. Average them over axis 1.
class_token_added: return tokens[:, num_prefix:] → return tokens[:, 0] + tokens[:, num_prefix:]
    The class token is added to the mean of the patches. For "avg" the mean alone is wanted.
class_token_averaged_in: return tokens[:, num_prefix:].mean(dim=1)
→ return torch.cat([tokens[:, :1], tokens[:, num_prefix:]], dim=1).mean(dim=1)
    The class token is one of the tokens that are averaged. For "avg" the patches alone are wanted.
half_class_token: return tokens[:, num_prefix:].mean(dim=1)
→ return (tokens[:, 0] + tokens[:, num_prefix:].mean(dim=1)) / 2
    Half of the result is the class token. For "avg" the mean of the patches alone is wanted.
kinds_exchanged: == "token" → != "token"
    The two kinds are exchanged: "token" asks for the class token, and "avg" for the mean over the
    patches.
nothing_for_token: return tokens[:, 0] → return None
    Nothing comes back if kind is "token". Is a `return` missing, or the kind spelt otherwise?
raises_for_avg: return tokens[:, num_prefix:].mean(dim=1) → raise ValueError(kind)
    "avg" raises an error. It is one of the two kinds: is it spelt otherwise in your code?
raises_for_token: return tokens[:, 0] → raise ValueError(kind)
    "token" raises an error. It is one of the two kinds: is it spelt otherwise in your code?
in_float32: tokens[:, num_prefix:] → tokens[:, num_prefix:].float()
    The mean comes back in another precision than the tokens have. Average them as they are.
normalised: return tokens[:, num_prefix:].mean(dim=1)
→ mean = tokens[:, num_prefix:].mean(dim=1)
→ return torch.nn.functional.layer_norm(mean, mean.shape[-1:])
    The mean is normalised. For "avg" the mean itself is wanted; a norm is for the model to add.
both_side_by_side: return tokens[:, num_prefix:].mean(dim=1)
→ return torch.cat([tokens[:, 0], tokens[:, num_prefix:].mean(dim=1)], dim=1)
    The class token is joined to the mean, which makes (B, 2D). For "avg" the mean alone is wanted.
nothing_for_avg: return tokens[:, num_prefix:].mean(dim=1) → return None
    Nothing comes back if kind is "avg". Is a `return` missing, or the kind spelt otherwise?
""")  # fmt: skip


def probe(answer):
    given = [(draw(2, n + 3, 5), n, kind) for n in (1, 3, 4) for kind in ("token", "avg")]
    return [returns(answer, *g) for g in given]


EXERCISE = Exercise(
    name="pool",
    chapter="05_model",
    task='pool(tokens, num_prefix, kind) -> (B, D): the class token if kind is "token", the mean '
    'over the patch tokens if it is "avg"',
    reference=pool,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_split, by_weights],
    probe=probe,
)
