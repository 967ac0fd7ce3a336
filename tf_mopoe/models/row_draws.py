"""Draws that depend on a row and its own seed alone, whatever it is batched with.

In serving, rows of several requests are answered together; `impute` and `sample` draw
the same way.
"""

from typing import TYPE_CHECKING

import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.distributions.components import component_at
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.log_likelihood import (
    MAX_ELEMENTS,
    elements_per_sample,
    gathered,
    log_weights,
    proposal_components,
)
from tf_mopoe.objectives.importance_sampling import estimate_from_weights

if TYPE_CHECKING:
    from tf_mopoe.models.multimodal_vae import MultimodalVAE

#: Rows for which `MAX_ELEMENTS` bounds the number of samples at a time.
ROWS = 64


def impute_by_row(
    model: "MultimodalVAE",
    batch: Batch,
    seeds: tf.Tensor,
    num_samples: int | None = None,
) -> dict[str, tf.Tensor]:
    """Every modality given what is present in each row; see `impute`.

    Args:
      model: A `MultimodalVAE`.
      batch: Checked batch.
      seeds: int64 `[B]`.
      num_samples: Number of draws K of the latents; None for one.

    Returns:
      Modality name to means `[K, B, *event_shape]`, of None `[B, *event_shape]`;
      see `call`.
    """
    encoded = model.networks.encode(batch)
    components, weights = proposal_components(model, encoded, batch, None)
    points, normals = _draws_by_row(model, seeds, num_samples or 1)
    z = gathered(components, component_at(weights, points), normals[""])
    styles = {
        name: style.loc + tf.exp(style.log_scale) * normals[name]
        for name, style in model.networks.styles(encoded, batch).items()
    }
    if num_samples is None:
        z, styles = z[0], {name: style[0] for name, style in styles.items()}
    return model.decode(z, styles)


def sample_by_row(model: "MultimodalVAE", seeds: tf.Tensor) -> dict[str, tf.Tensor]:
    """Every modality from the prior, as in `sample`, with one draw per seed.

    Args:
      model: A `MultimodalVAE`.
      seeds: int64 `[B]`.

    Returns:
      Modality name to `[B, *event_shape]`, means; see `call`.
    """
    normals = {name: x[0] for name, x in _draws_by_row(model, seeds, 1)[1].items()}
    return model.decode(normals.pop(""), normals)


def log_likelihood_by_row(
    model: "MultimodalVAE", batch: Batch, seeds: tf.Tensor, num_samples: int
) -> tf.Tensor:
    """log p of what is present in each row, as `log_likelihood` estimates it.

    Args:
      model: A `MultimodalVAE`.
      batch: Checked batch.
      seeds: int64 `[B]`.
      num_samples: K, importance samples from the posterior, at least 1.

    Returns:
      Nats, float64 `[B]`.
    """
    row = elements_per_sample(model)
    per_step = max(1, min(num_samples, MAX_ELEMENTS // (ROWS * row)))
    steps = -(-num_samples // per_step)
    weights = log_weights(
        model,
        batch.values,
        batch.present,
        noise.seed_pairs(seeds),
        steps=steps,
        per_step=-(-num_samples // steps),
        names=None,
    )
    return estimate_from_weights(weights[:num_samples]).log_likelihood


def _draws_by_row(model: "MultimodalVAE", seeds: tf.Tensor, count: int):
    """Points `[K, B]` and normals `[K, B, D]`; those of z have the name ""."""
    sizes = {m.name: m.style_dim for m in model.modalities if m.style_dim}
    return noise.draws_by_row(
        noise.seed_pairs(seeds),
        count,
        {"": model.latent_dim, **sizes},
        tf.as_dtype(model.latent_dtype),
    )
