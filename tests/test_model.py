"""VisionTransformer: what it computes, what it is made of, and what it refuses."""

import copy
import inspect
import json
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vitlib import (
    PatchEmbed,
    VisionTransformer,
    patchify,
    resample_pos_embed,
    sincos_2d,
    unpatchify,
)
from vitlib.blocks import DropPath, LayerScale
from vitlib.checkpoints.settings import arguments_of

TINY = {
    "img_size": (8, 12), "patch_size": 4, "in_chans": 3, "num_classes": 5,
    "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0,
}  # fmt: skip
VARIANTS = {
    "plain": {},
    "distilled": {"distilled": True},
    "registers": {"reg_tokens": 3},
    "distilled registers": {"distilled": True, "reg_tokens": 2},
    "average": {"global_pool": "avg", "reg_tokens": 1},
    "representation": {"representation_size": 7},
    "average representation": {"global_pool": "avg", "representation_size": 7},
    "sincos": {"pos_embed": "sincos"},
    "no positions": {"pos_embed": "none"},
    "layer scale": {"init_values": 0.1},
    "no qkv bias": {"qkv_bias": False},
    "qk_scale": {"qk_scale": 0.1},
    "unfold": {"embed_layer": partial(PatchEmbed, mode="unfold")},
    "other layers": {"norm_layer": nn.RMSNorm, "act_layer": nn.SiLU},
    "dropout": {"drop_rate": 0.1, "attn_drop_rate": 0.1, "drop_path_rate": 0.1},
    "grey": {"in_chans": 1},
    "dynamic": {"dynamic_img_size": True},
    "dynamic, not anti-aliased": {"dynamic_img_size": True, "pos_antialias": False},
    "positions of patches alone": {"no_embed_class": True},
    "no head": {"num_classes": 0},
    "jax": {"weight_init": "jax"},
    "distilled jax_nlhb": {"weight_init": "jax_nlhb", "distilled": True},
}
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(**options):
    return VisionTransformer(**{**TINY, **options})


