"""PolyMNIST as a TFDS data set: made by the published recipe, or read from files."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tf_mopoe.data import polydigits
from tf_mopoe.data.builder_configs import (
    ConfiguredBuilder,
    checked_number,
    content_hash,
    existing,
    listing_hash,
)
from tf_mopoe.data.digit_sources import Digits, hold_out, read_mnist
from tf_mopoe.data.errors import UNREADABLE, DataError
from tf_mopoe.data.pairing import (
    IMAGE_SIZE,
    crop_and_invert,
    members_by_class,
    pair_by_class,
    random_corners,
)
from tf_mopoe.data.poly_mnist import published_archive

MODALITIES = polydigits.MODALITIES

_IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_INK = 128  # the published threshold
_CHUNK = 500  # number of tuples that are drawn at a time


@dataclasses.dataclass(eq=False)
class PolyMnistConfig(tfds.core.BuilderConfig):
    """Sources of PolyMNIST. Without arguments: TFDS `mnist`, painted backgrounds.

    Attributes:
      name: Name of the data set's folder; by default made of the seed and of a hash of
        the files' content, so that other files are another data set.
      backgrounds: Folder of exactly five images, the first by name for `m0`. None:
        those of PolyDigits, painted from the seed.
      digits: File `mnist.npz` in the layout of Keras. None: TFDS downloads `mnist`.
      archive: Folder to read published tuples from, instead of making them. It has
        `train` and `test`, each with folders `m0` to `m4` of images
        `<index>.<digit>.png`, or with tensors `m0.pt` to `m4.pt` `[N, 3, 28, 28]` and
        `labels.pt` `[N]` (which PyTorch reads).
      seed: Seed of pairing, crops and painted backgrounds.
      validation: Number of training images, the last ones, whose tuples are the split
        "validation". No image is in two splits.

    Raises:
      DataError: If a path does not exist, a number is not as described, or `archive` is
        combined with other settings.
    """

    name: str = ""
    backgrounds: str | os.PathLike[str] | None = None
    digits: str | os.PathLike[str] | None = None
    archive: str | os.PathLike[str] | None = None
    seed: int = 0
    validation: int = 0

    def __post_init__(self):
        for field in ("backgrounds", "digits", "archive"):
            value = existing(field, getattr(self, field), folder=field != "digits")
            setattr(self, field, value)
        checked_number("seed", self.seed, at_least=0)
        checked_number("validation", self.validation, at_least=0)
        others = self.backgrounds, self.digits, self.seed, self.validation
        if self.archive and any(others):
            raise DataError(
                "`archive` is read unchanged: `backgrounds`, `digits`, `seed` and "
                "`validation` have no effect on it. Leave them out."
            )
        self.name = self.name or self._make_name()

    def _make_name(self) -> str:
        if self.archive:
            return f"archive-{listing_hash(pathlib.Path(self.archive))}"
        parts = ["procedural", f"seed{self.seed}"]
        if self.backgrounds:
            parts[0] = f"backgrounds-{content_hash(_image_files(self.backgrounds))}"
        if self.digits:
            parts.insert(1, f"digits-{content_hash([self.digits])}")
        if self.validation:
            parts.append(f"validation{self.validation}")
        return "-".join(parts)


class Builder(ConfiguredBuilder):
    """TFDS builder of `poly_mnist`; see README.md beside it."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [PolyMnistConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(
            shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **dict.fromkeys(MODALITIES, image),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            homepage="https://arxiv.org/abs/2105.02470",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # TFDS's mnist has its own
        config = self.builder_config
        if config.archive:
            return {
                split: self._generate_examples(
                    published_archive.examples(pathlib.Path(config.archive) / split)
                )
                for split in ("train", "test")
            }
        canvases = read_backgrounds(config)
        digits = read_mnist(config.digits, self._data_dir_root)
        splits = [("train", digits["train"]), ("test", digits["test"])]
        if config.validation:
            kept, held = hold_out(digits["train"], config.validation)
            splits = [("train", kept), splits[1], ("validation", held)]
        return {
            name: self._generate_examples(
                make_examples(part, canvases, _rng(config.seed, index))
            )
            for index, (name, part) in enumerate(splits)
        }

    def _generate_examples(self, examples) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from examples


def make_examples(
    digits: Digits, canvases: list[np.ndarray], rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Makes PNG-encoded tuples by the published recipe.

    Args:
      digits: Digits of one split.
      canvases: Five backgrounds, uint8 `[height, width, 3]`.
      rng: Random generator of pairing and crops.

    Yields:
      A key, and the features: modality name to a PNG file, and the label.
    """
    masks = np.where(digits.images[..., 0] > _INK, 255, 0).astype(np.uint8)
    sources = pair_by_class(members_by_class(digits.labels), len(canvases), rng)
    for start in range(0, len(sources), _CHUNK):
        rows = sources[start : start + _CHUNK]  # [n, 5]
        encoded = [
            tf.io.encode_png(
                crop_and_invert(
                    canvas,
                    random_corners(canvas.shape, len(rows), rng),
                    masks[rows[:, m]],
                )
            ).numpy()
            for m, canvas in enumerate(canvases)
        ]  # 5 of [n]
        for index, images in enumerate(zip(*encoded, strict=True)):
            example = dict(zip(MODALITIES, map(io.BytesIO, images), strict=True))
            label = int(digits.labels[rows[index, 0]])
            yield f"{start + index:06d}", {**example, "label": label}


def read_backgrounds(config: PolyMnistConfig) -> list[np.ndarray]:
    """The five backgrounds, uint8 `[height, width, 3]`.

    Raises:
      DataError: If there are not five images, or one is damaged or too small.
    """
    if config.backgrounds is None:
        return list(polydigits.backgrounds(config.seed))
    files = _image_files(config.backgrounds)
    if len(files) != len(MODALITIES):
        raise DataError(
            f"{config.backgrounds} must hold {len(MODALITIES)} images, one for each "
            f"modality. Received: {[path.name for path in files]}."
        )
    canvases = []
    for path in files:
        try:
            with Image.open(path) as image:
                canvas = np.array(image.convert("RGB"))
        except UNREADABLE as error:
            raise DataError(
                f"{path} can't be read as an image: {error}. Replace it."
            ) from error
        if min(canvas.shape[:2]) < IMAGE_SIZE:
            raise DataError(
                f"{path} must have at least {IMAGE_SIZE} x {IMAGE_SIZE} pixels. "
                f"Received: {canvas.shape[0]} x {canvas.shape[1]}."
            )
        canvases.append(canvas)
    return canvases


def _image_files(folder) -> list[pathlib.Path]:
    files = sorted(pathlib.Path(folder).iterdir())
    return [path for path in files if path.suffix.lower() in _IMAGE_FILES]


def _rng(seed: int, split: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split,)))
