"""The deadline of a call, and what takes it away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from predictionguard_core import APIStatusError, APITimeoutError, AsyncClient, AuthenticationError, ChatRequest, Client
from predictionguard_core.http import shared_clients, timeouts, transport
from predictionguard_core.http.proxies import Proxies
from tests.faults.server import KEEP, RESET, STALL, Drip, FaultServer, answer, event_stream
from tests.waiting import until

HELLO = ChatRequest(model="m", messages="Hello")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
FINISHED = HEAD + b"%x\r\n%s\r\n" % (len(WHOLE), WHOLE)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No shared client yet: it reads the environment when it is made."""
    registry = shared_clients._Registry()
    monkeypatch.setattr(shared_clients, "_registry", registry)
    yield
    if registry.client is not None:
        registry.client.close()


def streamed(mode: str, url: str, key: str = "key", **options: Any) -> str:
    async def ask() -> list[Any]:
        return [chunk async for chunk in AsyncClient(key, url, **options).stream(HELLO)]

    chunks = list(Client(key, url, **options).stream(HELLO)) if mode == "sync" else asyncio.run(ask())
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("variable", [None, "NO_PROXY", "no_proxy"])
def test_the_deadline_holds_where_only_exceptions_from_proxies_are_named(
    fresh: None, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "localhost,.example.com")
    delivered = threading.Event()
    with FaultServer([Drip(answer(200, {})[:60], 0.5), delivered.set, STALL]) as server:
        with pytest.raises(APITimeoutError), Client("key", server.url, timeout=0.5, max_retries=0) as client:
            client.chat(HELLO)
        assert not delivered.is_set()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
def test_an_answer_that_is_finished_is_kept_though_its_connection_breaks(mode: str, end: list[Any]) -> None:
    with FaultServer([FINISHED, *end]) as server:
        assert streamed(mode, server.url) == "hi"
        assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_answer_that_is_finished_is_kept_though_its_server_falls_silent(mode: str) -> None:
    with FaultServer([FINISHED, STALL]) as server:
        assert streamed(mode, server.url, timeout=0.5) == "hi"


def test_a_key_that_the_service_echoes_is_left_out() -> None:
    with FaultServer(answer(401, {"error": "Incorrect API key provided: sk-secret"})) as server:
        with pytest.raises(AuthenticationError, match="Incorrect API key provided") as caught:
            Client("sk-secret", server.url).chat(HELLO)
    assert "sk-secret" not in f"{caught.value}{caught.value!r}{caught.value.args}{vars(caught.value)}"


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "reply",
    [
        event_stream({"error": "Incorrect API key provided: sk-secret"}),
        event_stream({"choices": [{"status": "error: Incorrect API key provided: sk-secret"}]}),
        answer(200, {"choices": [{"status": "error: Incorrect API key provided: sk-secret"}]}),
    ],
    ids=["an event", "a chunk", "a plain answer"],
)
def test_a_key_that_a_stream_echoes_is_left_out(mode: str, reply: bytes) -> None:
    with FaultServer(reply) as server:
        with pytest.raises(APIStatusError, match="Incorrect API key provided") as caught:
            streamed(mode, server.url, key="sk-secret")
    assert "sk-secret" not in f"{caught.value}{caught.value!r}{caught.value.args}{vars(caught.value)}"


def test_a_word_that_is_also_a_key_stays() -> None:
    with FaultServer(answer(401, {"error": "bad key"})) as server:
        with pytest.raises(AuthenticationError, match="bad key"):
            Client("key", server.url).chat(HELLO)


GOOD = answer(200, {"choices": [{"message": {"content": "hello"}}]}, connection="")
LAST = answer(200, {"choices": [{"message": {"content": "hello"}}]})  # says that its connection is closed


def request(url: str, pool: float = 20) -> httpx.Request:
    timeouts = {"connect": 20, "read": 20, "write": 20, "pool": pool}
    return httpx.Request("GET", url, extensions={"timeout": timeouts})


def get(own: transport.Transport, url: str) -> int:
    with contextlib.closing(own.handle_request(request(url))) as response:
        response.read()
        return response.status_code


def get_within(own: transport.Transport, url: str, seconds: float) -> int:
    with timeouts.deadline(seconds):
        return get(own, url)


