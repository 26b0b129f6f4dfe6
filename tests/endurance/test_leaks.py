"""Dropped or cancelled calls and streams leak no socket, task, thread or descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from predictionguard_core import AsyncClient, ChatRequest, Client, PredictionGuardError
from tests.core.images.samples import png, question
from tests.endurance.conftest import Echo, descriptors
from tests.endurance.kinds import ASYNC, ASYNC_STREAMS, KEY, KINDS, STREAMS, Kind
from tests.waiting import until

HELLO = ChatRequest(model="m", messages="marker-7")


def id_of(kind: Any) -> str:
    return str(kind)


class Cycle:
    """A reference cycle, which only the garbage collector can free."""

    def __init__(self, held: Any) -> None:
        self.held, self.itself = held, self


def is_quiet(threads: set[threading.Thread]) -> bool:
    return {each for each in threading.enumerate() if "asyncio_" not in each.name} <= threads


@pytest.mark.parametrize("kind", STREAMS, ids=id_of)
@pytest.mark.parametrize("way", ["slow", "endless"])
def test_abandoned_streams(kind: Kind, way: str, echo: Echo) -> None:
    assert kind.stream
    model, threads = kind.make(f"{echo.url}/{way}"), set(threading.enumerate())
    for count in range(30):
        chunks = iter(kind.stream(model, 123))
        for _ in range(count % 3):
            next(chunks)
        del chunks
    gc.collect()
    echo.settles(1)
    assert is_quiet(threads)


@pytest.mark.parametrize("kind", STREAMS, ids=id_of)
def test_streams_that_only_the_garbage_collector_closes(kind: Kind, echo: Echo) -> None:
    assert kind.stream
    model = kind.make(f"{echo.url}/endless")
    for _ in range(50):
        chunks = iter(kind.stream(model, 123))
        next(chunks)
        Cycle(chunks)
        del chunks
    gc.collect()
    echo.settles(1)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_garbage_collection_during_a_call(own: bool, echo: Echo) -> None:
    """The garbage collector closes a stream in the middle of another call, after each number of allocations."""
    done = threading.Event()

    def ask() -> None:
        many = httpx.Limits(max_connections=None)
        with httpx.Client(limits=many) if own else contextlib.nullcontext() as http_client:
            endless = Client(KEY, f"{echo.url}/endless", http_client=http_client)
            plain = Client(KEY, echo.url, http_client=http_client)
            plain.chat(HELLO)
            for count in range(1, 400, 2):
                gc.disable()
                chunks = endless.stream(HELLO)
                next(chunks)
                Cycle(chunks)
                del chunks
                gc.set_threshold(gc.get_count()[0] + count)
                gc.enable()
                assert plain.chat(HELLO).message.content == "7"
            done.set()

    before = gc.get_threshold()
    try:
        threading.Thread(target=ask, daemon=True).start()
        assert done.wait(60), "a stream that the garbage collector closes holds up the call that it interrupts"
    finally:
        gc.set_threshold(*before)
        gc.enable()


@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=id_of)
@pytest.mark.parametrize("way", ["slow", "endless"])
def test_abandoned_async_streams(kind: Kind, way: str, echo: Echo) -> None:
    model, threads = kind.make(f"{echo.url}/{way}"), set(threading.enumerate())

    async def leave() -> None:
        assert kind.astream
        for count in range(60):
            chunks = aiter(kind.astream(model, 123))
            for _ in range(count % 3):
                await anext(chunks)
            if count % 2:
                Cycle(chunks)
            del chunks
        gc.collect()
        await settled(echo, 1)

    asyncio.run(leave())
    echo.settles()
    assert is_quiet(threads)


async def alone() -> None:
    """Wait until the current task is the only one."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        _, running = await asyncio.wait(others, timeout=30)
        assert not running


async def settled(echo: Echo, most: int) -> None:
    """Wait like `Echo.settles`, while the event loop runs, until only the current task is left."""
    await alone()
    await asyncio.to_thread(echo.settles, most)


# Cancelled


