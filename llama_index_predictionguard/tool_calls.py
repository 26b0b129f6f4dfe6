"""Tool calls: how tools are offered, how calls are read, and how calls and results go back to the model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from pydantic import BaseModel
from pydantic_core import from_json

from predictionguard_core.api.chat import FunctionCall, Tool, ToolCall
from predictionguard_core.api.responses import ToolCallDelta
from predictionguard_core.api.strict_schema import strict_schema
from predictionguard_core.errors import ConfigurationError, ContentError, InvalidResponseError

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

MAX_SHOWN = 200
"""Characters of an answer that an error shows."""

CUT_CALL = "cut_tool_call"
"""Key in `ChatResponse.additional_kwargs`: the name of the call within which `max_tokens` ended the answer."""

# Two unexpected arguments, so that a tool with one parameter does not get the text as its value.
_UNREADABLE = "arguments_are_not_a_json_object"
_RECEIVED = "received"


# Offering tools


def offer(
    tools: Sequence[BaseTool],
    *,
    tool_choice: str | dict[str, Any] | None,
    tool_required: bool,
    allow_parallel_tool_calls: bool,
    strict: bool,
) -> dict[str, Any]:
    """Return the options of a request that offers these tools; none without tools."""
    if not tools:
        return {}
    wrong = [tool for tool in tools if not hasattr(tool, "metadata")] if isinstance(tools, Sequence) else [tools]
    if wrong:
        raise ConfigurationError(
            f"tools must be a list of LlamaIndex's tools, got {type(wrong[0]).__name__}: pass "
            "[FunctionTool.from_defaults(function)]"
        )
    choice = tool_choice or ("required" if tool_required else None)
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        choice = "required" if choice == "any" else _choice_of(choice, [tool.metadata.get_name() for tool in tools])
    return {
        "tools": [_to_api(tool, strict=strict) for tool in tools],
        "tool_choice": choice,
        "parallel_tool_calls": allow_parallel_tool_calls,
    }


def _to_api(tool: BaseTool, *, strict: bool) -> dict[str, Any]:
    description: dict[str, Any] = tool.metadata.to_openai_tool(skip_length_check=True)
    function = description["function"]
    parameters = function["parameters"]
    if "properties" not in parameters and tool.metadata.fn_schema is not None:
        # LlamaIndex keeps the definitions of a recursive model, but not the reference to its own.
        parameters = tool.metadata.fn_schema.model_json_schema()
    schema = strict_schema(parameters) if strict else None
    if schema is None:  # not wanted, or not possible for this schema
        return description
    return {**description, "function": {**function, "parameters": schema, "strict": True}}


def _choice_of(name: str, names: list[str]) -> dict[str, Any]:
    if name not in names:
        raise ConfigurationError(f"tool_choice: there is no tool {name!r}; there are {', '.join(names)}")
    return {"type": "function", "function": {"name": name}}


# Reading calls


class CollectedCall:
    """One call of an answer, collected from its fragments. Its block is built again only after a change."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._arguments = ""
        self._block: ToolCallBlock | None = None
        self._dict: dict[str, Any] = {}

    def add(self, fragment: ToolCallDelta) -> None:
        """Add a fragment, or a whole call."""
        self._id = self._id or fragment.id
        self._name = self._name or fragment.function.name or ""
        self._arguments += fragment.function.arguments or ""
        self._block = None

    def block(self, *, is_whole: bool) -> ToolCallBlock:
        """Return the block. Its arguments are a dict once they are whole and a JSON object, else a string."""
        if is_whole:
            arguments = read_arguments(self._arguments)
            return self._build(self._arguments if arguments is None else arguments)
        if self._block is None:
            self._block = self._build(self._arguments)
        return self._block

    def to_dict(self) -> dict[str, Any]:
        """Return the call in the API's form."""
        if self._dict.get("function", {}).get("arguments") is not self._arguments or self._dict["id"] != self._id:
            function = {"name": self._name, "arguments": self._arguments}
            self._dict = {"id": self._id, "type": "function", "function": function}
        return self._dict

    def _build(self, arguments: str | dict[str, Any]) -> ToolCallBlock:
        return ToolCallBlock.model_construct(tool_call_id=self._id, tool_name=self._name, tool_kwargs=arguments)


class Call(NamedTuple):
    """One call in a message. `arguments` is the text that the model wrote, or as much as there is of it."""

    id: str | None
    name: str
    arguments: str


def selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """Return the calls of an answer, or of as much of a streamed one as there is.

    Unreadable arguments become arguments that no tool accepts: the tool's error tells the model to try again.

    Raises:
        InvalidResponseError: `max_tokens` cut the answer within a call, or, if `error_on_no_tool_call`, it has none.
    """
    calls = calls_of(response.message)
    if not is_whole(response):
        return [_selection(call, _partial_arguments(call.arguments)) for call in calls]
    check_not_cut(response)
    if not calls and error_on_no_tool_call:
        raise InvalidResponseError(
            f"the model called no tool, it answered {(response.message.content or '')[:MAX_SHOWN]!r}. "
            "Make it call one with tool_required=True, or allow text with error_on_no_tool_call=False"
        )
    found = []
    for call in calls:
        arguments = read_arguments(call.arguments)
        if arguments is None:
            arguments = {_UNREADABLE: True, _RECEIVED: call.arguments}
        found.append(_selection(call, arguments))
    return found


