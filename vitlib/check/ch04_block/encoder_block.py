"""4.5 encoder_block: pre-norm, two residuals, and layers of the reader's choice."""

from functools import partial

from torch import nn

import vitlib
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, numbers, twin
from vitlib.check.probing import draw, forward, parameter_gradients


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = vitlib.Attention(dim, num_heads, qkv_bias=True)
        self.norm2 = norm_layer(dim)
        self.mlp = vitlib.Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ByLoop(Block):
    def forward(self, x):
        for norm, branch in ((self.norm1, self.attn), (self.norm2, self.mlp)):
            x = branch(norm(x)) + x
        return x


class OfVitlib(vitlib.Block):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__(
            dim, num_heads, mlp_ratio, qkv_bias=True, act_layer=act_layer, norm_layer=norm_layer
        )


class OfTorch(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = norm_layer(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = norm_layer(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), act_layer(), nn.Linear(hidden, dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


def cases(answer) -> Cases:
    def run(ratio, **layers):
        return call(twin(answer, Block, 12, 3, ratio, **layers), numbers(2, 5, 12))

    def gradient():
        x = numbers(2, 5, 12).requires_grad_()
        twin(answer, Block, 12, 3, 4)(x)[:, 0].square().sum().backward()
        return x.grad

    yield "2 images of 5 tokens, D = 12, 3 heads", lambda: run(4)
    yield "mlp_ratio 2.65, which comes to 31.8", lambda: run(2.65)
    # ELU takes a number and Identity takes anything: here a swap is silent
    yield (
        "act_layer=nn.ELU, norm_layer=nn.Identity",
        (lambda: run(2, act_layer=nn.ELU, norm_layer=nn.Identity)),
    )
    yield "the gradient that reaches x", gradient


MUTANTS = edits(ByLoop, """
post_norm: branch(norm(x)) + x → norm(branch(x) + x)
    This is post-norm, the order of the first Transformer: the norm stands on the sum, and no path
    leads around it. ViT is pre-norm: x + branch(norm(x)). The shapes are the same, and weights
    trained for one give nonsense in the other.
post_norm_in_the_second_half: x = branch(norm(x)) + x →
→ x = branch(norm(x)) + x if norm is self.norm1 else norm(branch(x) + x)
    norm2 stands on the sum, behind the MLP, as in the first Transformer. ViT is pre-norm in both
    halves: x + mlp(norm2(x)).
post_norm_in_the_first_half: x = branch(norm(x)) + x →
→ x = branch(norm(x)) + x if norm is self.norm2 else norm(branch(x) + x)
    norm1 stands on the sum, behind attention, as in the first Transformer. ViT is pre-norm in both
    halves: x + attn(norm1(x)).
residual_from_the_norm: x = branch(norm(x)) + x → x = norm(x)
→ x = branch(x) + x
    The normalised x replaces x, and the branch is added to *that*. So the identity path is lost: x
    itself must stay as it is, and only the branch sees norm(x). Do not assign norm(x) to x.
norm_after_the_branch: branch(norm(x)) → norm(branch(x))
    The norms stand behind the branches. They belong before them: what a branch reads is norm(x),
    and what it writes is added as it is.
no_residual: + x →
    Nothing is added to x: both residual connections are missing.
norms_forgotten: branch(norm(x)) → branch(x)
    The branches see x itself: the norms are made and not used. Give each branch norm(x).
""") | edits(Block, """
residual_from_norm1: x = x + self.attn(self.norm1(x)) → x = self.norm1(x)
→ x = x + self.attn(x)
    Before attention, norm(x) replaces x, and the branch is added to *that*. x itself must stay as
    it is: x = x + attn(norm1(x)). The MLP's line is right.
residual_from_norm2: return x + self.mlp(self.norm2(x)) → x = self.norm2(x)
→ return x + self.mlp(x)
    Before the MLP, norm(x) replaces x, and the branch is added to *that*. x itself must stay as it
    is, as it does in your attention line.
no_first_residual: x + self.attn → self.attn
    Attention's output replaces the tokens instead of being added to them. Each of the two branches
    needs its own x + …
no_second_residual: x + self.mlp → self.mlp
    The MLP's output replaces the tokens instead of being added to them. Each of the two branches
    needs its own x + …
mlp_added_to_the_input: x = x + self.attn → y = x + self.attn
and: self.norm2(x) → self.norm2(y)
    The MLP's branch is added to the input of the block, so that attention's result is lost but for
    what the MLP makes of it. Add it to x *after* attention.
parallel: x = x + self.attn → y = x + self.attn
and: x + self.mlp → y + self.mlp
    Attention and MLP both read the input of the block, side by side. There are large models that do
    so, but ViT's MLP reads what attention has already written.
mlp_first: x = x + self.attn(self.norm1(x)) → x = x + self.mlp(self.norm2(x))
and: return x + self.mlp(self.norm2(x)) → return x + self.attn(self.norm1(x))
    The MLP comes first and attention second. It is the other way round: tokens read from each
    other, and then each works on what it has read.
norms_swapped: attn(self.norm1(x)) → attn(self.norm2(x))
and: mlp(self.norm2(x)) → mlp(self.norm1(x))
    norm1 and norm2 are exchanged. In a fresh block they are alike, but with trained weights they
    are not: norm1 stands before attention.
norm1_forgotten: self.norm1(x) → x
    Attention reads x itself. Give it norm1(x).
norm2_forgotten: self.norm2(x) → x
    The MLP reads x itself, without a norm. Give it norm2(x).
one_norm_shared: self.norm2 = norm_layer(dim) → self.norm2 = self.norm1
    norm1 and norm2 are one and the same module, so that they share weight and bias. Make two:
    norm_layer(dim) for each.
one_norm_twice: self.norm2(x) → self.norm1(x)
    norm1 is used for both branches. Each has its own norm, with its own weight and bias: norm2
    stands before the MLP.
act_ignored: act_layer=act_layer →
    act_layer is not passed on to the MLP: it is always GELU.
no_qkv_bias: qkv_bias=True →
    Attention has no bias for queries, keys and values: that is vitlib's default. ViT has one:
    qkv_bias=True.
ratio_cut_off: int(dim * mlp_ratio) → dim * int(mlp_ratio)
    mlp_ratio is made a whole number before it multiplies: 2.5 becomes 2. Multiply first, then cut
    off: int(dim * mlp_ratio).
ratio_rounded: int(dim * mlp_ratio) → round(dim * mlp_ratio)
    The hidden width is rounded to the nearest whole number, and should be rounded down, with int.
    Weights that were trained elsewhere would not fit.
ratio_as_the_width: int(dim * mlp_ratio) → int(mlp_ratio)
    mlp_ratio is taken for the hidden width itself. It is a multiple of dim: int(dim * mlp_ratio).
act_called: act_layer=act_layer → act_layer=act_layer()
    act_layer() makes an object, and Mlp takes the class: it calls it itself. Pass act_layer without
    the brackets.
act_by_position: int(dim * mlp_ratio), act_layer=act_layer → int(dim * mlp_ratio), act_layer
    The third argument of Mlp is out_features, so the class of the activation is taken for a width.
    Name it: act_layer=act_layer.
mlp_forgotten: return x + self.mlp(self.norm2(x)) → return x
    The MLP is built and never used. The block has two halves: x + attn(norm1(x)), then x +
    mlp(norm2(x)).
attention_forgotten: x = x + self.attn(self.norm1(x)) → x = x
    Attention is built and never used, so that no token sees another one.
residual_twice: return x + self.mlp → return 2 * x + self.mlp
    x is added twice in the second half. Each half adds its branch once: x + mlp(norm2(x)).
ratio_ignored: int(dim * mlp_ratio) → 4 * dim
    The hidden width is always 4·D. It should be int(dim * mlp_ratio).
""") | edits(OfVitlib, """
act_and_norm_swapped: =act_layer, norm_layer=norm_layer → =norm_layer, norm_layer=act_layer
    act_layer and norm_layer are swapped: the norm is an activation, and the activation a norm. It
    happens where they are passed on by position. Pass them by name: act_layer=act_layer.
norm_ignored: norm_layer=norm_layer →
    norm_layer is not used: both norms are always nn.LayerNorm. Write norm_layer(dim).
eps_added: norm_layer=norm_layer → norm_layer=partial(norm_layer, eps=1e-6)
    You pass eps=1e-6 to the norm. It is asked for as norm_layer(dim), with the norm's own eps:
    whoever wants another passes a partial, and not every norm has an eps.
""")  # fmt: skip


def probe(answer):
    x = draw(3, 4, 10)
    layers = {"act_layer": nn.Softplus, "norm_layer": nn.Identity}
    return [
        forward(answer, (10, 2, 3), x),
        forward(answer, (10, 5, 1.5), x, train=True),
        forward(answer, (10, 2, 2), x, **layers),
        forward(answer, (10, 2, 2), x, norm_layer=partial(nn.LayerNorm, eps=0.1)),
        parameter_gradients(answer, (10, 2, 3), x),
    ]


EXERCISE = Exercise(
    name="encoder_block",
    chapter="04_block",
    task="Block(dim, num_heads, mlp_ratio, act_layer=nn.GELU, norm_layer=nn.LayerNorm), a module "
    "(B, N, D) -> (B, N, D) with norm1, attn, norm2 and mlp: x + attn(norm1(x)), and of that "
    "x + mlp(norm2(x))",
    reference=Block,
    cases=cases,
    mutants=MUTANTS,
    accepted=[OfTorch, ByLoop, OfVitlib],
    probe=probe,
)
