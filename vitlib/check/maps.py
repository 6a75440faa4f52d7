"""Chapter 12, attention maps: the exercises, their right answers and their usual mistakes."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import nn

import vitlib
from vitlib.attention import attention_weights, unfused
from vitlib.check.exercise import Cases, Exercise, Refused, call, fill, numbers
from vitlib.explain import attention_distance, tokens_to_grid


def _single(answer, *inputs):
    """The answer in float32: whether its mask or its buffer was float32 or float64 is not asked."""
    result = call(answer, *inputs)
    floating = isinstance(result, torch.Tensor) and result.is_floating_point()
    return result.float() if floating else result


# --- 12.1 record_attention: hooks on a model that never computes the weights


def _record(of="inputs", fused=False, clean=True, restore=True, axis=1, read=lambda w: w):
    """Hooks on attn_drop, with something changed about them, the kernel or what is kept."""

    def record_attention(model, images):
        maps, hooks = [], []

        def keep(module, inputs, output):
            maps.append(inputs[0] if of == "inputs" else output)

        for block in model.blocks:
            hooks.append(block.attn.attn_drop.register_forward_hook(keep))
        before = [block.attn.fused for block in model.blocks]
        for block in model.blocks:
            block.attn.fused = fused
        with torch.no_grad():
            model(images)
        for hook, block, was in zip(hooks, model.blocks, before, strict=True):
            if clean:
                hook.remove()
            if restore:
                block.attn.fused = was
        return read(torch.stack(maps, dim=axis))

    return record_attention


def _record_nothing(model, images):
    maps = []
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda m, x, y: maps.append(x[0]))
        for block in model.blocks
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return maps


def _record_module():
    def record_attention(model, images):
        maps = []
        hooks = [
            block.attn.register_forward_hook(lambda m, x, y: maps.append(y.detach()))
            for block in model.blocks
        ]
        model(images)
        for hook in hooks:
            hook.remove()
        return torch.stack(maps, dim=1)

    return record_attention


def _record_again(softmax=lambda scores: scores.softmax(dim=-1), swap=False, scale=None):
    """The weights computed from what goes into each attention module, with something changed."""

    def record_attention(model, images):
        maps = []

        def keep(module, inputs):
            B, T, D = inputs[0].shape
            shape = B, T, 3, module.num_heads, D // module.num_heads
            q, k, _ = module.qkv(inputs[0]).reshape(shape).permute(2, 0, 3, 1, 4)
            if swap:
                q, k = k, q
            maps.append(softmax(q @ k.mT * (module.scale if scale is None else scale(D, q))))

        hooks = [block.attn.register_forward_pre_hook(keep) for block in model.blocks]
        with torch.no_grad():
            model(images)
        for hook in hooks:
            hook.remove()
        return torch.stack(maps, dim=1)

    return record_attention


def _record_unnormed(model, images):
    maps = []
    with torch.no_grad():
        x = model._tokens(images)
        for block in model.blocks:
            q, k, _ = rearrange(
                block.attn.qkv(x), "b t (n h d) -> n b h t d", n=3, h=block.attn.num_heads
            )
            maps.append(attention_weights(q, k, block.attn.scale))
            x = block(x)
    return torch.stack(maps, dim=1)


def _record_by_steps(model, images):
    maps = []
    with torch.no_grad(), unfused(model):
        x = model._tokens(images)
        for block in model.blocks:
            qkv = block.attn.qkv(block.norm1(x))
            q, k, _ = rearrange(qkv, "b t (n h d) -> n b h t d", n=3, h=block.attn.num_heads)
            maps.append(attention_weights(q, k, block.attn.scale))
            x = block(x)
    return torch.stack(maps, dim=1)


def _record_cases(answer) -> Cases:
    def model(seed=0, **options):
        made = vitlib.VisionTransformer(
            img_size=(4, 6), patch_size=2, in_chans=1, num_classes=3, embed_dim=12, depth=3,
            num_heads=2, mlp_ratio=1, **options,
        )  # fmt: skip
        return fill(made, seed).eval()

    def after():
        looked_at, images = model(), numbers(2, 1, 4, 6)
        call(answer, looked_at, images)
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in looked_at.modules())
        return {
            "hooks left in the model": hooks,
            "the fused kernel": [block.attn.fused for block in looked_at.blocks],
        }

    def twice():
        looked_at = model()
        call(answer, looked_at, numbers(2, 1, 4, 6, seed=1))
        return call(answer, looked_at, numbers(3, 1, 4, 6, seed=2))

    def training():
        looked_at = model(attn_drop_rate=0.5).train()
        return call(answer, looked_at, numbers(2, 1, 4, 6))[:, 0]  # before any dropout

    yield (
        "2 images, 3 layers, 2 heads, 7 tokens",
        lambda: call(answer, model(), numbers(2, 1, 4, 6)),
    )
    yield "the model afterwards", after
    yield "a second call, with 3 images", twice
    yield (
        "a model with a scale of its own",
        lambda: call(answer, model(qk_scale=0.9), numbers(1, 1, 4, 6)),
    )
    yield "layer 0 of a model in training, with dropout on the weights", training


_SAYS_SCALE = (
    "The scores are scaled with a number of your own. A model may have another: each attention "
    "module keeps the one that it uses in `scale`."
)

record_attention = Exercise(
    name="record_attention",
    chapter="12_attention_maps",
    task="record_attention(model, images) -> (B, L, H, T, T), the attention weights of every "
    "block; afterwards the model has no new hooks, and `fused` is what it was",
    reference=_record(),
    cases=_record_cases,
    mutants={
        "the_kernel_is_fused": (
            _record(fused=True),
            "Your list is empty, and torch.stack complains of it. While `fused` is on, the kernel "
            "never makes the weights, attn_drop is never called, and a hook on it waits for ever. "
            "Set block.attn.fused = False for the time of the forward pass.",
        ),
        "an_empty_list": (
            _record_nothing,
            "An empty list comes back. While `fused` is on, the kernel never makes the weights, so "
            "a hook on attn_drop is never called. Set block.attn.fused = False for the time of the "
            "forward pass, and stack what is caught.",
        ),
        "hooks_left": (
            _record(clean=False),
            "The weights are right, but the hooks stay in the model. Each call adds more of them, "
            "and they keep tensors alive. Keep what register_forward_hook returns, and call its "
            "remove().",
        ),
        "fused_left_off": (
            _record(restore=False),
            "The weights are right, but the fused kernel is off afterwards: the model is slower "
            "from now on, and nobody knows why. Restore `fused`.",
        ),
        "nothing_restored": (
            _record(clean=False, restore=False),
            "The weights are right, but the model is not what it was: the hooks are still in it, "
            "and the fused kernel is off. Remove the one, restore the other.",
        ),
        "what_attention_gives": (
            _record_module(),
            "This is what comes out of the attention modules: (B, T, D), tokens that have been "
            "mixed already. The weights pass through attn_drop, further inside.",
        ),
        "after_dropout": (
            _record(of="output"),
            "You keep what comes out of the dropout layer. In training, half of that may be zeros, "
            "and the rest is scaled up. The weights are what goes in: the hook's `inputs[0]`.",
        ),
        "layers_first": (
            _record(axis=0),
            "The layers stand before the images: (L, B, H, T, T). Stack them along axis 1.",
        ),
        "heads_averaged": (
            _record(read=lambda w: w.mean(dim=2)),
            "The heads are averaged. Keep them: what is averaged here cannot be told apart later.",
        ),
        "last_layer_only": (
            _record(read=lambda w: w[:, -1:]),
            "Only the last layer comes back. All are wanted, in the order in which they run.",
        ),
        "scores": (
            _record_again(softmax=lambda scores: scores),
            "These are scores, not weights: rows do not sum to 1. The softmax is missing.",
        ),
        "softmax_over_queries": (
            _record_again(softmax=lambda scores: scores.softmax(dim=-2)),
            "The columns sum to 1, and the rows should: the softmax runs over the keys, the last "
            "axis.",
        ),
        "queries_and_keys_swapped": (
            _record_again(swap=True),
            "Queries and keys have changed places. The first third of what qkv gives is the "
            "queries, and the rows of the table belong to them.",
        ),
        "scale_forgotten": (
            _record_again(scale=lambda D, q: 1.0),
            "The scores are not scaled, so the weights are too sharp. The module keeps its factor "
            "in `scale`.",
        ),
        "transposed": (
            _record(read=lambda w: w.mT),
            "Rows and columns of the tables have changed places. Row i is the token that looks, "
            "and sums to 1; column j is the token that is looked at.",
        ),
        "the_class_tokens_row": (
            _record(read=lambda w: w[:, :, :, 0]),
            "Only the class token's row comes back. All tokens look at all tokens: keep both axes "
            "of length T.",
        ),
        "norm_forgotten": (
            _record_unnormed,
            "The weights are computed from what goes into the *block*. Its attention sees the "
            "tokens after `norm1`.",
        ),
        "scale_of_the_head": (_record_again(scale=lambda D, q: q.shape[-1] ** -0.5), _SAYS_SCALE),
    },
    accepted=[_record_again(), _record_by_steps],
)

# --- 12.2 patch_grid: which tokens are patches


def _patch_grid(values, grid_size, num_prefix_tokens):
    rows, columns = grid_size
    if values.shape[-1] != num_prefix_tokens + rows * columns:
        raise ValueError("the prefix tokens and the patches are not as many as the values")
    return values[..., num_prefix_tokens:].reshape(*values.shape[:-1], rows, columns)


def _patch_grid_by_einops(values, grid_size, num_prefix_tokens):
    if num_prefix_tokens + math.prod(grid_size) != values.shape[-1]:
        raise ValueError("wrong number of tokens")
    patches = values.split([num_prefix_tokens, math.prod(grid_size)], dim=-1)[1]
    return rearrange(patches, "... (h w) -> ... h w", h=grid_size[0])


def _grid_of(start, check=True, shape=lambda p, h, w: p.unflatten(-1, (h, w))):
    """Patches from `start` on, with or without a refusal."""

    def patch_grid(values, grid_size, num_prefix_tokens):
        h, w = grid_size
        if check and values.shape[-1] != num_prefix_tokens + h * w:
            raise ValueError("wrong number of tokens")
        first = start(num_prefix_tokens)
        return shape(values[..., first : first + h * w], h, w)

    return patch_grid


def _patch_grid_reshaped(values, grid_size, num_prefix_tokens):
    return values[..., num_prefix_tokens:].unflatten(-1, tuple(grid_size))


def _patch_grid_asserted(values, grid_size, num_prefix_tokens):
    assert values.shape[-1] == num_prefix_tokens + math.prod(grid_size)
    return _patch_grid_reshaped(values, grid_size, num_prefix_tokens)


def _patch_grid_at_least(values, grid_size, num_prefix_tokens):
    h, w = grid_size
    if values.shape[-1] < num_prefix_tokens + h * w:
        raise ValueError("too few tokens")
    return values[..., num_prefix_tokens : num_prefix_tokens + h * w].unflatten(-1, (h, w))


def _patch_grid_cases(answer) -> Cases:
    def refusal(*given):
        try:
            result = call(answer, *given)
        except ValueError:
            return "a ValueError"
        return f"a map of shape {tuple(result.shape)}"

    one, few = torch.arange(7.0, dtype=torch.float64), torch.arange(30.0, dtype=torch.float64)
    yield "tokens 0 to 6, of which one is a class token", lambda: call(answer, one, (2, 3), 1)
    yield (
        "class and distillation token, 4 images, 3 heads",
        lambda: call(answer, numbers(4, 3, 14), (4, 3), 2),
    )
    yield "a class token and 4 registers", lambda: call(answer, numbers(2, 11), (3, 2), 5)
    yield "no prefix token", lambda: call(answer, few, (5, 6), 0)
    yield "one token too many", lambda: refusal(numbers(2, 8), (2, 3), 1)
    yield "one token too few", lambda: refusal(numbers(2, 7), (2, 3), 2)


patch_grid = Exercise(
    name="patch_grid",
    chapter="12_attention_maps",
    task="patch_grid(values, grid_size, num_prefix_tokens): (..., T) -> (..., rows, columns), "
    "without the prefix tokens; a ValueError where these and the patches are not exactly T",
    reference=_patch_grid,
    cases=_patch_grid_cases,
    mutants={
        "class_token_only": (
            _grid_of(lambda prefix: 1),
            "One token is dropped, however many stand before the patches. With a distillation "
            "token or registers, these are taken for patches, and the whole map is shifted. Drop "
            "num_prefix_tokens.",
        ),
        "class_token_only_unchecked": (
            _grid_of(lambda prefix: 1, check=False),
            "One token is dropped, however many stand before the patches. With a distillation "
            "token or registers, these are taken for patches, and the whole map is shifted. Drop "
            "num_prefix_tokens, and refuse a number of tokens that does not fit.",
        ),
        "nothing_dropped": (
            _grid_of(lambda prefix: 0),
            "The prefix tokens are laid on the image as if they were patches: the map is shifted "
            "by as many cells. They stand first; leave them out.",
        ),
        "dropped_at_the_end": (
            _grid_of(lambda prefix: 0, check=False),
            "It is the last tokens that are dropped here, and those are patches. The prefix tokens "
            "stand first. And a number of tokens that does not fit should raise a ValueError.",
        ),
        "takes_any_number": (
            lambda values, grid_size, num_prefix_tokens: values[
                ..., values.shape[-1] - math.prod(grid_size) :
            ].unflatten(-1, tuple(grid_size)),
            "It fits by force: the last tokens are taken, as many as there are patches, whatever "
            "num_prefix_tokens says. If the numbers do not add up, something is wrong upstream, "
            "and here is the place to say so, with a ValueError.",
        ),
        "cut_to_fit": (
            _grid_of(lambda prefix: prefix, check=False),
            "Where the tokens are too many, the rest is silently left out. If the numbers do not "
            "add up, raise a ValueError.",
        ),
        "too_many_taken": (
            _patch_grid_at_least,
            "Too few tokens are refused, and too many are cut to fit. Both mean that the numbers "
            "do not add up: compare with !=, and raise the ValueError for both.",
        ),
        "torchs_own_error": (
            _patch_grid_reshaped,
            "The grid is right, but where the numbers do not add up it is PyTorch that complains, "
            "of a shape. Compare T with the prefix tokens and rows · columns yourself, and raise a "
            "ValueError: it can say what was expected.",
        ),
        "an_assertion": (
            _patch_grid_asserted,
            "An assert raises an AssertionError, and is skipped when Python runs with -O. For what "
            "a caller gets wrong, raise a ValueError.",
        ),
        "class_token_only_without_a_cut": (
            lambda values, grid_size, num_prefix_tokens: values[..., 1:].reshape(
                *values.shape[:-1], *grid_size
            ),
            "One token is dropped, however many stand before the patches. With a distillation "
            "token the rest does not fit the grid; the usual next step is to cut at the end until "
            "it does, and then the map is shifted. Drop num_prefix_tokens, and raise a ValueError "
            "where the numbers do not add up.",
        ),
        "square": (
            _grid_of(
                lambda prefix: prefix,
                shape=lambda p, h, w: p.reshape(*p.shape[:-1], math.isqrt(h * w), -1),
            ),
            "The number of rows is guessed as the root of the number of patches. That fits square "
            "images only: take it from grid_size.",
        ),
        "columns_first": (
            _grid_of(lambda prefix: prefix, shape=lambda p, h, w: p.unflatten(-1, (w, h)).mT),
            "The patches are laid out column by column. They come row by row: the second patch "
            "lies to the right of the first.",
        ),
        "rows_and_columns_swapped": (
            _grid_of(lambda prefix: prefix, shape=lambda p, h, w: p.unflatten(-1, (w, h))),
            "Rows and columns have changed places. grid_size is (rows, columns).",
        ),
    },
    accepted=[
        _patch_grid_by_einops,
        _grid_of(lambda prefix: prefix),
        lambda values, grid_size, prefix: tokens_to_grid(values, grid_size, prefix),
    ],
)

# --- 12.3 rollout: a function to repair


def _rollout(identity=True, divide=True, first_last=True, fuse=None, divide_first=False, axis=-1):
    """Rollout over the largest of the heads, with something changed."""

    def rollout(attention):
        tables = attention.amax(dim=2) if fuse is None else fuse(attention)  # (B, L, T, T)
        if divide_first:
            tables = tables / tables.sum(dim=axis, keepdim=True)
        if identity:
            tables = tables + torch.eye(tables.shape[-1], dtype=tables.dtype)
        if divide and not divide_first:
            tables = tables / tables.sum(dim=axis, keepdim=True)
        result = tables[:, 0]
        for i in range(1, tables.shape[1]):
            result = tables[:, i] @ result if first_last else result @ tables[:, i]
        return result

    return rollout


def _eye(attention):
    return torch.eye(attention.shape[-1], dtype=attention.dtype)


def _rollout_of(tables_of):
    """The product of the layers' tables, made of the attention in some way."""

    def rollout(attention):
        first, *later = tables_of(attention).unbind(dim=1)
        for table in later:
            first = table @ first
        return first

    return rollout


