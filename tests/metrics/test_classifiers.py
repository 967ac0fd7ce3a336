"""Classifiers: their inputs, what they learn, and their seeds."""

import random

import keras
import numpy as np
import pytest

from tf_mopoe.metrics.attribute_coherence import average_precision
from tf_mopoe.metrics.attribute_scores import average_precision_of_scores
from tf_mopoe.metrics.classifiers import (
    classifier_accuracy,
    classifier_features,
    classifier_inputs,
    classifier_logits,
    default_classifier,
    train_classifier,
)

SYMBOLS = 6


def made_images(rows, seed=0):
    """uint8 8 x 8 images; the class is the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=rows)
    images = rng.integers(60, size=(rows, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[top : top + 4, left : left + 4] += 150
    return images, labels


def made_texts(rows, seed=0):
    """5 symbols; attribute k is that symbol k is somewhere."""
    texts = np.random.default_rng(seed).integers(SYMBOLS, size=(rows, 5))
    flags = np.stack([(texts == k).any(axis=1) for k in range(2)], axis=1)
    return texts, flags


@pytest.fixture(scope="module")
def image_classifier():
    images, labels = made_images(400)
    return train_classifier(images, labels, num_classes=4, seed=1)


@pytest.fixture(scope="module")
def text_classifier():
    texts, flags = made_texts(400)
    small = texts.astype(np.uint8)  # no image
    return train_classifier(small, flags, num_symbols=SYMBOLS, epochs=12)


def test_classifiers_see_data_and_decoded_means_alike():
    pixels = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(classifier_inputs(pixels), [[0.0, 0.2, 1.0]], rtol=1e-6)
    means = np.array([[-0.5, 1.5]], np.float32)
    np.testing.assert_array_equal(classifier_inputs(means), means)
    assert classifier_inputs(np.array([[True, False]])).dtype == "float32"
    expected = np.eye(3)[[[2, 0]]]
    for indices in (np.int64([[2, 0]]), np.uint8([[2, 0]])):
        seen = classifier_inputs(indices, num_symbols=3)
        np.testing.assert_array_equal(seen, expected)
    probabilities = np.array([[[0.3, 0.3, 0.4], [0.5, 0.1, 0.4]]], np.float32)
    seen = classifier_inputs(probabilities, num_symbols=3)
    np.testing.assert_array_equal(seen, expected)
    with pytest.raises(ValueError, match="integer dtype"):
        classifier_inputs(np.float32([[2, 0]]), num_symbols=3)


@pytest.mark.parametrize(
    ("shape", "symbols", "inputs"),
    [
        ((28, 28, 3), None, (28, 28, 3)),
        ((64, 48, 1), None, (64, 48, 1)),
        ((3, 3, 1), None, (3, 3, 1)),
        ((8,), 71, (8, 71)),
        ((1,), 3, (1, 3)),
        ((7,), None, (7,)),
    ],
)
def test_there_is_a_network_for_every_shape(shape, symbols, inputs):
    network = default_classifier(shape, 5, num_symbols=symbols)
    x = np.zeros([2, *inputs], "float32")
    assert network(x).shape == (2, 5)
    features = classifier_features(network)(x).shape
    assert features[0] == 2
    assert features[1] <= 2048


@pytest.mark.parametrize(("shape", "symbols"), [((4, 5), None), ((4, 4, 1), 3)])
def test_a_shape_without_a_network_is_refused(shape, symbols):
    with pytest.raises(ValueError, match="classifier of your own"):
        default_classifier(shape, 2, num_symbols=symbols)


@pytest.mark.integration
def test_classes_of_images_are_learnt(image_classifier):
    images, labels = made_images(200, seed=1)
    assert classifier_accuracy(image_classifier, images, labels) > 0.97
    assert classifier_accuracy(image_classifier, images / 255.0, labels) > 0.97
    by_hand = np.argmax(image_classifier.predict(images / 255.0, verbose=0), axis=1)
    wrong = (labels + (np.arange(200) < 50)) % 4
    accuracy = classifier_accuracy(image_classifier, images, wrong)
    assert accuracy == pytest.approx(np.mean(by_hand == wrong))


@pytest.mark.integration
def test_attributes_of_texts_are_learnt(text_classifier):
    texts, flags = made_texts(300, seed=1)
    precision = average_precision(text_classifier, texts.astype(np.uint8), flags)
    assert precision.shape == (2,)
    assert precision.min() > 0.9 > flags.mean() + 0.2
    # Trained anew with flags of other rows it would know nothing.
    shuffled = np.random.default_rng(0).permutation(flags)
    assert average_precision(text_classifier, texts, shuffled).max() < 0.75


def test_average_precision_is_that_of_numpy_and_nan_where_it_is_not_defined():
    rng = np.random.default_rng(0)
    scores, flags = rng.normal(size=(40, 4)), rng.random((40, 4)) < 0.3
    flags[:, 1], flags[:, 3] = False, True
    expected = np.full(4, np.nan)
    for k in (0, 2):
        ranked = flags[np.argsort(-scores[:, k]), k]
        expected[k] = (np.cumsum(ranked) / np.arange(1, 41))[ranked].mean()
    actual = average_precision_of_scores(scores, flags)
    np.testing.assert_allclose(actual, expected)
    with pytest.raises(ValueError, match="one output for each attribute"):
        average_precision_of_scores(scores[:, :3], flags)


@pytest.mark.integration
def test_features_are_what_the_last_layer_weighs_without_dropout(image_classifier):
    x = made_images(20)[0] / 255.0
    features = classifier_features(image_classifier)
    kernel, bias = image_classifier.layers[-1].get_weights()
    for training in (None, True):
        actual = np.asarray(features(x, training=training))
        np.testing.assert_allclose(
            actual @ kernel + bias, classifier_logits(image_classifier, x), atol=1e-4
        )
    with pytest.raises(ValueError, match="before its last"):
        classifier_features(
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        )


@pytest.mark.integration
def test_a_seed_gives_one_classifier_and_leaves_other_random_numbers_alone():
    rng = np.random.default_rng(0)
    x, flags = rng.normal(size=(30, 3)).astype("float32"), rng.random((30, 2)) < 0.5
    lengths = []

    def progress(batches):
        lengths.append(len(batches))
        for batch in batches:
            lengths.append(len(batch["y"]))
            yield batch

    def draws():
        return [random.random(), np.random.rand(), float(keras.random.uniform([]))]

    trained = []
    for before in (5, 6):
        keras.utils.set_random_seed(before)
        expected = draws()
        keras.utils.set_random_seed(before)
        trained.append(train_classifier(x, flags, epochs=2, seed=3, progress=progress))
        assert draws() == expected
    for one, other in zip(*(each.get_weights() for each in trained), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)  # threads reorder sums
    # Few rows: small batches, every one of which `progress` has seen.
    assert lengths == 2 * [20, *[3] * 20]


def test_the_seed_covers_every_layer_and_none_uses_the_global_seed():
    def weights(seed):
        network = default_classifier((8, 8, 1), 2, seed=seed)
        return [w for w in network.get_weights() if w.ndim > 1]

    first, again, other = weights(1), weights(1), weights(2)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.any(a == c)
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        drawn.append(weights(None)[0])
    np.testing.assert_array_equal(*drawn)


def test_wrong_labels_are_refused():
    images, labels = made_images(10)
    for wrong, classes, message in (
        (labels, 3, "from 0 to 2"),
        (labels - 1, 4, "from 0 to 3"),
        (labels.astype(float), 4, r"int \[N\]"),
        (labels, None, r"bool \[N, A\]"),
        (labels[:, np.newaxis], None, "astype"),
        (labels[:, np.newaxis] > 1, 4, "leave out `num_classes`"),
        (labels[:-1], 4, "entry for each of the 10 rows. Received: 9"),
    ):
        with pytest.raises(ValueError, match=message):
            train_classifier(images, wrong, num_classes=classes)
