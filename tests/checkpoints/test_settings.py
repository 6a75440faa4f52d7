"""What is known of weights beside their numbers, from configs or from their names."""

import pytest
import torch
from foreign_files import lively, to_hugging_face, vit, write_hugging_face
from safetensors.torch import save_file

from vitlib.checkpoints import load_pretrained


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
