"""The server's description of a model: signatures, modalities, shapes and dtypes."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from export.client.errors import UnexpectedAnswer, make_error
from export.client.target import Target
from export.signatures.contract import BYTES_SUFFIX, FLAG_PREFIX

#: TensorFlow's names of the contract's dtypes; strings are objects.
DTYPES: dict[str, np.dtype] = {
    "DT_FLOAT": np.dtype(np.float32),
    "DT_DOUBLE": np.dtype(np.float64),
    "DT_INT32": np.dtype(np.int32),
    "DT_INT64": np.dtype(np.int64),
    "DT_BOOL": np.dtype(np.bool_),
    "DT_STRING": np.dtype(object),
}


class Tensor(NamedTuple):
    """An input or output `[B, *event_shape]`."""

    dtype: np.dtype
    event_shape: tuple[int, ...]


class Signature(NamedTuple):
    """Inputs and outputs by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def modality_inputs(self) -> dict[str, str]:
        """Modality name to the name of the input that holds its values."""
        names = [
            flag.removeprefix(FLAG_PREFIX)
            for flag in self.inputs
            if flag.startswith(FLAG_PREFIX)
        ]
        return {
            name: value
            for name in names
            for value in (name, name + BYTES_SUFFIX)
            if value in self.inputs
        }


class ServedModel(NamedTuple):
    """A description of a model.

    Attributes:
      signatures: All signatures by name.
      time: Time of the description, in seconds of `time.monotonic`.
    """

    signatures: dict[str, Signature]
    time: float

    def signature(self, name: str) -> Signature:
        """The signature of this name.

        Raises:
          ValueError: If there is none.
        """
        if name not in self.signatures:
            raise ValueError(
                f"The served model has no signature {name!r}; it has "
                f"{sorted(self.signatures)}. Export it again with mopoe-export."
            )
        return self.signatures[name]


def parse_metadata(metadata: Any, target: Target) -> ServedModel:
    """Reads the JSON form of GetModelMetadata's answer, of `target`.

    Raises:
      UnexpectedAnswer: If it has another form.
    """
    try:
        definitions = metadata["metadata"]["signature_def"]["signature_def"]
        signatures = {
            name: Signature(
                _tensors(definition.get("inputs", {})),
                _tensors(definition.get("outputs", {})),
            )
            for name, definition in definitions.items()
            if not name.startswith("__")
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"the metadata can't be read, {type(error).__name__}: {error}"
        raise make_error(UnexpectedAnswer, target, message) from None
    return ServedModel(signatures, time.monotonic())


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for name, info in infos.items():
        dims = info.get("tensor_shape", {}).get("dim", [])
        shape = tuple(int(dim.get("size", 0)) for dim in dims)
        tensors[name] = Tensor(DTYPES[info["dtype"]], shape[1:])
    return tensors
