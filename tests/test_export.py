"""ONNX files: what onnxruntime computes from them, and what they say about themselves."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import vitlib.export
from vitlib import VisionTransformer, create_model
from vitlib.export import export_onnx

pytestmark = pytest.mark.usefixtures("unchecked")  # the exporter cannot trace the type checker


def small(**options) -> VisionTransformer:
    """A model all of whose parameters are random, biases, norms and positions too."""
    torch.manual_seed(0)
    size = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = VisionTransformer(**size | {"num_classes": 5} | options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def answers(path: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distilled": True},
        {"distilled": True, "reg_tokens": 2, "init_values": 0.1},
        {"pos_embed": "sincos"},
        {"pos_embed": "none", "qkv_bias": False},
        {"global_pool": "avg", "reg_tokens": 1},
        {"reg_tokens": 2, "no_embed_class": True},
        {"representation_size": 8},
        {"in_chans": 1, "img_size": (12, 4)},
        {"dynamic_img_size": True},
        {"num_classes": 0},
        {"drop_rate": 0.5, "drop_path_rate": 0.5},
    ],
    ids=str,
)
def test_onnxruntime_answers_as_torch_does(tmp_path, options):
    model = small(**options)
    path = tmp_path / "model.onnx"
    said = export_onnx(model, path)
    for batch in (1, 2, 7):
        images = torch.randn(batch, model.in_chans, *model.img_size)
        with torch.no_grad():
            expected = model(images).numpy()
        np.testing.assert_allclose(answers(path, images), expected, rtol=0, atol=1e-5)
    assert 0 <= said <= 1e-5
    assert list(tmp_path.iterdir()) == [path]  # no second file with weights, nothing left over


def test_the_file_says_what_the_model_knows(tmp_path):
    model = small()
    model.classes, model.mean, model.std = ("a", "b", "c", "d", "é"), (0.1, 0.2, 0.3), (1, 2, 3)
    export_onnx(model, tmp_path / "deep" / "model.onnx")
    program = onnx.load(tmp_path / "deep" / "model.onnx")
    onnx.checker.check_model(program)
    assert {p.key: json.loads(p.value) for p in program.metadata_props} == {
        "classes": ["a", "b", "c", "d", "é"],
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 2, 3],
        "img_size": [8, 12],
    }
    assert [entry.version for entry in program.opset_import if not entry.domain] == [18]
    (images,), (logits,) = program.graph.input, program.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    batch, *rest = images.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [d.dim_value for d in rest] == [3, 8, 12]

    export_onnx(small(num_classes=0), tmp_path / "plain.onnx")
    program = onnx.load(tmp_path / "plain.onnx")
    assert {p.key for p in program.metadata_props} & {"classes", "mean", "std"} == set()
    assert program.graph.output[0].name == "features"


def test_the_model_is_not_touched(tmp_path, capfd):
    model = small(drop_rate=0.5).train().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    export_onnx(model, tmp_path / "model.onnx")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, before[name])
    assert capfd.readouterr() == ("", "")


def test_answers_that_differ_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"former")
    session = vitlib.export._session
    for wrong in (1e-3, float("nan")):
        monkeypatch.setattr(
            "vitlib.export._session",
            lambda content, wrong=wrong: lambda images: session(content)(images) + wrong,
        )
        with pytest.raises(ValueError, match="nothing is written: onnxruntime's answers differ"):
            export_onnx(small(), path)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_models_that_cannot_be_exported(tmp_path, monkeypatch):
    class Fickle(nn.Module):
        img_size, in_chans = 8, 3

        def forward(self, images):
            return images if images.sum() > 0 else -images  # an answer that no graph holds

    with pytest.raises(ValueError, match="the model cannot be written as ONNX: "):
        export_onnx(Fickle(), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="a Linear must have img_size"):
        export_onnx(nn.Linear(2, 2), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        export_onnx(small(), tmp_path)
    with torch.device("meta"):
        huge = create_model("vit_huge_patch14_224")
    with pytest.raises(ValueError, match=r"the weights are 2\.5 GB, and one ONNX file holds"):
        export_onnx(huge, tmp_path / "x.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("vitlib.export.find_spec", lambda name: None if "run" in name else name)
    with pytest.raises(ImportError, match=r'needs onnxruntime: pip install "vitlib\[onnx\]"'):
        export_onnx(small(), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_file_can_be_quantised_and_read_by_older_programs(tmp_path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model, path = small(), tmp_path / "model.onnx"
    export_onnx(model, path)
    program = onnx.load(path)
    onnx.checker.check_model(program, full_check=True)
    assert program.ir_version == 8  # what opset 18 needs
    weights = {tensor.name for tensor in program.graph.initializer}
    assert weights.isdisjoint(value.name for value in program.graph.value_info)
    assert not any(node.metadata_props for node in program.graph.node)  # of IR version 10
    quantize_dynamic(path, tmp_path / "small.onnx", weight_type=QuantType.QInt8)
    images = torch.randn(3, 3, 8, 12)
    full, quantised = answers(path, images), answers(tmp_path / "small.onnx", images)
    assert np.abs(full - quantised).max() < 0.2 * np.abs(full).max()
