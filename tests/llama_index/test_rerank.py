"""The reranker: what is ranked, what is kept, and which events are reported."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuardRerank
from predictionguard_core.sandbox import Sandbox

MODEL = "bge-reranker-v2-m3"
KEY = "sk-not-to-be-seen"
QUERY = "How is espresso brewed?"
TEXTS = ["Cats sleep a lot.", "Espresso is brewed with hot water under pressure.", "Espresso comes in small cups."]

Make = Callable[..., PredictionGuardRerank]


@pytest.fixture
def make(box: Sandbox) -> Make:
    def make(model: str = MODEL, **options: Any) -> PredictionGuardRerank:
        return PredictionGuardRerank(model, **{"api_key": KEY, "base_url": box.url, "max_retries": 0, **options})

    return make


def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, id_=str(number), metadata={"page": number}), score=0.5)
        for number, text in enumerate(TEXTS)
    ]


async def test_nodes_are_sorted_by_score(make: Make, box: Sandbox) -> None:
    rerank, originals = make(), nodes()
    kept = rerank.postprocess_nodes(originals, query_str=QUERY)
    assert [node.node_id for node in kept] == ["1", "2", "0"]
    scores = [node.score or 0.0 for node in kept]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1] > scores[2] >= 0
    assert [node.metadata for node in kept] == [{"page": 1}, {"page": 2}, {"page": 0}]
    assert [node.score for node in originals] == [0.5] * 3
    assert box.requests[-1] == {
        "model": MODEL,
        "query": QUERY,
        "documents": [f"page: {number}\n\n{text}" for number, text in enumerate(TEXTS)],
        "return_documents": False,
    }
    assert await rerank.apostprocess_nodes(originals, query_bundle=QueryBundle(QUERY)) == kept
    assert rerank.postprocess_nodes(originals, QUERY) == kept  # type: ignore[arg-type]


@pytest.mark.parametrize(("top_n", "count"), [(None, 3), (1, 1), (2, 2), (9, 3)])
async def test_top_n(top_n: int | None, count: int, make: Make) -> None:
    rerank = make(top_n=top_n)
    assert len(rerank.postprocess_nodes(nodes(), query_str=QUERY)) == count
    assert len(await rerank.apostprocess_nodes(nodes(), query_str=QUERY)) == count


async def test_no_nodes_and_no_query(make: Make, box: Sandbox) -> None:
    rerank = make()
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    assert await rerank.apostprocess_nodes([], query_str=QUERY) == []
    for query in (None, "", " "):
        with pytest.raises(adapter.ConfigurationError, match="query_str"):
            rerank.postprocess_nodes(nodes(), query_str=query)
    with pytest.raises(adapter.ConfigurationError, match="query_str"):
        await rerank.apostprocess_nodes(nodes())
    assert box.requests == []


def test_an_image_is_ranked_by_its_metadata(make: Make, photos: Path) -> None:
    image = ImageNode(image_path=str(photos / "coffee.jpg"), metadata={"caption": "espresso, freshly brewed"})
    kept = make().postprocess_nodes([*nodes()[:1], NodeWithScore(node=image)], query_str=QUERY)
    assert kept[0].node is image


async def test_events_and_callbacks_report_a_reranking(make: Make, box: Sandbox, observer: Any) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = make(top_n=2, callback_manager=CallbackManager([debug]))
    kept = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
    starts, ends = observer.named("ReRankStartEvent"), observer.named("ReRankEndEvent")
    assert [(each.model_name, each.top_n, each.query, len(each.nodes)) for each in starts] == [(MODEL, 2, QUERY, 3)] * 2
    assert [each.nodes for each in ends] == [kept] * 2
    pairs = debug.get_event_pairs(CBEventType.RERANKING)
    assert [pair[0].payload[EventPayload.TOP_K] for pair in pairs] == [2, 2]
    assert [pair[1].payload[EventPayload.NODES] for pair in pairs] == [kept] * 2
    with pytest.raises(adapter.PermissionDeniedError):
        make(api_key="wrong", callback_manager=rerank.callback_manager).postprocess_nodes(nodes(), query_str=QUERY)
    assert len(observer.named("ReRankEndEvent")) == 2


def test_copies_work_and_contain_no_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rerank = make(top_n=2)
    kept = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    shown = [repr(rerank), rerank.to_json(), repr(rerank.to_dict()), pickle.dumps(rerank).decode("latin-1")]
    assert [text for text in shown if KEY in text] == []
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", KEY)
    for restored in (PredictionGuardRerank.from_dict(rerank.to_dict()), pickle.loads(pickle.dumps(rerank))):
        assert restored.to_dict() == rerank.to_dict()
        assert restored.postprocess_nodes(nodes(), query_str=QUERY) == kept


def test_the_constructor_refuses_invalid_options() -> None:
    invalid: list[dict[str, Any]] = [{"top_n": 0}, {"top_n": "x"}, {"model": ""}, {"typo": 1}, {"api_key": ""}]
    for options in invalid:
        with pytest.raises(adapter.ConfigurationError):  # noqa: PT012 - says which one
            PredictionGuardRerank(**{"model": "m", "api_key": "k", **options})
            pytest.fail(f"{options} was accepted")
