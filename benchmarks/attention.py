"""What PyTorch's fused attention saves in a step on the CPU: `python benchmarks/attention.py`.

One step (forward, backward; 64 images) of each preset, with the fused kernel and step by step, in
float32 and in bfloat16, on one thread. "×" is the fused kernel's time as a multiple of the other.
`fit` computes step by step in bfloat16, since the kernel's backward pass is slow there.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.benchmark import Timer

from vitlib import create_model
from vitlib.attention import unfused

NAMES = ("vit_nano_patch7_28", "vit_nano_patch4_28", "vit_micro_patch4_32")
IMAGES = 64


def milliseconds(model: nn.Module, images: torch.Tensor, bf16: bool, fused: bool) -> float:
    """The median time of one step, per image."""
    labels = torch.zeros(len(images), dtype=torch.long)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()

    with nullcontext() if fused else unfused(model):
        timer = Timer("step()", globals={"step": step}, num_threads=1)
        return 1000 * timer.blocked_autorange(min_run_time=3).median / len(images)


def main() -> None:
    print(f"{'ms per image':<22}{'':>10}{'fused':>8}{'steps':>8}{'×':>7}")
    for name in NAMES:
        model = create_model(name).train()
        chans, side = model.patch_embed.proj.in_channels, model.patch_embed.img_size[0]
        images = torch.rand(IMAGES, chans, side, side)
        for bf16 in (False, True):
            fused, steps = (milliseconds(model, images, bf16, how) for how in (True, False))
            kind = "bfloat16" if bf16 else "float32"
            print(f"{name:<22}{kind:>10}{fused:>8.2f}{steps:>8.2f}{fused / steps:>7.2f}")


if __name__ == "__main__":
    main()
