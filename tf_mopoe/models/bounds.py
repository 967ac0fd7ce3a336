"""What a bound on log p(X) is made of: a posterior, its samples, and their terms.

For all models but `MMJSD`, with weights of 1 and complete rows, the ELBO of these terms
is a lower bound on log p(X) in expectation.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from tf_mopoe.distributions import DiagonalGaussian, kl_to_standard_normal, noise
from tf_mopoe.distributions.gaussians import log_density
from tf_mopoe.distributions.subset_draws import DrawnSubsets, draw_subsets
from tf_mopoe.layers import SubsetProductOfExperts
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.networks import MultimodalNetworks
from tf_mopoe.objectives.objective import (
    OBJECTIVES,
    Divergence,
    LossWeights,
    Objective,
)
from tf_mopoe.subsets import SubsetSampler, available_subsets, membership_mask

if TYPE_CHECKING:
    from tf_mopoe.models.multimodal_vae import MultimodalVAE


class BoundTarget(NamedTuple):
    """A posterior, and the modalities that a bound with it explains.

    Attributes:
      components: Subset posteriors, `[B, S, D]`.
      weights: `[B, S]`, rows of sum 1, or 0 where no subset can be formed.
      present: bool `[B, M]`: which modalities count in which row; None for all. If
        there are several components, it must be that of the batch, since on several
        replicas components are drawn for the global batch.
      names: Names of the modalities to decode.
      drawn: The subsets, where a sampler has drawn them.
    """

    components: DiagonalGaussian
    weights: tf.Tensor
    present: tf.Tensor | None
    names: tuple[str, ...]
    drawn: DrawnSubsets | None = None


def joint_target(
    layer: SubsetProductOfExperts,
    experts: DiagonalGaussian,
    batch: Batch,
    seed: tf.Tensor,
) -> BoundTarget:
    """The joint posterior, which explains everything that is present.

    Args:
      layer: Forms the subset products.
      experts: Unimodal posteriors `[B, M, D]`.
      batch: The batch.
      seed: int32 `[2]` or `[B, 2]`: seed of the subsets, where they are sampled.
    """
    present, drawn = batch.present, None
    if isinstance(layer.subsets, SubsetSampler):
        rows = tf.shape(experts.loc)[:-1]
        drawn = draw_subsets(
            layer.subsets,
            tf.ensure_shape(
                tf.ones(rows, tf.bool) if present is None else present,
                [None, experts.loc.shape[1]],
            ),
            seed,
            dtype=experts.loc.dtype,
            replica=batch.replica,
        )
    components = layer(experts, present, drawn=drawn)
    if drawn is not None:
        weights = drawn.weights
    elif present is None:
        weights = tf.ones_like(components.loc[..., 0]) / components.loc.shape[1]
    else:
        mask = membership_mask(experts.loc.shape[1], layer.subsets)
        available = tf.cast(available_subsets(mask, present), components.loc.dtype)
        weights = tf.math.divide_no_nan(
            available, tf.reduce_sum(available, axis=-1, keepdims=True)
        )
    return BoundTarget(components, weights, present, tuple(batch.values), drawn)


class Samples(NamedTuple):
    """Samples of one bound's posterior.

    Attributes:
      z: `[K, B, D]`.
      styles: Modality name to s_m, `[K, B, D_m]`.
    """

    z: tf.Tensor
    styles: dict[str, tf.Tensor]


class BoundTerms(NamedTuple):
    """The terms of one bound.

    Attributes:
      reconstruction: Modality name to log p(x_m | z, s_m), nats `[K, B]`.
      divergence: Divergence of the posterior from the prior, nats `[B]`.
      objective: Makes a loss of them.
    """

    reconstruction: dict[str, tf.Tensor]
    divergence: Divergence
    objective: Objective


def bound_terms(
    model: "MultimodalVAE",
    batch: Batch,
    seed: tf.Tensor,
    weights: LossWeights,
    *,
    training: bool = False,
) -> list[BoundTerms]:
    """Terms of the bounds that a model's loss adds up, the joint posterior's first.

    Args:
      model: A `MultimodalVAE`.
      batch: A checked batch.
      seed: int32 `[2]` for the batch, or `[B, 2]`, one for each row: the same seed
        gives the same samples.
      weights: Weights of the loss.
      training: Whether networks run in training mode.
    """
    encoded = model.networks.encode(batch, training=training)  # experts [B, M, D]
    target_seed, z_seed, style_seed = noise.split_seed(seed, 3)
    targets = model.bound_targets(encoded.experts, batch, target_seed)
    objectives = [OBJECTIVES[model.objective]() for _ in targets]
    samples = []  # z, s ~ q(z, s | X): [K, B, D]
    for number, (target, objective) in enumerate(zip(targets, objectives)):
        z, _ = model.mixture_of_experts(
            target.components,
            target.present,
            seed=noise.fold_in(z_seed, number),
            drawn=target.drawn,
            num_samples=model.num_samples,
            replica=batch.replica,
        )
        z = objective.reparameterize(z, weights.beta * weights.content)
        styles = {}
        for name, style in encoded.styles.items():
            if name in target.names:
                index = model.modality_names.index(name)
                of_bound = noise.fold_in(noise.fold_in(style_seed, index), number)
                s = style.loc + tf.exp(style.log_scale) * noise.normal_for(
                    of_bound, model.num_samples, style.loc, batch.replica
                )
                weight = weights.beta * weights.styles[name]
                styles[name] = objective.reparameterize(s, weight)
        samples.append(Samples(z, styles))
    log_likelihoods = reconstructions(
        model.networks, batch, targets, samples, training=training
    )
    divergences = [
        divergence(
            model.divergence(target.components, target.weights),
            target,
            sample,
            encoded.styles,
            objective,
            model.modality_names,
        )
        for target, sample, objective in zip(targets, samples, objectives)
    ]
    return [*map(BoundTerms, log_likelihoods, divergences, objectives)]


def reconstructions(
    networks: MultimodalNetworks,
    batch: Batch,
    targets: Sequence[BoundTarget],
    samples: Sequence[Samples],
    *,
    training: bool = False,
) -> list[dict[str, tf.Tensor]]:
    """Log-likelihoods log p(x_m | z, s_m) by modality, one dictionary per bound.

    Each is in nats, `[K, B]`, and 0 in rows where the modality is missing. Each decoder
    runs once, on the samples of all bounds that explain its modality.
    """
    results: list[dict[str, tf.Tensor]] = [{} for _ in targets]
    for index, name in enumerate(networks.decoders):
        users = [i for i, target in enumerate(targets) if name in target.names]
        if not users:
            continue
        z = tf.stack([samples[i].z for i in users])  # [bounds, K, B, D]
        style = None
        if name in samples[users[0]].styles:
            style = tf.stack([samples[i].styles[name] for i in users])
        likelihood = networks.likelihood(name, z, style, training=training)
        log_probs = likelihood.log_prob(batch.values[name])  # [bounds, K, B]
        for i, log_prob in zip(users, tf.unstack(log_probs, num=len(users))):
            results[i][name] = where_present(targets[i].present, index, log_prob)
    return results


def divergence(
    content: tf.Tensor,
    target: BoundTarget,
    samples: Samples,
    style_experts: Mapping[str, DiagonalGaussian],
    objective: Objective,
    names: Sequence[str],
) -> Divergence:
    """Divergence of one bound's posterior, with densities if the objective needs them.

    Args:
      content: Divergence of the shared latent, `[B]`.
      target: The bound.
      samples: Its samples.
      style_experts: Modality name to q(s_m | x_m).
      objective: Its objective.
      names: Names of the model's modalities, in order.
    """
    style_kls, log_ratio, style_log_ratios = {}, None, {}
    for name, s in samples.styles.items():
        index, style = names.index(name), style_experts[name]
        kl = kl_to_standard_normal(style)
        style_kls[name] = where_present(target.present, index, kl)
        if objective.needs_densities:
            ratio = log_standard_normal(s) - log_density(objective.proposal(style), s)
            style_log_ratios[name] = where_present(target.present, index, ratio)
    if objective.needs_densities:
        components = objective.proposal(target.components)
        log_ratio = log_standard_normal(samples.z) - log_mixture(
            components, target.weights, samples.z
        )
    return Divergence(content, style_kls, log_ratio, style_log_ratios)


def where_present(present: tf.Tensor | None, index: int, value: tf.Tensor) -> tf.Tensor:
    """The value `[..., B]`, 0 in rows where modality `index` is missing."""
    if present is None:
        return value
    return tf.where(present[:, index], value, tf.zeros([], value.dtype))


def log_mixture(
    components: DiagonalGaussian, weights: tf.Tensor, z: tf.Tensor
) -> tf.Tensor:
    """log q(z | X) of the whole mixture, `[K, B]`, for z `[K, B, D]`."""
    # Where no subset can be formed all components are N(0, I): any weights do.
    some = tf.reduce_any(weights > 0.0, axis=-1, keepdims=True)
    weights = tf.where(some, weights, 1.0 / weights.shape[-1])
    log_densities = log_density(components, z[..., tf.newaxis, :])  # [K, B, S]
    return tf.reduce_logsumexp(tf.math.log(weights) + log_densities, axis=-1)


def log_standard_normal(z: tf.Tensor) -> tf.Tensor:
    """log N(z; 0, I), `[...]`, for z `[..., D]`."""
    zero = tf.zeros([], z.dtype)
    return log_density(DiagonalGaussian(zero, zero), z)


def mean_of_rows(
    losses: tf.Tensor, replica: noise.ReplicaSlice | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean over the rows here, and this replica's part of that over the global batch.

    Args:
      losses: `[B]`.
      replica: The rows of the global batch that these are.
    """
    if replica is None:
        mean = tf.reduce_mean(losses)
        return mean, mean
    total = tf.reduce_sum(losses)
    mean = tf.math.divide_no_nan(total, tf.cast(replica.num_rows, losses.dtype))
    return mean, total / tf.cast(replica.global_batch_size, losses.dtype)


def sum_of_scalars(values: Sequence[tf.Tensor], dtype: str | tf.DType) -> tf.Tensor:
    """Sum of scalars in one dtype; 0 of none."""
    return tf.add_n([tf.zeros([], dtype), *(tf.cast(x, dtype) for x in values)])
