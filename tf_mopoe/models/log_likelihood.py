"""log p(X) and log p(x_B | x_A) of a trained model, by importance sampling."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions import DiagonalGaussian, noise
from tf_mopoe.distributions.components import component_at
from tf_mopoe.distributions.gaussians import log_density, prior_mask, subset_products
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.bounds import log_mixture, log_standard_normal, where_present
from tf_mopoe.objectives.importance_sampling import (
    LogLikelihoodEstimate,
    estimate_from_weights,
    published_estimate,
)

if TYPE_CHECKING:
    from tf_mopoe.models.multimodal_vae import MultimodalVAE

#: Maximum number of elements of a tensor: 16 MiB, so that caches can hold it.
MAX_ELEMENTS = 2**22
#: What `proposal` may be, besides a list of modalities.
PROPOSALS = ("mixture", "published")


def estimate(
    model: "MultimodalVAE",
    inputs: Mapping[str, Any] | Batch,
    given: Sequence[str] | None = None,
    *,
    num_samples: int = 1000,
    proposal: str | Sequence[str] = "mixture",
    seed: int | None = None,
) -> LogLikelihoodEstimate:
    """Importance-sampled log-likelihood of what is present in each row.

        log p(X) ~ log (1/K) sum_k p(z_k) p(X | z_k) / q(z_k),   z_k ~ q

    styles included: s_m ~ q(s_m | x_m). The mean over draws lies below log p(X),
    and approaches it as K grows (Burda et al., ICLR 2016). Weights of the loss have no
    effect.

    Given some modalities A, of the others B that are present

        log p(x_B | x_A) = log p(x_A, x_B) - log p(x_A)

    each estimated with its own proposal and draws. (Draws from q(z | x_A) alone
    would seldom fall where p(x_B | z) is large.)

    Args:
      model: A `MultimodalVAE`.
      inputs: A batch, any modalities missing. What is not present in a row is not
        in its log-likelihood; that of a row without anything is 0.
      given: Names of A; None: log p(X). In a row where A is missing: log p(x_B);
        where all else is missing: 0.
      num_samples: K, at least 1.
      proposal: `"mixture"`: the posterior, with its true density; a list of
        modalities: the product of these experts alone (also for log p(x_A), where
        it must be within A); `"published"`: the estimator of the published code of
        Sutter et al., to compare with published tables only. It draws from the
        product of what is present, or of what is `given`, and scores the joint
        p(X), whichever is given; then it reads samples of different rows as those
        of one, and so depends on the whole batch. It is not log p.
      seed: Any whole number in the range of int64; see `impute`. The draws of
        row i depend on it and i alone. None: fresh draws.

    Returns:
      Value, standard error and effective sample size, `[B]` each.

    Raises:
      ValueError: If an argument is not as described.
    """
    num_samples = whole_number("num_samples", num_samples, minimum=1)
    batch = model.unpack_batch(inputs)
    given = None if given is None else _checked_given(model, given, batch)
    seeds = noise.seed_pairs(noise.row_seeds(seed, batch.num_rows()))
    names: tuple[str, ...] | None = None
    if isinstance(proposal, str):
        if proposal not in PROPOSALS:
            raise ValueError(
                f"`proposal` must be one of {list(PROPOSALS)} or a list of "
                f"modalities. Received: {proposal!r}."
            )
        if proposal == "published":
            source = given or model.modality_names
            weights = log_weights_in_parts(model, batch, seeds, num_samples, source)
            return published_estimate(weights)
    else:
        names = _checked_proposal(model, proposal, batch, given)
    joint = estimate_from_weights(
        log_weights_in_parts(model, batch, seeds, num_samples, names)
    )
    if given is None:
        return joint
    part = _restricted(batch, given, model.modality_names)
    condition = estimate_from_weights(
        log_weights_in_parts(model, part, noise.fold_in(seeds, 2), num_samples, names)
    )
    difference = LogLikelihoodEstimate(
        joint.log_likelihood - condition.log_likelihood,
        tf.sqrt(joint.standard_error**2 + condition.standard_error**2),
        tf.minimum(joint.effective_sample_size, condition.effective_sample_size),
    )
    if batch.present is None:
        return difference
    others = np.array([name not in given for name in model.modality_names])
    explains = tf.reduce_any(batch.present & others, axis=-1)  # [B]
    nothing = (0.0, 0.0, float(num_samples))
    return LogLikelihoodEstimate(
        *(tf.where(explains, x, default) for x, default in zip(difference, nothing))
    )


def _checked_names(
    model: "MultimodalVAE", field: str, names: Sequence[str], batch: Batch
) -> tuple[str, ...]:
    unknown = (
        [names]
        if isinstance(names, str)
        else [n for n in names if n not in batch.values]
    )
    if unknown or not names:
        raise ValueError(
            f"`{field}` must be a list of modalities that the batch has, some of "
            f"{list(batch.values)}. Received: {names!r}."
        )
    return tuple(name for name in model.modality_names if name in names)


def _checked_given(
    model: "MultimodalVAE", given: Sequence[str], batch: Batch
) -> tuple[str, ...]:
    checked = _checked_names(model, "given", given, batch)
    if set(checked) == set(batch.values):
        raise ValueError(
            "`given` must leave a modality of the batch to explain. "
            f"Received: {list(given)}, all that the batch has."
        )
    return checked


def _checked_proposal(
    model: "MultimodalVAE", proposal, batch: Batch, given
) -> tuple[str, ...]:
    names = _checked_names(model, "proposal", proposal, batch)
    if given is not None and not set(names) <= set(given):
        raise ValueError(
            f"`proposal` must be within `given`, {list(given)}: log p of these "
            f"needs it too. Received: {list(names)}."
        )
    if batch.present is not None:
        columns = [model.modality_names.index(name) for name in names]
        complete = tf.reduce_all(tf.gather(batch.present, columns, axis=1))
        if tf.executing_eagerly() and not complete:
            raise ValueError(
                f"`proposal` names {list(names)}, which are missing in some rows. "
                "Leave those rows out, or use proposal='mixture'."
            )
    return names


def log_weights_in_parts(
    model: "MultimodalVAE", batch: Batch, seeds: tf.Tensor, num_samples: int, names
) -> tf.Tensor:
    """log w of K samples of each row, `[K, B]`, some rows and samples at a time."""
    row = elements_per_sample(model)
    per_step = max(1, min(num_samples, MAX_ELEMENTS // row))
    steps = -(-num_samples // per_step)
    per_step = -(-num_samples // steps)
    count = next(iter(batch.values.values())).shape[0]
    rows = max(1, MAX_ELEMENTS // (row * num_samples))
    compiled = _compiled_log_weights(model, batch, steps, per_step, names)
    parts = []
    for start in range(0, max(count, 1), rows):  # no rows: one empty part
        part = slice(start, start + rows)
        parts.append(
            compiled(
                {name: value[part] for name, value in batch.values.items()},
                None if batch.present is None else batch.present[part],
                seeds[part],
            )
        )
    return tf.concat(parts, axis=1)[:num_samples]


def elements_per_sample(model: "MultimodalVAE") -> int:
    """Size of the largest tensor that one sample of one row needs.

    That is the mixture's components, or a decoded value.
    """
    return max(
        model.latent_dim * (len(model.mask) if model.mask is not None else 32),
        *(int(np.prod(x.parameter_shape)) for x in model.likelihoods),
    )


def _compiled_log_weights(
    model: "MultimodalVAE", batch: Batch, steps: int, per_step: int, names
):
    """`log_weights` for batches of this form: a compiled function, made once."""
    # Not an attribute: Keras would track it.
    kept = model.__dict__.setdefault("_compiled_for_log_weights", {})
    key = (tuple(batch.values), batch.present is None, steps, per_step, names)
    if key not in kept:
        kept[key] = tf.function(
            functools.partial(
                log_weights, model, steps=steps, per_step=per_step, names=names
            ),
            autograph=False,
            reduce_retracing=True,
        )
    return kept[key]


def log_weights(
    model: "MultimodalVAE", values, present, seeds, *, steps, per_step, names
):
    """log w `[K, B]`, K = steps * per_step; row i's from its own seed alone.

    Args:
      model: A `MultimodalVAE`.
      values: Values of a batch.
      present: Flags of a batch.
      seeds: Seeds of the rows, int32 `[B, 2]`.
      steps: Number of times that `per_step` samples are decoded.
      per_step: Number of samples at a time.
      names: The proposal: None for the mixture, or the modalities of a product.
    """
    batch = Batch(values, present)
    encoded = model.networks.encode(batch)
    components, weights = proposal_components(model, encoded, batch, names)
    names_of_model = model.modality_names
    styles = {
        name: style
        for name, style in model.networks.styles(encoded, batch).items()
        if name in values
    }
    drawn = noise.draws_by_row(
        seeds,
        steps * per_step,
        {
            "": model.latent_dim,  # no modality has this name
            **{k: int(v.loc.shape[-1]) for k, v in styles.items()},
        },
        components.loc.dtype,
    )

    def step(part):
        point, normal = part  # [k, B], of [k, B, D]
        chosen = component_at(weights, point)
        z = gathered(components, chosen, normal[""])
        total = log_standard_normal(z) - log_mixture(components, weights, z)
        for name, value in values.items():
            s = None
            if name in styles:
                s = styles[name].loc + tf.exp(styles[name].log_scale) * normal[name]
                total += log_standard_normal(s) - log_density(styles[name], s)
            log_prob = model.networks.likelihood(name, z, s).log_prob(value)
            log_prob = where_present(present, names_of_model.index(name), log_prob)
            total += tf.cast(log_prob, total.dtype)
        return total

    parts = tf.nest.map_structure(
        lambda x: tf.reshape(x, tf.concat([[steps, per_step], tf.shape(x)[1:]], 0)),
        drawn,
    )
    parts = tf.nest.map_structure(
        lambda x, like: tf.ensure_shape(x, [steps, per_step, *like.shape[1:]]),
        parts,
        drawn,
    )
    if steps == 1:
        return step(tf.nest.map_structure(lambda x: x[0], parts))
    total = tf.map_fn(
        step,
        parts,
        fn_output_signature=tf.TensorSpec([per_step, None], components.loc.dtype),
        parallel_iterations=1,
    )
    return tf.reshape(total, [steps * per_step, -1])


def proposal_components(model: "MultimodalVAE", encoded, batch: Batch, names):
    """Components `[B, S, D]` and weights `[B, S]` of the proposal."""
    if names is None:
        mixture = model.mixture(encoded.experts, batch)
        normal = mixture.components_distribution
        components = DiagonalGaussian(normal.mean(), tf.math.log(normal.stddev()))
        return components, mixture.mixture_weights
    mask = np.array([[name in names for name in model.modality_names]])
    components = subset_products(
        encoded.experts.loc,
        encoded.experts.log_scale,
        mask,
        with_prior=prior_mask(mask, model.prior_expert),
        present=batch.present,
    )
    return components, tf.ones_like(components.loc[..., 0])


def gathered(
    components: DiagonalGaussian, chosen: tf.Tensor, normal: tf.Tensor
) -> tf.Tensor:
    """z `[K, B, D]` of the chosen components `[K, B]` and standard normals."""
    rows = tf.broadcast_to(tf.range(tf.shape(chosen)[1]), tf.shape(chosen))
    where = tf.stack([rows, chosen], axis=-1)  # [K, B, 2]
    loc, log_scale = (tf.gather_nd(field, where) for field in components)
    return loc + tf.exp(log_scale) * normal


def _restricted(batch: Batch, names: Sequence[str], every: Sequence[str]) -> Batch:
    """The batch as if only `names` of all modalities were present."""
    values = {name: batch.values[name] for name in names}
    rows = tf.shape(next(iter(values.values())))[0]
    kept = tf.broadcast_to([name in names for name in every], [rows, len(every)])
    present = kept if batch.present is None else kept & batch.present
    return Batch(values, present)
