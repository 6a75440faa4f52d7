"""Names in five dialects: translation and refusals. Real models of peers are in test_parity."""

import itertools
import re

import numpy as np
import pytest
import torch
from checkpoints.spellings import (
    DEPTH,
    HEADS,
    SPELLINGS,
    WIDTH,
    W,
    google,
    hugging_face,
    timm_names,
    torchvision,
    vit_pytorch,
)
from checkpoints.test_wrappers import under
from torch import nn

from vitlib import VisionTransformer
from vitlib.checkpoints import load_pretrained
from vitlib.checkpoints.dialects import SOURCES, convert_state_dict, detect_source, translate
from vitlib.checkpoints.tables import DIALECTS


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_weights(spelling):
    state_dict, source = SPELLINGS[spelling]
    before = list(state_dict)
    translation = translate(state_dict)
    assert translation.source == source == detect_source(state_dict)
    assert translation.weights.keys() == W.keys()
    for name, tensor in W.items():
        assert torch.equal(translation.weights[name], tensor), name
        assert translation.weights[name].is_contiguous(), name
    assert list(state_dict) == before
    assert (translation.extra, translation.left_out) == ((), {})
    files_names = [name for names in translation.origins.values() for name in names]
    assert set(files_names) == set(state_dict)
    assert translation.operations.keys() == translation.origins.keys() == W.keys()
    assert all(torch.equal(t, W[n]) for n, t in convert_state_dict(state_dict, source).items())


# --- What is done to the numbers ------------------------------------------------------------------


