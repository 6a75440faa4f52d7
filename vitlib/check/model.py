"""Chapter 5, the whole model: the exercises, their right answers and their usual mistakes."""

import math
from collections import Counter
from functools import partial

import torch
from einops import rearrange, repeat
from torch import nn

from vitlib.blocks import Block
from vitlib.check.exercise import Cases, Exercise, Refused, build, call, fill, numbers, twin
from vitlib.model import VisionTransformer
from vitlib.patch import PatchEmbed


def _count(answer, *sizes):
    """What the answer counts; 205066.0, as a ratio of 4.0 easily makes it, is whole as well."""
    count = call(answer, *sizes)
    count = count.item() if hasattr(count, "item") else count
    return int(count) if isinstance(count, float) and count.is_integer() else count


# --- 5.1 count_parameters: every MLP ratio, and DeiT's second token


def _parameters(
    img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled, **but
):
    """The right count; `but` changes one term of it."""
    D, prefix = embed_dim, 2 if distilled else 1
    patches = but.get("patches", lambda side: side**2)(img_size // patch_size)
    hidden = int(but.get("ratio", mlp_ratio) * D)
    embedding = (in_chans * patch_size**2 + but.get("embedding_bias", 1)) * D
    tokens = but.get("tokens", prefix) + but.get("prefix_positions", prefix) + patches
    attention = 4 * D**2 + but.get("attention_biases", 4) * D
    mlp = 2 * D * hidden + but.get("mlp_biases", 1) * (hidden + D)
    block = attention + mlp + but.get("block_norms", 4) * D
    head = (D + but.get("head_bias", 1)) * num_classes
    body = embedding + tokens * D + depth * block + but.get("last_norm", 2) * D
    return body + but.get("heads", prefix) * head


def _parameters_but(**but):
    return partial(_parameters, **but)


def _parameters_plain(*sizes):
    *others, _ = sizes
    return _parameters(*others, distilled=False)


def _parameters_of_model(
    img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled
):
    with torch.device("meta"):
        model = VisionTransformer(
            img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads=1,
            mlp_ratio=mlp_ratio, distilled=distilled,
        )  # fmt: skip
    return sum(p.numel() for p in model.parameters())


def _parameters_by_shapes(
    img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, distilled
):
    D, hidden = embed_dim, round(embed_dim * mlp_ratio)
    prefix = 1 + bool(distilled)
    block = [(D,)] * 4 + [(3 * D, D), (3 * D,), (D, D), (D,)]
    block += [(hidden, D), (hidden,), (D, hidden), (D,)]
    shapes = [(D, in_chans, patch_size, patch_size), (D,), (prefix, D)]
    shapes += [((img_size // patch_size) ** 2 + prefix, D), *block * depth, (D,), (D,)]
    shapes += [(num_classes, D), (num_classes,)] * prefix
    return sum(math.prod(shape) for shape in shapes)


def _count_parameters_cases(answer) -> Cases:
    nano, tiny, odd = (28, 7, 1, 64, 4, 4.0, 10), (224, 16, 3, 192, 12, 4.0, 1000), (
        24, 8, 2, 10, 3, 2.5, 5,
    )  # fmt: skip
    yield "the book's nano model", lambda: _count(answer, *nano, False)
    yield "Ti/16, plain", lambda: _count(answer, *tiny, False)
    yield "DeiT-tiny, distilled", lambda: _count(answer, *tiny, True)
    yield "width 10, depth 3, MLP ratio 2.5, 5 classes, plain", lambda: _count(answer, *odd, False)
    yield "the same, distilled", lambda: _count(answer, *odd, True)
    yield "no block at all", lambda: _count(answer, 24, 8, 2, 10, 0, 2.5, 5, False)


count_parameters = Exercise(
    name="count_parameters",
    chapter="05_model",
    task="count_parameters(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, "
    "num_classes, distilled) -> the number of parameters of that Vision Transformer",
    reference=_parameters,
    cases=_count_parameters_cases,
    mutants={
        "ratio_fixed": (
            _parameters_but(ratio=4),
            "The MLP is taken to be four times as wide as the tokens, whatever mlp_ratio says. "
            "12 D² + 13 D holds for the ratio 4 only.",
        ),
        "prefix_counted_once": (
            _parameters_but(prefix_positions=0),
            "The class token needs D numbers for itself and D for its position, and the "
            "distillation token, if there is one, likewise. One of the two is missing in your "
            "count: N + 1 positions in a plain model, N + 2 in a distilled one.",
        ),
        "distilled_token_only_once": (
            lambda *sizes: _parameters(*sizes, tokens=1, prefix_positions=1),
            "The distilled model has a distillation token and a position for it. Your count has "
            "neither: 2 D numbers are missing.",
        ),
        "distilled_ignored": (
            _parameters_plain,
            "The plain model is right. A distilled one has three things more: the distillation "
            "token, its position, and a second head with a bias.",
        ),
        "one_head": (
            _parameters_but(heads=1),
            "A distilled model has two heads, one for each of its tokens, each with D·K weights "
            "and K biases. Your count has one.",
        ),
        "no_qkv_bias": (
            _parameters_but(attention_biases=1),
            "The biases of query, key and value are missing, 3 D in each block. nn.Linear has a "
            "bias unless told otherwise, and ViT's have.",
        ),
        "no_biases": (
            _parameters_but(embedding_bias=0, attention_biases=0, mlp_biases=0, head_bias=0),
            "No bias is counted. The patch embedding, the four linear layers of each block and the "
            "head have one number for each output.",
        ),
        "embedding_bias_forgotten": (
            _parameters_but(embedding_bias=0),
            "The bias of the patch embedding is missing: D numbers.",
        ),
        "mlp_bias_forgotten": (
            _parameters_but(mlp_biases=0),
            "The biases of the MLP are missing in each block: as many as it has hidden channels, "
            "and D more.",
        ),
        "block_norms_forgotten": (
            _parameters_but(block_norms=0),
            "The two LayerNorms of each block are missing. Each has a scale and a shift of D "
            "numbers, so 4 D a block.",
        ),
        "norms_forgotten": (
            _parameters_but(block_norms=0, last_norm=0),
            "The LayerNorms are missing, two in each block and one after the last. Each has a "
            "scale and a shift of D numbers.",
        ),
        "norms_without_shift": (
            _parameters_but(block_norms=2, last_norm=1),
            "Each LayerNorm is counted with D numbers. It has 2 D: a scale and a shift for every "
            "channel.",
        ),
        "last_norm_forgotten": (
            _parameters_but(last_norm=0),
            "The LayerNorm after the last block is missing: 2 D numbers.",
        ),
        "patches_of_one_side": (
            _parameters_but(patches=lambda side: side),
            "img_size // patch_size is the number of patches along one side, and there are as many "
            "rows: square it to get N.",
        ),
        "head_bias_forgotten": (
            _parameters_but(head_bias=0),
            "The head has a bias for each class, and it is missing.",
        ),
    },
    accepted=[_parameters_of_model, _parameters_by_shapes],
)

# --- 5.2 count_multiply_adds: what one image costs


def _work(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes, **but):
    D, (height, width) = embed_dim, img_size
    patches = but.get("patches", lambda h, w: h * w)(height // patch_size, width // patch_size)
    T, hidden = patches + but.get("prefix", 1), int(but.get("ratio", mlp_ratio) * D)
    embedding = (patches + but.get("embedded", 0)) * in_chans * patch_size**2 * D
    weights = T * (but.get("square", 4) * D**2 + but.get("mlp_layers", 2) * D * hidden)
    products = but.get("products", 2) * T**2 * (D if but.get("with_width", True) else 1)
    head = but.get("heads", lambda T: 1)(T) * D * num_classes
    total = but.get("embedding", 1) * embedding + depth * (weights + products) + head
    return but.get("factor", 1) * total


def _work_but(**but):
    return partial(_work, **but)


def _work_by_weights(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    """Each matrix is used once for each of its rows of input."""
    with torch.device("meta"):
        block = Block(embed_dim, 1, mlp_ratio)
    matrices = sum(p.numel() for p in block.parameters() if p.ndim == 2)
    tokens = 1 + (img_size[0] // patch_size) * (img_size[1] // patch_size)
    layer = tokens * matrices + sum(tokens * tokens * embed_dim for _ in ("scores", "values"))
    pixels = in_chans * img_size[0] * img_size[1]
    return embed_dim * (pixels + num_classes) + sum(layer for _ in range(depth))


def _work_by_list(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, num_classes):
    N = math.prod(side // patch_size for side in img_size)
    T, D, hidden = N + 1, embed_dim, round(embed_dim * mlp_ratio)
    block = [(T, D, 3 * D), (T, D, T), (T, T, D), (T, D, D), (T, D, hidden), (T, hidden, D)]
    products = [(N, in_chans * patch_size**2, D), *block * depth, (1, D, num_classes)]
    return sum(rows * inner * columns for rows, inner, columns in products)


def _count_multiply_adds_cases(answer) -> Cases:
    yield "the nano model on a digit", lambda: _count(answer, (28, 28), 7, 1, 64, 4, 4.0, 10)
    yield "Ti/16 on 224 × 224", lambda: _count(answer, (224, 224), 16, 3, 192, 12, 4.0, 1000)
    yield "Ti/16 on 224 × 448", lambda: _count(answer, (224, 448), 16, 3, 192, 12, 4.0, 1000)
    yield (
        "24 × 40, P = 8, C = 2, D = 10, depth 3, MLP ratio 2.5, K = 5",
        (lambda: _count(answer, (24, 40), 8, 2, 10, 3, 2.5, 5)),
    )


count_multiply_adds = Exercise(
    name="count_multiply_adds",
    chapter="05_model",
    task="count_multiply_adds(img_size, patch_size, in_chans, embed_dim, depth, mlp_ratio, "
    "num_classes) -> the multiply-adds of one image, with img_size = (height, width)",
    reference=_work,
    cases=_count_multiply_adds_cases,
    mutants={
        "floating_point_operations": (
            _work_but(factor=2),
            "This counts floating-point operations: two for each multiply-add, exactly twice the "
            "number asked for. Tables mix the two up, so say which one you mean.",
        ),
        "attention_products_missing": (
            _work_but(products=0),
            "The two products of attention that have no weights are missing: scores (T × D times "
            "D × T) and weighted sum (T × T times T × D). It is what a counter sees that misses "
            "the fused kernel.",
        ),
        "one_attention_product": (
            _work_but(products=1),
            "Attention has two products of T²·D, the scores and the weighted sum of the values. "
            "You count one of them.",
        ),
        "pairs_without_width": (
            _work_but(with_width=False),
            "Each pair of tokens is counted once, but one score is a sum over all channels: T² "
            "pairs cost T²·D multiply-adds. The number of heads does not matter.",
        ),
        "projection_forgotten": (
            _work_but(square=3),
            "Query, key and value are counted, 3 D² for each token. The projection behind "
            "attention is one more matrix of D × D.",
        ),
        "one_layer_in_the_mlp": (
            _work_but(mlp_layers=1),
            "The MLP has two layers, one that widens and one that narrows again. You count one.",
        ),
        "head_forgotten": (
            _work_but(heads=lambda T: 0),
            "The head is missing: one token of D numbers times a matrix of D × K.",
        ),
        "class_token_forgotten": (
            _work_but(prefix=0),
            "The blocks see one token more than there are patches: the class token is worked on "
            "like all others. T = N + 1.",
        ),
        "head_on_every_token": (
            _work_but(heads=lambda T: T),
            "The head is counted for every token. It reads the class token only: D·K, once.",
        ),
        "patch_embedding_forgotten": (
            _work_but(embedding=0),
            "The patch convolution is missing: N patches of C·P² numbers, each times a matrix of "
            "C·P² × D.",
        ),
        "class_token_embedded": (
            _work_but(embedded=1),
            "The patch embedding is counted for N + 1 tokens. The class token is learned: it does "
            "not come from a patch, and nothing is multiplied to make it.",
        ),
        "ratio_fixed": (
            _work_but(ratio=4),
            "The MLP is taken to be four times as wide as the tokens, whatever mlp_ratio says.",
        ),
        "taken_to_be_square": (
            _work_but(patches=lambda rows, columns: rows**2),
            "The rows of patches are squared, which is right for a square image only. There are "
            "H/P rows and W/P columns.",
        ),
    },
    accepted=[_work_by_weights, _work_by_list],
)

# --- 5.3 pool: what comes behind the prefix is a patch, and only that


def _pool(tokens, num_prefix, kind, start=None, token=0):
    if kind == "token":
        return tokens[:, token]
    return tokens[:, num_prefix if start is None else start :].mean(dim=1)


def _pool_by_split(tokens, num_prefix, kind):
    prefix, patches = tokens.split([num_prefix, tokens.shape[1] - num_prefix], dim=1)
    return {"token": prefix[:, 0], "avg": torch.einsum("bnd->bd", patches) / patches.shape[1]}[kind]


def _pool_by_weights(tokens, num_prefix, kind):
    wanted = torch.arange(tokens.shape[1])
    wanted = (wanted == 0) if kind == "token" else (wanted >= num_prefix)
    weights = wanted.to(tokens.dtype) / wanted.sum()
    return (weights[None, :, None] * tokens).sum(dim=1)


def _pool_cases(answer) -> Cases:
    for num_prefix, what in [(1, "a class token"), (2, "class and distillation token"),
                             (5, "a class token and 4 registers")]:  # fmt: skip
        tokens = numbers(3, num_prefix + 6, 4, seed=num_prefix)
        for kind in ("token", "avg"):
            label = f'3 images, {what}, 6 patches, "{kind}"'
            yield label, partial(call, answer, tokens, num_prefix, kind)


pool = Exercise(
    name="pool",
    chapter="05_model",
    task='pool(tokens, num_prefix, kind) -> (B, D): the class token if kind is "token", the mean '
    'over the patch tokens if it is "avg"',
    reference=_pool,
    cases=_pool_cases,
    mutants={
        "whole_prefix_averaged": (
            partial(_pool, start=0),
            "The mean runs over all tokens, the class token and the rest of the prefix included. "
            "Average the patches: they begin at index num_prefix.",
        ),
        "only_the_class_token_skipped": (
            partial(_pool, start=1),
            "tokens[:, 1:] skips the class token only. A distillation token or registers are then "
            "averaged as if they were patches. Patches begin at index num_prefix.",
        ),
        "first_patch_for_class_token": (
            lambda tokens, n, kind: _pool(tokens, n, kind, token=n),
            "The token at index num_prefix is the first patch. The class token stands at index 0.",
        ),
        "last_token_for_class_token": (
            partial(_pool, token=-1),
            "The last token is a patch. The class token was joined in front: it stands at index 0.",
        ),
        "mean_over_channels": (
            lambda tokens, n, kind: tokens[:, 0] if kind == "token" else tokens[:, n:].mean(dim=2),
            "The mean is taken over the channels, which leaves one number a patch. Average over "
            "the tokens, axis 1.",
        ),
        "sum": (
            lambda tokens, n, kind: tokens[:, 0] if kind == "token" else tokens[:, n:].sum(dim=1),
            "The patches are summed. For a mean, divide by how many there are; otherwise another "
            "image size would change the scale of what the head sees.",
        ),
        "kind_ignored": (
            lambda tokens, num_prefix, kind: tokens[:, 0],
            'The class token is returned whatever kind is. For "avg" average the patch tokens.',
        ),
        "always_averaged": (
            lambda tokens, n, kind: tokens[:, n:].mean(dim=1),
            'The patches are averaged whatever kind is. For "token" return the class token, at '
            "index 0.",
        ),
        "prefix_averaged": (
            lambda tokens, n, kind: tokens[:, 0] if kind == "token" else tokens[:, :n].mean(1),
            "tokens[:, :num_prefix] are the tokens that are *not* patches. The patches come after "
            "them: tokens[:, num_prefix:].",
        ),
        "prefix_for_class_token": (
            lambda tokens, n, kind: (tokens[:, :n] if kind == "token" else tokens[:, n:]).mean(1),
            'For "token" the whole prefix is averaged. The class token alone is wanted, the one at '
            "index 0.",
        ),
        "divided_by_all_tokens": (
            lambda tokens, n, kind: (
                tokens[:, 0] if kind == "token" else tokens[:, n:].sum(1) / tokens.shape[1]
            ),
            "The patches are summed and then divided by the number of all tokens. Divide by the "
            "number of patches, T − num_prefix.",
        ),
        "first_image_for_first_token": (
            lambda tokens, n, kind: tokens[0] if kind == "token" else tokens[n:].mean(0),
            "Axis 0 counts the images, and axis 1 the tokens: tokens[0] is the whole first image. "
            "Index as in tokens[:, 0].",
        ),
        "axis_kept": (
            lambda tokens, n, kind: (
                tokens[:, :1] if kind == "token" else tokens[:, n:].mean(1, keepdim=True)
            ),
            "The numbers are right, but an axis of length 1 is left in the middle: (B, 1, D). "
            "Index with 0 instead of slicing, and average without keepdim.",
        ),
    },
    accepted=[_pool_by_split, _pool_by_weights],
)

# --- 5.4 vision_transformer: the model in one piece


class _ViT(nn.Module):
    """The right model; subclasses change one thing."""

    eps, block_eps, qkv_bias = 1e-6, 1e-6, True

    def __init__(
        self, img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads
    ):  # fmt: skip
        super().__init__()
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        length = 1 + int(self.patch_embed.num_patches or 0)
        self.pos_embed = nn.Parameter(torch.zeros(1, length, embed_dim))
        norm = partial(nn.LayerNorm, eps=self.block_eps)
        self.blocks = nn.Sequential(
            *[
                Block(embed_dim, num_heads, qkv_bias=self.qkv_bias, norm_layer=norm)
                for _ in range(depth)
            ]
        )
        self.norm = nn.LayerNorm(embed_dim, eps=self.eps)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images)))[:, 0])

    def class_token(self, images):
        return self.cls_token.expand(len(images), -1, -1)

    def tokens(self, images):
        x = self.patch_embed(images)
        return torch.cat([self.class_token(images), x], dim=1) + self.pos_embed


class _ViTByEinops(nn.Module):
    """The same with other names, in another order, with a list of blocks and einops."""

    def __init__(self, img_size, patch, channels, classes, width, depth, heads):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (img_size // patch) ** 2, width))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.last = norm(width)
        self.classifier = nn.Linear(width, classes)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            self.layers.append(Block(width, heads, qkv_bias=True, norm_layer=norm))

    def forward(self, images):
        x = rearrange(self.proj(images), "b d h w -> b (h w) d")
        x = torch.hstack([repeat(self.cls, "1 1 d -> b 1 d", b=len(x)), x])
        x = self.positions + x
        for layer in self.layers:
            x = layer(x)
        return self.classifier(self.last(x[:, 0]))


def _vit_from_vitlib(*sizes):
    return VisionTransformer(*sizes)


class _ClassTokenLast(_ViT):
    def tokens(self, images):
        x = self.patch_embed(images)
        return torch.cat([x, self.class_token(images)], dim=1) + self.pos_embed


class _PositionsBeforeJoining(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.pos_embed = nn.Parameter(self.pos_embed[:, 1:].detach().clone())

    def tokens(self, images):
        x = self.patch_embed(images) + self.pos_embed
        return torch.cat([self.class_token(images), x], dim=1)


class _ClassTokenWithoutPosition(_ViT):
    def tokens(self, images):
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        return torch.cat([self.class_token(images), x], dim=1)


class _PositionsForgotten(_ViT):
    def tokens(self, images):
        return torch.cat([self.class_token(images), self.patch_embed(images)], dim=1)


class _PositionsNotLearned(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        positions = self.pos_embed.detach().clone()
        del self.pos_embed
        self.pos_embed = positions


class _OneBlockRepeated(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.blocks = nn.Sequential(*[self.blocks[0]] * len(self.blocks))


class _HeadOfNumClasses(_ViT):
    def __init__(self, img_size, patch_size, in_chans, num_classes, embed_dim, *rest):
        super().__init__(img_size, patch_size, in_chans, num_classes, embed_dim, *rest)
        self.head = nn.Linear(num_classes, num_classes)


class _NoLastNorm(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.norm = nn.Identity()


class _LastNormNotApplied(_ViT):
    def forward(self, images):
        return self.head(self.blocks(self.tokens(images))[:, 0])


class _MeanOfTokens(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images))).mean(dim=1))


class _MeanOfPatches(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images)))[:, 1:].mean(dim=1))


class _LastTokenRead(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images)))[:, -1])


