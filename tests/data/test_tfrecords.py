"""Reader of TFRecord files: round trips, patterns, errors, damaged files."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import tiny_modality, tiny_model
from tf_mopoe.data import tfrecords
from tf_mopoe.data.missing import mark_missing
from tf_mopoe.data.tfrecord_writer import write_tfrecords
from tf_mopoe.data.tfrecords import EncodedImage, from_tfrecords

FEATURES = {
    "photo": EncodedImage((4, 5, 3)),
    "grey": EncodedImage([3, 3, 1]),
    "table": tf.io.FixedLenFeature([2, 3], tf.float32),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
ROWS = 140  # more than are parsed at once


def holed_data(rows=ROWS):
    rng = np.random.default_rng(0)
    data = {
        "photo": rng.integers(0, 256, (rows, 4, 5, 3)).astype(np.uint8),
        "grey": rng.integers(0, 256, (rows, 3, 3, 1)).astype(np.uint8),
        "table": rng.normal(size=(rows, 2, 3)).astype(np.float32),
        "label": np.arange(rows),
    }
    present = {"photo": rng.random(rows) < 0.5, "label": rng.random(rows) < 0.5}
    data["table"][rng.random(rows) < 0.5] = np.nan
    present["photo"][0] = present["label"][0] = False
    data["table"][0] = np.nan
    return {**data, "present": present}


def all_rows(dataset):
    """The rows as arrays."""
    parts = list(dataset.batch(1000).as_numpy_iterator())
    return tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)


def write_examples(path, *examples):
    """Writes Examples, each a dictionary of name to bytes, floats or integers."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = {}
            for name, values in example.items():
                if isinstance(values[0], bytes):
                    kind = {"bytes_list": tf.train.BytesList(value=values)}
                elif isinstance(values[0], float):
                    kind = {"float_list": tf.train.FloatList(value=values)}
                else:
                    kind = {"int64_list": tf.train.Int64List(value=values)}
                features[name] = tf.train.Feature(**kind)
            features = tf.train.Features(feature=features)
            writer.write(tf.train.Example(features=features).SerializeToString())


@pytest.mark.parametrize(
    ("shards", "bytes_at_once"),
    [
        (7, 3000),
        pytest.param(1, 2**24, marks=pytest.mark.integration),
        pytest.param(2, 1, marks=pytest.mark.integration),
    ],
)
def test_written_rows_are_read_back_in_order(
    tmp_path, monkeypatch, shards, bytes_at_once
):
    monkeypatch.setattr(tfrecords, "_MAX_BYTES", bytes_at_once)
    data = holed_data()
    files = write_tfrecords(data, tmp_path / "x", shards=shards)
    rows = all_rows(from_tfrecords(f"{tmp_path}/x-*.tfrecord", FEATURES))
    expected = mark_missing(data)
    assert len(files) == shards
    assert set(rows) == {*FEATURES, "present"}
    assert set(rows["present"]) == set(FEATURES)
    for name in FEATURES:
        present = expected["present"].get(name, np.ones(ROWS, bool))
        row = present.reshape([-1] + [1] * (expected[name].ndim - 1))
        np.testing.assert_array_equal(rows["present"][name], present)
        assert rows[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(rows[name], np.where(row, expected[name], 0))


def test_shapes_and_dtypes_are_known_before_anything_is_read(tmp_path):
    write_tfrecords(holed_data(2), tmp_path / "x")
    spec = from_tfrecords(tmp_path / "x-00000-of-00001.tfrecord", FEATURES).element_spec
    assert spec == {
        "photo": tf.TensorSpec([4, 5, 3], tf.uint8),
        "grey": tf.TensorSpec([3, 3, 1], tf.uint8),
        "table": tf.TensorSpec([2, 3], tf.float32),
        "label": tf.TensorSpec([], tf.int64),
        "present": {name: tf.TensorSpec([], tf.bool) for name in FEATURES},
    }


def test_other_dtypes_become_float32_or_int64(tmp_path):
    read = {"float64": tf.float32, "float16": tf.float32}
    read |= dict.fromkeys(["bool", "uint8", "int32", "uint64"], tf.int64)
    data = {dtype: np.array([[0, 1], [1, 1], [1, 0]], dtype) for dtype in read}
    files = write_tfrecords(data, tmp_path / "x")
    features = {name: tf.io.FixedLenFeature([2], kind) for name, kind in read.items()}
    rows = all_rows(from_tfrecords(files, features))
    for name, kind in read.items():
        assert rows[name].dtype == kind.as_numpy_dtype
        np.testing.assert_array_equal(rows[name], data[name])


def test_files_may_be_paths_and_patterns_read_by_name_and_once(tmp_path):
    feature = {"x": tf.io.FixedLenFeature([], tf.int64)}
    for name, value in (("b", 1), ("a[1]", 0), ("c", 2)):
        write_tfrecords({"x": np.array([value])}, tmp_path / name)
    last = tmp_path / "c-00000-of-00001.tfrecord"
    given = [last, f"{tmp_path}/b*", f"{tmp_path}/a[[]*", str(last)]
    given.append(tmp_path / "a[1]-00000-of-00001.tfrecord")  # a path, no pattern
    rows = all_rows(from_tfrecords(given, feature))
    np.testing.assert_array_equal(rows["x"], [0, 1, 2])


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="matches no file: .*train-"):
        from_tfrecords(f"{tmp_path}/train-*", FEATURES)
    files = write_tfrecords(holed_data(2), tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="matches no file: .*/y"):
        from_tfrecords([*files, tmp_path / "y"], FEATURES)
    with pytest.raises(ValueError, match=r"the folder: .*\*\.tfrecord"):
        from_tfrecords(tmp_path, FEATURES)
    with pytest.raises(ValueError, match="at least one file"):
        from_tfrecords([], FEATURES)