def test_q_k_and_v_are_joined_in_this_order_whatever_the_files_order():
    names = [f"encoder.layer.3.attention.attention.{n}.weight" for n in ("query", "key", "value")]
    tensors = [torch.full((2, 2), float(n)) for n in (1, 2, 3)]
    for order in itertools.permutations(range(3)):
        translation = translate({names[n]: tensors[n] for n in order}, "hf")
        weight = translation.weights["blocks.3.attn.qkv.weight"]
        assert weight[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
        assert translation.origins["blocks.3.attn.qkv.weight"] == tuple(names)
        assert translation.operations["blocks.3.attn.qkv.weight"] == "joined"


def test_flax_kernels_come_into_pytorchs_order():
    """(D, H, d) sums over D and (H, d, D) over H and d: rows of the matrix are outputs."""
    rng = np.random.default_rng(0)
    block = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/"
    arrays = {f"{block}{n}/kernel": rng.normal(size=(6, 2, 3)) for n in ("query", "key", "value")}
    arrays[f"{block}out/kernel"] = rng.normal(size=(2, 3, 6))
    arrays["embedding/kernel"] = rng.normal(size=(4, 5, 3, 6))
    translation = translate(arrays)
    x = torch.from_numpy(rng.normal(size=6))
    qkv = translation.weights["blocks.0.attn.qkv.weight"] @ x
    key = np.einsum("D,DHd->Hd", x, arrays[f"{block}key/kernel"])
    np.testing.assert_allclose(qkv[6:12], key.reshape(-1))
    out = np.einsum("Hd,HdD->D", x.reshape(2, 3), arrays[f"{block}out/kernel"])
    np.testing.assert_allclose(translation.weights["blocks.0.attn.proj.weight"] @ x, out)
    patch = torch.from_numpy(rng.normal(size=(4, 5, 3)))
    weight = translation.weights["patch_embed.proj.weight"]
    assert weight.shape == (6, 3, 4, 5)
    token = np.einsum("hwc,hwcD->D", patch, arrays["embedding/kernel"])
    np.testing.assert_allclose(weight.flatten(1) @ patch.permute(2, 0, 1).flatten(), token)
    assert translation.operations == {
        "blocks.0.attn.qkv.weight": "transposed, joined",
        "blocks.0.attn.proj.weight": "transposed",
        "patch_embed.proj.weight": "transposed",
    }


def test_operations_are_said():
    said = {name: translate(state_dict).operations for name, (state_dict, _) in SPELLINGS.items()}
    assert set(said["timm"].values()) == set(said["torchvision"].values()) == {""}
    assert said["transformers 5"]["blocks.1.attn.qkv.bias"] == "joined"
    assert said["vit_jax"]["blocks.1.attn.qkv.bias"] == "reshaped, joined"
    assert said["vit_jax"]["blocks.1.mlp.fc1.bias"] == ""
    assert said["vit_jax"]["head.weight"] == "transposed"
    scanned = said["big_vision, scanned"]
    assert scanned["blocks.1.attn.qkv.weight"] == "unstacked, transposed, joined"
    assert scanned["blocks.0.norm1.bias"] == "unstacked"


@pytest.mark.parametrize(("channels", "side"), [(1, 5), (3, 4), (3, 5)])
def test_a_linear_patch_projection_becomes_a_convolution(channels, side):
    conv = torch.randn(WIDTH, channels, side, side)
    translation = translate({**W, "patch_embed.proj.weight": conv.flatten(1)})
    assert torch.equal(translation.weights["patch_embed.proj.weight"], conv)
    assert translation.operations["patch_embed.proj.weight"] == "reshaped"


@pytest.mark.parametrize("columns", [3 * 4 * 5, 4 * 4, 2 * 5 * 5])
def test_a_linear_projection_of_unclear_patches_is_left_for_the_model_to_tell(columns):
    """16 columns are one channel in patches of 4, or four channels in patches of 2."""
    linear = torch.randn(WIDTH, columns)
    translation = translate({**W, "patch_embed.proj.weight": linear})
    assert torch.equal(translation.weights["patch_embed.proj.weight"], linear)
    assert translation.operations["patch_embed.proj.weight"] == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_is_kept(dtype):
    halves = {name: tensor.to(dtype) for name, tensor in hugging_face(W).items()}
    assert {t.dtype for t in convert_state_dict(halves).values()} == {dtype}


def test_numpy_arrays_are_copied_and_read_as_they_are_stored():
    arrays = {name: array.copy() for name, array in google(W).items()}
    kernel, bias = "embedding/kernel", "embedding/bias"
    brain_floats = W["patch_embed.proj.bias"].bfloat16()
    arrays[bias] = brain_floats.view(torch.int16).numpy().view("V2")  # as np.load gives them
    arrays["head/bias"] = arrays["head/bias"].astype(">f4")
    arrays[kernel].flags.writeable = False
    weights = convert_state_dict(arrays)
    assert torch.equal(weights["patch_embed.proj.bias"], brain_floats)
    assert torch.equal(weights["head.bias"], W["head.bias"])
    arrays["cls"][:] = 7
    assert not (weights["cls_token"] == 7).any()


# --- Variants -------------------------------------------------------------------------------------


def test_deit_is_told_from_timm_by_what_only_it_has():
    assert detect_source(timm_names(distilled=True)) == "deit"
    assert detect_source({"model": W}) == "timm"
    third = {**W, "blocks.0.gamma_1": torch.ones(WIDTH), "blocks.0.gamma_2": torch.zeros(WIDTH)}
    translation = translate(third)
    assert translation.source == "deit"
    assert torch.equal(translation.weights["blocks.0.ls1.gamma"], torch.ones(WIDTH))
    assert torch.equal(translation.weights["blocks.0.ls2.gamma"], torch.zeros(WIDTH))


def test_dinov2_and_mae_leave_out_what_serves_pre_training():
    tokens = {"mask_token": torch.randn(1, WIDTH), "register_tokens": torch.randn(1, 4, WIDTH)}
    decoder = {"decoder_blocks.0.norm1.bias": torch.randn(3), "decoder_pos_embed": torch.randn(3)}
    translation = translate({**W, **tokens, **decoder})
    assert translation.source == "deit"
    assert torch.equal(translation.weights["reg_token"], tokens["register_tokens"])
    assert translation.weights.keys() == W.keys() | {"reg_token"}
    assert translation.left_out == dict.fromkeys(
        ["mask_token", *decoder], "is only used in masked pre-training"
    )


def test_the_pooler_is_the_pre_training_head_only_where_no_classifier_passes_it_by():
    pooler = {f"pooler.dense.{kind}": torch.randn(3) for kind in ("weight", "bias")}
    model = hugging_face(W, prefix="")
    with_classifier = translate({**model, **pooler})
    assert with_classifier.left_out.keys() == pooler.keys()
    assert with_classifier.weights.keys() == W.keys()
    alone = {name: t for name, t in model.items() if not name.startswith("classifier")}
    translation = translate({**alone, **pooler})
    assert torch.equal(translation.weights["pre_logits.fc.bias"], pooler["pooler.dense.bias"])
    assert translation.left_out == {}


@pytest.mark.parametrize(
    ("heads", "target"),
    [
        (("classifier",), "reg_token"),
        (("cls_classifier", "distillation_classifier"), "dist_token"),
        ((), "dist_token"),
    ],
)
def test_a_distillation_token_without_a_head_of_its_own_is_a_register(heads, target):
    model = {n: t for n, t in hugging_face(W, 4, "deit.").items() if n[:10] != "classifier"}
    token = torch.randn(1, 1, WIDTH)
    model["deit.embeddings.distillation_token"] = token
    model |= {f"{head}.bias": torch.randn(5) for head in heads}
    weights = convert_state_dict(model)
    assert torch.equal(weights[target], token)
    tokens = {"reg_token", "dist_token", "cls_token"}
    assert weights.keys() & tokens == {target, "cls_token"}
    assert ("head_dist.bias" in weights) == ("distillation_classifier" in heads)


def test_qkv_without_bias():
    model = hugging_face(W)
    model = {n: model[n] for n in model if not re.search(r"(query|key|value)\.bias", n)}
    assert convert_state_dict(model).keys() == {n for n in W if "qkv.bias" not in n}


HEAD = {"weight": torch.randn(3, WIDTH), "bias": torch.randn(3)}


def with_head(spelling, parts):
    """The weights in a dialect, with other tensors in place of the head's."""
    plain = {"timm": W, "hf": hugging_face(W), "torchvision": torchvision(W)}[spelling]
    heads = ("head.", "classifier.", "heads.")
    return {n: t for n, t in plain.items() if not n.startswith(heads)} | parts


@pytest.mark.parametrize(
    ("spelling", "module"),
    [
        ("timm", "head.1"), ("timm", "head.fc"), ("hf", "classifier.1"),
        ("hf", "classifier.out.proj"),
        ("torchvision", "heads"), ("torchvision", "heads.0"), ("torchvision", "heads.head.1"),
    ],
)  # fmt: skip
def test_a_replaced_head_of_one_linear_layer_is_the_head(spelling, module):
    translation = translate(with_head(spelling, {f"{module}.{k}": t for k, t in HEAD.items()}))
    assert torch.equal(translation.weights["head.weight"], HEAD["weight"])
    assert torch.equal(translation.weights["head.bias"], HEAD["bias"])
    assert translation.origins["head.weight"] == (f"{module}.weight",)
    assert (translation.extra, translation.odd_head) == ((), ())
    is_plain = module == "heads"  # that it is linear, is certain
    assert bool(translation.guesses) != is_plain
    assert is_plain or translation.guesses[0].startswith(f"{module}.weight is taken for the head.")


@pytest.mark.parametrize(
    "parts",
    [
        {"head.0.weight": torch.ones(7, WIDTH), "head.2.weight": torch.ones(3, 7)},
        {"head.0.weight": torch.ones(WIDTH), "head.1.weight": torch.ones(3, WIDTH)},
        {"head.weight_v": torch.ones(3, WIDTH), "head.weight_g": torch.ones(3, 1)},
        {"head.0.weight": torch.ones(WIDTH), "head.0.bias": torch.ones(WIDTH)},
    ],
    ids=["two layers", "a norm before", "weight norm", "a norm alone"],
)
def test_a_head_of_several_tensors_is_odd(parts):
    translation = translate(with_head("timm", parts))
    assert set(translation.odd_head) == set(translation.extra) == set(parts)
    assert "head.weight" not in translation.weights


# --- What does not fit ----------------------------------------------------------------------------


def test_unknown_names_pass_unchanged_and_are_told():
    name, unknown = "blocks.0.attn.scale.weight", torch.randn(4)
    translation = translate(under("module.")({**W, name: unknown}))
    assert translation.extra == (name,)
    assert torch.equal(translation.weights[name], unknown)
    assert translation.origins[name] == ("module." + name,)


@pytest.mark.parametrize("name", ["head.weight_v", "head.bias.0", "old.head.bias", "my_cls_token"])
def test_a_name_that_only_begins_or_ends_as_a_known_one_is_extra(name):
    assert translate({**W, name: torch.randn(2)}).extra == (name,)


def test_a_truncated_name_is_extra_and_a_deleted_one_missing():
    model = hugging_face(W)
    model["vit.layernorm.weigh"] = model.pop("vit.layernorm.weight")
    del model["vit.embeddings.cls_token"]
    translation = translate(model)
    assert translation.extra == ("vit.layernorm.weigh",)
    assert W.keys() - translation.weights.keys() == {"norm.weight", "cls_token"}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_part_of_q_k_v_that_lacks_is_named(version, kind, lacking):
    model = hugging_face(W, version)
    parts = {
        4: [f"vit.encoder.layer.1.attention.attention.{n}" for n in ("query", "key", "value")],
        5: [f"vit.layers.1.attention.{n}_proj" for n in "qkv"],
    }
    gone = f"{parts[version][lacking]}.{kind}"
    del model[gone]
    with pytest.raises(ValueError, match=re.escape(f"but no {gone}")):
        translate(model)


def test_two_parts_that_lack_are_both_named():
    arrays = google(W)
    block = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/"
    del arrays[f"{block}query/bias"], arrays[f"{block}value/bias"]
    expected = f"the file has {block}key/bias, but no {block}query/bias and no {block}value/bias"
    with pytest.raises(ValueError, match=re.escape(expected)):
        translate(arrays)


def test_parts_of_different_shapes_are_refused():
    model = hugging_face(W)
    name = "vit.encoder.layer.1.attention.attention.key.weight"
    model[name] = model[name][:-1]
    with pytest.raises(ValueError, match=re.escape(f"{name} ({WIDTH - 1}, {WIDTH})")):
        translate(model)


def test_parts_of_different_precision_are_joined_and_said():
    model = hugging_face(W)
    name = "vit.encoder.layer.1.attention.attention.key.bias"
    model[name] = model[name].half()
    translation = translate(model)
    assert translation.operations["blocks.1.attn.qkv.bias"] == "joined from float16 and float32"
    assert translation.operations["blocks.0.attn.qkv.bias"] == "joined"


def test_two_names_of_one_weight_are_refused():
    both = {**hugging_face(W, 4), "vit.layers.0.mlp.fc1.bias": torch.randn(3)}
    with pytest.raises(ValueError, match=r"intermediate\.dense\.bias and .*fc1\.bias all give"):
        translate(both)
    twice = {**hugging_face(W), "layernorm.bias": torch.randn(WIDTH)}
    with pytest.raises(ValueError, match=r"all give norm\.bias"):
        translate(twice)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_weights_that_are_no_real_numbers_are_named(dtype):
    with pytest.raises(ValueError, match=rf"blocks\.1\.norm1\.bias holds {dtype}, expected float"):
        translate({**W, "blocks.1.norm1.bias": torch.zeros(WIDTH).to(dtype)})


@pytest.mark.parametrize("value", [3, None, "text", [1.0, 2.0]])
def test_values_that_are_no_tensors_are_named(value):
    with pytest.raises(ValueError, match=r"norm\.bias is not a tensor but "):
        translate({**W, "norm.bias": value})


def test_arrays_that_are_no_numbers_are_named():
    with pytest.raises(ValueError, match=r"head/bias holds <U1"):
        translate({**google(W), "head/bias": np.array(["a", "b"])})


@pytest.mark.parametrize("style", ["vit_jax", "scanned"])
@pytest.mark.parametrize("part", ["query/kernel", "out/kernel", "query/bias", "Dense_0/kernel"])
def test_flax_axes_are_checked(style, part):
    arrays = google(W, style)
    name = next(n for n in arrays if part in n)
    arrays[name] = arrays[name].reshape(-1)
    with pytest.raises(ValueError, match=re.escape(f"{name} has shape ({arrays[name].size},)")):
        translate(arrays)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MAPHead_0/probe", "pools by attention"),
        ("MAPHead_0/MlpBlock_0/Dense_0/kernel", "pools by attention"),
        ("conv_root/kernel", "a ResNet before the blocks"),
        ("block1/unit1/conv1/kernel", "a ResNet before the blocks"),
    ],
)
def test_models_of_google_that_no_plain_vit_can_hold(name, reason):
    with pytest.raises(ValueError, match=rf"cannot hold this model \(params/{name}\): .*{reason}"):
        translate({**google(W, "big_vision", "params/"), f"params/{name}": np.ones((1, 1, 3))})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("attn_pool.latent", "pools by attention"),
        ("norm_pre.weight", "before the first block"),
        ("blocks.1.attn.q_norm.weight", "normalises queries and keys"),
        ("blocks.1.attn.q_bias", "values alone have a bias"),
        ("blocks.1.attn.rel_pos_h", "relative position"),
        ("blocks.0.attn.relative_position_bias_table", "relative position"),
        ("layers.0.blocks.0.attn.relative_position_bias_table", "relative position"),
        ("rope_embed.periods", r"\(RoPE\)"),
        ("rope.freqs", r"\(RoPE\)"),
        ("blocks_token_only.0.norm1.bias", "CaiT"),
    ],
)
def test_models_of_timm_that_no_plain_vit_can_hold(name, reason):
    with pytest.raises(ValueError, match=rf"cannot hold this model \({name}\): .*{reason}"):
        translate({**W, name: torch.ones(3)})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("encoder.layer.0.mlp.weights_in.weight", r"gated \(SwiGLU\)"),
        ("layers.0.mlp.gate_proj.bias", r"gated \(SwiGLU\)"),
        ("layer.0.norm1.weight", r"built like DINOv3: .*\(RoPE\)"),
        ("encoder.layer.0.lambda_1", "it is BEiT or data2vec"),
        ("encoder.relative_position_bias.relative_position_bias_table", "relative position"),
        ("embeddings.detection_tokens", "tokens of another kind"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "dinov2.", "model.vit."])
