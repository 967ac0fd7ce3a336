"""What can go wrong between a client and its server."""


class ServingError(Exception):
    """The server refused, or did not answer; the base of the errors below.

    Attributes:
      status: HTTP status (int), name of the gRPC code, or None without an answer.

    Example:
      >>> ServingError("model 'digits' at localhost:8500: denied", 403).status
      403
    """

    def __init__(self, message: str, status: int | str | None = None):
        """Keeps the first line of `message`, and `status`."""
        super().__init__((message.splitlines() or [""])[0])
        self.status = status


class ModelNotFound(ServingError):
    """The server has no such model, version or label, or has not loaded it yet.

    Example: `ModelNotFound("model 'digits' at localhost:8500: not found", 404)`
    """


class InvalidRequest(ServingError):
    """The server rejected the request as malformed.

    Example: `InvalidRequest("model 'digits' at localhost:8500: wrong shape", 400)`
    """


class Timeout(ServingError):
    """No answer within the time of one attempt.

    Example: `Timeout("model 'digits' at localhost:8500: no answer within 10 s")`
    """


class UnexpectedAnswer(ServingError):
    """The answer does not match the model that the server described.

    Example: `UnexpectedAnswer("model 'digits' at localhost:8500: no outputs", 200)`
    """


class Unavailable(ServingError):
    """No connection, or an overloaded server; raised after the last retry.

    Attributes:
      wait: Seconds that the server asked to wait (`Retry-After`), or None.

    Example: `Unavailable("model 'digits' at localhost:8500: busy", 503, wait=2.0)`
    """

    def __init__(
        self, message: str, status: int | str | None = None, wait: float | None = None
    ):
        """Keeps all three."""
        super().__init__(message, status)
        self.wait = wait


#: Advice by class, after the server's message.
HINTS: dict[type[ServingError], str] = {
    ModelNotFound: "Is the name right, and has the server loaded it?",
    Timeout: "Ask for fewer rows, or raise `timeout`.",
    Unavailable: "Is the server running there?",
    UnexpectedAnswer: "Is it TensorFlow Serving, and the model one of mopoe-export?",
}
#: The server's message about a batch that is too large, and the advice.
TOO_MANY_ROWS = "larger than maximum input batch size"
FEWER_ROWS = "Lower `max_batch_size` of the client."


def make_error(
    kind: type[ServingError],
    target: object,
    message: object,
    status: int | str | None = None,
) -> ServingError:
    """An error in one line: the model and its address, the reason, and advice."""
    line = (str(message).strip().splitlines() or ["no message"])[0]
    hint = FEWER_ROWS if TOO_MANY_ROWS in line else HINTS.get(kind, "")
    words = [f"{target}: {line.removesuffix('.')}", hint]
    if status is not None:
        words[0] += f" ({status})"
    return kind(". ".join(filter(None, words)), status)
