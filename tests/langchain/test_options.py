"""Options that belong to a model rather than to a message: what is sent, shown to tracers, and written by `dumps`."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableBinding
from langchain_core.tracers import BaseTracer
from pydantic import BaseModel

from langchain_predictionguard import (
    ChatPredictionGuard,
    ConfigurationError,
    ImagePolicy,
    InputChecks,
    PredictionGuard,
    PredictionGuardEmbeddings,
    PredictionGuardRerank,
)
from predictionguard_core.sandbox import Sandbox
from predictionguard_core.version import __version__
from tests.langchain.conftest import VISION
from tests.langchain.scripted import Scripted, event_stream, text_reply

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"


class Recorder(BaseCallbackHandler):
    """Keeps what a tracer is shown when a call starts."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, dict[str, Any]]] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.started.append((serialized, kwargs))


def test_fields_of_extra_body_override(box: Sandbox) -> None:
    chat = ChatPredictionGuard(
        VISION, api_key="key", base_url=box.url, temperature=1, extra_body={"temperature": 0.25, "top_p": 0.5}
    )
    chat.invoke("Hello")
    assert (box.requests[-1]["temperature"], box.requests[-1]["top_p"]) == (0.25, 0.5)


def test_reasoning_effort_is_any_string(box: Sandbox) -> None:
    with Scripted(text_reply("Hi")) as server:
        ChatPredictionGuard("m", api_key="key", base_url=server.url, reasoning_effort="minimal").invoke("Hello")
        assert server.requests[-1]["reasoning_effort"] == "minimal"


def test_errors_name_the_argument_that_the_user_typed(chat: ChatPredictionGuard) -> None:
    for bad in (
        {"max_tokens": 0},
        {"input_checks": {"pii": "hide"}},
        {"output_checks": {"toxicity": "x"}},
        {"top_p": 2},
    ):
        (name,) = bad
        with pytest.raises(ConfigurationError, match=name):
            ChatPredictionGuard(VISION, **{"api_key": "key", **bad})  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=name):
            chat.invoke("Hello", **bad)


def test_custom_get_token_ids_counts() -> None:
    chat = ChatPredictionGuard(VISION, api_key="key", custom_get_token_ids=lambda text: list(range(len(text))))
    assert chat.get_num_tokens("four letters") == 12
    short, long = ([HumanMessage("a" * count)] for count in (10, 110))
    count = chat.get_num_tokens_from_messages
    assert count(long) - count(short) == 100


def test_metadata_has_the_versions() -> None:
    for model in (ChatPredictionGuard(VISION, api_key="key"), PredictionGuard("m", api_key="key")):
        assert model.metadata is not None
        versions = model.metadata["lc_versions"]
        assert versions["predictionguard-integrations"] == __version__
        assert "langchain-core" in versions
    given = ChatPredictionGuard(VISION, api_key="key", metadata={"team": "a"}).metadata
    assert given is not None
    assert given["team"] == "a"


def test_tracers_see_the_models_own_stop_sequences(box: Sandbox) -> None:
    for stop in ("END", ["END"]):
        chat, recorder = ChatPredictionGuard(VISION, api_key="key", base_url=box.url, stop=stop), Recorder()
        assert chat._get_ls_params()["ls_stop"] == ["END"]
        assert chat._get_ls_params(stop=["x"])["ls_stop"] == ["x"]
        chat.invoke("Hello", {"callbacks": [recorder]})
        assert recorder.started[-1][1]["invocation_params"]["stop"] == ["END"]


# Serialisation


