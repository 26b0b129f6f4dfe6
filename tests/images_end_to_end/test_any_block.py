"""Content blocks with arbitrary changes: each is sent and answered, or refused with a typed error."""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import CachePoint, CitableBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.llms import AudioBlock, ChatMessage, DocumentBlock, ImageBlock, TextBlock
from pydantic import ValidationError

from predictionguard_core import ContentError, ImagePolicy, InvalidResponseError, PredictionGuardError, ServerError
from predictionguard_core.sandbox import Sandbox
from tests.images_end_to_end.entry_points import PNG, chat_model, llm, uri
from tests.images_end_to_end.fake_network import FakeNetwork

PACKAGES = ("predictionguard_core", "langchain_predictionguard", "llama_index_predictionguard")
DELEGATING = {"generate", "agenerate", "_convert_input", "outer"}
"""Our functions that only call the framework's own."""

B64 = base64.b64encode(PNG).decode()
BOUNDED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    """The sandbox, without any other network."""
    with Sandbox() as box, pytest.MonkeyPatch.context() as patch:
        FakeNetwork(patch, int(box.url.rpartition(":")[2].strip("/")))
        yield box


POLICIES = (ImagePolicy(), ImagePolicy(local_roots=["/nonexistent"]), ImagePolicy(max_edge=16, strip_metadata=True))


def outcome(ask: Callable[[], Any], box: Sandbox) -> str:
    """Ask, and check the outcome: a response, or an error that blames the content and not the service."""
    box.clear()
    try:
        ask()
    except PredictionGuardError as error:
        return _check_error(error, box)
    except Exception as error:
        if is_ours(error):
            raise
        assert box.requests == []
        return f"framework: {type(error).__name__}"
    assert len(box.requests) == 1
    return "answered"


def _check_error(error: PredictionGuardError, box: Sandbox) -> str:
    # The sandbox answers 5xx to a request that no user's input explains.
    assert not isinstance(error, ServerError | InvalidResponseError)
    # Content that was refused was not sent.
    assert not (isinstance(error, ContentError) and box.requests)
    return type(error).__name__


def is_ours(error: BaseException) -> bool:
    """Whether our own code raised an error, and not the framework that it called."""
    return any(
        Path(frame.filename).parent.name in PACKAGES and frame.name not in DELEGATING
        for frame in traceback.extract_tb(error.__traceback__)
    )


# Changes to a valid block

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, float("nan"), float("inf"), 10**30, "", " ", "\0", "\ud800", "é", "x" * 100_000),
    *("text", "image", "image_url", "file", "tool_use", "base64", "url", "id", "http://127.0.0.1:9/x", "file:///etc/x"),
    *("data:", "data:,", "data:image/png;base64,", uri(PNG), uri(b"no image"), "data:image/png;base64,\ud800"),
    *(B64, B64[:-3], B64 + "é", B64[:20] + "\n" + B64[20:], base64.b64encode(b"%PDF-1.7 nothing").decode(), "/9j/"),
    *(b"", b"bytes", PNG, bytearray(b"x"), [], [None], ["a", 1], {}, {"type": None}, {"url": None}, {"a": {"b": []}}),
    *(("tuple",), frozenset({1}), object, Path("/etc/passwd"), io.BytesIO(PNG), complex(1, 2), [[[[[[]]]]]]),
)
KEYS = (
    "type",
    "url",
    "image_url",
    "base64",
    "data",
    "source",
    "text",
    "detail",
    "extras",
    "file",
    "id",
    "mime_type",
    "",
)


def junk() -> st.SearchStrategy[Any]:
    return st.sampled_from(JUNK).map(_fresh) | st.text(max_size=20) | st.integers()


def _fresh(value: Any) -> Any:
    return io.BytesIO(PNG) if isinstance(value, io.BytesIO) else copy.deepcopy(value)


