"""9.5 mixer_parameters: MLP-Mixer on paper."""

import math

import torch

from vitlib.baselines import MlpMixer
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call
from vitlib.check.probing import returns


def mixer_parameters(img_size, patch_size, in_chans, embed_dim, depth, num_classes):
    D, N = embed_dim, (img_size // patch_size) ** 2
    stem = in_chans * patch_size**2 * D + D
    half, wide = D // 2, 4 * D
    tokens = N * half + half + half * N + N
    channels = D * wide + wide + wide * D + D
    norms = 4 * D
    head = D * num_classes + num_classes
    total = stem + depth * (norms + tokens + channels) + 2 * D + head
    return total


def by_layers(img_size, patch_size, in_chans, embed_dim, depth, num_classes):
    def linear(inputs, outputs):
        return inputs * outputs + outputs

    side = img_size // patch_size
    total = linear(in_chans * patch_size * patch_size, embed_dim)
    for _ in range(depth):
        total += 4 * embed_dim
        total += linear(side * side, embed_dim // 2) + linear(embed_dim // 2, side * side)
        total += linear(embed_dim, 4 * embed_dim) + linear(4 * embed_dim, embed_dim)
    return total + 2 * embed_dim + linear(embed_dim, num_classes)


def by_model(img_size, patch_size, in_chans, embed_dim, depth, num_classes):
    sizes = img_size, patch_size, in_chans, num_classes, embed_dim, depth
    with torch.device("meta"):
        model = MlpMixer(*sizes, mlp_ratio=(0.5, 4.0))
    return sum(p.numel() for p in model.parameters())


def by_shapes(img_size, patch_size, in_chans, embed_dim, depth, num_classes):
    N, D, h = img_size**2 // patch_size**2, embed_dim, int(embed_dim * 0.5)
    block = [(D,)] * 4 + [(h, N), (h,), (N, h), (N,), (4 * D, D), (4 * D,), (D, 4 * D), (D,)]
    shapes = [(D, in_chans, patch_size, patch_size), (D,), *block * depth, (D,), (D,)]
    return sum(math.prod(shape) for shape in [*shapes, (num_classes, D), (num_classes,)])


def cases(answer) -> Cases:
    yield "16 × 16, P = 4, C = 2, D = 7, depth 3, K = 5", lambda: call(answer, 16, 4, 2, 7, 3, 5)
    yield "20 × 20, P = 10, C = 3, D = 9, depth 2, K = 6", lambda: call(answer, 20, 10, 3, 9, 2, 6)
    yield "a small Mixer for digits", lambda: call(answer, 28, 7, 1, 64, 4, 10)
    yield "Mixer-S/16 on 224 × 224", lambda: call(answer, 224, 16, 3, 512, 8, 1000)
    yield "one block on one patch", lambda: call(answer, 5, 5, 1, 6, 1, 4)


MUTANTS = edits(mixer_parameters, """
one_norm_in_a_block: norms = 4 * D → norms = 2 * D
    2 · embed_dim numbers are missing in each block. It has two LayerNorms, one before each MLP, and
    each of them has a weight *and* a bias.
norms_without_bias: norms = 4 * D → norms = 2 * D
and: + 2 * D + → + D +
    Each LayerNorm is counted with embed_dim numbers. It has 2 · embed_dim: a weight and a bias for
    each channel.
norms_forgotten: norms + tokens → tokens
and: + 2 * D + → +
    The LayerNorms are missing: two in each block and one after the last. Each has a weight and a
    bias of embed_dim numbers.
last_norm_forgotten: + 2 * D + → +
    The LayerNorm after the blocks is missing: 2 · embed_dim numbers.
last_norm_in_every_block: channels) + 2 * D → channels + 2 * D)
    Each block is counted with three LayerNorms, and none after the blocks. It has two, and one
    comes at the end, once.
two_norms_at_the_end: + 2 * D + → + 4 * D +
    Two LayerNorms are counted after the blocks. There is one, with a weight and a bias: 2 ·
    embed_dim numbers.
no_biases: **2 * D + D → **2 * D
and: N * half + half + half * N + N → N * half + half * N
and: D * wide + wide + wide * D + D → D * wide + wide * D
and: D * num_classes + num_classes → D * num_classes
    No bias is counted. Every linear layer has one number for each of its outputs: the patch
    embedding, the four layers of each block, and the head.
stem_bias_forgotten: **2 * D + D → **2 * D
    embed_dim numbers are missing, outside of the blocks: the bias of the patch embedding, or the
    weight or the bias of the LayerNorm after the blocks.
head_bias_forgotten: + num_classes → + 0
    The bias of the head is missing: one number for each class.
token_biases_forgotten: N * half + half + half * N + N → N * half + half * N
    The biases of the MLP over the tokens are missing in each block: embed_dim // 2 in its first
    layer, and N in its second.
first_token_bias_forgotten: N * half + half + → N * half +
    embed_dim // 2 numbers are missing in each block: the bias of the first layer of the MLP over
    the tokens, one number for each hidden channel.
second_token_bias_forgotten: half * N + N → half * N
    N numbers are missing in each block: the bias of the second layer of the MLP over the tokens. It
    leads back to N tokens, and has one number for each.
second_token_bias_of_d: half * N + N → half * N + D
    The bias of the second layer of the MLP over the tokens is counted with embed_dim numbers. This
    layer leads back to N tokens, so its bias has N.
second_token_bias_of_hidden: half * N + N → half * N + half
    Both biases of the MLP over the tokens are counted with its hidden width. That of the second
    layer has one number for each output, and its outputs are the N tokens.
first_token_bias_of_n: N * half + half + → N * half + N +
    Both biases of the MLP over the tokens are counted with N. That of the first layer has one
    number for each output, and its outputs are the embed_dim // 2 hidden channels.
channel_biases_forgotten: D * wide + wide + wide * D + D → D * wide + wide * D
    The biases of the MLP over the channels are missing in each block: 4 · embed_dim in its first
    layer, and embed_dim in its second.
first_channel_bias_forgotten: D * wide + wide + → D * wide +
    4 · embed_dim numbers are missing in each block: the bias of the first layer of the MLP over the
    channels, or the two LayerNorms.
second_channel_bias_forgotten: wide * D + D → wide * D
    embed_dim numbers are missing in each block: the bias of the second layer of the MLP over the
    channels, or a weight or a bias of one LayerNorm.
second_channel_bias_of_hidden: wide * D + D → wide * D + wide
    Both biases of the MLP over the channels are counted with its hidden width. That of the second
    layer has one number for each output, and its outputs are the embed_dim channels.
first_channel_bias_of_d: D * wide + wide + → D * wide + D +
    Both biases of the MLP over the channels are counted with embed_dim. That of the first layer has
    one number for each output, and its outputs are the 4 · embed_dim hidden channels.
mlp_biases_forgotten: N * half + half + half * N + N → N * half + half * N
and: D * wide + wide + wide * D + D → D * wide + wide * D
    The MLPs in the blocks are counted without biases. Each of the four linear layers has one number
    for each of its outputs.
two_norms_for_each_mlp: norms = 4 * D → norms = 8 * D
    The LayerNorms of a block are counted twice. It has two, one before each MLP: 4 · embed_dim
    numbers.
norms_without_width: norms = 4 * D → norms = 4
and: + 2 * D + → + 2 +
    Each LayerNorm is counted with two numbers. It has a weight and a bias for each of the embed_dim
    channels.
first_norm_over_tokens: norms = 4 * D → norms = 2 * N + 2 * D
    One LayerNorm of each block is counted with a weight and a bias of N numbers, as if it ran over
    the tokens. Both normalise the embed_dim channels of a token, also the one before the MLP over
    the tokens.
norms_over_tokens: norms = 4 * D → norms = 4 * N
    The LayerNorms of the blocks are counted with N numbers, as if they ran over the tokens. They
    run over the embed_dim channels.
all_norms_over_tokens: norms = 4 * D → norms = 4 * N
and: + 2 * D + → + 2 * N +
    All LayerNorms are counted with N numbers, as if they ran over the tokens. They run over the
    embed_dim channels.
norms_over_both: norms = 4 * D → norms = 4 * N * D
    The LayerNorms of the blocks are counted with a weight and a bias for each channel of each
    token. All tokens share them: embed_dim numbers each.
hidden_widths_exchanged: D // 2, 4 * D → 4 * D, D // 2
    The two hidden widths are exchanged. The MLP over the tokens is the narrow one, embed_dim // 2,
    and that over the channels the wide one, 4 · embed_dim.
half_the_tokens: half, wide = D // 2 → half, wide = N // 2
    The MLP over the tokens is counted with a hidden width of N // 2. It is embed_dim // 2, however
    many tokens there are.
four_times_the_tokens: half, wide = D // 2 → half, wide = 4 * N
    The MLP over the tokens is counted with a hidden width of 4 N. It is embed_dim // 2, however
    many tokens there are.
tokens_hidden_as_wide_as_they_are: half, wide = D // 2 → half, wide = N
    The MLP over the tokens is counted with a hidden width of N. It is embed_dim // 2.
tokens_hidden_of_d: half, wide = D // 2 → half, wide = D
    The MLP over the tokens is counted with a hidden width of embed_dim. It is half of that:
    embed_dim // 2.
tokens_hidden_of_2d: half, wide = D // 2 → half, wide = 2 * D
    The MLP over the tokens is counted with a hidden width of 2 · embed_dim. It is embed_dim // 2:
    half, not twice as much.
both_wide: half, wide = D // 2 → half, wide = 4 * D
    Both MLPs are counted with a hidden width of 4 · embed_dim. That holds for the one over the
    channels; the one over the tokens has embed_dim // 2.
both_narrow: D // 2, 4 * D → D // 2, D // 2
    Both MLPs are counted with a hidden width of embed_dim // 2. That holds for the one over the
    tokens; the one over the channels has 4 · embed_dim.
channels_hidden_of_4n: D // 2, 4 * D → D // 2, 4 * N
    The MLP over the channels is counted with a hidden width of 4 N. It is 4 · embed_dim.
channels_hidden_of_d: D // 2, 4 * D → D // 2, D
    The MLP over the channels is counted with a hidden width of embed_dim. It is four times that.
tokens_mlp_from_d: tokens = N * half + half + half * N + N →
→ tokens = D * half + half + half * D + D
    The MLP over the tokens is counted as if it led from embed_dim to embed_dim. It mixes the N
    tokens of one channel: N inputs, N outputs.
channels_mlp_from_n: channels = D * wide + wide + wide * D + D →
→ channels = N * wide + wide + wide * N + N
    The MLP over the channels is counted as if it led from N to N. It mixes the channels of one
    token: embed_dim inputs, embed_dim outputs.
halved_after_multiplying: N * half + half + → N * D // 2 + half +
halved_after_multiplying_or_not_at_all: N * half + half + half * N → N * D + half
    N times half of embed_dim is computed without rounding the half down, as by N · embed_dim // 2,
    or N · embed_dim for two layers. Compute the hidden width by itself: half = embed_dim // 2.
rounded_up: half, wide = D // 2 → half, wide = (D + 1) // 2
    Half of an odd embed_dim is rounded up. embed_dim // 2 rounds down: 3 for 7.
half_channels: half, wide = D // 2 → half, wide = D / 2
    embed_dim / 2 is not a whole number where embed_dim is odd, and a float in any case. The hidden
    width of the MLP over the tokens is embed_dim // 2, rounded down.
half_channels_made_whole_too_late: half, wide = D // 2 → half, wide = D / 2
and: return total → return int(total)
    Half of an odd embed_dim is rounded at the end, when it has been multiplied. The hidden width
    itself is a whole number: embed_dim // 2, with two strokes.
half_channels_rounded: half, wide = D // 2 → half, wide = round(D / 2)
    round() makes 4 of 3.5, and 4 of 4.5. embed_dim // 2 always rounds down.
arguments_in_another_order: in_chans, embed_dim, depth, num_classes →
→ in_chans, num_classes, embed_dim, depth
    The arguments stand in another order in your `def`. The function is called with img_size,
    patch_size, in_chans, embed_dim, depth and num_classes, in this order.
a_float: return total → return float(total)
    A float came back. A count is an `int`, without a decimal point: divide with // instead of /.
in_millions: return total → return total / 1e6
    These are millions. Return the number itself.
as_text: return total → return f"{total:,}"
    The number comes back as a text. Return it as an `int`, and leave the commas to whoever prints
    it.
first_layer_of_the_token_mlp: N * half + half + half * N + N → N * half + half
    The MLP over the tokens is counted with its first layer only. A second one leads from the hidden
    width back to the N tokens.
second_layer_of_the_token_mlp: N * half + half + half * N + N → half * N + N
    The MLP over the tokens is counted with its second layer only. A first one leads from the N
    tokens to the hidden width.
first_layer_of_the_channel_mlp: D * wide + wide + wide * D + D → D * wide + wide
    The MLP over the channels is counted with its first layer only. A second one leads from 4 ·
    embed_dim back to embed_dim.
second_layer_of_the_channel_mlp: D * wide + wide + wide * D + D → wide * D + D
    The MLP over the channels is counted with its second layer only. A first one leads from
    embed_dim to 4 · embed_dim.
first_layers: N * half + half + half * N + N → N * half + half
and: D * wide + wide + wide * D + D → D * wide + wide
    Each MLP is counted with its first layer only. A second one leads from the hidden width back to
    where it began.
one_matrix_in_the_token_mlp: N * half + half + half * N + N → N * half + half + N
    The MLP over the tokens is counted with one matrix of weights. It has two: N × (embed_dim // 2)
    in its first layer, and as many in its second.
one_matrix_in_the_channel_mlp: D * wide + wide + wide * D + D → D * wide + wide + D
    The MLP over the channels is counted with one matrix of weights. It has two: embed_dim × 4 ·
    embed_dim in its first layer, and as many in its second.
from_hidden_to_hidden: half * N + N → half * half + half
    The second layer of the MLP over the tokens is counted as leading from hidden width to hidden
    width. It leads back to the N tokens.
from_tokens_to_channels: half * N + N → half * D + D
    The second layer of the MLP over the tokens is counted as leading to embed_dim numbers. It leads
    back to the N tokens.
from_wide_to_wide: wide * D + D → wide * wide + wide
from_wide_to_wide_with_the_right_bias: wide * D + D → wide * wide + D
    The second layer of the MLP over the channels is counted as leading from hidden width to hidden
    width. It leads back to the embed_dim channels.
tokens_forgotten: norms + tokens + → norms +
    The MLP over the tokens is missing in the blocks. It leads from N tokens to embed_dim // 2
    numbers and back, with biases.
channels_forgotten_in_the_blocks: tokens + channels) → tokens)
    The MLP over the channels is missing in the blocks. It leads from embed_dim to 4 · embed_dim
    numbers and back, with biases.
head_forgotten: + 2 * D + head → + 2 * D
    The head is missing: embed_dim · num_classes weights, and a bias for each class.
head_and_norm_forgotten: + 2 * D + head →
    What comes after the blocks is missing: a LayerNorm with 2 · embed_dim numbers, and the head.
stem_forgotten: stem + depth → depth
    The patch embedding is missing: a weight for each pixel of a patch and each channel, and a bias.
stem_for_each_patch: total = stem → total = N * stem
    The patch embedding is counted once for each patch. All patches share its weights.
stem_of_the_whole_image: in_chans * patch_size**2 → in_chans * img_size**2
    The patch embedding is counted with the pixels of the whole image. It sees one patch at a time:
    in_chans · patch_size² numbers.
stem_bias_for_each_patch: **2 * D + D → **2 * D + N * D
    The bias of the patch embedding is counted for each patch. All patches share it: embed_dim
    numbers.
stem_bias_of_one: **2 * D + D → **2 * D + 1
    The patch embedding is counted with a single bias. It has one for each output: embed_dim
    numbers.
stem_bias_of_the_pixels: in_chans * patch_size**2 * D + D → in_chans * patch_size**2 * (D + 1)
    The bias of the patch embedding is counted with a number for each pixel of a patch. A bias
    belongs to the outputs: embed_dim numbers.
head_bias_of_d: + num_classes → + D
    The bias of the head is counted with embed_dim numbers. It has one for each output, and the
    outputs are the classes.
token_mlp_for_each_channel: + tokens + → + D * tokens +
    The MLP over the tokens is counted once for each channel. It is applied to every channel, with
    the same weights: count them once in a block.
channel_mlp_for_each_token: + channels) → + N * channels)
    The MLP over the channels is counted once for each token. It is applied to every token, with the
    same weights: count them once in a block.
head_on_every_token: head = D * num_classes → head = N * D * num_classes
    The head is counted with N · embed_dim inputs. It reads the mean of the tokens, which is
    embed_dim numbers.
head_for_each_token: + 2 * D + head → + 2 * D + N * head
    The head is counted once for each token. It is there once, and reads the mean of the tokens.
class_token: total = stem → total = stem + D
    embed_dim numbers too many, outside of the blocks, as for a class token. A Mixer has none: its
    head reads the mean of all tokens.
one_token_more: (img_size // patch_size) ** 2 → (img_size // patch_size) ** 2 + 1
    The tokens are counted as N + 1, as with a class token. A Mixer has none: N is the number of
    patches.
positions: total = stem → total = stem + N * D
    N · embed_dim numbers too many, as for the positions of N tokens. A Mixer has none: its MLP over
    the tokens knows the places by its weights.
class_token_and_positions: total = stem → total = stem + D + (N + 1) * D
    A class token and positions are counted, as in a ViT. A Mixer has neither.
as_in_a_vit: (img_size // patch_size) ** 2 → (img_size // patch_size) ** 2 + 1
and: total = stem → total = stem + D + N * D
    A class token is counted, positions, and a token more in every block, as in a ViT. A Mixer has
    no class token and no positions.
attention: tokens = N * half + half + half * N + N → tokens = 4 * D * D + 4 * D
    Attention is counted, as in a ViT. A Mixer has an MLP over the tokens in its place: from N
    tokens to embed_dim // 2 numbers and back, with biases.
depth_forgotten: depth * ( → (
    One block is counted. There are `depth` of them, each with weights of its own.
one_block_less: depth * ( → (depth - 1) * (
    One block is missing. There are `depth` of them: a loop runs over range(depth).
one_block_more: depth * ( → (depth + 1) * (
    One block is too many. There are `depth` of them: a loop runs over range(depth).
blocks_of_tokens_only: depth * (norms + tokens + channels) → depth * (norms + tokens) + channels
    The MLP over the channels is counted once. Every block has one of its own: multiply it by
    `depth`, too.
blocks_of_channels_only: depth * (norms + tokens + channels) → depth * (norms + channels) + tokens
    The MLP over the tokens is counted once. Every block has one of its own: multiply it by `depth`,
    too.
block_norms_once: depth * (norms + → norms + depth * (
    The LayerNorms of a block are counted once. Every block has two of its own: multiply them by
    `depth`, too.
first_part_only: depth * (norms + tokens + channels) → depth * norms + tokens + channels
    Only the LayerNorms are multiplied by `depth`. Put parentheses around all that a block has.
stem_in_every_block: stem + depth * (norms → depth * (stem + norms
    The patch embedding is counted in every block. The image is cut into patches once, before them.
head_in_every_block: channels) + 2 * D + head → channels + head) + 2 * D
    The head is counted in every block. It stands once, after all of them.
end_in_every_block: channels) + 2 * D + head → channels + 2 * D + head)
    What stands after the blocks, a LayerNorm and the head, is counted in every block. It comes
    once.
everything_depth_times: stem + depth * (norms + tokens + channels) + 2 * D + head →
→ depth * (stem + norms + tokens + channels + 2 * D + head)
    All of it is multiplied by `depth`. The patch embedding, the last LayerNorm and the head come
    once; only the blocks repeat.
tokens_of_one_side: (img_size // patch_size) ** 2 → img_size // patch_size
    img_size // patch_size is the number of patches along one side, and there are as many rows:
    square it to get N.
tokens_twice_a_side: (img_size // patch_size) ** 2 → (img_size // patch_size) * 2
    The number of patches along one side is doubled. There are as many rows as columns: square it.
pixels_over_one_side: (img_size // patch_size) ** 2 → img_size**2 // patch_size
    The pixels are divided by patch_size once. A patch is patch_size pixels high and as many wide: N
    = (img_size // patch_size)².
pixels_for_tokens: (img_size // patch_size) ** 2 → img_size**2
    Every pixel is counted as a token. A token is a patch: N = (img_size // patch_size)².
side_over_area: (img_size // patch_size) ** 2 → img_size // patch_size**2
    One side of the image is divided by the area of a patch. Put parentheses: N = (img_size //
    patch_size)².
tokens_of_each_channel: (img_size // patch_size) ** 2 → in_chans * (img_size // patch_size) ** 2
    The patches are counted once for each channel of the image. A patch has all of its channels: N =
    (img_size // patch_size)².
channels_forgotten: in_chans * patch_size**2 → patch_size**2
    The channels of the image are missing in the patch embedding: a patch has in_chans ·
    patch_size² numbers.
patch_side_for_its_area: patch_size**2 → patch_size
    A patch is counted with patch_size numbers per channel. It has patch_size².
channels_squared: in_chans * patch_size**2 → (in_chans * patch_size) ** 2
    The channels of the image are squared, too. A patch has in_chans · patch_size² numbers.
stem_without_width: in_chans * patch_size**2 * D → in_chans * patch_size**2
    The patch embedding is counted for one channel of the tokens. It has in_chans · patch_size²
    weights for each of the embed_dim channels.
""") | edits(by_layers, """
biases_of_inputs: return inputs * outputs + outputs → return inputs * outputs + inputs
    The biases are counted with one number for each *input*. A bias is added to the outputs, and has
    one number for each of these.
overwritten: total += 4 * embed_dim → total = 4 * embed_dim
    Each round of the loop begins anew, so that the patch embedding and all blocks but the last are
    lost. *Add* to the total: += instead of =.
one_bias_for_a_layer: return inputs * outputs + outputs → return inputs * outputs + 1
    Each linear layer is counted with a single bias. It has one number for each of its outputs.
biases_for_both: return inputs * outputs + outputs → return inputs * outputs + inputs + outputs
    The biases are counted for the inputs and for the outputs. A linear layer has one number for
    each of its outputs.
""")  # fmt: skip


def probe(answer):
    sizes = [(32, 8, 3, 12, 2, 7), (21, 7, 1, 11, 5, 4), (8, 8, 2, 5, 6, 2), (30, 5, 2, 13, 1, 9)]
    return [returns(answer, *s) for s in sizes]


EXERCISE = Exercise(
    name="mixer_parameters",
    chapter="09_inductive_bias",
    task="mixer_parameters(img_size, patch_size, in_chans, embed_dim, depth, num_classes) -> the "
    "number of parameters of that MLP-Mixer, an int, computed without building the model",
    reference=mixer_parameters,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_layers, by_model, by_shapes],
    excluded=["vitlib.MlpMixer", "torch.nn.Module"],
    probe=probe,
)
