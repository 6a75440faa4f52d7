"""12.3 rollout: a function to repair."""

import torch
import torch.nn.functional as F

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def rollout(attention):
    identity = torch.eye(attention.shape[-1], dtype=attention.dtype)
    tables = attention.amax(dim=2) + identity  # (B, L, T, T)
    tables = tables / tables.sum(dim=-1, keepdim=True)
    result = tables[:, 0]
    for table in tables[:, 1:].unbind(dim=1):
        result = table @ result
    return result


def from_the_end(attention):
    B, L, _, T, _ = attention.shape
    result = torch.eye(T, dtype=attention.dtype).repeat(B, 1, 1)
    for layer in range(L - 1, -1, -1):
        table = attention[:, layer].max(dim=1).values + torch.eye(T, dtype=attention.dtype)
        result = result @ F.normalize(table, p=1, dim=-1)
    return result


def image_by_image(attention):
    images = []
    for tables in attention.unbind(0):
        result = None
        for heads in tables:
            step = heads.amax(dim=0)
            step = step + torch.eye(len(step)).to(step)
            step = torch.einsum("ij,i->ij", step, 1 / step.sum(dim=1))
            result = step if result is None else torch.einsum("ij,jk->ik", step, result)
        images.append(result)
    return torch.stack(images)


