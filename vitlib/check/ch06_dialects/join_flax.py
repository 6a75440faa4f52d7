"""6.4 join_flax: three kernels with an axis for the heads."""

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw


def join_flax(query, key, value, out):
    qkv = torch.cat([kernel.flatten(1).T for kernel in (query, key, value)])
    return qkv, out.flatten(0, 1).T


def by_einops(query, key, value, out):
    qkv = rearrange([query, key, value], "three inputs h d -> (three h d) inputs")
    return qkv, rearrange(out, "h d outputs -> outputs (h d)")


def by_permute(query, key, value, out):
    width = query.shape[0]
    qkv = torch.stack([query, key, value]).permute(0, 2, 3, 1).reshape(-1, width)
    return qkv, out.permute(2, 0, 1).reshape(out.shape[2], -1)


def by_heads(query, key, value, out):
    rows = []
    for kernel in (query, key, value):
        for head in range(kernel.shape[1]):
            rows.append(kernel[:, head].T)
    return [torch.vstack(rows), torch.hstack([head.T for head in out])]


def cases(answer) -> Cases:
    def run(width, heads, d, seed=0):
        query, key, value = numbers(3, width, heads, d, seed=seed)
        return call(answer, query, key, value, numbers(heads, d, width, seed=seed + 1))

    yield "D = 12 in 3 heads of 4", lambda: run(12, 3, 4)
    yield "D = 10 in 2 heads of 5", lambda: run(10, 2, 5, seed=2)
    yield "D = 7, and 2 heads of 3", lambda: run(7, 2, 3, seed=4)
    yield "one head", lambda: run(5, 1, 5, seed=6)


