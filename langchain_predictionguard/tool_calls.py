"""Tool calls in both directions: those of a message history, and those of a response. No I/O."""

from __future__ import annotations

import dataclasses
import graphlib
import inspect
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Self

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, InvalidToolCall, ToolCall, ToolMessage
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.tools import BaseTool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.json import parse_partial_json
from pydantic import BaseModel, TypeAdapter

from predictionguard_core.api import chat as api
from predictionguard_core.api.responses import ToolCallDelta
from predictionguard_core.api.strict_schema import object_schema, strict_schema
from predictionguard_core.errors import ConfigurationError, ContentError

TRUNCATION_MARKER = '<truncated>[}"[}'
"""Suffix that makes truncated JSON unparsable even for LangChain's partial parser.

LangChain completes the arguments of a streamed call with the brackets that are missing, so a call that `max_tokens` cut
off would be executed with half of its arguments. The parser gives up at a bracket that does not match. `[}` is one
outside of a string; inside a string the quotation mark ends the string, and the second `[}` is one. The marker is
removed when the message goes back to the service.
"""

CUT_OFF = "max_tokens cut the answer off before the call was complete; raise max_tokens or ask for less"

_SHOWN = 60
_TOOL_CALL_BLOCK_TYPES = {"tool_use", "tool_call", "function_call", "invalid_tool_call"}


# Requests


