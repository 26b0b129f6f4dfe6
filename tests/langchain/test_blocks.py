"""Blocks at which LangChain itself would fail before any model is called, in every way to call one."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_predictionguard import ChatPredictionGuard, ContentError
from predictionguard_core.sandbox import Sandbox

CAT = base64.b64encode((Path(__file__).parents[2] / "notebooks" / "photos" / "cat.jpg").read_bytes()).decode()
CAT_URI = f"data:image/jpeg;base64,{CAT}"


async def _astreamed(chat: ChatPredictionGuard, messages: list[BaseMessage]) -> None:
    async for _ in chat.astream(messages):
        pass


WAYS: dict[str, Callable[[ChatPredictionGuard, list[BaseMessage]], Any]] = {
    "invoke": lambda chat, messages: chat.invoke(messages),
    "stream": lambda chat, messages: list(chat.stream(messages)),
    "generate": lambda chat, messages: chat.generate([messages]),
    "batch": lambda chat, messages: chat.batch([messages]),
    "ainvoke": lambda chat, messages: asyncio.run(chat.ainvoke(messages)),
    "astream": lambda chat, messages: asyncio.run(_astreamed(chat, messages)),
    "agenerate": lambda chat, messages: asyncio.run(chat.agenerate([messages])),
}
every_way = pytest.mark.parametrize("call", WAYS.values(), ids=WAYS)


class Watcher(BaseCallbackHandler):
    """Has LangChain put its traces together."""


def asked(block: Any) -> list[BaseMessage]:
    return [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "What is it?"}, block])]


TEXTS = {
    "v0": {"type": "file", "source_type": "text", "text": "abc", "mime_type": "text/plain"},
    "v0 without a mime type": {"type": "file", "source_type": "text", "text": "abc"},
    "v0 as url": {"type": "file", "source_type": "text", "url": "abc"},
    "v0 with an id": {"type": "file", "source_type": "text", "url": "abc", "id": "1"},
}


@every_way
@pytest.mark.parametrize("block", TEXTS.values(), ids=TEXTS)
def test_a_text_file_is_text(chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any) -> None:
    messages = asked(block)
    before = copy.deepcopy(messages)
    call(chat, messages)
    assert box.requests[-1]["messages"][1]["content"][1] == {"type": "text", "text": "abc"}
    assert messages == before


PICTURES = {
    "v0 url with an id": {"type": "image", "source_type": "url", "url": CAT_URI, "id": "1"},
    "v0 base64 with an id": {"type": "image", "source_type": "base64", "data": CAT, "id": "1"},
    "v0 base64 under its name in v1": {"type": "image", "source_type": "base64", "base64": CAT},
    "v0 file with an id": {"type": "file", "source_type": "base64", "data": CAT, "mime_type": "image/jpeg", "id": "1"},
    "v0 base64 with its origin": {
        "type": "image",
        "source_type": "base64",
        "data": CAT,
        "url": "https://example.com/cat.jpg",
    },
    "v0 file with a text": {
        "type": "file",
        "source_type": "base64",
        "data": CAT,
        "mime_type": "image/jpeg",
        "text": "a cat",
    },
    "with a text": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/jpeg", "data": CAT},
        "text": "a cat",
    },
}


@every_way
@pytest.mark.parametrize("block", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_a_picture(chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any) -> None:
    call(chat, asked(block))
    assert box.requests[-1]["messages"][1]["content"][1]["image_url"]["url"] == CAT_URI


NOTHING = {
    "v0 base64": {"type": "image", "source_type": "base64"},
    "v0 url": {"type": "image", "source_type": "url"},
    "v0 id": {"type": "image", "source_type": "id"},
    "v0 file": {"type": "file", "source_type": "base64", "mime_type": "application/pdf"},
    "v0 text": {"type": "file", "source_type": "text"},
    "v0 audio": {"type": "audio", "source_type": "base64"},
    "v0 of no known kind": {"type": "image", "source_type": ["base64"], "data": CAT[:-1] + "!"},
    "an id that is none": {"type": "file", "source_type": "id", "id": None},
    "a picture of text": {"type": "image", "text": "a cat"},
    "a type that is no text": {"type": ["image"], "url": CAT_URI},
}


@every_way
@pytest.mark.parametrize("block", NOTHING.values(), ids=NOTHING)
def test_what_lacks_what_it_announces_has_its_place(
    chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any
) -> None:
    with pytest.raises(ContentError) as caught:
        call(chat, asked(block))
    assert (caught.value.message_index, caught.value.block_index) == (1, 1)
    assert box.requests == []


TYPES = ["image", "file", "audio", "video", "text", "text-plain", "document", None, 3, ["image"]]
SOURCE_TYPES = ["url", "base64", "id", "text", "other", None, [], 3]
KEYS = ["url", "data", "base64", "id", "text", "file", "file_id", "source", "mime_type", "image_url"]
VALUES = [None, "", "x", [], {}, 3, {"url": "x"}, {"file_id": "x"}]


@pytest.mark.parametrize("kind", TYPES, ids=repr)
def test_no_block_whatever_ends_in_a_bare_error(chat: ChatPredictionGuard, kind: Any) -> None:
    listening = chat.with_config(callbacks=[Watcher()])
    for form, key, value in itertools.product(SOURCE_TYPES, KEYS, VALUES):
        try:
            listening.invoke(asked({"type": kind, "source_type": form, "id": "1", key: value}))
        except ContentError as error:
            place = (error.message_index, error.block_index)
            assert place == (1, 1), (form, key, value)


REFUSALS = {
    "a block": AIMessage([{"type": "refusal", "refusal": "No."}]),
    "beside the content": AIMessage("", additional_kwargs={"refusal": "No."}),
}


@pytest.mark.parametrize("message", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_what_the_model_said(chat: ChatPredictionGuard, box: Sandbox, message: AIMessage) -> None:
    chat.invoke([HumanMessage("May I?"), message, HumanMessage("Why?")])
    assert box.requests[-1]["messages"][1] == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_call", "refusal"])
def test_what_another_provider_did_is_not_dropped_in_silence(chat: ChatPredictionGuard, kind: str) -> None:
    message = AIMessage([{"type": "text", "text": "Let me see."}, {"type": kind, "id": "1"}])
    with pytest.raises(ContentError, match=kind) as caught:
        chat.invoke([HumanMessage("?"), message])
    assert (caught.value.message_index, caught.value.block_index) == (1, 1)
