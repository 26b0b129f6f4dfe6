"""httpx's own transports over a connection pool of ours.

Every request ends in `httpx.HTTPTransport.handle_request` or `httpx.AsyncHTTPTransport.handle_async_request`. These two
methods are what pytest-httpx, vcrpy and OpenTelemetry's httpx instrumentation patch. Only the pool below is replaced,
for what httpcore's does wrong:

- A call that is cancelled while it connects keeps its place in the pool for good (encode/httpcore#1093).
- Each request looks at every connection of the pool: a fan-out of n calls costs n squared.
- Its locks deadlock if the garbage collector closes an abandoned stream while the same thread holds one.

Here a call takes the connection that was used last, or opens one, and returns it when its response was read to the end.
There are no locks. Sync and async are the same text; a test compares them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpcore
import httpx

from predictionguard_core.http import timeouts
from predictionguard_core.http.proxies import Proxies
from predictionguard_core.http.timeouts import AsyncBackend, Backend
from predictionguard_core.http.tls import async_tls_context, tls_context

# `AsyncTransport.finish` waits at most the first number of event loop iterations for the streams to be closed, then the
# second number for httpcore and asyncio to clean up. An iteration takes microseconds.
_CLOSE_ITERATIONS, _CLEANUP_ITERATIONS = 200, 20

_DIRECT = Proxies()
_KINDS = (httpcore.HTTPConnection, httpcore.HTTPProxy, httpcore.SOCKSProxy)
_ASYNC_KINDS = (httpcore.AsyncHTTPConnection, httpcore.AsyncHTTPProxy, httpcore.AsyncSOCKSProxy)


def is_supported() -> bool:
    """Return whether this httpx keeps its pool where `Transport` and `AsyncTransport` replace it."""
    return hasattr(httpx.HTTPTransport(verify=_unused_context()), "_pool")


def new_transport(limits: httpx.Limits, address: str | None = None) -> httpx.HTTPTransport:
    """Return a transport that uses no proxy and dials `address`, if given, for every host.

    Where our pool can't be used it is httpx's own, which ignores `address`.
    """
    if is_supported():
        return Transport(limits, _DIRECT, address)
    return httpx.HTTPTransport(verify=tls_context(), limits=limits, trust_env=False)


def new_async_transport(limits: httpx.Limits, address: str | None = None) -> httpx.AsyncHTTPTransport:
    """`new_transport`, async."""
    if is_supported():
        return AsyncTransport(limits, _DIRECT, address)
    return httpx.AsyncHTTPTransport(verify=tls_context(), limits=limits, trust_env=False)


class Transport(httpx.HTTPTransport):
    """httpx's transport with a pool that obeys `timeouts.deadline`."""

    def __init__(self, limits: httpx.Limits, proxies: Proxies, address: str | None = None) -> None:
        super().__init__(verify=_unused_context(), trust_env=False)
        self._pool: Any = Pool(limits, proxies, address)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A later call opens a connection of its own."""
        return bool(self._pool.is_closed)


class AsyncTransport(httpx.AsyncHTTPTransport):
    """httpx's async transport with our pool. Belongs to one event loop."""

    def __init__(self, limits: httpx.Limits, proxies: Proxies, address: str | None = None) -> None:
        super().__init__(verify=_unused_context(), trust_env=False)
        self._pool: Any = AsyncPool(limits, proxies, address)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed. A later call opens a connection of its own."""
        return bool(self._pool.is_closed)

    async def finish(self) -> None:
        """Close every stream because the event loop ends.

        An ending loop cancels the tasks that were about to close a stream; CPython 3.11 interrupts them half-way.
        """
        for _ in range(_CLOSE_ITERATIONS):
            if not self._pool.in_use:
                break
            await asyncio.sleep(0)
        left, self._pool.in_use = self._pool.in_use, set()
        await _async_close(*left)
        for _ in range(_CLEANUP_ITERATIONS):
            await asyncio.sleep(0)


class _Connections:
    """What both pools share: the idle connections, last used last, and those in use."""

    def __init__(self, limits: httpx.Limits, proxies: Proxies, address: str | None = None) -> None:
        self._limits = limits
        self._proxies = proxies
        self._address = address
        self.is_closed = False
        self._idle: dict[Any, float] = {}
        # Referenced, because if a stream and its socket became garbage together, the socket might go first, and warn.
        self.in_use: set[Any] = set()

    def _connection(self, kinds: Any, origin: httpcore.Origin, tls: ssl.SSLContext | None, backend: Any) -> Any:
        seconds = self._limits.keepalive_expiry
        return self._proxies.connection(kinds, origin, tls, keepalive_expiry=seconds, network_backend=backend)

    def _take(self, origin: httpcore.Origin) -> Any:
        """Return the idle connection to `origin` that was used last, or None. Any thread may ask at any time.

        `dict.pop` is atomic: of several threads only one gets the connection, so no lock is needed.
        """
        for connection in reversed(list(self._idle)):
            if connection.can_handle_request(origin) and self._idle.pop(connection, None) is not None:
                return connection
        return None

    def _keep(self, connection: Any) -> list[Any]:
        """Keep a connection for the next call. Return the connections to close instead."""
        self.in_use.discard(connection)
        if not connection.is_idle() or _has_leftover(connection):
            return [connection]
        now = time.monotonic()
        self._idle[connection] = now
        if self.is_closed:
            return self._take_all()
        most, seconds = self._limits.max_keepalive_connections, self._limits.keepalive_expiry
        idle = list(self._idle.items())
        surplus = len(idle) - most if most is not None else 0
        to_close = [
            each
            for number, (each, since) in enumerate(idle)
            if number < surplus or (seconds is not None and now - since > seconds)
        ]
        return self._take_each(to_close)

    def _take_all(self) -> list[Any]:
        return self._take_each(list(self._idle))

    def _take_each(self, connections: list[Any]) -> list[Any]:
        """Return those that no other thread takes at the same time: `dict.pop` is atomic, as in `_take`."""
        return [each for each in connections if self._idle.pop(each, None) is not None]


class Pool(_Connections):
    """Connections of any thread."""

    def __init__(self, limits: httpx.Limits, proxies: Proxies, address: str | None = None) -> None:
        super().__init__(limits, proxies, address)
        # A queue, because its `put` is safe even if the garbage collector interrupts another `put` or `get`.
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(limits.max_connections or 1):
            self._slots.put(None)

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request and return the response with its body still to be read. Raises httpcore's errors."""
        self._take_slot(request)
        connection, backend = None, None
        try:
            while (connection := self._take(request.url.origin)) is not None and connection.has_expired():
                connection.close()
            if connection is None:
                backend = Backend(self._address)
                tls = tls_context() if self._proxies.needs_tls(request.url.origin) else None
                connection = self._connection(_KINDS, request.url.origin, tls, backend)
            response = connection.handle_request(request)
        except BaseException:
            # Whatever it was, this connection can't be used again.
            try:
                _close(connection, backend.stream if backend else None)
            finally:
                self._slots.put(None)
            raise
        self.in_use.add(connection)
        return httpcore.Response(
            response.status,
            headers=response.headers,
            content=_Stream(self, connection, response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close every idle connection. Those in use, and those of later calls, are closed after their call."""
        self.is_closed = True
        _close(*self._take_all())

    def _take_slot(self, request: httpcore.Request) -> None:
        try:
            self._slots.get_nowait()
        except queue.Empty:
            with timeouts.paused():
                try:
                    self._slots.get(timeout=request.extensions["timeout"]["pool"])
                except queue.Empty:
                    raise httpcore.PoolTimeout("every connection is in use") from None

    def _give_back(self, connection: Any) -> None:
        try:
            _close(*self._keep(connection))
        finally:
            self._slots.put(None)


class AsyncPool(_Connections):
    """Connections of one event loop."""

    def __init__(self, limits: httpx.Limits, proxies: Proxies, address: str | None = None) -> None:
        super().__init__(limits, proxies, address)
        self._slots: asyncio.Queue[None] = asyncio.Queue()
        for _ in range(limits.max_connections or 1):
            self._slots.put_nowait(None)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request and return the response with its body still to be read. Raises httpcore's errors."""
        await self._take_slot(request)
        connection, backend = None, None
        try:
            while (connection := self._take(request.url.origin)) is not None and connection.has_expired():
                await connection.aclose()
            if connection is None:
                backend = AsyncBackend(self._address)
                tls = await async_tls_context() if self._proxies.needs_tls(request.url.origin) else None
                connection = self._connection(_ASYNC_KINDS, request.url.origin, tls, backend)
            response = await connection.handle_async_request(request)
        except BaseException:
            # Whatever it was, this connection can't be used again.
            try:
                await _async_close(connection, backend.stream if backend else None)
            finally:
                self._slots.put_nowait(None)
            raise
        self.in_use.add(connection)
        return httpcore.Response(
            response.status,
            headers=response.headers,
            content=_AsyncStream(self, connection, response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every idle connection. Those in use, and those of later calls, are closed after their call."""
        self.is_closed = True
        await _async_close(*self._take_all())

    async def _take_slot(self, request: httpcore.Request) -> None:
        try:
            self._slots.get_nowait()
        except asyncio.QueueEmpty:
            with timeouts.paused():
                try:
                    async with asyncio.timeout(request.extensions["timeout"]["pool"]):
                        await self._slots.get()
                except TimeoutError:
                    raise httpcore.PoolTimeout("every connection is in use") from None

    async def _give_back(self, connection: Any) -> None:
        try:
            await _async_close(*self._keep(connection))
        finally:
            self._slots.put_nowait(None)


class _Stream:
    """The body of a response. Closing it returns the connection."""

    def __init__(self, pool: Pool, connection: Any, response: httpcore.Response) -> None:
        self._pool, self._connection, self._response = pool, connection, response
        self._is_open = True

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._response.stream:  # type: ignore[union-attr] # a sync one
                yield chunk
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Return the connection, or close it if the body was not read to its end."""
        if self._is_open:
            self._is_open = False
            try:
                self._response.close()
            except GeneratorExit:
                # Only the async version meets this; kept so that the test can compare the two texts.
                self._pool._slots.put(None)
                raise
            except BaseException:
                self._pool._give_back(self._connection)
                raise
            self._pool._give_back(self._connection)


class _AsyncStream:
    """`_Stream`, async."""

    def __init__(self, pool: AsyncPool, connection: Any, response: httpcore.Response) -> None:
        self._pool, self._connection, self._response = pool, connection, response
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.stream:  # type: ignore[union-attr] # an async one
                yield chunk
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Return the connection, or close it if the body was not read to its end."""
        if self._is_open:
            self._is_open = False
            try:
                await self._response.aclose()
            except GeneratorExit:
                # Nothing can be awaited any more: `AsyncTransport.finish` closes the connection.
                self._pool._slots.put_nowait(None)
                raise
            except BaseException:
                await self._pool._give_back(self._connection)
                raise
            await self._pool._give_back(self._connection)


def _has_leftover(connection: Any) -> bool:
    """Return whether bytes followed the response: the next request would take them for its own response.

    httpcore has no public way to ask (its own pool reuses such connections). Without the private names, nothing is
    reused.
    """
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner
    try:
        return bool(connection._h11_state.trailing_data[0] != b"")
    except (AttributeError, TypeError, LookupError):
        return True


def _close(*streams: Any) -> None:
    """Close connections, and the streams of those that httpcore was still opening."""
    with contextlib.ExitStack() as stack:
        for each in filter(None, streams):
            stack.callback(each.close)


async def _async_close(*streams: Any) -> None:
    """`_close`, async. Cancelling the call does not cancel the closing."""

    async def close() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for each in filter(None, streams):
                stack.push_async_callback(each.aclose)

    if streams:
        await asyncio.shield(close())


def _unused_context() -> ssl.SSLContext:
    # For the pool that httpx makes and we replace. Without a context of ours, httpx would load all root certificates.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
