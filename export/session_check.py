"""Checks a SavedModel as a server would load it; runs as a script of its own.

    python session_check.py FOLDER

Loads FOLDER through TensorFlow's C API (`TF_LoadSessionFromSavedModel`: the C++ loader
and Session that TensorFlow Serving uses) in a process that imports neither Keras, nor
TensorFlow Probability, nor this project, nor TensorFlow's Python: `import tensorflow`
would import Keras. Checks the form of the signatures and replays the examples kept in
`assets.extra/examples.npz`. Prints one line; exits with 1 if anything is wrong.
"""

import ctypes
import importlib.util
import pathlib
import sys
import types
import zipfile
from collections.abc import Mapping

import numpy as np

EXAMPLES = pathlib.PurePath("assets.extra", "examples.npz")
METHOD = "tensorflow/serving/predict"
FOREIGN = ("keras", "tf_keras", "tensorflow_probability", "tf_mopoe", "trainers")
# float32 sums are formed in another order, in a network's depth.
RTOL, ATOL = 1e-4, 1e-5

#: TF_DataType of the C API.
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: bool}


class CheckFailed(Exception):
    """Says what is wrong with the SavedModel."""


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


def _tensorflow_folder() -> pathlib.Path:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise CheckFailed("TensorFlow is not installed")
    return pathlib.Path(spec.submodule_search_locations[0])


