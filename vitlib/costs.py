"""What a training step of a ViT costs, on paper: parameters, FLOPs, bytes of memory, seconds.

    sizes, batch, options -> TrainingCost -> multiply_adds, flops, memory, seconds

The model is a plain `VisionTransformer`: a class token, learned positions, biases, the fused
attention kernel, no dropout; the optimiser is AdamW in float32. What autograd keeps for backward
is counted tensor by tensor, as PyTorch 2.13 keeps it; tests/test_costs.py compares with that.
Sources: backward as twice forward, Kaplan et al. 2020, "Scaling Laws for Neural Language Models",
section 2.1; recomputation, Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
"""

from dataclasses import dataclass
from typing import Any

from vitlib.wording import check_count

FLOAT32, BFLOAT16 = 4, 2  # bytes


@dataclass(frozen=True)
class TrainingCost:
    """One training step of a ViT on square images, counted.

    Args:
        img_size, patch_size: sides in pixels.
        in_chans, num_classes, embed_dim, depth, num_heads, mlp_ratio: as VisionTransformer's.
        batch: images per step that are in memory at the same time.
        bf16: whether forward and backward run in bfloat16 autocast; weights stay in float32.
        checkpointing: whether each block keeps its input alone and is computed again for backward.

    Raises ValueError for counts below 1, and where patches do not divide the image or heads the
    width.
    """

    img_size: int = 224
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    batch: int = 1
    bf16: bool = False
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in (
            "img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads",
            "batch",
        ):  # fmt: skip
            check_count(name, getattr(self, name))
        for whole, part in (("img_size", "patch_size"), ("embed_dim", "num_heads")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{part} must divide {whole} {getattr(self, whole)}, got {getattr(self, part)}"
                )

    @classmethod
    def of(cls, model: Any, **options: Any) -> "TrainingCost":
        """The cost of a VisionTransformer; `options` are batch, bf16 and checkpointing."""
        names = (
            "img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads",
            "mlp_ratio",
        )  # fmt: skip
        return cls(**{name: model.config[name] for name in names}, **options)

    # --- sizes

    @property
    def tokens(self) -> int:
        """T, the class token included."""
        return (self.img_size // self.patch_size) ** 2 + 1

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return int(self.mlp_ratio * self.embed_dim)

    @property
    def matrix_weights(self) -> int:
        """Weights of the matrices and of the patch convolution: what autocast casts."""
        D = self.embed_dim
        return (self._patch_numbers + self.num_classes) * D + self.depth * self._block_matrices

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        D = self.embed_dim
        block = 3 * D + D + self.hidden + D + 4 * D  # biases of the four matrices, two norms
        others = D + D + self.tokens * D + 2 * D + self.num_classes  # patch bias, class token, ...
        return self.matrix_weights + self.depth * block + others

    # --- arithmetic

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image in the forward pass."""
        return self._embedding + self.depth * self._block + self.embed_dim * self.num_classes

    @property
    def flops(self) -> int:
        """Floating-point operations of a step in matrix products, two for each multiply-add.

        Backward takes twice as many as forward: each product has two gradients. Pixels need none.
        With checkpointing, each block is computed once more, up to the last tensor that its
        backward needs: PyTorch stops before the MLP's second product ("early stop").
        """
        second_product = self.tokens * self.embed_dim * self.hidden
        again = self.depth * (self._block - second_product) if self.checkpointing else 0
        return 2 * self.batch * (3 * self.multiply_adds - self._embedding + again)

    def seconds(self, flops_per_second: float) -> float:
        """Duration of a step at that speed, which is the machine's peak times the share reached."""
        return self.flops / flops_per_second

    # --- memory, in bytes

    @property
    def weights(self) -> int:
        """Weights in float32, and the copies that autocast makes of the matrices."""
        return FLOAT32 * self.parameters + (BFLOAT16 * self.matrix_weights if self.bf16 else 0)

    @property
    def gradients(self) -> int:
        """One float32 number for each parameter."""
        return FLOAT32 * self.parameters

    @property
    def optimizer(self) -> int:
        """AdamW's two running averages for each parameter."""
        return 2 * FLOAT32 * self.parameters

    @property
    def activations(self) -> int:
        """What autograd keeps at its fullest: of all blocks, or their inputs and one block."""
        inputs = FLOAT32 * self.batch * self.tokens * self.embed_dim
        if self.checkpointing:
            return self._kept_outside + self.depth * inputs + self._kept_in_block - inputs
        return self._kept_outside + self.depth * self._kept_in_block

    @property
    def memory(self) -> int:
        """All four together; what is in use for a moment only, within an operation, is left out."""
        return self.weights + self.gradients + self.optimizer + self.activations

    # --- parts

    @property
    def _patch_numbers(self) -> int:
        return self.in_chans * self.patch_size**2

    @property
    def _block_matrices(self) -> int:
        return 4 * self.embed_dim**2 + 2 * self.embed_dim * self.hidden

    @property
    def _embedding(self) -> int:
        return (self.tokens - 1) * self._patch_numbers * self.embed_dim

    @property
    def _block(self) -> int:
        return self.tokens * self._block_matrices + 2 * self.tokens**2 * self.embed_dim

    @property
    def _kept_in_block(self) -> int:
        """Inputs of both norms; their outputs, q, k, v, what attention returns, and the MLP's two.

        Besides these, float32 numbers per token: mean and deviation of both norms, one per head.
        """
        product = BFLOAT16 if self.bf16 else FLOAT32
        per_token = FLOAT32 * (2 * self.embed_dim + 4 + self.num_heads)
        per_token += product * (6 * self.embed_dim + 2 * self.hidden)
        return self.batch * self.tokens * per_token

    @property
    def _kept_outside(self) -> int:
        """The pixels; input, mean and deviation of the last norm, its output; log-probabilities."""
        product = BFLOAT16 if self.bf16 else FLOAT32
        pixels = product * self.in_chans * self.img_size**2
        norm = FLOAT32 * self.tokens * (self.embed_dim + 2)
        # In bfloat16 the head's input is a copy of the class token alone.
        head = self.embed_dim * (BFLOAT16 if self.bf16 else FLOAT32 * self.tokens)
        return self.batch * (pixels + norm + head + FLOAT32 * self.num_classes)
