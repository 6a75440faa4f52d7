"""Training: what a run is told, the loop, what comes of it, and what it is worth.

history.py       TrainConfig, History, TrainState
loop.py          fit, and its parts: param_groups, warmup_cosine, ema_update, pick_device
distillation.py  DistillationLoss, a teacher's part in the loss
resume.py        a run as a checkpoint, between two steps
evaluation.py    evaluate: loss, accuracy and answers
"""

from vitlib.train.distillation import DistillationLoss
from vitlib.train.evaluation import Evaluation, evaluate
from vitlib.train.history import History, TrainConfig, TrainState
from vitlib.train.loop import ema_update, fit, param_groups, pick_device, warmup_cosine

__all__ = [
    "DistillationLoss", "Evaluation", "History", "TrainConfig", "TrainState", "ema_update",
    "evaluate", "fit", "param_groups", "pick_device", "warmup_cosine",
]  # fmt: skip
