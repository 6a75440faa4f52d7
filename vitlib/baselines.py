"""What a Vision Transformer is compared with: a small convolutional network, and MLP-Mixer.

    images (B, C, H, W)
      SmallCNN -> 3 × (convolution 3 × 3, batch norm, ReLU, half the height and width) -> flatten
      MlpMixer -> patches -> tokens (B, N, D) -> depth × MixerBlock -> norm -> mean of the tokens
    -> linear -> logits (B, K)

A convolution combines neighbouring pixels, and applies the same weights everywhere in the picture.
So it does not need to learn that near pixels belong together, or that a stroke is the same stroke
in another place. A ViT has to learn both from the images, and so has a Mixer, which exchanges
attention for an MLP over the tokens: the same weights for every image, one for each pair of places.

Source of MLP-Mixer: Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision".
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.blocks import DropPath, Layer, Mlp
from vitlib.init import init_weights
from vitlib.patch import PatchEmbed, Size, check_images, grid_of, pair
from vitlib.wording import check_count, check_rate


class SmallCNN(nn.Module):
    """A small convolutional network: images (B, C, H, W) to logits (B, K).

    Args:
        img_size: in pixels, a side or (height, width), each at least 8.
        in_chans: channels C; 1 for grey images.
        num_classes: K.
        width: channels after the first convolution; the other two have twice as many.

    Raises ValueError for a side below 8 or a count below 1, and in `forward` for images that do not
    fit.
    """

    # Pixel statistics and class names that the weights were trained with, set by `fit`, as in
    # VisionTransformer. None means unknown.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None

    def __init__(
        self, img_size: Size = 28, in_chans: int = 1, num_classes: int = 10, width: int = 32
    ):
        super().__init__()
        height, width_ = self.img_size = pair(img_size, "img_size")
        if min(self.img_size) < 8:
            raise ValueError(f"img_size must be at least 8, to be halved 3 times: got {img_size}")
        check_count("in_chans", in_chans)
        check_count("num_classes", num_classes)
        check_count("width", width)
        self.in_chans, self.num_classes = in_chans, num_classes
        self.features = nn.Sequential(
            *_stage(in_chans, width), *_stage(width, 2 * width), *_stage(2 * width, 2 * width)
        )
        self.head = nn.Linear(2 * width * (height // 8) * (width_ // 8), num_classes)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        check_images(images, self.in_chans, self.img_size)
        return self.head(self.features(images).flatten(1))


def _stage(in_chans: int, out_chans: int) -> tuple[nn.Module, ...]:
    """Images (B, in, H, W) to (B, out, H // 2, W // 2)."""
    convolution = nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False)  # the norm has a bias
    return convolution, nn.BatchNorm2d(out_chans), nn.ReLU(), nn.MaxPool2d(2)


class MixerBlock(nn.Module):
    """Mixes tokens, then channels: x + mlp_tokens(norm1(x)ᵀ)ᵀ, then x + mlp_channels(norm2(x)).

    Args:
        dim: width D.
        seq_len: number of tokens N. The first MLP has weights for exactly so many.
        mlp_ratio: hidden widths of the two MLPs as multiples of D, both of D, rounded down; one
            number stands for both.
        norm_layer: a class (or a partial of one); None means LayerNorm with eps 1e-6.
        drop: dropout in the MLPs; drop_path: probability that a sample skips an MLP in training.

    Raises ValueError where `Mlp` or `DropPath` does, and for an mlp_ratio that is not one number or
    two.
    Source: Tolstikhin et al. 2021, section 2, equation 1.
    """

    def __init__(
        self,
        dim: int,
        seq_len: int,
        mlp_ratio: float | Sequence[float] = (0.5, 4.0),
        norm_layer: Layer | None = None,
        drop: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        ratios = tuple(mlp_ratio) if isinstance(mlp_ratio, Sequence) else (mlp_ratio, mlp_ratio)
        if len(ratios) != 2:
            raise ValueError(f"mlp_ratio must be one number or two, got {mlp_ratio!r}")
        tokens_dim, channels_dim = (int(ratio * dim) for ratio in ratios)
        norm_layer = norm_layer or partial(nn.LayerNorm, eps=1e-6)
        self.norm1 = norm_layer(dim)
        self.mlp_tokens = Mlp(seq_len, tokens_dim, drop=drop)
        self.norm2 = norm_layer(dim)
        self.mlp_channels = Mlp(dim, channels_dim, drop=drop)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.drop_path(mixed)
        return x + self.drop_path(self.mlp_channels(self.norm2(x)))


class MlpMixer(nn.Module):
    """MLP-Mixer: images (B, C, H, W) to logits (B, K), with the parameter names of timm.

    It has no positions, since each place has its own weights in the MLP over the tokens; and no
    class token, since the head reads the mean of all tokens.

    Args:
        img_size, patch_size: in pixels, a side or (height, width).
        in_chans: channels C.
        num_classes: K; 0 for no head, then `forward` returns the mean of the tokens (B, D).
        embed_dim: width D.
        depth: number of blocks (`num_blocks` in timm).
        mlp_ratio, norm_layer: as in `MixerBlock`.
        drop_rate: dropout in the MLPs (`proj_drop_rate` in timm).
        drop_path_rate: stochastic depth, from 0 in the first block, growing evenly, to this in the
            last, as in the paper's appendix.

    Weights start as in the scheme "jax" of vitlib.init: Xavier, and a head of zeros.
    Raises ValueError where its parts do, and in `forward` for images that do not fit.
    """

    # As in SmallCNN.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 512,
        depth: int = 8,
        mlp_ratio: float | Sequence[float] = (0.5, 4.0),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: Layer | None = None,
    ):
        super().__init__()
        check_count("depth", depth)
        check_count("num_classes", num_classes, least=0)
        check_rate("drop_rate", drop_rate)
        check_rate("drop_path_rate", drop_path_rate)
        norm_layer = norm_layer or partial(nn.LayerNorm, eps=1e-6)
        self.img_size, self.in_chans = pair(img_size, "img_size"), in_chans
        self.num_classes, self.embed_dim = num_classes, embed_dim
        self.stem = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        rows, columns = grid_of(img_size, patch_size)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *(
                MixerBlock(embed_dim, rows * columns, mlp_ratio, norm_layer, drop_rate, rate)
                for rate in rates
            )
        )
        self.norm = norm_layer(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        init_weights(self, "jax")

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        """The tokens after the last block and its norm."""
        return self.norm(self.blocks(self.stem(images)))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        check_images(images, self.in_chans, self.img_size)
        return self.head(self.forward_features(images).mean(dim=1))
