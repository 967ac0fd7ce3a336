"""The training loop of all multimodal VAEs: loss, metrics and steps."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.models.batches import Batch, readable_errors
from tf_mopoe.models.bounds import BoundTerms
from tf_mopoe.models.replicas import (
    RunsReplicas,
    check_replicas_can,
    mean_over_replicas,
    num_replicas,
    sum_gradients,
    with_share,
)


class TrainingMixin(RunsReplicas):
    """`compile`, `fit`, `evaluate` and `predict` of `MultimodalVAE`.

    On several replicas a batch is one batch: noise, loss, gradients and metrics are
    those of its rows on one device. (Not the random numbers and the statistics of
    networks that have some, such as `Dropout` and `BatchNormalization`.)
    """

    def _build_metrics(self):
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.log_likelihood_trackers = [
            keras.metrics.Mean(name=f"{name}_log_likelihood")
            for name in self.modality_names
        ]
        self.style_kl_trackers = [
            keras.metrics.Mean(name=f"{name}_style_kl") for name in self.style_experts
        ]
        self.kl_bound_tracker = keras.metrics.Mean(name="kl_bound")
        self.beta_tracker = keras.metrics.Mean(name="beta")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss and each of its terms."""
        return [
            self.loss_tracker,
            *self.log_likelihood_trackers,
            *self.style_kl_trackers,
            self.kl_bound_tracker,
            self.beta_tracker,
        ]

    def compile(
        self,
        optimizer="adam",
        *,
        jit_compile: bool = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        **kwargs,
    ):
        """Configures training. The loss is the model's own.

        Args:
          optimizer: A Keras optimizer or its name.
          jit_compile: Whether XLA compiles the step; on several replicas, each one's
            gradients. Steps compiled as a whole do not check that values are finite
            and in the likelihood's support.
          run_eagerly: Whether to run without `tf.function`, for debugging.
          steps_per_execution: As in Keras; 1 on several replicas.
          **kwargs: `auto_scale_loss`, as in Keras.

        Raises:
          ValueError: If `loss` or `metrics` are given, or on several replicas
            `steps_per_execution` or an optimizer that accumulates gradients.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.pop(name, None) is not None:
                raise ValueError(
                    f"`{name}` is not for this model: its loss is the negative ELBO, "
                    "its metrics are the terms of that. Set weights in `Modality` and "
                    "`beta`; compute other metrics in a callback."
                )
        super().compile(
            optimizer=optimizer,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            **kwargs,
        )
        self._compiles_replicas = False
        if self.has_workers() or self.distribute_strategy.num_replicas_in_sync > 1:
            check_replicas_can(self.optimizer, steps_per_execution)
            self._compiles_replicas, self.jit_compile = jit_compile, False

    def compile_from_config(self, config: dict[str, Any]):
        """Compiles as a saved model was; Keras asks for this beside a `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`, on batches as the class describes.

        Raises:
          ValueError: If `class_weight` is given, or a batch is not as described.
        """
        if kwargs.get("class_weight") is not None:
            raise ValueError(
                "`class_weight` is not for this model: it has no targets. Give "
                "`sample_weight`, one number a row."
            )
        self._build_optimizer()
        return _run(super().fit, args, kwargs)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`; the noise is the same in every call."""
        return _run(super().evaluate, args, kwargs)

    def predict(self, *args, **kwargs):
        """As `keras.Model.predict`: every modality's mean, `[B, *event_shape]`."""
        return _run(super().predict, args, kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        self._build_optimizer()
        return _run(super().train_on_batch, args, kwargs)

    def _build_optimizer(self):
        """Before the step is traced: a first batch that is refused would leave it half.

        With all variables: a batch may lack a modality, a later one not.
        """
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def test_on_batch(self, *args, **kwargs):
        """As `keras.Model.test_on_batch`."""
        return _run(super().test_on_batch, args, kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """All is built. Keras's own would average a batch's flags over replicas."""

    def train_step(self, data):
        """One step on `data`; returns the metrics."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._build_optimizer()
        gradients_of = self._gradients
        if self._compiles_replicas:
            gradients_of = tf.function(gradients_of, jit_compile=True, autograph=False)
        gradients = gradients_of(with_share(self.unpack_batch(x)), sample_weight)
        gradients = sum_gradients(gradients, self.optimizer)
        # A decoder whose modality this batch lacks has no gradient.
        self.optimizer.apply_gradients(
            (gradient, variable)
            for gradient, variable in zip(gradients, self.trainable_variables)
            if gradient is not None
        )
        return self._results()

    def _gradients(self, batch: Batch, sample_weight):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(
                x=batch, sample_weight=sample_weight, training=True
            )
            scaled = self.optimizer.scale_loss(loss)
        return tape.gradient(scaled, self.trainable_variables)

    def _results(self):
        """The metrics so far, of all replicas."""
        if num_replicas() > 1:
            return mean_over_replicas(self.metrics)
        return self.get_metrics_result()

    def test_step(self, data):
        """One evaluation step on `data`; returns the metrics."""
        x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.compute_loss(x=x, sample_weight=sample_weight, training=False)
        return self._results()

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss of a batch, for gradients, and an update of the metrics.

        Args:
          x: A batch, or what `unpack_batch` made of one.
          y: Not used.
          y_pred: Not used.
          sample_weight: Optional weights of the rows, `[B]`.
          training: Whether networks run in training mode and the noise is the step's.

        Returns:
          Scalar, nats: the mean over rows; of one of several replicas its part of
          that: they sum to the mean over all rows, however these are shared out.
        """
        self._clear_losses()  # of networks that this batch does not run
        batch = x if isinstance(x, Batch) else with_share(self.unpack_batch(x))
        beta = self._current_beta()
        rows, terms = self.negative_bounds(
            batch, self._noise_seed(training), beta=beta, training=training
        )  # [B]
        if sample_weight is not None:
            rows *= tf.reshape(tf.cast(sample_weight, rows.dtype), [-1])
        # Of the user's networks.
        penalty = tf.zeros([], rows.dtype)
        for of_layer in self.losses:
            penalty += tf.cast(of_layer, rows.dtype)
        if batch.share is None:
            mean = share = tf.reduce_mean(rows)
        else:
            total = tf.cast(batch.share.total, rows.dtype)
            share = tf.reduce_sum(rows) / total
            mean = tf.math.divide_no_nan(
                tf.reduce_sum(rows), tf.cast(batch.share.rows, rows.dtype)
            )  # of no rows: counts for nothing
        self._update_metrics(mean + penalty, beta, terms, batch)
        return share + penalty / num_replicas()

    def _current_beta(self) -> float | tf.Tensor:
        if isinstance(self.beta, float):
            return self.beta
        return tf.cast(self.beta(self.optimizer.iterations), self.latent_dtype)

    def _noise_seed(self, training: bool) -> tf.Tensor:
        seed = tf.constant([self.seed, int(training)], tf.int32)
        if training:
            step = tf.cast(self.optimizer.iterations, tf.int32)
            seed = noise.fold_in(seed, step)
        return seed

    def _update_metrics(self, loss, beta, terms: BoundTerms, batch: Batch):
        """All by rows, so that they are the same on however many replicas."""
        rows = tf.shape(terms.kl_bound)[0]
        self.loss_tracker.update_state(loss, sample_weight=rows)
        self.beta_tracker.update_state(beta, sample_weight=rows)
        self.kl_bound_tracker.update_state(terms.kl_bound)
        means = {
            name: tf.reduce_mean(value, axis=0)  # over samples
            for name, value in terms.log_likelihoods.items()
        }
        for trackers, names, values in (
            (self.log_likelihood_trackers, self.modality_names, means),
            (self.style_kl_trackers, self.style_experts, terms.style_kls),
        ):
            for tracker, name in zip(trackers, names):
                if name in values:
                    here = None
                    if batch.present is not None:
                        here = batch.present[:, self.modality_names.index(name)]
                    tracker.update_state(values[name], sample_weight=here)


def _run(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]):
    """Calls a method of `keras.Model` on batches that have no targets."""
    weights = kwargs.get("sample_weight")
    if weights is not None and kwargs.get("y") is None:
        # Keras drops the weights of rows where there is no y. This y is not used.
        if len(args) < 2:
            kwargs = {**kwargs, "y": weights}
        elif args[1] is None:
            args = (args[0], weights, *args[2:])
    with readable_errors():
        return method(*args, **kwargs)
