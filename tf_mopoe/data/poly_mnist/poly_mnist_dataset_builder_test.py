"""TFDS's own checks of the builder, on made digits and painted backgrounds."""

import pathlib
import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tf_mopoe.data.poly_mnist import Builder, PolyMnistConfig


@pytest.mark.integration
class PolyMnistTest(tfds.testing.DatasetBuilderTestCase):
    """Builds, reads back and checks the data set's description."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 30, "test": 10}
    EXAMPLE_DIR = pathlib.Path(__file__).parent  # not read: the data are made below
    SKIP_CHECKSUMS = True  # nothing is downloaded

    def _make_builder(self, config=None):
        del config  # the default one downloads MNIST
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.tmp_dir))
        arrays: dict[str, Any] = {}
        for split, count in self.SPLITS.items():
            labels = np.arange(count) % 10
            images = np.zeros([count, 28, 28], np.uint8)
            images[:, 4:24, 10:18] = 20 * labels[:, np.newaxis, np.newaxis] + 75
            arrays |= {f"x_{split}": images, f"y_{split}": labels}
        np.savez(folder / "mnist.npz", **arrays)
        config = PolyMnistConfig(digits=folder / "mnist.npz", seed=1)
        return Builder(config=config, data_dir=self.tmp_dir)


if __name__ == "__main__":
    tfds.testing.test_main()
