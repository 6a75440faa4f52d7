"""`vitlib export`: the file, what is said of it, and what is refused at once."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_export import answers, small

from vitlib import create_model, save_checkpoint
from vitlib.cli import main

pytestmark = pytest.mark.usefixtures("unchecked")  # the exporter cannot trace the type checker


def test_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(small(distilled=True), "mine.safetensors")
    assert main(["export", "--checkpoint", "mine.safetensors", "--out", "mine.onnx"]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(
        r"mine\.onnx: \d\.\d MB, images \(batch, 3, 8, 12\) to logits \(batch, 5\)\n"
        r"onnxruntime and torch differ by at most \d\.\de-\d\d\n",
        out,
    )
    said = "the model does not say how its images must be normalised: --mean and --std tell it"
    assert err == f"vitlib: warning: {said}\n"

    torch.save(small(img_size=8).state_dict(), "foreign.pth")
    command = ["export", "--out", "foreign.onnx", "--mean", "0.5", "--std", "0.2,0.3,0.4"]
    assert main([*command, "--checkpoint", "foreign.pth"]) == 2
    assert "--weights reads such weights" in capfd.readouterr().err
    heads = str(small().config["num_heads"])
    assert main([*command, "--weights", "foreign.pth", "--num-heads", heads]) == 0
    assert capfd.readouterr().err == ""
    before = Path("foreign.pth").read_bytes()
    command = ["export", "--weights", "foreign.pth", "--out", "foreign.pth"]
    assert main(command) == 2
    assert Path("foreign.pth").read_bytes() == before
    capfd.readouterr()

    command = ["export", "--model", "vit_nano_patch7_28", "--format", "onnx", "--out", "nano.onnx"]
    assert main(command) == 0
    assert capfd.readouterr().err == ""
    model = create_model("vit_nano_patch7_28", pretrained=True)
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(answers(tmp_path / "nano.onnx", images), expected, atol=1e-5)

    assert main(["export", "--checkpoint", "mine.safetensors", "--out", "nano.onnx/x.onnx"]) == 2
    error = "vitlib: error: nano.onnx/x.onnx cannot be written: "
    assert capfd.readouterr().err.startswith(error)  # said at once, before any work
    assert main(["export", "--checkpoint", "none", "--out", "none.onnx"]) == 2
    assert capfd.readouterr().err.startswith("vitlib: error: no checkpoint none")
    with pytest.raises(SystemExit):
        main(["export", "--out", "none.onnx"])
    assert "--checkpoint --model --weights is required" in capfd.readouterr().err
