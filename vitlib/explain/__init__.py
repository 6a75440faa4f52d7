"""Looking inside a model: its attention weights, what its answer rests on, and in which layer.

    recorder.py  AttentionRecorder       the weights of every layer and head, while the model runs
    maps.py      tokens_to_grid, read_by_head, attention_rollout, attention_distance,
                 principal_components    computed from weights or tokens, without running a model
    answers.py   gradient_rollout, occlusion, logit_lens
                                         explanations of a model's answer, for which it is run
    methods.py   find_method             any of these by its name, as one map per image
    pictures.py  attend                  the same for picture files, of any size, and drawn
    recorded.py  record_attention        the weights in few bytes, to be shown without the model

The functions take batches, change neither the model nor its gradients, and answer as in eval mode.
"""

from vitlib.explain.answers import gradient_rollout, logit_lens, occlusion
from vitlib.explain.maps import (
    attention_distance,
    attention_rollout,
    principal_components,
    read_by_head,
    tokens_to_grid,
)
from vitlib.explain.pictures import AttendedPicture, attend
from vitlib.explain.recorded import AttentionRecord, record_attention
from vitlib.explain.recorder import AttentionRecorder

__all__ = [
    "AttendedPicture",
    "AttentionRecord",
    "AttentionRecorder",
    "attend",
    "attention_distance",
    "attention_rollout",
    "gradient_rollout",
    "logit_lens",
    "occlusion",
    "principal_components",
    "read_by_head",
    "record_attention",
    "tokens_to_grid",
]
