"""load_pretrained and create_model with weights: what they fill and refuse; no other library."""

import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from checkpoints.comparing import equal_logits, frozen, images_for, untouched
from checkpoints.test_native import same
from foreign_files import lively, to_hugging_face, vit, write_hugging_face
from peers import FlaxViT
from safetensors.torch import save_file
from torch import nn

import vitlib.checkpoints.pretrained
from vitlib import create_model, load_checkpoint, save_checkpoint
from vitlib.checkpoints import load_pretrained
from vitlib.pos_embed import resample_pos_embed
from vitlib.presets import PRESETS

# What fits ----------------------------------------------------------------------------------------


def test_a_file_that_fits_fills_everything_and_nothing_but_weights(source, file):
    model = vit().train()
    model.mean, model.classes = (0.1, 0.2, 0.3), ("x",)
    report = load_pretrained(model, file)
    assert model.training
    assert (model.mean, model.classes) == ((0.1, 0.2, 0.3), ("x",))
    assert equal_logits(model, source)
    assert report.ok
    assert set(report.loaded) == set(source.state_dict())
    nothing = (report.missing, report.extra, report.mismatched, report.resized, report.cast)
    assert nothing == ((), (), (), (), ())
    assert report.head == "loaded, 5 classes"
    assert report.origin == str(file)
    assert report.source == "timm"


@pytest.mark.parametrize(
    "options",
    [
        {"distilled": True},
        {"reg_tokens": 3, "init_values": 0.1},
        {"global_pool": "avg", "qkv_bias": False},
        {"representation_size": 7},
        {"pos_embed": "none", "num_classes": 0},
        {"img_size": (8, 12), "patch_size": (4, 3), "in_chans": 1},
    ],
    ids=str,
)
def test_every_kind_of_model(options, tmp_path):
    source = lively(vit(**options))
    torch.save({"state_dict": source.state_dict()}, tmp_path / "model.pth")
    model = vit(**options)
    assert load_pretrained(model, tmp_path / "model.pth").ok
    assert equal_logits(model, source)


def test_a_folder_of_hugging_face(source, tmp_path):
    write_hugging_face(source, tmp_path, layer_norm_eps=1e-6)
    model = vit()
    report = load_pretrained(model, str(tmp_path))
    assert equal_logits(model, source)
    assert report.source == "hf"
    assert report.reshaped == tuple(
        f"blocks.{i}.attn.qkv.{kind} joined" for i in range(2) for kind in ("weight", "bias")
    )


def test_vitlibs_own_checkpoint(source, tmp_path):
    path = save_checkpoint(source, tmp_path / "m")
    model = vit()
    assert load_pretrained(model, path).ok
    assert equal_logits(model, source)


def test_a_compiled_model_and_a_module_of_ones_own(source, file):
    model = vit()
    assert load_pretrained(torch.compile(model, backend="eager"), file).ok
    assert equal_logits(model, source)

    class Mine(nn.Module):  # the same names, without VisionTransformer's attributes
        def __init__(self):
            super().__init__()
            for name, part in vit().named_children():
                self.add_module(name, part)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
            self.pos_embed = nn.Parameter(torch.zeros(1, 5, 16))

    mine = Mine()
    assert load_pretrained(mine, file).ok
    assert torch.equal(mine.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)


def test_models_without_these_names_are_refused(file, unchecked):
    with pytest.raises(ValueError, match=r"a Linear has no parameter patch_embed\.proj\.weight:"):
        load_pretrained(nn.Linear(2, 2), file)
    with pytest.raises(ValueError, match=r"it is wrapped: pass model\.module"):
        load_pretrained(nn.DataParallel(vit()), file)
    with pytest.raises(ValueError, match=r"fills a model, got PosixPath"):
        load_pretrained(file, vit())


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast_and_reported(dtype, source, tmp_path):
    torch.save(source.to(dtype).state_dict(), tmp_path / "m.pth")
    model = vit()
    report = load_pretrained(model, tmp_path / "m.pth")
    assert model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, source.head.weight.float())
    name = str(dtype).removeprefix("torch.")
    assert f"head.bias {name} -> float32" in report.cast
    assert f"  cast        32 {name} -> float32" in str(report)
    half = vit().to(torch.bfloat16)
    load_pretrained(half, tmp_path / "m.pth")
    assert half.head.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(value, source, tmp_path):
    with torch.no_grad():
        source.blocks[1].attn.qkv.bias[3] = value
    write_hugging_face(source, tmp_path)
    model = vit()
    before = frozen(model)
    with pytest.raises(ValueError, match=r"not finite, in vit\.encoder\.layer\.1.*query\.bias"):
        load_pretrained(model, tmp_path)
    assert untouched(model, before)


