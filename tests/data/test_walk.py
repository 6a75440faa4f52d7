"""Files beside pictures: what is passed over, and that it is said."""

import os
import shutil
import sys

import pytest
from data.pictures import make_folders, noise

from vitlib.data import load_data


def test_a_class_may_begin_with_a_sign(tmp_path):
    names = ("@home", "#1", "$5", "~", "_x")
    assert set(load_data(make_folders(tmp_path, dict.fromkeys(names, 2))).classes) == set(names)


def count(data) -> int:
    return len(data.train) + len(data.test)


def put(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed).save(path)


def test_hidden_and_system_folders_are_passed_over_quietly(tmp_path, recwarn):
    root = make_folders(tmp_path, {"cat": 4, "dog": 4})
    for k, name in enumerate((
        "cat/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg",
        "__MACOSX/cat/a.png", "dog/.thumbnails/a.png", "dog/.ipynb_checkpoints/a-checkpoint.png",
        "#recycle/a.png", "$RECYCLE.BIN/a.png", "cat/@Recycle/a.png", "dog/._a.png",
    )):  # fmt: skip
        put(root / name, k)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "cat" / name).write_bytes(b"no picture")
    data = load_data(root)
    assert not recwarn.list
    assert (data.classes, count(data)) == (("cat", "dog"), 8)
    assert data.notes[:3] == (
        "passed over: hidden or system folders, 8: #recycle, $RECYCLE.BIN, @eaDir and 5 more",
        "passed over: files that are no pictures, 2: cat/Thumbs.db, cat/desktop.ini",
        "passed over: hidden files, 2: cat/.DS_Store, dog/._a.png",
    )


@pytest.mark.parametrize(
    ("kept", "passed"),
    [
        (["a.png"], ["a_mask.png", "a_mask_1.jpg", "a-seg.png", "a (mask).png", "A_Label.png"]),
        (["a.jpg"], ["a_depth.png", "a-heatmap.png", "a_overlay_2.png", "a.bbox.png"]),
        (["in_depth.png", "normals.png", "a_depth.png"], ["masks/b.png"]),
        (["benign (1).png"], ["benign (1)_mask.png", "benign (1)_mask_2.png"]),
        (["a.png", "b_mask.png", "masked.png"], ["masks/a.png", "image_labels/a.png"]),
        (["2020/a.png"], ["2020/thumbs/a.png", "2020/a_thumb.png", "ground truth/a.png"]),
        (["masks/a.png", "masks/b.png"], []),
    ],
)
def test_masks_and_thumbnails_of_a_class_are_passed_over_with_a_warning(tmp_path, kept, passed):
    root = make_folders(tmp_path, {"cat": 0, "dog": 4})
    for k, name in enumerate([*kept, *passed]):
        put(root / "cat" / name, k)
        put(root / "cat" / f"more{k}.png", 100 + k)
    if kept[0].startswith("masks/"):  # all pictures of the class are in it
        for path in (root / "cat").glob("more*"):
            path.unlink()
        assert load_data(root).train.labels.bincount().tolist()[0] == 1
        return
    with pytest.warns(UserWarning, match=f"masks, annotations or thumbnails, {len(passed)}: cat/"):
        data = load_data(root)
    assert count(data) == 4 + len(kept) + len(kept) + len(passed)


def test_a_folder_of_masks_beside_the_classes_is_no_class_but_mask_may_be_one(tmp_path):
    make_folders(tmp_path / "a", {"cat": 3, "dog": 3, "annotations": 0})
    shutil.copytree(tmp_path / "a" / "cat", tmp_path / "a" / "masks")
    with pytest.warns(UserWarning, match="thumbnails, 2: annotations, masks"):
        assert load_data(tmp_path / "a").classes == ("cat", "dog")
    for name in ("mask", "no mask", "half"):  # the same file names in each
        for k in range(3):
            put(tmp_path / "b" / name / f"{k}.png", hash((name, k)) % 1000)
    assert load_data(tmp_path / "b").classes == ("half", "mask", "no mask")


def test_what_might_hold_pictures_is_passed_over_with_advice(tmp_path):
    root = make_folders(tmp_path, {"cat": 4, "dog": 4})
    for name, content in {
        "a.svg": b"<svg/>", "b.CR2": b"II*\0", "c.nef": b"", "d.mp4": b"", "e": b"%PDF-1.7",
        "f": b"\0\0\0\x18ftypisom\0\0\0\0", "g.dcm": b"", "h.zip": b"PK", "i.psb": b"",
        "notes.txt": b"notes", "zero": b"",
    }.items():  # fmt: skip
        (root / "dog" / name).write_bytes(content)
    with pytest.warns(UserWarning, match="passed over") as record:
        data = load_data(root)
    assert [str(warning.message) for warning in record] == [
        "passed over: PDFs, 1: dog/e (export their pages as PNG)",
        "passed over: archives, 1: dog/h.zip (unpack them)",
        "passed over: camera raw files, 2: dog/b.CR2, dog/c.nef (export them as JPEG)",
        "passed over: drawing program's files, 1: dog/i.psb (export them as PNG)",
        "passed over: medical or scientific files, 1: dog/g.dcm (convert them to PNG or TIFF)",
        "passed over: vector drawings, 1: dog/a.svg (export them as PNG)",
        "passed over: videos, 2: dog/d.mp4, dog/f (save single frames as JPEG)",
    ]
    assert count(data) == 8
    assert "passed over: files that are no pictures, 2: dog/notes.txt, dog/zero" in data.notes


def test_a_class_of_files_that_are_not_read_is_refused_with_advice(tmp_path):
    root = make_folders(tmp_path, {"cat": 4, "dog": 0})
    for k in range(3):
        (root / "dog" / f"{k}.svg").write_bytes(b"<svg/>")
    with pytest.raises(ValueError, match=r"dog holds no image .* drawings, 3: .* as PNG\)$"):
        load_data(root)
    for k in range(3):
        noise(k).save(root / "dog" / f"{k}.png")
    with pytest.warns(UserWarning, match="vector drawings, 3"):
        assert count(load_data(root)) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and links there")
def test_folders_pipes_and_broken_links_that_are_named_like_pictures(tmp_path):
    root = make_folders(tmp_path, {"cat": 4, "dog": 4, "cat/folder.jpg": 1})
    (root / "dog" / "empty.png").mkdir()
    os.mkfifo(root / "dog" / "pipe.png")
    (root / "dog" / "link.png").symlink_to(root / "nowhere.png")
    with pytest.warns(UserWarning, match=r"1 of 10 .* dog/link.png \(FileNotFoundError"):
        data = load_data(root)
    assert count(data) == 9
    assert "passed over: files that are no pictures, 1: dog/pipe.png" in data.notes
    assert data.notes[0] == "pictures in inner folders belong to the outer class: cat/folder.jpg"
