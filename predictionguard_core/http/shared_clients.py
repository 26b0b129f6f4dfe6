"""The HTTP clients that all our clients share: one per process for sync calls, one per event loop for async ones."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from predictionguard_core.http import proxies, timeouts, tls, transport
from predictionguard_core.http.transport import AsyncTransport, Transport

AnyClient = httpx.Client | httpx.HTTPTransport
AnyAsyncClient = httpx.AsyncClient | httpx.AsyncHTTPTransport

_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=256, keepalive_expiry=30.0)


@dataclasses.dataclass(frozen=True, slots=True)
class _LoopClient:
    """An event loop's client, the generator that closes it with its loop, and its users."""

    client: AnyAsyncClient
    closer: AsyncGenerator[None, None]
    users: weakref.WeakSet[Any] = dataclasses.field(default_factory=weakref.WeakSet)


class _Registry:
    """The shared clients of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: AnyClient | None = None
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self.loops: dict[asyncio.AbstractEventLoop, _LoopClient] = {}


_registry = _Registry()
_inherited: list[_Registry] = []


def _after_fork() -> None:
    global _registry
    # Kept, not dropped: what the parent has open is the parent's to close.
    _inherited.append(_registry)
    _registry = _Registry()
    tls.reset()
    timeouts.release_inherited_sockets()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close_at_exit() -> None:
    if _registry.client is not None:
        _registry.client.close()


def shared_client(user: object) -> AnyClient:
    """Return the process's client, made at the first call. Raises `ConfigurationError` for an unusable proxy."""
    registry = _registry
    with registry.lock:
        if registry.client is None:
            registry.client = _new_client(Transport, httpx.Client)
        registry.users.add(user)
        return registry.client


def release_client(user: object) -> None:
    """`user` does not need the shared client any more. The last user closes it."""
    registry = _registry
    with registry.lock:
        registry.users.discard(user)
        client, registry.client = (None, registry.client) if registry.users else (registry.client, None)
    if client is not None:
        client.close()


async def shared_async_client(user: object) -> AnyAsyncClient:
    """Return the running loop's client, made at its first call and closed when `asyncio.run` ends the loop.

    Raises `ConfigurationError` for an unusable proxy, or if no asyncio loop is running.
    """
    loop, registry = timeouts.running_loop(), _registry
    if loop not in registry.loops:
        await asyncio.to_thread(tls.import_anyio)
    with registry.lock:
        found = registry.loops.get(loop)
        if found is None:
            for other in [each for each in registry.loops if each.is_closed()]:
                del registry.loops[other]
            client = _new_client(AsyncTransport, httpx.AsyncClient)
            found = registry.loops[loop] = _LoopClient(client, _close_with_loop(client, loop))
            # `asyncio.run` closes every async generator that was started in its loop: the only moment at which a loop
            # that is about to end can still close its sockets. It is started by hand, as nothing here may await.
            with contextlib.suppress(StopIteration):
                found.closer.__anext__().__await__().send(None)
        found.users.add(user)
        return found.client


async def release_async_client(user: object) -> None:
    """`user` does not need the running loop's client any more. The last user closes it."""
    loop = timeouts.running_loop()
    found = _registry.loops.get(loop)
    if found is not None:
        found.users.discard(user)
        if not found.users:
            _registry.loops.pop(loop, None)
            await found.closer.aclose()


async def _close_with_loop(client: AnyAsyncClient, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
    registry = _registry
    try:
        yield
    finally:
        is_ending = registry.loops.pop(loop, None) is not None
        await client.aclose()
        if is_ending and isinstance(client, AsyncTransport):
            await client.finish()


def _new_client(ours: Any, httpx_client: Any) -> Any:
    found = proxies.Proxies.from_environment()
    if transport.is_supported():
        return ours(_LIMITS, found)
    return httpx_client(verify=tls.tls_context(), limits=_LIMITS, mounts=dict.fromkeys(proxies.LOOPBACK))
