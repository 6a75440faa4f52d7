"""Training: a run's settings, the loop, its record, and the evaluation of a model.

    history.py       TrainConfig, History, TrainState
    loop.py          fit, and its parts: param_groups, warmup_cosine, ema_update, pick_device
    requirements.py  what fit refuses before the first step
    distillation.py  DistillationLoss: how a teacher enters the loss; PartlyLabelled images
    resume.py        the state of a run between two steps, saved to and restored from a checkpoint
    interrupts.py    Ctrl-C and SIGTERM wait for the end of a step
    distributed.py   several processes: what they share, and what only the first of them does
    profile.py       Profile: where the time of the steps goes
    frozen.py        a backbone that is not trained, computed once per image
    evaluation.py    evaluate: loss, accuracy and answers
    features.py      extract_features: what a model makes of each image, kept on disk
    probe.py         fit_probe: nearest neighbours and logistic regression on such features

Data go one way: data set and TrainConfig -> fit -> trained model and History -> evaluate.
"""

from vitlib.train.distillation import UNLABELLED, DistillationLoss, PartlyLabelled
from vitlib.train.distributed import ProcessLost, is_first_process
from vitlib.train.evaluation import Evaluation, evaluate
from vitlib.train.features import extract_features
from vitlib.train.history import History, TrainConfig, TrainState
from vitlib.train.loop import ema_update, fit, param_groups, pick_device, warmup_cosine
from vitlib.train.probe import Probe, fit_probe
from vitlib.train.profile import Profile

__all__ = [
    "UNLABELLED",
    "DistillationLoss", "Evaluation", "History", "PartlyLabelled", "Probe", "ProcessLost",
    "Profile", "TrainConfig", "TrainState",
    "ema_update", "evaluate", "extract_features", "fit", "fit_probe", "is_first_process",
    "param_groups", "pick_device", "warmup_cosine",
]  # fmt: skip
