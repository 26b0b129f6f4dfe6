"""`POST /chat/completions` and `POST /completions`: checks, an answer or tool calls, usage, and the stream."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from predictionguard_core.sandbox import models, tokens
from predictionguard_core.sandbox.chat import answers, tool_calls
from predictionguard_core.sandbox.chat.request import Conversation, read_conversation, read_settings
from predictionguard_core.sandbox.checks import rules
from predictionguard_core.sandbox.options import Answer, Options
from predictionguard_core.sandbox.responses import DONE, Response, ServiceError, head
from predictionguard_core.sandbox.validation import Fields

_TOKENS_PER_MESSAGE = 4
_FRAGMENT = 12
CACHE_BLOCK = 16
"""Cached tokens are counted in whole blocks of this many, as servers with a prefix cache keep them."""

_Prompt = list[tuple[int, int]]
"""A digest and a number of tokens for each part of a prompt, in order."""


class PromptCache:
    """The last prompt of each model, to count cached tokens; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, _Prompt] = {}

    def count(self, model: str, prompt: _Prompt) -> int:
        """Return how many leading tokens this prompt shares with the model's last one; then remember this one."""
        with self._lock:
            before = self._last.get(model, [])
            self._last[model] = prompt
        common = 0
        for old, new in zip(before, prompt, strict=False):
            if old != new:
                break
            common += new[1]
        # The last token is always computed again.
        return max(0, min(common, _total(prompt) - 1)) // CACHE_BLOCK * CACHE_BLOCK

    def clear(self) -> None:
        """Forget all prompts."""
        with self._lock:
            self._last.clear()


def chat(body: object, options: Options, cache: PromptCache) -> Response:
    """Return the response to a chat request."""
    conversation = read_conversation(body, vision_streaming=options.vision_streaming)
    settings, model = conversation.settings, conversation.model
    prompt = _prompt(conversation)
    _check_length(model, _total(prompt), settings.max_tokens)
    conversation = conversation.with_texts(_checked_texts(conversation))
    answer = options.scripted.answer or _answer(conversation, options)
    if answer.content is not None:
        reference = "\n".join(message.text for message in conversation.messages)
        rules.check_output(answer.content, reference, settings.checks)
    choices = [answer] * (options.scripted.choices or settings.choices)
    usage = _usage(_total(prompt), choices, cache.count(model.name, prompt))
    response_id = options.scripted.response_id
    if settings.stream:
        events = _chat_events(model.name, choices, usage if settings.include_usage else None, response_id)
        return Response(200, events=events)
    listed = [
        {"index": index, "message": _message(each), "finish_reason": each.finish_reason}
        for index, each in enumerate(choices)
    ]
    start = head("chat", "chat.completion", model=model.name, response_id=response_id)
    return Response(200, {**start, "choices": listed, "usage": usage})


def _prompt(conversation: Conversation) -> _Prompt:
    # A changed tool list changes the beginning of the prompt, so nothing after it is shared.
    declared = "".join(f"{tool.name} {tool.description} {_dumps(tool.parameters)}" for tool in conversation.tools)
    parts = [(hash(declared), tokens.count(declared))]
    for message in conversation.messages:
        size = _TOKENS_PER_MESSAGE + tokens.count(message.text) + sum(image.token_count for image in message.images)
        parts.append((message.digest, size))
    return parts


def _total(prompt: _Prompt) -> int:
    return sum(size for _, size in prompt)


def _check_length(model: models.Model, prompt_tokens: int, max_tokens: int | None) -> None:
    """Refuse what does not fit the context, in vLLM's words."""
    if prompt_tokens + 1 > model.context:
        raise ServiceError(
            f"This model's maximum context length is {model.context} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages."
        )
    if max_tokens is not None and prompt_tokens + max_tokens > model.context:
        raise ServiceError(
            f"'max_tokens' or 'max_completion_tokens' is too large: {max_tokens}. This model's maximum context length "
            f"is {model.context} tokens and your request has {prompt_tokens} input tokens "
            f"({max_tokens} > {model.context} - {prompt_tokens})."
        )


def _checked_texts(conversation: Conversation) -> list[str]:
    """Return the texts of the messages after the input checks; those of the user and of tools are checked."""
    checks = conversation.settings.checks
    return [
        rules.check_input(message.text, checks) if message.role in ("user", "tool") else message.text
        for message in conversation.messages
    ]


