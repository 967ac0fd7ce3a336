"""What the two test servers share: loaded models, their rules, and faults on demand."""

import collections
import dataclasses
import pathlib
import threading
import time

import numpy as np

from export.signatures.contract import MAX_BATCH_SIZE
from export.verification.session import ServingSession, SessionError

#: TF_Code, which gRPC's codes are, to its name.
CODES = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 12: "UNIMPLEMENTED", 13: "INTERNAL"}


class RefusalError(Exception):
    """A request that TensorFlow Serving refuses, with the name of the gRPC code."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


@dataclasses.dataclass(frozen=True)
class Fault:
    """What befalls one request.

    Attributes:
      code: Name of a gRPC code to refuse with.
      retry_after: Value of that header, with the refusal.
      delay: Seconds before anything else.
      drop: The connection is cut without an answer.
      body: Sent instead of the answer.
    """

    code: str | None = None
    retry_after: str | None = None
    delay: float = 0.0
    drop: bool = False
    body: bytes | None = None


class ModelStore:
    """Versions of models, found and run by the rules of TensorFlow Serving.

    Attributes:
      versions: Model name to version to session.
      labels: Model name and label to version.
      faults: Taken by the next requests of either server, one each.
      requests: Requests so far: "Predict", "GetModelMetadata", "GetModelStatus".
    """

    def __init__(self):
        self.versions = collections.defaultdict(dict)
        self.labels = {}
        self.faults = collections.deque()
        self.requests = []
        self._lock = threading.Lock()

    def load(self, name: str, version: int, folder: pathlib.Path) -> None:
        self.versions[name][version] = ServingSession(folder)

    def load_all(self, serving_dir: pathlib.Path) -> None:
        for path in sorted(serving_dir.glob("*/[0-9]*")):
            self.load(path.parent.name, int(path.name), path)

    def note(self, what: str) -> Fault:
        """Counts a request; sleeps if its fault says so, and hands the rest on."""
        with self._lock:
            self.requests.append(what)
            fault = self.faults.popleft() if self.faults else Fault()
        time.sleep(fault.delay)
        return fault

    def find(self, name, version=None, label=None) -> tuple[int, ServingSession]:
        loaded = self.versions.get(name, {})
        if label is not None:
            version = self.labels.get((name, label), -1)
        elif version is None:
            version = max(loaded, default=-1)
        if version not in loaded:
            requested = f"Specific({name}, {version})" if loaded else f"Latest({name})"
            raise RefusalError(
                "NOT_FOUND", f"Servable not found for request: {requested}"
            )
        return version, loaded[version]

    def status(self, name, version=None, label=None) -> list[int]:
        """Versions that are available."""
        if version is None and label is None and self.versions.get(name):
            return sorted(self.versions[name], reverse=True)
        return [self.find(name, version, label)[0]]

    @staticmethod
    def run(session: ServingSession, signature, feed: dict[str, np.ndarray]):
        """Outputs; batching servers want one number of rows, within the limit."""
        rows = {value.shape[0] if value.ndim else None for value in feed.values()}
        if len(rows) != 1 or None in rows:
            raise RefusalError(
                "INVALID_ARGUMENT",
                "Batching input tensors must have equal 0th-dimension size",
            )
        if max(rows) > MAX_BATCH_SIZE:
            raise RefusalError(
                "INVALID_ARGUMENT",
                f"Task size {max(rows)} is larger than maximum input batch size "
                f"{MAX_BATCH_SIZE}",
            )
        try:
            return session.run(signature, feed)
        except SessionError as error:
            code = CODES.get(error.code, "INTERNAL")
            raise RefusalError(code, error.message) from None
