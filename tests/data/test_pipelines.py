"""Pipelines: order, seeds, resumption, augmentation, replicas, errors."""

import collections
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mopoe.data import num_rows, ordered_batches, shuffled_batches

ROOT = pathlib.Path(__file__).parents[2]
ROWS = 20


def arrays():
    return {
        "id": np.arange(ROWS),
        "image": np.arange(ROWS, dtype=np.uint8).reshape(ROWS, 1, 1, 1),
        "present": {"image": np.arange(ROWS) % 3 > 0},
    }


def rows():
    return tf.data.Dataset.from_tensor_slices(arrays())


@pytest.fixture(params=[arrays, rows], ids=["arrays", "dataset"])
def source(request):
    return request.param()


def take(batches, count):
    return list(batches.take(count).as_numpy_iterator())


def ids(batches, count):
    return [tuple(batch["id"].tolist()) for batch in take(batches, count)]


def test_each_epoch_has_every_row_once_in_a_different_order(source):
    actual = ids(shuffled_batches(source, 5, seed=0), 12)
    epochs = [sum(actual[first : first + 4], ()) for first in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({*epochs, tuple(range(ROWS))}) == 4


def test_order_depends_on_seed_and_epoch_alone(source):
    actual = ids(shuffled_batches(source, 5, seed=3), 12)
    assert ids(shuffled_batches(source, 5, seed=3), 12) == actual
    assert ids(shuffled_batches(source, 5, seed=3, first_epoch=2), 4) == actual[8:]
    assert ids(shuffled_batches(source, 5, seed=4), 12) != actual


@pytest.mark.integration
@pytest.mark.parametrize("first_step", [1, 3])
def test_batches_from_first_step_equal_those_of_an_uninterrupted_run(
    source, first_step
):
    def seen(**first):
        batches = shuffled_batches(source, 6, seed=3, augment=with_noise, **first)
        return [
            (tuple(batch["id"]), tuple(batch["noise"].ravel()))
            for batch in take(batches, 6)
        ]

    whole = seen(first_epoch=1) + seen(first_epoch=3)  # 3 steps an epoch
    actual = seen(first_epoch=1, first_step=first_step)
    assert actual == whole[first_step : first_step + 6]
    assert len(set(whole)) == 12


def test_global_seeds_change_nothing(source):
    actual = []
    for seed in (0, 1, None):
        tf.random.set_seed(seed)
        actual.append(ids(shuffled_batches(source, 5, seed=3), 8))
    assert actual[0] == actual[1] == actual[2]


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 2])
def test_large_seeds_differ(seed):
    other = ids(shuffled_batches(rows(), 5, seed=seed + 1), 4)
    assert ids(shuffled_batches(rows(), 5, seed=seed), 4) != other


def test_rows_that_fill_no_batch_are_left_out_of_the_epoch(source):
    actual = ids(shuffled_batches(source, 8, seed=0), 6)
    assert all(len(batch) == 8 for batch in actual)
    for epoch in (actual[:2], actual[2:4], actual[4:]):
        assert len(set(sum(epoch, ()))) == 16


def test_values_and_flags_stay_with_their_row_and_images_are_in_0_to_1(source):
    for batch in take(shuffled_batches(source, 5, seed=0), 4):
        assert batch["image"].dtype == np.float32
        np.testing.assert_allclose(batch["image"].ravel() * 255, batch["id"], rtol=1e-6)
        np.testing.assert_array_equal(batch["present"]["image"], batch["id"] % 3 > 0)


def test_ordered_batches_hold_all_rows_in_order(source):
    batches = list(ordered_batches(source, 8).as_numpy_iterator())
    assert [len(batch["id"]) for batch in batches] == [8, 8, 4]
    actual = np.concatenate([batch["id"] for batch in batches])
    np.testing.assert_array_equal(actual, np.arange(ROWS))
    np.testing.assert_array_equal(batches[0]["present"]["image"], actual[:8] % 3 > 0)


def test_a_small_buffer_shuffles_within_itself():
    actual = sum(ids(shuffled_batches(rows(), 5, seed=0, shuffle_buffer=3), 4), ())
    # The k-th row drawn is among the first k + 3.
    assert all(row < place + 3 for place, row in enumerate(actual))
    assert actual != tuple(range(ROWS))


def test_a_cached_dataset_is_read_once():
    reads = []

    def read(index):
        reads.append(int(index))
        return np.int64(index)

    cached = (
        tf.data.Dataset.range(ROWS)
        .map(lambda i: {"id": tf.numpy_function(read, [i], tf.int64)})
        .cache()
    )
    actual = ids(shuffled_batches(cached, 5, seed=0), 12)
    assert sorted(reads) == list(range(ROWS))
    assert collections.Counter(sum(actual, ())) == dict.fromkeys(range(ROWS), 3)


def with_noise(batch, seed):
    noise = tf.random.stateless_uniform(tf.shape(batch["image"]), seed)
    return {**batch, "noise": noise}


