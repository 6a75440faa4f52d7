"""What is known of weights beside their numbers, from configs or from their names."""

import argparse
import json
import re

import pytest
import torch
from foreign_files import lively, to_hugging_face, vit, write_hugging_face
from peers import transformers
from safetensors.torch import save_file

from vitlib.checkpoints import load_pretrained


def test_what_a_library_does_where_no_file_says_otherwise(source, tmp_path):
    save_file(to_hugging_face(source), tmp_path / "hf.safetensors")
    report = load_pretrained(vit(), tmp_path / "hf.safetensors")
    assert report.settings[0].startswith("LayerNorm eps is 1e-12 in the source, 1e-06 in the model")
    assert any(
        said.startswith("No file states eps, activation, pooling, ") for said in report.settings
    )
    assert report.mean is None
    distilled = lively(vit(distilled=True))
    torch.save({"model": distilled.state_dict()}, tmp_path / "deit.pth")
    report = load_pretrained(vit(distilled=True), tmp_path / "deit.pth")
    assert (report.mean, report.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert report.settings[0] == (
        "Nothing in the source tells the number of attention heads: the model has 2. "
        "num_heads=... (--num-heads) sets another."
    )
    assert report.settings[1].startswith(
        "No file states eps, activation, pooling, mean and std, the grid of patches: those "
    )
    assert report.settings[2].startswith("Pixels' mean and std are (0.485, 0.456, 0.406) and")
    assert len(report.settings) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "quick_gelu"}, "The source's activation is 'quick_gelu', which vitlib"),
        ({"hidden_size": 32}, "config.json was not used: it is about a width of 32, the weights"),
        ({"id2label": {"x": "y"}}, "config.json was not used: ValueError"),
        ({"num_attention_heads": "two"}, "config.json was not used: ValueError"),
        (
            {"num_attention_heads": True},
            "config.json was not used: ValueError('num_attention_heads",
        ),
        ({"layer_norm_eps": -1}, "config.json was not used: ValueError('layer_norm_eps is -1')"),
        ({"hidden_act": ["gelu"]}, "config.json was not used: ValueError"),
        (
            {"num_hidden_layers": 12},
            "config.json was not used: it is about depth of 12, the weight",
        ),
        ({"patch_size": 16}, "config.json was not used: it is about patch_size of 16, the weights"),
        ({"id2label": {"0": "cat"}}, "config.json names 1 classes, and the head has 5"),
        ({"finetuned_by": "me"}, "config.json says finetuned_by='me', which vitlib does not know"),
    ],
)
def test_a_config_that_vitlib_cannot_use_is_said(changes, sentence, source, tmp_path):
    write_hugging_face(source, tmp_path, **changes)
    report = load_pretrained(vit(), tmp_path, strict="quick_gelu" not in changes.values())
    assert any(said.startswith(sentence) for said in report.settings)


def test_a_config_that_names_no_architecture_does_not_tell_everything(source, file):
    settings = {"mean": [0.1] * 3, "std": [0.2] * 3, "model_args": {"num_heads": 2}}
    for config, is_assumed in ((settings, True), (settings | {"architecture": "test_vit"}, False)):
        file.with_name("config.json").write_text(json.dumps(config))
        report = load_pretrained(vit(), file)
        assert (report.mean, report.std) == ((0.1,) * 3, (0.2,) * 3)
        assumed = [said for said in report.settings if said.startswith("No file states eps, act")]
        assert bool(assumed) == is_assumed


def test_pictures_that_the_source_cuts_otherwise_are_said(source, file):
    config = {"architecture": "test_vit", "model_args": {"num_heads": 2}, "crop_pct": 0.9}
    file.with_name("config.json").write_text(json.dumps(config))
    said = load_pretrained(vit(), file).settings
    assert said[-1].startswith(
        "How pictures are cut and resized is not taken from the source (crop_pct=0.9): vitlib"
    )


