"""Latents of every subset of the modalities, decoded and scored by classifiers."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.data import ordered_batches
from tf_mopoe.data.checks import plain_array, plain_rows
from tf_mopoe.distributions import noise
from tf_mopoe.distributions.components import independent_components
from tf_mopoe.metrics.classifiers import classifier_inputs
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask

#: Posterior of a given subset: its own product of experts (the published evaluation),
#: or the uniform mixture of the products of all its non-empty subsets (`posterior` of a
#: MoPoE-VAE by default).
SUBSET_POSTERIORS = ("product", "mixture")
#: Latent that is decoded: one draw from that posterior for each row, or its mean.
LATENTS = ("sample", "mean")


def complete_data(
    model: MultimodalVAE, data: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The model's modalities in `data`, as arrays.

    Raises:
      TypeError: If `data` is not a mapping of dense arrays.
      ValueError: If a modality is missing, or there are flags of missing rows, masked
        values or NaN.
    """
    names = model.modality_names
    if not isinstance(data, Mapping):
        raise TypeError(
            "The data must be a dictionary of modality name to array. Received: "
            f"{type(data).__name__}."
        )
    if not set(names) <= set(data) or "present" in data:
        raise ValueError(
            f"The data must hold all of the model's modalities {list(names)}, complete,"
            " without flags `present`: select the complete rows. "
            f"Received: {sorted(data)}."
        )
    arrays = plain_rows("data", {name: data[name] for name in names})
    for name, array in arrays.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(
                f"The data must be complete. Received: NaN in {name!r}. Select the "
                "complete rows."
            )
    return arrays


def subset_logits(
    model: MultimodalVAE,
    data: Mapping[str, np.ndarray],
    classifiers: Mapping[str, keras.Model],
    *,
    posterior: str,
    latent: str,
    seed: int,
    batch_size: int,
    progress: Callable[[Iterable], Iterable],
) -> Iterator[dict[str, np.ndarray]]:
    """Logits of the classifiers for every modality decoded from every subset's latent.

    Args:
      model: Model of at most 12 modalities.
      data: All its modalities, complete, `[N, *event_shape]`.
      classifiers: Modality name to a network to logits `[B, O]`.
      posterior: One of `SUBSET_POSTERIORS`.
      latent: One of `LATENTS`.
      seed: Seed of the draws.
      batch_size: Number of rows at a time.
      progress: Wrapper of the iterable of batches.

    Yields:
      Modality name to logits `[B, S, O]` for each batch, in the order of rows; subsets
      are in the order of `membership_mask`.

    Raises:
      ValueError: If an argument is not as described, or logits are not finite.
    """
    for name, value, known in (
        ("posterior", posterior, SUBSET_POSTERIORS),
        ("latent", latent, LATENTS),
    ):
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {list(known)}. Received: {value!r}."
            )
    check_classifiers(classifiers, model.modality_names)
    batches = ordered_batches(complete_data(model, data), batch_size)
    seeds = tf.TensorSpec([2], tf.int32)

    def latents_of(batch, seed):
        return subset_latents(
            model, batch, posterior=posterior, latent=latent, seed=seed
        )

    latents_of = tf.function(
        functools.partial(latents_of),  # see `_decode_and_classify`
        autograph=False,
        input_signature=[batches.element_spec, seeds],
    )
    logits_of = {
        name: _decode_and_classify(
            model, name, classifiers[name], draw_style=latent == "sample"
        )
        for name in model.modality_names
    }
    base = noise.stateless_seed(checked_seed(seed))
    for step, batch in enumerate(progress(batches)):
        z_seed, style_seed = noise.split_seed(noise.fold_in(base, step))
        z = latents_of(batch, z_seed)  # [B, S, D]
        yield {
            name: checked_logits(
                name, logits_of[name](z, noise.fold_in(style_seed, index))
            )
            for index, name in enumerate(model.modality_names)
        }


def subset_latents(
    model: MultimodalVAE,
    batch: Mapping[str, tf.Tensor],
    *,
    posterior: str,
    latent: str,
    seed: tf.Tensor,
) -> tf.Tensor:
    """One z for each row and subset: an independent draw, or the mean.

    Args:
      model: Model of at most 12 modalities.
      batch: All its modalities, complete.
      posterior: One of `SUBSET_POSTERIORS`.
      latent: One of `LATENTS`.
      seed: Seed of the draws, int32 `[2]`.

    Returns:
      Latents `[B, S, D]`, subsets in the order of `membership_mask`.
    """
    loc, log_scale = model.subset_posteriors(batch)  # [B, S, D]
    mask = membership_mask(len(model.modality_names))  # [S, M]
    within = subsets_within(mask)  # [S, S]
    if latent == "mean":
        if posterior == "product":
            return loc
        weights = within / within.sum(axis=1, keepdims=True)
        return tf.einsum("sc,bcd->bsd", tf.constant(weights, loc.dtype), loc)
    noise_seed, component_seed = noise.split_seed(seed)
    draws = noise.standard_normal(tf.shape(loc), noise_seed, loc.dtype)
    z = loc + tf.exp(log_scale) * draws
    if posterior == "product":
        return z
    available = tf.broadcast_to(within, tf.concat([tf.shape(loc)[:2], [len(mask)]], 0))
    [component] = tf.unstack(independent_components(available, 1, component_seed))
    return tf.gather(z, component, batch_dims=1)


