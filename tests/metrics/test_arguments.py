"""Arguments that every metric refuses: marks of missing values, invalid numbers."""

import keras
import numpy as np
import pytest
from scipy import sparse

from tests.tiny_models import SIZES, tiny_batch, tiny_model
from tf_mopoe import metrics

ROWS = 12
CLASSES = np.arange(ROWS) % 2
FLAGS = CLASSES[:, np.newaxis] > 0
MASKED = np.ma.array(np.ones([ROWS, 3], np.float32), mask=np.eye(ROWS, 3, dtype=bool))


def classifier(size, outputs=2):
    return keras.Sequential([keras.Input((size,)), keras.layers.Dense(outputs)])


@pytest.fixture(scope="module")
def kit():
    model = tiny_model("ab", options={"a": {"style_dim": 1}})
    by_name = {name: classifier(SIZES[name]) for name in "ab"}
    single = {name: classifier(SIZES[name], 1) for name in "ab"}
    return model, by_name, single, tiny_batch("ab", rows=ROWS)


def one(data):
    return {name: value[:1] for name, value in data.items()}


#: Name of a metric to calls of (kit, x), x in the place of each of its arrays.
CALLS = {
    "aggregate_posterior_samples": [
        lambda k, x: metrics.aggregate_posterior_samples(k[0], {**k[3], "a": x})
    ],
    "attribute_coherence": [
        lambda k, x: metrics.attribute_coherence(k[0], {**k[3], "a": x}, FLAGS, k[2]),
        lambda k, x: metrics.attribute_coherence(k[0], k[3], x, k[2]),
    ],
    "average_precision": [
        lambda k, x: metrics.average_precision(k[2]["a"], x, FLAGS),
        lambda k, x: metrics.average_precision(k[2]["a"], k[3]["a"], x),
    ],
    "classifier_accuracy": [
        lambda k, x: metrics.classifier_accuracy(k[1]["a"], x, CLASSES),
        lambda k, x: metrics.classifier_accuracy(k[1]["a"], k[3]["a"], x),
    ],
    "classifier_inputs": [lambda k, x: metrics.classifier_inputs(x)],
    "conditional_coherence": [
        lambda k, x: metrics.conditional_coherence(
            k[0], {**k[3], "a": x}, CLASSES, k[1]
        ),
        lambda k, x: metrics.conditional_coherence(k[0], k[3], x, k[1]),
    ],
    "fit_flow": [lambda k, x: metrics.fit_flow(x)],
    "fit_gaussian_mixture": [lambda k, x: metrics.fit_gaussian_mixture(x)],
    "frechet_distance": [
        lambda k, x: metrics.frechet_distance(x, k[3]["a"]),
        lambda k, x: metrics.frechet_distance(k[3]["a"], x),
    ],
    "imputation_error": [
        lambda k, x: metrics.imputation_error(k[0], {**k[3], "a": x}, k[3]),
        lambda k, x: metrics.imputation_error(k[0], k[3], {**k[3], "a": x}),
        lambda k, x: metrics.imputation_error(
            k[0], {**k[3], "present": {"a": x}}, k[3]
        ),
    ],
    "interval_coverage": [
        lambda k, x: metrics.interval_coverage(k[0], {**k[3], "a": x}),
        lambda k, x: metrics.interval_coverage(k[0], {**k[3], "present": {"a": x}}),
    ],
    "joint_coherence": [lambda k, x: metrics.joint_coherence(*k[:2], latents=x)],
    "latent_traversal": [
        lambda k, x: metrics.latent_traversal(k[0], one(k[3]), values=x),
        lambda k, x: metrics.latent_traversal(k[0], {**k[3], "a": x}),
    ],
    "linear_probe": [
        lambda k, x: metrics.linear_probe(
            k[0], ({**k[3], "a": x}, CLASSES), (k[3], CLASSES)
        ),
        lambda k, x: metrics.linear_probe(k[0], (k[3], x), (k[3], CLASSES)),
        lambda k, x: metrics.linear_probe(k[0], (k[3], CLASSES), (k[3], x)),
    ],
    "precision_recall_distribution": [
        lambda k, x: metrics.precision_recall_distribution(x, k[3]["a"]),
        lambda k, x: metrics.precision_recall_distribution(k[3]["a"], x),
    ],
    "precision_share": [lambda k, x: metrics.precision_share(k[0], {**k[3], "a": x})],
    "sample_quality": [
        lambda k, x: metrics.sample_quality(k[0], {**k[3], "a": x}, k[1]),
        lambda k, x: metrics.sample_quality(k[0], k[3], k[1], latents=x),
    ],
    "swap_styles": [
        lambda k, x: metrics.swap_styles(k[0], {**k[3], "a": x}, k[3]),
        lambda k, x: metrics.swap_styles(k[0], k[3], {**k[3], "a": x}),
    ],
    "train_classifier": [
        lambda k, x: metrics.train_classifier(x, CLASSES, num_classes=2),
        lambda k, x: metrics.train_classifier(k[3]["a"], x, num_classes=2),
    ],
}
#: Classes, and functions of networks, curves and tables of results.
WITHOUT_ARRAYS = {
    "PrecisionRecall",
    "PrecisionShare",
    "Traversal",
    "classifier_features",
    "default_classifier",
    "inception_features",
    "max_f_beta",
    "mean_by_number_given",
}


