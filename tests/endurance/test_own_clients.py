"""A user's own HTTP client is used with all its settings and never closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import httpx
import pytest

from predictionguard_core import ConfigurationError
from tests.endurance.conftest import Echo
from tests.endurance.kinds import ASYNC, ASYNC_STREAMS, KEY, KINDS, STREAMS, SYNC, Kind


class Proxy(BaseHTTPRequestHandler):
    """An HTTP proxy that records the requests it forwards."""

    protocol_version = "HTTP/1.1"
    passed: list[str] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.passed.append(self.path)
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        with urlopen(Request(self.path, body, headers)) as answer:
            data = answer.read()
        self.send_response(200)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    Proxy.passed.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", SYNC, ids=str)
def test_its_settings_are_used(kind: Kind, echo: Echo, proxy: str) -> None:
    asked: list[httpx.Request] = []
    answered: list[httpx.Response] = []
    hooks: Any = {"request": [asked.append], "response": [answered.append]}
    with httpx.Client(proxy=proxy, event_hooks=hooks, headers={"X-Own": "mine"}, cookies={"a": "b"}) as own:
        model = kind.make(echo.url, **{str(kind.own[0]): own})
        assert kind.ask
        assert kind.ask(model, 5) == 5
        if hasattr(model, "close"):
            model.close()
        assert not own.is_closed
        assert kind.ask(model, 6) == 6
    assert len(Proxy.passed) == len(asked) == len(answered) >= 2
    assert all(path.startswith(echo.url) for path in Proxy.passed)
    for request in asked:
        assert request.headers["x-own"] == "mine"
        assert request.headers["cookie"] == "a=b"
        assert request.headers["authorization"] == f"Bearer {KEY}"
    assert echo.sockets() == 0


@pytest.mark.parametrize("kind", ASYNC, ids=str)
def test_its_settings_are_used_in_async_calls(kind: Kind, echo: Echo, proxy: str) -> None:
    asked: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request)

    async def ask() -> None:
        assert kind.aask
        hooks: Any = {"request": [note]}
        async with httpx.AsyncClient(proxy=proxy, event_hooks=hooks, headers={"X-Own": "mine"}) as own:
            model = kind.make(echo.url, **{str(kind.own[1]): own})
            assert await kind.aask(model, 5) == 5
            if hasattr(model, "aclose"):
                await model.aclose()
            assert not own.is_closed
            assert await kind.aask(model, 6) == 6

    asyncio.run(ask())
    assert len(Proxy.passed) == len(asked) >= 2
    assert {request.headers["x-own"] for request in asked} == {"mine"}


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_streams_are_closed_but_not_the_client(kind: Kind, echo: Echo) -> None:
    assert kind.stream
    with httpx.Client() as own:
        model = kind.make(f"{echo.url}/endless", **{str(kind.own[0]): own})
        for _ in range(5):
            chunks = iter(kind.stream(model, 5))
            next(chunks)
            del chunks
        echo.settles(1)
        whole = kind.make(f"{echo.url}/slow", **{str(kind.own[0]): own})
        assert "".join(kind.stream(whole, 123)) == "123"
        assert not own.is_closed


@pytest.mark.parametrize("kind", ASYNC_STREAMS, ids=str)
def test_async_streams_are_closed_but_not_the_client(kind: Kind, echo: Echo) -> None:
    async def ask() -> None:
        assert kind.astream
        async with httpx.AsyncClient() as own:
            model = kind.make(f"{echo.url}/endless", **{str(kind.own[1]): own})
            for _ in range(5):
                chunks = aiter(kind.astream(model, 5))
                await anext(chunks)
                del chunks
            await asyncio.to_thread(echo.settles, 1)
            assert not own.is_closed

    asyncio.run(ask())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_closed_client_is_reported(kind: Kind, echo: Echo) -> None:
    own, async_own = httpx.Client(), httpx.AsyncClient()
    own.close()
    asyncio.run(async_own.aclose())
    given = {name: each for name, each in zip(kind.own, (own, async_own), strict=True) if name}
    model = kind.make(echo.url, **given)
    if kind.ask:
        with pytest.raises(ConfigurationError, match="closed"):
            kind.ask(model, 1)
    if kind.aask:
        with pytest.raises(ConfigurationError, match="closed"):
            asyncio.run(kind.aask(model, 1))  # type: ignore[arg-type]
    assert echo.seen() == []
