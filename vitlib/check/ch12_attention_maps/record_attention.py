"""12.1 record_attention: hooks on a model that never computes the weights."""

import torch
from einops import rearrange

import vitlib
from vitlib.attention import attention_weights
from vitlib.check.edit import edits
from vitlib.check.exercise import Cases, Exercise, call, fill, numbers
from vitlib.check.probing import draw


def record_attention(model, images):
    maps = []

    def keep(module, inputs, output):
        maps.append(inputs[0])

    modules = [block.attn for block in model.blocks]
    hooks = [module.attn_drop.register_forward_hook(keep) for module in modules]
    before = [module.fused for module in modules]
    for module in modules:
        module.fused = False
    with torch.no_grad():
        model(images)
    for module, hook, fused in zip(modules, hooks, before, strict=True):
        hook.remove()
        module.fused = fused
    return torch.stack(maps, dim=1)


def computed_again(model, images):
    """From what goes into each attention module; the kernel may stay fused."""
    maps = []

    def keep(module, inputs):
        qkv = module.qkv(inputs[0]).unflatten(-1, (3, module.num_heads, -1))  # (B, T, 3, H, d)
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.mT * module.scale
        maps.append(scores.softmax(dim=-1))

    hooks = [block.attn.register_forward_pre_hook(keep) for block in model.blocks]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(maps, dim=1)


def block_by_block(model, images):
    maps = []
    with torch.no_grad():
        x = model._tokens(images)
        for block in model.blocks:
            qkv = block.attn.qkv(block.norm1(x))
            q, k, _ = rearrange(qkv, "b t (n h d) -> n b h t d", n=3, h=block.attn.num_heads)
            maps.append(attention_weights(q, k, block.attn.scale))
            x = block(x)
    return torch.stack(maps, dim=1)


def cases(answer) -> Cases:
    def model(seed=0, **options):
        made = vitlib.VisionTransformer(
            img_size=(4, 6), patch_size=2, in_chans=1, num_classes=3, embed_dim=12, depth=3,
            num_heads=2, mlp_ratio=1, **options,
        )  # fmt: skip
        return fill(made, seed).eval()

    def run(model, images=2, seed=0):
        return call(answer, model, numbers(images, 1, 4, 6, seed=seed))

    def after():
        looked_at = model()
        run(looked_at)
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in looked_at.modules())
        return {
            "hooks left in the model": hooks,
            "the fused kernel": [block.attn.fused for block in looked_at.blocks],
        }

    def twice():
        looked_at = model()
        run(looked_at, seed=1)
        return run(looked_at, images=3, seed=2)

    def training():
        return run(model(attn_drop_rate=0.5).train())[:, 0]  # before any dropout

    def half_fused():
        looked_at = model()
        looked_at.blocks[1].attn.fused = False  # somebody else has switched it off
        return run(looked_at)

    yield "2 images, 3 layers, 2 heads, 7 tokens", lambda: run(model())
    yield "the model afterwards", after
    yield "a second call, with 3 images", twice
    yield "a model whose second block is not fused to begin with", half_fused
    yield "a model with a scale of its own", lambda: run(model(qk_scale=0.9), images=1)
    yield "layer 0 of a model in training, with dropout on the weights", training


