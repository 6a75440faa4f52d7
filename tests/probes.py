"""What each exercise's task asks for, observed on inputs of our own, not on the checker's cases.

PROBES[name](answer) returns a list of functions, each of which runs the answer once and says what
came back. Two answers are the same function if all of that is alike. The sizes differ from those of
the checkers, and every dimension of a tensor has another size unless a mistake hides where two are
equal.
"""

import math
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitlib

PROBES = {}


def probe(function):
    PROBES[function.__name__] = function
    return function


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


# --- chapter 1


@probe
def count_patches(answer):
    def refusal(*sizes):
        try:
            return answer(*sizes)
        except ValueError as error:
            return [str(size) in str(error) for size in sizes]

    sizes = [(35, 14, 7), (6, 6, 6), (64, 16, 4), (5, 3, 1), (33, 32, 8), (32, 33, 8), (9, 16, 12),
             (16, 9, 12), (7, 14, 14), (14, 7, 14), (25, 36, 10), (2, 50, 10)]  # fmt: skip
    return [partial(refusal, *size) for size in sizes]


@probe
def patchify(answer):
    images = [(draw(3, 2, 6, 9), 3), (draw(1, 4, 10, 4), 2), (draw(2, 1, 4, 4), 1)]
    return [returns(answer, *given) for given in images] + [changes(answer, *images[0])]


@probe
def unpatchify(answer):
    given = [
        (draw(3, 6, 18), 3, (6, 9)),
        (draw(1, 10, 16), 2, (10, 4)),
        (draw(2, 1, 25), 5, (5, 5)),
    ]
    return [returns(answer, *g) for g in given]


@probe
def overlapping_patches(answer):
    given = [(draw(3, 2, 7, 9), 3, 2), (draw(1, 2, 9, 8), 2, 2), (draw(2, 1, 10, 13), 4, 3)]
    return [returns(answer, *g) for g in given] + [returns(answer, draw(1, 2, 5, 6), 5, 1)]


@probe
def kernels_from_matrix(answer):
    given = [(draw(27, 4), 3, 3), (draw(8, 3), 2, 2), (draw(4, 4), 1, 2), (draw(20, 9), 5, 2)]
    return [returns(answer, *g) for g in given]


@probe
def embed_patches(answer):
    given = draw(3, 2, 9, 6), draw(5, 2, 3, 3), draw(5, seed=1)
    square = draw(1, 3, 4, 4), draw(12, 3, 2, 2), draw(12, seed=1)
    gradients = [gradient(answer, *given, of=i) for i in range(3)]
    return [returns(answer, *given), returns(answer, *square), *gradients]


@probe
def patch_embed(answer):
    def beside_another():
        one = filled(answer, 10, 5, 2, 4)
        filled(answer, 12, 2, 3, 6)
        return one(draw(3, 2, 10, 10))

    accepts = [(6, 9), (9, 6), (12, 12), (3, 3)]
    return [
        forward(answer, (10, 5, 2, 4), draw(3, 2, 10, 10)),
        forward(answer, (6, 2, 4, 9), draw(2, 4, 6, 6)),
        parameter_gradients(answer, (6, 2, 4, 9), draw(2, 4, 6, 6)),
        beside_another,
        refuses(lambda: answer(10, 3, 1, 4), ValueError),
        refuses(lambda: answer(3, 10, 1, 4), ValueError),
        *[
            refuses(lambda size=size: answer(9, 3, 1, 4)(torch.zeros(1, 1, *size)), ValueError)
            for size in accepts
        ],
    ]


# --- chapter 2


@probe
def class_token(answer):
    run = [forward(answer, (4,), draw(n, 3, 4)) for n in (1, 2, 5)]
    return [*run, learned(answer, 4), parameter_gradients(answer, (4,), draw(2, 3, 4))]


def _deviation(values):
    """Coarse, since two honest draws differ."""
    mean, deviation = values.double().mean().item(), values.double().std().item()
    if deviation < 1e-12:
        return "constant"
    return round(math.log(deviation, 1.5)), abs(mean) > 0.2 * deviation


