"""Prediction Guard's reranker as a node postprocessor of LlamaIndex's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import Field, SecretStr

from llama_index_predictionguard import spans
from llama_index_predictionguard.connection import Connected, HttpAsyncClient, HttpClient
from llama_index_predictionguard.sight import hidden
from predictionguard_core import settings
from predictionguard_core.api.rerank import Ranked, RerankRequest
from predictionguard_core.errors import ConfigurationError

_dispatcher = get_dispatcher(__name__)


@spans.marked
class PredictionGuardRerank(Connected, BaseNodePostprocessor):
    """Keeps the nodes that answer a query best, the best first.

    Args:
        model: The model's name, such as "bge-reranker-v2-m3".
        top_n: How many are kept at most. None: all.
        api_key: Default: the environment's PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment's PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds that one attempt may take as a whole.
        max_retries: What may come after the first attempt.
        http_client, async_http_client: Your own httpx clients; used as they are and never closed.

    A node is judged by its text and the metadata that embedding models see; a picture without a text by its metadata
    alone. What comes back are new `NodeWithScore`s around the same nodes, with the judgement, a float, higher is
    better, as their score. Making one touches no network.

    Errors are those of `predictionguard_core.errors`; a call without a query is a `ConfigurationError`.

    Example:
        >>> from llama_index_predictionguard import PredictionGuardRerank
        >>> rerank = PredictionGuardRerank("bge-reranker-v2-m3", top_n=3)
        >>> index.as_query_engine(similarity_top_k=20, node_postprocessors=[rerank])
    """

    top_n: int | None = Field(default=None, ge=1)

    def __init__(
        self,
        model: str | None = None,  # without one, a `ConfigurationError` says where models are listed
        *,
        top_n: int | None = None,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        timeout: float | None = settings.DEFAULT_TIMEOUT,
        max_retries: int | None = settings.DEFAULT_MAX_RETRIES,
        http_client: HttpClient | None = None,
        async_http_client: HttpAsyncClient | None = None,
        **framework: Any,
    ) -> None:
        super().__init__(
            model=model,
            top_n=top_n,
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            http_client=http_client,
            async_http_client=async_http_client,
            **framework,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this class down."""
        return "PredictionGuardRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _asked(query_bundle)
        if not nodes:
            return []
        with self._traced([hidden(node) for node in nodes], query) as ranked:
            ranked += self._client().rerank(self._request(nodes, query))
        return self._kept(nodes, ranked)

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _asked(query_bundle)
        if not nodes:
            return []
        shown = await asyncio.to_thread(lambda: [hidden(node) for node in nodes])
        with self._traced(shown, query) as ranked:
            ranked += await self._async_client().rerank(self._request(nodes, query))
        return self._kept(nodes, ranked)

    def _request(self, nodes: list[NodeWithScore], query: str) -> RerankRequest:
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        return RerankRequest(model=self.model, query=query, documents=texts, return_documents=False)

    def _kept(self, nodes: list[NodeWithScore], ranked: list[Ranked]) -> list[NodeWithScore]:
        return [NodeWithScore(node=nodes[each.index].node, score=each.relevance_score) for each in ranked[: self.top_n]]

    @contextmanager
    def _traced(self, shown: list[NodeWithScore], query: str) -> Iterator[list[Ranked]]:
        """The list for the judgements; who watches is told before and after."""
        ranked: list[Ranked] = []
        top_n = self.top_n or len(shown)
        _dispatcher.event(ReRankStartEvent(query=query, nodes=shown, top_n=top_n, model_name=self.model))
        payload: dict[Any, Any] = {
            EventPayload.NODES: shown,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield ranked
            kept = self._kept(shown, ranked)
            event.on_end(payload={EventPayload.NODES: kept})
        _dispatcher.event(ReRankEndEvent(nodes=kept))


def _asked(query: QueryBundle | None) -> str:
    if query is None:
        raise ConfigurationError("a reranker judges nodes by a query: give query_bundle or query_str")
    return query.query_str
