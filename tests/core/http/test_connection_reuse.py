"""Connections are reused, also after streams."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from predictionguard_core import AsyncClient, ChatChunk, ChatRequest, Client
from predictionguard_core.sandbox import Sandbox
from tests.faults.server import STALL, FaultServer

HELLO = ChatRequest(model="Qwen2.5-VL-7B-Instruct", messages="Hello")
EVENTS = (
    b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + (
    b"%x\r\n%s\r\n" % (len(EVENTS), EVENTS)
)


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that servers of this process have taken."""
    taken: list[Any] = []
    accept = socket.socket.accept

    def counted(self: socket.socket) -> tuple[socket.socket, Any]:
        connection, address = accept(self)
        taken.append(address)
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", counted)
    return taken


def said(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_five_streams_on_one_connection(sandbox: Sandbox, accepted: list[Any]) -> None:
    with Client("key", sandbox.url) as client:
        assert ["Hello" in said(list(client.stream(HELLO))) for _ in range(5)] == [True] * 5
    assert len(accepted) == 1


def test_five_streams_on_one_connection_async(sandbox: Sandbox, accepted: list[Any]) -> None:
    async def ask() -> list[bool]:
        async with AsyncClient("key", sandbox.url) as client:
            return ["Hello" in said([chunk async for chunk in client.stream(HELLO)]) for _ in range(5)]

    assert asyncio.run(ask()) == [True] * 5
    assert len(accepted) == 1


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream_ends_without_waiting_for_the_server_to_close(mode: str) -> None:
    async def ask(url: str) -> list[Any]:
        return [chunk async for chunk in AsyncClient("key", url).stream(HELLO)]

    with FaultServer([ENDLESS, STALL]) as server:
        chunks = list(Client("key", server.url).stream(HELLO)) if mode == "sync" else asyncio.run(ask(server.url))
    assert said(chunks) == "hi"
