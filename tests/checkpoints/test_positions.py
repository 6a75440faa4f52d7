"""Position embeddings from other grids and layouts of tokens, through load_pretrained."""

import pytest
import torch
from checkpoints.comparing import equal_logits
from foreign_files import lively, vit, write_hugging_face

from vitlib import create_model
from vitlib.checkpoints import load_pretrained
from vitlib.pos_embed import resample_pos_embed


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