def _answer(conversation: Conversation, options: Options) -> Answer:
    calls = tool_calls.choose(conversation)
    if options.strictness == "vllm":
        calls = tool_calls.drop_fields(calls, conversation)
    reasoning = None
    if conversation.model.can("reasoning") and conversation.settings.effort != "none":
        reasoning = answers.reasoning(conversation, [call.name for call in calls])
    limit = conversation.settings.max_tokens
    spent = tokens.count(reasoning or "")
    if limit is not None and spent >= limit:
        return Answer("", tokens.cut(reasoning or "", limit), finish_reason="length")
    if calls:
        named = conversation.named_tool is not None and options.strictness == "vllm"
        answer = Answer(None, reasoning, calls, "stop" if named else "tool_calls")
        if limit is None or _count(answer) <= limit:
            return answer
        # As vLLM cuts a call: the raw text in a plain response, one call without arguments in a stream.
        raw = "".join(f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments}}}' for call in calls)
        cut = replace(calls[0], arguments="{}")
        return Answer(tokens.cut(raw, limit - spent), reasoning, (), "length", cut_call=cut)
    rest = None if limit is None else limit - spent
    content, reason = answers.finish(answers.answer(conversation), conversation.settings.stop, rest)
    return Answer(content, reasoning, finish_reason=reason)


def _count(answer: Answer) -> int:
    said = (
        tokens.count(answer.content or "") + tokens.count(answer.reasoning or "") + tokens.count(answer.refusal or "")
    )
    return said + sum(tokens.count(call.name) + tokens.count(call.arguments) for call in answer.calls)


def _usage(prompt_tokens: int, choices: Sequence[Answer], cached: int) -> dict[str, Any]:
    completion_tokens = sum(_count(answer) for answer in choices)
    reasoning_tokens = sum(tokens.count(answer.reasoning or "") for answer in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


def _message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning is not None:
        message["reasoning"] = answer.reasoning
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [call.to_json() for call in answer.calls]
    return message


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chat_events(
    model: str, choices: Sequence[Answer], usage: dict[str, Any] | None, response_id: str | None
) -> Iterator[str]:
    """Yield the `data` fields of the stream; every chunk has an id of its own, as the service's do."""

    def chunk(listed: list[dict[str, Any]], **more: object) -> str:
        start = head("chat", "chat.completion.chunk", model=model, response_id=response_id)
        return _dumps({**start, "choices": listed, **more})

    for index, answer in enumerate(choices):

        def delta(value: dict[str, Any], whole: str | None = None, reason: str | None = None, at: int = index) -> str:
            return chunk([{"index": at, "delta": value, "generated_text": whole, "finish_reason": reason}])

        yield delta({"role": "assistant", "content": ""})
        yield from (delta({"reasoning": piece}) for piece in answers.pieces(answer.reasoning or ""))
        yield from (delta({"refusal": piece}) for piece in answers.pieces(answer.refusal or ""))
        content = None if answer.cut_call else answer.content
        yield from (delta({"content": piece}) for piece in answers.pieces(content or ""))
        if answer.cut_call:
            yield delta({"tool_calls": [{"index": 0, **answer.cut_call.to_json()}]})
        for number, call in enumerate(answer.calls):
            yield delta({"tool_calls": [{"index": number, **replace(call, arguments="").to_json()}]})
            for start in range(0, len(call.arguments), _FRAGMENT):
                piece = call.arguments[start : start + _FRAGMENT]
                yield delta({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
        yield delta({}, content, answer.finish_reason)
    if usage is not None:
        yield chunk([], usage=usage)
    yield DONE


def complete(body: object) -> Response:
    """Return the response to `POST /completions`, one choice for each prompt."""
    fields = Fields(body)
    fields.require("model", "prompt")
    model = models.find(fields.required_string("model"), "completion")
    settings = read_settings(fields)
    echo = bool(fields.boolean("echo"))
    prompts = fields.strings("prompt", or_one=True)
    if prompts is None:
        raise fields.wrong_type("prompt", "a string or a list of strings")
    prompt_tokens = sum(map(tokens.count, prompts))
    _check_length(model, prompt_tokens, settings.max_tokens)
    finished: list[tuple[str, str]] = []
    completion_tokens = 0
    for prompt in prompts:
        safe = rules.check_input(prompt, settings.checks)
        said, reason = answers.finish(answers.completion(safe), settings.stop, settings.max_tokens)
        rules.check_output(said, safe, settings.checks)
        completion_tokens += tokens.count(said)
        finished += [(safe + said if echo else said, reason)] * settings.choices
    completion_tokens *= settings.choices
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if settings.stream:
        events = _completion_events(model.name, finished, usage if settings.include_usage else None)
        return Response(200, events=events)
    choices = [{"index": index, "text": said, "finish_reason": reason} for index, (said, reason) in enumerate(finished)]
    return Response(200, {**head("cmpl", "text_completion", model=model.name), "choices": choices, "usage": usage})


def _completion_events(model: str, finished: Sequence[tuple[str, str]], usage: dict[str, int] | None) -> Iterator[str]:
    def chunk(listed: list[dict[str, Any]], **more: object) -> str:
        return _dumps({**head("cmpl", "text_completion", model=model), "choices": listed, **more})

    for index, (said, reason) in enumerate(finished):
        pieces = answers.pieces(said) or [""]
        for number, piece in enumerate(pieces, 1):
            last = reason if number == len(pieces) else None
            yield chunk([{"index": index, "text": piece, "finish_reason": last, "stop_reason": None}])
    if usage is not None:
        yield chunk([], usage=usage)
    yield DONE
