"""MNIST-SVHN-Text: pairing, texts, reproducibility, errors."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data.made_digits import left_behind, rows_of, write_digits
from tf_mopoe.data import DataError
from tf_mopoe.data.mnist_svhn_text import Builder, MnistSvhnTextConfig

SVHN = (32, 32, 3)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

pytestmark = pytest.mark.integration  # builds data sets of TFDS


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


@pytest.fixture
def sources(tmp_path):
    """60 and 10 images of MNIST, 40 and 20 of SVHN."""
    mnist = write_digits(tmp_path / "mnist.npz", train=60, test=10)
    svhn = write_digits(tmp_path / "svhn.npz", train=40, test=20, shape=SVHN, seed=1)
    return mnist, svhn


def build(folder, **config):
    config = MnistSvhnTextConfig(
        digits=folder / "mnist.npz", svhn=folder / "svhn.npz", **config
    )
    builder = Builder(config=config, data_dir=folder / "tfds")
    builder.download_and_prepare()
    return builder


def positions(images, among):
    """Index of each image among others."""
    where = {image.tobytes(): index for index, image in enumerate(among)}
    return np.array([where[image.tobytes()] for image in images])


def test_every_tuple_is_of_one_digit_in_all_three_modalities(tmp_path, sources):
    mnist, svhn = sources
    rows = rows_of(build(tmp_path, data_multiplications=3), "train")
    assert len(rows["label"]) == 3 * 40
    first = positions(rows["mnist"][..., 0], mnist["x_train"])
    second = positions(rows["svhn"], svhn["x_train"])
    np.testing.assert_array_equal(mnist["y_train"][first], rows["label"])
    np.testing.assert_array_equal(svhn["y_train"][second], rows["label"])
    for text, label in zip(rows["text"], rows["label"], strict=True):
        assert len(text) == 8
        assert text.decode().strip() == WORDS[label]


def test_each_pairing_uses_all_images_of_the_smaller_set_once(tmp_path, sources):
    _, svhn = sources
    rows = rows_of(build(tmp_path, data_multiplications=3), "train")
    used = np.bincount(positions(rows["svhn"], svhn["x_train"]))
    np.testing.assert_array_equal(used, np.full(40, 3))


def test_pairings_draw_new_images_of_the_larger_set(tmp_path, sources):
    mnist, _ = sources
    rows = rows_of(build(tmp_path, data_multiplications=3), "train")
    used = np.bincount(positions(rows["mnist"][..., 0], mnist["x_train"]), minlength=60)
    # 4 of 6 a digit in each pairing: the first four alone would leave a third unused.
    assert (used > 0).sum() > 45
    assert used.max() <= 3


def test_words_are_at_every_offset_that_fits(tmp_path, sources):
    rows = rows_of(build(tmp_path, data_multiplications=20), "train")
    texts = rows["text"][rows["label"] == 1]  # "one", 80 of them
    offsets = [len(text) - len(text.lstrip()) for text in texts]
    assert set(offsets) == set(range(6))


def test_same_seed_gives_same_tuples_and_another_gives_others(tmp_path, sources):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("mnist.npz", "svhn.npz"):
        (elsewhere / name).write_bytes((tmp_path / name).read_bytes())
    first = rows_of(build(tmp_path), "train")
    again = rows_of(build(elsewhere), "train")
    other = rows_of(build(tmp_path, seed=1), "train")
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert not np.array_equal(first["mnist"], other["mnist"])


def test_other_files_or_settings_are_other_data_sets(tmp_path, sources):
    paths = {"digits": tmp_path / "mnist.npz", "svhn": tmp_path / "svhn.npz"}
    names = {
        MnistSvhnTextConfig().name,
        MnistSvhnTextConfig(**paths).name,
        MnistSvhnTextConfig(**paths, data_multiplications=2).name,
        MnistSvhnTextConfig(**paths, seed=1).name,
        MnistSvhnTextConfig(svhn=paths["svhn"]).name,
    }
    assert len(names) == 5
    write_digits(paths["svhn"], train=40, test=20, shape=SVHN, seed=2)
    assert MnistSvhnTextConfig(**paths).name not in names


def test_a_digit_in_one_set_only_is_one_error_and_nothing_is_left(tmp_path, sources):
    _, svhn = sources
    keep = svhn["y_train"] != 7
    svhn = {**svhn, "x_train": svhn["x_train"][keep], "y_train": svhn["y_train"][keep]}
    np.savez(tmp_path / "svhn.npz", **svhn)
    with pytest.raises(DataError, match="digit 7, or neither. Received: 6 and 0"):
        build(tmp_path)
    assert not left_behind(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"svhn": "nowhere"}, "`svhn` must be a file or folder that exists"),
        ({"digits": "."}, "`digits` must be a file that exists"),
        ({"data_multiplications": 0}, "`data_multiplications` must be a whole number"),
        ({"seed": True}, "`seed` must be a whole number"),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments, message):
    with pytest.raises(DataError, match=message):
        MnistSvhnTextConfig(**arguments)
