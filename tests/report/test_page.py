"""The HTML report: what it says, what it escapes, and how it looks in a browser."""

import base64
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import PHONE, WIDE, serious_violations
from bs4 import BeautifulSoup
from PIL import Image
from torch import nn

from vitlib import AttentionRecorder, VisionTransformer, occlusion
from vitlib.data import ImageSet
from vitlib.report import Report, render, wilson_interval, write_report
from vitlib.train.evaluation import Evaluation, evaluate
from vitlib.train.history import History, TrainConfig

LINES = """cells => Math.max(...[...document.querySelectorAll(cells)].map(cell => {
    const range = document.createRange()
    range.selectNodeContents(cell)
    return range.getClientRects().length
}))"""  # the most lines that a cell's text takes
EVIL = '<script>alert("x")</script> & "co"'


def made(classes: int, count: int = 40, **options) -> tuple[Report, VisionTransformer]:
    """A report on random pictures, where a random model is wrong about every third."""
    torch.manual_seed(0)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = VisionTransformer(**size | {"num_classes": classes} | options).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    model.mean = model.std = (0.5,) * model.in_chans
    images = torch.randint(256, (count, model.in_chans, *model.img_size), dtype=torch.uint8)

    def labelled(labels):
        return ImageSet(images, labels, model.mean, model.std)

    answers = evaluate(model, labelled(torch.zeros(count, dtype=torch.int64))).predictions
    number = torch.arange(count)
    others = (answers + 1 + number % (classes - 1)) % classes
    pictures = labelled(torch.where(number % 3 == 0, others, answers))
    names = [f"class {number}" for number in range(classes)]
    return Report("pictures", names, pictures, evaluate(model, pictures), {"a": "b"}), model


def told(history: int = 0, **changes) -> History:
    config = TrainConfig(steps=history, warmup_steps=0, **changes)
    record = History(config)
    for step in range(history):
        record.loss.append(2 * math.exp(-step / 30))
        record.lr.append(2e-4 * (1 - step / history))
        if step % 20 == 19:
            record.add_validation(step + 1, 0.5, 0.5 + step / 1000)
    return record


def parsed(report: Report, model: VisionTransformer) -> BeautifulSoup:
    return BeautifulSoup(render(report, model), "html.parser")


def test_the_numbers_are_those_of_the_evaluation():
    report, model = made(4)
    page = parsed(report, model)
    labels, answers = report.result.labels, report.result.predictions
    right = int((labels == answers).sum())
    assert page.find(class_="figure").text == f"{right / 40:.1%}"
    low, high = wilson_interval(right, 40)
    text = " ".join(page.text.split())
    assert f"{right} of 40" in text
    assert f"between {low:.1%} and {high:.1%}" in text
    sizes = torch.bincount(labels, minlength=4)
    always = f"Always answering “class {int(sizes.argmax())}” would give {sizes.max() / 40:.1%}"
    assert always in text

    counts = torch.zeros(4, 4, dtype=torch.int64)
    for label, answer in zip(labels, answers, strict=True):
        counts[label, answer] += 1
    rows = page.select(".confusion tbody tr")
    found = [[int(cell.text) for cell in row.select("td")] for row in rows]
    assert found == counts.tolist()
    assert [row.th.text for row in rows] == report.classes
    assert [th.text for th in page.select(".confusion thead th")] == report.classes
    for true, row in enumerate(rows):
        for given, cell in enumerate(row.select("td")):
            count = int(counts[true, given])
            kind = "none" if not count else "right" if true == given else "wrong"
            assert cell["class"] == [kind]
    pairs = {
        f"class {true} taken for class {given}: {counts[true, given]} of {counts[true].sum()}"
        for true in range(4)
        for given in range(4)
        if true != given and counts[true, given]
    }
    assert {item.text for item in page.select("li")} <= pairs
    assert len(page.select("li")) == min(10, len(pairs))

    table = page.find("table", class_=lambda name: name is None)
    shares = {row.th.text: row.select("td")[1].text for row in table.select("tbody tr")}
    assert shares == {f"class {k}": f"{counts[k, k]} of {counts[k].sum()}" for k in range(4)}


def test_the_worst_mistakes_come_first_with_their_maps():
    report, model = made(3)
    page = parsed(report, model)
    result = report.result
    probabilities = result.logits.softmax(dim=1)
    wrong = (result.predictions != result.labels).nonzero()[:, 0]
    order = wrong[probabilities[wrong].amax(dim=1).argsort(descending=True)][:12].tolist()
    figures = page.select(".mistakes figure")
    assert len(figures) == len(order) == min(12, len(wrong))
    assert f"Shown: {len(order)} of {len(wrong)}" in page.text or len(order) == len(wrong)
    for number, figure in zip(order, figures, strict=True):
        given, true = int(result.predictions[number]), int(result.labels[number])
        p, q = float(probabilities[number, given]), float(probabilities[number, true])
        caption = " ".join(figure.figcaption.text.split())
        assert f"Answer class {given} ({p:.1%}), truth class {true} ({q:.1%})" in caption
        assert f"test picture {number};" in caption
        picture, *layers, over = (opened(img["src"]) for img in figure.select("img"))
        assert np.array_equal(picture, report.images.images[number].permute(1, 2, 0).numpy())
        for under in (layers[0], layers[2]):
            assert np.array_equal(picture, under)

        inputs = report.images[number][0][None]  # normalised by the model's mean and std
        with AttentionRecorder(model, [-1]) as recorder, torch.no_grad():
            model(inputs)
        read = recorder.attention[0, 0].mean(dim=0)[0, 1:]  # of the class token, of patches
        expected = (200 * read / read.max()).round().numpy()
        assert np.abs(layers[1][..., 3].flatten() - expected).max() <= 1
        assert layers[1].shape == (*model.grid_size, 4)
        drops = occlusion(model, inputs, given)[0]
        assert over.shape == (*drops.shape, 4)
        orange = over[..., 0] > over[..., 2]
        assert np.array_equal(orange, (drops >= 0).numpy())
        assert over[..., 3].max() == 200
        assert np.unravel_index(over[..., 3].argmax(), drops.shape) == np.unravel_index(
            int(drops.abs().argmax()), drops.shape
        )
        with torch.no_grad():
            top = int(drops.argmax())
            row, column = top // 4 * 8, top % 4 * 8
            inputs[..., row : row + 8, column : column + 8] = 0
            after = float(model(inputs).softmax(dim=1)[0, given])
        assert f"the answer’s probability is {after:.1%}" in caption


