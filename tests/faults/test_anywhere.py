"""A stream split at every byte: two pieces give the complete text, and an interruption raises an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from predictionguard_core.errors import StreamInterruptedError
from tests.faults.server import KEEP, FaultServer, chunked
from tests.faults.ways import CHAT, Way

WAYS = pytest.mark.parametrize("way", [way for way in CHAT if way.streams], ids=lambda way: way.name)
TEXT = "a\u2028\x85é"
_FIRST = json.dumps({"id": "c", "choices": [{"delta": {"content": TEXT}}]}, ensure_ascii=False)
_LAST = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
STREAM = f"\ufeff: hi\n\ndata:{_FIRST}\r\n\r\ndata: {_LAST}\n\ndata: [DONE]\r\r".encode()


def ask_all(way: Way, url: str, count: int) -> list[str]:
    """What is heard in so many calls: the text, or "cut"."""

    def one() -> Iterator[str]:
        for _ in range(count):
            try:
                yield "".join(way.ask(url))
            except StreamInterruptedError:
                yield "cut"

    async def each() -> list[str]:
        heard = []
        for _ in range(count):
            try:
                heard.append("".join([text async for text in way.ask(url)]))
            except StreamInterruptedError:
                heard.append("cut")
        return heard

    return asyncio.run(each()) if way.is_async else list(one())


@WAYS
def test_a_stream_in_two_pieces_is_complete(way: Way) -> None:
    cuts = range(1, len(STREAM))
    scripts = [[chunked([STREAM[:at], STREAM[at:]], connection=""), KEEP] for at in cuts]
    with FaultServer(*scripts) as server:
        assert ask_all(way, server.url, len(cuts)) == [TEXT] * len(cuts)
        assert len(server.requests) == len(cuts)


@WAYS
def test_a_stream_cut_at_any_byte_is_complete_or_raises(way: Way) -> None:
    cuts = range(len(STREAM) + 1)
    with FaultServer(*(chunked([STREAM[:at]], last=b"") for at in cuts)) as server:
        heard = ask_all(way, server.url, len(cuts))
        assert len(server.requests) == len(cuts)
    finished = heard.index(TEXT)
    assert STREAM[:finished].endswith(b'"stop"}]}\n\n')
    assert heard == ["cut"] * finished + [TEXT] * (len(cuts) - finished)
