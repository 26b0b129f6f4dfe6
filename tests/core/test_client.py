"""`Client` and `AsyncClient` over real sockets: against the sandbox, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gzip
import json
import pickle
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from predictionguard_core import retries
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.embeddings import EmbeddingRequest
from predictionguard_core.api.rerank import RerankRequest
from predictionguard_core.api.responses import ChatChunk
from predictionguard_core.client import AsyncClient, Client
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    ImageBlockedError,
    ImageFetchError,
    InvalidRequestError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    PIIDetectedError,
    PredictionGuardError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    StreamInterruptedError,
    ToxicityError,
)
from predictionguard_core.http import shared_clients, tls
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.sandbox import Sandbox
from tests.core.images.samples import data_uri, png, question
from tests.faults.server import RESET, STALL, Drip, FaultServer, answer, event_stream, unused_port

KEY = "pg-s3cr3t"
TEXT, VISION = "gpt-oss-120b", "Qwen2.5-VL-7B-Instruct"
HELLO = ChatRequest(model=TEXT, messages="Say something about the sea, the moon and the tides.")


def chunk(**choice: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, **choice}]}


ANSWER = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello you"}}]}
CHUNKS = [chunk(delta={"content": "hello "}), chunk(delta={"content": "you"}), chunk(delta={}, finish_reason="stop")]
PLAIN = answer(200, ANSWER)
STREAM = event_stream(*CHUNKS, "[DONE]")


def plain(url: str, request: ChatRequest = HELLO, **options: Any) -> list[ChatChunk]:
    return [Client(KEY, url, **options).chat(request).as_chunk()]


def stream(url: str, request: ChatRequest = HELLO, **options: Any) -> list[ChatChunk]:
    return list(Client(KEY, url, **options).stream(request))


def async_plain(url: str, request: ChatRequest = HELLO, **options: Any) -> list[ChatChunk]:
    async def ask() -> list[ChatChunk]:
        return [(await AsyncClient(KEY, url, **options).chat(request)).as_chunk()]

    return asyncio.run(ask())


def async_stream(url: str, request: ChatRequest = HELLO, **options: Any) -> list[ChatChunk]:
    async def ask() -> list[ChatChunk]:
        return [each async for each in AsyncClient(KEY, url, **options).stream(request)]

    return asyncio.run(ask())


ALL_WAYS = pytest.mark.parametrize("ask", [plain, stream, async_plain, async_stream])
PLAIN_WAYS = pytest.mark.parametrize("ask", [plain, async_plain])
STREAM_WAYS = pytest.mark.parametrize("ask", [stream, async_stream])


def words(chunks: list[ChatChunk]) -> str:
    return "".join(choice.delta.content or "" for each in chunks for choice in each.choices)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts: test_operations.py tests their length."""
    monkeypatch.setattr(retries, "_FIRST_BACKOFF", 0.0)


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    yield
    with Client(KEY):
        pass


