"""Readers of digit files: arrays, labels, splits, damaged files."""

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.made_digits import write_digits
from tf_mopoe.data import DataError
from tf_mopoe.data.digit_sources import Digits, hold_out, read_mnist, read_svhn


def test_mnist_comes_with_a_channel_and_whole_labels(tmp_path):
    arrays = write_digits(tmp_path / "mnist.npz", train=12, test=5)
    digits = read_mnist(tmp_path / "mnist.npz")
    for split in ("train", "test"):
        images, labels = digits[split]
        np.testing.assert_array_equal(images[..., 0], arrays[f"x_{split}"])
        np.testing.assert_array_equal(labels, arrays[f"y_{split}"])
        assert images.shape[1:] == (28, 28, 1)
        assert labels.dtype == np.int64


def test_svhn_without_splits_is_split_in_order(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(10, 32, 32, 3), dtype="uint8")
    np.savez(tmp_path / "svhn.npz", x=images, y=np.arange(10, dtype=np.uint8))
    digits = read_svhn(tmp_path / "svhn.npz")
    np.testing.assert_array_equal(digits["train"].images, images[:8])
    np.testing.assert_array_equal(digits["test"].images, images[8:])
    np.testing.assert_array_equal(digits["test"].labels, [8, 9])


def test_label_ten_of_published_svhn_is_zero(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 32, 32, 3), dtype="uint8")
    for split in ("train", "test"):
        savemat(
            tmp_path / f"{split}_32x32.mat",
            {"X": np.moveaxis(images, 0, -1), "y": np.array([[10], [1], [9], [10]])},
        )
    digits = read_svhn(tmp_path)["test"]
    np.testing.assert_array_equal(digits.images, images)
    np.testing.assert_array_equal(digits.labels, [0, 1, 9, 0])


def test_truncated_mat_file_is_one_error(tmp_path):
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        savemat(
            path, {"X": np.zeros([32, 32, 3, 4], np.uint8), "y": np.ones([4, 1], "u1")}
        )
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        DataError, match=r"test_32x32\.mat can't be read: it is damaged"
    ):
        read_svhn(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"test_32x32\.mat does not exist"):
        read_svhn(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": np.zeros([5, 28, 27], np.uint8)}, r"uint8 \('N', 28, 28\)"),
        ({"x_test": np.zeros([5, 28, 28])}, r"Received: float64 \(5, 28, 28\)"),
        ({"y_test": np.array([0, 1, 10, 3, 4])}, "from 0 to 9. Received: 10"),
        ({"y_test": np.array([0, 1, -1, 3, 4])}, "from 0 to 9. Received: -1"),
        ({"y_test": np.array([0.0, 1, 2, 3, 4])}, r"whole numbers.*0\.0 \(float64\)"),
        ({"y_test": np.arange(4)}, r"each of the 5 images. Received: .*\(4,\)"),
        (
            {"x_test": np.zeros([0, 28, 28], np.uint8), "y_test": np.zeros(0, int)},
            "there are no images",
        ),
        ({"y_test": None}, r"must hold x_test, y_test. Received: \['x_test', 'x_tr"),
    ],
)
def test_wrong_arrays_are_one_error_that_names_file_and_split(
    change, message, tmp_path
):
    path = tmp_path / "mnist.npz"
    arrays = write_digits(path, train=12, test=5) | change
    np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
    with pytest.raises(DataError, match=message) as raised:
        read_mnist(path)
    assert str(path) in str(raised.value)


def test_truncated_or_absent_npz_is_one_error_that_says_what_is_needed(tmp_path):
    path = tmp_path / "mnist.npz"
    write_digits(path, train=12, test=5)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged or truncated.*x_train, y_train"):
        read_mnist(path)
    path.unlink()
    with pytest.raises(DataError, match="does not exist. Expected digits"):
        read_mnist(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="it holds a single array"):
        read_mnist(tmp_path / "one.npy")


def test_other_entries_of_an_npz_file_are_ignored(tmp_path):
    images = np.zeros([10, 32, 32, 3], np.uint8)
    path = tmp_path / "svhn.npz"
    np.savez(path, x=images, y=np.arange(10), note=np.array("SVHN-10k"))
    assert len(read_svhn(path)["train"].images) == 8


def test_the_last_images_are_held_out():
    digits = Digits(np.arange(5, dtype=np.uint8), np.arange(5))
    kept, held = hold_out(digits, 2)
    assert kept.labels.tolist() == [0, 1, 2]
    assert held.images.tolist() == [3, 4]
    with pytest.raises(DataError, match="less than the 5 images.*Received: 5"):
        hold_out(digits, 5)