def test_numbers_too_large_for_the_models_precision_are_refused(source, tmp_path):
    with torch.no_grad():
        source.head.bias[0] = 1e6
    torch.save(source.state_dict(), tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"not finite, in head\.bias"):
        load_pretrained(vit().half(), tmp_path / "m.pth")
    assert load_pretrained(vit(), tmp_path / "m.pth").ok


def test_whole_numbers_are_refused_with_the_files_name(source, tmp_path):
    weights = source.state_dict() | {"head.bias": torch.arange(5)}
    torch.save(weights, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m\.pth: .*head\.bias"):
        load_pretrained(vit(), tmp_path / "m.pth")


# create_model -------------------------------------------------------------------------------------


def test_create_model_builds_as_the_source_was(tmp_path):
    layers = {
        "norm_layer": partial(nn.LayerNorm, eps=1e-12),
        "act_layer": partial(nn.GELU, approximate="tanh"),
    }
    source = lively(vit(img_size=(8, 12), qkv_bias=False, mlp_ratio=1.7, **layers))
    write_hugging_face(
        source, tmp_path, image_size=[8, 12], hidden_act="gelu_pytorch_tanh",
        preprocessor={"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]},
        id2label={str(i): name for i, name in enumerate("abcde")},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = create_model(tmp_path, pretrained=True)
    assert not model.training
    assert equal_logits(model, source)
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert model.classes == tuple("abcde")
    assert (model.img_size, model.config["num_heads"]) == ((8, 12), 2)
    back = load_checkpoint(save_checkpoint(model, tmp_path / "own"))
    assert equal_logits(back, source)
    again = create_model(str(tmp_path / "own"), pretrained=True)
    assert equal_logits(again, source)
    assert again.classes == tuple("abcde")


@pytest.mark.parametrize("style", ["vit_jax", "big_vision", "scanned"])
def test_create_model_from_google_takes_heads_from_kernels_and_the_tanh_gelu(style, tmp_path):
    sizes = {"in_chans": 3, "img_size": (16, 16), "patch_size": 4, "classes": 5, "width": 24}
    theirs = FlaxViT(style, **sizes, heads=3, hidden=40, depth=2)
    np.savez(tmp_path / "m.npz", **theirs.arrays)
    with pytest.warns(UserWarning, match=r"does not say .*\(0\.5, 0\.5, 0\.5\) are taken") as said:
        model = create_model(tmp_path / "m.npz", pretrained=True)
    assert len(said) == 1
    assert model.config["num_heads"] == 3
    assert (model.mean, model.std) == ((0.5,) * 3, (0.5,) * 3)
    images = images_for(model)
    torch.testing.assert_close(model.double()(images.double()), theirs(images))


def test_create_model_from_a_folder_of_timm(tmp_path):
    source = lively(vit(img_size=(8, 12), reg_tokens=2, init_values=0.1))
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_features": 16,
        "label_names": list("abcde"),
        "model_args": {"img_size": [8, 12], "embed_dim": 16, "num_heads": 2, "act_layer": "gelu"},
        "pretrained_cfg": {"input_size": [3, 8, 12], "mean": [0.1] * 3, "std": [0.2] * 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = create_model(tmp_path, pretrained=True)
    assert equal_logits(model, source)
    assert (model.mean, model.std, model.classes) == ((0.1,) * 3, (0.2,) * 3, tuple("abcde"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"global_pool": "avg"}))
    with pytest.raises(ValueError, match=r"averages its patch tokens after .* Give global_pool="):
        create_model(tmp_path, pretrained=True)
    with pytest.raises(ValueError, match="averages its patch tokens after the final norm"):
        load_pretrained(vit(img_size=(8, 12), reg_tokens=2, init_values=0.1), tmp_path)
    with pytest.warns(UserWarning, match="averages its patch tokens after the final norm"):
        model = create_model(tmp_path, pretrained=True, global_pool="token")
    assert equal_logits(model, source)


def test_create_model_with_overrides(source, tmp_path):
    write_hugging_face(source, tmp_path, id2label={str(i): name for i, name in enumerate("abcde")})
    with pytest.warns(UserWarning, match="does not say with which mean and std"):
        model = create_model(tmp_path, pretrained=True, img_size=12, num_classes=3, drop_rate=0.1)
    assert torch.equal(model.pos_embed, resample_pos_embed(source.pos_embed, 3, 2))
    assert (model.num_classes, model.classes) == (3, None)
    assert torch.equal(model.norm.weight, source.norm.weight)
    with pytest.raises(ValueError, match="depth=2"):
        create_model(tmp_path, pretrained=True, depth=3)


def test_create_model_says_how_a_file_is_loaded(file):
    with pytest.raises(ValueError, match=r"unknown model .*model.safetensors.*add pretrained=True"):
        create_model(file)


def test_create_model_keeps_a_hidden_width_that_is_no_multiple(tmp_path):
    source = lively(vit(embed_dim=44, mlp_ratio=49.5 / 44))  # 44 × (49 / 44) rounds down to 48
    write_hugging_face(source, tmp_path)
    with pytest.warns(UserWarning, match="mean and std"):
        model = create_model(tmp_path, pretrained=True)
    assert model.blocks[0].mlp.fc1.out_features == 49


def test_create_model_asks_for_heads_that_nothing_tells(source, file):
    with pytest.raises(ValueError, match=r"nothing in .* tells num_heads: give it, create_model"):
        create_model(file, pretrained=True)
    with pytest.warns(UserWarning, match="mean and std"):
        model = create_model(file, pretrained=True, num_heads=2)
    assert equal_logits(model, source)
    wide = lively(vit(embed_dim=192, num_heads=3))
    torch.save(wide.state_dict(), file.with_name("wide.pth"))
    with (
        pytest.warns(UserWarning, match="3 are taken, as published ViTs of this width have"),
        pytest.warns(UserWarning, match="does not say with which mean and std"),
    ):
        model = create_model(file.with_name("wide.pth"), pretrained=True)
    assert equal_logits(model, wide)


def test_create_model_asks_for_an_activation_that_it_does_not_have(source, tmp_path):
    write_hugging_face(source, tmp_path, hidden_act="quick_gelu")
    with pytest.raises(ValueError, match=r"activation is 'quick_gelu', .* Give act_layer="):
        create_model(tmp_path, pretrained=True)
    with pytest.warns(UserWarning, match="quick_gelu|mean and std"):
        model = create_model(tmp_path, pretrained=True, act_layer=nn.SiLU)
    assert isinstance(model.blocks[0].mlp.act, nn.SiLU)


@pytest.mark.parametrize("columns", ["grey or four channels", "two channels"])
def test_create_model_asks_for_the_channels_of_a_matrix(columns, tmp_path):
    channels = 4 if "four" in columns else 2
    source = lively(vit(in_chans=channels))
    weights = source.state_dict()
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].flatten(1)
    torch.save(weights, tmp_path / "m.pth")
    advice = "give in_chans=1, patch_size=8 or in_chans=4, patch_size=4"
    advice = advice if channels == 4 else r"give in_chans=\.\.\. and patch_size"
    with pytest.raises(ValueError, match=f"is a matrix of {channels * 16} columns, .*{advice}"):
        create_model(tmp_path / "m.pth", pretrained=True, num_heads=2)
    with pytest.warns(UserWarning, match="mean and std"):
        model = create_model(
            tmp_path / "m.pth", pretrained=True, num_heads=2, in_chans=channels, patch_size=4
        )
    assert equal_logits(model, source)


@pytest.mark.filterwarnings("ignore:.*mean and std")  # nothing here says them
def test_create_model_says_what_it_guesses_of_names(source, tmp_path):
    weights = source.state_dict()
    renamed = {n.replace("head.", "head.1."): t for n, t in weights.items()}
    torch.save(renamed, tmp_path / "head.pth")
    with pytest.warns(UserWarning, match=r"head\.pth: head\.1\.weight is taken for the head"):
        model = create_model(tmp_path / "head.pth", pretrained=True, num_heads=2)
    assert equal_logits(model, source)
    beside = {f"backbone.{n}": t for n, t in weights.items() if not n.startswith("head")}
    torch.save(beside | {"fc.weight": weights["head.weight"]}, tmp_path / "fc.pth")
    with pytest.warns(
        UserWarning, match=r'fc\.weight stands beside .*under "backbone\.", .*left out'
    ):
        model = create_model(tmp_path / "fc.pth", pretrained=True, num_heads=2, num_classes=5)
    assert torch.equal(model.norm.weight, source.norm.weight)
    assert "fc.weight" in load_pretrained(vit(num_classes=0), tmp_path / "fc.pth").left_out


@pytest.mark.filterwarnings("ignore:.*mean and std")  # nothing here says them
def test_a_head_of_several_layers_is_refused_and_the_advice_works(source, tmp_path):
    weights = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
    weights |= {"head.0.weight": torch.ones(7, 16), "head.2.weight": torch.ones(5, 7)}
    torch.save(weights, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"layer on one token \(head\.0.*num_classes=0"):
        create_model(tmp_path / "m.pth", pretrained=True, num_heads=2)
    with pytest.warns(UserWarning, match=r"file's head \(head\.0\.weight, .*takes its place"):
        model = create_model(tmp_path / "m.pth", pretrained=True, num_heads=2, num_classes=4)
    assert model.head.weight.shape == (4, 16)
    with pytest.warns(UserWarning, match=r"file's head .*the model has none"):
        model = create_model(tmp_path / "m.pth", pretrained=True, num_heads=2, num_classes=0)
    pooled = source.forward_head(source.forward_features(images_for(source)), pre_logits=True)
    assert torch.equal(model(images_for(source)), pooled)
    with pytest.raises(ValueError, match=r"(?s)new_head=True.*more than one linear layer") as error:
        load_pretrained(vit(), tmp_path / "m.pth")
    assert "head.0.weight" in str(error.value)
    report = load_pretrained(vit(), tmp_path / "m.pth", new_head=True)
    assert report.ok
    assert report.head.endswith("another kind of head in the file (head.0.weight, head.2.weight)")
    assert set(report.left_out) == {"head.0.weight", "head.2.weight"}


def test_a_file_without_positions_is_asked_about(tmp_path):
    source = lively(vit(pos_embed="none", img_size=224, patch_size=56))
    torch.save(source.state_dict(), tmp_path / "m.pth")
    with pytest.raises(
        ValueError, match=r"no position embeddings: .*RoPE.*give pos_embed=\"none\""
    ):
        create_model(tmp_path / "m.pth", pretrained=True, num_heads=2)
    with pytest.warns(UserWarning, match="mean and std"):
        model = create_model(tmp_path / "m.pth", pretrained=True, num_heads=2, pos_embed="none")
    assert equal_logits(model, source)


def test_create_model_refuses_custom_layers_and_unknown_names(tmp_path):
    path = save_checkpoint(vit(act_layer=nn.ReLU), tmp_path / "m")
    with pytest.raises(ValueError, match="layers that a file cannot hold"):
        create_model(path, pretrained=True)
    for name, pretrained in ((str(path), False), ("owner/name", False), ("resnet50", True)):
        with pytest.raises(ValueError, match="unknown model"):
            create_model(name, pretrained)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        create_model(tmp_path / "nothing", pretrained=True)


def test_hugging_faces_names_in_this_test_are_not_vitlibs(source):
    assert not to_hugging_face(source).keys() & source.state_dict().keys()


# Presets with weights on the Hub ------------------------------------------------------------------


TIMM = {
    "architecture": "deit_tiny_patch16_224",
    "num_features": 192,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.4] * 3, "std": [0.2] * 3},
}


