"""What static/vit.js does to a model, done in torch by hooks on vitlib's own; a model for it."""

from typing import Any

import torch
from torch import nn

from vitlib import VisionTransformer, patchify, unpatchify


def made(**options: Any) -> VisionTransformer:
    """Every parameter random, as after training: nothing is zero, and no two are equal."""
    torch.manual_seed(0)
    size = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 4}
    model = VisionTransformer(**size | {"num_classes": 5} | options).eval()
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        is_matrix = name.endswith("weight") and not is_norm
        spread = parameter[0].numel() ** -0.5 if is_matrix else 0.3  # the tokens stay of one size
        nn.init.normal_(parameter, float(is_norm), spread)
    return model


def alter(module: nn.Module, change) -> None:
    """`change` gets what the module gives, a copy, and returns what it is to give instead."""
    module.register_forward_hook(lambda module, inputs, output: change(output.clone()))


def alter_weights(model, layer, change) -> None:
    """`change` the attention weights (1, H, T, T) of a block, or of all if `layer` is None."""
    for block in model.blocks if layer is None else [model.blocks[layer]]:
        alter(block.attn.attn_drop, change)


def heads_off(model, layer, heads):
    def off(module, inputs):
        mixed = inputs[0].clone().unflatten(-1, (module.num_heads, -1))
        mixed[..., heads, :] = 0
        return (mixed.flatten(-2),)

    for block in model.blocks if layer is None else [model.blocks[layer]]:
        block.attn.proj.num_heads = block.attn.num_heads
        block.attn.proj.register_forward_pre_hook(off)


def uniform(model, layer, heads):
    def even(weights):
        weights[:, heads] = 1 / weights.shape[-1]
        return weights

    alter_weights(model, layer, even)


def temperature(model, layer, heads, value):
    def warm(weights):  # softmax(s / t) = softmax(log softmax(s) / t)
        weights[:, heads] = (weights[:, heads].double().log() / value).softmax(dim=-1).float()
        return weights

    alter_weights(model, layer, warm)


def block_off(model, layer, parts=("ls1", "ls2")):
    for block in model.blocks if layer is None else [model.blocks[layer]]:
        for part in parts:
            alter(getattr(block, part), torch.zeros_like)


def no_positions(model):
    nn.init.zeros_(model.pos_embed)


def on_patches(change):
    """As an intervention that changes the picture, cut into patches (1, N, C·P·P)."""

    def intervene(model):
        def cut(module, inputs):
            patches = change(patchify(inputs[0], model.patch_size))
            return unpatchify(patches, model.patch_size, model.img_size)

        model.patch_embed.register_forward_pre_hook(cut)

    return intervene


def hide(patches, colours):
    """Patches of 4 × 4 pixels; one colour per channel."""

    def hidden(x):
        x = x.clone()
        x[:, patches] = torch.tensor(colours).repeat_interleave(16)
        return x

    return on_patches(hidden)


def late(model, layer, token=0):
    def cut(weights):
        weights[..., token, :] = 0
        weights[..., token] = 0
        weights[..., token, token] = 1
        return weights / weights.sum(dim=-1, keepdim=True)

    def still(x):
        x[:, token] = 0
        return x

    for block in model.blocks[:layer]:
        alter(block.attn.attn_drop, cut)
        alter(block.ls1, still)
        alter(block.ls2, still)
