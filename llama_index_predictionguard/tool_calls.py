"""Tool calls, both ways: offered, made, answered."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from predictionguard_core import endings
from predictionguard_core.api.chat import FunctionCall, ToolCall
from predictionguard_core.api.responses import ToolCallDelta
from predictionguard_core.errors import ConfigurationError, ContentError, InvalidResponseError

if TYPE_CHECKING:
    from llama_index.core.prompts import BasePromptTemplate
    from llama_index.core.tools.types import BaseTool

_SHOWN = 200
_REASONS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. `arguments` is JSON text, as the model wrote it or as far as it has come."""

    id: str | None
    name: str
    arguments: str

    def extended(self, fragment: ToolCallDelta) -> Call:
        """This call with a fragment of it added."""
        function = fragment.function
        return Call(
            self.id or fragment.id, self.name or function.name or "", self.arguments + (function.arguments or "")
        )

    def block(self, *, whole: bool) -> ToolCallBlock:
        """The block: with a dict for arguments that are whole and a JSON object, with their text otherwise."""
        arguments = _object(self.arguments) if whole else None
        kwargs = self.arguments if arguments is None else arguments
        return ToolCallBlock(tool_call_id=self.id, tool_name=self.name, tool_kwargs=kwargs)

    def as_dict(self) -> dict[str, Any]:
        """The call as the endpoint writes it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


# Offered


def offered(
    tools: Sequence[BaseTool],
    *,
    tool_choice: str | dict[str, Any] | None,
    tool_required: bool,
    allow_parallel_tool_calls: bool,
) -> dict[str, Any]:
    """The options of a request that offers these tools; none if there are none."""
    if not tools:
        return {}
    choice = tool_choice or ("required" if tool_required else None)
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        names = [tool.metadata.get_name() for tool in tools]
        choice = "required" if choice == "any" else _named(choice, names)
    return {
        "tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools],
        "tool_choice": choice,
        "parallel_tool_calls": allow_parallel_tool_calls,
    }


def _named(name: str, names: list[str]) -> dict[str, Any]:
    if name not in names:
        raise ConfigurationError(f"tool_choice: there is no tool {name!r} among {', '.join(names)}")
    return {"type": "function", "function": {"name": name}}


# Made


def selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """The calls in an answer, or in as much of a streamed one as there is.

    Raises `InvalidResponseError` for arguments that are no JSON object, once the answer is whole, and, if
    `error_on_no_tool_call`, for an answer without a call.
    """
    is_whole = _is_whole(response)
    found = _calls(response.message)
    if not found and error_on_no_tool_call:
        raise InvalidResponseError(
            f"the model called no tool, it answered: {(response.message.content or '')[:_SHOWN]!r}. "
            "Make it call one with tool_required=True, or allow words with error_on_no_tool_call=False"
        )
    return [
        ToolSelection(tool_id=call.id or "", tool_name=call.name, tool_kwargs=_arguments(call, is_whole=is_whole))
        for call in found
    ]


def _is_whole(response: ChatResponse) -> bool:
    return response.delta is None or "finish_reason" in response.additional_kwargs


def with_one_call(response: ChatResponse) -> ChatResponse:
    """The answer with no call but the first, for who asked for one and for a model that did not listen."""
    message = response.message
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if len(calls) > 1:
        message.blocks = [
            block for block in message.blocks if not isinstance(block, ToolCallBlock) or block is calls[0]
        ]
        message.additional_kwargs = {
            **message.additional_kwargs,
            "tool_calls": message.additional_kwargs["tool_calls"][:1],
        }
    return response


def _arguments(call: Call, *, is_whole: bool) -> dict[str, Any]:
    if not is_whole:
        return _partial(call.arguments)
    arguments = _object(call.arguments)
    if arguments is None:
        raise InvalidResponseError(
            f"the model called {call.name!r} with arguments that are no JSON object: {call.arguments[:_SHOWN]!r}. "
            "Ask again, or allow a longer answer (max_tokens) if it was cut"
        )
    return arguments


def _object(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return {}  # a tool without parameters
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _partial(text: str) -> dict[str, Any]:
    try:
        value = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return {}  # nothing that can be read yet
    return value if isinstance(value, dict) else {}


# Structured answers, streamed


def as_tool(output_cls: type[Any]) -> BaseTool:
    """The tool whose arguments are the fields of a class."""
    from llama_index.core.program.function_program import get_function_tool

    return get_function_tool(output_cls)


def in_words(output_cls: type[Any], prompt: BasePromptTemplate, llm: Any, given: dict[str, Any]) -> list[ChatMessage]:
    """The messages that ask a model without tools for the object as JSON. The prompt stays as it is."""
    from llama_index.core.output_parsers import PydanticOutputParser

    messages = prompt.model_copy(update={"output_parser": None}).format_messages(llm=llm, **given)
    return PydanticOutputParser(output_cls).format_messages(messages)


def objects(chunks: Iterator[ChatResponse], output_cls: type[Any], llm: Any) -> Generator[Any, None, None]:
    """The object that a streamed answer describes, as far as it has come, once a chunk; the last one is whole.

    Raises `InvalidResponseError` where the whole answer is no such object.
    """
    before = last = None
    with _closed(chunks, "close", endings.closing) as each:
        for chunk in each:
            if last:
                before = _object_so_far(last, output_cls, before, llm)
                yield before
            last = chunk
    yield _whole(last, output_cls)


async def aobjects(chunks: AsyncIterator[ChatResponse], output_cls: type[Any], llm: Any) -> AsyncGenerator[Any, None]:
    """`objects`, asynchronous."""
    before = last = None
    async with _closed(chunks, "aclose", endings.aclosing) as each:
        async for chunk in each:
            if last:
                before = _object_so_far(last, output_cls, before, llm)
                yield before
            last = chunk
    yield _whole(last, output_cls)


def _closed(chunks: Any, close: str, closing: Callable[[Any], Any]) -> Any:
    # A subclass may stream in its own way: with an iterator that has nothing to close.
    return closing(chunks) if hasattr(chunks, close) else contextlib.nullcontext(chunks)


def _object_so_far(chunk: ChatResponse, output_cls: type[Any], before: Any, llm: Any) -> Any:
    from llama_index.core.program.utils import process_streaming_objects

    if chunk.delta is None:  # which is what a whole answer has
        chunk = chunk.model_copy(update={"delta": ""})
    return process_streaming_objects(chunk, output_cls, cur_objects=None if before is None else [before], llm=llm)


def _whole(response: ChatResponse | None, output_cls: type[Any]) -> Any:
    """The object that a whole answer describes: by its first call or, if it makes none, by the JSON in its words."""
    from llama_index.core.output_parsers import PydanticOutputParser

    message = response.message if response else ChatMessage()
    calls = _calls(message)
    try:
        if calls:
            return output_cls.model_validate(_arguments(calls[0], is_whole=True))
        return PydanticOutputParser(output_cls).parse(message.content or "")
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = [f"{'.'.join(map(str, fault['loc'])) or 'all of it'}: {fault['msg']}"[:_SHOWN] for fault in faults]
        reason = f"is no {output_cls.__name__}: {'; '.join(reasons[:_REASONS])}"
    except ValueError:
        reason = f"has no call of a tool and no JSON object: {(message.content or '')[:_SHOWN]!r}"
    # Raised here, so that an error which shows all that the model said is not behind it.
    raise InvalidResponseError(f"the model's answer {reason}. Ask again, or allow a longer answer (max_tokens)")


# Answered


class CallIds:
    """Gives every call of a conversation an id, and every result the id of its call.

    Some providers' histories have no ids: such calls get one made up, and such results answer the calls in order.
    """

    def __init__(self) -> None:
        self._unanswered: list[str] = []

    def called_by(self, message: ChatMessage, index: int) -> list[ToolCall] | None:
        """The calls that an assistant's message makes; None if it makes none."""
        calls = [
            ToolCall(
                id=str(call.id or f"call_{index}_{position}"),
                function=FunctionCall(name=call.name, arguments=call.arguments or "{}"),
            )
            for position, call in enumerate(_calls(message, index))
        ]
        self._unanswered = [call.id for call in calls]
        return calls or None

    def answered_by(self, message: ChatMessage, index: int) -> str:
        """The id of the call that a tool's message answers. Raises `ContentError` if no call is left."""
        given = message.additional_kwargs.get("tool_call_id")
        call_id = str(given) if given else next(iter(self._unanswered), None)
        if call_id is None:
            raise ContentError(
                "a tool's message answers a call: name it in additional_kwargs['tool_call_id']", message_index=index
            )
        if call_id in self._unanswered:
            self._unanswered.remove(call_id)
        return call_id


def _calls(message: ChatMessage, index: int | None = None) -> list[Call]:
    found = [
        Call(block.tool_call_id, block.tool_name, _text(block.tool_kwargs))
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    return found or [_call(each, index) for each in message.additional_kwargs.get("tool_calls") or []]


def _call(given: Any, index: int | None) -> Call:
    # Several providers' integrations keep their own client's objects or dicts here.
    fields = given.model_dump() if isinstance(given, BaseModel) else given
    if isinstance(fields, dict):
        function = fields.get("function", fields)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            arguments = next((function[key] for key in ("arguments", "input", "args") if key in function), None)
            return Call(fields.get("call_id") or fields.get("id"), function["name"], _text(arguments))
    raise ContentError(
        f"additional_kwargs['tool_calls'] holds a {type(given).__name__} that is no known form of a tool call",
        message_index=index,
    )


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False, default=str)
