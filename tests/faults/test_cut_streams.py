"""A stream split at every byte: two pieces give the complete text, and an interruption raises an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from predictionguard_core.errors import StreamInterruptedError
from tests.faults.methods import CHAT, Method
from tests.faults.server import KEEP, FaultServer, chunked

METHODS = pytest.mark.parametrize(
    "method", [method for method in CHAT if method.streams], ids=lambda method: method.name
)
TEXT = "a\u2028\x85é"
_FIRST = json.dumps({"id": "c", "choices": [{"delta": {"content": TEXT}}]}, ensure_ascii=False)
_LAST = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
STREAM = f"\ufeff: hi\n\ndata:{_FIRST}\r\n\r\ndata: {_LAST}\n\ndata: [DONE]\r\r".encode()


def call_all(method: Method, url: str, count: int) -> list[str]:
    """Return the text of each of `count` calls, or "cut" for one that is interrupted."""

    def one() -> Iterator[str]:
        for _ in range(count):
            try:
                yield "".join(method.ask(url))
            except StreamInterruptedError:
                yield "cut"

    async def each() -> list[str]:
        received = []
        for _ in range(count):
            try:
                received.append("".join([text async for text in method.ask(url)]))
            except StreamInterruptedError:
                received.append("cut")
        return received

    return asyncio.run(each()) if method.is_async else list(one())


@METHODS
def test_a_stream_in_two_pieces_is_complete(method: Method) -> None:
    cuts = range(1, len(STREAM))
    scripts = [[chunked([STREAM[:at], STREAM[at:]], connection=""), KEEP] for at in cuts]
    with FaultServer(*scripts) as server:
        assert call_all(method, server.url, len(cuts)) == [TEXT] * len(cuts)
        assert len(server.requests) == len(cuts)


@METHODS
def test_a_stream_cut_at_any_byte_is_complete_or_raises(method: Method) -> None:
    cuts = range(len(STREAM) + 1)
    with FaultServer(*(chunked([STREAM[:at]], last=b"") for at in cuts)) as server:
        received = call_all(method, server.url, len(cuts))
        assert len(server.requests) == len(cuts)
    finished = received.index(TEXT)
    assert STREAM[:finished].endswith(b'"stop"}]}\n\n')
    assert received == ["cut"] * finished + [TEXT] * (len(cuts) - finished)
