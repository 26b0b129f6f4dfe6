"""Tool calls, both ways: those of a history, whoever made it, and those of an answer. Pure."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, FunctionMessage, InvalidToolCall, ToolCall, ToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.utils.json import parse_partial_json

from predictionguard_core.api.chat import FunctionCall
from predictionguard_core.api.chat import ToolCall as ApiToolCall
from predictionguard_core.api.responses import ToolCallDelta
from predictionguard_core.errors import ContentError

# Down: to the endpoint


class CallIds:
    """Gives every call of a conversation an id, and every result the id of its call.

    Some histories have no ids. A result without one, or with one that no call has, is paired with a call by the tool's
    name, where it bears one, and by order. If neither of the two has an id, one is made up.
    """

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        self._messages = messages
        self._answers: dict[int, str] = {}
        self._waiting: set[str] = set()

    def called_by(self, message: AIMessage, index: int) -> list[ApiToolCall] | None:
        """The calls that an assistant's message makes; None if it makes none."""
        calls = _calls(message, index)
        if not calls:
            return None
        results = list(self._results_after(index))
        if not all(call.id for call in calls) or not all(result.call_id for result in results):
            self._pair(calls, results, index)
        self._waiting.update(call.id for call in calls)
        self._waiting.difference_update(each.call_id or self._answers.get(each.position, "") for each in results)
        return calls

    def answered_by(self, message: ToolMessage | FunctionMessage, index: int) -> str:
        """The id of the call that a result answers. Raises `ContentError` if it has none and no call is left."""
        given = message.tool_call_id if isinstance(message, ToolMessage) else ""
        answered = given or self._answers.get(index)
        if answered:
            return answered
        raise ContentError(
            f"this {type(message).__name__} answers no call before it: "
            "use ToolMessage, with the id of its call as tool_call_id",
            message_index=index,
        )

    def _results_after(self, index: int) -> Iterator[_Result]:
        """The results between an assistant's message and the next one."""
        for position in range(index + 1, len(self._messages)):
            message = self._messages[position]
            if isinstance(message, AIMessage):
                return
            if isinstance(message, ToolMessage):
                yield _Result(position, message.tool_call_id, message.name, False)
            elif isinstance(message, FunctionMessage):
                yield _Result(position, "", message.name, True)

    def _pair(self, calls: list[ApiToolCall], results: list[_Result], index: int) -> None:
        known = {call.id for call in calls if call.id}
        named = Counter(result.call_id for result in results)
        left = []
        for call in calls:
            if call.id and named[call.id]:
                named[call.id] -= 1
            else:
                left.append(call)
        # A result that names a call of an earlier message, which still waits for it, is none of these calls'.
        elsewhere, strays = known | self._waiting, []
        for result in results:
            if result.call_id not in elsewhere:
                strays.append(result)
                elsewhere.update([result.call_id] if result.call_id else [])
        pairs = _Pairs(left, strays, {call.function.name for call in calls})
        found = [(each, pairs.call_for(each)) for each in strays]
        for result, answered in found:
            if answered is not None and result.call_id:
                answered.id = result.call_id
        taken = self._waiting | {call.id for call in calls} | {result.call_id for result in results}
        for position, call in enumerate(calls):
            if not call.id:
                call.id = f"call_{index}_{position}"
                while call.id in taken:
                    call.id += "_"
                taken.add(call.id)
        self._answers.update((result.position, answered.id) for result, answered in found if answered is not None)


class _Result(NamedTuple):
    position: int
    call_id: str
    name: str | None
    must_name: bool


class _Pairs:
    """Finds the calls of results that name none, in the order of the results.

    None takes a call whose name a later result bears; nor, if there is another, one that a later result's id is for.
    """

    def __init__(self, calls: list[ApiToolCall], results: list[_Result], names: set[str]) -> None:
        self._left = dict(enumerate(calls))
        self._by_name: dict[str, dict[int, None]] = {name: {} for name in names}
        for position, call in enumerate(calls):
            self._by_name[call.function.name][position] = None
        self._without_id = sum(not call.id for call in calls)
        self._wanted = Counter(result.name for result in results)
        self._bringing = sum(bool(result.call_id) for result in results)

    def call_for(self, result: _Result) -> ApiToolCall | None:
        self._wanted[result.name] -= 1
        self._bringing -= bool(result.call_id)
        is_named = result.must_name or result.name in self._by_name
        fits = None
        for position in self._by_name.get(result.name or "", {}) if is_named else self._left:
            call = self._left[position]
            if call.id and result.call_id:
                continue
            if not is_named and len(self._by_name[call.function.name]) <= self._wanted[call.function.name]:
                continue
            if fits is None or call.id:
                fits = position
            if call.id or result.call_id or self._without_id > self._bringing:
                break
        if fits is None:
            return None
        found = self._left.pop(fits)
        del self._by_name[found.function.name][fits]
        self._without_id -= not found.id
        return found


def _calls(message: AIMessage, index: int) -> list[ApiToolCall]:
    calls = [_call(call["id"], call["name"], call["args"], index) for call in message.tool_calls]
    # What the model wrote, as it wrote it: the tool's complaint that follows would answer nothing otherwise.
    calls += [
        _call(call["id"], call["name"], without_spoiler(call["args"] or ""), index)
        for call in message.invalid_tool_calls
    ]
    if not isinstance(message.content, str):
        calls += _only_in_content(message.content, calls, index)
    legacy = message.additional_kwargs.get("function_call")
    if not calls and isinstance(legacy, dict):
        # As OpenAI's models called functions before they called tools.
        calls.append(_call(None, legacy.get("name"), legacy.get("arguments") or "{}", index))
    return calls


