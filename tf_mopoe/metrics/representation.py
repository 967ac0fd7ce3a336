"""Contributions of modalities to the latents, and decoding of changed latents."""

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
    """Precision share by modality; see `precision_share`.

    Attributes:
      by_dimension: Modality name, or `"prior"`, to shares in [0, 1], `[D]`.
      mean: Modality name, or `"prior"`, to the mean share over the dimensions.

    Example:
      >>> PrecisionShare({"a": np.array([0.25, 0.75])}, {"a": 0.5}).mean["a"]
      0.5
    """

    by_dimension: dict[str, np.ndarray]
    mean: dict[str, float]


class Traversal(NamedTuple):
    """Result of `latent_traversal`.

    Attributes:
      dimensions: Latent dimensions that were changed, int `[T]`.
      values: Values that they were set to, `[V]`.
      outputs: Modality name to means `[T, V, *event_shape]`; for class indices
        probabilities `[T, V, *event_shape, C]`.

    Example:
      >>> outputs = {"a": np.zeros([1, 2, 3])}
      >>> Traversal(np.array([0]), np.array([-1.0, 1.0]), outputs).outputs["a"].shape
      (1, 2, 3)
    """

    dimensions: np.ndarray
    values: np.ndarray
    outputs: dict[str, np.ndarray]


def precision_share(
    model: MultimodalVAE, data: Mapping[str, Any], *, batch_size: int = 256
) -> PrecisionShare:
    """Share of each modality in the precision of the product of all present experts.

        share_m = lambda_m / (sum_n lambda_n + prior),   lambda_m = scale_m^-2,

    with n over the modalities present in the row, averaged over rows. The prior expert
    has precision 1 and counts as `"prior"` if the product includes it: with all M
    modalities present (`prior_expert="full_set"`), always (`"every_subset"`) or never
    (`"none"`). The share of a modality is 0 in rows where it is missing; in a row
    without any modality the share of the prior is 1. Shares add up to 1 in every
    dimension.

    Args:
      model: Model whose experts are compared.
      data: Modality name to `[N, *event_shape]`, not necessarily of all modalities;
        optionally `"present"`: modality name to bool `[N]`. uint8 becomes [0, 1].
      batch_size: Number of rows at a time.

    Returns:
      A `PrecisionShare`.

    Raises:
      TypeError, ValueError: If the data do not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 4, seed=0)
      >>> share = precision_share(model, {"a": np.zeros([5, 3], "f")})
      >>> {name: round(value, 3) for name, value in share.mean.items()}
      {'a': 1.0, 'b': 0.0, 'prior': 0.0}
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
        counts = tf.concat([present, prior[:, tf.newaxis]], axis=1)[..., tf.newaxis]
        shares = tf.nn.softmax(tf.where(counts, log_precision, -np.inf), axis=1)
        sums += shares.numpy().sum(axis=0, dtype=np.float64)
        rows += len(shares)
    by_dimension = dict(zip([*model.modality_names, "prior"], sums / rows))
    mean = {name: float(share.mean()) for name, share in by_dimension.items()}
    return PrecisionShare(by_dimension, mean)


def swap_styles(
    model: MultimodalVAE, content: Mapping[str, Any], style: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Decodes the shared latent of some rows with the styles of others.

    z is the mean of the posterior of `content`, s_m the mean of q(s_m | x_m) of `style`
    (0, the mean of its prior, where the modality is missing there). With the same batch
    for both the result is the model's reconstruction.

    Args:
      model: Model of modalities with styles.
      content: Batch of B rows, not necessarily of all modalities.
      style: Batch of B rows; row i gives the styles for row i of `content`.

    Returns:
      Modality name to means `[B, *event_shape]`; for class indices probabilities
      `[B, *event_shape, C]`.

    Raises:
      ValueError: If the model has no styles, or the batches differ in rows.
      TypeError, ValueError: If a batch does not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,), style_dim=1)], 2, seed=0)
      >>> content, style = {"a": np.zeros([4, 3], "f")}, {"a": np.ones([4, 3], "f")}
      >>> swap_styles(model, content, style)["a"].shape
      (4, 3)
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
            "`content` and `style` must have the same number of rows. Received: "
            f"{len(z)} and {rows}."
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

    The other dimensions stay at the posterior's mean, styles at the mean of theirs (0,
    the mean of the prior, where the modality is missing).

    Args:
      model: Model that encodes and decodes.
      inputs: Batch of one row, not necessarily of all modalities.
      dimensions: Dimensions to change, each from 0 to D - 1. By default those furthest
        from the prior, in falling order of sum_S w_S KL(q_S || p) of the dimension
        alone, its part of the bound in the loss.
      num_dimensions: Maximum number of dimensions; unused if `dimensions` are given.
      values: Values to set them to, in standard deviations of the prior, `[V]`.

    Returns:
      A `Traversal`: the dimensions, the values and the decoded means.

    Raises:
      ValueError: If there is not exactly one row, or a dimension is out of range.
      TypeError, ValueError: If the batch does not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (2,))], 4, seed=0)
      >>> row = {"a": np.zeros([1, 3], "f")}
      >>> traversal = latent_traversal(model, row, dimensions=[2], values=[-1.0, 1.0])
      >>> traversal.outputs["b"].shape  # one dimension, two values
      (1, 2, 2)
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
