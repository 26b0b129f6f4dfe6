"""Embeddings of texts and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from pydantic import Field

from langchain_predictionguard.base import CONFIG, ServiceModel
from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.errors import ContentError


class PredictionGuardEmbeddings(ServiceModel, Embeddings):
    """Embedding model for texts and images.

    Setup:
        Install the package and set the API key:

        ```bash
        pip install "predictionguard-integrations[langchain]"
        export PREDICTIONGUARD_API_KEY="your-api-key"
        ```

    Args:
        model: Name of the model: "bge-m3" for texts, "bridgetower-large-itm-mlm-itc" for texts and images together.
            `list_models("embedding")` and `list_models("embedding-with-image")` list those of the account.
        truncate: Whether texts that are too long are cut. Not for models that take images.
        truncation_direction: Which end is cut, "Left" or "Right".
        max_concurrency: Number of requests at once, where the inputs take several.
        api_key, base_url, timeout, max_retries, images, default_headers, http_client, http_async_client: See
            `ChatPredictionGuard`.

    Instantiate:
        ```python
        from langchain_predictionguard import PredictionGuardEmbeddings

        embeddings = PredictionGuardEmbeddings("bridgetower-large-itm-mlm-itc")
        ```

    Embed texts:
        ```python
        embeddings.embed_query("a cat")
        embeddings.embed_documents(["a cat", "a cup of coffee"])
        ```

        ```text
        [0.021, -0.043, ...]
        [[0.021, -0.043, ...], [0.017, 0.008, ...]]
        ```

    Embed images:
        ```python
        from pathlib import Path

        embeddings.embed_images([Path("cat.jpg"), "https://example.com/coffee.jpg"])
        ```

        ```text
        [[0.019, -0.038, ...], [0.015, 0.011, ...]]
        ```

    Async:
        ```python
        await embeddings.aembed_documents(["a cat", "a cup of coffee"])
        ```
    """

    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None
    max_concurrency: int = Field(default=8, ge=1)

    model_config = CONFIG

    def embed_documents(self, texts: list[str], *, extra_headers: dict[str, str] | None = None) -> list[list[float]]:
        """Return a vector for each text."""
        with langchain_errors():
            return self._embed(_as_list(texts), extra_headers)

    async def aembed_documents(
        self, texts: list[str], *, extra_headers: dict[str, str] | None = None
    ) -> list[list[float]]:
        """Async version of `embed_documents`."""
        with langchain_errors():
            return await self._aembed(_as_list(texts), extra_headers)

    def embed_query(self, text: str, *, extra_headers: dict[str, str] | None = None) -> list[float]:
        """Return the vector of one text."""
        return self.embed_documents(_one(text), **_headers(extra_headers))[0]

    async def aembed_query(self, text: str, *, extra_headers: dict[str, str] | None = None) -> list[float]:
        """Async version of `embed_query`."""
        return (await self.aembed_documents(_one(text), **_headers(extra_headers)))[0]

    def embed_images(self, images: Sequence[Any], *, extra_headers: dict[str, str] | None = None) -> list[list[float]]:
        """Return a vector for each image.

        An image may be a data URI, base64, an http(s) URL, bytes, a `pathlib.Path`, an open binary file, a PIL image,
        an `Image`, or an image block of a message. In an error, `block_index` is the image's position in the list.
        """
        return self.embed_image_text(_images(images), extra_headers=extra_headers)

    async def aembed_images(
        self, images: Sequence[Any], *, extra_headers: dict[str, str] | None = None
    ) -> list[list[float]]:
        """Async version of `embed_images`."""
        return await self.aembed_image_text(_images(images), extra_headers=extra_headers)

    def embed_image(self, uris: Sequence[Any], *, extra_headers: dict[str, str] | None = None) -> list[list[float]]:
        """Return a vector for each image, as LangChain's vector stores (Chroma, LanceDB) ask for them.

        As they do, it takes strings that are neither a URL nor base64 as paths of files.
        """
        return self.embed_images(_paths(uris), extra_headers=extra_headers)

    async def aembed_image(
        self, uris: Sequence[Any], *, extra_headers: dict[str, str] | None = None
    ) -> list[list[float]]:
        """Async version of `embed_image`."""
        return await self.aembed_images(_paths(uris), extra_headers=extra_headers)

    def embed_image_text(
        self, inputs: Sequence[Mapping[str, Any]], *, extra_headers: dict[str, str] | None = None
    ) -> list[list[float]]:
        """Return a vector for each dict of a `text`, an `image`, or both."""
        with langchain_errors():
            return self._embed(_inputs(inputs), extra_headers)

    async def aembed_image_text(
        self, inputs: Sequence[Mapping[str, Any]], *, extra_headers: dict[str, str] | None = None
    ) -> list[list[float]]:
        """Async version of `embed_image_text`."""
        with langchain_errors():
            return await self._aembed(_inputs(inputs), extra_headers)

    def _embed(
        self, inputs: list[str] | list[EmbeddingInput], extra_headers: dict[str, str] | None
    ) -> list[list[float]]:
        request = self._request(inputs)
        return self._sync.embed(request, max_concurrency=self.max_concurrency, extra_headers=extra_headers)

    async def _aembed(
        self, inputs: list[str] | list[EmbeddingInput], extra_headers: dict[str, str] | None
    ) -> list[list[float]]:
        request = self._request(inputs)
        return await self._async.embed(request, max_concurrency=self.max_concurrency, extra_headers=extra_headers)

    def _request(self, inputs: list[str] | list[EmbeddingInput]) -> EmbeddingRequest:
        return EmbeddingRequest(
            model=self.model,
            input=inputs,
            truncate=self.truncate,
            truncation_direction=self.truncation_direction,
        )


def _headers(extra_headers: dict[str, str] | None) -> dict[str, Any]:
    # A subclass may override `embed_documents` with LangChain's own signature, which has no headers.
    return {} if extra_headers is None else {"extra_headers": extra_headers}


def _one(text: str) -> list[str]:
    if not isinstance(text, str):
        with langchain_errors():
            raise ContentError(
                f"embed_query takes one string, got {type(text).__name__}; for several there is embed_documents"
            )
    return [text]


def _as_list(texts: list[str]) -> list[str]:
    if isinstance(texts, str):  # a list of its characters, as far as Python knows
        raise ContentError("embed_documents takes a list of strings; for one string there is embed_query")
    return list(texts)


def _images(images: Sequence[Any]) -> list[dict[str, Any]]:
    with langchain_errors():
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):
            raise ContentError(f"expected a list of images, got {type(images).__name__}: put one image in brackets")
    return [{"image": image} for image in images]


def _paths(uris: Sequence[Any]) -> Sequence[Any]:
    from predictionguard_core.images.sources import sniff_base64

    if isinstance(uris, str | bytes) or not isinstance(uris, Iterable):
        return uris  # refused by `_images`
    found: list[Any] = []
    for uri in uris:
        is_path = isinstance(uri, str) and not uri[:6].lower().startswith(("data:", "http:", "https:"))
        if is_path and not sniff_base64(uri):
            uri = Path(uri.removeprefix("file://")).expanduser()
        found.append(uri)
    return found


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> list[EmbeddingInput]:
    for index, each in enumerate(inputs):
        if not isinstance(each, Mapping):
            raise ContentError(f"expected a dict of text and image, got {type(each).__name__}", block_index=index)
    return [_input(each, index) for index, each in enumerate(inputs)]


def _input(given: Mapping[str, Any], index: int) -> EmbeddingInput:
    from langchain_predictionguard.content_blocks import image_source

    image = given.get("image")
    if not isinstance(image, dict):
        return EmbeddingInput(**given)
    try:
        return EmbeddingInput(**{**given, "image": image_source(image)})
    except ContentError as error:
        raise error.with_location(None, index) from None
