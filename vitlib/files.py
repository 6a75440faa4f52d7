"""Writing files: complete or not at all, and never over something that must stay."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`: renamed to `path` at the end, removed after an error.

    So there is never an incomplete file at `path`, and an older file there stays until the new one
    is complete. Missing folders are created; if `path` is a link, the file that it points to is
    replaced.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # see remove_leftovers
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # on the disk before it is renamed
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what a killed `atomic_write` to `path` left behind, which nobody else must write."""
    path = path.resolve()
    for leftover in path.parent.iterdir():
        name = leftover.name
        process = name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if name == f".{path.name}.{process}.tmp" and process.isdecimal():
            with contextlib.suppress(OSError):
                leftover.unlink()


def refuse_non_file(path: Path) -> None:
    """Raise a ValueError if `path` is a folder, device or pipe, which a rename would replace."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path} is {kind}; give the name of a file")


def check_output_path(out: Path, **others: Path | str | None) -> None:
    """Raise a ValueError if no file can be written at `out`, as far as we can tell beforehand.

    Also if `out` is the same file as one of `others`, which are named by what they are:
    weights=..., checkpoint=....
    """
    refuse_non_file(out)
    for what, other in others.items():
        if other is not None and out.resolve() == Path(other).resolve():
            raise ValueError(f"{out} is already the name of the {what}: choose another")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"{out} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{out} cannot be written: {folder} is write-protected")
