"""Files that appear whole or not at all, and only where they may."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to: renamed to `path` at the end, removed after an error.

    So no half file ever bears the name, and a former file there stays until the new one is whole.
    Missing folders are made; where `path` is a link, the file that it points to is written.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # on the disk before it bears the name
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def refuse_non_file(path: Path) -> None:
    """Raise a ValueError where something other than a file bears the name: a rename replaces it."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path} is {kind}; give the name of a file")


def check_place(out: Path, **others: Path | str | None) -> None:
    """Raise a ValueError where no file can be written, as far as can be told beforehand, and where
    `out` is one of the other files at hand, each by what it is: weights=..., checkpoint=....
    """
    refuse_non_file(out)
    for what, other in others.items():
        if other is not None and out.resolve() == Path(other).resolve():
            raise ValueError(f"{out} is the name of the {what} already: choose another")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"{out} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{out} cannot be written: {folder} is write-protected")
