"""A SavedModel in TensorFlow's Session, the runtime of TensorFlow Serving."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

#: Code of TensorFlow's status for an invalid argument.
INVALID_ARGUMENT = 3


class SessionError(Exception):
    """TensorFlow refused a model or a request.

    Attributes:
      code: Code of TensorFlow's status, such as 3 for an invalid argument.
      message: First line of TensorFlow's message.
    """

    def __init__(self, code: int, message: str):
        """Keeps both."""
        super().__init__(message)
        self.code, self.message = code, message


class ServingSession:
    """A loaded SavedModel; can be run from several threads.

    Attributes:
      meta_graph: `MetaGraphDef` of the SavedModel.
      signatures: Name to `SignatureDef`, without TensorFlow's internal ones.

    Example:
        session = ServingSession("serving/polydigits/1")
        session.run(session.signatures["sample"], {"seed": np.arange(3)})["m0"]
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Loads the SavedModel with the tag `serve`.

        Raises:
          SessionError: If TensorFlow can't load it.
        """
        graph = tf.Graph()
        with graph.as_default(), _session_errors(), _no_deprecation_warnings():
            self._session = tf.compat.v1.Session(graph=graph)
            self.meta_graph = tf.compat.v1.saved_model.loader.load(
                self._session, ["serve"], os.fspath(folder)
            )
        self.signatures = {
            name: signature
            for name, signature in self.meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def run(self, signature, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature: One of `signatures`.
          feed: Input name to array, for every input; strings as objects of `bytes`.

        Returns:
          Output name to array.

        Raises:
          SessionError: If TensorFlow fails, or inputs are not those of the signature.
        """
        for key in feed.keys() ^ signature.inputs.keys():
            message = f"input {key!r} is missing, or not of the signature"
            raise SessionError(INVALID_ARGUMENT, message)
        tensors = {}
        for key, value in feed.items():
            dtype = np.dtype(tf.as_dtype(signature.inputs[key].dtype).as_numpy_dtype)
            tensors[signature.inputs[key].name] = array = np.asarray(value)
            if array.dtype != dtype:  # the Session would cast it
                message = f"input {key!r} has dtype {array.dtype}, not {dtype}"
                raise SessionError(INVALID_ARGUMENT, message)
        outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
        with _session_errors():
            return self._session.run(outputs, tensors)


@contextlib.contextmanager
def _session_errors() -> Iterator[None]:
    """Turns whatever a Session raises into `SessionError`."""
    try:
        yield
    except tf.errors.OpError as error:
        raise SessionError(error.error_code, _first_line(error.message)) from None
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise SessionError(INVALID_ARGUMENT, _first_line(str(error))) from None


@contextlib.contextmanager
def _no_deprecation_warnings() -> Iterator[None]:
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(message: str) -> str:
    message = message.removeprefix("Graph execution error:").strip()
    return (message.splitlines() or [""])[0]
