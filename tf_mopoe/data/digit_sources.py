"""MNIST and SVHN as arrays: from the user's files, or through TFDS."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tf_mopoe.data.errors import DataError

#: Fraction of the rows of a file without splits that are for training.
TRAIN_FRACTION = 0.8

Path = str | os.PathLike[str]


class Digits(NamedTuple):
    """Images of digits: uint8 `[N, height, width, channels]`, labels int64 `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def read_mnist(path: Path | None, data_dir: Path | None = None) -> dict[str, Digits]:
    """Reads MNIST, images `[N, 28, 28, 1]`.

    Args:
      path: File `mnist.npz` in the layout of `keras.datasets.mnist`: arrays `x_train`,
        `y_train`, `x_test`, `y_test`. None: TFDS downloads `mnist`.
      data_dir: Folder of TFDS's data sets.

    Returns:
      Digits of "train" and "test".

    Raises:
      DataError: If the file is not as described, or TFDS can't download.
    """
    layout = "digits: mnist.npz with x_train, y_train, x_test, y_test, as Keras has it"
    if path is None:
        return _from_tfds("mnist", data_dir, layout)
    return _read_npz(path, (28, 28), layout)


def read_svhn(path: Path | None, data_dir: Path | None = None) -> dict[str, Digits]:
    """Reads cropped SVHN digits, images `[N, 32, 32, 3]`.

    Args:
      path: Folder of the published `train_32x32.mat` and `test_32x32.mat`; or an npz
        file with `x_train`, `y_train`, `x_test`, `y_test`, or with `x` and `y` only, of
        which the first 80 % of rows are for training (adjacent rows share a house
        number). None: TFDS downloads `svhn_cropped`.
      data_dir: Folder of TFDS's data sets.

    Returns:
      Digits of "train" and "test".

    Raises:
      DataError: If the files are not as described, or TFDS can't download.
    """
    layout = (
        "svhn: the folder of train_32x32.mat and test_32x32.mat, or an npz file with x "
        "and y"
    )
    if path is None:
        return _from_tfds("svhn_cropped", data_dir, layout)
    if os.path.isdir(path):
        return {split: _read_mat(path, split, layout) for split in ("train", "test")}
    return _read_npz(path, (32, 32, 3), layout)


def source_files(path: Path) -> list[pathlib.Path]:
    """Files that `read_mnist` or `read_svhn` reads."""
    if not os.path.isdir(path):
        return [pathlib.Path(path)]
    files = [pathlib.Path(path) / f"{split}_32x32.mat" for split in ("train", "test")]
    return [file for file in files if file.is_file()]


def hold_out(digits: Digits, count: int) -> tuple[Digits, Digits]:
    """Splits off the last `count` images.

    Returns:
      The first images, and the last `count`.

    Raises:
      DataError: If no images would remain.
    """
    if count >= len(digits.images):
        raise DataError(
            f"`validation` must be less than the {len(digits.images)} images for "
            f"training. Received: {count}."
        )
    cut = len(digits.images) - count
    return (
        Digits(digits.images[:cut], digits.labels[:cut]),
        Digits(digits.images[cut:], digits.labels[cut:]),
    )


def _from_tfds(name, data_dir, layout) -> dict[str, Digits]:
    import tensorflow_datasets as tfds

    try:
        parts = tfds.load(
            name, split=["train", "test"], batch_size=-1, data_dir=data_dir
        )
    except Exception as error:  # requests, TensorFlow and TFDS raise their own
        raise DataError(
            f"TFDS could not provide {name!r} ({type(error).__name__}: {error}). Pass "
            f"your own files instead, {layout}."
        ) from error
    digits = {}
    for split, part in zip(("train", "test"), parts, strict=True):
        arrays = tfds.as_numpy(part)
        digits[split] = Digits(arrays["image"], arrays["label"].astype(np.int64))
    return digits


def _read_npz(path: Path, shape: Sequence[int], layout: str) -> dict[str, Digits]:
    arrays = load_arrays(path, layout)
    whole = {name: arrays[name] for name in ("x", "y") if name in arrays}
    if "x_train" not in arrays and all(array.ndim for array in whole.values()):
        for key, array in whole.items():
            cut = round(TRAIN_FRACTION * len(array))
            arrays[f"{key}_train"], arrays[f"{key}_test"] = array[:cut], array[cut:]
    digits = {}
    for split in ("train", "test"):
        names = f"x_{split}", f"y_{split}"
        for name in names:
            if name not in arrays:
                raise DataError(
                    f"{path} must hold {', '.join(names)}. Received: "
                    f"{sorted(arrays)}. Expected {layout}."
                )
        images, labels = (arrays[name] for name in names)
        digits[split] = checked_digits(images, labels, shape, f"{path}, {split}")
    return digits


def _read_mat(folder: Path, split: str, layout: str) -> Digits:
    from scipy.io import loadmat

    path = pathlib.Path(folder) / f"{split}_32x32.mat"
    if not path.is_file():
        raise DataError(f"{path} does not exist. Expected {layout}.")
    try:
        arrays = loadmat(path)
        images, labels = np.moveaxis(arrays["X"], -1, 0), arrays["y"].reshape(-1)
    except Exception as error:  # zlib, struct and SciPy raise their own
        raise DataError(
            f"{path} can't be read: it is damaged or truncated ({error}). Download it "
            "again."
        ) from error
    # The published files label zero as 10.
    return checked_digits(images, np.where(labels == 10, 0, labels), (32, 32, 3), path)


def load_arrays(path: Path, layout: str) -> dict[str, np.ndarray]:
    """All arrays of an npz file.

    Args:
      path: Path of the file.
      layout: Description of the expected files, for messages.

    Raises:
      DataError: If the file does not exist or is damaged.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} does not exist. Expected {layout}.")
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, Mapping):
                raise ValueError("it holds a single array")
            return {name: file[name] for name in file}
    except Exception as error:  # zipfile, zlib and NumPy raise their own
        raise DataError(
            f"{path} can't be read as an npz file: it is damaged or truncated "
            f"({error}). Download it again. Expected {layout}."
        ) from error


def checked_digits(
    images: np.ndarray, labels: np.ndarray, shape: Sequence[int], source: Path
) -> Digits:
    """Images and labels of digits, checked.

    Args:
      images: Images, uint8 `[N, *shape]`.
      labels: Integers from 0 to 9, `[N]`.
      shape: (height, width), to which an axis of one channel is added, or
        (height, width, channels).
      source: Source of the arrays, for messages.

    Raises:
      DataError: If a shape, dtype, number of rows or label is wrong.
    """
    if images.shape[1:] != tuple(shape) or images.dtype != np.uint8:
        raise DataError(
            f"{source}: images must be uint8 {('N', *shape)}. "
            f"Received: {images.dtype} {images.shape}."
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{source}: there must be one label for each of the {len(images)} images. "
            f"Received: labels of shape {labels.shape}."
        )
    if not len(images):
        raise DataError(f"{source}: there are no images.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        wrong = labels if labels.dtype.kind not in "iu" else labels[labels > 9]
        wrong = wrong if len(wrong) else labels[labels < 0]
        raise DataError(
            f"{source}: labels must be whole numbers from 0 to 9. "
            f"Received: {wrong[0]} ({labels.dtype})."
        )
    if len(shape) == 2:
        images = images[..., np.newaxis]
    return Digits(images, labels.astype(np.int64))
