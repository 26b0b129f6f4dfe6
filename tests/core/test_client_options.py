"""API keys that change, headers, silent streams and batches side by side: over a real socket."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from predictionguard_core import (
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    ChatRequest,
    Client,
    ConfigurationError,
    EmbeddingRequest,
    InvalidRequestError,
    RateLimitError,
)
from predictionguard_core.sandbox import Sandbox

ASKED = ChatRequest(model="m", messages="hi")
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}}]}


class Server:
    """Answers every request with `answer(server, handler, body)` and keeps what it was sent."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.at_once = self.most_at_once = 0
        self.status, self.reply, self.more = 200, ANSWER, {}
        self.stream: list[tuple[float, bytes]] | None = None
        self.has_sent_all = False
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.bodies.append(body)
                outer.answer(self, body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        if self.stream is not None:
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Connection", "close")
            handler.end_headers()
            try:
                for seconds, data in self.stream:
                    time.sleep(seconds)
                    handler.wfile.write(data)
                    handler.wfile.flush()
                self.has_sent_all = True
            except OSError:
                pass
            handler.close_connection = True
            return
        reply = self.reply
        if "input" in body:
            with self.lock:
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            time.sleep(0.1)
            with self.lock:
                self.at_once -= 1
            if self.status == 200:
                vectors = [{"index": i, "embedding": [float(text)]} for i, text in enumerate(body["input"])]
                reply = {"data": vectors}
        data = json.dumps(reply).encode()
        handler.send_response(self.status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **self.more}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def async_chat(client: AsyncClient, **options: Any) -> Any:
    async def chat() -> Any:
        async with client:
            return await client.chat(ASKED, **options)

    return asyncio.run(chat())


async def async_chunks(client: AsyncClient) -> str:
    async with client, client.stream(ASKED) as stream:
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def chunks(client: Client) -> str:
    with client.stream(ASKED) as stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def event(content: str = "", finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


class TestKeys:
    def test_a_function_is_asked_for_each_request(self, server: Server) -> None:
        keys = iter(["first-key", "second-key"])
        client = Client(lambda: next(keys), server.url)
        client.chat(ASKED)
        client.chat(ASKED)
        assert [each["authorization"] for each in server.headers] == ["Bearer first-key", "Bearer second-key"]

    def test_an_async_client_takes_both_kinds_of_functions(self, server: Server) -> None:
        async def key() -> str:
            await asyncio.sleep(0)
            return "async-key"

        async_chat(AsyncClient(key, server.url))
        async_chat(AsyncClient(lambda: "sync-key", server.url))
        assert [each["authorization"] for each in server.headers] == ["Bearer async-key", "Bearer sync-key"]

    def test_an_async_function_is_refused_in_sync_calls(self, server: Server) -> None:
        async def key() -> str:
            return "async-key"

        with pytest.raises(ConfigurationError, match="async function"):
            Client(key, server.url).chat(ASKED)
        assert server.headers == []

    def test_what_is_no_key_is_refused_without_showing_it(self, server: Server) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Client(lambda: "secret\nvalue", server.url).chat(ASKED)
        assert "secret" not in str(caught.value)

    def test_a_key_is_redacted_in_the_forms_in_which_urls_and_json_echo_it(self, server: Server) -> None:
        key, tenant = 'key/with+signs="1"', "tenant a/b+c"
        forms = [
            form(each) for each in (key, tenant) for form in (quote, quote_plus, partial(quote, safe=""), json.dumps)
        ]
        client = Client(key, server.url, default_headers={"X-Tenant": tenant})
        for echoed in forms:
            server.status, server.reply = 400, {"error": f"refused: {echoed}."}
            with pytest.raises(InvalidRequestError) as caught:
                client.chat(ASKED)
            assert str(caught.value).replace('"', "").startswith("refused: <redacted>."), echoed

    def test_a_key_that_is_echoed_is_redacted(self, server: Server) -> None:
        server.status, server.reply = 400, {"error": "bad key rotating-key-1 from tenant-secret"}
        client = Client(lambda: "rotating-key-1", server.url, default_headers={"X-Tenant": "tenant-secret"})
        for each in (lambda: client.chat(ASKED), lambda: chunks(client)):
            with pytest.raises(InvalidRequestError) as caught:
                each()
            assert str(caught.value).startswith("bad key <redacted> from <redacted>")
            assert "rotating-key-1" not in repr(caught.value.args) + repr(vars(caught.value))
        assert "rotating-key-1" not in repr(client)
        client = Client("another-key-2", server.url)
        assert b"another-key-2" not in pickle.dumps(client)


class TestHeaders:
    def test_a_calls_headers_override_the_clients(self, server: Server) -> None:
        client = Client("key", server.url, default_headers={"X-Team": "a", "x-trace": "1", "user-agent": "mine"})
        client.chat(ASKED, extra_headers={"X-Trace": "2"})
        async_client = AsyncClient("key", server.url, default_headers={"X-Team": "a"})
        async_chat(async_client, extra_headers={"x-trace": "2"})
        for sent in server.headers:
            assert (sent["x-team"], sent["x-trace"]) == ("a", "2")
        assert server.headers[0]["user-agent"] == "mine"

    def test_what_no_header_can_carry_is_refused_without_its_value(self, server: Server) -> None:
        swapped = {f"Bearer secret-{'x' * 24}": "Authorization"}
        for headers in ({"X-A": "secret\r\nX-B: 1"}, {"X A": "secret"}, {"X-A": 5}, {"Content-Length": "5"}, swapped):
            with pytest.raises(ConfigurationError, match="default_headers") as caught:
                Client("key", server.url, default_headers=headers)  # type: ignore[arg-type]
            assert "secret" not in str(caught.value)
            with pytest.raises(ConfigurationError, match="extra_headers"):
                Client("key", server.url).stream(ASKED, extra_headers=headers)  # type: ignore[arg-type]

    def test_a_stream_accepts_events_and_json(self, server: Server) -> None:
        server.stream = [(0, event("a", "stop")), (0, b"data: [DONE]\n\n")]
        assert chunks(Client("key", server.url)) == "a"
        assert server.headers[0]["accept"] == "text/event-stream, application/json"


class TestSilence:
    @pytest.mark.parametrize("noise", [b": ping\n\n", event("")])
    def test_comments_and_empty_deltas_do_not_hold_a_stream(self, server: Server, noise: bytes) -> None:
        server.stream = [(0, event("a")), *[(0.1, noise)] * 300]
        for each in (
            lambda: chunks(Client("key", server.url, timeout=0.5)),
            lambda: asyncio.run(async_chunks(AsyncClient("key", server.url, timeout=0.5))),
        ):
            with pytest.raises(APITimeoutError):
                each()
            assert not server.has_sent_all

    def test_content_restarts_the_clock(self, server: Server) -> None:
        server.stream = [*[(0.25, event("a"))] * 9, (0, event("", "stop")), (0, b"data: [DONE]\n\n")]
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(lambda: chunks(Client("key", server.url, timeout=2)))
            second = threads.submit(lambda: asyncio.run(async_chunks(AsyncClient("key", server.url, timeout=2))))
            assert first.result() == second.result() == "a" * 9

    def test_a_slow_reader_is_no_silence(self, server: Server) -> None:
        server.stream = [(0, event("a")), (0.2, event("b", "stop")), (0, b"data: [DONE]\n\n")]
        with Client("key", server.url, timeout=1).stream(ASKED) as stream:
            first = next(stream)
            time.sleep(1.2)
            assert [chunk.choices[0].delta.content for chunk in (first, next(stream))] == ["a", "b"]

    def test_pings_after_the_finish_reason_do_not_hold_a_stream(self, server: Server) -> None:
        server.stream = [(0, event("a", "stop")), *[(0.1, b": ping\n\n")] * 300]
        for each in (
            lambda: chunks(Client("key", server.url, timeout=0.5)),
            lambda: asyncio.run(async_chunks(AsyncClient("key", server.url, timeout=0.5))),
        ):
            assert each() == "a"
            assert not server.has_sent_all


def test_a_long_pause_is_left_to_the_caller(server: Server) -> None:
    server.status, server.reply, server.more = 429, {"error": "quota"}, {"Retry-After": "3600"}
    with pytest.raises(RateLimitError) as caught:
        Client("key", server.url, max_retries=5).chat(ASKED)
    assert (caught.value.retry_after, len(server.bodies)) == (3600, 1)


class TestBatches:
    TEXTS = [str(number) for number in range(30 * 12)]

    def embed(self, server: Server, kind: str, **options: Any) -> list[list[float]]:
        request = EmbeddingRequest(model="m", input=self.TEXTS)
        if kind == "sync":
            return Client("key", server.url).embed(request, **options)

        async def embed() -> list[list[float]]:
            async with AsyncClient("key", server.url) as client:
                return await client.embed(request, **options)

        return asyncio.run(embed())

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_batches_are_sent_concurrently_and_keep_their_order(self, server: Server, kind: str) -> None:
        assert self.embed(server, kind) == [[float(text)] for text in self.TEXTS]
        assert len(server.bodies) == 12
        assert 1 < server.most_at_once <= 8

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_how_many_at_once_is_the_callers_choice(self, server: Server, kind: str) -> None:
        self.embed(server, kind, max_concurrency=1)
        assert server.most_at_once == 1
        with pytest.raises(ConfigurationError, match="max_concurrency"):
            self.embed(server, kind, max_concurrency=0)

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_the_first_error_ends_the_rest(self, server: Server, kind: str) -> None:
        server.status, server.reply = 400, {"error": "no"}
        with pytest.raises(APIStatusError):
            self.embed(server, kind, max_concurrency=2)
        time.sleep(0.3)
        assert len(server.bodies) <= 5


def test_key_that_is_cut_at_the_end_of_a_long_error_text_is_redacted(sandbox: Sandbox) -> None:
    key = "secret-key-9876543210"
    sandbox.fail(400, "x " * 992 + key)
    with pytest.raises(InvalidRequestError) as caught:
        Client(key, sandbox.url).models()
    assert "x <redacted>…" in str(caught.value)
    assert key[:6] not in str(caught.value)
