"""No log record, callback, trace, event or span contains the API key; none of our own contains image bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_debug
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate

import langchain_predictionguard as lc
import llama_index_predictionguard as li
from tests.endurance.conftest import Echo
from tests.endurance.kinds import KINDS, Kind
from tests.secrets.find_secrets import DATA_URI, KEY, all_texts, find_secrets
from tests.secrets.test_errors import errors_of, image_calls, text_calls

# How the echo server responds; see its docstring. "whole" is a complete response.
RESPONSES = ["whole", "slow", "refuse", "mirror-401", "mirror-429", "mirror-broken", "mirror-event", "broken"]


@contextlib.contextmanager
def all_log_records() -> Iterator[list[str]]:
    """Collect every log record of this process as text, with its arguments and exception."""
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(f"{self.format(record)} {record.args!r} {vars(record)!r}")

    root, collector = logging.getLogger(), Collector()
    collector.setFormatter(logging.Formatter("%(name)s %(message)s %(exc_info)s"))
    levels = {name: logging.getLogger(name).level for name in ("", "httpx", "httpcore", "predictionguard_core")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    # Another test may have run a program that configured logging, which disables the loggers that exist by then.
    for name in list(root.manager.loggerDict):
        if name.startswith(("httpx", "httpcore", "predictionguard_core")):
            logging.getLogger(name).disabled = False
    root.addHandler(collector)
    try:
        yield texts
    finally:
        root.removeHandler(collector)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("response", RESPONSES)
def test_log_records(response: str, echo: Echo) -> None:
    """With debug records of this package, httpx and httpcore."""
    with all_log_records() as texts, warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        errors_of(*text_calls(f"{echo.url}/{response}"), *image_calls(f"{echo.url}/{response}"))
    assert len([text for text in texts if text.startswith("predictionguard_core")]) > 20
    assert any(text.startswith("httpcore") for text in texts)
    # httpcore logs response headers, and the mirror puts the key into one.
    ours = [text for text in texts if text.startswith("predictionguard_core") or "mirror" not in response]
    assert [found for text in ours if (found := find_secrets(text))] == []
    assert [found for each in caught_warnings if (found := find_secrets(str(each.message)))] == []


@pytest.mark.parametrize("response", ["whole", "refuse"])
def test_log_records_of_a_users_own_client(response: str, echo: Echo) -> None:
    with all_log_records() as texts, httpx.Client() as own_client:
        for kind in KINDS:
            if kind.ask:
                model = kind.make(f"{echo.url}/{response}", api_key=KEY, **{str(kind.own[0]): own_client})
                errors_of(lambda kind=kind, model=model: kind.ask(model, 1))  # type: ignore[misc]
    assert any(text.startswith("httpx") for text in texts)
    assert [found for text in texts if (found := find_secrets(text))] == []


# LangChain


class Recorder(BaseCallbackHandler):
    """Record the arguments of every callback."""

    raise_error = True

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.calls.append((name, args, kwargs))
        return super().__getattribute__(name)


LC_MODELS = [kind for kind in KINDS if kind.name in ("lc-chat", "lc-completions")]


@pytest.mark.parametrize("response", ["whole", "refuse", "mirror-401", "broken"])
@pytest.mark.parametrize("kind", LC_MODELS, ids=str)
def test_langchain_callbacks_runs_and_events(kind: Kind, response: str, echo: Echo) -> None:
    model = kind.make(f"{echo.url}/{response}", api_key=KEY)
    recorder, runs = Recorder(), RunCollectorCallbackHandler()
    config: Any = {"callbacks": [recorder, runs], "metadata": {"a": "b"}, "tags": ["c"]}
    chain = RunnableLambda(lambda text: text) | model
    events: list[Any] = []

    async def read_events() -> None:
        async for event in chain.astream_events("marker-1", config, version="v2"):
            events.append(event)  # noqa: PERF401 - keeps the events before an error

    async def call() -> None:
        await model.ainvoke("marker-1", config)

    errors_of(
        lambda: chain.invoke("marker-1", config),
        lambda: list(chain.stream("marker-1", config)),
        lambda: asyncio.run(call()),
        lambda: asyncio.run(read_events()),
    )
    assert recorder.calls
    assert events
    for each in (*recorder.calls, *events, *(run.model_dump() for run in runs.traced_runs)):
        assert [found for text in all_texts(each) if (found := find_secrets(text))] == []


# What people pass to a call, which refuses it, in place of the constructor.
MISPLACED: list[dict[str, Any]] = [
    {"api_key": KEY},
    {"predictionguard_api_key": KEY},
    {"headers": {"Authorization": f"Bearer {KEY}"}},
    {"default_headers": [("Authorization", KEY)]},
    {"authorization": KEY},
]


@pytest.mark.parametrize("options", MISPLACED, ids=str)
@pytest.mark.parametrize("kind", LC_MODELS, ids=str)
def test_langchain_callbacks_of_a_call_with_a_misplaced_key(kind: Kind, options: dict[str, Any], echo: Echo) -> None:
    model = kind.make(f"{echo.url}/whole", api_key="key-of-the-model")
    recorder, runs = Recorder(), RunCollectorCallbackHandler()
    config: Any = {"callbacks": [recorder, runs]}
    bound = model.bind(**options)

    async def read() -> list[Any]:
        return [chunk async for chunk in model.astream("marker-1", config, **options)]

    errors = errors_of(
        lambda: model.invoke("marker-1", config, **options),
        lambda: list(model.stream("marker-1", config, **options)),
        lambda: asyncio.run(read()),
        lambda: bound.invoke("marker-1", config),
    )
    assert len(errors) == 4
    # As text: what an observer gets may be a `SecretStr`.
    seen = [*map(repr, (bound, *errors, *recorder.calls)), *(repr(run.model_dump()) for run in runs.traced_runs)]
    assert [found for text in seen if (found := find_secrets(text))] == []


@pytest.mark.parametrize("response", ["whole", "refuse"])
def test_langchain_callbacks_contain_an_image_only_in_the_callers_messages(response: str, echo: Echo) -> None:
    """LangChain passes the caller's messages to `on_chat_model_start`. Nothing else may contain the image or key."""
    chat = lc.ChatPredictionGuard("m", api_key=KEY, base_url=f"{echo.url}/{response}", max_retries=0)
    recorder = Recorder()
    message = HumanMessage(
        [{"type": "image_url", "image_url": {"url": DATA_URI}}, {"type": "text", "text": "marker-1"}]
    )
    errors_of(lambda: chat.invoke([message], {"callbacks": [recorder]}))
    for name, args, kwargs in recorder.calls:
        arguments = args[0] if name == "on_chat_model_start" else (args, kwargs)
        assert [found for text in all_texts((arguments, kwargs)) if (found := find_secrets(text))] == [], name
    assert [name for name, *_ in recorder.calls][:1] == ["on_chat_model_start"]


