"""Translates LlamaIndex's messages to the API's, and its responses back. The caller's messages are never changed."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import mimetypes
import re
import urllib.parse
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic import BaseModel

from llama_index_predictionguard import tool_calls
from llama_index_predictionguard.image_sources import ImageLike, block_source, document_parts, is_data_uri
from predictionguard_core.api.chat import ChatRequest, ImagePart, ImageURL, Location, Message, Part, TextPart
from predictionguard_core.api.responses import ChatChunk, ChatCompletion, Delta
from predictionguard_core.errors import ContentError, ImageFormatError, UnsupportedContentError
from predictionguard_core.images import detect, files
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    from predictionguard_core.client import AsyncChatStream, ChatStream

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[MessageRole, Role] = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
_DETAILS: dict[str, Literal["auto", "low", "high"]] = {"auto": "auto", "low": "low", "high": "high"}
_TEXT_TYPES = ("application/json", "application/xml", "application/yaml", "application/toml", "application/javascript")
_TEXT_SUFFIXES = (".md", ".markdown", ".yaml", ".yml", ".toml", ".jsonl", ".log", ".rst", ".ini")
_DEFAULT_TITLE = "input_document"
# What LlamaIndex makes of an image block that is a dict, and of an `Image`, when a tool returns one.
_IMAGE_AS_TEXT = re.compile(r"\{'type': 'image', 'base64': '|<image/[\w.+-]+ \d+×\d+ sha256:[0-9a-f]+>$")
_IMAGE_FOLLOWS = "The result is an image; it follows in the next user message."


# To the API


def to_api(messages: Sequence[ChatMessage], policy: ImagePolicy) -> list[Message]:
    """Translate a conversation. Raises `ContentError`, with the location, for what the API has no form for."""
    if not messages:
        raise ContentError("messages is empty: pass at least one message")
    sent: list[Message] = []
    ids = tool_calls.ToolCallIds()
    images: list[tuple[str, list[ImagePart]]] = []
    for index, message in _results_first(messages):
        role = _ROLES[message.role]
        if images and role != "tool":
            sent.append(_images_of_results(images))
            images = []
        parts = _parts(message, role, index, policy)
        if role == "tool":
            # A tool message takes no images: they follow in a user message after the last result.
            call_id = ids.answered_by(message, index)
            found = [part for part in parts if isinstance(part, ImagePart)]
            texts = [part for part in parts if isinstance(part, TextPart)]
            content = _content(texts) or (_IMAGE_FOLLOWS if found else "")
            sent.append(Message(role=role, content=content, tool_call_id=call_id))
            if found:
                images.append((call_id, found))
        else:
            calls = ids.called_by(message, index) if role == "assistant" else None
            sent.append(Message(role=role, content=_content(parts), name=_name(message), tool_calls=calls))
    if images:
        sent.append(_images_of_results(images))
    return sent


async def ato_api(messages: Sequence[ChatMessage], policy: ImagePolicy) -> list[Message]:
    """`to_api` for an event loop: text files are read in a thread."""
    if any(isinstance(block, DocumentBlock) for message in messages for block in message.blocks):
        return await asyncio.to_thread(to_api, messages, policy)
    return to_api(messages, policy)


def prompt_to_api(prompt: str, documents: Sequence[ImageLike] | ImageLike | None = None) -> list[Message]:
    """Translate a prompt and the images that follow it. An error's location is the index in `documents`."""
    parts: list[Part] = [TextPart(text=prompt)]
    for index, document in enumerate(_several(documents)):
        try:
            found = _image_parts(document) if isinstance(document, ImageBlock) else document_parts(document)
        except ContentError as error:
            raise error.with_location(None, index) from None
        parts += _located(found, (None, index))
    return [Message(role="user", content=_content(parts))]


def _several(documents: Any) -> Sequence[Any]:
    """Return the images as a list, also where it is a single one."""
    if documents is None:
        return ()
    # Strings, bytes, open files and pydantic objects are iterable, too.
    is_one = isinstance(documents, str | bytes | bytearray | BaseModel) or hasattr(documents, "read")
    return [documents] if is_one or not isinstance(documents, Iterable) else list(documents)


def _results_first(messages: Sequence[ChatMessage]) -> list[tuple[int, ChatMessage]]:
    """Return the messages with their indices, tool results before the other messages of their turn.

    Within each turn: the assistant's message, its tool results, then the rest, each in order. Messages before the first
    assistant message stay where they are. Servers accept no other message between a call and its results.
    """
    ordered: list[tuple[int, ChatMessage]] = []
    rest: list[tuple[int, ChatMessage]] = []
    for index, message in enumerate(messages):
        role = _ROLES[message.role]
        if role == "assistant":
            ordered += [*rest, (index, message)]
            rest = []
        elif ordered and role == "tool":
            ordered.append((index, message))
        else:
            rest.append((index, message))
    return ordered + rest


