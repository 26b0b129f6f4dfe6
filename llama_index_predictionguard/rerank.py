"""Prediction Guard's reranker as a LlamaIndex node postprocessor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import Field

from llama_index_predictionguard.base import Component
from llama_index_predictionguard.calls import check_nodes
from predictionguard_core.api.rerank import Ranked, RerankRequest
from predictionguard_core.errors import ConfigurationError

_dispatcher = get_dispatcher(__name__)


class PredictionGuardRerank(Component, BaseNodePostprocessor):
    """Sorts nodes by their relevance to a query, and keeps the best.

    Args:
        model: Name of the model, such as "bge-reranker-v2-m3".
        top_n: Maximum number of nodes to keep. None: all.
        api_key, base_url, timeout, max_retries, default_headers, http_client, async_http_client: As for
            `PredictionGuard`.
        rate_limiter: A LlamaIndex rate limiter, asked before each request.

    A node is ranked by its text and the metadata that embedding models see; an image without text by its metadata. The
    result is new `NodeWithScore` objects around the same nodes, with the relevance as score; higher is better.
    The reranker can't see images: nodes with neither text nor metadata keep their score, follow the ranked nodes, do
    not count for `top_n`, and cause a warning.

    Errors are those of `predictionguard_core.errors`; a call without a query is a `ConfigurationError`.

    Instantiate:
        .. code-block:: python

            from llama_index_predictionguard import PredictionGuardRerank

            rerank = PredictionGuardRerank("bge-reranker-v2-m3", top_n=3)

    Rerank:
        .. code-block:: python

            from llama_index.core.schema import NodeWithScore, TextNode

            texts = ["Cats sleep a lot.", "Espresso is brewed under pressure."]
            nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
            for node in rerank.postprocess_nodes(nodes, query_str="How is espresso brewed?"):
                print(round(node.score, 2), node.text)

        .. code-block:: text

            0.93 Espresso is brewed under pressure.
            0.02 Cats sleep a lot.

    In a query engine:
        .. code-block:: python

            index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
    """

    top_n: int | None = Field(default=None, ge=1)
    rate_limiter: Any | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that identifies this class in serialized objects."""
        return "PredictionGuardRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        texts = _texts(nodes)
        if not texts:
            return nodes
        with self._events(nodes, query) as kept:
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            kept += self._kept(nodes, texts, self._client().rerank(self._request(texts, query)))
        return kept

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        texts = _texts(nodes)
        if not texts:
            return nodes
        with self._events(nodes, query) as kept:
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            kept += self._kept(nodes, texts, await self._async_client().rerank(self._request(texts, query)))
        return kept

    def _request(self, texts: dict[int, str], query: str) -> RerankRequest:
        return RerankRequest(model=self.model, query=query, documents=list(texts.values()), return_documents=False)

    def _kept(self, nodes: list[NodeWithScore], texts: dict[int, str], ranked: list[Ranked]) -> list[NodeWithScore]:
        ranked_nodes = [nodes[index] for index in texts]
        kept = [
            NodeWithScore(node=ranked_nodes[each.index].node, score=each.relevance_score)
            for each in ranked[: self.top_n]
        ]
        return kept + [node for index, node in enumerate(nodes) if index not in texts]

    @contextmanager
    def _events(self, nodes: list[NodeWithScore], query: str) -> Iterator[list[NodeWithScore]]:
        """Report the start and the end to observers. Yields the list for the nodes that are kept."""
        kept: list[NodeWithScore] = []
        top_n = self.top_n or len(nodes)
        _dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=self.model))
        payload: dict[Any, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield kept
            event.on_end(payload={EventPayload.NODES: kept})
        _dispatcher.event(ReRankEndEvent(nodes=kept))


def _query(query: QueryBundle | str | None) -> str:
    text = query.query_str if isinstance(query, QueryBundle) else query or ""
    if not text.strip():
        raise ConfigurationError("a reranker needs a query: pass query_bundle or query_str")
    return text


def _texts(nodes: list[NodeWithScore]) -> dict[int, str]:
    """Return the text of each node that has any, by its index."""
    check_nodes(nodes)
    texts = {index: node.node.get_content(metadata_mode=MetadataMode.EMBED) for index, node in enumerate(nodes)}
    texts = {index: text for index, text in texts.items() if text.strip()}
    if len(texts) < len(nodes):
        warnings.warn(
            f"{len(nodes) - len(texts)} of {len(nodes)} nodes have neither text nor metadata, so the reranker can't "
            "rank them: they follow the others. Give images a caption or other metadata",
            stacklevel=4,
        )
    return texts