@pytest.fixture
def deit_tiny(hub, monkeypatch) -> nn.Module:
    """DeiT-Ti on the Hub, two blocks deep, and here as deep."""
    preset = PRESETS["deit_tiny_patch16_224"]
    monkeypatch.setitem(
        PRESETS, preset.name, replace(preset, arguments={**preset.arguments, "depth": 2})
    )
    model = lively(create_model("deit_tiny_patch16_224"))
    folder = hub.repository("timm/deit_tiny_patch16_224.fb_in1k")
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TIMM))
    return model


def test_a_preset_from_the_hub(deit_tiny, hub):
    model = create_model("deit_tiny_patch16_224", pretrained=True)
    assert not model.training
    assert torch.equal(model.head.weight, deit_tiny.head.weight)
    assert (model.mean, model.std) == ((0.4,) * 3, (0.2,) * 3)
    small = create_model("deit_tiny_patch16_224", pretrained=True, img_size=32, num_classes=7)
    assert small.pos_embed.shape == (1, 5, 192)
    assert small.head.weight.shape == (7, 192)
    assert torch.equal(small.norm.weight, deit_tiny.norm.weight)
    built = create_model("timm/deit_tiny_patch16_224.fb_in1k", pretrained=True)
    assert built.config["num_heads"] == 3
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(built(images), deit_tiny(images))