def _load_library() -> ctypes.CDLL:
    found = sorted(_tensorflow_folder().glob("libtensorflow_cc.*"))
    if not found:
        raise CheckFailed("TensorFlow is installed without its C++ library")
    library = ctypes.CDLL(str(found[0]))
    pointers = (
        "NewStatus NewGraph NewSessionOptions NewBuffer LoadSessionFromSavedModel "
        "GraphOperationByName AllocateTensor TensorData"
    )
    for name in pointers.split():
        getattr(library, f"TF_{name}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    return library


class CSession:
    """A SavedModel loaded by TensorFlow's C API.

    Attributes:
      signatures: Name to `SignatureDef`, without TensorFlow's internal ones.
    """

    def __init__(self, folder: str):
        """Loads the SavedModel with the tag `serve`.

        Raises:
          CheckFailed: If the C++ loader refuses it.
        """
        self._library = tf = _load_library()
        self._status = ctypes.c_void_p(tf.TF_NewStatus())
        self._graph = ctypes.c_void_p(tf.TF_NewGraph())
        tags = (ctypes.c_char_p * 1)(b"serve")
        meta_graph = ctypes.cast(tf.TF_NewBuffer(), ctypes.POINTER(_Buffer))
        self._session = ctypes.c_void_p(
            tf.TF_LoadSessionFromSavedModel(
                ctypes.c_void_p(tf.TF_NewSessionOptions()),
                None,
                folder.encode(),
                tags,
                1,
                self._graph,
                meta_graph,
                self._status,
            )
        )
        self._raise_on_error("the C++ loader refuses it")
        content = meta_graph.contents
        self.signatures = {
            name: signature
            for name, signature in _parse_signatures(
                ctypes.string_at(content.data, content.length)
            ).items()
            if not name.startswith("__")
        }

    def run(self, signature, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature: One of `signatures`.
          feed: Input name to value, of every input.

        Returns:
          Output name to value.

        Raises:
          CheckFailed: If the Session fails.
        """
        tf, names = self._library, list(signature.outputs)
        inputs = self._outputs([signature.inputs[key].name for key in feed])
        outputs = self._outputs([signature.outputs[key].name for key in names])
        values = (ctypes.c_void_p * len(feed))(*map(self._tensor, feed.values()))
        answers = (ctypes.c_void_p * len(names))()
        tf.TF_SessionRun(
            self._session,
            None,
            inputs,
            values,
            len(feed),
            outputs,
            answers,
            len(names),
            None,
            0,
            None,
            self._status,
        )
        for value in values:
            tf.TF_DeleteTensor(ctypes.c_void_p(value))
        self._raise_on_error("the Session can't run it")
        return {name: self._array(answer) for name, answer in zip(names, answers)}

    def _raise_on_error(self, what: str) -> None:
        if self._library.TF_GetCode(self._status) != 0:
            message = self._library.TF_Message(self._status).decode(errors="replace")
            raise CheckFailed(f"{what}: {message.splitlines()[0]}")

    def _outputs(self, tensor_names: list[str]):
        outputs = (_Output * len(tensor_names))()
        for output, tensor_name in zip(outputs, tensor_names):
            operation, _, index = tensor_name.partition(":")
            output.operation = self._library.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not output.operation:
                raise CheckFailed(f"the graph has no operation {operation!r}")
            output.index = int(index)
        return outputs

    def _tensor(self, value: np.ndarray):
        value = np.ascontiguousarray(value)
        dtype = next(key for key, known in DTYPES.items() if value.dtype == known)
        dims = (ctypes.c_int64 * value.ndim)(*value.shape)
        tensor = ctypes.c_void_p(
            self._library.TF_AllocateTensor(
                dtype, dims, value.ndim, ctypes.c_size_t(value.nbytes)
            )
        )
        ctypes.memmove(
            self._library.TF_TensorData(tensor), value.ctypes.data, value.nbytes
        )
        return tensor.value

    def _array(self, address: int) -> np.ndarray:
        tf, tensor = self._library, ctypes.c_void_p(address)
        dtype = DTYPES[tf.TF_TensorType(tensor)]
        shape = [tf.TF_Dim(tensor, axis) for axis in range(tf.TF_NumDims(tensor))]
        array = np.empty(shape, dtype)
        ctypes.memmove(array.ctypes.data, tf.TF_TensorData(tensor), array.nbytes)
        tf.TF_DeleteTensor(tensor)
        return array


def _parse_signatures(meta_graph: bytes):
    # TensorFlow's protocol buffers without its __init__, which imports Keras.
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(_tensorflow_folder())]
    sys.modules.setdefault("tensorflow", package)
    from tensorflow.core.protobuf import meta_graph_pb2

    return dict(meta_graph_pb2.MetaGraphDef.FromString(meta_graph).signature_def)


def check_form(name: str, signature) -> None:
    """Inputs and outputs named by us, with the batch first, and no scalars."""
    if signature.method_name != METHOD:
        raise CheckFailed(f"signature {name!r} has method {signature.method_name!r}")
    for kind in ("inputs", "outputs"):
        for key, tensor in getattr(signature, kind).items():
            dims = [dim.size for dim in tensor.tensor_shape.dim]
            if tensor.tensor_shape.unknown_rank or not dims or dims[0] != -1:
                raise CheckFailed(
                    f"signature {name!r}: {kind} {key!r} has shape {dims}; its first "
                    "dimension must be the batch"
                )
            if -1 in dims[1:]:
                raise CheckFailed(
                    f"signature {name!r}: {kind} {key!r} has an unknown dimension in "
                    f"{dims} after the batch"
                )


def check_answers(
    session: CSession, name: str, signature, examples: Mapping[str, np.ndarray]
) -> int:
    """Replays the examples of one signature; returns how many there were."""
    prefix = f"{name}/"
    cases = sorted({key.split("/")[1] for key in examples if key.startswith(prefix)})
    if not cases:
        raise CheckFailed(f"signature {name!r} has no examples to check")
    for case in cases:
        feed = {
            key: examples[f"{prefix}{case}/inputs/{key}"] for key in signature.inputs
        }
        for key, answer in session.run(signature, feed).items():
            expected = examples[f"{prefix}{case}/outputs/{key}"]
            if (answer.shape, answer.dtype) != (
                expected.shape,
                expected.dtype,
            ) or not np.allclose(answer, expected, rtol=RTOL, atol=ATOL):
                raise CheckFailed(
                    f"signature {name!r}, example {case!r}: output {key!r} differs "
                    "from the model's"
                )
    return len(cases)


def check(folder: str) -> str:
    """Checks a SavedModel folder; returns what was done.

    Raises:
      CheckFailed: If anything is wrong.
    """
    path = pathlib.Path(folder, EXAMPLES)
    if not path.is_file():
        raise CheckFailed(f"{path} is missing")
    try:
        with np.load(path) as archive:
            examples = dict(archive)
    except (OSError, ValueError, zipfile.BadZipFile):
        raise CheckFailed(f"{path} is damaged") from None
    session = CSession(folder)
    missing = {key.split("/")[0] for key in examples} - session.signatures.keys()
    for name in sorted(missing | ({"serving_default"} - session.signatures.keys())):
        raise CheckFailed(f"signature {name!r} is missing")
    count = 0
    for name, signature in sorted(session.signatures.items()):
        check_form(name, signature)
        count += check_answers(session, name, signature, examples)
    loaded = sorted(sys.modules.keys() & set(FOREIGN))
    if loaded:
        raise CheckFailed(f"this process has imported {loaded}; it must not")
    return (
        f"{len(session.signatures)} signatures, {count} examples answered as the "
        "model did"
    )


def main() -> int:
    """Runs the script; returns its exit code."""
    try:
        print(check(sys.argv[1]))
    except (CheckFailed, OSError, ValueError, KeyError) as error:
        print(f"{error}".splitlines()[0])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
