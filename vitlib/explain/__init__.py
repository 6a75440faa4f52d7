"""Looking inside a model: its attention weights, what its answer rests on, and in which layer.

    recorder.py  AttentionRecorder       the weights of every layer and head, while the model runs
    maps.py      tokens_to_grid, read_by_head, attention_rollout, attention_distance
                                         computed from those weights alone, without running a model
    answers.py   gradient_rollout, occlusion, logit_lens
                                         explanations of a model's answer, for which it is run
    methods.py   find_method             any of these by its name, as one map per image

The functions take batches, change neither the model nor its gradients, and answer as in eval mode.
"""

from vitlib.explain.answers import gradient_rollout, logit_lens, occlusion
from vitlib.explain.maps import (
    attention_distance,
    attention_rollout,
    read_by_head,
    tokens_to_grid,
)
from vitlib.explain.recorder import AttentionRecorder

__all__ = [
    "AttentionRecorder",
    "attention_distance",
    "attention_rollout",
    "gradient_rollout",
    "logit_lens",
    "occlusion",
    "read_by_head",
    "tokens_to_grid",
]
