"""12.2 patch_grid: which tokens are patches."""

import math

import torch
from einops import rearrange

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers
from vitlib.check.probing import draw, refuses, returns
from vitlib.explain import tokens_to_grid


def patch_grid(values, grid_size, num_prefix_tokens):
    first, n = num_prefix_tokens, math.prod(grid_size)
    if values.shape[-1] != first + n:
        raise ValueError("wrong number of tokens")
    return values[..., first : first + n].unflatten(-1, grid_size)


def by_reshape(values, grid_size, num_prefix_tokens):
    rows, columns = grid_size
    if values.shape[-1] != num_prefix_tokens + rows * columns:
        raise ValueError("wrong number of tokens")
    return values[..., num_prefix_tokens:].reshape(*values.shape[:-1], rows, columns)


def by_einops(values, grid_size, num_prefix_tokens):
    if num_prefix_tokens + math.prod(grid_size) != values.shape[-1]:
        raise ValueError("wrong number of tokens")
    patches = values.split([num_prefix_tokens, math.prod(grid_size)], dim=-1)[1]
    return rearrange(patches, "... (h w) -> ... h w", h=grid_size[0])


def cases(answer) -> Cases:
    def refusal(*given):
        try:
            result = call(answer, *given)
        except ValueError:
            return "a ValueError"
        if isinstance(result, BaseException):
            raise Refused("the error is returned, and should be raised", "returned")
        if not isinstance(result, torch.Tensor):
            return f"{result!r} instead of an error"
        return f"a map of shape {tuple(result.shape)}"

    few, many = torch.arange(7.0, dtype=torch.float64), torch.arange(30.0, dtype=torch.float64)
    heads = numbers(4, 3, 14)
    yield "tokens 0 to 6, of which one is a class token", lambda: call(answer, few, (2, 3), 1)
    yield "class and distillation token, 4 images, 3 heads", lambda: call(answer, heads, (4, 3), 2)
    yield "a class token and 4 registers", lambda: call(answer, numbers(2, 11), (3, 2), 5)
    yield "no prefix token", lambda: call(answer, many, (5, 6), 0)
    yield "one token too many", lambda: refusal(numbers(2, 8), (2, 3), 1)
    yield "one token too few", lambda: refusal(numbers(2, 7), (2, 3), 2)
    # other grids would fit these: twice the rows, other rows
    yield "as many tokens as for two grids", lambda: refusal(numbers(2, 13), (2, 3), 1)
    yield "one row too many", lambda: refusal(numbers(2, 10), (2, 3), 1)
    yield "no token at all", lambda: refusal(numbers(2, 0), (2, 3), 1)


