"""The network cable: transports, one per process and event loop, and what both colours of `client` do with them.

Where the environment names a proxy, and where a user gives a client of his own, it is httpx that calls.

Whatever comes in two colours stands here side by side, so that `Client` and `AsyncClient` can be the same text.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import importlib
import os
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

import httpx

from predictionguard_core.api.body import Body
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.http import timeouts
from predictionguard_core.http.calls import AsyncReply, Borrowed, Reply
from predictionguard_core.http.transport import AsyncTransport, Transport, async_transport, settle, transport
from predictionguard_core.steps import Request

AnyClient = httpx.Client | Transport
AnyAsyncClient = httpx.AsyncClient | AsyncTransport

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=256, keepalive_expiry=30.0)
# Below this a body goes out in one piece: cheaper than many small writes, and too little memory to matter.
_ONE_PIECE = 512 * 1024
_ASYNC_SLICE = 768 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    """An event loop's client, what closes it with its loop, and who uses it."""

    client: AnyAsyncClient
    keeper: AsyncGenerator[None, None]
    users: weakref.WeakSet[Any] = dataclasses.field(default_factory=weakref.WeakSet)


class _Registry:
    """The shared clients of this process. Those of other processes are left alone: a fork must not touch them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tls_lock = threading.Lock()
        self.tls: ssl.SSLContext | None = None
        self.client: AnyClient | None = None
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self.loops: dict[asyncio.AbstractEventLoop, _Held] = {}


_registry = _Registry()
_inherited: list[_Registry] = []


def _start_anew() -> None:
    global _registry
    # Kept, not dropped: what the parent has open is the parent's to close.
    _inherited.append(_registry)
    _registry = _Registry()
    timeouts.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@atexit.register
def _close_at_exit() -> None:
    if _registry.client is not None:
        _registry.client.close()


def tls_context() -> ssl.SSLContext:
    """One for all: making it reads every root certificate, which takes longer than a call."""
    registry = _registry
    with registry.tls_lock:
        if registry.tls is None:
            registry.tls = httpx.create_ssl_context()
        return registry.tls


async def async_tls_context() -> ssl.SSLContext:
    """The same, read off the event loop."""
    return _registry.tls if _registry.tls is not None else await asyncio.to_thread(_prepared)


def _prepared() -> ssl.SSLContext:
    # httpcore would import this at the first connection, on the loop.
    for name in ("anyio.abc", "anyio.streams.tls", "anyio._backends._asyncio"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    return tls_context()


def shared_client(user: object) -> AnyClient:
    """The process's client, made at the first call."""
    registry = _registry
    with registry.lock:
        if registry.client is None:
            tls = tls_context()
            registry.client = transport(tls, _LIMITS) or _behind_proxy(httpx.Client, tls)
        registry.users.add(user)
        return registry.client


def _behind_proxy(kind: type[C], tls: ssl.SSLContext) -> C:
    """Httpx's client for an environment that names a proxy, which is never asked for what runs on this machine."""
    try:
        return kind(verify=tls, limits=_LIMITS, mounts=dict.fromkeys(_LOOPBACK))
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"the environment names a proxy that can't be used ({str(error)[:200]}); check HTTP_PROXY, HTTPS_PROXY and "
            'ALL_PROXY; a SOCKS proxy takes pip install "httpx[socks]"'
        ) from None


def release_client(user: object) -> None:
    """`user` needs the shared client no more; the last one closes it."""
    registry = _registry
    with registry.lock:
        registry.users.discard(user)
        client, registry.client = (None, registry.client) if registry.users else (registry.client, None)
    if client is not None:
        client.close()


async def shared_async_client(user: object) -> AnyAsyncClient:
    """The running event loop's client, made at its first call and closed when `asyncio.run` ends the loop."""
    loop = asyncio.get_running_loop()
    tls = await async_tls_context()
    registry = _registry
    with registry.lock:
        held = registry.loops.get(loop)
        if held is None:
            for other in [each for each in registry.loops if each.is_closed()]:
                del registry.loops[other]
            client = async_transport(tls, _LIMITS) or _behind_proxy(httpx.AsyncClient, tls)
            held = registry.loops[loop] = _Held(client, _kept(client, loop))
            # `asyncio.run` closes every asynchronous generator that was begun in its loop: the one moment at which a
            # loop that is about to end can still close its sockets. It is begun by hand, as this is no coroutine.
            with contextlib.suppress(StopIteration):
                held.keeper.__anext__().__await__().send(None)
        held.users.add(user)
        return held.client


async def _kept(client: AnyAsyncClient, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
    registry = _registry
    try:
        yield
    finally:
        is_ending = registry.loops.pop(loop, None) is not None
        await client.aclose()
        if is_ending and isinstance(client, AsyncTransport):
            await settle(client)


async def release_async_client(user: object) -> None:
    """`user` needs the running loop's client no more; the last one closes it."""
    held = _registry.loops.get(asyncio.get_running_loop())
    if held is not None:
        held.users.discard(user)
        if not held.users:
            _registry.loops.pop(asyncio.get_running_loop(), None)
            await held.keeper.aclose()


def opened(client: AnyClient, call: Request, body: Body | None) -> Reply | Borrowed:
    """Send a request, and wait for the head of its answer. Raises httpx's errors."""
    content = _in_one_piece(body) or body
    if isinstance(client, Transport):
        return client.send(call, content)
    return Borrowed(client.send(client.build_request(content=content, **_for_httpx(call)), stream=True))


async def async_opened(client: AnyAsyncClient, call: Request, body: Body | None) -> AsyncReply | httpx.Response:
    """`opened`, asynchronous."""
    content = _in_one_piece(body) or (None if body is None else _async_pieces(body))
    if isinstance(client, AsyncTransport):
        return await client.send(call, content)
    return await client.send(client.build_request(content=content, **_for_httpx(call)), stream=True)


def _for_httpx(call: Request) -> dict[str, Any]:
    timeout = httpx.Timeout(call.timeout, connect=call.connect_timeout)
    return {"method": call.method, "url": call.url, "headers": call.headers, "timeout": timeout}


def _in_one_piece(body: Body | None) -> bytes | None:
    return b"".join(body) if body is not None and body.length <= _ONE_PIECE else None


async def _async_pieces(body: Body) -> AsyncIterator[bytes]:
    # Larger ones than in the other colour: each costs the event loop a round.
    for piece in body.pieces(_ASYNC_SLICE):
        yield piece


def check_open(own: httpx.Client | httpx.AsyncClient | None) -> None:
    if own is not None and own.is_closed:
        raise ConfigurationError("the http client that was given is closed; give an open one, or none")


def work_all(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Request each: its result, or its error."""
    return [settled(job) for job in jobs]


async def async_work_all(jobs: list[Callable[[], Any]]) -> list[Any]:
    return await asyncio.gather(*(asyncio.to_thread(job) for job in jobs), return_exceptions=True)


def settled(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:
        return error
