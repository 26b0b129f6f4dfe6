"""The entry points that accept images: the public names of both adapters, called in the same way."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import traceback
from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import ImageNode
from PIL import Image

from langchain_predictionguard import ChatPredictionGuard, PredictionGuardEmbeddings
from llama_index_predictionguard import PredictionGuard, PredictionGuardMultiModal
from predictionguard_core import ImagePolicy
from predictionguard_core.sandbox import Sandbox

VISION = "Qwen2.5-VL-7B-Instruct"
EMBEDS = "bridgetower-large-itm-mlm-itc"
QUESTION = "What is this?"

LANGCHAIN = ("invoke", "ainvoke")
LLAMA_INDEX = ("chat", "achat")
ENTRY_POINTS = (*LANGCHAIN, *LLAMA_INDEX)
"""A model's sync and async call, in each adapter."""

RAW = "complete"
"""The entry point for a node: LlamaIndex's blocks normalise a URL before we see it, its nodes do not."""


@dataclasses.dataclass(frozen=True)
class Text:
    """An image as text: a data URI or a URL, valid or not."""

    text: str

    def for_langchain(self) -> dict[str, Any]:
        return {"type": "image", "url": self.text}

    def for_llama_index(self) -> ImageBlock:
        return ImageBlock(url=self.text)


@dataclasses.dataclass(frozen=True)
class Data:
    """An image as bytes."""

    data: bytes = dataclasses.field(repr=False)
    declared: str | None = None

    def for_langchain(self) -> dict[str, Any]:
        block = {"type": "image", "base64": base64.b64encode(self.data).decode()}
        return {**block, "mime_type": self.declared} if self.declared else block

    def for_llama_index(self) -> ImageBlock:
        return ImageBlock(image=self.data, image_mimetype=self.declared)


def options(box: Sandbox, policy: ImagePolicy | None = None) -> dict[str, Any]:
    return {"api_key": "key", "base_url": box.url, "max_retries": 0, "images": policy or ImagePolicy()}


def chat_model(box: Sandbox, policy: ImagePolicy | None = None) -> ChatPredictionGuard:
    return ChatPredictionGuard(VISION, **options(box, policy))


def llm(box: Sandbox, policy: ImagePolicy | None = None) -> PredictionGuard:
    return PredictionGuard(VISION, **options(box, policy))


def langchain_messages(*blocks: Any) -> list[HumanMessage]:
    return [HumanMessage(content=[{"type": "text", "text": QUESTION}, *blocks])]


def llama_index_messages(*blocks: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[TextBlock(text=QUESTION), *blocks])]


def ask(entry_point: str, box: Sandbox, *images: Any, policy: ImagePolicy | None = None, callback: Any = None) -> str:
    """Ask about images, each a `Text`, a `Data`, or an adapter's own block, and return the text of the answer."""
    if entry_point in LANGCHAIN:
        model, asked = chat_model(box, policy), langchain_messages(*(_as(each, "for_langchain") for each in images))
        config: Any = {"callbacks": [callback] if callback else []}
        if entry_point == "invoke":
            return str(model.invoke(asked, config).text)
        return str(asyncio.run(model.ainvoke(asked, config)).text)
    if entry_point == RAW:
        nodes = [ImageNode(image_url=each.text) if isinstance(each, Text) else each for each in images]
        return PredictionGuardMultiModal(VISION, **options(box, policy)).complete(QUESTION, nodes).text
    messages = llama_index_messages(*(_as(each, "for_llama_index") for each in images))
    answer = llm(box, policy).chat(messages) if entry_point == "chat" else asyncio.run(llm(box, policy).achat(messages))
    return str(answer.message.content)


def embed(box: Sandbox, *images: Any, policy: ImagePolicy | None = None, is_async: bool = False) -> Any:
    """LangChain's entry point for typed paths."""
    model = PredictionGuardEmbeddings(EMBEDS, **options(box, policy))
    return asyncio.run(model.aembed_images(images)) if is_async else model.embed_images(images)


def _as(image: Any, form: str) -> Any:
    return getattr(image, form)() if isinstance(image, Text | Data) else image


# What was sent, and what the error says


def sent(box: Sandbox) -> list[tuple[str, bytes]]:
    """The declared type and the bytes of each image in the last request."""
    return [
        _decoded(part["image_url"]["url"])
        for message in box.requests[-1]["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]


def _decoded(uri: str) -> tuple[str, bytes]:
    head, _, text = uri.partition(",")
    assert head.startswith("data:")
    assert head.endswith(";base64")
    return head[len("data:") : -len(";base64")], base64.b64decode(text, validate=True)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, its causes and contexts, whether a traceback shows them or not."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__]
            yield each


def all_text(error: BaseException) -> str:
    """All text of an error and its causes that could be shown or logged."""
    said = [f"{each} {each!r} {each.args} {vars(each)}" for each in chain(error)]
    return "\n".join([*said, *traceback.format_exception_only(error)])


class RecordingCallback(BaseCallbackHandler):
    """A LangChain callback handler that records all events of a call."""

    raise_error = True

    def __init__(self) -> None:
        self.recorded: list[str] = []

    def _record(self, *args: Any, **kwargs: Any) -> None:
        self.recorded += [all_text(each) if isinstance(each, BaseException) else repr(each) for each in (*args, kwargs)]

    on_chat_model_start = on_llm_end = on_llm_error = on_llm_new_token = _record  # type: ignore[assignment]


# Images


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


PNG = encoded(Image.new("RGB", (40, 30), "teal"), "PNG")


def uri(data: bytes, declared: str = "image/png") -> str:
    return f"data:{declared};base64,{base64.b64encode(data).decode()}"