MUTANTS = edits(patch_grid, """
class_token_only: first : first + n → 1 : 1 + n
    One token is dropped, however many stand before the patches. With a distillation token or
    registers, these are taken for patches, and the whole map is shifted. Drop num_prefix_tokens.
class_token_only_unchecked: first : first + n → 1 : 1 + n
and: raise ValueError("wrong number of tokens") → pass
    One token is dropped, however many stand before the patches. With a distillation token or
    registers, these are taken for patches, and the whole map is shifted. Drop num_prefix_tokens,
    and refuse a number of tokens that does not fit.
nothing_dropped: first : first + n → :n
    The prefix tokens are laid on the image as if they were patches: the map is shifted by as many
    cells. They stand first; leave them out.
dropped_at_the_end: first : first + n → :n
and: raise ValueError("wrong number of tokens") → pass
    It is the last tokens that are dropped here, and those are patches. The prefix tokens stand
    first. And a number of tokens that does not fit should raise a ValueError.
takes_any_number: first : first + n → -n:
and: raise ValueError("wrong number of tokens") → pass
    It fits by force: the last tokens are taken, as many as there are patches, whatever
    num_prefix_tokens says. If the numbers do not add up, something is wrong upstream, and here is
    the place to say so, with a ValueError.
cut_to_fit: raise ValueError("wrong number of tokens") → pass
    Where the tokens are too many, the rest is silently left out. If the numbers do not add up,
    raise a ValueError.
too_many_taken: != → <
    Too few tokens are refused, and too many are cut to fit. Both mean that the numbers do not add
    up: compare with !=, and raise the ValueError for both.
torchs_own_error: first : first + n → first:
and: raise ValueError("wrong number of tokens") → pass
    The grid is right, but where the numbers do not add up it is PyTorch that complains, of a shape.
    Compare T with the prefix tokens and rows · columns yourself, and raise a ValueError: it can say
    what was expected.
error_returned: raise ValueError → return ValueError
    The error is returned, and the caller takes it for the map. Errors are raised: raise
    ValueError(...).
nothing_for_an_error: raise ValueError("wrong number of tokens") → return None
    Where the numbers do not add up, nothing comes back, and the error shows up somewhere else.
    Raise a ValueError there.
from_the_bottom: unflatten(-1, grid_size) → unflatten(-1, grid_size).flip(-2)
    The rows run from the bottom to the top. They come in the order of an image: the first row is
    the upper one.
too_few_taken: != → >
    Too many tokens are refused, and with too few it is PyTorch that complains. Both mean that the
    numbers do not add up: compare with !=, and raise the ValueError for both.
an_assertion: if values.shape[-1] != first + n: → assert values.shape[-1] == first + n
and: raise ValueError("wrong number of tokens") →
    An assert raises an AssertionError, and is skipped when Python runs with -O. For what a caller
    gets wrong, raise a ValueError.
square: -1, grid_size → -1, (math.isqrt(n), -1)
    The number of rows is guessed as the root of the number of patches. That fits square images
    only: take it from grid_size.
columns_first: -1, grid_size) → -1, grid_size[::-1]).mT
    The patches are laid out column by column. They come row by row: the second patch lies to the
    right of the first.
rows_and_columns_swapped: -1, grid_size → -1, grid_size[::-1]
    Rows and columns have changed places. grid_size is (rows, columns).
""") | edits(by_reshape, """
class_token_only_reshaped: num_prefix_tokens:] → 1 : 1 + rows * columns]
    One token is dropped, however many stand before the patches. With a distillation token or
    registers, these are taken for patches, and the whole map is shifted. Drop num_prefix_tokens.
torchs_own_error_of_reshape: raise ValueError("wrong number of tokens") → pass
    The grid is right, but where the numbers do not add up it is PyTorch that complains, of a shape.
    Compare T with the prefix tokens and rows · columns yourself, and raise a ValueError: it can say
    what was expected.
square_on_both_sides: [:-1], rows, columns) → [:-1], *2 * [math.isqrt(rows * columns)])
    Rows and columns are guessed as the root of the number of patches. That fits square images only:
    take them from grid_size.
last_tokens_dropped: num_prefix_tokens:] → :-num_prefix_tokens]
    It is the last tokens that are dropped here, and those are patches. The prefix tokens stand
    first: [..., n:] drops them, also where there is none.
prefix_kept: values[..., num_prefix_tokens:].reshape → values.reshape
    The prefix tokens are never dropped, and with them the values do not fit the grid. They stand
    first: values[..., n:] leaves them out.
leading_axes_joined: *values.shape[:-1], rows → -1, rows
    All axes before the last are joined into one. Keep them as they are, however many there are:
    unflatten(-1, (rows, columns)), or reshape(*values.shape[:-1], rows, columns).
second_axis: values[..., num_prefix_tokens:].reshape(*values.shape[:-1], rows, columns) →
→ values[:, num_prefix_tokens:].reshape(values.shape[0], rows, columns)
    The tokens are taken to be axis 1. They are the last axis, whatever stands before it: what cuts
    there is values[..., n:].
multiples_accepted: values.shape[-1] != num_prefix_tokens + rows * columns →
→ (values.shape[-1] - num_prefix_tokens) % (rows * columns)
and: rows, columns) → -1, columns)
multiples_accepted_of_columns: values.shape[-1] != num_prefix_tokens + rows * columns →
→ (values.shape[-1] - num_prefix_tokens) % columns
and: rows, columns) → -1, columns)
    Any number of rows is accepted, as −1 in a reshape makes it fit. The patches must be exactly
    rows · columns.
class_token_only_without_a_cut: num_prefix_tokens: → 1:
and: raise ValueError("wrong number of tokens") → pass
    One token is dropped, however many stand before the patches. With a distillation token the rest
    does not fit the grid; the usual next step is to cut at the end until it does, and then the map
    is shifted. Drop num_prefix_tokens, and raise a ValueError where the numbers do not add up.
""")  # fmt: skip


def probe(answer):
    right = [(draw(2, 12), (2, 5), 2), (draw(13), (4, 3), 1), (draw(3, 2, 12), (3, 4), 0),
             (draw(5, 9), (5, 1), 4), (draw(2, 10), (3, 3), 1)]  # fmt: skip
    wrong = [(draw(2, 13), (2, 5), 2), (draw(2, 11), (2, 5), 2), (draw(20), (2, 5), 0)]
    wrong += [(draw(14), (3, 4), 1), (draw(5), (2, 3), 0)]
    refusals = [refuses(lambda g=g: answer(*g), ValueError) for g in wrong]
    return [returns(answer, *g) for g in right] + refusals


EXERCISE = Exercise(
    name="patch_grid",
    chapter="12_attention_maps",
    task="patch_grid(values, grid_size, num_prefix_tokens): (..., T) -> (..., rows, columns), "
    "without the prefix tokens; a ValueError where these and the patches are not exactly T",
    reference=patch_grid,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        by_reshape,
        by_einops,
        lambda values, grid_size, prefix: tokens_to_grid(values, grid_size, prefix),
    ],
    probe=probe,
)
