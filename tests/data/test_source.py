"""Labels beside pictures of which some cannot be read."""

import pytest
import torch
from data.pictures import break_files, make_folder
from PIL import Image

from vitlib.data import load_data


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


def test_a_class_of_only_broken_images_is_refused(tmp_path):
    make_folder(tmp_path, {"cat": 9, "dog": 0})
    break_files(tmp_path / "dog")
    with pytest.raises(ValueError, match="no image of class 'dog' can be read"):
        load_data(tmp_path)
