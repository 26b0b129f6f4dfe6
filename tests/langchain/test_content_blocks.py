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
    assert box.requests[-1]["messages"][1]["content"] == "What is it?\nabc"
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
    "OpenAI's, with an id of no use": {"type": "file", "file": {"file_data": CAT_URI, "file_id": None, "id": "1"}},
    "OpenAI's, among v1's": {"type": "file", "base64": None, "file": {"file_data": CAT_URI, "filename": "cat.jpg"}},
    "OpenAI's, with more": {"type": "file", "id": "1", "index": 0, "mime_type": "x", "file": {"file_data": CAT_URI}},
    "OpenAI's, in v0": {"type": "file", "source_type": "base64", "id": "1", "file": {"file_data": CAT_URI}},
}


@every_way
@pytest.mark.parametrize("block", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_a_picture(chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any) -> None:
    call(chat, asked(block))
    assert box.requests[-1]["messages"][1]["content"][1]["image_url"]["url"] == CAT_URI


TITLED = {
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
    "v0 image with a text": {"type": "image", "source_type": "base64", "data": CAT, "id": "1", "text": "a cat"},
    "v1 image with a text": {"type": "image", "base64": CAT, "mime_type": "image/jpeg", "text": "a cat"},
    "v1 file with a text": {"type": "file", "base64": CAT, "mime_type": "image/jpeg", "text": "a cat"},
    "v1 url with a text": {"type": "file", "url": CAT_URI, "text": "a cat"},
    "in extras": {"type": "image", "url": CAT_URI, "extras": {"text": "a cat"}},
    "beside extras": {"type": "image", "source": {"type": "url", "url": CAT_URI}, "text": "a cat", "extras": {"a": 1}},
    "OpenAI's": {"type": "file", "file": {"file_data": CAT_URI}, "text": "a cat"},
    "OpenAI's in v0": {"type": "file", "source_type": "base64", "file": {"file_data": CAT_URI}, "text": "a cat"},
    "without a type": {"image_url": {"url": CAT_URI}, "text": "a cat"},
}


@every_way
@pytest.mark.parametrize("block", TITLED.values(), ids=TITLED)
def test_a_text_beside_a_picture_is_sent_before_it(
    chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any
) -> None:
    messages = asked(block)
    before = copy.deepcopy(messages)
    call(chat, messages)
    text, picture = box.requests[-1]["messages"][1]["content"][1:]
    assert text == {"type": "text", "text": "a cat"}
    assert picture["image_url"]["url"] == CAT_URI
    assert messages == before


DETAILS = {
    "OpenAI's": {"type": "file", "file": {"file_data": CAT_URI}, "detail": "low"},
    "OpenAI's in v0": {"type": "file", "source_type": "base64", "file": {"file_data": CAT_URI}, "detail": "low"},
    "OpenAI's in extras": {"type": "file", "file": {"file_data": CAT_URI}, "extras": {"detail": "low"}},
    "OpenAI's as base64": {"type": "file", "file": {"file_data": CAT}, "extras": {"detail": "low"}},
    "v0": {"type": "file", "source_type": "base64", "data": CAT, "mime_type": "image/jpeg", "detail": "low"},
    "v1 in extras": {"type": "image", "base64": CAT, "extras": {"detail": "low"}},
}


@every_way
@pytest.mark.parametrize("block", DETAILS.values(), ids=DETAILS)
def test_the_detail_is_sent(chat: ChatPredictionGuard, box: Sandbox, block: dict[str, Any], call: Any) -> None:
    call(chat, asked(block))
    assert box.requests[-1]["messages"][1]["content"][1]["image_url"] == {"url": CAT_URI, "detail": "low"}


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
    "a file's id beside the bytes": {"type": "file", "base64": CAT, "file": {"file_id": "x", "id": "y"}},
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


@pytest.mark.parametrize("kind", ["file", "image", None])
def test_no_block_in_two_forms_ends_in_a_bare_error(chat: ChatPredictionGuard, kind: Any) -> None:
    listening = chat.with_config(callbacks=[Watcher()])
    files: list[Any] = [{name: value} for name in ("file_data", "file_id", "id", "url") for value in VALUES]
    files += [{"file_data": f"data:x/y;base64,{CAT}", "file_id": value, "id": value} for value in VALUES]
    keys = [*KEYS, "id", "index", "extras", "detail", "filename", "source_type", 3]
    for file, key, value in itertools.product([*files, None], keys, VALUES):
        block = {"type": kind, "file": file, key: value}
        try:
            listening.invoke(asked({name: said for name, said in block.items() if (name, said) != ("file", None)}))
        except ContentError as error:
            place = (error.message_index, error.block_index)
            assert place == (1, 1), block


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
