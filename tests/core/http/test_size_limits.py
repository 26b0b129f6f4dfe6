"""Responses over the size limit, compressed or not, are refused while they are read."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from predictionguard_core import APITimeoutError, AsyncClient, ChatRequest, Client, InvalidResponseError, ServerError
from predictionguard_core.http.size_limits import MAX_RESPONSE_BYTES
from tests.faults.server import Drip, FaultServer, Flood, answer, chunked

HELLO = ChatRequest(model="m", messages="Hello")
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"content": "hello you"}}]}).encode()


def plain(url: str, **options: Any) -> str | None:
    return Client("key", url, **options).chat(HELLO).message.content


def async_plain(url: str, **options: Any) -> str | None:
    async def ask() -> str | None:
        return (await AsyncClient("key", url, **options).chat(HELLO)).message.content

    return asyncio.run(ask())


def stream(url: str, **options: Any) -> str:
    return "".join(each.choices[0].delta.content or "" for each in Client("key", url, **options).stream(HELLO))


def async_stream(url: str, **options: Any) -> str:
    async def ask() -> str:
        chunks = AsyncClient("key", url, **options).stream(HELLO)
        return "".join([each.choices[0].delta.content or "" async for each in chunks])

    return asyncio.run(ask())


ALL_WAYS = pytest.mark.parametrize("ask", [plain, async_plain, stream, async_stream])


def spaces(mebibytes: int) -> bytes:
    """Return this many MiB of spaces, compressed with gzip."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(mebibytes)), packer.flush()])


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return spaces(MAX_RESPONSE_BYTES // (1 << 20) + 1)


@ALL_WAYS
@pytest.mark.parametrize("status", [200, 400])
def test_a_gzip_bomb_is_refused(ask: Any, status: int, bomb: bytes) -> None:
    assert len(bomb) < 1 << 20
    with FaultServer(answer(status, bomb, content_encoding="gzip", content_type="application/json")) as server:
        with pytest.raises(InvalidResponseError, match=f"more than {MAX_RESPONSE_BYTES:,} bytes"):
            ask(server.url)
        assert len(server.requests) == 1


@pytest.mark.parametrize("ask", [plain, async_stream])
def test_an_endless_body_is_refused(ask: Any) -> None:
    piece = b" " * (1 << 20)
    flood = Flood(b"%x\r\n%s\r\n" % (len(piece), piece))
    with FaultServer([chunked([], kind="application/json", last=b""), flood]) as server:
        with pytest.raises(InvalidResponseError, match="more than"):
            ask(server.url)


@ALL_WAYS
@pytest.mark.parametrize("length", [str(MAX_RESPONSE_BYTES + 1), "9" * 19])
def test_a_content_length_over_the_limit_is_refused(ask: Any, length: str) -> None:
    with FaultServer(
        [answer(200, content_type="application/json", content_length=length), Drip(b" " * 99, 1.0)]
    ) as server:
        with pytest.raises(InvalidResponseError, match="more than"):
            ask(server.url, timeout=60)


@ALL_WAYS
@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "x-gzip", "gzip,deflate"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_unrequested_content_encoding_is_refused(ask: Any, coding: str, kind: str) -> None:
    body = gzip.compress(gzip.compress(ANSWER))
    with FaultServer(answer(200, body, content_encoding=coding, content_type=kind)) as server:
        with pytest.raises(InvalidResponseError, match="not asked for"):
            ask(server.url)
        assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@ALL_WAYS
@pytest.mark.parametrize("coding", ["GZIP", " gzip ", "identity", ""])
def test_a_requested_content_encoding_is_decoded(ask: Any, coding: str) -> None:
    body = gzip.compress(ANSWER) if "gzip" in coding.lower() else ANSWER
    with FaultServer(answer(200, body, content_encoding=coding, content_type="application/json")) as server:
        assert ask(server.url) == "hello you"


@ALL_WAYS
def test_sixty_four_megabytes_are_read(ask: Any) -> None:
    text = "x" * 64_000_000
    body = json.dumps({"choices": [{"index": 0, "message": {"content": text}}]})
    with FaultServer(answer(200, body, content_type="application/json")) as server:
        assert ask(server.url) == text


@ALL_WAYS
def test_a_large_error_page_is_shortened(ask: Any) -> None:
    with FaultServer(answer(500, b"<p>" * 20_000_000, content_type="text/html")) as server:
        with pytest.raises(ServerError) as caught:
            ask(server.url, max_retries=0)
    assert len(str(caught.value)) < 3000


def test_a_users_own_client_is_bounded_too(bomb: bytes) -> None:
    with FaultServer(answer(200, bomb, content_encoding="gzip")) as server, httpx.Client() as own:
        with pytest.raises(InvalidResponseError, match="more than"):
            plain(server.url, http_client=own)


@pytest.mark.parametrize("ask", [stream, async_stream])
def test_a_slow_plain_response_to_a_stream_request_times_out(ask: Any) -> None:
    head = answer(200, content_type="application/json", content_length="999")
    with FaultServer([head, Drip(b" " * 998, 0.05)]) as server:
        with pytest.raises(APITimeoutError, match=r"within 0\.5 s"):
            ask(server.url, timeout=0.5)
