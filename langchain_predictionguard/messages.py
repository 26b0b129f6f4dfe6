"""LangChain's messages to the endpoint's, and its answers back. Pure: nothing here reads a file or an address.

The caller's messages are never edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_predictionguard import tool_calls
from langchain_predictionguard.content_blocks import to_parts
from langchain_predictionguard.options import PROVIDER
from predictionguard_core.api.chat import ImagePart, Message, Part, TextPart
from predictionguard_core.api.responses import (
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    ToolCallDelta,
    Usage,
)
from predictionguard_core.errors import ContentError
from predictionguard_core.quick import like
from predictionguard_core.streaming import Piece

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}


# Down: to the endpoint


def to_wire(messages: Sequence[BaseMessage]) -> list[Message]:
    """The endpoint's messages. Raises `ContentError`, with the place, for what it has no form for."""
    sent: list[Message] = []
    ids = tool_calls.CallIds(messages)
    pictures: list[tuple[str, list[ImagePart]]] = []
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage | FunctionMessage):
            # The endpoint takes no picture in a tool's message: it follows from the user's side when all have spoken.
            texts, images = _apart(_parts(message, index))
            sent.append(_message("tool", texts, message, tool_call_id=ids.answered_by(message, index)))
            if images:
                pictures.append((f"{message.name or 'tool call'} {sent[-1].tool_call_id}", images))
            continue
        if pictures:
            sent.append(_shown(pictures))
            pictures = []
        called = ids.called_by(message, index) if isinstance(message, AIMessage) else None
        sent.append(_message(_role(message, index), _parts(message, index), message, tool_calls=called))
    if pictures:
        sent.append(_shown(pictures))
    return sent


def _message(role: Role, parts: list[Part], message: BaseMessage, **fields: Any) -> Message:
    content: str | list[Part] = parts
    if not parts:
        content = ""
    elif len(parts) == 1 and isinstance(parts[0], TextPart):
        content = parts[0].text
    # A tool's result is known by its call's id, and no server expects a name, which LangGraph gives to each.
    name = message.name if role != "tool" else None
    return Message.model_construct(role=role, content=content, name=name or None, **fields)


def _shown(pictures: list[tuple[str, list[ImagePart]]]) -> Message:
    parts: list[Part] = []
    for call, images in pictures:
        if len(pictures) > 1:
            # Among the pictures of several calls the model has to know which is whose.
            parts.append(TextPart(text=f"From the result of {call}:"))
        parts.extend(images)
    return Message.model_construct(role="user", content=parts)


def _role(message: BaseMessage, index: int) -> Role:
    match message:
        case HumanMessage():
            return "user"
        case AIMessage():
            return "assistant"
        case SystemMessage():
            return "system"
        case ChatMessage() if message.role in _ROLES:
            return _ROLES[message.role]
    if isinstance(message, ChatMessage) and message.role == "tool":
        raise ContentError("a tool's message needs the id of its call: use ToolMessage", message_index=index)
    what = f"role {message.role!r}" if isinstance(message, ChatMessage) else type(message).__name__
    raise ContentError(
        f"the endpoint knows no {what}; the roles are system, user, assistant and tool", message_index=index
    )


def _parts(message: BaseMessage, index: int) -> list[Part]:
    content = message.content
    if not content and isinstance(refusal := message.additional_kwargs.get("refusal"), str):
        content = refusal  # where OpenAI's chat has the words of its no
    if isinstance(content, str):
        return [TextPart.model_construct(text=content)] if content else []
    parts: list[Part] = []
    for block_index, block in enumerate(content):
        try:
            made = to_parts(block, from_assistant=isinstance(message, AIMessage))
        except ContentError as error:
            raise error.with_location(index, block_index) from None
        for part in made:
            if isinstance(part, ImagePart):
                part.location = (index, block_index)
        parts += made
    return parts


def _apart(parts: list[Part]) -> tuple[list[Part], list[ImagePart]]:
    images = [part for part in parts if isinstance(part, ImagePart)]
    return [part for part in parts if isinstance(part, TextPart)], images


# Up: from the endpoint


def to_result(completion: ChatCompletion) -> ChatResult:
    """LangChain's result. Arguments of a tool call that are no JSON object land in `invalid_tool_calls`."""
    generations = [_generation(choice, completion) for choice in completion.choices]
    return ChatResult(generations=generations, llm_output={"model_name": completion.model})


