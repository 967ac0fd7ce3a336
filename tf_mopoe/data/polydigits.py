"""PolyDigits: five views of a handwritten digit, built offline within seconds.

A small version of PolyMNIST for first steps, tests and tutorials without a network. A
tuple is five colour images, one for each modality. They share the class of the digit,
but neither the background nor (except by chance) the handwriting.

Recipe: PolyMNIST, from Sutter, Daunhawer and Vogt, *Generalized Multimodal ELBO*,
ICLR 2021. Modality m always shows background m, with a new crop for each image, and on
the mask of the digit each channel is inverted:

    x_m = b_m             off the digit
    x_m = 255 - b_m       on the digit             (v -> 1 - v on the unit scale)

Digits: the 1797 images of `sklearn.datasets.load_digits`, a copy of the test set of
UCI's *Optical Recognition of Handwritten Digits*; split by image, not by writer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from sklearn.datasets import load_digits

from tf_mopoe.checks import whole_number
from tf_mopoe.data.checks import checked_seed
from tf_mopoe.data.pairing import (
    IMAGE_SIZE,
    crop_and_invert,
    pair_by_class,
    random_corners,
)

MODALITIES = ("m0", "m1", "m2", "m3", "m4")

_CANVAS_SIZE = 192
_SPLITS = ("train", "validation", "test")
_INK_THRESHOLD = 7.0  # on the digits' scale of 0..16
_CUTS = (0.7, 0.8)  # of each class: 70 % train, 10 % validation, 20 % test

# First entry of the key of a random stream: streams of one seed are independent.
_SPLIT_STREAM, _BACKGROUND_STREAM, _PAIRING_STREAM = range(3)


class PolyDigits(NamedTuple):
    """N tuples of five images of the same class; the result of `load_polydigits`.

    Attributes:
      images: Modality name to uint8 images of shape [N, 28, 28, 3], values 0..255.
      labels: Class of each tuple, int64 [N], 0..9.
      sources: Index into `load_digits()` of the digit that each modality shows,
        int64 [N, 5], columns in the order of `MODALITIES`.

    Example:
      >>> image, sources = np.zeros([1, 28, 28, 3], np.uint8), np.zeros([1, 5], int)
      >>> PolyDigits(dict.fromkeys(MODALITIES, image), np.array([7]), sources).labels
      array([7])
    """

    images: dict[str, np.ndarray]
    labels: np.ndarray
    sources: np.ndarray


def load_polydigits(split: str, *, pairings: int = 8, seed: int = 0) -> PolyDigits:
    """Builds one split of PolyDigits.

    A pairing has one random permutation of the images of a class for each class and
    modality; tuple i consists of the i-th image of each. So every image of the split
    appears once in each modality. Pairings are concatenated, each shuffled: a prefix of
    the arrays is roughly class-balanced, and fewer pairings are the first tuples of
    more.

    The seed also decides which images belong to which split: use the same seed for all
    splits of an experiment, or test images will have been trained on.

    Args:
      split: "train" (70 % of the 1797 digits), "validation" (10 %, for tuning) or
        "test" (20 %, for final results only); stratified by class.
      pairings: Number of pairings, at least 1; each has 1258 tuples in "train".
      seed: Non-negative seed of split, backgrounds, pairing and crops. The same seed
        gives the same arrays (as long as NumPy keeps its generators' streams).

    Returns:
      A `PolyDigits` of `pairings` * (digits in the split) tuples.

    Raises:
      ValueError: If `split` is unknown, `pairings` < 1 or `seed` < 0.
      TypeError: If `pairings` or `seed` is not an integer.

    Example:
      >>> data = load_polydigits("validation", pairings=1)
      >>> data.images["m0"].shape[1:], data.sources.shape[1]
      ((28, 28, 3), 5)
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {[*_SPLITS]}. Received: {split!r}.")
    pairings = whole_number("pairings", pairings, minimum=1)
    seed = checked_seed(seed)
    digits = load_digits()
    members = _split_by_class(digits.target, seed)[split]
    key = _PAIRING_STREAM, _SPLITS.index(split)
    drawn = [_draw_pairing(members, _rng(seed, *key, p)) for p in range(pairings)]
    sources, corners = map(np.concatenate, zip(*drawn, strict=True))  # [N, 5], + [2]
    masks = _masks(digits.images)  # [1797, 28, 28]
    canvases = backgrounds(seed)  # [5, size, size, 3]
    images = {
        name: crop_and_invert(canvases[m], corners[:, m], masks[sources[:, m]])
        for m, name in enumerate(MODALITIES)
    }
    return PolyDigits(images, digits.target[sources[:, 0]].astype(np.int64), sources)


def backgrounds(seed: int = 0, size: int = _CANVAS_SIZE) -> np.ndarray:
    """Paints the canvases that the modalities' backgrounds are cropped from.

    In order: blue clouds (dark), warm stripes (bright), green cells (dark), pastel
    rings (bright) and a rust plaid (dark). Mid-grey would hide the digit. So, on the
    unit scale, the luminance 0.2126 R + 0.7152 G + 0.0722 B of every pixel is at most
    0.35 on the dark and at least 0.65 on the bright canvases, and no channel is within
    (0.4, 0.6).

    Args:
      seed: Non-negative seed of the textures; the colours are fixed.
      size: Height and width in pixels, at least 28.

    Returns:
      uint8 [5, size, size, 3], values 0..255.

    Raises:
      ValueError: If `seed` < 0 or `size` < 28.
      TypeError: If `seed` or `size` is not an integer.
    """
    seed = checked_seed(seed)
    size = whole_number("size", size, minimum=IMAGE_SIZE)
    canvases = []
    for m, (texture, palette) in enumerate(_PAINTINGS):
        rng = _rng(seed, _BACKGROUND_STREAM, m)
        canvases.append(_colour(texture(size, rng), palette))
    return np.stack(canvases)


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _split_by_class(target: np.ndarray, seed: int) -> dict[str, list[np.ndarray]]:
    """Splits the images of each class; split name to arrays of indices by class."""
    rng = _rng(seed, _SPLIT_STREAM)
    by_class = []
    for digit in np.unique(target):
        shuffled = rng.permutation(np.flatnonzero(target == digit))
        by_class.append(np.split(shuffled, [round(c * len(shuffled)) for c in _CUTS]))
    return {split: [parts[i] for parts in by_class] for i, split in enumerate(_SPLITS)}


def _draw_pairing(
    members: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws sources, int64 [n, 5], and the crops' upper left corners, [n, 5, 2]."""
    sources = pair_by_class(members, len(MODALITIES), rng)
    canvas_shape = (_CANVAS_SIZE, _CANVAS_SIZE)
    return sources, random_corners(canvas_shape, sources.shape, rng)


def _masks(images: np.ndarray) -> np.ndarray:
    """Upsamples [N, 8, 8] ink counts 0..16 to masks, uint8 0 or 255, [N, 28, 28].

    A margin of one pixel is added, the 10x10 image is interpolated by a cubic spline
    and cut a little below half ink, where most digits (89 %) are one connected stroke
    with the holes of their class.
    """
    centres = (np.arange(IMAGE_SIZE) + 0.5) * 10 / IMAGE_SIZE - 0.5  # source pixels
    # Interpolation is linear: a matrix whose columns are splines through unit impulses.
    impulses = np.eye(12)[:, 2:-2]  # two zeros before and after the 8 pixels
    upsample = make_interp_spline(np.arange(12) - 1.0, impulses)(centres)  # [28, 8]
    ink = upsample @ images @ upsample.T  # [N, 28, 28]
    return np.where(ink > _INK_THRESHOLD, 255, 0).astype(np.uint8)


def _unit(values: np.ndarray) -> np.ndarray:
    """Stretches a texture to span [0, 1]."""
    return (values - values.min()) / np.ptp(values)


def _nearest(points: np.ndarray, size: int, k: int) -> tuple[np.ndarray, ...]:
    """Distances to and indices of each pixel's k nearest points, [size, size, k]."""
    pixels = np.moveaxis(np.indices((size, size)), 0, -1)
    return cKDTree(points).query(pixels, k=range(1, k + 1))


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    octaves = [
        width**1.6 * gaussian_filter(rng.standard_normal((size, size)), width)
        for width in (1.5, 3.0, 6.0, 12.0)
    ]
    return _unit(np.sum(octaves, axis=0))


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    row, column = np.indices((size, size))
    bend = 6.0 * np.sin(2.0 * np.pi * ((row - column) / 90.0 + rng.random()))
    phase = 2.0 * np.pi * ((row + column + bend) / 26.0 + rng.random())
    return _unit(np.tanh(3.0 * np.sin(phase)) + 0.25 * np.sin(phase / 3.0))


def _cells(size: int, rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells of different shades, darker towards their borders."""
    points = rng.uniform(0.0, size, size=(max(4, size * size // 300), 2))
    distance, nearest = _nearest(points, size, 2)
    border = np.clip((distance[..., 1] - distance[..., 0]) / 5.0, 0.0, 1.0)
    shade = rng.uniform(0.45, 1.0, size=len(points))
    return _unit(border * shade[nearest[..., 0]])


def _rings(size: int, rng: np.random.Generator) -> np.ndarray:
    """Concentric rings around scattered centres, like those of rain on a pond."""
    centres = rng.uniform(0.0, size, size=(max(2, size * size // 2500), 2))
    radius, nearest = _nearest(centres, size, 1)
    phase = rng.random(len(centres))[nearest]
    return _unit(np.sin(2.0 * np.pi * (radius / 13.0 + phase))[..., 0])


def _plaid(size: int, rng: np.random.Generator) -> np.ndarray:
    bands = np.repeat(rng.random((2, size // 6 + 1)), 6, axis=1)[:, :size]  # [2, size]
    return _unit(bands[0][:, np.newaxis] + bands[1])


def _colour(texture: np.ndarray, palette: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Maps 0..1 linearly through the palette's colours: uint8 [size, size, 3]."""
    stops = np.linspace(0.0, 1.0, len(palette))
    channels = [np.interp(texture, stops, channel) for channel in np.transpose(palette)]
    return np.rint(255.0 * np.stack(channels, axis=-1)).astype(np.uint8)


# Texture and palette (R, G, B on the unit scale) of each modality. Mixtures of colours
# that obey the luminance rule obey it; no channel may cross (0.4, 0.6) on the way.
_PAINTINGS = (
    (_clouds, ((0.00, 0.02, 0.62), (0.04, 0.12, 0.75), (0.20, 0.30, 1.00))),
    (_stripes, ((1.00, 0.66, 0.10), (1.00, 0.80, 0.20), (1.00, 0.95, 0.38))),
    (_cells, ((0.00, 0.05, 0.02), (0.02, 0.24, 0.08), (0.16, 0.38, 0.10))),
    (_rings, ((0.95, 0.70, 0.90), (0.85, 0.85, 1.00), (0.65, 1.00, 0.90))),
    (_plaid, ((0.60, 0.00, 0.12), (0.72, 0.08, 0.06), (0.98, 0.18, 0.00))),
)
