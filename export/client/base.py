"""What clients do whatever the transport: the five questions, and when to ask again."""

import abc
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tenacity

from export.client.batches import Inputs, read_batch, read_seeds
from export.client.errors import (
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    retry_policy,
)
from export.client.feeds import Arrays, check_answer, join, make_feed, split
from export.client.served_model import ServedModel, Signature, parse_metadata
from export.client.target import Target
from export.signatures.contract import (
    ENCODE,
    IMPUTE,
    LOG_LIKELIHOOD,
    RECONSTRUCT,
    SAMPLE,
    SEED,
)
from export.signatures.whole_numbers import check_whole

#: Errors after which another version may have been published: what the server refuses
#: or answers otherwise than described, and what does not fit the description.
STALE = (InvalidRequest, UnexpectedAnswer, TypeError, ValueError)
#: Seconds for which the description of a model is trusted when it says that an input is
#: wrong. What the server itself refuses is followed by a new look at once.
MAX_AGE = 30.0
#: Errors of a model that is not ready.
NOT_READY = (ModelNotFound, Timeout, Unavailable)

#: Makes the tensors of a request from what the server has described.
MakeFeed = Callable[[Signature], Arrays]
Self = TypeVar("Self")


class Description(NamedTuple):
    """What the server has said of the model.

    Attributes:
      served: The signatures.
      since: When it was said, in seconds of `time.monotonic`.
    """

    served: ServedModel
    since: float

    def may_be_outdated(self, error: Exception) -> bool:
        """Whether it is worth a request to look again because of one of `STALE`."""
        by_server = isinstance(error, ServingError)
        return by_server or time.monotonic() - self.since >= MAX_AGE


def describe(metadata: Any, target: Target) -> Description:
    """The description in GetModelMetadata's answer, of now."""
    return Description(parse_metadata(metadata, target), time.monotonic())


def feed_of(inputs: Inputs) -> MakeFeed:
    """The feed of a batch, which is checked as far as that goes without the server."""
    batch = read_batch(inputs)
    return lambda signature: make_feed(signature, batch)


def feed_with_seeds(inputs: Inputs, seed: Any) -> MakeFeed:
    """As `feed_of`, with seeds."""
    batch = read_batch(inputs)
    seeds = read_seeds(seed, batch.rows)
    return lambda signature: {**make_feed(signature, batch), SEED: seeds}


def feed_of_draws(n: int, seed: Any) -> MakeFeed:
    """The feed of `n` draws.

    Raises:
      TypeError: If `n` or `seed` is no whole number.
      ValueError: If `n` is negative, or `seed` does not fit into int64.
    """
    seeds = read_seeds(seed, check_whole("n", n, least=0))
    return lambda _: {SEED: seeds}


def closed_error(target: Target) -> RuntimeError:
    """The error of a client that is asked after it was closed."""
    return RuntimeError(f"{target}: this client is closed. Make a new one.")


