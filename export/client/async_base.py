"""The clients of `base`, with coroutines."""

import abc
import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tenacity

from export.client.base import (
    NOT_READY,
    STALE,
    Description,
    MakeFeed,
    Self,
    closed_error,
    describe,
    feed_of,
    feed_of_draws,
    feed_with_seeds,
)
from export.client.batches import Inputs
from export.client.errors import ServingError, retry_policy
from export.client.feeds import Arrays, check_answer, join, split
from export.client.served_model import ServedModel, Signature
from export.client.target import Target
from export.signatures.contract import (
    ENCODE,
    IMPUTE,
    LOG_LIKELIHOOD,
    RECONSTRUCT,
    SAMPLE,
)

#: Requests that one call has under way at once.
CONCURRENT_REQUESTS = 4


class AsyncClient(abc.ABC):
    """As `Client`, with coroutines; to be used within one event loop.

    In another loop than that of the first call, the methods raise `RuntimeError`.
    Several requests of one call are under way at once, up to four.
    """

    def __init__(self, target: Target):
        """No connection is opened until the first call; see `Client`."""
        self.target = target.checked()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._described: Description | None = None
        self._lock = asyncio.Lock()

    async def reconstruct(self, inputs: Inputs) -> Arrays:
        """As `Client.reconstruct`."""
        return await self._call(RECONSTRUCT, feed_of(inputs))

    async def encode(self, inputs: Inputs) -> Arrays:
        """As `Client.encode`."""
        return await self._call(ENCODE, feed_of(inputs))

    async def impute(self, inputs: Inputs, seed: Any = 0) -> Arrays:
        """As `Client.impute`."""
        return await self._call(IMPUTE, feed_with_seeds(inputs, seed))

    async def sample(self, n: int, seed: Any = 0) -> Arrays:
        """As `Client.sample`."""
        return await self._call(SAMPLE, feed_of_draws(n, seed))

    async def log_likelihood(self, inputs: Inputs, seed: Any = 0) -> np.ndarray:
        """As `Client.log_likelihood`."""
        answer = await self._call(LOG_LIKELIHOOD, feed_with_seeds(inputs, seed))
        return answer[LOG_LIKELIHOOD]

    async def ready(self) -> bool:
        """As `Client.ready`."""
        self._check_open()
        try:
            return await self._is_available()
        except NOT_READY:
            return False

    async def __aenter__(self: Self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        if not self._closed:
            self._check_loop()
            self._closed = True
            await self._disconnect()

    @abc.abstractmethod
    async def _disconnect(self) -> None:
        """Closes the connections."""

    @abc.abstractmethod
    async def _metadata(self) -> Any:
        """As `Client._metadata`."""

    @abc.abstractmethod
    async def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        """As `Client._predict`."""

    @abc.abstractmethod
    async def _is_available(self) -> bool:
        """As `Client._is_available`."""

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.target)
        self._check_loop()
        self._loop = asyncio.get_running_loop()

    def _check_loop(self) -> None:
        # Connections belong to the event loop in which they were made.
        if self._loop not in (None, asyncio.get_running_loop()):
            raise RuntimeError(
                f"{self.target}: this client was used in another event loop. "
                "Make one client per event loop."
            )

    async def _retrying(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def attempt() -> Any:
            self._check_open()
            return await function(*arguments)

        policy = retry_policy(self.target.retries)
        return await tenacity.AsyncRetrying(**policy)(attempt)

    async def _describe(self) -> Description:
        return describe(await self._retrying(self._metadata), self.target)

    async def _call(self, name: str, feed: MakeFeed) -> Arrays:
        self._check_open()
        async with self._lock:
            if self._described is None:
                self._described = await self._describe()
            before = self._described
        try:
            return await self._ask(before.served, name, feed)
        except STALE as error:
            if not before.may_be_outdated(error):
                raise
            try:
                fresh = await self._describe()
            except ServingError:
                raise error from None  # a server that is gone did not cause it
            self._described = fresh
            if fresh.served == before.served:
                raise
        return await self._ask(fresh.served, name, feed)

    async def _ask(self, served: ServedModel, name: str, feed: MakeFeed) -> Arrays:
        signature = served.signature(name)
        limit = asyncio.Semaphore(CONCURRENT_REQUESTS)

        async def ask(part: Arrays) -> Arrays:
            async with limit:
                answer = await self._retrying(self._predict, name, signature, part)
            rows = len(next(iter(part.values())))
            return check_answer(signature, answer, rows, self.target)

        parts = split(feed(signature), self.target.max_batch_size)
        tasks = [asyncio.ensure_future(ask(part)) for part in parts]
        try:
            return join(signature, await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()  # where one has failed, the others' answers are useless
            await asyncio.gather(*tasks, return_exceptions=True)