def test_models_of_transformers_that_no_plain_vit_can_hold(name, reason, prefix):
    weights = under(prefix)({**hugging_face(W, prefix=""), name: torch.ones(3)})
    with pytest.raises(ValueError, match=rf"cannot hold this model \({prefix}{name}\): .*{reason}"):
        translate(weights)


def test_torchvisions_convolutional_stem_is_refused():
    stem = {"conv_proj.conv_bn_relu_0.0.weight": torch.randn(3)}
    with pytest.raises(ValueError, match="a stack of convolutions"):
        translate({**torchvision(W), **stem})


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("call", [translate, detect_source, convert_state_dict])
def test_vit_pytorch_is_refused_with_the_reason(call, norms):
    reason = "normalises each patch before and after" if norms else r"flattened as \(p1 p2 c\)"
    with pytest.raises(ValueError, match=f"vit-pytorch, which cannot be loaded: .*{reason}"):
        call({"model": vit_pytorch(norms)})


def test_other_networks_are_refused_by_what_was_looked_for_and_found():
    resnet = {f"layer{n}.conv1.weight": torch.randn(3) for n in range(4)}
    with pytest.raises(ValueError, match=r"no names of a known ViT: looked for") as error:
        detect_source(resnet)
    message = str(error.value)
    for words in ("patch_embed.proj.weight (timm)", "conv_proj.weight (torchvision)"):
        assert words in message
    assert "found layer0.conv1.weight, layer1.conv1.weight" in message
    assert "(4 names)" in message


