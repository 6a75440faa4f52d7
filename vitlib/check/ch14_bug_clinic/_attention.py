"""What goes wrong in attention anywhere, as edits of the `Attention` of three cases of the clinic.

Each repair touches a few lines, and the mistakes of chapter 3 are made in the lines around them.
"""

SCORES = "(q @ k.transpose(-2, -1) * self.scale)"
ANYWHERE = f"""
softmax_over_queries: softmax(dim=-1) → softmax(dim=-2)
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
softmax_over_heads: softmax(dim=-1) → softmax(dim=1)
    The softmax runs over axis 1, the heads. Each query shares out its attention over the keys:
    dim=-1.
no_softmax: .softmax(dim=-1) →
    The softmax is gone: the scores themselves are used as weights, and negative ones are among
    them.
least_like_first: {SCORES} → (-q @ k.transpose(-2, -1) * self.scale)
    The sign of the scores is turned round: the key that fits least gets the most. Take softmax of
    the scores as they are.
queries_as_keys: k.transpose → q.transpose
    The queries meet themselves: q @ qᵀ. Their partners are the keys.
keys_first: q, k, v = → k, q, v =
    Queries and keys have changed places: the first third of qkv is q, the second k.
values_before_keys: q, k, v = → q, v, k =
    Keys and values have changed places: the second third of qkv is k, the last is v.
other_order: 3, self.heads, D // self.heads) → self.heads, 3, D // self.heads)
and: permute(2, 0, 3, 1, 4) → permute(3, 0, 2, 1, 4)
    The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then all of k,
    then all of v. Loaded weights fit no other order.
heads_not_in_front: permute(2, 0, 3, 1, 4) → permute(2, 0, 1, 3, 4)
and: .transpose(1, 2).reshape → .reshape
    The heads still stand behind the tokens when q meets k, so that the heads of one token attend to
    each other, and no token to any other. Move H in front of N.
no_transpose_back: .transpose(1, 2).reshape → .reshape
    The heads are merged without moving them back behind the tokens. From (B, H, N, d) to (B, N, H,
    d) first, then reshape.
"""
OF_THE_SCALE = """
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √d, and they should be divided by it: (dim // heads) ** -0.5.
no_scale: * self.scale).softmax → ).softmax
    The scale is gone: the scores are to be multiplied by (dim // heads) ** -0.5.
scaled_by_dim: (dim // heads) → dim
    You divide by the root of the whole width, D. A score is a sum over the d channels of one head:
    divide by the root of d.
divided_by_d: -0.5 → -1
    You divide by d, and it should be its root: (dim // heads) ** -0.5.
"""
OF_THE_HEADS = """
root_of_the_number_of_heads: (dim // heads) → heads
    The number of heads stands under the root. A score is a sum over the d channels of one head:
    (dim // heads) ** -0.5.
"""
INPUT_ADDED = """
input_added: return self.proj → return x + self.proj
    You add the input in the layer. The block around it adds the input already, so that it would
    count twice.
"""
