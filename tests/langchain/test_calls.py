"""Tool calls that were cut off, that have no id, that some other provider made: what is seen, and what goes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, FunctionMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk

from langchain_predictionguard import ChatPredictionGuard, ContentError, tool_calls
from langchain_predictionguard.messages import to_result, to_wire
from predictionguard_core.api.chat import ToolCall
from predictionguard_core.api.responses import ChatCompletion
from predictionguard_core.sandbox import Sandbox
from tests.langchain.scripted import Scripted, calling, calling_in_pieces, saying


def sent_calls(box: Sandbox | Scripted, position: int = 1) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call that a message of the last request makes."""
    calls = box.requests[-1]["messages"][position].get("tool_calls", [])
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


def added(chunks: list[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def model(box: Scripted, **options: Any) -> ChatPredictionGuard:
    return ChatPredictionGuard("m", api_key="key", base_url=box.url, **options)


NO_ARGUMENTS = ["not json", "[1, 2]", "null", '"text"', "{]", '{"a": 1]', '["a": }']
CUT = [
    '{"a": "x',
    '{"a": "x"',
    '{"a": "x\\',
    '{"a": "x\\\\',
    '{"a": 1',
    '{"a": [1, "b',
    '{"a": [1',
    '{"a": {"b": "]',
    '{"a": "ä \\"quoted',
    '{"a": 1} and more',
    '{"a": 1 \t',
    '{"a": 1} ',
    "{",
]


PIECES = st.lists(
    st.sampled_from([*'{}[]":,\\ \t\n1', '"a"', '"a": ', "true", "nul", "ä", '\\"', '{"a": ', " \t]", " \t\t\t}"])
).map("".join) | st.tuples(
    st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3) | st.integers(), max_size=3), max_size=3),
    st.integers(0, 60),
).map(lambda each: json.dumps(each[0], ensure_ascii=False)[: each[1]])
"""Arguments of every kind: objects, whole and cut, and what is made of their parts."""


class TestArgumentsThatDoNotParse:
    @pytest.mark.parametrize("text", NO_ARGUMENTS)
    def test_stream_and_plain_show_the_same(self, text: str) -> None:
        with Scripted(calling("1", text), calling_in_pieces("1", text[:3], text[3:])) as box:
            chat = model(box)
            plain, streamed = chat.invoke("?"), added(list(chat.stream("?")))
        assert isinstance(plain, AIMessage)
        assert [message.tool_calls for message in (plain, streamed)] == [[], []]
        shown = [(call["id"], call["name"], call["args"]) for call in plain.invalid_tool_calls]
        assert shown == [("1", "look", text)]
        assert shown == [(call["id"], call["name"], call["args"]) for call in streamed.invalid_tool_calls]

    @pytest.mark.parametrize("text", CUT)
    @pytest.mark.parametrize("version", ["v0", "v1"])
    def test_what_the_model_wrote_goes_back(self, text: str, version: str) -> None:
        replies = (calling("1", text), calling_in_pieces("1", text[:3], text[3:]))
        with Scripted(*replies, saying("Sorry.")) as box:
            chat = model(box, output_version=version)
            plain, streamed = chat.invoke("?"), added(list(chat.stream("?")))
            for message in (plain, streamed):
                chat.invoke([HumanMessage("?"), message, ToolMessage("What?", tool_call_id="1", status="error")])
                valid = text == '{"a": 1} '
                assert sent_calls(box) == [("1", "look", '{"a": 1}' if valid else text)]
                assert [call["args"] for call in message.tool_calls] == ([{"a": 1}] if valid else [])

    @pytest.mark.parametrize("text", [*NO_ARGUMENTS, '{"a": 1 \t', "\t\t\t]", " \t]", '{"a": "\\" \t\t]'])
    def test_what_only_looks_like_a_mended_text_stays(self, text: str) -> None:
        with Scripted(calling("1", text), saying("Sorry.")) as box:
            chat = model(box)
            call = chat.invoke("?")
            chat.invoke([HumanMessage("?"), call, ToolMessage("What?", tool_call_id="1")])
        if text not in ('{"a": 1 \t]', '{"a": "\\" \t\t]'):
            assert sent_calls(box) == [("1", "look", text)]

    def test_blanks_are_no_arguments(self) -> None:
        with Scripted(calling("1", " \n"), calling_in_pieces("1", " ", "\n")) as box:
            chat = model(box)
            for message in (chat.invoke("?"), added(list(chat.stream("?")))):
                assert [call["args"] for call in message.tool_calls] == [{}]
                assert message.invalid_tool_calls == []

    @hypothesis.settings(deadline=None)
    @hypothesis.given(text=PIECES)
    @hypothesis.example('{"a": 1 \t]')
    @hypothesis.example('{"a": "x" \t\t] \t]')
    def test_nothing_mends_what_is_spoiled_and_all_of_it_comes_back(self, text: str) -> None:
        (plain,) = to_result(ChatCompletion.model_validate(calling("1", text))).generations
        assert isinstance(plain.message, AIMessage)
        chunk = tool_call_chunk(name="look", args=text + tool_calls.spoiler(text), id="1", index=0)
        streamed = AIMessageChunk("", tool_call_chunks=[chunk])
        assert streamed.tool_calls == plain.message.tool_calls
        for call in streamed.invalid_tool_calls:
            assert tool_calls.without_spoiler(call["args"] or "") == text

    def test_a_model_that_streams_behind_the_scenes(self) -> None:
        with Scripted(calling_in_pieces("1", '{"place": "Li'), saying("Sorry.")) as box:
            chat = model(box, streaming=True)
            call = chat.invoke("?")
            assert call.tool_calls == []
            model(box).invoke([HumanMessage("?"), call, ToolMessage("What?", tool_call_id="1")])
        assert sent_calls(box) == [("1", "look", '{"place": "Li')]


