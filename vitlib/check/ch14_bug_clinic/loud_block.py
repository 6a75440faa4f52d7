"""14.1 loud_block: eight mistakes that Python reports, one after the other."""

import einops
import torch
import torch.nn.functional as F
from torch import nn

from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, build, call, numbers, twin
from vitlib.check.probing import draw, filled


class EncoderBlock(nn.Module):
    def __init__(self, dim, heads, depth, act_layer=nn.GELU):
        super().__init__()
        self.num_heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(dim, dim), act_layer()]
        self.mlp = nn.Sequential(*layers)
        self.drop_path = nn.Identity()
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, x):
        qkv = self.qkv(self.norm1(x))
        qkv = einops.rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        q, k, v = qkv
        scores = q @ k.transpose(-2, -1)
        weights = (scores / q.shape[-1] ** 0.5).softmax(dim=-1)
        out = weights @ v
        joined = einops.rearrange(out, "b h n d -> b n (h d)")
        x = x + self.drop_path(self.proj(joined))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class WithoutEinops(EncoderBlock):
    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(B, N, 3, self.num_heads, D // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))
        return x + self.mlp(self.norm2(x))


class FusedKernel(EncoderBlock):
    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.drop_path(self.proj(out))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        module.bias.data.fill_(0)


class InitOutside(EncoderBlock):
    def __init__(self, dim, heads, depth):
        super().__init__(dim, heads, 0)
        layers = [(nn.Linear(dim, dim), nn.GELU()) for _ in range(depth)]
        self.mlp = nn.Sequential(*[layer for pair in layers for layer in pair])
        self.apply(init_weights)


def cases(answer) -> Cases:
    def output(B, N, D, heads, depth, training=False):
        module = twin(answer, EncoderBlock, D, heads, depth).train(training)
        return call(module, numbers(B, N, D))

    def start():
        linear = [m for m in build(answer, 60, 3, 2).modules() if isinstance(m, nn.Linear)]
        deviation = torch.cat([m.weight.flatten() for m in linear]).std().item()
        biases = torch.cat([m.bias.flatten() for m in linear]).detach()
        return {
            "deviation of the weights": round(deviation, 3),
            "all biases are 0": not biases.any(),
        }

    yield "2 images of 5 tokens, D = 12, 3 heads, one layer", lambda: output(2, 5, 12, 3, 1)
    yield "3 images of 4 tokens, D = 10, 2 heads, 3 layers", lambda: output(3, 4, 10, 2, 3)
    yield "the first in training", lambda: output(2, 5, 12, 3, 1, True)
    yield "what the linear layers start from", start


MUTANTS = edits(EncoderBlock, """
unchanged: range(depth) → range(len(depth))
and: act_layer=nn.GELU) → act_layer=nn.GELU())
and: def _init_weights( → def _init(
and: einops.rearrange(qkv → rearrange(qkv
and: self.num_heads = heads → self.num_head = heads
and: k.transpose → k.transposr
and: out = weights @ v → pass
and: self.drop_path = nn.Identity() → self.drop_path = nn.Identity
    The symptom is still there: it stops with an error. Below is what went wrong, and the line.
    Repair that line; the next error then has its turn.
activation_instance: act_layer=nn.GELU) → act_layer=nn.GELU())
    One error fewer. The next: `act_layer` is an activation already, and is called as if it were
    the class that makes one.
no_init_weights: def _init_weights( → def _init(
    One error fewer. The next: `self.apply` is given a method that is defined nowhere.
no_import: einops.rearrange(qkv → rearrange(qkv
    The block can be made now. What stops `forward` is that `rearrange` was never imported.
num_head: self.num_heads = heads → self.num_head = heads
    One error fewer. The next: the number of heads is stored under one name and read under another.
transposr: k.transpose → k.transposr
    One error fewer. The next: a method of the tensor is misspelled.
no_result: out = weights @ v → pass
    One error fewer. The next: the line is missing that makes the result of attention out of the
    weights and the values.
identity_class: self.drop_path = nn.Identity() → self.drop_path = nn.Identity
    This is the last error: `self.drop_path` is the class nn.Identity, and calling it makes a module
    instead of giving x back.
init_dropped: self.apply(self._init_weights) → pass
    The error is gone, and the initialisation with it: the linear layers start as PyTorch makes
    them. Write the function that is missing.
init_without_biases: nn.init.zeros_(module.bias) → pass
    The weights start as they should, and the biases as PyTorch makes them: they should be 0.
values_alone: out = weights @ v → out = v
    `out` is there now, and no attention weight is in it: no token hears of another.
scores_in_place_of_weights: out = weights @ v → out = scores @ v
    `out` is made of the scores: the softmax is computed and not used.
one_head: h=self.num_heads → h=1
    The error is gone, and all channels now form one head, whatever `heads` says.
one_layer: range(depth) → range(1)
    The error is gone, and the MLP has one layer, whatever `depth` says.
depth_ignored: range(depth) → range(0)
    The error is gone, and the MLP with it: no layer is made.
no_activation: layers += [nn.Linear(dim, dim), act_layer()] → layers += [nn.Linear(dim, dim)]
    The error is gone, and the activation with it: linear layers in a row are one.
reshaped_keys: k.transpose(-2, -1) → k.reshape(*k.shape[:-2], k.shape[-1], -1)
    The shape fits, but a reshape does not swap the axes: it cuts the same row of numbers anew.
""")  # fmt: skip


def probe(answer):
    def output(B, N, D, heads, depth):
        return lambda: filled(answer, D, heads, depth)(draw(B, N, D))

    def start():
        linear = [m for m in answer(50, 2, 1).modules() if isinstance(m, nn.Linear)]
        weights = torch.cat([m.weight.flatten() for m in linear])
        return round(weights.std().item(), 3), [m.bias.any().item() for m in linear]

    return [output(2, 3, 8, 4, 1), output(3, 6, 9, 3, 2), start]


EXERCISE = Exercise(
    name="loud_block",
    chapter="14_bug_clinic",
    task="EncoderBlock(dim, heads, depth), a module: pre-norm self-attention and an MLP of `depth` "
    "linear layers (D -> D) with GELU behind each, (B, N, D) -> (B, N, D); weights of linear "
    "layers start as normal numbers with deviation 0.02, and their biases at 0",
    reference=EncoderBlock,
    cases=cases,
    mutants=MUTANTS,
    accepted=[WithoutEinops, FusedKernel, InitOutside],
    probe=probe,
)