@probe
def position_embedding(answer):
    def start():
        return _deviation(torch.cat([p.flatten() for p in answer(70, 50).parameters()]).detach())

    return [
        forward(answer, (3, 4), draw(2, 3, 4)),
        forward(answer, (3, 4), draw(1, 3, 4)),
        parameter_gradients(answer, (3, 4), draw(2, 3, 4)),
        lambda: sum(p.numel() for p in answer(3, 4).parameters()),
        lambda: sum(v.numel() for v in answer(3, 4).state_dict().values()),
        start,
        *[refuses(lambda n=n: answer(5, 4)(torch.zeros(2, n, 4))) for n in (2, 4, 7)],
    ]


@probe
def assemble_tokens(answer):
    given = [
        (draw(b, n, d), draw(1, 1, d, seed=1), draw(1, r, d, seed=2), draw(1, 1 + r + n, d, seed=3))
        for b, n, r, d in [(2, 5, 3, 4), (1, 3, 1, 6), (4, 2, 0, 3), (3, 1, 2, 2)]
    ]
    gradients = [gradient(answer, *given[0], of=i) for i in range(4)]
    return [returns(answer, *g) for g in given] + gradients


def _as_float(run):
    return lambda: run().float()  # either precision is right


@probe
def sincos_1d(answer):
    return [_as_float(returns(answer, *g)) for g in [(7, 6), (1, 2), (30, 10), (4, 4)]]


@probe
def sincos_2d(answer):
    return [_as_float(returns(answer, *g)) for g in [(12, 3, 4), (4, 5, 2), (20, 1, 6), (8, 2, 2)]]


@probe
def resample_positions(answer):
    given = [((3, 2), (5, 3), 1), ((5, 6), (2, 4), 2), ((3, 3), (4, 4), 0), ((4, 2), (2, 4), 3)]
    given = [(draw(1, n + a * b, 4), (a, b), new, n) for (a, b), new, n in given]
    return [returns(answer, *g) for g in given] + [gradient(answer, *given[1])]


@probe
def position_similarity(answer):
    return [returns(answer, draw(1, n, d), k) for n, d, k in [(6, 4, 1), (9, 3, 3), (4, 7, 0)]]


# --- chapter 3


@probe
def softmax_rows(answer):
    odd = torch.tensor([[900.0, -900.0], [-900.0, -905.0], [0.0, 720.0]], dtype=torch.float64)
    single = draw(3, 5, dtype=torch.float32)
    return [returns(answer, x) for x in (draw(4, 3, 2), draw(2, 6), odd, single)]


@probe
def attend(answer):
    given = [
        (draw(3, 2, 5), draw(3, 4, 5, seed=1), draw(3, 4, 7, seed=2)),
        (draw(1, 3, 3), draw(1, 3, 3, seed=1), draw(1, 3, 3, seed=2)),
    ]
    gradients = [gradient(answer, *given[0], of=i) for i in range(3)]
    return [returns(answer, *g) for g in given] + gradients


@probe
def attention_entropy(answer):
    def run(weights):
        return lambda: answer(weights.clone()).round(decimals=4)

    hard = F.one_hot(torch.arange(5) % 3, 5).float().expand(2, 1, 5, 5)
    soft = [draw(*shape, dtype=torch.float32).softmax(-1) for shape in [(3, 2, 4, 4), (1, 4, 6, 6)]]
    return [run(w) for w in (*soft, hard)]


@probe
def split_heads(answer):
    return [returns(answer, draw(*s), h) for *s, h in [(2, 3, 8, 4), (1, 5, 6, 2), (3, 2, 10, 5)]]


@probe
def merge_heads(answer):
    return [returns(answer, draw(*s)) for s in [(3, 2, 4, 5), (1, 4, 2, 3), (2, 5, 5, 1)]]


@probe
def pack_qkv(answer):
    def given(d):
        return [draw(d, d, seed=i) for i in range(3)] + [draw(d, seed=i) for i in (3, 4)]

    return [lambda d=d: list(answer(*given(d))) for d in (3, 6, 1)]


@probe
def self_attention(answer):
    def given(b, n, d, heads, bias=True):
        weights = draw(3 * d, d, seed=1) / 2, draw(3 * d, seed=2) if bias else None
        return draw(b, n, d), *weights, draw(d, d, seed=3) / 2, draw(d, seed=4), heads

    sizes = [(3, 4, 10, 2), (1, 6, 9, 3), (2, 3, 4, 1), (2, 5, 8, 4, False)]
    return [returns(answer, *given(*s)) for s in sizes] + [gradient(answer, *given(*sizes[0]))]


