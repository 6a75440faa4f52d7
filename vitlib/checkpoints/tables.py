"""The names of one model's weights in five dialects, as tables: a name, timm's name, what to do.

A pattern is compared with a whole name. It has placeholders for what varies:

    {i}          the block's number              {p}        weight or bias
    {a|b}        one of these words; {a|} also allows none
    {*}          anything
    {q+k+v}      a third of a joined tensor: the thirds are joined in this order

Sources: the published code of timm, facebookresearch's DeiT, DeiT III, DINOv2 and MAE, transformers
4 and 5, torchvision, vit_jax, big_vision and vit-pytorch.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

from torch import Tensor

from vitlib.checkpoints.known_settings import GATED, RELATIVE, ROTARY


class Operation(NamedTuple):
    """What is done to the numbers of a tensor whose axes are `axes`; None means any shape."""

    description: str
    axes: tuple[str, ...] | None
    apply: Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """A pattern of foreign names, timm's name for them, and the operation between the two."""

    pattern: str
    target: str
    operation: Operation


@dataclass(frozen=True)
class Dialect:
    """A way of naming ViT's weights.

    Attributes:
        title: whose names they are, for messages.
        signature: patterns, any one of which identifies the dialect; messages name the first.
        rows: the table.
        left_out: pattern -> why such a tensor has no place in the model.
        refused: pattern -> why a file with such a name can't be translated.
        prefixes: what may precede the names of all or some tensors.
        outside: why tensors without the file's prefix are left out; "" if they are not.
        heads: the head's module -> timm's name for it. People put other modules there, such as
            nn.Sequential(Dropout, Linear), whose tensors then have longer names.
        odd_heads: patterns of a head that reads more than one token.
    """

    title: str
    signature: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    outside: str = ""
    heads: Mapping[str, str] = field(default_factory=dict)
    odd_heads: tuple[str, ...] = ()


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, with groups i, p and part for its placeholders."""
    known = {"{i}": r"(?P<i>\d+)", "{p}": r"(?P<p>weight|bias)", "{*}": ".*"}
    pieces = []
    for piece in re.split(r"(\{[^}]*\})", pattern):
        words = [re.escape(word) for word in re.split(r"[|+]", piece.strip("{}"))]
        group = "(?P<part>" if "+" in piece else "(?:"
        is_place = piece.startswith("{")
        pieces.append(known.get(piece) or group * is_place + "|".join(words) + ")" * is_place)
    return re.compile("".join(pieces))


def parts_of(pattern: str) -> tuple[str, ...]:
    """The words of a pattern's {q+k+v}, in their order; empty if it has none."""
    joined = re.search(r"\{([^}]*\+[^}]*)\}", pattern)
    return tuple(joined[1].split("+")) if joined else ()


def _table(*rows: tuple[str, str] | tuple[str, str, Operation]) -> tuple[Row, ...]:
    return tuple(Row(row[0], row[1], row[2] if len(row) == 3 else _KEEP) for row in rows)


def patch_shapes(columns: int) -> list[tuple[int, int]]:
    """The numbers of channels, of 1, 3 and 4, and the sides of patches that make C·P·P columns.

    Of 1 and 3, only one is possible, because 3P² is never a square; but 4P² always is one.
    """
    sides = ((channels, round((columns / channels) ** 0.5)) for channels in (1, 3, 4))
    return [(c, side) for c, side in sides if side and c * side * side == columns]


def _as_convolution(weight: Tensor) -> Tensor:
    """Reshape (D, C·P·P) to (D, C, P, P) where only one C of 1, 3 and 4 is possible.

    Otherwise the matrix stays: the model that it is loaded into may tell.
    """
    if weight.ndim != 2 or len(shapes := patch_shapes(weight.shape[1])) != 1:
        return weight
    return weight.reshape(-1, shapes[0][0], shapes[0][1], shapes[0][1])