@pytest.mark.parametrize("files", [None, 3, b"x", {"x": 1}, [None], ["x*", 3], [b"x"]])
def test_files_that_are_no_paths_are_refused(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tfrecords({"x": np.ones([1, 2])}, "x")
    with pytest.raises(TypeError, match="`files` must be a path or pattern, or a list"):
        from_tfrecords(files, FEATURES)


def test_dtypes_may_be_names_and_types(tmp_path):
    data = {"x": np.ones([1, 2]), "y": np.zeros([1, 2])}
    files = write_tfrecords(data, tmp_path / "x")
    dtypes = {"x": "float32", "y": float}
    features = {n: tf.io.FixedLenFeature([2], dtype) for n, dtype in dtypes.items()}
    rows = all_rows(from_tfrecords(files, features))
    for name, expected in data.items():
        np.testing.assert_array_equal(rows[name], expected)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (None, TypeError, "`features` must be a dictionary.*NoneType"),
        ({3: EncodedImage((1, 1, 1))}, TypeError, "modality name, a string. Rec.*: 3"),
        ({"x": EncodedImage("abc")}, ValueError, "positive sizes. Received: 'abc'"),
        ({"x": EncodedImage(5)}, ValueError, r"\(H, W, 1 or 3\). Received: 5"),
        ({"x": tf.io.FixedLenFeature([2], None)}, ValueError, "float32 or int64"),
        (["x"], TypeError, "`features` must be a dictionary.*list"),
        ({}, ValueError, "at least one modality"),
        ({"present": EncodedImage((1, 1, 1))}, ValueError, "key of the flags"),
        ({"x": tf.float32}, TypeError, r"features\['x'\]` must be a tf.io.FixedLen"),
        ({"x": EncodedImage((4, 4))}, ValueError, r"'x'.*\(H, W, 1 or 3\).*\(4, 4\)"),
        ({"x": EncodedImage((4, 4, 2))}, ValueError, r"'x'.*\(4, 4, 2\)"),
        ({"x": EncodedImage((4, None, 3))}, ValueError, "positive sizes.*None"),
        ({"x": tf.io.FixedLenFeature([0], tf.int64)}, ValueError, "positive sizes"),
        ({"x": tf.io.FixedLenFeature([], tf.string)}, ValueError, "'x'.*EncodedImage"),
        ({"x": tf.io.FixedLenFeature([], tf.int32)}, ValueError, "float32 or int64"),
        (
            {"x": tf.io.FixedLenFeature([], tf.int64, default_value=1)},
            ValueError,
            "without default_value",
        ),
    ],
)
def test_features_that_are_not_as_described_are_refused(
    tmp_path, features, error, message
):
    files = write_tfrecords({"x": np.ones([1, 2])}, tmp_path / "x")
    with pytest.raises(error, match=message):
        from_tfrecords(files, features)


PNG = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()


def assert_refused(folder, feature, values, message):
    """Reading a file with these values of "x" is an error with the message."""
    good = {} if isinstance(values[0], bytes) else {"y": [1]}
    write_examples(folder / "bad.tfrecord", good, {"x": values}, good)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"(?s){message}"):
        list(from_tfrecords(folder / "bad.tfrecord", {"x": feature}))


