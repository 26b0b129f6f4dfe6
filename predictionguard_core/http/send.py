"""Send one request and return its response, over a shared transport or over a user's own client."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import httpx

from predictionguard_core.api.body import Body
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.http import timeouts
from predictionguard_core.http.shared_clients import AnyAsyncClient, AnyClient

# A smaller body goes out in one piece: cheaper than many small writes, and too little memory to matter.
_ONE_PIECE = 2 * 1024 * 1024
# Larger than the chunks of sync code: each costs a turn of the event loop.
_ASYNC_CHUNK = 768 * 1024
# Seconds that closing an abandoned stream in another thread is waited for.
_CLOSE_TIMEOUT = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body. `timeout` is in seconds, for each read and each write."""

    method: str
    url: str
    headers: dict[str, str] = dataclasses.field(repr=False)  # the API key is among them
    timeout: float

    @property
    def timeouts(self) -> dict[str, float]:
        """The bounds of httpx, in seconds."""
        # Connecting ends before the whole attempt does: it is tried again, an attempt that took its time is not.
        connect = min(0.9 * self.timeout, timeouts.CONNECT_TIMEOUT)
        return {"connect": connect, "read": self.timeout, "write": self.timeout, "pool": timeouts.POOL_TIMEOUT}


def send_request(client: AnyClient, request: RequestHead, body: Body | None) -> httpx.Response:
    """Send a request and return the response with its body still to be read. Raises errors of httpx or httpx2."""
    content: Any = _in_one_piece(body)
    if isinstance(client, httpx.BaseTransport):
        response = client.handle_request(_request(request, content))
    else:
        response = client.send(_build_request(client, request, content), stream=True)
        response.stream = _wrapper_class(_module(client))(response.stream)
    if _is_from_proxy(response):
        with contextlib.closing(response):
            raise httpx.ProxyError(f"{response.status_code} {response.reason_phrase}")
    return response


async def async_send_request(client: AnyAsyncClient, request: RequestHead, body: Body | None) -> httpx.Response:
    """`send_request`, async."""
    content: Any = await _async_in_one_piece(body)
    if isinstance(client, httpx.AsyncBaseTransport):
        response = await client.handle_async_request(_request(request, content))
    else:
        response = await client.send(_build_request(client, request, content), stream=True)
    if _is_from_proxy(response):
        async with contextlib.aclosing(response):
            raise httpx.ProxyError(f"{response.status_code} {response.reason_phrase}")
    return response


def _request(request: RequestHead, content: Any) -> httpx.Request:
    extensions = {"timeout": request.timeouts}
    url = _parsed(request.url)
    return httpx.Request(request.method, url, headers=request.headers, content=content, extensions=extensions)


@functools.lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def _build_request(client: Any, request: RequestHead, content: Any) -> Any:
    if client.is_closed:
        raise ConfigurationError("the http_client you passed is closed; pass an open one, or none")
    # As a dictionary in the extensions, it suits httpx and httpx2.
    extensions = {"timeout": request.timeouts}
    return client.build_request(
        request.method, request.url, headers=request.headers, content=content, extensions=extensions
    )


def _is_from_proxy(response: Any) -> bool:
    # A proxy that forwards http:// requests refuses them as if it was the service.
    return response.status_code == 407 or (response.status_code == 401 and "proxy-authenticate" in response.headers)


def _in_one_piece(body: Body | None) -> bytes | Body | None:
    return body if body is None or body.length > _ONE_PIECE else b"".join(body.pieces())


async def _async_in_one_piece(body: Body | None) -> bytes | _AsyncBody | None:
    if body is None or body.length > _ONE_PIECE:
        return None if body is None else _AsyncBody(body)
    return await asyncio.to_thread(b"".join, body) if body.reads_files else b"".join(body)


class _AsyncBody:
    """A body that can be sent again, after a redirect or a challenge: an async generator could not."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._body.pieces(_ASYNC_CHUNK)
        if not self._body.reads_files:
            for chunk in chunks:
                yield chunk
            return
        while (chunk := await asyncio.to_thread(next, chunks, b"")) != b"":
            yield chunk


def _module(client: Any) -> str:
    """Return "httpx" or "httpx2", whichever the client comes from."""
    names = (each.__module__.partition(".")[0] for each in type(client).__mro__)
    return next(name for name in names if name in ("httpx", "httpx2"))


@functools.cache
def _wrapper_class(module: str) -> type:
    """Return a class of streams for responses of this module, which checks for its own."""
    return type("UserClientStream", (_UserClientStream, importlib.import_module(module).SyncByteStream), {})


class _UserClientStream:
    """The body of a response of a user's own sync client.

    The garbage collector may drop an abandoned stream in the middle of another call of the same thread, which holds the
    lock of httpcore's pool; closing the stream there would deadlock. So another thread closes it, and until then what
    would close itself is kept from the collector.
    """

    _kept: ClassVar[set[Any]] = set()

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._chunks: Iterator[bytes] = iter(stream)
        self._is_open, self._is_read = True, False
        self._kept.add(self._chunks)
        self._kept.add(stream)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:  # not `yield from`, which would close it
                yield chunk
            self._is_read = True
        except GeneratorExit:
            self.close()
            raise

    def close(self) -> None:
        """Close the response of the user's client."""
        if not self._is_open:
            return
        self._is_open = False
        if self._is_read:
            self._stream.close()
        else:
            closer = threading.Thread(target=self._stream.close, name="predictionguard-closing", daemon=True)
            closer.start()
            closer.join(_CLOSE_TIMEOUT)
        self._kept.discard(self._chunks)
        self._kept.discard(self._stream)

    def __del__(self) -> None:
        self.close()
