"""Tool calls: truncated, malformed, without ids, of other providers; what the caller sees, and what goes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, FunctionMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from langchain_predictionguard import ChatPredictionGuard, ContentError
from langchain_predictionguard.tool_calls import TRUNCATION_MARKER
from predictionguard_core.sandbox import Sandbox
from tests.langchain.scripted import Scripted, text_reply, tool_call_reply, tool_call_stream


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


def sent_calls(box: Sandbox | Scripted, position: int = 1) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call that a message of the last request makes."""
    calls = box.requests[-1]["messages"][position].get("tool_calls", [])
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


def merged(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def model(box: Scripted, **options: Any) -> ChatPredictionGuard:
    return ChatPredictionGuard("m", api_key="key", base_url=box.url, **options)


def answers(text: str, *, finish: str = "tool_calls", offered: Any = (look,), version: str = "v0") -> list[AIMessage]:
    """What the caller gets, plain and streamed, of a call of `look` with these arguments."""
    plain, stream = (
        tool_call_reply("1", text),
        tool_call_stream("1", *[text[at : at + 3] for at in range(0, len(text), 3)]),
    )
    plain["choices"][0]["finish_reason"] = stream[-1]["choices"][0]["finish_reason"] = finish
    with Scripted(plain, stream) as box:
        chat = model(box, output_version=version).bind_tools(list(offered))
        return [chat.invoke("?"), merged(list(chat.stream("?")))]


VALID = {
    '{"place": "Linz"}': {"place": "Linz"},
    ' {"place": "Linz"} \n': {"place": "Linz"},
    '{"place": "a\nb\tc"}': {"place": "a\nb\tc"},
    '"{\\"place\\": \\"Linz\\"}"': {"place": "Linz"},
    "null": {},
    "": {},
    " \n": {},
}


@pytest.mark.parametrize(("text", "arguments"), VALID.items(), ids=map(repr, VALID))
def test_unambiguous_arguments_are_accepted(text: str, arguments: dict[str, Any]) -> None:
    for message in answers(text):
        assert [call["args"] for call in message.tool_calls] == [arguments]
        assert message.invalid_tool_calls == []


INVALID = ["not json", "[1, 2]", '"text"', "{]", '{"a": 1]', '["a": }', "3"]
TRUNCATED = [
    '{"place": "Li',
    '{"place": "Linz"',
    '{"place": "x\\',
    '{"place": "x\\\\',
    '{"place": 1',
    '{"place": [1, "b',
    '{"place": [1',
    '{"place": {"b": "]',
    '{"place": "ä \\"quoted',
    '{"place": "Linz"} and more',
    '{"place":',
    "{",
]


@pytest.mark.parametrize("text", [*INVALID, *TRUNCATED])
def test_invalid_arguments_are_never_executed_and_are_shown(text: str) -> None:
    for message in answers(text):
        assert message.tool_calls == []
        ((call_id, name, written),) = [(call["id"], call["name"], call["args"]) for call in message.invalid_tool_calls]
        assert (call_id, name) == ("1", "look")
        assert (written or "").removesuffix(TRUNCATION_MARKER) == text


PIECES = st.lists(
    st.sampled_from([*'{}[]":,\\ \t\n1', '"a"', '"a": ', "true", "nul", "ä", '\\"', '{"a": ', TRUNCATION_MARKER])
).map("".join)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(text=PIECES)
def test_plain_and_streamed_agree_on_any_arguments(text: str) -> None:
    plain, streamed = answers(text)
    assert streamed.tool_calls == plain.tool_calls
    assert [(call["args"] or "").removesuffix(TRUNCATION_MARKER) for call in streamed.invalid_tool_calls] == [
        (call["args"] or "").removesuffix(TRUNCATION_MARKER) for call in plain.invalid_tool_calls
    ]


@pytest.mark.parametrize("text", ["{}", "", '{"other": 1}', '{"place": "Li'])
def test_a_call_that_max_tokens_cut_is_invalid_and_says_so(text: str) -> None:
    # vLLM streams the arguments {} for a call that the limit ended before they began.
    plain, streamed = answers(text, finish="length")
    for message in (plain, streamed):
        assert message.tool_calls == []
        assert len(message.invalid_tool_calls) == 1
        assert message.response_metadata["finish_reason"] == "length"
    assert "max_tokens" in (plain.invalid_tool_calls[0]["error"] or "")
    assert (streamed.invalid_tool_calls[0]["args"] or "").endswith(TRUNCATION_MARKER)


def test_a_complete_call_of_a_truncated_answer_is_valid() -> None:
    for message in answers('{"place": "Linz"}', finish="length"):
        assert [call["args"] for call in message.tool_calls] == [{"place": "Linz"}]


def test_a_truncated_call_that_the_server_left_in_the_text() -> None:
    text = 'I will look.\n<tool_call>\n{"name": "look", "arguments": {"place": "Li'
    reply = text_reply(text)
    reply["choices"][0]["finish_reason"] = "length"
    with Scripted(reply) as box:
        message = model(box).bind_tools([look]).invoke("?")
        assert message.text == "I will look."
        (call,) = message.invalid_tool_calls
        assert (call["name"], call["args"]) == ("look", '{"place": "Li')
        assert "max_tokens" in (call["error"] or "")
        # Without tools it is text like any other.
        assert model(box).invoke("?").text == text


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_arguments_that_go_back_are_always_json(version: str) -> None:
    for text in [*INVALID, *TRUNCATED, *VALID]:
        for message in answers(text, version=version):
            with Scripted(text_reply("Sorry.")) as box:
                model(box).invoke([HumanMessage("?"), message, ToolMessage("What?", tool_call_id="1")])
                ((call_id, name, sent),) = sent_calls(box)
            assert (call_id, name) == ("1", "look")
            if text in VALID:
                assert json.loads(sent) == VALID[text]
            elif text in ("[1, 2]", '"text"', "3"):
                assert sent == text  # valid JSON goes back as the model wrote it
            else:
                assert json.loads(sent) == {"invalid_arguments": text}


def test_arguments_with_nan_go_back_as_json() -> None:
    for value in ("NaN", "-Infinity"):
        text = f'{{"place": {value}}}'
        for message in (
            AIMessage("", tool_calls=[{"name": "look", "args": {"place": float(value)}, "id": "1"}]),
            AIMessage("", invalid_tool_calls=[{"name": "look", "args": text, "id": "1", "error": None}]),
        ):
            with Scripted(text_reply("Sorry.")) as box:
                model(box).invoke([HumanMessage("?"), message, ToolMessage("What?", tool_call_id="1")])
                ((_, _, sent),) = sent_calls(box)
            assert json.loads(sent) == {"invalid_arguments": text}


def test_a_model_that_streams_in_invoke() -> None:
    with Scripted(tool_call_stream("1", '{"place": "Li')) as box:
        message = model(box, streaming=True).invoke("?")
    assert message.tool_calls == []
    assert len(message.invalid_tool_calls) == 1


class TestCallsWithoutAnId:
    @pytest.mark.parametrize("missing", [None, ""])
    def test_they_get_one_and_keep_it(self, missing: Any) -> None:
        replies = (tool_call_reply(missing, "{}"), tool_call_stream(missing, "{", "}"), tool_call_reply(missing, "{"))
        with Scripted(*replies, text_reply("It is.")) as box:
            chat = model(box)
            messages = [chat.invoke("?"), merged(list(chat.stream("?"))), chat.invoke("?")]
            for message in messages:
                (call,) = message.tool_calls or message.invalid_tool_calls
                assert call["id"]
                chat.invoke([HumanMessage("?"), message, ToolMessage("Done.", tool_call_id=call["id"])])
                assert [call_id for call_id, _, _ in sent_calls(box)] == [call["id"]]

    def test_each_call_of_a_stream_has_its_own(self) -> None:
        pieces = tool_call_stream(None, '{"place":', ' "Linz"}')
        other = {"index": 1, "id": None, "function": {"name": "look", "arguments": '{"place": "Graz"}'}}
        pieces.insert(-1, {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [other]}}]})
        with Scripted(pieces) as box:
            chunks = list(model(box).stream("?"))
        streamed = [call["id"] for chunk in chunks for call in chunk.tool_call_chunks if call["id"]]
        assert [call["id"] for call in merged(chunks).tool_calls] == streamed
        assert len(set(streamed)) == 2

    @pytest.mark.parametrize("call_id", [None, "", "t1"])
    def test_a_stream_that_comes_as_one_chunk(self, call_id: str | None) -> None:
        with Scripted(tool_call_reply(call_id, "{}")) as box:
            chunks = list(model(box).stream("?"))
        assert len(chunks) == 1
        (call,) = merged(chunks).tool_calls
        assert (call["name"], call["args"]) == ("look", {})
        assert call["id"] == "t1" if call_id else (call["id"] or "").startswith("call_")

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_an_id_that_comes_late_is_the_calls(self, position: int) -> None:
        pieces = tool_call_stream(None, '{"place":', ' "Linz"}')
        pieces[position]["choices"][0]["delta"]["tool_calls"][0]["id"] = "late"
        with Scripted(pieces) as box:
            chunks = list(model(box).stream("?"))
        assert [call["id"] for chunk in chunks for call in chunk.tool_call_chunks if call["id"]] == ["late"]
        assert [call["id"] for call in merged(chunks).tool_calls] == ["late"]

    @pytest.mark.parametrize("arguments", ['{"place": "Linz"}', '{"place": "Li'], ids=["whole", "cut"])
    def test_a_made_up_id_is_in_every_form(self, arguments: str) -> None:
        with Scripted(tool_call_stream(None, *arguments)) as box:
            chunks = list(model(box).stream("?"))
            messages = [merged(chunks), asyncio.run(model(box, streaming=True).ainvoke("?"))]
            content = merged(list(model(box, output_version="v1").stream("?"))).content
        calls = [call for message in messages for call in (*message.tool_calls, *message.invalid_tool_calls)]
        ids = [call["id"] for call in calls] + [block["id"] for block in content if isinstance(block, dict)]
        assert len(set(ids)) == 3
        assert all(ids)

    def test_results_without_ids_answer_in_order(self, chat: ChatPredictionGuard, box: Sandbox) -> None:
        for call_ids, result_ids in (
            ((None, None, None), ("", "", "")),
            ((None, None, None), ("x", "", "y")),
            (("a", "b", "c"), ("", "", "")),
            (("a", None, "c"), ("a", "", "c")),
        ):
            calls = [{"name": "look", "args": {"n": n}, "id": call_id} for n, call_id in enumerate(call_ids)]
            results = [ToolMessage("Done.", tool_call_id=call_id) for call_id in result_ids]
            chat.invoke([HumanMessage("?"), AIMessage("", tool_calls=calls), *results])
            sent = [call_id for call_id, _, _ in sent_calls(box)]
            assert len({*sent, ""}) == 4
            assert [message["tool_call_id"] for message in box.requests[-1]["messages"][2:]] == sent

    def test_an_id_of_the_callers_is_never_changed(self, chat: ChatPredictionGuard, box: Sandbox) -> None:
        calls = [{"name": "look", "args": {}, "id": each} for each in "ab"]
        results = [ToolMessage("Done.", tool_call_id=each) for each in "ba"]
        chat.invoke([HumanMessage("?"), AIMessage("", tool_calls=calls), *results])
        assert [call_id for call_id, _, _ in sent_calls(box)] == ["a", "b"]
        assert [message["tool_call_id"] for message in box.requests[-1]["messages"][2:]] == ["b", "a"]

    def test_a_function_message_answers_a_function_call(self, chat: ChatPredictionGuard, box: Sandbox) -> None:
        call = AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}})
        chat.invoke([HumanMessage("?"), call, FunctionMessage(content="Done.", name="f"), HumanMessage("And?")])
        ((call_id, name, _),) = sent_calls(box)
        result = box.requests[-1]["messages"][2]
        assert (result["role"], result["content"], result["tool_call_id"], name) == ("tool", "Done.", call_id, "f")

    @pytest.mark.parametrize(
        "message",
        [FunctionMessage(content="Done.", name="g"), ToolMessage("Done.", tool_call_id="")],
        ids=["function", "tool"],
    )
    def test_a_result_without_a_call_is_refused(
        self, chat: ChatPredictionGuard, box: Sandbox, message: BaseMessage
    ) -> None:
        call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
        with pytest.raises(ContentError, match="ToolMessage") as caught:
            chat.invoke([call, ToolMessage("Done.", tool_call_id="1"), message])
        assert caught.value.message_index == 2
        assert box.requests == []


