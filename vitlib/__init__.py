"""vitlib: the Vision Transformer that the book builds, and what trains, loads and explains it.

    patch, pos_embed, attention, blocks, init, model
                                 images -> tokens -> blocks -> logits
    presets, create, checkpoints models by name, and weights
    data, train                  data sets, training
    explain, report, widgets     -> maps, pages and interactive figures
    check, runs, weights         the book's exercises, recorded experiments and trained models
    cli, export                  the command line, ONNX
    costs                        what a training step costs, on paper

CONTRIBUTING.md draws which of them imports which.
"""

__version__ = "0.1.0"

from vitlib.attention import Attention, attention_weights
from vitlib.baselines import MlpMixer, SmallCNN
from vitlib.blocks import Block, DropPath, LayerScale, Mlp
from vitlib.checkpoints import (
    convert_state_dict,
    load_checkpoint,
    load_pretrained,
    save_checkpoint,
)
from vitlib.create import create_model, list_models
from vitlib.data import ImageData, ImageSet, augment, load_data
from vitlib.explain import (
    AttendedPicture,
    AttentionRecorder,
    attend,
    attention_distance,
    attention_rollout,
    gradient_rollout,
    logit_lens,
    occlusion,
    principal_components,
    read_by_head,
    tokens_to_grid,
)
from vitlib.init import init_weights
from vitlib.model import VisionTransformer
from vitlib.patch import PatchEmbed, embed_conv, embed_unfold, patchify, unpatchify
from vitlib.pos_embed import resample_pos_embed, sincos_2d
from vitlib.train import (
    DistillationLoss,
    Evaluation,
    History,
    Probe,
    TrainConfig,
    evaluate,
    extract_features,
    fit,
    fit_probe,
    param_groups,
)

__all__ = [
    "AttendedPicture",
    "Attention",
    "AttentionRecorder",
    "Block",
    "DistillationLoss",
    "DropPath",
    "Evaluation",
    "History",
    "ImageData",
    "ImageSet",
    "LayerScale",
    "Mlp",
    "MlpMixer",
    "PatchEmbed",
    "Probe",
    "SmallCNN",
    "TrainConfig",
    "VisionTransformer",
    "attend",
    "attention_distance",
    "attention_rollout",
    "attention_weights",
    "augment",
    "convert_state_dict",
    "create_model",
    "embed_conv",
    "embed_unfold",
    "evaluate",
    "extract_features",
    "fit",
    "fit_probe",
    "gradient_rollout",
    "init_weights",
    "list_models",
    "load_checkpoint",
    "load_data",
    "load_pretrained",
    "logit_lens",
    "occlusion",
    "param_groups",
    "patchify",
    "principal_components",
    "read_by_head",
    "resample_pos_embed",
    "save_checkpoint",
    "sincos_2d",
    "tokens_to_grid",
    "unpatchify",
]