def subsets_within(mask: np.ndarray) -> np.ndarray:
    """bool `[S, S]`: entry (s, c) is True where subset c is a part of subset s.

    Args:
      mask: Membership of modalities in subsets, bool `[S, M]`.
    """
    return ~np.any(mask[np.newaxis] & ~mask[:, np.newaxis], axis=-1)


def latents_of_model(
    model: MultimodalVAE, latents: np.ndarray, *, at_least: int = 1
) -> np.ndarray:
    """Given latents as an array `[N, D]` of the model's latent dtype.

    Args:
      model: Model that decodes them.
      latents: Latents `[N, D]`.
      at_least: Minimum of N.

    Raises:
      TypeError, ValueError: If they are not as described.
    """
    z = plain_array("latents", latents).astype(model.latent_dtype)
    if z.ndim != 2 or z.shape[1] != model.latent_dim or len(z) < at_least:
        raise ValueError(
            f"`latents` must have shape {('N', model.latent_dim)}, N at least "
            f"{at_least}. Received: {z.shape}."
        )
    return z


def decoded_logits(
    model: MultimodalVAE,
    name: str,
    classifier: keras.Model,
    z: tf.Tensor,
    style: tf.Tensor | None,
) -> tf.Tensor:
    """Logits of a classifier, in inference mode, for the mean of p(x_m | z, s_m).

    Args:
      model: Model whose decoder is used.
      name: Name of the modality.
      classifier: Classifier of the modality.
      z: Shared latents, `[N, D]`.
      style: Styles `[N, D_m]`; None for 0, or for a modality without a style.

    Returns:
      Logits `[N, O]`.
    """
    modality = model.modalities[model.modality_names.index(name)]
    symbols = modality.num_classes
    if modality.likelihood == "categorical":  # data are one-hot, the mean is not
        symbols = modality.event_shape[-1]
    decoded = model.decode_modality(name, z, style)
    return classifier(classifier_inputs(decoded, num_symbols=symbols), training=False)


def checked_logits(name: str, logits) -> np.ndarray:
    """The logits as an array.

    Raises:
      ValueError: If they are not finite.
    """
    logits = np.asarray(logits)
    if not np.isfinite(logits).all():
        raise ValueError(
            f"The classifier of {name!r} must return finite logits for decoded values. "
            "Received: NaN or infinity. Has the training of the model diverged?"
        )
    return logits


def _decode_and_classify(model, name, classifier, *, draw_style):
    """A function from latents `[B, S, D]` and a seed to logits `[B, S, O]`."""
    size = model.modalities[model.modality_names.index(name)].style_dim
    subsets = 2 ** len(model.modality_names) - 1
    dtype = tf.as_dtype(model.latent_dtype)

    def logits_of(z, seed):
        flat = tf.reshape(z, [-1, model.latent_dim])
        style = None  # the mean of its prior
        if size and draw_style:
            style = noise.standard_normal([tf.shape(flat)[0], size], seed, dtype)
            style = tf.ensure_shape(style, [None, size])
        logits = decoded_logits(model, name, classifier, flat, style)
        return tf.reshape(logits, [-1, subsets, logits.shape[-1]])

    return tf.function(
        # A partial object: TensorFlow warns if one function is traced repeatedly.
        functools.partial(logits_of),
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, subsets, model.latent_dim], dtype),
            tf.TensorSpec([2], tf.int32),
        ],
    )


def check_classifiers(
    classifiers: Mapping[str, keras.Model], modality_names: Sequence[str]
) -> None:
    """Raises ValueError unless there is exactly one classifier for each modality."""
    if set(classifiers) != set(modality_names):
        raise ValueError(
            f"`classifiers` must hold one for each of {list(modality_names)}. "
            f"Received: {sorted(classifiers)}."
        )


def check_num_attributes(classifiers: Mapping[str, keras.Model], count: int) -> None:
    """Raises ValueError unless each classifier has `count` outputs."""
    outputs = {name: network.output_shape[-1] for name, network in classifiers.items()}
    if set(outputs.values()) != {count}:
        raise ValueError(
            f"`classifiers` must have one logit for each of {count} attributes. "
            f"Received outputs: {outputs}."
        )
