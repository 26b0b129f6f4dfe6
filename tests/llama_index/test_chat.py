"""Chat and completion, sync and async, plain and streamed: requests, responses and errors."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

import llama_index_predictionguard as adapter
from llama_index_predictionguard import InputChecks, OutputChecks, PredictionGuard
from predictionguard_core.sandbox import Sandbox

Make = Callable[..., PredictionGuard]

HELLO = [ChatMessage(role="user", content="hello there")]


def about(image: bytes) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(image=image)])]


def answering(reply: Any, make: Make, **options: Any) -> PredictionGuard:
    """A model whose service gives one reply: a dict as JSON, text as an event stream."""

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(reply, str):
            return httpx.Response(200, text=reply, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=reply)

    return make(http_client=httpx.Client(transport=httpx.MockTransport(answer)), **options)


def said(text: str, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"id": "chat-1", "model": "m", "choices": [{"index": 0, "message": message, **choice}]}


# Responses


def test_an_image_reaches_the_model(llm: PredictionGuard, cat: bytes) -> None:
    response = llm.chat(about(cat))
    assert "451 x 300" in (response.message.content or "")
    assert "JPEG" in (response.message.content or "")


def test_usage_and_finish_reason_of_a_response(llm: PredictionGuard) -> None:
    response = llm.chat(HELLO)
    facts = response.additional_kwargs
    assert facts["finish_reason"] == "stop"
    assert facts["prompt_tokens"] + facts["completion_tokens"] == facts["total_tokens"] > 2
    assert response.raw["usage"]["total_tokens"] == facts["total_tokens"]
    assert response.raw["model"] == "Qwen2.5-VL-7B-Instruct"
    assert response.message.role == "assistant"


def test_complete_returns_the_same_as_chat(llm: PredictionGuard) -> None:
    completion = llm.complete("hello there")
    assert completion.text == llm.chat(HELLO).message.content
    assert completion.additional_kwargs["finish_reason"] == "stop"
    assert completion.raw["usage"]["total_tokens"] > 2


def test_a_stream_accumulates_text_and_reports_usage_once(llm: PredictionGuard) -> None:
    whole = llm.chat(HELLO).message.content
    chunks = list(llm.stream_chat(HELLO))
    assert len(chunks) > 5
    so_far = ""
    for chunk in chunks:
        so_far += chunk.delta or ""
        assert (chunk.message.content or "") == so_far
    assert so_far == whole
    assert [("finish_reason" in chunk.additional_kwargs) for chunk in chunks].count(True) == 1
    assert [("usage" in chunk.raw) for chunk in chunks].count(True) == 1
    last = chunks[-1]
    assert last.additional_kwargs["finish_reason"] == last.raw["choices"][0]["finish_reason"] == "stop"
    assert last.additional_kwargs["total_tokens"] == last.raw["usage"]["total_tokens"] > 2
    assert {chunk.raw["id"] for chunk in chunks} == {last.raw["id"]}
    assert "is_last" not in last.raw


def test_a_stream_with_an_image_is_one_chunk_with_metadata(llm: PredictionGuard, cat: bytes, box: Sandbox) -> None:
    (chunk,) = llm.stream_chat(about(cat))
    assert "451 x 300" in (chunk.delta or "")
    assert chunk.message.content == chunk.delta
    assert chunk.additional_kwargs["finish_reason"] == "stop"
    assert chunk.raw["usage"]["total_tokens"] == chunk.additional_kwargs["total_tokens"] > 100
    assert "stream" not in box.requests[-1]


def test_vision_streaming_streams(cat: bytes) -> None:
    with Sandbox(vision_streaming=True) as box:
        llm = PredictionGuard("Qwen2.5-VL-7B-Instruct", api_key="k", base_url=box.url, vision_streaming=True)
        chunks = list(llm.stream_chat(about(cat)))
        assert len(chunks) > 5
        assert box.requests[-1]["stream"] is True
        assert "451 x 300" in (chunks[-1].message.content or "")


def test_reasoning_is_a_thinking_block(make: Make) -> None:
    llm = make("gpt-oss-120b")
    response = llm.chat(HELLO)
    assert [block.block_type for block in response.message.blocks] == ["thinking", "text"]
    thought = response.message.blocks[0].content  # type: ignore[union-attr]
    assert thought
    chunks = list(llm.stream_chat(HELLO))
    deltas = [chunk.additional_kwargs.get("thinking_delta", "") for chunk in chunks]
    assert "".join(deltas) == thought
    assert chunks[-1].message.blocks[0].content == thought  # type: ignore[union-attr]
    assert chunks[-1].message.content == response.message.content


async def test_async_methods_return_the_same(llm: PredictionGuard, cat: bytes) -> None:
    whole = llm.chat(HELLO).message.content
    assert (await llm.achat(HELLO)).message.content == whole
    assert (await llm.acomplete("hello there")).text == whole
    chunks = [chunk async for chunk in await llm.astream_chat(HELLO)]
    assert "".join(chunk.delta or "" for chunk in chunks) == chunks[-1].message.content == whole
    assert chunks[-1].additional_kwargs["finish_reason"] == "stop"
    completions = [chunk async for chunk in await llm.astream_complete("hello there")]
    assert "".join(chunk.delta or "" for chunk in completions) == completions[-1].text == whole
    (seen,) = [chunk async for chunk in await llm.astream_chat(about(cat))]
    assert "451 x 300" in (seen.delta or "")


def test_one_model_in_many_threads_and_event_loops(llm: PredictionGuard) -> None:
    whole = llm.chat(HELLO).message.content
    answers: list[Any] = []

    async def several() -> list[Any]:
        return await asyncio.gather(*(llm.achat(HELLO) for _ in range(5)))

    def work() -> None:
        answers.append(llm.chat(HELLO).message.content)
        answers.extend(response.message.content for response in asyncio.run(several()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [whole] * 24


def test_the_model_works_after_an_abandoned_stream(llm: PredictionGuard) -> None:
    stream = llm.stream_chat(HELLO)
    next(stream)
    stream.close()
    assert llm.chat(HELLO).message.content


async def test_the_model_works_after_an_abandoned_async_stream(llm: PredictionGuard) -> None:
    async for _ in await llm.astream_chat(HELLO):
        break
    assert (await llm.achat(HELLO)).message.content


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"role": "assistant", "content": "A cat."}},
        {"text": "A cat.", "index": 0},
        {"message": {"content": "A cat."}, "finish_reason": None},
    ],
)
def test_every_response_format_is_one_chunk(choice: dict[str, Any], make: Make, cat: bytes) -> None:
    llm = answering({"id": "chat-1", "choices": choice}, make)
    assert llm.chat(about(cat)).message.content == "A cat."
    (chunk,) = llm.stream_chat(about(cat))
    assert chunk.delta == "A cat."
    assert chunk.additional_kwargs == {"finish_reason": None}


# Requests


def test_unset_options_are_not_sent(llm: PredictionGuard, box: Sandbox) -> None:
    llm.chat(HELLO)
    assert box.requests == [
        {"model": "Qwen2.5-VL-7B-Instruct", "messages": [{"role": "user", "content": "hello there"}]}
    ]


def test_all_options_are_sent(make: Make, box: Sandbox) -> None:
    make(
        temperature=0.5,
        max_tokens=77,
        top_p=0.9,
        top_k=5,
        frequency_penalty=0.1,
        presence_penalty=-0.1,
        logit_bias={"5": 1.5},
        reasoning_effort="low",
        stop=["END"],
        input_checks=InputChecks(pii="replace", pii_replace_method="mask"),
        output_checks={"toxicity": True},
        additional_kwargs={"seed": 7, "parallel_tool_calls": False},
    ).chat(HELLO)
    assert box.requests == [
        {
            "model": "Qwen2.5-VL-7B-Instruct",
            "messages": [{"role": "user", "content": "hello there"}],
            "temperature": 0.5,
            "max_completion_tokens": 77,
            "top_p": 0.9,
            "top_k": 5,
            "frequency_penalty": 0.1,
            "presence_penalty": -0.1,
            "logit_bias": {"5": 1.5},
            "reasoning_effort": "low",
            "stop": ["END"],
            "input": {"pii": "replace", "pii_replace_method": "mask"},
            "output": {"toxicity": True},
            "parallel_tool_calls": False,
            "seed": 7,
        }
    ]


def test_options_of_a_call_override_those_of_the_model(make: Make, box: Sandbox) -> None:
    llm = make(temperature=0.5, max_tokens=50, additional_kwargs={"max_completion_tokens": 60, "seed": 1})
    llm.chat(HELLO)
    llm.chat(HELLO, temperature=0.1, max_tokens=70, model="gpt-oss-120b", extra_body={"seed": 2, "x": 3})
    llm.complete("hi", temperature=None, output_checks=OutputChecks(toxicity=True))
    sent = [{name: value for name, value in body.items() if name != "messages"} for body in box.requests]
    vision = "Qwen2.5-VL-7B-Instruct"
    assert sent == [
        {"model": vision, "temperature": 0.5, "max_completion_tokens": 60, "seed": 1},
        {"model": "gpt-oss-120b", "temperature": 0.1, "max_completion_tokens": 70, "seed": 2, "x": 3},
        {"model": vision, "max_completion_tokens": 60, "output": {"toxicity": True}, "seed": 1},
    ]


def test_output_checks_are_not_streamed(make: Make, box: Sandbox) -> None:
    (chunk,) = make(output_checks={"toxicity": True}).stream_chat(HELLO)
    assert chunk.additional_kwargs["finish_reason"] == "stop"
    assert "stream" not in box.requests[-1]


def test_roles(llm: PredictionGuard, box: Sandbox) -> None:
    roles = {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "chatbot": "assistant",
        "model": "assistant",
    }
    for role, sent in roles.items():
        llm.chat([ChatMessage(role=role, content="one"), *HELLO])
        assert box.requests[-1]["messages"][0] == {"role": sent, "content": "one"}, role


def test_text_blocks_without_an_image_are_one_string(llm: PredictionGuard, box: Sandbox) -> None:
    message = ChatMessage(role="user", blocks=[TextBlock(text="a"), TextBlock(text="b")])
    llm.chat([message])
    assert box.requests[-1]["messages"] == [{"role": "user", "content": message.content}]


def test_names_have_only_the_characters_that_servers_accept(llm: PredictionGuard, box: Sandbox) -> None:
    names = {"Al": "Al", "Al Jo": "Al_Jo", "Zoë (she)": "Zo_she", "佐藤": None, "": None, 5: None}
    for name, sent in names.items():
        llm.chat([ChatMessage(role="user", content="hi", additional_kwargs={"name": name})])
        assert box.requests[-1]["messages"][0].get("name") == sent, name


def test_messages_are_not_modified(llm: PredictionGuard, cat: bytes) -> None:
    messages = about(cat)
    before = copy.deepcopy(messages)
    llm.chat(messages)
    list(llm.stream_chat(messages))
    assert messages == before


def test_system_prompt_and_templates(make: Make, box: Sandbox) -> None:
    llm = make(system_prompt="Be brief.")
    assert "cats" in llm.predict(PromptTemplate("Tell me about {what}"), what="cats")
    assert box.requests[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tell me about cats"},
    ]


# Errors


def test_errors_of_the_core_are_raised_unchanged(make: Make, llm: PredictionGuard, box: Sandbox) -> None:
    with pytest.raises(adapter.PermissionDeniedError):
        make(api_key="wrong").chat(HELLO)
    with pytest.raises(adapter.InvalidRequestError, match="does not support chat"):
        make("bge-m3").chat(HELLO)
    with pytest.raises(adapter.PIIDetectedError, match="pii detected"):
        make(input_checks={"pii": "block"}).complete("mail me at someone@example.com")
    with pytest.raises(adapter.APIConnectionError):
        make(base_url="http://127.0.0.1:9").chat(HELLO)
    with pytest.raises(adapter.InvalidRequestError):
        list(make("bge-m3").stream_chat(HELLO))


async def test_errors_of_the_core_are_raised_unchanged_by_async_calls(make: Make) -> None:
    with pytest.raises(adapter.PermissionDeniedError):
        await make(api_key="wrong").achat(HELLO)
    with pytest.raises(adapter.PermissionDeniedError):
        [chunk async for chunk in await make(api_key="wrong").astream_chat(HELLO)]


def test_an_interrupted_stream_raises_after_its_last_chunk(make: Make) -> None:
    event = {"id": "1", "choices": [{"index": 0, "delta": {"content": "half"}}]}
    stream = answering(f"data: {json.dumps(event)}\n\n", make).stream_chat(HELLO)
    assert next(stream).delta == "half"
    with pytest.raises(adapter.StreamInterruptedError):
        next(stream)


def test_the_constructor_refuses_invalid_options() -> None:
    invalid: list[dict[str, Any]] = [
        {"temperature": 3},
        {"temperature": "hot"},
        {"temprature": 0.5},
        {"max_tokens": 0},
        {"context_window": 0},
        {"model": ""},
        {"reasoning_effort": 5},
        {"input_checks": {"pii": "perhaps"}},
        {"input_checks": {"typo": True}},
        {"images": {"max_pixels": -1}},
        {"timeout": 0},
        {"max_retries": -1},
        {"base_url": "ftp://example.com"},
        {"base_url": "http://a.example", "api_base": "http://b.example"},
        {"api_key": ""},
        {"additional_kwargs": {"temperature": 5}},
        {"http_client": "not a client"},
    ]
    for options in invalid:
        with pytest.raises(adapter.ConfigurationError):  # noqa: PT012 - says which one
            PredictionGuard(**{"model": "m", "api_key": "k", **options})
            pytest.fail(f"{options} was accepted")


def test_calls_refuse_invalid_options(llm: PredictionGuard, box: Sandbox) -> None:
    invalid: list[dict[str, Any]] = [{"temperature": 3}, {"temprature": 1}, {"response_format": {}}, {"top_p": "x"}]
    for options in invalid:
        for call in (llm.chat, llm.stream_chat):
            with pytest.raises(adapter.ConfigurationError, match=next(iter(options))):  # noqa: PT012 - says which one
                call(HELLO, **options)
                pytest.fail(f"{options} was accepted")
    assert box.requests == []


@pytest.mark.parametrize("kind", ["make", "make_multi"])
@pytest.mark.parametrize("call", ["chat", "stream_chat", "complete", "stream_complete"])
async def test_a_wrong_first_argument_is_an_error_with_the_remedy(kind: str, call: str, request: Any) -> None:
    llm = request.getfixturevalue(kind)()
    if call.endswith("chat"):
        name, wrong = "messages", ["hi", HELLO[0], [{"role": "user", "content": "hi"}], ["hi"], None, 5]
        remedy = r"pass \[?ChatMessage\("
    else:
        name, wrong, remedy = "prompt", [HELLO, None, 5], "call chat"
    for value in wrong:
        for args, kwargs in ([value], {}), ([], {name: value}):
            with pytest.raises(adapter.ContentError, match=f"{name} must be .*, got .*{remedy}"):
                getattr(llm, call)(*args, **kwargs)
            with pytest.raises(adapter.ContentError, match=f"{name} must be .*, got .*{remedy}"):
                await getattr(llm, f"a{call}")(*args, **kwargs)


async def test_a_string_in_place_of_a_template_is_an_error_with_the_remedy(make: Make, box: Sandbox) -> None:
    class Animal(BaseModel):
        species: str

    llm, remedy = make(), r"prompt must be a PromptTemplate, got str: pass PromptTemplate\(text\)"
    for call in ("predict", "stream"):
        with pytest.raises(adapter.ContentError, match=remedy):
            getattr(llm, call)("hi")
        with pytest.raises(adapter.ContentError, match=remedy):
            await getattr(llm, f"a{call}")(prompt="hi")
    for call in ("structured_predict", "stream_structured_predict"):
        with pytest.raises(adapter.ContentError, match=remedy):
            getattr(llm, call)(Animal, "hi")
        with pytest.raises(adapter.ContentError, match=remedy):
            await getattr(llm, f"a{call}")(Animal, prompt="hi")
        with pytest.raises(adapter.ConfigurationError, match=r"output_cls must be a class .*, got Animal"):
            getattr(llm, call)(Animal(species="cat"), PromptTemplate("hi"))
    for wrong in (Animal(species="cat"), dict, {"species": "string"}):
        with pytest.raises(adapter.ConfigurationError, match=r"output_cls must be a class .*, got (Animal|dict)"):
            llm.as_structured_llm(wrong)  # type: ignore[arg-type]
    with pytest.raises(adapter.ContentError, match=r"messages must be a list of ChatMessage, got str"):
        llm.as_structured_llm(Animal).chat("hi")  # type: ignore[arg-type]
    assert box.requests == []


def test_misspelt_image_options_are_named(llm: PredictionGuard, make_multi: Any, cat: bytes) -> None:
    image = ImageBlock(image=cat)
    for wrong in ("image_document", "images", "image"):
        with pytest.raises(adapter.ConfigurationError, match=f"{wrong}: .*ImageBlock"):
            llm.complete("What is this?", **{wrong: [image]})
        with pytest.raises(adapter.ConfigurationError, match=f"{wrong}: .*did you mean image_documents"):
            make_multi().complete("What is this?", **{wrong: [image]})


def test_token_ids_of_logit_bias_may_be_numbers(make: Make, box: Sandbox) -> None:
    make(logit_bias={1: 20}).chat(HELLO)
    make().chat(HELLO, logit_bias={1: 20})
    assert [body["logit_bias"] for body in box.requests] == [{"1": 20}] * 2
    for wrong in (lambda: make(logit_bias={1: 200}), lambda: make().chat(HELLO, logit_bias={1: 200})):
        with pytest.raises(adapter.ConfigurationError, match=r"logit_bias\.1 must be at most 100, got 200"):
            wrong()


def test_a_missing_key_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(adapter.ConfigurationError, match="PREDICTIONGUARD_API_KEY"):
        PredictionGuard("m")


# Metadata, callbacks and settings


def test_metadata(make: Make) -> None:
    known = make().metadata
    assert (known.context_window, known.num_output, known.model_name) == (16_384, 256, "Qwen2.5-VL-7B-Instruct")
    assert known.is_chat_model
    assert known.is_function_calling_model
    custom = make("m", context_window=5, max_tokens=3, is_function_calling_model=False).metadata
    assert (custom.context_window, custom.num_output, custom.is_function_calling_model) == (5, 3, False)
    assert make("m").metadata.context_window == 3900


def test_callbacks_report_the_call_without_the_key(make: Make) -> None:
    debug, counter = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler()
    llm = make(callback_manager=CallbackManager([debug, counter]))
    response = llm.chat(HELLO)
    list(llm.stream_chat(HELLO))
    pairs = debug.get_llm_inputs_outputs()
    assert len(pairs) == 2
    assert "sk-not-to-be-seen" not in repr([(event.payload, event.payload) for pair in pairs for event in pair])
    assert counter.prompt_llm_token_count == 2 * response.additional_kwargs["prompt_tokens"]
    assert counter.completion_llm_token_count == 2 * response.additional_kwargs["completion_tokens"]


def test_settings_accept_the_model(llm: PredictionGuard) -> None:
    Settings.llm = llm
    try:
        assert Settings.llm is llm
    finally:
        Settings._llm = None


def test_attributes_can_be_changed_later(llm: PredictionGuard, box: Sandbox) -> None:
    llm.temperature = 0.25
    llm.chat(HELLO)
    assert box.requests[-1]["temperature"] == 0.25
    llm.base_url = "http://127.0.0.1:9"
    with pytest.raises(adapter.APIConnectionError):
        llm.chat(HELLO)


async def test_list_models(make: Make) -> None:
    llm = make()
    assert llm.model in [model.id for model in llm.list_models("chat-with-image")]
    assert "bge-reranker-v2-m3" in [model.id for model in await llm.alist_models("rerank")]
