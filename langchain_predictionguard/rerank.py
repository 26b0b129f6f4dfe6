"""Prediction Guard's reranker as a LangChain document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import yaml  # which langchain-core brings
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field

from langchain_predictionguard import errors
from langchain_predictionguard.connection import CONFIG, Connected
from predictionguard_core.api.rerank import Ranked, RerankRequest

if TYPE_CHECKING:
    from langchain_predictionguard import arguments


class PredictionGuardRerank(Connected, BaseDocumentCompressor):
    """Keeps the documents that answer a query best, the best first.

    Args:
        model: The model's name, such as "bge-reranker-v2-m3"; `list_models("rerank")` tells which there are.
        top_n: How many are kept at most; None: all.

    The connection's arguments are those of `ChatPredictionGuard`. Each document that is kept is a copy with
    `relevance_score`, a float, higher is better, in its metadata.

    Example:
        >>> from langchain_predictionguard import PredictionGuardRerank
        >>> PredictionGuardRerank(model="bge-reranker-v2-m3", top_n=3).compress_documents(documents, "a query")
    """

    top_n: int | None = Field(default=None, ge=1)

    model_config = CONFIG

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Rerank]) -> None: ...

    def rerank(
        self, query: str, documents: Sequence[str | Document | dict[str, Any]], *, model: str | None = None
    ) -> list[dict[str, Any]]:
        """Which documents answer `query` best: dicts of `index` and `relevance_score`, the best first, all of them.

        A document that is a dict is judged as its YAML.
        """
        texts = [_text(each) for each in documents]
        with errors.mapped():
            request = RerankRequest(model=model or self.model, query=query, documents=texts, return_documents=False)
            ranked = self._sync.rerank(request)
        return [{"index": each.index, "relevance_score": each.relevance_score} for each in ranked]

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The documents that answer `query` best, the best first."""
        with errors.mapped():
            return self._kept(documents, self._sync.rerank(self._request(documents, query)))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents`, asynchronous."""
        with errors.mapped():
            return self._kept(documents, await self._async.rerank(self._request(documents, query)))

    def _request(self, documents: Sequence[Document], query: str) -> RerankRequest:
        texts = [document.page_content for document in documents]
        return RerankRequest(model=self.model, query=query, documents=texts, return_documents=False)

    def _kept(self, documents: Sequence[Document], ranked: list[Ranked]) -> list[Document]:
        return [
            documents[each.index].model_copy(
                update={"metadata": {**documents[each.index].metadata, "relevance_score": each.relevance_score}}
            )
            for each in ranked[: self.top_n]
        ]


def _text(document: Any) -> Any:
    if isinstance(document, Document):
        return document.page_content
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True) if isinstance(document, dict) else document
