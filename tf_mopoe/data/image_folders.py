"""Reader of folders of image files: one modality a folder, rows by file name."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tf_mopoe.checks import whole_number
from tf_mopoe.data.checks import check_modalities
from tf_mopoe.data.errors import UNREADABLE, DataError

#: Extensions of the files that are read, in lower case.
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

_MODES = {1: "L", 3: "RGB"}


class ImageFolders(NamedTuple):
    """Images of N rows.

    Attributes:
      data: Modality name to uint8 `[N, H, W, C]`, zeros where a file is missing; and,
        if any is missing, `"present"`: modality name to bool `[N]`, for the modalities
        with missing files.
      names: File names of the rows without extension, sorted.

    Example:
      >>> images = ImageFolders({"photo": np.zeros([1, 2, 2, 3], np.uint8)}, ["0007"])
      >>> images.names
      ['0007']
    """

    data: dict[str, Any]
    names: list[str]


def from_image_folders(
    folders: Mapping[str, str | os.PathLike[str]],
    image_size: Sequence[int],
    *,
    channels: int = 3,
) -> ImageFolders:
    """Reads a folder of images for each modality; files of the same name are one row.

    `photo/0007.jpg` and `depth/0007.png` belong to row "0007". There is a row for every
    name in any folder; if a folder does not have it, that modality is missing.

    Each image is read as stored, without applying its EXIF orientation, since
    TensorFlow Serving decodes files that way. It is cropped around its centre to the
    aspect ratio of `image_size` and resized (bicubic, with antialiasing). 16 bits are
    reduced to the upper 8, animations to the first frame; transparency is dropped.
    Subfolders, hidden files and files with other extensions are ignored.

    Args:
      folders: Modality name to a folder of .png, .jpg, .jpeg, .bmp, .gif or .webp.
      image_size: (height, width) of the arrays.
      channels: Number of channels C: 3 for RGB, 1 for grey.

    Returns:
      An `ImageFolders`. Pass its `data` to `shuffled_batches`, which converts uint8 to
      float32 in [0, 1].

    Raises:
      FileNotFoundError, NotADirectoryError: If a folder does not exist, or is a file.
      DataError: If a folder has no images, two files of one folder differ only in their
        extension, several folders have no name in common, or a file is damaged or no
        image.
      ValueError: If `image_size` or `channels` is out of range, or `folders` names no
        modality or one called "present".
      TypeError: If `folders` is not a mapping, or a size is not a whole number.

    Example:
      >>> import pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> for name in ("a", "b"):
      ...     Image.new("RGB", (6, 4), "red").save(folder / f"{name}.png")
      >>> images = from_image_folders({"photo": folder}, (2, 3))
      >>> photo = images.data["photo"]
      >>> images.names, photo.shape, photo[0, 0, 0].tolist()
      (['a', 'b'], (2, 2, 3, 3), [255, 0, 0])
    """
    size = _checked_size(image_size)
    message = f"`channels` must be 3 (RGB) or 1 (grey). Received: {channels!r}."
    try:
        channels = whole_number("channels", channels)
    except (TypeError, ValueError) as error:
        raise type(error)(message) from None
    if channels not in _MODES:
        raise ValueError(message)
    files = _checked_files(folders)
    names = sorted(set().union(*files.values()))
    data: dict[str, Any] = {
        name: np.zeros([len(names), *size, channels], np.uint8) for name in files
    }

    def read(job):
        modality, row, path = job
        data[modality][row] = _read(path, size, channels)

    jobs = [
        (modality, row, paths[name])
        for modality, paths in files.items()
        for row, name in enumerate(names)
        if name in paths
    ]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, jobs):  # raises the first error and cancels the rest
            pass
    present = {
        modality: np.array([name in paths for name in names])
        for modality, paths in files.items()
        if len(paths) < len(names)
    }
    return ImageFolders({**data, "present": present} if present else data, names)


def _checked_size(image_size: Any) -> tuple[int, int]:
    message = (
        "`image_size` must be (height, width), two positive whole numbers. "
        f"Received: {image_size!r}."
    )
    try:
        sizes = [whole_number("image_size", size, minimum=1) for size in image_size]
    except TypeError:
        raise TypeError(message) from None
    except ValueError:
        raise ValueError(message) from None
    if len(sizes) != 2:
        raise ValueError(message)
    return sizes[0], sizes[1]


def _checked_files(folders: Any) -> dict[str, dict[str, pathlib.Path]]:
    """Modality name to its files, by name without extension."""
    check_modalities("folders", folders, "folder")
    files = {
        name: _files_by_stem(name, pathlib.Path(folder))
        for name, folder in folders.items()
    }
    total = sum(len(paths) for paths in files.values())
    if len(files) > 1 and total == len(set().union(*files.values())):
        examples = {name: min(paths) for name, paths in files.items()}
        raise DataError(
            "Images of one row must have the same file name (without extension) in all "
            f"`folders`, but no name is in two of them. Received e.g. {examples}. "
            "Rename the files."
        )
    return files


def _files_by_stem(name: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    if not folder.exists():
        raise FileNotFoundError(
            f"The folder of modality {name!r} does not exist: {folder}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            f"`folders` must name a folder for modality {name!r}. Received the file: "
            f"{folder}"
        )
    files: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            continue
        if not path.is_file():
            continue
        if path.stem in files:
            raise DataError(
                "Files of one folder must differ in more than their extension, which "
                f"does not identify a row. Received for modality {name!r}: "
                f"{files[path.stem]} and {path}. Rename or remove one."
            )
        files[path.stem] = path
    if not files:
        raise DataError(
            f"The folder of modality {name!r} must hold images "
            f"({', '.join(EXTENSIONS)}). Received a folder without any: {folder}"
        )
    return files


def _read(path: pathlib.Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 `[H, W, C]` of a file."""
    height, width = size
    try:
        with Image.open(path) as file:
            # As stored: the decoder of a server ignores the EXIF orientation.
            image: Image.Image = file
            if image.mode.startswith("I"):
                # 16 bits: Pillow would clip them at 255.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif "transparency" in image.info:
                image = image.convert("RGBA")  # else Pillow warns for palettes
            image = image.convert(_MODES[channels])
    except UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}. It may be truncated, or its "
            "extension may be wrong. Remove or replace it."
        ) from error
    image = ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)
