"""Text completions, embeddings and reranking, sync and async, against sandbox endpoints that mean something."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableLambda

from langchain_predictionguard import (
    ChatPredictionGuard,
    ConfigurationError,
    ContentError,
    ImageBlockedError,
    InvalidRequestError,
    PIIDetectedError,
    PredictionGuard,
    PredictionGuardEmbeddings,
    PredictionGuardRerank,
    UnsupportedContentError,
)
from langchain_predictionguard.llms import StopCutter
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"
TEXT, SEEING, RANKING = "Hermes-3-Llama-3.1-8B", "bridgetower-large-itm-mlm-itc", "bge-reranker-v2-m3"


@pytest.fixture
def llm(box: Sandbox) -> PredictionGuard:
    return PredictionGuard(TEXT, api_key="key-of-the-tests", base_url=box.url)


@pytest.fixture
def embeddings(box: Sandbox) -> PredictionGuardEmbeddings:
    return PredictionGuardEmbeddings(SEEING, api_key="key-of-the-tests", base_url=box.url)


@pytest.fixture
def reranker(box: Sandbox) -> PredictionGuardRerank:
    return PredictionGuardRerank(RANKING, api_key="key-of-the-tests", base_url=box.url, top_n=2)


def likeness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


class TestCompletions:
    def test_plain_and_streamed_are_the_same(self, llm: PredictionGuard) -> None:
        pieces = list(llm.stream("Vienna is"))
        assert len(pieces) > 3
        assert "".join(pieces) == llm.invoke("Vienna is")

    async def test_asynchronously(self, llm: PredictionGuard) -> None:
        assert "".join([piece async for piece in llm.astream("Vienna is")]) == await llm.ainvoke("Vienna is")
        assert await llm.abatch(["Vienna is", "Graz is"]) == llm.batch(["Vienna is", "Graz is"])
        await llm.aclose()

    async def test_a_picture_is_refused_with_its_place(self, llm: PredictionGuard, box: Sandbox) -> None:
        picture = {"type": "image", "base64": base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode()}
        asked: Any = [("system", "Look."), ("user", [{"type": "text", "text": "What is it?"}, picture])]
        for ask in (llm.invoke, lambda it: list(llm.stream(it)), lambda it: llm.batch([it])):
            with pytest.raises(UnsupportedContentError, match="ChatPredictionGuard") as caught:
                ask(asked)
            assert (caught.value.message_index, caught.value.block_index) == (1, 1)
        with pytest.raises(UnsupportedContentError, match="ChatPredictionGuard"):
            await llm.ainvoke(asked)
        assert box.requests == []
        assert llm.invoke([("user", [{"type": "text", "text": "What is it?"}])])

    def test_many_prompts_count_together(self, llm: PredictionGuard) -> None:
        result = llm.generate(["Vienna is", "Graz is"])
        assert len(result.generations) == 2
        assert result.llm_output is not None
        alone = [llm.generate([prompt]).llm_output for prompt in ("Vienna is", "Graz is")]
        total = sum(each["token_usage"]["total_tokens"] for each in alone if each)
        assert result.llm_output["token_usage"]["total_tokens"] == total

    def test_options_go_out(self, box: Sandbox) -> None:
        llm = PredictionGuard(
            TEXT,
            predictionguard_api_key="key",
            predictionguard_url=box.url,
            temperature=0.1,
            max_tokens=5,
            top_p=0.5,
            top_k=3,
            stop="END",
            predictionguard_input={"pii": "replace"},
        )
        llm.invoke("Vienna is", top_k=9)
        assert box.requests[-1] == {
            "model": TEXT,
            "prompt": "Vienna is",
            "temperature": 0.1,
            "max_tokens": 5,
            "top_p": 0.5,
            "top_k": 9,
            "stop": "END",
            "input": {"pii": "replace"},
        }

    def test_errors(self, llm: PredictionGuard) -> None:
        with pytest.raises(PIIDetectedError):
            llm.invoke("Write to ann@example.com", input_checks={"pii": "block"})
        with pytest.raises(ModelInvalidRequestError):
            list(llm.stream("Hello", model="bge-m3"))
        with pytest.raises(ConfigurationError):
            llm.invoke("Hello", temperature=9)

    def test_output_checks_make_a_stream_one_piece(self, llm: PredictionGuard, box: Sandbox) -> None:
        assert len(list(llm.stream("Hello", output_checks={"toxicity": True}))) == 1
        assert "stream" not in box.requests[-1]

    @pytest.mark.parametrize("checks", [None, {"toxicity": True}])
    async def test_a_stream_ends_with_what_a_plain_answer_says_beside_its_text(
        self, llm: PredictionGuard, checks: Any
    ) -> None:
        result = llm.generate(["Vienna is"])
        ends = Ends()
        said = [
            list(llm.stream("Vienna is", output_checks=checks, config={"callbacks": [ends]})),
            [piece async for piece in llm.astream("Vienna is", output_checks=checks, config={"callbacks": [ends]})],
        ]
        assert len(said[0]) == len(said[1]) > (0 if checks else 3)
        generation = result.generations[0][0]
        assert result.llm_output is not None
        assert result.llm_output["token_usage"]["total_tokens"] > 0
        assert ends.infos == [{**(generation.generation_info or {}), **result.llm_output}] * 2
        await llm.aclose()

    async def test_no_prompt_goes_on_when_one_has_failed(self) -> None:
        asked, bodies = asyncio.Event(), []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(size))
            if len(bodies) == 3:
                asked.set()
            if b"bad" in bodies[-1]:
                await asked.wait()
                writer.write(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 20\r\n\r\n{"error": "no, that"}')
                await writer.drain()
            await reader.read()  # until the other side hangs up
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        llm = PredictionGuard(TEXT, api_key="key", base_url=f"http://127.0.0.1:{port}")
        try:
            with pytest.raises(InvalidRequestError, match="no, that"):
                await asyncio.wait_for(llm.agenerate(["one", "bad", "two"]), 60)
            tasks = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            assert "AsyncClient.complete" not in tasks
        finally:
            await llm.aclose()
            server.close()


class Ends(BaseCallbackHandler):
    """Keeps what streams say beside their text, when they have been put together."""

    def __init__(self) -> None:
        self.infos: list[Any] = []

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.infos.append(response.generations[0][0].generation_info)


class TestEmbeddings:
    def test_pictures_lie_near_the_words_for_them(self, embeddings: PredictionGuardEmbeddings) -> None:
        coffee, space = embeddings.embed_images([PHOTOS / "coffee.jpg", PHOTOS / "galaxies.jpg"])
        dark, warm = embeddings.embed_documents(["a dark black picture", "a brown and dark red picture"])
        assert likeness(space, dark) > likeness(coffee, dark)
        assert likeness(coffee, warm) > likeness(space, warm)

    def test_any_number_in_order(self, embeddings: PredictionGuardEmbeddings, box: Sandbox) -> None:
        texts = [f"text number {index}" for index in range(70)]
        vectors = embeddings.embed_documents(texts)
        assert [len(sent["input"]) for sent in box.requests] == [30, 30, 10]
        assert vectors == [embeddings.embed_query(text) for text in texts]

    def test_none(self, embeddings: PredictionGuardEmbeddings, box: Sandbox) -> None:
        assert embeddings.embed_documents([]) == []
        assert box.requests == []

    async def test_asynchronously(self, embeddings: PredictionGuardEmbeddings) -> None:
        photo = PHOTOS / "cat.jpg"
        assert await embeddings.aembed_query("cat") == embeddings.embed_query("cat")
        assert await embeddings.aembed_documents(["cat"]) == embeddings.embed_documents(["cat"])
        assert await embeddings.aembed_images([photo]) == embeddings.embed_images([photo])
        await embeddings.aclose()

    def test_every_source_is_the_same_picture(self, embeddings: PredictionGuardEmbeddings) -> None:
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
    def test_a_block_without_a_picture_is_named_by_its_number(
        self, embeddings: PredictionGuardEmbeddings, block: dict[str, Any]
    ) -> None:
        with pytest.raises(ContentError) as caught:
            embeddings.embed_images([PHOTOS / "cat.jpg", block])
        assert caught.value.block_index == 1

    def test_a_bad_picture_is_named_by_its_number(self, embeddings: PredictionGuardEmbeddings) -> None:
        pictures: list[Any] = [PHOTOS / "cat.jpg"] * 40 + ["file:///etc/passwd"]
        with pytest.raises(ImageBlockedError) as caught:
            embeddings.embed_images(pictures)
        assert caught.value.block_index == 40


class TestRerank:
    DOCUMENTS = [
        Document("Pizza is baked in a stone oven.", metadata={"page": 1}),
        Document("Deep learning trains networks of many layers."),
        Document("Learning to swim takes patience."),
    ]

    def test_the_best_first_and_no_more_than_asked_for(self, reranker: PredictionGuardRerank) -> None:
        before = copy.deepcopy(self.DOCUMENTS)
        kept = reranker.compress_documents(self.DOCUMENTS, "What is deep learning?")
        assert [document.page_content[:4] for document in kept] == ["Deep", "Lear"]
        scores = [document.metadata["relevance_score"] for document in kept]
        assert scores == sorted(scores, reverse=True)
        assert before == self.DOCUMENTS

    async def test_asynchronously(self, reranker: PredictionGuardRerank) -> None:
        asked = "What is deep learning?"
        assert await reranker.acompress_documents(self.DOCUMENTS, asked) == reranker.compress_documents(
            self.DOCUMENTS, asked
        )
        await reranker.aclose()

    def test_none(self, reranker: PredictionGuardRerank, box: Sandbox) -> None:
        assert list(reranker.compress_documents([], "anything")) == []
        assert box.requests == []

    def test_in_a_chain(self, reranker: PredictionGuardRerank) -> None:
        chain = RunnableLambda(lambda query: reranker.compress_documents(self.DOCUMENTS, query))
        assert len(chain.invoke("pizza")) == 2


def test_each_survives_a_pickle_without_its_key(
    llm: PredictionGuard,
    embeddings: PredictionGuardEmbeddings,
    reranker: PredictionGuardRerank,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREDICTIONGUARD_API_KEY", "key-of-the-worker")
    written = [pickle.dumps(each) for each in (llm, embeddings, reranker)]
    assert [b"key-of-the-tests" in each for each in written] == [False] * 3
    assert ["key-of-the-tests" in repr(each) for each in (llm, embeddings, reranker)] == [False] * 3
    woken, seeing, ranking = map(pickle.loads, written)
    assert woken.invoke("Hello") == llm.invoke("Hello")
    assert seeing.embed_query("Hello") == embeddings.embed_query("Hello")
    assert ranking.compress_documents(TestRerank.DOCUMENTS, "pizza") == reranker.compress_documents(
        TestRerank.DOCUMENTS, "pizza"
    )


def test_a_dump_holds_no_key_at_all(
    llm: PredictionGuard, embeddings: PredictionGuardEmbeddings, reranker: PredictionGuardRerank
) -> None:
    chat = ChatPredictionGuard(TEXT, api_key="key-of-the-tests")
    for model in (chat, llm, embeddings, reranker):
        assert "api_key" not in model.model_dump()
        assert "api_key" not in repr(model)
        assert "api_key" not in model.model_dump_json(exclude={"metadata"})


class TestCodeForTheRetiredPackage:
    """What was written for `langchain-predictionguard` 0.3 runs as it stands."""

    def test_completions(self, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREDICTIONGUARD_URL", box.url)
        llm = PredictionGuard(
            model=TEXT,
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


@pytest.mark.parametrize(
    ("pieces", "stop", "wanted"),
    [
        (["one two", " END three"], "END", "one two "),
        (["one E", "N", "D two"], "END", "one "),
        (["one EN", "TER"], ["END"], "one ENTER"),
        (["one EN"], ["END"], "one EN"),
        (["a b c"], ["c", "b"], "a "),
        (["one"], None, "one"),
        (["one", " two"], [""], "one two"),
    ],
)
def test_a_text_ends_before_its_stop_however_it_is_cut(pieces: list[str], stop: Any, wanted: str) -> None:
    end = StopCutter(stop)
    assert "".join(end.cut(piece, is_last=piece is pieces[-1]) for piece in pieces) == wanted
