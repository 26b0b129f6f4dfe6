"""Streams of bytes whose waits end with their block: what httpcore connects with here.

httpx bounds each wait by itself: a server that sends a byte now and then holds a caller for ever. In asynchronous code
`asyncio.timeout` ends that; here the connection asks the running block's deadline before each wait.
"""

from __future__ import annotations

import contextvars
import os
import ssl
import time
import weakref
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


# All that may have a connection open. Each is held by its connection.
_backends: weakref.WeakSet[Backend | AsyncBackend] = weakref.WeakSet()


def let_go() -> None:
    """In a child after a fork: put `/dev/null` in the place of the parent's connections.

    Only this process's hold on them ends. What the child has inherited can neither read what is meant for the parent
    nor keep open what the parent closes, and may itself be closed at any time.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for backend in list(_backends):
        connected: Any = backend.stream and backend.stream.get_extra_info("socket")
        if connected is not None and connected.fileno() >= 0:
            os.dup2(nothing, connected.fileno(), inheritable=False)
    os.close(nothing)


class Backend(httpcore.SyncBackend):
    """Makes a connection that heeds `deadline`: `stream`."""

    def __init__(self) -> None:
        self.stream: httpcore.NetworkStream | None = None
        _backends.add(self)

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
    """Makes a connection of the running event loop: `stream`."""

    def __init__(self) -> None:
        self.stream: httpcore.AsyncNetworkStream | None = None
        _backends.add(self)

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
        self._stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        return self

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