def to_tool(tool: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """Return a tool, a class or a function in the API's form.

    LangChain replaces references by what they refer to, and leaves an empty schema where that would never end. So a
    recursive schema is sent with its references.
    """
    if inspect.isroutine(tool):
        tool = create_schema_from_function(
            tool.__name__, tool, parse_docstring=True, error_on_invalid_docstring=False, include_injected=False
        )
    try:
        converted = convert_to_openai_tool(tool, strict=strict)
    except RecursionError:  # a recursive TypedDict
        converted = convert_to_openai_tool(object_schema(TypeAdapter(tool).json_schema()), strict=strict)
    except (ValueError, TypeError) as error:
        wrong = (
            "Unsupported function",
            "not supported by signature",
            "no signature found",
            "is not a module, class",  # Python 3.13
        )
        if not any(text in str(error) for text in wrong):
            raise
        raise ConfigurationError(
            f"expected a function, a pydantic class, a TypedDict, a LangChain tool or a JSON schema with a title, got "
            f"{repr(tool)[:_SHOWN]}"
        ) from None
    schema = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        schema = schema.model_json_schema()
    if not isinstance(schema, dict) or not _is_recursive(schema):
        return converted
    parameters = {name: each for name, each in object_schema(schema).items() if name not in ("title", "description")}
    if strict:
        parameters = strict_schema(parameters) or parameters
    return {**converted, "function": {**converted["function"], "parameters": parameters}}


def _is_recursive(schema: dict[str, Any]) -> bool:
    definitions = {**schema.get("$defs", {}), **schema.get("definitions", {}), "": schema.get("properties", {})}
    references = {
        name: re.findall(r'"\$ref": "#/?(?:\$defs/|definitions/)?([^"/]*)', json.dumps(definition))
        for name, definition in definitions.items()
    }
    try:
        graphlib.TopologicalSorter(references).prepare()
    except graphlib.CycleError:
        return True
    return False


def tool_choice(choice: str | dict[str, Any] | bool | None, names: list[str]) -> str | dict[str, Any] | None:
    """Return the API's form of LangChain's `tool_choice`. Raises `ConfigurationError` for an unknown tool."""
    if isinstance(choice, dict) or choice is None or choice is False:
        return choice or None
    if choice is True or choice in ("any", "required"):
        return "required"
    if choice in ("auto", "none"):
        return choice
    if choice not in names:
        raise ConfigurationError(f"tool_choice: there is no tool {choice!r}; there are: {', '.join(names) or 'none'}")
    return {"type": "function", "function": {"name": choice}}


def is_tool_call(block: Any) -> bool:
    """Whether a content block is a tool call, in the form of any provider."""
    return isinstance(block, dict) and block.get("type") in _TOOL_CALL_BLOCK_TYPES


class ToolCallIds:
    """Gives every tool call of a history an id, and every result the id of its call.

    Results without an id answer the calls of the assistant's message before them in their order.
    """

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        self._messages = messages
        self._answered: dict[int, str] = {}

    def calls_of(self, message: AIMessage, index: int) -> list[api.ToolCall] | None:
        """Return the calls of an assistant's message; None if it has none."""
        calls = _calls(message, index)
        results = list(self._results_after(index))
        result_ids = {call_id for _, call_id in results}
        call_ids = {call.id for call in calls}
        unanswered = [call for call in calls if not call.id or call.id not in result_ids]
        for position, call_id in results:
            # A result whose id matches no call belongs to the first call that has no id; a result without an id, to the
            # first call not answered yet.
            answered = next((call for call in unanswered if not call_id or not call.id), None)
            if answered is None or (call_id and call_id in call_ids):
                continue
            unanswered.remove(answered)
            call_ids.add(call_id)
            answered.id = answered.id or call_id or _new_id()
            self._answered[position] = answered.id
        for call in calls:
            call.id = call.id or _new_id()
        return calls or None

    def id_for(self, message: ToolMessage | FunctionMessage, index: int) -> str:
        """Return the id of the call that a result answers. Raises `ContentError` if no call is left."""
        call_id = _result_id(message) or self._answered.get(index)
        if not call_id:
            raise ContentError(
                f"this {type(message).__name__} answers no tool call before it: use a ToolMessage, with the id of "
                "its call as tool_call_id",
                message_index=index,
            )
        return call_id

    def _results_after(self, index: int) -> Iterator[tuple[int, str]]:
        for position in range(index + 1, len(self._messages)):
            message = self._messages[position]
            if isinstance(message, AIMessage):
                return
            if isinstance(message, ToolMessage | FunctionMessage):
                yield position, _result_id(message)


def _result_id(message: ToolMessage | FunctionMessage) -> str:
    return message.tool_call_id if isinstance(message, ToolMessage) else ""


def _calls(message: AIMessage, index: int) -> list[api.ToolCall]:
    calls = [_call(call["id"], call["name"], call["args"], index) for call in message.tool_calls]
    calls += [_call(call["id"], call["name"], call["args"], index) for call in message.invalid_tool_calls]
    # Messages of other providers, or made by hand, may have calls among their content only.
    content = message.content if isinstance(message.content, list) else []
    blocks: list[dict[str, Any]] = [block for block in content if is_tool_call(block)]  # type: ignore[misc]
    known = {call.id for call in calls}
    has_calls = bool(calls)
    for block in blocks:
        # In the form of OpenAI's Responses API, `id` is the block's, and results name the `call_id`.
        call_id = str(block.get("call_id") or block.get("id") or "")
        if call_id in known or (has_calls and not call_id):
            continue
        arguments: Any = next((block[key] for key in ("input", "args", "arguments") if block.get(key) is not None), {})
        calls.append(_call(call_id, block.get("name"), arguments, index))
    legacy = message.additional_kwargs.get("function_call")  # OpenAI's form before there were tools
    if not calls and isinstance(legacy, dict):
        calls.append(_call(None, legacy.get("name"), legacy.get("arguments"), index))
    return calls


def _call(call_id: Any, name: Any, arguments: Any, index: int) -> api.ToolCall:
    try:
        text = arguments if isinstance(arguments, str | None) else json.dumps(arguments, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentError(
            f"the arguments of the call of {name!r} can't be written as JSON ({type(error).__name__})",
            message_index=index,
        ) from None
    return api.ToolCall(
        id=str(call_id or ""), function=api.FunctionCall(name=str(name or ""), arguments=_valid_json(text))
    )


def _valid_json(text: str | None) -> str:
    # llama.cpp answers 500 ("Failed to parse tool call arguments as JSON") to a history with anything else.
    text = (text or "").removesuffix(TRUNCATION_MARKER)
    if not text.strip():
        return "{}"
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return json.dumps({"invalid_arguments": text}, ensure_ascii=False)
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python's parser accepts NaN and Infinity, the servers' do not


# Responses


@dataclasses.dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools of a request, as far as they are needed to read its response.

    `required` maps a tool's name to its required arguments. `response_tool` is the name of the tool that stands for a
    `response_format`: its arguments are the text of the answer.
    """

    required: dict[str, list[str]]
    response_tool: str | None = None

    @classmethod
    def of(cls, request: api.ChatRequest, response_tool: str | None = None) -> Self:
        """Return the tools of a request."""
        functions = [tool.function for tool in request.tools or []]
        return cls({each.name: (each.parameters or {}).get("required") or [] for each in functions}, response_tool)

    def parse(self, name: str, text: str, *, is_cut: bool) -> tuple[dict[str, Any] | None, str | None]:
        """Return the arguments of a call, or what is wrong with them.

        `is_cut` says that the token limit ended the answer. vLLM then closes the brackets of a call that had hardly
        begun, so its arguments are an object, but lack what the tool requires.
        """
        arguments, error = _parse(text)
        if is_cut and (arguments is None or any(key not in arguments for key in self.required.get(name, []))):
            return None, CUT_OFF
        return arguments, error


def _parse(text: str) -> tuple[dict[str, Any] | None, str | None]:
    # Raw line breaks, null, nothing at all and an object encoded twice are unambiguous, and common with small models.
    try:
        arguments = json.loads(text, strict=False) if text.strip() else {}
        if isinstance(arguments, str):
            arguments = json.loads(arguments, strict=False)
    except (ValueError, RecursionError) as error:
        return None, f"the arguments are not valid JSON: {error}"
    arguments = {} if arguments is None else arguments
    return (arguments, None) if isinstance(arguments, dict) else (None, "the arguments are not a JSON object")


def _new_id() -> str:
    """Return an id for a call that came without one: a tool's result can't refer to it otherwise."""
    return f"call_{uuid.uuid4().hex[:24]}"


def to_tool_calls(
    calls: list[ToolCallDelta], offered: OfferedTools, *, is_cut: bool
) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """Return LangChain's tool calls, and separately those whose arguments are unusable."""
    valid, invalid = [], []
    for call in calls:
        call_id, name, text = call.id or _new_id(), call.function.name or "", call.function.arguments or ""
        arguments, error = offered.parse(name, text, is_cut=is_cut)
        if arguments is not None:
            valid.append(tool_call(name=name, args=arguments, id=call_id))
        else:
            invalid.append(invalid_tool_call(name=name, args=text, id=call_id, error=error))
    return valid, invalid


def cut_call_in_text(text: str) -> tuple[str, InvalidToolCall | None]:
    """Split an answer that the token limit ended inside a call that vLLM left in the text, as Hermes and Qwen write it.

    Returns the text before the call, and the call.
    """
    before, tag, call = text.partition("<tool_call>")
    if not tag:
        return text, None
    name = re.search(r'"name"\s*:\s*"([^"]*)"', call)
    arguments = re.search(r'"arguments"\s*:\s*(.*)', call, re.DOTALL)
    return before.rstrip(), invalid_tool_call(
        name=name[1] if name else "", args=arguments[1] if arguments else call.strip(), id=_new_id(), error=CUT_OFF
    )


@dataclasses.dataclass(slots=True)
class _StreamedCall:
    index: int | None
    id: str | None = None
    name: str = ""
    text: str = ""
    is_held: bool = True


class StreamedCalls:
    """The tool calls of one stream. `add` takes their fragments, `finish` returns what completes them."""

    def __init__(self, offered: OfferedTools) -> None:
        self._offered = offered
        self._calls: dict[int | None, _StreamedCall] = {}

    def add(self, fragment: ToolCallDelta) -> tuple[str, ToolCallChunk | None]:
        """Return the text of the answer that a fragment holds, and LangChain's chunk for it."""
        call = self._calls.setdefault(fragment.index, _StreamedCall(fragment.index))
        # LangChain concatenates ids and names: each is delivered once.
        new_id = fragment.id if fragment.id and not call.id else None
        new_name = fragment.function.name if not call.name else None
        call.id, call.name = call.id or fragment.id, call.name or fragment.function.name or ""
        call.text += fragment.function.arguments or ""
        new_text = fragment.function.arguments or ""
        if call.is_held:
            # Arguments that do not begin as an object are held back: at the end they may turn out to be one.
            call.is_held = not call.text.lstrip().startswith("{")
            new_text = "" if call.is_held else call.text
        if self._is_response(call):
            return new_text, None
        return "", tool_call_chunk(name=new_name, args=new_text, id=new_id, index=call.index)

    def finish(self, *, is_cut: bool) -> list[ToolCallChunk]:
        """Return the chunks that complete the calls: missing ids, arguments held back, truncation markers."""
        chunks = []
        for call in self._calls.values():
            if self._is_response(call):
                continue
            new_id = None if call.id else _new_id()
            text = self._ending(call, is_cut=is_cut)
            if text or new_id:
                chunks.append(tool_call_chunk(name=None, args=text, id=new_id, index=call.index))
        return chunks

    def _ending(self, call: _StreamedCall, *, is_cut: bool) -> str:
        arguments, _ = self._offered.parse(call.name, call.text, is_cut=is_cut)
        if arguments is not None:
            return json.dumps(arguments, ensure_ascii=False) if call.is_held else ""
        rest = call.text if call.is_held else ""
        return rest + TRUNCATION_MARKER if _would_be_completed(call.text) else rest

    def _is_response(self, call: _StreamedCall) -> bool:
        return bool(call.name) and call.name == self._offered.response_tool


def _would_be_completed(text: str) -> bool:
    """Whether LangChain would make arguments of this text."""
    try:
        return not text or isinstance(parse_partial_json(text), dict)
    except (ValueError, RecursionError):
        return False
