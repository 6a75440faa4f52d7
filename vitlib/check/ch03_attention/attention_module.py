"""3.8 attention_module: what a class can do wrong, found by its behaviour."""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

import vitlib
from vitlib.check.compare import show_type
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, Refused, call, numbers, twin
from vitlib.check.probing import draw, filled, forward, learned, parameter_gradients


class Attention(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x)
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        scores = q @ k.transpose(-2, -1) * self.scale
        weights = scores.softmax(dim=-1)
        weights = self.attn_drop(weights)
        out = (weights @ v).transpose(1, 2).reshape(B, N, D)
        return self.proj(out)


class Repaired(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * self.scale).softmax(dim=-1)
        weights = self.attn_drop(weights)
        out = (weights @ v).transpose(1, 2).reshape(B, N, D)
        return self.proj(out)


class HeadByHead(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.num_heads, self.p = num_heads, attn_drop
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        parts = [part.chunk(self.num_heads, dim=-1) for part in self.qkv(x).chunk(3, dim=-1)]
        heads = []
        for q, k, v in zip(*parts, strict=True):
            weights = vitlib.attention_weights(q, k)
            heads.append(F.dropout(weights, self.p, training=self.training) @ v)
        return self.proj(torch.cat(heads, dim=-1))


class ByTorch(nn.Module):
    def __init__(self, dim, num_heads, attn_drop=0.0):
        super().__init__()
        self.torchs = nn.MultiheadAttention(dim, num_heads, dropout=attn_drop, batch_first=True)

    def forward(self, x):
        return self.torchs(x, x, x)[0]


MANY = "many images in training"


def cases(answer) -> Cases:
    def made(*dropout):  # none given: the default must be none
        return twin(answer, Attention, 15, 3, *dropout)

    def listens():
        """Whether the output of the first token depends on the second."""
        module, x = made(), numbers(1, 4, 15)
        other = x.clone()
        other[:, 1] = numbers(15, seed=1)  # adding 1 to all channels, a norm would not see
        before, after = call(module, x), call(module, other)
        if not isinstance(before, torch.Tensor):
            return before
        return not torch.allclose(before[:, 0], after[:, 0])

    def passes_equal(training):
        module, x = made(0.5).train(training), numbers(2, 7, 15)
        return torch.equal(call(module, x), call(module, x))

    def outputs(times, tokens):
        """What comes of the same tokens in many images, in training, with dropout 0.4."""
        x = numbers(1, tokens, 15).expand(times, tokens, 15).clone()
        out = call(made(0.4).train(), x)
        if not isinstance(out, torch.Tensor) or out.shape != x.shape:
            raise Refused(
                f"{MANY}, and {show_type(out)} came back instead of {tuple(x.shape)}", MANY
            )
        if out.isnan().any():
            raise Refused(f"{MANY}, and some outputs are nan", "nan")
        return out.detach().round(decimals=6)

    def outputs_of_one_token():
        """A token alone has one weight for each head, which is dropped or enlarged: 2³ outputs.

        Only if there are as many do they say more: how far a weight was enlarged, and that most are
        kept.
        """
        out = outputs(2000, 1)[:, 0]
        count = len(out.unique(dim=0))
        return {
            "different outputs": count if count < 100 else "more than 100",
            "largest": out.amax(dim=0) if count == 8 else 0,
            "commonest": out.mode(dim=0).values if count == 8 else 0,
            "numbers that are 0": bool((out == 0).any()),
        }

    def outputs_of_two_tokens():
        """Two tokens have 2 · 3 weights each, for three heads, which are dropped one by one."""
        out = outputs(3000, 2)
        (kinds, first), (_, second) = (out[:, i].unique(dim=0, return_inverse=True) for i in (0, 1))
        return {
            "different outputs of the first token": len(kinds) if len(kinds) < 100 else "many more",
            "largest": kinds.amax(dim=0) if len(kinds) == 64 else 0,
            "different outputs of the second for one of the first": "several"
            if len(second[first == first[0]].unique()) > 1
            else 1,
        }

    yield "a test whether token 0 hears of token 1", listens
    yield (
        "2 images, 7 tokens, D = 15, 3 heads, evaluation",
        lambda: call(made(0.5).eval(), numbers(2, 7, 15)),
    )
    yield (
        "3 images, 5 tokens, D = 8, 2 heads, training without dropout",
        lambda: call(twin(answer, Attention, 8, 2).train(), numbers(3, 5, 8, seed=1)),
    )
    for mode, training in [("training", True), ("evaluation", False)]:
        label = f"a test whether two passes in {mode} are equal, with dropout 0.5"
        yield label, partial(passes_equal, training)
    yield "one token alone, 2,000 times, with dropout 0.4", outputs_of_one_token
    yield "two tokens, 3,000 times, with dropout 0.4", outputs_of_two_tokens


MUTANTS = edits(Attention, """
thrown_away: self.proj(out) → x
    The attention is computed and thrown away: what you return is the input x. No token hears of any
    other, and a class token never sees the image. Follow the result through the last lines of
    forward, up to the return.
dropout_never_called: self.attn_drop(weights) → weights
    Nothing is ever dropped: two passes in training are equal. Either the dropout layer is not
    called, or what it returns is not used, or it was built without the argument attn_drop. In
    forward, between the softmax and the product with v: weights = self.attn_drop(weights).
dropout_in_evaluation: self.attn_drop(weights) → F.dropout(weights, self.attn_drop.p)
    Weights are dropped in evaluation, too, so that the same image gives other answers each time.
    F.dropout is on unless it is told training=self.training; nn.Dropout knows by itself.
dropout_before_the_softmax: scores.softmax → self.attn_drop(scores).softmax
and: self.attn_drop(weights) → weights
    The dropout acts before the softmax, on the scores. A score of 0 is not a weight of 0: the key
    is still looked at. Apply it to the weights, after the softmax.
dropout_as_minus_infinity: weights = scores → if self.training:
→     dropped = torch.rand_like(scores) < self.attn_drop.p
→     scores = scores.masked_fill(dropped, -torch.inf)
→ weights = scores
and: self.attn_drop(weights) → weights
    Scores are made −∞ before the softmax, which shares out the rest anew; and a row that has lost
    all its keys is nan. Apply the dropout to the weights, after the softmax.
dropout_on_queries: scores = q → scores = self.attn_drop(q)
and: self.attn_drop(weights) → weights
    The dropout acts before the softmax, on the queries or the keys. It belongs on the weights,
    between the softmax and the product with v.
dropout_on_the_output: self.attn_drop(weights) → weights
and: self.proj(out) → self.attn_drop(self.proj(out))
    Single channels of the output are dropped, after proj. That is what another layer does,
    proj_drop, and its share is 0 here. attn_drop belongs on the weights alone, between the softmax
    and the product with v.
dropout_on_channels: self.attn_drop(weights) → weights
and: self.proj(out) → self.proj(self.attn_drop(out))
    The dropout acts on single channels, of the input, of qkv, of the values or of the merged
    heads. attn_drop belongs on the weights, between the softmax and the product with v.
not_enlarged: weights = self.attn_drop(weights) → if self.training:
→     weights = weights * (torch.rand_like(weights) >= self.attn_drop.p)
    Weights are dropped, and those that stay are not enlarged: in training the sums are smaller on
    average than in evaluation. Divide by 1 − p, or let nn.Dropout do both.
no_scale: * self.scale →
    The scale is missing: multiply the scores by (dim // num_heads) ** -0.5, before the softmax.
times_sqrt_d: -0.5 → 0.5
    The scores are multiplied by √d, and they should be divided by it: (dim // num_heads) ** -0.5.
scaled_by_dim: (dim // num_heads) → dim
    The scale is made from the whole width: dim ** -0.5. A score is a sum over one head, so it is
    (dim // num_heads) ** -0.5. The maps come out too flat.
scaled_after_the_softmax: * self.scale →
and: softmax(dim=-1) → softmax(dim=-1) * self.scale
    The weights are scaled, not the scores. Multiply by the scale before the softmax.
softmax_over_queries: dim=-1 → dim=-2
    The softmax runs over the queries: the columns of the weights sum to 1, and the rows should. Use
    dim=-1.
no_softmax: .softmax(dim=-1) →
    The softmax is missing: the scores themselves are used as weights.
no_transpose_back: .transpose(1, 2) →
    The heads are merged without moving them back behind the tokens. From (B, H, N, d) to (B, N, H,
    d) first, then reshape.
other_order: (three h d) → (h three d)
    The outputs of qkv are read as (H, 3, d). They are ordered (3, H, d): all of q, then all of k,
    then all of v. With random weights nobody would notice, with loaded ones nothing fits.
keys_first: q, k, v → k, q, v
    Queries and keys have changed places: the first third of qkv is q, the second k.
values_before_keys: q, k, v → q, v, k
    Keys and values have changed places: the second third of qkv is k, the last is v.
heads_not_in_front: three b h n d → three b n h d
and: .transpose(1, 2) →
    The heads still stand behind the tokens when q meets k: (B, N, H, d). So the heads of one token
    attend to each other, and no token to any other. Move H in front of N.
one_head: h=self.num_heads → h=1
    There is one head, whatever num_heads says. Split q, k and v into num_heads heads.
least_like_first: = scores.softmax → = (-scores).softmax
    The sign of the scores is turned round: the key that fits least gets the most. Take softmax of
    the scores as they are.
weights_transposed: (weights @ v) → (weights.transpose(-2, -1) @ v)
    The weights are transposed, or, which comes to the same, the keys ask and the softmax runs over
    them. Row i of q @ kᵀ belongs to query i: take its softmax along dim=-1, and weights @ v.
projects_the_input: proj(out) → proj(x)
    The attention is computed and thrown away: proj is given the input x. Give it the merged heads.
no_projection: self.proj(out) → out
    The output projection has no effect: what you return are the merged heads, which are not mixed.
    Call proj on them, and return what it gives.
projected_twice: self.proj(out) → self.proj(self.proj(out))
    The output projection is applied twice. Once is enough.
input_added: self.proj(out) → x + self.proj(out)
    The input is added to the result. The residual belongs to the block, not to the attention.
""") | edits(Repaired, """
dropout_in_evaluation_alone: self.attn_drop(weights) →
→ F.dropout(weights, self.attn_drop.p, not self.training)
    Weights are dropped in evaluation, and not in training. It should be the other way round:
    training=self.training.
renormalised: weights = self.attn_drop(weights) → weights = self.attn_drop(weights)
→ weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    After the dropout the rows are made to sum to 1 again. Dropout lets the sums vary: what stays
    is divided by 1 − p and left as it is.
smaller_in_evaluation: self.attn_drop(weights) → self.attn_drop(weights)
→ if not self.training:
→     weights = weights * (1 - self.attn_drop.p)
    The weights are made smaller in evaluation. nn.Dropout has enlarged them in training already:
    in evaluation nothing is left to do.
dropped_twice: self.attn_drop(weights) → self.attn_drop(self.attn_drop(weights))
    The dropout is applied twice, so that more is dropped and the rest enlarged twice. Call it once,
    on the weights.
kept_for_dropped: nn.Dropout(attn_drop) → nn.Dropout(1 - attn_drop)
    The layer gets 1 − attn_drop. nn.Dropout takes the share that is *dropped*:
    nn.Dropout(attn_drop).
kept_for_dropped_by_hand: self.attn_drop(weights) → self.attn_drop(weights)
→ p = self.attn_drop.p
→ if self.training and p:
→     weights = (weights == 0) * (q @ k.mT * self.scale).softmax(dim=-1) / (1 - p)
    The weights that should be dropped are kept, and the others dropped: a share of 1 − attn_drop is
    lost. Keep a weight where torch.rand_like(weights) >= p.
divided_by_the_dropped_share: self.attn_drop(weights) → self.attn_drop(weights)
→ p = self.attn_drop.p
→ if self.training and p:
→     weights = weights * (1 - p) / p
    The weights that stay are divided by p. Divide by 1 − p, the share that is kept, or let
    nn.Dropout do it.
default_share: attn_drop=0.0 → attn_drop=0.1
default_share_fixed: nn.Dropout(attn_drop) → nn.Dropout(0.1)
default_share_of_a_half: nn.Dropout(attn_drop) → nn.Dropout(0.5)
    Weights are dropped although attn_drop is left at its default, 0.0. Build nn.Dropout(attn_drop),
    and keep the default.
rows_dropped: self.attn_drop(weights) → weights * self.attn_drop(torch.ones_like(weights[..., :1]))
    Whole rows of the weights are dropped: a query sees everything or nothing. Each weight is
    dropped by itself: self.attn_drop(weights).
columns_dropped: self.attn_drop(weights) →
→ weights * self.attn_drop(torch.ones_like(weights[..., :1, :]))
    Whole columns of the weights are dropped: all queries lose the same keys. Each weight is dropped
    by itself: self.attn_drop(weights).
heads_dropped: nn.Dropout( → nn.Dropout2d(
    Whole heads are dropped, with all their weights. (nn.Dropout2d does so.) Each weight is dropped
    by itself: nn.Dropout.
alike_in_all_heads: self.attn_drop(weights) →
→ weights * self.attn_drop(torch.ones_like(weights[:, :1]))
    All heads lose the same weights. Each weight is dropped by itself: self.attn_drop(weights).
alike_in_all_images: self.attn_drop(weights) →
→ weights * self.attn_drop(torch.ones_like(weights[:1]))
    All images lose the same weights. Each weight is dropped by itself: self.attn_drop(weights).
images_dropped: nn.Dropout( → nn.Dropout3d(
    All weights of an image are dropped together, or none. Each weight is dropped by itself:
    nn.Dropout.
alpha_dropout: nn.Dropout( → nn.AlphaDropout(
    This is nn.AlphaDropout, which puts a negative number where a weight is dropped. A dropped
    weight is 0: nn.Dropout.
a_number_for_a_layer: nn.Dropout(attn_drop) → attn_drop
    self.attn_drop is a number, and a number cannot be called. Build the layer:
    nn.Dropout(attn_drop).
divided_by_d: -0.5 → -1
    The scores are divided by d. It should be √d: (dim // num_heads) ** -0.5.
root_of_the_number_of_heads: (dim // num_heads) → num_heads
    The number of heads stands under the root. The scale is (dim // num_heads) ** -0.5.
softmax_over_heads: dim=-1 → dim=1
    The softmax runs over the heads, axis 1. It belongs to the keys, the last axis: dim=-1.
backwards: q, k, v → v, k, q
    Queries and values have changed places: the first third of qkv is q, the last is v.
weights_not_used: (weights @ v) → v
    The weights are never used: each token keeps its own value. Multiply: weights @ v.
heads_added_to_their_projection: self.proj(out) → out + self.proj(out)
    The merged heads are added to their projection. Return self.proj(out) alone.
input_added_before_the_projection: self.proj(out) → self.proj(x + out)
    The input is added to the merged heads. The residual belongs to the block, and comes after the
    projection.
no_bias_in_qkv: 3 * dim → 3 * dim, bias=False
    qkv has no bias. Build it with one, as the class in the task does: nn.Linear(dim, 3 * dim).
no_bias_in_proj: nn.Linear(dim, dim) → nn.Linear(dim, dim, bias=False)
    proj has no bias. Build it with one, as the class in the task does: nn.Linear(dim, dim).
weights_returned: return self.proj(out) → return weights
    The weights come back. Return the projected result, (B, N, D).
weights_too: return self.proj(out) → return self.proj(out), weights
    The weights come back beside the result. Return the result alone, (B, N, D).
first_image_only: self.proj(out) → self.proj(out[0])
    Only the first image comes back. Return all of them: (B, N, D).
first_token_only: self.proj(out) → self.proj(out[:, 0])
first_token_only_with_its_axis: self.proj(out) → self.proj(out[:, :1])
    Only the first token comes back. Return all of them: (B, N, D).
nothing_returned: return self → self
    The result is computed and not returned. The last line of forward needs `return`.
""")  # fmt: skip


def probe(answer):
    def outcomes():
        """All outputs that dropout can make of one token with two heads, in some order."""
        torch.manual_seed(3)
        out = filled(answer, 10, 2, 0.4).train()(draw(1, 1, 10).expand(200, 1, 10))
        return out.detach()[:, 0].round(decimals=5).unique(dim=0)

    def zero_in_the_mean():
        """The mean over many passes is the output without dropout."""
        torch.manual_seed(3)
        x = draw(1, 4, 10).expand(1500, 4, 10)
        out = filled(answer, 10, 2, 0.3).train()(x).detach().mean(0)
        calm = filled(answer, 10, 2, 0.3).eval()(x[:1]).detach()[0]
        return bool((out - calm).abs().max() < 0.15)

    return [
        forward(answer, (10, 2, 0.4), draw(3, 4, 10)),
        forward(answer, (12, 3), draw(2, 5, 12), train=True),
        parameter_gradients(answer, (10, 5), draw(1, 3, 10)),
        learned(answer, 6, 2),
        outcomes,
        zero_in_the_mean,
    ]


EXERCISE = Exercise(
    name="attention_module",
    chapter="03_attention",
    task="Attention(dim, num_heads, attn_drop=0.0), a module with the layers qkv and proj, both "
    "with a bias: (B, N, D) -> (B, N, D); dropout on the weights, in training only",
    reference=Attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[
        Repaired,
        HeadByHead,
        ByTorch,
        lambda dim, heads, attn_drop=0.0: vitlib.Attention(
            dim, heads, qkv_bias=True, attn_drop=attn_drop
        ),
    ],
    probe=probe,
)
