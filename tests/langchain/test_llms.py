"""Text completions."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.outputs import LLMResult

from langchain_predictionguard import (
    ConfigurationError,
    InvalidRequestError,
    PIIDetectedError,
    PredictionGuard,
    UnsupportedContentError,
)
from langchain_predictionguard.llms import StopCutter
from predictionguard_core.sandbox import Sandbox

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"


@pytest.fixture
def llm(box: Sandbox) -> PredictionGuard:
    return PredictionGuard("Hermes-3-Llama-3.1-8B", api_key="key-of-the-tests", base_url=box.url)


class TestCompletions:
    def test_plain_and_streamed_are_the_same(self, llm: PredictionGuard) -> None:
        chunks = list(llm.stream("Vienna is"))
        assert len(chunks) > 3
        assert "".join(chunks) == llm.invoke("Vienna is")

    async def test_async(self, llm: PredictionGuard) -> None:
        assert "".join([chunk async for chunk in llm.astream("Vienna is")]) == await llm.ainvoke("Vienna is")
        assert await llm.abatch(["Vienna is", "Graz is"]) == llm.batch(["Vienna is", "Graz is"])
        await llm.aclose()

    async def test_an_image_is_refused_with_its_location(self, llm: PredictionGuard, box: Sandbox) -> None:
        image = {"type": "image", "base64": base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode()}
        asked: Any = [("system", "Look."), ("user", [{"type": "text", "text": "What is it?"}, image])]
        for ask in (llm.invoke, lambda it: list(llm.stream(it)), lambda it: llm.batch([it])):
            with pytest.raises(UnsupportedContentError, match="ChatPredictionGuard") as caught:
                ask(asked)
            assert (caught.value.message_index, caught.value.block_index) == (1, 1)
        with pytest.raises(UnsupportedContentError, match="ChatPredictionGuard"):
            await llm.ainvoke(asked)
        assert box.requests == []
        assert llm.invoke([("user", [{"type": "text", "text": "What is it?"}])])

    def test_token_usage_of_several_prompts(self, llm: PredictionGuard) -> None:
        result = llm.generate(["Vienna is", "Graz is"])
        assert len(result.generations) == 2
        assert result.llm_output is not None
        alone = [llm.generate([prompt]).llm_output for prompt in ("Vienna is", "Graz is")]
        total = sum(each["token_usage"]["total_tokens"] for each in alone if each)
        assert result.llm_output["token_usage"]["total_tokens"] == total

    def test_options_are_sent(self, box: Sandbox) -> None:
        llm = PredictionGuard(
            "Hermes-3-Llama-3.1-8B",
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
            "model": "Hermes-3-Llama-3.1-8B",
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

    def test_output_checks_make_a_stream_one_chunk(self, llm: PredictionGuard, box: Sandbox) -> None:
        assert len(list(llm.stream("Hello", output_checks={"toxicity": True}))) == 1
        assert "stream" not in box.requests[-1]

    @pytest.mark.parametrize("checks", [None, {"toxicity": True}])
    async def test_a_stream_has_the_metadata_of_a_plain_answer(self, llm: PredictionGuard, checks: Any) -> None:
        result = llm.generate(["Vienna is"])
        ends = Ends()
        said = [
            list(llm.stream("Vienna is", output_checks=checks, config={"callbacks": [ends]})),
            [chunk async for chunk in llm.astream("Vienna is", output_checks=checks, config={"callbacks": [ends]})],
        ]
        assert len(said[0]) == len(said[1]) > (0 if checks else 3)
        generation = result.generations[0][0]
        assert result.llm_output is not None
        assert result.llm_output["token_usage"]["total_tokens"] > 0
        assert ends.infos == [{**(generation.generation_info or {}), **result.llm_output}] * 2
        await llm.aclose()

    async def test_a_failed_prompt_cancels_the_others(self) -> None:
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
            await reader.read()  # until the client closes
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        llm = PredictionGuard("Hermes-3-Llama-3.1-8B", api_key="key", base_url=f"http://127.0.0.1:{port}")
        try:
            with pytest.raises(InvalidRequestError, match="no, that"):
                await asyncio.wait_for(llm.agenerate(["one", "bad", "two"]), 60)
            tasks = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
            assert "AsyncClient.complete" not in tasks
        finally:
            await llm.aclose()
            server.close()


class Ends(BaseCallbackHandler):
    """Keeps the metadata of merged streams."""

    def __init__(self) -> None:
        self.infos: list[Any] = []

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.infos.append(response.generations[0][0].generation_info)


@pytest.mark.parametrize(
    ("chunks", "stop", "wanted"),
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
def test_a_stream_ends_before_its_stop_sequence(chunks: list[str], stop: Any, wanted: str) -> None:
    end = StopCutter(stop)
    assert "".join(end.cut(chunk, is_last=chunk is chunks[-1]) for chunk in chunks) == wanted
