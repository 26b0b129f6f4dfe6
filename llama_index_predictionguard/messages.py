"""LlamaIndex's messages to the endpoint's, and its answers back. Pure: nothing here reads a file or an address.

Every form in which LlamaIndex gives a picture becomes one image part that names its source; the core's image room does
the rest. The caller's messages are never edited.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from typing import Any, Literal

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llama_index_predictionguard import tool_calls
from llama_index_predictionguard.image_sources import Picture, block_source, document_parts
from predictionguard_core import endings
from predictionguard_core.api.chat import ImagePart, ImageURL, Location, Message, Part, TextPart
from predictionguard_core.api.responses import ChatChunk, ChatCompletion, Delta
from predictionguard_core.errors import ContentError, UnsupportedContentError
from predictionguard_core.quick import like
from predictionguard_core.streaming import Piece

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
_NO_FORM = "the endpoint takes text and pictures, no block of type {!r}"


# Down: to the endpoint


def to_wire(messages: Sequence[ChatMessage]) -> list[Message]:
    """The endpoint's messages. Raises `ContentError`, with the place, for what it has no form for."""
    sent: list[Message] = []
    ids = tool_calls.CallIds()
    pictures: list[tuple[Message, list[ImagePart]]] = []
    for index, message in enumerate(messages):
        role = _ROLES[message.role]
        if pictures and role != "tool":
            sent.append(_shown(pictures))
            pictures = []
        parts = _parts(message, role, index)
        if role == "tool":
            # The endpoint takes no picture in a tool's message: it follows from the user's side when all have spoken.
            texts = [part for part in parts if isinstance(part, TextPart)]
            images = [part for part in parts if isinstance(part, ImagePart)]
            sent.append(_message(role, texts, message, tool_call_id=ids.answered_by(message, index)))
            if images:
                pictures.append((sent[-1], images))
        else:
            calls = ids.called_by(message, index) if role == "assistant" else None
            sent.append(_message(role, parts, message, tool_calls=calls))
    if pictures:
        sent.append(_shown(pictures))
    return sent


def prompt_to_wire(prompt: str, documents: Sequence[Picture] | None = None) -> list[Message]:
    """A question with its pictures behind it. A picture's place, in errors, is its index in `documents`."""
    parts: list[Part] = [TextPart(text=prompt)]
    for index, document in enumerate(documents or ()):
        try:
            found = _image(document) if isinstance(document, ImageBlock) else document_parts(document)
        except ContentError as error:
            raise error.with_location(None, index) from None
        parts += _placed(found, (None, index))
    return [Message.model_construct(role="user", content=_content(parts))]


def _message(role: Role, parts: Sequence[Part], message: ChatMessage, **fields: Any) -> Message:
    name = message.additional_kwargs.get("name") if role != "tool" else None
    return Message.model_construct(
        role=role, content=_content(parts), name=name if isinstance(name, str) else None, **fields
    )


def _content(parts: Sequence[Part]) -> str | list[Part]:
    if not parts:
        return ""
    first = parts[0]
    return first.text if len(parts) == 1 and isinstance(first, TextPart) else list(parts)


def _shown(pictures: list[tuple[Message, list[ImagePart]]]) -> Message:
    parts: list[Part] = []
    for result, images in pictures:
        if len(pictures) > 1:
            # Among the pictures of several calls the model has to know which is whose.
            parts.append(TextPart(text=f"From the result of tool call {result.tool_call_id}:"))
        parts.extend(images)
    return Message.model_construct(role="user", content=parts)


def _parts(message: ChatMessage, role: Role, index: int) -> list[Part]:
    parts: list[Part] = []
    for block_index, block in _blocks(message):
        try:
            parts += _placed(_block_parts(block, role), (index, block_index))
        except ContentError as error:
            raise error.with_location(index, block_index) from None
    return parts


def _blocks(message: ChatMessage) -> Iterator[tuple[int, ContentBlock]]:
    # LlamaIndex adds the pictures of this older field to the blocks once more whenever it validates the message.
    seen: list[Any] | None = [] if message.additional_kwargs.get("images") else None
    for index, block in enumerate(message.blocks):
        if seen is not None and isinstance(block, ImageBlock):
            if block.image in seen:
                continue
            seen.append(block.image)
        yield index, block


def _placed(parts: list[Part], place: Location) -> list[Part]:
    for part in parts:
        if isinstance(part, ImagePart):
            part.location = place
    return parts


def _block_parts(block: Any, role: Role) -> list[Part]:
    if isinstance(block, TextBlock):
        return [TextPart.model_construct(text=block.text)]
    if isinstance(block, ImageBlock):
        return _image(block)
    if isinstance(block, DocumentBlock):
        return [ImagePart.model_construct(image_url=ImageURL.model_construct(url=block_source(block)))]
    kind = getattr(block, "block_type", type(block).__name__)
    # Calls go out beside the content. Thoughts of earlier turns are not given back to a model: the endpoint has no
    # field for them. A cache point is a hint with no content.
    if kind == "cache" or (role == "assistant" and isinstance(block, ToolCallBlock | ThinkingBlock)):
        return []
    if isinstance(block, ToolCallBlock | ThinkingBlock):
        raise UnsupportedContentError(f"a block of type {kind!r} belongs in an assistant's message, not a {role}'s")
    raise UnsupportedContentError(_NO_FORM.format(kind))


def _image(block: ImageBlock) -> list[Part]:
    # A level of detail that only other providers have asks for more than "low" and names no level of ours.
    detail = _DETAILS.get(block.detail, "auto") if isinstance(block.detail, str) and block.detail else None
    url = ImageURL.model_construct(url=block_source(block), detail=detail)
    return [ImagePart.model_construct(image_url=url)]


