"""The functions that Keras calls for each batch, and the metrics that they update."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_mopoe.distributions.event_likelihoods import EventLikelihood
from tf_mopoe.modality import Modality
from tf_mopoe.models.batches import (
    END_OF_MESSAGE,
    Batch,
    readable_errors,
    unpack_batch,
)
from tf_mopoe.models.fit_data import NO_TARGETS, with_weights
from tf_mopoe.models.inputs import ROWS_MUST_AGREE, WEIGHTS_MUST_BE, checked_weights
from tf_mopoe.models.loss_metrics import LossMetrics
from tf_mopoe.models.networks import MultimodalNetworks
from tf_mopoe.models.replicas import (
    function_of_workers,
    has_workers,
    mean_over_replicas,
    num_replicas,
    with_replica_slice,
    without_missing_gradients,
)
from tf_mopoe.models.saving import SavableModel
from tf_mopoe.models.step_noise import StepNoise

#: Settings of `compile` that may be changed afterwards, from the next step on.
RECOMPILED = ("jit_compile", "optimizer", "run_eagerly", "steps_per_execution")
#: Arguments that may be changed after a model was made.
ADJUSTABLE = ("beta", "beta_content", "beta_style", "num_samples", "seed")


class SteppedModel(SavableModel):
    """Steps of a model with modalities: traced, compiled, run on several replicas.

    On several replicas a batch is one batch: noise, loss, gradients and metrics are
    those of its rows on one device. (Not the random numbers and the statistics of
    networks that have some, such as `Dropout` and `BatchNormalization`.)

    A subclass sets these attributes in its constructor.

    Attributes:
      modalities: The modalities.
      networks: Their networks.
      latent_dtype: Dtype of values and latents.
      loss_metrics: The loss and its terms.
      noise: Seeds of the steps.
    """

    modalities: tuple[Modality, ...]
    networks: MultimodalNetworks
    latent_dtype: str
    loss_metrics: LossMetrics
    noise: StepNoise

    #: Attributes that are fixed once a model is made.
    FIXED_SETTINGS: tuple[str, ...] = (
        *("modalities", "latent_dim", "objective", "subsets", "prior_expert"),
        *("component_draw", "mask", "reconstruction_weights", "latent_dtype"),
        *("networks", "subset_product_of_experts", "mixture_of_experts"),
        *("loss_metrics", "noise"),
    )

    train_function: Any = None
    test_function: Any = None
    predict_function: Any = None
    _compiling = False

    def __setattr__(self, name, value):
        """Refuses to change what is fixed; other changes apply from the next step."""
        made = self.__dict__.get("_made", False)
        if made and name in self.FIXED_SETTINGS and name in self.__dict__:
            raise AttributeError(
                f"`{name}` is fixed when a model is made: make another one. These may "
                f"be changed: {list(ADJUSTABLE)}."
            )
        super().__setattr__(name, value)
        if made and name in RECOMPILED and not self._compiling:
            self.remake_functions()

    @property
    def modality_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the modalities, in order."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def likelihoods(self) -> tuple[EventLikelihood, ...]:
        """Likelihoods of the modalities, in order."""
        return tuple(self.networks.likelihoods.values())

    @property  # type: ignore[misc]
    def layers(self) -> list[keras.layers.Layer]:
        """The networks of all modalities, then the layers that join them."""
        networks = self.networks._flatten_layers(include_self=False, recursive=False)
        others = [layer for layer in super().layers if layer is not self.networks]
        return [*networks, *others]

    def unpack_batch(self, inputs: Any, *, check_values: bool = True) -> Batch:
        """Checks a batch; returns one that was checked unchanged.

        See `tf_mopoe.models.batches.unpack_batch`.
        """
        if isinstance(inputs, Batch):
            return inputs
        return unpack_batch(
            inputs,
            self.modalities,
            self.likelihoods,
            self.latent_dtype,
            check_values=check_values,
        )

    def _apply(self, gradients: list[Any]) -> None:
        """Updates the weights, but for variables without a gradient."""
        pairs = list(zip(gradients, self.trainable_variables))
        self.optimizer.apply_gradients(without_missing_gradients(pairs, self.optimizer))

    def test_step(self, data):
        """One evaluation step on `data`; returns the metrics."""
        batch, weights = self._unpack_step(data)
        self._compiled(self._evaluate)(batch, weights)
        self.noise.count_rows(batch)
        return self._results()

    def _evaluate(self, batch: Batch, weights: tf.Tensor | None):
        self.compute_loss(x=batch, sample_weight=weights, training=False)

    def predict_step(self, data):
        """Every modality's mean for one batch."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(with_weights(data))
        return self._compiled(self.call)(self.unpack_batch(x))

    def _unpack_step(self, data) -> tuple[Batch, tf.Tensor | None]:
        """The checked batch, and the weights of its rows `[B]`."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            raise ValueError(NO_TARGETS + "Leave it out of the dataset.")
        batch = with_replica_slice(self.unpack_batch(x))
        if weights is not None:
            weights = self._checked_row_weights(weights, batch)
        return batch, weights

    def _checked_loss_inputs(
        self, x: Any, row_weights: Any
    ) -> tuple[Batch, tf.Tensor | None]:
        """Batch and weights of `compute_loss`; a step has checked them already."""
        if isinstance(x, Batch):
            return x, row_weights
        batch = with_replica_slice(self.unpack_batch(x))
        if row_weights is not None:
            with readable_errors():
                row_weights = self._checked_row_weights(row_weights, batch)
        return batch, row_weights

    def _checked_row_weights(self, weights, batch: Batch) -> tf.Tensor:
        """Weights `[B]` of the rows; values are checked as those of a batch are."""
        weights = tf.convert_to_tensor(checked_weights(weights))
        weights = tf.cast(tf.reshape(weights, [-1]), self.latent_dtype)
        same_rows = tf.equal(tf.shape(weights)[0], batch.num_rows())
        message = ROWS_MUST_AGREE + " So must `sample_weight`." + END_OF_MESSAGE
        valid = tf.reduce_all(tf.math.is_finite(weights) & (weights >= 0))
        checks = [
            tf.debugging.Assert(same_rows, [message]),
            tf.debugging.Assert(valid, [WEIGHTS_MUST_BE + END_OF_MESSAGE]),
        ]
        # In eager mode `Assert` has raised already, or returned None.
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(weights)

    def _results(self):
        """The metrics so far, of all replicas."""
        if num_replicas() > 1:
            return mean_over_replicas(self.loss_terms)
        return self.get_metrics_result()

    @property
    def loss_terms(self) -> list[keras.metrics.Mean]:
        """The loss and each of its terms, as means over the rows of an epoch."""
        return self.loss_metrics.all

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that a subclass has added, without the loss and its terms.

        Keras would add those to the metrics of a model that holds this one; see
        `loss_terms`.
        """
        return list(self._metrics)

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in order."""
        return [metric.name for metric in (*self.loss_terms, *self.metrics)]

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """The loss, each of its terms and a subclass's metrics so far."""
        metrics = (*self.loss_terms, *self.metrics)
        return {metric.name: metric.result() for metric in metrics}

    def _flatten_metrics_in_order(self, logs):
        names = [name for name in self.metrics_names if name in logs]
        return [logs[name] for name in (*names, *sorted(set(logs) - set(names)))]

    def reset_metrics(self):
        """Starts new means; the next batch of `evaluate` is the first one."""
        for metric in (*self.loss_terms, *self.metrics):
            metric.reset_state()
        self.noise.restart_rows()

    def _build_optimizer(self):
        """Builds the optimizer for all variables, before the step is traced.

        While a step is traced, a batch that is refused would leave it half built, and
        one that lacks a modality would leave out that modality's variables.
        """
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Does nothing: the model is built. Keras would average flags over replicas."""

    def _make_function(self, step_function):
        """As Keras's, but moves row weights to where steps of Keras have them."""
        return super()._make_function(lambda data: step_function(with_weights(data)))

    def make_train_function(self, force=False):
        """As Keras's; also remade after layers were frozen or unfrozen."""
        if "_trainable_flags" not in self.__dict__:
            layers = tuple(self._flatten_layers())
            # In a function, since Keras would search a tuple, which holds this model.
            self.__dict__["_trainable_flags"] = lambda: tuple(
                layer.trainable for layer in layers
            )
        flags = self.__dict__["_trainable_flags"]()
        force = force or flags != self.__dict__.get("_traced_flags")
        self.__dict__["_traced_flags"] = flags
        self.train_function = self._made_function(
            super().make_train_function, "train_function", self.train_step, force
        )

    def make_test_function(self, force=False):
        """As Keras's."""
        self.test_function = self._made_function(
            super().make_test_function, "test_function", self.test_step, force
        )

    def make_predict_function(self, force=False):
        """As Keras's."""
        with self._keras_without_xla():
            super().make_predict_function(force)

    def _made_function(self, make: Callable, name: str, step: Callable, force: bool):
        """Keras's function for each batch; on several workers `function_of_workers`."""
        if not has_workers(self.distribute_strategy):
            with self._keras_without_xla():
                make(force)
        elif getattr(self, name) is None or force:
            return function_of_workers(
                self.distribute_strategy,
                lambda data: step(with_weights(data)),
                eagerly=self.run_eagerly,
            )
        return getattr(self, name)

    def remake_functions(self):
        """Remakes the functions of the steps, with the current settings."""
        if getattr(self, "train_function", None) is not None:
            self._build_optimizer()
            self.make_train_function(force=True)
        if getattr(self, "test_function", None) is not None:
            self.make_test_function(force=True)
        if getattr(self, "predict_function", None) is not None:
            self.make_predict_function(force=True)

    @contextlib.contextmanager
    def _keras_without_xla(self) -> Iterator[None]:
        """Keeps Keras from compiling whole steps: XLA drops the checks of values."""
        chosen, self._jit_compile = self._jit_compile, False
        try:
            yield
        finally:
            self._jit_compile = chosen

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The part of a step after the checks, with XLA if `jit_compile` is set."""
        if not self.jit_compile or tf.executing_eagerly():
            return function
        return tf.function(function, jit_compile=True, autograph=False)