def _rollout_from_the_end(attention):
    B, L, _, T, _ = attention.shape
    result = torch.eye(T, dtype=attention.dtype).repeat(B, 1, 1)
    for layer in range(L - 1, -1, -1):
        table = attention[:, layer].max(dim=1).values + torch.eye(T, dtype=attention.dtype)
        result = result @ F.normalize(table, p=1, dim=-1)
    return result


def _rollout_by_loop(attention):
    images = []
    for tables in attention.unbind(0):
        result = None
        for heads in tables:
            step = heads.amax(dim=0)
            step = step + torch.eye(len(step)).to(step)
            step = torch.einsum("ij,i->ij", step, 1 / step.sum(dim=1))
            result = step if result is None else torch.einsum("ij,jk->ik", step, result)
        images.append(result)
    return torch.stack(images)


def _rollout_last_only(attention):
    return _rollout()(attention[:, -1:])


def _rollout_of_products(attention):
    tables = attention.amax(dim=2) + torch.eye(attention.shape[-1], dtype=attention.dtype)
    tables = tables / tables.sum(dim=-1, keepdim=True)
    return tables.prod(dim=1)


def _rollout_cases(answer) -> Cases:
    def weights(*shape, seed=0):
        return (2 * numbers(*shape, seed=seed)).softmax(dim=-1)

    toy = torch.tensor(
        [[[0.2, 0.8, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]],
         [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64,
    )  # fmt: skip
    yield "the chapter's toy: 2 layers of one head", lambda: call(answer, toy[None, :, None])
    yield "2 images, 3 layers, 4 heads, 5 tokens", lambda: call(answer, weights(2, 3, 4, 5, 5))
    yield "one layer of 2 heads", lambda: call(answer, weights(1, 1, 2, 4, 4, seed=1))
    yield "as many layers as heads and images", lambda: call(answer, weights(2, 2, 2, 3, 3, seed=2))


rollout = Exercise(
    name="rollout",
    chapter="12_attention_maps",
    task="rollout(attention): (B, L, H, T, T) -> (B, T, T); in each layer the largest of the "
    "heads, plus the identity, rows divided by their sums; the product of the layers, the last "
    "one leftmost",
    reference=_rollout(),
    cases=_rollout_cases,
    mutants={
        "no_identity_and_no_division": (
            _rollout(identity=False, divide=False),
            "Two lines are missing. The identity: each block adds its attention to what a token "
            "had, so a token keeps itself. And the division: the largest of several heads has rows "
            "that sum to more than 1, and the product grows with every layer. Add torch.eye, then "
            "divide each row by its sum.",
        ),
        "no_identity": (
            _rollout(identity=False),
            "The identity is missing. Each block adds its attention to what a token had (the "
            "residual path), so a part of every token stays where it is. Add torch.eye(T) to the "
            "table, before its rows are divided by their sums.",
        ),
        "no_division": (
            _rollout(divide=False),
            "The rows do not sum to 1: with the identity added, each sums to 2 or more, and the "
            "product over the layers grows and grows. Divide each row by its sum, in every layer.",
        ),
        "identity_after_the_division": (
            _rollout(divide_first=True),
            "Rows are divided by their sums first, and then the identity is added: they sum to 2 "
            "again. Add first, then divide.",
        ),
        "half_and_half": (
            _rollout_of(lambda a: (a.amax(dim=2) + _eye(a)) / 2),
            "½ A + ½ I is the paper's step, for the *mean* of the heads, whose rows sum to 1. The "
            "rows of their largest sum to more: divide by the sum itself.",
        ),
        "heads_divided_first": (
            _rollout_of(lambda a: (a.amax(dim=2) / a.amax(dim=2).sum(-1, True) + _eye(a)) / 2),
            "The largest of the heads is divided by its row sums before the identity is added. "
            "Then the identity always gets a half. Here it is added first, and the rows are "
            "divided after that.",
        ),
        "divided_at_the_end": (
            lambda attention: F.normalize(_rollout(divide=False)(attention), p=1, dim=-1),
            "Only the result is divided by its row sums. On the way, rows with large sums have "
            "counted for more. Divide in every layer.",
        ),
        "mean_of_the_layers": (
            lambda attention: F.normalize(attention.amax(2) + _eye(attention), p=1, dim=-1).mean(1),
            "The layers are averaged. What they do one after the other is a product: "
            "later @ earlier.",
        ),
        "columns_divided": (
            _rollout(axis=-2),
            "It is the columns that are divided by their sums. A row belongs to the token that "
            "collects, and it is the rows that should sum to 1: dim=-1.",
        ),
        "first_layer_leftmost": (
            _rollout(first_last=False),
            "The layers are multiplied in the wrong order. The class token of the last layer takes "
            "from tokens that have already taken from others: the last layer's table stands "
            "leftmost, new @ old.",
        ),
        "mean_of_the_heads": (
            _rollout(fuse=lambda a: a.mean(dim=2)),
            "This is the rollout of the mean over heads. Here the largest of the heads is asked "
            "for: amax.",
        ),
        "max_over_the_layers": (
            _rollout(fuse=lambda a: a.transpose(1, 2).amax(dim=2)),
            "The largest is taken over the layers, and the heads are multiplied. The heads are the "
            "third axis of (B, L, H, T, T): dim=2.",
        ),
        "last_layer_only": (
            _rollout_last_only,
            "Only the last layer is there. Keep a running product, and let every layer multiply "
            "it.",
        ),
        "first_layer_twice": (
            lambda attention: _rollout()(torch.cat([attention[:, :1], attention], dim=1)),
            "The first layer is multiplied in twice: the product begins with it, and the loop "
            "begins with it again. Either start the loop at the second layer, or start from the "
            "identity.",
        ),
        "elementwise": (
            _rollout_of_products,
            "The tables are multiplied number by number. What takes from what, over two steps, is "
            "the matrix product: @.",
        ),
    },
    accepted=[_rollout_from_the_end, _rollout_by_loop],
)

# --- 12.4 occlusion_map: cover, and ask again


def _occlusion(
    score=None, sign=1, keep=False, black=None, turned=False, again=False, inside=True,
    channels=slice(None), step=None,
):  # fmt: skip
    """Cover each square in turn, with something changed about the score or the cover."""

    def log_p(logits):
        return logits.log_softmax(dim=-1)

    score = score or log_p

    def occlusion_map(predict, image, patch, fill):
        _, H, W = image.shape
        before = score(predict(image[None]))[0]
        target = predict(image[None])[0].argmax()
        drops = torch.zeros(H // patch, W // patch, dtype=image.dtype)
        covered = image.clone()
        for i in range(H // patch):
            for j in range(W // patch):
                covered = covered if keep else image.clone()
                top, left = i * (step or patch), j * (step or patch)
                rows, columns = slice(top, top + patch), slice(left, left + patch)
                square = torch.zeros(H, W, dtype=torch.bool)
                square[rows, columns] = True
                hidden = square if inside else ~square
                covered[channels, hidden] = fill if black is None else black(image)
                after = score(predict(covered[None]))[0]
                now = after.argmax() if again else target
                drops[i, j] = sign * (before[target] - after[now])
        return drops.T.reshape(H // patch, W // patch) if turned else drops

    return occlusion_map


def _occlusion_at_once(predict, image, patch, fill):
    H, W = (side // patch for side in image.shape[1:])
    masks = torch.eye(H * W, dtype=torch.bool).reshape(-1, H, W)
    masks = masks.repeat_interleave(patch, 1).repeat_interleave(patch, 2)  # (n, height, width)
    covered = torch.where(masks[:, None], torch.full_like(image, fill), image)
    logits = predict(torch.cat([image[None], covered]))
    losses = F.cross_entropy(logits, logits[:1].argmax(1).expand(len(logits)), reduction="none")
    return (losses[1:] - losses[0]).reshape(H, W)


def _occlusion_by_tiles(predict, image, patch, fill):
    p = predict(image[None]).softmax(-1)[0]
    k = int(p.argmax())
    rows = []
    for top in range(0, image.shape[1], patch):
        row = []
        for left in range(0, image.shape[2], patch):
            y, x = torch.arange(image.shape[1])[:, None], torch.arange(image.shape[2])
            inside = (y >= top) & (y < top + patch) & (x >= left) & (x < left + patch)
            row.append(p[k] / predict(image.masked_fill(inside, fill)[None]).softmax(-1)[0, k])
        rows.append(torch.stack(row).log())
    return torch.stack(rows)


def _occlusion_cases(answer) -> Cases:
    def predictor(C, H, W, K, seed):
        first, second = numbers(C * H * W, 8, seed=seed), numbers(8, K, seed=seed + 1)

        def predict(images):
            if images.shape[1:] != (C, H, W):
                raise Refused(
                    f"predict wants images (n, {C}, {H}, {W}), with an axis for the images in "
                    f"front, and got {tuple(images.shape)}"
                )
            return (images.flatten(1) @ first * 0.6).tanh() @ second

        return predict

    def run(C, H, W, K, patch, fill, seed=0):
        predict = predictor(C, H, W, K, seed)
        return _single(answer, predict, numbers(C, H, W, seed=seed + 2), patch, fill)

    yield "2 channels, 6 × 9 pixels, squares of 3, covered with 0", lambda: run(2, 6, 9, 4, 3, 0.0)
    yield (
        "1 channel, 8 × 4 pixels, squares of 2, covered with −0.7",
        lambda: run(1, 8, 4, 5, 2, -0.7, seed=5),
    )
    yield "squares of 1, covered with 1.5", lambda: run(1, 2, 3, 3, 1, 1.5, seed=9)
    yield "one square as large as the image", lambda: run(3, 4, 4, 3, 4, -1.0, seed=13)


occlusion_map = Exercise(
    name="occlusion_map",
    chapter="12_attention_maps",
    task="occlusion_map(predict, image, patch, fill) -> (H/patch, W/patch): for each square, the "
    "log-probability of the class predicted for the whole image, minus that with the square "
    "covered by `fill`; predict maps (n, C, H, W) to logits (n, K), image is (C, H, W)",
    reference=_occlusion(),
    cases=_occlusion_cases,
    mutants={
        "sign": (
            _occlusion(sign=-1),
            "The sign is turned round: after minus before. A patch that spoke for the answer "
            "should get a positive number, which is before minus after.",
        ),
        "probabilities": (
            _occlusion(score=lambda logits: logits.softmax(dim=-1)),
            "These are differences of probabilities. Near 1 they hardly move, however much the "
            "model has been shaken: 0.9999 and 0.99 differ by 0.01, their odds by a factor of a "
            "hundred. Take the logarithm: log_softmax.",
        ),
        "logits": (
            _occlusion(score=lambda logits: logits),
            "These are differences of logits. A logit by itself says nothing: if all of them fall "
            "by 1, the answer is the same. log_softmax compares each with the others.",
        ),
        "class_chosen_anew": (
            _occlusion(again=True),
            "For each covered image you take the class that is predicted then. Where covering "
            "changes the answer, that is another class, and the drop looks small just where it is "
            "largest. Keep the class of the whole image.",
        ),
        "cover_stays": (
            _occlusion(keep=True),
            "The squares stay covered: the second is measured with the first still gone, and at "
            "the end the whole image is hidden. Begin with a fresh clone for each square.",
        ),
        "fill_ignored": (
            _occlusion(black=lambda image: 0.0),
            "The squares are covered with 0, whatever `fill` says. In normalised pixels 0 is the "
            "mean grey, and not black.",
        ),
        "covered_with_the_mean": (
            _occlusion(black=lambda image: image.mean()),
            "The squares are covered with the image's mean. What to cover with is a decision, and "
            "here the caller has taken it: `fill`.",
        ),
        "all_but_the_square": (
            _occlusion(inside=False),
            "All but the square is covered. That asks what the model can tell from one patch "
            "alone; here the question is what it misses without it.",
        ),
        "one_channel": (
            _occlusion(channels=slice(0, 1)),
            "Only the first channel is covered. The patch can still be seen in the others.",
        ),
        "steps_of_one_pixel": (
            _occlusion(step=1),
            "The squares move on by one pixel each time, and overlap. Square (i, j) begins at "
            "pixel (i · patch, j · patch).",
        ),
        "turned": (
            _occlusion(turned=True),
            "The drops are right, and lie in the wrong places: rows and columns have been mixed "
            "up. Row i of the result belongs to the pixels from i · patch downwards.",
        ),
    },
    accepted=[_occlusion_at_once, _occlusion_by_tiles],
)

# --- 12.5 pointing_lift: how many times better than by chance


def _lift(cell=None, divide=True, per_image=True, enlarge=None):
    """The share on the mask by the share of the area, with something changed."""

    def pointing_lift(maps, masks):
        patch = masks.shape[1] // maps.shape[1]
        if enlarge is not None:
            on = (enlarge(maps, patch) * masks).sum(dim=(1, 2)) / enlarge(maps, patch).sum((1, 2))
            return on / masks.to(maps.dtype).mean(dim=(1, 2))
        part = F.avg_pool2d(masks.to(maps.dtype)[:, None], patch)[:, 0]  # (B, h, w)
        part = part if cell is None else cell(part)
        on, area = (maps * part).sum(dim=(1, 2)), masks.to(maps.dtype).mean(dim=(1, 2))
        total = maps.sum(dim=(1, 2))
        if not per_image:
            on, area, total = on.mean(), area.mean(), total.mean()
            return (on / total / area).expand(len(maps))
        return on / total / area if divide else on / total

    return pointing_lift


def _lift_by_einops(maps, masks):
    h = maps.shape[1]
    part = reduce(masks.to(maps.dtype), "b (h p) (w q) -> b h w", "mean", h=h, w=maps.shape[2])
    share = (maps / reduce(maps, "b h w -> b 1 1", "sum") * part).sum(dim=(1, 2))
    return share * masks[0].numel() / masks.sum(dim=(1, 2))


def _lift_by_pixels(maps, masks):
    p, q = masks.shape[1] // maps.shape[1], masks.shape[2] // maps.shape[2]
    pixels = repeat(maps, "b h w -> b (h p) (w q)", p=p, q=q)
    lifts = [m[mask].mean() / m.mean() for m, mask in zip(pixels, masks, strict=True)]
    return torch.stack(lifts)


def _lift_not_a_share(maps, masks):
    patch = masks.shape[1] // maps.shape[1]
    part = F.avg_pool2d(masks.to(maps.dtype)[:, None], patch)[:, 0]
    return (maps * part).sum(dim=(1, 2)) / masks.to(maps.dtype).mean(dim=(1, 2))


def _lift_against_the_rest(maps, masks):
    patch = masks.shape[1] // maps.shape[1]
    fine = maps.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    pairs = zip(fine, masks, strict=True)
    return torch.stack([m[mask].mean() / m[~mask].mean() for m, mask in pairs])


def _lift_of_corners(maps, masks):
    patch = masks.shape[1] // maps.shape[1]
    on = (maps * masks[:, ::patch, ::patch]).sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
    return on / masks.to(maps.dtype).mean(dim=(1, 2))


def _lift_cases(answer) -> Cases:
    def masks(*shape, seed=0):
        return numbers(*shape, seed=seed) > 0.4

    even = torch.full((2, 2, 3), 0.3, dtype=torch.float64)
    yield "a map that is the same everywhere", lambda: _single(answer, even, masks(2, 4, 6))
    whole = torch.zeros(1, 4, 4, dtype=torch.bool)
    whole[0, :2, 2:] = True
    corner = torch.tensor([[[1.0, 6.0], [1.0, 0.0]]], dtype=torch.float64)
    yield (
        "three quarters of a map on a quarter of the image",
        lambda: _single(answer, corner, whole),
    )
    yield (
        "3 images of 6 × 9 pixels, maps of 2 × 3, not scaled",
        lambda: _single(answer, 2 * numbers(3, 2, 3, seed=2).exp(), masks(3, 6, 9, seed=3)),
    )
    yield (
        "maps as fine as the image",
        lambda: _single(answer, numbers(2, 3, 4, seed=4).abs(), masks(2, 3, 4, seed=5)),
    )


def _bilinear(maps, patch):
    return F.interpolate(maps[:, None], scale_factor=patch, mode="bilinear")[:, 0]


pointing_lift = Exercise(
    name="pointing_lift",
    chapter="12_attention_maps",
    task="pointing_lift(maps, masks) -> (B,): the share of each map (B, h, w) that lies on the "
    "mask (B, H, W), divided by the share of the image that the mask covers; each cell is a "
    "square of pixels, over which its value is spread evenly",
    reference=_lift(),
    cases=_lift_cases,
    mutants={
        "not_divided_by_the_area": (
            _lift(divide=False),
            "This is the share of the map that lies on the mask. A mask that covers half of the "
            "image gets half of any map, by chance: divide by the share of the image that the mask "
            "covers.",
        ),
        "not_a_share": (
            _lift_not_a_share,
            "The map is not divided by its own sum, so that a map with larger numbers wins. What "
            "counts is the share of the map that lies on the mask.",
        ),
        "one_for_all": (
            _lift(per_image=False),
            "All images are thrown together, and the maps with large numbers count for more. Each "
            "image has its own share and its own area: keep the axis of the images.",
        ),
        "divided_by_the_rest": (
            _lift_against_the_rest,
            "The mean on the mask is divided by the mean *beside* it. That is another number, and "
            "it is infinite if all of the map lies on the mask. Divide the share of the map by the "
            "share of the image.",
        ),
        "a_difference": (
            lambda maps, masks: (
                _lift(divide=False)(maps, masks) - masks.to(maps.dtype).mean((1, 2))
            ),
            "The share of the area is subtracted. The question is how many *times* as much the "
            "mask gets as by chance: divide.",
        ),
        "pixels_by_cells": (
            lambda maps, masks: _lift()(maps, masks) * (masks[0].numel() / maps[0].numel()),
            "A sum over pixels is divided by a sum over cells: the result is too large by the "
            "number of pixels in a cell. Take both sums over the enlarged map, or both over cells.",
        ),
        "one_pixel_of_each_cell": (
            _lift_of_corners,
            "Of each cell only one pixel of the mask is looked at. The cell's value is spread over "
            "all of its pixels: take the mean of the mask in it.",
        ),
        "any_pixel": (
            _lift(cell=lambda part: (part > 0).to(part.dtype)),
            "A cell counts fully as soon as one of its pixels is on the mask. Coarse cells then "
            "get credit for what lies beside the object. A cell's value is spread over its pixels: "
            "take the mean of the mask in it.",
        ),
        "more_than_half": (
            _lift(cell=lambda part: (part > 0.5).to(part.dtype)),
            "A cell counts only if more than half of it is on the mask, and then fully. Its value "
            "is spread over its pixels: take the mean of the mask in it.",
        ),
        "tiled": (
            _lift(enlarge=lambda maps, p: maps.repeat(1, p, p)),
            "`repeat` lays copies of the whole map side by side. To enlarge it, each cell must "
            "become a square: repeat_interleave, along both axes.",
        ),
        "smoothed": (
            _lift(enlarge=_bilinear),
            "The map is enlarged with smooth transitions. That looks nicer, and moves a part of "
            "each cell's value into its neighbours. Repeat each value over its square, or take the "
            "mean of the mask in each cell.",
        ),
    },
    accepted=[
        _lift_by_einops,
        _lift_by_pixels,
        _lift(enlarge=lambda m, p: m.repeat_interleave(p, 1).repeat_interleave(p, 2)),
    ],
)

# --- 12.6 mean_distance: how far a head looks


def _distance(prefix=None, share=True, measure=None, pixels=True, turned=False, swap=False):
    """Mean attention distance, with something changed."""

    def mean_distance(attention, grid_size, num_prefix_tokens, patch_size):
        h, w = grid_size
        first = num_prefix_tokens if prefix is None else prefix
        among = attention[..., first : first + h * w, first : first + h * w]
        among = among.mT if swap else among
        if callable(share):
            among = share(among)
        elif share:
            among = among / among.sum(dim=-1, keepdim=True)
        index = torch.arange(h * w)
        y, x = (index % h, index // h) if turned else (index // w, index % w)
        dy, dx = (y[:, None] - y).to(attention.dtype), (x[:, None] - x).to(attention.dtype)
        far = (dy**2 + dx**2).sqrt() if measure is None else measure(dy, dx)
        far = far * patch_size if pixels else far
        return (among * far).sum(dim=-1).mean(dim=-1)

    return mean_distance


def _share_of_others(among):
    others = among * (1 - torch.eye(among.shape[-1], dtype=among.dtype))
    return others / others.sum(dim=-1, keepdim=True)


def _distance_ratio_of_sums(attention, grid_size, num_prefix_tokens, patch_size):
    among = attention[..., num_prefix_tokens:, num_prefix_tokens:]
    weighted = _distance(share=False)(attention, grid_size, num_prefix_tokens, patch_size)
    return weighted / among.sum(dim=-1).mean(dim=-1)


def _distance_over_images(attention, grid_size, num_prefix_tokens, patch_size):
    return _distance()(attention, grid_size, num_prefix_tokens, patch_size).mean(dim=0)


def _distance_by_cdist(attention, grid_size, num_prefix_tokens, patch_size):
    ys, xs = torch.meshgrid(*(torch.arange(n) for n in grid_size), indexing="ij")
    places = torch.stack([ys, xs], dim=-1).reshape(-1, 2).to(attention.dtype) * patch_size
    far = torch.cdist(places, places)
    among = F.normalize(attention[..., num_prefix_tokens:, num_prefix_tokens:], p=1, dim=-1)
    return torch.einsum("blhij,ij->blh", among, far) / len(places)


def _distance_by_loop(attention, grid_size, num_prefix_tokens, patch_size):
    B, L, H = attention.shape[:3]
    h, w = grid_size
    result = torch.zeros(B, L, H, dtype=attention.dtype)
    for i in range(h * w):
        row = attention[..., num_prefix_tokens + i, num_prefix_tokens:]
        far = [math.hypot(i // w - j // w, i % w - j % w) * patch_size for j in range(h * w)]
        result += (row * torch.tensor(far, dtype=row.dtype)).sum(-1) / row.sum(-1)
    return result / (h * w)


def _distance_cases(answer) -> Cases:
    def run(grid, prefix, patch, B=2, L=1, H=3, seed=0):
        T = prefix + grid[0] * grid[1]
        weights = (1.5 * numbers(B, L, H, T, T, seed=seed)).softmax(dim=-1)
        return _single(answer, weights, grid, prefix, patch)

    to_itself = torch.eye(5, dtype=torch.float64)[None, None, None]
    yield (
        "patches that look at themselves only",
        lambda: _single(answer, to_itself, (2, 2), 1, 4),
    )
    yield "2 × 3 patches of 4 pixels behind a class token", lambda: run((2, 3), 1, 4)
    yield "4 × 2 patches of 7 pixels behind 3 tokens, 2 layers", lambda: run((4, 2), 3, 7, L=2)
    yield "3 × 3 patches of 1 pixel, no prefix token", lambda: run((3, 3), 0, 1, B=1, seed=1)


mean_distance = Exercise(
    name="mean_distance",
    chapter="12_attention_maps",
    task="mean_distance(attention, grid_size, num_prefix_tokens, patch_size): (B, L, H, T, T) -> "
    "(B, L, H): for each query patch the distance to the other patches in pixels, centre to "
    "centre, weighted by its attention among patches; then the mean over query patches",
    reference=_distance(),
    cases=_distance_cases,
    mutants={
        "class_token_only": (
            _distance(prefix=1),
            "One token is left out, however many stand before the patches. Registers and the "
            "distillation token have no place in the image, and no distance: leave out "
            "num_prefix_tokens.",
        ),
        "prefix_counted": (
            _distance(prefix=0),
            "The prefix tokens are counted as patches, and all patches are shifted. They have no "
            "place in the image: leave them out on both axes.",
        ),
        "not_a_share": (
            _distance(share=False),
            "A part of each row goes to the class token, and what is left for the patches sums to "
            "less than 1: heads that look at the class token seem to look near. Divide each row by "
            "its sum over patches.",
        ),
        "softmax_again": (
            _distance(share=lambda among: among.softmax(dim=-1)),
            "The weights among patches go through a softmax a second time, which makes them nearly "
            "equal. They are shares already: divide each row by its sum.",
        ),
        "itself_left_out": (
            _distance(share=_share_of_others),
            "What a patch gives to itself is left out. It counts, at distance 0: a head that looks "
            "at its own patch looks near.",
        ),
        "ratio_of_sums": (
            _distance_ratio_of_sums,
            "Sums are formed over all query patches before the division, so that a patch counts "
            "less if it gives much to the class token. Divide each row by its own sum first, then "
            "take the mean over rows.",
        ),
        "in_patches": (
            _distance(pixels=False),
            "This is the distance in patches. In pixels, neighbours are patch_size apart.",
        ),
        "squared": (
            _distance(measure=lambda dy, dx: dy**2 + dx**2),
            "These are squared distances: the root is missing.",
        ),
        "along_the_streets": (
            _distance(measure=lambda dy, dx: dy.abs() + dx.abs()),
            "Rows and columns are added, as one walks in a town of square blocks. The straight "
            "line is √(Δy² + Δx²).",
        ),
        "larger_of_both": (
            _distance(measure=lambda dy, dx: torch.maximum(dy.abs(), dx.abs())),
            "This takes the larger of the two differences, so that a diagonal neighbour is as "
            "near as the one beside it. The straight line is √(Δy² + Δx²).",
        ),
        "columns_first": (
            _distance(turned=True),
            "The patches are counted down the columns. They come row by row: patch i lies in row "
            "i // columns.",
        ),
        "queries_and_keys_swapped": (
            _distance(swap=True),
            "Queries and keys have changed places: this is how far away those are who look at a "
            "patch. The rows are the queries.",
        ),
        "mean_over_images": (
            _distance_over_images,
            "The images are averaged. The result has one number for each image, layer and head.",
        ),
    },
    accepted=[_distance_by_cdist, _distance_by_loop, attention_distance],
)

# --- 12.7 read_every_layer: the logit lens


def _read(
    norm_each=True, pool=lambda x: x[:, 0], axis=-1, softmax=True, stack=1, finish=lambda x: x
):
    """The lens, with something changed."""

    def read_every_layer(intermediates, norm, head):
        layers = []
        for i, x in enumerate(intermediates):
            use = norm_each is True or (norm_each == "last" and i == len(intermediates) - 1)
            logits = head(pool(norm(x) if use else x))
            layers.append(logits.softmax(dim=axis) if softmax else finish(logits))
        return torch.stack(layers, dim=stack)

    return read_every_layer


def _read_at_once(intermediates, norm, head):
    stacked = torch.stack(list(intermediates))[:, :, 0]  # (L, B, D)
    return head(norm(stacked)).softmax(dim=-1).transpose(0, 1)


def _read_by_exponentials(intermediates, norm, head):
    rows = [head(norm(tokens)[:, 0]) for tokens in intermediates]
    powers = torch.stack(rows, 1).exp()
    return powers / powers.sum(dim=2, keepdim=True)


def _read_running(intermediates, norm, head):
    total = torch.zeros_like(intermediates[0])
    layers = []
    for x in intermediates:
        total = total + x
        layers.append(head(norm(total)[:, 0]).softmax(dim=-1))
    return torch.stack(layers, dim=1)


def _read_cases(answer) -> Cases:
    def run(B, L, T, D, K):
        norm, head = fill(nn.LayerNorm(D)), fill(nn.Linear(D, K), seed=1)
        tokens = [3 * numbers(B, T, D, seed=i) + 0.5 for i in range(L)]
        result = call(partial(answer, tokens), norm, head)
        return result.detach() if isinstance(result, torch.Tensor) else result

    yield "3 layers, 2 images, 4 tokens, 5 classes", lambda: run(2, 3, 4, 6, 5)
    yield "as many layers as images and classes", lambda: run(3, 3, 2, 4, 3)
    yield "one layer, one image", lambda: run(1, 1, 3, 5, 2)


read_every_layer = Exercise(
    name="read_every_layer",
    chapter="12_attention_maps",
    task="read_every_layer(intermediates, norm, head) -> (B, L, K): class probabilities read off "
    "the class token (token 0) of each of the L tensors (B, T, D), through the norm and the head",
    reference=_read(),
    cases=_read_cases,
    mutants={
        "no_norm": (
            _read(norm_each=False),
            "The final norm is missing. The head has only ever seen normalised tokens; before the "
            "norm they are of another size, another for each layer. norm(x), then head.",
        ),
        "norm_for_the_last_only": (
            _read(norm_each="last"),
            "Only the last layer is normalised. To the head, each layer should look like the last "
            "one: norm for all of them.",
        ),
        "mean_of_all_tokens": (
            _read(pool=lambda x: x.mean(dim=1)),
            "You read the mean of all tokens. This model's head reads token 0, the class token.",
        ),
        "mean_of_the_patches": (
            _read(pool=lambda x: x[:, 1:].mean(dim=1)),
            "You read the mean of the patches, as models without a class token do. This model's "
            "head reads token 0.",
        ),
        "log_probabilities": (
            _read(softmax=False, finish=lambda logits: logits.log_softmax(dim=-1)),
            "These are logarithms of probabilities: none is above 0. softmax, not log_softmax.",
        ),
        "first_image": (
            lambda intermediates, norm, head: torch.stack(
                [head(norm(x[0])).softmax(dim=-1) for x in intermediates], dim=1
            ),
            "x[0] is the first *image*, with all of its tokens. The class token of every image is "
            "x[:, 0].",
        ),
        "all_tokens": (
            lambda intermediates, norm, head: torch.stack(
                [head(norm(x)).softmax(dim=-1) for x in intermediates], dim=1
            ),
            "Every token is sent through the head. It has learned to read one: token 0 of each "
            "image.",
        ),
        "first_patch": (
            _read(pool=lambda x: x[:, 1]),
            "You read token 1. The class token stands first, at index 0.",
        ),
        "logits": (
            _read(softmax=False),
            "These are logits. Probabilities sum to 1 over the classes: softmax.",
        ),
        "softmax_over_images": (
            _read(axis=0),
            "The softmax runs over the images: each column sums to 1. It should run over the "
            "classes, the last axis.",
        ),
        "layers_first": (
            _read(stack=0),
            "The layers stand before the images: (L, B, K). Stack them along axis 1.",
        ),
        "added_up": (
            _read_running,
            "The layers are added up. That has been done already: what comes out of a block "
            "contains what went in (the residual path).",
        ),
    },
    accepted=[_read_at_once, _read_by_exponentials],
)

EXERCISES = [
    record_attention,
    patch_grid,
    rollout,
    occlusion_map,
    pointing_lift,
    mean_distance,
    read_every_layer,
]
