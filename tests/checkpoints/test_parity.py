"""The same weights give the same logits: random tiny models of the peers, really run.

Every parameter is random. Images are grey and not square where the peer allows it (torchvision
takes square images of three channels only).
"""

import re
from functools import partial

import numpy as np
import pytest
import torch
from peers import FlaxViT, random_images, randomise, timm, torchvision, transformers
from safetensors.torch import load_file
from torch import nn

from vitlib import VisionTransformer, create_model
from vitlib.checkpoints import load_pretrained
from vitlib.checkpoints.dialects import translate

# Depth 2, width 24, 3 heads, hidden width 60, patches of 4 pixels, 5 classes.
SIZE, WIDTH, DEPTH, HEADS, HIDDEN, CLASSES = (8, 12), 24, 2, 3, 60, 5
TANH = partial(nn.GELU, approximate="tanh")
EPS_12 = partial(nn.LayerNorm, eps=1e-12)  # Hugging Face's
TOLERANCE = 1e-5


SIZES = {
    "img_size": SIZE, "patch_size": 4, "in_chans": 1, "num_classes": CLASSES, "embed_dim": WIDTH,
    "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": HIDDEN / WIDTH,
}  # fmt: skip


def vit(**options):
    """Our model of the same sizes, in eval mode, with random weights of its own."""
    return randomise(VisionTransformer(**SIZES | options), seed=7)


def filled(state_dict, **options):
    """Our model, built with `options`, holding the weights; and how they were translated."""
    translation = translate(state_dict)
    model = vit(**options)
    model.load_state_dict(translation.weights)
    return model, translation


@torch.no_grad()
def agree(ours, theirs, images):
    """Assert equal logits, from two models or two tensors, that do depend on the image."""
    ours = ours(images) if callable(ours) else ours
    theirs = theirs(images) if callable(theirs) else theirs
    theirs = getattr(theirs, "logits", theirs)
    assert ours.shape == theirs.shape
    assert theirs.flatten(1).std(dim=0).max() > 0.1
    largest = (ours.double() - theirs.double()).abs().max().item()
    print(f"largest difference {largest:.1e}")  # `pytest -rP` shows it
    assert largest <= TOLERANCE
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


# --- transformers ---------------------------------------------------------------------------------


def hugging_face(name, in_chans=1, **config):
    kind = "DeiT" if name.startswith("DeiT") else "ViT"
    settings = getattr(transformers, f"{kind}Config")(
        image_size=SIZE, patch_size=4, num_channels=in_chans, hidden_size=WIDTH,
        num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=HIDDEN,
        num_labels=CLASSES, **config,
    )  # fmt: skip
    return randomise(getattr(transformers, name)(settings))


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({}, {}),
        ({"layer_norm_eps": 1e-6}, {"norm_layer": None}),
        ({"hidden_act": "gelu_pytorch_tanh"}, {"act_layer": TANH}),
        ({"qkv_bias": False}, {"qkv_bias": False}),
    ],
)
def test_hugging_face_vit(config, options):
    theirs = hugging_face("ViTForImageClassification", **config)
    ours, translation = filled(theirs.state_dict(), **{"norm_layer": EPS_12, **options})
    agree(ours, theirs, random_images(1, *SIZE))
    assert (translation.source, translation.extra) == ("hf", ())


def test_hugging_face_deit_averages_two_heads():
    theirs = hugging_face("DeiTForImageClassificationWithTeacher")
    ours, _ = filled(theirs.state_dict(), norm_layer=EPS_12, distilled=True)
    images = random_images(1, *SIZE)
    agree(ours, theirs, images)
    with torch.no_grad():
        both, expected = ours(images, return_dist=True), theirs(images)
    agree(both[0], expected.cls_logits, images)
    agree(both[1], expected.distillation_logits, images)


