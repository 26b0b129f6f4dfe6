"""Responses of 64 MB are read completely; endless responses are ended with an error."""

from __future__ import annotations

import json

import pytest

from predictionguard_core.errors import InvalidResponseError
from predictionguard_core.http.size_limits import MAX_RESPONSE_BYTES
from tests.faults.meeting import meet
from tests.faults.server import FaultServer, Flood, answer, chunked
from tests.faults.ways import CHAT, Way, chunk

SIZE = 64_000_000
CORE = [way for way in CHAT if way.adapter == "core"]


def ways(found: list[Way], *, streams: bool | None = None) -> pytest.MarkDecorator:
    found = [way for way in found if streams in (None, way.streams)]
    return pytest.mark.parametrize("way", found, ids=lambda way: way.name)


@ways(CHAT, streams=False)
def test_a_plain_answer(way: Way) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * SIZE}}]}
    with FaultServer(answer(200, body)) as server:
        met = meet(way, server.url, server)
    assert met.error is None
    assert met.text == "x" * SIZE


@ways(CORE, streams=True)
def test_a_stream_of_one_event(way: Way) -> None:
    large = b"data: " + json.dumps(chunk("x" * SIZE, finish_reason="stop")).encode() + b"\n\n"
    with FaultServer(chunked([large])) as server:
        met = meet(way, server.url, server)
    assert met.error is None
    assert met.text == "x" * SIZE


@ways(CORE, streams=True)
def test_a_long_stream_of_short_events(way: Way) -> None:
    each = b"data: " + json.dumps(chunk("x" * (SIZE // 4))).encode() + b"\n\n"
    with FaultServer(chunked([*[each] * 5, b"data: [DONE]\n\n"])) as server:
        met = meet(way, server.url, server)
    assert met.error is None
    assert len(met.text) == 5 * SIZE // 4


@ways(CORE)
def test_an_endless_response(way: Way) -> None:
    piece = b" " * (4 << 20)
    flood = Flood(b"%x\r\n%s\r\n" % (len(piece), piece))
    with FaultServer([chunked([], kind="application/json", last=b""), flood]) as server:
        met = meet(way, server.url, server)
        assert isinstance(met.error, InvalidResponseError)
        assert f"{MAX_RESPONSE_BYTES:,} bytes" in str(met.error)
        assert (met.sockets, met.tasks, len(server.requests)) == (0, 0, 1)


@ways(CORE, streams=True)
@pytest.mark.parametrize("line", [": %s\n\n", 'data: {"x": "%s"}\n\n', "data: %s\n"])
def test_an_endless_stream_without_content(way: Way, line: str) -> None:
    piece = (line % ("x" * (4 << 20))).encode()
    flood = Flood(b"%x\r\n%s\r\n" % (len(piece), piece))
    with FaultServer([chunked([], last=b""), flood]) as server:
        met = meet(way, server.url, server)
        assert isinstance(met.error, InvalidResponseError)
        assert (met.sockets, met.tasks, len(server.requests)) == (0, 0, 1)