OTHER_FORMS: dict[str, tuple[AIMessage, list[tuple[str, str, str]]]] = {
    "OpenAI's Responses API": (
        AIMessage([{"type": "function_call", "name": "f", "arguments": '{"a":1}', "call_id": "t1", "id": "fc"}]),
        [("t1", "f", '{"a":1}')],
    ),
    "OpenAI's Responses API, parsed too": (
        AIMessage(
            [{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "t1", "id": "fc"}],
            tool_calls=[{"name": "f", "args": {}, "id": "t1"}],
        ),
        [("t1", "f", "{}")],
    ),
    "Anthropic": (AIMessage([{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]), [("t1", "f", "{}")]),
    "LangChain's block": (
        AIMessage([{"type": "tool_call", "id": "t1", "name": "f", "args": {"a": 1}}]),
        [("t1", "f", '{"a": 1}')],
    ),
    "an invalid one": (
        AIMessage([{"type": "invalid_tool_call", "name": "f", "args": '{"a"', "id": "t1", "error": "cut"}]),
        [("t1", "f", '{"invalid_arguments": "{\\"a\\""}')],
    ),
    "without ids, parsed too": (
        AIMessage(
            [{"type": "tool_call", "name": "f", "args": {}, "id": None}],
            tool_calls=[{"name": "f", "args": {}, "id": None}],
        ),
        [("t1", "f", "{}")],
    ),
    "a function call": (
        AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": '{"a":1}'}}),
        [("t1", "f", '{"a":1}')],
    ),
    "a function call, parsed too": (
        AIMessage(
            "",
            additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}},
            tool_calls=[{"name": "f", "args": {}, "id": "t1"}],
        ),
        [("t1", "f", "{}")],
    ),
}


