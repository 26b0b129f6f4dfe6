"""Embeddings of texts and images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from langchain_predictionguard import (
    ContentError,
    ImageBlockedError,
    PredictionGuardEmbeddings,
)
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"


@pytest.fixture
def embeddings(box: Sandbox) -> PredictionGuardEmbeddings:
    return PredictionGuardEmbeddings("bridgetower-large-itm-mlm-itc", api_key="key-of-the-tests", base_url=box.url)


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


class TestEmbeddings:
    def test_images_are_similar_to_their_descriptions(self, embeddings: PredictionGuardEmbeddings) -> None:
        coffee, space = embeddings.embed_images([PHOTOS / "coffee.jpg", PHOTOS / "galaxies.jpg"])
        dark, warm = embeddings.embed_documents(["a dark black image", "a brown and dark red image"])
        assert similarity(space, dark) > similarity(coffee, dark)
        assert similarity(coffee, warm) > similarity(space, warm)

    async def test_a_subclass_may_override_embed_documents_with_langchains_own_signature(self, box: Sandbox) -> None:
        class Titled(PredictionGuardEmbeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:  # type: ignore[override]
                return super().embed_documents([f"title: {text}" for text in texts])

            async def aembed_documents(self, texts: list[str]) -> list[list[float]]:  # type: ignore[override]
                return await super().aembed_documents([f"title: {text}" for text in texts])

        embeddings = Titled("bge-m3", api_key="key-of-the-tests", base_url=box.url)
        assert embeddings.embed_query("a cat") == await embeddings.aembed_query("a cat")
        assert [request["input"] for request in box.requests] == [["title: a cat"]] * 2

    def test_batches_keep_the_order(self, embeddings: PredictionGuardEmbeddings, box: Sandbox) -> None:
        texts = [f"text number {index}" for index in range(70)]
        vectors = embeddings.embed_documents(texts)
        assert sorted(len(sent["input"]) for sent in box.requests) == [10, 30, 30]  # sent side by side
        assert vectors == [embeddings.embed_query(text) for text in texts]

    def test_empty_list(self, embeddings: PredictionGuardEmbeddings, box: Sandbox) -> None:
        assert embeddings.embed_documents([]) == []
        assert box.requests == []

    async def test_async(self, embeddings: PredictionGuardEmbeddings) -> None:
        photo = PHOTOS / "cat.jpg"
        assert await embeddings.aembed_query("cat") == embeddings.embed_query("cat")
        assert await embeddings.aembed_documents(["cat"]) == embeddings.embed_documents(["cat"])
        assert await embeddings.aembed_images([photo]) == embeddings.embed_images([photo])
        await embeddings.aclose()

    def test_every_source_is_the_same_image(self, embeddings: PredictionGuardEmbeddings) -> None:
        photo = PHOTOS / "cat.jpg"
        with photo.open("rb") as file:
            vectors = embeddings.embed_images([photo, photo.read_bytes(), file])
        assert vectors[0] == vectors[1] == vectors[2]

    async def test_a_block_of_a_message_is_a_source_too(self, embeddings: PredictionGuardEmbeddings) -> None:
        photo = PHOTOS / "cat.jpg"
        text = base64.b64encode(photo.read_bytes()).decode()
        blocks: list[dict[str, Any]] = [
            {"type": "image", "base64": text},
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{text}"}},
            {"type": "image", "source_type": "base64", "data": text, "mime_type": "image/jpeg"},
            {"type": "image", "url": photo},
        ]
        wanted = embeddings.embed_images([photo])
        assert embeddings.embed_images(blocks) == wanted * 4
        assert await embeddings.aembed_images(blocks) == wanted * 4
        assert embeddings.embed_image_text([{"image": blocks[0]}]) == wanted
        await embeddings.aclose()

    @pytest.mark.parametrize("block", [{"type": "text", "text": "a cat"}, {"type": "image"}, {}, {"type": "hologram"}])
    def test_error_has_the_index_of_a_block_without_an_image(
        self, embeddings: PredictionGuardEmbeddings, block: dict[str, Any]
    ) -> None:
        with pytest.raises(ContentError) as caught:
            embeddings.embed_images([PHOTOS / "cat.jpg", block])
        assert caught.value.block_index == 1

    def test_error_has_the_index_of_a_bad_image(self, embeddings: PredictionGuardEmbeddings) -> None:
        images: list[Any] = [PHOTOS / "cat.jpg"] * 40 + ["file:///etc/passwd"]
        with pytest.raises(ImageBlockedError) as caught:
            embeddings.embed_images(images)
        assert caught.value.block_index == 40
