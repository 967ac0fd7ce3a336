"""An HTTP server over a Session that follows TensorFlow Serving's REST rules.

Source: https://www.tensorflow.org/tfx/serving/api_rest; where that page is silent, the
server's json_tensor.cc and http_server.cc.
"""

import base64
import http.server
import json
import math
import re
import threading

import numpy as np

from tests.export.model_store import ModelStore, RefusalError

PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?::(predict)|/(metadata))?"
)
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "PERMISSION_DENIED": 403,
    "BAD_GATEWAY": 502,  # of a proxy in between
}
#: Enumeration DataType: its name and NumPy's.
DTYPES = {
    1: ("DT_FLOAT", np.float32),
    2: ("DT_DOUBLE", np.float64),
    3: ("DT_INT32", np.int32),
    7: ("DT_STRING", object),
    9: ("DT_INT64", np.int64),
    10: ("DT_BOOL", np.bool_),
}
LARGEST_EXACT = {1: 2**24 - 1, 2: 2**53 - 1}
LARGEST_INTEGER = {3: 2**31 - 1, 9: 2**63 - 1}


def invalid(message: str) -> RefusalError:
    return RefusalError("INVALID_ARGUMENT", message)


class RestServer(http.server.ThreadingHTTPServer):
    """Serves a store on a free port, in threads of its own.

    Attributes:
      address: Such as http://127.0.0.1:8501.
      connections: How many were made so far.
    """

    daemon_threads = True

    def __init__(self, store: ModelStore, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.store, self.connections = store, 0
        self.address = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # a client that has given up


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        store, retry_after = self.server.store, None
        match = PATH.fullmatch(self.path)
        kinds = {"predict": "Predict", "metadata": "GetModelMetadata"}
        kind = match and kinds.get(match[4] or match[5], "GetModelStatus")
        fault = store.note(kind)
        if fault.drop:
            self.close_connection = True
            return
        try:
            if fault.code is not None:
                retry_after = fault.retry_after
                raise RefusalError(fault.code, "as the test requires")
            if match is None or (self.command == "POST") != (kind == "Predict"):
                raise invalid(f"Malformed request: {self.command} {self.path}")
            name, label = match[1], match[3]  # not decoded
            spec = (name, match[2] and int(match[2]), label)
            if kind == "GetModelStatus":
                answer = status_of(store, spec)
            else:
                version, session = store.find(*spec)
                if kind == "Predict":
                    answer = predict(session, body)
                else:
                    answer = metadata_of(session, name, version)
            status, content = 200, json.dumps(answer, indent=1).encode()
        except RefusalError as error:
            status = STATUSES.get(error.code, 500)
            content = json.dumps({"error": error.message}).encode()
        content = content if fault.body is None else fault.body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)


def status_of(store: ModelStore, spec) -> dict:
    ok = {"error_code": "OK", "error_message": ""}
    return {
        "model_version_status": [
            {"version": str(version), "state": "AVAILABLE", "status": ok}
            for version in store.status(*spec)
        ]
    }


def metadata_of(session, name: str, version: int) -> dict:
    def tensors(infos) -> dict:
        return {
            key: {
                "dtype": DTYPES[info.dtype][0],
                "tensor_shape": {
                    "dim": [
                        {"size": str(dim.size), "name": dim.name}
                        for dim in info.tensor_shape.dim
                    ],
                    "unknown_rank": False,
                },
                "name": info.name,
            }
            for key, info in infos.items()
        }

    definitions = {
        key: {
            "inputs": tensors(signature.inputs),
            "outputs": tensors(signature.outputs),
            "method_name": signature.method_name,
        }
        for key, signature in session.signatures.items()
    }
    spec = {"name": name, "signature_name": "", "version": str(version)}
    signature_def = {"signature_def": definitions}
    return {"model_spec": spec, "metadata": {"signature_def": signature_def}}