@probe
def attention_module(answer):
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


# --- chapter 4


@probe
def layer_norm(answer):
    given = [((3, 2, 4), 1.0, 1e-6), ((5, 6), 1e-2, 1e-5), ((2, 3, 3, 7), 3.0, 0.1)]
    return [
        returns(answer, 2 + scale * draw(*s), draw(s[-1], seed=1), draw(s[-1], seed=2), eps)
        for s, scale, eps in given
    ]


@probe
def gelu(answer):
    return [returns(answer, x) for x in (2 * draw(4, 3), torch.tensor([0.0, 9.0, -9.0]).double())]


@probe
def drop_path(answer):
    def fates(p, *shape):
        torch.manual_seed(5)
        x = draw(*shape).abs() + 1
        out = answer(p).train()(x)
        factors = (out / x).flatten(1)
        whole = bool((factors == factors[:, :1]).all())
        kept = factors[factors != 0]
        share = round((factors == 0).double().mean().item() * 5)
        return tuple(out.shape), whole, share, kept.min().item(), kept.max().item()

    def gradient_of_kept():
        torch.manual_seed(5)
        x = (draw(50, 2, 3).abs() + 1).requires_grad_()
        out = answer(0.4).train()(x)
        out.sum().backward()
        return torch.allclose(out, x * x.grad)

    return [
        *[partial(fates, 0.4, 500, *rest) for rest in [(3, 5), (2,), (1, 1), (2, 2, 3)]],
        partial(fates, 0.2, 500, 4, 2),
        lambda: answer(0.4).eval()(draw(3, 2, 5)),
        lambda: answer(0.0).train()(draw(3, 2, 5)),
        gradient_of_kept,
    ]


@probe
def drop_path_rates(answer):
    given = [(0.2, 3), (0.5, 2), (0.4, 1), (0.0, 5), (0.3, 24)]
    return [lambda g=g: [round(float(rate), 6) for rate in answer(*g)] for g in given]


@probe
def encoder_block(answer):
    x = draw(3, 4, 10)
    layers = {"act_layer": nn.Softplus, "norm_layer": nn.Identity}
    return [
        forward(answer, (10, 2, 3), x),
        forward(answer, (10, 5, 1.5), x, train=True),
        forward(answer, (10, 2, 2), x, **layers),
        forward(answer, (10, 2, 2), x, norm_layer=partial(nn.LayerNorm, eps=0.1)),
        parameter_gradients(answer, (10, 2, 3), x),
    ]


@probe
def reach(answer):
    mix = draw(5, 5).tril()
    functions = [
        lambda x: x.cumsum(1),
        lambda x: x.tanh() * 3,
        lambda x: (x.softmax(-1) * 2).sin(),
        lambda x: F.layer_norm(x, x.shape[-1:]),
        lambda x: x + x.mean(1, keepdim=True) / 50,
        lambda x: mix @ x,
        lambda x: x + F.one_hot(torch.tensor(2), 7) * x.roll(1, 1),
        lambda x: x + x.roll(-2, 1)[..., 3:4] * F.one_hot(torch.tensor(6), 7),
        lambda x: x - x.mean(-1, keepdim=True),
    ]
    return [lambda f=f: answer(f, draw(1, 5, 7)).bool() for f in functions]


@probe
def encoder_layer(answer):
    x = draw(3, 4, 10)

    def settings():
        layer = answer(10, 2)
        return layer.norm_first, layer.linear1.out_features, layer.norm2.eps, layer.dropout1.p

    def outputs(train, scale):
        torch.manual_seed(0)
        return filled(answer, 10, 2).train(train)(scale * x)

    return [settings, *[partial(outputs, *g) for g in [(True, 1.0), (False, 1.0), (False, 0.01)]]]


# --- chapter 5


@probe
def count_parameters(answer):
    sizes = [(32, 8, 3, 12, 2, 3.0, 7), (20, 5, 1, 6, 5, 1.5, 4), (8, 8, 2, 4, 0, 4.0, 2)]
    return [returns(answer, *s, distilled) for s in sizes for distilled in (False, True)]