def _name(message: ChatMessage) -> str | None:
    name = message.additional_kwargs.get("name")
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or None if isinstance(name, str) else None


def _content(parts: Sequence[Part]) -> str | list[Part]:
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    # Some servers take no list of parts without an image.
    return "\n".join(texts) if len(texts) == len(parts) else list(parts)


def _images_of_results(images: list[tuple[str, list[ImagePart]]]) -> Message:
    parts: list[Part] = []
    for call_id, found in images:
        if len(images) > 1:
            parts.append(TextPart(text=f"From the result of tool call {call_id}:"))
        parts.extend(found)
    return Message(role="user", content=parts)


def _parts(message: ChatMessage, role: Role, index: int, policy: ImagePolicy) -> list[Part]:
    parts: list[Part] = []
    for block_index, block in _blocks(message):
        try:
            found = _block_parts(block, role, policy)
            if role in ("system", "assistant") and any(isinstance(part, ImagePart) for part in found):
                raise UnsupportedContentError(
                    f"the service accepts images in user messages and tool results, not in a message with the role "
                    f"{message.role.value!r}. Move the image to a user message"
                )
        except ContentError as error:
            raise error.with_location(index, block_index) from None
        parts += _located(found, (index, block_index))
    return parts


def _blocks(message: ChatMessage) -> Iterator[tuple[int, ContentBlock]]:
    # LlamaIndex adds the images of this older field to the blocks again whenever it validates the message.
    seen: list[Any] | None = [] if message.additional_kwargs.get("images") else None
    for index, block in enumerate(message.blocks):
        if seen is not None and isinstance(block, ImageBlock):
            if block.image in seen:
                continue
            seen.append(block.image)
        yield index, block


def _located(parts: list[Part], location: Location) -> list[Part]:
    for part in parts:
        if isinstance(part, ImagePart):
            part.location = location
    return parts


def _block_parts(block: Any, role: Role, policy: ImagePolicy) -> list[Part]:
    if isinstance(block, TextBlock):
        if role == "tool" and _IMAGE_AS_TEXT.match(block.text):
            raise UnsupportedContentError(
                f"a tool returned an image in a form that LlamaIndex turned into text: {block.text[:40]!r}. "
                "Return ImageBlock(image=...) or ImageBlock(path=...)"
            )
        return [TextPart(text=block.text)]
    if isinstance(block, ImageBlock):
        return _image_parts(block)
    if isinstance(block, DocumentBlock):
        text = _document_text(block, policy)
        return [ImagePart(image_url=ImageURL(url=block_source(block)))] if text is None else [TextPart(text=text)]
    kind = getattr(block, "block_type", type(block).__name__)
    # Tool calls are sent beside the content. The API has no field for the thoughts of earlier turns. A cache point is
    # a hint without content.
    if kind == "cache" or (role == "assistant" and isinstance(block, ToolCallBlock | ThinkingBlock)):
        return []
    if isinstance(block, ToolCallBlock | ThinkingBlock):
        raise UnsupportedContentError(f"a {kind!r} block belongs in an assistant message, not in a {role} message")
    raise UnsupportedContentError(f"the service accepts text, images and documents, not a block of type {kind!r}")


def _image_parts(block: ImageBlock) -> list[Part]:
    # Other providers have further levels of detail, all of them above "low".
    detail = _DETAILS.get(block.detail, "auto") if isinstance(block.detail, str) and block.detail else None
    return [ImagePart(image_url=ImageURL(url=block_source(block), detail=detail))]


def _document_text(block: DocumentBlock, policy: ImagePolicy) -> str | None:
    """Return the text of a document such as CSV, JSON or Markdown; None for a PDF or an image, or an unread file."""
    data: Any = None
    if block.data:
        data = block.resolve_document().read()
    elif block.path and _is_text_type(str(block.path), block.document_mimetype):
        data = files.read(Path(block.path), policy)
    elif block.url and is_data_uri(str(block.url)):
        data = _text_of_data_uri(str(block.url).strip())
    if not isinstance(data, bytes) or detect.sniff(data[:64]):
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ImageFormatError(
            "a document must be a PDF, an image or text in UTF-8. Extract the text of other files with "
            "PredictionGuardReader"
        )
    return f"{block.title}:\n{text}" if block.title and block.title != _DEFAULT_TITLE else text


def _is_text_type(name: str, media_type: str | None) -> bool:
    media_type = media_type or mimetypes.guess_type(name)[0] or ""
    return media_type.startswith("text/") or media_type in _TEXT_TYPES or name.lower().endswith(_TEXT_SUFFIXES)


