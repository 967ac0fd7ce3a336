"""Files that are complete or not there, whatever happens meanwhile."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


def as_text(content: Any) -> str:
    """JSON as the files have it."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON so that the file is either the old one or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(as_text(content))


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path that takes the place of `path` if all goes well."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        synchronize(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: pathlib.Path) -> None:
    """Removes what a process that was killed in `replacing` left."""
    for leftover in path.parent.glob(f".*.{path.name}"):
        leftover.unlink()


def synchronize(path: pathlib.Path) -> None:
    """Waits until a file, or a folder's list of files, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a file, which is made; however the process ends, it is free.

    Raises:
      BlockingIOError: If another process holds it.
      OSError: If the file can't be written.
    """
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
