"""One small model's weights under the names of five dialects, written out by hand."""

import itertools

import numpy as np
import torch

from vitlib import VisionTransformer

DEPTH, WIDTH, HEADS = 2, 12, 3


def timm_names(**options):
    """Random weights under timm's names: a small model's own."""
    torch.manual_seed(0)
    model = VisionTransformer(8, 4, 3, 5, WIDTH, DEPTH, HEADS, **options)
    return {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


def hugging_face(weights, version=4, prefix="vit."):
    """The same weights as transformers 4 or 5 spells them, written out by hand."""
    out = {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.position_embeddings": weights["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": weights["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    for i, kind in itertools.product(range(DEPTH), ("weight", "bias")):
        q, k, v = weights[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
        rest = [
            weights[f"blocks.{i}.{name}.{kind}"]
            for name in ("attn.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
        ]
        if version == 4:
            block = f"encoder.layer.{i}."
            names = ("attention.output.dense", "intermediate.dense", "output.dense")
            qkv = ("attention.query", "attention.key", "attention.value")
        else:
            block = f"layers.{i}."
            names = ("attention.o_proj", "mlp.fc1", "mlp.fc2")
            qkv = ("q_proj", "k_proj", "v_proj")
        names = (*names, "layernorm_before", "layernorm_after")
        out |= {f"{block}{name}.{kind}": t for name, t in zip(names, rest, strict=True)}
        out |= {f"{block}attention.{n}.{kind}": t for n, t in zip(qkv, (q, k, v), strict=True)}
    out = {prefix + name: tensor for name, tensor in out.items()}
    return out | {f"classifier.{kind}": weights[f"head.{kind}"] for kind in ("weight", "bias")}


def torchvision(weights, mlp=("0", "3")):
    """The same weights as torchvision spells them, in its newer or its older form."""
    out = {}
    for name, tensor in weights.items():
        if name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            part = {
                "norm1": f"ln_1.{kind}", "norm2": f"ln_2.{kind}",
                "attn.qkv": f"self_attention.in_proj_{kind}",
                "attn.proj": f"self_attention.out_proj.{kind}",
                "mlp.fc1": f"mlp.{mlp[0]}.{kind}", "mlp.fc2": f"mlp.{mlp[1]}.{kind}",
            }[part]  # fmt: skip
            out[f"encoder.layers.encoder_layer_{i}.{part}"] = tensor
        else:
            first, *kind = name.split(".w")[0].split(".b")[0], name.rsplit(".", 1)[-1]
            module = {
                "cls_token": "class_token", "pos_embed": "encoder.pos_embedding",
                "patch_embed.proj": f"conv_proj.{kind[0]}", "norm": f"encoder.ln.{kind[0]}",
                "pre_logits.fc": f"heads.pre_logits.{kind[0]}", "head": f"heads.head.{kind[0]}",
            }[first]  # fmt: skip
            out[module] = tensor
    return out


def google(weights, style="vit_jax", prefix=""):
    """The same weights as vit_jax or big_vision writes them; "scanned" stacks big_vision's."""
    d = WIDTH // HEADS
    numbered = {"vit_jax": (1, 2, 3)}.get(style, (0, 1, 0))
    attention, norm2, mlp = (f"{n}_{i}" for n, i in zip(
        ("MultiHeadDotProductAttention", "LayerNorm", "MlpBlock"), numbered, strict=True
    ))  # fmt: skip
    w = {name: tensor.numpy() for name, tensor in weights.items()}
    position = "Transformer/posembed_input/" if style == "vit_jax" else ""
    out = {
        "cls": w["cls_token"],
        position + "pos_embedding": w["pos_embed"],
        "embedding/kernel": w["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": w["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": w["norm.weight"],
        "Transformer/encoder_norm/bias": w["norm.bias"],
        "head/kernel": w["head.weight"].T,
        "head/bias": w["head.bias"],
    }
    blocks = []
    for i in range(DEPTH):
        b = {name.split(".", 2)[2]: t for name, t in w.items() if name.startswith(f"blocks.{i}.")}
        block = {
            "LayerNorm_0/scale": b["norm1.weight"], "LayerNorm_0/bias": b["norm1.bias"],
            f"{norm2}/scale": b["norm2.weight"], f"{norm2}/bias": b["norm2.bias"],
            f"{attention}/out/kernel": b["attn.proj.weight"].T.reshape(HEADS, d, WIDTH),
            f"{attention}/out/bias": b["attn.proj.bias"],
            f"{mlp}/Dense_0/kernel": b["mlp.fc1.weight"].T,
            f"{mlp}/Dense_0/bias": b["mlp.fc1.bias"],
            f"{mlp}/Dense_1/kernel": b["mlp.fc2.weight"].T,
            f"{mlp}/Dense_1/bias": b["mlp.fc2.bias"],
        }  # fmt: skip
        for n, name in enumerate(("query", "key", "value")):
            rows = slice(n * WIDTH, (n + 1) * WIDTH)
            kernel = b["attn.qkv.weight"][rows].T.reshape(WIDTH, HEADS, d)
            block[f"{attention}/{name}/kernel"] = kernel
            block[f"{attention}/{name}/bias"] = b["attn.qkv.bias"][rows].reshape(HEADS, d)
        blocks.append(block)
    if style == "scanned":
        for name in blocks[0]:
            out[f"Transformer/encoderblock/{name}"] = np.stack([block[name] for block in blocks])
    else:
        for i, block in enumerate(blocks):
            out |= {f"Transformer/encoderblock_{i}/{name}": t for name, t in block.items()}
    return {prefix + name: array for name, array in out.items()}


def vit_pytorch(norms=True):
    """Some names of vit-pytorch's ViT: with the norms that came at the end of 2022, or without."""
    names = ["pos_embedding", "cls_token", "transformer.layers.0.0.to_qkv.weight", "mlp_head.bias"]
    linear = 2 if norms else 1
    names += [f"to_patch_embedding.{linear}.weight", f"to_patch_embedding.{linear}.bias"]
    names += [f"to_patch_embedding.{n}.weight" for n in (1, 3) if norms]
    return {name: torch.randn(4) for name in names}


W = timm_names()
SPELLINGS = {
    "timm": (W, "timm"),
    "transformers 4": (hugging_face(W), "hf"),
    "transformers 4, no prefix": (hugging_face(W, prefix=""), "hf"),
    "transformers 5": (hugging_face(W, 5), "hf"),
    "transformers 5, deit": (hugging_face(W, 5, "deit."), "hf"),
    "torchvision": (torchvision(W), "torchvision"),
    "torchvision, older": (torchvision(W, ("linear_1", "linear_2")), "torchvision"),
    "vit_jax": (google(W), "google_npz"),
    "vit_jax, with its optimiser": (google(W, prefix="opt/target/"), "google_npz"),
    "big_vision": (google(W, "big_vision", "params/"), "google_npz"),
    "big_vision, one of two towers": (google(W, "big_vision", "params/img/"), "google_npz"),
    "big_vision, scanned": (google(W, "scanned", "params/"), "google_npz"),
}