def locations(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a tree of dicts and lists."""
    if at:
        yield at
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from locations(value, (*at, key))


@st.composite
def mutated(draw: st.DrawFn, valid: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One of the valid trees with one to three changes anywhere."""
    tree = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        ways = list(locations(tree))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        holder: Any = tree
        for key in way:
            holder = holder[key]
        change = draw(st.sampled_from(["set", "set", "wrap", "drop", "add", "swap"]))
        if change == "set":
            holder[last] = draw(junk())
        elif change == "wrap":
            holder[last] = draw(st.sampled_from([[holder[last]], {"url": holder[last]}, {last: holder[last]}]))
        elif change == "drop":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(draw(junk()))
        elif change == "add":
            holder[draw(st.sampled_from(KEYS))] = draw(junk())
        else:
            holder[draw(st.sampled_from(KEYS))] = holder.pop(last)
    return tree


# LangChain

LANGCHAIN: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": "Hello"},
    {"type": "image_url", "image_url": {"url": uri(PNG), "detail": "low"}},
    {"type": "image_url", "image_url": uri(PNG)},
    {"type": "image_url", "image_url": {"url": B64}},
    {"type": "image", "url": uri(PNG), "extras": {"detail": "high"}},
    {"type": "image", "base64": B64, "mime_type": "image/png", "id": "a"},
    {"type": "image", "base64": B64},
    {"type": "image", "source_type": "base64", "data": B64, "mime_type": "image/png"},
    {"type": "image", "source_type": "url", "url": uri(PNG)},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}},
    {"type": "input_image", "image_url": uri(PNG), "detail": "auto"},
    {"type": "file", "file": {"file_data": uri(PNG), "filename": "x.png"}},
    {"type": "file", "base64": B64, "mime_type": "application/pdf"},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    {"type": "text-plain", "text": "words", "mime_type": "text/plain"},
    {"type": "reasoning", "reasoning": "hm"},
    {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "x"}},
    {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
    {"type": "video", "url": "http://127.0.0.1:9/x"},
    {"type": "non_standard", "value": {"a": 1}},
)


def conversation(role: str, content: Any) -> list[BaseMessage]:
    call = {"id": "a", "name": "look", "args": {}}
    match role:
        case "system":
            return [SystemMessage(content=content), HumanMessage("Well?")]
        case "assistant":
            return [HumanMessage("Hello"), AIMessage(content=content), HumanMessage("Well?")]
        case "tool":
            return [HumanMessage("Look"), AIMessage("", tool_calls=[call]), ToolMessage(content, tool_call_id="a")]
    return [HumanMessage(content=content)]


@BOUNDED
@given(
    role=st.sampled_from(["user", "user", "system", "assistant", "tool"]),
    blocks=st.lists(mutated(LANGCHAIN), min_size=1, max_size=2),
    policy=st.sampled_from(POLICIES),
)
def test_langchain_any_block_is_answered_or_refused(
    role: str, blocks: list[Any], policy: ImagePolicy, service: Sandbox
) -> None:
    try:
        messages = conversation(role, blocks)
    except Exception:
        reject()  # LangChain's own constructor refuses it
    event(outcome(lambda: chat_model(service, policy).invoke(messages), service))


@pytest.mark.parametrize("block", LANGCHAIN, ids=lambda block: "-".join(str(key) for key in block))
def test_langchain_each_value_of_each_block_is_answered_or_refused(block: dict[str, Any], service: Sandbox) -> None:
    """The simplest changes, one by one, so that none is left to chance."""
    model = chat_model(service)
    for *way, last in locations(block):
        for name, value in CHANGES.items():
            tree = copy.deepcopy(block)
            holder: Any = tree
            for key in way:
                holder = holder[key]
            if name == "drop":
                del holder[last]
            else:
                holder[last] = value
            for role in ("user", "tool"):
                messages = conversation(role, [tree])
                with noted(f"{'.'.join(map(str, (*way, last)))} changed to {name}, in the {role} message"):
                    outcome(lambda messages=messages: model.invoke(messages), service)


CHANGES: dict[str, Any] = {
    "drop": None,
    "None": None,
    "number": 7,
    "bytes": b"\xff\xfe",
    "surrogate": "\ud800",
    "nested": {"a": [{"b": None}]},
    "huge": "A" * 200_000,
}


