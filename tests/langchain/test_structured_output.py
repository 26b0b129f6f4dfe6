"""Answers that keep to a schema."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from langchain_predictionguard import ChatPredictionGuard, ConfigurationError
from langchain_predictionguard.messages import to_result
from langchain_predictionguard.tool_calls import OfferedTools
from predictionguard_core.api.responses import ChatCompletion
from predictionguard_core.sandbox import Sandbox
from tests.langchain.scripted import Scripted, calling, calling_in_pieces

CAT = base64.b64encode((Path(__file__).parents[2] / "notebooks" / "photos" / "cat.jpg").read_bytes()).decode()
QUESTION = [HumanMessage([{"type": "text", "text": "How large is it?"}, {"type": "image", "base64": CAT}])]


class Size(BaseModel):
    """The size of a picture."""

    width: int
    height: int


class SizeDict(TypedDict):
    """The size of a picture."""

    width: int
    height: int


JSON_SCHEMA = {**Size.model_json_schema(), "title": "Size", "description": "The size of a picture."}
WANTED = {"width": 451, "height": 300}


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize(("schema", "answer"), [(Size, Size(**WANTED)), (SizeDict, WANTED), (JSON_SCHEMA, WANTED)])
def test_every_schema_by_every_method(chat: ChatPredictionGuard, schema: Any, answer: Any, method: Any) -> None:
    model = chat.with_structured_output(schema, method=method)
    assert model.invoke(QUESTION) == answer
    assert list(model.stream(QUESTION))[-1] == answer


async def test_asynchronously(chat: ChatPredictionGuard) -> None:
    assert await chat.with_structured_output(Size).ainvoke(QUESTION) == Size(**WANTED)
    await chat.aclose()


def test_include_raw(chat: ChatPredictionGuard) -> None:
    answer = chat.with_structured_output(Size, include_raw=True).invoke(QUESTION)
    assert answer["parsed"] == Size(**WANTED)
    assert answer["parsing_error"] is None
    assert isinstance(answer["raw"], AIMessage)


def test_strict_goes_out(chat: ChatPredictionGuard, box: Sandbox) -> None:
    chat.with_structured_output(Size, strict=True).invoke(QUESTION)
    sent = box.requests[-1]
    assert sent["tools"][0]["function"]["strict"] is True
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "Size"}}


@pytest.mark.parametrize("bad", [{"method": "telepathy"}, {"schema": None}])
def test_what_cannot_be_had(chat: ChatPredictionGuard, bad: dict[str, Any]) -> None:
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
    message = answered(text).generations[0].message
    assert isinstance(message, AIMessage)
    assert [call["args"] for call in message.tool_calls] == ([wanted[0]] if wanted[0] is not None else [])
    assert [call["args"] for call in message.invalid_tool_calls] == ([wanted[1]] if wanted[1] is not None else [])


@pytest.mark.parametrize("schema", [Size, JSON_SCHEMA])
def test_an_answer_that_does_not_parse_raises(monkeypatch: pytest.MonkeyPatch, schema: Any) -> None:
    class Mumbling(ChatPredictionGuard):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return answered('{"width": 1')

    mumbling = Mumbling("m", api_key="key")
    with pytest.raises(OutputParserException):
        mumbling.with_structured_output(schema).invoke("Hello")
    raw = mumbling.with_structured_output(schema, include_raw=True).invoke("Hello")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], OutputParserException)


def test_an_answer_that_does_not_fit_the_class_raises() -> None:
    class Careless(ChatPredictionGuard):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return answered('{"width": "broad", "height": 1}')

    careless = Careless("m", api_key="key")
    with pytest.raises(ValidationError):
        careless.with_structured_output(Size).invoke("Hello")
    raw = careless.with_structured_output(Size, include_raw=True).invoke("Hello")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], ValidationError)


def answered(arguments: str) -> ChatResult:
    call = {"id": "call_1", "type": "function", "function": {"name": "Size", "arguments": arguments}}
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": call}}]}
    result = to_result(ChatCompletion.model_validate(reply), OfferedTools({}))
    assert isinstance(result.generations[0], ChatGeneration)
    return result


def test_an_answer_that_was_cut_is_shown_as_the_model_wrote_it() -> None:
    with Scripted(calling("1", '{"width": 1', name="Size"), calling_in_pieces("1", '{"width": 1', name="Size")) as box:
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