@probe
def count_multiply_adds(answer):
    sizes = [((32, 16), 8, 3, 12, 2, 3.0, 7), ((20, 35), 5, 1, 6, 5, 1.5, 4)]
    return [returns(answer, *s) for s in [*sizes, ((8, 8), 8, 2, 4, 0, 4.0, 2)]]


@probe
def pool(answer):
    given = [(draw(2, n + 3, 5), n, kind) for n in (1, 3, 4) for kind in ("token", "avg")]
    return [returns(answer, *g) for g in given]


@probe
def vision_transformer(answer):
    sizes, images = (8, 4, 3, 6, 10, 3, 2), draw(3, 3, 8, 8)
    shapes = sorted(shape for _, shape in learned(answer, *sizes)())
    return [
        lambda: shapes,
        forward(answer, sizes, images),
        forward(answer, sizes, images[:1], train=True),
        forward(answer, (6, 2, 1, 4, 9, 1, 3), draw(2, 1, 6, 6)),
        parameter_gradients(answer, sizes, images),
    ]


class _Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 400))
        self.pos_embed = nn.Parameter(torch.ones(1, 60, 400))
        self.head = nn.Linear(400, 2)
        self.scale = nn.Parameter(torch.ones(3))


@probe
def init_tokens(answer):
    def after():
        torch.manual_seed(1)
        model = _Tokens()
        before, head = dict(model.named_parameters()), deepcopy(model.head)
        torch.manual_seed(2)
        answer(model)
        now = dict(model.named_parameters())
        return [
            _deviation(model.cls_token.detach()),
            _deviation(model.pos_embed.detach()),
            _deviation(model.pos_embed.detach()[0, :, 0]),
            [now.get(n) is p and p.requires_grad and p.is_leaf for n, p in before.items()],
            bool((model.head.weight == head.weight).all() and (model.head.bias == head.bias).all()),
            model.scale.detach(),
        ]

    return [after]


@probe
def init_head(answer):
    def after(width, classes, nlhb):
        head = nn.Linear(width, classes)
        answer(head, nlhb)
        return [(p.detach(), p.requires_grad, p.is_leaf) for p in head.parameters()]

    return [partial(after, *g) for g in [(4, 7, True), (4, 7, False), (9, 2, True), (3, 1, True)]]


@probe
def make_head(answer):
    def after(width, classes, size, distilled, seed=0):
        head = answer(width, classes, size, distilled).double()
        order = sorted(head.parameters(), key=lambda p: tuple(p.shape))
        for number, parameter in enumerate(order):
            parameter.data = draw(*parameter.shape, seed=seed + number)
        return head(draw(4, width)).detach()

    def refuses():
        try:
            answer(9, 2, 4, True)
        except ValueError:
            return "refused"
        return "accepted"

    sizes = [(5, 3, None, False), (5, 3, None, True), (9, 2, 4, False), (3, 6, 8, False)]
    return [*[partial(after, *g) for g in sizes], refuses]


@probe
def reset_head(answer):
    def after(**options):
        torch.manual_seed(4)
        model = vitlib.VisionTransformer(6, 3, 2, 4, embed_dim=8, depth=1, num_heads=2, **options)
        body = {n: v.clone() for n, v in model.state_dict().items() if not n.startswith("head")}
        result = answer(model, 7)
        heads = {n: tuple(p.shape) for n, p in result.named_parameters() if n.startswith("head")}
        now = result.state_dict()
        kept = all(n in now and now[n].equal(v) for n, v in body.items())
        logits = tuple(result(draw(3, 2, 6, 6, dtype=torch.float32)).shape)
        two = getattr(result, "head_dist", None) is not result.head
        return result is model, heads, kept, len(now), logits, two, result.num_classes

    kinds = [{}, {"representation_size": 5}, {"distilled": True}, {"global_pool": "avg"}]
    return [partial(after, **options) for options in kinds]


# --- chapter 6


@probe
def strip_wrappers(answer):
    def made(prefix, *names):
        return {f"{prefix}{name}": draw(2, i + 1, seed=i) for i, name in enumerate(names)}

    names = "dist_token", "odd.weight", "blocks.1.norm1.bias", "head.module.scale"
    prefixes = "", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."
    wrapped = [
        {"epoch": 1, "model": made("", *names), "scaler": {"scale": 2.0}},
        {"model": made("_orig_mod.", *names), "model_ema": made("", "odd.weight")},
        {"args": {}, "state_dict": made("module.", *names)},
        {"ema": made("", *names), "state_dict": made("", "a", "b.c_module.d")},
    ]
    given = [made(prefix, *names) for prefix in prefixes] + wrapped
    return [lambda g=g: answer(deepcopy(g)) for g in given]


