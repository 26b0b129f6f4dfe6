"""Messages: what is sent of each kind, and what is read of a response."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_predictionguard import ChatPredictionGuard, ConfigurationError, ContentError
from predictionguard_core.sandbox import Sandbox
from tests.langchain.conftest import VISION
from tests.langchain.scripted import Scripted, text_reply
from tests.langchain.test_tool_calls import merged, model

CAT = base64.b64encode((Path(__file__).parents[2] / "notebooks" / "photos" / "cat.jpg").read_bytes()).decode()
IMAGE = {"type": "image", "base64": CAT, "mime_type": "image/jpeg"}


def calls(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": each} for each in ids])


def outline(box: Sandbox) -> list[tuple[str, Any]]:
    """Role and content of each message of the last request, with images as "image"."""
    return [
        (message["role"], content if isinstance(content, str) else [part.get("text", "image") for part in content])
        for message in box.requests[-1]["messages"]
        for content in [message["content"]]
    ]


def test_several_texts_go_out_as_one_string(chat: ChatPredictionGuard, box: Sandbox) -> None:
    texts = [{"type": "text", "text": "Be brief."}, "Be kind."]
    chat.invoke([SystemMessage(texts), HumanMessage([{"type": "text", "text": "Who"}, {"type": "text", "text": "?"}])])
    assert outline(box) == [("system", "Be brief.\nBe kind."), ("user", "Who\n?")]


def test_a_result_that_is_only_an_image_leaves_no_empty_message(chat: ChatPredictionGuard, box: Sandbox) -> None:
    chat.invoke([HumanMessage("Look."), calls("a"), ToolMessage([IMAGE], tool_call_id="a")])
    (*_, (role, result), shown) = outline(box)
    assert role == "tool"
    assert "image" in result
    assert shown == ("user", ["image"])


@pytest.mark.parametrize(
    ("name", "sent"), [("Ann Lee", "Ann_Lee"), ("ann", "ann"), ("Zoë!", "Zo"), ("日本", None), ("a" * 80, "a" * 64)]
)
def test_a_name_has_only_characters_that_servers_take(
    chat: ChatPredictionGuard, box: Sandbox, name: str, sent: str | None
) -> None:
    chat.invoke([HumanMessage("Hello", name=name)])
    assert box.requests[-1]["messages"][0].get("name") == sent


def test_images_of_the_system_and_the_assistant_follow_from_the_user(chat: ChatPredictionGuard, box: Sandbox) -> None:
    system = SystemMessage([{"type": "text", "text": "Compare with this."}, IMAGE])
    chat.invoke([system, HumanMessage("?"), AIMessage([{"type": "text", "text": "See."}, IMAGE]), HumanMessage("And?")])
    assert outline(box) == [
        ("system", "Compare with this."),
        ("user", ["From the system message above:", "image"]),
        ("user", "?"),
        ("assistant", "See."),
        ("user", ["From the assistant message above:", "image"]),
        ("user", "And?"),
    ]


def test_images_between_parallel_results_follow_after_them(chat: ChatPredictionGuard, box: Sandbox) -> None:
    results = [
        ToolMessage("First.", tool_call_id="a"),
        HumanMessage([IMAGE]),
        ToolMessage([{"type": "text", "text": "Second."}, IMAGE], tool_call_id="b", name="look"),
        HumanMessage("And?"),
    ]
    chat.invoke([HumanMessage("Look."), calls("a", "b"), *results])
    assert outline(box)[2:] == [
        ("tool", "First."),
        ("tool", "Second."),
        ("user", ["image"]),
        ("user", ["image"]),
        ("user", "And?"),
    ]


def test_results_go_before_the_other_messages_of_their_turn(chat: ChatPredictionGuard, box: Sandbox) -> None:
    a, b, stray = (ToolMessage(each, tool_call_id=each) for each in ("a", "b", "stray"))
    chat.invoke([HumanMessage("?"), stray, calls("a", "b"), a, HumanMessage("!"), b])
    assert outline(box)[:2] == [("user", "?"), ("tool", "stray")]
    assert outline(box)[3:] == [("tool", "a"), ("tool", "b"), ("user", "!")]


def test_images_of_several_results_are_labelled(chat: ChatPredictionGuard, box: Sandbox) -> None:
    results = [ToolMessage([IMAGE], tool_call_id=each, name="look") for each in "ab"]
    chat.invoke([HumanMessage("Look.", name="ann"), calls("a", "b"), *results])
    assert outline(box)[-1] == (
        "user",
        ["From the result of look a:", "image", "From the result of look b:", "image"],
    )
    assert [message.get("name") for message in box.requests[-1]["messages"]] == ["ann", None, None, None, None]


def test_errors_name_the_position_among_the_callers_messages(chat: ChatPredictionGuard) -> None:
    broken = HumanMessage([{"type": "image", "base64": "AAAA"}])
    with pytest.raises(ContentError) as caught:
        chat.invoke([HumanMessage("?"), calls("a"), broken, ToolMessage("Done.", tool_call_id="a")])
    assert (caught.value.message_index, caught.value.block_index) == (2, 0)


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", tool_calls=[{"name": "f", "args": {"when": datetime.date(2026, 1, 1)}, "id": "1"}]),
        ChatMessage("x", role="tool"),
        ChatMessage("x", role="narrator"),
    ],
)
def test_what_cannot_be_sent_names_its_message(chat: ChatPredictionGuard, message: Any) -> None:
    with pytest.raises(ContentError) as caught:
        chat.invoke([AIMessage("before"), message])
    assert caught.value.message_index == 1


def test_no_messages(chat: ChatPredictionGuard, box: Sandbox) -> None:
    for ask in (chat.invoke, lambda messages: list(chat.stream(messages))):
        with pytest.raises(ContentError, match="messages must not be empty"):
            ask([])
    assert box.requests == []
    assert chat.get_num_tokens_from_messages([]) == 0


def test_only_functions_are_tools() -> None:
    with pytest.raises(ConfigurationError, match="web_search"):
        ChatPredictionGuard("m", api_key="key").bind_tools([{"type": "web_search"}])


# Responses


def test_ids_are_langchains_and_the_services_is_in_the_metadata() -> None:
    for service_id in ("", "always-the-same", None):
        stream = [{"id": service_id, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}]
        with Scripted({**text_reply("Hi"), "id": service_id}, {**text_reply("Hi"), "id": service_id}, stream) as box:
            chat = model(box)
            messages = [chat.invoke("?"), chat.invoke("?"), merged(list(chat.stream("?")))]
        assert len({message.id for message in messages}) == 3
        assert all((message.id or "").startswith("lc_run--") for message in messages)
        assert [message.response_metadata.get("id") for message in messages] == [service_id or None] * 3


def refusal_replies() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    plain = text_reply("")
    plain["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    pieces = [{"role": "assistant"}, {"refusal": "I can't help "}, {"refusal": "with that."}]
    stream: list[dict[str, Any]] = [{"id": "c", "choices": [{"index": 0, "delta": each}]} for each in pieces]
    return plain, [*stream, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def test_a_refusal_is_a_block_plain_and_streamed() -> None:
    with Scripted(*refusal_replies(), text_reply("Because.")) as box:
        chat = model(box)
        plain, streamed = chat.invoke("?"), merged(list(chat.stream("?")))
        for message in (plain, streamed):
            refusals = [block for block in message.content_blocks if block["type"] == "refusal"]
            assert [block.get("refusal") for block in refusals] == ["I can't help with that."]
            assert message.additional_kwargs["refusal"] == "I can't help with that."
            chat.invoke([HumanMessage("?"), message, HumanMessage("Why?")])
            assert box.requests[-1]["messages"][1] == {"role": "assistant", "content": "I can't help with that."}


def test_only_the_first_of_several_choices_is_read() -> None:
    plain = text_reply("one")
    plain["choices"].append({"index": 1, "message": {"role": "assistant", "content": "two"}, "finish_reason": "stop"})
    stream = [
        {"id": "c", "choices": [{"index": index, "delta": {"content": text}}]}
        for index, text in [(0, "o"), (1, "t"), (0, "ne"), (1, "wo")]
    ]
    ends = [{"id": "c", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (1, 0)]
    with Scripted(plain, [*stream, *ends]) as box:
        chat = model(box, extra_body={"n": 2})
        assert chat.invoke("?").text == "one"
        assert merged(list(chat.stream("?"))).text == "one"


def test_n_of_one_is_accepted(chat: ChatPredictionGuard, box: Sandbox) -> None:
    chat.bind(n=1).invoke("Hello")
    assert "n" not in box.requests[-1]
    with pytest.raises(ConfigurationError, match="n must be 1, got 2"):
        chat.invoke("Hello", n=2)


def test_finish_reason_is_where_tracers_look(box: Sandbox) -> None:
    chat = ChatPredictionGuard(VISION, api_key="key", base_url=box.url)
    for streaming in (False, True):
        generation = chat.model_copy(update={"streaming": streaming}).generate([[HumanMessage("Hello")]])
        message = generation.generations[0][0].message  # type: ignore[union-attr]
        assert message.response_metadata["finish_reason"] == "stop"
        assert (generation.generations[0][0].generation_info or {})["finish_reason"] == "stop"
