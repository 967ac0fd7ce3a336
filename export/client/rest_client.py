"""The clients for TensorFlow Serving's REST API; need neither TensorFlow nor Keras."""

import base64
import contextlib
import datetime
import email.utils
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np

from export.client.async_base import AsyncClient
from export.client.base import Client
from export.client.errors import (
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    make_error,
)
from export.client.feeds import Arrays
from export.client.served_model import Signature
from export.client.target import Target
from export.signatures.contract import MAX_BATCH_SIZE

#: HTTP status to what it means; the rest are `ServingError`.
MEANINGS: dict[int, type[ServingError]] = {
    400: InvalidRequest,
    404: ModelNotFound,
    408: Timeout,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Timeout,
}


class RestClient(Client):
    """Asks over HTTP, with connections that are kept open."""

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
        headers: Mapping[str, str] | None = None,
    ):
        """No connection is opened until the first call.

        Args:
          address: Address of the server, such as "http://localhost:8501".
          model: Name of the model.
          version: Number of the version; None for the newest (or `label`).
          label: Version label; None for none.
          timeout: Seconds that one attempt waits for a connection, and then each time
            for the server to take or send something.
          retries: Attempts after the first, where no connection could be made or kept,
            or the status is 429, 502 or 503.
          max_batch_size: Largest number of rows of one request; the server's limit.
          headers: HTTP headers of every request.

        Raises:
          TypeError: If an argument has the wrong type.
          ValueError: If an argument is invalid.
        """
        super().__init__(
            Target(address, model, version, label, timeout, retries, max_batch_size)
        )
        self._api = _Api(self.target)
        self._http = httpx.Client(timeout=self._api.timeout, headers=headers)

    def _disconnect(self) -> None:
        self._http.close()

    def _metadata(self) -> Any:
        with self._api.readable_errors():
            return self._api.read(self._http.get(self._api.url + "/metadata"))

    def _is_available(self) -> bool:
        with self._api.readable_errors():
            return self._api.is_available(self._http.get(self._api.url))

    def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        content = make_body(name, feed)
        with self._api.readable_errors():
            response = self._http.post(self._api.url + ":predict", content=content)
            return self._api.outputs(response, signature)


class AsyncRestClient(AsyncClient):
    """As `RestClient`, with coroutines; to be used within one event loop."""

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
        headers: Mapping[str, str] | None = None,
    ):
        """No connection is opened until the first call; see `RestClient`."""
        super().__init__(
            Target(address, model, version, label, timeout, retries, max_batch_size)
        )
        self._api = _Api(self.target)
        self._http = httpx.AsyncClient(timeout=self._api.timeout, headers=headers)

    async def _disconnect(self) -> None:
        await self._http.aclose()

    async def _metadata(self) -> Any:
        with self._api.readable_errors():
            return self._api.read(await self._http.get(self._api.url + "/metadata"))

    async def _is_available(self) -> bool:
        with self._api.readable_errors():
            return self._api.is_available(await self._http.get(self._api.url))

    async def _predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        content = make_body(name, feed)
        with self._api.readable_errors():
            response = await self._http.post(
                self._api.url + ":predict", content=content
            )
            return self._api.outputs(response, signature)


def make_body(name: str, feed: Arrays) -> bytes:
    """A request in column form; strings, of whatever kind, as base64."""
    inputs = {
        key: [{"b64": base64.b64encode(item).decode()} for item in value]
        if value.dtype == object
        else value.tolist()
        for key, value in feed.items()
    }
    return json.dumps({"signature_name": name, "inputs": inputs}).encode()


class _Api:
    """Addresses, answers and errors of the REST API.

    Attributes:
      url: Of the model.
      timeout: For httpx.
    """

    def __init__(self, target: Target):
        parsed = urllib.parse.urlsplit(target.address)
        if parsed.scheme not in ("http", "https") or not parsed.hostname:
            raise ValueError(
                "`address` must start with http:// or https://, such as "
                f"http://localhost:8501. Received: {target.address!r}."
            )
        self._target = target
        self.timeout = httpx.Timeout(target.timeout, pool=None)
        model = urllib.parse.quote(target.model, safe="")
        self.url = f"{target.address.rstrip('/')}/v1/models/{model}"
        if target.version is not None:
            self.url += f"/versions/{target.version}"
        if target.label is not None:
            self.url += f"/labels/{urllib.parse.quote(target.label, safe='')}"

    @contextlib.contextmanager
    def readable_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            said = f"no answer within {self._target.timeout:g} s"
            raise make_error(Timeout, self._target, said, None) from None
        except httpx.TransportError as error:
            said = f"{error}" or type(error).__name__
            raise make_error(Unavailable, self._target, said, None) from None
        except httpx.RequestError as error:
            said = f"the answer can't be read: {error}"
            raise make_error(UnexpectedAnswer, self._target, said, None) from None

    def read(self, response: httpx.Response) -> Any:
        status = response.status_code
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if status != 200:
            named = isinstance(answer, Mapping) and "error" in answer
            said = answer["error"] if named else response.text[:200]
            kind = MEANINGS.get(status, ServingError)
            error = make_error(kind, self._target, said, status)
            if isinstance(error, Unavailable):
                error.wait = _seconds(response.headers.get("Retry-After"))
            raise error
        if not isinstance(answer, Mapping):
            said = f"the answer is no JSON object: {response.text[:60]!r}"
            raise make_error(UnexpectedAnswer, self._target, said, status)
        return answer

    def outputs(
        self, response: httpx.Response, signature: Signature
    ) -> Mapping[str, Any]:
        answer = self.read(response)
        if "outputs" not in answer:
            said = f"the answer must have 'outputs'; it has {sorted(answer)}"
            raise make_error(UnexpectedAnswer, self._target, said, 200)
        outputs = answer["outputs"]
        if len(signature.outputs) == 1:  # then the server leaves out its name
            return dict.fromkeys(signature.outputs, outputs)
        if not isinstance(outputs, Mapping):
            said = f"'outputs' must have {sorted(signature.outputs)}"
            raise make_error(UnexpectedAnswer, self._target, said, 200)
        return outputs

    def is_available(self, response: httpx.Response) -> bool:
        versions = self.read(response).get("model_version_status", [])
        return any(version.get("state") == "AVAILABLE" for version in versions)


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header: seconds, or a date."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        if np.isfinite(seconds := float(retry_after)):
            return max(seconds, 0.0)
    with contextlib.suppress(ValueError, TypeError):
        until = email.utils.parsedate_to_datetime(retry_after)
        now = datetime.datetime.now(datetime.timezone.utc)
        return max((until - now).total_seconds(), 0.0)
    return None
