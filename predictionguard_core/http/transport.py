"""The transports under every call: httpcore's connections, each used by one call at a time and kept for the next.

Not httpcore's own pools: those look at every connection they keep for every request, and in each colour have ways to
lose one (a call cancelled between connecting and sending keeps its place for good; a connection that is being closed
may be handed out). Here a call takes the connection that was used last, or opens one, and gives it back when its
answer was read to the end. Nothing waits for a lock, so that a stream which only the garbage collector closes can't
stop the call in whose midst that happens.

The two colours are one text; a test compares them.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ssl
import time
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import httpcore
import httpx

from predictionguard_core.http.calls import AsyncReply, Reply, lowered, mapped, request
from predictionguard_core.http.slots import async_slots, async_take, give, slots, take
from predictionguard_core.http.timeouts import AsyncBackend, Backend
from predictionguard_core.steps import Request

Origin = tuple[bytes, bytes, int | None]

# Turns of an event loop in which a stream gets closed, and those that its last steps take. Each takes microseconds.
_TURNS, _LAST_TURNS = 200, 20


def transport(tls: ssl.SSLContext, limits: httpx.Limits, *, trust_env: bool = True) -> Transport | None:
    """A transport; None where the environment names a proxy, which httpx itself has to be left to use."""
    return Transport(tls, limits) if not (trust_env and names_proxy()) else None


def async_transport(tls: ssl.SSLContext, limits: httpx.Limits) -> AsyncTransport | None:
    """The same in the other colour."""
    return None if names_proxy() else AsyncTransport(tls, limits)


def names_proxy() -> bool:
    """Whether the environment names a proxy."""
    return bool(urllib.request.getproxies().keys() - {"no"})


class Transport(httpx.BaseTransport):
    """Connections that heed `deadlines.deadline`, kept by where they lead."""

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        self.is_closed = False
        self._tls = tls
        self._kept = _Kept(limits)
        self._slots = slots(limits)

    def send(self, call: Request, body: bytes | Iterable[bytes] | None) -> Reply:
        """Send a request, and wait for the head of its answer. Raises httpx's errors."""
        got, stream = self._sent(request(call, body))
        return Reply(got.status, got.headers, stream)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The same for an httpx client."""
        got, stream = self._sent(lowered(request))
        return httpx.Response(got.status, headers=got.headers, stream=stream, extensions=got.extensions)

    def close(self) -> None:
        """Close every connection that is not in use; the others, and those of later calls, follow after their call."""
        self.is_closed = True
        _shut(*self._kept.dropped())

    def _sent(self, request: httpcore.Request) -> tuple[httpcore.Response, _Stream]:
        connect_timeout = request.extensions["timeout"]["connect"]
        with mapped():
            take(self._slots, connect_timeout)
            backend, connection = None, None
            try:
                origin = _origin(request.url)
                while (connection := self._kept.taken(origin)) is not None and connection.has_expired():
                    connection.close()
                if connection is None:
                    backend = Backend()
                    connection = httpcore.HTTPConnection(
                        request.url.origin, self._tls, keepalive_expiry=self._kept.seconds, network_backend=backend
                    )
                got = connection.handle_request(request)
            except BaseException:
                # Whatever it was: this connection serves nobody any more.
                try:
                    _shut(connection, backend.stream if backend else None)
                finally:
                    give(self._slots)
                raise
            self._kept.lent.add(connection)
            return got, _Stream(self, origin, connection, got)

    def _given_back(self, origin: Origin, connection: httpcore.HTTPConnection) -> None:
        try:
            old = self._kept.given_back(origin, connection)
            old += self._kept.dropped() if self.is_closed else []  # closed perhaps since just now
            _shut(*old)
        finally:
            give(self._slots)


class AsyncTransport(httpx.AsyncBaseTransport):
    """Connections of one event loop, kept by where they lead."""

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        self.is_closed = False
        self._tls = tls
        self._kept = _Kept(limits)
        self._slots = async_slots(limits)

    async def send(self, call: Request, body: bytes | AsyncIterable[bytes] | None) -> AsyncReply:
        """Send a request, and wait for the head of its answer. Raises httpx's errors."""
        got, stream = await self._sent(request(call, body))
        return AsyncReply(got.status, got.headers, stream)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The same for an httpx client."""
        got, stream = await self._sent(lowered(request))
        return httpx.Response(got.status, headers=got.headers, stream=stream, extensions=got.extensions)

    async def aclose(self) -> None:
        """Close every connection that is not in use; the others, and those of later calls, follow after their call."""
        self.is_closed = True
        await _async_shut(*self._kept.dropped())

    async def _sent(self, request: httpcore.Request) -> tuple[httpcore.Response, _AsyncStream]:
        connect_timeout = request.extensions["timeout"]["connect"]
        with mapped():
            await async_take(self._slots, connect_timeout)
            backend, connection = None, None
            try:
                origin = _origin(request.url)
                while (connection := self._kept.taken(origin)) is not None and connection.has_expired():
                    await connection.aclose()
                if connection is None:
                    backend = AsyncBackend()
                    connection = httpcore.AsyncHTTPConnection(
                        request.url.origin, self._tls, keepalive_expiry=self._kept.seconds, network_backend=backend
                    )
                got = await connection.handle_async_request(request)
            except BaseException:
                # Whatever it was: this connection serves nobody any more.
                try:
                    await _async_shut(connection, backend.stream if backend else None)
                finally:
                    give(self._slots)
                raise
            self._kept.lent.add(connection)
            return got, _AsyncStream(self, origin, connection, got)

    async def _given_back(self, origin: Origin, connection: httpcore.AsyncHTTPConnection) -> None:
        try:
            old = self._kept.given_back(origin, connection)
            old += self._kept.dropped() if self.is_closed else []  # closed perhaps since just now
            await _async_shut(*old)
        finally:
            give(self._slots)


class _Stream(httpx.SyncByteStream):
    """The body of an answer, as it comes. Closing it gives the connection back."""

    def __init__(
        self, transport: Transport, origin: Origin, connection: httpcore.HTTPConnection, got: httpcore.Response
    ) -> None:
        self._transport, self._origin, self._connection, self._got = transport, origin, connection, got
        self._is_open = True

    def __iter__(self) -> Iterator[bytes]:
        with mapped():
            for piece in self._got.stream:  # type: ignore[union-attr] # of this colour
                yield piece

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self._got.close()
            except GeneratorExit:  # nothing may be waited for any more: `settle` closes it
                give(self._transport._slots)
                raise
            except BaseException:
                self._transport._given_back(self._origin, self._connection)
                raise
            self._transport._given_back(self._origin, self._connection)


class _AsyncStream(httpx.AsyncByteStream):
    """`_Stream`, asynchronous."""

    def __init__(
        self,
        transport: AsyncTransport,
        origin: Origin,
        connection: httpcore.AsyncHTTPConnection,
        got: httpcore.Response,
    ) -> None:
        self._transport, self._origin, self._connection, self._got = transport, origin, connection, got
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with mapped():
            async for piece in self._got.stream:  # type: ignore[union-attr] # of this colour
                yield piece

    async def aclose(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                await self._got.aclose()
            except GeneratorExit:  # nothing may be waited for any more: `settle` closes it
                give(self._transport._slots)
                raise
            except BaseException:
                await self._transport._given_back(self._origin, self._connection)
                raise
            await self._transport._given_back(self._origin, self._connection)


async def settle(transport: AsyncTransport) -> None:
    """Wait until the streams that are being closed are closed, and close the others: the event loop ends.

    An ending loop cancels what was about to close a stream; CPython 3.11 then breaks that off in the midst of it.
    """
    for _ in range(_TURNS):
        if not transport._kept.lent:
            break
        await asyncio.sleep(0)
    left, transport._kept.lent = transport._kept.lent, set()
    await _async_shut(*left)
    for _ in range(_LAST_TURNS):
        await asyncio.sleep(0)


class _Kept:
    """The connections that wait for their next call, those used last at the end of each row."""

    def __init__(self, limits: httpx.Limits) -> None:
        self.seconds = limits.keepalive_expiry
        self._most = limits.max_keepalive_connections
        self._rows: dict[Origin, collections.deque[tuple[float, Any]]] = {}
        # Those in use: if a stream and its socket were garbage together, the socket might be finalised first, and warn.
        self.lent: set[Any] = set()

    def taken(self, origin: Origin) -> Any:
        """The connection that was used last; None if there is none. Any thread may ask at any moment."""
        try:
            return self._rows[origin].pop()[1]
        except (KeyError, IndexError):
            return None

    def given_back(self, origin: Origin, connection: Any) -> list[Any]:
        """Keep a connection that can be used again. Those that have to be closed instead come back."""
        self.lent.discard(connection)
        if not connection.is_idle() or _holds_more(connection):
            return [connection]
        row, now = self._rows.setdefault(origin, collections.deque()), time.monotonic()
        row.append((now, connection))
        old: list[Any] = []
        with contextlib.suppress(IndexError):  # another thread was faster
            while (self._most is not None and len(row) > self._most) or (
                self.seconds is not None and now - row[0][0] > self.seconds
            ):
                old.append(row.popleft()[1])
        return old

    def dropped(self) -> list[Any]:
        """All of them, which are kept no more."""
        dropped: list[Any] = []
        for row in list(self._rows.values()):
            with contextlib.suppress(IndexError):
                while True:
                    dropped.append(row.popleft()[1])
        return dropped


def _holds_more(connection: Any) -> bool:
    """Whether something came behind the answer: the next call would take it for its own."""
    # httpcore has no name for it.
    http = getattr(getattr(connection, "_connection", None), "_h11_state", None)
    return http is not None and http.trailing_data[0] != b""


def _shut(*streams: Any) -> None:
    """Close connections, and the streams of those that have not got hold of them yet."""
    with contextlib.ExitStack() as stack:
        for each in filter(None, streams):
            stack.callback(each.close)


async def _async_shut(*streams: Any) -> None:
    """The same; a call that is cancelled does not cancel this, too."""

    async def close() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for each in filter(None, streams):
                stack.push_async_callback(each.aclose)

    if streams:
        await asyncio.shield(close())


def _origin(url: httpcore.URL) -> Origin:
    return url.scheme, url.host, url.port