@probe
def rename_weight(answer):
    tables = [
        {"head": "out", "blocks.{i}.attn.head": "b.{i}.h", "blocks.{i}.head": "b.{i}.o"},
        {"l_{i}.fc.1": "x.{i}.fc", "l_{i}.fc.2": "x.{i}.gate", "ln": "norm", "pos": "pos_embed"},
        {"p.{i}": "q.{i}", "q.{i}": "p.{i}", "m": "n", "n": "m"},
    ]
    names = [
        ["head.weight", "head", "blocks.2.head.bias", "blocks.13.attn.head.weight", "heads.bias",
         "blocks.2.attn.head", "the.head.weight", "blocks.a.head.bias"],
        ["l_0.fc.1.bias", "l_21.fc.2.weight", "l_3.fc.3.bias", "pos", "ln.weight", "pos.bias",
         "lnx.bias", "l_4.fc.1", "ln.scale", "l_5xfc.1.bias"],
        ["p.4", "q.10.bias", "m.weight", "n.bias", "p.weight", "o"],
    ]  # fmt: skip
    return [partial(answer, name, t) for t, ns in zip(tables, names, strict=True) for name in ns]


@probe
def linear_to_conv(answer):
    given = [(draw(3, 32), 4), (draw(7, 12), 2), (draw(18, 18), 3), (draw(2, 5), 1)]
    return [*[returns(answer, *g) for g in given], changes(answer, *given[0])]


@probe
def join_flax(answer):
    def given(width, heads, d, seed):
        kernels = [draw(width, heads, d, seed=seed + i) for i in range(3)]
        return *kernels, draw(heads, d, width, seed=seed + 3)

    sizes = [(8, 2, 4), (6, 6, 1), (9, 4, 2), (15, 5, 3)]
    cases = [given(*size, 10 * i) for i, size in enumerate(sizes)]
    seen = [lambda g=g: list(answer(*g)) for g in cases]
    return [*seen, changes(answer, *cases[0])]


@probe
def einops_attention(answer):
    def parameters():
        return sorted(tuple(p.shape) for p in answer(9, 2, 5).parameters())

    def run(dim, heads, dim_head, batch, tokens):
        module = answer(dim, heads, dim_head).double()
        with torch.no_grad():  # by order within a shape: names are free but for the layers'
            for i, parameter in enumerate(sorted(module.parameters(), key=lambda p: p.shape)):
                parameter.copy_(0.6 * draw(*parameter.shape, seed=i))
        return module(draw(batch, tokens, dim))

    sizes = [(9, 2, 5, 3, 4), (8, 4, 2, 1, 6), (6, 1, 4, 2, 3), (4, 3, 6, 2, 2)]
    return [parameters, *[partial(run, *size) for size in sizes]]


@probe
def fold_biases(answer):
    given = [(draw(3 * d, seed=d), draw(d, d, seed=d + 1), draw(d, seed=d + 2)) for d in (5, 2, 8)]
    return [*[lambda g=g: list(answer(*g)) for g in given], changes(answer, *given[0])]


@probe
def first_parting(answer):
    names = ["a", "b", "c"]

    def run(where, by, tolerance, offset=0.0):
        ours = {n: draw(3, 4, seed=i) + offset for i, n in enumerate(names)}
        theirs = {n: stage.clone() for n, stage in ours.items()}
        for name, difference in zip(where, by, strict=True):
            theirs[name][2, 1] += difference
        return answer(ours, theirs, tolerance)

    def both_nan():
        ours = {n: draw(3, 4, seed=i) for i, n in enumerate(names)}
        ours["b"][0, 3] = torch.nan
        return answer(ours, {n: stage.clone() for n, stage in ours.items()}, 0.1)

    def other_shape(*shape, name="b"):
        ours = {n: torch.ones(3, 4) for n in names}
        return answer(ours, ours | {name: torch.ones(*shape)}, 0.5)

    differences = [("", []), ("a", [0.2]), ("abc", [-0.05, 0.2, 3.0]), ("bc", [-5.0, 0.3]),
                   ("c", [-0.2]), ("ac", [0.09, -0.08]), ("b", [torch.nan])]  # fmt: skip
    shapes = [(3, 5), (1, 4), (3, 1), (4,), (2, 2)]
    return [
        *[partial(run, *d, 0.1) for d in differences],
        lambda: run("c", [0.01], 1e-3, offset=5000.0),
        lambda: run("b", [1e-6], 1e-7),
        both_nan,
        *[partial(other_shape, *shape) for shape in shapes],
        lambda: other_shape(3, 9, name="c"),
    ]


