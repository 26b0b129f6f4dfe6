"""Deadlines: bounds on a piece of work as a whole.

httpx bounds each read and each write by itself, so a server that sends a byte now and then holds a caller for ever.
In async code `asyncio.timeout` ends that. In sync code the streams of our connections look at the deadline of the
enclosing block before each wait. A user's own sync client does not; there, `check_deadline` between two chunks does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Self

import httpcore

from predictionguard_core.errors import ConfigurationError

CONNECT_TIMEOUT = 10.0
"""Seconds that opening a connection may take, for requests and for image downloads."""

POOL_TIMEOUT = 300.0
"""Seconds that a call may wait for a free connection. They do not count towards the call's own timeout."""

_DRAIN_TIMEOUT = 0.25

_current: contextvars.ContextVar[deadline | None] = contextvars.ContextVar("predictionguard_deadline", default=None)


class deadline:  # noqa: N801 - used as a block
    """Bound the sync code in the block to this many seconds altogether."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = math.inf
        self.stream: httpcore.NetworkStream | None = None
        self._is_aborted = False

    def __enter__(self) -> Self:
        self.end = time.monotonic() + (0 if self._is_aborted else self.seconds)
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def pause(self) -> None:
        """Stop the clock."""

    def resume(self, paused: float) -> None:
        """Let the clock go on after a pause of so many seconds."""
        self.end += paused

    def abort(self) -> None:
        """End the block from another thread: what it reads or writes at the moment fails, and so does what follows."""
        self._is_aborted = True
        self.end = 0.0
        connected = self.stream and self.stream.get_extra_info("socket")
        if connected:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


class async_deadline(deadline):  # noqa: N801 - used as a block
    """`deadline`, async. Raises `TimeoutError` at its end."""

    async def __aenter__(self) -> Self:
        running_loop()
        self._timeout = asyncio.timeout(self.seconds)
        await self._timeout.__aenter__()
        return self.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.__exit__()
        await self._timeout.__aexit__(*error)

    def pause(self) -> None:
        """Stop the clock."""
        self._timeout.reschedule(None)

    def resume(self, paused: float) -> None:
        """Let the clock go on after a pause of so many seconds."""
        super().resume(paused)
        self._timeout.reschedule(asyncio.get_running_loop().time() + self.end - time.monotonic())


def check_deadline() -> None:
    """Raise `TimeoutError` if the deadline of the enclosing block is over."""
    current = _current.get()
    if current is not None and time.monotonic() > current.end:
        raise TimeoutError


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Within the block, the clock of the enclosing deadline stands still."""
    current, started = _current.get(), time.monotonic()
    if current is not None:
        current.pause()
    try:
        yield
    finally:
        if current is not None:
            current.resume(time.monotonic() - started)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running asyncio loop. Raises `ConfigurationError` under trio and without a loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "async calls need a running asyncio event loop; under trio or curio, call the sync methods in a thread "
            "(trio.to_thread.run_sync)"
        ) from None


def drain(chunks: Iterator[bytes]) -> None:
    """Read what a finished response still holds, so that its connection can be reused; but do not wait for it."""
    with contextlib.suppress(Exception):
        with deadline(_DRAIN_TIMEOUT):
            for _ in chunks:
                check_deadline()


async def async_drain(chunks: AsyncIterator[bytes]) -> None:
    """`drain`, async."""
    with contextlib.suppress(Exception):
        async with async_deadline(_DRAIN_TIMEOUT):
            async for _ in chunks:
                check_deadline()


# Everything that may have a connection open. Each is referenced by its connection.
_backends: weakref.WeakSet[Backend | AsyncBackend] = weakref.WeakSet()


def release_inherited_sockets() -> None:
    """In a child process after a fork, replace the parent's sockets by `/dev/null`.

    Only this process's hold on them ends. Otherwise the child would keep open what the parent closes, and closing them
    properly in the child would end the parent's TLS sessions.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for backend in list(_backends):
        connected: Any = backend.stream and backend.stream.get_extra_info("socket")
        if connected is not None and connected.fileno() >= 0:
            os.dup2(null, connected.fileno(), inheritable=False)
    os.close(null)


class Backend(httpcore.SyncBackend):
    """httpcore network backend whose reads and writes obey the deadline of the enclosing block.

    One backend opens one connection. `stream` is that connection's stream, even while httpcore still connects.
    The connection goes to `address`, if given, instead of the URL's host.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address
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
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        self.stream = _Stream(super().connect_tcp(self._address or host, port, timeout, local_address, socket_options))
        return self.stream


class AsyncBackend(httpcore.AnyIOBackend):
    """`Backend`, async. The deadline is `async_deadline`'s own."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self.stream: httpcore.AsyncNetworkStream | None = None
        _backends.add(self)

    async def connect_tcp(self, host: str, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        """Connect. Raises httpcore's errors."""
        self.stream = await super().connect_tcp(self._address or host, *args, **options)
        return self.stream


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout, self))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout, self))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout, self)
        context: Any = _ClosingContext(ssl_context)
        self._stream = self._stream.start_tls(context, server_hostname, timeout)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


class _ClosingContext:
    """TLS context that closes the socket whatever ends the handshake. Python does so for OSError only."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.wrap_bio = context.wrap_bio

    def wrap_socket(self, sock: socket.socket, server_hostname: str | None = None) -> ssl.SSLSocket:
        wrapped = self._context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def _remaining(
    timeout: float | None, late: type[Exception], stream: httpcore.NetworkStream | None = None
) -> float | None:
    current = _current.get()
    if current is None:
        return timeout
    current.stream = stream
    left = current.end - time.monotonic()
    if left <= 0:
        raise late("the deadline is over")
    return left if timeout is None else min(timeout, left)
