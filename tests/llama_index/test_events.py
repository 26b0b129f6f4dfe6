"""What events, spans and callbacks show of a call: the messages with their images, and never the API key."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import ImageNode, NodeWithScore
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuard, PredictionGuardEmbedding, PredictionGuardRerank
from predictionguard_core.sandbox import Sandbox
from tests.llama_index.conftest import KEY, VISION


class Animal(BaseModel):
    species: str


HEADER = "gateway-token-not-to-be-seen"
QUESTION = "What is this?"


@pytest.fixture
def observed(observer: Any) -> Callable[[], str]:
    """Everything that observers saw during a test, as text."""
    debug = LlamaDebugHandler(print_trace_on_end=False)

    def observed() -> str:
        payloads = [event.payload for pair in debug.get_event_pairs() for event in pair]
        arguments = [{**call.arguments, "self": repr(call.arguments.get("self"))} for _, call in observer.calls]
        shown = [event.model_dump_json(exclude={"output_cls"}) for event in observer.events]
        return "\n".join([*shown, repr(observer.events), repr(payloads), repr(arguments)])

    observed.manager = CallbackManager([debug])  # type: ignore[attr-defined]
    return observed


async def exhaust(response: Any) -> None:
    if hasattr(response, "__aiter__"):
        _ = [each async for each in response]
    elif hasattr(response, "__next__"):
        list(response)


@pytest.mark.parametrize("kind", ["PredictionGuard", "PredictionGuardMultiModal"])
@pytest.mark.parametrize("call", ["chat", "stream_chat", "achat", "astream_chat"])
async def test_chat_events_contain_the_original_messages(
    kind: str, call: str, observed: Any, box: Sandbox, observer: Any, cat: bytes
) -> None:
    llm = getattr(adapter, kind)(
        VISION,
        api_key=KEY,
        base_url=box.url,
        default_headers={"X-Gateway": HEADER},
        callback_manager=observed.manager,
    )
    messages = [ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), ImageBlock(image=cat)])]
    before = copy.deepcopy(messages)
    response = getattr(llm, call)(messages)
    await exhaust(await response if call.startswith("a") else response)
    assert messages == before
    (start,), (end,) = observer.named("LLMChatStartEvent"), observer.named("LLMChatEndEvent")
    assert start.messages == end.messages == messages
    assert start.span_id.startswith(f"{kind}.{call}-")
    text = observed()
    assert base64.b64encode(cat).decode()[:100] in text
    assert KEY not in text
    assert HEADER not in text


@pytest.mark.parametrize("kind", ["PredictionGuard", "PredictionGuardMultiModal"])
async def test_headers_of_one_call_are_sent_and_not_shown(kind: str, observed: Any, observer: Any, cat: bytes) -> None:
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("x-gateway"))
        call = {"id": "1", "type": "function", "function": {"name": "Animal", "arguments": '{"species": "cat"}'}}
        message = {"content": "Hi.", "tool_calls": [call] if "tools" in json.loads(request.content) else None}
        return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

    transport = httpx.MockTransport(answer)
    llm = getattr(adapter, kind)(
        VISION,
        api_key=KEY,
        http_client=httpx.Client(transport=transport),
        async_http_client=httpx.AsyncClient(transport=transport),
        callback_manager=observed.manager,
        additional_kwargs={"extra_headers": {"X-Gateway": f"{HEADER} of the model"}},
    )
    llm.chat([ChatMessage(content="hi")])
    assert sent == [f"{HEADER} of the model"]
    headers = {"X-Gateway": HEADER}
    for call, argument in (
        ("chat", [ChatMessage(content="hi")]),
        ("stream_chat", [ChatMessage(content="hi")]),
        ("complete", "hi"),
        ("stream_complete", "hi"),
    ):
        await exhaust(getattr(llm, call)(argument, extra_headers=headers))
        await exhaust(await getattr(llm, f"a{call}")(argument, extra_headers=headers))
    if kind == "PredictionGuard":
        prompt, options = PromptTemplate("?"), {"extra_headers": headers}
        tool = FunctionTool.from_defaults(lambda species: species, name="Animal", description="Name an animal.")
        llm.predict_and_call([tool], "?", extra_headers=headers)
        llm.structured_predict(Animal, prompt, llm_kwargs=options)
        await llm.astructured_predict(Animal, prompt, llm_kwargs=options)
        await exhaust(llm.stream_structured_predict(Animal, prompt, llm_kwargs=options))
        llm.as_structured_llm(Animal).chat([ChatMessage(content="hi")], extra_headers=headers)
        await llm.as_structured_llm(Animal).acomplete("hi", extra_headers=headers)
        assert options == {"extra_headers": headers}
    assert headers == {"X-Gateway": HEADER}
    assert sent[1:] == [HEADER] * (14 if kind == "PredictionGuard" else 8)
    shown = [repr(llm), str(llm), repr(llm.to_dict()), llm.to_json(), repr(llm.to_payload()), observed()]
    assert HEADER not in "".join(shown)
    with pytest.raises(adapter.ConfigurationError, match="extra_headers must be a dict"):
        llm.chat([ChatMessage(content="hi")], extra_headers=HEADER)


@pytest.mark.parametrize("call", ["complete", "stream_complete", "acomplete", "astream_complete"])
async def test_completion_events_contain_the_images(
    call: str, observed: Any, make_multi: Any, observer: Any, cat: bytes
) -> None:
    llm = make_multi(callback_manager=observed.manager)
    encoded = base64.b64encode(cat).decode()
    response = getattr(llm, call)(QUESTION, image_documents=[ImageNode(image=encoded)])
    await exhaust(await response if call.startswith("a") else response)
    assert len(observer.named("LLMCompletionStartEvent")) == len(observer.named("LLMCompletionEndEvent")) == 1
    assert encoded[:100] in observed()
    assert KEY not in observed()


@pytest.mark.parametrize("make_name", ["make", "make_multi"])
def test_events_carry_the_models_options(make_name: str, request: Any, observer: Any) -> None:
    llm = request.getfixturevalue(make_name)(temperature=0.2, max_tokens=50)
    llm.chat([ChatMessage(role="user", content="hello")])
    shown = observer.named("LLMChatStartEvent")[0].model_dict
    assert (shown["model"], shown["temperature"], shown["max_tokens"]) == (VISION, 0.2, 50)
    assert shown["model_name"] == VISION
    assert shown["class_name"] == llm.class_name()


async def test_embedding_events_contain_the_image(observed: Any, box: Sandbox, cat: bytes) -> None:
    embedding = PredictionGuardEmbedding(
        "bridgetower-large-itm-mlm-itc", api_key=KEY, base_url=box.url, callback_manager=observed.manager
    )
    node = ImageNode(image=base64.b64encode(cat).decode())
    embedding.get_image_embedding(node)
    embedding.get_image_embedding_batch([node])
    await embedding.aget_image_embedding_batch([node])
    pairs = list(observed.manager.handlers[0].get_event_pairs(CBEventType.EMBEDDING))
    assert [pair[1].payload[EventPayload.CHUNKS] for pair in pairs] == [[node]] * 3
    assert KEY not in observed()


def test_rerank_events_contain_the_nodes(observed: Any, box: Sandbox, cat: bytes, observer: Any) -> None:
    rerank = PredictionGuardRerank("bge-reranker-v2-m3", api_key=KEY, base_url=box.url)
    nodes = [NodeWithScore(node=ImageNode(image=base64.b64encode(cat).decode(), text="a cat"))]
    rerank.postprocess_nodes(nodes, query_str="cat")
    assert observer.named("ReRankStartEvent")[0].nodes == nodes
    assert KEY not in observed()


def test_structured_output_has_its_events(llm: PredictionGuard, box: Sandbox, observer: Any) -> None:
    box.answer(tool_calls=[("Animal", {"species": "cat"})])
    animal = llm.structured_predict(Animal, PromptTemplate("Which {what}?"), what="animal")
    assert observer.named("LLMStructuredPredictStartEvent")[0].template_args == {"what": "animal"}
    assert observer.named("LLMStructuredPredictEndEvent")[0].output == animal
    assert len(observer.named("LLMChatStartEvent")) == 1
