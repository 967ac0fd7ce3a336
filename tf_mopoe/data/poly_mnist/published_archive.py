"""Reader of the published layouts of PolyMNIST: image folders, or tensors."""

import io
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_mopoe.data.digit_sources import checked_digits
from tf_mopoe.data.errors import UNREADABLE, DataError
from tf_mopoe.data.pairing import IMAGE_SIZE
from tf_mopoe.data.polydigits import MODALITIES

Example = tuple[str, dict[str, Any]]

_CHUNK = 1000
_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
_LAYOUT = (
    "Expected are folders m0 to m4 of images <index>.<digit>.png, or tensors m0.pt to "
    "m4.pt and labels.pt"
)


def examples(folder: pathlib.Path) -> Iterator[Example]:
    """Tuples of one split.

    Args:
      folder: Folder with `m0` to `m4`, or `m0.pt` to `m4.pt` and `labels.pt`.

    Returns:
      An iterator of a key, and the features: modality name to a PNG file, and the
      label.

    Raises:
      DataError: If files are missing, unpaired or empty; from the iterator, if an image
        is damaged.
    """
    if (folder / "labels.pt").is_file():
        return _from_tensors(folder)
    return _from_folders(folder)


def _from_folders(folder: pathlib.Path) -> Iterator[Example]:
    files = {}
    for name in MODALITIES:
        if not (folder / name).is_dir():
            raise DataError(f"{folder / name} is not a folder. {_LAYOUT}.")
        files[name] = {path.name for path in (folder / name).glob("*.png")}
        if not files[name]:
            raise DataError(f"{folder / name} holds no .png files. {_LAYOUT}.")
    first = files[MODALITIES[0]]
    for name in MODALITIES[1:]:
        if files[name] != first:
            unpaired = min(files[name] ^ first)
            raise DataError(
                f"All modalities of {folder} must have the same files. Received: "
                f"{len(first)} in {MODALITIES[0]}, {len(files[name])} in {name}; "
                f"{unpaired} is only in one of the two."
            )
    for file in first:
        if not re.fullmatch(r"\d+\.[0-9]\.png", file):
            raise DataError(
                f"{folder}: files must be named <index>.<digit>.png with a digit from "
                f"0 to 9. Received: {file}."
            )

    def read() -> Iterator[Example]:
        for file in sorted(first):
            images = {name: _checked_png(folder / name / file) for name in MODALITIES}
            yield file, {**images, "label": int(file.split(".")[1])}

    return read()


def _checked_png(path: pathlib.Path) -> io.BytesIO:
    """Content of a file that holds a PNG of the right shape and dtype."""
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image)
    except UNREADABLE as error:
        raise DataError(
            f"{path} is damaged or truncated ({error}). Unpack the archive again."
        ) from error
    if pixels.shape != _SHAPE or pixels.dtype != np.uint8:
        raise DataError(
            f"{path} must be an image of 28 x 28 pixels in colour, 8 bits a channel. "
            f"Received: {pixels.dtype} {pixels.shape}."
        )
    return io.BytesIO(content)


def _from_tensors(folder: pathlib.Path) -> Iterator[Example]:
    labels = _load_tensor(folder / "labels.pt").reshape(-1)
    images = {}
    for name in MODALITIES:
        images[name] = _as_images(_load_tensor(folder / f"{name}.pt"), name)
        checked_digits(images[name], labels, _SHAPE, folder / f"{name}.pt")

    def read() -> Iterator[Example]:
        for index, label in enumerate(labels):
            encoded = {
                name: io.BytesIO(tf.io.encode_png(images[name][index]).numpy())
                for name in MODALITIES
            }
            yield f"{index:06d}", {**encoded, "label": int(label)}

    return read()


def _as_images(tensor: np.ndarray, name: str) -> np.ndarray:
    """Images with channels last and uint8; other shapes are left to later checks."""
    if tensor.ndim == 4 and tensor.shape[1] == 3:
        tensor = np.moveaxis(tensor, 1, -1)
    if tensor.dtype.kind == "f":
        if not (tensor.min(initial=0.0) >= 0.0 and tensor.max(initial=0.0) <= 1.0):
            raise DataError(
                f"{name}.pt: floating images must be in [0, 1]. Received: "
                f"{tensor.min()} to {tensor.max()}."
            )
        images = np.empty(tensor.shape, np.uint8)
        for start in range(0, len(tensor), _CHUNK):  # limits the size of copies
            part = slice(start, start + _CHUNK)
            images[part] = np.rint(255.0 * tensor[part])
        return images
    return tensor


def _load_tensor(path: pathlib.Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} does not exist. {_LAYOUT}.")
    try:
        import torch
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path} needs PyTorch to be read. Install it: pip install torch."
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True).numpy()
    except Exception as error:  # pickle, zipfile and PyTorch raise their own
        raise DataError(
            f"{path} can't be read: it is damaged or truncated ({error}). Unpack the "
            "archive again."
        ) from error