def test_two_dialects_at_once_are_refused():
    with pytest.raises(ValueError, match="the names of timm and hf at once"):
        translate({**W, **hugging_face(W)})
    assert translate({**W, **hugging_face(W)}, "timm").extra  # said, it is taken at its word


def test_a_source_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'source="torchvision" means names such as conv_proj'):
        translate(hugging_face(W), "torchvision")
    with pytest.raises(ValueError, match=r'source must be "auto" or one of .*google_npz.*, got'):
        translate(W, "huggingface")


def test_a_part_of_a_model_needs_its_source():
    part = {"vit.layernorm.bias": torch.randn(3), "classifier.bias": torch.randn(5)}
    with pytest.raises(ValueError, match="no names of a known ViT"):
        translate(part)
    assert convert_state_dict(part, "hf").keys() == {"norm.bias", "head.bias"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (nn.Linear(2, 2), r"got Linear: give its state_dict\(\)"),
        ([1, 2], "got list"),
        ({}, "got an empty one"),
        ({"model": {}, "epoch": 3}, "no names of a known ViT"),
        ({0: torch.zeros(2)}, "got the key 0"),
    ],
)
def test_what_is_no_state_dict(what, said):
    with pytest.raises(ValueError, match=said):
        translate(what)


def test_sources_are_those_of_the_tables():
    assert tuple(DIALECTS) == SOURCES