class TestCallsWithoutAnId:
    @pytest.mark.parametrize("missing", [None, ""])
    def test_they_get_one_and_keep_it(self, missing: Any) -> None:
        replies = (calling(missing, "{}"), calling_in_pieces(missing, "{", "}"), calling(missing, "{"))
        with Scripted(*replies, saying("It is.")) as box:
            chat = model(box)
            messages = [chat.invoke("?"), added(list(chat.stream("?"))), chat.invoke("?")]
            for message in messages:
                (call,) = message.tool_calls or message.invalid_tool_calls
                assert call["id"]
                chat.invoke([HumanMessage("?"), message, ToolMessage("Done.", tool_call_id=call["id"])])
                assert [call_id for call_id, _, _ in sent_calls(box)] == [call["id"]]

    def test_each_call_of_a_stream_has_one_of_its_own(self) -> None:
        pieces = calling_in_pieces(None, '{"place":', ' "Linz"}')
        other = {"index": 1, "id": None, "function": {"name": "look", "arguments": '{"place": "Graz"}'}}
        pieces.insert(-1, {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [other]}}]})
        with Scripted(pieces) as box:
            chunks = list(model(box).stream("?"))
        said = [call["id"] for chunk in chunks for call in chunk.tool_call_chunks if call["id"]]
        assert [call["id"] for call in added(chunks).tool_calls] == said
        assert len(set(said)) == 2

    @pytest.mark.parametrize("call_id", [None, "", "t1"])
    def test_a_stream_that_comes_as_one_chunk(self, call_id: str | None) -> None:
        with Scripted(calling(call_id, "{}")) as box:
            chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
            (call,) = added(list(chat.stream("?"))).tool_calls
        assert (call["name"], call["args"]) == ("look", {})
        assert call["id"] == "t1" if call_id else (call["id"] or "").startswith("call_")

    @pytest.mark.parametrize("arguments", [('{"place":', ' "Linz"}'), ('{"place":', ' "Li')], ids=["whole", "cut"])
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_one_that_comes_late_is_the_calls(self, position: int, arguments: tuple[str, str]) -> None:
        pieces = calling_in_pieces(None, *arguments)
        pieces[position]["choices"][0]["delta"]["tool_calls"][0]["id"] = "late"
        with Scripted(pieces, saying("Fine.")) as box:
            chat = model(box)
            chunks = list(chat.stream("?"))
            said = [call["id"] for chunk in chunks for call in chunk.tool_call_chunks if call["id"]]
            assert said == ["late"]
            chat.invoke([HumanMessage("?"), added(chunks), ToolMessage("Done.", tool_call_id="late")])
        ((call_id, name, sent),) = sent_calls(box)
        assert (call_id, name, sent) == ("late", "look", "".join(arguments))

    @pytest.mark.parametrize("arguments", ['{"place": "Linz"}', '{"place": "Li'], ids=["whole", "cut"])
    def test_it_is_made_up_at_the_end_and_seen_in_every_form(self, arguments: str) -> None:
        with Scripted(calling_in_pieces(None, *arguments)) as box:
            chunks = list(model(box).stream("?"))
            assert all(call["id"] is None for chunk in chunks[:-2] for call in chunk.tool_call_chunks)
            answers = [added(chunks), asyncio.run(model(box, streaming=True).ainvoke("?"))]
            written = added(list(model(box, output_version="v1").stream("?"))).content
        calls = [call for answer in answers for call in (*answer.tool_calls, *answer.invalid_tool_calls)]
        made = [call["id"] for call in calls] + [block["id"] for block in written if isinstance(block, dict)]
        assert len(set(made)) == 3
        assert all(made)

    def test_a_history_without_them(self, chat: ChatPredictionGuard, box: Sandbox) -> None:
        calls = [{"name": "look", "args": {"place": place}, "id": None} for place in ("Linz", "Graz", "Enns")]
        answers = [
            ToolMessage("1.", tool_call_id="x"),
            ToolMessage("2.", tool_call_id=""),
            FunctionMessage(content="3.", name="look"),
        ]
        chat.invoke([HumanMessage("?"), AIMessage("", tool_calls=calls), *answers])
        made = [call_id for call_id, _, _ in sent_calls(box)]
        assert made[0] == "x"
        assert len({*made, ""}) == 4
        assert [message["tool_call_id"] for message in box.requests[-1]["messages"][2:]] == made


