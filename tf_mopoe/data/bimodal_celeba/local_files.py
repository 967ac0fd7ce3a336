"""Reader of the published files of CelebA: images, attributes, partition."""

import csv
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES
from tf_mopoe.data.errors import DataError

LAYOUT = (
    "a folder with img_align_celeba (a folder or .zip), list_attr_celeba.txt and "
    "list_eval_partition.txt (or .csv)"
)
# Errors of a zip file that is truncated, damaged or protected by a password.
_DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
)


class Face(NamedTuple):
    """One row: key, image (218, 178, 3) or bytes of its file, attributes bool [40]."""

    key: str
    image: np.ndarray | bytes
    attributes: np.ndarray


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of attributes and partition.

    Raises:
      DataError: If one of them does not exist.
    """
    files = []
    for stem in ("list_attr_celeba", "list_eval_partition"):
        paths = [folder / f"{stem}{end}" for end in (".txt", ".csv")]
        existing = [path for path in paths if path.is_file()]
        if not existing:
            raise DataError(f"{folder} has no {stem}.txt. `files` must be {LAYOUT}.")
        files.append(existing[0])
    return files


def read(folder: pathlib.Path, splits: Sequence[str]) -> dict[str, Iterator[Face]]:
    """Rows of each split, with the name of the image file as key.

    Args:
      folder: Folder described by `LAYOUT`.
      splits: Names of partitions 0, 1 and 2.

    Raises:
      DataError: If a file is missing or malformed, the lists differ, or an image is
        missing.
    """
    attribute_file, partition_file = list_files(folder)
    attributes = _read_attributes(attribute_file)
    partition = _read_partition(partition_file)
    if attributes.keys() != partition.keys():
        unpaired = min(attributes.keys() ^ partition.keys())
        raise DataError(
            f"{attribute_file.name} and {partition_file.name} must list the same "
            f"images. Received: {len(attributes)} and {len(partition)}; {unpaired} is "
            "only in one of the two."
        )
    names, read_image = _images(folder)
    missing = attributes.keys() - names
    if missing:
        raise DataError(
            f"{folder / 'img_align_celeba'} must hold every image that "
            f"{attribute_file.name} lists. {len(missing)} are missing, among them "
            f"{min(missing)}."
        )

    def rows(number: int) -> Iterator[Face]:
        for name in sorted(partition):
            if partition[name] == number:
                yield Face(name, read_image(name), attributes[name])

    return {split: rows(number) for number, split in enumerate(splits)}


def image_source(folder: pathlib.Path) -> pathlib.Path:
    """The folder or zip file of images.

    Raises:
      DataError: If there is neither.
    """
    images = folder / "img_align_celeba"
    if images.is_dir():
        return images
    if not images.with_suffix(".zip").is_file():
        raise DataError(f"{folder} has no img_align_celeba. `files` must be {LAYOUT}.")
    return images.with_suffix(".zip")


def _images(folder: pathlib.Path) -> tuple[set[str], Callable[[str], bytes]]:
    """Names of the images, and a function that reads one."""
    images = archive = image_source(folder)
    if images.is_dir():
        names = {path.name for path in images.iterdir()}
        return names, lambda name: (images / name).read_bytes()
    try:
        opened = zipfile.ZipFile(archive)
    except _DAMAGED_ZIP as error:
        raise DataError(
            f"{archive} is damaged or truncated ({error}). Download it again."
        ) from error
    members = {pathlib.PurePosixPath(name).name: name for name in opened.namelist()}

    def read_image(name: str) -> bytes:
        try:
            return opened.read(members[name])
        except _DAMAGED_ZIP as error:
            raise DataError(
                f"{name} in {archive} is damaged ({error}). Download the archive again."
            ) from error

    return set(members), read_image


def _table(path: pathlib.Path) -> list[list[str]]:
    """Lines as lists of words, separated by commas (.csv) or blanks."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                return [row for row in csv.reader(file) if row]
            return [line.split() for line in file if line.strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is damaged ({error}). Download it again.") from error


def _read_attributes(path: pathlib.Path) -> dict[str, np.ndarray]:
    table = _table(path)
    # The published file has the number of images, the names of attributes, the rows.
    header = next((row for row in table[:2] if "Young" in row), [])
    if tuple(header[-len(ATTRIBUTES) :]) != ATTRIBUTES:
        raise DataError(
            f"{path} must name CelebA's {len(ATTRIBUTES)} attributes in its header. "
            f"Received: {header[:4]}..."
        )
    rows = table[table.index(header) + 1 :]
    _check_columns(path, rows, 1 + len(ATTRIBUTES))
    return {row[0]: np.array([value == "1" for value in row[1:]]) for row in rows}


def _read_partition(path: pathlib.Path) -> dict[str, int]:
    rows = _table(path)
    if rows and not rows[0][-1].isdigit():
        rows = rows[1:]  # the header of a .csv
    _check_columns(path, rows, 2)
    wrong = [row for row in rows if row[1] not in ("0", "1", "2")]
    if wrong:
        raise DataError(
            f"{path}: partitions must be 0, 1 or 2. Received: {' '.join(wrong[0])}."
        )
    return {row[0]: int(row[1]) for row in rows}


def _check_columns(path: pathlib.Path, rows: list[list[str]], columns: int) -> None:
    if not rows:
        raise DataError(f"{path} lists no images. Download it again.")
    wrong = [row for row in rows if len(row) != columns]
    if wrong:
        raise DataError(
            f"{path} must have {columns} columns in every row; it is damaged or "
            f"truncated. Received: {len(wrong[0])} in the row of {wrong[0][0]}. "
            "Download it again."
        )
