"""5.2 count_multiply_adds: what one image costs."""

import math

import torch

from vitlib.blocks import Block
from vitlib.check.ch05_model._count import count
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise
from vitlib.check.probing import returns


def count_multiply_adds(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    height, width = img_size
    D, N = embed_dim, (height // patch_size) * (width // patch_size)
    T, hidden = N + 1, int(mlp_ratio * D)
    embedding = N * in_chans * patch_size**2 * D
    attention = 4 * T * D * D + 2 * T * T * D
    mlp = 2 * T * D * hidden
    total = embedding + depth * (attention + mlp) + D * num_classes
    return total


def by_weights(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    """Each matrix is used once for each of its rows of input."""
    with torch.device("meta"):
        block = Block(embed_dim, 1, mlp_ratio)
    matrices = sum(p.numel() for p in block.parameters() if p.ndim == 2)
    tokens = 1 + (img_size[0] // patch_size) * (img_size[1] // patch_size)
    layer = tokens * matrices + sum(tokens * tokens * embed_dim for _ in ("scores", "values"))
    pixels = in_chans * img_size[0] * img_size[1]
    return embed_dim * (pixels + num_classes) + sum(layer for _ in range(depth))


def by_list(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    N = math.prod(side // patch_size for side in img_size)
    T, D, hidden = N + 1, embed_dim, round(embed_dim * mlp_ratio)
    block = [(T, D, 3 * D), (T, D, T), (T, T, D), (T, D, D), (T, D, hidden), (T, hidden, D)]
    products = [(N, in_chans * patch_size**2, D), *block * depth, (1, D, num_classes)]
    return sum(rows * inner * columns for rows, inner, columns in products)


def cases(answer) -> Cases:
    yield "the nano model on a digit", lambda: count(answer, (28, 28), 7, 1, 64, 4, 4.0, 10)
    yield "Ti/16 on 224 × 224", lambda: count(answer, (224, 224), 16, 3, 192, 12, 4.0, 1000)
    yield "Ti/16 on 224 × 448", lambda: count(answer, (224, 448), 16, 3, 192, 12, 4.0, 1000)
    label = "24 × 40, P = 8, C = 2, D = 10, depth 3, MLP ratio 2.5, K = 5"
    yield label, lambda: count(answer, (24, 40), 8, 2, 10, 3, 2.5, 5)


MUTANTS = edits(count_multiply_adds, """
floating_point_operations: return total → return 2 * total
    This counts floating-point operations: two for each multiply-add, exactly twice the number asked
    for. Tables mix the two up, so say which one you mean.
attention_products_missing:  + 2 * T * T * D →
    The two products of attention that have no weights are missing: scores (T × D times D × T) and
    weighted sum (T × T times T × D). It is what a counter sees that misses the fused kernel.
one_attention_product: 2 * T * T * D → T * T * D
    Attention has two products of T²·D, the scores and the weighted sum of the values. You count one
    of them.
width_without_pairs: 2 * T * T * D → 2 * T * D
    Attention's products are counted as T·D. Each of T queries meets each of T keys: T²·D for the
    scores, and as many for the weighted sum.
pairs_without_width: 2 * T * T * D → 2 * T * T
    Each pair of tokens is counted once, but one score is a sum over all channels: T² pairs cost
    T²·D multiply-adds. The number of heads does not matter.
projection_forgotten: 4 * T * D * D → 3 * T * D * D
    Query, key and value are counted, 3 D² for each token. The projection behind attention is one
    more matrix of D × D.
one_layer_in_the_mlp: 2 * T * D * hidden → T * D * hidden
    The MLP has two layers, one that widens and one that narrows again. You count one.
head_forgotten:  + D * num_classes →
    The head is missing: one token of D numbers times a matrix of D × K.
class_token_forgotten: N + 1 → N
    The blocks see one token more than there are patches: the class token is worked on like all
    others. T = N + 1.
two_tokens_more: N + 1 → N + 2
    The blocks see two tokens more than there are patches, as with a distillation token. Here there
    is a class token only: T = N + 1.
head_on_every_token: D * num_classes → T * D * num_classes
    The head is counted for every token. It reads the class token only: D·K, once.
patch_embedding_forgotten: embedding + depth → depth
    The patch convolution is missing: N patches of C·P² numbers, each times a matrix of C·P² × D.
class_token_embedded: N * in_chans → (N + 1) * in_chans
    The patch embedding is counted for N + 1 tokens. The class token is learned: it does not come
    from a patch, and nothing is multiplied to make it.
ratio_fixed: mlp_ratio * D → 4 * D
    The MLP is taken to be four times as wide as the tokens, whatever mlp_ratio says.
taken_to_be_square: (width // patch_size) → (height // patch_size)
    The rows of patches are squared, which is right for a square image only. There are H/P rows and
    W/P columns.
columns_squared: (height // patch_size) → (width // patch_size)
    The columns of patches are squared, which is right for a square image only. There are H/P rows
    and W/P columns.
sides_added: (height // patch_size) * (width → (height // patch_size) + (width
    Rows and columns of patches are added. A grid of H/P rows and W/P columns has H/P · W/P patches.
pixels_over_one_side: (height // patch_size) * (width // patch_size) → height * width // patch_size
    The pixels are divided by P once. A patch is P pixels high and P pixels wide, P² in all:
    N = H·W / P².
pixels_for_patches: (height // patch_size) * (width // patch_size) → height * width
    Every pixel is counted as a token. A token is a patch of P × P pixels: N = H/P · W/P.
ratio_cut_off: int(mlp_ratio * D) → int(mlp_ratio) * D
    int(mlp_ratio) makes 2 of 2.5. Multiply first, and make the product a whole number then.
one_side_of_the_patch: patch_size**2 → patch_size
    A patch is taken to have C·P numbers. It is P pixels high and P wide, with C channels: C·P².
channels_forgotten: in_chans * patch → patch
    The channels are missing: a patch has C·P² numbers, and each of them is multiplied.
patch_without_width: patch_size**2 * D → patch_size**2
    The patch embedding is counted for one channel of the tokens. Each of the N patches is
    multiplied with a matrix of C·P² × D.
kernel_at_every_pixel: embedding = N * in_chans → embedding = height * width * in_chans
    The kernel is applied at every pixel. Its stride is P, so it is applied once for each patch: N
    times.
one_patch_embedded: N * in_chans → in_chans
    The patch embedding is counted for one patch. The same kernel is applied to all N of them.
matrices_for_one_token: 4 * T * D → 4 * D
and: 2 * T * D * hidden → 2 * D * hidden
    The matrices of the blocks are counted once, which is their number of weights. Each is used once
    for every token: multiply by T.
projections_for_one_token: 4 * T * D → 4 * D
    The four matrices of attention are counted for one token. Each of the T tokens is multiplied
    with them.
mlp_for_one_token: 2 * T * D * hidden → 2 * D * hidden
    The MLP is counted for one token. Each of the T tokens passes through it.
one_matrix_for_qkv: 4 * T * D * D → 2 * T * D * D
    Query, key and value are counted as one matrix of D × D. They are three, and with the projection
    behind attention four.
one_matrix_for_attention: 4 * T * D * D → T * D * D
    Attention is counted with one matrix of D × D. It has four: query, key, value, and the
    projection behind them.
both_layers_hidden: 2 * T * D * hidden → 2 * T * hidden * hidden
    The layers of the MLP are counted with hidden × hidden. One leads from D to hidden, the other
    from hidden to D.
one_block: depth * (attention + mlp) → (attention + mlp)
    One block is counted. There are depth of them.
blocks_of_attention_only: depth * (attention + mlp) → depth * attention + mlp
    Only attention is multiplied by depth. Every block has an MLP, too: depth · (attention + MLP).
blocks_of_mlp_only: depth * (attention + mlp) → attention + depth * mlp
    Only the MLP is multiplied by depth. Every block has attention, too: depth · (attention + MLP).
everything_depth_times: embedding + depth * (attention + mlp) + D * num_classes
→ depth * (embedding + attention + mlp + D * num_classes)
    All of it is multiplied by depth. The patch embedding and the head come once; only the blocks
    repeat.
embedding_in_every_block: embedding + depth * (attention → depth * (embedding + attention
    The patch embedding is counted in every block. The image is cut into patches once, before them.
products_like_matrices: 2 * T * T * D → 2 * T * D * D
    The two products of attention are counted as T·D². They are T × D times D × T, and T × T times
    T × D: T²·D each.
products_like_scores_and_a_matrix: 2 * T * T * D → T * T * D + T * D * D
    One of the two products of attention is counted as T·D². The weighted sum is T × T times T × D:
    T²·D, as the scores.
products_with_both_squared: 2 * T * T * D → 2 * T * T * D * D
    The products of attention are counted as T²·D². One score is a sum over D products, so it is
    T²·D.
matrices_for_patches_only: 4 * T * D → 4 * N * D
and: 2 * T * D * hidden → 2 * N * D * hidden
    The matrices of the blocks are counted for N patches. The class token passes through them as
    well: T = N + 1.
projections_for_patches_only: 4 * T * D → 4 * N * D
    The four matrices of attention are counted for N patches. The class token passes through them as
    well: T = N + 1.
mlp_for_patches_only: 2 * T * D * hidden → 2 * N * D * hidden
    The MLP is counted for N patches. The class token passes through it as well: T = N + 1.
pairs_of_patches: 2 * T * T → 2 * N * N
    The pairs of attention are counted among the patches. The class token takes part, as query and
    as key: T² pairs.
queries_are_patches: 2 * T * T → 2 * N * T
    The queries are counted as N and the keys as N + 1. The class token asks, too: T² pairs.
head_on_every_patch: D * num_classes → N * D * num_classes
    The head is counted for every patch. It reads the class token only: D·K, once.
attention_forgotten: (attention + mlp) → mlp
    Attention is missing: four matrices of D × D for every token, and the two products between
    tokens.
mlp_forgotten: (attention + mlp) → attention
    The MLP is missing: two products for every token, D × hidden and hidden × D.
biases_counted: patch_size**2 * D → patch_size**2 * D + N * D
and: 4 * T * D * D → 4 * T * (D + 1) * D
and: 2 * T * D * hidden → T * (2 * D * hidden + hidden + D)
and: + D * num_classes → + (D + 1) * num_classes
    The biases are counted as well. A bias is an addition without a product, and the task asks for
    matrix products and the patch convolution, nothing else.
bias_of_the_head_counted: + D * num_classes → + (D + 1) * num_classes
    The bias of the head is counted as well. It is an addition without a product.
biases_of_the_blocks_counted: 4 * T * D * D → 4 * T * (D + 1) * D
and: 2 * T * D * hidden → T * (2 * D * hidden + hidden + D)
    The biases of the blocks are counted as well. A bias is an addition without a product.
bias_of_the_patches_counted: patch_size**2 * D → patch_size**2 * D + N * D
    The bias of the patch embedding is counted as well. It is an addition without a product.
activation_counted: 2 * T * D * hidden → 2 * T * D * hidden + T * hidden
    T·hidden more are counted in every block, as for the GELU. The task asks for matrix products and
    the patch convolution, nothing else.
sums_counted: 2 * T * D * hidden → 2 * T * D * hidden + 2 * T * D
    2 T·D more are counted in every block, as for its two norms or its two residual sums. The task
    asks for matrix products and the patch convolution, nothing else.
softmax_counted: 2 * T * T * D → 2 * T * T * D + T * T
    T² more are counted in every block, as for a softmax. The task asks for matrix products and the
    patch convolution, nothing else.
""")  # fmt: skip


def probe(answer):
    sizes = [((32, 16), 8, 3, 12, 2, 3.0, 7), ((20, 35), 5, 1, 6, 5, 1.5, 4)]
    return [returns(answer, *s) for s in [*sizes, ((8, 8), 8, 2, 4, 0, 4.0, 2)]]


EXERCISE = Exercise(
    name="count_multiply_adds",
    chapter="05_model",
    task="count_multiply_adds(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, "
    "num_classes) -> the multiply-adds of one image, with img_size = (height, width)",
    reference=count_multiply_adds,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_weights, by_list],
    probe=probe,
)