Called = tuple[str | None, str]
Said = tuple[str, str | None]


def paired(chat: ChatPredictionGuard, box: Sandbox, called: list[Called], said: list[Said]) -> list[str | None]:
    """The tool to which each result is sent as an answer: calls are (id, name), results (id, name)."""
    calls = [{"name": name, "args": {}, "id": call_id} for call_id, name in called]
    results = [ToolMessage("Done.", tool_call_id=call_id, name=name) for call_id, name in said]
    chat.invoke([HumanMessage("?"), AIMessage("", tool_calls=calls), *results, HumanMessage("And?")])
    names = {call_id: name for call_id, name, _ in sent_calls(box)}
    assert len(names) == len(called)
    return [names.get(message["tool_call_id"]) for message in box.requests[-1]["messages"][2:-1]]


PAIRS: dict[str, tuple[list[Called], list[Said], list[str | None]]] = {
    "by name, ids in the results": ([(None, "f"), (None, "g")], [("2", "g"), ("1", "f")], ["g", "f"]),
    "by name, no ids": ([(None, "f"), (None, "g")], [("", "g"), ("", "f")], ["g", "f"]),
    "by name, ids in the calls": ([("a", "f"), ("b", "g")], [("", "g"), ("", "f")], ["g", "f"]),
    "by name, one without": ([(None, "f"), (None, "g")], [("", None), ("", "f")], ["g", "f"]),
    "by order": ([(None, "f"), (None, "g")], [("1", None), ("2", None)], ["f", "g"]),
    "by order, names of something else": ([(None, "f"), (None, "g")], [("1", "x"), ("", "x")], ["f", "g"]),
    "the other call is named": ([("a", "f"), ("b", "g")], [("", None), ("a", None)], ["g", "f"]),
    "only one call can take an id": ([(None, "f"), ("b", "g")], [("", None), ("z", None)], ["g", "f"]),
    "an id that no call can take": ([("a", "f"), ("b", "g")], [("z", None), ("", None)], [None, "f"]),
    "the name before the id": ([(None, "f")], [("", "f"), ("z", "g")], ["f", None]),
    "an id twice": ([(None, "f"), (None, "g")], [("1", None), ("1", None), ("2", None)], ["f", "f", "g"]),
    "an id like a made one": ([(None, "f"), ("call_1_0", "g")], [("call_1_0", None), ("", None)], ["g", "f"]),
}


