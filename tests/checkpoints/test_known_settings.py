"""Every setting of the two configs, and every architecture of timm, is used or refused by name.

The lists come from the installed timm and transformers; each setting is tried with another value
than a plain ViT has, on models that are really run.
"""

import dataclasses
import inspect
import json
import re
import warnings

import pytest
import torch
from peers import random_images, randomise, timm, transformers

from vitlib import create_model
from vitlib.checkpoints.known_settings import (
    MODEL_TYPES,
    PREPROCESSOR,
    TIMM,
    TIMM_ARGUMENTS,
    TIMM_CFG,
    check_settings,
    heads_of_architecture,
    why_not_plain,
)

SIZES = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 4}
HF_SIZES = {
    "image_size": 16, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 40, "num_labels": 3,
}  # fmt: skip


def outcome(folder, theirs, size, channels=3):
    """What create_model does: "equal", "told" (equal, with a warning), or its refusal."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            ours = create_model(folder, pretrained=True)
        except ValueError as error:
            return str(error).replace(str(folder), "")
    images = random_images(channels, *size)
    with torch.no_grad():
        expected = theirs(images)
        expected = getattr(expected, "logits", expected)
        if hasattr(expected, "pooler_output"):
            expected = expected.pooler_output
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4)
    return "told" if [s for s in said if "mean and std" not in str(s.message)] else "equal"


# transformers -------------------------------------------------------------------------------------


def test_every_setting_of_transformers_is_in_the_table():
    kinds = ("ViT", "DeiT", "ViTMAE", "ViTMSN", "Dinov2", "Dinov2WithRegisters")
    configs = [getattr(transformers, f"{kind}Config")() for kind in kinds]
    assert {config.model_type for config in configs} == MODEL_TYPES.keys()
    for config in configs:
        assert config.to_dict().keys() - MODEL_TYPES[config.model_type].keys() == set()
    arguments = transformers.processing_utils.ImagesKwargs.__annotations__.keys()
    assert arguments - PREPROCESSOR.keys() == set()
    for kind in ("ViT", "DeiT", "Bit"):  # DINOv2 has Bit's
        processor = getattr(transformers, f"{kind}ImageProcessor")()
        assert processor.to_dict().keys() - PREPROCESSOR.keys() == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"layer_norm_eps": 0.1}, "equal"),
        ({"qkv_bias": False}, "equal"),
        ({"image_size": [16, 24]}, "equal"),
        ({"patch_size": 4}, "equal"),
        ({"num_channels": 1}, "equal"),
        ({"num_attention_heads": 6}, "equal"),
        ({"intermediate_size": 31}, "equal"),
        ({"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}, "equal"),
        ({"encoder_stride": 4, "initializer_range": 1.0}, "equal"),
        ({"id2label": {0: "a", 1: "b", 2: "c"}}, "equal"),
        ({"pooler_act": "relu", "pooler_output_size": 12}, "equal"),  # it has no pooler
        ({"chunk_size_feed_forward": 3, "dtype": "float16"}, "equal"),
        ({"problem_type": "multi_label_classification"}, "equal"),
        ({"hidden_act": "gelu_fast"}, "equal"),
        ({"hidden_act": "gelu_accurate"}, "equal"),
        ({"hidden_act": "gelu_python"}, "equal"),
        ({"hidden_act": "gelu_10"}, "activation is 'gelu_10'"),
        ({"hidden_act": "relu"}, "activation is 'relu'"),
        ({"hidden_act": "swish"}, "activation is 'swish'"),
        ({"head_dim": 3}, r"blocks\.0\.attn\.qkv\.weight \(36, 24\) in the file"),
        ({"quantization_config": {"bits": 4}}, "config.json says quantization_config="),
        ({"use_rope": True}, "config.json says use_rope=True"),
        ({"layerscale_value": 0.3}, "config.json says layerscale_value=0.3"),
        ({"use_rope": False, "layerscale_value": None}, "equal"),
        ({"finetuned_by": "me"}, "told"),
    ],
    ids=str,
)
def test_a_setting_of_transformers_with_another_value(change, expected, tmp_path):
    config = transformers.ViTConfig(**HF_SIZES | change)
    theirs = randomise(transformers.ViTForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    size = config.image_size if isinstance(config.image_size, list) else [16, 16]
    found = outcome(tmp_path, theirs, size, config.num_channels)
    assert re.search(expected, found), found


def test_the_poolers_activation_matters_where_there_is_a_pooler(tmp_path):
    for act, expected in (("tanh", "equal"), ("relu", "config.json says pooler_act='relu'")):
        config = transformers.ViTConfig(**HF_SIZES, pooler_act=act)
        theirs = randomise(transformers.ViTModel(config))
        theirs.save_pretrained(tmp_path)
        assert expected in outcome(tmp_path, theirs, (16, 16))


@pytest.mark.parametrize("kind", ["ViTMSNForImageClassification", "ViTForImageClassification"])
def test_models_of_transformers_that_are_plain_vits(kind, tmp_path):
    config = getattr(transformers, kind.replace("ForImageClassification", "Config"))(**HF_SIZES)
    theirs = randomise(getattr(transformers, kind)(config))
    theirs.save_pretrained(tmp_path)
    assert outcome(tmp_path, theirs, (16, 16)) == "equal"


OTHERS = {
    "beit": "BeitForImageClassification", "data2vec-vision": "Data2VecVisionModel",
    "clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel",
    "dinov3_vit": "DINOv3ViTModel", "ijepa": "IJepaForImageClassification", "yolos": "YolosModel",
    "audio-spectrogram-transformer": "ASTModel", "flava_image_model": "FlavaImageModel",
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_of_transformers_are_called_by_their_type(kind, tmp_path):
    model_class = getattr(transformers, OTHERS[kind])
    sizes = {name: value for name, value in HF_SIZES.items() if name != "num_labels"}
    sizes |= {"image_size": [16, 16]} if kind == "yolos" else {}
    theirs = model_class(model_class.config_class(**sizes))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"config.json calls it a '{kind}' model .model_type."):
        create_model(tmp_path, pretrained=True)


def test_a_plain_vit_by_its_names_is_refused_by_its_type(tmp_path):
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**HF_SIZES))
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "rope_vit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'rope_vit' model .*plain ViT's names, but .* otherwise"):
        create_model(tmp_path, pretrained=True)


@pytest.mark.parametrize("name", ["do_flip_channel_order", "do_reduce_noise", "do_grayscale"])
def test_what_is_done_to_pictures_and_vitlib_does_not_is_refused(name, tmp_path):
    theirs = randomise(transformers.ViTForImageClassification(transformers.ViTConfig(**HF_SIZES)))
    theirs.save_pretrained(tmp_path)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True, "resample": 2}
    for value, expected in ((False, "equal"), (True, f"preprocessor_config.json says {name}=True")):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {name: value}))
        found = outcome(tmp_path, theirs, (16, 16))
        assert expected in found
    assert "take it out of preprocessor_config.json" in found


# timm ---------------------------------------------------------------------------------------------


def test_every_argument_of_timm_is_in_the_table():
    models = timm.models.vision_transformer
    for model_class in (models.VisionTransformer, timm.models.deit.VisionTransformerDistilled):
        arguments = set(inspect.signature(model_class).parameters) - {"args", "kwargs"}
        assert arguments - TIMM_ARGUMENTS.keys() == set()
    fields = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)}
    assert fields - TIMM_CFG.keys() == set()
    assert fields - TIMM.keys() == set()


NO_LOGITS = "no vitlib model gives its logits"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "equal"),
        ({"global_pool": "avg"}, "equal"),
        ({"global_pool": "avg", "fc_norm": False}, NO_LOGITS),
        ({"global_pool": "max"}, NO_LOGITS),
        ({"global_pool": "avgmax"}, NO_LOGITS),
        ({"global_pool": ""}, NO_LOGITS),
        ({"global_pool": "map"}, "pools by attention"),
        ({"global_pool": "prr"}, NO_LOGITS),
        ({"fc_norm": True}, "would have to be renamed"),
        ({"qkv_bias": False}, "equal"),
        ({"qk_norm": True}, "normalises queries and keys"),
        ({"scale_attn_norm": True}, "not in the model: blocks.0.attn.norm"),
        ({"scale_mlp_norm": True}, "not in the model: blocks.0.mlp.norm"),
        ({"proj_bias": False}, "missing in the file: blocks.0.attn.proj.bias"),
        ({"init_values": 0.3}, "equal"),
        ({"class_token": False, "global_pool": "avg"}, "has no class token"),
        ({"pos_embed": "none"}, "holds no position embeddings"),
        ({"no_embed_class": True, "reg_tokens": 2}, "equal"),
        ({"pre_norm": True}, "before the first block"),
        ({"final_norm": False}, "missing in the file: norm.weight"),
        ({"pool_include_prefix": True, "global_pool": "avg"}, "config.json says pool_include_pre"),
        ({"dynamic_img_size": True}, "equal"),
        ({"dynamic_img_pad": True}, "equal"),
        ({"drop_rate": 0.5, "pos_drop_rate": 0.5, "patch_drop_rate": 0.5}, "equal"),
        ({"proj_drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.5}, "equal"),
        ({"weight_init": "jax", "fix_init": True}, "equal"),
        ({"embed_norm_layer": "layernorm"}, "config.json says embed_norm_layer='layernorm'"),
        ({"norm_layer": "rmsnorm"}, "config.json says norm_layer='rmsnorm'"),
        ({"norm_layer": "layernorm"}, "equal"),
        ({"act_layer": "gelu_tanh"}, "equal"),
        ({"act_layer": "quick_gelu"}, "activation is 'quick_gelu'"),
        ({"attn_layer": "diff"}, "config.json says attn_layer='diff'"),
        ({"num_heads": 6, "mlp_ratio": 2.3, "img_size": [16, 24], "patch_size": 4}, "equal"),
    ],
    ids=str,
)
def test_an_argument_of_timm_with_another_value(change, expected, tmp_path):
    arguments = {**SIZES, "num_classes": 3, **change}
    theirs = randomise(timm.create_model("vit_base_patch16_224", **arguments))
    timm.models.save_for_hf(theirs, tmp_path, model_args=arguments)
    size = arguments["img_size"]
    found = outcome(tmp_path, theirs, size if isinstance(size, list) else (size, size))
    assert expected in found, found


def test_arguments_that_are_no_text_are_refused_by_name():
    """block_fn, mlp_layer and embed_layer are classes; configs of other programs name them."""
    for name in ("block_fn", "mlp_layer", "embed_layer", "attn_layer", "use_rot_pos_emb"):
        assert check_settings({name: "Another"}, TIMM_ARGUMENTS).refused == [f"{name}='Another'"]
        assert check_settings({name: None}, TIMM_ARGUMENTS).refused == []
    assert check_settings({"label_offset": 1}, TIMM_CFG).refused == ["label_offset=1"]


@pytest.fixture(scope="module")
def built_by_timm():
    """Each ViT of timm -> its class and arguments, without building it."""
    found = {}

    def note(model_class, variant, pretrained, **arguments):
        found[variant] = model_class.__name__, arguments
        return torch.nn.Identity()

    with pytest.MonkeyPatch.context() as patch:
        for module in ("vision_transformer", "deit", "eva", "vision_transformer_relpos"):
            patch.setattr(getattr(timm.models, module), "build_model_with_cfg", note)
            for name in timm.list_models(module=module):
                timm.models.model_entrypoint(name, module)()
    assert len(found) > 200
    return found


# What a plain ViT may differ in: sizes, which shapes tell, and the form of positions.
OF_PLAIN_VITS = {
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "init_values",
    "qkv_bias", "reg_tokens", "no_embed_class", "dynamic_img_size",
}  # fmt: skip


def test_architectures_of_timm_are_plain_vits_or_refused(built_by_timm):
    for name, (kind, arguments) in built_by_timm.items():
        options = arguments.keys() - OF_PLAIN_VITS - {"pretrained_filter_fn", "feature_cfg"}
        options -= {"pretrained_strict"}
        if name.startswith("eva_large"):
            options -= {"global_pool"}  # "avg", with fc_norm
        is_plain = kind.startswith("VisionTransformer") and kind[17:] in ("", "Distilled")
        assert (why_not_plain(name) == "") == (is_plain and not options), name
        if why_not_plain(name) == "":
            width, heads = arguments.get("embed_dim", 768), arguments.get("num_heads", 12)
            assert heads_of_architecture(name, width) == heads, name
            assert heads_of_architecture(name, width + 1) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_small_patch16_dinov3", r"'vit_small_patch16_dinov3' in config\.json.: .*\(RoPE\)"),
        ("vit_small_patch16_rope_224", r"\(RoPE\)"),
        ("vit_small_patch16_rope_ape_224", r"\(RoPE\)"),
        ("vit_base_patch16_rope_mixed_224", r"\(RoPE\)"),
        ("vit_pe_spatial_tiny_patch16_512", "before the first block"),
    ],
)
def test_models_of_timm_with_rotary_positions_are_refused(name, words, tmp_path):
    arguments = {"embed_dim": 48, "depth": 1, "num_heads": 4, "num_classes": 5}
    timm.models.save_for_hf(timm.create_model(name, **arguments), tmp_path, model_args=arguments)
    with pytest.raises(ValueError, match=words):
        create_model(tmp_path, pretrained=True)


def test_timms_models_within_transformers(tmp_path):
    """TimmWrapper writes timm's config under transformers' name, and one more prefix."""
    config = transformers.TimmWrapperConfig.from_dict(
        {
            "architecture": "vit_tiny_patch16_224", "model_args": SIZES, "num_classes": 3,
            "label_names": ["a", "b", "c"],
            "pretrained_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3, "input_size": [3, 16, 16]},
        }
    )  # fmt: skip
    theirs = randomise(transformers.TimmWrapperForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    assert outcome(tmp_path, theirs, (16, 16)) == "equal"
    ours = create_model(tmp_path, pretrained=True)
    assert (ours.classes, ours.mean, ours.std) == (("a", "b", "c"), (0.4,) * 3, (0.2,) * 3)


def test_an_unknown_architecture_is_refused_and_the_advice_works(tmp_path):
    arguments = {**SIZES, "num_classes": 3}
    theirs = randomise(timm.create_model("vit_base_patch16_224", **arguments))
    timm.models.save_for_hf(theirs, tmp_path, model_args=arguments)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": "my_vit"}))
    found = outcome(tmp_path, theirs, (16, 16))
    assert "(architecture 'my_vit' in config.json): vitlib does not know it. If it is" in found
    assert "write the name of one there, such as vit_base_patch16_224" in found
    config |= {"architecture": "vit_base_patch16_224", "model_args": {"num_heads": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert outcome(tmp_path, theirs, (16, 16)) == "equal"


def test_how_pictures_are_cut_is_said_where_vitlib_does_it_otherwise():
    cfg = {"crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "center"}
    assert check_settings(cfg, TIMM_CFG).pictures == ["crop_pct=0.9"]
    settings = {"do_center_crop": True, "size": {"shortest_edge": 256}, "resample": 3}
    assert check_settings(settings, PREPROCESSOR).pictures == ["do_center_crop=True"]
