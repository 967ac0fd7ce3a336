"""Coherence: do generated modalities show the class that they should?

Source: Shi et al., Variational Mixture-of-Experts Autoencoders, NeurIPS 2019; Sutter et
al., Generalized Multimodal ELBO, ICLR 2021 (protocol by subsets).
"""

from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.data import ordered_batches
from tf_mopoe.metrics.classifiers import check_classifiers
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask, subset_names

#: Which posterior a given subset stands for: its own product of experts (the published
#: evaluation), or the mixture over all subsets of it (what `model.posterior` returns).
SUBSET_POSTERIORS = ("product", "mixture")


def conditional_coherence(
    model: MultimodalVAE,
    images: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classifiers: Mapping[str, keras.Model],
    *,
    posterior: str = "product",
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, float]]:
    """Share of modalities generated from a subset of others that show its class.

    For every subset S of modalities but the full one, and every modality t not in S:
    draw z once a row from S's posterior, decode the mean of t, classify it. Classifiers
    run in inference mode.

    Args:
      model: A model whose experts are of all modalities of `images`.
      images: Modality name to `[N, *event_shape]`, complete; uint8 or in [0, 1].
      labels: int `[N]`.
      classifiers: Modality name to a network from images to logits `[B, C]`.
      posterior: `"product"` or `"mixture"`; see `SUBSET_POSTERIORS`.
      seed: Of the draws of z.
      batch_size: Rows at a time; each is decoded for all subsets at once.
      progress: Wraps the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to accuracy in [0, 1].

    Raises:
      ValueError: If `posterior` is unknown or a modality has no classifier.
    """
    if posterior not in SUBSET_POSTERIORS:
        raise ValueError(
            f"`posterior` must be one of {list(SUBSET_POSTERIORS)}. "
            f"Received: {posterior!r}."
        )
    names = model.modality_names
    check_classifiers(classifiers, names)
    mask = membership_mask(len(names))[:-1]  # [S, M], without the full set
    correct = np.zeros(mask.shape, dtype=np.int64)

    hits = [
        _hit_counter(model, classifiers[name], mask, index, posterior)
        for index, name in enumerate(names)
    ]
    arrays = {**images, "label": np.asarray(labels, np.int64)}
    batches = ordered_batches(arrays, batch_size)
    for step, batch in enumerate(progress(batches)):
        for target in range(len(names)):
            found = hits[target](batch, tf.constant([seed, step]))
            correct[~mask[:, target], target] += found.numpy()
    return {
        subset: {
            names[target]: float(correct[row, target] / len(labels))
            for target in np.flatnonzero(~mask[row])
        }
        for row, subset in enumerate(subset_names(names)[:-1])
    }


def _hit_counter(model, classifier, mask, target, posterior):
    """A function from a batch and a seed to hits `[subsets without the target]`."""
    given = np.flatnonzero(~mask[:, target])
    name = model.modality_names[target]

    @tf.function(autograph=False)
    def count(batch, seed):
        values = {key: batch[key] for key in model.modality_names}
        z = _subset_samples(model, values, mask, posterior, seed)  # [B, S, D]
        decoded = model.decode_modality(name, tf.gather(z, given, axis=1))
        flat = tf.reshape(decoded, [-1, *decoded.shape[2:]])
        logits = classifier(flat, training=False)
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int64)
        predicted = tf.reshape(predicted, [-1, len(given)])
        shown = predicted == batch["label"][:, tf.newaxis]
        return tf.reduce_sum(tf.cast(shown, tf.int64), axis=0)

    return count


def _subset_samples(model, values, mask, posterior, seed) -> tf.Tensor:
    """One z a row and subset of `mask`: `[B, S, D]`."""
    products = model.subset_posteriors(values)  # all non-empty subsets
    loc, log_scale = (field[:, : len(mask)] for field in products)
    seeds = tf.random.experimental.stateless_split(seed, 2)
    noise = tf.random.stateless_normal(tf.shape(loc), seeds[0], dtype=loc.dtype)
    z = loc + tf.exp(log_scale) * noise
    if posterior == "product":
        return z
    # A draw from the mixture over the subsets of S is the draw of one of them.
    within = ~np.any(mask[np.newaxis] & ~mask[:, np.newaxis], axis=-1)  # [S, S]
    draws = tf.random.stateless_uniform(tf.shape(loc)[:2], seeds[1])  # [B, S]
    nth = tf.cast(draws * within.sum(axis=1), tf.int32)
    upto = np.cumsum(within, axis=1)  # [S, S]
    chosen = tf.reduce_sum(tf.cast(upto <= nth[..., tf.newaxis], tf.int32), axis=-1)
    return tf.gather(z, chosen, batch_dims=1)


def joint_coherence(
    model: MultimodalVAE,
    classifiers: Mapping[str, keras.Model],
    *,
    num_samples: int = 1000,
    seed: int = 0,
) -> float:
    """Share of draws from the prior in which all modalities show one class.

    Args:
      model: The model.
      classifiers: Modality name to a network from images to logits `[B, C]`.
      num_samples: Number of draws from the prior.
      seed: Of the draws.

    Returns:
      A share in [0, 1].

    Raises:
      ValueError: If a modality has no classifier.
    """
    check_classifiers(classifiers, model.modality_names)
    samples = model.sample(num_samples, seed=seed)
    classes = np.stack(
        [
            np.argmax(classifiers[name].predict(image, verbose=0), axis=-1)
            for name, image in samples.items()
        ]
    )  # [M, num_samples]
    return float(np.mean(np.all(classes == classes[0], axis=0)))


def mean_by_number_given(
    by_subset: Mapping[str, float | Mapping[str, float]],
) -> dict[str, float]:
    """Averages results over the subsets of one size, and over their targets.

    Args:
      by_subset: Subset name to a result, or to results by target, as `linear_probe`
        and `conditional_coherence` return.

    Returns:
      Number of given modalities, as text, to the mean.
    """
    found: dict[str, list[float]] = {}
    for subset, result in by_subset.items():
        values = result.values() if isinstance(result, Mapping) else [result]
        found.setdefault(str(subset.count("+") + 1), []).extend(values)
    return {number: float(np.mean(values)) for number, values in found.items()}
