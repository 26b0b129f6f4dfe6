"""LangChain's messages to the API's, and its responses back. No I/O: nothing here reads a file or a URL.

The caller's messages are never changed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
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
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_predictionguard.base import PROVIDER
from langchain_predictionguard.content_blocks import to_parts, tool_result_blocks
from langchain_predictionguard.tool_calls import (
    OfferedTools,
    StreamedCalls,
    ToolCallIds,
    cut_call_in_text,
    to_tool_calls,
)
from predictionguard_core.api import chat as api
from predictionguard_core.api.responses import ChatChunk, ChatCompletion, Delta, Usage
from predictionguard_core.errors import ContentError

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}
_ONLY_IMAGES = "The result is an image. It follows in the next message of the user."


# Requests


@dataclasses.dataclass(frozen=True, slots=True)
class MovedImages:
    """Images of a message that is not the user's, to be sent in a user message. `origin` names their message."""

    origin: str
    images: list[api.ImagePart]
    is_tool_result: bool


def to_api(messages: Sequence[BaseMessage]) -> list[api.Message]:
    """Return the API's messages. Raises `ContentError`, with the location, for what the API has no form for.

    The API takes images in user messages only. Images in tool results are moved to a user message after the turn's last
    result; images in system and assistant messages, to a user message right after.
    """
    sent: list[api.Message] = []
    ids = ToolCallIds(messages)
    moved: list[MovedImages] = []
    for index, message in _results_first(messages):
        parts = _parts(message, index)
        if isinstance(message, ToolMessage | FunctionMessage):
            call_id = ids.id_for(message, index)
            origin = f"the result of {message.name or 'tool call'} {call_id}"
            parts = _without_images(parts, origin, moved, is_tool_result=True)
            sent.append(api.Message(role="tool", content=_content(parts) or _ONLY_IMAGES, tool_call_id=call_id))
            continue
        role = _role(message, index)
        if moved and role != "system":
            sent.append(_image_message(moved))
            moved = []
        if role != "user":
            parts = _without_images(parts, f"the {role} message above", moved, is_tool_result=False)
        calls = ids.calls_of(message, index) if isinstance(message, AIMessage) else None
        sent.append(api.Message(role=role, content=_content(parts), name=_name(message), tool_calls=calls))
    if moved:
        sent.append(_image_message(moved))
    return sent


def _results_first(messages: Sequence[BaseMessage]) -> list[tuple[int, BaseMessage]]:
    """Return the messages with their indices, tool results before the other messages of their turn.

    Within each turn: the assistant's message, its tool results, then the rest, each in order. Messages before the first
    assistant message stay where they are. Servers accept no other message between a call and its results.
    """
    ordered: list[tuple[int, BaseMessage]] = []
    rest: list[tuple[int, BaseMessage]] = []
    for index, message in enumerate(messages):
        if isinstance(message, AIMessage):
            ordered += [*rest, (index, message)]
            rest = []
        elif ordered and isinstance(message, ToolMessage | FunctionMessage):
            ordered.append((index, message))
        else:
            rest.append((index, message))
    return ordered + rest


def _without_images(
    parts: list[api.Part], origin: str, moved: list[MovedImages], *, is_tool_result: bool
) -> list[api.Part]:
    """Return the parts that are no images. Append the images to `moved`."""
    images = [part for part in parts if isinstance(part, api.ImagePart)]
    if images:
        moved.append(MovedImages(origin, images, is_tool_result))
    return [part for part in parts if isinstance(part, api.TextPart)]


def _image_message(moved: list[MovedImages]) -> api.Message:
    parts: list[api.Part] = []
    for each in moved:
        # Images of a single tool result need no label: the result is among the messages right before.
        if len(moved) > 1 or not each.is_tool_result:
            parts.append(api.TextPart(text=f"From {each.origin}:"))
        parts.extend(each.images)
    return api.Message(role="user", content=parts)