def cases(answer) -> Cases:
    def weights(*shape, seed=0):
        return (2 * numbers(*shape, seed=seed)).softmax(dim=-1)

    toy = torch.tensor(
        [[[0.2, 0.8, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
         [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64,
    )  # fmt: skip
    yield "the chapter's toy: 2 layers of one head", lambda: call(answer, toy[None, :, None])
    yield "2 images, 3 layers, 4 heads, 5 tokens", lambda: call(answer, weights(2, 3, 4, 5, 5))
    yield "one layer of 2 heads", lambda: call(answer, weights(1, 1, 2, 4, 4, seed=1))
    yield "as many layers as heads and images", lambda: call(answer, weights(2, 2, 2, 3, 3, seed=2))


MUTANTS = edits(rollout, """
no_identity_and_no_division: + identity →
and: / tables.sum(dim=-1, keepdim=True) →
    Two lines are missing. The identity: each block adds its attention to what a token had, so a
    token keeps itself. And the division: the largest of several heads has rows that sum to more
    than 1, and the product grows with every layer. Add torch.eye, then divide each row by its sum.
no_identity: + identity →
    The identity is missing. Each block adds its attention to what a token had (the residual path),
    so a part of every token stays where it is. Add torch.eye(T) to the table, before its rows are
    divided by their sums.
no_division: / tables.sum(dim=-1, keepdim=True) →
    The rows do not sum to 1: with the identity added, each sums to 2 or more, and the product over
    the layers grows and grows. Divide each row by its sum, in every layer.
identity_after_the_division: + identity →
and: keepdim=True) → keepdim=True) + identity
    Rows are divided by their sums first, and then the identity is added: they sum to 2 again. Add
    first, then divide.
half_and_half: tables.sum(dim=-1, keepdim=True) → 2
    ½ A + ½ I is the paper's step, for the *mean* of the heads, whose rows sum to 1. The rows of
    their largest sum to more: divide by the sum itself.
heads_divided_first: + identity →
and: keepdim=True) → keepdim=True) / 2 + identity / 2
    The largest of the heads is divided by its row sums before the identity is added. Then the
    identity always gets a half. Here it is added first, and the rows are divided after that.
divided_at_the_end: / tables.sum(dim=-1, keepdim=True) →
and: return result → return result / result.sum(dim=-1, keepdim=True)
    Only the result is divided by its row sums. On the way, rows with large sums have counted for
    more. Divide in every layer.
first_layer_left_out: result = tables[:, 0] → result = identity.expand(len(tables), -1, -1)
    The first layer is left out: the product starts from the identity, but the loop starts at the
    second layer. Start with both or with neither: from tables[:, 0] and the second, or from the
    identity and the first.
sums_without_keepdim: tables / tables.sum(dim=-1, keepdim=True) →
→ tables / tables.sum(dim=-1).unsqueeze(-2)
    Each *column* is divided by the sum of the row with the same number. Sums over the last axis
    without keepdim=True are laid along that axis, when the two are divided. The rows should sum to
    1: keepdim=True. (A widely used program has this mistake.)
first_layer_as_it_is: result = tables[:, 0] → result = attention.amax(dim=2)[:, 0]
    The first layer goes in as it is, without the identity and the division. It is a layer like the
    others.
softmax_of_the_rows: tables / tables.sum(dim=-1, keepdim=True) → tables.softmax(dim=-1)
    The rows go through a softmax. That makes them sum to 1, and also nearly equal. Divide each row
    by its sum.
ones_added: + identity → + 1
    1 is added everywhere. Only the diagonal gets it, since a token keeps *itself*: torch.eye(T).
divided_by_the_largest: tables.sum(dim=-1, keepdim=True) → tables.amax(dim=-1, keepdim=True)
    Rows are divided by their largest number. They should sum to 1: divide by the sum.
smallest_of_the_heads: amax → amin
    This is the smallest of the heads. The largest is asked for: amax.
sum_of_the_heads: amax → sum
    The heads are added up. The largest of them is asked for: amax.
class_tokens_row: return result → return result[:, 0]
    Only the class token's row comes back. The whole table is asked for, (B, T, T); a caller may
    take its first row.
transposed: tables / tables.sum(dim=-1, keepdim=True) →
→ (tables / tables.sum(dim=-1, keepdim=True)).mT
    The tables are transposed. Row i is the token that collects: leave them as they are.
layers_added: table @ result → table + result
    The layers are added up. What they do one after the other is a product: later @ earlier.
residual_twice: table @ result → table @ result + result
    The result is added once more in each layer. That is the residual path, and the identity in each
    table stands for it already.
mean_of_the_layers: return result → return tables.mean(dim=1)
    The layers are averaged. What they do one after the other is a product: later @ earlier.
columns_divided: dim=-1 → dim=-2
    It is the columns that are divided by their sums. A row belongs to the token that collects, and
    it is the rows that should sum to 1: dim=-1.
first_layer_leftmost: table @ result → result @ table
    The layers are multiplied in the wrong order. The class token of the last layer takes from
    tokens that have already taken from others: the last layer's table stands leftmost, new @ old.
mean_of_the_heads: amax → mean
    This is the rollout of the mean over heads. Here the largest of the heads is asked for: amax.
max_over_the_layers: dim=2 → dim=1
    The largest is taken over the layers, and the heads are multiplied. The heads are the third axis
    of (B, L, H, T, T): dim=2.
last_layer_only: return result → return tables[:, -1]
    Only the last layer is there. Keep a running product, and let every layer multiply it.
first_layer_twice: tables[:, 1:] → tables
    The first layer is multiplied in twice: the product begins with it, and the loop begins with it
    again. Either start the loop at the second layer, or start from the identity.
elementwise: table @ result → table * result
    The tables are multiplied number by number. What takes from what, over two steps, is the matrix
    product: @.
""")  # fmt: skip


def probe(answer):
    def weights(*shape, seed):
        return (2 * draw(*shape, seed=seed)).softmax(dim=-1)

    shapes = [(3, 2, 4, 6, 6), (1, 4, 3, 5, 5), (2, 1, 1, 3, 3), (2, 3, 2, 4, 4)]
    return [returns(answer, weights(*s, seed=i)) for i, s in enumerate(shapes)]


EXERCISE = Exercise(
    name="rollout",
    chapter="12_attention_maps",
    task="rollout(attention): (B, L, H, T, T) -> (B, T, T); in each layer the largest of the "
    "heads, plus the identity, rows divided by their sums; the product of the layers, the last "
    "one leftmost",
    reference=rollout,
    cases=cases,
    mutants=MUTANTS,
    accepted=[from_the_end, image_by_image],
    probe=probe,
)
