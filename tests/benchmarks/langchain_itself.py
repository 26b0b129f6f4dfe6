"""A model of LangChain's that knows its answer: what is left is what LangChain itself costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from tests.benchmarks.rows import CHUNKS, KNOWN_ANSWER


class Constant(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "constant"

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(KNOWN_ANSWER))])

    async def _agenerate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(self, messages: Any, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for _number in range(CHUNKS):
            yield ChatGenerationChunk(message=AIMessageChunk(content=" word", id="one"))