def test_hugging_face_deit_with_one_head_has_a_register():
    theirs = hugging_face("DeiTForImageClassification")
    ours, _ = filled(theirs.state_dict(), norm_layer=EPS_12, reg_tokens=1)
    agree(ours, theirs, random_images(1, *SIZE))


@pytest.mark.parametrize(
    ("name", "options"),
    [("ViTModel", {"representation_size": WIDTH}), ("DeiTModel", {"distilled": True})],
)
def test_hugging_face_without_prefix_and_head(name, options):
    theirs = hugging_face(name)
    ours, _ = filled(theirs.state_dict(), norm_layer=EPS_12, num_classes=0, **options)
    images = random_images(1, *SIZE)
    with torch.no_grad():
        expected = theirs(images)
        agree(ours.forward_features(images), expected.last_hidden_state, images)
        if name == "ViTModel":
            agree(ours(images), expected.pooler_output, images)


FOLDERS = {
    "ViTForImageClassification": {},
    "DeiTForImageClassification": {"reg_tokens": 1},
    "DeiTForImageClassificationWithTeacher": {"distilled": True},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_hugging_face(name, tmp_path):
    """`save_pretrained` writes other names than are in memory, and shards large models."""
    theirs = hugging_face(name, in_chans=3, layer_norm_eps=1e-5, hidden_act="gelu_new")
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    (tmp_path / "pickled").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    images = random_images(3, *SIZE)
    layers = {"norm_layer": partial(nn.LayerNorm, eps=1e-5), "act_layer": TANH}
    for folder in ("whole", "shards", "pickled"):
        ours = vit(in_chans=3, **layers, **FOLDERS[name])
        report = load_pretrained(ours, tmp_path / folder)
        assert (report.source, report.missing, report.extra) == ("hf", (), ())
        agree(ours, theirs, images)


@pytest.mark.filterwarnings("ignore:.*mean and std")  # nothing here says them
@pytest.mark.parametrize("name", FOLDERS)
def test_create_model_builds_what_a_folder_of_hugging_face_holds(name, tmp_path):
    theirs = hugging_face(name, in_chans=3, layer_norm_eps=1e-5, hidden_act="gelu_new")
    theirs.save_pretrained(tmp_path)
    agree(create_model(str(tmp_path), pretrained=True), theirs, random_images(3, *SIZE))


def test_both_spellings_of_transformers_give_the_same_weights(tmp_path):
    theirs = hugging_face("ViTForImageClassification")
    theirs.save_pretrained(tmp_path)
    on_disk = load_file(tmp_path / "model.safetensors")
    assert any("encoder.layer.0.attention.attention.query" in name for name in on_disk)
    a, b = translate(on_disk).weights, translate(theirs.state_dict()).weights
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("name", "config", "left"),
    [
        ("ViTForMaskedImageModeling", "ViTConfig", r"(vit\.embeddings\.mask_token|decoder\..*)"),
        ("ViTMAEForPreTraining", "ViTMAEConfig", r"decoder\..*"),
    ],
)
def test_what_serves_masked_pre_training_is_left_out(name, config, left):
    config = getattr(transformers, config)(
        hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=HIDDEN,
        image_size=8, patch_size=4, encoder_stride=4,
        decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
    )  # fmt: skip
    theirs = getattr(transformers, name)(config).state_dict()
    translation = translate(theirs)
    assert translation.extra == ()
    assert set(translation.left_out) == {n for n in theirs if re.fullmatch(left, n)} != set()


# --- timm -----------------------------------------------------------------------------------------


def timms(distilled=False, **options):
    models = timm.models
    build = models.deit.VisionTransformerDistilled if distilled else models.VisionTransformer
    return randomise(build(**SIZES | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"in_chans": 3},
        {"global_pool": "avg"},
        {"reg_tokens": 3},
        {"reg_tokens": 2, "global_pool": "avg", "init_values": 0.1},
        {"init_values": 1e-5},
        {"qkv_bias": False},
        {"num_classes": 0},
        {"distilled": True},
    ],
)
def test_timm(options):
    theirs = timms(**options)
    ours, translation = filled(theirs.state_dict(), **options)
    agree(ours, theirs, random_images(options.get("in_chans", 1), *SIZE))
    assert translation.source == ("deit" if "distilled" in options else "timm")
    assert set(translation.operations.values()) == {""}


