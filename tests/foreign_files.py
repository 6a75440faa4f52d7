"""Small models, and files that hold them under Hugging Face's names, for tests of reading them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitlib import VisionTransformer


def vit(**options) -> VisionTransformer:
    """A model of 2×2 patches, 16 wide, two blocks deep."""
    sizes = {"img_size": 8, "patch_size": 4, "num_classes": 5, "embed_dim": 16}
    return VisionTransformer(**{**sizes, "depth": 2, "num_heads": 2, **options})


def lively(model: VisionTransformer, seed: int = 1) -> VisionTransformer:
    """The model with noise on every parameter, so that none is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def to_hugging_face(model: VisionTransformer) -> dict[str, Tensor]:
    """The weights of a plain ViT as `ViTForImageClassification.save_pretrained` names them."""
    own, found = model.state_dict(), {}
    for part in ("weight", "bias"):
        found[f"vit.embeddings.patch_embeddings.projection.{part}"] = own[
            f"patch_embed.proj.{part}"
        ]
        found[f"vit.layernorm.{part}"] = own[f"norm.{part}"]
        found[f"classifier.{part}"] = own[f"head.{part}"]
    found["vit.embeddings.cls_token"] = own["cls_token"]
    found["vit.embeddings.position_embeddings"] = own["pos_embed"]
    parts = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for i in range(len(model.blocks)):
        ours, theirs = f"blocks.{i}.", f"vit.encoder.layer.{i}."
        for mine, name in parts.items():
            for part in ("weight", "bias"):
                found[f"{theirs}{name}.{part}"] = own[f"{ours}{mine}.{part}"]
        for part in ("weight", "bias"):
            if f"{ours}attn.qkv.{part}" in own:
                thirds = own[f"{ours}attn.qkv.{part}"].chunk(3)
                for name, third in zip(("query", "key", "value"), thirds, strict=True):
                    found[f"{theirs}attention.attention.{name}.{part}"] = third.clone()
    return found


def write_hugging_face(
    model: VisionTransformer, folder: Path, *, preprocessor=None, weights: bool = True, **changes
) -> Path:
    """A folder as `save_pretrained` writes it; `changes` go into config.json."""
    folder.mkdir(exist_ok=True)
    if weights:
        save_file(to_hugging_face(model), folder / "model.safetensors")
    config = {
        "model_type": "vit",
        "hidden_size": model.embed_dim,
        "num_attention_heads": model.config["num_heads"],
        "image_size": model.img_size[0],
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
