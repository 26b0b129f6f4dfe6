"""Structured output, plain and streamed: the same answers give the same object or the same error."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, ImageBlock, TextBlock
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field, field_validator

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuard
from predictionguard_core.sandbox import Sandbox
from tests.llama_index.conftest import KEY

Make = Callable[..., PredictionGuard]
PROMPT = PromptTemplate("Describe {what}")
STREAMED = ["predict", "apredict", "chat", "achat"]
PLAIN = ["plain predict", "plain apredict", "plain chat", "plain achat"]
FORMS = [*STREAMED, *PLAIN]


class Part(BaseModel):
    """A part of it."""

    name: str


class Out(BaseModel):
    """What is seen."""

    color: Literal["red", "green"]
    n: int
    parts: list[Part] = []

    @field_validator("n")
    @classmethod
    def is_few(cls, n: int) -> int:
        if n > 100:
            raise ValueError("too many")
        return n


class Renamed(BaseModel):
    """With a name of its own in JSON."""

    color: str = Field(alias="colour")


class Easy(BaseModel):
    """Asks for nothing."""

    color: str | None = None


class Folder(BaseModel):
    """A folder in folders."""

    name: str
    inner: Folder | None = None


GOOD = {"color": "red", "n": 2, "parts": [{"name": "the tail of it, which is long"}, {"name": "the rest"}]}


async def ask(llm: PredictionGuard, form: str, output_cls: type[Any] = Out, *blocks: Any) -> list[Any]:
    """Return the objects of each of the eight ways to ask for one."""
    question = [ChatMessage(role="user", blocks=[TextBlock(text="Describe it"), *blocks])]
    if form == "plain predict":
        return [llm.structured_predict(output_cls, PROMPT, what="it")]
    if form == "plain apredict":
        return [await llm.astructured_predict(output_cls, PROMPT, what="it")]
    if form == "plain chat":
        return [llm.as_structured_llm(output_cls).chat(question).raw]
    if form == "plain achat":
        return [(await llm.as_structured_llm(output_cls).achat(question)).raw]
    if form == "predict":
        return list(llm.stream_structured_predict(output_cls, PROMPT, what="it"))
    if form == "apredict":
        return [each async for each in await llm.astream_structured_predict(output_cls, PROMPT, what="it")]
    structured = llm.as_structured_llm(output_cls)
    if form == "chat":
        return [each.raw for each in structured.stream_chat(question)]
    return [each.raw async for each in await structured.astream_chat(question)]


@pytest.mark.parametrize("form", STREAMED)
async def test_partial_objects_precede_the_complete_one(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    box.answer(tool_calls=[("Out", GOOD)])
    *parts, last = await ask(llm, form)
    assert type(last) is Out
    assert last == Out(**GOOD)  # type: ignore[arg-type]
    assert any(each.color == "red" and each != last for each in parts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"color": "red"}, "n: Field required"),
        ({"color": "blue", "n": 1}, "color: Input should be 'red' or 'green'"),
        ({"color": "red", "n": 101}, "n: Value error, too many"),
        ({"color": "red", "n": 1, "parts": [{"name": "a"}, {}]}, "parts.1.name: Field required"),
        ({}, "color: Field required; n: Field required"),
    ],
)
async def test_a_call_that_does_not_match_the_class_is_an_error(
    form: str, arguments: dict[str, Any], reason: str, llm: PredictionGuard, box: Sandbox
) -> None:
    box.answer(tool_calls=[("Out", arguments)])
    with pytest.raises(adapter.InvalidResponseError, match="is not a valid Out") as caught:
        await ask(llm, form)
    assert reason in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("words", ["It is red.", "{color: red}", "[1]", ""])
async def test_a_text_answer_instead_of_a_tool_call(form: str, words: str, llm: PredictionGuard, box: Sandbox) -> None:
    box.answer(words)
    with pytest.raises(adapter.InvalidResponseError) as caught:
        await ask(llm, form)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("form", FORMS)
async def test_an_object_written_as_text_is_parsed(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    box.answer('Here it is:\n```json\n{"color": "green", "n": 1}\n```')
    assert (await ask(llm, form))[-1] == Out(color="green", n=1)


@pytest.mark.parametrize("form", FORMS)
async def test_a_class_without_required_fields_still_needs_a_call(
    form: str, llm: PredictionGuard, box: Sandbox
) -> None:
    box.answer("It is red.")
    with pytest.raises(adapter.InvalidResponseError, match="It is red"):
        await ask(llm, form, Easy)
    box.answer(tool_calls=[("Easy", {})])
    assert (await ask(llm, form, Easy))[-1] == Easy()


@pytest.mark.parametrize("form", FORMS)
async def test_the_first_of_several_calls_is_used(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    box.answer(tool_calls=[("Out", GOOD), ("Out", {"color": "green", "n": 9})])
    assert (await ask(llm, form))[-1] == Out(**GOOD)  # type: ignore[arg-type]
    box.answer(tool_calls=[("Out", {"color": "red"}), ("Out", GOOD)])
    with pytest.raises(adapter.InvalidResponseError):
        await ask(llm, form)


@pytest.mark.parametrize("form", FORMS)
async def test_fields_are_read_by_alias(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    box.answer(tool_calls=[("Renamed", {"colour": "red"})])
    assert (await ask(llm, form, Renamed))[-1] == Renamed(colour="red")


@pytest.mark.parametrize("form", STREAMED)
async def test_a_truncated_stream_is_never_an_object(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    assert type((await ask(llm, form))[-1]) is Out
    for after in (1, 2, 4, 99):
        box.cut_stream(after)
        with pytest.raises(adapter.StreamInterruptedError):
            await ask(llm, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options", [{"is_function_calling_model": False}, {"pydantic_program_mode": PydanticProgramMode.LLM}], ids=str
)
async def test_a_model_without_tools(form: str, options: dict[str, Any], make: Make, box: Sandbox) -> None:
    llm = make(system_prompt="Be exact.", **options)
    box.answer('```json\n{"color": "green", "n": 1}\n```')
    last = (await ask(llm, form))[-1]
    assert type(last) is Out
    assert last == Out(color="green", n=1)
    system, question = box.requests[-1]["messages"]
    assert system["content"] == "Be exact."
    assert '"color"' in question["content"]
    assert "tools" not in box.requests[-1]
    assert PROMPT.output_parser is None
    for words, reason in (("It is red.", "It is red"), ('{"color": "red"}', "n: Field required")):
        box.answer(words)
        with pytest.raises(adapter.InvalidResponseError, match=reason):
            await ask(llm, form)


class Afar:
    """What there is to iterate over, and nothing to close."""

    def __init__(self, chunks: list[ChatResponse]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> Afar:
        return self

    async def __anext__(self) -> ChatResponse:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


class InItsOwnWay(PredictionGuard):
    """Streams what it has, and says of no chunk what is new in it, or that it is the last."""

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        text = '{"color": "red", "n": 2}'
        for end in (8, 14, len(text)):
            if "tools" not in kwargs:
                yield ChatResponse(message=ChatMessage(role="assistant", content=text[:end]))
            else:
                call = {"id": "1", "function": {"name": "Out", "arguments": text[:end]}}
                more = {"tool_calls": [call]}
                yield ChatResponse(message=ChatMessage(role="assistant", content="", additional_kwargs=more))

    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        return Afar(list(self.stream_chat(messages, **kwargs)))


class InRows(InItsOwnWay):
    """Has all of it before it streams."""

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        return iter(list(super().stream_chat(messages, **kwargs)))


@pytest.mark.parametrize("form", STREAMED)
@pytest.mark.parametrize("has_tools", [True, False])
@pytest.mark.parametrize("kind", [InItsOwnWay, InRows])
async def test_a_subclass_can_stream_differently(kind: Any, has_tools: bool, form: str) -> None:
    llm = kind("m", api_key=KEY, is_function_calling_model=has_tools)
    first, second, last = await ask(llm, form)
    assert last == Out(color="red", n=2)
    assert first != second
    assert second.color == "red"
    assert type(second) is not Out


def test_function_mode_without_tools_is_refused(make: Make) -> None:
    llm = make(is_function_calling_model=False, pydantic_program_mode=PydanticProgramMode.FUNCTION)
    with pytest.raises(ValueError, match="function calling"):
        list(llm.stream_structured_predict(Out, PROMPT, what="it"))


@pytest.mark.parametrize("form", FORMS)
async def test_the_error_of_a_truncated_answer_names_max_tokens(form: str, llm: PredictionGuard, box: Sandbox) -> None:
    for answer in ({"tool_calls": [("Out", {})]}, {"text": '{"color": "red", '}):
        box.answer(**answer, finish_reason="length")  # type: ignore[arg-type]
        with pytest.raises(adapter.InvalidResponseError, match="Raise max_tokens"):
            await ask(llm, form)


@pytest.mark.parametrize("form", ["chat", "achat", "plain chat", "plain achat"])
async def test_the_error_does_not_quote_image_data(form: str, llm: PredictionGuard, box: Sandbox, photos: Path) -> None:
    image = (photos / "cat.jpg").read_bytes()
    box.answer(tool_calls=[("Out", {"color": "data:image/jpeg;base64," + base64.b64encode(image).decode(), "n": 1})])
    with pytest.raises(adapter.InvalidResponseError) as caught:
        await ask(llm, form, Out, ImageBlock(image=image))
    assert "color: Input should be" in str(caught.value)
    assert base64.b64encode(image).decode()[:40] not in repr(caught.value)
    assert KEY not in repr(caught.value)


async def test_the_schema_of_a_recursive_model_is_sent_and_enforced(box: Sandbox) -> None:
    llm = PredictionGuard("gpt-oss-120b", api_key=KEY, base_url=box.url)
    box.answer(tool_calls=[("Folder", {"name": "a", "inner": {"name": "b", "inner": None}})])
    assert await ask(llm, "plain chat", Folder) == [Folder(name="a", inner=Folder(name="b"))]
    [tool] = box.requests[-1]["tools"]
    assert tool["function"]["strict"]
    assert tool["function"]["parameters"]["required"] == ["name", "inner"]


# Requests


class Photo(BaseModel):
    """A photo."""

    width: int
    height: int
    title: str


PHOTO_PROMPT = PromptTemplate("Describe the photo titled {title} of 30 by 40")
EXPECTED = Photo(width=30, height=40, title="Cat")


def test_structured_predict(llm: PredictionGuard, box: Sandbox) -> None:
    assert llm.structured_predict(Photo, PHOTO_PROMPT, title="Cat") == EXPECTED
    assert box.requests[-1]["tool_choice"] == "required"


class Album(BaseModel):
    """Photos by year, with a note."""

    photos: list[Photo]
    note: str | None = None


async def test_structured_output_is_strict_unless_turned_off(make: Make, box: Sandbox) -> None:
    llm = make()
    album = {"photos": [EXPECTED.model_dump()], "note": None}
    question = [ChatMessage(role="user", content="?")]
    for ask in (
        lambda: llm.structured_predict(Album, PromptTemplate("?")),
        lambda: list(llm.stream_structured_predict(Album, PromptTemplate("?"))),
        lambda: llm.as_structured_llm(Album).chat(question),
        lambda: FunctionCallingProgram.from_defaults(Album, "?", llm=llm)(),
    ):
        box.answer(tool_calls=[("Album", album)])
        ask()
    box.answer(tool_calls=[("Album", album)])
    await llm.astructured_predict(Album, PromptTemplate("?"))
    assert len(box.requests) == 5
    for body in box.requests:
        function = body["tools"][0]["function"]
        assert function["strict"] is True
        schema = function["parameters"]
        assert schema["required"] == ["photos", "note"]
        assert schema["additionalProperties"] is schema["$defs"]["Photo"]["additionalProperties"] is False
    for model, options in ((make(strict=False), None), (llm, {"strict": False})):
        box.answer(tool_calls=[("Album", album)])
        model.structured_predict(Album, PromptTemplate("?"), llm_kwargs=options)
        assert "strict" not in box.requests[-1]["tools"][0]["function"]


class Tags(BaseModel):
    """Counts by tag."""

    counts: dict[str, int]


def test_a_schema_that_strict_mode_cannot_express_is_sent_as_it_is(llm: PredictionGuard, box: Sandbox) -> None:
    box.answer(tool_calls=[("Tags", {"counts": {"cat": 1}})])
    assert llm.structured_predict(Tags, PromptTemplate("?")) == Tags(counts={"cat": 1})
    assert "strict" not in box.requests[-1]["tools"][0]["function"]


async def test_structured_predict_async(llm: PredictionGuard) -> None:
    assert await llm.astructured_predict(Photo, PHOTO_PROMPT, title="Cat") == EXPECTED


async def test_structured_predict_streamed(make: Make, box: Sandbox) -> None:
    llm = make(system_prompt="Be exact.")
    objects = list(llm.stream_structured_predict(Photo, PHOTO_PROMPT, title="Cat"))
    assert objects[-1] == EXPECTED
    assert any(getattr(each, "width", None) == 30 and each.title is None for each in objects)
    again = [each async for each in await llm.astream_structured_predict(Photo, PHOTO_PROMPT, title="Cat")]
    assert again[-1] == EXPECTED
    for body in box.requests:
        assert body["tool_choice"] == "required"
        assert body["stream"] is True
        assert body["messages"][0] == {"role": "system", "content": "Be exact."}


async def test_structured_llm_with_an_image(llm: PredictionGuard, photos: Path) -> None:
    structured = llm.as_structured_llm(Photo)
    blocks = [TextBlock(text="What are title, width and height?"), ImageBlock(path=photos / "cat.jpg")]
    messages = [ChatMessage(role="user", blocks=blocks)]
    answers = [structured.chat(messages), await structured.achat(messages)]
    answers += list(structured.stream_chat(messages))
    answers += [each async for each in await structured.astream_chat(messages)]
    assert len(answers) == 4
    for answer in answers:
        assert (answer.raw.width, answer.raw.height) == (451, 300)


def test_structured_answers_without_tools(make: Make) -> None:
    llm = make(is_function_calling_model=False)
    reply = {"id": "1", "choices": [{"index": 0, "message": {"content": EXPECTED.model_dump_json()}}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=reply))
    llm.http_client = httpx.Client(transport=transport)
    assert llm.structured_predict(Photo, PHOTO_PROMPT, title="Cat") == EXPECTED
    if "stream_call" not in vars(LLMTextCompletionProgram):
        pytest.skip("this release of llama-index-core does not stream structured answers without tools")
    assert list(llm.stream_structured_predict(Photo, PHOTO_PROMPT, title="Cat"))[-1] == EXPECTED