# Up: from the endpoint


def to_response(completion: ChatCompletion) -> ChatResponse:
    """LlamaIndex's answer.

    `raw` is the endpoint's, as a dict. `additional_kwargs` holds `finish_reason` (None if the service gave none) and,
    if it counted, `prompt_tokens`, `completion_tokens` and `total_tokens`. Arguments of a tool call that are no JSON
    object stay the text they are in their `ToolCallBlock`.
    """
    message = completion.message
    calls = [
        tool_calls.Call(call.id, call.function.name or "", call.function.arguments or "")
        for call in message.tool_calls or []
    ]
    return ChatResponse(
        message=_answer(message.content, message.reasoning, calls, whole=True),
        raw=completion.model_dump(exclude_none=True),
        additional_kwargs=_facts(completion, completion.finish_reason),
    )


def to_chunks(chunks: Generator[Piece, None, None]) -> Generator[ChatResponse, None, None]:
    """LlamaIndex's stream: each response has the `delta` and all that was said so far; the last one has the facts."""
    answer = Answer()
    with endings.closing(chunks) as each:
        for chunk in each:
            yield answer.to_chunk(chunk)


async def ato_chunks(chunks: AsyncGenerator[Piece, None]) -> AsyncGenerator[ChatResponse, None]:
    """`to_chunks`, asynchronous."""
    answer = Answer()
    async with endings.aclosing(chunks) as each:
        async for chunk in each:
            yield answer.to_chunk(chunk)


def to_completions(chunks: Generator[ChatResponse, None, None]) -> Generator[CompletionResponse, None, None]:
    """The same stream for who asked with a bare prompt. LlamaIndex's own would not close what it reads from."""
    with endings.closing(chunks) as each:
        for chunk in each:
            yield _completion(chunk)


async def ato_completions(chunks: AsyncGenerator[ChatResponse, None]) -> AsyncGenerator[CompletionResponse, None]:
    """`to_completions`, asynchronous."""
    async with endings.aclosing(chunks) as each:
        async for chunk in each:
            yield _completion(chunk)


def _completion(chunk: ChatResponse) -> CompletionResponse:
    made = chat_response_to_completion_response(chunk)
    made.delta = chunk.delta
    return made


# What the many chunks of text alone are like.
_BLOCK = TextBlock(text="")
_MESSAGE = ChatMessage(role=MessageRole.ASSISTANT, blocks=[_BLOCK])
_RESPONSE = ChatResponse(message=_MESSAGE, delta="", raw={})


class Answer:
    """A streamed answer, as far as it has come."""

    def __init__(self) -> None:
        self._content = ""
        self._reasoning = ""
        self._calls: dict[int | None, tool_calls.Call] = {}
        self._named: dict[str, Any] = {}

    def to_chunk(self, chunk: Piece) -> ChatResponse:
        """The answer with this chunk added. Tool calls are text until the last one."""
        if isinstance(chunk, str):
            return self._word(chunk)
        if not self._named:
            facts = {"id": chunk.id, "created": chunk.created, "model": chunk.model}
            self._named = {name: value for name, value in facts.items() if value is not None}
        return self._added(chunk)

    def _word(self, text: str) -> ChatResponse:
        self._content += text
        raw = {**self._named, "choices": [{"index": 0, "delta": {"content": text}}]}
        if self._calls or self._reasoning:
            message = _answer(self._content, self._reasoning, list(self._calls.values()), whole=False)
        else:
            message = like(_MESSAGE, {"blocks": [like(_BLOCK, {"text": self._content})], "additional_kwargs": {}})
        return like(_RESPONSE, {"message": message, "delta": text, "raw": raw, "additional_kwargs": {}})

    def _added(self, chunk: ChatChunk) -> ChatResponse:
        delta = chunk.choices[0].delta if chunk.choices else Delta()
        self._content += delta.content or ""
        self._reasoning += delta.reasoning or ""
        for fragment in delta.tool_calls or []:
            call = self._calls.get(fragment.index, tool_calls.Call(None, "", ""))
            self._calls[fragment.index] = call.extended(fragment)
        facts = _facts(chunk, chunk.choices[0].finish_reason if chunk.choices else None) if chunk.is_last else {}
        if delta.reasoning:
            facts["thinking_delta"] = delta.reasoning  # the key that LlamaIndex's agents read
        return ChatResponse(
            message=_answer(self._content, self._reasoning, list(self._calls.values()), whole=chunk.is_last),
            delta=delta.content or "",
            raw=chunk.model_dump(exclude_none=True, exclude={"is_last"}),
            additional_kwargs=facts,
        )


def _answer(content: str | None, reasoning: str | None, calls: list[tool_calls.Call], *, whole: bool) -> ChatMessage:
    blocks: list[ContentBlock] = []
    if reasoning:
        blocks.append(ThinkingBlock(content=reasoning))
    if content or not calls:
        blocks.append(TextBlock(text=content or ""))
    blocks += [call.block(whole=whole) for call in calls]
    # LlamaIndex's own streaming of structured answers looks for calls here, not among the blocks.
    more = {"tool_calls": [call.as_dict() for call in calls]} if calls else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more)


def _facts(reply: ChatCompletion | ChatChunk, finish_reason: str | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"finish_reason": finish_reason}
    if reply.usage is not None:
        facts["prompt_tokens"] = reply.usage.prompt_tokens
        facts["completion_tokens"] = reply.usage.completion_tokens
        facts["total_tokens"] = reply.usage.total_tokens
    return facts