# --- chapter 7


@probe
def choose_step(answer):
    given = [
        ([10, 20, 30], [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]),
        ([7, 9, 11, 13], [0.2, 0.6, 0.5, 0.6], [0.9, 0.3, 0.8, 0.7]),
        ([5, 6], [0.0, 0.1], [0.2, 0.1]),
        ([3], [0.0], [0.5]),
    ]
    return [lambda g=g: list(answer(*map(list, g))) for g in given]


@probe
def normalise_for(answer):
    def run(own, mean, std, *shape):
        model = nn.Identity()
        model.mean, model.std = own
        pixels = (draw(*shape).abs() * 90).clamp(max=255).to(torch.uint8)
        return answer(model, pixels, mean, std)

    a, b = ((0.4, 0.3), (0.2, 0.1)), ((0.6, 0.1), (0.3, 0.5))
    one = ((0.45,), (0.26,))
    return [
        partial(run, (None, None), *a, 3, 2, 4, 5),
        partial(run, b, *a, 3, 2, 5, 4),
        partial(run, a, *b, 1, 2, 3, 2),
        partial(run, one, (0.7,), (0.9,), 2, 1, 3, 4),
    ]


@probe
def smooth_cross_entropy(answer):
    def near(run):
        return lambda: run().round(decimals=5)

    logits, labels = draw(5, 4), torch.tensor([3, 1, 0, 2, 3])
    given = [(logits, labels, s) for s in (0.0, 0.1, 0.5)] + [(300 * logits, labels, 0.2)]
    return [near(returns(answer, *g)) for g in given] + [near(gradient(answer, *given[2]))]


class _Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4))
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.table = nn.Embedding(3, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.out = nn.Linear(4, 2, bias=False)
        self.out.weight.requires_grad_(False)


@probe
def split_parameters(answer):
    models = [_Other(), nn.Linear(2, 3), vitlib.create_model("vit_nano_patch7_28")]
    return [lambda m=m: [sorted(names) for names in answer(m)] for m in models]


@probe
def learning_rates(answer):
    given = [(9, 3, 1.0, 0.1), (6, 0, 0.3, 0.0), (8, 1, 3.0, 1.0), (4, 4, 1.0, 0.5), (5, 2, 1.0, 0)]
    return [_as_float(returns(answer, *g)) for g in given]


@probe
def ema_update(answer):
    def made(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Linear(5, 2)).double()
        for _ in range(seed):
            model(draw(4, 2, 5, seed=seed))
        return model

    def after(decay, times, trainable=True):
        average, model = made(1).requires_grad_(trainable), made(2)
        result = [answer(average, model, decay) for _ in range(times)]
        states = [{n: v.clone() for n, v in m.state_dict().items()} for m in (average, model)]
        flags = [(p.requires_grad, p.is_leaf) for p in average.parameters()]
        return [result, *states, flags]

    return [partial(after, *g) for g in [(0.8, 1), (0.5, 3), (0.99, 2, False)]]


@probe
def accuracy_of(answer):
    def after(training, *layers):
        torch.manual_seed(6)
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(8, 4)).double().eval()
        images = draw(30, 2, 4) + 0.5
        labels = model(images).argmax(1)
        labels[::3] = (labels[::3] + 1) % 4
        state = {n: v.clone() for n, v in model.state_dict().items()}
        model.train(training)
        recorded = []
        model[-1].register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
        accuracy = answer(model, images, labels)
        kept = all(v.equal(state[n]) for n, v in model.state_dict().items())
        return float(accuracy), model.training, kept, any(recorded)

    extra = [nn.Dropout(0.7)], [nn.BatchNorm1d(8)]
    return [partial(after, mode, *deepcopy(e)) for mode in (True, False) for e in extra]


