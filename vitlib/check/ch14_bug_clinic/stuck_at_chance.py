"""14.2 stuck_at_chance: the attention is computed, and the input is returned."""

import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.ch14_bug_clinic._attention import ANYWHERE, OF_THE_HEADS, OF_THE_SCALE
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw, filled, forward, learned, parameter_gradients


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(0.1)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        o = (weights @ v).transpose(1, 2).reshape(B, N, D)
        o = self.proj(o)
        o = self.proj_drop(o)
        return o


class InOneLine(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj_drop(self.proj((weights @ v).transpose(1, 2).reshape(B, N, D)))


class UnderOneName(Attention):
    def forward(self, x):
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.proj(x)
        x = self.proj_drop(x)
        return x


class Sequence(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        parts = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def cases(answer) -> Cases:
    def evaluated(B, N, D, heads):
        return call(twin(answer, Attention, D, heads).eval(), numbers(B, N, D))

    def dropped():
        """What dropout in training does to the output in evaluation, coarsely."""
        module, x = twin(answer, Attention, 12, 3), numbers(40, 5, 12)
        kept, out = call(module.eval(), x), call(module.train(), x)
        factors = (out / kept)[out != 0]
        even = bool(torch.allclose(factors, factors[:1].expand_as(factors)))
        return {
            "numbers that are 0": f"about {round(20 * out.eq(0).double().mean().item()) * 5} %",
            "the others, beside evaluation": round(factors[0].item(), 6) if even else "various",
        }

    yield "2 images of 5 tokens, D = 12, 3 heads, evaluation", lambda: evaluated(2, 5, 12, 3)
    yield "3 images of 4 tokens, D = 10, 2 heads, evaluation", lambda: evaluated(3, 4, 10, 2)
    yield "what dropout does in training", dropped


MUTANTS = edits(Attention, """
unchanged: self.proj_drop(o) → self.proj_drop(x)
    The symptom is still there: a model with this layer stays at chance, like one without attention.
    Put the layer into a model and ask `check.token_mixing(model, images)` which patches a token
    hears of.
dropout_before_the_projection: self.proj_drop(o) → self.proj(self.proj_drop(x))
    The result is still made of the input: the gradient now reaches proj, and that is all. No token
    hears of another. What the heads have computed must reach the return.
no_projection: o = self.proj(o) → pass
    The heads' results are returned as they are: proj, which mixes the heads, has no effect any
    more. Apply it before the dropout.
residual_inside: self.proj_drop(o) → x + self.proj_drop(o)
    You add the input in the layer. The block around it adds the input already, so that it would
    count twice.
no_dropout: o = self.proj_drop(o) → pass
    The tokens hear of each other, and the dropout is gone: training and evaluation give the same.
    Its line was not wrong as such. What was it given?
dropout_on_the_heads: self.proj(o) → self.proj(self.proj_drop(o))
and: o = self.proj_drop(o) → pass
    The dropout acts before proj, on the merged heads or on the input. proj_drop drops numbers of
    the result: it comes after proj.
dropped_twice: self.proj_drop(o) → self.proj_drop(self.proj_drop(o))
    The dropout is applied twice, so that a fifth of the numbers is lost instead of a tenth.
another_share: Dropout(0.1) → Dropout(0.5)
    Another share is dropped now. It should be 0.1.
in_evaluation: self.proj_drop(o) → F.dropout(o, 0.1)
    Numbers are dropped in evaluation, too. F.dropout is on unless it is told
    training=self.training; nn.Dropout knows by itself.
""") | edits(Attention, ANYWHERE + OF_THE_SCALE + OF_THE_HEADS)  # fmt: skip


def probe(answer):
    def trained():
        module = filled(answer, 9, 3).train()
        out, kept = (module.train(on)(draw(60, 4, 9)) for on in (True, False))
        share = round(10 * out.eq(0).double().mean().item())
        return share, bool(torch.allclose(out[out != 0], (kept / 0.9)[out != 0]))

    return [
        learned(answer, 9, 3),
        forward(answer, (9, 3), draw(2, 4, 9)),
        forward(answer, (8, 4), draw(3, 5, 8)),
        parameter_gradients(answer, (9, 3), draw(2, 4, 9)),
        trained,
    ]


EXERCISE = Exercise(
    name="stuck_at_chance",
    chapter="14_bug_clinic",
    task="Attention(dim, heads), a module: self-attention over the tokens of each image, "
    "(B, N, D) -> (B, N, D), whose result goes through proj and then, in training, through a "
    "dropout of 0.1",
    reference=Attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[InOneLine, UnderOneName, Sequence],
    probe=probe,
)
