"""Whoever watches the calls sees neither the key nor, in what we tell, a picture: logs, callbacks, traces, events."""

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

import langchain_predictionguard as lc
import llama_index_predictionguard as li
from tests.endurance.conftest import Echo
from tests.endurance.kinds import KINDS, Kind
from tests.secrets.test_errors import errors_of, pictures_asked, texts_asked
from tests.secrets.watch import DATA_URI, KEY, deeply, shown

FATES = ["whole", "slow", "refuse", "mirror-401", "mirror-429", "mirror-broken", "mirror-event", "broken"]


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Every log record of everybody in this process, as text, with its arguments and its error."""
    texts: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(f"{self.format(record)} {record.args!r} {vars(record)!r}")

    root, ear = logging.getLogger(), Ear()
    ear.setFormatter(logging.Formatter("%(name)s %(message)s %(exc_info)s"))
    levels = {name: logging.getLogger(name).level for name in ("", "httpx", "httpcore", "predictionguard_core")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(ear)
    try:
        yield texts
    finally:
        root.removeHandler(ear)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("fate", FATES)
def test_no_log_record_shows_a_secret(fate: str, echo: Echo) -> None:
    """Of this package's logger and of httpx's and httpcore's, with debug records on."""
    with heard() as texts, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        errors_of(*texts_asked(f"{echo.url}/{fate}"), *pictures_asked(f"{echo.url}/{fate}"))
    assert len([text for text in texts if text.startswith("predictionguard_core")]) > 20
    assert any(text.startswith("httpcore") for text in texts)
    # httpcore's records have the headers of answers, in which a mirror shows the key.
    ours = [text for text in texts if text.startswith("predictionguard_core") or "mirror" not in fate]
    assert [found for text in ours if (found := shown(text))] == []
    assert [found for each in warned if (found := shown(str(each.message)))] == []


@pytest.mark.parametrize("fate", ["whole", "refuse"])
def test_no_log_record_of_ones_own_client_shows_a_secret(fate: str, echo: Echo) -> None:
    with heard() as texts, httpx.Client() as own:
        for kind in KINDS:
            if kind.ask:
                model = kind.make(f"{echo.url}/{fate}", api_key=KEY, **{str(kind.own[0]): own})
                errors_of(lambda kind=kind, model=model: kind.ask(model, 1))  # type: ignore[misc]
    assert any(text.startswith("httpx") for text in texts)
    assert [found for text in texts if (found := shown(text))] == []


# LangChain


class Everything(BaseCallbackHandler):
    """Keeps all that it is told."""

    raise_error = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *args, **kwargs: self.told.append((name, args, kwargs))
        return super().__getattribute__(name)


LC = [kind for kind in KINDS if kind.name in ("lc-chat", "lc-completions")]


@pytest.mark.parametrize("fate", ["whole", "refuse", "mirror-401", "broken"])
@pytest.mark.parametrize("kind", LC, ids=str)
def test_langchains_callbacks_runs_and_events(kind: Kind, fate: str, echo: Echo) -> None:
    model = kind.make(f"{echo.url}/{fate}", api_key=KEY)
    ears, runs = Everything(), RunCollectorCallbackHandler()
    config: Any = {"callbacks": [ears, runs], "metadata": {"a": "b"}, "tags": ["c"]}
    chain = RunnableLambda(lambda text: text) | model
    events: list[Any] = []

    async def watch() -> None:
        async for event in chain.astream_events("marker-1", config, version="v2"):
            events.append(event)  # noqa: PERF401 - those before an error, too

    async def call() -> None:
        await model.ainvoke("marker-1", config)

    errors_of(
        lambda: chain.invoke("marker-1", config),
        lambda: list(chain.stream("marker-1", config)),
        lambda: asyncio.run(call()),
        lambda: asyncio.run(watch()),
    )
    assert ears.told
    assert events
    for each in (*ears.told, *events, *(run.model_dump() for run in runs.traced_runs)):
        assert [found for text in deeply(each) if (found := shown(text))] == []


