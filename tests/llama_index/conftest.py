"""The sandbox on a real socket, and models that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler

from llama_index_predictionguard import PredictionGuard, PredictionGuardMultiModal
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"
KEY = "sk-not-to-be-seen"
VISION = "Qwen2.5-VL-7B-Instruct"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREDICTIONGUARD_API_KEY", "PREDICTIONGUARD_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[Sandbox]:
    with Sandbox(api_key=KEY) as box:
        yield box


@pytest.fixture
def box(server: Sandbox) -> Sandbox:
    server.clear()
    return server


@pytest.fixture
def make(box: Sandbox) -> Callable[..., PredictionGuard]:
    def make(model: str = VISION, **options: Any) -> PredictionGuard:
        return PredictionGuard(model, **{"api_key": KEY, "base_url": box.url, "max_retries": 0, **options})

    return make


@pytest.fixture
def llm(make: Callable[..., PredictionGuard]) -> PredictionGuard:
    return make()


@pytest.fixture
def make_multi(box: Sandbox) -> Callable[..., PredictionGuardMultiModal]:
    def make(model: str = VISION, **options: Any) -> PredictionGuardMultiModal:
        return PredictionGuardMultiModal(model, **{"api_key": KEY, "base_url": box.url, "max_retries": 0, **options})

    return make


@pytest.fixture(scope="session")
def photos() -> Path:
    return PHOTOS


@pytest.fixture(scope="session")
def cat() -> bytes:
    return (PHOTOS / "cat.jpg").read_bytes()


class Observer(BaseEventHandler):
    """Record all events, and the arguments of all calls that `CallRecorder` sees."""

    events: list[Any] = []
    calls: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        return "Observer"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[Any]:
        return [event for event in self.events if event.class_name() == name]


class CallRecorder(SimpleSpanHandler):
    """Record the arguments of all calls."""

    recorded: list[Any] = []

    def new_span(self, id_: str, bound_args: Any, *args: Any, **kwargs: Any) -> Any:
        self.recorded.append((id_.partition("-")[0], bound_args))
        return super().new_span(id_, bound_args, *args, **kwargs)


@pytest.fixture
def observer() -> Iterator[Observer]:
    """Record the events and calls that LlamaIndex reports during a test."""
    root = get_dispatcher()
    observer, recorder = Observer(), CallRecorder()
    observer.calls = recorder.recorded
    before = list(root.event_handlers), list(root.span_handlers)
    root.add_event_handler(observer)
    root.add_span_handler(recorder)
    yield observer
    root.event_handlers, root.span_handlers = before
