"""What a probe is made of: it says what an exercise's task asks for, on inputs of its own.

`probe(answer)` in an exercise's file returns a list of functions, each of which runs the answer
once and says what came back. Two answers are the same function if all of that is alike. The tests
edit right answers by the thousand and ask the probe which edits compute something else: the checker
has to reject those. So a probe never uses the checker's cases, its sizes differ from theirs, and
every dimension of a tensor has another size, unless a mistake hides where two are equal.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitlib.check.exercise import single

Run = Callable[[], Any]


def draw(*shape: int, seed: int = 7, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers, others than the checker's."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def ready(answer: Any) -> Any:
    """A function, a module, or an instance of a class that takes no arguments."""
    return answer() if isinstance(answer, type) else answer


def returns(answer: Any, *given: Any) -> Run:
    """What comes back for clones of these inputs."""
    return lambda: ready(answer)(*[g.clone() if isinstance(g, Tensor) else g for g in given])


def in_single(run: Run) -> Run:
    """What a run returns, in float32 where it is a tensor."""
    return lambda: single(run())


def changes(answer: Any, *given: Any) -> Run:
    """Whether the inputs are left alone."""

    def run() -> list[bool]:
        copies = [g.clone() if isinstance(g, Tensor) else g for g in given]
        ready(answer)(*copies)
        return [c.equal(g) for c, g in zip(copies, given, strict=True) if isinstance(g, Tensor)]

    return run


def gradient(answer: Any, *given: Any, of: int = 0) -> Run:
    """The gradient that reaches one of the inputs from a weighted sum of the output."""

    def run() -> Tensor | str:
        copies = [g.clone() if isinstance(g, Tensor) else g for g in given]
        copies[of].requires_grad_()
        out = ready(answer)(*copies)
        (out * draw(*out.shape, seed=99)).sum().backward()
        found: Tensor | None = copies[of].grad
        return "none" if found is None else found

    return run


def filled(answer: Any, *sizes: Any, **options: Any) -> nn.Module:
    """The module in float64, its parameters random, in the order of their names."""
    module: nn.Module = answer(*sizes, **options).double()
    with torch.no_grad():
        for i, (_, parameter) in enumerate(sorted(module.named_parameters())):
            parameter.copy_(0.4 * draw(*parameter.shape, seed=i))
    return module


def learned(answer: Any, *sizes: Any) -> Run:
    """Names and shapes of the parameters."""
    return lambda: sorted((n, tuple(p.shape)) for n, p in answer(*sizes).named_parameters())


def forward(
    answer: Any, sizes: tuple[Any, ...], *given: Any, train: bool = False, **options: Any
) -> Run:
    """What the filled module makes of these inputs."""
    return lambda: filled(answer, *sizes, **options).train(train)(*given)


def parameter_gradients(answer: Any, sizes: tuple[Any, ...], *given: Any) -> Run:
    """The gradients that reach the parameters from a weighted sum of the output."""

    def run() -> dict[str, Tensor | str]:
        module = filled(answer, *sizes)
        out = module(*given)
        (out * draw(*out.shape, seed=99)).sum().backward()
        return {n: "none" if p.grad is None else p.grad for n, p in module.named_parameters()}

    return run


def refuses(run: Run, error: type[Exception] = Exception) -> Run:
    """Whether an error of this kind is raised."""

    def observe() -> str:
        try:
            run()
        except error:
            return "refused"
        return "accepted"

    return observe
