"""Data augmentation: random affine maps, crops and flips, RandAugment, mixup and cutmix.

    images (B, C, H, W) in [0, 1] -> augment -> images
    normalised images, targets (B, K) -> mixup or cutmix -> images, targets

Every random number here comes from torch's global CPU generator, whatever device the images are
on. So a seed determines a run, and a generator state saved in a checkpoint continues it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F

from vitlib.patch import Size, pair
from vitlib.wording import did_you_mean

RECIPES = ("none", "affine", "handwriting", "flip_crop", "randaugment")


def augment(recipe: str, img_size: Size, channels: int = 3) -> nn.Module:
    """A module that augments images (B, C, H, W) in [0, 1]; shape, dtype and range stay the same.

    Every image gets its own random changes. `recipe` is one of

    - "none": the images as they are;
    - "affine": rotation by up to 10°, shift by up to 8 % of the side, scale 0.9 to 1.1, shear along
      the rows by up to 5°, filled with black. For digits, which a flip would turn into other signs;
    - "handwriting": affine; then, for half of the images, shifts by up to 20 %, scales from 0.75 to
      1.25, shears by up to 10° and rotations by up to 12°; then strokes of other widths, or blurred
      (see `Strokes`). For digits that others have written and framed, white on black;
    - "flip_crop": a horizontal flip with probability 0.5, and a crop, as large as the image, from
      the image padded by an eighth of its side (4 pixels for 32). For small photos;
    - "randaugment": flip_crop, then RandAugment (n=2, m=9), then with probability 0.25 an erased
      rectangle: DeiT's recipe without some of its parts.

    Every recipe but "randaugment" takes any number of `channels`; that one takes 1 or 3.

    Raises ValueError for an unknown recipe, and for one that does not take that many channels.
    Source: Cubuk et al. 2020, RandAugment; Zhong et al. 2020, Random Erasing; Touvron et al. 2021.
    """
    import kornia.augmentation as K

    if recipe not in RECIPES:
        hint = did_you_mean(recipe, RECIPES)
        message = f"unknown augmentation {recipe!r}; choose one of {', '.join(RECIPES)}. {hint}"
        raise ValueError(message.rstrip(". "))
    if recipe == "randaugment":
        _check_colours(channels)
    if recipe == "none":
        return nn.Identity()
    affine = K.RandomAffine(degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=5, p=1.0)
    if recipe == "affine":
        return affine
    if recipe == "handwriting":
        wide = K.RandomAffine(degrees=12, translate=(0.2, 0.2), scale=(0.75, 1.25), shear=10, p=0.5)
        return nn.Sequential(affine, wide, Strokes())

    height, width = pair(img_size, "img_size")
    padding = (max(1, height // 8), max(1, width // 8))
    top_bottom_left_right = (padding[1], padding[0], padding[1], padding[0])
    flip_crop = [
        K.RandomHorizontalFlip(p=0.5),
        K.RandomCrop((height, width), padding=top_bottom_left_right),
    ]
    if recipe == "flip_crop":
        return nn.Sequential(*flip_crop)
    erase = K.RandomErasing(scale=(0.02, 0.33), ratio=(0.3, 3.3), p=0.25)
    return nn.Sequential(*flip_crop, RandAugment(num_ops=2, magnitude=9), erase)


class Strokes(nn.Module):
    """White strokes on black, as other pens and cameras draw them; a quarter of the images stay.

    A quarter of them become thicker, a quarter thinner, a quarter coarser: as if they had been
    stored with 0.4 of their height and width. Each is blended with what it was, in a random share.
    """

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        height, width = images.shape[-2:]
        few = (max(1, round(0.4 * height)), max(1, round(0.4 * width)))
        coarse = F.interpolate(images, few, mode="area")
        coarse = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
        thicker = F.max_pool2d(images, 3, stride=1, padding=1)
        thinner = -F.max_pool2d(-images, 3, stride=1, padding=1)
        choices = torch.stack([images, thicker, thinner, coarse])  # (4, B, C, H, W)
        drawn, share = torch.randint(4, (len(images),)), torch.rand(len(images), 1, 1, 1)
        other = choices[drawn.to(images.device), torch.arange(len(images), device=images.device)]
        return torch.lerp(images, other, share.to(images))


class RandAugment(nn.Module):
    """`num_ops` operations per image, drawn with replacement, at a `magnitude` from 0 to 30.

    kornia has the operations, but its own RandAugment draws one set of them for the whole batch, so
    that a whole batch may be inverted at once. Here, as in the paper, they are drawn per image.
    Source: Cubuk et al. 2020, "RandAugment", section 3.
    """

    def __init__(self, num_ops: int, magnitude: int) -> None:
        super().__init__()
        from kornia.augmentation.auto import RandAugment as BatchRandAugment
        from kornia.augmentation.auto.rand_augment.rand_augment import default_policy

        self.num_ops = num_ops
        self.ops = nn.ModuleList(
            BatchRandAugment(n=1, m=magnitude, policy=[operation]) for operation in default_policy
        )

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        _check_colours(images.shape[1])
        grey = images.shape[1] == 1
        # The colour operation needs three channels. If the three are equal, every operation
        # leaves them equal, so that the first one is the new grey image.
        out = images.expand(-1, 3, -1, -1).clone() if grey else images.clone()
        for _ in range(self.num_ops):
            drawn = torch.randint(len(self.ops), (len(images),))
            for number, operation in enumerate(self.ops):
                chosen = (drawn == number).nonzero()[:, 0].to(images.device)
                if len(chosen):
                    out[chosen] = operation(out[chosen]).clamp(0, 1)
        return out[:, :1] if grey else out


def _check_colours(channels: int) -> None:
    if channels not in (1, 3):
        raise ValueError(
            f"the augmentation 'randaugment' changes colours and takes images with 1 or 3 "
            f"channels, got {channels}: 'flip_crop', 'affine' and 'none' take any number"
        )


def mixup(
    images: Float[Tensor, "B C H W"], targets: Float[Tensor, "B K"], alpha: float
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
    """Blend each image and its target with those of another: λ a + (1 - λ) b, λ ~ Beta(α, α).

    There is one λ per batch. `targets` are probabilities, for instance one-hot.
    Raises ValueError unless alpha > 0.
    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2. kornia's
    mixup draws λ from a uniform distribution and returns labels in place of soft targets.
    """
    lam, partner = _draw_mix(len(images), alpha, images.device)
    return lam * images + (1 - lam) * images[partner], lam * targets + (1 - lam) * targets[partner]


def cutmix(
    images: Float[Tensor, "B C H W"], targets: Float[Tensor, "B K"], alpha: float
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
    """Paste a box of another image into each image, and mix the targets by area.

    λ ~ Beta(α, α). The box has the sides √(1 - λ) H and √(1 - λ) W, and its centre may be anywhere
    in the image, so that part of the box may lie outside. The targets are mixed by the area that
    was really pasted, not by 1 - λ. There is one box per batch, and `targets` are probabilities.
    Raises ValueError unless alpha > 0.
    Source: Yun et al. 2019, "CutMix", section 3.1 and its authors' code.
    """
    lam, partner = _draw_mix(len(images), alpha, images.device)
    height, width = images.shape[-2:]
    box_height, box_width = int(height * (1 - lam) ** 0.5), int(width * (1 - lam) ** 0.5)
    top = int(torch.randint(height, ())) - box_height // 2
    left = int(torch.randint(width, ())) - box_width // 2
    rows = slice(max(top, 0), min(top + box_height, height))
    columns = slice(max(left, 0), min(left + box_width, width))

    mixed = images.clone()
    mixed[..., rows, columns] = images[partner][..., rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, (1 - pasted) * targets + pasted * targets[partner]


def _draw_mix(batch: int, alpha: float, device: torch.device) -> tuple[float, Tensor]:
    """λ, and for each image the index of the one it is mixed with."""
    if not alpha > 0:
        raise ValueError(f"alpha of mixup and cutmix must be positive, got {alpha}")
    return float(Beta(alpha, alpha).sample()), torch.randperm(batch).to(device)
