"""LangChain's content blocks, in every form they have or had, to parts of the API's messages. No I/O.

An image becomes an image part that names its source; reading, downloading and checking it is the core's.
"""

from __future__ import annotations

import binascii
import json
import operator
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from langchain_core.messages import BaseMessage

from predictionguard_core.api.chat import ImagePart, ImageURL, Part, TextPart
from predictionguard_core.errors import ContentError, UnsupportedContentError
from predictionguard_core.images.sources import Base64, sniff_base64

Block = dict[str, Any]

_TEXTS = frozenset({"text", "text-plain", "input_text", "output_text", "file", None})
_IMAGES = frozenset({"image_url", "image", "input_image"})
_SOURCES = ("url", "image", "base64", "data", "file_data")
_BASE64 = ("base64", "data", "file_data")
_NO_TEXT = ("image/", "audio/", "video/")
_IMAGE_REPR = re.compile(r"<image/[\w.+-]+ \d+×\d+ sha256:[0-9a-f]+>")  # repr(Image)

# In an assistant's message these repeat what is sent elsewhere (`tool_calls`), or are the model's thoughts, which the
# API takes in no form.
_NOT_SENT = frozenset(
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
    """Return the parts that a block becomes: one; two for an image with a text; none for what is sent elsewhere.

    Raises `ContentError`.
    """
    part = _to_part(block, from_assistant=from_assistant)
    if not isinstance(part, ImagePart):
        return [] if part is None else [part]
    text = _extra(block, "text")
    return [TextPart(text=text), part] if isinstance(text, str) and text else [part]


def _to_part(block: Any, *, from_assistant: bool) -> Part | None:
    if isinstance(block, str):
        return TextPart(text=block)
    if not isinstance(block, dict):
        raise UnsupportedContentError(f"a content block must be a string or a dict, got {type(block).__name__}")
    kind = block.get("type")
    if not isinstance(kind, str | None):
        raise UnsupportedContentError(f"the type of a content block must be a string, got {type(kind).__name__}")
    text = block.get("text")
    if text is None and block.get("source_type") == "text":
        text = block.get("url")  # as LangChain's version 0 of content blocks has it
    if kind in _TEXTS and isinstance(text, str) and not (kind in ("file", None) and _has_source(block)):
        return TextPart(text=text)
    if kind in _IMAGES or (kind is None and "image_url" in block):
        return _image(block)
    if kind in ("file", "document", "text-plain"):
        text = _text_of_file(block)
        # What is no text is an image under another name, or a PDF: the core looks at the bytes.
        return _image(block) if text is None else TextPart(text=text)
    if from_assistant and kind in _NOT_SENT:
        return None
    if from_assistant and kind == "refusal" and isinstance(block.get("refusal"), str):
        return TextPart(text=block["refusal"])
    if kind == "text":
        raise UnsupportedContentError('a text block needs a string as \'text\': {"type": "text", "text": "Hello"}')
    raise UnsupportedContentError(
        f"unsupported content block of type {kind[:40]!r}: the API takes text and images; their types are 'text', "
        "'image', 'image_url' and 'file'"
        if kind
        else "a content block needs a type, such as 'text' or 'image'"
    )


def map_text(block: Any, change: Callable[[str], str], *, from_assistant: bool) -> Any:
    """Return a block with `change` applied to the text that it sends to the model."""
    text = _text(block, from_assistant=from_assistant)
    if text is None or (changed := change(text)) == text:
        return block
    if isinstance(block, str):
        return changed
    copy = {**block, **{key: changed for key in ("text", "refusal") if block.get(key) == text}}
    if block.get("text") is None and _extra(block, "text") == text:
        copy["extras"] = {**block["extras"], "text": changed}
    # The text of a file is in its data. It may stand in `text` too, which is not sent.
    is_sent = (_text(copy, from_assistant=from_assistant) or "") == changed
    return copy if is_sent else {"type": "text", "text": changed}


def is_text_only(block: Any, *, from_assistant: bool) -> bool:
    """Whether the model gets nothing from a block but the text that `map_text` changes."""
    if _text(block, from_assistant=from_assistant) is None:
        return False
    return not any(isinstance(part, ImagePart) for part in _sent_parts(block, from_assistant=from_assistant))


def _text(block: Any, *, from_assistant: bool) -> str | None:
    parts = _sent_parts(block, from_assistant=from_assistant)
    text = next((part.text for part in parts if isinstance(part, TextPart)), None)
    if text is None and isinstance(block, dict) and isinstance(block.get("text"), str):
        return str(block["text"])  # a block that other models may take
    return text


def _sent_parts(block: Any, *, from_assistant: bool) -> list[Part]:
    try:
        return to_parts(block, from_assistant=from_assistant)
    except ContentError:
        return []


def tool_result_blocks(text: str) -> str | list[Any]:
    """Return the content blocks that LangChain wrote into a tool result as JSON text, or the text itself.

    LangChain keeps a list of blocks that a tool returns, and makes JSON of anything else: of a single block, of a block
    in a tuple, of strings and blocks in one list. As text, an image costs thousands of tokens and is never seen.
    """
    found = _IMAGE_REPR.search(text)
    # Alone, or in a list or a tuple, which LangChain turns into text as a whole.
    if found and (found.group() == text or (text[0] in "[(" and text[-1] in "])")):
        raise UnsupportedContentError(
            f"a tool returned an Image, which LangChain turned into the text {found.group()!r}. Return [image.block()] "
            "instead"
        )
    if text[:1] in ("{", "[") and '"base64"' in text:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        blocks = value if isinstance(value, list) else [value]
        if any(isinstance(block, dict) and block.get("type") == "image" for block in blocks):
            return blocks
    return text


def image_source(block: Block) -> Any:
    """Return the source of the image in a block. Raises `ContentError` for a block without an image."""
    part = _to_part(block, from_assistant=False)
    if not isinstance(part, ImagePart):
        raise UnsupportedContentError("this content block has no image")
    return part.image_url.url


def _extra(block: Block, name: str) -> Any:
    """Return a value from a block, or from the `extras` to which LangChain moves what it does not know."""
    extras = block.get("extras")
    value = block.get(name)
    return extras.get(name) if value is None and isinstance(extras, dict) else value


def _has_source(block: Block) -> bool:
    if block.get("source_type") == "text":
        return False
    return any(block.get(key) is not None for key in (*_SOURCES, "file", "file_id", "source", "image_url"))


def _image(block: Block) -> ImagePart:
    nested = block.get("image_url")
    detail = nested.get("detail") if isinstance(nested, dict) and block.get("detail") is None else None
    if detail is None:
        detail = _extra(block, "detail")
    if detail not in (None, "auto", "low", "high", "original"):
        raise UnsupportedContentError("the detail of an image must be 'auto', 'low' or 'high'")
    # "original" is a level that OpenAI alone has.
    level: Any = "auto" if detail == "original" else detail
    return ImagePart(image_url=ImageURL(url=_source(block), detail=level))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _inner(block: Block) -> Block:
    """Return the part of a block that has the data, as Anthropic (`source`) and OpenAI (`file`) nest it."""
    return next((block[key] for key in ("source", "file") if isinstance(block.get(key), dict)), block)


def _source(block: Block) -> Any:
    """Return the source of an image in any of the forms that LangChain has or had, or that other providers use."""
    nested = block.get("image_url")
    nested = nested.get("url") if isinstance(nested, dict) else nested
    inner = _inner(block)
    if not _is_empty(nested):
        return nested
    for key in _SOURCES:
        value = inner.get(key)
        if _is_empty(value):
            continue
        if key in _BASE64 and isinstance(value, str) and value[:5].lower() != "data:":
            return Base64(value)
        return value
    if inner.get("file_id") or (inner.get("id") and inner.get("source_type") == "id"):
        raise UnsupportedContentError("the API stores no files: send the image itself, not a file id")
    found = block["image_url"] if isinstance(block.get("image_url"), dict) else inner
    keys = ", ".join(repr(str(key)[:40]) for key in found if key != "type")
    raise UnsupportedContentError(
        f"the {block.get('type') or 'image'} block has no source{f', only {keys}' if keys else ''}: give it 'url' (a "
        "data URI, an http(s) URL, a pathlib.Path, bytes, an open file, a PIL image) or 'base64'"
    )


def _text_of_file(block: Block) -> str | None:
    """Return the text of a file block (CSV, JSON, Markdown, ...); None for bytes that are no text."""
    inner = _inner(block)
    if inner.get("type") == "text" and isinstance(inner.get("data"), str) and inner is not block:
        return str(inner["data"])  # Anthropic's document
    # A declared PDF may be text: LangChain calls each file in OpenAI's form one.
    mime_type = str(inner.get("mime_type") or inner.get("media_type") or block.get("mime_type") or "")
    data = next((inner[key] for key in (*_BASE64, "url") if inner.get(key) is not None), None)
    if isinstance(data, str):
        head, comma, payload = data.partition(",")
        if data[:5].lower() == "data:" and comma:
            mime_type, data = head[5:], payload
            if not head.lower().endswith(";base64"):
                data = urllib.parse.unquote_to_bytes(payload)
        elif inner.get("url") is data:
            return None
    if mime_type.lower().startswith(_NO_TEXT) or not isinstance(data, str | bytes):
        return None
    if isinstance(data, str):
        if sniff_base64(data):
            return None
        try:
            data = binascii.a2b_base64(data, strict_mode=True)
        except (ValueError, binascii.Error):
            return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text or "%PDF-" in text[:1024] else text


def traceable(messages: list[BaseMessage]) -> list[BaseMessage]:
    """Return the same list, or one with copies of the messages that hold blocks at which LangChain's tracing fails.

    It fails with bare KeyErrors and ValueErrors, before any model is called: at base64 without a mime type, at version
    0 blocks that have an id, hold text, or lack what they announce, and at OpenAI's files with more in them.
    What can't be sent in any form gets our own error, with its location, later.
    """
    copies = [_traceable(message) for message in messages]
    return messages if all(map(operator.is_, copies, messages)) else copies


def _traceable(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [_traceable_block(block) for block in message.content]
    if all(map(operator.is_, content, message.content)):
        return message
    return message.model_copy(update={"content": content})


def _traceable_block(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    kind = block.get("type")
    if kind is not None and not isinstance(kind, str):
        return {**block, "type": repr(kind)[:40]}
    if kind == "file" and isinstance(block.get("file"), dict):
        block = _openai_file(block)
    elif "source_type" in block and kind in ("image", "audio", "file"):
        block = _version_1(block)
    if kind == "image" and "text" in block and not block.keys() & {"url", "base64"}:
        extras = block["extras"] if isinstance(block.get("extras"), dict) else {}
        block = {**block, "extras": {**extras, "text": block["text"]}}
        del block["text"]  # with it, LangChain looks for a url
    return {**block, "mime_type": _mime_type(block)} if _lacks_mime_type(block) else block


def _openai_file(block: Block) -> Block:
    """Return a file block of OpenAI's without the keys that LangChain takes for its own."""
    file = block["file"]
    unfit = {"id"}
    if isinstance(file.get("file_data"), str) or file.get("file_id") in (None, ""):
        unfit.add("file_id")
    kept = {name: value for name, value in file.items() if name not in unfit}
    extras = {name: value for name in ("detail", "text") if (value := _extra(block, name)) is not None}
    if kept.keys() == file.keys() and block.keys() == {"type", "file", *extras}:
        return block
    return {"type": "file", "file": kept, **extras}


def _version_1(block: Block) -> Block:
    form, text = block["source_type"], block.get("text", block.get("url"))
    if form == "text" and block["type"] == "file" and isinstance(text, str):
        return {"type": "text", "text": text}
    converted = {name: value for name, value in block.items() if name not in ("source_type", "data", "id")}
    if form == "id" and block.get("id"):
        converted["file_id"] = block["id"]
    if block.get("data") is not None:
        converted["base64"] = block["data"]
    if form == "base64" and "base64" in converted:
        converted.pop("url", None)  # the form says which of the two is meant
    return converted


def _lacks_mime_type(block: Block) -> bool:
    return block.get("type") == "image" and "base64" in block and not block.get("mime_type")


def _mime_type(block: Block) -> str:
    text = block["base64"]
    return (isinstance(text, str) and sniff_base64(text)) or "application/octet-stream"
