"""LoadReport: a short text, and sentences where settings differ."""

from functools import partial

import torch
from foreign_files import lively, vit, write_hugging_face
from torch import nn

from vitlib.checkpoints import load_pretrained


def test_a_number_of_heads_that_is_not_usual_is_a_sentence(tmp_path):
    torch.save(lively(vit(embed_dim=192, num_heads=3)).state_dict(), tmp_path / "m.pth")
    report = load_pretrained(vit(embed_dim=192, num_heads=6), tmp_path / "m.pth")
    assert report.ok
    assert report.settings[0] == (
        "Nothing in the source tells the number of attention heads: the model has 6; published "
        "ViTs of this width have 3. num_heads=... (--num-heads) sets another."
    )


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


def test_the_report_is_a_short_text(source, tmp_path):
    write_hugging_face(source, tmp_path)
    text = str(load_pretrained(vit(num_classes=3, img_size=12), tmp_path, resize_pos_embed=True))
    assert text.splitlines() == [
        f"30 tensors loaded from {tmp_path} (Hugging Face's names)",
        "  head        new, as initialised: 5 classes in the file, 3 in the model",
        "  resized     pos_embed 2×2 -> 3×3",
        "  reshaped    4 joined",
        "  left out    classifier.bias, classifier.weight (the head is not used)",
        "  settings    Positions are resampled by bicubic interpolation, with",
        "              anti-aliasing, as timm does.",
        "              LayerNorm eps is 1e-12 in the source, 1e-06 in the model; as the",
        "              source: norm_layer=partial(nn.LayerNorm, eps=1e-12).",
        "              Neither the source nor the model states the pixels' mean and std.",
    ]


def test_the_report_shows_itself_and_cuts_long_lists(file):
    report = load_pretrained(vit(depth=4), file, strict=False)
    assert repr(report) == str(report)
    assert "missing     24: blocks.2.norm1.weight" in str(report)
    assert "and 18 more" in str(report)
    assert max(map(len, str(report).splitlines())) <= max(82, len(str(file)) + 50)