@pytest.mark.parametrize(("called", "said", "wanted"), PAIRS.values(), ids=PAIRS)
def test_a_result_answers_the_call_it_is_of(
    chat: ChatPredictionGuard, box: Sandbox, called: list[Called], said: list[Said], wanted: list[str | None]
) -> None:
    assert paired(chat, box, called, said) == wanted


@pytest.mark.parametrize("call_id", [None, "1"])
def test_calls_of_one_tool_are_answered_in_their_order(
    chat: ChatPredictionGuard, box: Sandbox, call_id: str | None
) -> None:
    calls = [{"name": "f", "args": {"at": at}, "id": call_id and f"{at}"} for at in range(3)]
    results = [ToolMessage(str(at), tool_call_id="x" if at == 1 and not call_id else "", name="f") for at in range(3)]
    chat.invoke([AIMessage("", tool_calls=calls), *results])
    made = [call for call, _, _ in sent_calls(box, 0)]
    assert [message["tool_call_id"] for message in box.requests[-1]["messages"][1:]] == made


def test_a_result_is_found_behind_a_persons_words(chat: ChatPredictionGuard, box: Sandbox) -> None:
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": None}])
    chat.invoke([HumanMessage("?"), call, HumanMessage("Well?"), ToolMessage("Done.", tool_call_id="q")])
    assert [call_id for call_id, _, _ in sent_calls(box)] == ["q"]


def test_a_late_result_of_an_earlier_call_is_no_later_calls(chat: ChatPredictionGuard, box: Sandbox) -> None:
    first, second = (AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": each}]) for each in ("a", None))
    chat.invoke(
        [HumanMessage("?"), first, second, ToolMessage("1.", tool_call_id="a"), ToolMessage("2.", tool_call_id="")]
    )
    ((made, _, _),) = sent_calls(box, 2)
    assert [message["tool_call_id"] for message in box.requests[-1]["messages"][3:]] == ["a", made]
    assert made != "a"


def test_no_call_is_compared_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(self: ToolCall, other: object) -> bool:
        raise AssertionError("the calls of a long history would be compared with each other")

    monkeypatch.setattr(ToolCall, "__eq__", compared)
    for call_ids, result_ids in (("abc", "cba"), (["", "", ""], "cba"), ("abc", ["", "", ""])):
        called = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": each} for each in call_ids])
        sent = to_wire([called, *(ToolMessage("Done.", tool_call_id=each) for each in result_ids)])
        made = [call.id for call in sent[0].tool_calls or []]
        assert sorted(str(message.tool_call_id) for message in sent[1:]) == sorted(made)


def test_no_call_is_answered_twice_without_an_id(chat: ChatPredictionGuard, box: Sandbox) -> None:
    calls = [{"name": name, "args": {}, "id": None} for name in "fg"]
    results = [ToolMessage("Done.", tool_call_id="", name="f") for _ in range(2)]
    with pytest.raises(ContentError) as caught:
        chat.invoke([AIMessage("", tool_calls=calls), *results])
    assert caught.value.message_index == 2


OTHERS: dict[str, tuple[AIMessage, list[tuple[str, str, str]]]] = {
    "OpenAI's responses": (
        AIMessage([{"type": "function_call", "name": "f", "arguments": '{"a":1}', "call_id": "t1", "id": "fc"}]),
        [("t1", "f", '{"a":1}')],
    ),
    "OpenAI's responses, twice": (
        AIMessage(
            [{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "t1", "id": "fc"}],
            tool_calls=[{"name": "f", "args": {}, "id": "t1"}],
        ),
        [("t1", "f", "{}")],
    ),
    "invalid": (
        AIMessage([{"type": "invalid_tool_call", "name": "f", "args": '{"a"', "id": "t1", "error": "cut"}]),
        [("t1", "f", '{"a"')],
    ),
    "invalid, twice": (
        AIMessage(
            [{"type": "invalid_tool_call", "name": "f", "args": '{"a"', "id": "t1", "error": "cut"}],
            invalid_tool_calls=[{"name": "f", "args": '{"a"', "id": "t1", "error": "cut"}],
        ),
        [("t1", "f", '{"a"')],
    ),
    "a piece of a stream": (
        AIMessage([{"type": "tool_call_chunk", "name": "f", "args": "{}", "id": "t1", "index": 0}]),
        [("t1", "f", "{}")],
    ),
    "without ids, twice": (
        AIMessage(
            [{"type": "tool_call", "name": "f", "args": {}, "id": None}],
            tool_calls=[{"name": "f", "args": {}, "id": None}, {"name": "f", "args": {"a": 1}, "id": None}],
        ),
        [("t1", "f", "{}"), ("call_1_1", "f", '{"a": 1}')],
    ),
    "without ids, other arguments": (
        AIMessage(
            [{"type": "tool_call", "name": "f", "args": {"a": 2}, "id": None}],
            tool_calls=[{"name": "f", "args": {"a": 1}, "id": None}],
        ),
        [("t1", "f", '{"a": 1}'), ("call_1_1", "f", '{"a": 2}')],
    ),
    "an id in the content alone": (
        AIMessage(
            [{"type": "tool_use", "name": "f", "input": {"a": 1}, "id": "t1"}],
            tool_calls=[{"name": "f", "args": {"a": 1}, "id": None}],
        ),
        [("t1", "f", '{"a": 1}')],
    ),
    "no id in the content alone": (
        AIMessage(
            [{"type": "function_call", "name": "f", "arguments": '{"b":2,"a":1}'}],
            tool_calls=[{"name": "f", "args": {"a": 1, "b": 2}, "id": "t1"}],
        ),
        [("t1", "f", '{"a": 1, "b": 2}')],
    ),
    "the same twice, and twice in the content": (
        AIMessage(
            [{"type": "tool_use", "name": "f", "input": {}, "id": each} for each in ("t2", "t1")],
            tool_calls=[{"name": "f", "args": {}, "id": each} for each in (None, "t1")],
        ),
        [("t2", "f", "{}"), ("t1", "f", "{}")],
    ),
    "the same twice, and one in the content": (
        AIMessage(
            [{"type": "tool_use", "name": "f", "input": {}, "id": "t2"}],
            tool_calls=[{"name": "f", "args": {}, "id": each} for each in ("t1", None)],
        ),
        [("t1", "f", "{}"), ("t2", "f", "{}")],
    ),
    "other ids": (
        AIMessage(
            [{"type": "tool_use", "name": "f", "input": {}, "id": "t2"}],
            tool_calls=[{"name": "f", "args": {}, "id": "t1"}],
        ),
        [("t1", "f", "{}"), ("t2", "f", "{}")],
    ),
    "a function of old": (
        AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": '{"a":1}'}}),
        [("t1", "f", '{"a":1}')],
    ),
    "a function of old, twice": (
        AIMessage(
            "",
            additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}},
            tool_calls=[{"name": "f", "args": {}, "id": "t1"}],
        ),
        [("t1", "f", "{}")],
    ),
}


