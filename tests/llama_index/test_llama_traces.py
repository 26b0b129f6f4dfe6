"""What events, spans and callbacks show of pictures; and streams that are left half-way."""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import hashlib
import io
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, NodeWithScore, TextNode

import llama_index_predictionguard as wing
from llama_index_predictionguard import PredictionGuard, PredictionGuardEmbedding, PredictionGuardRerank, sight, traces
from predictionguard_core.sandbox import Sandbox
from tests.core.pictures import png
from tests.llama_index.conftest import PHOTOS

KEY = "sk-not-to-be-seen"
ASK = "What is this?"


@pytest.fixture
def told(watch: Any) -> Callable[[], str]:
    """Everything that is told of a test's calls, in every form it can be written down."""
    debug = LlamaDebugHandler(print_trace_on_end=False)

    def told() -> str:
        payloads = [event.payload for pair in debug.get_event_pairs() for event in pair]
        arguments = [call.arguments for _, call in watch.calls]
        shown = [event.model_dump_json() for event in watch.events]
        for each in (watch.events, payloads, arguments, copy.deepcopy(payloads)):
            shown += [repr(each), pickle.dumps(_plain(each)).decode("latin-1")]
        return "\n".join(shown)

    told.manager = CallbackManager([debug])  # type: ignore[attr-defined]
    return told


def _plain(value: Any) -> Any:
    """What there is of pydantic objects, without the parts that don't pickle."""
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items() if key != "self"}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | bytes | int | float | None) else repr(value)


def forms(cat: bytes, photos: Path) -> list[ImageBlock]:
    uri = f"data:image/jpeg;base64,{base64.b64encode(cat).decode()}"
    changed = ImageBlock(image=cat)
    changed.image = cat
    return [ImageBlock(image=cat), ImageBlock(url=uri), changed, ImageBlock(path=photos / "cat.jpg")]


def assert_no_picture(text: str, cat: bytes) -> None:
    encoded = base64.b64encode(cat).decode()
    for part in (encoded[:40], encoded[4000:4040], cat[2000:2030].decode("latin-1"), repr(cat[2000:2030])[2:-1], KEY):
        assert part not in text
    assert f"<image/jpeg 451x300 sha256:{hashlib.sha256(cat).hexdigest()[:12]}>" in text


@pytest.mark.parametrize("kind", ["PredictionGuard", "PredictionGuardMultiModal"])
@pytest.mark.parametrize("call", ["chat", "stream_chat", "achat", "astream_chat"])
async def test_a_chat_is_told_without_its_pictures(
    kind: str, call: str, told: Any, box: Sandbox, watch: Any, cat: bytes, photos: Path
) -> None:
    llm = getattr(wing, kind)("Qwen2.5-VL-7B-Instruct", api_key=KEY, base_url=box.url, callback_manager=told.manager)
    blocks = [TextBlock(text=ASK), *forms(cat, photos)]
    messages = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", blocks=blocks)]
    before = copy.deepcopy(messages)
    given = {"messages": messages} if call == "achat" else messages
    response = getattr(llm, call)(**given) if isinstance(given, dict) else getattr(llm, call)(given)
    if call.startswith("a"):
        response = await response
    if call == "astream_chat":
        assert [chunk async for chunk in response]
    elif call == "stream_chat":
        assert list(response)
    assert messages == before
    sent = [part["image_url"]["url"] for part in box.requests[-1]["messages"][1]["content"][1:]]
    assert sent == [f"data:image/jpeg;base64,{base64.b64encode(cat).decode()}"] * 4

    text = told()
    assert_no_picture(text, cat)
    assert ASK in text
    assert str(photos / "cat.jpg") in text
    start, end = watch.named("LLMChatStartEvent"), watch.named("LLMChatEndEvent")
    assert len(start) == len(end) == 1
    assert start[0].messages == end[0].messages
    assert [type(block).__name__ for block in start[0].messages[1].blocks] == ["TextBlock"] + ["ImageBlock"] * 4
    assert [name for name, _ in watch.calls] == [f"{kind}.{call}"]
    assert start[0].span_id.startswith(f"{kind}.{call}-")