def _generation(choice: Choice, completion: ChatCompletion) -> ChatGeneration:
    message = choice.message
    good, invalid = tool_calls.sorted_out(message.tool_calls or [])
    metadata = _metadata(completion, choice.finish_reason)
    return ChatGeneration(
        message=AIMessage(
            content=message.content or "",
            additional_kwargs=_thoughts(message),
            tool_calls=good,
            invalid_tool_calls=invalid,
            usage_metadata=_usage(completion.usage),
            response_metadata=metadata,
            id=completion.id,
        ),
        generation_info={"finish_reason": choice.finish_reason} if choice.finish_reason else None,
    )


class Chunks:
    """The chunks of one answer, one after the other. The last one spoils the arguments of calls that were cut off."""

    def __init__(self) -> None:
        self._arguments: dict[int | None, str] = {}
        self._with_id: set[int | None] = set()
        self._likeness: tuple[ChatGenerationChunk, AIMessageChunk] | None = None

    def to_chunk(self, chunk: Piece) -> ChatGenerationChunk:
        """LangChain's chunk. The finish reason, the model's name and the usage stand on the last one only."""
        if isinstance(chunk, str):
            return self._word(chunk)
        if self._likeness is None:
            plain = to_chunk(ChatChunk(id=chunk.id))
            assert isinstance(plain.message, AIMessageChunk)
            self._likeness = (plain, plain.message)
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                # LangChain adds ids up: each call has one, from the first piece that bears one.
                if chunk.is_last and call.index not in self._arguments:
                    call.id = call.id or tool_calls.made_id()  # a whole call, as in an answer that comes as one chunk
                if call.index in self._with_id:
                    call.id = None
                elif call.id:
                    self._with_id.add(call.index)
                self._arguments[call.index] = self._arguments.get(call.index, "") + (call.function.arguments or "")
        made = to_chunk(chunk)
        if chunk.is_last:
            spoilers = [
                tool_call_chunk(name=None, args=spoiler, id=None, index=index)
                for index, text in self._arguments.items()
                if (spoiler := tool_calls.spoiler(text))
            ]
            if spoilers and isinstance(made.message, AIMessageChunk):
                made.message = made.message.model_copy(
                    update={"tool_call_chunks": made.message.tool_call_chunks + spoilers}
                )
        return made

    def before(self, chunk: ChatChunk) -> Iterator[ChatGenerationChunk]:
        """What comes before a chunk: before the last one, ids for those calls to which the server gave none.

        On the last one itself LangChain would take them for calls of their own.
        """
        missing = [index for index in self._arguments if index not in self._with_id] if chunk.is_last else []
        if missing:
            made = [ToolCallDelta(index=index, id=tool_calls.made_id()) for index in missing]
            yield self.to_chunk(ChatChunk(id=chunk.id, choices=[ChunkChoice(delta=Delta(tool_calls=made))]))

    def _word(self, text: str) -> ChatGenerationChunk:
        assert self._likeness is not None, "the first piece is a chunk"
        made, message = self._likeness
        own = {"content": text, "additional_kwargs": {}, "response_metadata": {}, "tool_call_chunks": []}
        own |= {"tool_calls": [], "invalid_tool_calls": []}
        return like(made, {"message": like(message, own), "text": text})


def to_chunk(chunk: ChatChunk) -> ChatGenerationChunk:
    """One chunk by itself, as `Chunks` hands it on."""
    delta = chunk.choices[0].delta if chunk.choices else Delta()
    finish_reason = chunk.choices[0].finish_reason if chunk.choices else None
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=delta.content or "",
            additional_kwargs=_thoughts(delta),
            tool_call_chunks=[
                tool_call_chunk(name=call.function.name, args=call.function.arguments, id=call.id, index=call.index)
                for call in delta.tool_calls or []
            ],
            usage_metadata=_usage(chunk.usage),
            response_metadata=_metadata(chunk, finish_reason) if chunk.is_last else {},
            chunk_position="last" if chunk.is_last else None,
            id=chunk.id,
        )
    )


def _metadata(reply: ChatCompletion | ChatChunk, finish_reason: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"model_provider": PROVIDER}
    if reply.model:
        metadata["model_name"] = reply.model
    if finish_reason:
        metadata["finish_reason"] = finish_reason
    return metadata


def _thoughts(message: Delta) -> dict[str, Any]:
    # The key from which LangChain makes reasoning blocks.
    return {"reasoning_content": message.reasoning} if message.reasoning else {}


def _usage(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    metadata = UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
    if usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens is not None:
        metadata["input_token_details"] = InputTokenDetails(cache_read=usage.prompt_tokens_details.cached_tokens)
    if usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens is not None:
        metadata["output_token_details"] = OutputTokenDetails(
            reasoning=usage.completion_tokens_details.reasoning_tokens
        )
    return metadata