MUTANTS = edits(record_attention, """
the_kernel_is_fused: module.fused = False → pass
    Your list is empty, and torch.stack complains of it. While `fused` is on, the kernel never makes
    the weights, attn_drop is never called, and a hook on it waits for ever. Set block.attn.fused =
    False for the time of the forward pass.
an_empty_list: module.fused = False → pass
and: torch.stack(maps, dim=1) → maps
    An empty list comes back. While `fused` is on, the kernel never makes the weights, so a hook on
    attn_drop is never called. Set block.attn.fused = False for the time of the forward pass, and
    stack what is caught.
hooks_left: hook.remove() → pass
    The weights are right, but the hooks stay in the model. Each call adds more of them, and they
    keep tensors alive. Keep what register_forward_hook returns, and call its remove().
always_fused_again: module.fused = fused → module.fused = True
    The weights are right, and the fused kernel is on afterwards in every block, also where it was
    off before. Keep what `fused` was, and restore that.
one_hook_left: hook.remove() → hook.remove() if hook is hooks[-1] else None
    Only the last hook is removed: there is one on every block. Keep all that register_forward_hook
    returns in a list, and call remove() on each.
others_hooks_removed: hook.remove() → module.attn_drop._forward_hooks.clear()
    The weights are right, but hooks of other people are gone, too. Keep what register_forward_hook
    returns, and remove that alone.
eval_mode_left: with torch → model.eval()
→ with torch
    The model is left in eval mode. A training run would go on without dropout, silently. It need
    not be switched at all: the hook's `inputs[0]` are the weights before dropout. Or keep
    model.training, and restore it.
training_mode_left: return torch → model.train()
→ return torch
    The model is left in training mode, also where it was in eval mode before. It need not be
    switched at all: the hook's `inputs[0]` are the weights before dropout.
dropout_replaced: module.fused = fused → module.fused, module.attn_drop = fused, torch.nn.Identity()
    The dropout layer of each attention module is not the one that was there. A run that goes on has
    no dropout there any more. A hook sees what passes without exchanging anything; or put the old
    layer back.
layers_in_one_axis: stack( → cat(
    Layers and heads stand in one axis. torch.stack makes a new axis for the layers, torch.cat does
    not.
switched_off_too_late: module.fused = False → pass
and: module.fused = fused → module.fused = False
    The fused kernel is switched off only after the forward pass. While it is on, the weights are
    never made, and your list stays empty. Set fused = False before model(images), and restore it
    after that.
layers_behind_the_heads: dim=1 → dim=2
    The layers stand behind the heads: (B, H, L, T, T). Stack them along axis 1.
layers_averaged: dim=1) → dim=1).mean(dim=1)
    The layers are averaged. Keep them: (B, L, H, T, T).
first_layer_only: stack(maps → stack(maps[:1]
    Only the first layer comes back. All are wanted: a hook on every block.
layers_backwards: stack(maps → stack(maps[::-1]
    The layers run backwards. They are caught in the order in which they run: keep it.
softmax_again: stack(maps, dim=1) → stack(maps, dim=1).softmax(dim=-1)
    The weights go through a softmax a second time. What comes into attn_drop has been through one.
patches_only: dim=1) → dim=1)[..., 1:, 1:]
    The class token is cut off. All weights are asked for, (B, L, H, T, T), with all tokens.
tuples_kept: inputs[0] → inputs
    A hook is given its inputs as a tuple, also where there is one: keep inputs[0].
fused_left_off: module.fused = fused → pass
    The weights are right, but the fused kernel is off afterwards: the model is slower from now on,
    and nobody knows why. Restore `fused`.
nothing_restored: hook.remove() → pass
and: module.fused = fused → pass
    The weights are right, but the model is not what it was: the hooks are still in it, and the
    fused kernel is off. Remove the one, restore the other.
what_attention_gives: .attn_drop →
and: inputs[0] → output
    This is what comes out of the attention modules: (B, T, D), tokens that have been mixed already.
    The weights pass through attn_drop, further inside.
after_dropout: inputs[0] → output
    You keep what comes out of the dropout layer. In training, half of that may be zeros, and the
    rest is scaled up. The weights are what goes in: the hook's `inputs[0]`.
layers_first: dim=1 → dim=0
    The layers stand before the images: (L, B, H, T, T). Stack them along axis 1.
heads_averaged: dim=1) → dim=1).mean(dim=2)
    The heads are averaged. Keep them: what is averaged here cannot be told apart later.
last_layer_only: stack(maps → stack(maps[-1:]
    Only the last layer comes back. All are wanted, in the order in which they run.
last_layer_only_without_its_axis: torch.stack(maps, dim=1) → maps[-1]
    Only the last layer comes back. All are wanted, in the order in which they run.
transposed: dim=1) → dim=1).mT
    Rows and columns of the tables have changed places. Row i is the token that looks, and sums to
    1; column j is the token that is looked at.
the_class_tokens_row: dim=1) → dim=1)[:, :, :, 0]
    Only the class token's row comes back. All tokens look at all tokens: keep both axes of length
    T.
""") | edits(computed_again, """
scores: .softmax(dim=-1) →
    These are scores, not weights: rows do not sum to 1. The softmax is missing.
softmax_over_queries: dim=-1 → dim=-2
    The columns sum to 1, and the rows should: the softmax runs over the keys, the last axis.
queries_and_keys_swapped: q, k, _ → k, q, _
    Queries and keys have changed places. The first third of what qkv gives is the queries, and the
    rows of the table belong to them.
scale_forgotten: * module.scale →
    The scores are not scaled, so the weights are too sharp. The module keeps its factor in `scale`.
scale_of_the_head: module.scale → q.shape[-1] ** -0.5
    The scores are scaled with a number of your own. A model may have another: each attention module
    keeps the one that it uses in `scale`.
""") | edits(block_by_block, """
norm_forgotten: block.norm1(x) → x
    The weights are computed from what goes into the *block*. Its attention sees the tokens after
    `norm1`.
""")  # fmt: skip


def probe(answer):
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


EXERCISE = Exercise(
    name="record_attention",
    chapter="12_attention_maps",
    task="record_attention(model, images) -> (B, L, H, T, T), the attention weights of every "
    "block; afterwards the model has no new hooks, and `fused` is what it was",
    reference=record_attention,
    cases=cases,
    mutants=MUTANTS,
    accepted=[computed_again, block_by_block],
    probe=probe,
)
