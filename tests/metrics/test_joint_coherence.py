"""Joint coherence, against counts by NumPy."""

import numpy as np
import pytest

from tests.metrics.coherence_models import (
    NAMES,
    STYLE,
    decoded_by_hand,
    linear_classifiers,
    logits_by_hand,
    shared_random_model,
)
from tests.tiny_models import LATENT_DIM, fix_noise
from tf_mopoe.distributions import noise
from tf_mopoe.metrics import joint_coherence

#: Value of all noise in tests that fix it.
NOISE = 0.7


def test_joint_coherence_of_given_latents_is_the_count_of_numpy(monkeypatch):
    fix_noise(monkeypatch, NOISE)  # the style's
    model = shared_random_model()
    z = np.random.default_rng(4).normal(size=(90, LATENT_DIM))
    style = np.full([90, STYLE], NOISE)
    sizes = {"a": (3,), "b": (4,), "c": (2,)}
    classifiers = linear_classifiers(sizes, 2)
    logits = np.stack(
        [
            logits_by_hand(
                classifiers[name],
                decoded_by_hand(decoder, z, style if name == "b" else None),
            )
            for name, decoder in zip(
                NAMES, model.networks.decoders.values(), strict=True
            )
        ]
    )  # [M, N, O]
    actual = joint_coherence(model, classifiers, latents=z, batch_size=32)
    first = logits[..., 1] > logits[..., 0]
    agree = np.mean((first.sum(axis=0) == 0) | (first.sum(axis=0) == 3))
    assert actual == pytest.approx(agree)
    assert 0 < agree < 1
    by_attribute = joint_coherence(model, classifiers, latents=z, attributes=True)
    count = np.sum(logits > 0, axis=0)  # [N, A]
    expected = np.mean((count == 0) | (count == 3))
    assert by_attribute == pytest.approx(expected)
    assert abs(expected - agree) > 0.02  # what an argmax over attributes would say


def test_joint_coherence_by_default_is_that_of_samples_of_the_model():
    model = shared_random_model()
    classifiers = linear_classifiers({"a": (3,), "b": (4,), "c": (2,)}, 3)
    z_seed, style_seed = noise.split_seed(noise.stateless_seed(8))
    z = noise.standard_normal([300, model.latent_dim], z_seed)
    style = noise.standard_normal([300, STYLE], noise.fold_in(style_seed, 1))
    samples = model.decode(z, {"b": style})
    shown = np.stack(
        [
            np.argmax(logits_by_hand(classifiers[name], x.numpy()), axis=-1)
            for name, x in samples.items()
        ]
    )
    actual = joint_coherence(model, classifiers, num_samples=300, seed=8, batch_size=77)
    assert actual == pytest.approx(np.mean((shown == shown[0]).all(axis=0)))
    assert 0 < actual < 1