def _only_in_content(content: list[Any], calls: list[ApiToolCall], index: int) -> Iterator[ApiToolCall]:
    """The calls that another provider's message, or one made by hand, has only among its content."""
    kinds = {"tool_use", "tool_call", "function_call", "invalid_tool_call"}
    if not calls:
        kinds.add("tool_call_chunk")  # the pieces of a stream, which LangChain puts together in `tool_calls`
    blocks = [block for block in content if isinstance(block, dict) and block.get("type") in kinds]
    known = {call.id for call in calls if call.id}
    # Those that no block names by an id: a block that says the same is the same call.
    named = {_id_of(block) for block in blocks}
    without_id: dict[tuple[str, str], list[ApiToolCall]] = {}
    with_id: dict[tuple[str, str], list[ApiToolCall]] = {}
    for call in reversed(calls) if blocks else ():
        if call.id not in named or not call.id:
            (with_id if call.id else without_id).setdefault(_said(call), []).append(call)
    for block in blocks:
        call_id = _id_of(block)
        if call_id in known:
            continue
        arguments: Any = next((block[key] for key in ("input", "args", "arguments") if block.get(key) is not None), {})
        if block["type"] == "invalid_tool_call" and isinstance(arguments, str):
            arguments = without_spoiler(arguments)
        made = _call(call_id, block.get("name"), arguments, index)
        known.update([call_id] if call_id else [])
        said = _said(made)
        if alike := without_id.get(said):
            alike.pop().id = call_id
        elif not call_id and (alike := with_id.get(said)):
            alike.pop()
        else:
            yield made


def _id_of(block: dict[str, Any]) -> str:
    # OpenAI's `id` is that of the block; the result speaks of the `call_id`.
    return str(block.get("call_id") or block.get("id") or "")


def _said(call: ApiToolCall) -> tuple[str, str]:
    """What a call says, however its arguments are written."""
    text = call.function.arguments
    with contextlib.suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), sort_keys=True)
    return call.function.name, text


def _call(call_id: Any, name: Any, arguments: Any, index: int) -> ApiToolCall:
    try:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentError(
            f"the arguments of the call of {name!r} are no JSON ({type(error).__name__})", message_index=index
        ) from None
    return ApiToolCall(id=str(call_id or ""), function=FunctionCall(name=str(name or ""), arguments=text))


# Up: from the endpoint


def made_id() -> str:
    """An id for a call to which the service gave none: LangChain's tools can't answer one without."""
    return f"call_{uuid.uuid4().hex[:24]}"


def sorted_out(calls: list[ToolCallDelta]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    """LangChain's calls, and apart from them those whose arguments are no JSON object."""
    good, bad = [], []
    for call in calls:
        call_id, name, text = call.id or made_id(), call.function.name or "", call.function.arguments or ""
        try:
            arguments = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            bad.append(invalid_tool_call(name=name, args=text, id=call_id, error=f"the arguments are no JSON: {error}"))
            continue
        if isinstance(arguments, dict):
            good.append(tool_call(name=name, args=arguments, id=call_id))
        else:
            bad.append(invalid_tool_call(name=name, args=text, id=call_id, error="the arguments are no JSON object"))
    return good, bad


# Streamed arguments that were cut
#
# LangChain reads the arguments of a streamed call as far as they parse, so that a call which was cut off would be made
# with what happens to be there. A spoiler behind them keeps it from that; on the way back to the endpoint it is taken
# off again. It closes an open string, and says by the number of its tabs how many signs that took.

_SPOILED = re.compile(r" (\t{1,3})[\]}]\Z")


def spoiler(text: str) -> str:
    """What makes cut JSON such that no mending helps: outside of any string, a bracket that does not fit.

    Empty for text that is a JSON object, and for text of which LangChain would make none anyway. Text that looks as if
    it were spoiled is spoiled once more: taking one spoiler off then gives what the model wrote.
    """
    if text.isspace():
        return "{}"  # no arguments, which LangChain knows only as no text at all
    if _is_object(text) or not (_SPOILED.search(text) or _would_be_mended(text)):
        return ""
    open_brackets: list[str] = []
    in_string = escaped = False
    for sign in text:
        if in_string:
            escaped, in_string = sign == "\\" and not escaped, sign != '"' or escaped
        elif sign == '"':
            in_string = True
        elif sign in "{[":
            open_brackets.append(sign)
        elif sign in "}]" and open_brackets:
            open_brackets.pop()
    closing = ("\\" if escaped else "") + ('"' if in_string else "")
    return closing + " " + "\t" * (1 + len(closing)) + ("}" if open_brackets[-1:] == ["["] else "]")


def without_spoiler(text: str) -> str:
    """Arguments as the model wrote them."""
    found = _SPOILED.search(text)
    if found is None:
        return text
    written = text[: found.start() + 1 - len(found[1])]
    return written if written + spoiler(written) == text else text


def _is_object(text: str) -> bool:
    try:
        return not text.strip() or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _would_be_mended(text: str) -> bool:
    try:
        return isinstance(parse_partial_json(text), dict)
    except (ValueError, RecursionError):
        return False
