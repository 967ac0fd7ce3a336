"""The latents: whose they are, and what decoding shows when they are changed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches
from tf_mopoe.data.checks import plain_array, plain_rows
from tf_mopoe.distributions import DiagonalGaussian, kl_to_standard_normal
from tf_mopoe.models import MultimodalVAE


class PrecisionShare(NamedTuple):
    """Who decides where the posterior lies; see `precision_share`.

    Attributes:
      by_dimension: Modality name, or `"prior"`, to shares in [0, 1], `[D]`.
      mean: The same, averaged over the dimensions.
    """

    by_dimension: dict[str, np.ndarray]
    mean: dict[str, float]


class Traversal(NamedTuple):
    """What `latent_traversal` decoded.

    Attributes:
      dimensions: Those that were changed, int `[T]`.
      values: What they were set to, `[V]`.
      outputs: Modality name to means `[T, V, *event_shape]`; of class indices the
        probabilities `[T, V, *event_shape, C]`.
    """

    dimensions: np.ndarray
    values: np.ndarray
    outputs: dict[str, np.ndarray]


def precision_share(
    model: MultimodalVAE, data: Mapping[str, Any], *, batch_size: int = 256
) -> PrecisionShare:
    """Each modality's share of the precision of the product of all that is present.

        share_m = lambda_m / (sum_n lambda_n + prior),   lambda_m = scale_m^-2,

    n over the modalities present in the row, averaged over rows. The prior expert
    counts 1 as `"prior"` where that product has it: with all M modalities present
    (`prior_expert="full_set"`), always (`"every_subset"`) or never (`"none"`). A
    modality's share is 0 in rows where it is missing; a row with nothing present is the
    prior's altogether. Shares add up to 1 in every dimension.

    Args:
      model: The model.
      data: Modality name to `[N, *event_shape]`, any missing; optionally `"present"`:
        name to bool `[N]`. uint8 becomes [0, 1].
      batch_size: Rows at a time.

    Raises:
      TypeError, ValueError: If the data are not as the model describes.
    """
    sums, rows = np.zeros([len(model.modalities) + 1, model.latent_dim]), 0
    for inputs in ordered_batches(data, batch_size):
        batch = model.unpack_batch(inputs)
        scale = model.posterior(batch).scale  # [B, M, D]
        present = batch.present  # [B, M]
        if present is None:
            present = tf.ones(scale.shape[:-1], tf.bool)
        prior = {
            "full_set": tf.reduce_all(present, axis=1),
            "every_subset": tf.ones_like(present[:, 0]),
            "none": tf.zeros_like(present[:, 0]),
        }[model.prior_expert] | ~tf.reduce_any(present, axis=1)  # [B]
        log_precision = tf.concat(
            [-2.0 * tf.math.log(scale), tf.zeros_like(scale[:, :1])], axis=1
        )
        here = tf.concat([present, prior[:, tf.newaxis]], axis=1)[..., tf.newaxis]
        shares = tf.nn.softmax(tf.where(here, log_precision, -np.inf), axis=1)
        sums += shares.numpy().sum(axis=0, dtype=np.float64)
        rows += len(shares)
    by_dimension = dict(zip([*model.modality_names, "prior"], sums / rows))
    mean = {name: float(share.mean()) for name, share in by_dimension.items()}
    return PrecisionShare(by_dimension, mean)


def swap_styles(
    model: MultimodalVAE, content: Mapping[str, Any], style: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Decodes the shared latent of some rows with the styles of others.

    z is the mean of the posterior of `content`, s_m the mean of q(s_m | x_m) of
    `style`, or 0, the mean of its prior, where the modality is missing there. With a
    batch as both this is the model's reconstruction.

    Args:
      model: A model of modalities with styles.
      content: A batch of B rows, any modalities missing.
      style: Another; row i lends its styles to row i of `content`.

    Returns:
      Modality name to means `[B, *event_shape]`; of class indices the probabilities
      `[B, *event_shape, C]`.

    Raises:
      ValueError: If the model has no styles, or the batches differ in rows.
      TypeError, ValueError: If a batch is not as the model describes.
    """
    if not any(modality.style_dim for modality in model.modalities):
        raise ValueError(
            "`model` must have styles to swap. Received: modalities "
            f"{list(model.modality_names)}, none with a `style_dim`."
        )
    content, style = plain_rows("content", content), plain_rows("style", style)
    z = model.posterior(content).mean()
    styles = {name: s["loc"] for name, s in model.encode_styles(style).items()}
    rows = len(next(iter(styles.values())))
    if rows != len(z):
        raise ValueError(
            f"`content` and `style` must have as many rows. Received: {len(z)} and "
            f"{rows}."
        )
    return {name: x.numpy() for name, x in model.decode(z, styles).items()}


