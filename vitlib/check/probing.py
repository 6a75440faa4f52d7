"""What a probe is made of: it says what an exercise's task asks for, on inputs of its own.

`probe(answer)` in an exercise's file returns a list of functions, each of which runs the answer
once and says what came back. Two answers are the same function if all of that is alike. The tests
edit right answers by the thousand and ask the probe which edits compute something else: the checker
has to reject those. So a probe never uses the checker's cases, its sizes differ from theirs, and
every dimension of a tensor has another size, unless a mistake hides where two are equal.
"""

import torch
from torch import Tensor


def draw(*shape, seed=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def ready(answer):
    """A function, a module, or an instance of a class that takes no arguments."""
    return answer() if isinstance(answer, type) else answer


def returns(answer, *given):
    return lambda: ready(answer)(*[g.clone() if isinstance(g, Tensor) else g for g in given])


def changes(answer, *given):
    """Whether the inputs are left alone."""

    def run():
        copies = [g.clone() if isinstance(g, Tensor) else g for g in given]
        ready(answer)(*copies)
        return [c.equal(g) for c, g in zip(copies, given, strict=True) if isinstance(g, Tensor)]

    return run


def gradient(answer, *given, of=0):
    """The gradient that reaches one of the inputs from a weighted sum of the output."""

    def run():
        copies = [g.clone() if isinstance(g, Tensor) else g for g in given]
        copies[of].requires_grad_()
        out = ready(answer)(*copies)
        (out * draw(*out.shape, seed=99)).sum().backward()
        return "none" if copies[of].grad is None else copies[of].grad

    return run


def filled(answer, *sizes, **options):
    """The module in float64, its parameters random, in the order of their names."""
    module = answer(*sizes, **options).double()
    with torch.no_grad():
        for i, (_, parameter) in enumerate(sorted(module.named_parameters())):
            parameter.copy_(0.4 * draw(*parameter.shape, seed=i))
    return module


def learned(answer, *sizes):
    return lambda: sorted((n, tuple(p.shape)) for n, p in answer(*sizes).named_parameters())


def forward(answer, sizes, *given, train=False, **options):
    return lambda: filled(answer, *sizes, **options).train(train)(*given)


def parameter_gradients(answer, sizes, *given):
    def run():
        module = filled(answer, *sizes)
        out = module(*given)
        (out * draw(*out.shape, seed=99)).sum().backward()
        return {n: "none" if p.grad is None else p.grad for n, p in module.named_parameters()}

    return run


def refuses(run, error=Exception):
    def observe():
        try:
            run()
        except error:
            return "refused"
        return "accepted"

    return observe
