"""14.5 add_positions: called learnable, and not a Parameter."""

import torch
from torch import Tensor, nn

from vitlib.check.ch02_tokens import position_embedding
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers


class PositionEmbedding(nn.Module):
    """Adds learnable position embeddings."""

    def __init__(self, tokens, dim):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)

    def forward(self, x):
        return x + self.pos


class Truncated(PositionEmbedding):
    def __init__(self, tokens, dim):
        super().__init__(tokens, dim)
        self.pos = nn.Parameter(torch.zeros(1, tokens, dim))
        nn.init.trunc_normal_(self.pos, std=0.02)


class Registered(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        start = torch.empty(1, tokens, dim).normal_(std=0.02)
        self.register_parameter("pos", nn.Parameter(start))

    def forward(self, x):
        return x + self.pos


class WithoutBatchAxis(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(tokens, dim).mul(0.02))

    def forward(self, x):
        return x + self.pos


def cases(answer) -> Cases:
    def loaded():
        """Whether a second model with the first one's state computes the same."""
        one, two, x = build(answer, 6, 5), build(answer, 6, 5), numbers(2, 6, 5)
        two.load_state_dict(one.state_dict())
        return torch.equal(call(one, x), call(two, x))

    def unregistered():
        """Tensors with gradients that the module does not know of, as attributes or in a list."""
        held = vars(build(answer, 6, 5)).values()
        held = [t for v in held for t in (v if isinstance(v, list) else [v])]
        held = [t for t in held if isinstance(t, Tensor) and t.requires_grad]
        return [f"{'computed' if t.grad_fn else 'plain'} {type(t).__name__}" for t in held]

    yield "a test whether a saved and loaded copy computes the same", loaded
    yield from position_embedding.cases(answer)
    yield "tensors that take gradients and are no parameters", unregistered


MUTANTS = edits(PositionEmbedding, """
unchanged: nn.Parameter(torch.randn(1, tokens, dim) * 0.02) → torch.randn(1, tokens, dim) * 0.02
    The symptom is still there: a copy that loads the saved weights computes something else. Compare
    the module with `list(module.state_dict())`, and put it into a model for
    `check.gradient_coverage(model, images)`.
takes_gradients: nn.Parameter(torch.randn(1, tokens, dim) * 0.02) →
→ (torch.randn(1, tokens, dim) * 0.02).requires_grad_()
    It gets a gradient now, but it is still no parameter: no optimiser is given it, and it is not
    saved with the model.
buffer: self.pos = nn.Parameter(torch.randn(1, tokens, dim) * 0.02) →
→ self.register_buffer("pos", torch.randn(1, tokens, dim) * 0.02)
    It is a buffer now: it is saved and moved with the model, and never learned.
scaled_parameter: dim) * 0.02) → dim)) * 0.02
    A Parameter times 0.02 is a plain tensor again. The factor belongs inside of nn.Parameter(...).
frozen: * 0.02) → * 0.02, requires_grad=False)
    It is a parameter that no gradient reaches (requires_grad=False, detach() or .data): it is
    saved, and it never changes.
in_a_list: self.pos = nn.Parameter(torch.randn(1, tokens, dim) * 0.02) →
→ self.pos = [nn.Parameter(torch.randn(1, tokens, dim) * 0.02)]
and: return x + self.pos → return x + self.pos[0]
    A Python list hides its Parameters from the module. Use nn.ParameterList, or an attribute.
other_start: * 0.02 →
    It is learned now, and it starts fifty times as large as before. Keep the factor.
uniform: torch.randn → torch.rand
    It is learned now, and it does not start around 0: torch.rand draws from 0 to 1. Keep
    torch.randn.
uniform_around_zero: torch.randn(1, tokens, dim) * 0.02 →
→ 0.04 * (torch.rand(1, tokens, dim) - 0.5)
    It is learned now, and it starts evenly spread over an interval. Keep torch.randn, a normal
    distribution.
larger_deviation: * 0.02 → * 0.02**0.5
    It is learned now, and its deviation is larger than 0.02. Multiply by 0.02 itself, not by its
    root.
smaller_deviation: * 0.02 → * 0.02**2
    It is learned now, and its deviation is smaller than 0.02. Multiply by 0.02 once.
alike_for_all_tokens: torch.randn(1, tokens, dim) → torch.randn(1, 1, dim).repeat(1, tokens, 1)
    It is learned now, and all tokens start with the same vector. Each needs random numbers of its
    own.
scaled_in_forward: * 0.02) → )
and: x + self.pos → x + 0.02 * self.pos
    The factor has moved into forward. What is learned then starts with deviation 1, and is not what
    is added.
sliced: x + self.pos → x + self.pos[:, : x.shape[1]]
    It is learned now, and fewer tokens are accepted than there are positions, which the module
    refused before. Add self.pos as a whole.
multiplied: x + self.pos → x * self.pos
    The tokens are multiplied by the positions. Add them.
one_for_each_image: (1, tokens, dim) → (2, tokens, dim)
    There is a set of positions for each image of a batch. All images share theirs: (1, tokens,
    dim).
one_for_all_tokens: (1, tokens, dim) → (1, 1, dim)
    One vector is learned for all tokens. Each token has its own: (1, tokens, dim).
zeros: torch.randn(1, tokens, dim) * 0.02 → torch.zeros(1, tokens, dim)
    It is learned now, and it starts from zeros. Keep the random start.
""")  # fmt: skip

EXERCISE = Exercise(
    name="add_positions",
    chapter="14_bug_clinic",
    task="PositionEmbedding(tokens, dim), a module that adds a learned vector to each token, "
    "(B, N, D) -> (B, N, D); the vectors start as normal numbers with deviation 0.02",
    reference=PositionEmbedding,
    cases=cases,
    mutants=MUTANTS,
    accepted=[Truncated, Registered, WithoutBatchAxis],
    probe=position_embedding.probe,
)
