"""Files that appear whole or not at all, and places where none can be written."""

import os
import re
from pathlib import Path

import pytest

from vitlib.files import atomic_write, check_output_path, refuse_non_file, remove_leftovers


def test_a_file_appears_at_the_end_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "deep" / "er" / "file.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent  # of one disk, so that a rename is enough
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_former_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("former")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "former"
    assert path.read_text() == "new"


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file.txt")
    (tmp_path / ".file.txt.123.tmp").write_text("half")
    stay = ["file.txt", ".file.txt.tmp", ".file.txt.x.tmp", "file.txt.123.tmp", ".other.123.tmp"]
    for name in stay:
        (tmp_path / name).write_text("")
    remove_leftovers(link)
    assert {p.name for p in tmp_path.iterdir()} == {"link", *stay}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("begun", [True, False])
def test_an_error_keeps_the_former_file_and_leaves_no_half_one(tmp_path, error, begun):
    path = tmp_path / "file.txt"
    path.write_text("former")

    def write():
        with atomic_write(path) as temporary:
            if begun:
                temporary.write_text("ha")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_who_writes_nothing_is_told_and_the_former_file_stays(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("former")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == "former"


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path):
    (tmp_path / "store").mkdir()
    link, target = tmp_path / "link", tmp_path / "store" / "file.txt"
    link.symlink_to(target)
    for content in ("first", "second"):  # first a link to nothing, then to a file
        with atomic_write(link) as temporary:
            temporary.write_text(content)
        assert link.is_symlink()
        assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


def test_only_files_may_be_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    refuse_non_file(tmp_path / "file")
    refuse_non_file(tmp_path / "none")
    for path, kind in [
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path(os.devnull), "a device or a pipe"),
    ]:
        message = f"{path} is {kind}; give the name of a file"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            refuse_non_file(path)


def test_places_are_checked_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("locked").mkdir()
    access = os.access  # the superuser may write everywhere
    monkeypatch.setattr(os, "access", lambda p, mode: p.name != "locked" and access(p, mode))
    check_output_path(Path("new/deep/out"), weights=None, checkpoint="file")
    check_output_path(Path("file"))
    for out, message in [
        ("file/out", f"file/out cannot be written: {tmp_path / 'file'} is not a folder"),
        ("locked/out", f"locked/out cannot be written: {tmp_path / 'locked'} is write-protected"),
        (".", ". is a folder; give the name of a file"),
    ]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check_output_path(Path(out))
    assert sorted(path.name for path in Path().iterdir()) == ["file", "locked"]  # nothing was made


def test_no_file_of_the_command_is_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("link").symlink_to("start")
    for out in ("start", "runs/../start", "link"):
        with pytest.raises(ValueError, match=f"^{out} is already the name of the weights: choose"):
            check_output_path(Path(out), checkpoint="other", weights="start")
