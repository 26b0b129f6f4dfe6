"""Pickles and dumps of every class, and code written for the retired langchain-predictionguard."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from langchain_core.documents import Document

from langchain_predictionguard import (
    ChatPredictionGuard,
    ConfigurationError,
    PredictionGuard,
    PredictionGuardEmbeddings,
    PredictionGuardRerank,
)
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"


@pytest.fixture
def llm(box: Sandbox) -> PredictionGuard:
    return PredictionGuard("Hermes-3-Llama-3.1-8B", api_key="key-of-the-tests", base_url=box.url)


@pytest.fixture
def embeddings(box: Sandbox) -> PredictionGuardEmbeddings:
    return PredictionGuardEmbeddings("bridgetower-large-itm-mlm-itc", api_key="key-of-the-tests", base_url=box.url)


@pytest.fixture
def reranker(box: Sandbox) -> PredictionGuardRerank:
    return PredictionGuardRerank("bge-reranker-v2-m3", api_key="key-of-the-tests", base_url=box.url, top_n=2)


DOCUMENTS = [Document("Pizza is baked in a stone oven."), Document("Deep learning trains networks of many layers.")]


def test_pickles_do_not_contain_the_key(
    llm: PredictionGuard,
    embeddings: PredictionGuardEmbeddings,
    reranker: PredictionGuardRerank,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key-of-the-worker")
    written = [pickle.dumps(each) for each in (llm, embeddings, reranker)]
    assert [b"key-of-the-tests" in each for each in written] == [False] * 3
    assert ["key-of-the-tests" in repr(each) for each in (llm, embeddings, reranker)] == [False] * 3
    llm_copy, embeddings_copy, reranker_copy = map(pickle.loads, written)
    assert llm_copy.invoke("Hello") == llm.invoke("Hello")
    assert embeddings_copy.embed_query("Hello") == embeddings.embed_query("Hello")
    assert reranker_copy.compress_documents(DOCUMENTS, "pizza") == reranker.compress_documents(DOCUMENTS, "pizza")


def test_dumps_do_not_contain_the_key(
    llm: PredictionGuard, embeddings: PredictionGuardEmbeddings, reranker: PredictionGuardRerank
) -> None:
    chat = ChatPredictionGuard("Hermes-3-Llama-3.1-8B", api_key="key-of-the-tests")
    for model in (chat, llm, embeddings, reranker):
        assert "api_key" not in model.model_dump()
        assert "api_key" not in repr(model)
        assert "api_key" not in model.model_dump_json(exclude={"metadata"})


class TestCodeForTheRetiredPackage:
    """What was written for `langchain-predictionguard` 0.3 runs as it stands."""

    def test_completions(self, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        llm = PredictionGuard(
            model="Hermes-3-Llama-3.1-8B",
            predictionguard_api_key="key",
            max_tokens=256,
            logit_bias={128000: 10},
            presence_penalty=0.1,
            frequency_penalty=0.1,
            predictionguard_input={"pii": "replace", "pii_replace_method": "mask"},
            predictionguard_output={"toxicity": True},
        )
        assert llm.invoke("Vienna is")
        assert box.requests[-1]["logit_bias"] == {"128000": 10}

    def test_embeddings(self, embeddings: PredictionGuardEmbeddings) -> None:
        photo = PHOTOS / "cat.jpg"
        assert embeddings.embed_image([photo]) == embeddings.embed_images([photo])
        assert len(embeddings.embed_image_text([{"text": "a cat", "image": photo}, {"text": "a cat"}])) == 2
        with pytest.raises(ConfigurationError, match="sound"):
            embeddings.embed_image_text([{"sound": "meow"}])

    def test_rerank(self, reranker: PredictionGuardRerank) -> None:
        ranked = reranker.rerank("learning", ["Pizza.", Document("Deep learning.")])
        assert [each["index"] for each in ranked] == [1, 0]
        assert ranked[0]["relevance_score"] > ranked[1]["relevance_score"]
        assert [each["index"] for each in reranker.rerank("learning", [{"topic": "pizza"}, {"topic": "learning"}])] == [
            1,
            0,
        ]