def test_augmentation_differs_between_batches_and_is_reproducible(source):
    def noise(first_epoch, count, seed=0):
        batches = shuffled_batches(
            source, 5, seed=seed, first_epoch=first_epoch, augment=with_noise
        )
        return [tuple(batch["noise"].ravel()) for batch in take(batches, count)]

    actual = noise(0, 12)
    assert len(set(actual)) == 12
    assert noise(0, 12) == actual
    assert noise(2, 4) == actual[8:]
    assert noise(0, 1, seed=1)[0] not in actual


def test_augmentation_sees_converted_images(source):
    def check(batch, seed):
        assert batch["image"].dtype == tf.float32
        return batch

    take(shuffled_batches(source, 5, seed=0, augment=check), 1)


# A separate process: logical devices must be set before TensorFlow starts.
TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from tf_mopoe.data import shuffled_batches

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
batches = shuffled_batches({"id": np.arange(20)}, 4, seed=0).take(6)
whole = [batch["id"].tolist() for batch in batches.as_numpy_iterator()]
for batch in strategy.experimental_distribute_dataset(batches):
    parts = strategy.experimental_local_results(batch["id"])
    assert [len(part) for part in parts] == [2, 2]
    assert np.concatenate(parts).tolist() == whole.pop(0)
assert not whole
"""


@pytest.mark.integration
def test_replicas_share_each_batch_between_them():
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], cwd=ROOT, check=True)


@pytest.mark.parametrize("make", [arrays, rows], ids=["arrays", "dataset"])
def test_workers_share_each_row_between_them(make):
    # What tf.distribute does on a worker, by TensorFlow's own rewriting.
    from tensorflow.python.data.experimental.ops import distribute

    batches = shuffled_batches(make(), 4, seed=0).take(10)
    actual = [
        [
            tuple(batch["id"].numpy())
            for batch in distribute._AutoShardDataset(batches, 2, worker)
        ]
        for worker in (0, 1)
    ]
    whole = ids(batches, 10)
    assert sorted(actual[0] + actual[1]) == sorted(whole)
    assert len(actual[0]) == len(actual[1]) == 5
    policy = batches.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


@pytest.mark.integration
def test_fit_takes_the_batches():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = shuffled_batches(
        {"x": np.ones([ROWS, 1]), "y": np.ones([ROWS])}, 5, seed=0
    )
    model.fit(
        batches.map(lambda batch: (batch["x"], batch["y"])),
        steps_per_epoch=4,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert int(model.optimizer.iterations) == 8


def test_unknown_number_of_rows_is_an_error_that_says_how_to_declare_it(source):
    assert num_rows(source) == ROWS
    with pytest.raises(ValueError, match="assert_cardinality"):
        num_rows(rows().filter(lambda row: row["id"] > 3))


def test_batches_larger_than_the_data_are_refused(source):
    with pytest.raises(ValueError, match="from 1 to the 20 rows. Received: 21"):
        shuffled_batches(source, 21, seed=0)


def test_a_dataset_of_unknown_cardinality_is_counted():
    unknown = rows().filter(lambda row: row["id"] < 7)
    assert len(ids(shuffled_batches(unknown, 7, seed=0), 1)[0]) == 7
    with pytest.raises(ValueError, match="from 1 to the 7 rows. Received: 8"):
        shuffled_batches(unknown, 8, seed=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"batch_size": 0},
            ValueError,
            "`batch_size` must be a whole number from 1. Received: 0",
        ),
        ({"batch_size": 2.5}, TypeError, "`batch_size` must be a whole number"),
        (
            {"seed": -1},
            ValueError,
            "`seed` must be a whole number from 0 to 9223372036854775807. Received: -1",
        ),
        (
            {"first_epoch": -1},
            ValueError,
            "`first_epoch` must be a whole number from 0",
        ),
        ({"first_step": -1}, ValueError, "`first_step` must be a whole number from 0"),
        (
            {"shuffle_buffer": 0},
            ValueError,
            "`shuffle_buffer` must be a whole number from 1",
        ),
    ],
)
def test_wrong_numbers_are_refused(source, arguments, error, message):
    with pytest.raises(error, match=message):
        shuffled_batches(source, **{"batch_size": 5, "seed": 0, **arguments})


def test_ordered_batches_have_at_least_one_row(source):
    with pytest.raises(ValueError, match="`batch_size` must be a whole number from 1"):
        ordered_batches(source, 0)


@pytest.mark.integration
def test_large_arrays_are_batched_correctly():
    data = np.random.default_rng(0).integers(256, size=(700, 64, 64, 8), dtype="uint8")
    whole = {"x": data, "id": np.arange(700)}  # 22 MiB, taken in parts
    for batch in take(shuffled_batches(whole, 100, seed=0), 7):
        np.testing.assert_allclose(batch["x"] * 255, data[batch["id"]], atol=1e-3)


def test_arrays_of_several_lengths_are_refused_by_name():
    data = {"a": np.ones(3), "present": {"a": np.ones(4, bool)}}
    for make in (lambda: shuffled_batches(data, 2, seed=0), lambda: num_rows(data)):
        with pytest.raises(ValueError, match=r"\{'a': 3, \"present\['a'\]\": 4\}"):
            make()
    with pytest.raises(ValueError, match="at least one array"):
        ordered_batches({}, 2)