def test_every_metric_is_listed():
    assert set(metrics.__all__) == {*CALLS, *WITHOUT_ARRAYS}


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, id=f"{name}-{place}")
        for name, calls in CALLS.items()
        for place, call in enumerate(calls)
    ],
)
def test_masked_sparse_and_object_arrays_are_refused(call, kit):
    with pytest.raises(ValueError, match="has masked values"):
        call(kit, MASKED)
    with pytest.raises(TypeError, match=r"must be a dense array.*`\.toarray\(\)`"):
        call(kit, sparse.csr_matrix(np.ones([ROWS, 3])))
    with pytest.raises(TypeError, match="must be an array of one type"):
        call(kit, np.full([ROWS, 3], None))


@pytest.mark.parametrize(
    "name",
    ["attribute_coherence", "conditional_coherence", "linear_probe", "imputation_error"]
    + ["average_precision", "classifier_accuracy", "train_classifier"],
)
def test_nan_that_no_flag_marks_is_refused_as_incomplete_data(name, kit):
    x = kit[3]["a"].copy()
    x[3] = np.nan
    with pytest.raises(ValueError, match="complete|mark_missing"):
        CALLS[name][0](kit, x)


@pytest.mark.parametrize("argument", ["train", "test"])
def test_imputation_counts_rows_and_flags_of_both_sets(argument, kit):
    model, _, _, data = kit
    sets = {"train": data, "test": data}

    def error_of(changed):
        return metrics.imputation_error(model, **{**sets, argument: changed})

    with pytest.raises(ValueError, match="same number of rows"):
        error_of({**data, "a": data["a"][:-1]})
    with pytest.raises(ValueError, match="same number of rows"):
        error_of({**data, "present": {"a": np.ones(ROWS - 1, bool)}})
    with pytest.raises(TypeError, match="must be bool"):
        error_of({**data, "present": {"a": np.ones(ROWS)}})


def test_labels_and_values_have_the_same_number_of_rows(kit):
    short = CLASSES[:-1]
    _, classifiers, _, data = kit
    for call in (
        lambda: metrics.classifier_accuracy(classifiers["a"], data["a"], short),
        lambda: metrics.train_classifier(data["a"], short, num_classes=2),
        lambda: metrics.linear_probe(kit[0], (data, short), (data, CLASSES)),
        lambda: metrics.conditional_coherence(kit[0], data, short, classifiers),
    ):
        with pytest.raises(
            ValueError, match="entry for each of the 12 rows. Received: 11"
        ):
            call()


def test_a_probe_of_one_class_is_refused(kit):
    train = (kit[3], np.sort(CLASSES))
    with pytest.raises(ValueError, match="at least two classes.*only 0 in the first 4"):
        metrics.linear_probe(kit[0], train, train, num_train=4)


