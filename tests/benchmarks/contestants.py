"""Those who run: httpx by itself, the least code that does it, this project's two models, and their rivals.

Each is asked in the form that is natural to it, with a question made beforehand: that is the caller's, and not
measured. A module of a framework is imported by its own contestant only, as each runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from tests.benchmarks.pictures import data_uri

MODEL = "Qwen2.5-VL-7B-Instruct"
TEXT = "What is in this picture?"
KEY = "a-key-of-no-worth"
_HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
LARGEST = 64 << 20
"""Bytes. Pictures of 32 MB are over what the default policy lets in."""


class Contestant:
    """One way to ask the server at an address: `ask`, `aask`, and `stream`, which tells how many chunks came."""

    def __init__(self, url: str) -> None:
        self.url = url

    def question(self, pictures: list[bytes], *, stream: bool = False) -> Any:
        """What the caller holds."""
        raise NotImplementedError

    def ask(self, question: Any) -> str:
        raise NotImplementedError

    async def aask(self, question: Any) -> str:
        raise NotImplementedError

    def stream(self, question: Any) -> int:
        raise NotImplementedError

    async def astream(self, question: Any) -> int:
        raise NotImplementedError

    def another(self) -> Any:
        """Another model object."""
        raise NotImplementedError

    def close(self, runner: asyncio.Runner) -> None:
        """Let go of the connections; `runner` is where the asynchronous calls were made."""


def _request(uris: list[str], stream: bool) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris]
    content: Any = [{"type": "text", "text": TEXT}, *parts] if parts else TEXT
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **options}


class Raw(Contestant):
    """httpx posting a body that is ready, through one client, and reading bytes.

    It keeps 20 connections, as httpx does by itself: with many at once that is the quickest, as its pool looks at every
    kept connection for every request. It opens as many as there are calls, so that none has to wait for another.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url + "/chat/completions")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._client = httpx.Client(limits=limits, timeout=120, headers=_HEADERS)
        self._async = httpx.AsyncClient(limits=limits, timeout=120, headers=_HEADERS)

    def question(self, pictures: list[bytes], *, stream: bool = False) -> bytes:
        return json.dumps(_request([data_uri(each) for each in pictures], stream), separators=(",", ":")).encode()

    def ask(self, question: bytes) -> str:
        return self._client.post(self.url, content=question).text

    async def aask(self, question: bytes) -> str:
        return (await self._async.post(self.url, content=question)).text

    def stream(self, question: bytes) -> int:
        size = 0
        with self._client.stream("POST", self.url, content=question) as response:
            for piece in response.iter_bytes():
                size += len(piece)
        return size

    async def astream(self, question: bytes) -> int:
        size = 0
        async with self._async.stream("POST", self.url, content=question) as response:
            async for piece in response.aiter_bytes():
                size += len(piece)
        return size

    def close(self, runner: asyncio.Runner) -> None:
        self._client.close()
        runner.run(self._async.aclose())


class Least(Contestant):
    """The least code that asks about data URIs and reads the answer: no tools, no retries, no checks, no errors."""

    def __init__(self, url: str) -> None:
        super().__init__(url + "/chat/completions")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.Client(limits=limits, timeout=120, headers=_HEADERS)
        # A pool looks at all of its connections for each request: several small ones beat a large one.
        several = [httpx.AsyncClient(limits=limits, timeout=120, headers=_HEADERS) for _ in range(16)]
        self._turns = itertools.cycle(several)

    def question(self, pictures: list[bytes], *, stream: bool = False) -> tuple[list[str], bool]:
        return [data_uri(each) for each in pictures], stream

    def _body(self, question: tuple[list[str], bool], size: int) -> tuple[Any, dict[str, str]]:
        uris, stream = question
        marks = [f"<{index}>" for index in range(len(uris))]
        rest = json.dumps(_request(marks, stream)).encode()
        pieces: list[Any] = []
        for mark, uri in zip(marks, uris, strict=True):
            before, rest = rest.split(mark.encode(), 1)
            pieces += [before, uri]
        pieces.append(rest)
        length = sum(map(len, pieces))
        if length < 500_000:
            return b"".join(each.encode() if isinstance(each, str) else each for each in pieces), {}
        return _slices(pieces, size), {"Content-Length": str(length)}

    def ask(self, question: tuple[list[str], bool]) -> str:
        content, headers = self._body(question, 96 << 10)
        reply = json.loads(self._client.post(self.url, content=content, headers=headers).content)
        return str(reply["choices"][0]["message"]["content"])

    async def aask(self, question: tuple[list[str], bool]) -> str:
        content, headers = self._body(question, 256 << 10)
        content = content if isinstance(content, bytes) else _asynchronous(content)
        reply = json.loads((await next(self._turns).post(self.url, content=content, headers=headers)).content)
        return str(reply["choices"][0]["message"]["content"])

    def stream(self, question: tuple[list[str], bool]) -> int:
        content, headers = self._body(question, 96 << 10)
        chunks, rest = 0, b""
        with self._client.stream("POST", self.url, content=content, headers=headers) as response:
            for piece in response.iter_bytes():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    chunks += event != b"data: [DONE]" and _text(json.loads(event[6:])) != ""
        return chunks

    async def astream(self, question: tuple[list[str], bool]) -> int:
        content, headers = self._body(question, 256 << 10)
        chunks, rest = 0, b""
        async with next(self._turns).stream("POST", self.url, content=content, headers=headers) as response:
            async for piece in response.aiter_bytes():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    chunks += event != b"data: [DONE]" and _text(json.loads(event[6:])) != ""
        return chunks

    def another(self) -> Any:
        twin = object.__new__(Least)
        twin.__dict__.update(self.__dict__)
        return twin


