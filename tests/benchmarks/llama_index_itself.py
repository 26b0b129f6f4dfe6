"""An LLM of LlamaIndex's that knows its answer: what is left is what LlamaIndex itself costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.custom import CustomLLM

from tests.benchmarks.rows import CHUNKS, KNOWN_ANSWER


class Constant(CustomLLM):
    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("only chats are measured")

    stream_complete = complete

    @llm_chat_callback()
    def chat(self, messages: Any, **_: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(role="assistant", content=KNOWN_ANSWER))

    @llm_chat_callback()
    async def achat(self, messages: Any, **_: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(role="assistant", content=KNOWN_ANSWER))

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **_: Any) -> Any:
        def chunks() -> Iterator[ChatResponse]:
            text = ""
            for _number in range(CHUNKS):
                text += " word"
                yield ChatResponse(message=ChatMessage(role="assistant", content=text), delta=" word")

        return chunks()