class TestSandbox:
    @ALL_WAYS
    def test_chat_returns_a_response(self, ask: Any, sandbox: Sandbox) -> None:
        chunks = ask(sandbox.url, HELLO)
        assert "tides" in words(chunks)
        assert {each.id for each in chunks} == {chunks[0].id}
        assert [each.is_last for each in chunks] == [False] * (len(chunks) - 1) + [True]
        last = chunks[-1]
        assert last.model == TEXT
        assert last.choices[0].finish_reason == "stop"
        assert last.usage is not None
        assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 2
        assert [request["model"] for request in sandbox.requests] == [TEXT]

    def test_sync_async_plain_and_streamed_calls_return_the_same(self, sandbox: Sandbox) -> None:
        assert len({words(ask(sandbox.url, HELLO)) for ask in (plain, stream, async_plain, async_stream)}) == 1

    @STREAM_WAYS
    def test_a_stream_comes_in_many_chunks(self, ask: Any, sandbox: Sandbox) -> None:
        assert len([each for each in ask(sandbox.url, HELLO) if words([each])]) > 5
        assert sandbox.requests[0]["stream"] is True
        assert sandbox.requests[0]["stream_options"] == {"include_usage": True}

    @ALL_WAYS
    def test_an_image_reaches_the_model(self, ask: Any, sandbox: Sandbox, photos: Any) -> None:
        source = photos / "coffee.jpg"
        (only,) = ask(sandbox.url, question(source, model=VISION))
        assert "600" in words([only])
        assert "400" in words([only])
        assert only.is_last
        assert only.usage is not None
        (request,) = sandbox.requests
        assert "stream" not in request
        url = request["messages"][0]["content"][1]["image_url"]["url"]
        assert url == data_uri(source.read_bytes(), "image/jpeg")

    @ALL_WAYS
    def test_output_checks_make_one_plain_request(self, ask: Any, sandbox: Sandbox) -> None:
        (only,) = ask(sandbox.url, ChatRequest(model=TEXT, messages="Say hello.", output={"toxicity": True}))
        assert only.is_last
        assert "stream" not in sandbox.requests[0]

    @STREAM_WAYS
    def test_vision_streaming_streams(self, ask: Any) -> None:
        with Sandbox(vision_streaming=True) as box:
            assert len(ask(box.url, question(png(8, 8), model=VISION, vision_streaming=True))) > 2
            assert box.requests[0]["stream"] is True

    @ALL_WAYS
    def test_a_body_of_many_megabytes(self, ask: Any, sandbox: Sandbox) -> None:
        image = png(9, 9, padding=5_000_000)
        assert "9" in words(ask(sandbox.url, question(image, image, model=VISION)))
        assert len(sandbox.requests) == 1

    @ALL_WAYS
    @pytest.mark.parametrize(
        ("request_", "kind"),
        [
            (ChatRequest(model="no-such-model", messages="hi"), APIStatusError),
            (
                ChatRequest(model=TEXT, messages="My e-mail is a.b@example.com", input={"pii": "block"}),
                PIIDetectedError,
            ),
            (question(png(), model=TEXT), InvalidRequestError),
        ],
        ids=["model", "PII", "image"],
    )
    def test_a_refusal_is_its_class_and_comes_once(self, ask: Any, request_: Any, kind: type, sandbox: Sandbox) -> None:
        with pytest.raises(kind) as caught:
            ask(sandbox.url, request_)
        assert caught.value.request_id
        assert KEY not in str(caught.value)
        assert len(sandbox.requests) == 1

    @ALL_WAYS
    def test_a_wrong_key(self, ask: Any) -> None:
        with Sandbox(api_key="another") as box, pytest.raises(AuthenticationError) as caught:
            ask(box.url)
        assert KEY not in str(caught.value)

    @ALL_WAYS
    def test_a_base_url_with_a_path(self, ask: Any, sandbox: Sandbox) -> None:
        assert words(ask(f"{sandbox.url}/v1/", HELLO))

    def test_the_other_endpoints(self, sandbox: Sandbox) -> None:
        client, async_client = Client(KEY, sandbox.url), AsyncClient(KEY, sandbox.url)
        completion = CompletionRequest(model=TEXT, prompt="Once upon a time", max_tokens=20)
        embedding = EmbeddingRequest(model="bge-m3", input=[f"text {index}" for index in range(31)])
        reranking = RerankRequest(model="bge-reranker-v2-m3", query="the sea", documents=["a desk", "the blue sea"])

        async def ask() -> Any:
            return (
                (await async_client.complete(completion)).message.content,
                words([each async for each in async_client.complete_stream(completion)]),
                await async_client.embed(embedding),
                await async_client.rerank(reranking),
                await async_client.models("chat-with-image"),
            )

        found = (
            client.complete(completion).message.content,
            words(list(client.complete_stream(completion))),
            client.embed(embedding),
            client.rerank(reranking),
            client.models("chat-with-image"),
        )
        assert found == asyncio.run(ask())
        assert found[0] == found[1]
        assert len(found[2]) == 31
        assert [each.index for each in found[3]] == [1, 0]
        assert VISION in [model.id for model in found[4]]
        assert TEXT not in [model.id for model in found[4]]

    def test_requests_have_the_documented_headers_and_body(self) -> None:
        with FaultServer(PLAIN) as server:
            plain(server.url, temperature_request())
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/chat/completions")
        assert request.json == {"model": "m", "temperature": 0.5, "messages": "hi"}
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["content-length"] == str(len(request.body))
        assert request.headers["user-agent"].startswith("predictionguard-integrations/")
        assert "transfer-encoding" not in request.headers

    @ALL_WAYS
    def test_a_large_body_says_its_length_too(self, ask: Any) -> None:
        with FaultServer(PLAIN) as server:
            ask(server.url, question(png(padding=2_000_000)))
        (request,) = server.requests
        assert request.headers["content-length"] == str(len(request.body))
        assert "transfer-encoding" not in request.headers
        assert request.json["messages"][0]["content"][1]["image_url"]["url"] == data_uri(png(padding=2_000_000))


