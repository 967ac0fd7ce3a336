"""Sample quality: how close generated values are in distribution to real ones.

Features of both are compared, so numbers are comparable only for one feature model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import num_rows, ordered_batches
from tf_mopoe.data.checks import plain_rows
from tf_mopoe.distributions import noise
from tf_mopoe.metrics.classifiers import classifier_inputs
from tf_mopoe.metrics.feature_distances import (
    frechet_distance,
    max_f_beta,
    precision_recall_distribution,
)
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.metrics.subset_samples import latents_of_model
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask

#: Function from a batch of inputs of a classifier to features `[B, F]`.
FeatureModel = Callable[[Any], Any]


def sample_quality(
    model: MultimodalVAE,
    data: Mapping[str, np.ndarray],
    feature_models: Mapping[str, FeatureModel],
    *,
    given: Sequence[str] | None = None,
    num_samples: int = 1000,
    latents: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, float]]:
    """Compares features of generated modalities with those of all rows of `data`.

    The generated values are the likelihoods' means, for one z a row and styles drawn
    from their prior.

    Args:
      model: Model that generates.
      data: Modality name to `[N, *event_shape]`, complete; uint8 or as in training.
      feature_models: Modality name to a function from the output of `classifier_inputs`
        to features `[B, F]`, such as a Keras model. These modalities are generated,
        except those given.
      given: Names of modalities. z is drawn from their product of experts, for rows of
        `data` chosen at random. None: z is drawn from the prior, or is `latents`.
      num_samples: Number of rows to generate, at most N if modalities are given.
      latents: Latents `[N', D]` to decode instead of draws from the prior; all of them
        are used, whatever `num_samples` is.
      seed: Seed of all draws.
      batch_size: Number of rows at a time; results do not depend on it.
      progress: Wrapper of the iterables of the real and of the generated batches.

    Returns:
      Modality name to `frechet_distance`; `f8` and `f1_8`, the largest F_8 (recall) and
      F_1/8 (precision) of the curve of precision and recall; and `num_samples`.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 2, seed=0)
      >>> data = {"a": np.eye(3, dtype="f"), "b": np.zeros([3, 2], "f")}
      >>> table = sample_quality(model, data, {"a": lambda x: x}, num_samples=3)
      >>> sorted(table["a"])
      ['f1_8', 'f8', 'frechet_distance', 'num_samples']
    """
    targets = _targets(model, data, feature_models, given, latents)
    needed = {*targets, *(given or ())}
    data = plain_rows("data", {name: data[name] for name in data if name in needed})
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    num_samples = whole_number("num_samples", num_samples, minimum=2)
    seed = checked_seed(seed)
    z_seed, style_seed = noise.split_seed(noise.stateless_seed(seed))
    if given is not None:
        rows = np.random.default_rng(seed).permutation(num_rows(data))[:num_samples]
        values = {name: np.asarray(data[name])[rows] for name in given}
        z = _product_samples(model, values, batch_size, z_seed)
    elif latents is None:
        z = _normal(model, [num_samples, model.latent_dim], z_seed)
    else:
        z = latents_of_model(model, latents, at_least=2)
    styles = {
        modality.name: _normal(
            model, [len(z), modality.style_dim], noise.fold_in(style_seed, index)
        )
        for index, modality in enumerate(model.modalities)
        if modality.style_dim and modality.name in targets
    }

    def decode(z, styles):
        return {
            name: model.decode_modality(name, z, styles.get(name)) for name in targets
        }

    latent_batches = ordered_batches({"z": z, "styles": styles}, batch_size)
    real_batches = ordered_batches({name: data[name] for name in targets}, batch_size)
    generated = _features(
        model, feature_models, (decode(**batch) for batch in progress(latent_batches))
    )
    real = _features(model, feature_models, progress(real_batches))
    return {name: _scores(generated[name], real[name], seed) for name in targets}


def inception_features(weights: str | None = "imagenet") -> FeatureModel:
    """Features of images for the Fréchet Inception distance.

    The network is that of Keras, not that of published numbers: compare distances
    within this library only.

    Args:
      weights: `"imagenet"`, downloaded by Keras; a file of weights of `InceptionV3`
        without its top; or None for random weights.

    Returns:
      A function from images `[B, height, width, 1 or 3]`, clipped to [0, 1], to
      features `[B, 2048]`.

    Example (downloads weights, so it is not run as a test):
      >>> features = inception_features()  # doctest: +SKIP
      >>> features(np.zeros([2, 28, 28, 3])).shape  # doctest: +SKIP
      TensorShape([2, 2048])
    """
    network = keras.applications.InceptionV3(
        weights=weights, include_top=False, pooling="avg"
    )

    def features(images):
        images = tf.clip_by_value(tf.cast(images, tf.float32), 0.0, 1.0)
        images = tf.image.resize(images, [299, 299], antialias=True)
        images = tf.broadcast_to(images, [*images.shape[:3], 3])
        preprocess = keras.applications.inception_v3.preprocess_input
        return network(preprocess(255.0 * images), training=False)

    return features


def _scores(generated: np.ndarray, real: np.ndarray, seed: int) -> dict[str, float]:
    clusters = min(20, 2 * min(len(generated), len(real)))
    curve = precision_recall_distribution(
        generated, real, num_clusters=clusters, seed=seed
    )
    return {
        "frechet_distance": frechet_distance(generated, real),
        "f8": max_f_beta(curve, 8),
        "f1_8": max_f_beta(curve, 1 / 8),
        "num_samples": len(generated),
    }


def _features(model, feature_models, batches) -> dict[str, np.ndarray]:
    """Modality name to features `[N, F]`, of batches of values by modality name."""
    classes = {modality.name: modality.num_classes for modality in model.modalities}
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for name, values in batch.items():
            inputs = classifier_inputs(values, num_symbols=classes[name])
            features = np.asarray(feature_models[name](inputs))
            if features.ndim != 2 or len(features) != len(values):
                raise ValueError(
                    f"`feature_models[{name!r}]` must return features "
                    f"{(len(values), 'F')}. Received: shape {features.shape}."
                )
            parts.setdefault(name, []).append(features)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _product_samples(model, values, batch_size, seed) -> np.ndarray:
    """One z for each row from the product of all modalities in `values`: `[N, D]`."""
    names = model.modality_names
    subset = [name in values for name in names]
    row = np.flatnonzero((membership_mask(len(names)) == subset).all(axis=1)).item()
    parts = [
        [field[:, row] for field in model.subset_posteriors(batch)]
        for batch in ordered_batches(values, batch_size)
    ]
    loc, log_scale = (np.concatenate(fields) for fields in zip(*parts))
    return loc + np.exp(log_scale) * _normal(model, loc.shape, seed).numpy()


def _normal(model, shape, seed) -> tf.Tensor:
    return noise.standard_normal(shape, seed, tf.as_dtype(model.latent_dtype))


def _targets(model, data, feature_models, given, latents) -> list[str]:
    """Names of the modalities to generate; checks all names."""
    names = set(model.modality_names)
    if given is not None and (
        isinstance(given, str) or not given or not set(given) <= names
    ):
        raise ValueError(
            f"`given` must list names among {sorted(names)}, or be None. "
            f"Received: {given!r}."
        )
    if given is not None and latents is not None:
        raise ValueError("`given` and `latents` exclude each other. Leave one out.")
    targets = [name for name in feature_models if name not in (given or ())]
    if not targets or not set(feature_models) <= names:
        raise ValueError(
            f"`feature_models` must name modalities among {sorted(names)}, at least "
            f"one of them not given. Received: {sorted(feature_models)}, given: "
            f"{given!r}."
        )
    needed = {*targets, *(given or ())}
    if not needed <= set(data) or "present" in data:
        raise ValueError(
            f"`data` must hold {sorted(needed)}, complete, without flags `present`: "
            f"select the complete rows. Received: {sorted(data)}."
        )
    return targets