def test_a_model_is_dumped_without_its_key_and_loaded_again(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key-of-the-environment")
    for kind in (ChatPredictionGuard, PredictionGuard):
        model = kind(
            "gpt-oss-120b",
            api_key="key-of-the-test",
            base_url=box.url,
            temperature=0.5,
            stop=["END"],
            images={"max_edge": 512},
            input_checks={"pii": "replace"},
            default_headers={"X-Gateway": "secret-header"},
        )
        text = dumps(model)
        assert "key-of-the-test" not in text
        assert "secret-header" not in text
        loaded = load(
            dumpd(model), allowed_objects=[kind], valid_namespaces=["langchain_predictionguard"], secrets_from_env=True
        )
        assert type(loaded) is kind
        assert (loaded.temperature, loaded.stop) == (0.5, ["END"])
        assert loaded.images == ImagePolicy(max_edge=512)
        assert loaded.input_checks == InputChecks(pii="replace")
        assert loaded.invoke("Hello")
        bound = load(
            dumpd(model.bind(top_p=0.5)),
            allowed_objects=[kind, RunnableBinding],
            valid_namespaces=["langchain_predictionguard"],
            secrets_from_env=True,
        )
        bound.invoke("Hello")
        assert box.requests[-1]["top_p"] == 0.5


def test_a_change_after_the_first_call_is_in_the_cache_key() -> None:
    chat = ChatPredictionGuard(VISION, api_key="key", temperature=0.0)
    before = chat._get_llm_string()
    chat.temperature = 1
    assert chat._get_llm_string() != before
    assert chat.model_copy(update={"temperature": 0.0})._get_llm_string() == before


# Connection


class Counter:
    """Gives another API key each time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"key-{self.count}"


async def _async_key() -> str:
    return "key-async"


def objects(**options: Any) -> list[Any]:
    """One call of each class, sync and async."""
    chat, llm = ChatPredictionGuard("m", **options), PredictionGuard("m", **options)
    embeddings, reranker = PredictionGuardEmbeddings("m", **options), PredictionGuardRerank("m", **options)
    return [
        lambda **more: chat.invoke("a", **more),
        lambda **more: list(chat.stream("a", **more)),
        lambda **more: asyncio.run(chat.ainvoke("a", **more)),
        lambda **more: llm.invoke("a", **more),
        lambda **more: asyncio.run(llm.ainvoke("a", **more)),
        lambda **more: embeddings.embed_query("a", **more),
        lambda **more: asyncio.run(embeddings.aembed_query("a", **more)),
        lambda **more: reranker.rerank("a", ["b"], **more),
    ]


@pytest.fixture
def headers_server() -> Iterator[HeaderServer]:
    with HeaderServer() as server:
        yield server


class HeaderServer:
    """Answers 404, and keeps the headers."""

    def __enter__(self) -> Self:
        self.headers: list[dict[str, str]] = []
        kept = self.headers

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                kept.append({name.lower(): value for name, value in self.headers.items()})
                body = b'{"error": "no such thing"}'
                self.send_response(404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Keep the output of the tests clean."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self, call: Any, **more: Any) -> dict[str, str]:
        """The headers that a call sends."""
        with pytest.raises(Exception, match="no such thing"):
            call(**more)
        return self.headers[-1]


def test_default_and_extra_headers_of_every_class(headers_server: HeaderServer) -> None:
    for call in objects(api_key="key", base_url=headers_server.url, default_headers={"X-Gateway": "a", "X-Both": "a"}):
        found = headers_server.asked(call, extra_headers={"X-Both": "b", "X-Call": "c"})
        assert (found["x-gateway"], found["x-both"], found["x-call"]) == ("a", "b", "c")


def test_an_api_key_may_be_a_function_that_is_called_for_each_request(headers_server: HeaderServer) -> None:
    for call in objects(api_key=Counter(), base_url=headers_server.url):
        keys = [headers_server.asked(call)["authorization"] for _ in range(2)]
        assert keys[0] != keys[1]
    chat = ChatPredictionGuard("m", api_key=_async_key, base_url=headers_server.url)
    found = headers_server.asked(lambda: asyncio.run(chat.ainvoke("a")))
    assert found["authorization"] == "Bearer key-async"


SECRET = "secret-header"
HEADERS = {"X-A": SECRET}


class EverythingRecorder(BaseTracer):
    """Keeps the run trees, and the arguments of all callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("on_"):
            return found

        def record(*args: Any, **kwargs: Any) -> Any:
            self.seen.append(f"{name} {args} {kwargs}")
            return found(*args, **kwargs)

        return record

    def _persist_run(self, run: Any) -> None:
        self.seen.append(f"run {run.model_dump()} {dumps(run.model_dump())}")


async def calls_with(model: Any, config: Any, **more: Any) -> None:
    """Ask a model in every way there is."""
    model.invoke("a", config, **more)
    list(model.stream("a", config, **more))
    model.batch(["a"], config, **more)
    await model.ainvoke("a", config, **more)
    [each async for each in model.astream("a", config, **more)]
    await model.abatch(["a"], config, **more)
    [event async for event in model.astream_events("a", config, version="v2", **more)]


class Size(BaseModel):
    """A size."""

    width: int


async def test_headers_are_sent_and_shown_nowhere() -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "b"}, "text": "b", "finish_reason": "stop"}]}
    plain = {"choices": [{"index": 0, "message": {"content": "b"}, "text": "b", "finish_reason": "stop"}]}
    with EchoServer(plain, [chunk]) as server:
        connection: Any = {"api_key": "key", "base_url": server.url}
        chat, llm = ChatPredictionGuard("m", **connection), PredictionGuard("m", **connection)
        bound_later = chat.bind_tools([Size]).bind(extra_headers=HEADERS).with_config(tags=["a"]).bind(stop=["x"])
        structured = chat.with_structured_output(Size, include_raw=True, extra_headers=HEADERS)
        for model, more in (
            (ChatPredictionGuard("m", **connection, default_headers=HEADERS), {}),
            (PredictionGuard("m", **connection, default_headers=HEADERS), {}),
            (chat, {"extra_headers": HEADERS}),
            (llm, {"extra_headers": HEADERS}),
            (chat.bind(extra_headers=HEADERS), {}),
            (llm.bind(extra_headers=HEADERS), {}),
            (bound_later, {}),
            (ChatPromptTemplate.from_template("{input}") | bound_later, {}),
            (structured, {}),
        ):
            recorder = EverythingRecorder()
            server.headers.clear()
            await calls_with(model, {"callbacks": [recorder]}, **more)
            assert [sent["x-a"] for sent in server.headers] == [SECRET] * 7, model
            assert len(recorder.seen) > 14
            assert [each for each in recorder.seen if SECRET in each] == []
            assert SECRET not in f"{model!r}{model!s}{dumps(model)}"
        for model in (PredictionGuardEmbeddings, PredictionGuardRerank):
            shown = model("m", **connection, default_headers=HEADERS)
            assert SECRET not in f"{shown!r}{shown.model_dump()}{shown.model_dump_json()}{dumps(shown)}"
        assert SECRET not in chat._get_llm_string(extra_headers=HEADERS)
        assert pickle.loads(pickle.dumps(bound_later)).kwargs == bound_later.kwargs


