"""Responses of 64 MB are read completely; endless responses are ended with an error."""

from __future__ import annotations

import json

import pytest

from predictionguard_core.errors import InvalidResponseError
from predictionguard_core.http.size_limits import MAX_RESPONSE_BYTES
from tests.faults.methods import CHAT, Method, chunk
from tests.faults.recorded_calls import record_call
from tests.faults.server import FaultServer, Flood, answer, chunked

SIZE = 64_000_000
CORE = [method for method in CHAT if method.adapter == "core"]


def methods(found: list[Method], *, streams: bool | None = None) -> pytest.MarkDecorator:
    found = [method for method in found if streams in (None, method.streams)]
    return pytest.mark.parametrize("method", found, ids=lambda method: method.name)


@methods(CHAT, streams=False)
def test_a_plain_answer(method: Method) -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * SIZE}}]}
    with FaultServer(answer(200, body)) as server:
        outcome = record_call(method, server.url, server)
    assert outcome.error is None
    assert outcome.text == "x" * SIZE


@methods(CORE, streams=True)
def test_a_stream_of_one_event(method: Method) -> None:
    large = b"data: " + json.dumps(chunk("x" * SIZE, finish_reason="stop")).encode() + b"\n\n"
    with FaultServer(chunked([large])) as server:
        outcome = record_call(method, server.url, server)
    assert outcome.error is None
    assert outcome.text == "x" * SIZE


@methods(CORE, streams=True)
def test_a_long_stream_of_short_events(method: Method) -> None:
    each = b"data: " + json.dumps(chunk("x" * (SIZE // 4))).encode() + b"\n\n"
    with FaultServer(chunked([*[each] * 5, b"data: [DONE]\n\n"])) as server:
        outcome = record_call(method, server.url, server)
    assert outcome.error is None
    assert len(outcome.text) == 5 * SIZE // 4


@methods(CORE)
def test_an_endless_response(method: Method) -> None:
    piece = b" " * (4 << 20)
    flood = Flood(b"%x\r\n%s\r\n" % (len(piece), piece))
    with FaultServer([chunked([], kind="application/json", last=b""), flood]) as server:
        outcome = record_call(method, server.url, server)
        assert isinstance(outcome.error, InvalidResponseError)
        assert f"{MAX_RESPONSE_BYTES:,} bytes" in str(outcome.error)
        assert (outcome.sockets, outcome.tasks, len(server.requests)) == (0, 0, 1)


@methods(CORE, streams=True)
@pytest.mark.parametrize("line", [": %s\n\n", 'data: {"x": "%s"}\n\n', "data: %s\n"])
def test_an_endless_stream_without_content(method: Method, line: str) -> None:
    piece = (line % ("x" * (4 << 20))).encode()
    flood = Flood(b"%x\r\n%s\r\n" % (len(piece), piece))
    with FaultServer([chunked([], last=b""), flood]) as server:
        outcome = record_call(method, server.url, server)
        assert isinstance(outcome.error, InvalidResponseError)
        assert (outcome.sockets, outcome.tasks, len(server.requests)) == (0, 0, 1)