def test_langchain_debug_mode(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    set_debug(True)
    try:
        errors_of(*text_calls(f"{echo.url}/mirror-401"), *text_calls(f"{echo.url}/whole"))
    finally:
        set_debug(False)
    out, err = capsys.readouterr()
    assert "llm/start" in out
    assert find_secrets(out + err) == []


# LlamaIndex


class EventRecorder(BaseEventHandler):
    events: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        return "EventRecorder"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)


class SpanRecorder(SimpleSpanHandler):
    calls: ClassVar[list[Any]] = []

    def new_span(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return super().new_span(*args, **kwargs)

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return super().prepare_to_drop_span(*args, **kwargs)

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return super().prepare_to_exit_span(*args, **kwargs)


@pytest.mark.parametrize("response", ["whole", "refuse", "mirror-401", "broken"])
def test_llama_index_events_spans_and_payloads(response: str, echo: Echo) -> None:
    """None contains the key. They contain the image, because they contain the caller's messages."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    dispatcher, events, spans = get_dispatcher(), EventRecorder(events=[]), SpanRecorder()
    before = list(dispatcher.event_handlers), list(dispatcher.span_handlers)
    SpanRecorder.calls.clear()
    dispatcher.add_event_handler(events)
    dispatcher.add_span_handler(spans)
    try:
        url = f"{echo.url}/{response}"
        for kind in KINDS:
            if kind.name.startswith("li-"):
                model = kind.make(url, api_key=KEY, callback_manager=CallbackManager([debug]))
                errors_of(lambda kind=kind, model=model: kind.ask(model, 1))  # type: ignore[misc]
        errors_of(*image_calls(url))
    finally:
        dispatcher.event_handlers, dispatcher.span_handlers = before
    payloads = [event.payload for pair in debug.get_event_pairs() for event in pair]
    assert payloads
    assert len(events.events) > 10
    # A span contains the model itself, so look no deeper: `test_objects.py` tests what a model contains.
    span_texts = [list(all_texts(args, 2)) for args in SpanRecorder.calls]
    SpanRecorder.calls.clear()  # it keeps the models alive, and with them their connections
    for texts in (
        *span_texts,
        *(list(all_texts(event, 3)) for event in events.events),
        *(list(all_texts(each, 3)) for each in payloads),
    ):
        assert [found for text in texts if (found := find_secrets(text, images=False))] == []


@pytest.mark.parametrize("options", MISPLACED, ids=str)
def test_llama_index_events_and_spans_of_a_call_with_a_misplaced_key(options: dict[str, Any], echo: Echo) -> None:
    dispatcher, events, spans = get_dispatcher(), EventRecorder(events=[]), SpanRecorder()
    before = list(dispatcher.event_handlers), list(dispatcher.span_handlers)
    SpanRecorder.calls.clear()
    dispatcher.add_event_handler(events)
    dispatcher.add_span_handler(spans)
    llm = li.PredictionGuard("m", api_key="key-of-the-model", base_url=f"{echo.url}/whole")
    try:
        errors = errors_of(
            lambda: llm.complete("a", **options),
            lambda: list(llm.stream_complete("a", **options)),
            lambda: llm.chat([ChatMessage("a")], **options),
            lambda: llm.predict(PromptTemplate("a"), llm_kwargs=options),
        )
    finally:
        dispatcher.event_handlers, dispatcher.span_handlers = before
    assert len(errors) >= 3
    assert events.events
    seen = [*map(repr, errors), *map(repr, SpanRecorder.calls), *(repr(event.model_dump()) for event in events.events)]
    SpanRecorder.calls.clear()
    assert [found for text in seen if (found := find_secrets(text))] == []


def test_adapters_do_not_log(echo: Echo) -> None:
    """Only the core logs, under the name `predictionguard_core`."""
    with all_log_records() as texts:
        errors_of(*text_calls(f"{echo.url}/whole"))
    names = {text.split(" ", 1)[0].split(".")[0] for text in texts}
    assert "predictionguard_core" in names
    assert not names & {lc.__name__, li.__name__}
