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
    It is a parameter that takes no gradients: it is saved, and it never changes.
in_a_list: self.pos = nn.Parameter(torch.randn(1, tokens, dim) * 0.02) →
→ self.pos = [nn.Parameter(torch.randn(1, tokens, dim) * 0.02)]
and: return x + self.pos → return x + self.pos[0]
    A Python list hides its Parameters from the module. Use nn.ParameterList, or an attribute.
other_start: * 0.02 →
    It is learned now, and it starts fifty times as large as before. Keep the factor.
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
