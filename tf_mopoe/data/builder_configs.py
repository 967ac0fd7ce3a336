"""What the TFDS builders share."""

import hashlib
import os
import pathlib
from collections.abc import Iterable

import tensorflow_datasets as tfds

from tf_mopoe.checks import whole_number
from tf_mopoe.data.errors import DataError


def existing(
    field: str, path: str | os.PathLike[str] | None, *, folder: bool | None = None
) -> pathlib.Path | None:
    """An absolute path that exists, or None.

    Args:
      field: Its name, for the message.
      path: The path; `~` is the home folder.
      folder: Whether it must be a folder, or a file; None: either.

    Raises:
      DataError: If there is nothing, or not of that kind.
    """
    if path is None:
        return None
    found = pathlib.Path(path).expanduser().absolute()
    kind = {True: "a folder", False: "a file", None: "a file or folder"}[folder]
    if not found.exists() or (folder is not None and found.is_dir() != folder):
        raise DataError(f"`{field}` must be {kind} that exists. Received: {found}.")
    return found


def content_hash(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Eight hexadecimal digits that stand for the files' content."""
    digest = hashlib.sha256()
    for path in paths:
        of_file = hashlib.sha256()
        with open(path, "rb") as file:
            while part := file.read(2**20):
                of_file.update(part)
        digest.update(of_file.digest())
    return digest.hexdigest()[:8]


def listing_hash(path: pathlib.Path) -> str:
    """Eight hexadecimal digits that stand for names, sizes and times of files.

    Args:
      path: A file, or a folder with more files than one wants to read.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        name = file.relative_to(path.parent)
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]


def checked_number(field: str, value: int, *, at_least: int) -> int:
    """The value, if it is a whole number and large enough.

    Raises:
      DataError: If not.
    """
    try:
        return whole_number(field, value, minimum=at_least)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None


class ConfiguredBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """A builder that takes a configuration equal to one of its own for that one."""

    def __init__(self, *, config=None, **kwargs):
        """Arguments as those of TFDS's builders."""
        if getattr(config, "name", None) in self.builder_configs:
            config = config.name  # TFDS refuses another object of the same name
        super().__init__(config=config, **kwargs)
