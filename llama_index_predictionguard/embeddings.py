"""Prediction Guard's embeddings of texts and pictures for LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode
from pydantic import Field, SecretStr

from llama_index_predictionguard import spans, traces
from llama_index_predictionguard.connection import HttpAsyncClient, HttpClient, Seeing
from llama_index_predictionguard.image_sources import image_source, is_picture
from predictionguard_core import settings
from predictionguard_core.api.embeddings import MAX_INPUTS, EmbeddingInput, EmbeddingRequest
from predictionguard_core.errors import ConfigurationError, ContentError
from predictionguard_core.images.policy import ImagePolicy

_NAMES = ("model", "model_name")


@spans.marked
class PredictionGuardEmbedding(Seeing, MultiModalEmbedding):
    """Texts and pictures as vectors; with a model that takes both, in one space.

    Args:
        model: The model's name, also as `model_name`: "bge-m3" for texts, "bridgetower-large-itm-mlm-itc" for texts and
            pictures together.
        api_key: Default: the environment's PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment's PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds that one attempt may take as a whole.
        max_retries: What may come after the first attempt.
        embed_batch_size: Inputs that LlamaIndex hands over at once. No request holds more than 30, which is how many
            the endpoint's own client sent; any number may be embedded, and the vectors come in the inputs' order.
        images: `ImagePolicy`, or a dict of its fields: where pictures may come from, how large they may be, what is
            done to them.
        truncate: Whether texts that are too long are cut. Not for models that take pictures.
        truncation_direction: Which end is cut, "Left" or "Right".
        http_client, async_http_client: Your own httpx clients; used as they are and never closed.

    The fields of LlamaIndex's `BaseEmbedding` (`num_workers`, `embeddings_cache` and so on) are taken, too. Making one
    touches no network.

    A picture is a path (`str` or `pathlib.Path`), an open binary file, bytes, an http(s) address, a data URI, base64,
    an `ImageNode`, an `ImageDocument` or an `ImageBlock`. As part of a pipeline, a node that holds a picture and no
    text gets the vector of its picture, every other node that of its text.

    Errors are those of `predictionguard_core.errors`; in a `ContentError`, `block_index` is the picture's place in the
    list that was given.

    Example:
        >>> from llama_index_predictionguard import PredictionGuardEmbedding
        >>> embedding = PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc")
        >>> embedding.get_image_embedding("cat.jpg"), embedding.get_query_embedding("a cat")
    """

    embed_batch_size: int = Field(default=MAX_INPUTS, gt=0, le=2048)
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None

    def __init__(
        self,
        model: str | None = None,
        *,
        model_name: str | None = None,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        timeout: float | None = settings.DEFAULT_TIMEOUT,
        max_retries: int | None = settings.DEFAULT_MAX_RETRIES,
        embed_batch_size: int = MAX_INPUTS,
        images: ImagePolicy | dict[str, Any] | None = None,
        truncate: bool | None = None,
        truncation_direction: Literal["Left", "Right"] | None = None,
        http_client: HttpClient | None = None,
        async_http_client: HttpAsyncClient | None = None,
        **framework: Any,
    ) -> None:
        if model and model_name and model != model_name:
            raise ConfigurationError("model and model_name are two names of one thing; give one of them")
        name = model or model_name or ""
        super().__init__(
            model=name,
            model_name=name,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            embed_batch_size=embed_batch_size,
            images=ImagePolicy() if images is None else images,
            truncate=truncate,
            truncation_direction=truncation_direction,
            http_client=http_client,
            async_http_client=async_http_client,
            **framework,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        for each in _NAMES if name in _NAMES else (name,):
            super().__setattr__(each, value)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this class down."""
        return "PredictionGuardEmbedding"

    # Texts

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aget_text_embeddings([query]))[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._client().embed(self._request(list(texts)))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await self._async_client().embed(self._request(list(texts)))

    # Pictures. The base class shows what it is handed to callbacks: something that stands for the picture.

    def get_image_embedding(self, img_file_path: Any) -> Embedding:
        """The vector of a picture."""
        return super().get_image_embedding(traces.Handed(0, img_file_path))

    async def aget_image_embedding(self, img_file_path: Any) -> Embedding:
        """`get_image_embedding`, asynchronous."""
        return await super().aget_image_embedding(await asyncio.to_thread(traces.Handed, 0, img_file_path))

    def get_image_embedding_batch(self, img_file_paths: Sequence[Any], show_progress: bool = False) -> list[Embedding]:
        """A vector for each picture, in their order."""
        return super().get_image_embedding_batch([*traces.handed(_listed(img_file_paths))], show_progress)

    async def aget_image_embedding_batch(
        self, img_file_paths: Sequence[Any], show_progress: bool = False
    ) -> list[Embedding]:
        """`get_image_embedding_batch`, asynchronous."""
        handed = await asyncio.to_thread(traces.handed, _listed(img_file_paths))
        return await super().aget_image_embedding_batch([*handed], show_progress)

    def _get_image_embedding(self, img_file_path: Any) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: Any) -> Embedding:
        return (await self._aget_image_embeddings([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[Embedding]:
        try:
            return self._client().embed(self._request(_inputs(img_file_paths)))
        except ContentError as error:
            raise _placed(error, img_file_paths) from None

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[Embedding]:
        try:
            return await self._async_client().embed(self._request(_inputs(img_file_paths)))
        except ContentError as error:
            raise _placed(error, img_file_paths) from None

    # As part of a pipeline. The base class would show who watches the nodes once more.

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Give each node its vector: of its picture if that is all it holds, else of its text."""
        pictures, others = _parted(nodes)
        _settle(others, self.get_text_embedding_batch(_texts(others), **kwargs))
        _settle(pictures, self.get_image_embedding_batch(pictures, **kwargs))
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__`, asynchronous."""
        pictures, others = _parted(nodes)
        _settle(others, await self.aget_text_embedding_batch(_texts(others), **kwargs))
        _settle(pictures, await self.aget_image_embedding_batch(pictures, **kwargs))
        return nodes

    def _request(self, inputs: list[str] | list[EmbeddingInput]) -> EmbeddingRequest:
        return EmbeddingRequest(
            model=self.model,
            input=inputs,
            truncate=self.truncate,
            truncation_direction=self.truncation_direction,
        )


def _parted(nodes: Sequence[BaseNode]) -> tuple[list[BaseNode], list[BaseNode]]:
    return [node for node in nodes if is_picture(node)], [node for node in nodes if not is_picture(node)]


def _texts(nodes: Sequence[BaseNode]) -> list[str]:
    return [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _settle(nodes: Sequence[BaseNode], vectors: Sequence[Embedding]) -> None:
    for node, vector in zip(nodes, vectors, strict=True):
        node.embedding = vector


def _listed(pictures: Sequence[Any]) -> Sequence[Any]:
    if isinstance(pictures, str | bytes | Path) or not isinstance(pictures, Iterable):
        raise ContentError("a batch is a list of pictures; for one there is get_image_embedding")
    return pictures


def _inputs(handed: Sequence[Any]) -> list[EmbeddingInput]:
    inputs = []
    for index, each in enumerate(handed):
        try:
            inputs.append(EmbeddingInput(image=image_source(traces.given(each))))
        except ContentError as error:
            raise error.with_location(None, index) from None
    return inputs


def _placed(error: ContentError, handed: Sequence[Any]) -> ContentError:
    """The error with the picture's place in the list that the caller gave, of which `handed` is a part."""
    at = error.block_index
    if at is not None and isinstance(handed[at], traces.Handed):
        error.block_index = handed[at].place
    return error
