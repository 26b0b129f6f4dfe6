"""Structured output: schemas, strict mode, errors in every form, `response_format`."""

from __future__ import annotations

import asyncio
import base64
import functools
import operator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from langchain_predictionguard import ChatPredictionGuard, ConfigurationError
from langchain_predictionguard.messages import to_result
from langchain_predictionguard.tool_calls import OfferedTools
from predictionguard_core.api.responses import ChatCompletion
from predictionguard_core.sandbox import Sandbox
from tests.langchain.scripted import Scripted, text_reply, tool_call_reply, tool_call_stream
from tests.langchain.test_messages import refusal_replies
from tests.langchain.test_tool_calls import look, merged

CAT = base64.b64encode((Path(__file__).parents[2] / "notebooks" / "photos" / "cat.jpg").read_bytes()).decode()
QUESTION = [HumanMessage([{"type": "text", "text": "How large is it?"}, {"type": "image", "base64": CAT}])]


class Size(BaseModel):
    """The size of an image."""

    width: int
    height: int


class SizeDict(TypedDict):
    """The size of an image."""

    width: int
    height: int


JSON_SCHEMA = {**Size.model_json_schema(), "title": "Size", "description": "The size of an image."}
WANTED = {"width": 451, "height": 300}


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize(("schema", "answer"), [(Size, Size(**WANTED)), (SizeDict, WANTED), (JSON_SCHEMA, WANTED)])
def test_every_schema_by_every_method(chat: ChatPredictionGuard, schema: Any, answer: Any, method: Any) -> None:
    model = chat.with_structured_output(schema, method=method)
    assert model.invoke(QUESTION) == answer
    assert list(model.stream(QUESTION))[-1] == answer


async def test_async(chat: ChatPredictionGuard) -> None:
    assert await chat.with_structured_output(Size).ainvoke(QUESTION) == Size(**WANTED)
    await chat.aclose()


def test_include_raw(chat: ChatPredictionGuard) -> None:
    answer = chat.with_structured_output(Size, include_raw=True).invoke(QUESTION)
    assert answer["parsed"] == Size(**WANTED)
    assert answer["parsing_error"] is None
    assert isinstance(answer["raw"], AIMessage)
    chunks = list(chat.with_structured_output(Size, include_raw=True).stream(QUESTION))
    assert [chunk["parsed"] for chunk in chunks if "parsed" in chunk] == [Size(**WANTED)]


def test_strict_true_goes_out(chat: ChatPredictionGuard, box: Sandbox) -> None:
    chat.with_structured_output(Size, strict=True).invoke(QUESTION)
    sent = box.requests[-1]
    assert sent["tools"][0]["function"]["strict"] is True
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "Size"}}


@pytest.mark.parametrize("bad", [{"method": "unknown"}, {"schema": None}])
def test_invalid_method_or_schema(chat: ChatPredictionGuard, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        chat.with_structured_output(**{"schema": Size, **bad})


ARGUMENTS = {
    '{"width": 1, "height": 2}': ({"width": 1, "height": 2}, None),
    "": ({}, None),
    '{"width": 1': (None, '{"width": 1'),
    "[1, 2]": (None, "[1, 2]"),
    "null": ({}, None),
}


@pytest.mark.parametrize(("text", "wanted"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_arguments_that_are_no_object_are_kept_as_invalid(text: str, wanted: tuple[Any, str | None]) -> None:
    message = result_with(text).generations[0].message
    assert isinstance(message, AIMessage)
    assert [call["args"] for call in message.tool_calls] == ([wanted[0]] if wanted[0] is not None else [])
    assert [call["args"] for call in message.invalid_tool_calls] == ([wanted[1]] if wanted[1] is not None else [])


@pytest.mark.parametrize("schema", [Size, JSON_SCHEMA])
def test_an_answer_that_does_not_parse_raises(monkeypatch: pytest.MonkeyPatch, schema: Any) -> None:
    class TruncatingChat(ChatPredictionGuard):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return result_with('{"width": 1')

    chat = TruncatingChat("m", api_key="key")
    with pytest.raises(OutputParserException):
        chat.with_structured_output(schema).invoke("Hello")
    raw = chat.with_structured_output(schema, include_raw=True).invoke("Hello")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], OutputParserException)


def test_an_answer_that_does_not_fit_the_class_raises() -> None:
    class InvalidChat(ChatPredictionGuard):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return result_with('{"width": "broad", "height": 1}')

    chat = InvalidChat("m", api_key="key")
    with pytest.raises(ValidationError):
        chat.with_structured_output(Size).invoke("Hello")
    raw = chat.with_structured_output(Size, include_raw=True).invoke("Hello")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], ValidationError)


