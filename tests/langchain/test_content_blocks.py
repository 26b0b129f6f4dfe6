"""Content blocks that LangChain itself cannot convert: they still work, or raise ContentError, in every call method."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import random
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


async def _read_astream(chat: ChatPredictionGuard, messages: list[BaseMessage]) -> None:
    async for _ in chat.astream(messages):
        pass


CALLS: dict[str, Callable[[ChatPredictionGuard, list[BaseMessage]], Any]] = {
    "invoke": lambda chat, messages: chat.invoke(messages),
    "stream": lambda chat, messages: list(chat.stream(messages)),
    "generate": lambda chat, messages: chat.generate([messages]),
    "batch": lambda chat, messages: chat.batch([messages]),
    "ainvoke": lambda chat, messages: asyncio.run(chat.ainvoke(messages)),
    "astream": lambda chat, messages: asyncio.run(_read_astream(chat, messages)),
    "agenerate": lambda chat, messages: asyncio.run(chat.agenerate([messages])),
}
every_call_method = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class Observer(BaseCallbackHandler):
    """A callback handler: with one, LangChain converts the messages for its traces."""


def messages_with(block: Any) -> list[BaseMessage]:
    return [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "What is it?"}, block])]


TEXT_FILES = {
    "v0": {"type": "file", "source_type": "text", "text": "abc", "mime_type": "text/plain"},
    "v0 without mime type": {"type": "file", "source_type": "text", "text": "abc"},
    "v0 with the text under 'url'": {"type": "file", "source_type": "text", "url": "abc"},
    "v0 with an id": {"type": "file", "source_type": "text", "url": "abc", "id": "1"},
    "v1": {"type": "text-plain", "text": "abc", "mime_type": "text/plain"},
    "v1 base64": {"type": "text-plain", "base64": "YWJj", "mime_type": "text/plain"},
}


@every_call_method
def test_text_file_is_sent_as_text(chat: ChatPredictionGuard, box: Sandbox, call: Any) -> None:
    for name, block in TEXT_FILES.items():
        messages = messages_with(block)
        before = copy.deepcopy(messages)
        call(chat, messages)
        assert box.requests[-1]["messages"][1]["content"] == "What is it?\nabc", name
        assert messages == before, f"{name}: the caller's messages were changed"


IMAGES = {
    "v0 url with an id": {"type": "image", "source_type": "url", "url": CAT_URI, "id": "1"},
    "v0 base64 with an id": {"type": "image", "source_type": "base64", "data": CAT, "id": "1"},
    "v0 base64 under v1's key": {"type": "image", "source_type": "base64", "base64": CAT},
    "v0 file with an id": {"type": "file", "source_type": "base64", "data": CAT, "mime_type": "image/jpeg", "id": "1"},
    "v0 base64 with its original URL": {
        "type": "image",
        "source_type": "base64",
        "data": CAT,
        "url": "https://example.com/cat.jpg",
    },
    "OpenAI file with a null file_id": {"type": "file", "file": {"file_data": CAT_URI, "file_id": None, "id": "1"}},
    "OpenAI file with v1 keys": {"type": "file", "base64": None, "file": {"file_data": CAT_URI, "filename": "cat.jpg"}},
    "OpenAI file with more keys": {
        "type": "file",
        "id": "1",
        "index": 0,
        "mime_type": "x",
        "file": {"file_data": CAT_URI},
    },
    "OpenAI file in v0": {"type": "file", "source_type": "base64", "id": "1", "file": {"file_data": CAT_URI}},
}


@every_call_method
def test_image_is_sent_as_image(chat: ChatPredictionGuard, box: Sandbox, call: Any) -> None:
    for name, block in IMAGES.items():
        call(chat, messages_with(block))
        assert box.requests[-1]["messages"][1]["content"][1]["image_url"]["url"] == CAT_URI, name


IMAGES_WITH_TEXT = {
    "v0 file": {
        "type": "file",
        "source_type": "base64",
        "data": CAT,
        "mime_type": "image/jpeg",
        "text": "a cat",
    },
    "Anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/jpeg", "data": CAT},
        "text": "a cat",
    },
    "v0 image": {"type": "image", "source_type": "base64", "data": CAT, "id": "1", "text": "a cat"},
    "v1 image": {"type": "image", "base64": CAT, "mime_type": "image/jpeg", "text": "a cat"},
    "v1 file": {"type": "file", "base64": CAT, "mime_type": "image/jpeg", "text": "a cat"},
    "v1 url": {"type": "file", "url": CAT_URI, "text": "a cat"},
    "text in extras": {"type": "image", "url": CAT_URI, "extras": {"text": "a cat"}},
    "Anthropic with extras": {
        "type": "image",
        "source": {"type": "url", "url": CAT_URI},
        "text": "a cat",
        "extras": {"a": 1},
    },
    "OpenAI file": {"type": "file", "file": {"file_data": CAT_URI}, "text": "a cat"},
    "OpenAI file in v0": {"type": "file", "source_type": "base64", "file": {"file_data": CAT_URI}, "text": "a cat"},
    "no type": {"image_url": {"url": CAT_URI}, "text": "a cat"},
}


@every_call_method
def test_text_in_an_image_block_is_sent_before_the_image(chat: ChatPredictionGuard, box: Sandbox, call: Any) -> None:
    for name, block in IMAGES_WITH_TEXT.items():
        messages = messages_with(block)
        before = copy.deepcopy(messages)
        call(chat, messages)
        text, image = box.requests[-1]["messages"][1]["content"][1:]
        assert text == {"type": "text", "text": "a cat"}, name
        assert image["image_url"]["url"] == CAT_URI, name
        assert messages == before, f"{name}: the caller's messages were changed"


IMAGES_WITH_DETAIL = {
    "OpenAI file": {"type": "file", "file": {"file_data": CAT_URI}, "detail": "low"},
    "OpenAI file in v0": {"type": "file", "source_type": "base64", "file": {"file_data": CAT_URI}, "detail": "low"},
    "OpenAI file with extras": {"type": "file", "file": {"file_data": CAT_URI}, "extras": {"detail": "low"}},
    "OpenAI file, bare base64": {"type": "file", "file": {"file_data": CAT}, "extras": {"detail": "low"}},
    "v0": {"type": "file", "source_type": "base64", "data": CAT, "mime_type": "image/jpeg", "detail": "low"},
    "v1 with extras": {"type": "image", "base64": CAT, "extras": {"detail": "low"}},
}


@every_call_method
def test_detail_is_sent(chat: ChatPredictionGuard, box: Sandbox, call: Any) -> None:
    for name, block in IMAGES_WITH_DETAIL.items():
        call(chat, messages_with(block))
        sent = box.requests[-1]["messages"][1]["content"][1]["image_url"]
        assert sent == {"url": CAT_URI, "detail": "low"}, name


INCOMPLETE = {
    "v0 base64": {"type": "image", "source_type": "base64"},
    "v0 url": {"type": "image", "source_type": "url"},
    "v0 id": {"type": "image", "source_type": "id"},
    "v0 file": {"type": "file", "source_type": "base64", "mime_type": "application/pdf"},
    "v0 text": {"type": "file", "source_type": "text"},
    "v0 audio": {"type": "audio", "source_type": "base64"},
    "v0 source_type is a list": {"type": "image", "source_type": ["base64"], "data": CAT[:-1] + "!"},
    "null id": {"type": "file", "source_type": "id", "id": None},
    "image with only a text": {"type": "image", "text": "a cat"},
    "file_id in addition to base64": {"type": "file", "base64": CAT, "file": {"file_id": "x", "id": "y"}},
    "type is a list": {"type": ["image"], "url": CAT_URI},
}


@every_call_method
def test_incomplete_block_raises_content_error_with_its_location(
    chat: ChatPredictionGuard, box: Sandbox, call: Any
) -> None:
    for name, block in INCOMPLETE.items():
        with pytest.raises(ContentError) as caught:
            call(chat, messages_with(block))
        assert (caught.value.message_index, caught.value.block_index) == (1, 1), name
        assert box.requests == [], f"{name}: a request was sent"


TYPES = ["image", "file", "audio", "video", "text", "text-plain", "document", None, 3, ["image"]]
SOURCE_TYPES = ["url", "base64", "id", "text", "other", None, [], 3]
KEYS = ["url", "data", "base64", "id", "text", "file", "file_id", "source", "mime_type", "image_url"]
VALUES = [None, "", "x", [], {}, 3, {"url": "x"}, {"file_id": "x"}]


def v0_blocks() -> list[dict[Any, Any]]:
    """Every combination of type, source_type and one more key, valid or not."""
    return [
        {"type": kind, "source_type": source_type, "id": "1", key: value}
        for kind, source_type, key, value in itertools.product(TYPES, SOURCE_TYPES, KEYS, VALUES)
    ]


def openai_file_blocks() -> list[dict[Any, Any]]:
    """Every combination of an OpenAI file with a key of another format."""
    files: list[Any] = [{name: value} for name in ("file_data", "file_id", "id", "url") for value in VALUES]
    files += [{"file_data": f"data:x/y;base64,{CAT}", "file_id": value, "id": value} for value in VALUES]
    keys = [*KEYS, "id", "index", "extras", "detail", "filename", "source_type", 3]
    blocks = []
    for kind, file, key, value in itertools.product(["file", "image", None], [*files, None], keys, VALUES):
        block = {"type": kind, "file": file, key: value}
        if block["file"] is None:
            del block["file"]
        blocks.append(block)
    return blocks


def check_only_content_error(chat: ChatPredictionGuard, blocks: list[dict[Any, Any]]) -> None:
    observed = chat.with_config(callbacks=[Observer()])
    for block in blocks:
        location: Any = (1, 1)
        try:
            observed.invoke(messages_with(block))
        except ContentError as error:
            location = (error.message_index, error.block_index)
        except Exception as error:
            error.add_note(f"block: {block!r:.500}")
            raise
        assert location == (1, 1), block


def test_malformed_block_raises_only_content_error(chat: ChatPredictionGuard) -> None:
    """A fixed sample keeps this fast; the test below tries every combination."""
    for blocks in (v0_blocks(), openai_file_blocks()):
        check_only_content_error(chat, random.Random(0).sample(blocks, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [v0_blocks, openai_file_blocks])
def test_every_malformed_block_raises_only_content_error(chat: ChatPredictionGuard, blocks: Any) -> None:
    check_only_content_error(chat, blocks())


REFUSALS = {
    "as a content block": AIMessage([{"type": "refusal", "refusal": "No."}]),
    "in additional_kwargs": AIMessage("", additional_kwargs={"refusal": "No."}),
}


@pytest.mark.parametrize("message", REFUSALS.values(), ids=REFUSALS)
def test_refusal_is_sent_as_the_assistants_text(chat: ChatPredictionGuard, box: Sandbox, message: AIMessage) -> None:
    chat.invoke([HumanMessage("May I?"), message, HumanMessage("Why?")])
    assert box.requests[-1]["messages"][1] == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_call", "refusal"])
def test_blocks_of_other_providers_are_not_dropped_silently(chat: ChatPredictionGuard, kind: str) -> None:
    message = AIMessage([{"type": "text", "text": "Let me see."}, {"type": kind, "id": "1"}])
    with pytest.raises(ContentError, match=kind) as caught:
        chat.invoke([HumanMessage("?"), message])
    assert (caught.value.message_index, caught.value.block_index) == (1, 1)
