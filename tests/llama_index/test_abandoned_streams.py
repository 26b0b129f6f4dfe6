"""Streams that are abandoned half-way leave no connection open."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from llama_index.core.llms import ChatMessage

from llama_index_predictionguard import PredictionGuard


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An endless stream that records whether it was closed."""

    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self:
            await asyncio.sleep(0)
            yield each

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def endless() -> tuple[Endless, httpx.MockTransport]:
    words = Endless()
    headers = {"content-type": "text/event-stream"}
    return words, httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, stream=words))


HELLO = [ChatMessage(role="user", content="hello")]


@pytest.mark.parametrize("is_closed_by_hand", [True, False])
@pytest.mark.parametrize("call", ["stream_chat", "stream_complete"])
def test_an_abandoned_stream_is_closed(is_closed_by_hand: bool, call: str, make: Any) -> None:
    words, transport = endless()
    with httpx.Client(transport=transport) as client:
        llm = make(http_client=client)
        stream = getattr(llm, call)(HELLO if call == "stream_chat" else "hello")
        assert next(stream).delta == "word "
        assert not words.is_closed
        if is_closed_by_hand:
            stream.close()
        del stream
        gc.collect()
        assert words.is_closed


@pytest.mark.parametrize("is_closed_by_hand", [True, False])
@pytest.mark.parametrize("call", ["astream_chat", "astream_complete"])
async def test_an_abandoned_async_stream_is_closed(is_closed_by_hand: bool, call: str, make: Any) -> None:
    words, transport = endless()
    async with httpx.AsyncClient(transport=transport) as client:
        llm = make(async_http_client=client)
        stream = await getattr(llm, call)(HELLO if call == "astream_chat" else "hello")
        async for chunk in stream:
            assert chunk.delta == "word "
            break
        assert not words.is_closed
        if is_closed_by_hand:
            await stream.aclose()
        del stream, chunk
        gc.collect()
        for _ in range(100):
            if words.is_closed:
                break
            await asyncio.sleep(0.01)
        assert words.is_closed


async def test_a_cancelled_stream_is_closed(make: Any) -> None:
    words, transport = endless()
    started = asyncio.Event()

    async def listen(llm: PredictionGuard) -> None:
        async for _ in await llm.astream_chat(HELLO):
            started.set()

    async with httpx.AsyncClient(transport=transport) as client:
        task = asyncio.create_task(listen(make(async_http_client=client)))
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(100):
            if words.is_closed:
                break
            await asyncio.sleep(0.01)
        assert words.is_closed
