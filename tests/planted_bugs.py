"""A small ViT from scratch, and bugs that were found in real code, each planted in it.

`BUGS` says which instruments see each: all of them, and no other. For some that is none, as
nothing is wrong but that another function is computed: only a reference with the same weights can
tell. Bugs that stop the model are tested with the command line (tests/cli/test_check.py). One more
is seen by none: drop path with a mask of shape (B, 1, x.ndim - 1) at width 2, where it fits.
"""

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, PATCH, SIDE, CLASSES = 24, 3, 4, 16, 5


class Attention(nn.Module):
    def __init__(self, dim=WIDTH, heads=HEADS, drop=0.0):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def weights(self, scores):
        return self.attn_drop(scores.softmax(dim=-1))

    def merge(self, x):
        return x.transpose(1, 2).flatten(2)

    def project(self, o, x):
        return self.proj_drop(self.proj(o))

    def forward(self, x):
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = self.weights(q @ k.transpose(-2, -1) * self.scale)
        return self.project(self.merge(weights @ v), x)


class Block(nn.Module):
    def __init__(self, attention, norm=nn.LayerNorm, act=nn.GELU):
        super().__init__()
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.attn = attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), act(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    tokens = (SIDE // PATCH) ** 2 + 1

    def __init__(self, attention=Attention, block=Block, **options):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.pos = nn.Parameter(0.02 * torch.randn(1, self.tokens, WIDTH))
        self.blocks = nn.Sequential(*(block(attention, **options) for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def cut(self, images):
        return self.patches(images).flatten(2).transpose(1, 2)

    def join(self, x):
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)

    def pool(self, x):
        return x[:, 0]

    def forward(self, images):
        x = self.blocks(self.join(self.cut(images)) + self.pos)
        return self.head(self.pool(self.norm(x)))


# --- bugs: rows of a list of those that were found in the wild


class ThrownAway(Attention):  # 1
    def project(self, o, x):
        o = self.proj(o)
        return self.proj_drop(x)


class Inverse(Attention):  # 2
    def __init__(self):
        super().__init__()
        self.scale = (WIDTH // HEADS) ** 0.5


class NeverApplied(Attention):  # 5
    def weights(self, scores):
        return scores.softmax(dim=-1)


class Encoder(nn.Module):  # 8 and 9
    def __init__(self, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, **options)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.layers(x)


class Averaging(ViT):
    def join(self, x):
        return x

    def pool(self, x):
        return x.mean(dim=1)

    def __init__(self):
        super().__init__()
        del self.cls_token
        self.pos = nn.Parameter(0.02 * torch.randn(1, self.tokens - 1, WIDTH))


def with_encoder(kind=ViT, anew=True, **options):
    model = kind()
    model.blocks = Encoder(**options)
    if anew:
        for layer in model.blocks.layers.layers:
            for p in layer.parameters():
                if p.ndim > 1:
                    nn.init.xavier_uniform_(p)
    return model


VIT = {"norm_first": True, "activation": "gelu", "dim_feedforward": 4 * WIDTH, "dropout": 0.0}


class TokenPerRow(ViT):  # 10
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(0.02 * torch.randn(7, 1, WIDTH))

    def join(self, x):
        return torch.cat([self.cls_token, x], dim=1)


class PlainPositions(ViT):  # 11
    def __init__(self):
        super().__init__()
        del self.pos
        self.pos = 0.02 * torch.randn(1, self.tokens, WIDTH)


class Swapped(Block):  # 14, where both classes accept the argument: the norm is an activation
    def __init__(self, attention):
        super().__init__(attention, norm=lambda dim: nn.LeakyReLU(), act=lambda: nn.LayerNorm(96))


class OverBoth(ViT):  # 20
    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.norm1 = nn.LayerNorm([self.tokens, WIDTH])


class WithoutPermute(ViT):  # 21
    def __init__(self):
        super().__init__()
        self.patches = nn.Linear(3 * PATCH**2, WIDTH)

    def cut(self, images):
        return self.patches(images.reshape(len(images), self.tokens - 1, -1))


class OverQueries(Attention):  # 28
    def weights(self, scores):
        return self.attn_drop(scores.softmax(dim=-2))


class OverHeads(Attention):
    def weights(self, scores):
        return self.attn_drop(scores.softmax(dim=1))


class ThenScaled(Attention):
    def weights(self, scores):
        return self.attn_drop((scores / self.scale).softmax(dim=-1) * self.scale)


class ByWidth(Attention):  # 29
    def __init__(self):
        super().__init__()
        self.scale = WIDTH**-0.5


class NotTransposed(Attention):  # 30
    def merge(self, x):
        return x.reshape(len(x), -1, WIDTH)


class AtTheEnd(ViT):  # 32
    def join(self, x):
        return torch.cat([x, self.cls_token.expand(len(x), -1, -1)], dim=1)


class WideTokens(ViT):  # 36
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos = nn.Parameter(torch.randn(1, self.tokens, WIDTH))


class NormFirst(Block):  # 35
    def forward(self, x):
        x = self.norm1(x)
        x = x + self.attn(x)
        x = self.norm2(x)
        return x + self.mlp(x)


class DropoutAlways(ViT):
    def pool(self, x):
        return F.dropout(x[:, 0], 0.1)


class OverTheBatch(ViT):
    def pool(self, x):
        return x[:, 0] - x[:, 0].mean(dim=0)


class Unpositioned(ViT):
    def __init__(self):
        super().__init__()
        del self.pos
        self.pos = 0.0


DEAF = {"tokens mix", "parts of the image", "order", "one batch by heart", "gradients"}
BUGS = {  # name -> maker, instruments that see it
    "1 attention thrown away": (lambda: ViT(ThrownAway), DEAF),
    "2 times √d": (lambda: ViT(Inverse), {"attention entropy"}),
    "5 dropout never applied": (lambda: ViT(NeverApplied), {"dropout"}),
    # All class tokens start alike, so that images whose class tokens meet hear nothing new ...
    "8 attention across the batch": (lambda: with_encoder(**VIT), DEAF),
    # ... but their patches do.
    "8 the same, and the mean of the patches": (
        lambda: with_encoder(Averaging, **VIT),
        {"tokens mix", "batch"},
    ),
    "9 one layer cloned": (
        lambda: with_encoder(anew=False, batch_first=True, **VIT),
        {"first weights"},
    ),
    "9 post-norm, ReLU, no last norm": (lambda: with_encoder(batch_first=True), set()),
    "10 a class token for each row": (TokenPerRow, {"batch"}),
    "11 positions no parameter": (PlainPositions, {"gradients"}),
    # seen, though not by the right name: what is not normalised makes scores of another size
    "14 norm and activation swapped": (lambda: ViT(block=Swapped), {"attention entropy"}),
    "20 norm over both axes": (OverBoth, {"norms"}),
    "21 patches scrambled": (WithoutPermute, set()),
    "28 softmax over the queries": (lambda: ViT(OverQueries), {"attention rows"}),
    "softmax over the heads": (lambda: ViT(OverHeads), {"attention rows"}),
    "scaled after the softmax": (
        lambda: ViT(ThenScaled),
        {"attention rows", "attention entropy"},
    ),
    "29 scaled by the whole width": (lambda: ViT(ByWidth), {"attention entropy"}),
    "30 heads not transposed back": (lambda: ViT(NotTransposed), set()),
    "32 the class read off a patch": (AtTheEnd, set()),
    "35 residual from the norm": (lambda: ViT(block=NormFirst), set()),
    "36 tokens of deviation 1": (WideTokens, {"first weights"}),
    "dropout in eval mode": (DropoutAlways, {"eval mode", "batch"}),
    "mean over the batch": (OverTheBatch, {"batch"}),
    "no positions": (Unpositioned, {"order"}),
}