@pytest.mark.parametrize(("message", "sent"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_a_call_of_another_provider_goes_out_once(
    chat: ChatPredictionGuard, box: Sandbox, message: AIMessage, sent: list[tuple[str, str, str]]
) -> None:
    before = message.model_copy(deep=True)
    chat.invoke([HumanMessage("?"), message, ToolMessage("Done.", tool_call_id="t1"), HumanMessage("And?")])
    assert sent_calls(box) == sent
    assert box.requests[-1]["messages"][2]["tool_call_id"] == "t1"
    assert message == before


def test_parallel_calls_whatever_their_index_and_id() -> None:
    for fragments in (
        [(0, "a", "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
        [(0, "a", "f", '{"x"'), (0, None, None, ":1}"), (1, "b", "f", '{"x":2}')],
        [(0, "a", "f", '{"x":1}'), (0, "b", "f", '{"x":2}')],
        [(None, "a", "f", '{"x":1}'), (None, "b", "f", '{"x"'), (None, None, None, ":2}")],
        [(0, "a", "f", None), (0, "a", "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
        [(0, None, "f", '{"x":1}'), (0, None, "f", '{"x":2}')],
        [(0, "a", "f", ""), (0, None, "f", '{"x":1}'), (1, "b", "f", '{"x":2}')],
    ):
        deltas = [
            {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}
            for index, call_id, name, arguments in fragments
        ]
        chunks: list[dict[str, Any]] = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        with Scripted(chunks) as box:
            message = merged(list(model(box).stream("?")))
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [("f", {"x": 1}), ("f", {"x": 2})]
        assert message.invalid_tool_calls == []


@pytest.mark.parametrize("calls", [{}, [], [{}], None])
def test_an_empty_list_of_calls_is_no_call(calls: Any) -> None:
    reply = text_reply("hi")
    reply["choices"][0]["message"]["tool_calls"] = calls
    with Scripted(reply) as box:
        message = model(box).invoke("?")
    assert (message.text, message.tool_calls, message.invalid_tool_calls) == ("hi", [], [])
