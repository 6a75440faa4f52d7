"""DINOv2, with and without registers: the same features as transformers gives, at every size."""

import json
import warnings
from functools import partial

import pytest
import torch
from checkpoints.comparing import frozen, untouched
from peers import random_images, randomise, timm, transformers
from safetensors.torch import load_file, save_file

from vitlib import AttentionRecorder, VisionTransformer, create_model, tokens_to_grid
from vitlib.checkpoints import load_pretrained, translate

# 5×5 patches of 4 pixels, width 24, 3 heads, 2 blocks.
SIZES = {
    "image_size": 20, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_labels": 7,
}  # fmt: skip
PIXELS = {"image_mean": [0.4] * 3, "image_std": [0.2] * 3}
NATIVE, SMALLER, LARGER, WIDE = (20, 20), (8, 8), (28, 28), (12, 24)
KINDS = {"Dinov2": {}, "Dinov2WithRegisters": {"num_register_tokens": 3}}


def write(folder, kind="Dinov2", head="Model", dtype=torch.float32, **config):
    """A small random model of transformers, and the folder that `save_pretrained` made of it."""
    settings = getattr(transformers, f"{kind}Config")(**SIZES | KINDS[kind] | config)
    theirs = randomise(getattr(transformers, kind + head)(settings)).to(dtype)
    theirs.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return theirs


@torch.no_grad()
def difference(ours, theirs, images):
    """The largest difference between all tokens of two models, relative to the largest number."""
    found, expected = ours.forward_features(images), theirs(images).last_hidden_state
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


