"""What all clients share: describe the model, send, check the answer, and retry.

It is written once, with coroutines. A synchronous client has no event loop: nothing
that it awaits suspends, so that `run` obtains the result by starting the coroutine.
"""

import abc
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from export.client import errors
from export.client.batches import Batch
from export.client.feeds import Arrays, check_answer, join, make_feed, split
from export.client.served_model import ServedModel, Signature, parse_metadata
from export.client.target import Target
from export.signatures.contract import MAX_BATCH_SIZE

#: Errors after which another version may have been published: the server refuses or
#: answers otherwise than described, or the inputs do not fit the description.
STALE = (errors.InvalidRequest, errors.UnexpectedAnswer, TypeError, ValueError)
#: Seconds for which the description is trusted when it says that an input is wrong.
#: When the server itself refuses, the client asks for the description immediately.
MAX_AGE = 30.0
#: Errors of a model that is not ready.
NOT_READY = (errors.ModelNotFound, errors.Timeout, errors.Unavailable)
#: Largest wait in seconds: before the first retry, and before any. If a server asks for
#: a longer wait (`Retry-After`), the client gives up.
FIRST_WAIT, MAX_WAIT = 0.2, 10.0

T = TypeVar("T")


class Transport(abc.ABC):
    """One attempt of each kind of request; errors are `ServingError`."""

    @abc.abstractmethod
    async def metadata(self) -> Any:
        """GetModelMetadata's answer in its JSON form."""

    @abc.abstractmethod
    async def predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        """Output name to values."""

    @abc.abstractmethod
    async def is_available(self) -> bool:
        """Whether the server reports the model as available."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Closes the connections."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a synchronous client can't wait for an event loop")


async def resolve(value: Any) -> Any:
    """The value itself, or what it yields if it is awaitable."""
    return await value if inspect.isawaitable(value) else value


class ClientCore(abc.ABC):
    """A model that is asked over a transport.

    Attributes:
      target: The model and where it is served.
    """

    #: Type of the lock that is held while the model is described for the first time.
    _lock_type: Callable[[], AbstractAsyncContextManager]

    def __init__(
        self,
        address: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        max_batch_size: int = MAX_BATCH_SIZE,
        **options: Any,
    ):
        """No connection is opened until the first call.

        Args:
          address: Address of the server: "http://localhost:8501" for REST,
            "localhost:8500" for gRPC.
          model: Name of the model.
          version: Number of the version; None for the newest (or `label`).
          label: Version label; None for none.
          timeout: Seconds for one attempt. Over gRPC it is a deadline; over HTTP it is
            the wait for a connection, and each wait for the server to receive or send.
          retries: Number of attempts after the first, if a connection fails or the
            server is overloaded: HTTP status 429, 502 or 503, or code UNAVAILABLE or
            RESOURCE_EXHAUSTED.
          max_batch_size: Largest number of rows of one request; the server's limit.
          **options: `headers` of every request over HTTP; or `credentials` for TLS over
            gRPC, of `grpc.ssl_channel_credentials`.

        Raises:
          TypeError, ValueError: If an argument is invalid.
        """
        self.target = Target(
            address, model, version, label, timeout, retries, max_batch_size
        ).checked()
        self._transport = self._make_transport(**options)
        self._lock = self._lock_type()
        self._closed = False
        self._served: ServedModel | None = None

    @abc.abstractmethod
    def _make_transport(self, **options: Any) -> Transport:
        """The transport to `target`."""

    @abc.abstractmethod
    async def _sleep(self, seconds: float) -> None:
        """Waits."""

    @abc.abstractmethod
    async def _map(
        self, send: Callable[[Arrays], Awaitable[Arrays]], parts: Iterable[Arrays]
    ) -> list[Arrays]:
        """The answers to several requests, in order."""

    def _check_open(self) -> None:
        if self._closed:
            message = f"{self.target}: this client is closed. Make a new one."
            raise RuntimeError(message)

    async def _ready(self) -> bool:
        self._check_open()
        try:
            return await self._transport.is_available()
        except NOT_READY:
            return False

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._transport.close()

    async def _ask(self, name: str, batch: Batch) -> Arrays:
        """The answer of a signature; describes the model again if it is outdated."""
        self._check_open()
        async with self._lock:
            if self._served is None:
                self._served = await self._describe()
            served = self._served
        try:
            return await self._send(served, name, batch)
        except STALE as error:
            is_new = time.monotonic() - served.time < MAX_AGE
            if is_new and not isinstance(error, errors.ServingError):
                raise
            try:
                self._served = fresh = await self._describe()
            except errors.ServingError:
                raise error from None  # a server that is gone did not cause it
            if fresh.signatures == served.signatures:
                raise
        return await self._send(fresh, name, batch)

    async def _describe(self) -> ServedModel:
        return parse_metadata(await self._retry(self._transport.metadata), self.target)

    async def _send(self, served: ServedModel, name: str, batch: Batch) -> Arrays:
        """The answer of a signature, in as many requests as it takes."""
        signature = served.signature(name)

        async def send(part: Arrays) -> Arrays:
            answer = await self._retry(self._transport.predict, name, signature, part)
            rows = len(next(iter(part.values())))
            return check_answer(signature, answer, rows, self.target)

        parts = split(make_feed(signature, batch), self.target.max_batch_size)
        return join(signature, await self._map(send, parts))

    async def _retry(self, attempt: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Repeats an attempt while the server is unavailable.

        Signatures are pure functions of their requests, so that repeating is safe. The
        waits are random, up to 0.2 seconds, then 0.4, 0.8, ..., 10, in addition to
        what the server asked for.
        """
        retries, longest = 0, FIRST_WAIT
        while True:
            self._check_open()
            try:
                return await attempt(*arguments)
            except errors.Unavailable as error:
                wait = error.wait or 0.0
                if retries >= self.target.retries or wait > MAX_WAIT:
                    raise
            await self._sleep(wait + random.uniform(0.0, longest))
            retries, longest = retries + 1, min(2 * longest, MAX_WAIT)
