"""Coherence: how often generated modalities show the class of the given ones.

Source: Shi et al., Variational Mixture-of-Experts Autoencoders, NeurIPS 2019; Sutter et
al., Generalized Multimodal ELBO, ICLR 2021 (protocol by subsets).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import num_rows, ordered_batches
from tf_mopoe.distributions import noise
from tf_mopoe.metrics.attribute_scores import mean_of_defined
from tf_mopoe.metrics.labels import check_classes
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.metrics.subset_samples import (
    check_classifiers,
    check_num_attributes,
    checked_logits,
    complete_data,
    decoded_logits,
    latents_of_model,
    subset_logits,
)
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names

#: Targets that `mean_by_number_given` can average over.
TARGETS = ("all", "given", "not_given")


def conditional_coherence(
    model: MultimodalVAE,
    data: Mapping[str, np.ndarray],
    labels: np.ndarray,
    classifiers: Mapping[str, keras.Model],
    *,
    posterior: str = "product",
    latent: str = "sample",
    seed: int = 0,
    batch_size: int = 64,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, float]]:
    """Accuracy of the class of each modality, decoded from each subset's latent.

    For each non-empty subset S of the modalities and each row one z is inferred. The
    mean of every modality t, given (a reconstruction) or not, is decoded from it and
    classified by t's classifier in inference mode. Chance level is the frequency of
    the class that the classifier prefers.

    The given modalities contain no information on the styles. These are drawn from
    their prior for every target, also for a given one; with `latent="mean"` they are 0,
    the mean of the prior.

    Args:
      model: Model of at most 12 modalities.
      data: All its modalities, complete, `[N, *event_shape]`; uint8 or as in training.
      labels: Classes, int `[N]`.
      classifiers: Modality name to a network from the output of `classifier_inputs` to
        logits `[B, C]`.
      posterior: Posterior of S: `"product"`, its product of experts; or `"mixture"`,
        the uniform mixture of the products of all its non-empty subsets.
      latent: Latent that is decoded: `"sample"`, a draw; or `"mean"`, the posterior's
        mean.
      seed: Seed of the draws, which also depend on `batch_size`.
      batch_size: Number of rows at a time; each is decoded for all subsets at once.
      progress: Wrapper of the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to accuracy in [0, 1]: 2^M - 1 subsets of M
      targets.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 2, seed=0)
      >>> data = {"a": np.zeros([4, 3], "f"), "b": np.zeros([4, 2], "f")}
      >>> one_class = {
      ...     "a": keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
      ...     "b": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
      ... }
      >>> conditional_coherence(model, data, np.zeros(4, int), one_class)["a+b"]
      {'a': 1.0, 'b': 1.0}
    """
    names = model.modality_names
    check_classifiers(classifiers, names)
    count = min(classifiers[name].output_shape[-1] for name in names)
    rows = num_rows(complete_data(model, data))
    labels = check_classes(labels, count, rows=rows)
    correct = np.zeros([2 ** len(names) - 1, len(names)], np.int64)  # [S, M]
    start = 0
    for logits in subset_logits(
        model,
        data,
        classifiers,
        posterior=posterior,
        latent=latent,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    ):
        stop = start + len(logits[names[0]])
        for index, name in enumerate(names):
            hits = np.argmax(logits[name], axis=-1) == labels[start:stop, np.newaxis]
            correct[:, index] += hits.sum(axis=0)  # [S]
        start = stop
    return {
        subset: {name: int(n) / rows for name, n in zip(names, correct[row])}
        for row, subset in enumerate(subset_names(names))
    }


def joint_coherence(
    model: MultimodalVAE,
    classifiers: Mapping[str, keras.Model],
    *,
    latents: np.ndarray | None = None,
    num_samples: int = 1000,
    seed: int = 0,
    attributes: bool = False,
    batch_size: int = 256,
) -> float:
    """Fraction of draws in which all modalities show the same class.

    The fraction does not depend on which class it is: a model that always decodes the
    same values has 1. Report it with the conditional coherence or the sample quality.

    With attributes it is the mean over attributes of the fraction of draws in which all
    modalities have the attribute, or none has it, by the sign of each logit. (The
    published code compares the attribute of the largest logit only, as if attributes
    were classes.)

    Args:
      model: Model whose decoders are used.
      classifiers: Modality name to a network from the output of `classifier_inputs` to
        logits `[B, C]`, or with `attributes` `[B, A]`; used in inference mode.
      latents: Draws from another prior, such as one fitted to posteriors, `[N, D]`.
        None: draws from N(0, I), those of `model.sample(num_samples, seed=seed)`.
      num_samples: Number of draws if there are no `latents`.
      seed: Seed of the draws, and of the styles, which are drawn from their prior.
      attributes: Whether the classifiers predict attributes.
      batch_size: Number of rows at a time; results do not depend on it.

    Returns:
      A fraction in [0, 1].

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 2, seed=0)
      >>> one_class = {
      ...     "a": keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
      ...     "b": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
      ... }
      >>> joint_coherence(model, one_class, num_samples=10)
      1.0
    """
    check_classifiers(classifiers, model.modality_names)
    if attributes:
        first = classifiers[model.modality_names[0]]
        check_num_attributes(classifiers, first.output_shape[-1])
    dtype = tf.as_dtype(model.latent_dtype)
    z_seed, style_seed = noise.split_seed(noise.stateless_seed(checked_seed(seed)))
    if latents is None:
        num_samples = whole_number("num_samples", num_samples, minimum=1)
        latents = noise.standard_normal([num_samples, model.latent_dim], z_seed, dtype)
    z = latents_of_model(model, latents)
    predicted = []
    for index, modality in enumerate(model.modalities):
        columns = {"z": z}
        if modality.style_dim:
            columns["style"] = noise.standard_normal(
                [len(z), modality.style_dim], noise.fold_in(style_seed, index), dtype
            )
        logits = _joint_logits(
            model, modality.name, classifiers[modality.name], columns, batch_size
        )
        predicted.append(logits > 0 if attributes else np.argmax(logits, axis=-1))
    return float(np.mean(np.all(np.equal(predicted, predicted[0]), axis=0)))


def _joint_logits(model, name, classifier, columns, batch_size) -> np.ndarray:
    """Logits `[N, O]` of one modality decoded from "z" and, if it has one, "style"."""
    parts = [
        decoded_logits(model, name, classifier, batch["z"], batch.get("style"))
        for batch in ordered_batches(columns, batch_size)
    ]
    return checked_logits(name, np.concatenate(parts))


def mean_by_number_given(
    table: Mapping[str, Any], *, targets: str = "all"
) -> dict[str, float]:
    """Averages results over the subsets of each size, and over their targets.

    Args:
      table: Subset name to a result, as `linear_probe` returns; or to results by
        target, as `conditional_coherence` and `attribute_coherence` return.
      targets: Targets to average over: `"all"`; `"given"`, those in the subset (its
        reconstruction); or `"not_given"`, the others (the published protocol).

    Returns:
      Number of given modalities, as text, to the mean of the values that are not NaN,
      also over attributes. A size without such targets has no entry.

    Raises:
      ValueError: If `targets` is unknown, or the table has no targets to choose from.

    Example:
      >>> table = {"a": {"a": 1.0, "b": 0.5}, "b": {"a": 0.25, "b": 1.0}}
      >>> mean_by_number_given(table, targets="not_given")
      {'1': 0.375}
    """
    if targets not in TARGETS:
        raise ValueError(
            f"`targets` must be one of {list(TARGETS)}. Received: {targets!r}."
        )
    by_number: dict[str, list[float]] = {}
    for subset, result in table.items():
        given = subset.split("+")
        if isinstance(result, Mapping):
            chosen = [
                value
                for target, value in result.items()
                if targets == "all" or (target in given) == (targets == "given")
            ]
        elif targets == "all":
            chosen = [result]
        else:
            raise ValueError(
                f"`targets` must be left out for a table without targets. Received: "
                f"{targets!r}."
            )
        if chosen:
            values = by_number.setdefault(str(len(given)), [])
            values.extend(np.ravel(chosen).tolist())
    return {number: mean_of_defined(values) for number, values in by_number.items()}
