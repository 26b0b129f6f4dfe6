"""ChatPredictionGuard in prompts, chains and agents, with caches, rate limiters and token counts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_predictionguard import ChatPredictionGuard, ContentError, Image, ImagePolicy
from predictionguard_core.sandbox import Sandbox
from tests.langchain.conftest import VISION
from tests.langchain.scripted import Scripted, text_reply, tool_call_reply, tool_call_stream

PHOTOS = Path(__file__).parents[2] / "notebooks" / "photos"
CAT, COFFEE = (base64.b64encode((PHOTOS / name).read_bytes()).decode() for name in ("cat.jpg", "coffee.jpg"))


def question(image: str, text: str = "What is it?") -> list[HumanMessage]:
    return [HumanMessage([{"type": "text", "text": text}, {"type": "image", "base64": image}])]


def test_prompt_template_with_an_image_variable(chat: ChatPredictionGuard) -> None:
    prompt = ChatPromptTemplate.from_messages(
        [("user", [{"type": "text", "text": "{ask}"}, {"type": "image_url", "image_url": {"url": "{photo}"}}])]
    )
    chain = prompt | chat | StrOutputParser()
    answer = chain.invoke({"ask": "How large?", "photo": f"data:image/jpeg;base64,{CAT}"})
    assert "451 x 300" in answer
    assert "How large?" in answer


@tool
def take_photo(place: str) -> list[dict[str, Any]]:
    """Take a photo of a place."""
    return [{"type": "text", "text": f"A photo of {place}."}, {"type": "image", "base64": CAT}]


def test_agent_gets_the_image_that_its_tool_returned(chat: ChatPredictionGuard, box: Sandbox) -> None:
    agent = create_agent(chat, tools=[take_photo])
    state = agent.invoke({"messages": [{"role": "user", "content": "Take a photo of Vienna and describe it."}]})
    assert "451 x 300" in state["messages"][-1].text
    assert [type(message) is ToolMessage for message in state["messages"]].count(True) == 1
    assert len(box.requests) == 2


@pytest.mark.parametrize("as_list", [True, False])
def test_image_block_that_langchain_turned_into_json_text_is_sent_as_an_image(
    chat: ChatPredictionGuard, box: Sandbox, as_list: bool
) -> None:
    @tool
    def take_photo(place: str) -> Any:
        """Take a photo of a place."""
        block = {"type": "image", "base64": CAT, "mime_type": "image/jpeg"}
        return ["here", block] if as_list else block

    agent = create_agent(chat, tools=[take_photo])
    state = agent.invoke({"messages": [{"role": "user", "content": "Take a photo of Vienna and describe it."}]})
    assert "451 x 300" in state["messages"][-1].text


def test_image_object_that_a_tool_returned_is_refused(chat: ChatPredictionGuard) -> None:
    @tool
    def take_photo(place: str) -> Any:
        """Take a photo of a place."""
        return Image.open(PHOTOS / "cat.jpg")

    agent = create_agent(chat, tools=[take_photo])
    with pytest.raises(ContentError, match=r"Return \[image.block\(\)\] instead"):
        agent.invoke({"messages": [{"role": "user", "content": "Take a photo of Vienna and describe it."}]})


async def test_agent_streams_events_async(chat: ChatPredictionGuard) -> None:
    agent = create_agent(chat, tools=[take_photo])
    ask = {"messages": [{"role": "user", "content": "Take a photo of Vienna and describe it."}]}
    kinds = {event["event"] async for event in agent.astream_events(ask, version="v2")}
    assert {"on_chat_model_start", "on_chat_model_end", "on_tool_end"} <= kinds
    await chat.aclose()


def test_cache_distinguishes_images(box: Sandbox) -> None:
    chat = ChatPredictionGuard(VISION, api_key="key", base_url=box.url, cache=InMemoryCache())
    first = chat.invoke(question(CAT)).text
    assert chat.invoke(question(CAT)).text == first
    assert len(box.requests) == 1
    assert chat.invoke(question(COFFEE)).text != first
    assert len(box.requests) == 2


def test_rate_limiter_is_called(box: Sandbox) -> None:
    class Counting(InMemoryRateLimiter):
        count = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            Counting.count += 1
            return True

    ChatPredictionGuard(VISION, api_key="key", base_url=box.url, rate_limiter=Counting()).invoke("Hello")
    assert Counting.count == 1


def test_configurable_fields(chat: ChatPredictionGuard, box: Sandbox) -> None:
    flexible = chat.configurable_fields(temperature=ConfigurableField(id="heat"))
    flexible.invoke("Hello", config={"configurable": {"heat": 1.25}})
    assert box.requests[-1]["temperature"] == 1.25


def test_with_retry_retries_only_the_listed_errors(chat: ChatPredictionGuard, box: Sandbox) -> None:
    stubborn = chat.bind(model="no-such-model").with_retry(
        retry_if_exception_type=(ContentError,), stop_after_attempt=3, wait_exponential_jitter=False
    )
    with pytest.raises(Exception, match="no-such-model"):
        stubborn.invoke("Hello")
    assert len(box.requests) == 1


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_reasoning_is_a_separate_content_block(box: Sandbox, version: str) -> None:
    chat = ChatPredictionGuard("gpt-oss-120b", api_key="key", base_url=box.url, output_version=version)
    answer = chat.invoke("Think about Vienna.")
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]
    whole: Any = None
    for chunk in chat.stream("Think about Vienna."):
        whole = chunk if whole is None else whole + chunk
    assert [block["type"] for block in whole.content_blocks] == ["reasoning", "text"]
    assert whole.text == answer.text


def test_tokens_are_estimated_offline_from_the_image_size() -> None:
    chat = ChatPredictionGuard(VISION, api_key="key", base_url="http://127.0.0.1:9")
    text = chat.get_num_tokens_from_messages([HumanMessage("What is it?")])
    cat = chat.get_num_tokens_from_messages(question(CAT))
    coffee = chat.get_num_tokens_from_messages(question(COFFEE))
    # 451 x 300 pixels are 16 x 11 tiles, 600 x 400 are 21 x 14, with one token before and one after.
    assert (cat - text, coffee - text) == (16 * 11 + 2, 21 * 14 + 2)
    assert chat.get_num_tokens("four letters") == 3
    remote = HumanMessage([{"type": "image", "url": "https://example.com/photo.jpg"}])
    assert chat.get_num_tokens_from_messages([remote]) > 1000


def test_profile() -> None:
    known = ChatPredictionGuard(VISION, api_key="key").profile
    assert known is not None
    assert (known["image_inputs"], known["max_input_tokens"]) == (True, 16_384)
    assert ChatPredictionGuard("a-model-of-tomorrow", api_key="key").profile is None


class Weather(BaseModel):
    """The weather of a place."""

    place: str


def test_agent_with_tool_and_response_format_ends(chat: ChatPredictionGuard) -> None:
    agent = create_agent(chat, tools=[take_photo], response_format=ToolStrategy(Weather))
    ask = {"messages": [{"role": "user", "content": "Take a photo of Vienna and tell the weather there."}]}
    assert agent.invoke(ask, {"recursion_limit": 12})["structured_response"] == Weather(place="Vienna")


def test_cache_distinguishes_image_policies(box: Sandbox) -> None:
    cache = InMemoryCache()
    large = ChatPredictionGuard(VISION, api_key="key", base_url=box.url, cache=cache)
    small = ChatPredictionGuard(VISION, api_key="key", base_url=box.url, cache=cache, images=ImagePolicy(max_edge=64))
    assert "451 x 300" in large.invoke(question(CAT)).text
    assert "64 x 43" in small.invoke(question(CAT)).text


@tool
def look(place: str) -> str:
    """Look at a place."""
    return f"{place} is there."


@pytest.mark.parametrize("missing", [None, ""])
@pytest.mark.parametrize("streaming", [False, True])
def test_agent_handles_tool_calls_without_an_id(missing: Any, streaming: bool) -> None:
    arguments = '{"place": "Linz"}'
    call = tool_call_stream(missing, *arguments) if streaming else tool_call_reply(missing, arguments)
    end = [
        {"id": "d", "choices": [{"index": 0, "delta": {"content": "It is."}}]},
        {"id": "d", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    with Scripted(call, end if streaming else text_reply("It is.")) as box:
        chat = ChatPredictionGuard("m", api_key="key", base_url=box.url, streaming=streaming)
        agent = create_agent(chat, tools=[look])
        answer = agent.invoke({"messages": [{"role": "user", "content": "Is Linz there?"}]})["messages"][-1]
    assert answer.text == "It is."
    call, result = box.requests[-1]["messages"][1:]
    assert call["tool_calls"][0]["id"]
    assert call["tool_calls"][0]["function"] == {"name": "look", "arguments": arguments}
    assert (result["tool_call_id"], result["content"]) == (call["tool_calls"][0]["id"], "Linz is there.")