# What is loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [NATIVE, SMALLER, LARGER, WIDE], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers_at_every_size(kind, size, tmp_path):
    theirs, images = write(tmp_path, kind), random_images(3, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed = create_model(tmp_path, pretrained=True, img_size=size)
        dynamic = create_model(tmp_path, pretrained=True, dynamic_img_size=True)
    for ours in (fixed, dynamic):
        assert difference(ours, theirs, images) < 1e-5
        assert (ours.mean, ours.std, ours.num_classes) == ((0.4,) * 3, (0.2,) * 3, 0)
        assert ours.num_prefix_tokens == 1 + theirs.config.to_dict().get("num_register_tokens", 0)
    with torch.no_grad():
        torch.testing.assert_close(fixed(images), theirs(images).pooler_output)


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_positions_are_resampled_matters(kind, tmp_path):
    theirs, images = write(tmp_path, kind), random_images(3, *SMALLER)
    antialias = kind == "Dinov2WithRegisters"  # as the code of each does it
    ours = create_model(tmp_path, pretrained=True, dynamic_img_size=True)
    assert ours.config["pos_antialias"] is antialias
    ours.pos_antialias = not antialias
    assert difference(ours, theirs, images) > 0.01


@pytest.mark.parametrize("config", [{"qkv_bias": False}, {"layer_norm_eps": 0.1}, {"mlp_ratio": 2}])
def test_settings_of_dinov2(config, tmp_path):
    theirs = write(tmp_path, **config)
    ours = create_model(tmp_path, pretrained=True)
    assert difference(ours, theirs, random_images(3, *NATIVE)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_resampled_in_single(kind, dtype, tmp_path):
    write(tmp_path, kind, dtype=dtype)
    theirs = getattr(transformers, f"{kind}Model").from_pretrained(tmp_path, dtype=torch.float32)
    ours = create_model(tmp_path, pretrained=True, img_size=SMALLER)
    assert ours.pos_embed.dtype == torch.float32
    assert difference(ours, theirs.eval(), random_images(3, *SMALLER)) < 1e-5
    report = load_pretrained(ours, tmp_path, resize_pos_embed=True)
    name = str(dtype).removeprefix("torch.")
    assert len(report.cast) == len(report.loaded)
    assert f"pos_embed {name} -> float32" in report.cast


@pytest.mark.parametrize("kind", KINDS)
def test_both_spellings_of_transformers(kind, tmp_path):
    theirs = write(tmp_path, kind)
    on_disk, in_memory = load_file(tmp_path / "model.safetensors"), theirs.state_dict()
    assert "encoder.layer.1.attention.attention.query.weight" in on_disk
    assert "encoder.layer.1.attention.q_proj.weight" in in_memory
    a, b = translate(on_disk), translate(in_memory)
    assert (a.source, a.extra, b.extra) == ("hf", (), ())
    assert a.left_out == {"embeddings.mask_token": "is only used in masked pre-training"}
    assert a.weights.keys() == b.weights.keys()
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_and_the_hub(kind, hub, tmp_path):
    folder = hub.repository("facebook/dinov2-nano")
    theirs, images = write(folder, kind), random_images(3, *WIDE)
    for place in ("facebook/dinov2-nano", folder / "model.safetensors"):
        ours = create_model(place, pretrained=True, img_size=WIDE)
        assert difference(ours, theirs, images) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_head_on_two_tokens_is_refused_and_the_advice_works(kind, tmp_path):
    theirs = write(tmp_path, kind, "ForImageClassification")
    with pytest.raises(
        ValueError, match=r"more than one linear layer on one token \(classifier\..*num_classes=0"
    ):
        create_model(tmp_path, pretrained=True)
    for count in (0, 7):
        with pytest.warns(UserWarning, match=r"file's head \(classifier\.bias"):
            ours = create_model(tmp_path, pretrained=True, num_classes=count)
        encoder = getattr(theirs, theirs.base_model_prefix)
        assert difference(ours, encoder, random_images(3, *NATIVE)) < 1e-5


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_base_patch14_reg4_dinov2"])
def test_timms_copies_by_the_presets_name_and_by_their_id(name, hub):
    sizes = {"img_size": 70, "embed_dim": 24, "depth": 2, "num_heads": 3}
    theirs = randomise(timm.create_model(name, dynamic_img_size=True, **sizes))
    place = f"timm/{name}.lvd142m"
    timm.models.save_for_hf(theirs, hub.repository(place), model_args=sizes)
    preset = create_model(name, pretrained=True, dynamic_img_size=True, **sizes)
    by_id = create_model(place, pretrained=True, dynamic_img_size=True)
    for ours in (preset, by_id):
        shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (ours, theirs)]
        assert shapes[0] == shapes[1]
        assert ours.mean == (0.485, 0.456, 0.406)
        for size in ((70, 70), (28, 28), (42, 84)):
            images = random_images(3, *size)
            with torch.no_grad():
                torch.testing.assert_close(ours(images), theirs(images))
    with pytest.raises(ValueError, match="unknown model"):
        create_model(name.replace("small", "giant").replace("base", "giant"), pretrained=True)
    assert create_model(name, pretrained=True, num_classes=4, **sizes).head.out_features == 4


# Into a model of one's own ------------------------------------------------------------------------


def vit(**options):
    sizes = {"img_size": 20, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return VisionTransformer(**sizes | {"num_classes": 0, "init_values": 1e-5} | options)


def test_a_model_without_positions_for_its_registers(tmp_path):
    """As timm builds DINOv2 with registers: the class token's position is added to the token."""
    theirs = write(tmp_path, "Dinov2WithRegisters")
    ours = vit(reg_tokens=3, no_embed_class=True).eval()
    report = load_pretrained(ours, tmp_path)
    assert report.ok
    assert report.settings[0].startswith("The model has no position for cls_token: the source's is")
    assert difference(ours, theirs, random_images(3, *NATIVE)) < 1e-5
    with torch.no_grad():
        same = timm.models.VisionTransformer(
            img_size=20, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=0,
            init_values=1e-5, reg_tokens=3, no_embed_class=True,
        )  # fmt: skip
        same.load_state_dict(ours.state_dict())
        images = random_images(3, *NATIVE)
        expected = theirs(images).last_hidden_state
        torch.testing.assert_close(same.eval().forward_features(images), expected)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Dinov2", "without anti-aliasing, as transformers does for DINOv2."),
        ("Dinov2WithRegisters", "with anti-aliasing, as timm does."),
    ],
)
def test_the_report_says_how_positions_are_resampled(kind, said, tmp_path):
    write(tmp_path, kind)
    ours = vit(img_size=8, **{"reg_tokens": 3} if KINDS[kind] else {})
    with pytest.raises(ValueError, match=r"pos_embed 5×5 patches in the file, 2×2 in the model"):
        load_pretrained(ours, tmp_path)
    report = load_pretrained(ours, tmp_path, resize_pos_embed=True)
    assert report.resized == ("pos_embed 5×5 -> 2×2",)
    assert f"Positions are resampled by bicubic interpolation, {said}" in report.settings
    same_size = load_pretrained(vit(**{"reg_tokens": 3} if KINDS[kind] else {}), tmp_path)
    assert not any("resampled" in sentence for sentence in same_size.settings)