class _HeadOnEveryToken(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images))))


class _FirstImageRead(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.blocks(self.tokens(images)))[0])


class _NormBeforeBlocks(_ViT):
    def forward(self, images):
        return self.head(self.blocks(self.norm(self.tokens(images)))[:, 0])


class _BlocksNotUsed(_ViT):
    def forward(self, images):
        return self.head(self.norm(self.tokens(images))[:, 0])


class _SoftmaxAtTheEnd(_ViT):
    def forward(self, images):
        return super().forward(images).softmax(dim=-1)


class _ClassTokenNotExpanded(_ViT):
    def class_token(self, images):
        return self.cls_token


class _ClassTokenNotLearned(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        token = self.cls_token.detach().clone()
        del self.cls_token
        self.cls_token = token


class _BlocksInPlainList(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        layers = list(self.blocks)
        del self.blocks
        self.layers = layers

    def forward(self, images):
        x = self.tokens(images)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class _JoinedAlongBatch(_ViT):
    def tokens(self, images):
        return torch.cat([self.class_token(images), self.patch_embed(images)]) + self.pos_embed


class _NoQkvBias(_ViT):
    qkv_bias = False


class _DefaultEps(_ViT):
    eps, block_eps = 1e-5, 1e-5


class _DefaultEpsInBlocks(_ViT):
    block_eps = 1e-5


class _DefaultEpsAtTheEnd(_ViT):
    eps = 1e-5


_EPS = (
    "LayerNorm has PyTorch's own eps of 1e-5 {where}, where ViT's weights were trained with 1e-6. "
    "The logits differ in small digits only, so nobody notices until weights are compared."
)


def _shapes_right(answer, sizes):
    """True, or a refusal that says which learned tensors are missing or too many."""
    theirs, ours = (
        Counter(tuple(p.shape) for p in build(make, *sizes).parameters()) for make in (answer, _ViT)
    )
    said = [
        f"{what}: " + ", ".join(f"{n} of {shape}" for shape, n in sorted(shapes.items()))
        for what, shapes in [("missing", ours - theirs), ("too many", theirs - ours)]
        if shapes
    ]
    if said:
        raise Refused("; ".join(said))
    return True


def _in_order(model):
    """Pairs (kind, parameter), so sorted that it does not matter what is made first."""
    blocks = tuple(f"{path}." for path, m in model.named_modules() if isinstance(m, Block))
    pairs = [
        ((path.startswith(blocks), isinstance(owner, nn.LayerNorm), tuple(p.shape)), p)
        for path, owner in model.named_modules()
        for p in owner.parameters(recurse=False)
    ]
    return sorted(pairs, key=lambda pair: pair[0])


def _vit_twin(answer, *sizes):
    """twin(); but with other names, a last norm made before the blocks keeps its own weights."""
    module, model = build(answer, *sizes).double(), fill(build(_ViT, *sizes))
    theirs, ours = _in_order(module), _in_order(model)
    if [kind for kind, _ in theirs] != [kind for kind, _ in ours]:
        return twin(answer, _ViT, *sizes)
    with torch.no_grad():
        for (_, mine), (_, wanted) in zip(theirs, ours, strict=True):
            mine.copy_(wanted)
    return module


def _vision_transformer_cases(answer) -> Cases:
    sizes = (12, 4, 2, 5, 12, 2, 3)  # 9 patches, C ≠ P, heads ≠ batch, classes ≠ width
    yield (
        "the shapes of its parameters, for ViT(12, 4, 2, 5, 12, 2, 3)",
        (lambda: _shapes_right(answer, sizes)),
    )

    def logits(batch, training):
        model = _vit_twin(answer, *sizes).train(training)
        return call(model, numbers(batch, 2, 12, 12))

    def gradients():
        model = _vit_twin(answer, *sizes)
        call(model, numbers(2, 2, 12, 12)).square().sum().backward()
        return sum(p.grad is None or not p.grad.any() for p in model.parameters())

    yield "logits of 2 images of 12 × 12, P = 4, D = 12, K = 5", lambda: logits(2, False)
    yield "the same in training mode", lambda: logits(2, True)
    yield "logits of one image", lambda: logits(1, False)
    yield "how many parameters get no gradient", gradients


vision_transformer = Exercise(
    name="vision_transformer",
    chapter="05_model",
    task="ViT(img_size, patch_size, in_chans, num_classes, embed_dim, depth, num_heads), a module: "
    "images (B, C, H, W) -> logits (B, K)",
    reference=_ViT,
    cases=_vision_transformer_cases,
    mutants={
        "class_token_last": (
            _ClassTokenLast,
            "The class token is joined behind the patches, while the head reads token 0: the class "
            "is read off the first patch, and the class token is never used for anything. The "
            "order in torch.cat is [class token, patches].",
        ),
        "positions_before_joining": (
            _PositionsBeforeJoining,
            "There is a position for every patch and none for the class token. Make N + 1 of them, "
            "join the class token first, and add the positions to all tokens.",
        ),
        "class_token_without_position": (
            _ClassTokenWithoutPosition,
            "The positions are added to the patches only: the one for the class token is in the "
            "model and never used. Add pos_embed after joining.",
        ),
        "positions_never_added": (
            _PositionsForgotten,
            "pos_embed is in the model, but forward never adds it. The order of the patches is "
            "lost then.",
        ),
        "positions_not_learned": (
            _PositionsNotLearned,
            "The positions are not among the parameters. A plain tensor is never trained and not "
            "saved: wrap it in nn.Parameter.",
        ),
        "one_block_repeated": (
            _OneBlockRepeated,
            "All layers are the same block, as [Block(...)] * depth makes it: there is one set of "
            "weights, used again and again. Build a new block for each layer, in a list "
            "comprehension or a loop.",
        ),
        "head_width_is_num_classes": (
            _HeadOfNumClasses,
            "The head takes num_classes numbers in. It reads a token, and a token has embed_dim "
            "numbers: nn.Linear(embed_dim, num_classes). When both are equal, nobody notices.",
        ),
        "no_last_norm": (
            _NoLastNorm,
            "There is no LayerNorm after the last block. Pre-norm blocks only add to the stream "
            "and never scale it back, so the head needs one.",
        ),
        "last_norm_not_applied": (
            _LastNormNotApplied,
            "The last LayerNorm is built, and forward does not use it.",
        ),
        "mean_of_all_tokens": (
            _MeanOfTokens,
            "The head gets the mean of all tokens. Here it should read the class token alone, "
            "x[:, 0].",
        ),
        "mean_of_patches": (
            _MeanOfPatches,
            "The head gets the mean of the patches. That is pooling of another kind; here it "
            "should read the class token, x[:, 0].",
        ),
        "last_token_read": (
            _LastTokenRead,
            "The head reads the last token, which is a patch. The class token stands in front: "
            "x[:, 0].",
        ),
        "head_on_every_token": (
            _HeadOnEveryToken,
            "The head is applied to every token. Pick the class token first: x[:, 0].",
        ),
        "first_image_read": (
            _FirstImageRead,
            "x[0] is all tokens of the first image. The class token of every image is x[:, 0].",
        ),
        "norm_before_the_blocks": (
            _NormBeforeBlocks,
            "The norm stands before the blocks. It belongs behind the last one, where nothing has "
            "scaled the stream back.",
        ),
        "blocks_not_used": (
            _BlocksNotUsed,
            "The blocks are built, and forward does not use them.",
        ),
        "softmax_at_the_end": (
            _SoftmaxAtTheEnd,
            "The model returns probabilities. Logits are wanted, what the head says as it is: "
            "cross_entropy takes the softmax itself.",
        ),
        "class_token_not_expanded": (
            _ClassTokenNotExpanded,
            "cls_token has one row, and a batch has more images: torch.cat wants the same number "
            "of both. Expand it to the batch first: expand(len(images), -1, -1).",
        ),
        "joined_along_the_batch": (
            _JoinedAlongBatch,
            "torch.cat joins along axis 0, the images, unless told otherwise. The tokens are on "
            "axis 1: dim=1.",
        ),
        "class_token_not_learned": (
            _ClassTokenNotLearned,
            "The class token is not among the parameters. A plain tensor is never trained and not "
            "saved: wrap it in nn.Parameter.",
        ),
        "blocks_in_a_plain_list": (
            _BlocksInPlainList,
            "The weights of the blocks are not among the parameters, so they would never be "
            "trained. PyTorch does not look into a Python list: use nn.Sequential or "
            "nn.ModuleList.",
        ),
        "no_qkv_bias": (
            _NoQkvBias,
            "Query, key and value have no bias. Block leaves it out by default and ViT has it: "
            "qkv_bias=True.",
        ),
        "default_eps": (_DefaultEps, _EPS.format(where="everywhere")),
        "default_eps_in_the_blocks": (_DefaultEpsInBlocks, _EPS.format(where="in the blocks")),
        "default_eps_at_the_end": (_DefaultEpsAtTheEnd, _EPS.format(where="after the last block")),
    },
    accepted=[_ViTByEinops, _vit_from_vitlib],
)

# --- 5.5 init_tokens: how large the learned tokens start


def _filled_in_place(answer, *inputs):
    """call(), with PyTorch's two refusals of such work in plainer words."""
    try:
        return call(answer, *inputs)
    except RuntimeError as error:
        if "leaf" not in str(error):
            raise
        raise Refused(
            "PyTorch stopped your code: it does not let a parameter be written to while gradients "
            "are recorded. Do it inside `with torch.no_grad():`, or use a function of nn.init, "
            "which sees to that itself"
        ) from None
    except TypeError as error:
        if "cannot assign" not in str(error):
            raise
        raise Refused(
            "PyTorch stopped your code: the place of a parameter does not take a plain tensor or "
            "number. Write into the parameter that is there, as the functions of nn.init do"
        ) from None


class _WithTokens(nn.Module):
    """Enough numbers that a deviation can be told, and a layer that must be left alone."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 512))
        self.pos_embed = nn.Parameter(torch.zeros(1, 50, 512))
        self.head = nn.Linear(512, 3)


def _init_tokens(model, std=0.02, mean=0.0):
    nn.init.normal_(model.cls_token, mean=mean, std=std)
    nn.init.normal_(model.pos_embed, mean=mean, std=std)


@torch.no_grad()
def _init_tokens_in_place(model):
    for token in (model.cls_token, model.pos_embed):
        token.copy_(torch.randn_like(token) * 0.02)


def _init_tokens_truncated(model):
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)


def _init_positions_only(model):
    nn.init.normal_(model.pos_embed, std=0.02)


def _init_new_parameters(model):
    model.cls_token = nn.Parameter(torch.randn(model.cls_token.shape) * 0.02)
    model.pos_embed = nn.Parameter(torch.randn(model.pos_embed.shape) * 0.02)


def _init_every_parameter(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)


def _init_nothing(model):
    torch.randn_like(model.pos_embed) * 0.02


def _init_class_token_only(model):
    nn.init.normal_(model.cls_token, std=0.02)


def _init_uniform(model, most=0.02):
    for token in (model.cls_token, model.pos_embed):
        nn.init.uniform_(token, -most, most)


@torch.no_grad()
def _init_one_position(model):
    _init_tokens(model)
    model.pos_embed.copy_(model.pos_embed[:, :1].expand_as(model.pos_embed))


def _about(value):
    """A deviation in words, so that two honest draws give the same observation."""
    if 0.0155 < value < 0.0225:  # a normal truncated at two deviations has 0.0176
        return "about 0.02"
    said = f"{value:.1g}"
    if said == "0.02":
        return "above 0.02" if value > 0.02 else "below 0.02"
    return f"about {said}" if value else "0"


def _init_tokens_cases(answer) -> Cases:
    def after(observe):
        model = _WithTokens()
        before = dict(model.named_parameters())
        head = model.head.weight.detach().clone()
        _filled_in_place(answer, model)
        return observe(model, before, head)

    def deviation(model, name):
        return _about(getattr(model, name).detach().std().item())

    def centred(model):
        tokens = model.cls_token.detach(), model.pos_embed.detach()
        return [bool(t.mean().abs() <= 0.2 * t.std()) for t in tokens]

    def tails(model):  # a normal, truncated at two deviations or not, has some
        return bool((model.pos_embed.detach().abs() > 0.036).any())

    def same(model, before):
        now = dict(model.named_parameters())
        return all(name in now and now[name] is p for name, p in before.items())

    def trainable(model):
        return model.pos_embed.requires_grad and model.pos_embed.is_leaf

    yield "the deviation of pos_embed", lambda: after(lambda m, *_: deviation(m, "pos_embed"))
    yield "the deviation of cls_token", lambda: after(lambda m, *_: deviation(m, "cls_token"))
    yield "whether both means are near 0", lambda: after(lambda m, *_: centred(m))
    yield "whether some of pos_embed is beyond 0.036", lambda: after(lambda m, *_: tails(m))
    yield (
        "the deviation of one channel over the positions",
        (lambda: after(lambda m, *_: _about(m.pos_embed.detach().std(dim=1).mean().item()))),
    )
    yield (
        "whether the parameters are still the same ones",
        (lambda: after(lambda m, before, _: same(m, before))),
    )
    yield "whether they can still be trained", lambda: after(lambda m, *_: trainable(m))
    yield (
        "whether the head was left alone",
        (lambda: after(lambda m, _, head: torch.equal(m.head.weight, head))),
    )


init_tokens = Exercise(
    name="init_tokens",
    chapter="05_model",
    task="init_tokens(model): model.cls_token and model.pos_embed, in place, from a normal "
    "distribution with mean 0 and deviation 0.02",
    reference=_init_tokens,
    cases=_init_tokens_cases,
    mutants={
        "deviation_one": (
            partial(_init_tokens, std=1.0),
            "The deviation is 1, as torch.randn has it, fifty times too large. Next to such "
            "positions the patches are a whisper: at the start, the class token that the head "
            "reads hardly depends on the image. (If you wrote nn.init.normal_(p, 0.02): its "
            "second argument is the mean. Write std=0.02.)",
        ),
        "variance_for_deviation": (
            partial(_init_tokens, std=0.02**0.5),
            "The *variance* is 0.02, so the deviation is 0.14. `std` and the factor of a randn are "
            "deviations.",
        ),
        "squared": (
            partial(_init_tokens, std=0.02**2),
            "The deviation is 0.02 squared, 0.0004: `std` takes the deviation, not the variance.",
        ),
        "uniform": (
            _init_uniform,
            "The numbers are uniform between −0.02 and 0.02, which has a deviation of 0.0115. Use "
            "a normal distribution.",
        ),
        "uniform_of_that_deviation": (
            partial(_init_uniform, most=0.02 * 3**0.5),
            "The deviation is right, but no number is larger than 0.035: they seem to be uniform. "
            "In a normal distribution nearly one number in ten lies beyond that.",
        ),
        "mean_not_zero": (
            partial(_init_tokens, mean=0.02),
            "The numbers have the right spread, but around a mean that is not 0: all positions "
            "share a common part that tells nothing.",
        ),
        "class_token_forgotten": (
            _init_positions_only,
            "pos_embed is right, and cls_token is still what it was.",
        ),
        "positions_forgotten": (
            _init_class_token_only,
            "cls_token is right, and pos_embed is still what it was.",
        ),
        "nothing_written": (
            _init_nothing,
            "Nothing in the model has changed. A tensor that you make and give a name of your own "
            "does not reach the model: write into model.cls_token and model.pos_embed.",
        ),
        "new_parameters": (
            _init_new_parameters,
            "The numbers are right, but they stand in new parameters. An optimiser that was built "
            "before holds the old ones and would train those in vain. Write into the parameters "
            "that are there.",
        ),
        "every_parameter": (
            _init_every_parameter,
            "All parameters of the model are filled, the head among them. Touch only cls_token and "
            "pos_embed.",
        ),
        "one_vector_for_all_positions": (
            _init_one_position,
            "All positions got the same vector, so that they tell no place from another.",
        ),
    },
    accepted=[_init_tokens_in_place, _init_tokens_truncated],
)

# --- 5.6 init_head: the bias that never arrives


def _init_head(head, nlhb, value=None, weight=True):
    """Weight 0 and bias −ln K, or 0; `value` is another bias."""
    if weight:
        nn.init.zeros_(head.weight)
    bias = -math.log(head.out_features) if value is None else value(head)
    nn.init.constant_(head.bias, bias if nlhb else 0.0)


def _init_head_with(value):
    return partial(_init_head, value=value)


@torch.no_grad()
def _init_head_in_place(head, nlhb):
    head.weight.zero_()
    head.bias.zero_()
    if nlhb:
        head.bias -= torch.tensor(float(len(head.bias))).log().to(head.bias.dtype)


def _init_head_by_copy(head, nlhb):
    classes = head.weight.shape[0]
    state = {"weight": torch.zeros_like(head.weight), "bias": torch.zeros_like(head.bias)}
    state["bias"] += math.log(1 / classes) * nlhb
    head.load_state_dict(state)


def _init_new_head(head, nlhb):
    _init_head(head, nlhb)
    head.weight, head.bias = (nn.Parameter(p.detach().clone()) for p in head.parameters())


def _init_head_swapped(head, nlhb):
    _init_head(head, False)
    nn.init.constant_(head.weight, -math.log(head.out_features) if nlhb else 0.0)


def _init_head_only_if(head, nlhb):
    before = head.bias.detach().clone()
    _init_head(head, True)
    if not nlhb:
        nn.init.zeros_(head.bias).data.add_(before)


def _init_head_cases(answer) -> Cases:
    def observe(width, classes, nlhb):
        head = fill(nn.Linear(width, classes)).float()
        parameters = list(head.parameters())
        _filled_in_place(answer, head, nlhb)
        kept = all(a is b for a, b in zip(parameters, head.parameters(), strict=True))
        trainable = all(p.requires_grad and p.is_leaf for p in head.parameters())
        return {
            "weight": head.weight,
            "bias": head.bias,
            "whether they are the same parameters, still to be trained": kept and trainable,
        }

    yield "nn.Linear(6, 10), nlhb=True", lambda: observe(6, 10, True)
    yield "nn.Linear(6, 10), nlhb=False", lambda: observe(6, 10, False)
    yield "nn.Linear(7, 3), nlhb=True", lambda: observe(7, 3, True)


init_head = Exercise(
    name="init_head",
    chapter="05_model",
    task="init_head(head, nlhb): in place, weight 0 and bias −ln K where nlhb is True; weight 0 "
    "and bias 0 where it is False. head is nn.Linear(D, K)",
    reference=_init_head,
    cases=_init_head_cases,
    mutants={
        "bias_never_passed_on": (
            _init_head_with(lambda head: 0.0),
            "The bias is 0 although nlhb is True. If you compute −ln K, see where it goes: a "
            "value that is worked out and not passed on changes nothing, and the softmax loss "
            "looks right all the same. The sigmoid loss starts at 0.693 instead of 0.326.",
        ),
        "sign": (
            _init_head_with(lambda head: math.log(head.out_features)),
            "The bias is +ln K. Every sigmoid would start near K/(K + 1), certain of every class "
            "at once. It is *minus* the logarithm of K.",
        ),
        "logarithm_of_the_width": (
            _init_head_with(lambda head: -math.log(head.in_features)),
            "This is −ln D, with the width that goes in. K is the number of classes, the numbers "
            "that come out.",
        ),
        "logarithm_to_base_ten": (
            _init_head_with(lambda head: -math.log10(head.out_features)),
            "This is the logarithm to the base ten. The natural one is meant, math.log.",
        ),
        "one_class_less": (
            _init_head_with(lambda head: -math.log(head.out_features - 1)),
            "This is −ln(K − 1), whose sigmoid is 1/K to the last digit. A good thought; but the "
            "scheme has −ln K, with 1/(K + 1), and a checkpoint or a test compares with that.",
        ),
        "bias_in_the_weight": (
            _init_head_swapped,
            "−ln K stands in the weight, and the bias is 0. Look at the order of the arguments.",
        ),
        "one_over_classes": (
            _init_head_with(lambda head: 1 / head.out_features),
            "The bias is 1/K. A logit is not a probability: the logit whose sigmoid is near 1/K "
            "is −ln K.",
        ),
        "weight_left": (
            partial(_init_head, weight=False),
            "The weight is as it was. It should be 0, so that every image starts with the same "
            "logits.",
        ),
        "flag_ignored": (
            lambda head, nlhb: _init_head(head, True),
            "The bias is −ln K whatever nlhb says. With nlhb=False it should be 0.",
        ),
        "flag_turned_round": (
            lambda head, nlhb: _init_head(head, not nlhb),
            "The two cases are exchanged: −ln K belongs to nlhb=True, and 0 to nlhb=False.",
        ),
        "bias_left": (
            _init_head_only_if,
            "With nlhb=False the bias is as it was. PyTorch starts it at random: set it to 0.",
        ),
        "new_parameters": (
            _init_new_head,
            "The numbers are right, but they stand in new parameters. An optimiser that was built "
            "before holds the old ones. Write into the parameters that are there.",
        ),
    },
    accepted=[_init_head_in_place, _init_head_by_copy],
)

# --- 5.7 reset_head: the width that the head really sees


def _reset_head(model, num_classes):
    model.head = nn.Linear(model.num_features, num_classes)
    if model.distilled:
        model.head_dist = nn.Linear(model.num_features, num_classes)
    model.num_classes = num_classes
    return model


def _reset_by_method(model, num_classes):
    model.reset_classifier(num_classes)
    return model


def _reset_by_old_width(model, num_classes):
    for name in ("head", "head_dist"):
        if isinstance(getattr(model, name, None), nn.Linear):
            setattr(model, name, nn.Linear(getattr(model, name).in_features, num_classes))
    model.num_classes = num_classes
    return model


def _reset_from_embed_dim(model, num_classes):
    _reset_head(model, num_classes)
    model.head = nn.Linear(model.embed_dim, num_classes)
    return model


def _reset_first_only(model, num_classes):
    model.head, model.num_classes = nn.Linear(model.num_features, num_classes), num_classes
    return model


def _reset_attribute(model, num_classes):
    for head in (model.head, model.head_dist) if model.distilled else (model.head,):
        head.out_features = num_classes
    model.num_classes = num_classes
    return model


def _reset_number_kept(model, num_classes):
    before = model.num_classes
    _reset_head(model, num_classes).num_classes = before
    return model


def _reset_all(model, num_classes):
    torch.manual_seed(3)
    return VisionTransformer(**model.config | {"num_classes": num_classes})


def _reset_one_for_both(model, num_classes):
    _reset_head(model, num_classes)
    if model.distilled:
        model.head_dist = model.head
    return model


def _reset_two_heads(model, num_classes):
    _reset_head(model, num_classes)
    model.head_dist = nn.Linear(model.num_features, num_classes)
    return model


def _reset_on_top(model, num_classes):
    for name in ["head", "head_dist"] if model.distilled else ["head"]:
        old = getattr(model, name)
        setattr(model, name, nn.Sequential(old, nn.Linear(old.out_features, num_classes)))
    model.num_classes = num_classes
    return model


def _reset_returns_nothing(model, num_classes):
    _reset_head(model, num_classes)


def _reset_head_cases(answer) -> Cases:
    images = numbers(2, 1, 8, 8, dtype=torch.float32)

    def after(observe, **options):
        torch.manual_seed(1)
        model = VisionTransformer(8, 4, 1, 5, embed_dim=12, depth=1, num_heads=3, **options)
        before = model.forward_features(images).detach()
        result = call(answer, model, 3)
        if not isinstance(result, VisionTransformer):
            said = "nothing" if result is None else f"a {type(result).__name__}"
            raise Refused(f"your function should return the model; it returned {said}")
        return observe(result, before)

    def heads(model, _):
        return {n: str(tuple(p.shape)) for n, p in model.named_parameters() if n.startswith("head")}

    def logits(model, _):
        return tuple(model(images).shape)

    def trainable(model, _):
        return all(p.requires_grad for p in model.parameters())

    def distinct(model, _):
        return model.head is not model.head_dist

    kinds: dict[str, dict] = {
        "a plain model": {},
        "a model with a representation layer of 7": {"representation_size": 7},
        "a distilled model": {"distilled": True},
    }
    for kind, options in kinds.items():
        yield f"the heads of {kind}, D = 12", partial(after, heads, **options)
        yield f"the shape of its logits, {kind}", partial(after, logits, **options)
    yield "model.num_classes afterwards", lambda: after(lambda m, _: m.num_classes)
    yield (
        "whether the body is as it was",
        (lambda: after(lambda m, before: torch.equal(m.forward_features(images), before))),
    )
    yield "whether all of the model can still be trained", lambda: after(trainable)
    yield (
        "whether the two heads of a distilled model are two",
        (lambda: after(distinct, distilled=True)),
    )


reset_head = Exercise(
    name="reset_head",
    chapter="05_model",
    task="reset_head(model, num_classes) -> the same model with new heads, and model.num_classes "
    "set; the body stays as it is",
    reference=_reset_head,
    cases=_reset_head_cases,
    mutants={
        "width_from_embed_dim": (
            _reset_from_embed_dim,
            "The new head takes embed_dim numbers in. Behind a representation layer it sees "
            "another width, and the next forward fails. Ask the model: model.num_features, or the "
            "old head: model.head.in_features.",
        ),
        "second_head_forgotten": (
            _reset_first_only,
            "A distilled model has a second head, head_dist, and it still has the old classes: the "
            "mean of both heads cannot be taken.",
        ),
        "attribute_only": (
            _reset_attribute,
            "The heads still have their old weights. Writing to num_classes or out_features "
            "changes what a model or a layer says of itself and nothing else. Build a new "
            "nn.Linear.",
        ),
        "number_not_updated": (
            _reset_number_kept,
            "The heads are right, but model.num_classes still says the old number. Checkpoints and "
            "loss functions may rely on it.",
        ),
        "body_restarted": (
            _reset_all,
            "The body is not what it was: the same image gives other features, and what the model "
            "had learned is lost. Replace the heads and touch nothing else.",
        ),
        "one_head_for_both": (
            _reset_one_for_both,
            "Both tokens share one head now. The distillation token needs its own, with its own "
            "weights.",
        ),
        "new_layer_on_top": (
            _reset_on_top,
            "The new layer stands behind the old head, so it sees the old classes' logits and not "
            "the features. Put it in the old head's place.",
        ),
        "returns_nothing": (
            _reset_returns_nothing,
            "The model is changed, but nothing comes back. End with `return model`.",
        ),
        "second_head_for_all": (
            _reset_two_heads,
            "A plain model got a second head, which nothing ever reads. Only a distilled model has "
            "one: ask model.distilled.",
        ),
    },
    accepted=[_reset_by_method, _reset_by_old_width],
)

# --- 5.8 make_head: options that exclude each other


def _head(embed_dim, num_classes, representation_size, distilled):
    if representation_size is None:
        return nn.Linear(embed_dim, num_classes)
    if distilled:
        raise ValueError(f"representation_size={representation_size} with distilled=True")
    return nn.Sequential(
        nn.Linear(embed_dim, representation_size),
        nn.Tanh(),
        nn.Linear(representation_size, num_classes),
    )


class _HeadClass(nn.Module):
    def __init__(self, embed_dim, num_classes, representation_size, distilled):
        super().__init__()
        if distilled and representation_size:
            raise ValueError("a distilled model has no representation layer")
        self.pre_logits = nn.Identity()
        if representation_size:
            self.pre_logits = nn.Linear(embed_dim, representation_size)
        self.tanh = bool(representation_size)
        self.head = nn.Linear(representation_size or embed_dim, num_classes)

    def forward(self, x):
        x = self.pre_logits(x)
        return self.head(torch.tanh(x) if self.tanh else x)


def _head_by_list(embed_dim, num_classes, representation_size, distilled):
    if distilled and representation_size is not None:
        raise ValueError("distilled or representation_size, not both")
    layers, width = [], embed_dim
    if representation_size is not None:
        layers, width = [nn.Linear(embed_dim, representation_size), nn.Tanh()], representation_size
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def _head_with(make, refuse=True):
    """The right head but for what `make` builds where there is a representation layer."""

    def head(embed_dim, num_classes, representation_size, distilled):
        if representation_size is None or (refuse and distilled):
            return _head(embed_dim, num_classes, representation_size, distilled)
        return make(embed_dim, num_classes, representation_size, distilled)

    return head


def _head_layers(bend=nn.Tanh, after=False, width=None):
    def make(embed_dim, num_classes, representation_size, distilled):
        first = nn.Linear(embed_dim, representation_size)
        last = nn.Linear(embed_dim if width == "embed" else representation_size, num_classes)
        return nn.Sequential(*([first, last, bend()] if after else [first, bend(), last]))

    return make


def _head_ignoring(embed_dim, num_classes, representation_size, distilled):
    return _head(embed_dim, num_classes, None if distilled else representation_size, distilled)


def _head_refusing_all(embed_dim, num_classes, representation_size, distilled):
    if distilled:
        raise ValueError("distilled")
    return _head(embed_dim, num_classes, representation_size, distilled)


def _make_head_cases(answer) -> Cases:
    def logits(*sizes):
        return call(twin(answer, _head, *sizes), numbers(3, sizes[0]))

    def both():
        try:
            return f"a {type(build(answer, 12, 5, 7, True)).__name__}"
        except ValueError:
            return "a ValueError"

    yield "a plain model, D = 12, K = 5", lambda: logits(12, 5, None, False)
    yield "a distilled model without the layer", lambda: logits(12, 5, None, True)
    yield "a representation layer of 7", lambda: logits(12, 5, 7, False)
    yield "a representation layer as wide as the tokens", lambda: logits(6, 4, 6, False)
    yield "both options at once", both


make_head = Exercise(
    name="make_head",
    chapter="05_model",
    task="make_head(embed_dim, num_classes, representation_size, distilled) -> a module from "
    "(B, D) to logits (B, K): a linear layer; with a representation_size that is not None, linear "
    "layer, tanh, linear layer; a ValueError if it is to be distilled as well",
    reference=_head,
    cases=_make_head_cases,
    mutants={
        "ignored_when_distilled": (
            _head_ignoring,
            "With distilled=True the representation_size is ignored in silence: whoever asked for "
            "the layer gets a model without it, and nobody is told. Two options that exclude each "
            "other want a ValueError.",
        ),
        "both_at_once": (
            _head_with(_head_layers(), refuse=False),
            "Both options at once are accepted. A distilled model's two heads read their tokens "
            "directly, so there is no place for the layer: raise a ValueError.",
        ),
        "distilled_refused": (
            _head_refusing_all,
            "Every distilled model is refused. Only the two options *together* contradict each "
            "other: ask for both in the condition.",
        ),
        "layer_never_built": (
            _head_with(lambda d, k, r, distilled: nn.Linear(d, k)),
            "The representation layer is missing: there is one linear layer where there should be "
            "two, with a tanh between them.",
        ),
        "no_tanh": (
            _head_with(_head_layers(nn.Identity)),
            "The tanh is missing. Two linear layers in a row are no more than one.",
        ),
        "relu": (
            _head_with(_head_layers(nn.ReLU)),
            "Between the two layers stands a ReLU; the paper's representation layer has a tanh.",
        ),
        "gelu": (
            _head_with(_head_layers(nn.GELU)),
            "Between the two layers stands a GELU, as in the blocks; the paper's representation "
            "layer has a tanh.",
        ),
        "tanh_on_the_logits": (
            _head_with(_head_layers(after=True)),
            "The tanh comes after the last layer and squeezes the logits between −1 and 1. It "
            "belongs between the two linear layers.",
        ),
        "head_from_embed_dim": (
            _head_with(_head_layers(width="embed")),
            "The last layer takes embed_dim numbers, but behind the representation layer it is "
            "given representation_size of them. The two happen to fit only where they are equal.",
        ),
    },
    accepted=[_HeadClass, _head_by_list],
)

EXERCISES = [
    count_parameters,
    count_multiply_adds,
    pool,
    vision_transformer,
    init_tokens,
    init_head,
    reset_head,
    make_head,
]
