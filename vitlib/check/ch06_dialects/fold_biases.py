"""6.6 fold_biases: of three biases one does nothing, and one can move."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw


def fold_biases(qkv_bias, proj_weight, proj_bias):
    query, key, value = qkv_bias.chunk(3)
    return torch.cat([query, 0 * key, 0 * value]), proj_bias + proj_weight @ value


def by_slices(qkv_bias, proj_weight, proj_bias):
    width = len(proj_bias)
    kept = qkv_bias.clone()
    kept[width:] = 0
    return kept, F.linear(qkv_bias[2 * width :], proj_weight, proj_bias)


def by_thirds(qkv_bias, proj_weight, proj_bias):
    thirds = qkv_bias.reshape(3, -1)
    only_queries = torch.tensor([[1.0], [0.0], [0.0]], dtype=qkv_bias.dtype)
    moved = torch.einsum("oi,i->o", proj_weight, thirds[2])
    return [(thirds * only_queries).flatten(), moved + proj_bias]


def by_loop(qkv_bias, proj_weight, proj_bias):
    width = len(qkv_bias) // 3
    new_proj = proj_bias.clone()
    for row in range(width):
        for column in range(width):
            new_proj[row] += proj_weight[row, column] * qkv_bias[2 * width + column]
    kept = torch.where(torch.arange(3 * width) < width, qkv_bias, 0.0)
    return kept, new_proj


def cases(answer) -> Cases:
    def run(width, seed, parts=(1, 1, 1)):
        given = numbers(3, width, seed=seed) * torch.tensor(parts, dtype=torch.float64)[:, None]
        weight, bias = numbers(width, width, seed=seed + 1), numbers(width, seed=seed + 2)
        return call(answer, given.flatten(), weight, bias)

    yield "a bias of the queries only, D = 4", lambda: run(4, 0, (1, 0, 0))
    yield "a bias of the keys only, D = 4", lambda: run(4, 3, (0, 1, 0))
    yield "a bias of the values only, D = 4", lambda: run(4, 6, (0, 0, 1))
    yield "all three, D = 6", lambda: run(6, 9)
    yield "all three, D = 1", lambda: run(1, 12)


def zeroed_in_place(qkv_bias, proj_weight, proj_bias):
    _, key, value = qkv_bias.chunk(3)
    moved = proj_bias + proj_weight @ value
    key.zero_()
    value.zero_()
    return qkv_bias, moved


MUTANTS = edits(fold_biases, """
zeroed_in_place:
    The new numbers are right, but the bias that was given is changed as well: chunks and slices are
    views of it. Build a new tensor, or work on a clone.
values_lost: + proj_weight @ value →
    The values' bias is thrown away. The weights of a row sum to 1, so every token gets all of it,
    added to what the values bring: it goes on through the projection.
not_projected: proj_weight @ value → value
    The values' bias is added as it is. It used to pass through the output projection first, which
    mixes all channels: multiply it by proj_weight.
transposed: proj_weight @ value → value @ proj_weight
    The values' bias is multiplied from the wrong side. nn.Linear computes x @ weight.T, and for a
    vector that is weight @ x.
keys_moved: @ value → @ key
    You fold the keys' bias into the projection; it is the values' that goes there. The qkv bias is
    ordered q, k, v.
keys_moved_too: @ value → @ (key + value)
    The keys' bias is folded into the projection as well. It adds the same number to all scores of a
    row, and a softmax does not see what is added to all: it may simply go.
