"""Prediction Guard's vision models for LlamaIndex's older multimodal interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
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

from llama_index_predictionguard.base import ChatComponent
from llama_index_predictionguard.image_sources import ImageLike
from llama_index_predictionguard.messages import ato_api, prompt_to_api, to_api

Images = Sequence[ImageLike] | ImageLike | None


class PredictionGuardMultiModal(ChatComponent, MultiModalLLM):
    """Vision models of Prediction Guard for code that calls `complete(prompt, image_documents)`.

    New code should use `PredictionGuard`, an `LLM` that accepts `ImageBlock`: LlamaIndex has deprecated this
    interface. Arguments, answers and errors are the same as there; only `strict` is missing.

    `image_documents` is one image or several: `ImageNode`, `ImageDocument`, `ImageBlock`, `PIL.Image.Image`, bytes, an
    open file or a `Path`. The text of a node precedes its image. A node that has only `metadata["file_path"]` needs
    that path to be below `ImagePolicy.local_roots`.

    Instantiate:
        .. code-block:: python

            from llama_index_predictionguard import PredictionGuardMultiModal

            llm = PredictionGuardMultiModal("Qwen2.5-VL-7B-Instruct")

    Complete:
        .. code-block:: python

            from llama_index.core.schema import ImageDocument

            llm.complete("What is in this image?", [ImageDocument(image_path="cat.jpg")]).text

        .. code-block:: text

            'A cat that looks at the camera.'

    Stream:
        .. code-block:: python

            for chunk in llm.stream_complete("Count to three", []):
                print(chunk.delta, end="|")

    Async:
        .. code-block:: python

            response = await llm.acomplete("What is in this image?", [ImageDocument(image_path="cat.jpg")])
    """

    _IMAGES_REMEDY: ClassVar[str] = "did you mean image_documents?"

    # MultiModalLLM lacks this field, which LlamaIndex's callback decorators read.
    rate_limiter: Any | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that identifies this class in serialized objects.

        LlamaIndex warns about a multimodal LLM without "multi" in its name.
        """
        return "predictionguard_multi_modal_llm"

    @property
    def metadata(self) -> MultiModalLLMMetadata:
        """Facts about the model that LlamaIndex asks for. `context_window` and `num_output` are in tokens."""
        return MultiModalLLMMetadata(**self._metadata(), num_input_files=self._policy.max_images)

    def complete(self, prompt: str, image_documents: Images = None, **kwargs: Any) -> CompletionResponse:
        """Send a prompt with images and return the whole answer. `kwargs` are options that override the model's."""
        return chat_response_to_completion_response(self._chat(prompt_to_api(prompt, image_documents), kwargs))

    async def acomplete(self, prompt: str, image_documents: Images = None, **kwargs: Any) -> CompletionResponse:
        """Asynchronous version of `complete`."""
        return chat_response_to_completion_response(await self._achat(prompt_to_api(prompt, image_documents), kwargs))

    def stream_complete(self, prompt: str, image_documents: Images = None, **kwargs: Any) -> CompletionResponseGen:
        """Send a prompt with images and return the answer as it is produced; one chunk unless `vision_streaming`."""
        chunks = self._stream_chat(prompt_to_api(prompt, image_documents), kwargs)
        return stream_chat_response_to_completion_response(chunks)

    async def astream_complete(
        self, prompt: str, image_documents: Images = None, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Asynchronous version of `stream_complete`."""
        chunks = self._astream_chat(prompt_to_api(prompt, image_documents), kwargs)
        return astream_chat_response_to_completion_response(chunks)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Send messages and return the whole answer. `kwargs` are options that override the model's."""
        return self._chat(to_api(messages, self._policy), kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Asynchronous version of `chat`."""
        return await self._achat(await ato_api(messages, self._policy), kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Send messages and return the answer as it is produced: each response has `delta` and the message so far."""
        return self._stream_chat(to_api(messages, self._policy), kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Asynchronous version of `stream_chat`."""
        return self._astream_chat(await ato_api(messages, self._policy), kwargs)
