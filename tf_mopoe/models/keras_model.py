"""`compile`, `fit`, `evaluate` and `predict`, with checks of their arguments."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tf_mopoe.models.batches import readable_errors
from tf_mopoe.models.fit_data import (
    NO_BATCHES,
    EpochWatcher,
    FitData,
    as_list,
    check_counts,
    check_not_legacy,
    check_some_rows,
    is_batches,
    no_rows,
    num_rows,
    unpacked,
)
from tf_mopoe.models.replicas import check_replicas_can, has_workers
from tf_mopoe.models.step_model import SteppedModel


class CheckedModel(SteppedModel):
    """`compile`, `fit`, `evaluate` and `predict` of a model with modalities."""

    _fit_data: FitData

    def compile(
        self,
        optimizer="adam",
        loss=None,
        *,
        jit_compile: bool = False,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        **kwargs,
    ):
        """Configures training. The loss is the model's own.

        Args:
          optimizer: A Keras optimizer or its name.
          loss: Not used: must be None.
          jit_compile: Whether XLA compiles the step, after the data are checked; on
            several replicas, each one's gradients.
          run_eagerly: Whether to run without `tf.function`, for debugging.
          steps_per_execution: As in Keras; 1 on several replicas.
          **kwargs: `auto_scale_loss`, as in Keras.

        Raises:
          TypeError: If the optimizer is of the package tf_keras.
          ValueError: If `loss` or `metrics` are given, or on several replicas
            `steps_per_execution` or an optimizer that accumulates gradients.
        """
        given = {"loss": loss, **kwargs}
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            kwargs.pop(name, None)
            if given.get(name) is not None:
                raise ValueError(
                    f"`{name}` is not for this model: its loss is the negative ELBO, "
                    "its metrics are the terms of that. Set weights in `Modality` and "
                    "`beta`; compute other metrics in a callback."
                )
        check_not_legacy("optimizer", optimizer)
        self._compiling = True
        try:
            super().compile(
                optimizer=optimizer,
                jit_compile=jit_compile,
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                **kwargs,
            )
        finally:
            self._compiling = False
        if (
            has_workers(self.distribute_strategy)
            or self.distribute_strategy.num_replicas_in_sync > 1
        ):
            check_replicas_can(self.optimizer, steps_per_execution)

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`, on batches as the class describes.

        `x` is a dictionary of arrays, or a `tf.data.Dataset`, `PyDataset` or generator
        of batches, or of (batch, None, weights). With weights of the rows, `loss` and
        its terms are means of weight times value, as in Keras: weights of mean 1 keep
        their units. `validation_data` is the same, or (x, None, weights).

        Raises:
          TypeError, ValueError: If an argument or a batch is not as described.
        """
        given = self._arguments(super().fit, args, kwargs)
        if given.get("class_weight") is not None:
            raise ValueError(
                "`class_weight` is not for this model: it has no targets. Give "
                "`sample_weight`, one number a row."
            )
        for callback in as_list(given.get("callbacks")):
            check_not_legacy("callbacks", callback)
        validation = given.get("validation_data")
        if validation is not None:
            # Checked on its own: the training data may have other entries.
            checker = FitData(self.modalities, self.likelihoods)
            checker.errors = self._fit_data.errors
            validation = checker.checked(*unpacked(validation))
            check_some_rows(validation)
            given["validation_data"] = validation
        check_some_rows(given["x"])
        if is_batches(given["x"]):
            given.setdefault("shuffle", False)  # or Keras warns that it can't
        self._prepare_training()
        watcher = EpochWatcher()
        if not isinstance(given.get("callbacks"), keras.callbacks.CallbackList):
            given["callbacks"] = [*as_list(given.get("callbacks")), watcher]
        with readable_errors(self._fit_data.errors):
            history = super().fit(**given)
        if watcher.has_begun and not watcher.has_seen_a_batch:
            raise ValueError(NO_BATCHES)
        return history

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`; data as `fit` takes them.

        The noise of a row depends on the model's seed and the row's place in the data
        alone: it is the same in every call, and whatever the batch size.
        """
        if kwargs.get("_use_cached_eval_dataset"):  # by `fit`, which has checked them
            with readable_errors():
                return super().evaluate(*args, **kwargs)
        given = self._arguments(super().evaluate, args, kwargs)
        check_some_rows(given["x"])
        with readable_errors(self._fit_data.errors):
            results = super().evaluate(**given)
        if not results:
            raise ValueError(NO_BATCHES)
        return results

    def predict(self, *args, **kwargs):
        """As `keras.Model.predict`: every modality's mean, `[B, *event_shape]`."""
        given = self._arguments(super().predict, args, kwargs)
        if isinstance(given["x"], Mapping) and num_rows(given["x"]) == 0:
            shapes = [likelihood.mean_shape for likelihood in self.likelihoods]
            return no_rows(dict(zip(self.modality_names, shapes)))
        with readable_errors(self._fit_data.errors):
            try:
                return super().predict(**given)
            except UnboundLocalError:  # raised by Keras if there was no batch
                raise ValueError(NO_BATCHES) from None

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        given = self._arguments(super().train_on_batch, args, kwargs)
        check_some_rows(given["x"])
        self._prepare_training()
        with readable_errors():
            return super().train_on_batch(**given)

    def test_on_batch(self, *args, **kwargs):
        """As `keras.Model.test_on_batch`."""
        given = self._arguments(super().test_on_batch, args, kwargs)
        check_some_rows(given["x"])
        with readable_errors():
            return super().test_on_batch(**given)

    def predict_on_batch(self, *args, **kwargs):
        """As `keras.Model.predict_on_batch`."""
        given = self._arguments(super().predict_on_batch, args, kwargs)
        with readable_errors():
            return super().predict_on_batch(**given)

    def _arguments(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Arguments of a method of `keras.Model` by name, its data checked."""
        given = dict(inspect.signature(method).bind(*args, **kwargs).arguments)
        if given.get("x") is None:
            raise TypeError(
                "`x` must be a dictionary of modality name to array, or a dataset of "
                "such batches. Received: None."
            )
        check_counts(given)
        y, weights = given.pop("y", None), given.pop("sample_weight", None)
        self.__dict__["_fit_data"] = FitData(self.modalities, self.likelihoods)
        return {**given, "x": self._fit_data.checked(given["x"], y, weights)}

    def _prepare_training(self):
        if (
            getattr(self, "optimizer", None) is not None
            and not self.trainable_variables
        ):
            raise ValueError(
                "There is nothing to train: all networks are frozen. Set `trainable = "
                "True` of one, and compile the model again."
            )
        self._build_optimizer()
