"""`POST /chat/completions`: checks, an answer or tool calls, usage, and the stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from predictionguard_core.sandbox import checks, text, tokens, tools
from predictionguard_core.sandbox.conversation import Conversation, read
from predictionguard_core.sandbox.memory import Memory
from predictionguard_core.sandbox.reply import DONE, Refusal, Reply, identifier, now
from predictionguard_core.sandbox.tools import Call

_PER_MESSAGE = 4
_FRAGMENT = 12


@dataclass(frozen=True)
class Outcome:
    """What the model says: words or calls, the thought before them, and why it ended."""

    content: str | None
    reasoning: str | None
    calls: Sequence[Call]
    finish_reason: str

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the thought."""
        return tokens.count(self.reasoning or "")

    @property
    def tokens(self) -> int:
        """Tokens of everything the model said, the thought included."""
        said = tokens.count(self.content or "") + self.reasoning_tokens
        return said + sum(tokens.count(call.name) + tokens.count(call.arguments) for call in self.calls)


def respond(body: object, memory: Memory, *, vision_streaming: bool = False, says: Outcome | None = None) -> Reply:
    """The reply to a decoded body; raises `Refusal`. `says` is what the model says, where that is known beforehand."""
    conversation = read(body, vision_streaming=vision_streaming)
    prompt_tokens, marks = _prompt(conversation)
    _fits(conversation, prompt_tokens)
    conversation = conversation.with_texts(_checked_input(conversation))
    outcome = says or _outcome(conversation)
    if outcome.content is not None:
        reference = "\n".join(message.text for message in conversation.messages)
        checks.check_output(outcome.content, reference, conversation.options.checks)
    cached = memory.shared(conversation.model.name, marks)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": outcome.tokens,
        "total_tokens": prompt_tokens + outcome.tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": outcome.reasoning_tokens},
    }
    if conversation.options.stream:
        return Reply(200, events=_events(conversation, outcome, usage))
    choice = {"index": 0, "message": _message(outcome), "finish_reason": outcome.finish_reason}
    return Reply(
        200,
        {
            "id": identifier("chat"),
            "object": "chat.completion",
            "created": now(),
            "model": conversation.model.name,
            "choices": [choice],
            "usage": usage,
        },
    )


def _prompt(conversation: Conversation) -> tuple[int, list[tuple[bytes, int]]]:
    """The prompt's tokens, and each message's fingerprint with its share of them."""
    # A changed tool list changes the head of the prompt, so nothing behind it is shared.
    declared = "".join(f"{tool.name} {tool.description} {_dumps(tool.parameters)}" for tool in conversation.tools)
    marks = [(declared.encode("utf-8", "surrogatepass"), tokens.count(declared))]
    for message in conversation.messages:
        size = _PER_MESSAGE + tokens.count(message.text)
        size += sum(tokens.image(*picture.stored) for picture in message.pictures)
        marks.append((message.stamp, size))
    return sum(size for _, size in marks), marks


def _fits(conversation: Conversation, prompt_tokens: int) -> None:
    context, limit = conversation.model.context, conversation.options.limit or 0
    if prompt_tokens + max(limit, 1) > context:
        raise Refusal(
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{prompt_tokens + limit} tokens ({prompt_tokens} in the messages, {limit} in the completion). "
            "Please reduce the length of the messages or completion."
        )


def _checked_input(conversation: Conversation) -> list[str]:
    """The texts of the messages after the input checks; those of the user and of tools are checked."""
    wanted = conversation.options.checks
    return [
        checks.check_input(message.text, wanted) if message.role in ("user", "tool") else message.text
        for message in conversation.messages
    ]


def _outcome(conversation: Conversation) -> Outcome:
    calls = tools.choose(conversation)
    reasoning = None
    if conversation.model.can("reasoning"):
        reasoning = text.reasoning(conversation, [call.name for call in calls])
    if calls:
        return Outcome(None, reasoning, calls, "tool_calls")
    limit = conversation.options.limit
    spent = tokens.count(reasoning or "")
    if limit is not None and spent >= limit:
        return Outcome("", "".join(tokens.split(reasoning or "")[:limit]), (), "length")
    content, reason = text.finish(
        text.answer(conversation), conversation.options.stop, None if limit is None else limit - spent
    )
    return Outcome(content, reasoning, (), reason)


def _message(outcome: Outcome) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": outcome.content}
    if outcome.reasoning is not None:
        message["reasoning"] = outcome.reasoning
    if outcome.calls:
        message["tool_calls"] = [call.wire() for call in outcome.calls]
    return message


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _events(conversation: Conversation, outcome: Outcome, usage: dict[str, Any]) -> Iterator[str]:
    """The `data` fields of the stream; every chunk bears an id of its own, as the endpoint's do."""
    created = now()

    def chunk(choices: list[dict[str, Any]], **more: object) -> str:
        head = {"id": identifier("chat"), "object": "chat.completion.chunk", "created": created}
        return _dumps({**head, "model": conversation.model.name, "choices": choices, **more})

    def delta(value: dict[str, Any], whole: str | None = None, reason: str | None = None) -> str:
        return chunk([{"index": 0, "delta": value, "generated_text": whole, "finish_reason": reason}])

    yield delta({"role": "assistant", "content": ""})
    for piece in text.pieces(outcome.reasoning or ""):
        yield delta({"reasoning": piece})
    for piece in text.pieces(outcome.content or ""):
        yield delta({"content": piece})
    for index, call in enumerate(outcome.calls):
        first = {"index": index, **call.wire(), "function": {"name": call.name, "arguments": ""}}
        yield delta({"tool_calls": [first]})
        for start in range(0, len(call.arguments), _FRAGMENT):
            piece = call.arguments[start : start + _FRAGMENT]
            yield delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield delta({}, outcome.content, outcome.finish_reason)
    if conversation.options.include_usage:
        yield chunk([], usage=usage)
    yield DONE