@pytest.mark.parametrize(("message", "wanted"), OTHERS.values(), ids=OTHERS)
def test_a_call_of_any_form_goes_out_once(
    chat: ChatPredictionGuard, box: Sandbox, message: AIMessage, wanted: list[tuple[str, str, str]]
) -> None:
    before = message.model_copy(deep=True)
    chat.invoke([HumanMessage("?"), message, ToolMessage("Done.", tool_call_id="t1"), HumanMessage("And?")])
    assert sent_calls(box) == wanted
    assert box.requests[-1]["messages"][2]["tool_call_id"] == "t1"
    assert message == before


def test_a_functions_answer_finds_its_call(chat: ChatPredictionGuard, box: Sandbox) -> None:
    call = AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}})
    chat.invoke([HumanMessage("?"), call, FunctionMessage(content="Done.", name="f"), HumanMessage("And?")])
    ((made, name, _),) = sent_calls(box)
    answer = box.requests[-1]["messages"][2]
    assert (answer["role"], answer["content"], answer["tool_call_id"], name) == ("tool", "Done.", made, "f")


@pytest.mark.parametrize(
    "message",
    [FunctionMessage(content="Done.", name="g"), ToolMessage("Done.", tool_call_id="")],
    ids=["function", "tool"],
)
def test_an_answer_to_nothing_names_its_message(chat: ChatPredictionGuard, box: Sandbox, message: BaseMessage) -> None:
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    with pytest.raises(ContentError, match="ToolMessage") as caught:
        chat.invoke([call, ToolMessage("Done.", tool_call_id="1"), message])
    assert caught.value.message_index == 2
    assert box.requests == []
