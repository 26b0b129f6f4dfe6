"""The contestants: httpx by itself, the least code that works, this project's models, and their rivals.

Each gets its question in its own natural form, made before the measurement, as the caller's own work is not measured.
A framework is imported by its own contestant only, as each runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.images import data_uri

MODEL = "Qwen2.5-VL-7B-Instruct"
TEXT = "What is in this image?"
KEY = "a-key-of-no-worth"
_HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
LARGEST = 64 << 20
"""Bytes of one image. 32 MB are more than the default policy allows."""
MOST = 64
"""Images of one request. A long conversation has more than the default policy allows."""
BATCH, AT_ONCE = 16, 8
"""Images of one embedding request, and requests at once, of raw httpx."""


class Contestant:
    """One way to call the server at a URL. `stream` and `astream` return the number of chunks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def question(self, images: list[bytes], *, stream: bool = False) -> Any:
        """Return what the caller holds: one message with all images."""
        raise NotImplementedError

    def conversation(self, images: list[bytes]) -> Any:
        """Return a history in which each turn of the user brings one image."""
        raise NotImplementedError

    def files(self, paths: list[Path]) -> Any:
        """Return what the caller holds of images on disk."""
        return paths

    def ask_file(self, question: Any) -> str:
        """Read the files and ask about them."""
        return self.ask(self.question([path.read_bytes() for path in question]))

    def inputs(self, images: list[bytes]) -> Any:
        """Return what the caller holds of images to embed."""
        return images

    def embed(self, inputs: Any) -> list[Any]:
        """Embed the images."""
        raise NotImplementedError

    async def aembed(self, inputs: Any) -> list[Any]:
        """Embed the images, async."""
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
        """Close the connections. `runner` ran the async calls."""


def _request(uris: list[str], stream: bool) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris]
    content: Any = [{"type": "text", "text": TEXT}, *parts] if parts else TEXT
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **options}


