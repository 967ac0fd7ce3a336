"""Models and classifiers for tests of coherence, and their outputs by NumPy."""

import functools

import keras
import numpy as np

from tests.tiny_models import LATENT_DIM, tiny_model

NAMES = ("a", "b", "c")
STYLE = 2  # size of the style of "b"


def random_model(names=NAMES):
    """Smooth networks; z decides much of what they decode. "b" has a style."""
    model = tiny_model(names, options={"b": {"style_dim": STYLE}})
    for expert, decoder in zip(
        model.networks.experts.values(), model.networks.decoders.values(), strict=True
    ):
        expert.loc.set_weights([4 * expert.loc.get_weights()[0], np.zeros(LATENT_DIM)])
        kernel, bias, *last = decoder.get_weights()
        decoder.set_weights([3 * kernel, bias, last[0], 0 * last[1]])
    return model


@functools.cache
def shared_random_model():
    """`random_model()`, which tests must not change."""
    return random_model()


def linear_classifiers(sizes, outputs, seed=3):
    rng = np.random.default_rng(seed)
    classifiers = {}
    for name, shape in sizes.items():
        layers = [keras.layers.Flatten(), keras.layers.Dense(outputs)]
        classifiers[name] = keras.Sequential([keras.Input(shape), *layers])
        kernel, bias = classifiers[name].get_weights()
        layers[1].set_weights([rng.normal(size=kernel.shape), bias])
    return classifiers


def logits_by_hand(classifier, x):
    kernel, bias = classifier.get_weights()
    return x.reshape(len(x), -1) @ kernel.astype(np.float64) + bias


def decoded_by_hand(decoder, z, style=None):
    first, first_bias, last, last_bias = decoder.get_weights()
    latent = z if style is None else np.concatenate([z, style], axis=1)
    hidden = np.tanh(latent @ first.astype(np.float64) + first_bias)
    return hidden @ last.astype(np.float64) + last_bias
