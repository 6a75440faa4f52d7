"""Measures what chapter 15 says of DINOv2-small, for pretrained.json; no training, ten minutes.

    python -m vitlib.runs.record_pretrained WEIGHTS --model "DINOv2-small, as published"

WEIGHTS is a folder or a Hub id that both vitlib and `transformers` load, facebook/dinov2-small by
default; --model says in words whose weights these are. Recorded are

- "ladder": for photos of two sizes the differences ‖ours − theirs‖ / ‖theirs‖ from
  transformers.Dinov2Model after each block and after the last norm; "mistakes": the same at the
  smaller size, with one setting that is wrong;
- "layer_scale": the mean size of LayerScale's factors in each block;
- "norms": for each photo and block the median and the largest norm of the patch tokens, and the
  norm of the class token;
- "covered": for each photo how far the class token turns, 1 − cosine, when a square of 2×2 patches
  is painted in the mean colour, each square in turn.

The chapter computes all but the last itself where it finds weights.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vitlib import create_model
from vitlib.model import VisionTransformer
from vitlib.runs.photos import PHOTOS, photo_input
from vitlib.runs.record_photos import SIDE

LOG = Path(__file__).with_name("pretrained.json")
SIZES = (518, 224)
SQUARE = 2  # patches


def smooth_positions(model: VisionTransformer) -> None:
    """Resample positions with anti-aliasing, as timm does."""
    model.pos_antialias = True


def leave_out_layer_scale(model: VisionTransformer) -> None:
    for block in model.blocks:
        block.ls1 = block.ls2 = nn.Identity()


def take_torchs_eps(model: VisionTransformer) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


MISTAKES: dict[str, Callable[[VisionTransformer], None]] = {
    "positions smoothed": smooth_positions,
    "no LayerScale": leave_out_layer_scale,
    "another eps": take_torchs_eps,
}


@torch.inference_mode()
def rungs_of(model: VisionTransformer, inputs: Float[Tensor, "1 C H W"]) -> list[Tensor]:
    """The tokens after each block and after the last norm."""
    return [*model.forward_intermediates(inputs), model.forward_features(inputs)]


@torch.inference_mode()
def rungs_of_theirs(model: Any, inputs: Float[Tensor, "1 C H W"]) -> list[Tensor]:
    """The same of transformers.Dinov2Model."""
    made = model(inputs, output_hidden_states=True)
    return [*made.hidden_states[1:], made.last_hidden_state]


def apart(ours: list[Tensor], theirs: list[Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True)]


@torch.inference_mode()
def covered(
    model: VisionTransformer, inputs: Float[Tensor, "1 C H W"], square: int
) -> list[list[float]]:
    """1 − cosine of the class token without and with each square of square × square patches in the
    mean colour, row by row; squares at the edges may be cut."""
    whole = model(inputs)
    side = square * model.patch_size[0]
    rows = []
    for top in range(0, inputs.shape[2], side):
        row = []
        for left in range(0, inputs.shape[3], side):
            hole = inputs.clone()
            hole[..., top : top + side, left : left + side] = 0
            row.append(round(1 - float(F.cosine_similarity(model(hole), whole)), 5))
        rows.append(row)
    return rows


def record(weights: str, words: str, log: Path = LOG) -> None:
    """Measure everything, and write the log."""
    import transformers

    def build() -> VisionTransformer:
        return create_model(weights, pretrained=True, dynamic_img_size=True)

    model = build()
    theirs = transformers.Dinov2Model.from_pretrained(weights, dtype=torch.float32).eval()
    ladder, mistakes = {}, {}
    for size in SIZES:
        inputs = photo_input(model, "astronaut", size)
        reference = rungs_of_theirs(theirs, inputs)
        ladder[size] = apart(rungs_of(model, inputs), reference)
    for name, make in MISTAKES.items():
        other = build()
        make(other)
        mistakes[name] = apart(rungs_of(other, inputs), reference)
    norms, squares = {}, {}
    for photo in PHOTOS:
        inputs = photo_input(model, photo, SIDE)
        with torch.inference_mode():
            tokens = torch.cat(model.forward_intermediates(inputs)).norm(dim=-1)  # (L, T)
        patches = tokens[:, model.num_prefix_tokens :]
        norms[photo] = {
            "median": [round(one, 2) for one in patches.median(dim=1).values.tolist()],
            "largest": [round(one, 2) for one in patches.amax(dim=1).tolist()],
            "class token": [round(one, 2) for one in tokens[:, 0].tolist()],
        }
        squares[photo] = covered(model, inputs, SQUARE)
        print(photo, flush=True)
    found = {
        "model": words,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "ladder": ladder,
        "mistakes": mistakes,
        "layer_scale": {
            name: [
                round(float(getattr(block, scale).gamma.abs().mean()), 3) for block in model.blocks
            ]
            for name, scale in (("attention", "ls1"), ("MLP", "ls2"))
        },
        "norms": norms,
        "covered": squares,
    }
    log.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="facebook/dinov2-small")
    parser.add_argument("--model", default="DINOv2-small")
    given = parser.parse_args()
    record(given.weights, given.model)