async def async_get_within(own: transport.AsyncTransport, url: str, seconds: float) -> int:
    async with timeouts.async_deadline(seconds):
        async with contextlib.aclosing(await own.handle_async_request(request(url))) as response:
            await response.aread()
            return response.status_code


class TestPool:
    """The pool inside httpx's transport."""

    def test_the_whole_number_of_idle_connections_is_bounded(self) -> None:
        limits = httpx.Limits(max_connections=10, max_keepalive_connections=2)
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(FaultServer([GOOD, KEEP])) for _ in range(4)]
            own = stack.enter_context(contextlib.closing(transport.Transport(limits, Proxies())))
            for server in servers:
                get(own, server.url)
            until(lambda: sum(server.open for server in servers) == 2)
            assert [server.open for server in servers] == [0, 0, 1, 1]

    def test_a_wait_for_a_free_connection_is_not_part_of_the_timeout(self) -> None:
        limits, served = httpx.Limits(max_connections=1), threading.Event()
        with FaultServer([served.wait, LAST]) as server:
            own = transport.Transport(limits, Proxies())
            with contextlib.closing(own), ThreadPoolExecutor(2) as threads:
                first = threads.submit(get, own, server.url)
                until(lambda: server.requests)
                second = threads.submit(get_within, own, server.url, 1)
                time.sleep(1.2)
                served.set()
                assert first.result() == second.result() == 200

    def test_the_same_async(self) -> None:
        async def ask(url: str) -> None:
            own = transport.AsyncTransport(httpx.Limits(max_connections=1), Proxies())
            first = asyncio.create_task(async_get_within(own, url, 20))
            await asyncio.to_thread(until, lambda: server.requests)
            second = asyncio.create_task(async_get_within(own, url, 1))
            await asyncio.sleep(1.2)
            served.set()
            assert [await first, await second] == [200, 200]
            await own.aclose()

        served = threading.Event()
        with FaultServer([served.wait, LAST]) as server:
            asyncio.run(ask(server.url))

    def test_a_wait_for_a_free_connection_has_its_own_bound(self) -> None:
        async def ask(url: str) -> None:
            own = transport.AsyncTransport(httpx.Limits(max_connections=1), Proxies())
            response = await own.handle_async_request(request(url))
            with pytest.raises(httpx.PoolTimeout):
                await own.handle_async_request(request(url, pool=0.1))
            await response.aclose()
            await (await own.handle_async_request(request(url))).aclose()

        with FaultServer([answer(200, content_length="5"), STALL]) as server:
            own = transport.Transport(httpx.Limits(max_connections=1), Proxies())
            response = own.handle_request(request(server.url))
            with pytest.raises(httpx.PoolTimeout):
                own.handle_request(request(server.url, pool=0.1))
            response.close()
            own.handle_request(request(server.url)).close()
            asyncio.run(ask(server.url))

    def test_no_connection_is_reused_where_httpcore_lacks_the_private_names(self) -> None:
        # Only by them can it be known that nothing is left of a response.
        def connection(**http11: Any) -> Any:
            return SimpleNamespace(_connection=SimpleNamespace(_connection=None, **http11))

        assert transport._has_leftover(SimpleNamespace())
        assert transport._has_leftover(connection())
        assert transport._has_leftover(connection(_h11_state=SimpleNamespace()))
        assert transport._has_leftover(connection(_h11_state=SimpleNamespace(trailing_data=(b"x", False))))
        assert not transport._has_leftover(connection(_h11_state=SimpleNamespace(trailing_data=(b"", False))))

    def test_private_names_of_httpx_and_httpcore_are_there(self) -> None:
        assert transport.is_supported()
        with FaultServer([GOOD, KEEP]) as server:
            with contextlib.closing(transport.Transport(httpx.Limits(), Proxies())) as own:
                for _ in range(3):
                    get(own, server.url)
            assert [each.requests for each in server.connections] == [3]

    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_httpxs_own_pool_serves_where_ours_can_not(
        self, fresh: None, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "is_supported", lambda: False)
        with FaultServer(FINISHED) as server:
            assert streamed(mode, server.url) == "hi"