# --- Damaged files, through the loader ------------------------------------------------------------


def swapped(model, a, b):
    model[a], model[b] = model[b], model[a]


LAYER = "vit.encoder.layer.1."
DAMAGES = {
    "deleted": (lambda m: m.pop("vit.layernorm.bias"), ["norm.bias"]),
    "class token deleted": (
        lambda m: m.pop("vit.embeddings.cls_token"),
        ["missing in the file: cls_token", "strict=False"],
    ),
    "bias deleted": (
        lambda m: [
            m.pop(f"vit.encoder.layer.0.attention.attention.{part}.bias")
            for part in ("query", "key", "value")
        ],
        ["missing in the file: blocks.0.attn.qkv.bias\nload_pretrained(..., strict=False)"],
    ),
    "class token swapped": (
        lambda m: swapped(m, "vit.embeddings.cls_token", "vit.layernorm.bias"),
        [f"cls_token ({WIDTH},) in the file", "norm.bias (1, 1, "],
    ),
    "positions swapped": (
        lambda m: swapped(m, "vit.embeddings.position_embeddings", "vit.layernorm.bias"),
        [f"pos_embed ({WIDTH},) in the file", "norm.bias (1, "],
    ),
    "no axes": (
        lambda m: m.update({"classifier.weight": torch.tensor(1.0)}),
        ["head.weight () in the file"],
    ),
    "swapped": (
        lambda m: swapped(m, LAYER + "intermediate.dense.weight", LAYER + "output.dense.weight"),
        ["blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc2.weight"],
    ),
    "cut name": (
        lambda m: m.update({"vit.layernorm.bia": m.pop("vit.layernorm.bias")}),
        ["norm.bias", "vit.layernorm.bia"],
    ),
    "cut tensor": (
        lambda m: m.update({"classifier.bias": m["classifier.bias"][:3]}),
        ["head.bias"],
    ),
    "wrong numbers": (
        lambda m: m.update({"vit.layernorm.bias": torch.zeros(WIDTH, dtype=torch.int32)}),
        ["vit.layernorm.bias holds torch.int32"],
    ),
    "not finite": (
        lambda m: m.update({"vit.layernorm.bias": torch.full((WIDTH,), torch.nan)}),
        ["norm.bias"],
    ),
    "no key": (
        lambda m: m.pop(LAYER + "attention.attention.key.bias"),
        [LAYER + "attention.attention.key.bias"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_loader_names_what_is_wrong_and_leaves_the_model_untouched(damage, tmp_path):
    weights = hugging_face(W)
    do, named = DAMAGES[damage]
    do(weights)
    torch.save({"state_dict": weights}, tmp_path / "model.bin")
    model = VisionTransformer(8, 4, 3, 5, WIDTH, DEPTH, HEADS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"model\.bin") as error:
        load_pretrained(model, tmp_path / "model.bin")
    assert [name for name in named if name not in str(error.value)] == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