def opened(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_large_pictures_are_covered_by_a_handful_of_squares():
    report, model = made(2, count=4, img_size=(112, 40), patch_size=8)
    page = parsed(report, model)
    assert "squares of 16×8 pixels" in " ".join(page.text.split())
    assert page.img["src"].startswith("data:image/jpeg")
    assert opened(page.img["src"]).shape == (112, 40, 3)
    assert opened(page.select(".map")[1]["src"]).shape == (7, 5, 4)


def test_nothing_wrong_and_a_class_without_pictures():
    report, model = made(3)
    labels = report.result.predictions
    pictures = ImageSet(report.images.images, labels, (0.5,) * 3, (0.5,) * 3)
    right = Report(**vars(report) | {"images": pictures, "result": evaluate(model, pictures)})
    page = parsed(right, model)
    assert "There are none: all 40 answers are right" in page.text
    assert not page.select("img, li")
    absent = set(range(3)) - set(labels.tolist())
    assert page.text.count("0 of 0") == len(absent)

    result = Evaluation(0.0, 0.0, torch.eye(3), torch.tensor([1, 1, 1]))
    pictures = ImageSet(pictures.images[:3], result.labels, (0.5,) * 3, (0.5,) * 3)
    page = parsed(Report(**vars(report) | {"images": pictures, "result": result}), model)
    names = [th.text for th in page.select("th.name")]
    assert names == ["class 1", "class 0", "class 2"]  # a class that was not asked is not the worst


def test_what_comes_from_outside_is_escaped():
    report, model = made(3)
    names = [EVIL, "<b>bold</b>", "'plain'"]
    page = render(
        Report(**vars(report) | {"title": EVIL, "classes": names, "settings": {EVIL: EVIL}}), model
    )
    assert "<script" not in page
    assert "<b>bold" not in page
    soup = BeautifulSoup(page, "html.parser")
    assert soup.h1.text == soup.title.text == EVIL
    assert soup.select(".confusion tbody th")[0].text == EVIL
    assert soup.select(".confusion thead span")[0]["title"] == EVIL
    assert soup.select(".settings td")[0].text == EVIL


@pytest.mark.parametrize("classes", [2, 12, 13, 100])
def test_it_asks_for_nothing_from_anywhere(classes):
    report, model = made(classes)
    soup = parsed(Report(**vars(report) | {"history": told(60)}), model)
    assert not soup.select("script, iframe, object, embed, base, form")
    for tag in soup.find_all(True):
        for name in ("src", "href", "srcset", "xlink:href", "action", "poster", "background"):
            assert tag.get(name, "data:").startswith("data:")
        assert not [name for name in tag.attrs if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", soup.style.text)
    assert bool(soup.select(".confusion")) == (classes <= 12)
    assert bool(soup.select(".heat")) == (classes > 12)
    assert len(soup.select(".curves svg")) == 3


def test_wilson_interval():
    """Against the equation that defines it, |share - p| = z sqrt(p (1 - p) / n) at both ends."""
    for right, count in ((0, 5), (3, 10), (28, 30), (10, 10), (975, 1000)):
        low, high = wilson_interval(right, count)
        assert 0 <= low <= right / count <= high <= 1
        assert low < high
        for p in (low, high):
            if 0 < p < 1:
                z = abs(right / count - p) / math.sqrt(p * (1 - p) / count)
                assert z == pytest.approx(1.96)
    for right, count in ((0, 0), (3, 2), (-1, 4)):
        with pytest.raises(ValueError, match="expected right between 0 and count"):
            wilson_interval(right, count)


def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    report, model = made(2)
    path = tmp_path / "deep" / "page.html"
    write_report(path, report, model)
    assert path.read_text("utf-8") == render(report, model)
    before = path.read_bytes()

    def write_text(self, *args):
        Path.write_bytes(self, b"half")
        raise OSError("disk full")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises(OSError, match="disk full"):
            write_report(path, report, model)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_model_is_not_touched():
    report, model = made(2)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    render(report, model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, WIDE], ids=["phone", "wide"])
@pytest.mark.parametrize("classes", [12, 100])
def test_in_a_browser(visit, tmp_path, classes, viewport, scheme):
    report, model = made(classes, in_chans=1 if classes == 12 else 3)
    names = [f"{EVIL}, number {k} of a rather long name" for k in range(classes)]
    shown = Report(**vars(report) | {"classes": names, "history": told(60)})
    write_report(tmp_path / "page.html", shown, model)
    page = visit(tmp_path.as_uri(), viewport, color_scheme=scheme).open("page.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 27)"}[scheme]
    labels = page.evaluate("[...document.querySelectorAll('.curves text')].map(t => t.getBBox().x)")
    assert min(labels) >= 0  # none is cut off
    assert page.evaluate(LINES, ".number") == 1
    sides = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.width])")
    assert sides
    assert all(natural and width > 20 for natural, width in sides)
    assert serious_violations(page) == []