def test_the_report_says_that_a_model_will_resample_otherwise(tmp_path):
    write(tmp_path)
    sentence = (
        "At other sizes than its own, the source resamples positions without anti-aliasing, the "
        "model with; as the source: pos_antialias=False."
    )
    for options, is_said in (
        ({"dynamic_img_size": True}, True),
        ({"dynamic_img_size": True, "pos_antialias": False}, False),
        ({}, False),
    ):
        assert (sentence in load_pretrained(vit(**options), tmp_path).settings) is is_said


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_position_is_added_to_its_token_in_the_models_precision(dtype, tmp_path):
    write(tmp_path, "Dinov2WithRegisters", dtype=dtype)
    weights = load_file(tmp_path / "model.safetensors")
    ours = vit(reg_tokens=3, no_embed_class=True)
    report = load_pretrained(ours, tmp_path)
    position = weights["embeddings.position_embeddings"][:, :1].float()
    assert torch.equal(ours.cls_token, weights["embeddings.cls_token"].float() + position)
    assert len(report.cast) == (dtype == torch.float16) * len(report.loaded)


def test_the_report_says_that_an_image_size_is_wrong(tmp_path):
    write(tmp_path)
    change_config(tmp_path, image_size=40)
    said = load_pretrained(vit(), tmp_path).settings
    assert any(sentence.startswith("config.json's image_size was not used:") for sentence in said)


def test_what_is_assumed_of_weights_without_a_config(tmp_path):
    theirs = write(tmp_path)
    (tmp_path / "config.json").unlink()
    ours = vit().eval()
    report = load_pretrained(ours, tmp_path)
    assert not any(sentence.startswith("LayerNorm eps") for sentence in report.settings)
    assert difference(ours, theirs, random_images(3, *NATIVE)) < 1e-5
    small = vit(img_size=SMALLER).eval()
    load_pretrained(small, tmp_path / "model.safetensors", resize_pos_embed=True)
    assert difference(small, theirs, random_images(3, *SMALLER)) < 1e-5


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_as_its_authors_spell_it_is_resampled_as_by_hugging_face(registers, tmp_path):
    own = randomise(vit(reg_tokens=registers)).state_dict()
    weights = {name.replace("reg_token", "register_tokens"): own[name] for name in own}
    weights["pos_embed"] = torch.cat([own["pos_embed"][:, :1], own["pos_embed"][:, -25:]], dim=1)
    torch.save(weights | {"mask_token": torch.zeros(1, 24)}, tmp_path / "dinov2.pth")
    said = load_pretrained(
        vit(img_size=8, reg_tokens=registers), tmp_path / "dinov2.pth", resize_pos_embed=True
    ).settings
    assert any("without anti-aliasing, as transformers" in sentence for sentence in said) == (
        registers == 0
    )


# Looking inside -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_attention_recorded_is_that_of_transformers(kind, tmp_path):
    theirs, images = write(tmp_path, kind), random_images(3, *WIDE)
    ours = create_model(tmp_path, pretrained=True, img_size=WIDE)
    with AttentionRecorder(ours) as recorder, torch.no_grad():
        ours(images)
        theirs.set_attn_implementation("eager")
        expected = torch.stack(theirs(images, output_attentions=True).attentions, dim=1)
    torch.testing.assert_close(recorder.attention, expected)
    first = recorder.attention[:, -1, 0, 0]  # the class token's row: (B, prefix + N)
    grid = tokens_to_grid(first, ours.grid_size, ours.num_prefix_tokens)
    assert grid.shape == (len(images), 3, 6)
    torch.testing.assert_close(grid.flatten(1), expected[:, -1, 0, 0, -18:])


# What is refused ----------------------------------------------------------------------------------


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def put_nan(weights):
    weights["encoder.layer.1.layer_scale2.lambda1"][3] = torch.nan