#: Whole numbers: name of the argument to a call with it and its smallest value.
NUMBERS = {
    "num_components": (
        1,
        lambda k, n: metrics.fit_gaussian_mixture(Z, num_components=n),
    ),
    "num_layers": (1, lambda k, n: metrics.fit_flow(Z, num_layers=n)),
    "hidden": (1, lambda k, n: metrics.fit_flow(Z, hidden=(n,))),
    "epochs": (1, lambda k, n: metrics.fit_flow(Z, epochs=n)),
    "num_classes": (
        2,
        lambda k, n: metrics.train_classifier(Z, CLASSES, num_classes=n),
    ),
    "num_outputs": (1, lambda k, n: metrics.default_classifier((3,), n)),
    "num_clusters": (
        1,
        lambda k, n: metrics.precision_recall_distribution(Z, Z, num_clusters=n),
    ),
    "num_angles": (
        1,
        lambda k, n: metrics.precision_recall_distribution(Z, Z, num_angles=n),
    ),
    "num_runs": (
        1,
        lambda k, n: metrics.precision_recall_distribution(Z, Z, num_runs=n),
    ),
    "num_samples": (
        2,
        lambda k, n: metrics.sample_quality(k[0], k[3], k[1], num_samples=n),
    ),
    "num_train": (
        1,
        lambda k, n: metrics.imputation_error(k[0], k[3], k[3], num_train=n),
    ),
    "max_rows": (1, lambda k, n: metrics.interval_coverage(k[0], k[3], max_rows=n)),
    "dimensions": (
        0,
        lambda k, n: metrics.latent_traversal(k[0], one(k[3]), dimensions=[n]),
    ),
    "num_dimensions": (
        1,
        lambda k, n: metrics.latent_traversal(k[0], one(k[3]), num_dimensions=n),
    ),
    "batch_size": (1, lambda k, n: metrics.precision_share(k[0], k[3], batch_size=n)),
}
SEEDED = {
    "aggregate_posterior_samples": lambda k, s: metrics.aggregate_posterior_samples(
        k[0], k[3], seed=s
    ),
    "fit_gaussian_mixture": lambda k, s: metrics.fit_gaussian_mixture(Z, seed=s),
    "fit_flow": lambda k, s: metrics.fit_flow(Z, seed=s),
    "conditional_coherence": lambda k, s: metrics.conditional_coherence(
        k[0], k[3], CLASSES, k[1], seed=s
    ),
    "joint_coherence": lambda k, s: metrics.joint_coherence(*k[:2], seed=s),
    "interval_coverage": lambda k, s: metrics.interval_coverage(k[0], k[3], seed=s),
    "precision_recall_distribution": lambda k, s: metrics.precision_recall_distribution(
        Z, Z, seed=s
    ),
    "sample_quality": lambda k, s: metrics.sample_quality(k[0], k[3], k[1], seed=s),
    "default_classifier": lambda k, s: metrics.default_classifier((3,), 2, seed=s),
    "train_classifier": lambda k, s: metrics.train_classifier(
        Z, CLASSES, num_classes=2, seed=s
    ),
}
Z = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)


@pytest.mark.parametrize("name", NUMBERS)
def test_whole_numbers_are_checked_by_one_rule(name, kit):
    minimum, call = NUMBERS[name]
    message = f"`{name}` must be a whole number from {minimum}"
    for wrong in (True, np.True_, float(minimum + 1), "2"):
        with pytest.raises(TypeError, match=message):
            call(kit, wrong)
    with pytest.raises(ValueError, match=message):
        call(kit, minimum - 1)


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_are_from_0_to_the_largest_int32(name, kit):
    message = "`seed` must be a whole number from 0 to 2147483647"
    for wrong in (True, 1.0, "1"):
        with pytest.raises(TypeError, match=message):
            SEEDED[name](kit, wrong)
    for wrong in (-1, 2**31, 2**32):
        with pytest.raises(ValueError, match=message):
            SEEDED[name](kit, wrong)


@pytest.mark.integration
def test_draws_of_one_seed_are_not_those_of_a_later_batch_of_another(monkeypatch, kit):
    from tf_mopoe.distributions import noise

    used = []
    normal = noise.standard_normal

    def record(shape, seed, dtype):
        used.append(tuple(np.asarray(seed).tolist()))
        return normal(shape, seed, dtype)

    monkeypatch.setattr(noise, "standard_normal", record)
    for seed in range(2):
        options = {"num_samples": 3, "levels": [0.5], "batch_size": 3, "seed": seed}
        metrics.interval_coverage(kit[0], kit[3], **options)
    assert len(used) == len(set(used)) > 2 * 4
