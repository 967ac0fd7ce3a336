"""Saving and loading: a model that could not be loaded is not saved."""

import json
import random
from typing import Any

import h5py
import keras
import numpy as np

from tf_mopoe.layers.subset_specs import restore_subsets
from tf_mopoe.models.keras_types import KerasModel
from tf_mopoe.models.serving_inputs import export_saved_model

#: Key of the modalities' names beside a model's own variables.
MODALITIES = "modalities"


class SavableModel(KerasModel):
    """Saving, loading and `export` of a model with modalities.

    Attributes:
      modality_names: Names of the modalities, in order.
    """

    modality_names: tuple[str, ...]

    def get_compile_config(self):
        """As Keras's, with the variables that the optimizer was built for."""
        config = super().get_compile_config()
        if config:  # else the model is not compiled
            config["optimized_variables"] = optimized_variables(self)
        return config

    def compile_from_config(self, config: dict[str, Any]):
        """Compiles as a saved model was; needed since `compile` is overridden."""
        config = dict(config)
        places = config.pop("optimized_variables", None)
        self.compile(**keras.saving.deserialize_keras_object(config))
        if places is not None:
            variables = self.variables
            self.optimizer.build([variables[place] for place in places])

    def save(self, *args, **kwargs):
        """As `keras.Model.save`.

        Raises:
          ValueError: If what is saved could not be loaded.
        """
        check_loads(self)
        super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        """As `keras.Model.save_weights`.

        Raises:
          ValueError: If a rebuilt model could not load them.
        """
        check_loads(self)
        super().save_weights(*args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """As `keras.Model.load_weights`.

        Raises:
          ValueError: If the weights are of other modalities, or in another order.
        """
        if str(filepath).endswith(".weights.h5"):
            with h5py.File(filepath, "r") as file:
                self._check_modalities(file.get(f"vars/{MODALITIES}"))
        super().load_weights(filepath, *args, **kwargs)

    def save_own_variables(self, store):
        """As Keras's, with the names of the modalities, which files keep in order."""
        super().save_own_variables(store)
        names = "\n".join(self.modality_names)
        store[MODALITIES] = np.frombuffer(names.encode(), np.uint8)  # not text

    def load_own_variables(self, store):
        """As Keras's.

        Raises:
          ValueError: If the weights are of other modalities, or in another order.
        """
        variables = {key: store[key] for key in store.keys()}  # noqa: SIM118
        self._check_modalities(variables.pop(MODALITIES, None))
        super().load_own_variables(variables)

    def _check_modalities(self, names: Any) -> None:
        """Raises a ValueError if a file's modalities are not the model's."""
        if names is None:
            return
        saved = bytes(np.array(names)).decode().split("\n")
        if saved != list(self.modality_names):
            raise ValueError(
                f"The weights are of a model with modalities {saved}, in this order. "
                f"This model has {list(self.modality_names)}."
            )

    def quantize(self, *args, **kwargs):
        """Not offered: a quantised model could not be saved and loaded."""
        raise NotImplementedError(
            "`quantize` is not offered: a quantised model could not be saved and "
            "loaded. For smaller models, write the networks with `mopoe-export RUN OUT "
            "--format litert` and quantise those."
        )

    def export(
        self,
        filepath,
        format="tf_saved_model",
        verbose=None,
        input_signature=None,
        **kwargs,
    ):
        """Writes a SavedModel that reconstructs every modality.

        Its inputs are those of the served signatures: each modality `<modality>`
        `[B, *event_shape]` beside a flag `has_<modality>`, bool `[B]`. A row with NaN
        in a modality that is present yields NaN. `mopoe-export` writes a model that
        is verified, with all five signatures.

        Args:
          filepath: Folder to write.
          format: `"tf_saved_model"`.
          verbose: Whether to print what was written.
          input_signature: Not used: must be None.
          **kwargs: Not used.

        Raises:
          ValueError: If an argument is not as described.
        """
        if format != "tf_saved_model":
            raise ValueError(
                f"`format` must be 'tf_saved_model'. Received: {format!r}. Others: "
                "`mopoe-export FILE OUT --format onnx` (or litert)."
            )
        if input_signature is not None or kwargs:
            raise ValueError(
                "`export` takes `filepath`, `format` and `verbose`: the inputs are the "
                "model's modalities and flags. Received also: "
                f"{sorted(kwargs) or ['input_signature']}."
            )
        export_saved_model(self, filepath, verbose=verbose)


def frozen_layers(model: KerasModel) -> list[int]:
    """Places of the layers that are not trainable, in Keras's order of layers."""
    layers = model._flatten_layers()
    return [place for place, layer in enumerate(layers) if not layer.trainable]


def freeze_layers(model: KerasModel, places: list[int]) -> None:
    """Makes exactly these layers not trainable; see `frozen_layers`."""
    frozen = set(places)
    # A layer's flag is passed on to the layers within it, which come after it.
    for place, layer in enumerate(model._flatten_layers()):
        layer.trainable = place not in frozen


def optimized_variables(model: KerasModel) -> list[int] | None:
    """Places in `model.variables` of what the optimizer was built for."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return None
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    places = {id(variable): at for at, variable in enumerate(model.variables)}
    try:
        return [places[id(variable)] for variable in optimizer._trainable_variables]
    except KeyError:
        raise ValueError(
            "This model can't be saved: its optimizer was built for variables that are "
            "no longer the model's. Compile the model again."
        ) from None


def check_loads(model: KerasModel) -> None:
    """Raises a ValueError if the model can't be rebuilt from its configuration.

    A rebuilt model must have the same variables in the same places. Each structure is
    tried once.
    """
    structure = _structure(model)
    if model.__dict__.get("_loads_as") == structure:
        return
    model.__dict__["_loads_as"] = structure  # `get_config` calls this, too
    try:
        _check_rebuilt(model, structure)
    except BaseException:  # an interruption, too: the check was not made
        del model.__dict__["_loads_as"]
        raise


def _check_rebuilt(model: KerasModel, structure: list[tuple[Any, ...]]) -> None:
    whole = keras.saving.serialize_keras_object(model)
    whole.pop("compile_config", None)
    own_classes = {
        type(layer).__name__: type(layer) for layer in model._flatten_layers()
    }
    state = random.getstate()  # which initialisers draw from
    try:
        with keras.saving.custom_object_scope(own_classes):
            rebuilt = keras.saving.deserialize_keras_object(
                json.loads(json.dumps(whole)),
                safe_mode=False,  # a Lambda of this process is trusted
            )
        same = _structure(rebuilt) == structure
        reason = "its configuration makes a model with other variables"
    except Exception as error:  # whatever a user's layer raises
        first = (str(error).strip().splitlines() or [""])[0][:300]
        same, reason = False, f"{type(error).__name__}: {first.rstrip('.')}"
    finally:
        random.setstate(state)
    if not same:
        raise ValueError(
            "This model can't be saved, since what is saved could not be loaded: "
            f"{reason}. Layers of your own need `get_config`, and no layer may be "
            "changed in place (quantised, or its variables replaced) after the model "
            "was made."
        )


def _structure(model: KerasModel) -> list[tuple[Any, ...]]:
    return [
        (tuple(variable.shape), str(variable.dtype)) for variable in model.variables
    ]


def short_error(error: Exception) -> ValueError:
    """Keras's reason alone for a network that it can't rebuild."""
    text = str(error)
    reason = text.partition("Could not locate ")[2]
    if not reason:  # an error of the class itself, nested in others
        reason = text.rpartition("Exception encountered: ")[2]
    line = reason.strip().splitlines()[0].partition(" Make sure")[0][:300]
    return ValueError(
        f"A network of the model can't be rebuilt: {line.rstrip('.')}. Import the "
        "module that defines it, register its class with "
        "`keras.saving.register_keras_serializable()`, or pass it as "
        "`load_model(..., custom_objects={...})`."
    )


def rebuilt(cls: type, config: dict[str, Any], custom_objects: Any = None) -> Any:
    """The model of class `cls` that `get_config`'s dictionary describes."""
    config = dict(config)
    frozen = config.pop("frozen_layers", None)
    try:
        modalities = [
            keras.saving.deserialize_keras_object(entry, custom_objects=custom_objects)
            for entry in config["modalities"]
        ]
    except TypeError as error:  # Keras would put the whole configuration in front
        raise short_error(error) from None
    beta = keras.saving.deserialize_keras_object(
        config["beta"], custom_objects=custom_objects
    )
    if "subsets" in config:
        config = restore_subsets(config)
    model = cls(**{**config, "modalities": modalities, "beta": beta})
    if frozen is not None:
        freeze_layers(model, frozen)
    return model
