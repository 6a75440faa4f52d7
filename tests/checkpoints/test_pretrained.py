"""load_pretrained: what it fills, what it refuses, and what its report says; no other library."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from foreign_files import lively, to_hugging_face, vit, write_hugging_face
from peers import FlaxViT
from safetensors.torch import save_file
from torch import nn

from vitlib import VisionTransformer, create_model, load_checkpoint, save_checkpoint
from vitlib.checkpoints import load_pretrained
from vitlib.pos_embed import resample_pos_embed


@pytest.fixture
def source() -> VisionTransformer:
    return lively(vit())


@pytest.fixture
def file(source, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(source.state_dict(), path)
    return path


def images_for(model: VisionTransformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, model.in_chans, *model.img_size, generator=generator)


def equal_logits(a: VisionTransformer, b: VisionTransformer) -> bool:
    images = images_for(a)
    return torch.equal(a.eval()(images), b.eval()(images))


def frozen(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    after = model.state_dict()
    return all(torch.equal(after[name], tensor) for name, tensor in before.items())


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


# What does not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 1}, ["not in the model: 12: blocks.1.attn.proj.bias", "and 4 more", "depth=2"]),
        ({"depth": 3}, ["missing in the file: 12: blocks.2.norm1.weight", "depth=2"]),
        (
            {"embed_dim": 32, "num_heads": 4},
            ["cls_token (1, 1, 16) in the file, (1, 1, 32) in the model", "embed_dim=16"],
        ),
        ({"patch_size": 2}, ["(16, 3, 4, 4) in the file, (16, 3, 2, 2)", "patch_size=4"]),
        ({"in_chans": 1}, ["mismatched: patch_embed.proj.weight", "in_chans=3", "repeated"]),
        ({"distilled": True}, ["missing in the file: dist_token, head_dist", "distilled=False"]),
        ({"reg_tokens": 2}, ["missing in the file: reg_token", "reg_tokens=0"]),
        ({"global_pool": "avg"}, ["fc_norm.weight", "norm.weight", "global_pool='token'"]),
        (
            {"representation_size": 7},
            ["pre_logits.fc.weight", "head.weight (5, 16)", "representation_size=None"],
        ),
        ({"qkv_bias": False}, ["not in the model: blocks.0.attn.qkv.bias", "qkv_bias=True"]),
        ({"mlp_ratio": 2.0}, ["blocks.0.mlp.fc1.weight (64, 16) in the", "mlp_ratio=4.0"]),
        ({"init_values": 1.0}, ["missing in the file: blocks.0.ls1.gamma", "init_values=None"]),
        ({"pos_embed": "none"}, ["not in the model: pos_embed", "pos_embed='learned'"]),
        (
            {"img_size": 12},
            ["pos_embed 2×2 patches in the file, 3×3 in the model", "resize_pos_embed=True"],
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_what_helps(options, words, file):
    model = vit(**options)
    before = frozen(model)
    with pytest.raises(ValueError, match="does not fit the model, which is untouched") as caught:
        load_pretrained(model, file)
    message = str(caught.value)
    assert str(file) in message
    assert "timm's names" in message
    assert "strict=False" in message
    for word in words:
        assert word in message
    assert untouched(model, before)


def test_strict_false_loads_what_fits_and_reports_the_rest(source, file):
    model = vit(depth=3, in_chans=1, reg_tokens=1)
    before = frozen(model)
    report = load_pretrained(model, file, strict=False)
    assert not report.ok
    assert len(report.missing) == 13
    assert report.mismatched == (
        "patch_embed.proj.weight (16, 3, 4, 4) in the file, (16, 1, 4, 4) in the model",
    )
    kept = {entry.partition(" ")[0] for entry in report.missing + report.mismatched}
    assert untouched(model, {name: before[name] for name in kept})
    assert torch.equal(model.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    slots = model.pos_embed[0]  # [class | register | patches]: the register's is the model's own
    assert torch.equal(slots[[0, 2, 3, 4, 5]], source.pos_embed[0])
    assert torch.equal(slots[1], before["pos_embed"][0, 1])
    shallow = load_pretrained(vit(depth=1), file, strict=False)
    assert len(shallow.extra) == 12
    assert "  extra       12: blocks.1.attn.proj.bias" in str(shallow)


def test_names_in_the_file_are_said_as_they_stand_there(source, tmp_path):
    write_hugging_face(source, tmp_path)
    with pytest.raises(ValueError, match=r"vit\.encoder\.layer\.1\.attention\.attention\.query"):
        load_pretrained(vit(depth=1), tmp_path)


def test_another_number_of_heads_fits_every_shape_and_is_refused(source, tmp_path):
    write_hugging_face(source, tmp_path)
    model = vit(num_heads=4)
    with pytest.raises(
        ValueError, match=r"(?s)num_heads 2 in the source, 4 in the model.*num_heads=2"
    ):
        load_pretrained(model, tmp_path)
    report = load_pretrained(model, tmp_path, strict=False)
    assert not report.ok
    assert report.mismatched == ("num_heads 2 in the source, 4 in the model",)


def test_a_number_of_heads_that_is_not_usual_is_a_sentence(tmp_path):
    torch.save(lively(vit(embed_dim=192, num_heads=3)).state_dict(), tmp_path / "m.pth")
    report = load_pretrained(vit(embed_dim=192, num_heads=6), tmp_path / "m.pth")
    assert report.ok
    assert report.settings[0] == "Attention has 3 heads usually at this width, 6 in the model."


# Positions ----------------------------------------------------------------------------------------


def test_positions_are_resampled_when_asked(source, file):
    model = vit(img_size=(12, 16))
    report = load_pretrained(model, file, resize_pos_embed=True)
    assert report.resized == ("pos_embed 2×2 -> 3×4",)
    expected = resample_pos_embed(source.pos_embed, (3, 4), (2, 2))
    assert torch.equal(model.pos_embed, expected)
    assert "resized     pos_embed 2×2 -> 3×4" in str(report)
    same = vit()
    assert load_pretrained(same, file, resize_pos_embed=True).resized == ()
    assert torch.equal(same.pos_embed, source.pos_embed)


@pytest.mark.parametrize(
    ("options", "stored", "without"),
    [
        ({}, [], ["cls_token"]),  # DeiT III, and timm's no_embed_class
        ({"distilled": True}, [], ["cls_token", "dist_token"]),
        ({"reg_tokens": 2}, [0], ["reg_token"]),  # DINOv2
        ({"distilled": True, "reg_tokens": 3}, [0, 1], ["reg_token"]),
    ],
)
def test_a_token_without_a_stored_position_gets_zero(options, stored, without, tmp_path):
    source = lively(vit(img_size=16, **options))
    prefix = source.num_prefix_tokens
    with torch.no_grad():
        source.pos_embed[:, [i for i in range(prefix) if i not in stored]] = 0
    weights = source.state_dict()
    weights["pos_embed"] = source.pos_embed[:, [*stored, *range(prefix, prefix + 16)]].clone()
    torch.save(weights, tmp_path / "m.pth")
    model = lively(vit(img_size=16, **options), seed=9)
    report = load_pretrained(model, tmp_path / "m.pth")
    assert report.ok
    assert equal_logits(model, source)
    assert report.settings[: len(without)] == tuple(
        f"The source stores no position for {name}: it gets zero, which is the same."
        for name in without
    )
    smaller = vit(img_size=12, **options)
    load_pretrained(smaller, tmp_path / "m.pth", resize_pos_embed=True)
    assert torch.equal(smaller.pos_embed, resample_pos_embed(source.pos_embed, 3, 4, prefix))


@pytest.mark.parametrize("name", ["cls_token", "dist_token"])
def test_a_missing_token_is_missing_though_its_position_is_there(name, tmp_path):
    source = lively(vit(distilled=True))
    weights = source.state_dict()
    del weights[name]
    torch.save(weights, tmp_path / "m.pth")
    model = vit(distilled=True)
    with pytest.raises(ValueError, match=rf"missing in the file: {name}\n"):
        load_pretrained(model, tmp_path / "m.pth")
    place = ["cls_token", "dist_token"].index(name)
    own = model.pos_embed[:, place].clone()
    assert load_pretrained(model, tmp_path / "m.pth", strict=False).missing == (name,)
    assert torch.equal(model.pos_embed[:, 2:], source.pos_embed[:, 2:])
    assert torch.equal(model.pos_embed[:, place], own)


@pytest.mark.parametrize("pos_embed", ["learned", "none"])
def test_a_source_without_a_class_token_is_refused_with_the_reason(pos_embed, tmp_path):
    weights = lively(vit(global_pool="avg", pos_embed=pos_embed)).state_dict()
    del weights["cls_token"]
    if pos_embed == "learned":
        weights["pos_embed"] = weights["pos_embed"][:, 1:].clone()
    torch.save(weights, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="missing in the file: cls_token") as caught:
        load_pretrained(vit(global_pool="avg", pos_embed=pos_embed), tmp_path / "m.pth")
    assert "The source has no class token, it averages its patch tokens" in str(caught.value)
    assert "strict=False" not in str(caught.value)
    with pytest.raises(ValueError, match="The source has no class token"):
        create_model(tmp_path / "m.pth", pretrained=True, num_heads=2)


def test_a_grid_that_is_not_square_must_be_known(tmp_path):
    source = lively(vit(img_size=(8, 12)))
    torch.save(source.state_dict(), tmp_path / "m.pth")
    assert load_pretrained(vit(img_size=(8, 12)), tmp_path / "m.pth").ok
    with pytest.raises(ValueError, match=r"pos_embed has 7 vectors, which fill no square grid"):
        load_pretrained(vit(), tmp_path / "m.pth", resize_pos_embed=True)
    write_hugging_face(source, tmp_path / "hf", image_size=[8, 12])
    model = vit()
    report = load_pretrained(model, tmp_path / "hf", resize_pos_embed=True)
    assert report.resized == ("pos_embed 2×3 -> 2×2",)
    assert torch.equal(model.pos_embed, resample_pos_embed(source.pos_embed, 2, (2, 3)))


def test_positions_that_are_fixed_are_overwritten(source, file):
    model = vit(pos_embed="sincos")
    assert load_pretrained(model, file).ok
    assert equal_logits(model, source)
    assert not model.pos_embed.requires_grad


# The head -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distilled", [False, True])
def test_another_number_of_classes_keeps_the_new_head(distilled, tmp_path):
    source = lively(vit(distilled=distilled))
    torch.save(source.state_dict(), tmp_path / "m.pth")
    model = vit(distilled=distilled, num_classes=3)
    before = frozen(model)
    report = load_pretrained(model, tmp_path / "m.pth")
    assert report.ok
    assert report.head == "new, as initialised: 5 classes in the file, 3 in the model"
    heads = {name for name in before if name.startswith("head")}
    assert len(heads) == (4 if distilled else 2)
    assert untouched(model, {name: before[name] for name in heads})
    assert set(report.left_out) == heads
    assert set(report.loaded) == before.keys() - heads
    assert torch.equal(model.norm.weight, source.norm.weight)


def test_a_model_without_a_head_and_a_new_head_on_request(source, file):
    features = vit(num_classes=0)
    report = load_pretrained(features, file)
    assert report.ok
    assert report.head == "none in the model (num_classes=0), 5 classes in the file"
    expected = source.forward_head(source.forward_features(images_for(source)), pre_logits=True)
    assert torch.equal(features.eval()(images_for(source)), expected)
    model = vit()
    before = model.head.weight.clone()
    assert load_pretrained(model, file, new_head=True).head.startswith("new, as initialised: 5 cla")
    assert torch.equal(model.head.weight, before)


def test_a_file_without_a_head(tmp_path):
    source = lively(vit(num_classes=0))
    torch.save(source.state_dict(), tmp_path / "m.pth")
    model = vit()
    with pytest.raises(ValueError, match=r"(?s)file: head\.weight, head\.bias.*new_head=True"):
        load_pretrained(model, tmp_path / "m.pth")
    report = load_pretrained(model, tmp_path / "m.pth", new_head=True)
    assert report.ok
    assert report.head == "new, as initialised: 5 classes in the model, none in the file"
    report = load_pretrained(model, tmp_path / "m.pth", strict=False)
    assert report.head == "as initialised: the file's is missing"
    assert load_pretrained(vit(num_classes=0), tmp_path / "m.pth").head.startswith("none in the mo")


def test_a_representation_layer_goes_with_the_head(tmp_path):
    torch.save(lively(vit(representation_size=7)).state_dict(), tmp_path / "m.pth")
    report = load_pretrained(vit(num_classes=3), tmp_path / "m.pth")
    assert report.ok
    assert "pre_logits.fc.weight" in report.left_out
    with pytest.raises(ValueError, match=r"representation_size=7"):
        load_pretrained(vit(), tmp_path / "m.pth")
    kept = vit(num_classes=3, representation_size=7)
    assert "pre_logits.fc.weight" in load_pretrained(kept, tmp_path / "m.pth").loaded
    torch.save(lively(vit()).state_dict(), tmp_path / "without.pth")
    before = kept.pre_logits.fc.weight.clone()
    assert load_pretrained(kept, tmp_path / "without.pth").ok
    assert torch.equal(kept.pre_logits.fc.weight, before)


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


# Settings -----------------------------------------------------------------------------------------


def test_settings_that_differ_are_sentences(source, tmp_path):
    statistics = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    write_hugging_face(source, tmp_path, preprocessor=statistics, hidden_act="gelu_new")
    model = vit()
    report = load_pretrained(model, tmp_path)
    assert report.settings == (
        "LayerNorm eps is 1e-12 in the source, 1e-06 in the model; as the source: "
        "norm_layer=partial(nn.LayerNorm, eps=1e-12).",
        "The activation is GELU by its tanh approximation in the source, exact GELU in the model; "
        'as the source: act_layer=partial(nn.GELU, approximate="tanh").',
        "Pixels' mean and std are (0.5, 0.5, 0.5) and (0.25, 0.25, 0.25) in the source, not set in "
        "the model.",
    )
    assert (report.mean, report.std) == ((0.5,) * 3, (0.25,) * 3)
    assert model.mean is None
    alike = vit(
        norm_layer=partial(nn.LayerNorm, eps=1e-12), act_layer=partial(nn.GELU, approximate="tanh")
    )
    alike.mean, alike.std = (0.5,) * 3, (0.25,) * 3
    assert load_pretrained(alike, tmp_path).settings == ()


def test_what_a_library_does_where_no_file_says_otherwise(source, tmp_path):
    save_file(to_hugging_face(source), tmp_path / "hf.safetensors")
    report = load_pretrained(vit(), tmp_path / "hf.safetensors")
    assert report.settings[0].startswith("LayerNorm eps is 1e-12 in the source, 1e-06 in the model")
    assert report.mean is None
    distilled = lively(vit(distilled=True))
    torch.save({"model": distilled.state_dict()}, tmp_path / "deit.pth")
    report = load_pretrained(vit(distilled=True), tmp_path / "deit.pth")
    assert (report.mean, report.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert len(report.settings) == 1  # mean and std, and nothing else


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "quick_gelu"}, "The source's activation is 'quick_gelu', which vitlib"),
        ({"hidden_size": 32}, "config.json was not used: it is about a width of 32, the weights"),
        ({"id2label": {"x": "y"}}, "config.json was not used: ValueError"),
    ],
)
def test_a_config_that_vitlib_cannot_use_is_said(changes, sentence, source, tmp_path):
    write_hugging_face(source, tmp_path, **changes)
    assert any(said.startswith(sentence) for said in load_pretrained(vit(), tmp_path).settings)


def test_a_config_of_other_weights_is_not_believed(source, file):
    write_hugging_face(lively(vit(num_heads=4)), file.parent, weights=False)
    report = load_pretrained(vit(), file)
    assert report.settings[0] == (
        "config.json was not used: it describes weights under other names."
    )


# The report ---------------------------------------------------------------------------------------


def test_the_report_is_a_short_text(source, tmp_path):
    write_hugging_face(source, tmp_path)
    text = str(load_pretrained(vit(num_classes=3, img_size=12), tmp_path, resize_pos_embed=True))
    assert text.splitlines() == [
        f"30 tensors loaded from {tmp_path} (Hugging Face's names)",
        "  head        new, as initialised: 5 classes in the file, 3 in the model",
        "  resized     pos_embed 2×2 -> 3×3",
        "  reshaped    4 joined",
        "  left out    classifier.bias, classifier.weight (the head is not used)",
        "  settings    LayerNorm eps is 1e-12 in the source, 1e-06 in the model; as the",
        "              source: norm_layer=partial(nn.LayerNorm, eps=1e-12).",
        "              Neither the source nor the model says mean and std of the pixels.",
    ]


def test_the_report_shows_itself_and_cuts_long_lists(file):
    report = load_pretrained(vit(depth=4), file, strict=False)
    assert repr(report) == str(report)
    assert "missing     24: blocks.2.norm1.weight" in str(report)
    assert "and 18 more" in str(report)
    assert max(map(len, str(report).splitlines())) <= max(82, len(str(file)) + 50)


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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = create_model(tmp_path / "m.npz", pretrained=True)
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
    with pytest.warns(UserWarning, match="averages its patch tokens after the final norm"):
        create_model(tmp_path, pretrained=True)


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std"),
    [
        ({"do_normalize": False, "image_mean": [0.5] * 3}, (0.0,) * 3, (1.0,) * 3),
        ({"image_mean": [0.5] * 3}, None, None),
        ({"size": 224}, None, None),
    ],
)
def test_what_a_preprocessor_says_of_pixels(preprocessor, mean, std, source, tmp_path):
    write_hugging_face(source, tmp_path, preprocessor=preprocessor)
    report = load_pretrained(vit(), tmp_path)
    assert (report.mean, report.std) == (mean, std)


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
