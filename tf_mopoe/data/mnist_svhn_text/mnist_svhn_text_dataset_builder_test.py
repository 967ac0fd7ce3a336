"""TFDS's own checks of the builder, on made digits."""

import pathlib
import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tf_mopoe.data.mnist_svhn_text import Builder, MnistSvhnTextConfig


@pytest.mark.integration
class MnistSvhnTextTest(tfds.testing.DatasetBuilderTestCase):
    """Builds, reads back and checks the data set's description."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 40, "test": 20}  # two pairings of the smaller set
    EXAMPLE_DIR = pathlib.Path(__file__).parent  # not read: the data are made below
    SKIP_CHECKSUMS = True  # nothing is downloaded

    def _make_builder(self, config=None):
        del config  # the default one downloads MNIST and SVHN
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.tmp_dir))
        random = np.random.default_rng(0)
        sizes = {"mnist": (30, 10, (28, 28)), "svhn": (20, 20, (32, 32, 3))}
        for name, (train, test, shape) in sizes.items():
            arrays: dict[str, Any] = {}
            for split, count in (("train", train), ("test", test)):
                images = random.integers(256, size=(count, *shape), dtype=np.uint8)
                arrays |= {f"x_{split}": images, f"y_{split}": np.arange(count) % 10}
            np.savez(folder / f"{name}.npz", **arrays)
        config = MnistSvhnTextConfig(
            digits=folder / "mnist.npz",
            svhn=folder / "svhn.npz",
            data_multiplications=2,
        )
        return Builder(config=config, data_dir=self.tmp_dir)


if __name__ == "__main__":
    tfds.testing.test_main()