def predict(session, body: bytes) -> dict:
    try:
        request = json.loads(body)
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise invalid("JSON Value: Is not object")
    name = request.get("signature_name", "serving_default")
    if not isinstance(name, str):
        raise invalid("'signature_name' key must be a string value.")
    if name not in session.signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    signature = session.signatures[name]
    if "instances" in request and "inputs" in request:
        raise invalid("expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in request:
        feed = _read_rows(request["instances"], signature.inputs)
        return {"predictions": _write_rows(ModelStore.run(session, signature, feed))}
    if "inputs" in request:
        feed = _read_columns(request["inputs"], signature.inputs)
        outputs = ModelStore.run(session, signature, feed)
        written = {key: _write(key, value) for key, value in outputs.items()}
        only = len(written) == 1
        return {"outputs": next(iter(written.values())) if only else written}
    raise invalid("Missing 'inputs' or 'instances' key")


def _read_columns(inputs, infos) -> dict[str, np.ndarray]:
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(infos) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object")
        inputs = dict.fromkeys(infos, inputs)
    feed = {}
    for key, info in infos.items():  # other keys are passed over
        if key not in inputs:
            raise invalid(f"Missing named input: {key} in 'inputs' object.")
        feed[key] = _read(inputs[key], info.dtype)
    return feed


def _read_rows(instances, infos) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid("Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    named = isinstance(instances[0], dict) and not _is_base64(instances[0])
    if not named and len(infos) > 1:
        raise invalid("instances is a plain list, but expecting list of objects")
    rows = instances if named else [dict.fromkeys(infos, row) for row in instances]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(f"Expecting object but got list at item {number}")
        if row.keys() != infos.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. keys must "
                f"be equal to: {','.join(sorted(infos))}"
            )
    columns = {key: [row[key] for row in rows] for key in infos}
    return {key: _read(value, infos[key].dtype) for key, value in columns.items()}


def _is_base64(value) -> bool:
    return isinstance(value, dict) and [*value] == ["b64"]


def _read(value, dtype: int) -> np.ndarray:
    """A tensor of nested lists, of the shape that the first of each level has."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    leaves: list = []

    def walk(node, level: int) -> None:
        if isinstance(node, list):
            if level >= len(shape) or len(node) != shape[level]:
                raise invalid(f"Encountered list at unexpected size: {len(node)}")
            for child in node:
                walk(child, level + 1)
        elif level != len(shape):
            raise invalid(f"JSON Value: {node} found at incorrect level: {level + 1}")
        else:
            leaves.append(_read_leaf(node, dtype))

    walk(value, 0)
    array = np.empty([len(leaves)], DTYPES[dtype][1])
    array[:] = leaves
    return array.reshape(shape)


def _read_leaf(leaf, dtype: int):
    kind = DTYPES[dtype][0]
    whole = isinstance(leaf, int) and not isinstance(leaf, bool)
    if dtype == 7 and _is_base64(leaf):
        try:
            return base64.b64decode(leaf["b64"], validate=True)
        except (TypeError, ValueError):
            raise invalid("Unable to base64 decode") from None
    fits = {
        "DT_BOOL": isinstance(leaf, bool),
        "DT_STRING": isinstance(leaf, str),
        "DT_INT32": whole and abs(leaf) <= LARGEST_INTEGER[3],
        "DT_INT64": whole and abs(leaf) <= LARGEST_INTEGER[9],
    }.get(kind, whole or isinstance(leaf, float))
    if not fits:
        raise invalid(f"JSON Value: {leaf!r} is not of expected type: {kind}")
    if dtype in LARGEST_EXACT:
        largest = float(np.finfo(DTYPES[dtype][1]).max)
        most = LARGEST_EXACT[dtype] if whole else largest
        if math.isfinite(leaf) and abs(leaf) > most:
            raise invalid(
                f"Cannot convert JSON value: {leaf} without loss of precision"
            )
    return leaf.encode() if isinstance(leaf, str) else leaf


def _write(name: str, value: np.ndarray):
    if value.dtype == object and name.endswith("_bytes"):
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    if value.dtype.kind == "f":  # the shortest number that is read as the same one
        value = value.astype(str).astype(np.float64)
    return value.tolist()


def _write_rows(outputs: dict[str, np.ndarray]) -> list:
    columns = {key: _write(key, value) for key, value in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row)) for row in zip(*columns.values())]
