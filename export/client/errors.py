"""What can go wrong between a client and its server, and what is tried again."""

from typing import Any

import tenacity

#: Seconds: of the first wait at most, and of any wait. A server that asks for more
#: (`Retry-After`) is not waited for.
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0


class ServingError(Exception):
    """The server did not answer, or refused.

    Attributes:
      status: HTTP status (int), name of the gRPC code, or None where there was none.
    """

    def __init__(self, message: str, status: int | str | None = None):
        """Keeps the first line of `message`, and `status`."""
        super().__init__((message.splitlines() or [""])[0])
        self.status = status


class ModelNotFound(ServingError):
    """The server has no such model, version or label, or has not loaded it yet."""


class InvalidRequest(ServingError):
    """The server can't read the request."""


class Timeout(ServingError):
    """No answer came within the time of one attempt."""


class UnexpectedAnswer(ServingError):
    """What came is no answer of the model that the server has described."""


class Unavailable(ServingError):
    """No connection, or a server that is overloaded: raised after the retries.

    Attributes:
      wait: Seconds that the server asked to wait (`Retry-After`), or None.
    """

    def __init__(
        self, message: str, status: int | str | None = None, wait: float | None = None
    ):
        """Keeps all three."""
        super().__init__(message, status)
        self.wait = wait


#: What to do about it, after what the server said.
HINTS: dict[type[ServingError], str] = {
    ModelNotFound: "Is the name right, and has the server loaded it?",
    Timeout: "Ask for fewer rows, or raise `timeout`.",
    Unavailable: "Is the server running there?",
    UnexpectedAnswer: "Is it TensorFlow Serving, and the model one of mopoe-export?",
}
#: What the server says of more rows than it takes at once, and what to do about it.
TOO_MANY_ROWS = "larger than maximum input batch size"
FEWER_ROWS = "Lower `max_batch_size` of the client."


def make_error(
    kind: type[ServingError], target: object, said: object, status: int | str | None
) -> ServingError:
    """An error in one line: who, what, and what to do.

    Args:
      kind: Its class.
      target: Which model, and where.
      said: By the server, or by the network; its first line is taken.
      status: Of the answer, or None.
    """
    line = (str(said).strip().splitlines() or ["no message"])[0]
    hint = FEWER_ROWS if TOO_MANY_ROWS in line else HINTS.get(kind, "")
    words = [f"{target}: {line.removesuffix('.')}", hint]
    if status is not None:
        words[0] += f" ({status})"
    return kind(". ".join(filter(None, words)), status)


def _may_be_repeated(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and (error.wait or 0.0) <= LONGEST_WAIT


def _wait(state: tenacity.RetryCallState) -> float:
    backoff = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, Unavailable) else None
    return backoff(state) + (asked or 0.0)


def retry_policy(retries: int) -> dict[str, Any]:
    """Arguments of `tenacity.Retrying` and `AsyncRetrying`.

    Every signature is a pure function of its request, so that repeating is safe:
    `Unavailable` is tried again after a random wait of up to 0.2 seconds, then 0.4,
    0.8, ..., 10, in addition to what the server asked for; nothing else is.
    """
    return {
        "retry": tenacity.retry_if_exception(_may_be_repeated),
        "stop": tenacity.stop_after_attempt(retries + 1),
        "wait": _wait,
        "reraise": True,
    }
