"""The deadline of a call, and what takes it away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from predictionguard_core import APIStatusError, APITimeoutError, AsyncClient, AuthenticationError, ChatRequest, Client
from predictionguard_core.http import shared_clients
from tests.faults.server import RESET, STALL, Drip, FaultServer, answer, event_stream, unused_port

HELLO = ChatRequest(model="m", messages="Hello")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
FINISHED = HEAD + b"%x\r\n%s\r\n" % (len(WHOLE), WHOLE)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shared client yet: it heeds the environment when it is made."""
    monkeypatch.setattr(shared_clients, "_registry", shared_clients._Registry())


def streamed(colour: str, url: str, key: str = "key", **options: Any) -> str:
    async def ask() -> list[Any]:
        return [chunk async for chunk in AsyncClient(key, url, **options).stream(HELLO)]

    chunks = list(Client(key, url, **options).stream(HELLO)) if colour == "sync" else asyncio.run(ask())
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("variable", [None, "NO_PROXY", "no_proxy"])
def test_the_deadline_holds_where_only_exceptions_from_proxies_are_named(
    fresh: None, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "localhost,.example.com")
    delivered = threading.Event()
    with FaultServer([Drip(answer(200, {})[:60], 0.05), delivered.set, STALL]) as server:
        with pytest.raises(APITimeoutError), Client("key", server.url, timeout=0.5, max_retries=0) as client:
            client.chat(HELLO)
        assert not delivered.is_set()


BEHIND_PROXY = """
import asyncio, sys
from predictionguard_core import AsyncClient, ChatRequest, Client, PredictionGuardError
HELLO = ChatRequest(model="m", messages="hi")
for ask in (
    lambda url: Client("key", url, max_retries=0).chat(HELLO),
    lambda url: asyncio.run(AsyncClient("key", url, max_retries=0).chat(HELLO)),
):
    for url in sys.argv[1:]:
        try:
            print(ask(url).message.content)
        except PredictionGuardError as error:
            print(type(error).__name__, error)
"""


def behind(proxy: str, *urls: str) -> list[str]:
    environment = {**os.environ, "HTTP_PROXY": proxy, "ALL_PROXY": proxy}
    command = [sys.executable, "-c", BEHIND_PROXY, *urls]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_proxy_is_not_asked_for_this_machine_and_named_where_it_fails() -> None:
    good = answer(200, {"choices": [{"message": {"content": "hello"}}]})
    with FaultServer(good) as server:
        near, by_name = server.url, server.url.replace("127.0.0.1", "localhost")
        found = behind(f"http://127.0.0.1:{unused_port()}", near, by_name, "http://service.example")
    assert found[:2] == found[3:5] == ["hello", "hello"]
    for line in (found[2], found[5]):
        assert line.startswith("APIConnectionError can't reach http://service.example")
        assert "the proxy that the environment names" in line


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://127.0.0.1:9"])
def test_a_proxy_that_can_not_be_used_is_a_matter_of_configuration(proxy: str) -> None:
    for line in behind(proxy, "http://service.example"):
        assert line.startswith("ConfigurationError the environment names a proxy that can't be used")


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
def test_an_answer_that_is_finished_is_kept_though_its_connection_breaks(colour: str, end: list[Any]) -> None:
    with FaultServer([FINISHED, *end]) as server:
        assert streamed(colour, server.url) == "hi"
        assert len(server.requests) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_answer_that_is_finished_is_kept_though_its_server_falls_silent(colour: str) -> None:
    with FaultServer([FINISHED, STALL]) as server:
        assert streamed(colour, server.url, timeout=0.5) == "hi"


def test_a_key_that_the_service_echoes_is_left_out() -> None:
    with FaultServer(answer(401, {"error": "Incorrect API key provided: sk-secret"})) as server:
        with pytest.raises(AuthenticationError, match="Incorrect API key provided") as caught:
            Client("sk-secret", server.url).chat(HELLO)
    assert "sk-secret" not in f"{caught.value}{caught.value!r}{caught.value.args}{vars(caught.value)}"


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    "reply",
    [
        event_stream({"error": "Incorrect API key provided: sk-secret"}),
        event_stream({"choices": [{"status": "error: Incorrect API key provided: sk-secret"}]}),
        answer(200, {"choices": [{"status": "error: Incorrect API key provided: sk-secret"}]}),
    ],
    ids=["an event", "a chunk", "a plain answer"],
)
def test_a_key_that_a_stream_echoes_is_left_out(colour: str, reply: bytes) -> None:
    with FaultServer(reply) as server:
        with pytest.raises(APIStatusError, match="Incorrect API key provided") as caught:
            streamed(colour, server.url, key="sk-secret")
    assert "sk-secret" not in f"{caught.value}{caught.value!r}{caught.value.args}{vars(caught.value)}"


def test_a_word_that_is_also_a_key_stays() -> None:
    with FaultServer(answer(401, {"error": "bad key"})) as server:
        with pytest.raises(AuthenticationError, match="bad key"):
            Client("key", server.url).chat(HELLO)
