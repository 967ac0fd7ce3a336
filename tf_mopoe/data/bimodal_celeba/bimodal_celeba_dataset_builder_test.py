"""TFDS's own checks of the builder, on made faces."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tf_mopoe.data.bimodal_celeba import BimodalCelebaConfig, Builder
from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES


@pytest.mark.integration
class BimodalCelebaTest(tfds.testing.DatasetBuilderTestCase):
    """Builds, reads back and checks the data set's description."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 4, "validation": 2, "test": 3}
    EXAMPLE_DIR = pathlib.Path(__file__).parent  # not read: the data are made below
    SKIP_CHECKSUMS = True  # nothing is downloaded

    def _make_builder(self, config=None):
        del config  # the default one downloads CelebA
        folder = pathlib.Path(self.tmp_dir) / "made"
        if folder.exists():  # times of files are in the name of the data set
            return Builder(
                config=BimodalCelebaConfig(files=folder), data_dir=self.tmp_dir
            )
        (folder / "img_align_celeba").mkdir(parents=True)
        random = np.random.default_rng(0)
        attributes = ["9", " ".join(ATTRIBUTES)]
        partition = []
        for index, number in enumerate([0, 0, 0, 0, 1, 1, 2, 2, 2], start=1):
            name = f"{index:06d}.jpg"
            pixels = random.integers(256, size=(218, 178, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
            flags = random.choice(["-1", "1"], size=len(ATTRIBUTES))
            attributes.append(f"{name}  {' '.join(flags)}")
            partition.append(f"{name} {number}")
        for stem, lines in (
            ("list_attr_celeba", attributes),
            ("list_eval_partition", partition),
        ):
            (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")
        return Builder(config=BimodalCelebaConfig(files=folder), data_dir=self.tmp_dir)


if __name__ == "__main__":
    tfds.testing.test_main()
