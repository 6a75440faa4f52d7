"""fit_probe: nearest neighbours and logistic regression on features that stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from train.tiny import tiny_data, tiny_model, weights_of

from vitlib import create_model, evaluate, extract_features, fit_probe, load_data
from vitlib.data import ImageSet


@pytest.fixture(scope="module")
def digits():
    """A few real digits, and a model that learnt others: labels 0 to 4 are 5 to 9 here."""
    data = load_data("mnist5k")

    def part(images, count):
        index = torch.cat([(images.labels == k).nonzero()[:count, 0] for k in range(10)])
        return images.subset(index)

    return replace(data, train=part(data.train, 20), test=part(data.test, 15))


def test_a_trained_models_features_tell_the_classes_apart(digits):
    model = create_model("vit_nano_patch7_28", pretrained=True)
    before = weights_of(model)
    found = fit_probe(model, digits)
    assert found.logistic.accuracy > 0.9
    assert found.neighbours.accuracy > 0.9
    assert torch.equal(weights_of(model), before)
    assert torch.equal(found.logistic.labels, digits.test.labels)
    untrained = fit_probe(create_model("vit_nano_patch7_28"), digits)
    assert found.logistic.accuracy > untrained.logistic.accuracy + 0.1


def test_the_head_is_scikit_learns_logistic_regression(digits):
    model = create_model("vit_nano_patch7_28", pretrained=True)
    found = fit_probe(model, digits)
    train, test = (extract_features(model, part).numpy() for part in (digits.train, digits.test))
    scaler = StandardScaler().fit(train)
    expected = LogisticRegression(C=found.strength, max_iter=2000).fit(
        scaler.transform(train), digits.train.labels.numpy()
    )
    np.testing.assert_allclose(
        found.logistic.logits.softmax(dim=1).numpy(),
        expected.predict_proba(scaler.transform(test)), atol=2e-4,
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"distilled": True}, {"global_pool": "avg"}], ids=str)
def test_the_model_answers_with_its_new_head(options):
    model, data = tiny_model(**options), tiny_data()
    found = fit_probe(model, data)
    found.give_head(model)
    again = evaluate(model, data.test)
    torch.testing.assert_close(again.logits, found.logistic.logits, rtol=1e-4, atol=1e-4)
    assert model.classes == data.classes
    assert not model.training


def two_classes():
    data = tiny_data(60)
    train, test = (
        ImageSet(part.images, (part.labels == 2).long(), part.mean, part.std)
        for part in (data.train, data.test)
    )
    return replace(data, train=train, test=test, classes=("other", "light"))


def test_two_classes_have_two_rows():
    data, model = two_classes(), tiny_model(num_classes=2)
    found = fit_probe(model, data)
    assert found.head.weight.shape == (2, 16)
    assert found.logistic.accuracy > 0.9
    features = extract_features(model, data.train).numpy()
    scaler = StandardScaler().fit(features)
    expected = LogisticRegression(C=found.strength, max_iter=2000).fit(
        scaler.transform(features), data.train.labels.numpy()
    )
    np.testing.assert_allclose(
        found.logistic.logits.softmax(dim=1).numpy(),
        expected.predict_proba(scaler.transform(extract_features(model, data.test).numpy())),
        atol=2e-4,
    )


def test_neighbours_vote_by_similarity():
    data, model = tiny_data(), tiny_model()
    found = fit_probe(model, data, neighbours=5)
    train, test = (
        torch.nn.functional.normalize(extract_features(model, part), dim=1)
        for part in (data.train, data.test)
    )
    similarity, index = (test @ train.T).topk(5, dim=1)
    votes = torch.zeros(len(test), 3)
    votes.scatter_add_(1, data.train.labels[index], (similarity / 0.07).exp())
    expected = votes / votes.sum(dim=1, keepdim=True)
    torch.testing.assert_close(
        found.neighbours.logits.exp(), expected.clamp(min=1e-6), rtol=1e-3, atol=1e-4
    )


def test_there_may_be_fewer_pictures_than_neighbours():
    data = tiny_data(24)  # 16 to learn from
    assert 0 <= fit_probe(tiny_model(), data, neighbours=100).neighbours.accuracy <= 1


def test_a_class_may_be_missing_among_the_test_pictures():
    data = tiny_data()
    data = replace(data, test=data.test.subset((data.test.labels > 0).nonzero()[:, 0]))
    assert fit_probe(tiny_model(), data).logistic.logits.shape == (len(data.test), 3)


def test_what_it_refuses():
    data = tiny_data()
    lonely = replace(
        data, train=data.train.subset([0, *(data.train.labels > 0).nonzero()[:, 0].tolist()])
    )
    with pytest.raises(ValueError, match="class 'dark' has 1 training picture, and a probe"):
        fit_probe(tiny_model(), lonely)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        fit_probe(tiny_model(), data, neighbours=0)
    broken = tiny_model()
    broken.norm.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match="features of the training pictures hold NaN"):
        fit_probe(broken, data)
