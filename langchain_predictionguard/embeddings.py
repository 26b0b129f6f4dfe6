"""Prediction Guard's embeddings of texts and pictures for LangChain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from langchain_core.embeddings import Embeddings

from langchain_predictionguard import errors, later
from langchain_predictionguard.connection import CONFIG, Connected
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.errors import ContentError

if TYPE_CHECKING:
    from langchain_predictionguard import arguments


class PredictionGuardEmbeddings(Connected, Embeddings):
    """Texts and pictures as vectors.

    Args:
        model: The model's name: "bge-m3" for texts, "bridgetower-large-itm-mlm-itc" for texts and pictures together;
            `list_models("embedding")` and `list_models("embedding-with-image")` tell which there are.
        truncate: Whether inputs that are too long are cut. Not for models that take pictures.
        truncation_direction: Which end is cut, "Left" or "Right".

    The connection's arguments are those of `ChatPredictionGuard`. Any number of inputs may be given: they are asked for
    in batches of the endpoint's size, and come back in their order, one list of floats each.

    Example:
        >>> from langchain_predictionguard import PredictionGuardEmbeddings
        >>> embeddings = PredictionGuardEmbeddings(model="bridgetower-large-itm-mlm-itc")
        >>> embeddings.embed_images([Path("cat.jpg")]), embeddings.embed_query("a cat")
    """

    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None

    model_config = CONFIG

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Embedding]) -> None: ...

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        with errors.mapped():
            return self._sync.embed(self._request(_listed(texts)))

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents`, asynchronous."""
        with errors.mapped():
            return await self._async.embed(self._request(_listed(texts)))

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`, asynchronous."""
        return (await self.aembed_documents([text]))[0]

    def embed_images(self, images: Sequence[Any]) -> list[list[float]]:
        """A vector for each picture.

        Each may be a data URI, base64, an http(s) address, bytes, a `pathlib.Path`, an open binary file, an `Image`, or
        an image block as messages have it.
        In an error, `block_index` is the picture's place in the list.
        """
        return self.embed_image_text(_images(images))

    async def aembed_images(self, images: Sequence[Any]) -> list[list[float]]:
        """`embed_images`, asynchronous."""
        return await self.aembed_image_text(_images(images))

    embed_image = embed_images  # its name in the retired package

    def embed_image_text(self, inputs: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """A vector for each dict of a `text`, an `image`, or both as one."""
        with errors.mapped():
            return self._sync.embed(self._request(_inputs(inputs)))

    async def aembed_image_text(self, inputs: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """`embed_image_text`, asynchronous."""
        with errors.mapped():
            return await self._async.embed(self._request(_inputs(inputs)))

    def _request(self, inputs: list[str] | list[EmbeddingInput]) -> EmbeddingRequest:
        return EmbeddingRequest(
            model=self.model,
            input=inputs,
            truncate=self.truncate,
            truncation_direction=self.truncation_direction,
        )


def _listed(texts: list[str]) -> list[str]:
    if isinstance(texts, str):  # which would be taken for a list of letters
        raise ContentError("embed_documents takes a list of texts; for one text there is embed_query")
    return list(texts)


def _images(images: Sequence[Any]) -> list[dict[str, Any]]:
    with errors.mapped():
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):
            raise ContentError("embed_images takes a list of pictures; put one in brackets")
    return [{"image": image} for image in images]


def _inputs(inputs: Sequence[Mapping[str, Any]]) -> list[EmbeddingInput]:
    for index, each in enumerate(inputs):
        if not isinstance(each, Mapping):
            raise ContentError(f"an input is a dict of text and image, not {type(each).__name__}", block_index=index)
    return [_input(each, index) for index, each in enumerate(inputs)]


def _input(given: Mapping[str, Any], index: int) -> EmbeddingInput:
    image = given.get("image")
    if not isinstance(image, dict):
        return EmbeddingInput(**given)
    try:
        return EmbeddingInput(**{**given, "image": later.content_blocks.source(image)})
    except ContentError as error:
        raise error.with_location(None, index) from None
