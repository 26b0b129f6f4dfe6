"""`POST /embeddings`. Source: the API's OpenAPI specification, version 1.2."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field

from predictionguard_core.api.base import RequestModel, ResponseModel
from predictionguard_core.api.chat import ImageSource
from predictionguard_core.api.responses import ReadableUsage
from predictionguard_core.errors import ContentError

MAX_INPUTS = 30
"""Inputs in one request. The specification names no limit; the service's official client sends at most as many."""


class EmbeddingInput(RequestModel):
    """A text, an image, or both as one. `image` is any source that `predictionguard_core.images` knows."""

    text: str | None = None
    image: ImageSource = Field(default=None, repr=False)

    def model_post_init(self, context: Any, /) -> None:
        if self.text is None and self.image is None:
            raise ContentError("an input to embed needs a text, an image, or both")


def has_image(value: object) -> TypeGuard[EmbeddingInput]:
    """Return whether an input has an image."""
    return isinstance(value, EmbeddingInput) and value.image is not None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | EmbeddingInput) else value


class EmbeddingRequest(RequestModel):
    """Texts or images to embed, or one of either. `truncate` and `truncation_direction` are for texts only."""

    model: str = Field(min_length=1)
    input: Annotated[list[str] | list[EmbeddingInput], BeforeValidator(_as_list)]
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] | None = None


class Embedding(ResponseModel):
    """A vector. `index` is the number of its input."""

    index: int | None = None
    embedding: list[float]


class EmbeddingList(ResponseModel):
    """The response of `POST /embeddings`. Its vectors may come in any order."""

    data: list[Embedding]
    usage: ReadableUsage = None