def _history(uris: list[str]) -> dict[str, Any]:
    messages: list[Any] = []
    for uri in uris:
        parts = [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": uri}}]
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
    return {"model": MODEL, "messages": messages[:-1]}


class Raw(Contestant):
    """httpx posting a prebuilt body through one client, and reading bytes.

    It keeps 20 connections, httpx's default and its fastest setting here: its pool looks at every kept connection for
    every request. It opens as many connections as there are calls.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url + "/chat/completions")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._client = httpx.Client(limits=limits, timeout=120, headers=_HEADERS)
        self._async = httpx.AsyncClient(limits=limits, timeout=120, headers=_HEADERS)

    def question(self, images: list[bytes], *, stream: bool = False) -> bytes:
        return json.dumps(_request([data_uri(each) for each in images], stream), separators=(",", ":")).encode()

    def conversation(self, images: list[bytes]) -> bytes:
        return json.dumps(_history([data_uri(each) for each in images]), separators=(",", ":")).encode()

    def files(self, paths: list[Path]) -> bytes:
        return self.question([path.read_bytes() for path in paths])

    def ask_file(self, question: bytes) -> str:
        return self.ask(question)

    def inputs(self, images: list[bytes]) -> list[bytes]:
        texts = [base64.b64encode(each).decode() for each in images]
        batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return [
            json.dumps({"model": MODEL, "input": [{"image": each} for each in batch]}).encode() for batch in batches
        ]

    def embed(self, inputs: list[bytes]) -> list[Any]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            replies = threads.map(lambda body: self._client.post(self.url, content=body).json(), inputs)
            return [each for reply in replies for each in reply["data"]]

    async def aembed(self, inputs: list[bytes]) -> list[Any]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def post(body: bytes) -> list[Any]:
            async with slots:
                return list((await self._async.post(self.url, content=body)).json()["data"])

        return [each for data in await asyncio.gather(*map(post, inputs)) for each in data]

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
    """The least code that sends data URIs and reads the answer: no tools, no retries, no checks, no errors."""

    def __init__(self, url: str) -> None:
        super().__init__(url + "/chat/completions")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.Client(limits=limits, timeout=120, headers=_HEADERS)
        # A pool looks at all of its connections for each request: several small ones beat a large one.
        several = [httpx.AsyncClient(limits=limits, timeout=120, headers=_HEADERS) for _ in range(16)]
        self._turns = itertools.cycle(several)

    def question(self, images: list[bytes], *, stream: bool = False) -> tuple[list[str], bool]:
        return [data_uri(each) for each in images], stream

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

    def conversation(self, images: list[bytes]) -> tuple[list[str], bool]:
        return self.question(images)  # its body is of the same size

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
        copy = object.__new__(Least)
        copy.__dict__.update(self.__dict__)
        return copy


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
    """A LangChain chat model. Images are data URIs in `image_url` blocks; in conversations, base64 blocks."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = self.another()

    def question(self, images: list[bytes], *, stream: bool = False) -> Any:
        from langchain_core.messages import HumanMessage

        blocks = [{"type": "image_url", "image_url": {"url": data_uri(each)}} for each in images]
        return [HumanMessage([{"type": "text", "text": TEXT}, *blocks] if blocks else TEXT)]

    def conversation(self, images: list[bytes]) -> Any:
        from langchain_core.messages import AIMessage, HumanMessage

        messages: list[Any] = []
        for each in images:
            text = base64.b64encode(each).decode()
            block = {"type": "image", "base64": text, "mime_type": "image/jpeg"}
            messages += [HumanMessage([{"type": "text", "text": TEXT}, block]), AIMessage("A cat.")]
        return messages[:-1]

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

        policy = ImagePolicy(max_bytes=LARGEST, max_images=MOST)
        return ChatPredictionGuard(model=MODEL, api_key=KEY, base_url=self.url, images=policy)

    def ask_file(self, question: list[Path]) -> str:
        from langchain_core.messages import HumanMessage

        blocks = [{"type": "image", "url": path} for path in question]
        return self.ask([HumanMessage([{"type": "text", "text": TEXT}, *blocks])])

    def _embeddings(self) -> Any:
        from langchain_predictionguard import PredictionGuardEmbeddings

        return PredictionGuardEmbeddings(model=MODEL, api_key=KEY, base_url=self.url)

    def embed(self, inputs: list[bytes]) -> list[Any]:
        return list(self._embeddings().embed_images(inputs))

    async def aembed(self, inputs: list[bytes]) -> list[Any]:
        return list(await self._embeddings().aembed_images(inputs))


class OursBase64(Ours):
    """The same, with images in LangChain's base64 blocks."""

    def question(self, images: list[bytes], *, stream: bool = False) -> Any:
        from langchain_core.messages import HumanMessage

        texts = [data_uri(each).partition(",")[2] for each in images]
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
    """A LlamaIndex LLM. Images are `ImageBlock(image=bytes)`, which holds base64."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = self.another()

    def question(self, images: list[bytes], *, stream: bool = False) -> Any:
        from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

        blocks = [ImageBlock(image=each, image_mimetype="image/jpeg") for each in images]
        return [ChatMessage(role="user", blocks=[TextBlock(text=TEXT), *blocks])]

    def conversation(self, images: list[bytes]) -> Any:
        from llama_index.core.llms import ChatMessage

        messages = []
        for each in images:
            messages += [*self.question([each]), ChatMessage(role="assistant", content="A cat.")]
        return messages[:-1]

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

        policy = ImagePolicy(max_bytes=LARGEST, max_images=MOST)
        return PredictionGuard(model=MODEL, api_key=KEY, base_url=self.url, images=policy)

    def ask_file(self, question: list[Path]) -> str:
        from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

        blocks = [ImageBlock(path=path) for path in question]
        return self.ask([ChatMessage(role="user", blocks=[TextBlock(text=TEXT), *blocks])])

    def _embeddings(self) -> Any:
        from llama_index_predictionguard import PredictionGuardEmbedding

        return PredictionGuardEmbedding(MODEL, api_key=KEY, base_url=self.url)

    def embed(self, inputs: list[bytes]) -> list[Any]:
        return list(self._embeddings().get_image_embedding_batch(inputs))

    async def aembed(self, inputs: list[bytes]) -> list[Any]:
        return list(await self._embeddings().aget_image_embedding_batch(inputs))


class OpenAILike(LlamaIndex):
    """`llama_index.llms.openai_like.OpenAILike`"""

    def another(self) -> Any:
        from llama_index.llms.openai_like import OpenAILike as Model

        return Model(model=MODEL, api_key=KEY, api_base=self.url, is_chat_model=True, timeout=120)


class LangChainItself(LangChain):
    """The cost of LangChain itself: a model that sends no request."""

    def another(self) -> Any:
        from tests.benchmarks.langchain_itself import Constant

        return Constant()


class LlamaIndexItself(LlamaIndex):
    """The cost of LlamaIndex itself."""

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
