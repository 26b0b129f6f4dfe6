"""Randomly corrupted responses: every call ends, with a response or one of our errors."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Iterator

import pytest

from predictionguard_core.errors import PredictionGuardError
from tests.faults.methods import ANSWER, CHAT, PLAIN, STREAM, Method
from tests.faults.server import FaultServer, answer, chunked

_PACKED = answer(200, gzip.compress(json.dumps(ANSWER).encode()), content_encoding="gzip")
_CHUNKED = chunked([STREAM.partition(b"\r\n\r\n")[2]])
_REFUSED = answer(400, {"error": {"message": "no", "code": "context_length_exceeded"}}, x_request_id="r")
REPLIES = [PLAIN, STREAM, _PACKED, _CHUNKED, _REFUSED]
BITS = [
    *(b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b":", b"0", b"-1", b"99999", b"{", b"}", b'"', b"[", b"null", b"1e999"),
    *(b"NaN", b"\xe2\x80\xa8", b"data: ", b"[DONE]", b"event: error\n", b"\\ud800", b"HTTP/1.1 ", b"103 "),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: deflate\r\n", b"Content-Length: 5\r\n"),
]
COUNT = 60


def corrupted(chance: random.Random) -> bytes:
    """Return a response with bytes changed, removed, added or repeated, mostly in its body."""
    head, blank, body = chance.choice(REPLIES).partition(b"\r\n\r\n")
    if chance.random() < 0.3:
        return _corrupted(head + blank + body, chance)
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    return b"\r\n".join(lines) + blank + _corrupted(body, chance)


def _corrupted(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        at, other = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        what = chance.randrange(5)
        if what == 0:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif what == 1:
            data = data[:at] + data[at + chance.choice([1, 2, 5, 30]) :]
        elif what == 2:
            data = data[:at] + chance.choice(BITS) + data[at:]
        elif what == 3:
            data = data[:at]
        else:
            data = data[:other] + data[at:]
    return data


@pytest.mark.parametrize("method", CHAT, ids=lambda method: method.name)
def test_a_corrupted_response_is_read_or_raises_our_error(method: Method) -> None:
    chance = random.Random(method.name)
    replies = [corrupted(chance) for _ in range(COUNT)]

    def asked() -> Iterator[bool]:
        for reply in replies:
            with FaultServer(reply) as server:
                try:
                    yield all(isinstance(text, str | None) for text in method.ask(server.url, timeout=30))
                except PredictionGuardError:
                    yield True
                assert 1 <= len(server.requests) <= 3

    async def ask() -> list[bool]:
        fine = []
        for reply in replies:
            with FaultServer(reply) as server:
                try:
                    fine.append(
                        all([isinstance(text, str | None) async for text in method.ask(server.url, timeout=30)])
                    )
                except PredictionGuardError:
                    fine.append(True)
                assert 1 <= len(server.requests) <= 3
        return fine

    found = asyncio.run(ask()) if method.is_async else list(asked())
    assert found == [True] * COUNT
