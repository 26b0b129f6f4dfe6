"""Faults during the upload of a request body of many megabytes, as with images."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from predictionguard_core import APIConnectionError, APITimeoutError, AsyncClient, Client, RequestTooLargeError
from tests.core.images.samples import png, question
from tests.faults.methods import KEY, PLAIN, STREAM, TEXT
from tests.faults.recorded_calls import sockets
from tests.faults.server import DEAF, RESET, FaultServer, Unread
from tests.faults.table import refusal

ASKED = question(png(9, 9, padding=12_000_000), vision_streaming=True)


def plain(url: str, **options: Any) -> str | None:
    return Client(KEY, url, **options).chat(ASKED).message.content


def stream(url: str, **options: Any) -> str:
    return "".join(each.choices[0].delta.content or "" for each in Client(KEY, url, **options).stream(ASKED))


def async_plain(url: str, **options: Any) -> str | None:
    async def ask() -> str | None:
        return (await AsyncClient(KEY, url, **options).chat(ASKED)).message.content

    return asyncio.run(ask())


def async_stream(url: str, **options: Any) -> str:
    async def ask() -> str:
        chunks = AsyncClient(KEY, url, **options).stream(ASKED)
        return "".join([each.choices[0].delta.content or "" async for each in chunks])

    return asyncio.run(ask())


METHODS = pytest.mark.parametrize("ask", [plain, stream, async_plain, async_stream])


def left(server: FaultServer, before: set[int]) -> int:
    """Return how many sockets of the client stay open."""
    end = time.monotonic() + 30
    while (found := sockets() - before - server.inodes) and time.monotonic() < end:
        time.sleep(0.005)
    return len(found)


@METHODS
def test_a_reset_during_the_upload(ask: Any) -> None:
    before = sockets()
    with FaultServer(Unread([RESET])) as server:
        with pytest.raises(APIConnectionError):
            ask(server.url)
        assert (len(server.connections), len(server.requests)) == (3, 0)
        assert left(server, before) == 0


@METHODS
def test_a_retry_after_a_reset_during_the_upload(ask: Any) -> None:
    good = STREAM if ask in (stream, async_stream) else PLAIN
    with FaultServer(Unread([RESET]), [RESET], good) as server:
        assert ask(server.url) == TEXT
        first, second = (request.body for request in server.requests)
        assert len(server.connections) == 3
    assert first == second
    assert len(first) > 16_000_000


@METHODS
def test_a_server_that_does_not_read(ask: Any) -> None:
    before = sockets()
    with FaultServer(Unread([DEAF])) as server:
        with pytest.raises(APITimeoutError):
            ask(server.url, timeout=1.0)
        assert (len(server.connections), len(server.requests)) == (1, 0)
        assert left(server, before) == 0


@METHODS
def test_a_response_before_the_body_is_read(ask: Any) -> None:
    with FaultServer(Unread([refusal(413)])) as server:
        with pytest.raises(RequestTooLargeError):
            ask(server.url)
        assert len(server.connections) == 1
