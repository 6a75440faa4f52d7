"""TeacherFigure in Python: its logits against torch's, and what it refuses."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from traitlets import TraitError

from vitlib import VisionTransformer
from vitlib.baselines import SmallCNN
from vitlib.widgets import TeacherFigure

make = partial(
    VisionTransformer, img_size=(8, 12), patch_size=4, embed_dim=18, depth=2, num_heads=2,
    num_classes=5,
)  # fmt: skip


def student(**options):
    torch.manual_seed(1)
    model = make(**options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def teacher(num_classes=5, scale=20.0):
    """A small CNN whose answers are neither flat nor certain."""
    torch.manual_seed(2)
    model = SmallCNN(img_size=(8, 12), in_chans=3, num_classes=num_classes, width=4)
    with torch.no_grad():
        model.head.weight.mul_(scale)
    return model


IMAGES = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
LABELS = [4, 0, 2]


def figure(distilled=True, **options):
    return TeacherFigure(
        teacher(), student(distilled=distilled), IMAGES, options.pop("labels", LABELS), **options
    )


def logits_of(figure):
    """(B, 3, K): teacher, class head, distillation head"""
    flat = np.frombuffer(figure.logits, np.float32)
    return torch.tensor(flat.reshape(figure.count, 3, len(figure.classes)))


def test_logits_are_the_models_in_eval_mode_and_both_stay_as_they_were():
    models = teacher(), student(distilled=True, drop_rate=0.5)
    models[0].features[1].eval()  # a frozen norm stays frozen
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    found = logits_of(TeacherFigure(*models, IMAGES, LABELS))
    assert [model.training for model in models] == [True, True]
    assert not models[0].features[1].training
    for model, state in zip(models, before, strict=True):  # a norm's statistics, too
        assert all(torch.equal(value, state[k]) for k, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
    class_logits, dist_logits = models[1].eval()(IMAGES, return_dist=True)
    wanted = torch.stack([models[0].eval()(IMAGES), class_logits, dist_logits], dim=1)
    assert torch.equal(found, wanted)


def test_a_student_with_one_head_reads_it_for_both_terms():
    shown = figure(distilled=False)
    found = logits_of(shown)
    assert not shown.distilled
    assert torch.equal(found[:, 1], student().eval()(IMAGES))
    assert torch.equal(found[:, 1], found[:, 2])


def test_a_distilled_vit_teaches_with_the_mean_of_its_heads():
    models = student(distilled=True).eval(), student()
    assert torch.equal(logits_of(TeacherFigure(*models, IMAGES))[:, 0], models[0](IMAGES))


def test_labels_in_many_forms_and_none(unchecked):
    for labels in (LABELS, tuple(LABELS), torch.tensor(LABELS), np.array(LABELS)):
        assert figure(labels=labels).labels == LABELS
    assert figure(labels=None).labels == []
    assert TeacherFigure(teacher(), student(), IMAGES[0], torch.tensor(3)).labels == [3]


def test_names_are_the_students_then_the_teachers_then_numbers():
    models = teacher(), student()
    assert TeacherFigure(*models, IMAGES).classes == ["0", "1", "2", "3", "4"]
    models[0].classes = tuple("abcde")
    assert TeacherFigure(*models, IMAGES).classes == list("abcde")
    models[1].classes = tuple("vwxyz")
    shown = TeacherFigure(*models, IMAGES)
    assert shown.classes == list("vwxyz")
    probability, best = logits_of(shown)[0, 0].softmax(0).max(0)
    assert f"gives {'vwxyz'[best]} the probability {probability:.3f}" in shown.alt


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": nn.Identity()}, "must give logits of shape (3, 5), as the student: shape (3,"),
        ({"teacher": teacher(6)}, "must give logits of shape (3, 5), as the student: shape (3, 6)"),
        ({"teacher": SmallCNN()}, "the teacher does not take the student's images (3, 3, 8, 12)"),
        ({"teacher": nn.Conv2d(1, 1, 1)}, "the teacher does not take the student's images"),
        ({"teacher": "resnet"}, "expected a model as the teacher, got str"),
        ({"student": nn.Linear(2, 2)}, "expected a vitlib.VisionTransformer, got Linear"),
        ({"student": make(num_classes=0)}, "it takes 2 to 20 classes, the student has 0"),
        ({"student": make(num_classes=21)}, "it takes 2 to 20 classes, the student has 21"),
        ({"images": torch.randn(1, 1, 8, 12)}, "expected 3 channels, got 1 in shape (1, 1, 8, 12)"),
        ({"images": torch.randn(2000, 3, 8, 12)}, "pass fewer, such as images[:1736]"),
        ({"labels": [1, 2]}, "expected 3 labels, one for each picture, got 2"),
        ({"labels": [1, 2, 5]}, "a label must be from 0 to 4, for 5 classes: got 5"),
        ({"labels": [1, 2, 0.5]}, "labels must be the numbers of classes: got [1, 2, 0.5]"),
        ({"labels": "cat"}, "labels must be the numbers of classes: got 'cat'"),
        ({"labels": 4}, "labels must be the numbers of classes: got 4"),
    ],
)
def test_what_does_not_fit_is_said(unchecked, change, said):
    given = {"teacher": teacher(), "student": student(), "images": IMAGES, "labels": None} | change
    with pytest.raises(ValueError, match=re.escape(said)):
        TeacherFigure(*given.values())


def test_both_must_expect_the_same_pixels():
    models = teacher(), student()
    models[0].mean, models[0].std = (0.1,) * 3, (0.2,) * 3
    TeacherFigure(*models, IMAGES)  # the student's are not known
    models[1].mean, models[1].std = (0.5,) * 3, (0.2,) * 3
    with pytest.raises(ValueError, match=r"expects mean \(0.1.*the student \(0.5"):
        TeacherFigure(*models, IMAGES)


def test_logits_that_are_not_finite_are_refused():
    broken = teacher()
    broken.head.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        TeacherFigure(broken, student(), IMAGES)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("image", 3, "image must be from 0 to 2, for 3 pictures: got 3"),
        ("kind", "warm", "kind must be one of hard, soft: got 'warm'"),
        ("tau", 0.0, "tau must be one of 0.5, .*: got 0.0"),
        ("tau", float("nan"), "tau must be one of 0.5, .*: got nan"),
        ("alpha", 1.5, "alpha must be one of 0.0, .*: got 1.5"),
        ("alpha", "half", "alpha must be a float: got 'half'"),
    ],
)
def test_bad_values(unchecked, name, value, said):
    with pytest.raises(ValueError, match=said):
        figure(**{name: value})
    shown = figure()
    before = getattr(shown, name)
    with pytest.raises(TraitError, match=said):
        setattr(shown, name, value)
    assert getattr(shown, name) == before


def test_its_page_is_the_same_every_time_and_small():
    pages = [figure(tau=2.0)._repr_mimebundle_()[0]["text/html"] for _ in "ab"]
    assert pages[0] == pages[1] != figure()._repr_mimebundle_()[0]["text/html"]
    assert len(pages[0]) < 120_000
