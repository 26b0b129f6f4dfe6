"""The bytes of a request body: JSON around images that are spliced in, so that an image exists once in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from predictionguard_core.api.base import RequestModel
from predictionguard_core.api.chat import SPLICE, ChatRequest, Message, StreamOptions
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.errors import ConfigurationError, ContentError

_MESSAGES = TypeAdapter(list[Message])
_INPUTS = TypeAdapter(list[str] | list[EmbeddingInput])

# Where an image goes, the JSON says `"url":false` or `"image":false`. No text can forge that: inside a JSON string a
# quote is escaped, and except for the fields that hold images nothing in a message or an input has these names.
_FIELDS = {"max_tokens": "max_completion_tokens"}
"""Fields that an entry of `extra_body` replaces, where they have another name."""

_URL, _IMAGE = b'"url":', b'"image":'


class Spliced(Protocol):
    """An image or a document in a body. `pieces` yields its bytes, `size` at a time; `length` is their number."""

    @property
    def length(self) -> int: ...

    def pieces(self, size: int | None = None) -> Iterator[bytes]: ...


class ReadyImage(Protocol):
    """An image that can be sent: the head of its data URI, and its base64."""

    prefix: bytes

    @property
    def bare(self) -> Spliced: ...


class Body:
    """A request body that can be sent, and sent again: iterate over it for its bytes; `length` is their sum."""

    __slots__ = ("_parts", "content_type", "length")

    def __init__(self, parts: Sequence[bytes | Spliced], content_type: str = "application/json") -> None:
        self._parts = parts
        self.content_type = content_type
        self.length = 0
        for part in parts:
            self.length += len(part) if isinstance(part, bytes) else part.length

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces()

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes, those of an image `size` at a time. Default: a size that fits a processor's cache."""
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.pieces(size)

    @property
    def reads_files(self) -> bool:
        """Whether a part is read from the disk while the body is sent."""
        return any(getattr(part, "is_file", False) for part in self._parts)

    @property
    def images(self) -> list[str]:
        """The images as type, size and digest."""
        return [repr(part) for part in self._parts if not isinstance(part, bytes)]

    def __repr__(self) -> str:
        return f"Body({self.length} bytes)"


def chat_body(request: ChatRequest, images: Iterable[ReadyImage], *, stream: bool) -> Body:
    """Return the body of a request, with an image for each of its image parts.

    Raises `ContentError` for text that is no Unicode.
    """
    head = _options(request, {"messages"}, request.extra_body, request.stream_options if stream else None, stream)
    head += b',"messages":'
    if isinstance(request.messages, str):
        return Body([head + _text(request.messages, None) + b"}"])
    try:
        messages = _MESSAGES.dump_json(request.messages, exclude_none=True, context=SPLICE)
    except PydanticSerializationError:
        for index, message in enumerate(request.messages):
            if not isinstance(message.content, str):
                for block_index, part in enumerate(message.content):
                    _text(part, index, block_index)
            _text(message, index)
        raise
    # The head of a data URI goes into the text before it: it would be a write of its own.
    return _spliced(head, messages, _URL, ((image.prefix, image.bare) for image in images))


def completion_body(request: CompletionRequest, *, stream: bool) -> Body:
    """Return the body of a request for a text completion."""
    head = _options(request, {"prompt"}, request.extra_body, request.stream_options if stream else None, stream)
    return Body([head + b',"prompt":' + _text(request.prompt, None) + b"}"])


def embedding_body(request: EmbeddingRequest, images: Iterable[ReadyImage]) -> Body:
    """Return the body of a request, with an image for each input that has one, as bare base64."""
    head = _options(request, {"input"}) + b',"input":'
    try:
        inputs = _INPUTS.dump_json(request.input, exclude_none=True, context=SPLICE)
    except PydanticSerializationError:
        for index, each in enumerate(request.input):
            _text(each, None, index)
        raise
    return _spliced(head, inputs, _IMAGE, ((b"", image.bare) for image in images))


def json_body(request: RequestModel) -> Body:
    """Return the body of a request that has no images."""
    return Body([_text(request, None)])


def _spliced(head: bytes, json: bytes, field: bytes, images: Iterable[tuple[bytes, Spliced]]) -> Body:
    first, *rest = json.split(field + b"false")
    parts: list[bytes | Spliced] = []
    text = head + first
    for (prefix, image), after in zip(images, rest, strict=True):
        parts += [text + field + b'"' + prefix, image]
        text = b'"' + after
    return Body([*parts, text + b"}"])


def _options(
    request: ChatRequest | CompletionRequest | EmbeddingRequest,
    content: set[str],
    extra: dict[str, Any] | None = None,
    stream_options: StreamOptions | None = None,
    stream: bool = False,
) -> bytes:
    """Return the JSON of all but the content, without its last brace."""
    excluded = content | {"stream", "stream_options"}
    if extra:
        excluded |= {*extra, *(_FIELDS[name] for name in extra if name in _FIELDS)}
    try:
        fields = to_json(request, exclude=excluded, exclude_none=True)[1:-1]
        if stream:
            fields += b"," + to_json({"stream": True, "stream_options": stream_options or StreamOptions()})[1:-1]
        if extra:
            fields += b"," + to_json(extra)[1:-1]
    except PydanticSerializationError as error:
        raise ConfigurationError(f"an option can't be written as JSON: {error}") from None
    return b"{" + fields.lstrip(b",")


def _text(value: Any, message_index: int | None, block_index: int | None = None) -> bytes:
    try:
        return to_json(value, exclude_none=True, context=SPLICE)
    except PydanticSerializationError:
        raise ContentError(
            "the text holds half of a surrogate pair, which UTF-8 has no form for; clean it with "
            'text.encode("utf-8", "replace").decode()',
            message_index=message_index,
            block_index=block_index,
        ) from None