MUTANTS = edits(join_flax, """
kernels_reshaped: kernel.flatten(1).T → kernel.reshape(-1, len(kernel))
    A reshape alone gives the right shape and the wrong numbers: it keeps the order in which they
    lie, so that rows and columns are mixed. In query, key and value the inputs D come first: merge
    the heads with the axis behind them, to (D, H·d), and then transpose.
out_reshaped: out.flatten(0, 1).T → out.reshape(out.shape[-1], -1)
    A reshape alone gives the right shape and the wrong numbers: it keeps the order in which they
    lie, so that rows and columns are mixed. In `out` the inputs are the two axes in front: merge
    them, to (H·d, D), and then transpose.
both_reshaped: kernel.flatten(1).T → kernel.reshape(-1, len(kernel))
and: out.flatten(0, 1).T → out.reshape(out.shape[-1], -1)
    A reshape alone gives the right shape and the wrong numbers: it keeps the order in which they
    lie, so that rows and columns are mixed. Merge the axis of the heads with the one behind it,
    which gives a matrix (inputs, outputs), and then transpose.
kernels_not_transposed: flatten(1).T → flatten(1)
    Flax multiplies from the right, x @ kernel, and nn.Linear keeps its weight as (outputs, inputs).
    Transpose query, key and value before you join them. Where D = H·d the shape is right without
    it, and the numbers are not.
out_not_transposed: flatten(0, 1).T → flatten(0, 1)
    Flax multiplies from the right, x @ kernel, and nn.Linear keeps its weight as (outputs, inputs).
    Your qkv is right; `out` needs a transpose, too. Where D = H·d its shape is right without it,
    and the numbers are not.
nothing_transposed: flatten(1).T → flatten(1)
and: flatten(0, 1).T → flatten(0, 1)
    Flax multiplies from the right, x @ kernel, and nn.Linear keeps its weight as (outputs, inputs).
    Transpose all four matrices. Where D = H·d the shapes are right without it, and the numbers are
    not.
queries_and_keys_swapped: (query, key, value) → (key, query, value)
    Queries and keys have changed places: q comes first. The transposed table of scores looks just
    as plausible, and no shape tells.
keys_and_values_swapped: (query, key, value) → (query, value, key)
    Keys and values have changed places: after q comes k, then v.
stacked: torch.cat → torch.stack
    The three are stacked along an axis of their own, (3, H·d, D). timm has one matrix of 3·H·d
    rows: join them along the axis that is there, with torch.cat.
kernels_merged_like_out: flatten(1) → flatten(0, 1)
    In query, key and value you merge the first two axes, D and H. The head H belongs to the axis
    behind it, d: together they are the outputs. Only in `out` do they stand in front.
side_by_side: torch.cat → torch.hstack
    The three are joined side by side: (H·d, 3·D). The outputs of qkv are its rows, so they stand
    one below the other, along axis 0.
keys_twice: (query, key, value) → (query, key, key)
    The keys stand there twice, and the values are missing. The order is q, k, v.
queries_twice: (query, key, value) → (query, query, value)
    The queries stand there twice, and the keys are missing. The order is q, k, v.
queries_thrice: (query, key, value) → (query, query, query)
    The queries stand there three times. The order is q, k, v.
values_first: (query, key, value) → (value, key, query)
    The order is v, k, q. It should be q, k, v.
values_before_queries: (query, key, value) → (value, query, key)
    The order is v, q, k. It should be q, k, v.
queries_last: (query, key, value) → (key, value, query)
    The order is k, v, q. It should be q, k, v.
out_merged_like_kernels: out.flatten(0, 1) → out.flatten(1)
    In `out` you merge the last two axes, d and D. The head H belongs to the axis behind it, d:
    together they are the inputs.
heads_of_out_as_outputs: out.flatten(0, 1).T → out.transpose(1, 2).reshape(out.shape[2], -1)
    In `out` two axes change places before the reshape, but not so that the outputs come first: the
    order should be (D, H, d). Merge (H, d), then transpose.
proj_with_heads: out.flatten(0, 1).T → out.permute(2, 0, 1)
    The heads of proj still have an axis of their own, (D, H, d). Merge it with d: (D, H·d).
qkv_with_heads: kernel.flatten(1).T → kernel.permute(1, 2, 0)
    The heads of qkv still have an axis of their own. Merge it with d: (3·H·d, D).
everything_the_other_way: return qkv, out.flatten(0, 1).T → return qkv.T, out.flatten(0, 1)
    Both weights are (inputs, outputs), as in Flax. nn.Linear keeps (outputs, inputs): transpose
    both.
proj_first: return qkv, out.flatten(0, 1).T → return out.flatten(0, 1).T, qkv
    The two weights come back in the wrong order: qkv first, then proj.
qkv_alone: return qkv, out.flatten(0, 1).T → return qkv
    Only qkv comes back. Return proj as well: qkv, proj.
in_a_dictionary: return qkv, out.flatten(0, 1).T → return {"qkv": qkv, "proj": out.flatten(0, 1).T}
    A dictionary comes back. Return the two weights one after the other: qkv, proj.
not_joined: return qkv, → return *qkv.chunk(3),
    Query, key and value come back one by one. timm has one matrix for the three, with q, k, v one
    below the other.
""") | edits(by_einops, """
heads_run_fastest: (three h d) → (three d h)
and: outputs (h d) → outputs (d h)
    The rows of qkv and the columns of proj are ordered (d, H). They should be (H, d): all numbers
    of the first head, then all of the second. Reversing all axes, with permute(2, 1, 0) or NumPy's
    .T, does that; move the axis D alone.
heads_of_qkv_run_fastest: (three h d) → (three d h)
    The rows of qkv are ordered (d, H) within each third. They should be (H, d): all numbers of the
    first head, then all of the second. Reversing all three axes does that; move the axis D alone.
heads_of_out_run_fastest: (h d) → (d h)
    The columns of proj are ordered (d, H). They should be (H, d): all numbers of the first head,
    then all of the second. Reversing all three axes does that; move the axis D alone.
head_by_head: (three h d) → (h three d)
    The rows of qkv go head by head, q, k and v of the first, then of the second: (H, 3, d). timm
    has all of q first, then all of k, then all of v: (3, H, d).
""")  # fmt: skip


def probe(answer):
    def given(width, heads, d, seed):
        kernels = [draw(width, heads, d, seed=seed + i) for i in range(3)]
        return *kernels, draw(heads, d, width, seed=seed + 3)

    sizes = [(8, 2, 4), (6, 6, 1), (9, 4, 2), (15, 5, 3)]
    cases = [given(*size, 10 * i) for i, size in enumerate(sizes)]
    seen = [lambda g=g: list(answer(*g)) for g in cases]
    return [*seen, changes(answer, *cases[0])]


EXERCISE = Exercise(
    name="join_flax",
    chapter="06_dialects",
    task="join_flax(query, key, value, out) -> the two weights of nn.Linear that timm has: qkv "
    "(3·H·d, D), ordered q, k, v, and proj (D, H·d); from Flax's kernels (D, H, d), three times, "
    "and (H, d, D)",
    reference=join_flax,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_einops, by_permute, by_heads],
    probe=probe,
)
