"""Retrieval over photographs and texts, from a folder to an answer."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import (
    Settings,
    SimpleDirectoryReader,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import ImageDocument, ImageNode, NodeWithScore

from llama_index_predictionguard import (
    PredictionGuard,
    PredictionGuardEmbedding,
    PredictionGuardMultiModal,
    PredictionGuardRerank,
)
from predictionguard_core.sandbox import Sandbox

KEY = "sk-not-to-be-seen"
VISION = "Qwen2.5-VL-7B-Instruct"
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PHOTOS = ["astronaut.jpg", "cat.jpg", "coffee.jpg", "galaxies.jpg", "receipt.jpg"]
TEXTS = ["collins.txt", "deep_field.txt", "espresso.txt", "tabby.txt"]

# The sandbox sees size, light and colours.
WORDS = {
    "a dark image, black nearly all over": "galaxies.jpg",
    "a landscape image of medium brightness in brown, dark red and tan": "coffee.jpg",
    "a light portrait image in light grey, brown and white": "receipt.jpg",
    "a square image of 512 x 512 pixels": "astronaut.jpg",
}
QUESTION = "Which landscape image of medium brightness is brown, dark red and tan?"

needs_multimodal = pytest.mark.skipif(
    "multimodal" not in inspect.signature(RetrieverQueryEngine.from_args).parameters,
    reason="this llama-index-core passes no images to a synthesizer yet",
)
needs_multimodal_citations = pytest.mark.skipif(
    "multimodal" not in inspect.signature(CitationQueryEngine.from_args).parameters,
    reason="this llama-index-core cites no images yet",
)


class PhotoReader(BaseReader):
    """Image reader; LlamaIndex's own is in another distribution."""

    def load_data(self, file: Any, extra_info: dict[str, Any] | None = None) -> list[Any]:
        return [ImageDocument(image_path=str(file), metadata=extra_info or {})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of photographs and texts."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in PHOTOS:
        shutil.copy(NOTEBOOKS / "photos" / name, folder)
    for name in TEXTS:
        shutil.copy(NOTEBOOKS / "library" / name, folder)
    return folder


@pytest.fixture
def documents(folder: Path) -> list[Any]:
    return list(SimpleDirectoryReader(folder, file_extractor={".jpg": PhotoReader()}).load_data())


@pytest.fixture
def embedding(box: Sandbox) -> PredictionGuardEmbedding:
    return PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", api_key=KEY, base_url=box.url, max_retries=0)


@pytest.fixture
def index(documents: list[Any], embedding: PredictionGuardEmbedding) -> MultiModalVectorStoreIndex:
    return MultiModalVectorStoreIndex.from_documents(documents, embed_model=embedding, image_embed_model=embedding)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Clear the global models, so that no default model is loaded."""
    Settings._llm = Settings._embed_model = None
    yield
    Settings._llm = Settings._embed_model = None


def names(nodes: list[NodeWithScore]) -> list[str]:
    return [node.metadata["file_name"] for node in nodes]


def image_names(nodes: list[NodeWithScore]) -> list[str]:
    return names([node for node in nodes if isinstance(node.node, ImageNode)])


def sent_image_count(box: Sandbox) -> int:
    content = box.requests[-1]["messages"][-1]["content"]
    return sum(part["type"] == "image_url" for part in content) if isinstance(content, list) else 0


def test_a_folder_of_photos_and_texts_is_read(documents: list[Any]) -> None:
    assert sorted(document.metadata["file_name"] for document in documents) == sorted(PHOTOS + TEXTS)
    assert sum(isinstance(document, ImageDocument) for document in documents) == len(PHOTOS)


def test_each_document_is_embedded_once(index: MultiModalVectorStoreIndex, box: Sandbox) -> None:
    sizes = [len(body["input"]) for body in box.requests]
    assert sorted(sizes) == [len(TEXTS), len(PHOTOS)]
    kinds = [{type(each).__name__ for each in body["input"]} for body in box.requests]
    assert sorted(kinds, key=str) == [{"dict"}, {"str"}]


async def test_a_description_retrieves_its_image(index: MultiModalVectorStoreIndex) -> None:
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=2)
    for words, expected in WORDS.items():
        found = retriever.retrieve(words)
        assert image_names(found)[0] == expected, words
        best, second = (node.score or 0.0 for node in found if isinstance(node.node, ImageNode))
        assert best > second, words
        assert image_names(await retriever.aretrieve(words))[0] == expected, words


def test_a_question_retrieves_its_text(index: MultiModalVectorStoreIndex) -> None:
    retriever = index.as_retriever(similarity_top_k=1)
    assert names(retriever.text_retrieve("How many galaxies does the Hubble image show?")) == ["deep_field.txt"]
    assert names(retriever.text_retrieve("At what pressure is espresso brewed?")) == ["espresso.txt"]


async def test_an_image_retrieves_itself(index: MultiModalVectorStoreIndex, tmp_path: Path) -> None:
    retriever = index.as_retriever(image_similarity_top_k=2)
    for name in PHOTOS:
        copy = tmp_path / "photo"  # the same bytes without a telling name
        shutil.copy(NOTEBOOKS / "photos" / name, copy)
        found = retriever.image_to_image_retrieve(str(copy))
        assert names(found)[0] == name
        assert (found[0].score or 0) > 0.99 > (found[1].score or 0), name
        assert names(await retriever.aimage_to_image_retrieve(str(copy))) == names(found)


@needs_multimodal
async def test_the_answer_describes_the_retrieved_image(
    index: MultiModalVectorStoreIndex, llm: PredictionGuard, box: Sandbox
) -> None:
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True)
    response = engine.query(QUESTION)
    assert image_names(response.source_nodes) == ["coffee.jpg"]
    assert "600 x 400" in str(response)
    assert "451 x 300" not in str(response)
    assert sent_image_count(box) == 1
    assert str(await engine.aquery(QUESTION)) == str(response)


@needs_multimodal
def test_the_answer_streams_as_one_chunk(index: MultiModalVectorStoreIndex, llm: PredictionGuard) -> None:
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True, streaming=True)
    (chunk,) = [chunk for chunk in engine.query(QUESTION).response_gen if chunk]
    assert "600 x 400" in chunk


@needs_multimodal_citations
async def test_citations_of_images(index: MultiModalVectorStoreIndex, llm: PredictionGuard, box: Sandbox) -> None:
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=2)
    engine = CitationQueryEngine.from_args(index, llm=llm, retriever=retriever, multimodal=True)
    response = engine.query(QUESTION)
    sources = [node.node.get_content().partition("\n")[0] for node in response.source_nodes]
    assert sources == ["Source 1:", "Source 2:", "Source 3:"]
    assert names(response.source_nodes)[1] == "coffee.jpg"
    assert "600 x 400" in str(response)
    assert sent_image_count(box) == 2
    assert str(await engine.aquery(QUESTION)) == str(response)


def test_citations_of_texts(index: MultiModalVectorStoreIndex, llm: PredictionGuard, box: Sandbox) -> None:
    retriever = index.as_retriever(similarity_top_k=2, image_similarity_top_k=0)
    engine = CitationQueryEngine.from_args(index, llm=llm, retriever=retriever, citation_chunk_size=256)
    response = engine.query("At what pressure is espresso brewed?")
    assert names(response.source_nodes)[0] == "espresso.txt"
    assert response.source_nodes[0].node.get_content().startswith("Source 1:\nEspresso")
    assert "nine bar" in str(box.requests[-1]["messages"])


async def test_the_multimodal_query_engine(index: MultiModalVectorStoreIndex, make_multi: Any, box: Sandbox) -> None:
    llm: PredictionGuardMultiModal = make_multi()
    engine = index.as_query_engine(llm=llm, similarity_top_k=1, image_similarity_top_k=1)
    response = engine.query(QUESTION)
    assert image_names(response.source_nodes) == ["coffee.jpg"]
    assert "600 x 400" in str(response)
    assert str(await engine.aquery(QUESTION)) == str(response)
    similar = engine.image_query(str(NOTEBOOKS / "photos" / "cat.jpg"), "What is this?")
    assert image_names(similar.source_nodes) == ["cat.jpg"]
    assert "451 x 300" in str(similar)


def test_a_reranker_selects_the_nodes_of_the_answer(
    index: MultiModalVectorStoreIndex, llm: PredictionGuard, box: Sandbox
) -> None:
    rerank = PredictionGuardRerank("bge-reranker-v2-m3", top_n=1, api_key=KEY, base_url=box.url)
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=4, image_similarity_top_k=1), llm=llm, node_postprocessors=[rerank]
    )
    response = engine.query("What mark does a tabby have on its forehead?")
    assert names(response.source_nodes) == ["tabby.txt"]
    assert "letter M" in str(box.requests[-1]["messages"])


def test_an_index_is_stored_and_loaded(
    index: MultiModalVectorStoreIndex, embedding: PredictionGuardEmbedding, tmp_path: Path, box: Sandbox
) -> None:
    store = tmp_path / "store"
    index.storage_context.persist(str(store))
    assert [path for path in store.rglob("*") if path.is_file() and KEY in path.read_text()] == []
    box.clear()
    context = StorageContext.from_defaults(persist_dir=str(store))
    loaded: Any = load_index_from_storage(context, embed_model=embedding, image_embed_model=embedding)
    assert isinstance(loaded, MultiModalVectorStoreIndex)
    assert box.requests == []
    for words, expected in WORDS.items():
        assert image_names(loaded.as_retriever(image_similarity_top_k=1).retrieve(words)) == [expected]


def test_a_pipeline_is_stored_and_loaded(
    documents: list[Any], embedding: PredictionGuardEmbedding, tmp_path: Path, box: Sandbox
) -> None:
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding])
    nodes = pipeline.run(documents=documents)
    assert sorted(node.metadata["file_name"] for node in nodes) == sorted(PHOTOS + TEXTS)
    vectors = {node.metadata["file_name"]: node.embedding for node in nodes}
    assert vectors["cat.jpg"] == embedding.get_image_embedding(str(NOTEBOOKS / "photos" / "cat.jpg"))

    index = VectorStoreIndex(nodes, embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=1)
    for words, expected in WORDS.items():
        assert names(retriever.retrieve(words)) == [expected]

    pipeline.persist(str(tmp_path / "pipeline"))
    files = [path for path in (tmp_path / "pipeline").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY in path.read_text()] == []
    loaded = IngestionPipeline(transformations=[SentenceSplitter(), embedding])
    loaded.load(str(tmp_path / "pipeline"))
    box.clear()
    again = loaded.run(documents=documents)
    assert box.requests == []
    assert {node.metadata["file_name"]: node.embedding for node in again} == vectors