def _content(parts: list[api.Part]) -> str | list[api.Part]:
    # Some servers take a list only where there is an image.
    texts = [part.text for part in parts if isinstance(part, api.TextPart)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _name(message: BaseMessage) -> str | None:
    # OpenAI-style servers take letters, digits, _ and - only.
    return re.sub(r"[^A-Za-z0-9_-]+", "_", message.name or "").strip("_")[:64] or None


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
        raise ContentError("a message with role 'tool' needs the id of its call: use ToolMessage", message_index=index)
    kind = f"role {message.role!r}" if isinstance(message, ChatMessage) else type(message).__name__
    raise ContentError(
        f"unsupported message: {kind}. The roles are system, user, assistant and tool", message_index=index
    )


def _parts(message: BaseMessage, index: int) -> list[api.Part]:
    content = message.content
    if isinstance(message, AIMessage) and not content:
        refusal = message.additional_kwargs.get("refusal")  # where langchain-openai puts it
        content = refusal if isinstance(refusal, str) else content
    if isinstance(message, ToolMessage) and isinstance(content, str):
        try:
            content = tool_result_blocks(content)
        except ContentError as error:
            raise error.with_location(index, None) from None
    if isinstance(content, str):
        return [api.TextPart(text=content)] if content else []
    parts: list[api.Part] = []
    for block_index, block in enumerate(content):
        try:
            converted = to_parts(block, from_assistant=isinstance(message, AIMessage))
        except ContentError as error:
            raise error.with_location(index, block_index) from None
        for part in converted:
            if isinstance(part, api.ImagePart):
                part.location = (index, block_index)
        parts += [part for part in converted if isinstance(part, api.ImagePart) or part.text]
    return parts


# Responses


def to_result(completion: ChatCompletion, offered: OfferedTools) -> ChatResult:
    """Return LangChain's result. Tool calls with unusable arguments are in `invalid_tool_calls`.

    Only the first choice is read: the others of an `n` in `extra_body` have no place in one message.
    """
    choice = completion.choices[0]
    delta, is_cut = choice.message, choice.finish_reason == "length"
    text, calls = delta.content or "", delta.tool_calls or []
    text += "".join(call.function.arguments or "" for call in calls if call.function.name == offered.response_tool)
    calls = [call for call in calls if not call.function.name or call.function.name != offered.response_tool]
    valid, invalid = to_tool_calls(calls, offered, is_cut=is_cut)
    if is_cut and offered.required and not calls:
        text, cut_call = cut_call_in_text(text)
        invalid += [cut_call] if cut_call else []
    message = AIMessage(
        content=_content_with_refusal(text, delta),
        additional_kwargs=_additional(delta),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        usage_metadata=_usage(completion.usage),
        response_metadata=_metadata(completion, choice.finish_reason),
    )
    generation = ChatGeneration(message=message, generation_info=_generation_info(choice.finish_reason))
    return ChatResult(generations=[generation], llm_output={"model_name": completion.model})


class ChunkConverter:
    """Converts the chunks of one stream to LangChain's. Finish reason, model name and usage are on the last one."""

    def __init__(self, offered: OfferedTools) -> None:
        self._calls = StreamedCalls(offered)

    def to_chunks(self, chunk: ChatChunk) -> list[ChatGenerationChunk]:
        """Return LangChain's chunks: one, and before the last one another that completes the tool calls."""
        choice = chunk.choices[0] if chunk.choices else None
        delta = choice.delta if choice else Delta()
        text = delta.content or ""
        fragments: list[ToolCallChunk] = []
        for call in delta.tool_calls or []:
            more, fragment = self._calls.add(call)
            text += more
            fragments += [fragment] if fragment else []
        if not chunk.is_last:
            return [_chunk(text, delta, fragments)]
        finish_reason = choice.finish_reason if choice else None
        endings = self._calls.finish(is_cut=finish_reason == "length")
        present = {fragment["index"] for fragment in fragments}
        earlier = [ending for ending in endings if ending["index"] not in present]
        last = _chunk(
            text,
            delta,
            _with_endings(fragments, endings),
            finish_reason,
            usage_metadata=_usage(chunk.usage),
            response_metadata=_metadata(chunk, finish_reason),
            chunk_position="last",
        )
        # LangChain takes the calls of the last chunk for complete calls, so what completes earlier ones goes before it.
        return [_chunk("", Delta(), earlier), last] if earlier else [last]


def _chunk(
    text: str, delta: Delta, calls: list[ToolCallChunk], finish_reason: str | None = None, **fields: Any
) -> ChatGenerationChunk:
    if calls:
        fields["tool_call_chunks"] = calls
    if additional := _additional(delta):
        fields["additional_kwargs"] = additional
    # With an index LangChain joins the pieces of one refusal.
    message = AIMessageChunk(content=_content_with_refusal(text, delta, index=0), **fields)
    return ChatGenerationChunk(message=message, generation_info=_generation_info(finish_reason))


def _with_endings(fragments: list[ToolCallChunk], endings: list[ToolCallChunk]) -> list[ToolCallChunk]:
    """Return the calls of an answer that comes as one chunk, with what completes them."""
    by_index = {ending["index"]: ending for ending in endings}
    for fragment in fragments:
        if ending := by_index.get(fragment["index"]):
            fragment["args"] = (fragment["args"] or "") + (ending["args"] or "")
            fragment["id"] = fragment["id"] or ending["id"]
    return fragments


def _content_with_refusal(text: str, delta: Delta, **more: Any) -> str | list[str | dict[str, Any]]:
    if not delta.refusal:
        return text
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    return [*blocks, {"type": "refusal", "refusal": delta.refusal, **more}]


def _additional(delta: Delta) -> dict[str, Any]:
    # The keys that LangChain makes reasoning blocks of, and that langchain-openai has for refusals.
    found = {"reasoning_content": delta.reasoning, "refusal": delta.refusal}
    return {name: text for name, text in found.items() if text}


def _generation_info(finish_reason: str | None) -> dict[str, Any] | None:
    return {"finish_reason": finish_reason} if finish_reason else None


def _metadata(response: ChatCompletion | ChatChunk, finish_reason: str | None) -> dict[str, Any]:
    found = {"id": response.id, "model_name": response.model, "finish_reason": finish_reason}
    return {"model_provider": PROVIDER, **{name: value for name, value in found.items() if value}}


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
