"""The tools that record, replay, mock or trace httpx see every call: the core's, the adapters' and image downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import vcr
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from predictionguard_core import AsyncClient, Client
from predictionguard_core.http import shared_clients
from predictionguard_core.images.policy import ImagePolicy
from tests.core.images.samples import png, question
from tests.faults.methods import CHAT, KEY, PLAIN, TEXT, Method
from tests.faults.server import FaultServer, answer, unused_port

PNG = png(40, 30)
OPEN = ImagePolicy(allow_private_hosts=True)
EACH = pytest.mark.parametrize("method", CHAT, ids=lambda method: method.name)


def received(method: Method, url: str, **options: Any) -> str:
    """What is received through a method, all in all."""

    async def ask() -> str:
        return "".join([text async for text in method.ask(url, **options)])

    return asyncio.run(ask()) if method.is_async else "".join(method.ask(url, **options))


def body_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


def kind_of(method: Method) -> dict[str, str]:
    return {"Content-Type": "text/event-stream" if method.streams else "application/json"}


def ask_about_image(is_async: bool, url: str, image_url: str) -> Any:
    request = question(image_url)
    if is_async:
        return asyncio.run(AsyncClient(KEY, url, images=OPEN).chat(request)).message.content
    return Client(KEY, url, images=OPEN).chat(request).message.content


BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


class TestPytestHttpx:
    @EACH
    def test_calls(self, method: Method, httpx_mock: Any) -> None:
        httpx_mock.add_response(content=body_of(method.good), headers=kind_of(method))
        assert received(method, "http://service.example") == TEXT
        (request,) = httpx_mock.get_requests()
        assert str(request.url) == "http://service.example/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert b"Hello" in request.read()

    @BOTH
    def test_downloads(self, is_async: bool, httpx_mock: Any) -> None:
        httpx_mock.add_response(url="http://localhost/cat.png", content=PNG)
        httpx_mock.add_response(url="http://service.example/chat/completions", content=body_of(PLAIN))
        assert ask_about_image(is_async, "http://service.example", "http://localhost/cat.png") == TEXT
        assert [request.url.host for request in httpx_mock.get_requests()] == ["localhost", "service.example"]

    @EACH
    def test_calls_through_a_proxy(self, method: Method, httpx_mock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
        monkeypatch.setattr(shared_clients, "_registry", shared_clients._Registry())
        httpx_mock.add_response(content=body_of(method.good), headers=kind_of(method))
        assert received(method, "http://service.example") == TEXT

    @BOTH
    def test_calls_of_a_users_own_client(self, is_async: bool, httpx_mock: Any) -> None:
        httpx_mock.add_response(content=body_of(PLAIN))
        method = next(method for method in CHAT if method.name == f"core chat{' async' * is_async}")
        own: Any = httpx.AsyncClient() if is_async else httpx.Client()
        assert received(method, "http://service.example", http_client=own) == TEXT
        assert len(httpx_mock.get_requests()) == 1


class TestRespx:
    @EACH
    def test_calls(self, method: Method) -> None:
        with respx.mock() as mock:
            mock.post("http://service.example/chat/completions").respond(
                content=body_of(method.good), headers=kind_of(method)
            )
            assert received(method, "http://service.example") == TEXT
            assert mock.calls.call_count == 1

    @BOTH
    def test_downloads(self, is_async: bool) -> None:
        with respx.mock() as mock:
            mock.get("http://localhost/cat.png").respond(content=PNG)
            mock.post("http://service.example/chat/completions").respond(content=body_of(PLAIN))
            assert ask_about_image(is_async, "http://service.example", "http://localhost/cat.png") == TEXT


class TestVcrpy:
    @EACH
    def test_calls(self, method: Method, tmp_path: Path) -> None:
        cassette = str(tmp_path / "cassette.yaml")
        with FaultServer(method.good) as server:
            with vcr.use_cassette(cassette) as recorded:
                assert received(method, server.url) == TEXT
        assert [request.uri for request in recorded.requests] == [f"{server.url}/chat/completions"]
        with vcr.use_cassette(cassette, record_mode="none") as replayed:  # nobody listens at the URL any more
            assert received(method, server.url) == TEXT
            assert replayed.all_played

    @BOTH
    def test_downloads(self, is_async: bool, tmp_path: Path) -> None:
        cassette = str(tmp_path / "cassette.yaml")
        with FaultServer(PLAIN) as server, FaultServer(answer(200, PNG)) as host:
            for _ in range(2):
                with vcr.use_cassette(cassette) as recorded:
                    image_url = f"http://localhost:{host.port}/cat.png"
                    assert ask_about_image(is_async, server.url, image_url) == TEXT
            assert [request.uri for request in recorded.requests] == [image_url, f"{server.url}/chat/completions"]
            assert len(host.requests) == len(server.requests) == 1


@pytest.fixture
def spans() -> Iterator[Callable[[], list[Any]]]:
    """The spans of OpenTelemetry's httpx instrumentation."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    HTTPXClientInstrumentor().instrument(tracer_provider=provider)
    try:
        yield lambda: list(exporter.get_finished_spans())
    finally:
        HTTPXClientInstrumentor().uninstrument()


class TestOpenTelemetry:
    @EACH
    def test_calls(self, method: Method, spans: Callable[[], list[Any]]) -> None:
        with FaultServer(method.good) as server:
            assert received(method, server.url) == TEXT
        (span,) = spans()
        assert span.attributes["http.url"] == f"{server.url}/chat/completions"
        assert KEY not in span.to_json()
        assert f"{span.context.trace_id:032x}" in server.requests[0].headers["traceparent"]

    @BOTH
    def test_downloads(self, is_async: bool, spans: Callable[[], list[Any]]) -> None:
        with FaultServer(PLAIN) as server, FaultServer(answer(200, PNG)) as host:
            image_url = f"http://localhost:{host.port}/cat.png"
            assert ask_about_image(is_async, server.url, image_url) == TEXT
        assert [span.attributes["http.url"] for span in spans()] == [image_url, f"{server.url}/chat/completions"]
        assert "traceparent" in host.requests[0].headers
