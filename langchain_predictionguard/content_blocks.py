"""One content block of LangChain's, in any form it has or had, to one of the endpoint's parts. Pure.

A picture becomes an image part that names its source; the core's image room does the rest.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage

from predictionguard_core.api.chat import ImagePart, ImageURL, Part, TextPart
from predictionguard_core.errors import UnsupportedContentError
from predictionguard_core.images.sources import Base64, Image, sniff_base64

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


def to_parts(block: Any, *, from_assistant: bool) -> list[Part]:
    """The parts that a block becomes: one, or none for what an assistant's message says elsewhere.

    A picture that has a text beside it becomes two. Raises `ContentError`.
    """
    part = _to_part(block, from_assistant=from_assistant)
    if not isinstance(part, ImagePart):
        return [] if part is None else [part]
    text = _beside(block, "text")
    return [TextPart.model_construct(text=text), part] if isinstance(text, str) and text else [part]


def _to_part(block: Any, *, from_assistant: bool) -> Part | None:
    if isinstance(block, str):
        return TextPart.model_construct(text=block)
    if not isinstance(block, dict):
        raise UnsupportedContentError(f"a content block is text or a dict, not {type(block).__name__}")
    kind = block.get("type")
    text = block.get("text")
    if kind in _TEXTS and isinstance(text, str) and not (kind in ("file", None) and _has_source(block)):
        return TextPart.model_construct(text=text)
    if kind in ("image_url", "image", "input_image") or (kind is None and "image_url" in block):
        return _image(block)
    if kind in ("file", "document"):
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "text" and isinstance(source.get("data"), str):
            return TextPart.model_construct(text=source["data"])
        # A picture by another name, or a PDF, whose pages are pictures: the bytes will tell.
        return _image(block)
    if from_assistant and kind in _SAID_ELSEWHERE:
        return None
    if from_assistant and kind == "refusal" and isinstance(block.get("refusal"), str):
        return TextPart.model_construct(text=block["refusal"])  # the model's words, as OpenAI has them when it says no
    raise UnsupportedContentError(
        f"the endpoint takes text and pictures, no block of type {str(kind)[:40]!r}"
        if kind
        else "a content block needs a type, such as 'text' or 'image'"
    )


def source(block: Block) -> Any:
    """The source of the picture that a block holds. Raises `ContentError` for a block that holds none."""
    part = _to_part(block, from_assistant=False)
    if not isinstance(part, ImagePart):
        raise UnsupportedContentError("this block holds no picture")
    return part.image_url.url


def _beside(block: Block, name: str) -> Any:
    """What a block says beside its picture, there or in the `extras` to which LangChain moves what it does not know."""
    extras = block.get("extras")
    value = block.get(name)
    return extras.get(name) if value is None and isinstance(extras, dict) else value


def _has_source(block: Block) -> bool:
    if block.get("source_type") == "text":
        return False
    return any(block.get(key) for key in ("url", "base64", "data", "file", "file_id", "source", "image_url"))


def _image(block: Block) -> ImagePart:
    nested = block.get("image_url")
    detail = nested.get("detail") if isinstance(nested, dict) and block.get("detail") is None else None
    if detail is None:
        detail = _beside(block, "detail")
    if detail == "original":
        detail = "auto"  # a level that only OpenAI has: it asks for more than "low" and names no level of ours
    if detail not in (None, "auto", "low", "high"):
        raise UnsupportedContentError("a picture's detail is 'auto', 'low' or 'high'")
    return ImagePart.model_construct(image_url=ImageURL.model_construct(url=_source(block), detail=detail))


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


def traceable(messages: list[BaseMessage]) -> list[BaseMessage]:
    """The same list, or one with copies of those messages that hold a block at which LangChain's tracing would fail.

    It fails with bare errors, before any model is called: at base64 without a mime type, though the bytes tell it, and
    at blocks of version 0 that have an id, hold text, or lack what they announce, and at OpenAI's files with more in
    them. What can't be sent in any form gets our own error, with its place, when its turn comes.
    """
    copies = [_traceable(message) for message in messages]
    return messages if all(map(operator.is_, copies, messages)) else copies


def _traceable(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [_settled(block) for block in message.content]
    if all(map(operator.is_, content, message.content)):
        return message
    return message.model_copy(update={"content": content})


def _settled(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    kind = block.get("type")
    if kind is not None and not isinstance(kind, str):
        return {**block, "type": repr(kind)[:40]}
    if kind == "file" and isinstance(block.get("file"), dict):
        block = _of_openai(block)
    elif "source_type" in block and kind in ("image", "audio", "file"):
        block = _of_version_1(block)
    if kind == "image" and "text" in block and not block.keys() & {"url", "base64"}:
        extras = block["extras"] if isinstance(block.get("extras"), dict) else {}
        block = {**block, "extras": {**extras, "text": block["text"]}}
        del block["text"]  # with it, LangChain looks for a url
    return {**block, "mime_type": _type_of(block)} if _lacks_type(block) else block


def _of_openai(block: Block) -> Block:
    """A file as OpenAI has it, with that alone which LangChain does not take for something of its own."""
    given = block["file"]
    unfit = {"id"}
    if isinstance(given.get("file_data"), str) or given.get("file_id") in (None, ""):
        unfit.add("file_id")
    file = {name: value for name, value in given.items() if name not in unfit}
    said = {name: value for name in ("detail", "text") if (value := _beside(block, name)) is not None}
    if file.keys() == given.keys() and block.keys() == {"type", "file", *said}:
        return block
    return {"type": "file", "file": file, **said}


def _of_version_1(block: Block) -> Block:
    form, text = block["source_type"], block.get("text", block.get("url"))
    if form == "text" and block["type"] == "file" and isinstance(text, str):
        return {"type": "text", "text": text}
    made = {name: value for name, value in block.items() if name not in ("source_type", "data", "id")}
    if form == "id" and block.get("id"):
        made["file_id"] = block["id"]
    if block.get("data") is not None:
        made["base64"] = block["data"]
    if form == "base64" and "base64" in made:
        made.pop("url", None)  # the form says which of the two is meant
    return made


def _lacks_type(block: Block) -> bool:
    return block.get("type") == "image" and "base64" in block and not block.get("mime_type")


def _type_of(block: Block) -> str:
    text = block["base64"]
    # What is no picture gets its own error, with its place, when the message is sent.
    return (isinstance(text, str) and sniff_base64(text)) or "application/octet-stream"
