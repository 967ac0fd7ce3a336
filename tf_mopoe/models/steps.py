"""The steps of all multimodal VAEs: loss, gradients, metrics, and what is compiled."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_mopoe.distributions import noise
from tf_mopoe.models.batches import END_OF_MESSAGE, Batch, readable_errors
from tf_mopoe.models.bounds import BoundTerms
from tf_mopoe.models.fit_data import NO_TARGETS, with_weights
from tf_mopoe.models.inputs import (
    ROWS_MUST_AGREE,
    WEIGHTS_MUST_BE,
    checked_weights,
)
from tf_mopoe.models.replicas import (
    RunsReplicas,
    counter,
    mean_over_replicas,
    micro_step,
    num_replicas,
    sum_gradients,
    with_replica_slice,
    without_missing_gradients,
)


class StepsMixin(RunsReplicas):
    """Training, evaluation and prediction steps of `MultimodalVAE`.

    On several replicas a batch is one batch: noise, loss, gradients and metrics are
    those of its rows on one device. (Not the random numbers and the statistics of
    networks that have some, such as `Dropout` and `BatchNormalization`.)
    """

    _jit_compile: bool

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
        # Rows that `evaluate` has seen: where the next batch begins.
        self.__dict__["_rows_seen"] = counter(0)
        # The optimizer's step at the last loss of a training loop of the user's own,
        # and how many losses there were since then at this step.
        self.__dict__["_last_step"] = counter(-1)
        self.__dict__["_losses_at_step"] = counter(0)

    @property
    def loss_terms(self) -> list[keras.metrics.Mean]:
        """The loss and each of its terms, as means over the rows of an epoch."""
        return [
            self.loss_tracker,
            *self.log_likelihood_trackers,
            *self.style_kl_trackers,
            self.kl_bound_tracker,
            self.beta_tracker,
        ]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that a subclass has added, without the loss and its terms.

        Keras would add those to the metrics of a model that holds this one; see
        `loss_terms`.
        """
        own = {id(metric) for metric in self.loss_terms}
        return [metric for metric in self._metrics if id(metric) not in own]

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in order."""
        return [metric.name for metric in (*self.loss_terms, *self.metrics)]

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """The loss, each of its terms and a subclass's metrics so far."""
        every = (*self.loss_terms, *self.metrics)
        return {metric.name: metric.result() for metric in every}

    def _flatten_metrics_in_order(self, logs):
        names = [name for name in self.metrics_names if name in logs]
        return [logs[name] for name in (*names, *sorted(set(logs) - set(names)))]

    def reset_metrics(self):
        """Starts new means; the next batch of `evaluate` is the first one."""
        for metric in (*self.loss_terms, *self.metrics):
            metric.reset_state()
        self._rows_seen.assign(0)

    def _build_optimizer(self):
        """Before the step is traced: a first batch that is refused would leave it half.

        With all variables: a batch may lack a modality, a later one not.
        """
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """All is built. Keras's own would average a batch's flags over replicas."""

    def _make_function(self, step_function):
        """As Keras's, for steps that get the weights of rows where Keras has them."""
        return super()._make_function(lambda data: step_function(with_weights(data)))

    def make_train_function(self, force=False):
        """As Keras's; also made anew where networks were frozen or set free."""
        if "_trainable_flags" not in self.__dict__:
            layers = tuple(self._flatten_layers())
            # Within a function: Keras would walk through a tuple that holds this model.
            self.__dict__["_trainable_flags"] = lambda: tuple(
                layer.trainable for layer in layers
            )
        flags = self.__dict__["_trainable_flags"]()
        force = force or flags != self.__dict__.get("_traced_flags")
        self.__dict__["_traced_flags"] = flags
        with self._keras_without_xla():
            super().make_train_function(force)

    def make_test_function(self, force=False):
        """As Keras's."""
        with self._keras_without_xla():
            super().make_test_function(force)

    def make_predict_function(self, force=False):
        """As Keras's."""
        with self._keras_without_xla():
            super().make_predict_function(force)

    def remake_functions(self):
        """Has the steps traced anew, with the settings as they are now."""
        if getattr(self, "train_function", None) is not None:
            self._build_optimizer()
            self.make_train_function(force=True)
        if getattr(self, "test_function", None) is not None:
            self.make_test_function(force=True)
        if getattr(self, "predict_function", None) is not None:
            self.make_predict_function(force=True)

    @contextlib.contextmanager
    def _keras_without_xla(self) -> Iterator[None]:
        """Keras must not compile whole steps: XLA drops the checks of values."""
        chosen, self._jit_compile = self._jit_compile, False
        try:
            yield
        finally:
            self._jit_compile = chosen

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The part of a step that follows the checks, compiled by XLA if so chosen."""
        if not self.jit_compile or tf.executing_eagerly():
            return function
        return tf.function(function, jit_compile=True, autograph=False)

    def train_step(self, data):
        """One step on `data`; returns the metrics."""
        batch, weights = self._unpack_step(data)
        self._build_optimizer()
        self.__dict__["_in_train_step"] = True
        try:
            if num_replicas() == 1:
                self._compiled(self._update)(batch, weights)
            else:  # XLA can't compile what replicas do together
                gradients = self._compiled(self._gradients)(batch, weights)
                self._apply(sum_gradients(gradients, self.optimizer))
        finally:
            self.__dict__["_in_train_step"] = False
        return self._results()

    def _unpack_step(self, data) -> tuple[Batch, tf.Tensor | None]:
        """The checked batch, and the weights of its rows `[B]`."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            raise ValueError(NO_TARGETS + "Leave it out of the dataset.")
        batch = with_replica_slice(self.unpack_batch(x))
        if weights is not None:
            weights = self._checked_row_weights(weights, batch)
        return batch, weights

    def _checked_row_weights(self, weights, batch: Batch) -> tf.Tensor:
        """Weights `[B]` of the rows; values are checked as those of a batch are."""
        weights = tf.convert_to_tensor(checked_weights(weights))
        weights = tf.cast(tf.reshape(weights, [-1]), self.latent_dtype)
        agree = tf.equal(tf.shape(weights)[0], batch.num_rows())
        message = ROWS_MUST_AGREE + " So must `sample_weight`." + END_OF_MESSAGE
        right = tf.reduce_all(tf.math.is_finite(weights) & (weights >= 0))
        checks = [
            tf.debugging.Assert(agree, [message]),
            tf.debugging.Assert(right, [WEIGHTS_MUST_BE + END_OF_MESSAGE]),
        ]
        # Eagerly there is nothing to wait for: a failed check has raised.
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(weights)

    def _update(self, batch: Batch, weights: tf.Tensor | None):
        self._apply(self._gradients(batch, weights))

    def _gradients(self, batch: Batch, weights: tf.Tensor | None):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=batch, sample_weight=weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        return tape.gradient(scaled, self.trainable_variables)

    def _apply(self, gradients):
        pairs = list(zip(gradients, self.trainable_variables))
        self.optimizer.apply_gradients(without_missing_gradients(pairs, self.optimizer))

    def _results(self):
        """The metrics so far, of all replicas."""
        if num_replicas() > 1:
            return mean_over_replicas(self.loss_terms)
        return self.get_metrics_result()

    def test_step(self, data):
        """One evaluation step on `data`; returns the metrics."""
        batch, weights = self._unpack_step(data)
        self._compiled(self._evaluate)(batch, weights)
        rows = (
            batch.num_rows()
            if batch.replica is None
            else batch.replica.global_batch_size
        )
        self._rows_seen.assign_add(tf.cast(rows, tf.int64))
        return self._results()

    def _evaluate(self, batch: Batch, weights: tf.Tensor | None):
        self.compute_loss(x=batch, sample_weight=weights, training=False)

    def predict_step(self, data):
        """Every modality's mean for one batch."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(with_weights(data))
        return self._compiled(self.reconstruct)(self.unpack_batch(x))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The loss of a batch, for gradients, and an update of the metrics.

        Args:
          x: A batch, or what `unpack_batch` made of one.
          y: Not used.
          y_pred: Not used.
          sample_weight: Optional weights of the rows, `[B]`, finite and 0 or more.
          training: Whether networks run in training mode and the noise is the step's;
            else it is that of rows which follow those that `evaluate` has seen.

        Returns:
          Scalar, nats: the mean over rows; of one of several replicas its part of
          that: they sum to the mean over all rows, however these are shared out.

        Raises:
          TypeError, ValueError: If the batch or the weights are not as described.
        """
        self._clear_losses()  # of networks that this batch does not run
        if training and not self.__dict__.get("_in_train_step"):
            self._count_loss()
        batch = x if isinstance(x, Batch) else with_replica_slice(self.unpack_batch(x))
        if sample_weight is not None and not isinstance(x, Batch):
            with readable_errors():
                sample_weight = self._checked_row_weights(sample_weight, batch)
        beta = self._current_beta()
        rows, terms = self.negative_bounds(
            batch, self._noise_seed(batch, training), beta=beta, training=training
        )  # [B]
        if sample_weight is not None:
            rows, terms = rows * sample_weight, terms.weighted(sample_weight)
        # Losses that the user's networks add.
        penalty = tf.zeros([], rows.dtype)
        for of_layer in self.losses:
            penalty += tf.cast(of_layer, rows.dtype)
        if batch.replica is None:
            mean = share = tf.reduce_mean(rows)
        else:
            total = tf.cast(batch.replica.global_batch_size, rows.dtype)
            share = tf.reduce_sum(rows) / total
            mean = tf.math.divide_no_nan(
                tf.reduce_sum(rows), tf.cast(batch.replica.num_rows, rows.dtype)
            )  # of no rows: counts for nothing
        self._update_metrics(mean + penalty, beta, terms, batch)
        return share + penalty / num_replicas()

    def _current_beta(self) -> tf.Tensor:
        if isinstance(self.beta, float):
            return tf.cast(self._beta_variable, self.latent_dtype)
        steps = self._losses_at_step  # not 0 where another optimizer moves the weights
        if getattr(self, "optimizer", None) is not None:
            steps = tf.cast(self.optimizer.iterations, tf.int64) + steps
        return tf.cast(self.beta(steps), self.latent_dtype)

    def _count_loss(self):
        """Counts losses between steps of the optimizer, in loops of the user's own.

        Such a loop may have an optimizer of its own, of which the model knows nothing.
        """
        step = tf.cast(micro_step(getattr(self, "optimizer", None)), tf.int64)
        again = tf.cast(tf.equal(step, self._last_step), tf.int64)
        self._losses_at_step.assign((self._losses_at_step + 1) * again)
        self._last_step.assign(step)

    def _noise_seed(self, batch: Batch, training: bool) -> tf.Tensor:
        """Seed of the step, int32 `[2]`; in evaluation of each row, `[B, 2]`."""
        if training:
            seed = tf.constant([self.seed, 1], tf.int32)
            step = micro_step(getattr(self, "optimizer", None))
            seed = noise.fold_in(seed, step)
            if self.__dict__.get("_in_train_step"):
                return seed
            again = tf.convert_to_tensor(self._losses_at_step)
            return tf.where(again > 0, noise.fold_in(seed, again), seed)
        first = tf.convert_to_tensor(self._rows_seen)
        if batch.replica is not None:
            first += tf.cast(batch.replica.start, tf.int64)
        seeds = noise.row_seeds(self.seed, batch.num_rows(), first)
        return noise.fold_in(noise.seed_pairs(seeds), 1)  # others than `impute` draws

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