@pytest.mark.parametrize(
    ("feature", "values", "message"),
    [
        (
            tf.io.FixedLenFeature([2, 2], tf.float32),
            [1.0, 2.0, 3.0],
            r"'x.*must have 4 values of shape \(2, 2\).*bad.tfrecord.*3",
        ),
        (tf.io.FixedLenFeature([], tf.int64), [1, 2], r"'x.*must have 1 value.*bad.*2"),
        (tf.io.FixedLenFeature([1], tf.int64), [1.0], "Key: x.*int64.*float"),
        (EncodedImage((4, 4, 1)), [PNG], r"'x.*\(4, 4, 1\).*bad.tfrecord.*4 4 3"),
    ],
)
def test_features_of_another_length_or_type_are_errors_that_name_the_modality(
    tmp_path, feature, values, message
):
    assert_refused(tmp_path, feature, values, message)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        ((4, 4, 3), [1.0], "Key: x.*string.*float"),
        ((4, 4, 3), [PNG, PNG], "'x.*must have 1 value"),
        ((3, 4, 3), [PNG], r"'x.*\(3, 4, 3\).*bad.tfrecord.*4 4 3"),
        ((4, 4, 3), [PNG[:-30]], "modality_x"),
        ((4, 4, 3), [b"hello"], "modality_x"),
    ],
)
def test_images_of_another_shape_or_damaged_are_errors_that_name_the_modality(
    tmp_path, shape, values, message
):
    assert_refused(tmp_path, EncodedImage(shape), values, message)


def test_jpeg_bytes_are_images_too(tmp_path):
    image = np.full([8, 8, 3], 120, np.uint8)
    jpeg = tf.io.encode_jpeg(image).numpy()
    write_examples(tmp_path / "x", {"x": [jpeg]})
    rows = all_rows(from_tfrecords(tmp_path / "x", {"x": EncodedImage((8, 8, 3))}))
    np.testing.assert_allclose(rows["x"][0], image, atol=2)


def cut_in_a_record(content):
    return content[:-7]


def cut_in_the_first_record(content):
    return content[:5]


def turn_a_bit(content):
    return content[:60] + bytes([content[60] ^ 1]) + content[61:]


@pytest.mark.parametrize(
    "damage", [cut_in_a_record, cut_in_the_first_record, turn_a_bit]
)
def test_a_damaged_file_is_named(tmp_path, damage):
    files = write_tfrecords({"x": np.arange(600)}, tmp_path / "x", shards=3)
    with open(files[1], "rb") as file:
        content = file.read()
    with open(files[1], "wb") as file:
        file.write(damage(content))
    rows = from_tfrecords(files, {"x": tf.io.FixedLenFeature([], tf.int64)})
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="(?s)truncated, damaged.*00001-of"
    ):
        list(rows)


def test_a_file_without_records_is_fine(tmp_path):
    (tmp_path / "x-0").write_bytes(b"")
    write_examples(tmp_path / "x-1", {"x": [5]})
    feature = {"x": tf.io.FixedLenFeature([], tf.int64)}
    rows = all_rows(from_tfrecords(tmp_path / "x-*", feature))
    np.testing.assert_array_equal(rows["x"], [5])


def test_a_deleted_file_is_an_error_not_an_endless_loop(tmp_path):
    (file,) = write_tfrecords({"x": np.arange(3)}, tmp_path / "x")
    rows = from_tfrecords(file, {"x": tf.io.FixedLenFeature([], tf.int64)})
    tf.io.gfile.remove(file)
    with pytest.raises(tf.errors.NotFoundError, match="x-00000-of-00001"):
        list(rows)


@pytest.mark.integration
def test_a_model_trains_on_records_with_missing_modalities(tmp_path):
    data = mark_missing(holed_data(8))
    files = write_tfrecords(data, tmp_path / "x", shards=2)
    features = {name: FEATURES[name] for name in ("grey", "table")}
    batches = from_tfrecords(files, features).batch(4)
    batches = batches.map(lambda x: {**x, "grey": tf.cast(x["grey"], tf.float32) / 255})
    model = tiny_model(
        [tiny_modality("grey", (3, 3, 1)), tiny_modality("table", (2, 3))]
    )
    model.compile("adam")
    before = model.get_weights()
    history = model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any((x != y).any() for x, y in zip(before, model.get_weights()))


def test_misspelt_features_are_refused_with_the_name_meant(tmp_path):
    write_examples(tmp_path / "x", {"table": [5], "other": [1]})
    number = tf.io.FixedLenFeature([], tf.int64)
    with pytest.raises(ValueError, match="has 'tabel'.*Did you mean 'table'"):
        from_tfrecords(tmp_path / "x", {"tabel": number, "other": number})
    with pytest.raises(
        ValueError, match="has 'image', which none of the first 1000 rows has"
    ):
        from_tfrecords(tmp_path / "x", {"image": number})
    rows = all_rows(from_tfrecords(tmp_path / "x", {"rare": number, "other": number}))
    np.testing.assert_array_equal(rows["present"]["rare"], [False])


def test_only_empty_files_are_refused(tmp_path):
    (tmp_path / "x-0").write_bytes(b"")
    number = tf.io.FixedLenFeature([], tf.int64)
    with pytest.raises(ValueError, match="must hold records.*x-0"):
        from_tfrecords(tmp_path / "x-*", {"x": number})