keys_moved_into_queries: [query → [query + key
    The keys' bias is added to the queries'. It adds the same number to all scores of a row, and a
    softmax does not see what is added to all: it may simply go.
values_moved_into_queries: [query → [query + value
    The values' bias is added to the queries'. It goes into the projection's bias and nowhere else.
not_joined: torch.cat( → torch.stack(
    The three parts are stacked to (3, D). The bias is one vector of 3D numbers: torch.cat.
order_reversed: [query, 0 * key, 0 * value] → [0 * query, 0 * key, value]
and: @ value → @ query
    The thirds are read in the order v, k, q. The qkv bias is ordered q, k, v.
queries_lost: [query → [0 * query
    The queries' bias is gone. It is the one that cannot be replaced: it adds to the score of a key
    a number that is another for each key.
all_thrown_away: [query → [0 * query
and: + proj_weight @ value →
    All three biases are thrown away. That is right for one of them. The queries' has to stay, and
    the values' goes on in the projection's bias: write down what each adds.
queries_moved_too: [query → [0 * query
and: @ value → @ (query + value)
    The queries' bias is folded into the projection as well. It acts on the scores, and adds to each
    key's another number: nothing can replace it. Leave the first third as it was.
everything_moved: [query → [0 * query
and: @ value → @ (query + key + value)
    All three biases are folded into the projection. Only the values' passes through it. The
    queries' and the keys' act on the scores: ask what each adds to a row of them.
keys_kept: 0 * key → key
    The keys' bias is still there. It adds the same number to all scores of a row, which the softmax
    does not see: set it to 0.
all_kept: 0 * key, 0 * value → key, value
    The projection's bias is right, and qkv's is as it was: the values' counts twice now. Set the
    second and the last third to 0.
nothing_changed: 0 * key, 0 * value → key, value
and: + proj_weight @ value →
    Everything comes back as it was. Ask what each of the three biases adds: to a row of scores, or
    to what a token gets in the end.
values_kept: 0 * value → value
    The values' bias is in the projection now, and in qkv still: it counts twice. Set the last third
    to 0.
old_bias_lost: proj_bias + →
    The projection's own bias is overwritten. What is folded in is *added* to it.
subtracted: proj_bias + → proj_bias -
    The values' bias is subtracted. It was added before, and still has to be.
queries_moved: @ value → @ query
    You fold the queries' bias into the projection; it is the values' that goes there. The qkv bias
    is ordered q, k, v.
old_bias_projected_instead: proj_bias + proj_weight @ value → proj_weight @ proj_bias + value
    The projection's own bias is multiplied by proj_weight, and the values' is not. It is the other
    way round.
middle_from_another_third: @ value → @ key
and: 0 * key, 0 * value → 0 * key, value
    You fold the keys' bias into the projection and leave the values' where it is. It is the values'
    that goes there, and the keys' that is dropped.
old_bias_projected: proj_bias + proj_weight @ value → proj_weight @ (value + proj_bias)
    The projection's own bias goes through the projection as well. It was added behind it: only the
    values' bias is multiplied by proj_weight.
not_summed: proj_weight @ value → proj_weight * value
    `*` multiplies each column with one number and sums nothing: a table of (D, D) comes back. A
    matrix times a vector is `@`.
queries_alone: torch.cat([query, 0 * key, 0 * value]) → query
    Only the queries' third of the qkv bias comes back. It keeps its length, 3D, with zeros in the
    second and last third.
proj_first: return torch.cat([query, 0 * key, 0 * value]), proj_bias + proj_weight @ value
→ return proj_bias + proj_weight @ value, torch.cat([query, 0 * key, 0 * value])
    The two biases come back in the wrong order: qkv's first, then the projection's.
proj_alone: return torch.cat([query, 0 * key, 0 * value]), → return
    Only the projection's bias comes back. Return both: qkv's new bias first.
moved_twice: proj_weight @ value → 2 * proj_weight @ value
    The values' bias is added twice. The weights of a row sum to 1, so every token gets it once.
""") | edits(by_loop, """
added_in_place: proj_bias.clone() → proj_bias
    The projection's bias that was given is changed: a second call would add the values' bias once
    more. Work on a clone.
""")  # fmt: skip


def probe(answer):
    given = [(draw(3 * d, seed=d), draw(d, d, seed=d + 1), draw(d, seed=d + 2)) for d in (5, 2, 8)]
    return [*[lambda g=g: list(answer(*g)) for g in given], changes(answer, *given[0])]


EXERCISE = Exercise(
    name="fold_biases",
    chapter="06_dialects",
    task="fold_biases(qkv_bias, proj_weight, proj_bias) -> qkv_bias (3D,) whose second and last "
    "third are 0, and proj_bias (D,), such that attention gives what it gave before",
    reference=fold_biases,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_slices, by_thirds, by_loop],
    probe=probe,
)