def _text_of_data_uri(uri: str) -> bytes | None:
    head, comma, data = uri.partition(",")
    if not comma or not _is_text_type("", head[len("data:") :].partition(";")[0].lower()):
        return None
    if not head.lower().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(data)
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        return None


# From the API


def to_response(completion: ChatCompletion, request: ChatRequest) -> ChatResponse:
    """Translate a whole answer.

    `raw` is the service's answer as a dict. `additional_kwargs` has `finish_reason` (None if the service sent none)
    and, if it counted, `prompt_tokens`, `completion_tokens` and `total_tokens`; also `cut_tool_call`, if `max_tokens`
    ended the answer within a tool call. Arguments of a tool call that are not a JSON object stay a string in its
    `ToolCallBlock`.
    """
    answer = StreamedAnswer(request)
    answer.add(completion.message, is_whole=True)
    return ChatResponse(
        message=answer.message(is_whole=True),
        raw=completion.model_dump(exclude_none=True),
        additional_kwargs=answer.facts(completion, completion.finish_reason),
    )


def to_chunks(chunks: ChatStream, request: ChatRequest) -> Generator[ChatResponse, None, None]:
    """Translate a stream: each response has the `delta` and the message so far; the last has the finish reason."""
    answer = StreamedAnswer(request)
    with contextlib.closing(chunks) as stream:
        for chunk in stream:
            yield answer.to_chunk(chunk)


async def ato_chunks(chunks: AsyncChatStream, request: ChatRequest) -> AsyncGenerator[ChatResponse, None]:
    """Asynchronous version of `to_chunks`."""
    answer = StreamedAnswer(request)
    async with contextlib.aclosing(chunks) as stream:
        async for chunk in stream:
            yield answer.to_chunk(chunk)


class StreamedAnswer:
    """Collects an answer from its chunks. What did not change since the last chunk is not built again."""

    def __init__(self, request: ChatRequest) -> None:
        self._content = ""
        self._reasoning = ""
        self._calls: dict[int | None, tool_calls.CollectedCall] = {}
        self._tools = request.tools or []
        # Models that were asked for one call at most may make several all the same.
        self._allows_one_call = request.parallel_tool_calls is False

    def add(self, delta: Delta, *, is_whole: bool = False) -> None:
        """Add what a chunk or a whole message says. Calls of a whole message need no index."""
        self._content += (delta.content or "") + (delta.refusal or "")
        self._reasoning += delta.reasoning or ""
        for position, fragment in enumerate(delta.tool_calls or ()):
            index = position if is_whole or fragment.index is None else fragment.index
            if index not in self._calls:
                if self._calls and self._allows_one_call:
                    continue
                self._calls[index] = tool_calls.CollectedCall()
            self._calls[index].add(fragment)

    def to_chunk(self, chunk: ChatChunk) -> ChatResponse:
        """Add a chunk and return the answer so far. Arguments of tool calls are strings until the last chunk."""
        choice = chunk.choices[0] if chunk.choices else None
        delta = choice.delta if choice else Delta()
        before = len(self._content)
        self.add(delta)
        facts = self.facts(chunk, choice.finish_reason if choice else None) if chunk.is_last else {}
        if delta.reasoning:
            facts["thinking_delta"] = delta.reasoning  # the key that LlamaIndex's agents read
        return ChatResponse(
            message=self.message(is_whole=chunk.is_last),
            delta=self._content[before:],
            raw=chunk.model_dump(exclude_none=True, exclude={"is_last"}),
            additional_kwargs=facts,
        )

    def message(self, *, is_whole: bool) -> ChatMessage:
        """Return the message so far."""
        blocks: list[ContentBlock] = []
        if self._reasoning:
            blocks.append(ThinkingBlock(content=self._reasoning))
        if self._content or not self._calls:
            blocks.append(TextBlock(text=self._content))
        more: dict[str, Any] = {}
        if self._calls:
            blocks += [call.block(is_whole=is_whole) for call in self._calls.values()]
            # LlamaIndex's streaming of structured answers looks for tool calls here, not among the blocks.
            more["tool_calls"] = [call.to_dict() for call in self._calls.values()]
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more)

    def facts(self, reply: ChatCompletion | ChatChunk, finish_reason: str | None) -> dict[str, Any]:
        """Return the `additional_kwargs` of a whole answer."""
        facts: dict[str, Any] = {"finish_reason": finish_reason}
        if finish_reason == "length":
            name = tool_calls.cut_call(self.message(is_whole=True), self._tools)
            facts |= {} if name is None else {tool_calls.CUT_CALL: name}
        if reply.usage is not None:
            facts["prompt_tokens"] = reply.usage.prompt_tokens
            facts["completion_tokens"] = reply.usage.completion_tokens
            facts["total_tokens"] = reply.usage.total_tokens
        return facts