def result_with(arguments: str) -> ChatResult:
    call = {"id": "call_1", "type": "function", "function": {"name": "Size", "arguments": arguments}}
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": call}}]}
    result = to_result(ChatCompletion.model_validate(reply), OfferedTools({}))
    assert isinstance(result.generations[0], ChatGeneration)
    return result


def test_an_answer_that_was_cut_is_shown_as_the_model_wrote_it() -> None:
    with Scripted(
        tool_call_reply("1", '{"width": 1', name="Size"), tool_call_stream("1", '{"width": 1', name="Size")
    ) as box:
        for streaming in (False, True):
            chat = ChatPredictionGuard("m", api_key="key", base_url=box.url, streaming=streaming)
            with pytest.raises(OutputParserException, match="not valid JSON") as caught:
                chat.with_structured_output(Size).invoke("Hello")
            assert caught.value.llm_output == '{"width": 1'


@pytest.mark.parametrize("schema", [Size, SizeDict, JSON_SCHEMA])
def test_an_answer_in_words_is_no_object(chat: ChatPredictionGuard, box: Sandbox, schema: Any) -> None:
    box.answer("It is quite large.")
    with pytest.raises(OutputParserException, match="It is quite large") as caught:
        chat.with_structured_output(schema).invoke(QUESTION)
    assert caught.value.llm_output == "It is quite large."
    box.answer("It is quite large.")
    found = chat.with_structured_output(schema, include_raw=True).invoke(QUESTION)
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], OutputParserException)


# Strict mode


class Item(BaseModel):
    """A line of a receipt."""

    name: str
    price: float = 0.0


class Receipt(BaseModel):
    """A receipt."""

    items: list[Item]
    shop: str | None = None


class Inventory(BaseModel):
    """How many of each."""

    counts: dict[str, int]


def sent_function(box: Sandbox | Scripted) -> dict[str, Any]:
    (tool,) = box.requests[-1]["tools"]
    return dict(tool["function"])


def receipt_server() -> Scripted:
    return Scripted(tool_call_reply("1", '{"items": [], "shop": null}', name="Receipt"))


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_structured_output_is_strict_with_a_schema_that_strict_mode_takes(method: Any) -> None:
    with receipt_server() as box:
        chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
        assert chat.with_structured_output(Receipt, method=method).invoke("Hello") == Receipt(items=[])
        function = sent_function(box)
    assert function["strict"] is True
    parameters = function["parameters"]
    assert parameters["required"] == ["items", "shop"]
    assert parameters["additionalProperties"] is False
    item = parameters["properties"]["items"]["items"]
    assert item["required"] == ["name", "price"]
    assert item["additionalProperties"] is False
    assert "default" not in str(parameters)


def test_strict_can_be_turned_off() -> None:
    with receipt_server() as box:
        chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
        chat.with_structured_output(Receipt, strict=False).invoke("Hello")
        function = sent_function(box)
        assert function["strict"] is False
        assert function["parameters"]["required"] == ["items"]
        chat.with_structured_output(Receipt, strict=None).invoke("Hello")
        assert "strict" not in sent_function(box)


