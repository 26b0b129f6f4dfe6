"""Prediction Guard's vision models as the multimodal LLM of LlamaIndex's older interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from llama_index.core.base.llms.generic_utils import (
    chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.multi_modal_llms.base import MultiModalLLM, MultiModalLLMMetadata
from pydantic import Field

from llama_index_predictionguard.image_sources import Picture
from llama_index_predictionguard.messages import ato_completions, prompt_to_wire, to_completions, to_wire
from llama_index_predictionguard.options import ChatOptions
from llama_index_predictionguard.traces import given, marked

if TYPE_CHECKING:
    from llama_index_predictionguard import arguments


@marked
class PredictionGuardMultiModal(ChatOptions, MultiModalLLM):
    """A vision model of Prediction Guard's for code that asks with `complete(prompt, image_documents)`.

    New code takes `PredictionGuard`, an `LLM` that takes `ImageBlock`: this interface is retired in LlamaIndex. The
    arguments, the answers and the errors are the same as there.

    A picture is an `ImageNode`, an `ImageDocument` or an `ImageBlock`; a node's text, if it has any, goes before its
    picture. A node that has only `metadata["file_path"]` needs that path to be below `ImagePolicy.local_roots`.

    Example:
        >>> from llama_index.core.schema import ImageDocument
        >>> from llama_index_predictionguard import PredictionGuardMultiModal
        >>> llm = PredictionGuardMultiModal("Qwen2.5-VL-7B-Instruct")
        >>> llm.complete("What is in this picture?", [ImageDocument(image_path="photo.jpg")]).text
    """

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Options]) -> None: ...

    # The base class lacks this member and the next, which LlamaIndex's own callbacks read.
    rate_limiter: Any | None = Field(default=None, exclude=True)

    def to_payload(self) -> dict[str, Any]:
        """What events and callbacks may show of this model."""
        return {"class_name": self.class_name(), **self.metadata.model_dump()}

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this class down."""
        return "PredictionGuardMultiModal"

    @property
    def metadata(self) -> MultiModalLLMMetadata:
        """What LlamaIndex asks about the model. `context_window` and `num_output` are in tokens."""
        return MultiModalLLMMetadata(**self._limits(), num_input_files=self.images.max_images)

    def complete(
        self, prompt: str, image_documents: Sequence[Picture] | None = None, **kwargs: Any
    ) -> CompletionResponse:
        """Ask about pictures, and wait for the whole answer. `kwargs` are options that override the model's."""
        return chat_response_to_completion_response(self._ask(prompt_to_wire(prompt, given(image_documents)), kwargs))

    async def acomplete(
        self, prompt: str, image_documents: Sequence[Picture] | None = None, **kwargs: Any
    ) -> CompletionResponse:
        """`complete`, asynchronous."""
        return chat_response_to_completion_response(
            await self._aask(prompt_to_wire(prompt, given(image_documents)), kwargs)
        )

    def stream_complete(
        self, prompt: str, image_documents: Sequence[Picture] | None = None, **kwargs: Any
    ) -> CompletionResponseGen:
        """Ask about pictures, and get the answer as it is produced; in one chunk unless `vision_streaming`."""
        chunks = self._ask_stream(prompt_to_wire(prompt, given(image_documents)), kwargs)
        return to_completions(chunks)

    async def astream_complete(
        self, prompt: str, image_documents: Sequence[Picture] | None = None, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronous."""
        chunks = self._aask_stream(prompt_to_wire(prompt, given(image_documents)), kwargs)
        return ato_completions(chunks)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer. `kwargs` are options that override the model's."""
        return self._ask(to_wire(given(messages)), kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronous."""
        return await self._aask(to_wire(given(messages)), kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and get the answer as it is produced: each response has the `delta` and the message so far."""
        return self._ask_stream(to_wire(given(messages)), kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronous."""
        return self._aask_stream(to_wire(given(messages)), kwargs)