def test_timms_two_heads():
    theirs = timms(distilled=True)
    ours, _ = filled(theirs.state_dict(), distilled=True)
    images = random_images(1, *SIZE)
    theirs.distilled_training = True
    with torch.no_grad():
        expected = theirs.train()(images)  # no dropout is set: training mode only splits the heads
        for mine, head in zip(ours(images, return_dist=True), expected, strict=True):
            agree(mine, head, images)


@pytest.mark.parametrize(
    "options", [{"init_values": 0.1}, {"reg_tokens": 4}, {"global_pool": "avg", "reg_tokens": 1}]
)
def test_tokens_without_a_position(options, tmp_path):
    """timm's no_embed_class, as in DeiT III and DINOv2 with registers: positions for patches only.

    A token without a position is a token whose position is 0.
    """
    theirs = timms(no_embed_class=True, **options)
    torch.save({"model": theirs.state_dict()}, tmp_path / "model.pth")
    ours = vit(**options)
    load_pretrained(ours, tmp_path / "model.pth")
    agree(ours, theirs, random_images(1, *SIZE))


def test_deit_3_as_facebookresearch_spells_it(tmp_path):
    theirs = timms(no_embed_class=True, init_values=0.1)
    weights = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", n): t for n, t in theirs.state_dict().items()}
    assert "blocks.1.gamma_2" in weights
    torch.save({"model": weights}, tmp_path / "deit_3.pth")
    ours = vit(init_values=0.1)
    report = load_pretrained(ours, tmp_path / "deit_3.pth")
    agree(ours, theirs, random_images(1, *SIZE))
    assert report.source == "deit"


def test_dinov2_with_registers_as_facebookresearch_spells_it(tmp_path):
    """Its class token has a position, its registers have none. timm adds the one to the token."""
    theirs = timms(no_embed_class=True, init_values=0.1, reg_tokens=4)
    weights = dict(theirs.state_dict())
    position = torch.randn(1, 1, WIDTH)
    weights["cls_token"] = weights["cls_token"] - position
    weights["pos_embed"] = torch.cat([position, weights["pos_embed"]], dim=1)
    weights["register_tokens"] = weights.pop("reg_token")
    weights["mask_token"] = torch.randn(1, WIDTH)
    torch.save(weights, tmp_path / "dinov2.pth")
    ours = vit(init_values=0.1, reg_tokens=4)
    report = load_pretrained(ours, tmp_path / "dinov2.pth")
    agree(ours, theirs, random_images(1, *SIZE))
    assert report.left_out == {"mask_token": "is only used in masked pre-training"}


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}])
def test_create_model_builds_what_a_folder_of_timm_holds(options, tmp_path):
    sizes = {"img_size": (32, 48), "in_chans": 1, "depth": 2, "num_classes": CLASSES, **options}
    theirs = randomise(timm.create_model("vit_tiny_patch16_224", **sizes))
    timm.models.save_for_hf(theirs, tmp_path, model_args=sizes)
    agree(create_model(str(tmp_path), pretrained=True), theirs, random_images(1, 32, 48))


def test_a_linear_patch_projection(tmp_path):
    theirs = timms()
    weights = dict(theirs.state_dict())
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].flatten(1)
    torch.save(weights, tmp_path / "m.pth")
    ours = vit()  # one channel in patches of 4, not four in patches of 2: the model tells
    load_pretrained(ours, tmp_path / "m.pth")
    agree(ours, theirs, random_images(1, *SIZE))