def temperature_request() -> ChatRequest:
    return ChatRequest(model="m", messages="hi", temperature=0.5)


def refusal(status: int, text: str = "no", **headers: str) -> bytes:
    return answer(status, {"error": text}, **headers)


HEAD = answer(200, b"", content_length="500", content_type="application/json")
NEVER_RETRIED = [
    ("400", refusal(400), InvalidRequestError),
    ("400, a check", refusal(400, "failed toxicity check"), ToxicityError),
    ("401", refusal(401), AuthenticationError),
    ("403", refusal(403), PermissionDeniedError),
    ("404, HTML", answer(404, "<html>nothing here</html>", content_type="text/html"), NotFoundError),
    ("413, empty", answer(413), RequestTooLargeError),
    ("422", refusal(422), InvalidRequestError),
    ("redirect", answer(307, location="http://127.0.0.1:1/"), APIStatusError),
    ("204", answer(204, content_length=""), InvalidResponseError),
    ("HTML", answer(200, "<html>hello</html>", content_type="text/html"), InvalidResponseError),
    ("empty", answer(200, ""), InvalidResponseError),
    ("broken JSON", answer(200, '{"choices": [', content_type="application/json"), InvalidResponseError),
    ("no gzip", answer(200, "plain", content_encoding="gzip", content_type="application/json"), InvalidResponseError),
    ("silence", [STALL], APITimeoutError),
    ("silence in the headers", [HEAD[:30], STALL], APITimeoutError),
]
RETRIED = [
    ("408", refusal(408), APIStatusError),
    ("429", refusal(429, retry_after="0"), RateLimitError),
    ("500", refusal(500), ServerError),
    ("502, HTML", answer(502, "<html>bad</html>", content_type="text/html"), ServerError),
    ("503, empty", answer(503), ServerError),
    ("529", refusal(529), ServerError),
    ("closed", [], APIConnectionError),
    ("reset", [RESET], APIConnectionError),
    ("closed in the headers", HEAD[:30], APIConnectionError),
    ("no HTTP", b"220 mail.example ESMTP\r\n\r\n", APIConnectionError),
]
CUT_PLAIN = [
    ("cut", HEAD + b'{"choices"', APIConnectionError),
    ("reset", [HEAD + b'{"choices"', RESET], APIConnectionError),
    ("reset after the headers", [HEAD, RESET], APIConnectionError),
    (
        "cut in a chunk",
        answer(200, b"1f\r\n{", content_length="", transfer_encoding="chunked", content_type="application/json"),
        APIConnectionError,
    ),
    ("silence", [HEAD + b"{", STALL], APITimeoutError),
    ("dripping", [HEAD, Drip(b" " * 400, 0.05)], APITimeoutError),
]
STREAM_HEAD = event_stream(CHUNKS[0])
CUT_STREAM = [
    ("closed", STREAM_HEAD, StreamInterruptedError),
    ("reset", [STREAM_HEAD, RESET], StreamInterruptedError),
    ("closed within an event", STREAM_HEAD + b"data: {", PredictionGuardError),
    ("no event at all", event_stream(), StreamInterruptedError),
    (
        "cut short of its length",
        answer(200, STREAM_HEAD.partition(b"\r\n\r\n")[2], content_type="text/event-stream", content_length="999"),
        StreamInterruptedError,
    ),
    ("an error", STREAM_HEAD + b'data: {"error": "failed toxicity check"}\n\n', ToxicityError),
    ("rubbish", STREAM_HEAD + b"data: <html>\n\n", InvalidResponseError),
    ("silence", [STREAM_HEAD, STALL], APITimeoutError),
]


