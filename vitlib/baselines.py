"""What a Vision Transformer is measured against, and what may teach it: a small convolutional net.

    images (B, C, H, W) -> 3 × (convolution 3 × 3, batch norm, ReLU, half the height and width)
    -> flatten -> linear -> logits (B, K)

A convolution looks at neighbours, and slides the same weights over the whole picture: it need not
learn that near pixels belong together, nor that a stroke is a stroke wherever it stands. A ViT has
to learn both from the images.
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitlib.patch import Size, check_images, pair


class SmallCNN(nn.Module):
    """A small convolutional network: images (B, C, H, W) to logits (B, K).

    Args:
        img_size: in pixels, a side or (height, width), each at least 8.
        in_chans: channels C; 1 for grey images.
        num_classes: K.
        width: channels after the first convolution; the other two have twice as many.

    Raises ValueError for numbers from which no network can be built, and in `forward` for images
    that do not fit.
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
        counts = {"in_chans": in_chans, "num_classes": num_classes, "width": width}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
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
