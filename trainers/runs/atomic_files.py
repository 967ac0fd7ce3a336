"""Files that are either complete or absent, and locks."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


def to_json(content: Any) -> str:
    """Formats JSON as files of runs and studies hold it."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON; the file is always either the old or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(content))


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path, which replaces `path` if no error is raised."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        synchronize(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: pathlib.Path) -> None:
    """Removes what processes that were killed in `replacing` left."""
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
def locked(path: pathlib.Path, *, wait: bool = False) -> Iterator[bool]:
    """Locks a file, which is created; the system unlocks it if the process dies.

    Args:
      path: Path of the file.
      wait: Whether to wait for other processes to unlock it.

    Yields:
      Whether the file is locked: False if another process has locked it.
    """
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            success = True
        except BlockingIOError:
            success = False
        yield success  # closing the file unlocks it