def test_a_schema_that_strict_mode_cannot_express_goes_out_as_it_is() -> None:
    with Scripted(tool_call_reply("1", '{"counts": {"cats": 2}}', name="Inventory")) as box:
        chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
        assert chat.with_structured_output(Inventory).invoke("Hello") == Inventory(counts={"cats": 2})
        function = sent_function(box)
    assert "strict" not in function
    assert function["parameters"]["properties"]["counts"]["additionalProperties"] == {"type": "integer"}


class Folder(BaseModel):
    """A folder."""

    name: str
    folders: list[Folder] = []


class Disk(BaseModel):
    """A disk."""

    root: Folder


class FolderDict(TypedDict):
    """A folder."""

    name: str
    folders: list[FolderDict]


def test_a_recursive_schema_is_sent_with_its_references_and_enforced() -> None:
    folder = '{"name": "a", "folders": [{"name": "b", "folders": []}]}'
    wanted = Folder(name="a", folders=[Folder(name="b")])
    for schema, answer, parsed in (
        (Folder, folder, wanted),
        (Disk, f'{{"root": {folder}}}', Disk(root=wanted)),
        (FolderDict, folder, wanted.model_dump()),
    ):
        with Scripted(tool_call_reply("1", answer, name=schema.__name__)) as box:
            chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
            assert chat.with_structured_output(schema).invoke("Hello") == parsed
            function = sent_function(box)
            chat.with_structured_output(schema, strict=False).invoke("Hello")
            free = sent_function(box)
        assert (function["name"], function["strict"]) == (schema.__name__, True)
        assert function["parameters"]["type"] == free["parameters"]["type"] == "object"
        (definition,) = function["parameters"]["$defs"].values()
        assert definition["required"] == ["name", "folders"]
        assert definition["additionalProperties"] is False
        for parameters in (function["parameters"], free["parameters"]):
            (definition,) = parameters["$defs"].values()
            assert definition["properties"]["folders"]["items"] == {"$ref": f"#/$defs/{definition['title']}"}


def test_a_recursive_argument_of_a_tool_is_sent_with_its_references(chat: ChatPredictionGuard, box: Sandbox) -> None:
    def store(folder: Folder) -> str:
        """Store a folder."""
        return folder.name

    # Tools of MCP servers have a schema instead of a class.
    remote = StructuredTool(
        name="store", description="Store a folder.", args_schema=Disk.model_json_schema(), func=store
    )
    for tool in (store, StructuredTool.from_function(store), remote):
        for strict in (None, True):
            chat.bind_tools([tool], strict=strict).invoke("Hello")
            function = sent_function(box)
            assert (function["name"], function["description"]) == ("store", "Store a folder.")
            definition = function["parameters"]["$defs"]["Folder"]
            assert definition["properties"]["folders"]["items"] == {"$ref": "#/$defs/Folder"}
            assert definition.get("additionalProperties") is (False if strict else None)


def test_bind_tools_passes_strict_on(chat: ChatPredictionGuard, box: Sandbox) -> None:
    chat.bind_tools([Receipt]).invoke("Hello")
    assert "strict" not in sent_function(box)
    chat.bind_tools([Receipt], strict=True).invoke("Hello")
    assert sent_function(box)["strict"] is True


# One rule, plain and streamed


def replies(plain: dict[str, Any], stream: list[dict[str, Any]]) -> Scripted:
    return Scripted(plain, plain, stream, stream)