# --- torchvision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", [None, 7])
def test_torchvision(representation):
    theirs = randomise(
        torchvision.models.VisionTransformer(
            image_size=12, patch_size=4, num_layers=DEPTH, num_heads=HEADS, hidden_dim=WIDTH,
            mlp_dim=HIDDEN, num_classes=CLASSES, representation_size=representation,
        )
    )  # fmt: skip
    ours, translation = filled(
        theirs.state_dict(), in_chans=3, img_size=12, representation_size=representation
    )
    agree(ours, theirs, random_images(3, 12, 12))
    assert translation.source == "torchvision"


# --- Google ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["vit_jax", "big_vision", "scanned"])
@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("representation", [None, 7])
def test_google(style, in_chans, representation, tmp_path):
    theirs = FlaxViT(
        style, in_chans=in_chans, img_size=SIZE, patch_size=4, classes=CLASSES, width=WIDTH,
        heads=HEADS, hidden=HIDDEN, depth=DEPTH, representation=representation,
    )  # fmt: skip
    np.savez(tmp_path / "model.npz", **theirs.arrays)
    ours = vit(in_chans=in_chans, act_layer=TANH, representation_size=representation)
    report = load_pretrained(ours, tmp_path / "model.npz")
    agree(ours, theirs, random_images(in_chans, *SIZE))
    assert (report.source, report.extra, report.missing) == ("google_npz", (), ())


def test_numpys_reference_is_timms_model():
    """The reference itself against a peer: timm's own reader of npz files fills timm's model."""
    theirs = FlaxViT(
        "vit_jax", in_chans=3, img_size=SIZE, patch_size=4, classes=CLASSES, width=WIDTH,
        heads=HEADS, hidden=HIDDEN, depth=DEPTH,
    )  # fmt: skip
    model = timms(in_chans=3, act_layer="gelu_tanh")
    ours, _ = filled(theirs.arrays, in_chans=3, act_layer=TANH)
    agree(ours, theirs, random_images(3, *SIZE))
    model.load_state_dict(ours.state_dict())
    agree(model, theirs, random_images(3, *SIZE))


# --- Full width -----------------------------------------------------------------------------------


def full_size(kind):
    """(our preset, the peer's model of that size), on the device without memory."""
    if kind == "timm":
        return "vit_base_patch16_224", timm.create_model("vit_base_patch16_224")
    if kind == "timm, distilled":
        return "deit_base_distilled_patch16_224", timm.create_model(
            "deit_base_distilled_patch16_224"
        )
    if kind.startswith("timm, vit"):
        name = kind.removeprefix("timm, ")
        return name, timm.create_model(name)
    if kind == "transformers, DINOv2":
        config = transformers.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518)
        return "vit_small_patch14_dinov2", transformers.Dinov2Model(config)
    if kind == "torchvision":
        return "vit_base_patch16_224", torchvision.models.vit_b_16()
    if kind == "transformers":
        config = transformers.ViTConfig(num_labels=1000)
        return "vit_base_patch16_224", transformers.ViTForImageClassification(config)
    config = transformers.DeiTConfig(num_labels=1000)
    model = transformers.DeiTForImageClassificationWithTeacher(config)
    return "deit_base_distilled_patch16_224", model


@pytest.mark.parametrize(
    "kind",
    [
        "timm", "timm, distilled", "timm, vit_small_patch14_dinov2",
        "timm, vit_base_patch14_dinov2", "timm, vit_small_patch14_reg4_dinov2",
        "timm, vit_base_patch14_reg4_dinov2", "torchvision", "transformers",
        "transformers, distilled", "transformers, DINOv2",
    ],
)  # fmt: skip
def test_full_size_names_and_shapes(kind):
    with torch.device("meta"):
        name, theirs = full_size(kind)
        ours = create_model(name)
    weights = translate(theirs.state_dict()).weights
    own = ours.state_dict()
    assert {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in own.items()}
