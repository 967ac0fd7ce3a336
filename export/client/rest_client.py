"""The clients for TensorFlow Serving's REST API; need neither TensorFlow nor Keras."""

import base64
import contextlib
import datetime
import email.utils
import json
import math
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from export.client import errors
from export.client.clients import AsyncClient, Client
from export.client.core import Transport, resolve
from export.client.feeds import Arrays
from export.client.served_model import Signature
from export.client.target import Target

#: HTTP status to error; others are `ServingError`.
MEANINGS: dict[int, type[errors.ServingError]] = {
    400: errors.InvalidRequest,
    404: errors.ModelNotFound,
    408: errors.Timeout,
    429: errors.Unavailable,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Timeout,
}


class RestClient(Client):
    """Asks over HTTP, with connections that are kept open; see `Client`.

    Example:
      >>> with RestClient("http://localhost:1", "digits", retries=0) as client:
      ...     client.ready()  # no server there
      False
    """

    def _make_transport(self, **options: Any) -> Transport:
        return _RestTransport(self.target, httpx.Client, **options)


class AsyncRestClient(AsyncClient):
    """`RestClient` with coroutines; to be used within one event loop.

    Example:
      >>> import asyncio
      >>> async def is_ready():
      ...     async with AsyncRestClient("http://localhost:1", "digits") as client:
      ...         return await client.ready()
      >>> asyncio.run(is_ready())
      False
    """

    def _make_transport(self, **options: Any) -> Transport:
        return _RestTransport(self.target, httpx.AsyncClient, **options)


def _body(name: str, feed: Arrays) -> bytes:
    """A request in column form; strings of any kind as base64."""
    inputs = {
        key: [{"b64": base64.b64encode(item).decode()} for item in value]
        if value.dtype == object
        else value.tolist()
        for key, value in feed.items()
    }
    return json.dumps({"signature_name": name, "inputs": inputs}).encode()


class _RestTransport(Transport):
    """The requests of the REST API, with either kind of httpx client.

    Attributes:
      url: URL of the model.
    """

    def __init__(
        self,
        target: Target,
        make_http: type[httpx.Client] | type[httpx.AsyncClient],
        headers: Mapping[str, str] | None = None,
    ):
        parsed = urllib.parse.urlsplit(target.address)
        if parsed.scheme not in ("http", "https") or not parsed.hostname:
            raise ValueError(
                "`address` must start with http:// or https://, such as "
                f"http://localhost:8501. Received: {target.address!r}."
            )
        model = urllib.parse.quote(target.model, safe="")
        self.url = f"{target.address.rstrip('/')}/v1/models/{model}"
        if target.version is not None:
            self.url += f"/versions/{target.version}"
        if target.label is not None:
            self.url += f"/labels/{urllib.parse.quote(target.label, safe='')}"
        self._target = target
        timeout = httpx.Timeout(target.timeout, pool=None)
        self._http = make_http(timeout=timeout, headers=headers)

    async def metadata(self) -> Any:
        return await self._read(self._http.get, "/metadata")

    async def predict(
        self, name: str, signature: Signature, feed: Arrays
    ) -> Mapping[str, Any]:
        content = _body(name, feed)
        answer = await self._read(self._http.post, ":predict", content=content)
        if "outputs" not in answer:
            message = f"the answer must have 'outputs'; it has {sorted(answer)}"
            raise errors.make_error(errors.UnexpectedAnswer, self._target, message, 200)
        outputs = answer["outputs"]
        if len(signature.outputs) == 1:  # then the server leaves out its name
            return dict.fromkeys(signature.outputs, outputs)
        if not isinstance(outputs, Mapping):
            message = f"'outputs' must have {sorted(signature.outputs)}"
            raise errors.make_error(errors.UnexpectedAnswer, self._target, message, 200)
        return outputs

    async def is_available(self) -> bool:
        answer = await self._read(self._http.get, "")
        versions = answer.get("model_version_status", [])
        return any(version.get("state") == "AVAILABLE" for version in versions)

    async def close(self) -> None:
        if isinstance(self._http, httpx.Client):
            self._http.close()
        else:
            await self._http.aclose()

    async def _read(self, send: Any, suffix: str, **kwargs: Any) -> Mapping[str, Any]:
        """Sends a request; the JSON object of the answer."""
        with self._readable_errors():
            response = await resolve(send(self.url + suffix, **kwargs))
        status = response.status_code
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if status != 200:
            has_error = isinstance(answer, Mapping) and "error" in answer
            message = answer["error"] if has_error else response.text[:200]
            kind = MEANINGS.get(status, errors.ServingError)
            error = errors.make_error(kind, self._target, message, status)
            if isinstance(error, errors.Unavailable):
                error.wait = _seconds(response.headers.get("Retry-After"))
            raise error
        if not isinstance(answer, Mapping):
            message = f"the answer is not a JSON object: {response.text[:60]!r}"
            raise errors.make_error(
                errors.UnexpectedAnswer, self._target, message, status
            )
        return answer

    @contextlib.contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            message = f"no answer within {self._target.timeout:g} s"
            raise errors.make_error(errors.Timeout, self._target, message) from None
        except httpx.TransportError as error:
            message = f"{error}" or type(error).__name__
            raise errors.make_error(errors.Unavailable, self._target, message) from None
        except httpx.RequestError as error:
            message = f"the answer can't be read: {error}"
            raise errors.make_error(
                errors.UnexpectedAnswer, self._target, message
            ) from None


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        if math.isfinite(seconds := float(retry_after)):
            return max(seconds, 0.0)
    with contextlib.suppress(ValueError, TypeError):
        until = email.utils.parsedate_to_datetime(retry_after)
        now = datetime.datetime.now(datetime.timezone.utc)
        return max((until - now).total_seconds(), 0.0)
    return None
