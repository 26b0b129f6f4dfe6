"""The response of `POST /chat/completions`, in every form that its documentation and official clients show.

- `message` or, in older responses, only `text`; `content` null with tool calls.
- `choices` and `tool_calls` as an object in place of a list.
- a choice with `"status": "error: …"` in place of an answer.
- `usage` and `finish_reason` present or missing.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from predictionguard_core import error_responses
from predictionguard_core.api.base import Fallback, ResponseModel, as_list

_MAX_NUMBER = 1e15

MAX_CHOICES = 128
MAX_TOOL_CALLS = 1000
"""More of either in one answer raises `InvalidResponseError`: a server may not fill the caller's memory."""


def _to_none(value: Any) -> None:
    return None


def _empty_if_null(value: Any) -> Any:
    return {} if value is None else value


def _join_parts(content: Any) -> Any:
    """Return the text of content that a server sends as a list of parts."""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _to_choices(value: Any) -> Any:
    return [] if value is None else as_list(value)


def _drop_empty_calls(value: Any) -> Any:
    """Return the tool calls without empty ones."""
    calls = as_list(value)
    return [call for call in calls if call != {}] if isinstance(calls, list) else calls


def _to_count(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        return int(value)
    return int(value) if isinstance(value, int | float) and abs(value) < _MAX_NUMBER else 0


def _to_index(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    return int(value) if isinstance(value, int | float) and abs(value) < _MAX_NUMBER else None


# Invalid values next to the answer are dropped, so that they do not lose the answer.
_Int = Annotated[int, Field(strict=True, gt=-_MAX_NUMBER, lt=_MAX_NUMBER)]
_Count = Annotated[_Int, Fallback(_to_count)]
_Detail = Annotated[_Int | None, Fallback(_to_count)]
_Index = Annotated[_Int | None, Fallback(_to_index)]
_Number = Annotated[float | None, Field(strict=True, gt=-_MAX_NUMBER, lt=_MAX_NUMBER), Fallback(_to_none)]
_Name = Annotated[str | None, Fallback(str)]
_Text = Annotated[str | None, Fallback(_to_none)]


class PromptTokensDetails(ResponseModel):
    cached_tokens: _Detail = None


class CompletionTokensDetails(ResponseModel):
    reasoning_tokens: _Detail = None


class Usage(ResponseModel):
    """Token counts of one call, as the service counts them."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    prompt_tokens_details: Annotated[PromptTokensDetails | None, Fallback(_to_none)] = None
    completion_tokens_details: Annotated[CompletionTokensDetails | None, Fallback(_to_none)] = None

    def model_post_init(self, context: Any, /) -> None:
        if not self.total_tokens:
            self.total_tokens = self.prompt_tokens + self.completion_tokens


ReadableUsage = Annotated[Usage | None, Fallback(_to_none)]


class FunctionCallDelta(ResponseModel):
    """A function call or a fragment of one. `arguments` is JSON text, a piece of it, or None."""

    name: _Name = None
    arguments: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _arguments_as_text(cls, data: Any) -> Any:
        # Some servers behind OpenAI-style gateways send the arguments as an object.
        if isinstance(data, dict) and isinstance(data.get("arguments"), dict | list):
            return {**data, "arguments": json.dumps(data["arguments"])}
        return data


class ToolCallDelta(ResponseModel):
    """A tool call or a fragment of one. Fragments of one call share an `index`."""

    index: _Index = None
    id: _Name = None
    type: _Text = None
    function: Annotated[FunctionCallDelta, Fallback(_empty_if_null)] = Field(default_factory=FunctionCallDelta)


_ToolCalls = Annotated[list[ToolCallDelta], Field(max_length=MAX_TOOL_CALLS), BeforeValidator(_drop_empty_calls)]


class Delta(ResponseModel):
    """A message, or what a chunk adds to it. `content`, `reasoning` and `refusal` are text or None."""

    role: _Text = None
    content: Annotated[str | None, Fallback(_join_parts)] = None
    reasoning: _Text = Field(default=None, validation_alias=AliasChoices("reasoning", "reasoning_content"))
    refusal: _Text = None
    tool_calls: _ToolCalls | None = None


_CONTENT_FIELDS = ("content", "tool_calls", "reasoning", "reasoning_content", "refusal")


class _Choice(ResponseModel):
    index: _Count = 0
    # Some servers send an empty string in place of null.
    finish_reason: Annotated[Annotated[str, Field(min_length=1)] | None, Fallback(_to_none)] = None
    status: _Text = None


class Choice(_Choice):
    """One answer. `raise_for_choice_status` raises for a choice whose status is an error."""

    message: Delta

    @model_validator(mode="before")
    @classmethod
    def _message_from_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and not _has_content(data.get("message")):
            text = data.get("text")
            if isinstance(text, str) or _is_error(data.get("status")):
                return {**data, "message": {"role": "assistant", "content": text}}
        return data


class ChunkChoice(_Choice):
    """What a chunk adds to one answer. `generated_text`, on the last one, repeats the whole text."""

    delta: Delta
    generated_text: _Text = None


def _with_delta(data: Any) -> Any:
    # Text completions stream this way, and some servers send a whole answer in place of a chunk.
    if isinstance(data, dict) and data.get("delta") is None:
        message = data.get("message")
        return {**data, "delta": message if isinstance(message, dict) else {"content": data.get("text")}}
    return data


class ChatChunk(ResponseModel):
    """One chunk of a streamed answer. All chunks of one answer have the same `id`.

    `is_last` is true for the last one only. It has the finish reason and the usage.
    """

    id: _Name = None
    created: _Number = None
    model: _Name = None
    choices: Annotated[
        list[Annotated[ChunkChoice, Fallback(_with_delta)]], Field(max_length=MAX_CHOICES), Fallback(_to_choices)
    ] = Field(default_factory=list)
    usage: ReadableUsage = None
    is_last: Annotated[bool, BeforeValidator(lambda _: False)] = False  # only ever set by us


class ChatCompletion(ResponseModel):
    """A whole answer."""

    id: _Name = None
    created: _Number = None
    model: _Name = None
    choices: Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES), Fallback(as_list)]
    usage: ReadableUsage = None

    @property
    def message(self) -> Delta:
        """The first answer's message."""
        return self.choices[0].message

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended, such as "stop", "length" or "tool_calls"."""
        return self.choices[0].finish_reason

    def as_chunk(self) -> ChatChunk:
        """Return this answer as the one chunk of a stream, with the full metadata. Tool calls get their index."""
        return ChatChunk.model_construct(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=[_as_chunk_choice(choice) for choice in self.choices],
            usage=self.usage,
            is_last=True,
        )


def _as_chunk_choice(choice: Choice) -> ChunkChoice:
    delta = choice.message
    if delta.tool_calls:
        calls = [call.model_copy(update={"index": index}) for index, call in enumerate(delta.tool_calls)]
        delta = delta.model_copy(update={"tool_calls": calls})
    # A plain answer without a finish reason is complete: only a stream needs one to mark its end.
    return ChunkChoice.model_construct(
        index=choice.index, finish_reason=choice.finish_reason, status=None, delta=delta, generated_text=None
    )


def raise_for_choice_status(response: ChatCompletion | ChatChunk, request_id: str | None = None) -> None:
    """Raise the error that a choice's `status` stands for, if one does."""
    for choice in response.choices:
        if _is_error(choice.status):
            raise error_responses.error_from_payload(choice.status, request_id)


def _has_content(message: Any) -> bool:
    return message is not None and (not isinstance(message, dict) or any(map(message.get, _CONTENT_FIELDS)))


def _is_error(status: Any) -> bool:
    return isinstance(status, str) and status.lower().startswith("error")
