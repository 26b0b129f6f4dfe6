"""The reranker."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

from langchain_predictionguard import (
    PredictionGuardRerank,
)
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"


@pytest.fixture
def reranker(box: Sandbox) -> PredictionGuardRerank:
    return PredictionGuardRerank("bge-reranker-v2-m3", api_key="key-of-the-tests", base_url=box.url, top_n=2)


class TestRerank:
    DOCUMENTS = [
        Document("Pizza is baked in a stone oven.", metadata={"page": 1}),
        Document("Deep learning trains networks of many layers."),
        Document("Learning to swim takes patience."),
    ]

    def test_best_documents_first_up_to_top_n(self, reranker: PredictionGuardRerank) -> None:
        before = copy.deepcopy(self.DOCUMENTS)
        kept = reranker.compress_documents(self.DOCUMENTS, "What is deep learning?")
        assert [document.page_content[:4] for document in kept] == ["Deep", "Lear"]
        scores = [document.metadata["relevance_score"] for document in kept]
        assert scores == sorted(scores, reverse=True)
        assert before == self.DOCUMENTS

    async def test_async(self, reranker: PredictionGuardRerank) -> None:
        asked = "What is deep learning?"
        assert await reranker.acompress_documents(self.DOCUMENTS, asked) == reranker.compress_documents(
            self.DOCUMENTS, asked
        )
        await reranker.aclose()

    def test_empty_list(self, reranker: PredictionGuardRerank, box: Sandbox) -> None:
        assert list(reranker.compress_documents([], "anything")) == []
        assert box.requests == []

    def test_in_a_chain(self, reranker: PredictionGuardRerank) -> None:
        chain = RunnableLambda(lambda query: reranker.compress_documents(self.DOCUMENTS, query))
        assert len(chain.invoke("pizza")) == 2
