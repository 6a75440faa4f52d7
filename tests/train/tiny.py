"""A model, a teacher and data that are trained in a moment, and settings for it."""

from dataclasses import replace

import torch
from torch import nn

from vitlib.data import ImageData, ImageSet
from vitlib.model import VisionTransformer
from vitlib.train import TrainConfig

SHORT = TrainConfig(
    steps=12, batch_size=8, lr=5e-3, min_lr=1e-5, warmup_steps=3, val_fraction=0.25, eval_every=5,
    progress=False, augment="none",
)  # fmt: skip

# Everything that draws random numbers is on; 24 images in batches of 8 are 3 steps an epoch, so
# that step 7, after the checkpoint of step 5, lies in another epoch than the checkpoint.
RANDOM = replace(
    SHORT, augment="affine", mixup=0.4, cutmix=0.4, checkpoint_every=5, ema_decay=0.9, eval_every=3
)
DROPS = {"drop_rate": 0.1, "drop_path_rate": 0.1, "attn_drop_rate": 0.1}


def tiny_model(seed: int = 0, **options) -> VisionTransformer:
    torch.manual_seed(seed)
    settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 3} | options
    return VisionTransformer(**{"embed_dim": 16, "depth": 2, "num_heads": 2} | settings)


def tiny_data(n: int = 48, channels: int = 1, size: int = 8) -> ImageData:
    """Three classes that differ in brightness, so that they can be learnt."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 60, (n, channels, size, size), generator=generator)
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    parts = (
        ImageSet(images[part], labels[part], (0.4,) * channels, (0.3,) * channels)
        for part in (slice(0, n * 2 // 3), slice(n * 2 // 3, n))
    )
    return ImageData(
        "tiny", *parts, ("dark", "grey", "light"), (0.4,) * channels, (0.3,) * channels
    )


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Teacher(nn.Module):
    def __init__(self, classes: int = 3):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.drop(self.linear(x.flatten(1)))
