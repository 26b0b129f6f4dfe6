"""Correct user code: mypy must report no error. Never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import httpx
import httpx2
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import NodeWithScore
from pydantic import BaseModel, SecretStr

import langchain_predictionguard as lc
import llama_index_predictionguard as li
from langchain_predictionguard import ChatPredictionGuard
from predictionguard_core import (
    APIStatusError,
    AsyncClient,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Client,
    ContentError,
    Image,
    ImagePolicy,
    InputChecks,
    OutputChecks,
)
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.api.models import Model
from predictionguard_core.api.rerank import Ranked, RerankRequest
from predictionguard_core.client import AsyncChatStream, ChatStream
from predictionguard_core.sandbox import Fault, Sandbox

VISION = "Qwen2.5-VL-7B-Instruct"
PHOTO = Path("photo.jpg")


class Receipt(BaseModel):
    total: float


@tool
def weigh(what: str) -> str:
    """Weigh something."""
    return what


# The core

policy = ImagePolicy(local_roots=["/photos", PHOTO], allowed_hosts=["example.com"], max_edge=1024, strip_metadata=True)
checks = InputChecks(pii="replace", pii_replace_method="mask", block_prompt_injection=True, entity_list=["EMAIL"])
client = Client("key", "https://api.predictionguard.com", timeout=10, max_retries=0, images=policy)
client = Client(api_key=SecretStr("key"), http_client=httpx.Client())
request = ChatRequest(model=VISION, messages="Hello", input=checks, output=OutputChecks(toxicity=True))
assert_type(client.chat(request), ChatCompletion)
assert_type(client.stream(request), ChatStream)
assert_type(next(client.stream(request)), ChatChunk)
assert_type(client.models("chat-with-image"), list[Model])
assert_type(client.embed(EmbeddingRequest(model="m", input=[EmbeddingInput(image=PHOTO)])), list[list[float]])
assert_type(client.rerank(RerankRequest(model="m", query="q", documents=["d"])), list[Ranked])
assert_type(client.chat(request).message.content, str | None)
assert_type(Image.open(PHOTO).size, tuple[int, int])
with Client() as opened:
    assert_type(opened, Client)


async def async_calls() -> None:
    async with AsyncClient() as opened:
        assert_type(opened, AsyncClient)
        assert_type(await opened.chat(request), ChatCompletion)
        assert_type(opened.stream(request), AsyncChatStream)
        assert_type(await opened.models(), list[Model])


def errors(error: Exception) -> None:
    if isinstance(error, APIStatusError):
        assert_type(error.status_code, int)
        assert_type(error.retry_after, float | None)
        assert_type(error.request_id, str | None)
    if isinstance(error, ContentError):
        assert_type(error.message_index, int | None)
    if isinstance(error, lc.RateLimitError):
        assert_type(error.status_code, int)


# The LangChain adapter

chat = ChatPredictionGuard(VISION)
chat = ChatPredictionGuard(
    model=VISION,
    api_key="key",
    base_url="https://api.predictionguard.com",
    temperature=0.1,
    max_tokens=100,
    top_p=0.9,
    top_k=5,
    frequency_penalty=0.1,
    presence_penalty=0.1,
    logit_bias={"50": -1.0},
    reasoning_effort="low",
    stop=["END"],
    input_checks=checks,
    output_checks={"toxicity": True},
    timeout=10,
    max_retries=3,
    images=policy,
    vision_streaming=False,
    stream_usage=True,
    http_client=httpx.Client(),
    http_async_client=httpx.AsyncClient(),
    extra_body={"seed": 1},
    profile_from_service=True,
    tags=["mine"],
    callbacks=[],
    rate_limiter=None,
    custom_get_token_ids=lambda text: [1],
)
chat = ChatPredictionGuard(VISION, api_key=lambda: "key", images={"max_edge": 1024}, input_checks={"pii": "block"})
retired = ChatPredictionGuard(
    VISION, predictionguard_api_key="key", predictionguard_input={"pii": "block"}, stop_sequences=["END"]
)
assert_type(chat.invoke("Hello"), AIMessage)
assert_type(chat.stream("Hello"), Iterator[AIMessageChunk])
assert_type(chat.invoke("Hello").tool_calls[0]["name"], str)
assert_type(chat.list_models(), list[Model])
assert_type(chat.bind_tools([weigh], tool_choice="weigh").invoke("Hello"), AIMessage)
chat.with_structured_output(Receipt).invoke("Hello")
chain: Runnable[Any, Any] = chat.with_fallbacks([ChatPredictionGuard("llava-1.5-7b-hf")])


async def langchain_async() -> None:
    assert_type(await chat.ainvoke("Hello"), AIMessage)
    assert_type(chat.astream("Hello"), AsyncIterator[AIMessageChunk])
    assert_type(await chat.alist_models("rerank"), list[Model])


llm = lc.PredictionGuard("Hermes-3-Llama-3.1-8B", max_tokens=10, input_checks={"pii": "block"})
assert_type(llm.invoke("Hello"), str)
embeddings = lc.PredictionGuardEmbeddings("bge-m3", api_key="key", truncate=True)
assert_type(embeddings.embed_documents(["one"]), list[list[float]])
assert_type(embeddings.embed_query("one"), list[float])
assert_type(embeddings.embed_images([PHOTO, b"...", "https://example.com/x.jpg"]), list[list[float]])
reranker = lc.PredictionGuardRerank("bge-reranker-v2-m3", top_n=3)
assert_type(list(reranker.compress_documents([Document("one")], "query")), list[Document])

# The LlamaIndex adapter

multi_modal = li.PredictionGuard(VISION)
multi_modal = li.PredictionGuard(
    model=VISION,
    api_key="key",
    api_base="https://api.predictionguard.com",
    temperature=0.1,
    max_tokens=100,
    context_window=16_384,
    is_function_calling_model=True,
    reasoning_effort="low",
    stop=["END"],
    input_checks=checks,
    output_checks={"toxicity": True},
    images=policy,
    http_client=httpx.Client(),
    async_http_client=httpx.AsyncClient(),
    additional_kwargs={"seed": 1},
    system_prompt="Be brief.",
    default_headers={"X-Gateway": "a"},
    strict=False,
    profile_from_service=True,
)
multi_modal = li.PredictionGuard(VISION, api_key=lambda: "rotating", http_client=httpx2.Client())
messages = [ChatMessage(role="user", blocks=[TextBlock(text="What is this?"), ImageBlock(path=PHOTO)])]
assert_type(multi_modal.chat(messages), ChatResponse)
assert_type(multi_modal.chat(messages).message.content, str | None)
assert_type(multi_modal.complete("Hello"), CompletionResponse)
assert_type(next(iter(multi_modal.stream_chat(messages))), ChatResponse)
assert_type(multi_modal.list_models("chat-with-image"), list[Model])
assert_type(multi_modal.metadata.context_window, int)


async def llama_index_async() -> None:
    assert_type(await multi_modal.achat(messages), ChatResponse)
    async for response in await multi_modal.astream_chat(messages):
        assert_type(response, ChatResponse)
    assert_type(await multi_modal.alist_models(), list[Model])


both = li.PredictionGuardMultiModal(VISION, max_tokens=10)
assert_type(both.complete("What is this?", [ImageBlock(path=PHOTO)]), CompletionResponse)
vectors = li.PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", embed_batch_size=10)
assert_type(vectors.get_text_embedding("a cat"), list[float])
best = li.PredictionGuardRerank("bge-reranker-v2-m3", top_n=3)
assert_type(best.postprocess_nodes([], query_str="q"), list[NodeWithScore])


# A user's tests


def test_of_somebody(predictionguard_sandbox: Sandbox) -> None:
    assert_type(predictionguard_sandbox.fail(429, times=2, retry_after=0), Fault)
    assert_type(predictionguard_sandbox.stall(5, after=3, times=None).met, int)
    predictionguard_sandbox.answer(tool_calls=[("weigh", {"what": "it"})], model=VISION)
    predictionguard_sandbox.fail_check("pii")
    with Sandbox(chunk_delay=0.1) as box:
        assert_type(box, Sandbox)
        assert_type(box.url, str)