def test_a_bad_header_is_refused_where_the_model_is_made() -> None:
    for headers in ({"X A": "b"}, {"X-A": "b\n"}, {"X-A": 1}, "X-A: b"):
        with pytest.raises(ConfigurationError, match="default_headers"):
            ChatPredictionGuard("m", api_key="key", default_headers=headers)  # type: ignore[arg-type]


def test_a_pickle_keeps_the_headers(headers_server: HeaderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key")
    chat = ChatPredictionGuard("m", base_url=headers_server.url, default_headers={"X-Gateway": "a"})
    copied = pickle.loads(pickle.dumps(chat))
    assert headers_server.asked(lambda: copied.invoke("a"))["x-gateway"] == "a"


class EchoServer(HeaderServer):
    """Answers with one body, or with one stream, and keeps the headers."""

    def __init__(self, plain: dict[str, Any], stream: list[dict[str, Any]]) -> None:
        self._plain, self._stream = json.dumps(plain).encode(), event_stream(stream)

    def __enter__(self) -> Self:
        super().__enter__()

        def do_post(handler: Any) -> None:
            streams = json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))).get("stream")
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream" if streams else "application/json")
            handler.send_header("Content-Length", str(len(self._stream if streams else self._plain)))
            handler.end_headers()
            handler.wfile.write(self._stream if streams else self._plain)

        self._server.RequestHandlerClass.do_POST = do_post  # type: ignore[attr-defined]
        return self


# Profile


def test_the_profile_has_the_published_facts() -> None:
    profile = ChatPredictionGuard("gpt-oss-120b", api_key="key").profile
    assert profile is not None
    assert profile["max_input_tokens"] == 64_000
    assert profile["tool_calling"] is True
    assert ChatPredictionGuard("a-model-of-tomorrow", api_key="key").profile is None
    own = ChatPredictionGuard("gpt-oss-120b", api_key="key", profile={"max_input_tokens": 5}, profile_from_service=True)
    assert own.profile == {"max_input_tokens": 5}


def test_the_profile_comes_from_the_service_on_request() -> None:
    found = {
        "id": "renamed",
        "max_context_length": 1234,
        "capabilities": {"chat_with_image": True, "tool_calling": True},
    }
    with ModelServer({"data": [found]}) as server:
        chat = ChatPredictionGuard("renamed", api_key="key", base_url=server.url, profile_from_service=True)
        assert server.count == 0  # the constructor asks nobody
        profile = chat.profile
        assert profile is not None
        assert (profile["max_input_tokens"], profile["image_inputs"], profile["tool_calling"]) == (1234, True, True)
        assert chat.profile is profile
        assert server.count == 1
        SummarizationMiddleware(chat, trigger=("fraction", 0.8), keep=("fraction", 0.3))


class ModelServer(HeaderServer):
    """Answers every GET with one body."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.count = 0

    def __enter__(self) -> Self:
        super().__enter__()
        outer, text = self, json.dumps(self._body).encode()

        def do_get(handler: Any) -> None:
            outer.count += 1
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text)

        self._server.RequestHandlerClass.do_GET = do_get  # type: ignore[attr-defined]
        return self
