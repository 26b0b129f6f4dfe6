"""Streams of bytes whose waits end with their block: what httpcore connects with here.

httpx bounds each wait by itself: a server that sends a byte now and then holds a caller for ever. In asynchronous code
`asyncio.timeout` ends that; here the connection asks the running block's deadline before each wait.
"""

from __future__ import annotations

import contextvars
import ssl
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpcore

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("predictionguard_deadline", default=None)


class deadline:  # noqa: N801 - used as a block
    """Within the block, waits of this thread on a `Backend`'s streams end after so many seconds altogether."""

    __slots__ = ("_end", "_token")

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def __enter__(self) -> Self:
        self._token = _deadline.set(self._end)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _deadline.reset(self._token)


class Backend(httpcore.SyncBackend):
    """Makes connections that heed `deadline`. `stream` is the last one made."""

    stream: httpcore.NetworkStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect. Raises httpcore's errors."""
        timeout = _left(timeout, httpcore.ConnectTimeout)
        self.stream = _Timed(super().connect_tcp(host, port, timeout, local_address, socket_options))
        return self.stream


class AsyncBackend(httpcore.AnyIOBackend):
    """Makes connections of the running event loop. `stream` is the last one made."""

    stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Connect. Raises httpcore's errors."""
        self.stream = await super().connect_tcp(*args, **options)
        return self.stream


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
