"""Shared parts of the TFDS builders: settings, hashes, the base class."""

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
    """The path as an absolute one; None stays None.

    Args:
      field: Name of the setting, for the message.
      path: Path; `~` is the home folder.
      folder: Whether it must be a folder or a file; None for either.

    Raises:
      DataError: If the path does not exist, or is not of that kind.
    """
    if path is None:
        return None
    absolute = pathlib.Path(path).expanduser().absolute()
    kind = {True: "a folder", False: "a file", None: "a file or folder"}[folder]
    if not absolute.exists() or (folder is not None and absolute.is_dir() != folder):
        raise DataError(f"`{field}` must be {kind} that exists. Received: {absolute}.")
    return absolute


def content_hash(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Hash of the content of files, eight hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        of_file = hashlib.sha256()
        with open(path, "rb") as file:
            while part := file.read(2**20):
                of_file.update(part)
        digest.update(of_file.digest())
    return digest.hexdigest()[:8]


def listing_hash(path: pathlib.Path) -> str:
    """Hash of the names, sizes and times of files, eight hexadecimal digits.

    Args:
      path: File, or folder of files that would take too long to read.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        name = file.relative_to(path.parent)
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]


def checked_number(field: str, value: int, *, at_least: int) -> int:
    """The value of a setting as an int.

    Raises:
      DataError: If it is not a whole number, or too small.
    """
    try:
        return whole_number(field, value, minimum=at_least)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None


class ConfiguredBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]
):
    """Builder that accepts a configuration with the name of one of its own."""

    def __init__(self, *, config=None, **kwargs):
        """Arguments are those of TFDS's builders."""
        if getattr(config, "name", None) in self.builder_configs:
            config = config.name  # TFDS refuses another object of the same name
        super().__init__(config=config, **kwargs)
