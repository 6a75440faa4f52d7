"""LensFigure in Python: its numbers against torch, which classes it keeps, and what it refuses."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from traitlets import TraitError

from vitlib import VisionTransformer, logit_lens
from vitlib.widgets import LensFigure

make = partial(
    VisionTransformer, img_size=(8, 12), patch_size=4, embed_dim=18, depth=3, num_heads=2,
    num_classes=5,
)  # fmt: skip


def seeded(**options):
    torch.manual_seed(1)
    model = make(**options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture
def image():
    return torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(0))


def decoded(figure):
    return np.frombuffer(figure.probabilities, np.float32).reshape(figure.depth, -1)


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ({}, "the class token"),
        ({"reg_tokens": 3}, "the class token"),
        ({"distilled": True}, "the class and distillation tokens"),
        ({"global_pool": "avg"}, "the mean of the patch tokens"),
    ],
)
def test_numbers_are_those_of_the_lens(image, options, source):
    model = seeded(**options, drop_rate=0.5)
    figure = LensFigure(model, image, label=2)
    assert model.training
    lens = logit_lens(model, image[None])[0]
    np.testing.assert_array_equal(decoded(figure), lens.numpy())
    answer = model.eval()(image[None]).softmax(dim=1)[0]
    np.testing.assert_allclose(decoded(figure)[-1], answer.detach().numpy(), atol=1e-6)
    assert (figure.answer, figure.label) == (int(answer.argmax()), 2)
    assert (figure.layer, figure.depth, figure.others, figure.source) == (2, 3, 0, source)
    assert f"{float(answer.detach().max()):.3f}" in figure.alt


def test_of_many_classes_the_highest_are_kept_with_the_answer_and_the_label(image):
    model = seeded(num_classes=30)
    lens = logit_lens(model, image[None])[0]
    least = int(lens.amax(dim=0).argmin())
    model.classes = tuple(f"class {k}" for k in range(30))
    figure = LensFigure(model, image, label=least)
    kept = [int(name.removeprefix("class ")) for name in figure.classes]
    assert (len(kept), figure.others) == (20, 10)
    assert kept == sorted(kept)
    assert (kept[figure.answer], kept[figure.label]) == (int(lens[-1].argmax()), least)
    np.testing.assert_array_equal(decoded(figure), lens[:, kept].numpy())
    highest = lens.amax(dim=0).argsort(descending=True)[:19].tolist()
    assert set(highest) <= set(kept)


def test_html_is_deterministic_and_the_same_for_a_batch_of_one(image):
    figure = LensFigure(seeded(), image, layer=1)
    data, _ = figure._repr_mimebundle_()
    assert data["text/html"] == LensFigure(seeded(), image[None], layer=1).to_html()
    assert figure.alt in data["text/html"]
    assert figure.alt in data["text/plain"]
    assert figure.label is None


def test_layer_out_of_range(image):
    with pytest.raises(ValueError, match="layer must be from 0 to 2, for 3 layers: got 3"):
        LensFigure(seeded(), image, layer=3)
    figure = LensFigure(seeded(), image)
    with pytest.raises(TraitError, match="layer must be from 0 to 2, for 3 layers: got -1"):
        figure.layer = -1
    assert figure.layer == 2


@pytest.mark.parametrize(
    ("model", "picture", "label", "message"),
    [
        (torch.nn.Linear(2, 2), torch.zeros(3, 8, 12), None, "expected a vitlib.Vision"),
        ({}, torch.zeros(2, 3, 8, 12), None, "expected one image, got a batch of 2"),
        ({}, torch.zeros(3, 12, 8), None, "expected images of 8×12 pixels, got 12×8: resize them"),
        ({}, torch.zeros(3, 8, 12, dtype=torch.uint8), None, "got torch.uint8"),
        ({}, torch.full((3, 8, 12), float("inf")), None, "images hold NaN or infinity: 1 of 1"),
        ({}, torch.zeros(3, 8, 12), 5, "label must be from 0 to 4, for 5 classes: got 5"),
        ({}, torch.zeros(3, 8, 12), "3", "label must be the number of a class: got '3'"),
        ({}, torch.zeros(3, 8, 12), 1.0, "label must be the number of a class: got 1.0"),
        ({"num_classes": 0}, torch.zeros(3, 8, 12), None, "no head"),
        ({"depth": 0}, torch.zeros(3, 8, 12), None, "no blocks"),
    ],
)
def test_bad_input(model, picture, label, message, unchecked):
    model = make(**model) if isinstance(model, dict) else model
    with pytest.raises(ValueError, match=re.escape(message)):
        LensFigure(model, picture, label)


def test_model_that_answers_nan(image):
    model = seeded()
    model.blocks[2].mlp.fc1.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        LensFigure(model, image)


def test_a_label_as_data_sets_give_it(unchecked):
    model = make()
    html = {LensFigure(model, torch.ones(3, 8, 12), label).to_html()
            for label in (3, np.int64(3), torch.tensor(3))}  # fmt: skip
    assert len(html) == 1
