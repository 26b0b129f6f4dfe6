"""One content block of LangChain's, in any form it has or had, to one of the endpoint's parts. Pure.

A picture becomes an image part that names its source; the core's image room does the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from langchain_core.messages import BaseMessage

from predictionguard_core import wire
from predictionguard_core.errors import UnsupportedContentError
from predictionguard_core.images import Base64, Image, sniff_base64

Block = dict[str, Any]

_TEXTS = frozenset({"text", "text-plain", "input_text", "output_text", "file", None})

# In an assistant's message these stand beside what is sent from elsewhere (`tool_calls`), or are the model's thoughts,
# which the endpoint takes in no form.
_SAID_ELSEWHERE = frozenset(
    {
        "function_call",
        "invalid_tool_call",
        "reasoning",
        "reasoning_content",
        "redacted_thinking",
        "thinking",
        "tool_call",
        "tool_call_chunk",
        "tool_use",
    }
)


def to_part(block: Any, *, from_assistant: bool) -> wire.Part | None:
    """The part that a block becomes; None for what an assistant's message says elsewhere. Raises `ContentError`."""
    if isinstance(block, str):
        return wire.TextPart.made(text=block)
    if not isinstance(block, dict):
        raise UnsupportedContentError(f"a content block is text or a dict, not {type(block).__name__}")
    kind = block.get("type")
    text = block.get("text")
    if kind in _TEXTS and isinstance(text, str):
        return wire.TextPart.made(text=text)
    if kind in ("image_url", "image", "input_image") or (kind is None and "image_url" in block):
        return _image(block)
    if kind in ("file", "document"):
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "text" and isinstance(source.get("data"), str):
            return wire.TextPart.made(text=source["data"])
        # A picture by another name, or a PDF, whose pages are pictures: the bytes will tell.
        return _image(block)
    if from_assistant and kind in _SAID_ELSEWHERE:
        return None
    raise UnsupportedContentError(
        f"the endpoint takes text and pictures, no block of type {str(kind)[:40]!r}"
        if kind
        else "a content block needs a type, such as 'text' or 'image'"
    )


def _image(block: Block) -> wire.ImagePart:
    extras = block.get("extras")
    nested = block.get("image_url")
    detail = block.get("detail")
    for holder in (nested, extras):
        if detail is None and isinstance(holder, dict):
            detail = holder.get("detail")
    if detail not in (None, "auto", "low", "high"):
        raise UnsupportedContentError("a picture's detail is 'auto', 'low' or 'high'")
    return wire.ImagePart.made(image_url=wire.ImageURL.made(url=_source(block), detail=detail))


def _source(block: Block) -> Any:
    """The picture's source in any of the forms that LangChain has or had, or that other providers' blocks use."""
    nested = block.get("image_url")
    if isinstance(nested, dict):
        nested = nested.get("url")
    for key in ("source", "file"):
        # Anthropic's {"type": "base64", "media_type": …, "data": …} and OpenAI's {"file_data": …, "filename": …}
        inner = block.get(key)
        if isinstance(inner, dict):
            block = inner
    for value in (nested, block.get("url")):
        if isinstance(value, str | bytes | Path | Image):
            return value
    for key in ("base64", "data", "file_data"):
        value = block.get(key)
        if isinstance(value, str):
            # Some put a whole data URI where base64 is meant.
            return value if value[:5].lower() == "data:" else Base64(value)
        if isinstance(value, bytes):
            return value
    if block.get("file_id") or (block.get("id") and block.get("source_type") == "id"):
        raise UnsupportedContentError("the endpoint keeps no files: send the picture itself, not a file id")
    raise UnsupportedContentError(
        "the picture's block names no source; give it 'url' (a data URI or an http address, as text, or a "
        "pathlib.Path) or 'base64' (text or bytes). A picture that is open in Pillow is saved to bytes first"
    )


def with_mime_types(messages: list[BaseMessage]) -> list[BaseMessage]:
    """The same list, or one in which messages with a base64 block of no mime type are copies that have one.

    LangChain's tracing refuses such a block before any model is called, though its type can be read from the bytes.
    """
    if not any(isinstance(message.content, list) and any(map(_lacks_type, message.content)) for message in messages):
        return messages
    return [_typed(message) for message in messages]


def _typed(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [{**block, "mime_type": _type_of(block)} if _lacks_type(block) else block for block in message.content]
    return message.model_copy(update={"content": content})


def _lacks_type(block: Any) -> TypeGuard[Block]:
    return (
        isinstance(block, dict)
        and block.get("type") == "image"
        and ("base64" in block or block.get("source_type") == "base64")
        and not block.get("mime_type")
    )


def _type_of(block: Block) -> str:
    text = block.get("base64") or block.get("data")
    # What is no picture gets its own error, with its place, when the message is sent.
    return (isinstance(text, str) and sniff_base64(text)) or "application/octet-stream"