BAD = {
    "no config": (
        lambda f: (f / "config.json").unlink(),
        r"has no config\.json, which says the number of attention heads and the eps",
    ),
    "another width": (
        partial(change_config, hidden_size=48),
        r"config\.json belongs to other weights: it is about a width of 48, the weights are 24",
    ),
    "another depth": (
        partial(change_config, num_hidden_layers=12),
        "it is about depth of 12, the weights have 2",
    ),
    "other patches": (
        partial(change_config, patch_size=14),
        "it is about patch_size of 14, the weights have 4",
    ),
    "another size": (
        partial(change_config, image_size=40),
        "it is about an image_size of 40, 10×10 patches, the weights have positions for 5×5",
    ),
    "registers that are not there": (
        partial(change_config, num_register_tokens=4),
        "it is about reg_tokens of 4, the weights have 0",
    ),
    "heads that do not divide": (
        partial(change_config, num_attention_heads=5),
        "num_heads must divide the width 24, got 5",
    ),
    "gated, it says": (
        partial(change_config, use_swiglu_ffn=True),
        r"config\.json says use_swiglu_ffn=True, which vitlib does not have",
    ),
    "half a download": (cut_off, r"model\.safetensors is damaged or cut off \([\d,]+ bytes"),
    "not a number": (
        partial(change_weights, change=put_nan),
        r"numbers that are not finite, in encoder\.layer\.1\.layer_scale2\.lambda1",
    ),
    "a setting of rotary positions": (
        partial(change_config, rope_theta=100.0),
        r"config\.json says rope_theta=100\.0, which vitlib does not have",
    ),
    "a rotary model by its type": (
        partial(change_config, model_type="rope_vit", rope_theta=100.0),
        r"'rope_vit' model .* computes otherwise: it rotates queries and keys .*\(RoPE\)",
    ),
}


@pytest.mark.filterwarnings("ignore:.*mean and std")
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_in_one_line(bad, tmp_path):
    write(tmp_path)
    spoil, message = BAD[bad]
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        create_model(tmp_path, pretrained=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_dinov3_is_refused_with_the_reason(with_config, in_memory, tmp_path):
    sizes = {name: size for name, size in SIZES.items() if name != "num_labels"}
    theirs = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**sizes))
    theirs.save_pretrained(tmp_path)
    if in_memory:
        (tmp_path / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    if not with_config:
        (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"it rotates queries and keys .*\(RoPE\)") as error:
        create_model(tmp_path, pretrained=True)
    assert ("'dinov3_vit'" in str(error.value)) is with_config
    assert str(error.value).count("RoPE") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_gated_mlp_of_the_giant_is_refused_with_the_reason(in_memory, kind, tmp_path):
    theirs = write(tmp_path, kind, use_swiglu_ffn=True)
    change_config(tmp_path, use_swiglu_ffn=False)
    if in_memory:
        (tmp_path / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot hold this model .*: its MLP is gated \(SwiGLU\)"):
        create_model(tmp_path, pretrained=True)


@pytest.mark.parametrize("names", ["timm's", "its authors'"])
def test_the_giant_of_other_libraries_is_refused_with_the_reason(names, tmp_path):
    theirs = timm.create_model(
        "vit_giant_patch14_dinov2", img_size=28, embed_dim=24, depth=1, num_heads=3
    )
    weights = theirs.state_dict()
    if names != "timm's":
        for old, new in (("fc1", "w12"), ("fc2", "w3")):
            weights = {name.replace(old, new): t for name, t in weights.items()}
    torch.save(weights, tmp_path / "giant.pth")
    model = vit(img_size=28, patch_size=14, depth=1)
    before = frozen(model)
    for load in (
        lambda: create_model(tmp_path / "giant.pth", pretrained=True, num_heads=3),
        lambda: load_pretrained(model, tmp_path / "giant.pth"),
    ):
        with pytest.raises(ValueError, match=r"cannot hold .* its MLP is gated \(SwiGLU\)"):
            load()
    assert untouched(model, before)


def test_a_model_of_another_kind_says_what_to_build(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"Build the model as the source was: init_values=1e-05"):
        load_pretrained(vit(init_values=None), tmp_path)
