"""CostFigure: memory and time of a training step, from the cost model, with measured steps."""

import json
import statistics
from dataclasses import fields
from importlib.resources import files
from typing import Any

from traitlets import Bool, Dict, Int, List, Unicode, validate

from vitlib.costs import TrainingCost
from vitlib.widgets.figure import Figure, check_choice

SIZES = {
    "img_size": (64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512),
    "embed_dim": (64, 128, 192, 256, 384, 512, 768, 1024, 1280),
    "depth": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
}


class CostFigure(Figure, script="costs.js"):
    """Move the sizes of a ViT with patches of 16 pixels and heads of 64 channels.

    A bar shows what fills the memory, and two curves memory and time along one of the sizes, all by
    `TrainingCost`, whose formulas static/costs.js repeats. Dots are the steps of
    vitlib/runs/costs.json, where all other settings are those chosen. The time of the curve is the
    FLOPs at the median speed of the measured steps in that precision.

    Args:
        img_size, embed_dim, depth, batch: each one of SIZES.
        bf16, checkpointing: as in `TrainingCost`.
        along: the size on the axis of the curves, a key of SIZES.

    Raises ValueError for any other value.
    """

    img_size = Int(224).tag(sync=True)
    embed_dim = Int(192).tag(sync=True)
    depth = Int(12).tag(sync=True)
    batch = Int(8).tag(sync=True)
    bf16 = Bool(False).tag(sync=True)
    checkpointing = Bool(False).tag(sync=True)
    along = Unicode("img_size").tag(sync=True)
    sizes = Dict({name: list(values) for name, values in SIZES.items()}).tag(sync=True)
    measured = List(Dict(), help="settings, bytes and seconds of the recorded steps").tag(sync=True)
    speeds = Dict(help="FLOPs per second by precision").tag(sync=True)

    def __init__(self, **chosen: Any):
        log = json.loads((files("vitlib") / "runs/costs.json").read_text("utf8"))
        super().__init__(
            title="What a training step costs",
            alt="Memory and time of one training step of a ViT. Choose the side of the image, the "
            "width, the depth, the batch, the precision and checkpointing. A bar shows how much "
            "memory weights, gradients, AdamW and activations take, and two curves show memory and "
            "time along one of the sizes, with dots where such a step was measured. A larger batch "
            "and larger images add activations, a wider model adds weights.",
            measured=log["points"],
            speeds=_median_speeds(log["points"]),
        )
        unknown = set(chosen) - {*SIZES, "bf16", "checkpointing", "along"}
        if unknown:
            raise ValueError(f"CostFigure has no setting {', '.join(sorted(unknown))}")
        for name, value in chosen.items():
            setattr(self, name, value)

    @validate(*SIZES)
    def _check_size(self, proposal: Any) -> int:
        name = proposal.trait.name
        return check_choice(name, proposal.value, SIZES[name])

    @validate("along")
    def _check_along(self, proposal: Any) -> str:
        return check_choice("along", proposal.value, SIZES)


def _median_speeds(points: list[dict[str, Any]]) -> dict[str, float]:
    """FLOPs per second of the measured steps, for each precision."""
    names = {field.name for field in fields(TrainingCost)}
    speeds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for point in points:
        cost = TrainingCost(**{name: point[name] for name in names})
        speeds["bfloat16" if cost.bf16 else "float32"].append(cost.flops / point["seconds"])
    return {precision: statistics.median(found) for precision, found in speeds.items()}
