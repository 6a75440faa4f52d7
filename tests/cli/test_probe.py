"""`vitlib probe` on made pictures, with small weights as files."""

import re
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from cli.running import refused, run
from cli.test_finetune import keep, paint, tiny

from vitlib import evaluate, load_checkpoint, load_data, save_checkpoint
from vitlib.matching import match_model
from vitlib.train.features import cache_folder


@pytest.fixture(autouse=True)
def _pictures_and_weights():
    paint(Path("pictures"))
    keep(tiny(), "start.safetensors")


NO_STATISTICS = ["probe", "--data", "pictures", "--weights", "./start.safetensors", "--quiet",
                 "--num-heads", "3"]  # fmt: skip
PROBE = [*NO_STATISTICS, "--mean", "0.5", "--std", "0.5"]


def accuracies(out: str) -> list[str]:
    return re.findall(r"(neighbours|C = [\d.e-]+): test accuracy ([\d.]+)%", out)


def test_a_folder_of_pictures(capsys):
    code, out, _ = run(capsys, *PROBE)
    assert code == 0
    assert "pictures: 24 training and 6 test images, 16×16, 3 channels, 3 classes" in out
    assert "192 features per picture" in out
    (_, nearest), (_, logistic) = accuracies(out)
    assert float(nearest) > 80
    assert float(logistic) > 80
    assert "20 nearest neighbours" in out


def test_a_second_time_computes_nothing(capsys, monkeypatch):
    _, first, _ = run(capsys, *PROBE)
    monkeypatch.setattr("vitlib.train.features._compute", None)  # would be called
    code, again, _ = run(capsys, *PROBE)
    assert code == 0
    assert accuracies(again) == accuracies(first)
    assert len(list(cache_folder().iterdir())) == 2


def test_the_checkpoint_and_the_page(capsys):
    code, out, _ = run(capsys, *PROBE, "--out", "probe.safetensors", "--report", "probe.html")
    assert code == 0
    model = load_checkpoint("probe.safetensors")
    assert model.classes == ("blue", "green", "red")
    data = match_model(load_data("pictures", img_size=16), model)
    result = evaluate(model, data.test)
    assert f"{result.accuracy:.2%} " in out.split("C = ")[1]
    page = BeautifulSoup(Path("probe.html").read_text(), "html.parser")
    assert page.h1.text == "pictures: probe of ./start.safetensors"
    assert "the model was not trained" in page.text
    assert "nearest neighbours: test accuracy" in page.text
    assert run(capsys, "eval", "--checkpoint", "probe.safetensors", "--data", "pictures")[0] == 0


def test_another_size(capsys):
    code, out, _ = run(capsys, *PROBE, "--img-size", "24")
    assert code == 0
    assert "24×24" in out
    assert "36 of them" in out  # patches


def test_large_weights_are_made_smaller(capsys, monkeypatch):
    keep(tiny(img_size=32), "start.safetensors")
    monkeypatch.setattr("vitlib.cli.probe._USUAL_SIDE", 18)
    code, out, _ = run(capsys, *PROBE)
    assert code == 0
    assert "pictures of 16×16: the weights' own size takes longer (--img-size)" in out
    assert "16 of them" in out


def test_a_checkpoint_of_ours(capsys):
    model = tiny()
    model.mean, model.std = (0.5,) * 3, (0.25,) * 3
    save_checkpoint(model, "own.safetensors")
    arguments = ["probe", "--data", "pictures", "--checkpoint", "own.safetensors", "--quiet"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "pixels normalised by mean 0.5 0.5 0.5 and std 0.25 0.25 0.25, 16×16" in out
    assert "already the name of the model" in refused(
        capsys, *arguments, "--out", "own.safetensors"
    )


def test_weights_that_do_not_say_how_pixels_were_normalised(capsys):
    code, _, err = run(capsys, *NO_STATISTICS)
    assert code == 0
    assert "start.safetensors does not say by which mean and std" in err
    assert "those of pictures are taken" in err


def test_what_it_refuses(capsys):
    assert "--neighbours must be at least 1, got 0" in refused(capsys, *PROBE, "--neighbours", 0)
    assert "the cache start.safetensors is a file" in refused(
        capsys, *PROBE, "--cache", "start.safetensors"
    )
    for picture in sorted(Path("pictures/red").iterdir())[1:]:
        picture.unlink()
    assert "class 'red'" in refused(capsys, *PROBE)


def test_it_does_not_touch_torchs_random_numbers(capsys):
    torch.manual_seed(1)
    run(capsys, *PROBE)
    after = torch.rand(3)
    torch.manual_seed(1)
    run(capsys, *PROBE)
    assert torch.equal(torch.rand(3), after)