_KEEP = Operation("", None, lambda t: t)
_PATCHES = Operation("reshaped", None, _as_convolution)
# Flax stores a convolution as (P, P, C, D), a matrix as (in, out), and those of attention by heads.
_VECTOR = Operation("", ("D",), lambda t: t)
_FLAX_CONV = Operation("transposed", ("P", "P", "C", "D"), lambda t: t.permute(3, 2, 0, 1))
_FLAX_DENSE = Operation("transposed", ("in", "out"), lambda t: t.T)
_FLAX_QKV = Operation("transposed", ("D", "H", "d"), lambda t: t.flatten(1).T)
_FLAX_QKV_BIAS = Operation("reshaped", ("H", "d"), lambda t: t.flatten())
_FLAX_OUT = Operation("transposed", ("H", "d", "D"), lambda t: t.flatten(0, 1).T)

_PRE_TRAINING = "is only used in masked pre-training"

_TIMM_NAMES = (
    "cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.proj.bias",
    "blocks.{i}.norm1.{p}", "blocks.{i}.attn.qkv.{p}", "blocks.{i}.attn.proj.{p}",
    "blocks.{i}.ls1.gamma", "blocks.{i}.norm2.{p}", "blocks.{i}.mlp.fc1.{p}",
    "blocks.{i}.mlp.fc2.{p}", "blocks.{i}.ls2.gamma", "norm.{p}", "fc_norm.{p}",
    "pre_logits.fc.{p}", "head.{p}", "head_dist.{p}",
)  # fmt: skip
_TIMM = Dialect(
    title="timm",
    signature=("patch_embed.proj.weight", "blocks.{i}.attn.qkv.weight"),
    rows=(
        Row("patch_embed.proj.weight", "patch_embed.proj.weight", _PATCHES),
        *_table(*((name, name) for name in _TIMM_NAMES)),
    ),
    refused={
        "attn_pool.{*}": "it pools by attention with a learned probe (SigLIP)",
        "norm_pre.{p}": "it normalises the tokens before the first block (CLIP)",
        "blocks.{i}.attn.{q_norm|k_norm}.{p}": "it normalises queries and keys",
        "blocks.{i}.attn.{q_bias|k_bias|v_bias}": "its queries and values alone have a bias (BEiT)",
        "{blocks.0|layers.0.blocks.0}.attn.relative_position_bias_table": RELATIVE,
        "rel_pos_bias.{*}": RELATIVE,
        "blocks.{i}.attn.{rel_pos.|rel_pos_}{*}": RELATIVE,
        "blocks_token_only.{*}": "it adds the class token in its last blocks (CaiT)",
        "blocks.{i}.mlp.{w12|w3}.{p}": GATED,  # DINOv2's giant
        "{rope|rope_embed}.{*}": ROTARY,
        "blocks.{i}.attn.rope.{*}": ROTARY,
    },
    heads={"head": "head", "head_dist": "head_dist"},
)

# facebookresearch uses timm's names, so only what its models have beyond ViT's parts shows them.
_DEIT = replace(
    _TIMM,
    title="DeiT",
    signature=(
        "dist_token", "head_dist.{p}", "blocks.{i}.gamma_{1|2}", "mask_token", "register_tokens",
    ),
    rows=(
        *_TIMM.rows,
        *_table(
            ("blocks.{i}.gamma_1", "blocks.{i}.ls1.gamma"),  # DeiT III
            ("blocks.{i}.gamma_2", "blocks.{i}.ls2.gamma"),
            ("register_tokens", "reg_token"),  # DINOv2
        ),
    ),
    left_out={"mask_token": _PRE_TRAINING, "decoder_{*}": _PRE_TRAINING},  # DINOv2, MAE
)  # fmt: skip