def test_a_config_of_other_weights_is_not_believed(source, file):
    write_hugging_face(lively(vit(num_heads=4)), file.parent, weights=False)
    report = load_pretrained(vit(), file)
    assert report.settings[0] == (
        "config.json was not used: it describes weights under other names."
    )


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std"),
    [
        ({"do_normalize": False, "image_mean": [0.5] * 3}, (0.0,) * 3, (1.0,) * 3),
        ({"image_mean": [0.5] * 3}, None, None),
        ({"image_mean": 0.4, "image_std": 0.2}, (0.4,) * 3, (0.2,) * 3),
        (
            {"do_rescale": False, "image_mean": [51, 102, 153], "image_std": [51] * 3},
            (0.2, 0.4, 0.6),
            (0.2,) * 3,
        ),
        (  # pixels from 0 to 2
            {"rescale_factor": 2 / 255, "image_mean": [1] * 3, "image_std": [0.5] * 3},
            (0.5,) * 3,
            (0.25,) * 3,
        ),
        ({"rescale_factor": 2 / 255, "do_normalize": False}, (0,) * 3, (0.5,) * 3),
        (  # pixels from -1 to 1
            {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
            (0.5,) * 3,
            (0.5,) * 3,
        ),
        ({"do_rescale": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, None, None),
        ({"do_rescale": False, "do_normalize": False}, None, None),
        ({"image_mean": [123.0] * 3, "image_std": [58.0] * 3}, None, None),
        ({"image_mean": [0.5] * 3, "image_std": [0.0] * 3}, None, None),
        ({"image_mean": "grey", "image_std": [0.5] * 3}, None, None),
        ({"rescale_factor": 0, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, None, None),
        ({"size": 224}, None, None),
    ],
)
def test_what_a_preprocessor_says_of_pixels(preprocessor, mean, std, source, tmp_path):
    write_hugging_face(source, tmp_path, preprocessor=preprocessor)
    report = load_pretrained(vit(), tmp_path)
    assert report.mean == (mean if mean is None else pytest.approx(mean))
    assert report.std == (std if std is None else pytest.approx(std))
    both_stated = {
        "image_mean",
        "image_std",
    } <= preprocessor.keys() or "do_normalize" in preprocessor
    if mean is None and both_stated:  # and not used: that is said
        assert re.search(r"(were|neither is) (not )?used", " ".join(report.settings))


def test_statistics_of_pixels_are_those_of_a_processor(source, tmp_path):
    """What a processor of transformers computes from a picture, and what vitlib does."""
    pixels = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8)
    for settings in (
        {"do_rescale": False, "image_mean": [123, 116, 103], "image_std": [58, 57, 57]},
        {"rescale_factor": 1 / 127.5, "image_mean": [0.9] * 3, "image_std": [0.3] * 3},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
    ):
        processor = transformers.ViTImageProcessor(do_resize=False, **settings)
        processor.save_pretrained(tmp_path)
        write_hugging_face(source, tmp_path)
        report = load_pretrained(vit(), tmp_path)
        theirs = processor(pixels, return_tensors="pt").pixel_values
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (report.mean, report.std))
        torch.testing.assert_close((pixels / 255 - mean) / std, theirs)


@pytest.mark.parametrize(
    ("content", "heads"),
    [
        ({"arch": "deit_small_patch16_224"}, 6),
        ({"args": argparse.Namespace(model="deit3_small_patch16_384.fb_in1k")}, 6),
        ({"hyper_parameters": {"model_name": "vit_small_patch16_224"}}, 6),
        ({"arch": "vit_small", "args": argparse.Namespace(lr=0.1)}, None),
        ({"arch": "deit_base_patch16_224"}, None),  # of another width
    ],
)
def test_a_training_checkpoint_that_names_its_model_tells_the_heads(content, heads, tmp_path):
    weights = lively(vit(embed_dim=384, depth=1, num_heads=6)).state_dict()
    torch.save({"state_dict": weights, **content}, tmp_path / "m.pth")
    said = load_pretrained(vit(embed_dim=384, depth=1, num_heads=6), tmp_path / "m.pth").settings
    assert any("tells the number of attention heads" in sentence for sentence in said) == (
        heads is None
    )
    if heads:
        with pytest.raises(ValueError, match="num_heads 6 in the source, 12 in the model"):
            load_pretrained(vit(embed_dim=384, depth=1, num_heads=12), tmp_path / "m.pth")


def test_a_training_checkpoint_that_names_another_model_is_refused(source, tmp_path):
    torch.save({"model": source.state_dict(), "arch": "vit_small_patch16_dinov3"}, tmp_path / "m")
    with pytest.raises(ValueError, match=r"file calls it 'vit_small_patch16_dinov3'.*\(RoPE\)"):
        load_pretrained(vit(), tmp_path / "m")
