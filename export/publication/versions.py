"""Version folders: written out of sight, complete when they appear, never overwritten.

A server takes every folder with an integer name for a version, at any moment. A version
is therefore written into a folder whose name starts with a dot, and renamed when it is
complete and on disk; one that is deleted gets such a name first. Locks are lock files
held with `flock`: the kernel lets go of them when their process dies, however it does.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from export.errors import ExportError
from export.signatures.whole_numbers import check_whole

#: Folders that no server looks at: being written, or being deleted.
PREFIX = ".mopoe-"
#: The lock file of a folder as a whole.
LOCK = ".mopoe.lock"


@contextlib.contextmanager
def staged(base: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Makes a folder in `base` in which a version is written; `release` publishes it.

    What killed processes left in `base` is removed on entry. What was not released is
    removed on leaving, and `base` with it if it was made here and holds nothing. An
    exception is enough for that; SIGTERM raises none unless the program asks for it:
    `signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))`.

    Args:
      base: The model's folder. It and its parents are made.

    Yields:
      The folder, which exists and is empty.

    Raises:
      OSError: If `base` can't be written.
    """
    base = pathlib.Path(base)
    folder = base / f"{PREFIX}{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        if not base.exists():
            stack.callback(_remove_if_empty, base)
        stack.enter_context(locked(_owner(folder)))
        _sweep(base)
        stack.callback(_delete, folder)
        folder.mkdir()
        yield folder


def release(
    folder: pathlib.Path, base: str | os.PathLike[str], keep: int | None = None
) -> pathlib.Path:
    """Gives a staged folder the number above the highest in `base`.

    It is on disk before it appears. No number comes twice, unless the highest version
    was deleted by hand: pruning never takes that one.

    Args:
      folder: What `staged` gave, complete.
      base: The model's folder, as given to `staged`.
      keep: Number of highest versions to keep, at least 1; None for all.

    Returns:
      The version's folder.

    Raises:
      TypeError, ValueError: If `keep` is no whole number from 1; nothing is released.
      OSError: If `base` can't be written.
      ExportError: If an older version can't be deleted; the new one has appeared
        already, and stays.
    """
    if keep is not None:
        keep = check_whole("keep", keep, least=1)
    base = pathlib.Path(base)
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush(os.path.join(root, name))
        flush(root)
    with locked(base / LOCK):
        version = _take_number(folder, base)
        flush(base)
        flush(base.parent)
        if keep is not None:
            try:
                _prune(base, keep)
            except OSError as error:
                raise ExportError(
                    f"published {version}, but can't delete older versions: "
                    f"{error.strerror or error}."
                ) from error
    return version


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file `path`, which is made, and removed afterwards.

    Args:
      path: The lock file. Its folder is made.
      wait: Whether to wait for who holds it.

    Yields:
      Whether it is held: always, if waited for.

    Raises:
      OSError: If it can't be made, or the file system has no locks.
    """
    descriptor = _acquire(path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # While it is held: who waits for it finds out that the file is no more there.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_version(path: pathlib.Path) -> bool:
    """Whether a server reads the name as a version's number."""
    return path.name.isascii() and path.name.isdecimal()


def flush(path: str | os.PathLike[str]) -> None:
    """Brings a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems flush no folders
            raise
    finally:
        os.close(descriptor)


def _acquire(path: pathlib.Path, operation: int) -> int | None:
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, operation)
            # Another process may have removed the file between opening and locking it.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: pathlib.Path) -> int:
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Other processes may make the folder at the same time, or remove it again.
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _owner(folder: pathlib.Path) -> pathlib.Path:
    """The lock file that is held while a process works in `folder`."""
    return folder.with_name(f"{folder.name}.lock")


def _sweep(base: pathlib.Path) -> None:
    """Removes the folders in which no living process works, and their lock files."""
    found = {path.name.removesuffix(".lock") for path in base.glob(f"{PREFIX}*")}
    for name in sorted(found):
        with locked(_owner(base / name), wait=False) as nobody_has_it:
            if nobody_has_it:
                _delete(base / name)


def _take_number(folder: pathlib.Path, base: pathlib.Path) -> pathlib.Path:
    while True:
        # Files and empty folders count: a folder can be renamed onto an empty one.
        numbers = [int(path.name) for path in base.iterdir() if is_version(path)]
        version = base / str(max(numbers, default=0) + 1)
        try:
            os.rename(folder, version)
            return version
        except OSError as error:
            # Where locks don't reach, as between some hosts: another one was faster.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise


def _prune(base: pathlib.Path, keep: int) -> None:
    versions = [
        path
        for path in base.iterdir()
        if is_version(path) and path.is_dir() and not path.is_symlink()
    ]
    versions.sort(key=lambda path: int(path.name))
    for path in versions[:-keep]:
        os.rename(path, base / f"{PREFIX}{uuid.uuid4().hex}")
    flush(base)  # else a power cut could bring back the number of a half-deleted one
    _sweep(base)


def _delete(folder: pathlib.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _remove_if_empty(base: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # there are versions, or another exporter's work
        base.rmdir()
