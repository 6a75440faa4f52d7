"""DistillationLoss against its formulas, and fit with a teacher."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from train.tiny import SHORT, Teacher, tiny_data, tiny_model, weights_of

from vitlib.data import ImageSet
from vitlib.train import DistillationLoss, PartlyLabelled, fit
from vitlib.train.distillation import UNLABELLED


@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_distillation_loss_by_hand(targets):
    torch.manual_seed(0)
    teacher = Teacher().train()
    images, z, zd = torch.randn(4, 1, 8, 8), torch.randn(4, 3), torch.randn(4, 3)
    zd.requires_grad_()
    y = torch.tensor([0, 2, 1, 1])
    if targets == "probabilities":
        y = torch.randn(4, 3).softmax(1)
    hard = DistillationLoss(teacher, "hard", alpha=0.3)(images, (z, zd), y)
    zt = teacher.linear(images.flatten(1)).detach()
    expected = 0.7 * F.cross_entropy(z, y) + 0.3 * F.cross_entropy(zd, zt.argmax(1))
    torch.testing.assert_close(hard, expected)

    soft = DistillationLoss(teacher, "soft", alpha=0.3, tau=2.0)(images, (z, zd), y, 0.1)
    p, log_q = (zt / 2).softmax(1), (zd / 2).log_softmax(1)
    divergence = (p * (p.log() - log_q)).sum(1).mean()
    base = F.cross_entropy(z, y, label_smoothing=0.1)
    torch.testing.assert_close(soft, 0.7 * base + 0.3 * 4 * divergence)

    soft.backward()
    assert zd.grad is not None
    assert teacher.linear.weight.grad is None
    assert not teacher.training


def test_fit_with_a_teacher_trains_both_heads_and_not_the_teacher():
    student, teacher = tiny_model(distilled=True), Teacher()
    before, heads = weights_of(teacher), student.head_dist.weight.clone()
    history = fit(student, tiny_data(), SHORT, distillation=DistillationLoss(teacher))
    assert torch.equal(weights_of(teacher), before)
    assert not torch.equal(student.head_dist.weight, heads)
    alone = fit(tiny_model(distilled=True), tiny_data(), SHORT)
    assert alone.loss != history.loss


def test_distillation_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="'hard' or 'soft', got 'medium'"):
        DistillationLoss(Teacher(), "medium")
    with pytest.raises(ValueError, match=r"alpha must lie between 0 and 1, got 1\.5"):
        DistillationLoss(Teacher(), alpha=1.5)
    with pytest.raises(ValueError, match=r"tau must be above 0, got 0\.0"):
        DistillationLoss(Teacher(), tau=0.0)
    with pytest.raises(ValueError, match="distilled=True"):
        fit(tiny_model(), tiny_data(), SHORT, distillation=DistillationLoss(Teacher()))
    student = tiny_model(distilled=True)
    with pytest.raises(ValueError, match="model itself"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(student))
    with pytest.raises(ValueError, match=r"\(8, 5\), the student \(8, 3\)"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(Teacher(5)))
    with pytest.raises(ValueError, match=r"teacher does not fit the data.*3"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(tiny_model(in_chans=3)))
    other = tiny_model()
    other.mean, other.std = (0.5,), (0.5,)
    with pytest.raises(ValueError, match=r"teacher expects mean \(0\.5,\).*\(0\.4,\)"):
        fit(student, tiny_data(), SHORT, distillation=DistillationLoss(other))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_an_image_without_label_counts_in_the_teachers_term_alone(kind):
    torch.manual_seed(0)
    loss = DistillationLoss(Teacher(), kind, alpha=0.3, tau=2.0)
    images, z, zd = torch.randn(4, 1, 8, 8), torch.randn(4, 3), torch.randn(4, 3)
    some, y = torch.tensor([UNLABELLED, 2, UNLABELLED, 1]), torch.tensor([2, 1])
    taught = 0.3 * DistillationLoss(loss.teacher, kind, alpha=1.0, tau=2.0)(images, (z, zd), some)
    labels = F.cross_entropy(z[[1, 3]], y, label_smoothing=0.1)
    torch.testing.assert_close(loss(images, (z, zd), some, 0.1), 0.7 * labels + taught)
    none = torch.full((4,), UNLABELLED)
    torch.testing.assert_close(loss(images, (z, zd), none, 0.1), taught)


def partly_labelled():
    data = tiny_data()
    unlabelled, labelled = data.split(0.25)
    return data, replace(data, train=PartlyLabelled(labelled, unlabelled, times=2))


def test_partly_labelled_hides_the_labels_of_the_others():
    data, partly = partly_labelled()
    images, labels = partly.train.batch(torch.arange(len(partly.train)))
    count = int((labels != UNLABELLED).sum())
    assert count == 2 * (len(partly.train) - len(data.train)) > 0
    assert (labels[:count] != UNLABELLED).all()
    assert (labels[count:] == UNLABELLED).all()
    half = count // 2
    assert torch.equal(images[:half], images[half:count])  # each labelled image twice
    everything = torch.cat([images[:half], images[count:]]).flatten(1).sum(1).sort().values
    expected = (data.train.images.float() / 255).flatten(1).sum(1).sort().values
    torch.testing.assert_close(everything, expected)


def test_a_hidden_label_has_no_influence():
    data, partly = partly_labelled()
    shown, trained, config = partly.train, [], replace(SHORT, val_fraction=0.0)
    for shift in (0, 1):  # of the hidden labels
        train = PartlyLabelled(shown.subset(range(2)), shown.subset(range(2)))
        vars(train).update(vars(shown))
        train.labels = torch.where(shown.has_label, shown.labels, (shown.labels + shift) % 3)
        student = tiny_model(distilled=True)
        taught = DistillationLoss(Teacher())
        fit(student, replace(data, train=train), config, distillation=taught)
        trained.append(weights_of(student))
    assert torch.equal(*trained)


def test_partly_labelled_refuses_what_cannot_work():
    data, partly = partly_labelled()
    taught = DistillationLoss(Teacher())
    with pytest.raises(ValueError, match="give fit a teacher"):
        fit(tiny_model(), partly, SHORT)
    for wrong, message in [
        ({"mixup": 0.2}, "mix labels"),
        ({"cutmix": 1.0}, "mix labels"),
        ({"val_fraction": 0.2}, r"set val_fraction=0\.0"),
    ]:
        config = replace(SHORT, **wrong)
        with pytest.raises(ValueError, match=message):
            fit(tiny_model(distilled=True), partly, config, distillation=taught)
    other = ImageSet(data.train.images, data.train.labels, (0.1,), (0.2,))
    with pytest.raises(ValueError, match=r"labelled images have mean .* others \(0\.1,\)"):
        PartlyLabelled(data.train, other)