def test_presets_that_refuse_before_they_download(hub):
    with pytest.raises(ValueError, match=r"read 3 channels, in_chans=1 was asked for.*expand"):
        create_model("vit_tiny_patch16_224", pretrained=True, in_chans=1)
    with pytest.raises(ValueError, match=r"vit_huge_patch14_224 have no head: .*num_classes=0"):
        create_model("vit_huge_patch14_224", pretrained=True, embed_dim=16, depth=1)
    assert hub.asked == []


def test_a_head_is_new_where_the_published_weights_have_none(hub, monkeypatch):
    preset = PRESETS["vit_huge_patch14_224"]
    small = {"img_size": 224, "embed_dim": 16, "depth": 1, "num_heads": 16}
    tiny = replace(preset, arguments=small, mean=None, std=None)
    monkeypatch.setitem(PRESETS, preset.name, tiny)
    source = lively(create_model("vit_huge_patch14_224", num_classes=0))
    folder = hub.repository("timm/vit_huge_patch14_224.orig_in21k")
    save_file(source.state_dict(), folder / "model.safetensors")
    with pytest.warns(UserWarning, match="does not say with which mean and std"):
        model = create_model("vit_huge_patch14_224", pretrained=True, num_classes=3)
    assert model.head.weight.shape == (3, 16)
    assert torch.equal(model.norm.weight, source.norm.weight)