def _slices(pieces: list[Any], size: int) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            for start in range(0, len(piece), size):
                yield piece[start : start + size].encode()


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _text(chunk: dict[str, Any]) -> str:
    return chunk["choices"][0]["delta"].get("content", "") if chunk["choices"] else ""


class LangChain(Contestant):
    """A chat model of LangChain's; pictures are data URIs in `image_url` blocks."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = self.another()

    def question(self, pictures: list[bytes], *, stream: bool = False) -> Any:
        from langchain_core.messages import HumanMessage

        blocks = [{"type": "image_url", "image_url": {"url": data_uri(each)}} for each in pictures]
        return [HumanMessage([{"type": "text", "text": TEXT}, *blocks] if blocks else TEXT)]

    def ask(self, question: Any) -> str:
        return str(self.model.invoke(question).content)

    async def aask(self, question: Any) -> str:
        return str((await self.model.ainvoke(question)).content)

    def stream(self, question: Any) -> int:
        return sum(chunk.content != "" for chunk in self.model.stream(question))

    async def astream(self, question: Any) -> int:
        return sum([chunk.content != "" async for chunk in self.model.astream(question)])


class Ours(LangChain):
    """`langchain_predictionguard.ChatPredictionGuard`"""

    def another(self) -> Any:
        from langchain_predictionguard import ChatPredictionGuard, ImagePolicy

        return ChatPredictionGuard(model=MODEL, api_key=KEY, base_url=self.url, images=ImagePolicy(max_bytes=LARGEST))


class OursBase64(Ours):
    """The same, with pictures in LangChain's own blocks for base64."""

    def question(self, pictures: list[bytes], *, stream: bool = False) -> Any:
        from langchain_core.messages import HumanMessage

        texts = [data_uri(each).partition(",")[2] for each in pictures]
        blocks = [{"type": "image", "base64": text, "mime_type": "image/jpeg"} for text in texts]
        return [HumanMessage([{"type": "text", "text": TEXT}, *blocks] if blocks else TEXT)]


class OpenAI(LangChain):
    """`langchain_openai.ChatOpenAI`"""

    def another(self) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=MODEL, api_key=KEY, base_url=self.url, timeout=120)


class MistralAI(LangChain):
    """`langchain_mistralai.ChatMistralAI`"""

    def another(self) -> Any:
        from langchain_mistralai import ChatMistralAI

        return ChatMistralAI(model=MODEL, api_key=KEY, base_url=self.url, timeout=120)


class LlamaIndex(Contestant):
    """An LLM of LlamaIndex's; pictures are `ImageBlock(image=bytes)`, which hold base64 from their making on."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = self.another()

    def question(self, pictures: list[bytes], *, stream: bool = False) -> Any:
        from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

        blocks = [ImageBlock(image=each, image_mimetype="image/jpeg") for each in pictures]
        return [ChatMessage(role="user", blocks=[TextBlock(text=TEXT), *blocks])]

    def ask(self, question: Any) -> str:
        return str(self.model.chat(question).message.content)

    async def aask(self, question: Any) -> str:
        return str((await self.model.achat(question)).message.content)

    def stream(self, question: Any) -> int:
        return sum(bool(response.delta) for response in self.model.stream_chat(question))

    async def astream(self, question: Any) -> int:
        return sum([bool(response.delta) async for response in await self.model.astream_chat(question)])


class OursLlamaIndex(LlamaIndex):
    """`llama_index_predictionguard.PredictionGuard`"""

    def another(self) -> Any:
        from llama_index_predictionguard import PredictionGuard
        from predictionguard_core import ImagePolicy

        return PredictionGuard(model=MODEL, api_key=KEY, base_url=self.url, images=ImagePolicy(max_bytes=LARGEST))


class OpenAILike(LlamaIndex):
    """`llama_index.llms.openai_like.OpenAILike`"""

    def another(self) -> Any:
        from llama_index.llms.openai_like import OpenAILike as Model

        return Model(model=MODEL, api_key=KEY, api_base=self.url, is_chat_model=True, timeout=120)


class LangChainItself(LangChain):
    """What LangChain costs by itself: a model that knows its answer."""

    def another(self) -> Any:
        from tests.benchmarks.langchain_itself import Constant

        return Constant()


class LlamaIndexItself(LlamaIndex):
    """What LlamaIndex costs by itself."""

    def another(self) -> Any:
        from tests.benchmarks.llama_index_itself import Constant

        return Constant()


CONTESTANTS: dict[str, type[Contestant]] = {
    "raw": Raw,
    "least": Least,
    "openai": OpenAI,
    "mistral": MistralAI,
    "openai-like": OpenAILike,
    "langchain": Ours,
    "llama-index": OursLlamaIndex,
    "langchain-base64": OursBase64,
    "langchain-itself": LangChainItself,
    "llama-index-itself": LlamaIndexItself,
}
OURS = ("langchain", "llama-index")
RIVALS = ("openai", "mistral", "openai-like")
FLOORS = ("langchain-itself", "llama-index-itself")
