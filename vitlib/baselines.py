"""A small convolutional network, to compare a Vision Transformer with, and to be its teacher.

    images (B, C, H, W) -> 3 × (convolution 3 × 3, batch norm, ReLU, half the height and width)
    -> flatten -> linear -> logits (B, K)

A convolution combines neighbouring pixels, and applies the same weights everywhere in the picture.
So it does not need to learn that near pixels belong together, or that a stroke is the same stroke
in another place. A ViT has to learn both from the images.
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitlib.patch import Size, check_images, pair
from vitlib.wording import check_count


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
