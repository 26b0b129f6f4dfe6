"""One object in many event loops: in sequence, in parallel, and of other implementations such as uvloop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.endurance.conftest import Echo
from tests.endurance.kinds import ASYNC, ASYNC_STREAMS, SYNC, Kind

EACH = pytest.mark.parametrize("kind", ASYNC, ids=str)


@EACH
def test_fifty_times_asyncio_run(kind: Kind, echo: Echo) -> None:
    model = kind.make(echo.url)

    async def ask(number: int) -> Any:
        assert kind.aask
        return await asyncio.gather(*(kind.aask(model, number + more) for more in range(2)))

    for number in range(50):
        assert asyncio.run(ask(number)) == [number, number + 1]
        assert echo.sockets() == 0, "a loop that has ended has closed its connections"


@EACH
def test_a_loop_in_each_of_many_threads(kind: Kind, echo: Echo) -> None:
    model, together = kind.make(echo.url), threading.Barrier(16)

    async def ask(thread: int) -> list[int]:
        assert kind.aask
        return [await kind.aask(model, thread * 100 + number) for number in range(3)]

    def run(thread: int) -> list[list[int]]:
        together.wait()
        return [asyncio.run(ask(thread)) for _ in range(2)]

    with ThreadPoolExecutor(16) as threads:
        for thread, answers in enumerate(threads.map(run, range(16))):
            assert answers == [[thread * 100 + number for number in range(3)]] * 2
    assert echo.sockets() == 0


@EACH
def test_a_long_running_loop_beside_short_ones(kind: Kind, echo: Echo) -> None:
    """One loop runs in a thread, as in a server, while others start and end."""
    assert kind.aask
    model, loop = kind.make(echo.url), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for number in range(5):
            running = asyncio.run_coroutine_threadsafe(kind.aask(model, number), loop)
            assert asyncio.run(kind.aask(model, number + 100)) == number + 100
            assert running.result(60) == number
        asyncio.run_coroutine_threadsafe(_shut(model), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    assert echo.sockets() == 0


async def _shut(model: Any) -> None:
    if hasattr(model, "aclose"):
        await model.aclose()


@EACH
def test_uvloop(kind: Kind, echo: Echo) -> None:
    uvloop = pytest.importorskip("uvloop")
    model = kind.make(echo.url)

    async def ask() -> list[int]:
        assert kind.aask
        return list(await asyncio.gather(*(kind.aask(model, number) for number in range(5))))

    for _ in range(3):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(ask()) == list(range(5))
        assert asyncio.run(ask()) == list(range(5))
    echo.settles()


@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=str)
def test_streams_that_outlive_their_loop(kind: Kind, echo: Echo) -> None:
    model, slow = kind.make(f"{echo.url}/endless"), kind.make(f"{echo.url}/slow")

    async def leave() -> str:
        assert kind.astream
        begun = [aiter(kind.astream(model, 5)) for _ in range(3)]
        for each in begun:
            await anext(each)
        kept.extend(begun)
        return "".join([each async for each in kind.astream(slow, 1234)])

    kept: list[Any] = []
    for _ in range(5):
        assert asyncio.run(leave()) == "1234"
        assert echo.sockets() == 0


@pytest.mark.parametrize("kind", [kind for kind in ASYNC if kind in SYNC], ids=str)
def test_sync_and_async_calls_of_one_object_at_once(kind: Kind, echo: Echo) -> None:
    model = kind.make(echo.url)

    async def ask() -> list[int]:
        assert kind.ask
        assert kind.aask
        plain = [asyncio.to_thread(kind.ask, model, number) for number in range(8)]
        return list(await asyncio.gather(*plain, *(kind.aask(model, number) for number in range(8, 16))))

    assert asyncio.run(ask()) == list(range(16))


def test_loops_closed_without_asyncio_run_leak_nothing(echo: Echo) -> None:
    """Without `asyncio.run` there is no event for the end of a loop: the next call closes its connections."""
    (kind,) = [kind for kind in ASYNC if kind.name == "AsyncClient"]
    assert kind.aask
    model = kind.make(echo.url)
    for number in range(30):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(kind.aask(model, number)) == number
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert echo.sockets() == 0
