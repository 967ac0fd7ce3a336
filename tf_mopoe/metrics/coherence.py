"""Coherence: do generated modalities show the class that they should?

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
from tf_mopoe.data.checks import plain_array
from tf_mopoe.distributions import noise
from tf_mopoe.metrics.attribute_scores import check_labels, mean_of_defined
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.metrics.subset_samples import (
    SUBSET_POSTERIORS as SUBSET_POSTERIORS,
)
from tf_mopoe.metrics.subset_samples import (
    check_attributes,
    check_classifiers,
    checked_logits,
    complete_data,
    decoded_logits,
    judged_batches,
)
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_names

#: Which targets `mean_by_number_given` averages over.
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
    """Share of rows whose class every modality shows, decoded from a subset's latent.

    For each non-empty subset S of the modalities, one z a row; from it the mean of
    every modality t, given (a reconstruction) or not, which t's classifier judges, in
    inference mode. Chance is the share of the class that the classifier prefers.

    Styles, which the given modalities know nothing of, are drawn from their prior for
    every target, the given ones too; with `latent="mean"` they are 0, its mean.

    Args:
      model: The model, of at most 12 modalities.
      data: All its modalities, `[N, *event_shape]`, complete; uint8 or as in training.
      labels: int `[N]`.
      classifiers: Modality name to a network from what `classifier_inputs` gives to
        logits `[B, C]`.
      posterior: `"product"`: S stands for its product of experts; `"mixture"`: for the
        uniform mixture of the products of all its non-empty subsets.
      latent: `"sample"`: z is drawn; `"mean"`: it is the posterior's mean.
      seed: Of the draws, which also depend on `batch_size`.
      batch_size: Rows at a time; each is decoded for all subsets at once.
      progress: Wraps the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to accuracy in [0, 1]: 2^M - 1 times M.

    Raises:
      ValueError: If an argument is not as described.
    """
    names = model.modality_names
    check_classifiers(classifiers, names)
    count = min(classifiers[name].output_shape[-1] for name in names)
    rows = num_rows(complete_data(model, data))
    labels = check_labels(labels, num_classes=count, rows=rows)
    correct = np.zeros([2 ** len(names) - 1, len(names)], np.int64)  # [S, M]
    start = 0
    for logits in judged_batches(
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
            shown = np.argmax(logits[name], axis=-1) == labels[start:stop, np.newaxis]
            correct[:, index] += shown.sum(axis=0)  # [S]
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
    """Share of draws in which all modalities show one class.

    It says nothing of which class: a model that always decodes the same has 1. Read it
    beside the conditional coherence or the quality of samples.

    With attributes, the mean over them of the share of draws in which all modalities
    have the attribute, or none has: every logit is a verdict of its own, by its sign.
    (The published code compares the attribute of the largest logit alone, as if they
    were classes.)

    Args:
      model: The model.
      classifiers: Modality name to a network from what `classifier_inputs` gives to
        logits `[B, C]`, or with `attributes` `[B, A]`; used in inference mode.
      latents: `[N, D]` of draws from another prior, such as one fitted to posteriors;
        None: from N(0, I), those of `model.sample(num_samples, seed=seed)`.
      num_samples: Number of draws where there are no `latents`.
      seed: Of the draws, and of styles, which are from their prior.
      attributes: Whether classifiers are of attributes.
      batch_size: Rows at a time; no result depends on it.

    Returns:
      A share in [0, 1].

    Raises:
      TypeError, ValueError: If an argument is not as described.
    """
    check_classifiers(classifiers, model.modality_names)
    if attributes:
        first = classifiers[model.modality_names[0]]
        check_attributes(classifiers, first.output_shape[-1])
    dtype = tf.as_dtype(model.latent_dtype)
    z_seed, style_seed = noise.split_seed(noise.stateless_seed(checked_seed(seed)))
    if latents is None:
        num_samples = whole_number("num_samples", num_samples, minimum=1)
        latents = noise.standard_normal([num_samples, model.latent_dim], z_seed, dtype)
    z = plain_array("latents", latents).astype(model.latent_dtype)
    if z.ndim != 2 or z.shape[1] != model.latent_dim or not len(z):
        raise ValueError(
            f"`latents` must have shape {('N', model.latent_dim)}. Received: {z.shape}."
        )
    verdicts = []
    for index, modality in enumerate(model.modalities):
        columns = {"z": z}
        if modality.style_dim:
            columns["style"] = noise.standard_normal(
                [len(z), modality.style_dim], noise.fold_in(style_seed, index), dtype
            )
        logits = _joint_logits(
            model, modality.name, classifiers[modality.name], columns, batch_size
        )
        verdicts.append(logits > 0 if attributes else np.argmax(logits, axis=-1))
    return float(np.mean(np.all(np.equal(verdicts, verdicts[0]), axis=0)))


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
    """Averages results over the subsets of one size, and over their targets.

    Args:
      table: Subset name to a result, as `linear_probe` returns; or to results by
        target, as `conditional_coherence` and `attribute_coherence` return.
      targets: Of a table with targets: `"all"`, `"given"` (those in the subset: can it
        be reconstructed?) or `"not_given"` (the others: the published protocol).

    Returns:
      Number of given modalities, as text, to the mean over what is not NaN, also over
      attributes; no entry where a size has no such targets.

    Raises:
      ValueError: If `targets` is unknown, or the table has none to choose from.
    """
    if targets not in TARGETS:
        raise ValueError(
            f"`targets` must be one of {list(TARGETS)}. Received: {targets!r}."
        )
    found: dict[str, list[float]] = {}
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
                "A table without targets has none to choose. Leave out `targets`. "
                f"Received: {targets!r}."
            )
        if chosen:
            found.setdefault(str(len(given)), []).extend(np.ravel(chosen).tolist())
    return {number: mean_of_defined(values) for number, values in found.items()}
