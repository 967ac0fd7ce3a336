"""The state of a model that checkpoints save and restore beside its weights."""

import pathlib

import keras
import numpy as np
from keras.ops import convert_to_numpy

from tf_mopoe import MultimodalVAE
from trainers.errors import RunError


def load_weights(model: MultimodalVAE, path: pathlib.Path) -> None:
    """Loads weights and the optimizer's values from a model's file.

    The model keeps its own schedules, which more epochs stretch.

    Raises:
      RunError: If the file is of another model.
    """
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(path)
    except ValueError as error:
        raise RunError(
            f"{path} does not fit the model: another version of the library or of the "
            f"recipe wrote it. ({str(error).splitlines()[0]})"
        ) from error


def non_finite_variables(model: MultimodalVAE) -> list[str]:
    """Paths of weights and optimizer variables that hold NaN or infinity."""
    return [
        variable.path
        for variable in [*model.weights, *model.optimizer.variables]
        if not np.isfinite(convert_to_numpy(variable)).all()
    ]


def running_means(model: MultimodalVAE) -> dict[str, list[float]]:
    """Values of the variables of the model's metrics, by name."""
    return {
        metric.name: [float(convert_to_numpy(x)) for x in metric.variables]
        for metric in model.loss_terms
    }


def set_running_means(model: MultimodalVAE, values: dict[str, list[float]]) -> None:
    """Restores what `running_means` returned."""
    for metric in model.loss_terms:
        for variable, value in zip(metric.variables, values[metric.name], strict=True):
            variable.assign(value)


def generator_states(model: MultimodalVAE) -> list[list[int]]:
    """States of the layers' random generators, which no model file holds."""
    return [convert_to_numpy(x).tolist() for x in _generators(model)]


def set_generator_states(model: MultimodalVAE, states: list[list[int]]) -> None:
    """Restores what `generator_states` returned."""
    for variable, state in zip(_generators(model), states, strict=True):
        variable.assign(np.asarray(state))


def _generators(model: MultimodalVAE) -> list[keras.Variable]:
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
