"""The request of `POST /chat/completions`. Source: the API's OpenAPI specification, version 1.2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    field_serializer,
)

from predictionguard_core.api.base import (
    ARGUMENT_NAMES,
    RequestModel,
    RequestPart,
    as_list,
    check_extra_body,
    with_text_keys,
)
from predictionguard_core.api.checks import InputChecks, OutputChecks

Location = tuple[int | None, int | None]

SPLICE = object()
"""Serialisation context in which an image part has a placeholder in place of its image."""


def serialize_image(source: Any, info: SerializationInfo) -> Any:
    """Return what JSON has for an image: a placeholder where `api.body` splices it in, else a description."""
    if source is None:
        return None
    if info.context is SPLICE:
        return False
    return f"<{type(source).__name__}>" if isinstance(source, str | bytes | bytearray | memoryview) else repr(source)


ImageSource = Annotated[Any, PlainSerializer(serialize_image)]


class TextPart(RequestPart):
    type: Literal["text"] = "text"
    text: str


class ImageURL(RequestPart):
    """The `image_url` of an image part.

    `url` is any image source: a data URI, an http(s) URL or base64 as `str`, raw `bytes`, a `pathlib.Path`, an open
    binary file, or an `Image`. It is sent as a data URI.
    """

    url: ImageSource = Field(repr=False)
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(RequestPart):
    """An image content part. `location` is (message, block) in the caller's messages, for errors. It is not sent."""

    type: Literal["image_url"] = "image_url"
    image_url: ImageURL
    location: Location = Field(default=(None, None), exclude=True, repr=False)


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(RequestPart):
    """A call of a function. `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(RequestPart):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(RequestPart):
    """A message. `content` is text or parts; None, for an assistant's message that only calls tools, is sent as ""."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | list[Part], BeforeValidator(lambda content: "" if content is None else content)]
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @field_serializer("name")
    def _valid_name(self, name: str | None) -> str | None:
        # Servers refuse other characters, and more than 64 (OpenAI's rule).
        return name and re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


class Function(RequestPart):
    """A function that the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(RequestPart):
    type: Literal["function"] = "function"
    function: Function


class FunctionName(RequestPart):
    name: str


class NamedToolChoice(RequestPart):
    type: Literal["function"] = "function"
    function: FunctionName


class StreamOptions(RequestPart):
    include_usage: bool = True


class ChatRequest(RequestModel):
    """A request to a chat model. Options that are None are not sent.

    `messages` is a list of messages or plain text. `max_tokens` is sent as `max_completion_tokens` (the endpoint calls
    the former deprecated). `extra_body` holds further fields, sent as they are; they override the documented ones.
    `vision_streaming` (not sent) says that this deployment streams answers to questions about images, which the
    documented service does not.

    Raises `ConfigurationError` for an unknown option or one outside its documented range, and `ContentError`, with the
    location, for an invalid message.
    """

    model: str = Field(min_length=1)
    messages: list[Message] | str
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    input: InputChecks | None = Field(default=None, validation_alias=AliasChoices("input", "input_checks"))
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, BeforeValidator(with_text_keys)
    ] = None
    max_completion_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )
    n: Literal[1] | None = None
    output: OutputChecks | None = Field(default=None, validation_alias=AliasChoices("output", "output_checks"))
    parallel_tool_calls: bool | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    reasoning_effort: str | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    tools: Annotated[list[Tool] | None, BeforeValidator(as_list)] = None
    top_k: int | None = Field(default=None, ge=-1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    extra_body: Annotated[dict[str, Any] | None, AfterValidator(check_extra_body)] = Field(default=None, exclude=True)
    vision_streaming: bool = Field(default=False, exclude=True)

    model_config = ConfigDict(populate_by_name=True)
    argument_names = ARGUMENT_NAMES

    @property
    def has_images(self) -> bool:
        """Whether any message has an image."""
        return next(self.image_parts(), None) is not None

    @property
    def can_stream(self) -> bool:
        """Whether the endpoint streams the answer: not with output checks, nor (unless `vision_streaming`) images.

        Source: the API's documentation, "Streaming is not currently supported when generating a vision text
        completion", and the checks that the official clients refuse on a stream.
        """
        output = (self.extra_body or {}).get("output", self.output)
        if any(output.values()) if isinstance(output, dict) else output is not None and output.is_on:
            return False
        return self.vision_streaming or not self.has_images

    def image_parts(self) -> Iterator[ImagePart]:
        """Yield every image part, in order."""
        if not isinstance(self.messages, str):
            for message in self.messages:
                if not isinstance(message.content, str):
                    for part in message.content:
                        if isinstance(part, ImagePart):
                            yield part
