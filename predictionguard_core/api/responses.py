"""What `POST /chat/completions` answers: every shape that its documentation and official clients show is read.

- `message` or, in older replies, only `text`; `content` null beside tool calls.
- `choices` and `tool_calls` as an object where a list is meant.
- a choice with `"status": "error: …"` in place of an answer.
- `usage` and `finish_reason` present or missing.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from predictionguard_core import error_responses
from predictionguard_core.api.base import ResponseModel, as_list

_MAX_NUMBER = 1e15

MAX_CHOICES = 128
MAX_TOOL_CALLS = 1000
"""More of either in one answer raises `InvalidResponseError`: a server may not fill the caller's memory."""


def _or(fallback: Any) -> BeforeValidator:
    # A null where a value is meant costs nobody an answer that is there and paid for.
    return BeforeValidator(lambda value: fallback if value is None else value)


def _joined(content: Any) -> Any:
    """Text, where a server gives it as a list of parts."""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _calls(value: Any) -> Any:
    """The calls, without those of which nothing is said."""
    calls = as_list(value)
    return [call for call in calls if call != {}] if isinstance(calls, list) else calls


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        return int(value)
    return int(value) if isinstance(value, int | float) and abs(value) < _MAX_NUMBER else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) or value is None else str(value)


def _index(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    return int(value) if isinstance(value, int | float) and abs(value) < _MAX_NUMBER else None


def _loose(value: Any) -> float | None:
    return value if isinstance(value, int | float) and abs(value) < _MAX_NUMBER else None


def _only(*kinds: type) -> BeforeValidator:
    return BeforeValidator(lambda value: value if isinstance(value, kinds) else None)


# What is beside the answer is read if it can be: it costs nobody the answer.
_Count = Annotated[int, BeforeValidator(_number)]
_Detail = Annotated[int | None, BeforeValidator(lambda value: None if value is None else _number(value))]
_Name = Annotated[str | None, BeforeValidator(_text)]
_Text = Annotated[str | None, _only(str)]
_Loose = Annotated[float | None, BeforeValidator(_loose)]


class PromptTokensDetails(ResponseModel):
    cached_tokens: _Detail = None


class CompletionTokensDetails(ResponseModel):
    reasoning_tokens: _Detail = None


class Usage(ResponseModel):
    """Token counts of one call, as the service counts them."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    prompt_tokens_details: Annotated[PromptTokensDetails | None, _only(dict, PromptTokensDetails)] = None
    completion_tokens_details: Annotated[CompletionTokensDetails | None, _only(dict, CompletionTokensDetails)] = None

    def model_post_init(self, context: Any, /) -> None:
        if not self.total_tokens:
            self.total_tokens = self.prompt_tokens + self.completion_tokens


ReadableUsage = Annotated[Usage | None, _only(dict, Usage)]


class FunctionCallDelta(ResponseModel):
    """A function call or a fragment of one. `arguments` is JSON text, or a piece of it; None where it is not given."""

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

    index: Annotated[int | None, BeforeValidator(_index)] = None
    id: _Name = None
    type: _Text = None
    function: Annotated[FunctionCallDelta, _or({})] = Field(default_factory=FunctionCallDelta)


class Delta(ResponseModel):
    """A message, or what a chunk adds to it. `content`, `reasoning` and `refusal` are text or None."""

    role: _Text = None
    content: Annotated[str | None, BeforeValidator(_joined)] = None
    reasoning: _Text = Field(default=None, validation_alias=AliasChoices("reasoning", "reasoning_content"))
    refusal: _Text = None
    tool_calls: Annotated[list[ToolCallDelta] | None, BeforeValidator(_calls)] = Field(
        default=None, max_length=MAX_TOOL_CALLS
    )


_SAYING = ("content", "tool_calls", "reasoning", "reasoning_content", "refusal")


class _Choice(ResponseModel):
    index: _Count = 0
    # Empty where a server can't leave it out.
    finish_reason: Annotated[
        str | None, BeforeValidator(lambda value: value if value and isinstance(value, str) else None)
    ] = None
    status: _Text = None


class Choice(_Choice):
    """One answer. Raises nothing itself: `ChatCompletion.parse` raises for a choice whose status is an error."""

    message: Delta

    @model_validator(mode="before")
    @classmethod
    def _message_from_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and not _says_something(data.get("message")):
            text = data.get("text")
            if isinstance(text, str) or _failed(data.get("status")):
                return {**data, "message": {"role": "assistant", "content": text}}
        return data


class ChunkChoice(_Choice):
    """What a chunk adds to one answer. `generated_text`, on the last one, repeats the whole text."""

    delta: Delta = Field(default_factory=Delta)
    generated_text: _Text = None

    @model_validator(mode="before")
    @classmethod
    def _delta_from_text(cls, data: Any) -> Any:
        # As text completions stream, and servers that put a whole answer where its chunk should be.
        if isinstance(data, dict) and data.get("delta") is None:
            message = data.get("message")
            return {**data, "delta": message if isinstance(message, dict) else {"content": data.get("text")}}
        return data


class ChatChunk(ResponseModel):
    """One chunk of a streamed answer. All chunks of one answer bear one `id`.

    `is_last` is true on exactly one, the last: it has the finish reason and the usage.
    """

    id: _Name = None
    created: _Loose = None
    model: _Name = None
    choices: Annotated[list[ChunkChoice], BeforeValidator(as_list), _or([])] = Field(
        default_factory=list, max_length=MAX_CHOICES
    )
    usage: ReadableUsage = None
    is_last: bool = False


class ChatCompletion(ResponseModel):
    """A whole answer."""

    id: _Name = None
    created: _Loose = None
    model: _Name = None
    choices: Annotated[list[Choice], BeforeValidator(as_list)] = Field(min_length=1, max_length=MAX_CHOICES)
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
        """This answer as the one chunk of a stream, with the full metadata. Tool calls get their index."""
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
    # A plain answer without a finish reason is whole all the same: only a stream needs one to tell its end.
    return ChunkChoice.model_construct(
        index=choice.index, finish_reason=choice.finish_reason, status=None, delta=delta, generated_text=None
    )


def raise_for_choice_status(reply: ChatCompletion | ChatChunk, request_id: str | None = None) -> None:
    """Raise the error that a choice's `status` stands for, if one does."""
    for choice in reply.choices:
        if _failed(choice.status):
            raise error_responses.error_from_payload(choice.status, request_id)


def _says_something(message: Any) -> bool:
    return message is not None and (not isinstance(message, dict) or any(map(message.get, _SAYING)))


def _failed(status: Any) -> bool:
    return isinstance(status, str) and status.lower().startswith("error")
