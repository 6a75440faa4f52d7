"""What is done with every setting of config.json and preprocessor_config.json, as tables.

    setting -> USED (settings.py reads it), SHAPES (the weights' shapes tell it), IGNORED (it does
    not change what the model computes), PICTURES (it says how pictures are cut and resized), or
    the values that a plain ViT has: another value is refused by name

A setting that no table has is refused if its name sounds like a part of the model, and else named
in a sentence; nothing is said if it is empty or false. The names are those of timm 1.0
(`VisionTransformer`, `PretrainedCfg`), transformers 4 and 5 (`ViTConfig`, `DeiTConfig`,
`Dinov2Config`, `PreTrainedConfig`, `ImagesKwargs`) and of timm's architectures.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vitlib.presets import PRESETS

USED, SHAPES, IGNORED, PICTURES = "used", "shapes", "ignored", "pictures"
Rule = str | tuple[Any, ...]
_OF_A_MODEL = re.compile(
    "rope|rotary|rot_|scale|norm|act|pool|attn|attention|qkv|mlp|ffn|glu|gate|expert|token|pos|embed"
    "|head|layer|bias|window|stem|relative"
)
_EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {}, ())


def _rules(**names: str) -> dict[str, Rule]:
    """A table from lists of names: `_rules(used="a b", shapes="c")`."""
    return {name: kind for kind, listed in names.items() for name in listed.split()}


_OF_ANY_MODEL = _rules(
    ignored="_name_or_path name_or_path _commit_hash architectures transformers_version dtype "
    "torch_dtype output_hidden_states output_attentions return_dict use_cache torchscript "
    "use_bfloat16 is_encoder_decoder is_decoder label2id problem_type num_labels finetuning_task "
    "task_specific_params tie_word_embeddings tie_encoder_decoder tie_last_hidden_states "
    "chunk_size_feed_forward _attn_implementation attn_implementation gradient_checkpointing "
    "initializer_range hidden_dropout_prob attention_probs_dropout_prob drop_path_rate license "
    "tags library_name pipeline_tag datasets _num_labels classifier_dropout "
    # of text models, which transformers 4 wrote into every config.json
    "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty "
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size "
    "encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores "
    "return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values "
    "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens bos_token_id "
    "pad_token_id eos_token_id sep_token_id decoder_start_token_id prefix tokenizer_class "
    "cross_attention_hidden_size tf_legacy_loss",
)

HUGGING_FACE: Mapping[str, Rule] = {
    **_OF_ANY_MODEL,
    **_rules(
        used="model_type hidden_size num_attention_heads image_size layer_norm_eps hidden_act "
        "id2label",
        shapes="num_hidden_layers intermediate_size patch_size num_channels qkv_bias "
        "pooler_output_size head_dim",
        # of pre-training alone: masked image modelling
        ignored="encoder_stride decoder_hidden_size decoder_num_hidden_layers mask_ratio "
        "decoder_num_attention_heads decoder_intermediate_size norm_pix_loss",
    ),
    "pooler_act": ("tanh", None),
    "pruned_heads": _EMPTY,
    "per_layer_config": _EMPTY,
    "add_cross_attention": _EMPTY,
    "quantization_config": _EMPTY,
    "auto_map": _EMPTY,  # the model's code comes with its weights
    "rope_parameters": _EMPTY,
    "rope_scaling": _EMPTY,
    "rope_theta": _EMPTY,
}

_DINOV2: Mapping[str, Rule] = {
    **HUGGING_FACE,
    **_rules(
        used="num_register_tokens",
        shapes="mlp_ratio",
        # LayerScale's first values, the mask of pre-training, what a backbone hands to a detector
        ignored="layerscale_value use_mask_token apply_layernorm reshape_hidden_states stage_names "
        "out_features out_indices _out_features _out_indices",
    ),
    "use_swiglu_ffn": (False, None),
}

# The types of transformers' models that a VisionTransformer holds -> the rules of their settings.
MODEL_TYPES: Mapping[str, Mapping[str, Rule]] = {
    **dict.fromkeys(("vit", "deit", "vit_mae", "vit_msn"), HUGGING_FACE),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _DINOV2),
}

TIMM_CFG: Mapping[str, Rule] = {  # pretrained_cfg, and what older files have at the top
    **_rules(
        used="architecture input_size mean std label_names labels",
        shapes="num_classes",
        ignored="url file state_dict hf_hub_id hf_hub_filename source tag custom_load "
        "label_descriptions pool_size test_pool_size first_conv classifier license description "
        "origin_url paper_name paper_ids notes fixed_input_size min_input_size",
        pictures="interpolation crop_pct crop_mode test_input_size test_crop_pct",
    ),
    "label_offset": _EMPTY,
}

TIMM: Mapping[str, Rule] = {
    **_OF_ANY_MODEL,
    **TIMM_CFG,
    **_rules(
        used="pretrained_cfg model_args global_pool num_features model_type", ignored="do_pooling"
    ),
}

TIMM_ARGUMENTS: Mapping[str, Rule] = {  # of timm's VisionTransformer
    **_rules(
        used="img_size num_heads global_pool act_layer embed_dim",
        shapes="patch_size in_chans num_classes depth mlp_ratio qkv_bias qk_norm "
        "scale_attn_norm scale_mlp_norm proj_bias init_values class_token pos_embed "
        "no_embed_class reg_tokens pre_norm final_norm fc_norm",
        ignored="drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate "
        "drop_path_rate weight_init fix_init device dtype dynamic_img_size dynamic_img_pad "
        "strict_img_size",
    ),
    "pool_include_prefix": (False, None),
    "embed_layer": ("PatchEmbed", None),
    "norm_layer": ("layernorm", "", None),
    "embed_norm_layer": (None,),
    "block_fn": ("Block", None),
    "mlp_layer": ("Mlp", None),
    "attn_layer": ("Attention", "attn", "", None),
    "use_naflex": _EMPTY,
    "use_rot_pos_emb": _EMPTY,
}

PREPROCESSOR: Mapping[str, Rule] = {
    **_rules(
        used="do_rescale rescale_factor rescale_offset offset do_normalize image_mean image_std",
        ignored="image_processor_type feature_extractor_type processor_class do_convert_rgb "
        "default_to_square data_format input_data_format return_tensors device disable_grouping "
        "image_seq_length _valid_processor_keys valid_processor_keys use_fast return_metadata "
        "model_input_names",
        pictures="do_resize size resample do_center_crop crop_size crop_pct do_pad pad_size "
        "size_divisor pad_mode",
    ),
    "do_flip_channel_order": _EMPTY,  # blue before red
    "do_flip_channels": _EMPTY,
    "do_grayscale": _EMPTY,
    "auto_map": _EMPTY,
}

# What vitlib does with pictures: it resizes each until it covers the model's size, and cuts out the
# middle. These values say the same.
_AS_VITLIB = {
    "interpolation": ("bicubic",), "crop_pct": (1, 1.0, None), "crop_mode": ("center",),
    "resample": (3,), "do_resize": (True,), "do_pad": _EMPTY, "test_input_size": _EMPTY,
    "test_crop_pct": _EMPTY, "do_center_crop": _EMPTY,
}  # fmt: skip
_SIZES_OF_PICTURES = ("size", "crop_size", "pad_size", "size_divisor", "pad_mode")

RELATIVE = "it adds a bias to attention by relative position"
GATED = "its MLP is gated (SwiGLU)"
ROTARY = "it rotates queries and keys by the position of their patch (RoPE)"
_SIZE = r"(tiny|small|medium|base|large|huge|giant|gigantic)"
# timm's architectures: the first pattern that fits the whole name counts. "" is a plain ViT; for
# others, the reason why it is none. What no pattern fits is refused as unknown.
_ARCHITECTURES = (
    (r".*(_rope|_dinov3|_pe_|_lingbot|_sapiens2|eva02_).*", ROTARY),
    (r".*_(clip|clip_quickgelu)_.*", "it normalises the tokens before the first block (CLIP)"),
    (r".*_siglip_.*", "it has no class token (SigLIP)"),
    (r".*_(gap|map)_.*|aimv2_.*", "it has no class token"),
    (r".*_relpos_.*", RELATIVE),
    (r"vit_giant_patch14_(reg\d_)?(dinov2|tipsv2)", GATED),
    (rf"vit_{_SIZE}_patch\d+_(plus_|36x1_)?\d+(_miil)?(_in21k|_dino|_mae)?", ""),
    (rf"vit_({_SIZE}|so400m)_patch\d+_(reg\d_)?(dinov2|tipsv2)", ""),
    (rf"deit3?_{_SIZE}_(distilled_)?patch\d+_\d+(_in21ft1k)?", ""),
    (rf"flexivit_{_SIZE}|eva_large_patch\d+_\d+|test_vit", ""),
)
# A word of the name -> the width and the number of heads that timm builds it with.
_HEADS = {
    **{
        preset.name.split("_")[1]: (preset.arguments["embed_dim"], preset.arguments["num_heads"])
        for preset in PRESETS.values()
        if preset.hub_id
    },
    "medium": (512, 8), "plus": (896, 14), "giant": (1408, 16), "gigantic": (1664, 16),
    "so400m": (1152, 16), "test_vit": (64, 2),
}  # fmt: skip


class Checked(NamedTuple):
    """Settings of one table that are not simply used."""

    refused: list[str]  # "name=value", of a model that no plain ViT is
    unknown: list[str]  # likewise; nothing says what they mean
    pictures: list[str]  # about cutting and resizing, other than vitlib does it


def check_settings(settings: Mapping[str, Any], table: Mapping[str, Rule]) -> Checked:
    """What is in `settings` that vitlib does not follow."""
    found = Checked([], [], [])
    for name, value in settings.items():
        rule = table.get(name)
        said = f"{name}={value!r:.60}"
        if rule is None and not _is_one_of(value, _EMPTY):
            matters = name.startswith("do_") or _OF_A_MODEL.search(name)
            (found.refused if matters else found.unknown).append(said)
        elif rule == PICTURES:
            same = name in _SIZES_OF_PICTURES or _is_one_of(value, _AS_VITLIB[name])
            found.pictures.extend([] if same else [said])
        elif isinstance(rule, tuple) and not _is_one_of(value, rule):
            found.refused.append(said)
    return found


def _is_one_of(value: Any, allowed: Iterable[Any]) -> bool:
    return any(type(value) is type(one) and value == one for one in allowed)


def why_not_plain(architecture: str) -> str | None:
    """Why timm's architecture of this name is no plain ViT; "" if it is one, None if unknown."""
    fitting = (why for pattern, why in _ARCHITECTURES if re.fullmatch(pattern, architecture))
    return next(fitting, None)


def heads_of_architecture(architecture: str, width: int | None) -> int | None:
    """The number of heads of timm's plain architecture, if it is known and has this width."""
    if why_not_plain(architecture) != "":
        return None
    for word in (architecture, *architecture.split("_")):
        if word in _HEADS and _HEADS[word][0] == width:
            return _HEADS[word][1]
    return None
