"""What clients do whatever the transport: the five questions, and when to ask again."""

import abc
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import tenacity

from export.client.errors import (
    InvalidRequest,
    ModelNotFound,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    retry_policy,
)
from export.client.feeds import (
    Arrays,
    check_answer,
    checked_seed,
    join,
    make_feed,
    split,
)
from export.client.served_model import ServedModel, Signature, parse_metadata
from export.client.target import Target, check_whole
from export.contract import ENCODE, IMPUTE, LOG_LIKELIHOOD, RECONSTRUCT, SAMPLE, SEED

#: Why the metadata may be out of date: another version may have been published.
STALE = (InvalidRequest, UnexpectedAnswer, TypeError, ValueError)
#: Why a model is not ready.
NOT_READY = (ModelNotFound, Timeout, Unavailable)

Inputs = Mapping[str, Any]
#: Makes the tensors of a request from what the server has described.
MakeFeed = Callable[[Signature], Arrays]
Self = TypeVar("Self")


def feed_of(inputs: Inputs, seed: Any = None) -> MakeFeed:
    """Of a batch."""
    return lambda signature: make_feed(signature, inputs, seed)


def feed_of_draws(n: int, seed: Any) -> MakeFeed:
    """Of `n` draws.

    Raises:
      TypeError: If `n` is no int.
      ValueError: If `n` is negative.
    """
    rows = check_whole("n", n, 0)
    return lambda _: {SEED: checked_seed(seed, rows)}


def closed_error(target: Target) -> RuntimeError:
    """Of a client that is asked after it was closed."""
    return RuntimeError(f"{target}: this client is closed. Make a new one.")


class Client(abc.ABC):
    """Asks a served model; may be used from several threads.

    The first call learns from the server which modalities there are, with which shapes
    and dtypes. Where a request is refused, the client looks again, and if another
    version was published meanwhile, it sends the request once more.

    `inputs` of the methods are batches as the library takes them: modality name to
    values `[B, *event_shape]`, of one modality or more; those left out are missing.
    `"present"`: modality name to bool `[B]`, False in rows where the values are missing
    and may be anything. A modality that is served as files (bytes) or texts (str) takes
    a sequence of B, None where missing. More than `max_batch_size` rows are sent in
    several requests; where a version is published in between, the first rows are
    answered by the one before, unless `version` names one.

    The methods raise `TypeError` or `ValueError` for inputs that the model can't take,
    and `export.client.ServingError` for what the server answers or fails to; after
    `close`, `RuntimeError`.
    """

    def __init__(self, target: Target):
        """Connects nowhere yet.

        Args:
          target: What to ask.

        Raises:
          TypeError: If an argument has the wrong type.
          ValueError: If an argument can't be meant.
        """
        self.target = target.checked()
        self._closed = False
        self._served: ServedModel | None = None
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
          seed: An int s, for s + i in row i, or integers `[B]`.
        """
        return self._call(IMPUTE, feed_of(inputs, seed))

    def sample(self, n: int, seed: Any = 0) -> Arrays:
        """Every modality's mean `[n, ...]`, from draws of the prior.

        Args:
          n: Draws.
          seed: An int s, for s + i in row i, or integers `[n]`.
        """
        return self._call(SAMPLE, feed_of_draws(n, seed))

    def log_likelihood(self, inputs: Inputs, seed: Any = 0) -> np.ndarray:
        """log p(inputs) in nats `[B]`, by importance sampling.

        Args:
          inputs: What is given: the joint probability of it.
          seed: An int s, for s + i in row i, or integers `[B]`.
        """
        return self._call(LOG_LIKELIHOOD, feed_of(inputs, seed))[LOG_LIKELIHOOD]

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

    def _describe(self) -> ServedModel:
        return parse_metadata(self._retrying(self._metadata), self.target)

    def _call(self, name: str, feed: MakeFeed) -> Arrays:
        with self._lock:
            if self._served is None:
                self._served = self._describe()
            served = self._served
        try:
            return self._ask(served, name, feed)
        except STALE:
            fresh = self._describe()
            if fresh == served:
                raise
        self._served = fresh
        return self._ask(fresh, name, feed)

    def _ask(self, served: ServedModel, name: str, feed: MakeFeed) -> Arrays:
        signature = served.signature(name)
        parts = []
        for part in split(feed(signature), self.target.max_batch_size):
            rows = len(next(iter(part.values())))
            answer = self._retrying(self._predict, name, signature, part)
            parts.append(check_answer(signature, answer, rows, self.target))
        return join(signature, parts)
