"""LangChain's own suite of unit tests."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_predictionguard import ChatPredictionGuard


class TestChatPredictionGuardUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatPredictionGuard

    @property
    def chat_model_params(self) -> dict[str, object]:
        return {"model": "Qwen2.5-VL-7B-Instruct", "api_key": "key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, object], dict[str, object]]:
        return (
            {"PREDICTIONGUARD_API_KEY": "key", "PREDICTIONGUARD_URL": "https://pg.example.com/v1"},
            {"model": "Qwen2.5-VL-7B-Instruct"},
            {"api_key": "key", "base_url": "https://pg.example.com/v1"},
        )

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return False  # the endpoint documents no response_format
