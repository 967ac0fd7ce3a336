"""The questions that clients ask: synchronous, and with coroutines."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from export.client.batches import Inputs, read_batch, read_draws, read_seeded_batch
from export.client.core import ClientCore, run
from export.client.feeds import Arrays
from export.signatures import contract

#: Number of simultaneous requests of one call of an asynchronous client.
CONCURRENT_REQUESTS = 4
Self = TypeVar("Self")


class _ThreadLock:
    """A `threading.Lock` in the form of an asynchronous one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Client(ClientCore):
    """Asks a served model; can be used from several threads.

    The first call asks the server for the modalities with their shapes and dtypes. If
    the server refuses a request, the client asks again, and if another version was
    published meanwhile, it repeats the request. Inputs that do not fit the description
    are refused without a request, unless the description is older than 30 seconds: then
    the client asks for it first.

    `inputs` of the methods are batches as the library takes them: modality name to
    values `[B, *event_shape]`, of at least one modality; the others are missing. Values
    have a floating dtype (class indices also an integer one): convert pixels of 0 to
    255 with `x / 255`, counts with `x.astype("float32")`. `"present"`: modality name to
    bool `[B]`, False in rows where the values are missing and may be anything. A
    modality that is served as files (bytes) or texts (str) takes a sequence of B, None
    where missing. More than `max_batch_size` rows are sent in several requests; if a
    version is published in between, the first rows are answered by the previous one,
    unless `version` names one.

    `seed` of the methods is an int, from which `export.signatures.row_seeds` makes one
    seed a row, or integers `[B]`, the seeds of the rows. The answer for a row depends
    on the row and its seed only, not on `max_batch_size` or the other rows.

    The methods raise `TypeError` or `ValueError` for inputs that the model can't take,
    `export.client.ServingError` for failures of the server, and `RuntimeError` after
    `close`.

    Example:
        with RestClient("http://localhost:8501", "polydigits") as client:
            means = client.reconstruct({"m0": images})    # name to [B, 28, 28, 3]
            latent = client.encode({"m0": images})["loc"]            # [B, D]
            nats = client.log_likelihood({"m0": images}, seed=1)     # [B]
    """

    _lock_type = _ThreadLock

    def reconstruct(self, inputs: Inputs) -> Arrays:
        """Every modality's mean `[B, ...]`, from the posterior mean given `inputs`.

        Example:
            client.reconstruct({"m0": images})["m1"]
        """
        return run(self._ask(contract.RECONSTRUCT, read_batch(inputs)))

    def encode(self, inputs: Inputs) -> Arrays:
        """`loc` and `scale` `[B, D]` of the posterior given `inputs`.

        Example:
            client.encode({"m0": images, "present": {"m0": [True, False]}})["loc"]
        """
        return run(self._ask(contract.ENCODE, read_batch(inputs)))

    def impute(self, inputs: Inputs, seed: Any = 0) -> Arrays:
        """Every modality's mean `[B, ...]`, from one draw of the posterior.

        Args:
          inputs: The observed modalities.
          seed: Seed of the draws: an int, or integers `[B]`, one a row.

        Example:
            client.impute({"m0": images}, seed=1)["m1"]
        """
        return run(self._ask(contract.IMPUTE, read_seeded_batch(inputs, seed)))

    def sample(self, n: int, seed: Any = 0) -> Arrays:
        """Every modality's mean `[n, ...]`, from draws of the prior.

        Args:
          n: Number of draws.
          seed: Seed of the draws: an int, or integers `[n]`, one a draw.

        Example:
            client.sample(16, seed=1)["m0"]
        """
        return run(self._ask(contract.SAMPLE, read_draws(n, seed)))

    def log_likelihood(self, inputs: Inputs, seed: Any = 0) -> np.ndarray:
        """log p(inputs) in nats `[B]`, by importance sampling.

        Args:
          inputs: The observed modalities, whose joint density is estimated.
          seed: Seed of the draws: an int, or integers `[B]`, one a row.

        Example:
            client.log_likelihood({"m0": images}, seed=1).mean()
        """
        answer = run(
            self._ask(contract.LOG_LIKELIHOOD, read_seeded_batch(inputs, seed))
        )
        return answer[contract.LOG_LIKELIHOOD]

    def ready(self) -> bool:
        """Whether the model can be asked; False if no server can be reached.

        Example:
            while not client.ready():
                time.sleep(1.0)
        """
        return run(self._ready())

    def close(self) -> None:
        """Closes the connections; the client cannot be used afterwards."""
        run(self._close())

    def __enter__(self: Self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connections."""
        self.close()

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _map(
        self, send: Callable[[Arrays], Awaitable[Arrays]], parts: Iterable[Arrays]
    ) -> list[Arrays]:
        return [await send(part) for part in parts]


class AsyncClient(ClientCore):
    """`Client` with coroutines; to be used within one event loop.

    In another loop than that of the first call, the methods raise `RuntimeError`. Up to
    four requests of one call are sent at the same time.

    Example:
        async with AsyncRestClient("http://localhost:8501", "polydigits") as client:
            means = await client.reconstruct({"m0": images})
    """

    _lock_type = asyncio.Lock
    _loop: asyncio.AbstractEventLoop | None = None

    async def reconstruct(self, inputs: Inputs) -> Arrays:
        """See `Client.reconstruct`."""
        return await self._ask(contract.RECONSTRUCT, read_batch(inputs))

    async def encode(self, inputs: Inputs) -> Arrays:
        """See `Client.encode`."""
        return await self._ask(contract.ENCODE, read_batch(inputs))

    async def impute(self, inputs: Inputs, seed: Any = 0) -> Arrays:
        """See `Client.impute`."""
        return await self._ask(contract.IMPUTE, read_seeded_batch(inputs, seed))

    async def sample(self, n: int, seed: Any = 0) -> Arrays:
        """See `Client.sample`."""
        return await self._ask(contract.SAMPLE, read_draws(n, seed))

    async def log_likelihood(self, inputs: Inputs, seed: Any = 0) -> np.ndarray:
        """See `Client.log_likelihood`."""
        answer = await self._ask(
            contract.LOG_LIKELIHOOD, read_seeded_batch(inputs, seed)
        )
        return answer[contract.LOG_LIKELIHOOD]

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._ready()

    async def close(self) -> None:
        """See `Client.close`."""
        if not self._closed:
            self._check_loop()
            await self._close()

    async def __aenter__(self: Self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self.close()

    def _check_open(self) -> None:
        super()._check_open()
        self._check_loop()
        self._loop = asyncio.get_running_loop()

    def _check_loop(self) -> None:
        # Connections belong to the event loop in which they were made.
        if self._loop not in (None, asyncio.get_running_loop()):
            raise RuntimeError(
                f"{self.target}: this client was used in another event loop. "
                "Make one client per event loop."
            )

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _map(
        self, send: Callable[[Arrays], Awaitable[Arrays]], parts: Iterable[Arrays]
    ) -> list[Arrays]:
        limit = asyncio.Semaphore(CONCURRENT_REQUESTS)

        async def send_limited(part: Arrays) -> Arrays:
            async with limit:
                return await send(part)

        tasks = [asyncio.ensure_future(send_limited(part)) for part in parts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # if one failed, the others' answers are not needed
            await asyncio.gather(*tasks, return_exceptions=True)
