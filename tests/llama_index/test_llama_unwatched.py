"""Calls that nobody watches go past LlamaIndex's decorators: what they answer, and what is still kept to."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index_instrumentation import root_manager

from llama_index_predictionguard import PredictionGuard, traces
from predictionguard_core.errors import ContentError
from predictionguard_core.sandbox import Sandbox
from tests.llama_index.conftest import Watch

ASK = "What is this?"
# Older releases have no rate limiter.
HAS_LIMITER = "rate_limiter" in PredictionGuard.model_fields
HELLO = [ChatMessage(role="user", content="hello")]


class Turnstile:
    """Lets everybody through, and counts them."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self) -> None:
        self.passed += 1

    async def async_acquire(self) -> None:
        self.passed += 1


async def asked(llm: Any, call: str) -> list[str]:
    """What one of the eight calls answers, in as many pieces as it came in."""
    found = getattr(llm, call)([ChatMessage(role="user", content=ASK)] if call.endswith("chat") else ASK)
    found = await found if call.startswith("a") else found
    if "stream" not in call:
        return [str(found)]
    return [each.delta async for each in found] if call.startswith("a") else [each.delta for each in found]


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "unwatched"])
@pytest.mark.parametrize("call", [f"{a}{name}" for a in ("", "a") for name in traces._CALLS])
async def test_each_call_answers_the_same_whether_or_not_somebody_watches(
    is_watched: bool, call: str, make: Any, request: pytest.FixtureRequest
) -> None:
    unwatched = await asked(make(), call)
    turnstile = Turnstile()
    options = {"rate_limiter": turnstile} if HAS_LIMITER else {}
    watch = request.getfixturevalue("watch") if is_watched else None
    assert await asked(make(**options), call) == unwatched
    assert turnstile.passed == len(options)
    if watch is not None:
        kind = "Chat" if call.endswith("chat") else "Completion"
        assert len(watch.named(f"LLM{kind}InProgressEvent")) == (len(unwatched) if "stream" in call else 0)
        assert len(watch.named(f"LLM{kind}EndEvent")) == 1


@pytest.mark.parametrize("call", [name for name in traces.CALLS if name.endswith("chat")])
async def test_messages_that_can_be_gone_through_once(call: str, make: Any, box: Sandbox) -> None:
    for options in ({}, {"rate_limiter": Turnstile()} if HAS_LIMITER else {}):
        found = getattr(make(**options), call)(each for each in HELLO)
        found = await found if call.startswith("a") else found
        if "stream" in call:
            found = [each async for each in found] if call.startswith("a") else list(found)
        assert found
        assert box.requests[-1]["messages"] == [{"role": "user", "content": "hello"}]


PICTURE = ImageBlock(image=b"GIF89a" + bytes(200))
ASKED = ChatMessage(role="user", blocks=[TextBlock(text=ASK), PICTURE])


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "unwatched"])
@pytest.mark.parametrize("kind", ["PredictionGuard", "PredictionGuardMultiModal"])
@pytest.mark.parametrize("call", traces.CALLS)
async def test_what_is_no_message_is_refused_alike(
    call: str, kind: str, is_watched: bool, make: Any, make_multi: Any, request: pytest.FixtureRequest
) -> None:
    llm = make() if kind == "PredictionGuard" else make_multi()
    if is_watched:
        request.getfixturevalue("watch")
    wrong: dict[int | None, list[Any]] = {None: [ASK, ASKED, {"role": "user"}, None, 7, b"a"]}
    wrong |= {0: [[[ASKED]], (ASK,), [None]], 1: [[ASKED, {"role": "user"}]]}
    if not call.endswith("chat"):
        wrong = {None: [ASKED, [ASKED], None, 7, b"a"]}
    name = "messages" if call.endswith("chat") else "prompt"
    for place, each in wrong.items():
        for given in each:
            for args, kwargs in (((given,), {}), ((), {name: given})):
                with pytest.raises(ContentError, match=r"takes (a bare prompt|messages)") as caught:
                    await getattr(llm, call)(*args, **kwargs)
                assert caught.value.message_index == place
                assert "R0lGOD" not in str(caught.value)


@pytest.mark.parametrize("where", ["root", "llama_index.core.llms.callbacks"])
def test_a_watcher_is_told_wherever_it_stands(where: str, llm: PredictionGuard) -> None:
    at, watch = get_dispatcher(where), Watch()
    before, at.event_handlers = list(at.event_handlers), [*at.event_handlers, watch]
    try:
        llm.chat(HELLO)
    finally:
        at.event_handlers = before
    assert [event.class_name() for event in watch.events if "LLMChat" in event.class_name()] == [
        "LLMChatStartEvent",
        "LLMChatEndEvent",
    ]


def test_who_imports_meanwhile_is_not_in_the_way(llm: PredictionGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatchers = dict(root_manager.dispatchers)

    class Busy:
        """A module's dispatcher; while one looks at it, others come."""

        span_handlers: ClassVar[list[Any]] = []

        @property
        def event_handlers(self) -> list[Any]:
            dispatchers[f"imported {len(dispatchers)}"] = get_dispatcher()
            return []

    dispatchers["busy"] = Busy()  # type: ignore[assignment]
    monkeypatch.setattr(root_manager, "dispatchers", dispatchers)
    assert not traces.is_watched(llm)
    assert "imported" in list(dispatchers)[-1]


def test_no_event_is_made_where_nobody_watches(llm: PredictionGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(get_dispatcher("llama_index.core.llms.callbacks").__class__, "event", told.append)
    assert len(list(llm.stream_chat(HELLO))) > 1
    assert told == []
