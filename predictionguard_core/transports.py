"""The synchronous transport under httpx's clients: like its own, but no wait outlives the deadline of its block.

httpx bounds each wait by itself: a server that sends a byte now and then holds a caller for ever. In asynchronous code
`asyncio.timeout` ends that; here the connection asks the running block's deadline before each wait.
"""

from __future__ import annotations

import contextlib
import contextvars
import ssl
import time
import typing
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("predictionguard_deadline", default=None)

# The errors of the lower library by the names that httpx gives to the same things.
_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        "ConnectError",
        "ConnectTimeout",
        "LocalProtocolError",
        "NetworkError",
        "PoolTimeout",
        "ProtocolError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "TimeoutException",
        "UnsupportedProtocol",
        "WriteError",
        "WriteTimeout",
    )
}


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Within the block, waits of this thread on a `Transport` end after so many seconds altogether."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def transport(tls: ssl.SSLContext, limits: httpx.Limits, *, trust_env: bool = True) -> httpx.BaseTransport | None:
    """A transport; None where the environment names a proxy, which httpx itself has to be left to use."""
    named = urllib.request.getproxies().keys() - {"no"} if trust_env else ()
    return None if named else Transport(tls, limits)


class Transport(httpx.BaseTransport):
    """A pool of connections whose waits heed `deadline`."""

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx's errors."""
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _mapped():
            got = self._pool.handle_request(sent)
        assert isinstance(got.stream, typing.Iterable)
        return httpx.Response(got.status, headers=got.headers, stream=_Stream(got.stream), extensions=got.extensions)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _mapped():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Timed(super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Timed(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _left(timeout, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    end = _deadline.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise late("the time for the whole is over")
    return left if timeout is None else min(timeout, left)


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except tuple(_ERRORS) as error:
        kind = next(_ERRORS[each] for each in type(error).__mro__ if each in _ERRORS)
        raise kind(str(error)) from error
