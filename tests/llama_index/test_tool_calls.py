"""Tools, agents and structured answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuard
from predictionguard_core.sandbox import Sandbox

Make = Callable[..., PredictionGuard]


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"sunny in {city}"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(add)]
PARIS = "What is the weather in Paris?"
BOTH = "What is the weather in Paris and what is 2 + 3?"


class Photo(BaseModel):
    """A photo."""

    width: int
    height: int
    title: str


def replying(make: Make, message: dict[str, Any], finish_reason: str = "tool_calls") -> PredictionGuard:
    reply = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=reply))
    return make(http_client=httpx.Client(transport=transport))


def streaming(make: Make, *deltas: dict[str, Any], finish_reason: str | None = "tool_calls") -> PredictionGuard:
    choices = [{"index": 0, "delta": delta} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish_reason})  # type: ignore[dict-item]
    events = [json.dumps({"id": str(index), "choices": [choice]}) for index, choice in enumerate(choices)]
    body = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body, headers=headers))
    return make(http_client=httpx.Client(transport=transport))


def call(arguments: str | None, name: str | None = "add", **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, "type": "function", **more}


# Offered and made


def test_tools_are_sent_as_functions(llm: PredictionGuard, box: Sandbox) -> None:
    llm.chat_with_tools(TOOLS, PARIS, tool_required=True)
    sent = box.requests[-1]
    assert sent["tool_choice"] == "required"
    assert sent["parallel_tool_calls"] is False
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_weather", "add"]
    assert sent["tools"][0]["function"]["parameters"]["properties"]["city"]["type"] == "string"
    assert sent["messages"] == [{"role": "user", "content": PARIS}]


def test_tool_choice(llm: PredictionGuard, box: Sandbox) -> None:
    choices = {
        None: None,
        "auto": "auto",
        "none": "none",
        "any": "required",
        "add": {"type": "function", "function": {"name": "add"}},
    }
    for choice, sent in choices.items():
        llm.chat_with_tools(TOOLS, PARIS, tool_choice=choice, allow_parallel_tool_calls=True)
        assert box.requests[-1].get("tool_choice") == sent, choice
        assert box.requests[-1]["parallel_tool_calls"] is True, choice


def test_an_unknown_tool_choice_is_refused(llm: PredictionGuard) -> None:
    with pytest.raises(adapter.ConfigurationError, match="get_weather, add"):
        llm.chat_with_tools(TOOLS, PARIS, tool_choice="subtract")


def test_functions_in_place_of_tools_are_an_error_with_the_remedy(llm: PredictionGuard) -> None:
    wrong: list[Any] = [[get_weather], [{"type": "function"}], TOOLS[0]]
    for tools in wrong:
        for call in (llm.chat_with_tools, llm.stream_chat_with_tools, llm.predict_and_call):
            with pytest.raises(adapter.ConfigurationError, match=r"tools must be a list .*FunctionTool\.from_defaults"):
                call(tools, PARIS)


def test_other_tools_are_strict_on_request(llm: PredictionGuard, box: Sandbox) -> None:
    llm.chat_with_tools(TOOLS, PARIS, tool_required=True)
    assert "strict" not in box.requests[-1]["tools"][0]["function"]
    llm.chat_with_tools(TOOLS, PARIS, strict=True)
    assert all(tool["function"]["strict"] for tool in box.requests[-1]["tools"])


def test_tool_options_are_not_sent_without_tools(llm: PredictionGuard, box: Sandbox) -> None:
    history = [ChatMessage(role="user", content="a")]
    llm.chat_with_tools([], "b", chat_history=history, tool_required=True)
    assert sorted(box.requests[-1]) == ["messages", "model"]
    assert len(box.requests[-1]["messages"]) == 2
    assert len(history) == 1


def test_a_tool_call_and_its_selection(llm: PredictionGuard) -> None:
    response = llm.chat_with_tools(TOOLS, PARIS)
    (block,) = response.message.blocks
    assert isinstance(block, ToolCallBlock)
    assert (block.tool_name, block.tool_kwargs) == ("get_weather", {"city": "Paris"})
    (selection,) = llm.get_tool_calls_from_response(response)
    assert selection.model_dump() == {
        "tool_id": block.tool_call_id,
        "tool_name": "get_weather",
        "tool_kwargs": {"city": "Paris"},
    }
    assert response.additional_kwargs["finish_reason"] == "tool_calls"


def test_predict_and_call(llm: PredictionGuard) -> None:
    assert llm.predict_and_call(TOOLS, PARIS).response == "sunny in Paris"
    answer = llm.predict_and_call(TOOLS, BOTH, allow_parallel_tool_calls=True)
    assert answer.response == "sunny in Paris\n\n5"


async def test_predict_and_call_async(llm: PredictionGuard) -> None:
    assert (await llm.apredict_and_call(TOOLS, PARIS)).response == "sunny in Paris"


def test_tool_calls_about_an_image(llm: PredictionGuard, photos: Path) -> None:
    message = ChatMessage(
        role="user", blocks=[TextBlock(text="Add its width and height"), ImageBlock(path=photos / "cat.jpg")]
    )
    assert llm.predict_and_call(TOOLS, message).sources[0].tool_name == "add"


def test_tool_calls_are_streamed(llm: PredictionGuard) -> None:
    chunks = list(llm.stream_chat_with_tools(TOOLS, BOTH, allow_parallel_tool_calls=True))
    for chunk in chunks:
        llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False)
    last = chunks[-1]
    selections = llm.get_tool_calls_from_response(last)
    assert [(each.tool_name, each.tool_kwargs) for each in selections] == [
        ("get_weather", {"city": "Paris"}),
        ("add", {"a": 2, "b": 3}),
    ]
    assert [block.block_type for block in last.message.blocks] == ["tool_call", "tool_call"]
    assert len(last.message.additional_kwargs["tool_calls"]) == 2
    assert last.additional_kwargs["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "deltas",
    [
        [[call("", id="x", index=0)], [call('{"a": 2,', None, index=0)], [call(' "b": 3}', None, index=0)]],
        [[call('{"a": 2,', id="x")], [call(' "b": 3}', None)]],
        [[call('{"a": 2,', id="x", index=0)], [call(' "b": 3}', "add", id="x", index=0)]],
        [[call(None, id="x", index=3)], [call('{"a": 2, "b": 3}', None, index=3)]],
    ],
)
def test_fragments_of_a_call_are_put_together(deltas: list[Any], make: Make) -> None:
    llm = streaming(make, *({"tool_calls": fragments} for fragments in deltas))
    last = list(llm.stream_chat_with_tools(TOOLS, "2 + 3?"))[-1]
    (selection,) = llm.get_tool_calls_from_response(last)
    assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("x", "add", {"a": 2, "b": 3})


def test_two_calls_with_one_index_stay_separate(make: Make) -> None:
    fragments = [call('{"a": 1, "b": 1}', id="x", index=0), call('{"a": 2, "b": 2}', id="y", index=0)]
    llm = streaming(make, {"tool_calls": [fragments[0]]}, {"tool_calls": [fragments[1]]})
    last = list(llm.stream_chat_with_tools(TOOLS, "?", allow_parallel_tool_calls=True))[-1]
    assert [each.tool_id for each in llm.get_tool_calls_from_response(last)] == ["x", "y"]


@pytest.mark.parametrize("arguments", ['{"a": 2,', "two and three", "[2, 3]", "5"])
def test_unreadable_arguments_make_the_tool_return_an_error(arguments: str, make: Make) -> None:
    for tool in TOOLS:
        message = {"role": "assistant", "content": None, "tool_calls": [call(arguments, tool.metadata.name, id="x")]}
        llm = replying(make, message)
        response = llm.chat_with_tools(TOOLS, "2 + 3?")
        assert response.message.blocks[0].tool_kwargs == arguments  # type: ignore[union-attr]
        answer = llm.predict_and_call(TOOLS, "2 + 3?")
        assert answer.sources[0].is_error
        assert "arguments_are_not_a_json_object" in answer.response


@pytest.mark.parametrize("arguments", ['{"a": 2,', '{"a": 2}', "{}", ""])
@pytest.mark.parametrize("form", ["plain", "stream"])
def test_a_call_truncated_by_max_tokens_is_refused(form: str, arguments: str, make: Make) -> None:
    calls = {"tool_calls": [call(arguments, id="x", index=0)]}
    if form == "plain":
        last = replying(make, {"role": "assistant", "content": None, **calls}, "length").chat_with_tools(TOOLS, "?")
    else:
        last = list(streaming(make, calls, finish_reason="length").stream_chat_with_tools(TOOLS, "?"))[-1]
    for error_on_no_tool_call in (True, False):
        with pytest.raises(adapter.InvalidResponseError, match=r"max_tokens ended the answer within its call of 'add'"):
            make().get_tool_calls_from_response(last, error_on_no_tool_call=error_on_no_tool_call)


async def test_a_truncated_call_never_reaches_the_tool(make: Make, box: Sandbox) -> None:
    called: list[int] = []

    def multiply(a: int, b: int = 1) -> int:
        """Multiply two numbers."""
        called.append(a)
        return a * b

    class Both(BaseModel):
        a: int
        b: int

    llm, tool = make(), FunctionTool.from_defaults(multiply, fn_schema=Both)
    cut: dict[str, Any] = {"tool_calls": [("multiply", {"a": 2})], "finish_reason": "length"}
    box.answer(**cut)
    with pytest.raises(adapter.InvalidResponseError, match="max_tokens ended the answer within its call of 'multiply'"):
        llm.predict_and_call([tool], "2 times 3?")
    box.answer(**cut)
    with pytest.raises(adapter.InvalidResponseError, match="max_tokens"):
        await llm.apredict_and_call([tool], "2 times 3?")
    for is_streamed in (True, False):
        box.answer(**cut)
        with pytest.raises(Exception, match="max_tokens ended the answer within its call of 'multiply'"):
            await FunctionAgent(tools=[tool], llm=llm, streaming=is_streamed).run(user_msg="2 times 3?")
    assert called == []


def test_raw_markup_of_a_truncated_call_is_refused(make: Make) -> None:
    llm = replying(make, {"role": "assistant", "content": '<tool_call>\n{"name": "add", "argu'}, "length")
    with pytest.raises(adapter.InvalidResponseError, match="Raise max_tokens"):
        llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, "?"), error_on_no_tool_call=False)


def test_a_complete_call_of_a_truncated_response_is_returned(make: Make) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call('{"a": 2, "b": 3}', id="x")]}
    llm = replying(make, message, "length")
    (selection,) = llm.get_tool_calls_from_response(llm.chat_with_tools(TOOLS, "?"))
    assert selection.tool_kwargs == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"city": "Paris\nFrance\t"}', {"city": "Paris\nFrance\t"}),
        ('"{\\"city\\": \\"Paris\\"}"', {"city": "Paris"}),
        ("null", {}),
        ("  ", {}),
    ],
)
def test_unambiguous_arguments_are_accepted(arguments: str, read: dict[str, Any], make: Make, box: Sandbox) -> None:
    calls = {"tool_calls": [call(arguments, "get_weather", id="x", index=0)]}
    plain = replying(make, {"role": "assistant", "content": None, **calls}).chat_with_tools(TOOLS, "?")
    streamed = list(streaming(make, calls).stream_chat_with_tools(TOOLS, "?"))[-1]
    for response in (plain, streamed):
        (selection,) = make().get_tool_calls_from_response(response)
        assert selection.tool_kwargs == read
        result = ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": "x"})
        make().chat([ChatMessage(role="user", content="?"), response.message, result])
        assert json.loads(box.requests[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"]) == read


@pytest.mark.parametrize("finish_reason", ["length", None])
def test_unreadable_arguments_of_a_stream(finish_reason: str | None, make: Make) -> None:
    llm = streaming(make, {"tool_calls": [call('{"a": 2,', id="x", index=0)]}, finish_reason=finish_reason)
    chunks = list(llm.stream_chat_with_tools(TOOLS, "2 + 3?"))
    assert llm.get_tool_calls_from_response(chunks[0])[0].tool_kwargs == {"a": 2}
    with pytest.raises(adapter.InvalidResponseError):
        list(llm.stream_structured_predict(Photo, PromptTemplate("?")))
    with pytest.raises(adapter.InvalidResponseError):
        llm.structured_predict(Photo, PromptTemplate("?"))


class Scripted(httpx.AsyncBaseTransport):
    """A service that gives these answers one after the other, streamed."""

    def __init__(self, *deltas: dict[str, Any]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._deltas = list(deltas)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(await request.aread()))
        delta = self._deltas.pop(0)
        reason = "tool_calls" if "tool_calls" in delta else "stop"
        choices = [{"index": 0, "delta": delta}, {"index": 0, "delta": {}, "finish_reason": reason}]
        body = "".join(f"data: {json.dumps({'id': '1', 'choices': [choice]})}\n\n" for choice in choices)
        return httpx.Response(200, text=body + "data: [DONE]\n\n", headers={"content-type": "text/event-stream"})


async def test_an_agent_retries_after_unreadable_arguments(make: Make) -> None:
    script = Scripted(
        {"tool_calls": [call('{"a": 2, "b"', id="x", index=0)]},
        {"tool_calls": [call('{"a": 2, "b": 3}', id="y", index=0)]},
        {"content": "It is 5."},
    )
    async with httpx.AsyncClient(transport=script) as client:
        agent = FunctionAgent(tools=TOOLS, llm=make(async_http_client=client))
        assert str(await agent.run(user_msg="2 + 3?")) == "It is 5."
    first = script.bodies[1]["messages"]
    assert json.loads(first[1]["tool_calls"][0]["function"]["arguments"])["received"] == '{"a": 2, "b"'
    assert "arguments_are_not_a_json_object" in first[2]["content"]
    assert script.bodies[2]["messages"][-1]["content"] == "5"


def test_a_stream_keeps_as_many_calls_as_a_plain_answer(make: Make) -> None:
    calls = [call('{"a": 1, "b": 1}', id="x", index=0), call('{"a": 2, "b": 2}', id="y", index=1)]
    for is_parallel in (False, True):
        last = list(
            streaming(make, *({"tool_calls": [each]} for each in calls)).stream_chat_with_tools(
                TOOLS, "?", allow_parallel_tool_calls=is_parallel
            )
        )[-1]
        plain = replying(make, {"role": "assistant", "tool_calls": calls}).chat_with_tools(
            TOOLS, "?", allow_parallel_tool_calls=is_parallel
        )
        assert last.message == plain.message
        assert len(last.message.blocks) == (2 if is_parallel else 1)


def test_the_blocks_of_finished_calls_are_not_built_again(make: Make) -> None:
    deltas = []
    for index in range(50):
        deltas += [{"tool_calls": [call("", id=f"c{index}", index=index)]}]
        deltas += [{"tool_calls": [call(part, None, index=index)]} for part in ('{"a": 1, ', '"b": 2}')]
    llm = streaming(make, *deltas)
    chunks = list(llm.stream_chat_with_tools(TOOLS, "?", allow_parallel_tool_calls=True))
    built = {id(block) for chunk in chunks[:-1] for block in chunk.message.blocks}
    assert len(built) <= len(deltas) + 1
    assert [block.tool_kwargs for block in chunks[-1].message.blocks] == [{"a": 1, "b": 2}] * 50  # type: ignore[union-attr]


def test_a_tool_without_parameters(make: Make) -> None:
    for arguments in ("", None, "{}", {}):
        message = {"role": "assistant", "content": None, "tool_calls": call(arguments, id="x")}
        llm = replying(make, message)
        response = llm.chat_with_tools(TOOLS, "?")
        assert llm.get_tool_calls_from_response(response)[0].tool_kwargs == {}


def test_only_one_call_without_allow_parallel_tool_calls(make: Make) -> None:
    two = [call('{"a": 1, "b": 1}', id="x"), call('{"a": 2, "b": 2}', id="y")]
    llm = replying(make, {"role": "assistant", "content": "Two.", "tool_calls": two})
    response = llm.chat_with_tools(TOOLS, "?")
    assert [each.tool_id for each in llm.get_tool_calls_from_response(response)] == ["x"]
    assert [each["id"] for each in response.message.additional_kwargs["tool_calls"]] == ["x"]
    assert response.message.content == "Two."
    both = llm.chat_with_tools(TOOLS, "?", allow_parallel_tool_calls=True)
    assert [each.tool_id for each in llm.get_tool_calls_from_response(both)] == ["x", "y"]


def test_a_text_answer_instead_of_a_tool_call(llm: PredictionGuard) -> None:
    response = llm.chat_with_tools(TOOLS, "Good morning")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(adapter.InvalidResponseError, match="called no tool"):
        llm.get_tool_calls_from_response(response)


# Answered


def test_a_round_trip(llm: PredictionGuard, box: Sandbox) -> None:
    question = ChatMessage(role="user", content=PARIS)
    made = llm.chat_with_tools(TOOLS, question)
    before = copy.deepcopy(made.message)
    selection = llm.get_tool_calls_from_response(made)[0]
    result = ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": selection.tool_id})
    answer = llm.chat_with_tools(TOOLS, chat_history=[question, made.message, result])
    assert "get_weather returned: sunny" in (answer.message.content or "")
    assert box.requests[-1]["messages"] == [
        {"role": "user", "content": PARIS},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": selection.tool_id,
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": selection.tool_id},
    ]
    assert made.message == before


@pytest.mark.parametrize(
    "foreign",
    [
        {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"function": {"name": "add", "arguments": {"a": 1}}},
        {"id": "x", "type": "tool_use", "name": "add", "input": {"a": 1}},
        {"call_id": "x", "id": "fc_1", "type": "function_call", "name": "add", "arguments": '{"a": 1}'},
    ],
)
def test_histories_of_other_providers_are_sent(foreign: dict[str, Any], llm: PredictionGuard, box: Sandbox) -> None:
    has_id = "id" in foreign
    history = [
        ChatMessage(role="user", content="?"),
        ChatMessage(role="assistant", content=None, additional_kwargs={"tool_calls": [foreign]}),
        ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": "x"} if has_id else {}),
    ]
    llm.chat(history)
    asked, answered = box.requests[-1]["messages"][1:]
    (sent,) = asked["tool_calls"]
    assert sent["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert sent["id"] == answered["tool_call_id"] == ("x" if has_id else "call_1_0")


def test_results_without_ids_are_matched_in_order(llm: PredictionGuard, box: Sandbox) -> None:
    calls = [ToolCallBlock(tool_name="add", tool_kwargs={"a": number}) for number in (1, 2)]
    history = [
        ChatMessage(role="user", content="?"),
        ChatMessage(role="assistant", blocks=calls),
        ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": ""}),
        ChatMessage(role="function", content="2", additional_kwargs={"name": "add"}),
    ]
    llm.chat(history)
    _, asked, *answered = box.requests[-1]["messages"]
    assert [each["id"] for each in asked["tool_calls"]] == [each["tool_call_id"] for each in answered]


@pytest.mark.parametrize(
    ("tool_kwargs", "sent"),
    [
        ({}, "{}"),
        ("", "{}"),
        ("null", "{}"),
        ({"a": "é"}, '{"a": "é"}'),
        ('{"a":1}', '{"a":1}'),
        ('{"a": "1\n2"}', '{"a": "1\\n2"}'),
        ('{"a": NaN}', '{"arguments_are_not_a_json_object": true, "received": "{\\"a\\": NaN}"}'),
        ({"a": float("inf")}, '{"arguments_are_not_a_json_object": true, "received": "{\\"a\\": Infinity}"}'),
        ('{"a": ', '{"arguments_are_not_a_json_object": true, "received": "{\\"a\\": "}'),
    ],
)
def test_arguments_in_the_history_are_a_json_object(
    tool_kwargs: Any, sent: str, llm: PredictionGuard, box: Sandbox
) -> None:
    call = ToolCallBlock(tool_call_id="x", tool_name="add", tool_kwargs=tool_kwargs)
    result = ChatMessage(role="tool", content="1", additional_kwargs={"tool_call_id": "x"})
    llm.chat([ChatMessage(role="user", content="?"), ChatMessage(role="assistant", blocks=[call]), result])
    assert box.requests[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == sent


def test_results_go_before_the_other_messages_of_their_turn(llm: PredictionGuard, box: Sandbox) -> None:
    def result(call_id: str) -> ChatMessage:
        return ChatMessage(role="tool", content=call_id, additional_kwargs={"tool_call_id": call_id})

    calls = [ToolCallBlock(tool_call_id=each, tool_name="add", tool_kwargs={}) for each in ("a", "b")]
    question, remark = ChatMessage(role="user", content="?"), ChatMessage(role="user", content="!")
    asked = ChatMessage(role="assistant", blocks=calls)
    llm.chat([question, result("stray"), asked, result("a"), remark, result("b")])
    sent = [(each["role"], each.get("content")) for each in box.requests[-1]["messages"]]
    assert sent[:2] == [("user", "?"), ("tool", "stray")]
    assert sent[3:] == [("tool", "a"), ("tool", "b"), ("user", "!")]


def test_a_result_without_a_call_is_refused(llm: PredictionGuard, box: Sandbox) -> None:
    with pytest.raises(adapter.ContentError, match="tool_call_id") as caught:
        llm.chat([ChatMessage(role="user", content="?"), ChatMessage(role="tool", content="1")])
    assert caught.value.message_index == 1
    assert box.requests == []


def test_thinking_blocks_are_not_sent_back(llm: PredictionGuard, box: Sandbox) -> None:
    blocks = [ThinkingBlock(content="hm"), TextBlock(text="Four.")]
    llm.chat([ChatMessage(role="assistant", blocks=blocks), ChatMessage(role="user", content="Sure?")])
    assert box.requests[-1]["messages"][0] == {"role": "assistant", "content": "Four."}


# Agents


@pytest.mark.parametrize("streamed", [True, False])
async def test_function_agent(streamed: bool, llm: PredictionGuard) -> None:
    agent = FunctionAgent(tools=TOOLS, llm=llm, streaming=streamed)
    assert "sunny in Paris" in str(await agent.run(user_msg=PARIS))


async def test_function_agent_with_a_tool_that_returns_an_image(
    llm: PredictionGuard, box: Sandbox, photos: Path
) -> None:
    def fetch_photo(name: str) -> list[Any]:
        """Fetch a photo by its name."""
        return [TextBlock(text="here it is"), ImageBlock(path=photos / f"{name}.jpg")]

    agent = FunctionAgent(tools=[FunctionTool.from_defaults(fetch_photo)], llm=llm)
    assert "600 x 400" in str(await agent.run(user_msg="Fetch the photo named coffee"))
    assert [message["role"] for message in box.requests[-1]["messages"]] == ["user", "assistant", "tool", "user"]


async def test_function_agent_with_an_image_in_the_question(llm: PredictionGuard, photos: Path) -> None:
    message = ChatMessage(role="user", blocks=[TextBlock(text="Who is it?"), ImageBlock(path=photos / "cat.jpg")])
    assert "451 x 300" in str(await FunctionAgent(tools=TOOLS, llm=llm).run(user_msg=message))


async def test_react_agent_with_an_image_in_the_question(llm: PredictionGuard, photos: Path) -> None:
    message = ChatMessage(role="user", blocks=[TextBlock(text="Who is it?"), ImageBlock(path=photos / "cat.jpg")])
    assert "451 x 300" in str(await ReActAgent(tools=TOOLS, llm=llm).run(user_msg=message))


async def test_agent_workflow(llm: PredictionGuard) -> None:
    workflow = AgentWorkflow.from_tools_or_functions([get_weather, add], llm=llm)
    assert "sunny in Rome" in str(await workflow.run(user_msg="What is the weather in Rome?"))


@pytest.mark.parametrize(
    "text", ["{'type': 'image', 'base64': '/9j/4AAQ'}", "<image/jpeg 640×558 sha256:0123456789ab>"]
)
def test_image_that_llama_index_turned_into_text_is_refused(llm: PredictionGuard, text: str) -> None:
    call = ToolCallBlock(tool_call_id="1", tool_name="take_photo", tool_kwargs={})
    messages = [
        ChatMessage(role="user", content="Take a photo"),
        ChatMessage(role="assistant", blocks=[call]),
        ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": "1"}),
    ]
    with pytest.raises(adapter.UnsupportedContentError, match="Return ImageBlock") as caught:
        llm.chat(messages)
    assert caught.value.message_index == 2
