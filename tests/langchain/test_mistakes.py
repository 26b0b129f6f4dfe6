"""Natural mistakes: each raises one sentence that names the value and the remedy, and sends nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_predictionguard import (
    ChatPredictionGuard,
    ConfigurationError,
    ContentError,
    Image,
    PredictionGuardEmbeddings,
    PredictionGuardLoader,
    PredictionGuardRerank,
    UnsupportedContentError,
)
from predictionguard_core import errors
from predictionguard_core.sandbox import Sandbox


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


def assert_each_raises(cases: dict[str, tuple[type[Exception], Callable[[], Any]]]) -> None:
    for message, (kind, call) in cases.items():
        with pytest.raises(kind, match=re.escape(message)):
            call()


def test_tools_and_schemas(chat: ChatPredictionGuard, box: Sandbox) -> None:
    anything: Any = chat
    assert_each_raises(
        {
            "tool_choice is 'any', but the call has no tools: use bind_tools": (
                ConfigurationError,
                lambda: chat.invoke("x", tool_choice="any"),
            ),
            "tool_choice is {'type': 'function'}, but": (
                ConfigurationError,
                lambda: chat.bind(tool_choice={"type": "function"}).invoke("x"),
            ),
            "tools must be a list, got StructuredTool: put it in brackets": (
                ConfigurationError,
                lambda: anything.bind_tools(look),
            ),
            "tools must be a list, got function": (ConfigurationError, lambda: anything.bind_tools(lambda: None)),
            "or a JSON schema with a title, got 'look'": (ConfigurationError, lambda: anything.bind_tools(["look"])),
            "or a JSON schema with a title, got {'type': 'object'": (
                ConfigurationError,
                lambda: chat.with_structured_output({"type": "object", "properties": {}}),
            ),
            "or a JSON schema with a title, got list[str]": (
                ConfigurationError,
                lambda: chat.with_structured_output(list[str]),
            ),
        }
    )
    assert box.requests == []


def test_documents(box: Sandbox, tmp_path: Path) -> None:
    connection: Any = {"api_key": "key", "base_url": box.url}
    reranker: Any = PredictionGuardRerank("bge-reranker-v2-m3", **connection)
    embeddings: Any = PredictionGuardEmbeddings("bge-m3", **connection)
    assert_each_raises(
        {
            "documents[0] must be a Document, got str: use Document(text), or rerank(query, texts)": (
                ContentError,
                lambda: reranker.compress_documents(["a"], "query"),
            ),
            "got a string: the documents come first": (
                ContentError,
                lambda: reranker.compress_documents("query", ["a"]),
            ),
            "got a string: the query comes first": (ContentError, lambda: reranker.rerank(["a"], "query")),
            "embed_query takes one string, got list; for several there is embed_documents": (
                ContentError,
                lambda: embeddings.embed_query(["a"]),
            ),
            "is not a regular file. Pass the path of one document": (
                ContentError,
                lambda: PredictionGuardLoader(tmp_path, **connection).load(),
            ),
            "can't read 'nothing.pdf'": (
                ContentError,
                lambda: PredictionGuardLoader("nothing.pdf", **connection).load(),
            ),
        }
    )
    assert box.requests == []


def test_images(chat: ChatPredictionGuard, box: Sandbox, tmp_path: Path) -> None:
    def send(block: Any) -> Callable[[], Any]:
        return lambda: chat.invoke([HumanMessage([block])])

    assert_each_raises(
        {
            "is not a regular file but a folder: pass the path of an image": (
                errors.ImageError,
                send({"type": "image", "url": tmp_path}),
            ),
            "the file 'cat.png' cannot be read": (
                errors.ImageError,
                send({"type": "image", "url": tmp_path / "cat.png"}),
            ),
            "the file 'nothing.png' cannot be read": (errors.ImageError, lambda: Image.open("nothing.png")),
            "the image block has no source, only 'bas64': give it 'url'": (
                UnsupportedContentError,
                send({"type": "image", "bas64": "aaaa"}),
            ),
            "the image_url block has no source, only 'uri'": (
                UnsupportedContentError,
                send({"type": "image_url", "image_url": {"uri": "https://example.com/cat.png"}}),
            ),
            "type 'imge': the API takes text and images; their types are 'text', 'image'": (
                UnsupportedContentError,
                send({"type": "imge", "url": "https://example.com/cat.png"}),
            ),
        }
    )
    assert box.requests == []