class Client(abc.ABC):
    """Asks a served model; may be used from several threads.

    The first call learns from the server which modalities there are, with which shapes
    and dtypes. Where the server refuses a request, the client looks again, and if
    another version was published meanwhile, it sends the request once more. Inputs that
    do not fit what was learnt are refused without a request, unless that is older than
    30 seconds: then the client looks again first.

    `inputs` of the methods are batches as the library takes them: modality name to
    values `[B, *event_shape]`, of one modality or more; those left out are missing.
    Values have a floating dtype (class indices also an integer one): convert pixels of
    0 to 255 with `x / 255`, counts with `x.astype("float32")`.
    `"present"`: modality name to bool `[B]`, False in rows where the values are missing
    and may be anything. A modality that is served as files (bytes) or texts (str) takes
    a sequence of B, None where missing. More than `max_batch_size` rows are sent in
    several requests; where a version is published in between, the first rows are
    answered by the one before, unless `version` names one.

    `seed` of the methods is an int, of which `row_seeds` of
    `export.signatures.row_seeds` makes one seed a row, or integers `[B]`, which are the
    rows' seeds themselves. A row's answer depends on the row and its seed alone, so
    that neither `max_batch_size` nor the other rows matter.

    The methods raise `TypeError` or `ValueError` for inputs that the model can't take,
    and `export.client.ServingError` for what the server answers or fails to; after
    `close`, `RuntimeError`.
    """

    def __init__(self, target: Target):
        """No connection is opened until the first call.

        Args:
          target: What to ask.

        Raises:
          TypeError: If an argument has the wrong type.
          ValueError: If an argument is invalid.
        """
        self.target = target.checked()
        self._closed = False
        self._described: Description | None = None
        self._lock = threading.Lock()

    def reconstruct(self, inputs: Inputs) -> Arrays:
        """Every modality's mean `[B, ...]`, from the posterior mean given `inputs`."""
        return self._call(RECONSTRUCT, feed_of(inputs))

    def encode(self, inputs: Inputs) -> Arrays:
        """`loc` and `scale` `[B, D]` of the posterior given `inputs`."""
        return self._call(ENCODE, feed_of(inputs))

    def impute(self, inputs: Inputs, seed: Any = 0) -> Arrays:
        """Every modality's mean `[B, ...]`, from one draw of the posterior.

        Args:
          inputs: What is given.
          seed: Seed of the draws: an int, or integers `[B]`, one a row.
        """
        return self._call(IMPUTE, feed_with_seeds(inputs, seed))

    def sample(self, n: int, seed: Any = 0) -> Arrays:
        """Every modality's mean `[n, ...]`, from draws of the prior.

        Args:
          n: Number of draws.
          seed: Seed of the draws: an int, or integers `[n]`, one a draw.
        """
        return self._call(SAMPLE, feed_of_draws(n, seed))

    def log_likelihood(self, inputs: Inputs, seed: Any = 0) -> np.ndarray:
        """log p(inputs) in nats `[B]`, by importance sampling.

        Args:
          inputs: What is given: the joint probability of it.
          seed: Seed of the draws: an int, or integers `[B]`, one a row.
        """
        return self._call(LOG_LIKELIHOOD, feed_with_seeds(inputs, seed))[LOG_LIKELIHOOD]

    def ready(self) -> bool:
        """Whether the model can be asked; False where no server can be reached."""
        self._check_open()
        try:
            return self._is_available()
        except NOT_READY:
            return False

    def __enter__(self: Self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connections."""
        self.close()

    def close(self) -> None:
        """Closes the connections; the client can't ask any more."""
        self._closed = True
        self._disconnect()

    @abc.abstractmethod
    def _disconnect(self) -> None:
        """Closes the connections; may be called again."""

    @abc.abstractmethod
    def _metadata(self) -> Any:
        """GetModelMetadata's answer in its JSON form; one attempt."""

    @abc.abstractmethod
    def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        """Output name to values; one attempt."""

    @abc.abstractmethod
    def _is_available(self) -> bool:
        """Whether the server says that the model is available; one attempt."""

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.target)

    def _retrying(self, function: Callable[..., Any], *arguments: Any) -> Any:
        def attempt() -> Any:
            self._check_open()
            return function(*arguments)

        return tenacity.Retrying(**retry_policy(self.target.retries))(attempt)

    def _describe(self) -> Description:
        return describe(self._retrying(self._metadata), self.target)

    def _call(self, name: str, feed: MakeFeed) -> Arrays:
        self._check_open()
        with self._lock:
            if self._described is None:
                self._described = self._describe()
            before = self._described
        try:
            return self._ask(before.served, name, feed)
        except STALE as error:
            if not before.may_be_outdated(error):
                raise
            try:
                fresh = self._describe()
            except ServingError:
                raise error from None  # a server that is gone did not cause it
            self._described = fresh
            if fresh.served == before.served:
                raise
        return self._ask(fresh.served, name, feed)

    def _ask(self, served: ServedModel, name: str, feed: MakeFeed) -> Arrays:
        signature = served.signature(name)
        parts = []
        for part in split(feed(signature), self.target.max_batch_size):
            rows = len(next(iter(part.values())))
            answer = self._retrying(self._predict, name, signature, part)
            parts.append(check_answer(signature, answer, rows, self.target))
        return join(signature, parts)