async def cancelled_after(steps: int, work: Awaitable[Any]) -> bool:
    """Start a task and cancel it after `steps` iterations of the loop. Return whether it had finished before."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


async def cancelled_everywhere(echo: Echo, work: Callable[[], Awaitable[Any]], times: int, most: int) -> None:
    """Cancel it after each number of iterations, on new and on reused connections."""
    finished = 0
    for _ in range(times):
        for steps in range(most):
            finished += await cancelled_after(steps, work())
    assert finished < times * most
    await settled(echo, 2)


@pytest.mark.parametrize("kind", ASYNC, ids=id_of)
def test_calls_that_are_cancelled_at_any_point(kind: Kind, echo: Echo) -> None:
    async def cancel() -> None:
        assert kind.aask
        model = kind.make(echo.url)
        await cancelled_everywhere(echo, lambda: kind.aask(model, 7), 3, 70)
        assert await kind.aask(model, 7) == 7

    asyncio.run(cancel())


@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=id_of)
@pytest.mark.parametrize("way", ["whole", "slow"])
def test_streams_that_are_cancelled_at_any_point(kind: Kind, way: str, echo: Echo) -> None:
    async def read() -> str:
        assert kind.astream
        return "".join([each async for each in kind.astream(model, 1234)])

    async def cancel() -> None:
        await cancelled_everywhere(echo, read, 2, 100)
        assert await read() == "1234"

    model = kind.make(f"{echo.url}/{way}")
    asyncio.run(cancel())


@pytest.mark.parametrize("way", ["whole", "sluggish"])
def test_uploads_that_are_cancelled_at_any_point(way: str, echo: Echo) -> None:
    large = question(png(padding=3_000_000), text="marker-7")

    async def cancel() -> None:
        client = AsyncClient(KEY, f"{echo.url}/{way}")
        await cancelled_everywhere(echo, lambda: client.chat(large), 1, 60)
        for seconds in (0.0, 0.01, 0.05):
            task = asyncio.create_task(client.chat(large))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait([task])
        await settled(echo, 2)
        assert (await AsyncClient(KEY, echo.url).chat(large)).message.content == "7"

    asyncio.run(cancel())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_connecting_may_be_cancelled(scheme: str) -> None:
    """The server accepts connections and sends nothing, so https waits for the handshake."""

    async def cancel(url: str) -> None:
        client = AsyncClient(KEY, url, max_retries=0)
        for steps in range(40):
            assert not await cancelled_after(steps, client.chat(HELLO))
        for seconds in (0.0, 0.002, 0.01, 0.05):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await client.chat(HELLO)
        assert len(asyncio.all_tasks()) == 1
        await asyncio.to_thread(until, lambda: descriptors_to(listener) == 0)

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        asyncio.run(cancel(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"))


def descriptors_to(listener: socket.socket) -> int:
    return Echo(listener.getsockname()[1]).sockets()


def test_a_call_that_is_cancelled_twice(echo: Echo) -> None:
    async def cancel() -> None:
        client = AsyncClient(KEY, f"{echo.url}/slow")
        for steps in range(30):
            for more in range(4):
                task = asyncio.create_task(client.chat(HELLO))
                for turns in (steps, more):
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
        await settled(echo, 2)

    asyncio.run(cancel())


def test_a_burst_of_streams_that_end_in_every_way(echo: Echo) -> None:
    """Complete, abandoned, interrupted, cancelled and timed-out streams at the same time in one loop."""

    async def one(number: int) -> None:
        way = ("slow", "endless", "broken", "silent", "whole")[number % 5]
        client = AsyncClient(KEY, f"{echo.url}/{way}", timeout=0.5, max_retries=0)
        with contextlib.suppress(PredictionGuardError, TimeoutError):
            async with asyncio.timeout(0.05 * (number % 7)) if number % 3 else contextlib.nullcontext():
                async for _ in client.stream(HELLO):
                    if number % 4 == 0 or way == "endless":
                        break

    async def all_at_once() -> None:
        for start in range(0, 2000, 100):
            await asyncio.gather(*map(one, range(start, start + 100)))
        gc.collect()
        await alone()
        await AsyncClient(KEY, echo.url).chat(HELLO)

    before, threads = len(descriptors()), set(threading.enumerate())
    asyncio.run(all_at_once())
    echo.settles()
    assert len(descriptors()) <= before
    assert is_quiet(threads)


# Many objects


@pytest.mark.parametrize("kind", KINDS, ids=id_of)
def test_five_hundred_objects_leave_no_descriptor(kind: Kind, echo: Echo) -> None:
    kind.make(echo.url)
    before, threads = len(descriptors()), set(threading.enumerate())

    async def ask(models: list[Any]) -> None:
        assert kind.aask
        answers = await asyncio.gather(*(kind.aask(model, number) for number, model in enumerate(models[:20])))
        assert answers == list(range(20))

    models = [kind.make(echo.url) for _ in range(500)]
    assert len(descriptors()) == before
    if kind.ask:
        assert [kind.ask(model, number) for number, model in enumerate(models[:20])] == list(range(20))
        assert echo.sockets() == 1
    if kind.aask:
        asyncio.run(ask(models))
    del models
    with Client("the-last-user"):
        pass
    assert len(descriptors()) <= before
    assert is_quiet(threads)
