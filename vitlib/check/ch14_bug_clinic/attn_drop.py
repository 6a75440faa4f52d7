"""14.6 attn_drop: a dropout layer that is built and never called."""

import torch.nn.functional as F
from torch import nn

from vitlib.check.ch03_attention import attention_module
from vitlib.check.ch14_bug_clinic._attention import (
    ANYWHERE,
    INPUT_ADDED,
    OF_THE_HEADS,
    OF_THE_SCALE,
)
from vitlib.check.edit import edits
from vitlib.check.exercise import Exercise


class Attention(nn.Module):
    def __init__(self, dim, heads, attn_drop=0.0):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((self.attn_drop(weights) @ v).transpose(1, 2).reshape(B, N, D))


class OnALineOfItsOwn(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        weights = self.attn_drop(weights)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))


class ByFunction(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        weights = F.dropout(weights, self.attn_drop.p, self.training)
        return self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))


class ByTorch(Attention):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        p = self.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return self.proj(out.transpose(1, 2).reshape(B, N, D))


MUTANTS = edits(Attention, """
unchanged: self.attn_drop(weights) → weights
    The symptom is still there: the training curve is the same to the last digit, whatever attn_drop
    is. Put the layer into a model and ask `check.dropout_coverage(model, images)`.
always: self.attn_drop(weights) → F.dropout(weights, self.attn_drop.p)
    Weights are dropped in evaluation, too, so that the same image gets another answer each time.
    F.dropout is on unless it is told training=self.training.
only_in_evaluation: self.attn_drop(weights) →
→ F.dropout(weights, self.attn_drop.p, not self.training)
    Weights are dropped in evaluation and not in training. It should be the other way round.
on_the_scores: (q @ k.transpose(-2, -1) * self.scale).softmax →
→ self.attn_drop(q @ k.transpose(-2, -1) * self.scale).softmax
and: self.attn_drop(weights) @ v → weights @ v
    You drop scores, before the softmax. A score of 0 is not a weight of 0: the dropped pairs still
    attend to each other.
on_the_values: self.attn_drop(weights) @ v → weights @ self.attn_drop(v)
    You drop numbers of the values, which all queries then miss. attn_drop belongs on the weights.
on_the_result: self.proj((self.attn_drop(weights) @ v).transpose(1, 2).reshape(B, N, D)) →
→ self.attn_drop(self.proj((weights @ v).transpose(1, 2).reshape(B, N, D)))
    You drop numbers of the result, after proj. That is what proj_drop does in timm; attn_drop
    belongs on the weights.
fixed_share_of_a_half: nn.Dropout(attn_drop) → nn.Dropout()
    Something is dropped now, but always the same share: nn.Dropout() drops a half. Give it the
    argument attn_drop.
default_share: attn_drop=0.0 → attn_drop=0.1
    The argument's default has changed: nothing is to be dropped where nobody asks for it.
dropped_twice: self.attn_drop(weights) → self.attn_drop(self.attn_drop(weights))
    The dropout is applied twice, so that more weights are lost than attn_drop says.
fixed_share: nn.Dropout(attn_drop) → nn.Dropout(0.1)
    Something is dropped now, but always the same share, even where attn_drop is 0.
not_enlarged: self.attn_drop(weights) →
→ (weights * (torch.rand_like(weights) >= self.attn_drop.p) if self.training else weights)
    Weights are dropped, and the others are not enlarged: on average the sums are smaller in
    training than in evaluation. Divide by 1 − p, as nn.Dropout does.
renormalised: self.attn_drop(weights) →
→ F.normalize(self.attn_drop(weights), p=1, dim=-1)
    After the dropout the rows are made to sum to 1 again. Dropout lets the sums vary.
""") | edits(Attention, ANYWHERE + OF_THE_SCALE + OF_THE_HEADS + INPUT_ADDED)  # fmt: skip

EXERCISE = Exercise(
    name="attn_drop",
    chapter="14_bug_clinic",
    task="Attention(dim, heads, attn_drop=0.0), a module: self-attention over the tokens of each "
    "image, (B, N, D) -> (B, N, D), in which each attention weight is dropped in training with "
    "probability attn_drop",
    reference=Attention,
    cases=attention_module.cases,
    mutants=MUTANTS,
    accepted=[OnALineOfItsOwn, ByFunction, ByTorch],
    probe=attention_module.probe,
)
