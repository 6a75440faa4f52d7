"""11.1 activation_bytes: what a forward pass leaves for the backward pass."""

from vitlib.check.ch05_model._count import count
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise
from vitlib.check.probing import returns


def activation_bytes(batch, tokens, embed_dim, num_heads, depth, checkpointing):
    block = 16 * embed_dim + 4 + num_heads
    per_token = depth * block
    if checkpointing:
        per_token = depth * embed_dim + block - embed_dim
    return 4 * batch * tokens * per_token


def by_list(batch, tokens, embed_dim, num_heads, depth, checkpointing):
    """Tensor by tensor, in numbers per token."""
    kept = [embed_dim] * 8 + [4 * embed_dim] * 2 + [1] * 4 + [num_heads]
    numbers = sum(kept)
    for _ in range(depth - 1):
        numbers += embed_dim if checkpointing else sum(kept)
    return numbers * tokens * batch * 4


def by_difference(batch, tokens, embed_dim, num_heads, depth, checkpointing):
    rest = 15 * embed_dim + num_heads + 4  # of a block, without its input
    blocks = 1 if checkpointing else depth
    return 4 * batch * tokens * (depth * embed_dim + blocks * rest)


def cases(answer) -> Cases:
    def run(*sizes):
        return count(answer, *sizes)

    yield "a block on one image of ViT-Ti/16", lambda: run(1, 197, 192, 3, 1, False)
    yield "all of ViT-Ti/16, 64 images", lambda: run(64, 197, 192, 3, 12, False)
    yield "the same with checkpointing", lambda: run(64, 197, 192, 3, 12, True)
    yield "5 images, 17 tokens, D = 24, 6 heads, depth 3", lambda: run(5, 17, 24, 6, 3, False)
    yield "these with checkpointing", lambda: run(5, 17, 24, 6, 3, True)
    yield "one block with checkpointing", lambda: run(2, 10, 8, 4, 1, True)


MUTANTS = edits(activation_bytes, """
numbers: 4 * batch → batch
    These are numbers, not bytes. In float32, each of them takes 4 bytes.
two_bytes: 4 * batch → 2 * batch
    Each number is taken to have 2 bytes, as in bfloat16. The task asks for float32, with 4.
eight_bytes: 4 * batch → 8 * batch
    Each number is taken to have 8 bytes, as in float64. The task asks for float32, with 4.
bits: 4 * batch → 32 * batch
    These are bits. A number in float32 has 32 of them, and 4 bytes.
one_image: 4 * batch * tokens → 4 * tokens
    This is for one image. Every image of the batch leaves its own activations.
one_token: 4 * batch * tokens → 4 * batch
    This is for one token. Every token leaves its own numbers in every block.
pairs_of_tokens: 4 * batch * tokens → 4 * batch * tokens * tokens
    The numbers are counted for every pair of tokens. The fused kernel keeps no table of attention
    weights: what stays grows with T, not with T².
heads_forgotten: + 4 + num_heads → + 4
    The fused kernel keeps one number per token and head for its softmax. They are missing.
norms_forgotten: + 4 + num_heads → + num_heads
    Each of the two norms keeps a mean and a deviation for each token, 4 numbers together. They are
    missing.
one_norm: + 4 + num_heads → + 2 + num_heads
    The mean and the deviation of one norm are counted. A block has two norms.
small_ones_forgotten:  + 4 + num_heads →
    Besides the tensors of width D and 4D, two norms keep a mean and a deviation each, and the
    kernel one number per head: 4 + H more for each token.
a_table_of_weights: + num_heads → + num_heads * tokens
    A table of attention weights is counted, T per token and head. The fused kernel does not keep
    it. It keeps one number per token and head.
gelu_in_place: 16 * embed_dim → 12 * embed_dim
    The wide layer of the MLP is counted once. Both its values before GELU and those after it are
    needed: GELU's derivative asks for the former, fc2 for the latter.
mlp_forgotten: 16 * embed_dim → 8 * embed_dim
    The wide layer of the MLP is missing: 4D numbers before GELU and 4D after it.
qkv_as_one: 16 * embed_dim → 14 * embed_dim
    Two widths are missing, as when queries, keys and values are counted as one. They are three.
attention_output_forgotten: 16 * embed_dim → 15 * embed_dim
    One width is missing. Count again: two for each norm, three for q, k and v, one for what
    attention returns, and eight for the MLP.
one_width_more: 16 * embed_dim → 17 * embed_dim
    One width is counted too many. The sum after attention is the second norm's input, and the sum
    after the MLP is the next block's first: each is kept once.
two_widths_more: 16 * embed_dim → 18 * embed_dim
    Two widths are counted too many. What proj and fc2 return is only added: a sum needs neither of
    its terms in the backward pass.
head_width: 16 * embed_dim → 16 * embed_dim // num_heads
    The width of one head is counted, D/H. All heads together have D.
input_counted_twice:  + block - embed_dim → + block
    With checkpointing, the input of the block that is computed again is counted twice. It is among
    the inputs that are kept anyway.
inputs_only: depth * embed_dim + block - embed_dim → depth * embed_dim
    With checkpointing you count the inputs of the blocks. When the backward pass arrives at a block
    and computes it again, the activations of this one block are there as well.
one_block_only: depth * embed_dim + block - embed_dim → block
    With checkpointing you count one block. The inputs of all the others are kept, too: without
    them, these could not be computed again.
one_input_short: depth * embed_dim + block - embed_dim → (depth - 2) * embed_dim + block
    With checkpointing, the input of one block is missing: each of the depth blocks keeps its own.
checkpointing_ignored: depth * embed_dim + block - embed_dim → depth * block
    With checkpointing you count as without it. Each block then keeps its input alone, and one of
    them, the one that is being computed again, its other activations.
always_checkpointing: per_token = depth * block → per_token = depth * embed_dim + block - embed_dim
    Without checkpointing, every block keeps all of its activations. You count them for one block.
other_way_round: if checkpointing: → if not checkpointing:
    The two cases are swapped: what you return without checkpointing belongs to checkpointing.
one_block: per_token = depth * block → per_token = block
    Without checkpointing, one block is counted. Each of them keeps its own activations.
""")  # fmt: skip


def probe(answer):
    sizes = [(3, 50, 32, 2, 5, c) for c in (False, True)] + [(7, 26, 48, 12, 2, True)]
    return [returns(answer, *s) for s in [*sizes, (1, 5, 16, 1, 9, False)]]


EXERCISE = Exercise(
    name="activation_bytes",
    chapter="11_scaling",
    task="activation_bytes(batch, tokens, embed_dim, num_heads, depth, checkpointing) -> bytes "
    "that the blocks keep at their fullest, in float32, with an MLP four times as wide",
    reference=activation_bytes,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_list, by_difference],
    probe=probe,
)
