"""4.2 gelu: by the error function."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import draw, returns


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def by_ndtr(x):
    return x * torch.special.ndtr(x)


def cases(answer) -> Cases:
    grid = torch.linspace(-4, 4, 17, dtype=torch.float64)

    def run(x):  # 5 decimals: √2 may come from a float32 tensor
        result = call(answer, x)
        return result.round(decimals=5) if isinstance(result, torch.Tensor) else result

    yield "17 numbers from −4 to 4", lambda: run(grid)
    yield "tokens (2, 3, 5)", lambda: run(numbers(2, 3, 5))
    yield "large numbers, ±30", lambda: run(30 * torch.tensor([-1.0, 1.0]).double())


MUTANTS = edits(by_ndtr, """
tanh: x * torch.special.ndtr(x) → F.gelu(x, approximate="tanh")
    This is the tanh approximation. It differs by up to 0.0005, and weights that were trained with
    the exact form then give slightly other logits. Use torch.erf.
sigmoid: torch.special.ndtr(x) → torch.sigmoid(1.702 * x)
    This is the sigmoid approximation, x · σ(1.702 x), which CLIP's models use. It differs from GELU
    by up to 0.02. Use torch.erf.
silu: torch.special.ndtr(x) → torch.sigmoid(x)
    This is SiLU, x · σ(x): the gate is the logistic function, and it should be Φ, the distribution
    function of the normal distribution.
tanh_without_the_cube: torch.special.ndtr(x) → (1 + torch.tanh((2 / math.pi) ** 0.5 * x)) / 2
    This is the tanh approximation without its term in x³. Use torch.erf, which needs neither.
density: torch.special.ndtr(x) → torch.exp(-x.square() / 2) / (2 * math.pi) ** 0.5
    x is multiplied by the density of the normal distribution. Φ is its *distribution function*, the
    area under the density up to x.
relu_gated: x * torch.special.ndtr(x) → x.clamp(min=0) * torch.special.ndtr(x)
    Numbers below zero are set to 0 before the gate. GELU lets small negative numbers through.
relu: x * torch.special.ndtr(x) → x.clamp(min=0)
    This is ReLU: everything below zero becomes 0. GELU lets small negative numbers through, a
    little: GELU(−1) = −0.159.
""") | edits(gelu, """
without_root_two: x / math.sqrt(2) → x
    The √2 is missing: Φ(x) = (1 + erf(x / √2)) / 2. erf(x) belongs to a normal distribution of
    variance 1/2.
times_root_two: x / math.sqrt(2) → x * math.sqrt(2)
    x is multiplied by √2 inside erf. Divide: Φ(x) = (1 + erf(x / √2)) / 2.
without_the_one: 1 + torch.erf → torch.erf
    The 1 is missing: erf runs from −1 to 1, and a gate must run from 0 to 1. Φ(x) = (1 + erf(x /
    √2)) / 2.
mirrored: 1 + torch.erf → 1 - torch.erf
    The gate is mirrored: it lets negative numbers through and holds back positive ones. It is 1 +
    erf, not 1 − erf.
without_the_half: 0.5 * x → x
    Everything is twice too large: 1 + erf runs from 0 to 2, and Φ from 0 to 1. Take half of it.
x_overwritten: x / math.sqrt(2) → x
and: return → x = x / math.sqrt(2)
→ return
    x / √2 is stored under the name x, and then also multiplied: the result is too small by a factor
    of √2. Only the inside of erf is divided; give it another name.
x_overwritten_by_a_product: x / math.sqrt(2) → x
and: return → x = x * math.sqrt(2)
→ return
    x · √2 is stored under the name x, and then also multiplied. Inside erf, x is divided by √2, and
    outside of it x stays as it is.
root_of_the_whole: 0.5 * x → 0.5 * x / math.sqrt(2)
and: x / math.sqrt(2))) → x))
    The √2 divides the result. It belongs inside: erf(x / √2).
root_outside: torch.erf(x / math.sqrt(2)) → torch.erf(x) / math.sqrt(2)
    The √2 divides the result of erf. It belongs inside: erf(x / √2).
halved_inside: x / math.sqrt(2) → x / 2
    x is divided by 2 inside erf, and should be divided by √2.
root_of_two_over_pi: x / math.sqrt(2) → x * math.sqrt(2 / math.pi)
    √(2/π) belongs to the tanh approximation. Inside erf, x is divided by √2.
squared: x / math.sqrt(2) → x**2 / math.sqrt(2)
    x is squared inside erf, which makes the gate the same for x and −x. It is erf(x / √2).
half_inside: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))) → x * (0.5 + torch.erf(x / math.sqrt(2)))
    erf is not halved: the gate runs from −½ to 1½. Φ(x) = (1 + erf(x / √2)) / 2.
halved_twice: 0.5 * x → 0.25 * x
    Everything is half as large as it should be: the ½ is there twice.
product: * (1 + torch.erf(x / math.sqrt(2))) → * 1 + torch.erf(x / math.sqrt(2))
product_with_the_one: x * (1 + → (x * 1 +
    The bracket around 1 + erf is missing or closes too late: x multiplies the 1 alone, and erf is
    added. x multiplies the whole bracket: 0.5 · x · (1 + erf(x / √2)).
residual: return 0.5 * x → return x + 0.5 * x
    x is added to the result. GELU is the product alone.
gate_only: 0.5 * x → 0.5
    This is Φ(x), the gate alone. Multiply it by x.
""")  # fmt: skip


def probe(answer):
    return [returns(answer, x) for x in (2 * draw(4, 3), torch.tensor([0.0, 9.0, -9.0]).double())]


EXERCISE = Exercise(
    name="gelu",
    chapter="04_block",
    task="gelu(x) -> the shape of x: x · Φ(x), with Φ from the error function torch.erf, without "
    "F.gelu or torch.special.ndtr",
    reference=gelu,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        F.gelu,
        by_ndtr,
        lambda x: x / 2 * torch.special.erfc(-x * 0.5**0.5),
        lambda x: x / 2 * (1 + torch.erf(x / torch.sqrt(torch.tensor(2.0)))),  # √2 in float32
        nn.GELU(),
    ],
    excluded=["torch.nn.functional.gelu", "torch.special.ndtr", "torch.distributions.Normal"],
    probe=probe,
)