def lively(model):
    """Every parameter random, as after training: nothing is zero, and no two are equal."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def images_for(model, batch=2, **kwargs):
    return torch.randn(batch, model.in_chans, *model.img_size, **kwargs)


# What it computes


def test_every_option_is_tried():
    tried = {option for options in VARIANTS.values() for option in options} | TINY.keys()
    untried = inspect.signature(VisionTransformer).parameters.keys() - tried
    assert not untried, f"VARIANTS in this file wants a row for each option: {untried}"


@every_variant
def test_an_option_that_adds_or_drops_weights_is_read_off_them(options):
    """By `arguments_of`, as a file of weights alone says nothing else."""
    weights = make(**options).state_dict()
    if weights.keys() == make().state_dict().keys() or "norm_layer" in options:
        return
    told = arguments_of(weights) | {"init_values": options.get("init_values")}
    untold = {name for name in options if told.get(name) != options[name]} - {"weight_init"}
    assert not untold, f"arguments_of in checkpoints/settings.py says nothing of {untold}"


@every_variant
def test_shapes_and_types_are_those_of_eval_in_training_too(options):
    model = make(**options)
    tokens = model.num_prefix_tokens + 6
    width = model.num_classes or model.num_features
    for mode in (True, False):
        model.train(mode)
        for batch in (3, 1, 0):
            images = images_for(model, batch)
            assert model(images).shape == (batch, width)
            features = model.forward_features(images)
            assert features.shape == (batch, tokens, 16)
            assert model.forward_head(features).shape == (batch, width)
            pre_logits = model.forward_head(features, pre_logits=True)
            assert pre_logits.shape == (batch, model.num_features)
            assert [x.shape for x in model.forward_intermediates(images)] == [features.shape] * 2


@pytest.mark.parametrize("pos_embed", ["learned", "sincos", "none"])
def test_tokens_stand_in_order_with_positions_on_all(pos_embed):
    model = lively(make(distilled=True, reg_tokens=2, pos_embed=pos_embed)).double()
    images = images_for(model, dtype=torch.float64)
    grid = torch.cat([torch.zeros(4, 16), sincos_2d(16, (2, 3))])
    positions = {"learned": model.pos_embed, "sincos": grid.double(), "none": torch.zeros(1)}
    prefix = torch.cat([model.cls_token, model.dist_token, model.reg_token], dim=1)
    x = torch.cat([prefix.expand(2, -1, -1), model.patch_embed(images)], dim=1)
    x = x + positions[pos_embed]
    for block, recorded in zip(model.blocks, model.forward_intermediates(images), strict=True):
        x = block(x)
        torch.testing.assert_close(recorded, x)
    features = F.layer_norm(x, (16,), model.norm.weight, model.norm.bias, eps=1e-6)
    torch.testing.assert_close(model.forward_features(images), features)
    class_logits = features[:, 0] @ model.head.weight.T + model.head.bias
    dist_logits = features[:, 1] @ model.head_dist.weight.T + model.head_dist.bias
    torch.testing.assert_close(model(images, return_dist=True), (class_logits, dist_logits))
    torch.testing.assert_close(model(images), (class_logits + dist_logits) / 2)
    pre_logits = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(pre_logits, (features[:, 0] + features[:, 1]) / 2)


def test_token_pooling_reads_the_class_token_through_the_representation_layer():
    model = lively(make(representation_size=7, reg_tokens=1))
    features = torch.randn(2, 8, 16)
    fc = model.pre_logits.fc
    hidden = torch.tanh(features[:, 0] @ fc.weight.T + fc.bias)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), hidden)
    logits = hidden @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model.forward_head(features), logits)


def test_average_pooling_reads_the_patches_and_normalises_after():
    model = lively(make(global_pool="avg", reg_tokens=2))
    images = images_for(model)
    features = model.forward_features(images)
    torch.testing.assert_close(features, model.forward_intermediates(images)[-1])  # not normalised
    mean = features[:, 3:].mean(dim=1)
    pooled = F.layer_norm(mean, (16,), model.fc_norm.weight, model.fc_norm.bias, eps=1e-6)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), pooled)
    torch.testing.assert_close(model(images), model.head(pooled))


@every_variant
def test_an_image_does_not_depend_on_the_others_in_its_batch(options):
    model = lively(make(**options)).double().eval()
    images = images_for(model, 3, dtype=torch.float64)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone)


@pytest.mark.parametrize("global_pool", ["token", "avg"])
@pytest.mark.parametrize("pos_embed", ["none", "learned", "sincos"])
def test_without_positions_the_order_of_patches_does_not_matter(pos_embed, global_pool):
    model = lively(make(pos_embed=pos_embed, global_pool=global_pool)).double()
    images = images_for(model, dtype=torch.float64)
    shuffled = unpatchify(patchify(images, 4)[:, torch.tensor([3, 0, 5, 1, 4, 2])], 4, (8, 12))
    difference = (model(images) - model(shuffled)).abs().max()
    assert difference < 1e-12 if pos_embed == "none" else difference > 1e-3


def test_both_patch_modes_are_the_same_model():
    conv = lively(make()).double()
    unfold = make(embed_layer=partial(PatchEmbed, mode="unfold")).double()
    unfold.load_state_dict(conv.state_dict())
    images = images_for(conv, dtype=torch.float64)
    torch.testing.assert_close(unfold(images), conv(images))


def test_low_precision_stays_near_full_precision():
    model = lively(make(dynamic_img_size=True)).double()
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    logits = model(images)
    for dtype, atol in [(torch.float32, 1e-4), (torch.bfloat16, 0.5), (torch.float16, 0.1)]:
        low = copy.deepcopy(model).to(dtype)(images.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), logits, rtol=0, atol=atol)


@pytest.mark.parametrize("pos_embed", ["learned", "sincos"])
def test_dynamic_img_size_resamples_the_positions(pos_embed):
    dynamic = lively(make(dynamic_img_size=True, reg_tokens=1, pos_embed=pos_embed)).double()
    state = dynamic.state_dict()
    state["pos_embed"] = resample_pos_embed(state["pos_embed"], (5, 4), (2, 3), 2)
    fixed = make(img_size=(20, 16), reg_tokens=1, pos_embed=pos_embed).double()
    fixed.load_state_dict(state)
    images = torch.randn(2, 3, 20, 16, dtype=torch.float64)
    torch.testing.assert_close(dynamic(images), fixed(images))


def test_dynamic_img_size_resamples_with_or_without_anti_aliasing():
    images = torch.randn(2, 3, 4, 8)
    answers = []
    for antialias in (True, False):
        torch.manual_seed(3)
        dynamic = lively(make(img_size=(20, 32), dynamic_img_size=True, pos_antialias=antialias))
        state = dynamic.state_dict()
        small = resample_pos_embed(state["pos_embed"], (1, 2), (5, 8), antialias=antialias)
        fixed = make(img_size=(4, 8))
        fixed.load_state_dict(state | {"pos_embed": small})
        torch.testing.assert_close(dynamic(images), fixed(images))
        answers.append(dynamic(images))
    assert not torch.allclose(*answers, rtol=0.1)


@pytest.mark.parametrize("pos_embed", ["learned", "sincos", "none"])
def test_a_token_without_a_position_is_a_token_whose_position_is_zero(pos_embed):
    options = {"distilled": True, "reg_tokens": 2, "pos_embed": pos_embed, "dynamic_img_size": True}
    bare, full = lively(make(no_embed_class=True, **options)), make(**options)
    assert (bare.num_prefix_tokens, bare.num_prefix_positions, full.num_prefix_positions) == (
        4,
        0,
        4,
    )
    state = bare.state_dict()
    if pos_embed != "none":
        assert state["pos_embed"].shape == (1, 6, 16)
        state["pos_embed"] = torch.cat([torch.zeros(1, 4, 16), state["pos_embed"]], dim=1)
    full.load_state_dict(state)
    for size in ((8, 12), (16, 8)):
        images = torch.randn(2, 3, *size)
        torch.testing.assert_close(bare(images), full(images))


def test_dynamic_img_size_changes_nothing_at_the_native_size():
    fixed, dynamic = lively(make()), make(dynamic_img_size=True)
    dynamic.load_state_dict(fixed.state_dict())
    images = images_for(fixed)
    assert torch.equal(fixed(images), dynamic(images))


def test_rates_are_off_in_eval_and_on_in_training():
    for rate in ("drop_rate", "attn_drop_rate", "drop_path_rate"):
        model = lively(make(**{rate: 0.5}))
        images = images_for(model)
        assert not torch.allclose(model(images), model(images)), rate
        model.eval()
        assert torch.equal(model(images), model(images)), rate


def test_drop_rate_acts_on_the_embeddings_too():
    tokens = lively(make(drop_rate=0.5, depth=0, norm_layer=nn.Identity))
    images = images_for(tokens, 50)
    dropped = tokens.forward_features(images) == 0
    assert 0.45 < dropped.float().mean() < 0.55
    assert not (tokens.eval().forward_features(images) == 0).any()


@every_variant
def test_copies_and_pickles_compute_the_same(options):
    model = make(**options).eval()
    images = images_for(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.config.keys() == model.config.keys()
        assert torch.equal(twin(images), model(images))


# Learning


@every_variant
def test_every_parameter_gets_a_gradient(options):
    model = make(**options)
    for head in {"head", "head_dist"} & dict(model.named_children()).keys():
        for parameter in getattr(model, head).parameters():
            nn.init.normal_(parameter)  # the "jax" heads start at 0 and would pass nothing back
    model(images_for(model, 8)).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distilled": True, "weight_init": "jax_nlhb"},
        {"global_pool": "avg", "pos_embed": "sincos", "reg_tokens": 1, "representation_size": 12},
    ],
)
def test_one_batch_is_overfitted(options):
    model = make(**options)
    images, labels = images_for(model, 20), torch.arange(20) % 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert (model(images).argmax(dim=1) == labels).all()


# What it is made of


def block_keys(i, dim, hidden):
    return {
        f"blocks.{i}.norm1.weight": (dim,),
        f"blocks.{i}.norm1.bias": (dim,),
        f"blocks.{i}.attn.qkv.weight": (3 * dim, dim),
        f"blocks.{i}.attn.qkv.bias": (3 * dim,),
        f"blocks.{i}.attn.proj.weight": (dim, dim),
        f"blocks.{i}.attn.proj.bias": (dim,),
        f"blocks.{i}.norm2.weight": (dim,),
        f"blocks.{i}.norm2.bias": (dim,),
        f"blocks.{i}.mlp.fc1.weight": (hidden, dim),
        f"blocks.{i}.mlp.fc1.bias": (hidden,),
        f"blocks.{i}.mlp.fc2.weight": (dim, hidden),
        f"blocks.{i}.mlp.fc2.bias": (dim,),
    }


PLAIN_KEYS = {
    "cls_token": (1, 1, 16),
    "pos_embed": (1, 7, 16),
    "patch_embed.proj.weight": (16, 3, 4, 4),
    "patch_embed.proj.bias": (16,),
    **block_keys(0, 16, 32),
    **block_keys(1, 16, 32),
    "norm.weight": (16,),
    "norm.bias": (16,),
    "head.weight": (5, 16),
    "head.bias": (5,),
}


@pytest.mark.parametrize(
    ("options", "added", "removed"),
    [
        ({}, {}, []),
        (
            {"distilled": True},
            {
                "dist_token": (1, 1, 16),
                "pos_embed": (1, 8, 16),
                "head_dist.weight": (5, 16),
                "head_dist.bias": (5,),
            },
            [],
        ),
        ({"reg_tokens": 3}, {"reg_token": (1, 3, 16), "pos_embed": (1, 10, 16)}, []),
        (
            {"reg_tokens": 3, "no_embed_class": True},
            {"reg_token": (1, 3, 16), "pos_embed": (1, 6, 16)},
            [],
        ),
        (
            {"global_pool": "avg"},
            {"fc_norm.weight": (16,), "fc_norm.bias": (16,)},
            ["norm.weight", "norm.bias"],
        ),
        (
            {"representation_size": 7},
            {"pre_logits.fc.weight": (7, 16), "pre_logits.fc.bias": (7,), "head.weight": (5, 7)},
            [],
        ),
        (
            {"init_values": 0.1},
            {f"blocks.{i}.ls{j}.gamma": (16,) for i in (0, 1) for j in (1, 2)},
            [],
        ),
        ({"pos_embed": "sincos"}, {}, []),
        ({"pos_embed": "none"}, {}, ["pos_embed"]),
        ({"num_classes": 0}, {}, ["head.weight", "head.bias"]),
        ({"qkv_bias": False}, {}, ["blocks.0.attn.qkv.bias", "blocks.1.attn.qkv.bias"]),
        (
            {"patch_size": (2, 3)},
            {"patch_embed.proj.weight": (16, 3, 2, 3), "pos_embed": (1, 17, 16)},
            [],
        ),
        ({"in_chans": 1}, {"patch_embed.proj.weight": (16, 1, 4, 4)}, []),
    ],
)
def test_weights_bear_timms_names(options, added, removed):
    expected = {k: v for k, v in {**PLAIN_KEYS, **added}.items() if k not in removed}
    state = make(**options).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


@every_variant
def test_config_holds_what_builds_the_model_again(options):
    model = make(**options)
    parameters = inspect.signature(VisionTransformer).parameters.keys()
    assert model.config.keys() | {"embed_layer"} == parameters
    twin = VisionTransformer(**model.config)
    twin.load_state_dict(model.state_dict())
    images = images_for(model)
    assert torch.equal(twin.eval()(images), model.eval()(images))


def test_config_of_default_layers_is_json():
    config = make().config
    assert "embed_layer" not in config  # PatchEmbed, which no file could hold
    assert (config["norm_layer"], config["act_layer"]) == (None, None)
    assert json.loads(json.dumps(config)) == {**config, "img_size": [8, 12]}


def test_drop_path_grows_linearly_over_depth():
    model = make(depth=5, drop_path_rate=0.2)
    for part in ("drop_path1", "drop_path2"):
        paths = [getattr(block, part) for block in model.blocks]
        rates = [path.drop_prob if isinstance(path, DropPath) else 0.0 for path in paths]
        assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_options_reach_their_modules():
    model = make(
        qk_scale=0.3, drop_rate=0.1, attn_drop_rate=0.2, init_values=0.01, mlp_ratio=1.5,
        norm_layer=partial(nn.LayerNorm, eps=0.5), act_layer=nn.ReLU,
    )  # fmt: skip
    assert model.pos_drop.p == 0.1
    assert model.norm.eps == 0.5
    for block in model.blocks:
        assert block.attn.scale == 0.3
        assert (block.attn.proj_drop.p, block.mlp.drop1.p, block.mlp.drop2.p) == (0.1, 0.1, 0.1)
        assert block.attn.attn_drop.p == 0.2
        assert isinstance(block.ls1, LayerScale)
        assert (block.ls2.gamma == 0.01).all()
        assert block.mlp.fc1.out_features == 24
        assert (block.norm1.eps, block.norm2.eps) == (0.5, 0.5)
        assert isinstance(block.mlp.act, nn.ReLU)


def test_defaults_are_the_papers():
    model = make()
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-6] * 5
    assert [block.mlp.act.approximate for block in model.blocks] == ["none"] * 2
    assert all(block.attn.qkv.bias is not None for block in model.blocks)
    assert not any(isinstance(m, LayerScale | DropPath) for m in model.modules())


def test_embed_layer_is_called_with_names():
    class Stem(nn.Module):
        def __init__(self, **kwargs):
            super().__init__()
            self.kwargs, self.embed = kwargs, PatchEmbed(**kwargs)

        def forward(self, images):
            return 2 * self.embed(images)

    model = make(embed_layer=Stem)
    expected = {"img_size": (8, 12), "patch_size": 4, "in_chans": 3, "embed_dim": 16}
    assert model.patch_embed.kwargs == expected
    assert model.config["embed_layer"] is Stem
    assert model(images_for(model)).shape == (2, 5)
    assert make(embed_layer=Stem, dynamic_img_size=True).patch_embed.kwargs["img_size"] is None


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"cls_token", "pos_embed"}),
        (
            {"distilled": True, "reg_tokens": 1},
            {"cls_token", "dist_token", "reg_token", "pos_embed"},
        ),
        ({"pos_embed": "sincos"}, {"cls_token"}),
        ({"pos_embed": "none"}, {"cls_token"}),
    ],
)
def test_no_weight_decay_names_tokens_and_positions(options, names):
    assert make(**options).no_weight_decay() == names


def test_sincos_positions_are_fixed():
    model = make(pos_embed="sincos")
    assert not model.pos_embed.requires_grad
    assert "pos_embed" not in dict(model.named_parameters())


# Another head


@pytest.mark.parametrize(
    "options",
    [{}, {"distilled": True}, {"representation_size": 7}, {"global_pool": "avg"}],
    ids=str,
)
def test_reset_classifier_replaces_the_heads_and_nothing_else(options):
    model = make(**options).double()
    model.classes = tuple("abcde")
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("head")}
    model.reset_classifier(9)
    images = images_for(model, dtype=torch.float64)
    assert model(images).shape == (2, 9)
    assert (model.num_classes, model.config["num_classes"], model.classes) == (9, 9, None)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    heads = {k: tuple(v.shape) for k, v in after.items() if k not in before}
    width = options.get("representation_size", 16)
    assert heads == {
        f"{name}.{kind}": shape
        for name in (["head", "head_dist"] if options.get("distilled") else ["head"])
        for kind, shape in [("weight", (9, width)), ("bias", (9,))]
    }
    assert after["head.weight"].dtype == torch.float64
    classifier = model.get_classifier()
    if options.get("distilled"):
        assert classifier == (model.head, model.head_dist)
    else:
        assert classifier is model.head
    model.reset_classifier(0)
    pre_logits = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images), pre_logits)
    model.reset_classifier(4)  # and back
    assert model(images).shape == (2, 4)


def test_reset_classifier_starts_heads_as_the_scheme_says():
    model = lively(make(weight_init="nlhb", distilled=True))
    model.reset_classifier(20)
    for head in model.get_classifier():
        assert not head.weight.any()
        torch.testing.assert_close(head.bias, torch.full((20,), -torch.tensor(20.0).log()))
    model = make()
    model.reset_classifier(1000)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.head.bias.any()


@pytest.mark.parametrize(("old", "new"), [("token", "avg"), ("avg", "token")])
def test_reset_classifier_changes_the_pooling_and_keeps_the_norm(old, new):
    model, twin = lively(make(global_pool=old)), make(global_pool=new)
    model.reset_classifier(5, global_pool=new)
    assert (model.global_pool, model.config["global_pool"]) == (new, new)
    state = model.state_dict()
    twin.load_state_dict(state)  # strict: the norm now has the other name
    images = images_for(model)
    assert torch.equal(model(images), twin(images))
    assert state["fc_norm.weight" if new == "avg" else "norm.weight"].std() > 0.1  # the trained one


def test_reset_classifier_refuses_and_leaves_the_model_alone():
    model = make(distilled=True)
    before = copy.deepcopy(model.config)
    head = model.head
    with pytest.raises(ValueError, match="num_classes must be at least 0, got -1"):
        model.reset_classifier(-1)
    with pytest.raises(ValueError, match=r"global_pool must be one of .* got 'max'"):
        model.reset_classifier(3, global_pool="max")
    with pytest.raises(ValueError, match='needs global_pool="token", got "avg"'):
        model.reset_classifier(3, global_pool="avg")
    assert model.config == before
    assert model.head is head


# What it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (8, 10)}, "image size 8×10 is not divisible by patch size 4×4: 0 rows and 2"),
        ({"img_size": 0}, r"img_size must be a positive integer or \(height, width\), got 0"),
        ({"patch_size": (4, -4)}, r"patch_size must be a positive integer .* got \(4, -4\)"),
        ({"in_chans": 0}, "in_chans must be at least 1, got 0"),
        ({"embed_dim": 0}, "embed_dim must be at least 1, got 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"num_heads": 3}, "num_heads must divide the width 16, got 3"),
        ({"depth": -1}, "depth must be at least 0, got -1"),
        ({"num_classes": -5}, "num_classes must be at least 0, got -5"),
        ({"reg_tokens": -2}, "reg_tokens must be at least 0, got -2"),
        ({"representation_size": -7}, "representation_size must be at least 0, got -7"),
        ({"mlp_ratio": 0.05}, "mlp_ratio 0.05 leaves no hidden channel at width 16"),
        ({"drop_rate": 1.0}, "drop_rate must be at least 0 and below 1, got 1.0"),
        ({"attn_drop_rate": -0.5}, "attn_drop_rate must be at least 0 and below 1, got -0.5"),
        ({"drop_path_rate": 1.5}, "drop_path_rate must be at least 0 and below 1, got 1.5"),
        (
            {"pos_embed": "rope"},
            r"pos_embed must be one of \('learned', 'sincos', 'none'\), got 'rope'",
        ),
        ({"global_pool": "max"}, r"global_pool must be one of \('token', 'avg'\), got 'max'"),
        ({"weight_init": "xavier"}, "unknown weight_init 'xavier'"),
        (
            {"pos_embed": "sincos", "embed_dim": 18},
            "sin-cos positions need an embed_dim divisible by 4, got 18",
        ),
        (
            {"act_layer": nn.GELU()},
            r"act_layer must be a class, such as GELU, got an instance, GELU\(...\)",
        ),
        ({"norm_layer": nn.LayerNorm(16)}, "norm_layer must be a class, such as LayerNorm"),
        ({"embed_layer": PatchEmbed()}, "embed_layer must be a class, such as PatchEmbed"),
        (
            {"distilled": True, "representation_size": 7},
            "representation_size=7 cannot be combined with distilled=True",
        ),
        (
            {"distilled": True, "global_pool": "avg"},
            'distilled=True reads two tokens: it needs global_pool="token", got "avg"',
        ),
    ],
)
def test_arguments_that_make_no_model_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 12), r"\(B, C, H, W\), got \(3, 8, 12\); .* images\[None\]"),
        (torch.zeros(2, 1, 8, 12), "expected 3 channels, got 1"),
        (torch.zeros(2, 8, 12, 3), r"expected 3 channels, got 8 .*permute\(0, 3, 1, 2\)"),
        (torch.zeros(2, 3, 12, 8), "expected images of 8×12 pixels, got 12×8: .*dynamic_img_size"),
        (torch.zeros(2, 3, 8, 12, dtype=torch.uint8), "expected floating-point images"),
    ],
)
@pytest.mark.parametrize("embed_layer", [PatchEmbed, lambda **_: nn.Identity()])
@pytest.mark.usefixtures("unchecked")
def test_images_that_do_not_fit_are_refused(images, message, embed_layer):
    with pytest.raises(ValueError, match=message):
        make(embed_layer=embed_layer)(images)


def test_dynamic_img_size_refuses_what_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="image size 9×12 is not divisible by patch size 4×4"):
        make(dynamic_img_size=True)(torch.zeros(1, 3, 9, 12))


def test_return_dist_needs_a_distilled_model():
    model = make()
    with pytest.raises(ValueError, match=r"return_dist=True needs .* distilled=True"):
        model(images_for(model), return_dist=True)


def test_an_embed_layer_with_another_number_of_tokens_is_refused():
    class Fewer(PatchEmbed):
        def forward(self, images):
            return super().forward(images)[:, 1:]

    model = make(embed_layer=Fewer)
    with pytest.raises(ValueError, match=r"embed_layer made \d+ tokens of an image of \d+×\d+"):
        model(images_for(model))


@pytest.mark.parametrize(("name", "value"), [("depth", 4.5), ("embed_dim", "16")])
def test_whole_numbers_are_asked_for(name, value, unchecked):
    with pytest.raises(ValueError, match=f"{name} must be a whole number.*{value}"):
        make(**{name: value})


def test_an_empty_pool_name_is_refused():
    with pytest.raises(ValueError, match="global_pool must be one of"):
        make().reset_classifier(3, "")
