"""The methods that call the API: of the core and both adapters, sync and async, plain and streamed."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from langchain_core.documents import Document
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode

from langchain_predictionguard import (
    ChatPredictionGuard,
    PredictionGuardEmbeddings,
)
from langchain_predictionguard import PredictionGuard as Completing
from langchain_predictionguard import PredictionGuardRerank as Compressor
from llama_index_predictionguard import PredictionGuard as Llm
from llama_index_predictionguard import PredictionGuardEmbedding, PredictionGuardMultiModal
from llama_index_predictionguard import PredictionGuardRerank as Postprocessor
from predictionguard_core import AsyncClient, ChatRequest, Client
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.embeddings import EmbeddingRequest
from predictionguard_core.api.rerank import RerankRequest
from tests.faults.server import answer, chunked, event_stream

KEY = "pg-s3cr3t-key"
MODEL = "gpt-oss-120b"
TEXT = "hello you"


def chunk(content: str | None = None, **choice: Any) -> dict[str, Any]:
    """Return a chunk of a stream, as the data of an event."""
    delta = {} if content is None else {"content": content}
    return {"id": "c", "created": 1, "model": MODEL, "choices": [{"index": 0, "delta": delta, **choice}]}


CHUNKS = [chunk("hello "), chunk("you"), chunk(finish_reason="stop")]
ANSWER = {
    "id": "c",
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
}

# The responses that the methods expect.
PLAIN = answer(200, ANSWER)
STREAM = event_stream(*CHUNKS, "[DONE]")
COMPLETION = answer(200, {"id": "c", "model": MODEL, "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]})
COMPLETION_STREAM = event_stream(
    {"id": "c", "choices": [{"index": 0, "text": TEXT}]},
    {"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
    "[DONE]",
)
VECTORS = answer(200, {"data": [{"index": 0, "embedding": [0.5, 1.5]}]})
RANKING = answer(200, {"results": [{"index": 0, "relevance_score": 0.25}]})
MODELS = answer(200, {"data": [{"id": "hello you"}]})


@dataclasses.dataclass(frozen=True)
class Method:
    """A public method. `ask(url, options)` yields the texts of its result.

    `good` is the response that it expects; `text` is the complete text of that response.
    """

    name: str
    ask: Callable[..., Iterator[str] | AsyncIterator[str]]
    good: bytes
    streams: bool = False
    text: str = TEXT

    @property
    def adapter(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def kept(self) -> bytes:
        """The expected response, without `Connection: close`."""
        head, _, body = self.good.partition(b"\r\n\r\n")
        if self.streams:
            return chunked([body], connection="")
        return head.replace(b"\r\nconnection: close", b"") + b"\r\n\r\n" + body

    @property
    def is_async(self) -> bool:
        return self.name.endswith("async")


def _once(call: Callable[..., Any]) -> Callable[..., Iterator[str]]:
    def ask(url: str, **options: Any) -> Iterator[str]:
        yield call(url, options)

    return ask


def _async_once(call: Callable[..., Awaitable[Any]]) -> Callable[..., AsyncIterator[str]]:
    async def ask(url: str, **options: Any) -> AsyncIterator[str]:
        yield await call(url, options)

    return ask


def _many(call: Callable[..., Iterator[Any]], said: Callable[[Any], str | None]) -> Callable[..., Iterator[str]]:
    def ask(url: str, **options: Any) -> Iterator[str]:
        for each in call(url, options):
            yield said(each) or ""

    return ask


def _async_many(call: Callable[..., Any], said: Callable[[Any], str | None]) -> Callable[..., AsyncIterator[str]]:
    async def ask(url: str, **options: Any) -> AsyncIterator[str]:
        found = call(url, options)
        async for each in found if hasattr(found, "__aiter__") else await found:
            yield said(each) or ""

    return ask


_HELLO = ChatRequest(model=MODEL, messages="Hello")
_PROMPT = CompletionRequest(model=MODEL, prompt="Hello")
_INPUT = EmbeddingRequest(model=MODEL, input=["Hello"])
_QUERY = RerankRequest(model=MODEL, query="Hello", documents=["hello"])
_MESSAGES = [ChatMessage(role="user", content="Hello")]
_NODES = [NodeWithScore(node=TextNode(text="hello"))]


def _made(kind: Any) -> Callable[[str, dict[str, Any]], Any]:
    return lambda url, options: kind(MODEL, api_key=KEY, base_url=url, **options)


def _client(url: str, options: dict[str, Any]) -> Client:
    return Client(KEY, url, **options)


def _async_client(url: str, options: dict[str, Any]) -> AsyncClient:
    return AsyncClient(KEY, url, **options)


async def _async_chat(url: str, options: dict[str, Any]) -> str | None:
    return (await _async_client(url, options).chat(_HELLO)).message.content


async def _async_complete(url: str, options: dict[str, Any]) -> str | None:
    return (await _async_client(url, options).complete(_PROMPT)).message.content


async def _async_embed(url: str, options: dict[str, Any]) -> str:
    return str(await _async_client(url, options).embed(_INPUT))


async def _async_rerank(url: str, options: dict[str, Any]) -> str:
    return str([each.relevance_score for each in await _async_client(url, options).rerank(_QUERY)])


async def _async_models(url: str, options: dict[str, Any]) -> str:
    return (await _async_client(url, options).models())[0].id


def _delta(each: Any) -> str | None:
    return "".join(choice.delta.content or "" for choice in each.choices)


_chat, _llm, _multi = _made(ChatPredictionGuard), _made(Llm), _made(PredictionGuardMultiModal)
_completing, _embeddings, _compressor = _made(Completing), _made(PredictionGuardEmbeddings), _made(Compressor)
_embedding, _postprocessor = _made(PredictionGuardEmbedding), _made(Postprocessor)


async def _ainvoke(url: str, options: dict[str, Any]) -> str:
    return (await _chat(url, options).ainvoke("Hello")).text


async def _achat(url: str, options: dict[str, Any]) -> str | None:
    return (await _llm(url, options).achat(_MESSAGES)).message.content


async def _acomplete(url: str, options: dict[str, Any]) -> str:
    return (await _multi(url, options).acomplete("Hello")).text


async def _aembed_documents(url: str, options: dict[str, Any]) -> str:
    return str(await _embeddings(url, options).aembed_documents(["Hello"]))


async def _acompress(url: str, options: dict[str, Any]) -> str:
    kept = await _compressor(url, options).acompress_documents([Document("hello")], "Hello")
    return str([each.metadata["relevance_score"] for each in kept])


async def _aget_text_embeddings(url: str, options: dict[str, Any]) -> str:
    return str(await _embedding(url, options).aget_text_embedding_batch(["Hello"]))


async def _apostprocess(url: str, options: dict[str, Any]) -> str:
    kept = await _postprocessor(url, options).apostprocess_nodes(_NODES, query_str="Hello")
    return str([each.score for each in kept])


async def _acompleting(url: str, options: dict[str, Any]) -> str:
    return await _completing(url, options).ainvoke("Hello")


CHAT = [
    Method("core chat", _once(lambda *at: _client(*at).chat(_HELLO).message.content), PLAIN),
    Method("core chat async", _async_once(_async_chat), PLAIN),
    Method("core stream", _many(lambda *at: _client(*at).stream(_HELLO), _delta), STREAM, streams=True),
    Method(
        "core stream async", _async_many(lambda *at: _async_client(*at).stream(_HELLO), _delta), STREAM, streams=True
    ),
    Method("LangChain invoke", _once(lambda *at: _chat(*at).invoke("Hello").text), PLAIN),
    Method("LangChain invoke async", _async_once(_ainvoke), PLAIN),
    Method(
        "LangChain stream", _many(lambda *at: _chat(*at).stream("Hello"), lambda each: each.text), STREAM, streams=True
    ),
    Method(
        "LangChain stream async",
        _async_many(lambda *at: _chat(*at).astream("Hello"), lambda each: each.text),
        STREAM,
        streams=True,
    ),
    Method("LlamaIndex chat", _once(lambda *at: _llm(*at).chat(_MESSAGES).message.content), PLAIN),
    Method("LlamaIndex chat async", _async_once(_achat), PLAIN),
    Method(
        "LlamaIndex stream_chat",
        _many(lambda *at: _llm(*at).stream_chat(_MESSAGES), lambda each: each.delta),
        STREAM,
        streams=True,
    ),
    Method(
        "LlamaIndex stream_chat async",
        _async_many(lambda *at: _llm(*at).astream_chat(_MESSAGES), lambda each: each.delta),
        STREAM,
        streams=True,
    ),
]
"""All methods of the chat models; tested with every fault."""

VECTOR, SCORE = "[[0.5, 1.5]]", "[0.25]"
OTHER_METHODS = [
    Method("core complete", _once(lambda *at: _client(*at).complete(_PROMPT).message.content), COMPLETION),
    Method("core complete async", _async_once(_async_complete), COMPLETION),
    Method(
        "core complete_stream",
        _many(lambda *at: _client(*at).complete_stream(_PROMPT), _delta),
        COMPLETION_STREAM,
        streams=True,
    ),
    Method(
        "core complete_stream async",
        _async_many(lambda *at: _async_client(*at).complete_stream(_PROMPT), _delta),
        COMPLETION_STREAM,
        streams=True,
    ),
    Method("core embed", _once(lambda *at: str(_client(*at).embed(_INPUT))), VECTORS, text=VECTOR),
    Method("core embed async", _async_once(_async_embed), VECTORS, text=VECTOR),
    Method(
        "core rerank",
        _once(lambda *at: str([each.relevance_score for each in _client(*at).rerank(_QUERY)])),
        RANKING,
        text=SCORE,
    ),
    Method("core rerank async", _async_once(_async_rerank), RANKING, text=SCORE),
    Method("core models", _once(lambda *at: _client(*at).models()[0].id), MODELS),
    Method("core models async", _async_once(_async_models), MODELS),
    Method("LangChain completion", _once(lambda *at: _completing(*at).invoke("Hello")), COMPLETION),
    Method("LangChain completion async", _async_once(_acompleting), COMPLETION),
    Method(
        "LangChain completion stream",
        _many(lambda *at: _completing(*at).stream("Hello"), str),
        COMPLETION_STREAM,
        streams=True,
    ),
    Method(
        "LangChain completion stream async",
        _async_many(lambda *at: _completing(*at).astream("Hello"), str),
        COMPLETION_STREAM,
        streams=True,
    ),
    Method(
        "LangChain embed_documents",
        _once(lambda *at: str(_embeddings(*at).embed_documents(["Hello"]))),
        VECTORS,
        text=VECTOR,
    ),
    Method("LangChain embed_documents async", _async_once(_aembed_documents), VECTORS, text=VECTOR),
    Method(
        "LangChain compress_documents",
        _once(
            lambda *at: str(
                [
                    each.metadata["relevance_score"]
                    for each in _compressor(*at).compress_documents([Document("hello")], "Hello")
                ]
            )
        ),
        RANKING,
        text=SCORE,
    ),
    Method("LangChain compress_documents async", _async_once(_acompress), RANKING, text=SCORE),
    Method("LlamaIndex complete", _once(lambda *at: _multi(*at).complete("Hello").text), PLAIN),
    Method("LlamaIndex complete async", _async_once(_acomplete), PLAIN),
    Method(
        "LlamaIndex stream_complete",
        _many(lambda *at: _multi(*at).stream_complete("Hello"), lambda each: each.delta),
        STREAM,
        streams=True,
    ),
    Method(
        "LlamaIndex stream_complete async",
        _async_many(lambda *at: _multi(*at).astream_complete("Hello"), lambda each: each.delta),
        STREAM,
        streams=True,
    ),
    Method(
        "LlamaIndex embeddings",
        _once(lambda *at: str(_embedding(*at).get_text_embedding_batch(["Hello"]))),
        VECTORS,
        text=VECTOR,
    ),
    Method("LlamaIndex embeddings async", _async_once(_aget_text_embeddings), VECTORS, text=VECTOR),
    Method(
        "LlamaIndex rerank",
        _once(
            lambda *at: str([each.score for each in _postprocessor(*at).postprocess_nodes(_NODES, query_str="Hello")])
        ),
        RANKING,
        text=SCORE,
    ),
    Method("LlamaIndex rerank async", _async_once(_apostprocess), RANKING, text=SCORE),
]
"""The methods of everything else that calls the API."""
