"""Saving and loading weights: vitlib's own files, and those that others have published.

    native.py      save_checkpoint, load_checkpoint: one safetensors file, settings in its header
    hub.py         the Hugging Face Hub: which files of a repository are needed, and its cache
    reading.py     a file, folder or Hub id -> tensors under foreign names, and the files with them
    wrappers.py    dictionaries and prefixes around the weights, taken off; arrays.py: one value
    dialects.py    foreign names -> timm's, which are vitlib's (tables.py lists them)
    settings.py    what belongs to weights besides the numbers: eps, activation, mean, std, sizes
    configs.py     the files that state them; known_settings.py lists each setting and its use
    positions.py   position embeddings for another layout or another grid
    fitting.py     which of the tensors goes where in a model, and what does not fit
    pretrained.py  load_pretrained: all of these together, with a report (report.py)

Data go one way: file or Hub -> tensors under foreign names -> timm's names -> model and report.
"""

from vitlib.checkpoints.dialects import (
    SOURCES,
    Translation,
    convert_state_dict,
    detect_source,
    translate,
)
from vitlib.checkpoints.native import (
    Checkpoint,
    ForeignWeights,
    TrainingState,
    adopt_statistics,
    describe,
    digest_weights,
    load_checkpoint,
    load_weights,
    read_checkpoint,
    restore_model,
    save_checkpoint,
    unwrapped,
)
from vitlib.checkpoints.pretrained import build_pretrained, load_preset, load_pretrained
from vitlib.checkpoints.reading import Foreign, read_foreign
from vitlib.checkpoints.report import LoadReport
from vitlib.checkpoints.settings import SourceSettings, settings_of

__all__ = [
    "SOURCES",
    "Checkpoint",
    "Foreign",
    "ForeignWeights",
    "LoadReport",
    "SourceSettings",
    "TrainingState",
    "Translation",
    "adopt_statistics",
    "build_pretrained",
    "convert_state_dict",
    "describe",
    "detect_source",
    "digest_weights",
    "load_checkpoint",
    "load_preset",
    "load_pretrained",
    "load_weights",
    "read_checkpoint",
    "read_foreign",
    "restore_model",
    "save_checkpoint",
    "settings_of",
    "translate",
    "unwrapped",
]
