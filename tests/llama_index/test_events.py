"""What events, spans and callbacks show of a call: the messages with their images, and never the API key."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import ImageNode, NodeWithScore

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuard, PredictionGuardEmbedding, PredictionGuardRerank
from predictionguard_core.sandbox import Sandbox
from tests.llama_index.conftest import KEY, VISION

HEADER = "gateway-token-not-to-be-seen"
QUESTION = "What is this?"


@pytest.fixture
def observed(observer: Any) -> Callable[[], str]:
    """Everything that observers saw during a test, as text."""
    debug = LlamaDebugHandler(print_trace_on_end=False)

    def observed() -> str:
        payloads = [event.payload for pair in debug.get_event_pairs() for event in pair]
        arguments = [{**call.arguments, "self": repr(call.arguments.get("self"))} for _, call in observer.calls]
        shown = [event.model_dump_json() for event in observer.events]
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
    from llama_index.core.prompts import PromptTemplate
    from pydantic import BaseModel

    class Animal(BaseModel):
        species: str

    box.answer(tool_calls=[("Animal", {"species": "cat"})])
    animal = llm.structured_predict(Animal, PromptTemplate("Which {what}?"), what="animal")
    assert observer.named("LLMStructuredPredictStartEvent")[0].template_args == {"what": "animal"}
    assert observer.named("LLMStructuredPredictEndEvent")[0].output == animal
    assert len(observer.named("LLMChatStartEvent")) == 1
