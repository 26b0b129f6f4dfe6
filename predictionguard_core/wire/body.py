"""The bytes of a request body: JSON around pictures that are spliced in, so that a picture exists once in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from predictionguard_core.errors import ConfigurationError, ContentError
from predictionguard_core.wire.chat import SPLICE, ChatRequest, Message, StreamOptions

_MESSAGES = TypeAdapter(list[Message])

# Where a picture goes, its part says `"url":false`. No text can forge that: inside a JSON string a quote is escaped,
# and in a message nothing but an image part has a field `url`.
_MARK = b'"url":false'
_WITHHELD = {"messages", "stream", "stream_options"}


@runtime_checkable
class Spliced(Protocol):
    """A ready picture. `pieces` gives the bytes of its data URI, in order; `length` is their sum in bytes."""

    @property
    def length(self) -> int: ...

    def pieces(self) -> Iterator[bytes]: ...


class Body:
    """A request body that can be sent, and sent again: iterate over it for its bytes; `length` is their sum."""

    __slots__ = ("_parts", "length")

    def __init__(self, parts: list[bytes | Spliced]) -> None:
        self._parts = parts
        self.length = sum(len(part) if isinstance(part, bytes) else part.length for part in parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.pieces()

    def __repr__(self) -> str:
        return f"Body({self.length} bytes)"


def chat_body(request: ChatRequest, *, stream: bool) -> Body:
    """The body of a request whose pictures are all ready (`Spliced`). Raises `ContentError` for text that is none."""
    head = _options(request, stream=stream) + b',"messages":'
    if isinstance(request.messages, str):
        return Body([head + _json(request.messages, None) + b"}"])
    try:
        messages = _MESSAGES.dump_json(request.messages, exclude_none=True, context=SPLICE)
    except PydanticSerializationError:
        for index, message in enumerate(request.messages):
            _json(message, index)
        raise
    first, *rest = messages.split(_MARK)
    parts: list[bytes | Spliced] = []
    text = head + first
    for image, after in zip(request.image_parts(), rest, strict=True):
        parts += [text + b'"url":"', image.image_url.url]
        text = b'"' + after
    return Body([*parts, text + b"}"])


def _options(request: ChatRequest, *, stream: bool) -> bytes:
    try:
        options = to_json(request, exclude=_WITHHELD, exclude_none=True)
        if stream:
            flags = {"stream": True, "stream_options": request.stream_options or StreamOptions()}
            options = options[:-1] + b"," + to_json(flags)[1:]
        if request.extra_body:
            options = options[:-1] + b"," + to_json(request.extra_body)[1:]
    except PydanticSerializationError as error:
        raise ConfigurationError(f"an option can't be written as JSON: {error}") from None
    return options[:-1]


def _json(value: Any, message_index: int | None) -> bytes:
    try:
        return to_json(value, exclude_none=True)
    except PydanticSerializationError:
        raise ContentError(
            "the text holds half of a surrogate pair, which UTF-8 has no form for; clean it with "
            'text.encode("utf-8", "replace").decode()',
            message_index=message_index,
        ) from None
