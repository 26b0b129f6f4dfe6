"""Many images: LlamaIndex's ingestion pipeline in spawned and forked processes, and `run_jobs`."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.async_utils import run_jobs
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import BaseNode, ImageDocument, TransformComponent

from llama_index_predictionguard import AuthenticationError, PredictionGuard, PredictionGuardEmbedding
from predictionguard_core.sandbox import Sandbox

KEY = "sk-not-to-be-seen"
EMBEDDING = "bridgetower-large-itm-mlm-itc"
NAMES = ["astronaut.jpg", "cat.jpg", "coffee.jpg", "galaxies.jpg", "photographer.jpg", "receipt.jpg"]


class Captions(TransformComponent):
    """Add a caption to the metadata of each image node."""

    llm: PredictionGuard
    workers: int = 4

    def question(self, node: Any) -> list[ChatMessage]:
        blocks = [TextBlock(text="Describe this image."), ImageBlock(path=node.image_path)]
        return [ChatMessage(role="user", blocks=blocks)]

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        return asyncio.run(self.acall(nodes, **kwargs))

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        answers = await run_jobs([self.llm.achat(self.question(node)) for node in nodes], workers=self.workers)
        for node, answer in zip(nodes, answers, strict=True):
            node.metadata["caption"] = answer.message.content
        return nodes


@pytest.fixture
def pipeline(make: Callable[..., PredictionGuard], box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> IngestionPipeline:
    monkeypatch.setenv(
        "PREDICTIONGUARD_API_KEY", KEY
    )  # pickles contain no key, so workers read it from the environment
    embedding = PredictionGuardEmbedding(EMBEDDING, api_key=KEY, base_url=box.url, max_retries=0)
    return IngestionPipeline(transformations=[Captions(llm=make()), embedding])


@pytest.fixture
def documents(photos: Path) -> list[ImageDocument]:
    return [ImageDocument(image_path=str(photos / name), metadata={"name": name}) for name in NAMES]


def bounded(work: Callable[[], Any]) -> Any:
    """Run a function in a thread and return its result; a pool with dead workers would wait without end."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(timeout=120)


def check(nodes: Sequence[BaseNode], photos: Path, box: Sandbox) -> None:
    embedding = PredictionGuardEmbedding(EMBEDDING, api_key=KEY, base_url=box.url)
    assert [node.metadata["name"] for node in nodes] == NAMES
    captions = {node.metadata["name"]: node.metadata["caption"] for node in nodes}
    assert "600 x 400" in captions["coffee.jpg"]
    assert "512 x 512" in captions["astronaut.jpg"]
    assert nodes[1].embedding == embedding.get_image_embedding(str(photos / "cat.jpg"))
    assert len({tuple(node.embedding or ()) for node in nodes}) == len(NAMES)


def test_captions_and_vectors_in_spawned_processes(
    pipeline: IngestionPipeline, documents: list[ImageDocument], photos: Path, box: Sandbox
) -> None:
    assert KEY.encode() not in pickle.dumps(pipeline.transformations)
    check(bounded(lambda: pipeline.run(documents=documents, num_workers=2)), photos, box)
    assert sum("messages" in request for request in box.requests) == len(NAMES)
    assert sum("input" in request for request in box.requests) == 2 + 1  # one request per worker, and one of check()


async def test_captions_and_vectors_in_forked_processes_while_an_event_loop_runs(
    pipeline: IngestionPipeline, documents: list[ImageDocument], photos: Path, box: Sandbox
) -> None:
    captions, embedding = pipeline.transformations
    await captions.llm.achat(captions.question(documents[0]))  # opens connections that belong to this process
    await embedding.aget_image_embedding(documents[0].image_path)
    async with asyncio.timeout(120):
        check(await pipeline.arun(documents=documents, num_workers=2), photos, box)
    assert (await embedding.aget_image_embedding(documents[0].image_path))[:1]


def test_an_error_in_a_worker_is_raised_in_the_parent(
    pipeline: IngestionPipeline, documents: list[ImageDocument], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "sk-of-another-account")
    with pytest.raises(AuthenticationError, match="PREDICTIONGUARD_API_KEY") as caught:
        bounded(lambda: pipeline.run(documents=documents, num_workers=2))
    assert caught.value.status_code in (401, 403)
    assert "sk-of-another-account" not in str(caught.value)
