"""Writer of TFRecord files: contents, names, atomicity, errors."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mopoe.data import tfrecord_writer
from tf_mopoe.data.tfrecord_writer import write_tfrecords
from tf_mopoe.data.tfrecords import from_tfrecords


def holed_data(rows=4):
    """Data whose first row has no table and no label."""
    data = {
        "grey": np.full([rows, 3, 3, 1], 7, np.uint8),
        "table": np.ones([rows, 2, 3]),
        "label": np.arange(rows),
        "present": {"label": np.arange(rows) > 0},
    }
    data["table"][0] = np.nan
    return data


def test_a_missing_modality_is_left_out_of_its_example(tmp_path):
    (file,) = write_tfrecords(holed_data(), tmp_path / "x")
    records = tf.data.TFRecordDataset(file).as_numpy_iterator()
    example = tf.train.Example.FromString(next(records))
    assert set(example.features.feature) == {"grey"}
    (png,) = example.features.feature["grey"].bytes_list.value
    assert png.startswith(b"\x89PNG")


def test_tensors_are_written_as_arrays_are(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    files = write_tfrecords({"x": tf.constant(x)}, tmp_path / "x")
    rows = from_tfrecords(files, {"x": tf.io.FixedLenFeature([2], tf.float32)})
    read = [row["x"] for row in rows.as_numpy_iterator()]
    np.testing.assert_array_equal(read, x)


def test_files_are_named_by_their_number_and_the_number_of_all(tmp_path):
    expected = [f"{tmp_path}/a.b-0000{i}-of-00002.tfrecord" for i in range(2)]
    written = write_tfrecords(holed_data(3), tmp_path / "a.b.tfrecord", shards=2)
    assert written == expected
    assert sorted(map(str, tmp_path.iterdir())) == expected


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    real, count = tfrecord_writer._example, 0

    def fails_late(*args):
        nonlocal count
        count += 1
        if count == 8:
            raise RuntimeError("disk full")
        return real(*args)

    monkeypatch.setattr(tfrecord_writer, "_example", fails_late)
    with pytest.raises(RuntimeError, match="disk full"):
        write_tfrecords(holed_data(9), tmp_path / "x", shards=3)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_renaming_leaves_nothing(tmp_path, monkeypatch):
    real = tf.io.gfile.rename

    def fails_at_the_second(source, target):
        if "00001-of" in target:
            raise OSError("disk gone")
        real(source, target)

    monkeypatch.setattr(tf.io.gfile, "rename", fails_at_the_second)
    with pytest.raises(OSError, match="disk gone"):
        write_tfrecords(holed_data(9), tmp_path / "x", shards=3)
    assert list(tmp_path.iterdir()) == []


def test_no_pattern_matches_files_before_all_are_complete(tmp_path, monkeypatch):
    real, actual = tfrecord_writer._example, []

    def looks(*args):
        actual.extend(tmp_path.glob("*.tfrecord"))
        actual.extend(tf.io.gfile.glob(f"{tmp_path}/x*"))
        return real(*args)

    monkeypatch.setattr(tfrecord_writer, "_example", looks)
    write_tfrecords(holed_data(6), tmp_path / "x", shards=3)
    assert actual == []


def test_existing_files_are_never_overwritten(tmp_path):
    files = write_tfrecords(holed_data(4), tmp_path / "x", shards=2)
    with pytest.raises(FileExistsError, match=f"2 of its files.*{files[0]}"):
        write_tfrecords(holed_data(4), tmp_path / "x", shards=1)
    assert len(list(tmp_path.iterdir())) == 2
    write_tfrecords(holed_data(4), tmp_path / "y", shards=1)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/no"):
        write_tfrecords(holed_data(2), tmp_path / "no" / "x")
    with pytest.raises(ValueError, match="`path` must end in the prefix"):
        write_tfrecords(holed_data(2), f"{tmp_path}/")


@pytest.mark.parametrize("shards", [0, 5, 1.5, None, True, 2.0])
def test_an_impossible_number_of_shards_is_refused(tmp_path, shards):
    with pytest.raises(
        (TypeError, ValueError), match="`shards` must be a whole number from 1 to 4"
    ):
        write_tfrecords(holed_data(4), tmp_path / "x", shards=shards)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({}, ValueError, "at least one array"),
        ({"x": np.array([["a"]])}, TypeError, "'x'.*numbers"),
        ({"x": np.ones([2, 0])}, ValueError, r"'x' must have values.*\(2, 0\)"),
        ({"x": np.array([2**63], np.uint64)}, ValueError, "fit int64.*9223372036854"),
        ({"x": np.array([[1.0, np.nan]])}, ValueError, "'x'.*row 0 with NaN in 1 of 2"),
        ({"x": np.ones(2), "y": np.ones(3)}, ValueError, "number of rows"),
    ],
)
def test_data_that_cannot_be_written_are_refused(tmp_path, data, error, message):
    with pytest.raises(error, match=message):
        write_tfrecords(data, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