def latent_traversal(
    model: MultimodalVAE,
    inputs: Mapping[str, Any],
    *,
    dimensions: Sequence[int] | None = None,
    num_dimensions: int = 8,
    values: Sequence[float] | np.ndarray = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
) -> Traversal:
    """Decodes one row while one latent dimension at a time takes other values.

    The other dimensions stay at the posterior's mean, styles at theirs (0, the mean of
    the prior, where the modality is missing).

    Args:
      model: The model.
      inputs: A batch of one row, any modalities missing.
      dimensions: Which to change, each from 0 to D - 1. By default those that are
        furthest from the prior, first the furthest: by sum_S w_S KL(q_S || p) of the
        dimension alone, its part of the loss's bound.
      num_dimensions: How many of those, at most; unused where `dimensions` are given.
      values: What they are set to, in standard deviations of the prior, `[V]`.

    Returns:
      The dimensions, the values and what was decoded.

    Raises:
      ValueError: If there is not exactly one row, or a dimension is not in the latent.
      TypeError, ValueError: If the batch is not as the model describes.
    """
    inputs = plain_rows("inputs", inputs)
    batch = model.unpack_batch(inputs)
    posterior = model.posterior(batch)
    mean = posterior.mean()  # [B, D]
    if len(mean) != 1:
        raise ValueError(
            f"`inputs` must be a batch of one row. Received: {len(mean)} rows. Take "
            "one, such as `x[:1]` of each array."
        )
    if dimensions is None:
        furthest = np.argsort(-_kl_by_dimension(posterior)[0], kind="stable")
        chosen = furthest[: whole_number("num_dimensions", num_dimensions, minimum=1)]
    else:
        last = model.latent_dim - 1
        chosen = np.array(
            [whole_number("dimensions", d, maximum=last) for d in dimensions], int
        )
    points = plain_array("values", values).astype(np.float64)
    if points.ndim != 1 or not np.isfinite(points).all():
        raise ValueError(f"`values` must be finite numbers [V]. Received: {values!r}.")
    z = np.tile(mean, [len(chosen), len(points), 1])  # [T, V, D]
    for place, dimension in enumerate(chosen):
        z[place, :, dimension] = points
    styles = {
        name: np.tile(style["loc"], [*z.shape[:2], 1])
        for name, style in model.encode_styles(inputs).items()
    }
    outputs = {name: x.numpy() for name, x in model.decode(z, styles).items()}
    return Traversal(chosen, points, outputs)


def _kl_by_dimension(posterior) -> np.ndarray:
    """sum_S w_S KL(q_S || p) in nats of each dimension alone, `[B, D]`."""
    components = posterior.components_distribution  # batch [B, S]
    fields = components.mean(), tf.math.log(components.stddev())
    each = DiagonalGaussian(*(field[..., tf.newaxis] for field in fields))
    kls = kl_to_standard_normal(each)  # [B, S, D]
    return tf.einsum("bs,bsd->bd", posterior.mixture_weights, kls).numpy()
