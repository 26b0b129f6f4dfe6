"""A stand-in API on a real socket, and models that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
