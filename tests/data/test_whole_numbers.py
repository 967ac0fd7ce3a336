"""Checks of counts and seeds in data functions; different seeds differ."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_mopoe.checks import whole_number
from tf_mopoe.data import (
    drop_at_random,
    drop_depending_on,
    encode_text,
    from_image_folders,
    load_polydigits,
    ordered_batches,
    shuffled_batches,
    write_tfrecords,
)
from tf_mopoe.data.checks import checked_seed, stateless_base
from tf_mopoe.data.polydigits import backgrounds
from tf_mopoe.subsets import SubsetSampler, membership_mask, subset_indices

N = 64
ROWS = {"a": np.arange(2.0 * N).reshape(N, 2), "b": np.ones([N, 3])}
DATASET = tf.data.Dataset.from_tensor_slices(ROWS)
MAX_SEED = 2**63 - 1
#: Argument, its smallest value, a call; for each function that takes one.
NUMBERS = [
    ("batch_size", 1, lambda n: shuffled_batches(ROWS, n, seed=0)),
    ("batch_size", 1, lambda n: shuffled_batches(DATASET, n, seed=0)),
    ("batch_size", 1, lambda n: ordered_batches(ROWS, n)),
    ("first_epoch", 0, lambda n: shuffled_batches(ROWS, 2, seed=0, first_epoch=n)),
    ("first_step", 0, lambda n: shuffled_batches(ROWS, 2, seed=0, first_step=n)),
    (
        "shuffle_buffer",
        1,
        lambda n: shuffled_batches(DATASET, 2, seed=0, shuffle_buffer=n),
    ),
    ("shards", 1, lambda n: write_tfrecords(ROWS, "/nowhere/x", shards=n)),
    ("pairings", 1, lambda n: load_polydigits("test", pairings=n)),
    ("size", 28, lambda n: backgrounds(0, n)),
    ("length", 1, lambda n: encode_text(["a"], n)),
    ("num_modalities", 1, lambda n: subset_indices(n)),
    ("num_modalities", 1, lambda n: membership_mask(n)),
    ("num_subsets", 3, lambda n: SubsetSampler(n, [[0], [1]])),
    ("image_size", None, lambda n: from_image_folders({"a": "/nowhere"}, (n, 2))),
    ("channels", None, lambda n: from_image_folders({"a": "/"}, (2, 2), channels=n)),
]
SEEDED = {
    "shuffled_batches": lambda s: shuffled_batches(ROWS, N, seed=s),
    "shuffled_batches of a dataset": lambda s: shuffled_batches(DATASET, N, seed=s),
    "drop_at_random": lambda s: drop_at_random(ROWS, 0.5, seed=s),
    "drop_at_random of a dataset": lambda s: drop_at_random(DATASET, 0.5, seed=s),
    "drop_depending_on": lambda s: drop_depending_on(ROWS, "b", "a", 0.5, seed=s),
}


def numbers_of(name, seed):
    """Numbers that a seed determines, as bytes."""
    made = SEEDED[name](seed)
    if isinstance(made, dict):
        return made["present"]["b"].tobytes()
    if name.startswith("drop"):
        return b"".join(row["present"]["b"] for row in made.as_numpy_iterator())
    return next(made.as_numpy_iterator())["a"].tobytes()


@pytest.mark.parametrize(("name", "minimum", "call"), NUMBERS)
def test_whole_numbers_are_checked_by_one_rule(name, minimum, call):
    message = f"`{name}` must be "
    if minimum is not None:
        message += f"a whole number from {minimum}"
    for wrong in (True, np.True_, 30.0, "30", None):
        with pytest.raises(TypeError, match=message):
            call(wrong)
    with pytest.raises(ValueError, match=message):
        call(0 if minimum is None else minimum - 1)


@pytest.mark.parametrize("name", [*SEEDED, "load_polydigits", "backgrounds"])
def test_seeds_are_whole_numbers_that_fit_int64(name):
    more = {
        "load_polydigits": lambda s: load_polydigits("test", seed=s),
        "backgrounds": backgrounds,
    }
    call = {**SEEDED, **more}[name]
    message = f"`seed` must be a whole number from 0 to {MAX_SEED}"
    for wrong in (True, np.True_, 1.0, "1", None):
        with pytest.raises(TypeError, match=message):
            call(wrong)
    for wrong in (-1, 2**63, 2**70):
        with pytest.raises(ValueError, match=message):
            call(wrong)


@pytest.mark.integration
@pytest.mark.parametrize("name", SEEDED)
def test_no_two_of_many_seeds_give_the_same_numbers(name):
    seeds = [0, 1, 2**31 - 1, 2**31, 2**32, MAX_SEED]
    numbers = {seed: numbers_of(name, seed) for seed in seeds}
    assert len({*numbers.values()}) == len(seeds)
    assert numbers_of(name, np.int64(1)) == numbers[1]


def test_neighbouring_seeds_drop_independently():
    many = {"a": np.ones([4000, 1]), "b": np.ones([4000, 1])}
    dropped = [
        drop_at_random(rows, 0.5, seed=seed, keep_one=False)
        for seed in (0, 1)
        for rows in (many,)
    ]
    first, second = (made["present"]["a"] for made in dropped)
    # 4000 rows: standard error 0.016 of a correlation.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, MAX_SEED), min_size=2, max_size=2, unique=True))
def test_bases_of_tensorflow_differ_as_seeds_do(seeds):
    first, second = (stateless_base(checked_seed(s)).numpy().tolist() for s in seeds)
    assert first != second


@given(st.integers(-(2**70), 2**70))
def test_every_whole_number_in_range_is_itself(value):
    if value < 0:
        with pytest.raises(ValueError, match="`n` must be a whole number from 0"):
            whole_number("n", value)
        return
    assert whole_number("n", value) == value
    with pytest.raises(ValueError, match=f"from 0 to {value}. Received: {value + 1}"):
        whole_number("n", value + 1, maximum=value)
