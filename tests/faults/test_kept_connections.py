"""Reuse of keep-alive connections, also if the server closed them in the meantime."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tests.faults.server import KEEP, RESET, FaultServer
from tests.faults.ways import CHAT, SIBLINGS, Way

ALL = pytest.mark.parametrize("way", [*CHAT, *SIBLINGS], ids=lambda way: way.name)


def twice(way: Way, url: str, between: Any, **options: Any) -> list[str]:
    """What is heard in two calls, in one event loop where there is one; `between` is called between them."""
    if not way.is_async:
        first = "".join(way.ask(url, **options))
        between()
        return [first, "".join(way.ask(url, **options))]

    async def ask() -> list[str]:
        first = "".join([text async for text in way.ask(url, **options)])
        await asyncio.to_thread(between)
        return [first, "".join([text async for text in way.ask(url, **options)])]

    return asyncio.run(ask())


def until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true() and time.monotonic() < end:
        time.sleep(0.002)
    assert true()


@ALL
def test_the_next_call_reuses_the_connection(way: Way) -> None:
    with FaultServer([way.kept, KEEP]) as server:
        assert twice(way, server.url, lambda: None) == [way.text] * 2
        assert [each.requests for each in server.connections] == [2]


@ALL
def test_a_connection_closed_by_the_server_costs_no_attempt(way: Way) -> None:
    with FaultServer(way.kept) as server:
        heard = twice(way, server.url, lambda: until(lambda: server.connections[0].has_ended), max_retries=0)
        assert heard == [way.text] * 2
        assert [each.requests for each in server.connections] == [1, 1]


@ALL
@pytest.mark.parametrize("end", [[], [RESET]], ids=["closes", "resets"])
def test_a_connection_that_ends_during_a_request_is_replaced(way: Way, end: list[Any]) -> None:
    with FaultServer([way.kept, KEEP], end, way.good) as server:
        assert twice(way, server.url, lambda: None) == [way.text] * 2
        assert [each.requests for each in server.connections] == [2, 1]
        assert len(server.requests) == 3


@pytest.mark.parametrize("way", CHAT, ids=lambda way: way.name)
def test_an_unrequested_response_is_not_used_for_the_next_call(way: Way) -> None:
    said = threading.Event()
    late = [way.kept, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", said.set, KEEP]
    with FaultServer(late, way.good) as server:
        assert twice(way, server.url, said.wait) == [way.text] * 2
