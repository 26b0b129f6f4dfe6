"""Clients of httpx and httpx2 that a user passes, and what is refused instead of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx
import httpx2
import pytest

from predictionguard_core import AsyncClient, ChatRequest, Client
from predictionguard_core.errors import APIConnectionError, ConfigurationError
from tests.faults.server import FaultServer, answer, unused_port

HELLO = ChatRequest(model="m", messages="Hello")
LARGE = ChatRequest(model="m", messages="x" * 3_000_000)  # goes out in several pieces
GOOD = answer(200, {"choices": [{"message": {"content": "hello"}}]})
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
MODULES = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])


def ask(is_async: bool, url: str, own: Any, request: ChatRequest = HELLO) -> str | None:
    async def async_ask() -> str | None:
        async with own:
            return (await AsyncClient("key", url, http_client=own, max_retries=0).chat(request)).message.content

    if is_async:
        return asyncio.run(async_ask())
    with own:
        return Client("key", url, http_client=own, max_retries=0).chat(request).message.content


def new(module: Any, is_async: bool, **options: Any) -> Any:
    return (module.AsyncClient if is_async else module.Client)(**options)


@MODULES
@BOTH
class TestBodiesThatAreSentTwice:
    @pytest.mark.parametrize("status", [307, 308])
    def test_for_a_redirect(self, is_async: bool, module: Any, status: int) -> None:
        with FaultServer(GOOD) as goal, FaultServer(answer(status, location=f"{goal.url}/there")) as server:
            own = new(module, is_async, follow_redirects=True)
            assert ask(is_async, server.url, own, LARGE) == "hello"
        assert goal.requests[0].body == server.requests[0].body
        assert len(goal.requests[0].body) > 3_000_000

    def test_for_a_challenge(self, is_async: bool, module: Any) -> None:
        class Retry(module.Auth):  # type: ignore[misc, name-defined]
            def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
                response = yield request
                if response.status_code == 401:
                    request.headers["X-Token"] = "fresh"
                    yield request

            async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
                response = yield request
                if response.status_code == 401:
                    request.headers["X-Token"] = "fresh"
                    yield request

        with FaultServer(answer(401), GOOD) as server:
            assert ask(is_async, server.url, new(module, is_async, auth=Retry()), LARGE) == "hello"
        assert server.requests[0].body == server.requests[1].body
        assert server.requests[1].headers["x-token"] == "fresh"


@MODULES
@BOTH
def test_errors_are_ours(is_async: bool, module: Any) -> None:
    with pytest.raises(APIConnectionError, match="can't reach") as caught:
        ask(is_async, f"http://127.0.0.1:{unused_port()}", new(module, is_async))
    assert type(caught.value.__cause__).__module__ == module.__name__


@MODULES
@BOTH
def test_one_that_is_closed_is_refused(is_async: bool, module: Any) -> None:
    own = new(module, is_async)
    if is_async:
        asyncio.run(own.aclose())
        with pytest.raises(ConfigurationError, match="closed"):
            asyncio.run(AsyncClient("key", "http://service.example", http_client=own).chat(HELLO))
    else:
        own.close()
        with pytest.raises(ConfigurationError, match="closed"):
            Client("key", "http://service.example", http_client=own).chat(HELLO)


@BOTH
def test_anything_else_is_refused_with_its_name(is_async: bool) -> None:
    kind: Any = AsyncClient if is_async else Client
    for module in (httpx, httpx2):
        other = new(module, not is_async)
        with pytest.raises(ConfigurationError, match=rf"httpx2\.\w+, got {module.__name__}\.{type(other).__name__}"):
            kind("key", http_client=other)
    with pytest.raises(ConfigurationError, match=r"http_client must be .*, got decimal\.Decimal"):
        kind("key", http_client=__import__("decimal").Decimal(1))


@MODULES
@BOTH
def test_a_client_that_raises_one_object_again_and_again(is_async: bool, module: Any) -> None:
    error = module.ConnectError("it holds key-of-the-tests")

    def fail(_: Any) -> Any:
        raise error

    def ask_own() -> None:
        ask(is_async, "http://service.example", new(module, is_async, transport=module.MockTransport(fail)))

    def ask_twice() -> None:
        try:
            ask_own()
        except APIConnectionError:
            ask_own()  # its error is the cause of its own context

    with pytest.raises(APIConnectionError, match="can't reach"):
        ask_twice()


@MODULES
@BOTH
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_the_end_of_a_callers_iterator_is_no_end_of_an_answer(
    is_async: bool, module: Any, error: type[Exception]
) -> None:
    def fail(_: Any) -> Any:
        raise error

    def own() -> Any:
        return new(module, is_async, transport=module.MockTransport(fail))

    async def read() -> list[Any]:
        client = AsyncClient("key", "http://a.example", http_client=own())
        return [chunk async for chunk in client.stream(HELLO)]

    # StopAsyncIteration ends async code only, and StopIteration only the other.
    expected = RuntimeError if is_async or error is StopIteration else StopAsyncIteration
    with pytest.raises(expected):
        ask(is_async, "http://service.example", own())
    with pytest.raises(expected):
        asyncio.run(read()) if is_async else list(Client("key", "http://a.example", http_client=own()).stream(HELLO))