# transformers 5 has other names in memory than 4, and writes those of 4. DINOv2 is "encoder.layer"
# in both.
_HF_4, _HF_BLOCK = "encoder.layer.{i}.", "{encoder.layer|layers}.{i}."
_HF = Dialect(
    title="Hugging Face",
    signature=(
        "embeddings.patch_embeddings.projection.weight",
        _HF_4 + "attention.attention.query.weight",
        _HF_BLOCK + "attention.q_proj.weight",
        "embeddings.register_tokens",
    ),
    prefixes=("vit.", "deit.", "dinov2.", "dinov2_with_registers."),
    rows=_table(
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.register_tokens", "reg_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.{p}", "patch_embed.proj.{p}"),
        (_HF_BLOCK + "{layernorm_before|norm1}.{p}", "blocks.{i}.norm1.{p}"),
        (_HF_BLOCK + "{layernorm_after|norm2}.{p}", "blocks.{i}.norm2.{p}"),
        (_HF_BLOCK + "layer_scale1.lambda1", "blocks.{i}.ls1.gamma"),
        (_HF_BLOCK + "layer_scale2.lambda1", "blocks.{i}.ls2.gamma"),
        (_HF_4 + "attention.attention.{query+key+value}.{p}", "blocks.{i}.attn.qkv.{p}"),
        (_HF_4 + "attention.output.dense.{p}", "blocks.{i}.attn.proj.{p}"),
        (_HF_4 + "intermediate.dense.{p}", "blocks.{i}.mlp.fc1.{p}"),
        (_HF_4 + "output.dense.{p}", "blocks.{i}.mlp.fc2.{p}"),
        (_HF_BLOCK + "attention.{q_proj+k_proj+v_proj}.{p}", "blocks.{i}.attn.qkv.{p}"),
        (_HF_BLOCK + "attention.o_proj.{p}", "blocks.{i}.attn.proj.{p}"),
        (_HF_BLOCK + "mlp.fc1.{p}", "blocks.{i}.mlp.fc1.{p}"),
        (_HF_BLOCK + "mlp.fc2.{p}", "blocks.{i}.mlp.fc2.{p}"),
        ("layernorm.{p}", "norm.{p}"),
        ("{classifier|cls_classifier}.{p}", "head.{p}"),
        ("distillation_classifier.{p}", "head_dist.{p}"),
    ),
    left_out={"embeddings.mask_token": _PRE_TRAINING, "decoder.{*}": _PRE_TRAINING},
    refused={
        _HF_BLOCK + "mlp.{weights_in|weights_out|gate_proj|up_proj|down_proj}.{p}": GATED,
        _HF_BLOCK + "{lambda_1|lambda_2}": "it is BEiT or data2vec",
        "{model.|}layer.{i}.{*}": f"it is built like DINOv3: {ROTARY}",
        "encoder.layer.{i}.attention.attention.relative_position_bias.{*}": RELATIVE,
        "{encoder.|}relative_position_bias.{*}": RELATIVE,
        "embeddings.detection_tokens": "it has tokens of another kind",
    },
    heads={
        "classifier": "head", "cls_classifier": "head", "distillation_classifier": "head_dist",
    },
)  # fmt: skip

_TORCHVISION_BLOCK = "encoder.layers.encoder_layer_{i}."
_TORCHVISION = Dialect(
    title="torchvision",
    signature=("conv_proj.weight", _TORCHVISION_BLOCK + "self_attention.in_proj_weight"),
    rows=_table(
        ("class_token", "cls_token"),
        ("encoder.pos_embedding", "pos_embed"),
        ("conv_proj.{p}", "patch_embed.proj.{p}"),
        (_TORCHVISION_BLOCK + "ln_1.{p}", "blocks.{i}.norm1.{p}"),
        (_TORCHVISION_BLOCK + "self_attention.in_proj_{p}", "blocks.{i}.attn.qkv.{p}"),
        (_TORCHVISION_BLOCK + "self_attention.out_proj.{p}", "blocks.{i}.attn.proj.{p}"),
        (_TORCHVISION_BLOCK + "ln_2.{p}", "blocks.{i}.norm2.{p}"),
        (_TORCHVISION_BLOCK + "mlp.{0|linear_1}.{p}", "blocks.{i}.mlp.fc1.{p}"),
        (_TORCHVISION_BLOCK + "mlp.{3|linear_2}.{p}", "blocks.{i}.mlp.fc2.{p}"),
        ("encoder.ln.{p}", "norm.{p}"),
        ("heads.pre_logits.{p}", "pre_logits.fc.{p}"),
        ("heads.head.{p}", "head.{p}"),
        ("heads.{p}", "head.{p}"),  # model.heads = nn.Linear(...)
    ),
    refused={"conv_proj.conv_bn_relu_{*}": "it cuts patches with a stack of convolutions"},
    heads={"heads": "head"},
)