# --- chapter 10


def _in_single(run):
    """Whether a buffer or a mask in between was float32 or float64 is left free."""

    def observe():
        result = run()
        return result.float() if isinstance(result, Tensor) else result

    return observe


@probe
def distilled_tokens(answer):
    given = [
        (draw(b, 1 + n, d), draw(1, 1, d, seed=1), draw(1, 2 + n, d, seed=2))
        for b, n, d in [(2, 5, 4), (1, 3, 6), (4, 1, 2), (3, 2, 3)]
    ]
    gradients = [gradient(answer, *given[0], of=i) for i in range(3)]
    return [returns(answer, *g) for g in given] + gradients + [changes(answer, *given[0])]


@probe
def two_heads(answer):
    def run(B, N, D, K):
        heads = [nn.Linear(D, K).double() for _ in range(2)]
        with torch.no_grad():
            for i, p in enumerate(p for head in heads for p in head.parameters()):
                p.copy_(draw(*p.shape, seed=i))
            return list(answer(draw(B, 2 + N, D, seed=B), *heads))

    return [partial(run, *g) for g in [(7, 2, 4, 3), (5, 1, 6, 5), (9, 4, 3, 2), (1, 2, 3, 4)]]


@probe
def teacher_targets(answer):
    def run(training, B, K, tau):
        torch.manual_seed(5)
        layers = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.6)
        teacher = nn.Sequential(*layers, nn.Linear(18, K)).double()
        teacher(draw(8, 2, 3, 4, seed=1) + 0.3)
        teacher.train(training)
        before = {n: v.clone() for n, v in teacher.state_dict().items()}
        labels, soft = answer(teacher, 2 * draw(B, 2, 3, 4, seed=B), tau)
        kept = all(v.equal(before[n]) for n, v in teacher.state_dict().items())
        on = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        student = draw(B, K).requires_grad_()
        (soft * student.log_softmax(1)).sum().backward()
        touched = any(p.grad is not None for p in teacher.parameters())
        return [labels, soft.detach(), kept, on, touched]

    return [partial(run, *g) for g in [(True, 5, 4, 3.0), (False, 4, 4, 0.7), (True, 2, 3, 1.0)]]


def _student_and_teacher(images, classes, count, seed):
    return [1.5 * draw(images, classes, seed=seed + i) for i in range(count)]


@probe
def hard_loss(answer):
    given = [
        (*_student_and_teacher(b, k, 3, s), torch.arange(b) * 3 % k, alpha, smoothing)
        for b, k, alpha, smoothing, s in [
            (6, 5, 0.7, 0.0, 0), (4, 4, 0.2, 0.3, 9), (3, 7, 0.0, 0.1, 20), (2, 3, 1.0, 0.4, 30),
            (1, 4, 0.5, 0.1, 40),
        ]
    ]  # fmt: skip
    huge = [300 * z for z in given[0][:3]]
    gradients = [_in_single(gradient(answer, *given[1], of=i)) for i in range(2)]
    losses = [_in_single(returns(answer, *g)) for g in [*given, (*huge, *given[0][3:])]]
    return [*losses, *gradients]


@probe
def soft_loss(answer):
    given = [
        (*_student_and_teacher(b, k, 2, s), tau)
        for b, k, tau, s in [(6, 5, 1.0, 0), (3, 3, 4.0, 9), (2, 7, 0.6, 20), (1, 4, 2.0, 30)]
    ]
    huge = [900 * z for z in given[0][:2]]
    seen = [_in_single(returns(answer, *g)) for g in [*given, (*huge, 1.5)]]
    return [*seen, _in_single(gradient(answer, *given[1]))]


@probe
def token_cosine(answer):
    def run(L, B, N, D):
        return answer([(1 + i) * draw(B, 2 + N, D, seed=i) + 0.3 for i in range(L)])

    return [_in_single(partial(run, *g)) for g in [(3, 4, 2, 5), (4, 2, 1, 3), (1, 3, 3, 2)]]


# --- chapter 12


def _softmaxed(*shape, seed=0):
    return (2 * draw(*shape, seed=seed)).softmax(dim=-1)


