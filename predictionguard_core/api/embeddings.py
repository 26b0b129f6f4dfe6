"""`POST /embeddings`. Source: the API's OpenAPI specification, version 1.2."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field, FieldSerializationInfo, field_serializer

from predictionguard_core.api.base import RequestModel, ResponseModel
from predictionguard_core.api.chat import SPLICE, hidden
from predictionguard_core.api.responses import ReadableUsage
from predictionguard_core.errors import ContentError

MAX_INPUTS = 30
"""Inputs in one request. The specification names no limit; the service's official client sends at most as many."""


class EmbeddingInput(RequestModel):
    """A text, an image, or both as one. `image` is any source that `predictionguard_core.images` knows."""

    text: str | None = None
    image: Any = Field(default=None, repr=False)

    def model_post_init(self, context: Any, /) -> None:
        if self.text is None and self.image is None:
            raise ContentError("an input to embed needs a text, an image, or both")

    @field_serializer("image")
    def _placeholder(self, image: Any, info: FieldSerializationInfo[Any]) -> Any:
        return hidden(image, info.context is SPLICE)


def has_image(given: object) -> TypeGuard[EmbeddingInput]:
    """Whether an input is, or has in addition to its text, an image."""
    return isinstance(given, EmbeddingInput) and given.image is not None


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str | EmbeddingInput) else given


class EmbeddingRequest(RequestModel):
    """Texts or images, or one of either, to turn into vectors. `truncate` and its direction are for texts only."""

    model: str = Field(min_length=1)
    input: Annotated[list[str] | list[EmbeddingInput], BeforeValidator(_several)]
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None


class Embedding(ResponseModel):
    """A vector, and which of the inputs it is of."""

    index: int | None = None
    embedding: list[float]


class EmbeddingList(ResponseModel):
    """What the service answers, in whatever order."""

    data: list[Embedding]
    usage: ReadableUsage = None
