"""Weights that do not fit a model, and heads: what is kept, refused and said."""

import pytest
import torch
from checkpoints.comparing import frozen, images_for, untouched
from foreign_files import lively, to_hugging_face, vit, write_hugging_face

from vitlib.checkpoints import load_pretrained


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


@pytest.mark.parametrize("num_classes", [5, 0])
def test_a_head_of_several_layers_under_any_name_is_left_out(num_classes, source, tmp_path):
    weights = {n: t for n, t in to_hugging_face(source).items() if not n.startswith("classifier")}
    parts = {"classifier.0.weight": torch.ones(7, 16), "classifier.2.weight": torch.ones(5, 7)}
    torch.save(weights | parts, tmp_path / "m.pth")
    report = load_pretrained(vit(num_classes=num_classes), tmp_path / "m.pth", new_head=True)
    assert report.ok
    assert report.left_out == dict.fromkeys(parts, "the head is not used")


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
