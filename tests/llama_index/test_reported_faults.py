"""Faults that users of other integrations reported: each has its right answer here."""

from __future__ import annotations

import base64
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import ImageDocument, ImageNode, NodeWithScore, TextNode
from PIL import Image as PILImage
from pydantic import BaseModel

import llama_index_predictionguard as adapter
from llama_index_predictionguard import PredictionGuard, PredictionGuardEmbedding, PredictionGuardRerank
from predictionguard_core.sandbox import Sandbox
from tests.llama_index.conftest import KEY, VISION

Make = Callable[..., PredictionGuard]
HELLO = [ChatMessage(role="user", content="hello there")]


class Kind(BaseModel):
    """A kind of animal."""

    name: str


class Limiter:
    """A rate limiter that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def acquire(self) -> None:
        self.count += 1

    async def async_acquire(self) -> None:
        self.count += 1


def service(*events: dict[str, Any]) -> httpx.MockTransport:
    """A service that streams these events, or answers with the first if it is not asked for a stream."""

    def answer(request: httpx.Request) -> httpx.Response:
        if not json.loads(request.content).get("stream"):
            return httpx.Response(200, json=events[0])
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return httpx.Response(200, text=body + "data: [DONE]\n\n", headers={"content-type": "text/event-stream"})

    return httpx.MockTransport(answer)


# Answers


def test_a_refusal_becomes_the_text(make: Make) -> None:
    reply = {"choices": [{"message": {"content": None, "refusal": "I can't help."}, "finish_reason": "stop"}]}
    assert make(http_client=httpx.Client(transport=service(reply))).chat(HELLO).message.content == "I can't help."
    deltas = [{"delta": {"refusal": part}} for part in ("I can't", " help.")]
    events = [{"id": "1", "choices": [{"index": 0, **each}]} for each in [*deltas, {"finish_reason": "stop"}]]
    chunks = list(make(http_client=httpx.Client(transport=service(*events))).stream_chat(HELLO))
    assert "".join(chunk.delta or "" for chunk in chunks) == chunks[-1].message.content == "I can't help."


def test_a_refusal_of_structured_output_is_named(make: Make) -> None:
    reply = {"choices": [{"message": {"content": None, "refusal": "I can't help."}, "finish_reason": "stop"}]}
    llm = make(http_client=httpx.Client(transport=service(reply))).as_structured_llm(Kind)
    with pytest.raises(adapter.InvalidResponseError, match="is a refusal"):
        llm.chat(HELLO)


def test_only_the_first_of_several_answers_is_read(make: Make) -> None:
    words = [(0, "one "), (1, "uno "), (0, "two"), (1, "dos")]
    events = [{"id": "1", "choices": [{"index": index, "delta": {"content": word}}]} for index, word in words]
    events += [{"id": "1", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (1, 0)]
    chunks = list(make(http_client=httpx.Client(transport=service(*events))).stream_chat(HELLO))
    assert chunks[-1].message.content == "one two"
    assert chunks[-1].additional_kwargs["finish_reason"] == "stop"


@pytest.mark.parametrize("call", ["chat", "stream_chat"])
def test_one_answer_may_be_asked_for_by_number(call: str, llm: PredictionGuard, box: Sandbox) -> None:
    for n in (1, None):
        response = getattr(llm, call)(HELLO, n=n)
        assert (response if call == "chat" else list(response)[-1]).message.content
        assert "n" not in box.requests[-1]
    with pytest.raises(adapter.ConfigurationError, match="n must be 1"):
        getattr(llm, call)(HELLO, n=2)


# Messages


def test_an_empty_message_list_is_refused(llm: PredictionGuard, box: Sandbox) -> None:
    with pytest.raises(adapter.ContentError, match="messages is empty"):
        llm.chat([])
    assert box.requests == []


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_an_image_outside_of_user_messages_and_tool_results_is_refused_with_its_location(
    role: str, llm: PredictionGuard, box: Sandbox, cat: bytes
) -> None:
    message = ChatMessage(role=role, blocks=[TextBlock(text="See"), ImageBlock(image=cat)])
    with pytest.raises(adapter.UnsupportedContentError, match="user message") as caught:
        llm.chat([ChatMessage(role="system", content="Be brief."), message, *HELLO])
    assert (caught.value.message_index, caught.value.block_index) == (1, 1)
    assert box.requests == []


def test_a_message_between_parallel_tool_results_follows_them(llm: PredictionGuard, box: Sandbox, cat: bytes) -> None:
    calls = [ToolCallBlock(tool_call_id=name, tool_name="look", tool_kwargs={}) for name in "ab"]
    results = [ChatMessage(role="tool", content=f"{n}!", additional_kwargs={"tool_call_id": n}) for n in "ab"]
    image = ChatMessage(role="user", blocks=[TextBlock(text="The image of a:"), ImageBlock(image=cat)])
    history = [
        *HELLO,
        ChatMessage(role="assistant", blocks=calls),
        results[0],
        image,
        results[1],
        ChatMessage(role="assistant", content="I see."),
        ChatMessage(role="user", content="Thanks"),
    ]
    llm.chat(history)
    sent = box.requests[-1]["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]
    assert [each["tool_call_id"] for each in sent[2:4]] == ["a", "b"]


@pytest.mark.parametrize("form", ["base64", "base64 with line breaks", "data URI", "data URI in bytes"])
@pytest.mark.parametrize("kind", [ImageBlock, ImageDocument])
def test_base64_and_data_uris_given_as_the_image(kind: Any, form: str, box: Sandbox, make: Make, cat: bytes) -> None:
    encoded = base64.b64encode(cat).decode()
    uri = f"data:image/jpeg;base64,{encoded}"
    image = {
        "base64": encoded,
        "base64 with line breaks": base64.encodebytes(cat).decode(),
        "data URI": uri,
        "data URI in bytes": uri.encode(),
    }[form]
    if kind is ImageBlock:
        make().chat([ChatMessage(role="user", blocks=[ImageBlock(image=image)])])
    else:
        document = ImageDocument(image=image if isinstance(image, str) else image.decode())
        adapter.PredictionGuardMultiModal(VISION, api_key=KEY, base_url=box.url).complete("?", [document])
    assert box.requests[-1]["messages"][0]["content"][-1]["image_url"]["url"] == uri


@pytest.mark.parametrize("form", ["node", "document", "block", "PIL", "bytes", "path"])
async def test_a_single_image_needs_no_list(form: str, make_multi: Any, cat: bytes, photos: Path) -> None:
    image = {
        "node": ImageNode(image=base64.b64encode(cat).decode()),
        "document": ImageDocument(image_path=photos / "cat.jpg"),
        "block": ImageBlock(image=cat),
        "PIL": PILImage.open(io.BytesIO(cat)),
        "bytes": cat,
        "path": photos / "cat.jpg",
    }[form]
    llm = make_multi()
    for images in (image, [image], (image,)):
        assert "451 x 300" in llm.complete("What is this?", images).text
    assert "451 x 300" in (await llm.acomplete("What is this?", image_documents=image)).text


# What the framework asks


def test_the_multimodal_llm_is_not_warned_about(
    make_multi: Any, box: Sandbox, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from llama_index.core.indices import MultiModalVectorStoreIndex

    options: Any = {"api_key": KEY, "base_url": box.url}
    embedding = PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", **options)
    nodes = [ImageNode(image_path=str(photos / "cat.jpg")), TextNode(text="A cat")]
    index = MultiModalVectorStoreIndex(nodes, embed_model=embedding, image_embed_model=embedding)
    with caplog.at_level(logging.WARNING):
        index.as_query_engine(llm=make_multi())
    assert "multi-modal" not in caplog.text


def test_published_context_windows(make: Make) -> None:
    windows = {
        "gemma-3-27b-it": 32_000,
        "gpt-oss-120b": 64_000,
        "Qwen2.5-Coder-14B-Instruct": 20_480,
        "Hermes-3-Llama-3.1-8B": 32_768,
        "neural-chat-7b-v3-3": 32_768,
        "Qwen2.5-VL-7B-Instruct": 16_384,
    }
    assert {model: make(model).metadata.context_window for model in windows} == windows


def test_the_profile_of_a_renamed_model_comes_from_the_service(make: Make) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        capabilities = {"chat-completion": True, "tool_calling": False}
        model = {"id": "our-vision", "max_context_length": 9000, "capabilities": capabilities}
        return httpx.Response(200, json={"data": [model, {"id": "another"}]})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    llm = make("our-vision", profile_from_service=True, http_client=client)
    assert asked == []
    for _ in range(2):
        assert (llm.metadata.context_window, llm.metadata.is_function_calling_model) == (9000, False)
    assert asked == ["/models"]
    custom = make("our-vision", profile_from_service=True, context_window=5, is_function_calling_model=True)
    custom.http_client = client
    assert (custom.metadata.context_window, custom.metadata.is_function_calling_model) == (5, True)
    assert make("our-vision").metadata.context_window == 3900


# The rate limiter


@pytest.mark.skipif("rate_limiter" not in PredictionGuard.model_fields, reason="this LlamaIndex has no rate limiter")
async def test_the_rate_limiter_is_asked_for_every_request(
    make: Make, make_multi: Any, box: Sandbox, cat: bytes
) -> None:
    limiter = Limiter()
    options: Any = {"api_key": KEY, "base_url": box.url, "rate_limiter": limiter}
    node = NodeWithScore(node=TextNode(text="a cat"))
    embedding = PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", embed_batch_size=100, **options)
    rerank = PredictionGuardRerank("bge-reranker-v2-m3", **options)
    llm, multi = make(rate_limiter=limiter), make_multi(rate_limiter=limiter)
    texts, images = [f"text {number}" for number in range(70)], [cat] * 20
    for ask in (
        lambda: llm.chat(HELLO),
        lambda: list(llm.stream_complete("hello")),
        lambda: multi.complete("What is this?", ImageBlock(image=cat)),
        lambda: embedding.get_text_embedding_batch(texts),
        lambda: embedding.get_image_embedding(cat),
        lambda: embedding.get_image_embedding_batch(images),
        lambda: rerank.postprocess_nodes([node], query_str="cat"),
    ):
        ask()
        assert limiter.count == len(box.requests)
    await llm.achat(HELLO)
    await embedding.aget_text_embedding_batch(texts)
    await embedding.aget_image_embedding(cat)
    await embedding.aget_image_embedding_batch(images)
    await rerank.apostprocess_nodes([node], query_str="cat")
    assert limiter.count == len(box.requests)


# Images without metadata


def images_without_metadata(photos: Path) -> list[ImageNode]:
    return [ImageNode(image_path=str(photos / name)) for name in ("cat.jpg", "coffee.jpg")]


async def test_the_reranker_keeps_images_that_it_cannot_rank(box: Sandbox, photos: Path) -> None:
    rerank = PredictionGuardRerank("bge-reranker-v2-m3", api_key=KEY, base_url=box.url, top_n=1)
    images = [NodeWithScore(node=node, score=0.7) for node in images_without_metadata(photos)]
    texts = [NodeWithScore(node=TextNode(text=text)) for text in ("Cats sleep.", "Espresso is brewed hot.")]
    nodes = [images[0], *texts, images[1]]
    with pytest.warns(UserWarning, match="2 of 4 nodes have neither text nor metadata"):
        kept = rerank.postprocess_nodes(nodes, query_str="How is espresso brewed?")
    assert [each.node for each in kept] == [texts[1].node, images[0].node, images[1].node]
    assert [each.score for each in kept[1:]] == [0.7, 0.7]
    with pytest.warns(UserWarning, match="neither text nor metadata"):
        assert await rerank.apostprocess_nodes(nodes, query_str="How is espresso brewed?") == kept
    count = len(box.requests)
    with pytest.warns(UserWarning, match="neither text nor metadata"):
        assert rerank.postprocess_nodes(images, query_str="espresso") == images
    assert len(box.requests) == count


def test_images_that_a_pipelines_cache_cannot_tell_apart_cause_a_warning(box: Sandbox, photos: Path) -> None:
    embedding = PredictionGuardEmbedding("bridgetower-large-itm-mlm-itc", api_key=KEY, base_url=box.url)
    cat, coffee = images_without_metadata(photos)
    with pytest.warns(UserWarning, match="disable_cache=True"):
        IngestionPipeline(transformations=[embedding]).run(nodes=[cat])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cat.metadata, coffee.metadata = {"file_name": "cat.jpg"}, {"file_name": "coffee.jpg"}
        pipeline = IngestionPipeline(transformations=[embedding])
        vectors = [pipeline.run(nodes=[node])[0].embedding for node in (cat, coffee)]
    assert vectors[0] != vectors[1]
