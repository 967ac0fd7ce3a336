"""Version folders: written out of sight, complete when they appear, never overwritten.

A server takes every folder with an integer name for a version, at any moment. A version
is therefore written into a folder whose name starts with a dot, and renamed when it is
complete and on disk; a version to be deleted is renamed to such a name first. Locks are
lock files held with `flock`: the kernel releases them when their process ends, however
it ends.
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

#: Prefix of folders that servers ignore: being written, or being deleted.
PREFIX = ".mopoe-"
#: The lock file of a folder as a whole.
LOCK = ".mopoe.lock"


@contextlib.contextmanager
def staged(base: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Makes a folder in `base` in which a version is written; `release` publishes it.

    Folders that killed processes left in `base` are removed first. A folder that is not
    released is removed at the end, and `base` with it if it was made here and is empty.
    This happens after any exception; SIGTERM raises one only if the program asks for
    it: `signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as base, staged(base) as folder:
      ...     _ = (folder / "saved_model.pb").write_text("")
      ...     release(folder, base).name
      '1'
    """
    base = pathlib.Path(base)
    folder = base / f"{PREFIX}{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        if not base.exists():
            stack.callback(_remove_if_empty, base)
        stack.enter_context(locked(_owner_lock(folder)))
        _remove_abandoned(base)
        stack.callback(_delete, folder)
        folder.mkdir()
        yield folder


def release(
    folder: pathlib.Path, base: str | os.PathLike[str], keep: int | None = None
) -> pathlib.Path:
    """Gives a staged folder the number above the highest in `base`.

    It is on disk before it appears. No number is used twice, unless the highest version
    was deleted by hand: pruning never deletes it.

    Args:
      folder: The folder of `staged`, complete.
      base: Folder of the model, as given to `staged`.
      keep: Number of highest versions to keep, at least 1; None for all.

    Returns:
      The version's folder.

    Raises:
      OSError: If `base` can't be written.
      ExportError: If an older version can't be deleted; the new one has appeared
        already, and stays.

    Example:
        See `staged`.
    """
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
      wait: Whether to wait for another process that holds it.

    Yields:
      Whether it is held: always, if waited for.

    Example:
        with locked(pathlib.Path("serving/.mopoe.lock")):
            write_files()
    """
    descriptor = _acquire(path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # While it is held: waiters then see that the file is gone, and make a new one.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_version(path: pathlib.Path) -> bool:
    """Whether a server reads the name as the number of a version.

    Example:
      >>> [is_version(pathlib.Path(name)) for name in ("12", ".mopoe-12", "latest")]
      [True, False, False]
    """
    return path.name.isascii() and path.name.isdecimal()


def flush(path: str | os.PathLike[str]) -> None:
    """Writes a file's content, or a folder's names, to the disk."""
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
    for _ in range(100):  # others may make the folder at the same time, or remove it
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _owner_lock(folder: pathlib.Path) -> pathlib.Path:
    """The lock file that is held while a process works in `folder`."""
    return folder.with_name(f"{folder.name}.lock")


def _remove_abandoned(base: pathlib.Path) -> None:
    """Removes the folders in which no living process works, and their lock files."""
    names = {path.name.removesuffix(".lock") for path in base.glob(f"{PREFIX}*")}
    for name in sorted(names):
        with locked(_owner_lock(base / name), wait=False) as is_abandoned:
            if is_abandoned:
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
            # Where locks have no effect, as between some hosts: another was faster.
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
    _remove_abandoned(base)


def _delete(folder: pathlib.Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _remove_if_empty(base: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # it holds versions, or another exporter's work
        base.rmdir()
