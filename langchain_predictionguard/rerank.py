"""The reranker, as a document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml  # a dependency of langchain-core
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field

from langchain_predictionguard.base import CONFIG, ServiceModel
from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.rerank import Ranked, RerankRequest
from predictionguard_core.errors import ContentError


class PredictionGuardRerank(ServiceModel, BaseDocumentCompressor):
    """Document compressor that keeps the documents that answer a query best, the best first.

    Setup:
        Install the package and set the API key:

        ```bash
        pip install "predictionguard-integrations[langchain]"
        export PREDICTIONGUARD_API_KEY="your-api-key"
        ```

    Args:
        model: Name of the model, such as "bge-reranker-v2-m3"; `list_models("rerank")` lists those of the account.
        top_n: Number of documents to keep; None keeps all.
        api_key, base_url, timeout, max_retries, images, default_headers, http_client, http_async_client: See
            `ChatPredictionGuard`.

    Instantiate:
        ```python
        from langchain_predictionguard import PredictionGuardRerank

        reranker = PredictionGuardRerank("bge-reranker-v2-m3", top_n=1)
        ```

    Compress documents:
        Each document that is kept is a copy, with `relevance_score` (higher is better) in its metadata.

        ```python
        from langchain_core.documents import Document

        documents = [Document("Pizza is baked in an oven."), Document("Deep learning trains large networks.")]
        reranker.compress_documents(documents, "What is deep learning?")
        ```

        ```text
        [Document(metadata={"relevance_score": 0.97}, page_content="Deep learning trains large networks.")]
        ```

    Async:
        ```python
        await reranker.acompress_documents(documents, "What is deep learning?")
        ```
    """

    top_n: int | None = Field(default=None, ge=1)

    model_config = CONFIG

    def rerank(
        self,
        query: str,
        documents: Sequence[str | Document | dict[str, Any]],
        *,
        model: str | None = None,
        extra_headers: dict[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return a dict of `index` and `relevance_score` for each document, the best first.

        A document that is a dict is judged as its YAML.
        """
        with langchain_errors():
            if isinstance(documents, str):
                raise ContentError("documents must be a list, got a string: the query comes first")
            texts = [_text(document) for document in documents]
            request = RerankRequest(model=model or self.model, query=query, documents=texts, return_documents=False)
            ranked = self._sync.rerank(request, extra_headers=extra_headers)
        return [{"index": each.index, "relevance_score": each.relevance_score} for each in ranked]

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        *,
        extra_headers: dict[str, str] | None = None,
    ) -> list[Document]:
        """Return the documents that answer `query` best, the best first."""
        with langchain_errors():
            return self._kept(
                documents, self._sync.rerank(self._request(documents, query), extra_headers=extra_headers)
            )

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        *,
        extra_headers: dict[str, str] | None = None,
    ) -> list[Document]:
        """Async version of `compress_documents`."""
        with langchain_errors():
            request = self._request(documents, query)
            return self._kept(documents, await self._async.rerank(request, extra_headers=extra_headers))

    def _request(self, documents: Sequence[Document], query: str) -> RerankRequest:
        if isinstance(documents, str):
            raise ContentError("documents must be a list of Documents, got a string: the documents come first")
        for index, document in enumerate(documents):
            if not isinstance(document, Document):
                raise ContentError(
                    f"documents[{index}] must be a Document, got {type(document).__name__}: use Document(text), or "
                    "rerank(query, texts)",
                    block_index=index,
                )
        texts = [document.page_content for document in documents]
        return RerankRequest(model=self.model, query=query, documents=texts, return_documents=False)

    def _kept(self, documents: Sequence[Document], ranked: list[Ranked]) -> list[Document]:
        kept = [(documents[each.index], each.relevance_score) for each in ranked[: self.top_n]]
        return [
            document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
            for document, score in kept
        ]


def _text(document: Any) -> Any:
    if isinstance(document, Document):
        return document.page_content
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True) if isinstance(document, dict) else document