def _selection(call: Call, arguments: dict[str, Any]) -> ToolSelection:
    return ToolSelection(tool_id=call.id or "", tool_name=call.name, tool_kwargs=arguments)


def is_whole(response: ChatResponse) -> bool:
    """Return whether a response is a whole answer or the last chunk of one."""
    return response.delta is None or "finish_reason" in response.additional_kwargs


def cut_call(message: ChatMessage, tools: Sequence[Tool]) -> str | None:
    """Return the name of the call within which `max_tokens` ended an answer, "" if unknown, None if it ended elsewhere.

    vLLM closes the brackets of such a call in a stream, so its arguments may be an object that lacks required ones, and
    leaves it as markup in the text otherwise.
    """
    calls = calls_of(message)
    if not calls:
        return "" if tools and "<tool_call>" in (message.content or "") else None
    name, arguments = calls[-1].name, read_arguments(calls[-1].arguments)
    required = [key for tool in tools if tool.function.name == name for key in _required(tool)]
    return name if not arguments or any(key not in arguments for key in required) else None


def _required(tool: Tool) -> list[str]:
    return (tool.function.parameters or {}).get("required") or []


def check_not_cut(response: ChatResponse) -> None:
    """Raise `InvalidResponseError` if `max_tokens` ended the answer within a tool call."""
    name = response.additional_kwargs.get(CUT_CALL)
    if name is not None:
        call = f"its call of {name!r}" if name else "a tool call"
        raise InvalidResponseError(
            f"max_tokens ended the answer within {call}, so the call is incomplete. Raise max_tokens"
        )


def read_arguments(text: str) -> dict[str, Any] | None:
    """Return arguments as a dict, None if they are not a JSON object.

    Accepts what is unambiguous: line breaks and tabs within strings, null or nothing for a call without arguments, and
    an object that was encoded twice.
    """
    if not text.strip():
        return {}
    try:
        value = from_json(text)
    except ValueError:
        value = _read_leniently(text)
    if isinstance(value, str):
        value = _read_leniently(value)
    if value is None and text.strip() == "null":
        return {}
    return value if isinstance(value, dict) else None


def _read_leniently(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _partial_arguments(text: str) -> dict[str, Any]:
    try:
        value = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# Sending calls and results back


class ToolCallIds:
    """Gives each call of a conversation an id, and each result the id of its call.

    Histories of some providers have no ids: their calls get new ones, and their results answer the calls in order.
    """

    def __init__(self) -> None:
        self._unanswered: list[str] = []

    def called_by(self, message: ChatMessage, index: int) -> list[ToolCall] | None:
        """Return the calls of an assistant message, None if it has none."""
        calls = [
            ToolCall(
                id=str(call.id or f"call_{index}_{position}"),
                function=FunctionCall(name=call.name, arguments=_valid_arguments(call.arguments)),
            )
            for position, call in enumerate(calls_of(message, index))
        ]
        self._unanswered = [call.id for call in calls]
        return calls or None

    def answered_by(self, message: ChatMessage, index: int) -> str:
        """Return the id of the call that a tool message answers. Raises `ContentError` if no call is left."""
        named = message.additional_kwargs.get("tool_call_id")
        call_id = str(named) if named else next(iter(self._unanswered), None)
        if call_id is None:
            raise ContentError(
                "this tool message answers no call: set additional_kwargs['tool_call_id']", message_index=index
            )
        if call_id in self._unanswered:
            self._unanswered.remove(call_id)
        return call_id


def _valid_arguments(text: str) -> str:
    """Return arguments that servers can parse: llama.cpp answers 500 to a history whose arguments are not JSON."""
    if _is_json_object(text):
        return text
    arguments = read_arguments(text)
    if arguments is not None:
        with contextlib.suppress(ValueError):  # NaN or Infinity
            return json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return json.dumps({_UNREADABLE: True, _RECEIVED: text}, ensure_ascii=False)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, parse_constant=_refuse_constant), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python's parser accepts NaN and Infinity, the servers' do not


def calls_of(message: ChatMessage, index: int | None = None) -> list[Call]:
    """Return the calls in a message's blocks or, if there are none, in its `additional_kwargs`."""
    found = [
        Call(block.tool_call_id, block.tool_name, _to_text(block.tool_kwargs))
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    return found or [_foreign_call(each, index) for each in message.additional_kwargs.get("tool_calls") or []]


def _foreign_call(call: Any, index: int | None) -> Call:
    # Integrations of other providers keep their client's objects or dicts here.
    fields = call.model_dump() if isinstance(call, BaseModel) else call
    if isinstance(fields, dict):
        function = fields.get("function", fields)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            arguments = next((function[key] for key in ("arguments", "input", "args") if key in function), None)
            return Call(fields.get("call_id") or fields.get("id"), function["name"], _to_text(arguments))
    raise ContentError(
        f"additional_kwargs['tool_calls'] has a {type(call).__name__} that is no known form of a tool call",
        message_index=index,
    )


def _to_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False, default=str)
