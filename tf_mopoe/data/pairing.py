"""Tuples of images of the same class, and digits drawn into backgrounds.

Source: the PolyMNIST recipe of Sutter, Daunhawer and Vogt, *Generalized Multimodal
ELBO*, ICLR 2021.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

#: Height and width of a PolyMNIST image.
IMAGE_SIZE = 28


def members_by_class(labels: np.ndarray, num_classes: int = 10) -> list[np.ndarray]:
    """Indices of the rows of each class.

    Args:
      labels: Classes from 0 to num_classes - 1, int `[N]`.
      num_classes: Number of classes C.

    Returns:
      C arrays of increasing indices; empty where a class has no rows.
    """
    return [np.flatnonzero(labels == digit) for digit in range(num_classes)]


def pair_by_class(
    members: Sequence[np.ndarray], num_modalities: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws tuples of rows of the same class.

    There is one random permutation of the class's rows for each class and modality;
    tuple i consists of the i-th row of each. So each modality has every row once.

    Args:
      members: Indices of the rows of each class.
      num_modalities: Number of modalities M.
      rng: Random generator of the permutations.

    Returns:
      Indices, int64 `[n, M]`, for n rows in total, classes mixed.
    """
    columns = [np.tile(part[:, np.newaxis], num_modalities) for part in members]
    paired = np.concatenate([rng.permuted(column, axis=0) for column in columns])
    return rng.permutation(paired).astype(np.int64)


def random_corners(
    shape: Sequence[int], count: int | Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    """Upper left corners of image-sized windows, uniform over a canvas.

    Args:
      shape: Shape of the canvas, (height, width, ...).
      count: Number or shape of the draws.
      rng: Random generator of the draws.

    Returns:
      Rows and columns, int64 `[*count, 2]`.
    """
    count = (count,) if isinstance(count, int) else tuple(count)
    high = np.array(shape[:2]) - IMAGE_SIZE + 1
    return rng.integers(high, size=(*count, 2))


def crop_and_invert(
    canvas: np.ndarray, corners: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """Crops a window at each corner and inverts it, v -> 255 - v, on the masks.

    Args:
      canvas: Background, uint8 `[height, width, 3]`.
      corners: Upper left corners, `[N, 2]`.
      masks: Masks of the digits, uint8 `[N, 28, 28]`: 255 on the digit, else 0.

    Returns:
      Images, uint8 `[N, 28, 28, 3]`.
    """
    # [rows, columns, 3, 28, 28], a view
    windows = sliding_window_view(canvas, (IMAGE_SIZE, IMAGE_SIZE), axis=(0, 1))
    crops = np.moveaxis(windows, 2, -1)[corners[:, 0], corners[:, 1]]
    # On uint8, exclusive or with 255 is 255 - v, and with 0 it is v.
    return crops ^ masks[..., np.newaxis]
