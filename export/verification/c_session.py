"""A SavedModel run through TensorFlow's C API, without TensorFlow's Python.

`TF_LoadSessionFromSavedModel` is the C++ loader and Session that TensorFlow Serving
uses. `import tensorflow` would import Keras, and with it much that a server lacks.
"""

import ctypes
import functools
import importlib.util
import pathlib
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

#: TF_DataType of the C API.
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: bool}
STRING = 7
#: A TF_TString: fixed by TensorFlow's ABI.
_STRING_SIZE = 24


class SessionError(Exception):
    """TensorFlow refused.

    Attributes:
      code: TF_Code: 3 for an invalid argument.
      message: TensorFlow's first line.
    """

    def __init__(self, code: int, message: str):
        """Keeps both."""
        super().__init__(message)
        self.code, self.message = code, message


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class _Status:
    """A TF_Status of one call, freed after it."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def __enter__(self) -> ctypes.c_void_p:
        self._pointer = ctypes.c_void_p(self._library.TF_NewStatus())
        return self._pointer

    def __exit__(self, kind, *_):
        code = self._library.TF_GetCode(self._pointer)
        message = self._library.TF_Message(self._pointer).decode(errors="replace")
        self._library.TF_DeleteStatus(self._pointer)
        if code != 0 and kind is None:
            raise SessionError(code, (message.splitlines() or [""])[0])


@functools.cache  # it can't be found any more once a stand-in is imported
def _tensorflow_folder() -> pathlib.Path:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise SessionError(12, "TensorFlow is not installed")
    return pathlib.Path(spec.submodule_search_locations[0])


def _load_library() -> ctypes.CDLL:
    found = sorted(_tensorflow_folder().glob("libtensorflow_cc.*"))
    if not found:
        raise SessionError(12, "TensorFlow is installed without its C++ library")
    library = ctypes.CDLL(str(found[0]))
    pointers = (
        "NewStatus NewGraph NewSessionOptions NewBuffer LoadSessionFromSavedModel "
        "GraphOperationByName AllocateTensor TensorData StringGetDataPointer"
    )
    for name in pointers.split():
        getattr(library, f"TF_{name}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_StringGetSize.restype = ctypes.c_size_t
    return library


class CSession:
    """A loaded SavedModel; may be run from several threads.

    Attributes:
      meta_graph: `MetaGraphDef`.
      signatures: Name to `SignatureDef`, without TensorFlow's internal ones.
    """

    def __init__(self, folder: str):
        """Loads the SavedModel with the tag `serve`.

        Raises:
          SessionError: If the C++ loader refuses it.
        """
        self._library = tf = _load_library()
        self._graph = ctypes.c_void_p(tf.TF_NewGraph())
        tags = (ctypes.c_char_p * 1)(b"serve")
        options = ctypes.c_void_p(tf.TF_NewSessionOptions())
        buffer = ctypes.cast(tf.TF_NewBuffer(), ctypes.POINTER(_Buffer))
        with _Status(tf) as status:
            session = tf.TF_LoadSessionFromSavedModel(
                options, None, folder.encode(), tags, 1, self._graph, buffer, status
            )
        self._session = ctypes.c_void_p(session)
        content = buffer.contents
        self.meta_graph = _parse_meta_graph(
            ctypes.string_at(content.data, content.length)
        )
        tf.TF_DeleteBuffer(buffer)
        tf.TF_DeleteSessionOptions(options)
        self.signatures = {
            name: signature
            for name, signature in self.meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def run(self, signature, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature: One of `signatures`.
          feed: Input name to array, of every input; strings as objects of `bytes`.

        Returns:
          Output name to array.

        Raises:
          SessionError: If TensorFlow fails, or an input is none of the signature's.
          ValueError: If a value has a dtype that no signature has.
        """
        tf, names = self._library, list(signature.outputs)
        for key in feed.keys() ^ signature.inputs.keys():
            raise SessionError(3, f"input {key!r} is missing, or not of the signature")
        inputs = self._outputs([signature.inputs[key].name for key in feed])
        outputs = self._outputs([signature.outputs[key].name for key in names])
        values = (ctypes.c_void_p * len(feed))(*map(self._tensor, feed.values()))
        answers = (ctypes.c_void_p * len(names))()
        try:
            with _Status(tf) as status:
                tf.TF_SessionRun(
                    *(self._session, None),
                    *(inputs, values, len(feed)),
                    *(outputs, answers, len(names)),
                    *(None, 0, None, status),
                )
        finally:
            for value in values:
                tf.TF_DeleteTensor(ctypes.c_void_p(value))
        return {name: self._array(answer) for name, answer in zip(names, answers)}

    def _outputs(self, tensor_names: list[str]):
        outputs = (_Output * len(tensor_names))()
        for output, tensor_name in zip(outputs, tensor_names):
            operation, _, index = tensor_name.partition(":")
            output.operation = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not output.operation:
                raise SessionError(5, f"the graph has no operation {operation!r}")
            output.index = int(index)
        return outputs

    def _allocate(self, dtype: int, shape, size: int) -> tuple[ctypes.c_void_p, int]:
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = ctypes.c_void_p(
            self._library.TF_AllocateTensor(
                dtype, dims, len(shape), ctypes.c_size_t(size)
            )
        )
        return tensor, self._library.TF_TensorData(tensor)

    def _tensor(self, value: Any) -> int | None:
        value = np.asarray(value, order="C")
        if value.dtype == object:
            tensor, data = self._allocate(
                STRING, value.shape, value.size * _STRING_SIZE
            )
            for index, text in enumerate(value.flat):
                place = ctypes.c_void_p(data + index * _STRING_SIZE)
                self._library.TF_StringInit(place)
                self._library.TF_StringCopy(place, text, ctypes.c_size_t(len(text)))
            return tensor.value
        found = [key for key, known in DTYPES.items() if value.dtype == known]
        if not found:
            raise ValueError(f"no signature takes values of dtype {value.dtype}")
        tensor, data = self._allocate(found[0], value.shape, value.nbytes)
        ctypes.memmove(data, value.ctypes.data, value.nbytes)
        return tensor.value

    def _array(self, address: int) -> np.ndarray:
        tf, tensor = self._library, ctypes.c_void_p(address)
        shape = [tf.TF_Dim(tensor, axis) for axis in range(tf.TF_NumDims(tensor))]
        kind, data = tf.TF_TensorType(tensor), tf.TF_TensorData(tensor)
        if kind not in DTYPES:
            tf.TF_DeleteTensor(tensor)
            raise SessionError(12, f"an output has TF_DataType {kind}")
        array = np.empty(shape, DTYPES[kind])
        if array.nbytes:
            ctypes.memmove(array.ctypes.data, data, array.nbytes)
        tf.TF_DeleteTensor(tensor)
        return array


def use_protocol_buffers_alone() -> None:
    """Lets `tensorflow.core` be imported without TensorFlow, unless that is loaded."""
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(_tensorflow_folder())]
    sys.modules.setdefault("tensorflow", package)


def _parse_meta_graph(content: bytes):
    use_protocol_buffers_alone()
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.MetaGraphDef.FromString(content)