@probe
def record_attention(answer):
    def made(seed=0, **options):
        model = vitlib.VisionTransformer(
            img_size=(6, 4), patch_size=2, in_chans=2, num_classes=2, embed_dim=15, depth=2,
            num_heads=3, mlp_ratio=2, **options,
        ).double()  # fmt: skip
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(0.6 * draw(*parameter.shape, seed=seed + i))
        return model.eval()

    def left():
        model = made()
        answer(model, draw(1, 2, 6, 4))
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        return sum(hooks), [block.attn.fused for block in model.blocks]

    def again():
        model = made()
        answer(model, draw(1, 2, 6, 4, seed=1))
        return answer(model, draw(4, 2, 6, 4, seed=2))

    def training():
        return answer(made(attn_drop_rate=0.4).train(), draw(3, 2, 6, 4))[:, 0]

    return [
        lambda: answer(made(), draw(3, 2, 6, 4)),
        lambda: answer(made(seed=50, qk_scale=0.7), draw(2, 2, 6, 4)),
        left,
        again,
        training,
    ]


@probe
def patch_grid(answer):
    right = [(draw(2, 12), (2, 5), 2), (draw(13), (4, 3), 1), (draw(3, 2, 12), (3, 4), 0),
             (draw(5, 9), (5, 1), 4), (draw(2, 10), (3, 3), 1)]  # fmt: skip
    wrong = [(draw(2, 13), (2, 5), 2), (draw(2, 11), (2, 5), 2), (draw(20), (2, 5), 0)]
    wrong += [(draw(14), (3, 4), 1), (draw(5), (2, 3), 0)]
    refusals = [refuses(lambda g=g: answer(*g), ValueError) for g in wrong]
    return [returns(answer, *g) for g in right] + refusals


@probe
def rollout(answer):
    shapes = [(3, 2, 4, 6, 6), (1, 4, 3, 5, 5), (2, 1, 1, 3, 3), (2, 3, 2, 4, 4)]
    return [returns(answer, _softmaxed(*s, seed=i)) for i, s in enumerate(shapes)]


@probe
def occlusion_map(answer):
    def predict(images):
        first = draw(math.prod(images.shape[1:]), 6, seed=3)
        return (images.flatten(1) @ first * 0.7).sin() @ draw(6, 5, seed=4)

    given = [(draw(1, 9, 6), 3, 0.4), (draw(3, 4, 8), 2, -1.2), (draw(2, 3, 5), 1, 0.0)]
    given += [(draw(2, 6, 12), 6, -0.3)]
    seen = [_in_single(returns(answer, predict, *g)) for g in given]
    return [*seen, changes(answer, predict, *given[0])]


@probe
def pointing_lift(answer):
    def given(maps, pixels, seed):
        return draw(*maps, seed=seed).exp() * (1 + seed), draw(*pixels, seed=seed + 9) > 0.3

    cases = [given((4, 3, 2), (4, 9, 6), 0), given((2, 2, 4), (2, 4, 8), 1)]
    cases += [given((1, 3, 3), (1, 3, 3), 2), given((3, 1, 2), (3, 5, 10), 3)]
    return [_in_single(returns(answer, *g)) for g in cases]


@probe
def mean_distance(answer):
    def given(shape, grid, prefix, patch, seed):
        tokens = prefix + grid[0] * grid[1]
        return _softmaxed(*shape, tokens, tokens, seed=seed), grid, prefix, patch

    cases = [given((2, 3, 1), (3, 2), 2, 5, 0), given((1, 2, 4), (2, 5), 1, 3, 1)]
    cases += [given((3, 1, 2), (4, 4), 0, 2, 2), given((2, 2, 2), (1, 3), 4, 1, 3)]
    return [_in_single(returns(answer, *g)) for g in cases]


@probe
def read_every_layer(answer):
    def run(B, L, T, D, K):
        torch.manual_seed(2)
        norm, head = nn.LayerNorm(D).double(), nn.Linear(D, K).double()
        with torch.no_grad():
            for p in [*norm.parameters(), *head.parameters()]:
                p.copy_(draw(*p.shape, seed=p.numel()))
            return answer([2 * draw(B, T, D, seed=i) + 1 for i in range(L)], norm, head)

    return [partial(run, *g) for g in [(3, 2, 4, 5, 6), (1, 4, 2, 3, 2), (2, 2, 3, 4, 2)]]