def test_load_pretrained_takes_an_id(deit_tiny):
    model = create_model("deit_tiny_patch16_224")
    report = load_pretrained(model, "timm/deit_tiny_patch16_224.fb_in1k")
    assert report.origin == "timm/deit_tiny_patch16_224.fb_in1k"
    assert str(report).startswith("32 tensors loaded from timm/deit_tiny_patch16_224.fb_in1k (timm")


# Presets whose weights come with vitlib -----------------------------------------------------------


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A vitlib whose weights folder holds one trained vit_nano_patch7_28."""
    torch.manual_seed(0)
    model = create_model("vit_nano_patch7_28")
    model.mean, model.std = (0.13,), (0.31,)
    save_checkpoint(
        model, tmp_path / "weights" / "vit_nano_patch7_28.safetensors",
        classes=tuple("0123456789"),
    )  # fmt: skip
    monkeypatch.setattr(vitlib.checkpoints.pretrained, "files", lambda package: tmp_path)
    return model


def test_packaged_weights_load(packaged):
    model = create_model("vit_nano_patch7_28", pretrained=True)
    assert same(model, packaged)
    assert (model.mean, model.std, model.classes) == ((0.13,), (0.31,), tuple("0123456789"))
    assert not model.training


@pytest.mark.parametrize("num_classes", [3, 0])
def test_another_number_of_classes_keeps_the_new_head(packaged, num_classes):
    model = create_model("vit_nano_patch7_28", pretrained=True, num_classes=num_classes)
    assert model.num_classes == num_classes
    assert model.classes is None
    assert model.mean == (0.13,)
    assert torch.equal(model.norm.weight, packaged.norm.weight)
    assert torch.equal(model.blocks[3].mlp.fc1.weight, packaged.blocks[3].mlp.fc1.weight)
    if num_classes:
        torch.manual_seed(1)
        fresh = create_model("vit_nano_patch7_28", num_classes=3)
        torch.manual_seed(1)
        again = create_model("vit_nano_patch7_28", pretrained=True, num_classes=3)
        assert torch.equal(again.head.weight, fresh.head.weight)


def test_packaged_weights_that_do_not_fit_or_do_not_exist(packaged, monkeypatch):
    with pytest.raises(ValueError, match=r"cls_token \(1, 1, 64\) in the file, \(1, 1, 32\) in"):
        create_model("vit_nano_patch7_28", pretrained=True, embed_dim=32)
    with pytest.raises(ValueError, match=r"missing in the file: dist_token, head_dist\.weight"):
        create_model("vit_nano_patch7_28", pretrained=True, distilled=True)
    row = replace(PRESETS["vit_micro_patch4_32"], name="vit_micro_patch8_32")
    monkeypatch.setitem(PRESETS, row.name, row)
    with pytest.raises(
        ValueError, match=r"no weights for 'vit_micro_patch8_32'.*some for: .*vit_nano_patch7_28"
    ):
        create_model(row.name, pretrained=True)