def patience(kind: type) -> float:
    """Return a short timeout where the test waits for it, else one that a busy machine keeps."""
    return 0.5 if kind is APITimeoutError else 60


def table(cases: list[Any]) -> Any:
    return pytest.mark.parametrize(("script", "kind"), [case[1:] for case in cases], ids=[case[0] for case in cases])


class TestFaults:
    """The right class, and the right number of requests, counted at the server."""

    @ALL_WAYS
    @table(NEVER_RETRIED)
    def test_permanent_failures_are_not_retried(self, ask: Any, script: Any, kind: type) -> None:
        with FaultServer(script) as server:
            with pytest.raises(kind) as caught:
                ask(server.url, timeout=patience(kind))
            assert len(server.requests) == 1
        assert KEY not in f"{caught.value}{caught.value.__cause__}"

    @ALL_WAYS
    @table(RETRIED)
    @pytest.mark.parametrize("max_retries", [0, 2])
    def test_temporary_failures_are_retried(self, ask: Any, script: Any, kind: type, max_retries: int) -> None:
        with FaultServer(script) as server:
            with pytest.raises(kind):
                ask(server.url, max_retries=max_retries)
            assert len(server.requests) == max_retries + 1
        assert len({request.body for request in server.requests}) == 1

    @ALL_WAYS
    @table(RETRIED)
    def test_a_retry_succeeds_after_a_failure(self, ask: Any, script: Any, kind: type) -> None:
        good = STREAM if ask in (stream, async_stream) else PLAIN
        with FaultServer(script, script, good) as server:
            assert words(ask(server.url)) == "hello you"
            assert len(server.requests) == 3

    @PLAIN_WAYS
    @table(CUT_PLAIN)
    def test_an_interrupted_response_is_not_retried(self, ask: Any, script: Any, kind: type) -> None:
        with FaultServer(script) as server:
            with pytest.raises(kind):
                ask(server.url, timeout=patience(kind))
            assert len(server.requests) == 1

    @PLAIN_WAYS
    def test_the_timeout_bounds_an_attempt_as_a_whole(self, ask: Any) -> None:
        delivered = threading.Event()
        with FaultServer([Drip(PLAIN[:60], 0.5), PLAIN[60:], delivered.set]) as server:
            with pytest.raises(APITimeoutError, match=r"0\.5 s"):
                ask(server.url, timeout=0.5)
            assert not delivered.is_set()

    @STREAM_WAYS
    @table(CUT_STREAM)
    def test_an_interrupted_stream_raises(self, ask: Any, script: Any, kind: type) -> None:
        with FaultServer(script) as server:
            with pytest.raises(kind):
                ask(server.url, timeout=patience(kind))
            assert len(server.requests) == 1

    def test_chunks_before_an_interruption_are_delivered(self) -> None:
        async def ask(url: str) -> None:
            async for each in AsyncClient(KEY, url).stream(HELLO):
                heard[len(heard) :] = [words([each])]

        with FaultServer(STREAM_HEAD) as server:
            heard: list[str] = []
            with pytest.raises(StreamInterruptedError):
                heard.extend(words([each]) for each in Client(KEY, server.url).stream(HELLO))
            with pytest.raises(StreamInterruptedError):
                asyncio.run(ask(server.url))
        assert heard == ["hello ", "hello "]

    @ALL_WAYS
    def test_a_refused_connection_is_an_error(self, ask: Any) -> None:
        url = f"http://127.0.0.1:{unused_port()}"
        with pytest.raises(APIConnectionError, match=r"can't reach .*PREDICTIONGUARD_URL") as caught:
            ask(url)
        assert not isinstance(caught.value, APITimeoutError)

    @ALL_WAYS
    def test_an_unreachable_port_is_an_error(self, ask: Any) -> None:
        with pytest.raises((ConfigurationError, APIConnectionError)):
            ask("http://127.0.0.1:70000", max_retries=0)

    @ALL_WAYS
    def test_an_unknown_host_is_an_error(self, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(APIConnectionError, match="can't reach"):
            ask("http://nowhere.example")

    @PLAIN_WAYS
    @pytest.mark.parametrize("coding", ["gzip", "identity"])
    def test_a_compressed_response_is_decompressed(self, ask: Any, coding: str) -> None:
        data = json.dumps(ANSWER).encode()
        data = gzip.compress(data) if coding == "gzip" else data
        with FaultServer(answer(200, data, content_encoding=coding, content_type="application/json")) as server:
            assert words(ask(server.url)) == "hello you"

    @STREAM_WAYS
    def test_a_compressed_stream_is_decompressed(self, ask: Any) -> None:
        data = gzip.compress(STREAM.partition(b"\r\n\r\n")[2])
        with FaultServer(answer(200, data, content_encoding="gzip", content_type="text/event-stream")) as server:
            assert words(ask(server.url)) == "hello you"

    @STREAM_WAYS
    def test_a_plain_answer_to_a_streaming_question_is_one_chunk(self, ask: Any) -> None:
        with FaultServer(PLAIN) as server:
            (only,) = ask(server.url)
        assert (words([only]), only.is_last) == ("hello you", True)

    @STREAM_WAYS
    @pytest.mark.parametrize("kind", ["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream"])
    def test_the_content_type_of_a_stream_is_case_insensitive(self, ask: Any, kind: str) -> None:
        body = STREAM.partition(b"\r\n\r\n")[2]
        with FaultServer(answer(200, body, content_type=kind)) as server:
            assert words(ask(server.url)) == "hello you"

    @STREAM_WAYS
    def test_a_stream_byte_by_byte_without_its_last_blank_line(self, ask: Any) -> None:
        head, _, body = event_stream(*CHUNKS, "[DONE]").partition(b"\r\n\r\n")
        with FaultServer([head + b"\r\n\r\n", Drip(body.rstrip(), 0.0)]) as server:
            assert words(ask(server.url)) == "hello you"

    @STREAM_WAYS
    def test_what_comes_after_done_is_not_waited_for(self, ask: Any) -> None:
        with FaultServer([STREAM, STALL]) as server:
            assert words(ask(server.url, timeout=60)) == "hello you"

    @ALL_WAYS
    def test_a_refusal_before_the_body_was_read(self, ask: Any) -> None:
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(hasty(answer(413, {"error": "too large"})))
            with pytest.raises(RequestTooLargeError):
                ask(url, question(png(padding=4_000_000), vision_streaming=True))


@contextlib.contextmanager
def hasty(reply: bytes) -> Iterator[str]:
    """A server that answers once it has the headers, then reads the rest and drops it."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            while connection.recv(1 << 20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


class TestImageDownloads:
    @ALL_WAYS
    def test_images_are_downloaded_and_sent_as_data_uris(self, ask: Any, sandbox: Sandbox) -> None:
        policy = ImagePolicy(allow_private_hosts=True)
        with FaultServer(answer(200, png(31, 17))) as server:
            chunks = ask(sandbox.url, question(server.url, server.url, model=VISION), images=policy)
        assert "31" in words(chunks)
        parts = sandbox.requests[0]["messages"][0]["content"][1:]
        assert [part["image_url"]["url"] for part in parts] == [data_uri(png(31, 17))] * 2
        assert all("authorization" not in request.headers for request in server.requests)

    @ALL_WAYS
    def test_a_private_host_is_refused_with_its_location_before_any_request(self, ask: Any, sandbox: Sandbox) -> None:
        with FaultServer(answer(200, png())) as server:
            with pytest.raises(ImageBlockedError) as caught:
                ask(sandbox.url, question(png(), server.url, model=VISION))
        assert (caught.value.message_index, caught.value.block_index) == (0, 2)
        assert server.requests == sandbox.requests == []

    @ALL_WAYS
    def test_a_download_that_fails(self, ask: Any, sandbox: Sandbox) -> None:
        policy = ImagePolicy(allow_private_hosts=True)
        with FaultServer(answer(404)) as server, pytest.raises(ImageFetchError) as caught:
            ask(sandbox.url, question(server.url, model=VISION), images=policy)
        assert (caught.value.message_index, caught.value.block_index) == (0, 1)
        assert sandbox.requests == []


KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])


class TestObject:
    @KINDS
    def test_construction_opens_nothing(self, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("a socket was asked for")

        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(tls, "tls_context", refuse)
        client = kind(KEY, "https://nowhere.example/v1/")
        assert client.base_url == "https://nowhere.example/v1"

    @KINDS
    def test_needs_a_key(self, kind: Any) -> None:
        with pytest.raises(ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
            kind()

    @KINDS
    def test_shows_no_key(self, kind: Any) -> None:
        client = kind(KEY, "http://127.0.0.1:1")
        assert repr(client) == f"{kind.__name__}('http://127.0.0.1:1')"
        assert KEY not in repr(vars(client))

    @KINDS
    def test_a_pickle_contains_no_key_and_reads_it_from_the_environment(
        self, kind: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = ImagePolicy(max_images=3)
        data = pickle.dumps(kind(KEY, "http://127.0.0.1:1", timeout=3, max_retries=7, images=policy))
        assert KEY.encode() not in data
        keyless = pickle.loads(data)
        assert "http://127.0.0.1:1" in repr(keyless)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
                asyncio.run(keyless.models()) if kind is AsyncClient else keyless.models()
        monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "another")
        monkeypatch.setenv("PREDICTIONGUARD_URL", "http://elsewhere.example")
        restored = pickle.loads(data)
        assert type(restored) is kind
        assert restored.base_url == "http://127.0.0.1:1"
        again = pickle.dumps(restored)
        assert b"another" not in again
        assert repr(pickle.loads(again)) == repr(restored)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_works_while_the_first_is_open(self, copied: Any) -> None:
        with FaultServer(PLAIN) as server:
            client = Client(KEY, server.url)
            client.chat(HELLO)
            copied(client).chat(HELLO)
            client.close()
            copied(client).chat(HELLO)
        assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 3

    def test_a_closed_client_can_be_used_again(self, sandbox: Sandbox) -> None:
        client = Client(KEY, sandbox.url)
        client.close()
        for _ in range(3):
            with client as same:
                assert same.chat(HELLO).message.content
                assert list(same.stream(HELLO))
        client.close()
        assert client.chat(HELLO).message.content

    def test_closing_one_client_does_not_close_others(self, sandbox: Sandbox) -> None:
        one, other = Client(KEY, sandbox.url), Client(KEY, sandbox.url)
        one.chat(HELLO)
        chunks = other.stream(HELLO)
        next(chunks)
        one.close()
        assert words(list(chunks))

    async def test_a_closed_async_client_can_be_used_again(self, sandbox: Sandbox) -> None:
        client, other = AsyncClient(KEY, sandbox.url), AsyncClient(KEY, sandbox.url)
        await client.aclose()
        chunks = other.stream(HELLO)
        await anext(chunks)
        for _ in range(3):
            async with client as same:
                assert (await same.chat(HELLO)).message.content
        assert words([each async for each in chunks])
        await other.aclose()

    def test_connections_are_shared_and_used_again(self) -> None:
        with FaultServer(PLAIN) as server:
            first = shared_clients.shared_client(Client(KEY, server.url))
            assert shared_clients.shared_client(Client(KEY, server.url)) is first
            assert not first.is_closed


class TestOwnHttpClient:
    def test_a_custom_client_is_used_and_left_open(self, sandbox: Sandbox) -> None:
        asked = []
        with httpx.Client(event_hooks={"request": [asked.append]}, headers={"X-Own": "1"}) as own:
            with Client(KEY, sandbox.url, http_client=own) as client:
                assert client.chat(HELLO).message.content
                assert list(client.stream(HELLO))
            client.close()
            assert not own.is_closed
            assert copy.deepcopy(client).chat(HELLO).message.content
        assert [request.headers["x-own"] for request in asked] == ["1"] * 3

    async def test_async_too(self, sandbox: Sandbox) -> None:
        asked = []

        async def note(request: httpx.Request) -> None:
            asked.append(request)

        async with httpx.AsyncClient(event_hooks={"request": [note]}) as own:
            async with AsyncClient(KEY, sandbox.url, http_client=own) as client:
                assert (await client.chat(HELLO)).message.content
                assert [each async for each in client.stream(HELLO)]
            assert not own.is_closed
        assert len(asked) == 2

    def test_one_that_is_closed_is_refused(self, sandbox: Sandbox) -> None:
        own = httpx.Client()
        own.close()
        with pytest.raises(ConfigurationError, match="closed"):
            Client(KEY, sandbox.url, http_client=own).chat(HELLO)
        assert sandbox.requests == []

    @pytest.mark.parametrize(
        "make",
        [lambda: Client(KEY, http_client=httpx.AsyncClient()), lambda: AsyncClient(KEY, http_client=httpx.Client())],
    )
    def test_a_sync_client_is_refused_for_async_calls_and_the_reverse(self, make: Any) -> None:
        with pytest.raises(ConfigurationError):
            make()

    def test_endless_redirects_raise_our_error(self) -> None:
        with FaultServer(answer(307, location="/again")) as server, httpx.Client(follow_redirects=True) as own:
            with pytest.raises(PredictionGuardError):
                Client(KEY, server.url, http_client=own, max_retries=0).chat(HELLO)


class TestLoopsAndThreads:
    def test_one_object_in_many_event_loops(self, sandbox: Sandbox) -> None:
        client = AsyncClient(KEY, sandbox.url)

        async def ask() -> str | None:
            streamed = words([each async for each in client.stream(HELLO)])
            answers = await asyncio.gather(*(client.chat(HELLO) for _ in range(3)))
            assert {each.message.content for each in answers} == {streamed}
            return streamed

        assert len({asyncio.run(ask()) for _ in range(5)}) == 1
        assert len(sandbox.requests) == 20

    def test_a_loop_closes_its_connections_when_it_ends(self, sandbox: Sandbox) -> None:
        client, held = AsyncClient(KEY, sandbox.url), []

        async def ask() -> None:
            await client.chat(HELLO)
            held.append(await shared_clients.shared_async_client(client))

        for _ in range(3):
            asyncio.run(ask())
        assert len({id(each) for each in held}) == 3
        assert all(each.is_closed for each in held)

    def test_one_object_in_many_threads(self, sandbox: Sandbox) -> None:
        client, async_client = Client(KEY, sandbox.url), AsyncClient(KEY, sandbox.url)

        def ask(number: int) -> str | None:
            request = ChatRequest(model=TEXT, messages=f"Say number {number} about the sea.")
            if number % 3 == 0:
                return words(list(client.stream(request)))
            if number % 3 == 1:
                return client.chat(request).message.content

            async def ask_async() -> str | None:
                return (await async_client.chat(request)).message.content

            return asyncio.run(ask_async())

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, range(24)))
        assert all(str(number) in (answer or "") for number, answer in enumerate(answers))

    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_stream_can_be_abandoned(self, sandbox: Sandbox, after: int) -> None:
        client, async_client = Client(KEY, sandbox.url), AsyncClient(KEY, sandbox.url)
        chunks = client.stream(HELLO)
        for _ in range(after):
            next(chunks)
        chunks.close()
        assert client.chat(HELLO).message.content

        async def leave() -> str | None:
            async with contextlib.aclosing(async_client.stream(HELLO)) as chunks:
                for _ in range(after):
                    await anext(chunks)
            return (await async_client.chat(HELLO)).message.content

        assert asyncio.run(leave())

    def test_a_call_can_be_cancelled(self) -> None:
        asked = threading.Event()

        async def cancel(url: str) -> str:
            client = AsyncClient(KEY, url)
            task = asyncio.create_task(client.chat(HELLO))
            await asyncio.to_thread(asked.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return words([(await client.chat(HELLO)).as_chunk()])

        with FaultServer([asked.set, STALL], PLAIN) as server:
            assert asyncio.run(cancel(server.url)) == "hello you"
        assert len(server.requests) == 2