@pytest.mark.parametrize("fate", ["whole", "refuse"])
def test_a_picture_in_langchains_messages_is_in_what_was_asked_and_in_nothing_else(fate: str, echo: Echo) -> None:
    """LangChain hands the caller's messages to who watches: the answer's side, and the key, are ours to keep clean."""
    chat = lc.ChatPredictionGuard("m", api_key=KEY, base_url=f"{echo.url}/{fate}", max_retries=0)
    ears = Everything()
    message = HumanMessage(
        [{"type": "image_url", "image_url": {"url": DATA_URI}}, {"type": "text", "text": "marker-1"}]
    )
    errors_of(lambda: chat.invoke([message], {"callbacks": [ears]}))
    for name, args, kwargs in ears.told:
        given = args[0] if name == "on_chat_model_start" else (args, kwargs)
        assert [found for text in deeply((given, kwargs)) if (found := shown(text))] == [], name
    assert [name for name, *_ in ears.told][:1] == ["on_chat_model_start"]


def test_langchains_debug_mode(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    set_debug(True)
    try:
        errors_of(*texts_asked(f"{echo.url}/mirror-401"), *texts_asked(f"{echo.url}/whole"))
    finally:
        set_debug(False)
    out, err = capsys.readouterr()
    assert "llm/start" in out
    assert shown(out + err) == []


# LlamaIndex


class Watch(BaseEventHandler):
    events: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        return "Watch"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)


class Spans(SimpleSpanHandler):
    heard: ClassVar[list[Any]] = []

    def new_span(self, *args: Any, **kwargs: Any) -> Any:
        self.heard.append((args, kwargs))
        return super().new_span(*args, **kwargs)

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> Any:
        self.heard.append((args, kwargs))
        return super().prepare_to_drop_span(*args, **kwargs)

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> Any:
        self.heard.append((args, kwargs))
        return super().prepare_to_exit_span(*args, **kwargs)


@pytest.mark.parametrize("fate", ["whole", "refuse", "mirror-401", "broken"])
def test_llama_indexs_events_spans_and_payloads(fate: str, echo: Echo) -> None:
    """The key is in none of them; images are, as they are the caller's messages."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    root, watch, spans = get_dispatcher(), Watch(events=[]), Spans()
    before = list(root.event_handlers), list(root.span_handlers)
    Spans.heard.clear()
    root.add_event_handler(watch)
    root.add_span_handler(spans)
    try:
        url = f"{echo.url}/{fate}"
        works = pictures_asked(url)
        for kind in KINDS:
            if kind.name.startswith("li-"):
                model = kind.make(url, api_key=KEY, callback_manager=CallbackManager([debug]))
                errors_of(lambda kind=kind, model=model: kind.ask(model, 1))  # type: ignore[misc]
        errors_of(*works)
    finally:
        root.event_handlers, root.span_handlers = before
    payloads = [event.payload for pair in debug.get_event_pairs() for event in pair]
    assert payloads
    assert len(watch.events) > 10
    # A span has the object that is called; what is in that is looked at where objects are (`test_objects`).
    told = [list(deeply(args, 2)) for args in Spans.heard]
    Spans.heard.clear()  # which holds the models, and these their connections
    for texts in (
        *told,
        *(list(deeply(event, 3)) for event in watch.events),
        *(list(deeply(each, 3)) for each in payloads),
    ):
        assert [found for text in texts if (found := shown(text, pictures=False))] == []


def test_the_wings_have_nothing_else_to_say(echo: Echo) -> None:
    """One logger for all: the adapters translate, and what is told of a call is told where it is made."""
    with heard() as texts:
        errors_of(*texts_asked(f"{echo.url}/whole"))
    names = {text.split(" ", 1)[0].split(".")[0] for text in texts}
    assert "predictionguard_core" in names
    assert not names & {lc.__name__, li.__name__}
