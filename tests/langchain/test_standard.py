"""LangChain's own suites, in full, against the sandbox.

What is switched off, and why: audio and video, which the endpoint has no content part for. What the suites want "from
the internet" comes from this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.load import load
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from langchain_tests.unit_tests import chat_models as unit_suite
from PIL import Image

from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings
from predictionguard_core.sandbox import Sandbox
from tests.image_helpers import pdf, serve_publicly

VISION = "Qwen2.5-VL-7B-Instruct"
REASONING = "gpt-oss-120b"
PHOTO = Path(__file__).parents[2] / "notebooks" / "photos" / "coffee.jpg"
ENVIRONMENT = {"PREDICTIONGUARD_API_KEY": "key", "PREDICTIONGUARD_URL": "https://pg.example.com/v1"}
FROM_ENVIRONMENT = {"api_key": "key", "base_url": "https://pg.example.com/v1"}

_box = Sandbox()


@pytest.fixture(scope="module", autouse=True)
def box() -> Iterator[Sandbox]:
    with _box:
        yield _box


class Abilities:
    """Settings of both suites of chat models."""

    chat_model_class: type[BaseChatModel] = ChatPredictionGuard
    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    supports_anthropic_inputs = True
    supports_model_override = True
    model_override_value = REASONING


class TestChatModelUnit(Abilities, ChatModelUnitTests):  # type: ignore[misc]
    chat_model_params = {"model": VISION, "api_key": "key"}
    init_from_env_params = (ENVIRONMENT, {"model": VISION}, FROM_ENVIRONMENT)

    @pytest.fixture(autouse=True)
    def _allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # `load` takes classes outside of LangChain only from a list; the suite has no place for one.
        def load_ours(dumped: Any, **options: Any) -> Any:
            return load(dumped, **{**options, "allowed_objects": [ChatPredictionGuard]})

        monkeypatch.setattr(unit_suite, "load", load_ours)


class TestChatModelIntegration(Abilities, ChatModelIntegrationTests):  # type: ignore[misc]
    supported_usage_metadata_details: Any = {
        "invoke": ["cache_read_input", "reasoning_output"],
        "stream": ["cache_read_input", "reasoning_output"],
    }

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": VISION, "api_key": "key", "base_url": _box.url}

    @pytest.fixture(autouse=True)
    def _internet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        photo, document = PHOTO.read_bytes(), pdf(Image.new("RGB", (300, 400), "orange"))

        def get(url: str, **_: Any) -> httpx.Response:
            return httpx.Response(200, content=document if url.endswith(".pdf") else photo)

        monkeypatch.setattr(suite.httpx, "get", get)
        serve_publicly(monkeypatch, photo)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> Any:
        chat = ChatPredictionGuard(**self.chat_model_params)
        prompt = "The same long beginning is counted once, and read from the cache the second time. " * 20
        chat.invoke(prompt)
        return _asked(chat, prompt, stream)

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> Any:
        chat = ChatPredictionGuard(**{**self.chat_model_params, "model": REASONING})
        return _asked(chat, "Think about Vienna.", stream)


def _asked(chat: ChatPredictionGuard, prompt: str, stream: bool) -> Any:
    if not stream:
        return chat.invoke(prompt)
    whole: Any = None
    for chunk in chat.stream(prompt):
        whole = chunk if whole is None else whole + chunk
    return whole


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    embeddings_class: type[Embeddings] = PredictionGuardEmbeddings
    embedding_model_params = {"model": "bge-m3", "api_key": "key"}
    init_from_env_params = (ENVIRONMENT, {"model": "bge-m3"}, FROM_ENVIRONMENT)


class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    embeddings_class: type[Embeddings] = PredictionGuardEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "bge-m3", "api_key": "key", "base_url": _box.url}
