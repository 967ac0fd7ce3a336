"""log p(X) and log p(x_B | x_A) of a trained model, by importance sampling."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.distributions import DiagonalGaussian, noise
from tf_mopoe.distributions.components import component_at
from tf_mopoe.distributions.gaussians import log_density, prior_mask, subset_products
from tf_mopoe.models.batches import Batch
from tf_mopoe.models.bounds import View
from tf_mopoe.objectives.importance_sampling import (
    LogLikelihoodEstimate,
    estimate_from_weights,
    published_estimate,
)

#: Numbers of one tensor at a time, at most: 16 MiB, within reach of caches.
MAX_ELEMENTS = 2**22
#: What `proposal` may be, besides a list of modalities.
PROPOSALS = ("mixture", "published")


class LogLikelihoodMixin(keras.Model):
    """Log-likelihoods of `MultimodalVAE`; networks run in inference mode."""

    def log_likelihood(
        self,
        inputs: Mapping[str, Any],
        given: Sequence[str] | None = None,
        *,
        num_samples: int = 1000,
        proposal: str | Sequence[str] = "mixture",
        seed: int | None = None,
    ) -> tf.Tensor:
        """log p(X), or of what is not given: see `log_likelihood_estimate`.

        Returns:
          Nats, float64 `[B]`.
        """
        return self.log_likelihood_estimate(
            inputs, given, num_samples=num_samples, proposal=proposal, seed=seed
        ).log_likelihood

    def log_likelihood_estimate(
        self,
        inputs: Mapping[str, Any],
        given: Sequence[str] | None = None,
        *,
        num_samples: int = 1000,
        proposal: str | Sequence[str] = "mixture",
        seed: int | None = None,
    ) -> LogLikelihoodEstimate:
        """Importance-sampled log-likelihood of what is present in each row.

            log p(X) ~ log (1/K) sum_k p(z_k) p(X | z_k) / q(z_k),   z_k ~ q

        styles included: s_m ~ q(s_m | x_m). The mean over draws lies below log p(X),
        less so as K grows (Burda et al., ICLR 2016). Weights of the loss play no part.

        Given some modalities A, of the others B that are present

            log p(x_B | x_A) = log p(x_A, x_B) - log p(x_A)

        each estimated with its own proposal and draws. (Draws from q(z | x_A) alone
        would seldom come to where p(x_B | z) is large.)

        Args:
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
            row i depend on it and i alone. None draws anew.

        Returns:
          Value, standard error and effective sample size, `[B]` each.

        Raises:
          ValueError: If an argument is not as described.
        """
        num_samples = whole_number("num_samples", num_samples, minimum=1)
        batch = self.unpack_batch(inputs)
        given = None if given is None else self._checked_given(given, batch)
        seeds = noise.seed_pairs(noise.row_seeds(seed, batch.num_rows()))
        if isinstance(proposal, str):
            if proposal not in PROPOSALS:
                raise ValueError(
                    f"`proposal` must be one of {list(PROPOSALS)} or a list of "
                    f"modalities. Received: {proposal!r}."
                )
            if proposal == "published":
                names = given or self.modality_names
                weights = self._log_weights_in_parts(batch, seeds, num_samples, names)
                return published_estimate(weights)
            names = None
        else:
            names = self._checked_proposal(proposal, batch, given)
        joint = estimate_from_weights(
            self._log_weights_in_parts(batch, seeds, num_samples, names)
        )
        if given is None:
            return joint
        part = _restricted(batch, given, self.modality_names)
        condition = estimate_from_weights(
            self._log_weights_in_parts(
                part, noise.fold_in(seeds, 2), num_samples, names
            )
        )
        difference = LogLikelihoodEstimate(
            joint.log_likelihood - condition.log_likelihood,
            tf.sqrt(joint.standard_error**2 + condition.standard_error**2),
            tf.minimum(joint.effective_sample_size, condition.effective_sample_size),
        )
        if batch.present is None:
            return difference
        others = np.array([name not in given for name in self.modality_names])
        explains = tf.reduce_any(batch.present & others, axis=-1)  # [B]
        nothing = (0.0, 0.0, float(num_samples))
        return LogLikelihoodEstimate(
            *(tf.where(explains, x, default) for x, default in zip(difference, nothing))
        )

    def _checked_names(
        self, field: str, names: Sequence[str], batch: Batch
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
        return tuple(name for name in self.modality_names if name in names)

    def _checked_given(self, given: Sequence[str], batch: Batch) -> tuple[str, ...]:
        checked = self._checked_names("given", given, batch)
        if set(checked) == set(batch.values):
            raise ValueError(
                "`given` must leave a modality of the batch to explain. "
                f"Received: {list(given)}, all that the batch has."
            )
        return checked

    def _checked_proposal(self, proposal, batch: Batch, given) -> tuple[str, ...]:
        names = self._checked_names("proposal", proposal, batch)
        if given is not None and not set(names) <= set(given):
            raise ValueError(
                f"`proposal` must be within `given`, {list(given)}: log p of these "
                f"needs it too. Received: {list(names)}."
            )
        if batch.present is not None:
            columns = [self.modality_names.index(name) for name in names]
            there = tf.reduce_all(tf.gather(batch.present, columns, axis=1))
            if tf.executing_eagerly() and not there:
                raise ValueError(
                    f"`proposal` names {list(names)}, which are missing in some rows. "
                    "Leave those rows out, or use proposal='mixture'."
                )
        return names

    def _log_weights_in_parts(
        self, batch: Batch, seeds: tf.Tensor, num_samples: int, names
    ) -> tf.Tensor:
        """log w of K samples of each row, `[K, B]`, some rows and samples at a time."""
        row = self._numbers_of_a_sample()
        per_step = max(1, min(num_samples, MAX_ELEMENTS // row))
        steps = -(-num_samples // per_step)
        per_step = -(-num_samples // steps)
        count = next(iter(batch.values.values())).shape[0]
        rows = max(1, MAX_ELEMENTS // (row * num_samples))
        compiled = self._compiled_log_weights(batch, steps, per_step, names)
        parts = []
        for start in range(0, max(count, 1), rows):  # no rows: one empty part
            here = slice(start, start + rows)
            parts.append(
                compiled(
                    {name: value[here] for name, value in batch.values.items()},
                    None if batch.present is None else batch.present[here],
                    seeds[here],
                )
            )
        return tf.concat(parts, axis=1)[:num_samples]

    def _numbers_of_a_sample(self) -> int:
        """Of one row's largest tensor: the mixture's components, or a decoded value."""
        return max(
            self.latent_dim * (len(self.mask) if self.mask is not None else 32),
            *(int(np.prod(x.parameter_shape)) for x in self.likelihoods),
        )

    def _compiled_log_weights(self, batch: Batch, steps: int, per_step: int, names):
        """`_log_weights` for batches like this as a compiled function, kept."""
        # Not an attribute: Keras would track it.
        kept = self.__dict__.setdefault("_compiled_for_log_weights", {})
        key = (tuple(batch.values), batch.present is None, steps, per_step, names)
        if key not in kept:
            kept[key] = tf.function(
                functools.partial(
                    self._log_weights, steps=steps, per_step=per_step, names=names
                ),
                autograph=False,
                reduce_retracing=True,
            )
        return kept[key]

    def _log_weights(self, values, present, seeds, *, steps, per_step, names):
        """log w `[K, B]`, K = steps * per_step; row i's from its own seed alone.

        Args:
          values: Of a batch.
          present: Of a batch.
          seeds: int32 `[B, 2]`.
          steps: So many times `per_step` samples are decoded.
          per_step: Samples at a time.
          names: The proposal: None for the mixture, or the modalities of a product.
        """
        batch = Batch(values, present)
        encoded = self._encode_batch(batch)
        components, weights = self._proposal_components(encoded, batch, names)
        view = View(components, weights, present, tuple(values))
        styles = {
            name: style
            for name, style in self._styles(encoded, batch).items()
            if name in values
        }
        drawn = noise.draws_by_row(
            seeds,
            steps * per_step,
            {
                "": self.latent_dim,  # no modality has this name
                **{k: int(v.loc.shape[-1]) for k, v in styles.items()},
            },
            components.loc.dtype,
        )

        def step(part):
            point, normal = part  # [k, B], of [k, B, D]
            chosen = component_at(weights, point)
            z = gathered(components, chosen, normal[""])
            total = _log_standard_normal(z) - self._log_mixture(view, z)
            for name, value in values.items():
                s = None
                if name in styles:
                    s = styles[name].loc + tf.exp(styles[name].log_scale) * normal[name]
                    total += _log_standard_normal(s) - log_density(styles[name], s)
                index = self.modality_names.index(name)
                parameters = self._decode_parameters(index, z, s, training=False)
                log_prob = self._likelihood(index, parameters).log_prob(value)
                if present is not None:
                    log_prob = tf.where(present[:, index], log_prob, 0.0)
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

    def _proposal_components(self, encoded, batch: Batch, names):
        """Components `[B, S, D]` and weights `[B, S]` of the proposal."""
        if names is None:
            mixture = self._mixture(encoded, batch)
            normal = mixture.components_distribution
            components = DiagonalGaussian(normal.mean(), tf.math.log(normal.stddev()))
            return components, mixture.mixture_weights
        mask = np.array([[name in names for name in self.modality_names]])
        components = subset_products(
            encoded.experts.loc,
            encoded.experts.log_scale,
            mask,
            with_prior=prior_mask(mask, self.prior_expert),
            present=batch.present,
        )
        return components, tf.ones_like(components.loc[..., 0])


def _log_standard_normal(z: tf.Tensor) -> tf.Tensor:
    """log N(z; 0, I), `[...]`, in the dtype of z, `[..., D]`."""
    zero = tf.zeros([], z.dtype)
    return log_density(DiagonalGaussian(zero, zero), z)


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
