"""Reuse of keep-alive connections, also if the server closed them in the meantime."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.faults.methods import CHAT, OTHER_METHODS, Method
from tests.faults.server import KEEP, RESET, FaultServer
from tests.waiting import until

ALL = pytest.mark.parametrize("method", [*CHAT, *OTHER_METHODS], ids=lambda method: method.name)


def twice(method: Method, url: str, between: Any, **options: Any) -> list[str]:
    """Return the texts of two calls, made in one event loop if they are async. `between` is called between them."""
    if not method.is_async:
        first = "".join(method.ask(url, **options))
        between()
        return [first, "".join(method.ask(url, **options))]

    async def ask() -> list[str]:
        first = "".join([text async for text in method.ask(url, **options)])
        await asyncio.to_thread(between)
        return [first, "".join([text async for text in method.ask(url, **options)])]

    return asyncio.run(ask())


@ALL
def test_the_next_call_reuses_the_connection(method: Method) -> None:
    with FaultServer([method.kept, KEEP]) as server:
        assert twice(method, server.url, lambda: None) == [method.text] * 2
        assert [each.requests for each in server.connections] == [2]


@ALL
def test_a_connection_closed_by_the_server_costs_no_attempt(method: Method) -> None:
    with FaultServer(method.kept) as server:
        received = twice(method, server.url, lambda: until(lambda: server.connections[0].has_ended), max_retries=0)
        assert received == [method.text] * 2
        assert [each.requests for each in server.connections] == [1, 1]


@ALL
@pytest.mark.parametrize("end", [[], [RESET]], ids=["closes", "resets"])
def test_a_connection_that_ends_during_a_request_is_replaced(method: Method, end: list[Any]) -> None:
    with FaultServer([method.kept, KEEP], end, method.good) as server:
        assert twice(method, server.url, lambda: None) == [method.text] * 2
        assert [each.requests for each in server.connections] == [2, 1]
        assert len(server.requests) == 3


@pytest.mark.parametrize("method", CHAT, ids=lambda method: method.name)
def test_an_unrequested_response_is_not_used_for_the_next_call(method: Method) -> None:
    said = threading.Event()
    late = [method.kept, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", said.set, KEEP]
    with FaultServer(late, method.good) as server:
        assert twice(method, server.url, said.wait) == [method.text] * 2
