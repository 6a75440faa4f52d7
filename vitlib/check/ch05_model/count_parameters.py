"""5.1 count_parameters: every MLP ratio, and DeiT's second token."""

import math

import torch

from vitlib.check.ch05_model._count import count
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise
from vitlib.check.probing import returns
from vitlib.model import VisionTransformer


def count_parameters(
    img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled
):
    D, N = embed_dim, (img_size // patch_size) ** 2
    prefix, hidden = 2 if distilled else 1, int(mlp_ratio * D)
    embedding = (in_chans * patch_size**2 + 1) * D
    tokens = prefix * D + (prefix + N) * D
    attention = 4 * (D + 1) * D
    mlp = (D + 1) * hidden + (hidden + 1) * D
    norms = 4 * D
    head = (D + 1) * num_classes
    return embedding + tokens + depth * (attention + mlp + norms) + 2 * D + prefix * head


def by_model(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled):
    with torch.device("meta"):
        model = VisionTransformer(
            img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads=1,
            mlp_ratio=mlp_ratio, distilled=distilled,
        )  # fmt: skip
    return sum(p.numel() for p in model.parameters())


def by_shapes(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled):
    D, hidden = embed_dim, round(embed_dim * mlp_ratio)
    prefix = 1 + bool(distilled)
    block = [(D,)] * 4 + [(3 * D, D), (3 * D,), (D, D), (D,)]
    block += [(hidden, D), (hidden,), (D, hidden), (D,)]
    shapes = [(D, in_chans, patch_size, patch_size), (D,), (prefix, D)]
    shapes += [((img_size // patch_size) ** 2 + prefix, D), *block * depth, (D,), (D,)]
    shapes += [(num_classes, D), (num_classes,)] * prefix
    return sum(math.prod(shape) for shape in shapes)


def cases(answer) -> Cases:
    nano, tiny = (28, 7, 1, 64, 4, 4.0, 10), (224, 16, 3, 192, 12, 4.0, 1000)
    odd = (24, 8, 2, 10, 3, 2.5, 5)
    yield "the book's nano model", lambda: count(answer, *nano, False)
    yield "Ti/16, plain", lambda: count(answer, *tiny, False)
    yield "DeiT-tiny, distilled", lambda: count(answer, *tiny, True)
    yield "width 10, depth 3, MLP ratio 2.5, 5 classes, plain", lambda: count(answer, *odd, False)
    yield "the same, distilled", lambda: count(answer, *odd, True)
    yield "no block at all", lambda: count(answer, 24, 8, 2, 10, 0, 2.5, 5, False)


MUTANTS = edits(count_parameters, """
ratio_fixed: mlp_ratio * D → 4 * D
    The MLP is taken to be four times as wide as the tokens, whatever mlp_ratio says. 12 D² + 13 D
    holds for the ratio 4 only.
prefix_counted_once: (prefix + N) → N
    The class token needs D numbers for itself and D for its position, and the distillation token,
    if there is one, likewise. One of the two is missing in your count: N + 1 positions in a plain
    model, N + 2 in a distilled one.
distilled_token_only_once: prefix * D + (prefix + N) * D → D + (1 + N) * D
    The distilled model has a distillation token and a position for it. Your count has neither: 2 D
    numbers are missing.
distilled_ignored: 2 if distilled else 1 → 1
    The plain model is right. A distilled one has three things more: the distillation token, its
    position, and a second head with a bias.
pixels_over_one_side: (img_size // patch_size) ** 2 → img_size**2 // patch_size
    The pixels are divided by P once. A patch is P pixels high and P pixels wide: N = (H/P)².
pixels_for_patches: (img_size // patch_size) ** 2 → img_size**2
    Every pixel is counted as a token. A token is a patch of P × P pixels: N = (H/P)².
first_layer_of_the_mlp_only: (D + 1) * hidden + (hidden + 1) * D → (D + 1) * hidden
    The MLP is counted with its first layer only. The second leads back from hidden to D.
second_layer_of_the_mlp_only: (D + 1) * hidden + (hidden + 1) * D → (hidden + 1) * D
    The MLP is counted with its second layer only. The first leads from D to hidden.
attention_forgotten: (attention + mlp → (mlp
    Attention is missing: qkv and the projection, 4 (D + 1) · D for each block.
mlp_forgotten: attention + mlp + → attention +
    The MLP is missing: two layers with a bias each, for each block.
head_forgotten:  + prefix * head →
    The head is missing: D·K weights and K biases, twice in a distilled model.
embedding_forgotten: embedding + tokens → tokens
    The patch embedding is missing: C·P²·D weights and D biases.
positions_forgotten: prefix * D + (prefix + N) * D → prefix * D
    The positions are missing: one vector of D numbers for each token.
positions_without_width: (prefix + N) * D → (prefix + N)
    Each position is counted as one number. It is a vector of D numbers, one for each channel.
heads_share_their_bias: prefix * head → prefix * D * num_classes + num_classes
    The bias is counted for one head. A distilled model has two heads, each with K biases.
embedding_in_every_block: embedding + tokens + depth * ( → tokens + depth * (embedding +
    The patch embedding is counted in every block. The image is cut into patches once, before them.
last_norm_in_every_block: norms) + 2 * D → norms + 2 * D)
    The last LayerNorm is counted in every block. It stands once, behind all of them.
heads_in_every_block: norms) + 2 * D + prefix * head → norms + prefix * head) + 2 * D
    The head is counted in every block. It stands once, behind all of them.
one_matrix_for_qkv: 4 * (D + 1) * D → 2 * (D + 1) * D
    Query, key and value are counted as one matrix of D × D. They are three, and with the projection
    behind attention four.
one_head: prefix * head → head
    A distilled model has two heads, one for each of its tokens, each with D·K weights and K biases.
    Your count has one.
no_qkv_bias: 4 * (D + 1) * D → 4 * D * D + D
    The biases of query, key and value are missing, 3 D in each block. nn.Linear has a bias unless
    told otherwise, and ViT's have.
no_biases: patch_size**2 + 1 → patch_size**2
and: 4 * (D + 1) * D → 4 * D * D
and: (D + 1) * hidden + (hidden + 1) * D → D * hidden + hidden * D
and: (D + 1) * num_classes → D * num_classes
    No bias is counted. The patch embedding, the four linear layers of each block and the head have
    one number for each output.
embedding_bias_forgotten: patch_size**2 + 1 → patch_size**2
    D numbers are missing: the bias of the patch embedding, or the class token, or its position.
distillation_position_forgotten: (prefix + N) → (1 + N)
    D numbers are missing in a distilled model: the distillation token, or its position. There are
    two prefix tokens, and N + 2 positions.
first_mlp_bias_of_d: (D + 1) * hidden → D * hidden + D
    The bias of the MLP's first layer is counted with D numbers. It has one for each output, and
    that layer's outputs are the hidden channels.
second_mlp_bias_of_hidden: (hidden + 1) * D → hidden * D + hidden
    The bias of the MLP's second layer is counted with as many numbers as there are hidden channels.
    It has one for each output: D.
first_mlp_bias_forgotten: (D + 1) * hidden → D * hidden
    The bias of the MLP's first layer is missing: one number for each hidden channel.
second_mlp_bias_forgotten: (hidden + 1) * D → hidden * D
    D numbers are missing in each block: the bias of the MLP's second layer, or that of the output
    projection.
no_projection: 4 * (D + 1) * D → 3 * (D + 1) * D
    The output projection of attention is missing: D² weights and D biases in each block.
ratio_rounded_first: int(mlp_ratio * D) → int(mlp_ratio) * D
    The ratio is rounded down before it is multiplied: 2.5 becomes 2. Multiply first.
channels_forgotten: in_chans * patch_size**2 → patch_size**2
    The channels of the image are missing in the patch embedding: a patch has C · P² numbers.
patch_side_for_its_area: patch_size**2 → patch_size
    A patch is counted with P numbers per channel. It has P².
embedding_for_each_patch: return embedding → return N * embedding
    The patch embedding is counted once for each patch. All patches share its weights.
depth_forgotten: depth * ( → (
    The blocks are counted once. There are `depth` of them, each with weights of its own.
one_norm_per_block: norms = 4 * D → norms = 2 * D
    2 D numbers are missing in each block: it has two LayerNorms, each with a scale and a shift.
mlp_bias_forgotten: (D + 1) * hidden + (hidden + 1) * D → D * hidden + hidden * D
    The biases of the MLP are missing in each block: as many as it has hidden channels, and D more.
block_norms_forgotten: attention + mlp + norms → attention + mlp
    The two LayerNorms of each block are missing. Each has a scale and a shift of D numbers, so 4 D
    a block.
norms_forgotten: mlp + norms) + 2 * D → mlp)
    The LayerNorms are missing, two in each block and one after the last. Each has a scale and a
    shift of D numbers.
norms_without_shift: norms = 4 * D → norms = 2 * D
and: norms) + 2 * D → norms) + D
    Each LayerNorm is counted with D numbers. It has 2 D: a scale and a shift for every channel.
last_norm_forgotten: norms) + 2 * D → norms)
    The LayerNorm after the last block is missing: 2 D numbers.
patches_of_one_side: (img_size // patch_size) ** 2 → img_size // patch_size
    img_size // patch_size is the number of patches along one side, and there are as many rows:
    square it to get N.
head_bias_forgotten: (D + 1) * num_classes → D * num_classes
    The head has a bias for each class, and it is missing.
""")  # fmt: skip


def probe(answer):
    sizes = [(32, 8, 3, 12, 2, 3.0, 7), (20, 5, 1, 6, 5, 1.5, 4), (8, 8, 2, 4, 0, 4.0, 2)]
    return [returns(answer, *s, distilled) for s in sizes for distilled in (False, True)]


EXERCISE = Exercise(
    name="count_parameters",
    chapter="05_model",
    task="count_parameters(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, "
    "num_classes, distilled) -> the number of parameters of that Vision Transformer",
    reference=count_parameters,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_model, by_shapes],
    probe=probe,
)
