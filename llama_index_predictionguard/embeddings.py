"""Prediction Guard's text and image embeddings for LlamaIndex."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode
from pydantic import Field, model_validator

from llama_index_predictionguard.base import ImageComponent
from llama_index_predictionguard.image_sources import image_source, is_image_node
from predictionguard_core.api.embeddings import MAX_INPUTS, EmbeddingInput, EmbeddingRequest
from predictionguard_core.client import DEFAULT_MAX_CONCURRENCY
from predictionguard_core.errors import ConfigurationError, ContentError

_NAMES = ("model", "model_name")


class PredictionGuardEmbedding(ImageComponent, MultiModalEmbedding):
    """Embeddings of texts and images; with a model that accepts both, in one space.

    Args:
        model: Name of the model, also as `model_name`: "bge-m3" for texts, "bridgetower-large-itm-mlm-itc" for texts
            and images.
        api_key, base_url, timeout, max_retries, default_headers, http_client, async_http_client: As for
            `PredictionGuard`.
        embed_batch_size: Number of inputs that LlamaIndex passes on at once. They go out in requests of at most 30
            inputs, or `ImagePolicy.max_images` images.
        max_concurrency: Number of requests of one batch that are sent side by side.
        images: `ImagePolicy`, or a dict of its fields: which images are accepted, and what is done to them.
        truncate: Whether texts that are too long are truncated. Not for models that accept images.
        truncation_direction: Which end is truncated, "Left" or "Right".
        rate_limiter: A LlamaIndex rate limiter, asked before each request.

    The fields of LlamaIndex's `BaseEmbedding` (`num_workers`, `embeddings_cache`, …) are accepted too. Creating an
    embedding touches no network.

    An image is a path (`str` or `Path`), an open binary file, bytes, a URL, a data URI, base64, a `PIL.Image.Image`,
    an `ImageNode`, an `ImageDocument` or an `ImageBlock`. In a pipeline, a node with an image and no text gets the
    embedding of its image, every other node that of its text.

    The cache of `IngestionPipeline` can't tell images without metadata apart: give each of them metadata, such as
    `file_name`, or pass `disable_cache=True` to the pipeline.

    Errors are those of `predictionguard_core.errors`; `block_index` of a `ContentError` is the image's index in the
    list.

    Instantiate:
        .. code-block:: python

            from llama_index_predictionguard import PredictionGuardEmbedding

            embedding = PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc")

    Embed:
        .. code-block:: python

            texts = embedding.get_text_embedding_batch(["a cat", "a dog"])
            image = embedding.get_image_embedding("cat.jpg")
            len(texts), len(image)

        .. code-block:: text

            (2, 512)

    Async:
        .. code-block:: python

            images = await embedding.aget_image_embedding_batch(["cat.jpg", "dog.jpg"])
    """

    embed_batch_size: int = Field(default=2 * DEFAULT_MAX_CONCURRENCY * MAX_INPUTS, gt=0, le=2048)
    max_concurrency: int = Field(default=DEFAULT_MAX_CONCURRENCY, ge=1)
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None

    _ALIASES: ClassVar[dict[str, str]] = {"api_base": "base_url", "model_name": "model"}

    @model_validator(mode="after")
    def _set_model_name(self) -> Self:
        self.model_name = self.model
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        for each in _NAMES if name in _NAMES else (name,):
            super().__setattr__(each, value)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that identifies this class in serialized objects."""
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

    # LlamaIndex asks the rate limiter for one request of each batch of texts, and not at all for images.

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        for _ in range(1, _count_requests(len(texts), MAX_INPUTS)):
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
        return self._client().embed(self._request(list(texts)), max_concurrency=self.max_concurrency)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        for _ in range(1, _count_requests(len(texts), MAX_INPUTS)):
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
        return await self._async_client().embed(self._request(list(texts)), max_concurrency=self.max_concurrency)

    # Images

    def get_image_embedding_batch(self, img_file_paths: Sequence[Any], show_progress: bool = False) -> list[Embedding]:
        """Return an embedding for each image, in their order."""
        images = _list(img_file_paths)
        try:
            return super().get_image_embedding_batch(images, show_progress)
        except _BadImageError as bad:
            error = bad.located(images)
        raise error

    async def aget_image_embedding_batch(
        self, img_file_paths: Sequence[Any], show_progress: bool = False
    ) -> list[Embedding]:
        """Asynchronous version of `get_image_embedding_batch`."""
        images = _list(img_file_paths)
        try:
            return await super().aget_image_embedding_batch(images, show_progress)
        except _BadImageError as bad:
            error = bad.located(images)
        raise error

    def _get_image_embedding(self, img_file_path: Any) -> Embedding:
        return self._embed_images([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: Any) -> Embedding:
        return (await self._aembed_images([img_file_path]))[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[Embedding]:
        try:
            return self._embed_images(img_file_paths)
        except ContentError as error:
            raise _BadImageError(error, img_file_paths) from None

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[Embedding]:
        try:
            return await self._aembed_images(img_file_paths)
        except ContentError as error:
            raise _BadImageError(error, img_file_paths) from None

    def _embed_images(self, images: list[Any]) -> list[Embedding]:
        for _ in range(_count_requests(len(images), min(MAX_INPUTS, self._policy.max_images))):
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
        return self._client().embed(self._request(_inputs(images)), max_concurrency=self.max_concurrency)

    async def _aembed_images(self, images: list[Any]) -> list[Embedding]:
        for _ in range(_count_requests(len(images), min(MAX_INPUTS, self._policy.max_images))):
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
        return await self._async_client().embed(self._request(_inputs(images)), max_concurrency=self.max_concurrency)

    # As part of a pipeline

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of each node: of its image if it has no text, else of its text."""
        images, texts = _split(nodes)
        _set_embeddings(texts, self.get_text_embedding_batch(_contents(texts), **kwargs))
        _set_embeddings(images, self.get_image_embedding_batch(images, **kwargs))
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Asynchronous version of `__call__`."""
        images, texts = _split(nodes)
        _set_embeddings(texts, await self.aget_text_embedding_batch(_contents(texts), **kwargs))
        _set_embeddings(images, await self.aget_image_embedding_batch(images, **kwargs))
        return nodes

    def _request(self, inputs: list[str] | list[EmbeddingInput]) -> EmbeddingRequest:
        options: dict[str, Any] = {"truncate": self.truncate, "truncation_direction": self.truncation_direction}
        try:
            return EmbeddingRequest(model=self.model, input=inputs, **options)
        except ConfigurationError:
            wrong = [each for each in inputs if not isinstance(each, str | EmbeddingInput)]
            if not wrong:
                raise
        raise ConfigurationError(
            f"a text to embed must be a string, got {type(wrong[0]).__name__}: for several texts call "
            "get_text_embedding_batch"
        )


def _split(nodes: Sequence[BaseNode]) -> tuple[list[BaseNode], list[BaseNode]]:
    """Split nodes into those with an image alone and the others."""
    images = [node for node in nodes if is_image_node(node)]
    if any(not node.get_content(metadata_mode=MetadataMode.ALL) for node in images):
        warnings.warn(
            "IngestionPipeline's cache can't tell images without metadata apart and may return the embedding of "
            "another image: give each image metadata such as file_name, or pass disable_cache=True to the pipeline",
            stacklevel=3,
        )
    return images, [node for node in nodes if not is_image_node(node)]


def _contents(nodes: Sequence[BaseNode]) -> list[str]:
    return [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _set_embeddings(nodes: Sequence[BaseNode], embeddings: Sequence[Embedding]) -> None:
    for node, embedding in zip(nodes, embeddings, strict=True):
        node.embedding = embedding


def _count_requests(inputs: int, size: int) -> int:
    return -(-inputs // size)


def _list(images: Sequence[Any]) -> list[Any]:
    if isinstance(images, str | bytes | Path) or not isinstance(images, Iterable):
        raise ContentError("pass a list of images; for one image, call get_image_embedding")
    return list(images)


def _inputs(images: Sequence[Any]) -> list[EmbeddingInput]:
    inputs = []
    for index, image in enumerate(images):
        try:
            inputs.append(EmbeddingInput(image=image_source(image)))
        except ContentError as error:
            raise error.with_location(None, index) from None
    return inputs


class _BadImageError(Exception):
    """Carries an error out of LlamaIndex's loop over batches, to where the whole list is known."""

    def __init__(self, error: ContentError, batch: list[Any]) -> None:
        super().__init__(str(error))
        self._error = error
        self._image = None if error.block_index is None else batch[error.block_index]

    def located(self, images: list[Any]) -> ContentError:
        """Return the error with the image's index in `images`."""
        if self._error.block_index is not None:
            self._error.block_index = next(index for index, image in enumerate(images) if image is self._image)
        return self._error
