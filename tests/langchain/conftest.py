from __future__ import annotations

from collections.abc import Iterator

import pytest

from langchain_predictionguard import ChatPredictionGuard
from predictionguard_core.sandbox import Sandbox

VISION = "Qwen2.5-VL-7B-Instruct"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture
def chat(box: Sandbox) -> Iterator[ChatPredictionGuard]:
    chat = ChatPredictionGuard(VISION, api_key="key-of-the-tests", base_url=box.url)
    yield chat
    chat.close()
