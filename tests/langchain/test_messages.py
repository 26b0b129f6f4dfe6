"""What goes down and comes up, with plain values: tool calls above all."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, ToolMessage

from langchain_predictionguard import ChatPredictionGuard, ConfigurationError
from langchain_predictionguard.messages import Chunks, to_result, to_wire
from predictionguard_core.api.chat import TextPart
from predictionguard_core.api.responses import ChatCompletion
from predictionguard_core.errors import ContentError
from predictionguard_core.streaming import ChunkReader
from tests.core.pictures import GIF


def fragment(index: Any, key: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"index": index, "id": key, "function": {"name": name, "arguments": arguments}}


def streamed(*fragments: dict[str, Any], finish: str = "tool_calls") -> AIMessageChunk:
    """The message that LangChain makes of a stream of these fragments."""
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in fragments]
    events.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    reader, chunks = ChunkReader(), Chunks()
    whole: Any = None
    for chunk in reader.feed(data.encode()):
        message = chunks.to_chunk(chunk).message
        whole = message if whole is None else whole + message
    assert isinstance(whole, AIMessageChunk)
    return whole


CUT = {
    "in a word": '{"folder": "/srv/x", "recursive": fa',
    "in a string": '{"folder": "/tmp',
    "in an escape": '{"folder": "a\\',
    "after a brace": "{",
    "after a colon": '{"folder":',
    "before the last brace": '{"folder": "/srv/x"',
    "in a list": '{"folders": ["a", "b"',
    "no object": "[1]",
    "a word": "null",
}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_call_that_was_cut_off_is_never_made_with_what_is_there(text: str) -> None:
    message = streamed(fragment(0, "call_1", "wipe", text), finish="length")
    assert message.tool_calls == []
    assert [call["name"] for call in message.invalid_tool_calls] == ["wipe"]
    assert (message.invalid_tool_calls[0]["args"] or "").startswith(text)


@pytest.mark.parametrize(
    "fragments",
    [
        [(0, "a", "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
        [(0, "a", "f", '{"x"'), (0, None, None, ":1}"), (1, "b", "f", '{"x":2}')],
        [(0, "a", "f", '{"x":1}'), (0, "b", "f", '{"x":2}')],
        [(None, "a", "f", '{"x":1}'), (None, "b", "f", '{"x"'), (None, None, None, ":2}")],
        [(0, "a", "f", None), (0, "a", "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
        [(0, None, "f", '{"x":1}'), (0, None, "f", '{"x":2}')],
        [(None, None, "f", '{"x":1}'), (None, None, "f", '{"x":2}')],
        [(0, "a", "f", ""), (0, None, "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
    ],
)
def test_parallel_calls_are_told_apart_whatever_their_index_and_id(fragments: list[Any]) -> None:
    message = streamed(*(fragment(*each) for each in fragments))
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [("f", {"x": 1}), ("f", {"x": 2})]
    assert message.invalid_tool_calls == []


@pytest.mark.parametrize("calls", [{}, [], [{}], None])
def test_no_call_is_made_of_nothing(calls: Any) -> None:
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "tool_calls": calls}}]}
    message = to_result(ChatCompletion.model_validate(reply)).generations[0].message
    assert isinstance(message, AIMessage)
    assert (message.tool_calls, message.invalid_tool_calls) == ([], [])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "1", "name": "look", "input": {"place": "Linz"}},
        {"type": "tool_call", "id": "1", "name": "look", "args": {"place": "Linz"}},
    ],
)
def test_a_call_that_stands_only_in_the_content_goes_out(block: dict[str, Any]) -> None:
    sent = to_wire([AIMessage([block]), ToolMessage("Nothing.", tool_call_id="1")])
    assert [(call.id, call.function.name, call.function.arguments) for call in sent[0].tool_calls or []] == [
        ("1", "look", '{"place": "Linz"}')
    ]


def test_a_tools_name_stands_before_its_picture_and_on_no_message() -> None:
    picture = {"type": "image", "base64": base64.b64encode(GIF).decode(), "mime_type": "image/gif"}
    called = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": name} for name in "ab"])
    results = [ToolMessage([picture], tool_call_id=name, name="look") for name in "ab"]
    *sent, shown = to_wire([HumanMessage("Look.", name="ann"), called, *results])
    assert [message.name for message in sent] == ["ann", None, None, None]
    assert [part.text for part in shown.content if isinstance(part, TextPart)] == [
        "From the result of look a:",
        "From the result of look b:",
    ]


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", tool_calls=[{"name": "f", "args": {"when": datetime.date(2026, 1, 1)}, "id": "1"}]),
        ChatMessage("x", role="tool"),
        ChatMessage("x", role="narrator"),
    ],
)
def test_what_has_no_form_names_its_message(message: Any) -> None:
    with pytest.raises(ContentError) as caught:
        to_wire([AIMessage("before"), message])
    assert caught.value.message_index == 1


def test_tools_of_the_endpoints_kind_only() -> None:
    with pytest.raises(ConfigurationError, match="web_search"):
        ChatPredictionGuard("m", api_key="key").bind_tools([{"type": "web_search"}])
