"""ImageSet and ImageData: what they hold and refuse, and how they are split."""

from inspect import unwrap

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vitlib.data import ImageData, ImageSet, load_data


@pytest.fixture
def image_set() -> ImageSet:
    images = torch.randint(0, 256, (20, 3, 6, 5), dtype=torch.uint8)
    return ImageSet(images, torch.arange(20) % 4, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def image_data(train: ImageSet, test: ImageSet | None = None, classes: str = "abcd") -> ImageData:
    return ImageData(
        "made", train, train if test is None else test, tuple(classes), train.mean, train.std
    )


def test_items_are_normalised_and_indexed_like_a_list(image_set):
    image, label = image_set[3]
    assert image.dtype == torch.float32
    assert image.shape == (3, 6, 5)
    assert type(label) is int
    expected = (image_set.images[3, 1].double() / 255 - 0.4) / 0.3
    torch.testing.assert_close(image[1].double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(image_set[-1][0], image_set[19][0])
    assert image_set[np.int64(7)][1] == 3
    assert len(list(image_set)) == len(image_set) == 20
    for index in (20, -21):
        with pytest.raises(IndexError, match=f"index {index} out of range: there are 20 images"):
            image_set[index]


def test_data_loader_collates_items(image_set):
    batches = list(DataLoader(image_set, batch_size=8))
    assert [tuple(images.shape) for images, _ in batches] == [(8, 3, 6, 5)] * 2 + [(4, 3, 6, 5)]
    assert torch.equal(torch.cat([labels for _, labels in batches]), image_set.labels)


def test_batch_is_raw_and_normalize_makes_items_of_it(image_set):
    index = torch.tensor([4, 0, 19])
    images, labels = image_set.batch(index)
    assert torch.equal(images, image_set.images[index] / 255)
    assert labels.tolist() == [0, 0, 3]
    normalised = image_set.normalize(images)
    assert torch.equal(normalised[2], image_set[19][0])
    torch.testing.assert_close(image_set.denormalize(normalised), images)
    far = image_set.denormalize(torch.full((1, 3, 2, 2), 9.0))
    assert torch.equal(far, torch.ones(1, 3, 2, 2))


def test_subset_keeps_order_and_normalisation(image_set):
    for index in (torch.tensor([5, 1]), [5, 1]):
        part = image_set.subset(index)
        assert torch.equal(part.images, image_set.images[[5, 1]])
        assert (part.mean, part.std) == (image_set.mean, image_set.std)
    part.images.zero_()
    assert image_set.images[5].any()  # a copy


def test_image_set_refuses_what_does_not_fit(image_set):
    images, labels = image_set.images, image_set.labels
    with pytest.raises(ValueError, match="20 images but 19 labels"):
        ImageSet(images, labels[1:], (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="3 channels, mean has 1 and std 1"):
        ImageSet(images, labels, (0.5,), (0.5,))
    with pytest.raises(ValueError, match="std must be positive"):
        ImageSet(images, labels, (0.5,) * 3, (0.5, 0.0, 0.5))
    for wrong, got in (
        (images.float(), r"torch\.float32 of shape \(20, 3, 6, 5\)"),
        (images[:, 0], r"torch\.uint8 of shape \(20, 6, 5\)"),
        (images.numpy(), "got uint8"),
    ):
        with pytest.raises(
            ValueError, match=rf"images must be torch\.uint8.*\(n, C, H, W\).*{got}"
        ):
            unwrap(ImageSet.__init__)(object(), wrong, labels, (0.5,) * 3, (0.5,) * 3)
    for wrong in (labels.int(), labels[:, None]):
        with pytest.raises(ValueError, match=r"labels must be torch\.int64 of shape \(n,\), got"):
            ImageSet(images, wrong, (0.5,) * 3, (0.5,) * 3)


def test_image_data_refuses_what_does_not_fit(image_set):
    with pytest.raises(ValueError, match="labels of train run from 0 to 3, but with 3 classes"):
        image_data(image_set, classes="abc")
    mean, std = image_set.mean, image_set.std
    negative = ImageSet(image_set.images, image_set.labels - 1, mean, std)
    with pytest.raises(ValueError, match=r"labels of test run from -1 to 2, .* from 0 to 3"):
        image_data(image_set, negative)
    with pytest.raises(ValueError, match="at least two classes"):
        image_data(image_set, classes="a")
    with pytest.raises(ValueError, match="test has no images"):
        image_data(image_set, image_set.subset([]))
    grey = ImageSet(image_set.images[:, :1], image_set.labels, (0.5,), (0.5,))
    with pytest.raises(ValueError, match="train images have 3 channels, test images 1"):
        image_data(image_set, grey)
    wide = ImageSet(image_set.images.transpose(2, 3), image_set.labels, mean, std)
    with pytest.raises(ValueError, match=r"train images are 6×5, test images 5×6.*img_size"):
        image_data(image_set, wide)
    other = ImageSet(image_set.images, image_set.labels, (0.0,) * 3, std)
    with pytest.raises(
        ValueError, match=r"test has mean \(0\.0, 0\.0.*data set \(0\.5, 0\.4.*same way"
    ):
        image_data(image_set, other)


def test_split_is_stratified_disjoint_exhaustive_and_repeatable():
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None]  # each tells its index
    labels = torch.tensor([0] * 100 + [1] * 60 + [2] * 40)
    data = image_data(ImageSet(images, labels, (0.5,), (0.5,)), classes="abc")
    train, val = data.split(0.25, seed=3)
    assert val.labels.bincount().tolist() == [25, 15, 10]
    assert train.labels.bincount().tolist() == [75, 45, 30]
    both = torch.cat([train.images, val.images]).flatten().sort().values
    assert torch.equal(both, images.flatten())
    assert torch.equal(labels[val.images.flatten().long()], val.labels)

    state = torch.get_rng_state()
    np.random.seed(1)  # noqa: NPY002
    again = data.split(0.25, seed=3)[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.images, val.images)
    assert not torch.equal(data.split(0.25, seed=4)[1].images, val.images)
    # Shuffled: the first images are not all of one class.
    assert len(set(val.labels[:10].tolist())) == 3


def test_split_gives_each_class_to_both_sides_and_refuses_the_impossible(image_set):
    data = image_data(image_set)
    for fraction, expected in ((0.01, 1), (0.99, 4)):
        assert data.split(fraction)[1].labels.bincount().tolist() == [expected] * 4
    for fraction in (0.0, 1.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match="fraction must lie between 0 and 1, got"):
            data.split(fraction)
    lonely = image_data(image_set.subset([0, 1, 2, 3, 4, 6]))
    with pytest.raises(ValueError, match="class 'b' has 1 image"):
        lonely.split(0.5)


def test_split_rounds_by_largest_remainder():
    labels = torch.tensor([0] * 7 + [1] * 7 + [2] * 6)
    images = torch.zeros(20, 1, 2, 2, dtype=torch.uint8)
    data = image_data(ImageSet(images, labels, (0.5,), (0.5,)), classes="abc")
    assert data.split(0.25)[1].labels.bincount().tolist() == [2, 2, 1]  # of 1.75, 1.75, 1.5


def test_a_constant_channel_can_be_divided_by(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.new("L", (4, 4), 51).save(tmp_path / name / f"{k}.png")
    data = load_data(tmp_path)
    assert data.mean == pytest.approx((0.2,))
    assert data.std == (1 / 255,)
    assert data.train[0][0].abs().max() < 1e-3