def errors_of_each_form(box: Scripted, schema: Any) -> list[Exception]:
    """What each way to ask raises, and with `include_raw` returns."""
    found = []
    for include_raw in (False, True):
        chat = ChatPredictionGuard("m", api_key="key", base_url=box.url)
        model = chat.with_structured_output(schema, include_raw=include_raw)
        box.restart()
        for ask in (
            lambda model: model.invoke("?"),
            lambda model: asyncio.run(model.ainvoke("?")),
            lambda model: functools.reduce(operator.add, model.stream("?")),
            lambda model: asyncio.run(read(model)),
        ):
            if include_raw:
                answer = ask(model)
                assert answer["parsed"] is None
                assert isinstance(answer["raw"], AIMessage)
                found.append(answer["parsing_error"])
                continue
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the kind is what is compared
                ask(model)
            found.append(caught.value)
    return found


async def read(model: Any) -> Any:
    return functools.reduce(operator.add, [each async for each in model.astream("?")])


@pytest.mark.parametrize("schema", [Size, JSON_SCHEMA])
def test_json_in_words_raises_in_every_form(schema: Any) -> None:
    text = '{"width": 1, "height": 2}'
    stream = [{"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}]
    with replies(text_reply(text), stream) as box:
        for error in errors_of_each_form(box, schema):
            assert isinstance(error, OutputParserException)
            assert "answered in words" in str(error)
            assert error.llm_output == text


@pytest.mark.parametrize("schema", [Size, JSON_SCHEMA])
def test_an_answer_that_max_tokens_cut_says_so_in_every_form(schema: Any) -> None:
    plain, stream = tool_call_reply("1", "{}", name="Size"), tool_call_stream("1", "{}", name="Size")
    plain["choices"][0]["finish_reason"] = stream[-1]["choices"][0]["finish_reason"] = "length"
    with replies(plain, stream) as box:
        for error in errors_of_each_form(box, schema):
            assert isinstance(error, OutputParserException)
            assert "max_tokens" in str(error)


def test_a_refusal_raises_langchains_error_in_every_form() -> None:
    with replies(*refusal_replies()) as box:
        for error in errors_of_each_form(box, Size):
            assert type(error) is ModelRefusalError
            assert "can't help with that" in str(error)


# response_format


class Weather(BaseModel):
    """The weather of a place."""

    place: str
    degrees: int | None = None


def test_a_response_format_becomes_a_strict_tool_and_its_call_the_text() -> None:
    arguments = '{"place": "Vienna", "degrees": 20}'
    response_format = {"type": "json_schema", "json_schema": {"name": "Weather", "schema": Weather.model_json_schema()}}
    with Scripted(
        tool_call_reply("1", arguments, name="Weather"),
        tool_call_stream("1", *arguments, name="Weather"),
        text_reply("Hi"),
    ) as box:
        chat = ChatPredictionGuard("gpt-oss-120b", api_key="key", base_url=box.url)
        plain = chat.invoke("?", response_format=response_format)
        streamed = merged(list(chat.stream("?", response_format=response_format)))
        for message in (plain, streamed):
            assert message.text == arguments
            assert (message.tool_calls, message.invalid_tool_calls) == ([], [])
        function = sent_function(box)
        assert (function["name"], function["strict"]) == ("Weather", True)
        assert function["parameters"]["required"] == ["place", "degrees"]
        assert box.requests[-1]["tool_choice"] == "required"
        assert "response_format" not in box.requests[-1]
        chat.invoke("?", response_format={"type": "text"})
        assert "tools" not in box.requests[-1]


def test_an_agent_with_a_provider_strategy_gets_its_object() -> None:
    arguments = '{"place": "Vienna", "degrees": null}'
    with Scripted(tool_call_reply("1", '{"place": "Vienna"}'), tool_call_reply("2", arguments, name="Weather")) as box:
        chat = ChatPredictionGuard("gpt-oss-120b", api_key="key", base_url=box.url)
        agent = create_agent(chat, tools=[look], response_format=ProviderStrategy(Weather))
        state = agent.invoke({"messages": [{"role": "user", "content": "How is Vienna?"}]})
    assert state["structured_response"] == Weather(place="Vienna")
    assert [tool["function"]["name"] for tool in box.requests[0]["tools"]] == ["look", "Weather"]