@pytest.mark.parametrize("call", ["complete", "stream_complete", "acomplete", "astream_complete"])
@pytest.mark.parametrize("by_name", [True, False])
async def test_a_completion_is_told_without_its_pictures(
    call: str, by_name: bool, told: Any, box: Sandbox, cat: bytes, photos: Path, make_multi: Any
) -> None:
    llm = make_multi(callback_manager=told.manager)
    encoded = base64.b64encode(cat).decode()
    resource = MediaResource(data=cat)
    documents = [
        ImageNode(image=encoded),
        ImageNode(image_url=f"data:image/jpeg;base64,{encoded}"),
        ImageDocument(image=encoded),
        NodeWithScore(node=ImageNode(image=encoded), score=0.5),
        Node(image_resource=resource),
        ImageBlock(image=cat),
    ]
    before = copy.deepcopy(documents)
    method = getattr(llm, call)
    response = method(ASK, image_documents=documents) if by_name else method(ASK, documents)
    if call.startswith("a"):
        response = await response
    if call == "astream_complete":
        assert [chunk async for chunk in response]
    elif call == "stream_complete":
        assert list(response)
    assert documents == before
    parts = box.requests[-1]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text"] + ["image_url"] * 6
    assert_no_picture(told(), cat)


async def test_an_embedding_is_told_without_its_picture(told: Any, box: Sandbox, cat: bytes, photos: Path) -> None:
    embedding = PredictionGuardEmbedding(
        "bridgetower-large-itm-mlm-itc", api_key=KEY, base_url=box.url, callback_manager=told.manager
    )
    encoded = base64.b64encode(cat).decode()
    for given in (io.BytesIO(cat), cat, encoded, f"data:image/jpeg;base64,{encoded}", ImageNode(image=encoded)):
        assert embedding.get_image_embedding(given) == (await embedding.aget_image_embedding_batch([given]))[0]
    embedding.get_image_embedding_batch([photos / "cat.jpg"])
    text = told()
    assert_no_picture(text, cat)
    assert str(photos / "cat.jpg") in text


def test_a_reranking_is_told_without_pictures(told: Any, box: Sandbox, cat: bytes) -> None:
    rerank = PredictionGuardRerank("bge-reranker-v2-m3", api_key=KEY, base_url=box.url, callback_manager=told.manager)
    picture = ImageNode(image=base64.b64encode(cat).decode(), text="a cat")
    nodes = [NodeWithScore(node=picture), NodeWithScore(node=TextNode(text="a dog"))]
    assert rerank.postprocess_nodes(nodes, query_str="cat")[0].node is picture
    assert_no_picture(told(), cat)


def test_what_holds_no_picture_is_told_as_it_is(llm: PredictionGuard, watch: Any, photos: Path) -> None:
    messages = [
        ChatMessage(role="user", blocks=[TextBlock(text=ASK), ImageBlock(path=photos / "cat.jpg")]),
        ChatMessage(role="user", content="And this?"),
    ]
    llm.chat(messages)
    told = watch.named("LLMChatStartEvent")[0].messages
    assert [new is old for new, old in zip(told, messages, strict=True)] == [True, True]


def test_media_that_cant_be_sent_are_not_told_either(llm: PredictionGuard, watch: Any) -> None:
    from llama_index.core.llms import AudioBlock

    sound = base64.b64encode(b"RIFF" + bytes(range(256)) * 8).decode()
    with pytest.raises(wing.UnsupportedContentError):
        llm.chat([ChatMessage(role="user", blocks=[AudioBlock(audio=sound.encode(), format="wav")])])
    shown = repr(watch.events)
    assert sound[:60] not in shown
    assert "<audio>" in shown


def test_the_older_field_for_pictures_is_not_told(llm: PredictionGuard, watch: Any, cat: bytes, box: Sandbox) -> None:
    document = ImageDocument(image=base64.b64encode(cat).decode())
    llm.chat([ChatMessage(role="user", content=ASK, additional_kwargs={"images": [document]})])
    assert [part["type"] for part in box.requests[-1]["messages"][0]["content"]] == ["text", "image_url"]
    shown = "".join(repr(event) + event.model_dump_json() for event in watch.events)
    assert_no_picture(shown, cat)


def test_what_is_no_picture_has_a_mark_too(llm: PredictionGuard, watch: Any) -> None:
    broken = ImageBlock(image=b"no picture at all, only words")
    with pytest.raises(wing.ImageFormatError):
        llm.chat([ChatMessage(role="user", blocks=[broken])])
    assert watch.named("LLMChatStartEvent")[0].messages[0].blocks[0].image == b"<picture>"


