"""Tiny models of every plain ViT architecture of timm and transformers, all known to be right.

`make(name)` makes one: images (B, 3, 32, 32) in patches of 8 to 10 classes, width 48, 2 blocks of
4 heads. `all_names()` lists those that differ: names that become the same modules when they are
made so small stand under the first of them.
"""

import inspect

from peers import timm, transformers
from torch import nn

IMG_SIZE, CLASSES = 32, 10
SMALL = {"img_size": IMG_SIZE, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
SMALL |= {"num_classes": CLASSES}
TIMM_FILES = ("vision_transformer", "deit")  # where timm defines its plain ViTs
HUGGING_FACE = {  # model type -> (class, settings beside SETTINGS)
    "vit": ("ViTForImageClassification", {}),
    "deit": ("DeiTForImageClassification", {}),
    "deit, distilled": ("DeiTForImageClassificationWithTeacher", {}),
    "vit_msn": ("ViTMSNForImageClassification", {}),
    "dinov2": ("Dinov2ForImageClassification", {}),
    "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification", {}),
    "ijepa": ("IJepaForImageClassification", {}),
    "clip": ("CLIPForImageClassification", {}),
    "metaclip_2": ("MetaClip2ForImageClassification", {}),
    "siglip": ("SiglipForImageClassification", {}),
}
SETTINGS = {
    "image_size": IMG_SIZE, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip


def make(name: str) -> nn.Module:
    """The model of a name such as "timm test_vit" or "transformers dinov2"."""
    library, _, name = name.partition(" ")
    if library == "timm":
        return timm.create_model(name, **SMALL)
    class_name, options = HUGGING_FACE[name]
    kind = getattr(transformers, class_name)
    config = kind.config_class
    if config.sub_configs:  # a pair of an image and a text model
        return kind(config(vision_config=SETTINGS | options, num_labels=CLASSES))
    return kind(config(**SETTINGS, **options, num_labels=CLASSES))


def all_names() -> dict[str, list[str]]:
    """The name of each architecture, and all names that it stands for."""
    entry = timm.models.model_entrypoint
    same: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for name in timm.list_models():
        if inspect.getmodule(entry(name)).__name__.rpartition(".")[2] in TIMM_FILES:
            model = make(f"timm {name}")
            shapes = [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
            kept = first.setdefault(f"{model} {shapes}", f"timm {name}")
            same.setdefault(kept, []).append(f"timm {name}")
    return same | {f"transformers {name}": [f"transformers {name}"] for name in HUGGING_FACE}
