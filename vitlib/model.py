"""The Vision Transformer, and DeiT's with a distillation token.

    images (B, C, H, W) -> tokens (B, N, D) -> [class, distillation, registers, patches] + positions
    -> depth × Block -> LayerNorm -> pool -> head -> logits (B, K)

The parameters have timm's names, so that timm's and DeiT's weights load as they are.
Sources: Dosovitskiy et al. 2021 (ViT); Touvron et al. 2021 (DeiT), section 4; registers: Darcet
et al. 2024; average pooling and sin-cos positions: Beyer et al. 2022, "Better plain ViT baselines".
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitlib.blocks import Block, Layer
from vitlib.init import init_weights
from vitlib.patch import PatchEmbed, Size, check_images, grid_of, pair
from vitlib.pos_embed import resample_pos_embed, sincos_2d
from vitlib.wording import check_count, check_rate


class VisionTransformer(nn.Module):
    """Vision Transformer: images (B, C, H, W) to logits (B, K).

    Args:
        img_size, patch_size: a side or (height, width), in pixels.
        in_chans: channels C; 1 for grey images.
        num_classes: K; 0 leaves out the head and returns the pooled features.
        embed_dim, depth, num_heads, mlp_ratio, qkv_bias, qk_scale: see `Block`.
        representation_size: width of a Linear + tanh before the head (the paper's pre-training
            head); None leaves it out. It cannot be combined with `distilled`.
        distilled: whether there is a distillation token, with a head of its own.
        pos_embed: "learned", "sincos" (two-dimensional, fixed) or "none".
        reg_tokens: number of register tokens.
        global_pool: "token" reads the class token; "avg" averages the patch tokens and then
            normalises them (`fc_norm`, as in timm). A distilled model needs "token".
        drop_rate: dropout after the embedding and after each projection.
        attn_drop_rate: dropout on the attention weights.
        drop_path_rate: stochastic depth; it grows linearly from 0 in the first block to this value
            in the last.
        init_values: initial value of LayerScale; None leaves it out.
        embed_layer: called with img_size (None if every size is accepted), patch_size, in_chans
            and embed_dim, makes the module that turns images into tokens (B, N, D).
        norm_layer, act_layer: classes; None means LayerNorm with eps 1e-6, and exact GELU.
        weight_init: "", "jax", "jax_nlhb" or "nlhb"; see vitlib.init.
        dynamic_img_size: whether to accept every image size that the patch size divides, and
            resample the positions to it.
        no_embed_class: whether only patches have positions, and prefix tokens none.
        pos_antialias: whether resampling to a smaller grid is anti-aliased, as in timm; see
            `resample_pos_embed`.

    Raises ValueError for sizes that do not divide, for values out of range, and for options that
    contradict each other.
    """

    # The pixel statistics and class names that the weights were trained with; presets, `fit` and
    # `load_checkpoint` set them. None means unknown.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None

    pos_embed: Tensor | None
    head: nn.Module
    head_dist: nn.Module

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        representation_size: int | None = None,
        distilled: bool = False,
        pos_embed: str = "learned",
        reg_tokens: int = 0,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init_values: float | None = None,
        embed_layer: Callable[..., nn.Module] = PatchEmbed,
        norm_layer: Layer | None = None,
        act_layer: Layer | None = None,
        weight_init: str = "",
        dynamic_img_size: bool = False,
        no_embed_class: bool = False,
        pos_antialias: bool = True,
    ):
        arguments = dict(locals())
        del arguments["self"], arguments["__class__"]
        _check_arguments(**arguments)
        super().__init__()
        if embed_layer is PatchEmbed:
            del arguments["embed_layer"]
        self.config = arguments  # what it takes to build this model again, for checkpoints
        self.img_size = pair(img_size, "img_size")
        self.patch_size = pair(patch_size, "patch_size")
        self.grid_size = grid_of(img_size, patch_size)
        self.in_chans, self.num_classes, self.embed_dim = in_chans, num_classes, embed_dim
        self.distilled, self.global_pool = distilled, global_pool
        self.dynamic_img_size, self.pos_antialias = dynamic_img_size, pos_antialias
        self.num_prefix_tokens = 1 + int(distilled) + reg_tokens
        self.num_prefix_positions = 0 if no_embed_class else self.num_prefix_tokens
        norm = norm_layer or partial(nn.LayerNorm, eps=1e-6)
        act = act_layer or nn.GELU

        # patch tokens
        accepted_size = None if dynamic_img_size else img_size
        self.patch_embed = embed_layer(
            img_size=accepted_size, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim
        )
        # prefix tokens and positions
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if distilled else None
        self.reg_token = nn.Parameter(torch.zeros(1, reg_tokens, embed_dim)) if reg_tokens else None
        self._make_positions(pos_embed)
        self.pos_drop = nn.Dropout(drop_rate)
        # blocks
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *[
                Block(
                    embed_dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, qk_scale=qk_scale,
                    drop=drop_rate, attn_drop=attn_drop_rate, drop_path=drop_path,
                    init_values=init_values, act_layer=act, norm_layer=norm,
                )
                for drop_path in rates
            ]
        )  # fmt: skip
        # LayerNorm, before or after pooling
        pooled = global_pool == "avg"
        self.norm = nn.Identity() if pooled else norm(embed_dim)
        self.fc_norm = norm(embed_dim) if pooled else nn.Identity()
        # head
        self.num_features = representation_size or embed_dim  # input width of the head
        self.pre_logits = nn.Sequential()
        if representation_size:
            self.pre_logits.add_module("fc", nn.Linear(embed_dim, representation_size))
            self.pre_logits.add_module("act", nn.Tanh())
        self._make_heads(num_classes)
        init_weights(self, weight_init)

    def forward(
        self, images: Float[Tensor, "B C H W"], return_dist: bool = False
    ) -> Float[Tensor, "B K"] | tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Logits (B, K); for a distilled model, the mean of both heads.

        With `return_dist`: (class logits, distillation logits), each (B, K).
        Raises ValueError for images that do not fit, and if the model is not distilled but
        `return_dist` is asked for.
        """
        features = self.forward_features(images)
        if not return_dist:
            return self.forward_head(features)
        if not self.distilled:
            raise ValueError("return_dist=True needs a model built with distilled=True")
        return self.head(features[:, 0]), self.head_dist(features[:, 1])

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T D"]:
        """All tokens after the last block, (B, prefix + N, D), normalised.

        With global_pool="avg" the norm comes after pooling, in `forward_head`.
        """
        return self.norm(self.blocks(self._tokens(images)))

    def forward_intermediates(
        self, images: Float[Tensor, "B C H W"]
    ) -> list[Float[Tensor, "B T D"]]:
        """The tokens (B, prefix + N, D) after each block, not normalised."""
        x, intermediates = self._tokens(images), []
        for block in self.blocks:
            x = block(x)
            intermediates.append(x)
        return intermediates

    def forward_head(
        self, features: Float[Tensor, "B T D"], pre_logits: bool = False
    ) -> Float[Tensor, "B K"]:
        """Pool the tokens (B, prefix + N, D) and classify them: logits (B, K).

        With `pre_logits`: the pooled features (B, D or representation_size), the head's input.
        """
        if self.distilled:
            class_token, dist_token = features[:, 0], features[:, 1]  # (B, D) each
            if pre_logits:
                return (class_token + dist_token) / 2
            return (self.head(class_token) + self.head_dist(dist_token)) / 2
        if self.global_pool == "avg":
            pooled = features[:, self.num_prefix_tokens :].mean(dim=1)  # (B, D)
        else:
            pooled = features[:, 0]
        pooled = self.pre_logits(self.fc_norm(pooled))
        return pooled if pre_logits else self.head(pooled)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay should not touch: tokens and positions."""
        names = {"cls_token", "dist_token", "reg_token", "pos_embed"}
        return names & {name for name, _ in self.named_parameters()}

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """The head; for a distilled model, both heads."""
        return (self.head, self.head_dist) if self.distilled else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model new heads for `num_classes` classes (0 means none).

        They are initialised by the model's `weight_init`. `global_pool` changes the pooling; the
        trained final norm moves to where that pooling applies it.
        Raises ValueError for arguments that the constructor refuses, and then changes nothing.
        """
        pool = self.global_pool if global_pool is None else global_pool
        _check_arguments(**self.config | {"num_classes": num_classes, "global_pool": pool})
        if pool != self.global_pool:
            self.norm, self.fc_norm = self.fc_norm, self.norm
        self.global_pool = pool
        self._make_heads(num_classes)
        self.config |= {"num_classes": num_classes, "global_pool": pool}
        self.classes = None
        heads = nn.ModuleDict({name: getattr(self, name) for name in self._head_names()})
        init_weights(heads.to(self.cls_token), self.config["weight_init"])

    def _tokens(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T D"]:
        """The prefix tokens and then the patch tokens, (B, prefix + N, D), positions added."""
        check_images(images, self.in_chans, None if self.dynamic_img_size else self.img_size)
        batch = images.shape[0]
        grid = grid_of(images.shape[-2:], self.patch_size)
        x = self.patch_embed(images)  # (B, N, D)
        if x.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"embed_layer made {x.shape[1]} tokens of an image of {grid[0]}×{grid[1]} patches"
            )
        if not self.num_prefix_positions:
            x = self._add_positions(x, grid)
        prefix = [self.cls_token, self.dist_token, self.reg_token]
        x = torch.cat([*[t.expand(batch, -1, -1) for t in prefix if t is not None], x], dim=1)
        if self.num_prefix_positions:  # x is (B, prefix + N, D)
            x = self._add_positions(x, grid)
        return self.pos_drop(x)

    def _add_positions(
        self, x: Float[Tensor, "B T D"], grid: tuple[int, int]
    ) -> Float[Tensor, "B T D"]:
        if self.pos_embed is None:
            return x
        count, antialias = self.num_prefix_positions, self.pos_antialias
        return x + resample_pos_embed(self.pos_embed, grid, self.grid_size, count, antialias)

    def _make_positions(self, kind: str) -> None:
        length = self.num_prefix_positions + self.grid_size[0] * self.grid_size[1]
        if kind == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, length, self.embed_dim))
        elif kind == "sincos":
            grid = sincos_2d(self.embed_dim, self.grid_size)  # (N, D); prefix tokens get zeros
            positions = torch.cat([torch.zeros(self.num_prefix_positions, self.embed_dim), grid])
            self.register_buffer("pos_embed", positions[None])
        else:
            self.pos_embed = None

    def _head_names(self) -> list[str]:
        return ["head", "head_dist"] if self.distilled else ["head"]

    def _make_heads(self, num_classes: int) -> None:
        self.num_classes = num_classes
        for name in self._head_names():
            head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
            setattr(self, name, head)


def _check_arguments(**a: Any) -> None:
    """Raise a ValueError for what no layer checks: counts, rates, and options that contradict."""
    for name in ("depth", "num_classes", "reg_tokens", "representation_size"):
        check_count(name, 0 if a[name] is None else a[name], least=0)
    for name in ("drop_rate", "attn_drop_rate", "drop_path_rate"):
        check_rate(name, a[name])
    for name, allowed in {
        "pos_embed": ("learned", "sincos", "none"),
        "global_pool": ("token", "avg"),
    }.items():
        if a[name] not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {a[name]!r}")
    for name in ("embed_layer", "norm_layer", "act_layer"):
        if isinstance(a.get(name), nn.Module):
            class_name = type(a[name]).__name__
            raise ValueError(
                f"{name} must be a class, such as {class_name}, got an instance, {class_name}(...)"
            )
    if a["distilled"] and a["representation_size"]:
        raise ValueError(
            f"representation_size={a['representation_size']} cannot be combined with "
            f"distilled=True: the two heads read their tokens directly"
        )
    if a["distilled"] and a["global_pool"] == "avg":
        raise ValueError('distilled=True reads two tokens: it needs global_pool="token", got "avg"')
