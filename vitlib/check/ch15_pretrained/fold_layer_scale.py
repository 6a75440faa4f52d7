"""15.1 fold_layer_scale: a learned factor per channel, hidden in the layer before it."""

import torch

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers
from vitlib.check.probing import changes, draw, returns


def fold_layer_scale(weight, bias, gamma):
    return gamma[:, None] * weight, gamma * bias


def by_diagonal(weight, bias, gamma):
    scale = torch.diag(gamma)
    return scale @ weight, scale @ bias


def by_transposing(weight, bias, gamma):
    return (weight.T * gamma).T, torch.mul(bias, gamma)


def by_einsum(weight, bias, gamma):
    return torch.einsum("oi,o->oi", weight, gamma), torch.einsum("o,o->o", bias, gamma)


def cases(answer) -> Cases:
    def run(out, inner, seed=0):
        return call(
            answer, numbers(out, inner, seed=seed), numbers(out, seed=seed + 1),
            numbers(out, seed=seed + 2),
        )  # fmt: skip

    yield "a layer from 5 to 3 channels", lambda: run(3, 5)
    yield "a layer from 2 to 6 channels", lambda: run(6, 2, seed=4)
    # a factor for each input raises no error here
    yield "a layer from 4 to 4 channels", lambda: run(4, 4, seed=8)


MUTANTS = edits(fold_layer_scale, """
bias_left: gamma * bias → bias
    The weight is folded, and the bias is as it was. LayerScale multiplies what the layer puts out,
    and the bias is part of that: multiply it by γ, too.
weight_left: gamma[:, None] * weight → weight
    The bias is folded, and the weight is as it was. Each row of the weight makes one output
    channel: multiply row i by γ[i].
columns_scaled: gamma[:, None] * → gamma *
    γ lies along the inputs: column j is multiplied by γ[j]. That scales what goes *into* the layer.
    Row i of the weight (out, in) makes output i, so γ belongs to the rows: gamma[:, None].
rows_by_broadcast: gamma[:, None] * weight, gamma * bias →
→ gamma[None] * weight, gamma[None] * bias
    γ has an axis in front, and lies along the inputs of the weight. It belongs to the rows: the
    axis goes behind, gamma[:, None], and the bias needs none.
scaled_twice: gamma[:, None] * weight → gamma[:, None] ** 2 * weight
    The weight is multiplied by γ twice. Once is enough: the output is linear in it.
divided: gamma[:, None] * weight, gamma * bias → weight / gamma[:, None], bias / gamma
    Weight and bias are divided by γ. LayerScale multiplies, and so does the folded layer.
bias_divided: gamma * bias → bias / gamma
    The bias is divided by γ. It is multiplied, as the weight is.
bias_scaled_twice: gamma * bias → gamma**2 * bias
    The bias is multiplied by γ twice. Once is enough.
added: gamma[:, None] * weight → gamma[:, None] + weight
    γ is added to the weight. It is a factor.
bias_added: gamma * bias → gamma + bias
    γ is added to the bias. It is a factor.
one_plus: gamma[:, None] * weight, gamma * bias →
→ (1 + gamma[:, None]) * weight, (1 + gamma) * bias
    The factor is 1 + γ. The 1 of the residual connection is not part of the branch: fold γ alone.
mean_factor: gamma[:, None] * weight, gamma * bias → gamma.mean() * weight, gamma.mean() * bias
    All channels get one factor, the mean of γ. Each channel has its own.
only_sizes: gamma[:, None] * weight, gamma * bias →
→ gamma[:, None].abs() * weight, gamma.abs() * bias
    The sign of γ is lost. A learned factor may be negative.
exchanged: gamma[:, None] * weight, gamma * bias → gamma * bias, gamma[:, None] * weight
    Weight and bias come back in the wrong order: the weight is first.
weight_alone: gamma[:, None] * weight, gamma * bias → gamma[:, None] * weight
    Only the weight comes back. Return both, the weight and the bias.
unchanged: gamma[:, None] * weight, gamma * bias → weight, bias
    Weight and bias are as they were. γ has to go into both.
transposed: gamma[:, None] * weight → (gamma[:, None] * weight).T
    The weight has been transposed. nn.Linear keeps it as (out, in), and so should you.
""") | edits(by_diagonal, """
diagonal_on_the_right: scale @ weight → weight @ scale
    The diagonal matrix stands on the right, where it scales the inputs. y = γ ⊙ (W x + b) is
    diag(γ) W x + γ ⊙ b: it stands on the left.
""")  # fmt: skip


def probe(answer):
    given = [(draw(4, 7, seed=s), draw(4, seed=s + 1), draw(4, seed=s + 2)) for s in (0, 5)]
    given.append((draw(5, 5, seed=20), draw(5, seed=21), draw(5, seed=22)))
    return [returns(answer, *g) for g in given] + [changes(answer, *given[0])]


EXERCISE = Exercise(
    name="fold_layer_scale",
    chapter="15_pretrained",
    task="fold_layer_scale(weight, bias, gamma) -> (weight, bias) of the linear layer that gives "
    "gamma * (weight @ x + bias); weight is (out, in), bias and gamma are (out,)",
    reference=fold_layer_scale,
    cases=cases,
    mutants=MUTANTS,
    accepted=[by_diagonal, by_transposing, by_einsum],
    probe=probe,
)
