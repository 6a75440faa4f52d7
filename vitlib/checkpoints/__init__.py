"""Weights and where they come from: the library's own files, and the world's.

    native.py      save_checkpoint, load_checkpoint: one safetensors file, settings in its header

Data goes one way: file or Hub -> tensors under foreign names -> timm's names -> model and report.
"""

from vitlib.checkpoints.native import (
    Checkpoint,
    TrainingState,
    adopt_statistics,
    describe,
    load_checkpoint,
    load_packaged,
    load_weights,
    read_checkpoint,
    refuse_non_file,
    save_checkpoint,
    unwrapped,
)

__all__ = [
    "Checkpoint",
    "TrainingState",
    "adopt_statistics",
    "describe",
    "load_checkpoint",
    "load_packaged",
    "load_weights",
    "read_checkpoint",
    "refuse_non_file",
    "save_checkpoint",
    "unwrapped",
]