@contextlib.contextmanager
def noted(case: str) -> Iterator[None]:
    """Name the case in a failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(case)
        raise


# LlamaIndex

LLAMA_INDEX: tuple[dict[str, Any], ...] = (
    {"class": TextBlock, "text": "Hello"},
    {"class": ImageBlock, "image": PNG, "image_mimetype": "image/png", "detail": "low"},
    {"class": ImageBlock, "image": B64.encode()},
    {"class": ImageBlock, "image": io.BytesIO(PNG)},
    {"class": ImageBlock, "url": uri(PNG)},
    {"class": ImageBlock, "path": "/etc/hostname"},
    {"class": DocumentBlock, "data": b"%PDF-1.7", "document_mimetype": "application/pdf", "title": "x"},
    {"class": AudioBlock, "audio": b"AAAA", "format": "wav"},
    {"class": ThinkingBlock, "content": "hm", "num_tokens": 1},
    {"class": ToolCallBlock, "tool_call_id": "a", "tool_name": "look", "tool_kwargs": {"at": "x"}},
    {"class": CachePoint, "cache_control": {"type": "ephemeral"}},
    {"class": CitableBlock, "title": "t", "source": "s", "content": [{"block_type": "text", "text": "c"}]},
)
for _each in LLAMA_INDEX:
    _each["class"] = _each["class"].__name__
_CLASSES = {
    each.__name__: each
    for each in (
        TextBlock, ImageBlock, DocumentBlock, AudioBlock, ThinkingBlock, ToolCallBlock, CachePoint, CitableBlock,
    )
}  # fmt: skip


@st.composite
def mutated_block(draw: st.DrawFn) -> Any:
    """A block that LlamaIndex's own constructor accepts."""
    whole = draw(mutated(LLAMA_INDEX))
    made = _CLASSES.get(whole.pop("class", "") if isinstance(whole.get("class"), str) else "", ImageBlock)
    fields = {key: value for key, value in whole.items() if isinstance(key, str) and key.isidentifier()}
    try:
        return made(**fields)
    except Exception:
        reject()


def llama_conversation(role: str, blocks: list[Any]) -> list[ChatMessage]:
    call = ToolCallBlock(tool_call_id="a", tool_name="look", tool_kwargs={})
    said = ChatMessage(role=role, blocks=blocks)
    match role:
        case "system":
            return [said, ChatMessage(role="user", content="Well?")]
        case "assistant":
            return [ChatMessage(role="user", content="Hello"), said, ChatMessage(role="user", content="Well?")]
        case "tool":
            said.additional_kwargs["tool_call_id"] = "a"
            return [ChatMessage(role="user", content="Look"), ChatMessage(role="assistant", blocks=[call]), said]
    return [said]


@BOUNDED
@given(
    role=st.sampled_from(["user", "user", "system", "assistant", "tool"]),
    blocks=st.lists(mutated_block(), min_size=1, max_size=2),
    policy=st.sampled_from(POLICIES),
)
def test_llama_index_any_block_is_answered_or_refused(
    role: str, blocks: list[Any], policy: ImagePolicy, service: Sandbox
) -> None:
    try:
        messages = llama_conversation(role, blocks)
    except (ValidationError, TypeError, ValueError):
        reject()
    event(outcome(lambda: llm(service, policy).chat(messages), service))


@pytest.mark.parametrize("field", ["image", "path", "url", "detail", "image_mimetype"])
def test_llama_index_each_field_of_an_image_is_answered_or_refused(field: str, service: Sandbox) -> None:
    """LlamaIndex does not validate a field that is set after the block was created."""
    model = llm(service)
    for value in JUNK:
        for role in ("user", "tool"):
            block = ImageBlock(image=PNG) if field in ("detail", "image_mimetype") else ImageBlock()
            setattr(block, field, _fresh(value))
            messages = llama_conversation(role, [TextBlock(text="What is this?"), block])
            with noted(f"{field}={ascii(value)[:60]}, in the {role} message"):
                outcome(lambda messages=messages: model.chat(messages), service)
