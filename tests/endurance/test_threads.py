"""One object in many threads: each gets its own responses, also while another thread closes the object."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from predictionguard_core import AsyncClient, Client
from tests.endurance.conftest import Echo
from tests.endurance.kinds import ASYNC, KEY, STREAMS, SYNC, Kind

THREADS = 16


@pytest.fixture(autouse=True)
def _hasty_switches() -> Iterator[None]:
    """Switch threads a hundred times as often as usual, to provoke race conditions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("kind", SYNC, ids=str)
def test_sixteen_threads(kind: Kind, echo: Echo) -> None:
    model, together = kind.make(echo.url), threading.Barrier(THREADS)

    def ask(thread: int) -> list[int]:
        assert kind.ask
        together.wait()
        return [kind.ask(model, thread * 100 + number) for number in range(8)]

    with ThreadPoolExecutor(THREADS) as threads:
        for thread, answers in enumerate(threads.map(ask, range(THREADS))):
            assert answers == [thread * 100 + number for number in range(8)]
    assert echo.sockets() <= THREADS


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_streams_in_sixteen_threads(kind: Kind, echo: Echo) -> None:
    model = kind.make(f"{echo.url}/slow")

    def ask(thread: int) -> list[str]:
        assert kind.stream
        return ["".join(kind.stream(model, thread * 100 + number)) for number in range(3)]

    with ThreadPoolExecutor(THREADS) as threads:
        for thread, answers in enumerate(threads.map(ask, range(THREADS))):
            assert answers == [str(thread * 100 + number) for number in range(3)]


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_a_stream_can_be_read_in_different_threads(kind: Kind, echo: Echo) -> None:
    assert kind.stream
    chunks = iter(kind.stream(kind.make(f"{echo.url}/slow"), 123456))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        heard = ""
        for thread in (one, other) * 3:
            heard += thread.submit(next, chunks).result()
        heard += other.submit("".join, chunks).result()
    assert heard == "123456"


@pytest.mark.parametrize("kind", SYNC, ids=str)
def test_closing_in_one_thread_while_others_ask(kind: Kind, echo: Echo) -> None:
    model, over = kind.make(echo.url), threading.Event()

    def close() -> None:
        while not over.is_set():
            with Client(KEY):
                pass
            if hasattr(model, "close"):
                model.close()

    def ask(thread: int) -> list[int]:
        assert kind.ask
        return [kind.ask(model, thread * 100 + number) for number in range(15)]

    with ThreadPoolExecutor(9) as threads:
        closing = threads.submit(close)
        try:
            for thread, answers in enumerate(threads.map(ask, range(8))):
                assert answers == [thread * 100 + number for number in range(15)]
        finally:
            over.set()
        closing.result()


@pytest.mark.parametrize("kind", ASYNC, ids=str)
def test_closing_in_one_task_while_others_ask(kind: Kind, echo: Echo) -> None:
    model = kind.make(echo.url)

    async def close() -> None:
        while True:
            async with AsyncClient(KEY):
                pass
            if hasattr(model, "aclose"):
                await model.aclose()
            await asyncio.sleep(0)

    async def ask(number: int) -> list[int]:
        assert kind.aask
        return [await kind.aask(model, number * 100 + more) for more in range(15)]

    async def all_at_once() -> None:
        closing = asyncio.create_task(close())
        answers = await asyncio.gather(*map(ask, range(8)))
        assert answers == [[number * 100 + more for more in range(15)] for number in range(8)]
        closing.cancel()
        await asyncio.wait([closing])

    asyncio.run(all_at_once())
    assert echo.sockets() == 0


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_closing_while_a_stream_runs(kind: Kind, echo: Echo) -> None:
    assert kind.stream
    model = kind.make(f"{echo.url}/slow")
    chunks = iter(kind.stream(model, 123456))
    heard = next(chunks)
    if hasattr(model, "close"):
        model.close()
        model.close()
    with Client(KEY):
        pass
    assert heard + "".join(chunks) == "123456"
    assert "".join(kind.stream(model, 77)) == "77"


def test_nested_context_managers(echo: Echo) -> None:
    client = Client(KEY, echo.url)
    with client, client:
        assert client.models() is not None
    client.close()
    client.close()
    assert echo.sockets() == 0
    assert client.models() is not None
    client.close()
    assert echo.sockets() == 0


def test_nested_async_context_managers(echo: Echo) -> None:
    async def use() -> None:
        client = AsyncClient(KEY, echo.url)
        async with client, client:
            assert await client.models() is not None
        await client.aclose()
        await client.aclose()
        assert echo.sockets() == 0
        assert await client.models() is not None
        await client.aclose()
        assert echo.sockets() == 0

    asyncio.run(use())


def test_closing_before_the_first_call_and_in_another_loop(echo: Echo) -> None:
    client = AsyncClient(KEY, echo.url)
    asyncio.run(client.aclose())
    Client(KEY, echo.url).close()

    async def ask() -> Any:
        return await client.models()

    asyncio.run(ask())
    asyncio.run(client.aclose())
    assert echo.sockets() == 0