def test_a_large_picture_is_told_like_any_other() -> None:
    large = png(1200, 900, padding=4_000_000)
    encoded = base64.b64encode(large).decode()
    mark = f"<image/png 1200x900 sha256:{hashlib.sha256(large).hexdigest()[:12]}>"
    broken = "\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76))
    uris = [f"data:image/png;base64,{encoded}", f" data:;base64,{encoded}"]
    for given in (large, encoded, broken, *uris, ImageBlock(image=large), ImageNode(image=encoded)):
        assert sight.mark(given) == mark


@pytest.mark.parametrize("size", [100, 4_000_000])
def test_a_mark_takes_no_decoder(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bitmap = b"BM" + bytes(16) + (40).to_bytes(4, "little") + bytes(size)
    for module in ("pixels.rework", "pages.render", "files.read"):
        monkeypatch.setattr(f"predictionguard_core.{module}", None)
    for given in (bitmap, base64.b64encode(bitmap).decode(), b"%PDF-1.7" + bytes(size), PHOTOS / "cat.jpg"):
        assert sight.mark(given) == "<picture>"


def test_a_subclass_gets_what_was_given(box: Sandbox, cat: bytes, watch: Any) -> None:
    seen: list[Any] = []

    class Mine(PredictionGuard):
        def chat(self, messages: Any, **kwargs: Any) -> Any:
            seen.append(messages)
            return super().chat(messages, **kwargs)

    messages = [ChatMessage(role="user", blocks=[ImageBlock(image=cat)])]
    llm = Mine("Qwen2.5-VL-7B-Instruct", api_key=KEY, base_url=box.url)
    assert "451 x 300" in (llm.chat(messages).message.content or "")
    assert seen[0] is messages


def test_nothing_told_keeps_a_picture_alive(llm: PredictionGuard, cat: bytes) -> None:
    messages = [ChatMessage(role="user", blocks=[ImageBlock(image=cat)])]
    shown = traces._shown(messages, sight.mark)
    assert traces.given(shown) is messages
    assert messages not in gc.get_referents(shown)
    assert traces.given(messages) is messages


# Streams that are left half-way


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Words without an end, that knows whether it was closed."""

    is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "word "}}]}\n\n'

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self:
            await asyncio.sleep(0)
            yield each

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def endless() -> tuple[Endless, httpx.MockTransport]:
    words = Endless()
    headers = {"content-type": "text/event-stream"}
    return words, httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, stream=words))


HELLO = [ChatMessage(role="user", content="hello")]


@pytest.mark.parametrize("is_closed_by_hand", [True, False])
@pytest.mark.parametrize("call", ["stream_chat", "stream_complete"])
def test_a_stream_left_half_way_leaves_nothing_open(is_closed_by_hand: bool, call: str, make: Any) -> None:
    words, transport = endless()
    with httpx.Client(transport=transport) as client:
        llm = make(http_client=client)
        stream = getattr(llm, call)(HELLO if call == "stream_chat" else "hello")
        assert next(stream).delta == "word "
        assert not words.is_closed
        if is_closed_by_hand:
            stream.close()
        del stream
        gc.collect()
        assert words.is_closed


@pytest.mark.parametrize("is_closed_by_hand", [True, False])
@pytest.mark.parametrize("call", ["astream_chat", "astream_complete"])
async def test_an_asynchronous_stream_left_half_way_leaves_nothing_open(
    is_closed_by_hand: bool, call: str, make: Any
) -> None:
    words, transport = endless()
    async with httpx.AsyncClient(transport=transport) as client:
        llm = make(async_http_client=client)
        stream = await getattr(llm, call)(HELLO if call == "astream_chat" else "hello")
        async for chunk in stream:
            assert chunk.delta == "word "
            break
        assert not words.is_closed
        if is_closed_by_hand:
            await stream.aclose()
        del stream, chunk
        gc.collect()
        for _ in range(100):
            if words.is_closed:
                break
            await asyncio.sleep(0.01)
        assert words.is_closed


async def test_a_cancelled_stream_leaves_nothing_open(make: Any) -> None:
    words, transport = endless()
    started = asyncio.Event()

    async def listen(llm: PredictionGuard) -> None:
        async for _ in await llm.astream_chat(HELLO):
            started.set()

    async with httpx.AsyncClient(transport=transport) as client:
        task = asyncio.create_task(listen(make(async_http_client=client)))
        await asyncio.wait_for(started.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(100):
            if words.is_closed:
                break
            await asyncio.sleep(0.01)
        assert words.is_closed