def _google_rows() -> Iterator[Row]:
    """The table for Google's npz files, from two libraries.

    vit_jax numbers all modules of a block together (attention 1, MLP 3), big_vision each kind.
    """
    yield from _table(
        ("cls", "cls_token", _KEEP),
        ("{Transformer/posembed_input/|Transformer/|}pos_embedding", "pos_embed", _KEEP),
        ("embedding/kernel", "patch_embed.proj.weight", _FLAX_CONV),
        ("embedding/bias", "patch_embed.proj.bias", _VECTOR),
    )
    norms = [("Transformer/encoder_norm", "norm")]
    dense = [("pre_logits", "pre_logits.fc"), ("head", "head")]
    for block in ("Transformer/encoderblock_{i}/", "Transformer/encoderblock/"):  # or all stacked
        attention = block + "MultiHeadDotProductAttention_{0|1}/"
        yield from _table(
            (attention + "{query+key+value}/kernel", "blocks.{i}.attn.qkv.weight", _FLAX_QKV),
            (attention + "{query+key+value}/bias", "blocks.{i}.attn.qkv.bias", _FLAX_QKV_BIAS),
            (attention + "out/kernel", "blocks.{i}.attn.proj.weight", _FLAX_OUT),
            (attention + "out/bias", "blocks.{i}.attn.proj.bias", _VECTOR),
        )
        norms += [(block + "LayerNorm_0", "blocks.{i}.norm1")]
        norms += [(block + "LayerNorm_{1|2}", "blocks.{i}.norm2")]
        dense += [(block + "MlpBlock_{0|3}/Dense_0", "blocks.{i}.mlp.fc1")]
        dense += [(block + "MlpBlock_{0|3}/Dense_1", "blocks.{i}.mlp.fc2")]
    for name, target in norms:
        yield Row(name + "/scale", target + ".weight", _VECTOR)
        yield Row(name + "/bias", target + ".bias", _VECTOR)
    for name, target in dense:
        yield Row(name + "/kernel", target + ".weight", _FLAX_DENSE)
        yield Row(name + "/bias", target + ".bias", _VECTOR)


_HYBRID = "it is a hybrid: a ResNet before the blocks"
_GOOGLE = Dialect(
    title="Google",
    signature=("embedding/kernel", "Transformer/encoderblock{*}/query/kernel"),
    prefixes=("opt/target/", "params/img/", "params/"),
    outside="does not belong to the image model: the optimiser, or another part",
    rows=tuple(_google_rows()),
    refused={
        "MAPHead_0/{*}": "it pools by attention with a learned probe (SigLIP, ViT-G)",
        "{conv_root|gn_root}/{*}": _HYBRID,
        "block{i}/unit{*}": _HYBRID,
    },
)

VIT_PYTORCH = Dialect(
    title="vit-pytorch",
    signature=("to_patch_embedding.{*}", "transformer.layers.{i}.0.{*}to_qkv.weight"),
)

DIALECTS = {
    "timm": _TIMM, "deit": _DEIT, "hf": _HF, "torchvision": _TORCHVISION, "google_npz": _GOOGLE,
}  # fmt: skip


def table_of(source: str, names: Collection[str]) -> Dialect:
    """The dialect's table for a file that holds `names`, given without their prefix.

    Only Hugging Face's table depends on the file. A distillation token without a head of its own,
    as in DeiTForImageClassification, acts as a register and takes the place of the first one. The
    pooler is the paper's pre-training head, unless there is a classifier, which bypasses it.
    DINOv2's classifier reads the class token and the mean of the patch tokens, side by side.
    """
    dialect = DIALECTS[source]
    if source != "hf":
        return dialect

    def has(pattern: str) -> bool:
        return any(compiled(pattern).fullmatch(name) for name in names)

    if has(_HF_BLOCK + "layer_scale1.lambda1"):
        rows = tuple(row for row in dialect.rows if row.target != "head.{p}")
        return replace(dialect, rows=rows, odd_heads=("classifier.{p}",))

    is_register = has("classifier.{p}") and not has("distillation_classifier.{p}")
    token = ("embeddings.distillation_token", "reg_token" if is_register else "dist_token")
    bypassed = has("{classifier|cls_classifier}.{p}") or has("embeddings.distillation_token")
    if bypassed:
        left_out = {"pooler.dense.{p}": "the classifier reads the tokens, not the pooler"}
        return replace(
            dialect, rows=dialect.rows + _table(token), left_out={**dialect.left_out, **left_out}
        )
    pooler = ("pooler.dense.{p}", "pre_logits.fc.{p}")
    return replace(dialect, rows=dialect.rows + _table(token, pooler))
