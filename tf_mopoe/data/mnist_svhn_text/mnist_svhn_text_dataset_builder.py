"""MNIST-SVHN-Text as a TFDS data set: images and words paired by their digit."""

import dataclasses
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_mopoe.data.builder_configs import (
    ConfiguredBuilder,
    checked_number,
    content_hash,
    existing,
)
from tf_mopoe.data.digit_sources import (
    Digits,
    hold_out,
    read_mnist,
    read_svhn,
    source_files,
)
from tf_mopoe.data.errors import DataError
from tf_mopoe.data.pairing import members_by_class
from tf_mopoe.data.texts import DIGIT_NAMES, DIGIT_TEXT_LENGTH


@dataclasses.dataclass(eq=False)
class MnistSvhnTextConfig(tfds.core.BuilderConfig):
    """Sources of MNIST-SVHN-Text. Without arguments: TFDS's MNIST and SVHN.

    Attributes:
      name: Name of the data set's folder; by default made of the other settings and of
        a hash of the files' content, so that other files are another data set.
      digits: File `mnist.npz` in the layout of Keras. None: TFDS downloads `mnist`.
      svhn: Folder with `train_32x32.mat` and `test_32x32.mat`, or an npz file; see
        `digit_sources.read_svhn`. None: TFDS downloads `svhn_cropped`.
      data_multiplications: Number of pairings, each of which uses every image once,
        with different partners. The published experiments use 20.
      seed: Seed of pairing and offsets.
      validation: Number of training images of MNIST, the last ones, that are paired
        once for a split "validation", with the same fraction of SVHN's. No image is in
        two splits.

    Raises:
      DataError: If a path does not exist or a number is not as described.
    """

    name: str = ""
    digits: str | os.PathLike[str] | None = None
    svhn: str | os.PathLike[str] | None = None
    data_multiplications: int = 1
    seed: int = 0
    validation: int = 0

    def __post_init__(self):
        self.digits = existing("digits", self.digits, folder=False)
        self.svhn = existing("svhn", self.svhn)
        checked_number("data_multiplications", self.data_multiplications, at_least=1)
        checked_number("seed", self.seed, at_least=0)
        checked_number("validation", self.validation, at_least=0)
        self.name = self.name or self._make_name()

    def _make_name(self) -> str:
        parts = [f"pairings{self.data_multiplications}", f"seed{self.seed}"]
        for field in ("svhn", "digits"):
            path = getattr(self, field)
            if path is not None:
                parts.insert(0, f"{field}-{content_hash(source_files(path))}")
        if self.validation:
            parts.append(f"validation{self.validation}")
        return "-".join(parts)


class Builder(ConfiguredBuilder):
    """TFDS builder of `mnist_svhn_text`; see README.md beside it."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [MnistSvhnTextConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "mnist": tfds.features.Image(
                        shape=(28, 28, 1), encoding_format="png"
                    ),
                    "svhn": tfds.features.Image(
                        shape=(32, 32, 3), encoding_format="png"
                    ),
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            homepage="https://arxiv.org/abs/2105.02470",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # TFDS's mnist and svhn_cropped have their own
        config = self.builder_config
        mnist = read_mnist(config.digits, self._data_dir_root)
        svhn = read_svhn(config.svhn, self._data_dir_root)
        pairings = config.data_multiplications
        splits = [
            ("train", mnist["train"], svhn["train"], pairings),
            ("test", mnist["test"], svhn["test"], pairings),
        ]
        if config.validation:
            fraction = config.validation / len(mnist["train"].images)
            count = round(fraction * len(svhn["train"].images))
            first = hold_out(mnist["train"], config.validation)
            second = hold_out(svhn["train"], count)
            splits = [
                ("train", first[0], second[0], pairings),
                splits[1],
                ("validation", first[1], second[1], 1),
            ]
        return {
            name: self._generate_examples(
                make_examples(
                    digits,
                    numbers,
                    times,
                    np.random.default_rng([config.seed, index]),
                )
            )
            for index, (name, digits, numbers, times) in enumerate(splits)
        }

    def _generate_examples(self, examples) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from examples


def make_examples(
    mnist: Digits, svhn: Digits, pairings: int, rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pairs images of the same digit, and adds its name as text.

    Each pairing draws, for every digit, the same number of images from both sets, that
    of the smaller one, at random and without repetition.

    Args:
      mnist: Digits of MNIST of one split.
      svhn: Digits of SVHN of the same split.
      pairings: Number of pairings.
      rng: Random generator of pairs and offsets.

    Returns:
      An iterator of a key, and modality name to PNG file or text, with the label.

    Raises:
      DataError: If only one of the sets has a digit.
    """
    members = [members_by_class(digits.labels) for digits in (mnist, svhn)]
    counts = np.array([[len(rows) for rows in part] for part in members])  # [2, 10]
    unpaired = np.flatnonzero((counts == 0).any(axis=0) & (counts > 0).any(axis=0))
    if len(unpaired):
        digit = unpaired[0]
        raise DataError(
            f"MNIST and SVHN must both have images of digit {digit}, or neither. "
            f"Received: {counts[0, digit]} and {counts[1, digit]}."
        )
    sizes = counts.min(axis=0)

    def generate() -> Iterator[tuple[str, dict[str, Any]]]:
        encoded = [_encode_all(digits.images) for digits in (mnist, svhn)]
        for pairing in range(pairings):
            for digit, size in enumerate(sizes):
                rows = [rng.permutation(part[digit])[:size] for part in members]
                for index, (first, second) in enumerate(zip(*rows, strict=True)):
                    yield (
                        f"{pairing}.{digit}.{index}",
                        {
                            "mnist": io.BytesIO(encoded[0][first]),
                            "svhn": io.BytesIO(encoded[1][second]),
                            "text": _at_random_offset(DIGIT_NAMES[digit], rng),
                            "label": digit,
                        },
                    )

    return generate()


def _encode_all(images: np.ndarray) -> list[bytes]:
    return list(tf.io.encode_png(images).numpy())


def _at_random_offset(word: str, rng: np.random.Generator) -> str:
    offset = rng.integers(DIGIT_TEXT_LENGTH - len(word) + 1)
    return (" " * offset + word).ljust(DIGIT_TEXT_LENGTH)
