"""How many connections may be in use at once: a slot for each, which a call takes and gives back."""

from __future__ import annotations

import asyncio
import queue

import httpx


def slots(limits: httpx.Limits) -> queue.SimpleQueue[None] | None:
    # A queue, as its `put` is the one way back that the garbage collector may take at any moment.
    if limits.max_connections is None:
        return None
    free: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(limits.max_connections):
        free.put(None)
    return free


def async_slots(limits: httpx.Limits) -> asyncio.Queue[None] | None:
    if limits.max_connections is None:
        return None
    free: asyncio.Queue[None] = asyncio.Queue()
    for _ in range(limits.max_connections):
        free.put_nowait(None)
    return free


def take(free: queue.SimpleQueue[None] | None, seconds: float | None) -> None:
    if free is not None:
        try:
            free.get(timeout=seconds)
        except queue.Empty:
            raise httpx.PoolTimeout("every connection is in use") from None


async def async_take(free: asyncio.Queue[None] | None, seconds: float | None) -> None:
    if free is not None:
        try:
            free.get_nowait()
        except asyncio.QueueEmpty:
            try:
                async with asyncio.timeout(seconds):
                    await free.get()
            except TimeoutError:
                raise httpx.PoolTimeout("every connection is in use") from None


def give(free: queue.SimpleQueue[None] | asyncio.Queue[None] | None) -> None:
    if free is not None:
        free.put_nowait(None)
