"""One object of each public class, and one request for all of them: the echo server returns the number in it."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from langchain_core.documents import Document
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

import langchain_predictionguard as lc
import llama_index_predictionguard as li
from predictionguard_core import AsyncClient, Client
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.embeddings import EmbeddingRequest
from predictionguard_core.api.rerank import RerankRequest
from tests.core.images.samples import png

KEY = "pg-key-of-the-endurance-tests"
_IMAGE = [ImageNode(image=base64.b64encode(png()).decode())]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A public class: `make(url, **options)` creates an object, `ask(model, number)` returns the echoed number."""

    name: str
    make: Callable[..., Any]
    ask: Callable[[Any, int], int] | None = None
    aask: Callable[[Any, int], Awaitable[int]] | None = None
    stream: Callable[[Any, int], Iterator[str]] | None = None
    astream: Callable[[Any, int], AsyncIterator[str]] | None = None
    own: tuple[str | None, str | None] = (None, None)
    """Names of the arguments for a user's own sync and async HTTP client."""

    def __repr__(self) -> str:
        return self.name

    def answers(self, model: Any, number: int) -> list[int]:
        """Return the numbers from a sync and an async call."""
        answers = [self.ask(model, number)] if self.ask else []
        if self.aask:
            answers.append(asyncio.run(_awaited(self.aask(model, number))))
        return answers


async def _awaited(work: Awaitable[int]) -> int:
    return await work


def _made(kind: Any, **more: Any) -> Callable[..., Any]:
    def make(url: str, **options: Any) -> Any:
        return kind(**{"api_key": KEY, "base_url": url, "max_retries": 0, **more, **options})

    return make


def _said(number: int) -> str:
    return f"This is marker-{number}."


def _chat(number: int) -> ChatRequest:
    return ChatRequest(model="m", messages=_said(number))


def _words(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def _messages(number: int) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=_said(number))]


def _nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text="a"))]


# The core


def _client_all(client: Client, number: int) -> int:
    """Make every call of the core; all must return the same number."""
    answers = {
        int(client.chat(_chat(number)).message.content or ""),
        int(client.complete(CompletionRequest(model="m", prompt=_said(number))).message.content or ""),
        int(client.embed(EmbeddingRequest(model="m", input=[_said(number)]))[0][0]),
        int(client.rerank(RerankRequest(model="m", query=_said(number), documents=["a"]))[0].relevance_score),
    }
    (answer,) = answers
    return answer


async def _async_client_all(client: AsyncClient, number: int) -> int:
    answers = {
        int((await client.chat(_chat(number))).message.content or ""),
        int((await client.complete(CompletionRequest(model="m", prompt=_said(number)))).message.content or ""),
        int((await client.embed(EmbeddingRequest(model="m", input=[_said(number)])))[0][0]),
        int((await client.rerank(RerankRequest(model="m", query=_said(number), documents=["a"])))[0].relevance_score),
    }
    (answer,) = answers
    return answer


def _client_stream(client: Client, number: int) -> Iterator[str]:
    return (_words(chunk) for chunk in client.stream(_chat(number)))


def _async_client_stream(client: AsyncClient, number: int) -> AsyncIterator[str]:
    return (_words(chunk) async for chunk in client.stream(_chat(number)))


# LangChain


def _invoke(model: Any, number: int) -> int:
    answer = model.invoke(_said(number))
    return int(answer if isinstance(answer, str) else answer.text)


async def _ainvoke(model: Any, number: int) -> int:
    answer = await model.ainvoke(_said(number))
    return int(answer if isinstance(answer, str) else answer.text)


def _lc_stream(model: Any, number: int) -> Iterator[str]:
    return (each if isinstance(each, str) else str(each.text) for each in model.stream(_said(number)))


def _lc_astream(model: Any, number: int) -> AsyncIterator[str]:
    return (each if isinstance(each, str) else str(each.text) async for each in model.astream(_said(number)))


def _lc_embed(model: Any, number: int) -> int:
    return int(model.embed_query(_said(number))[0])


async def _lc_aembed(model: Any, number: int) -> int:
    return int((await model.aembed_query(_said(number)))[0])


def _lc_rerank(model: Any, number: int) -> int:
    return int(model.compress_documents([Document("a")], _said(number))[0].metadata["relevance_score"])


async def _lc_arerank(model: Any, number: int) -> int:
    return int((await model.acompress_documents([Document("a")], _said(number)))[0].metadata["relevance_score"])


# LlamaIndex


def _li_chat(model: Any, number: int) -> int:
    return int(model.chat(_messages(number)).message.content)


async def _li_achat(model: Any, number: int) -> int:
    return int((await model.achat(_messages(number))).message.content)


def _li_stream(model: Any, number: int) -> Iterator[str]:
    return (each.delta or "" for each in model.stream_chat(_messages(number)))


async def _li_astream(model: Any, number: int) -> AsyncIterator[str]:
    async for each in await model.astream_chat(_messages(number)):
        yield each.delta or ""


def _li_see(model: Any, number: int) -> int:
    return int(model.complete(_said(number), _IMAGE).text)


async def _li_asee(model: Any, number: int) -> int:
    return int((await model.acomplete(_said(number), _IMAGE)).text)


def _li_embed(model: Any, number: int) -> int:
    return int(model.get_query_embedding(_said(number))[0])


async def _li_aembed(model: Any, number: int) -> int:
    return int((await model.aget_query_embedding(_said(number)))[0])


def _li_rerank(model: Any, number: int) -> int:
    return int(model.postprocess_nodes(_nodes(), query_str=_said(number))[0].score)


async def _li_arerank(model: Any, number: int) -> int:
    return int((await model.apostprocess_nodes(_nodes(), query_str=_said(number)))[0].score)


_CORE_SYNC, _CORE_ASYNC = ("http_client", None), (None, "http_client")
_LC, _LI = ("http_client", "http_async_client"), ("http_client", "async_http_client")

KINDS = [
    Kind("Client", _made(Client), _client_all, stream=_client_stream, own=_CORE_SYNC),
    Kind("AsyncClient", _made(AsyncClient), aask=_async_client_all, astream=_async_client_stream, own=_CORE_ASYNC),
    Kind("lc-chat", _made(lc.ChatPredictionGuard, model="m"), _invoke, _ainvoke, _lc_stream, _lc_astream, _LC),
    Kind("lc-completions", _made(lc.PredictionGuard, model="m"), _invoke, _ainvoke, _lc_stream, _lc_astream, _LC),
    Kind("lc-embeddings", _made(lc.PredictionGuardEmbeddings, model="m"), _lc_embed, _lc_aembed, own=_LC),
    Kind("lc-rerank", _made(lc.PredictionGuardRerank, model="m"), _lc_rerank, _lc_arerank, own=_LC),
    Kind("li-llm", _made(li.PredictionGuard, model="m"), _li_chat, _li_achat, _li_stream, _li_astream, _LI),
    Kind("li-eyes", _made(li.PredictionGuardMultiModal, model="m"), _li_see, _li_asee, _li_stream, _li_astream, _LI),
    Kind("li-embedding", _made(li.PredictionGuardEmbedding, model="m"), _li_embed, _li_aembed, own=_LI),
    Kind("li-rerank", _made(li.PredictionGuardRerank, model="m"), _li_rerank, _li_arerank, own=_LI),
]  # fmt: skip
SYNC = [kind for kind in KINDS if kind.ask]
ASYNC = [kind for kind in KINDS if kind.aask]
STREAMS = [kind for kind in KINDS if kind.stream]
ASYNC_STREAMS = [kind for kind in KINDS if kind.astream]
