"""Prediction Guard's checks as a runnable for LCEL chains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, Unpack

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_predictionguard.clients import ConnectionOptions, new_clients
from langchain_predictionguard.content_blocks import is_text_only, map_text, tool_result_blocks
from langchain_predictionguard.errors import langchain_errors
from langchain_predictionguard.tool_calls import is_tool_call
from predictionguard_core.api.safety import CheckedText, CheckReport, PIIReplaceMethod, TextChecks
from predictionguard_core.errors import ConfigurationError, ContentError

M = TypeVar("M", bound=BaseMessage)


class PredictionGuardCheck(Runnable[Any, Any]):
    """Check texts on their way through a chain: `prompt | check | chat | check`.

    A string, a prompt value, a message or a list of messages goes in, and the same kind comes out. All texts of
    messages are checked, also text files and the arguments of tool calls, except system messages. Images and reasoning
    are not checked: `check` lists them in `unchecked`.

    Args:
        pii: "block" refuses personal data, "replace" replaces it, None ignores it.
        injection: "block" refuses prompt injections.
        toxicity: "block" refuses toxic texts; this takes one request for each text.
        pii_replace_method: What replaces personal data: "random" characters, "fake" values, the "category", or a
            "mask" (`*`).
        entity_list: Kinds of personal data that are ignored, such as "PHONE_NUMBER".
        injection_threshold: Probability from which a text counts as a prompt injection.
        toxicity_threshold: Score from which a text counts as toxic.
        connection: `api_key`, `base_url`, `timeout`, `max_retries`, `default_headers`, `http_client` and
            `http_async_client`, as in `ChatPredictionGuard`.

    Raises:
        PIIDetectedError, PromptInjectionError, ToxicityError: a text failed a check. Each is a `CheckFailedError`.
        ConfigurationError: no check is on, or an option is wrong.

    In a streamed chain, the check waits for the whole text and then passes it on as one chunk.

    Example:
        >>> check = PredictionGuardCheck(pii="replace", pii_replace_method="mask", injection="block")
        >>> check.invoke("Write to frodo@example.com")
        'Write to *'
    """

    def __init__(
        self,
        *,
        pii: Literal["block", "replace"] | None = None,
        injection: Literal["block"] | None = None,
        toxicity: Literal["block"] | None = None,
        pii_replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
        injection_threshold: float = 0.5,
        toxicity_threshold: float = 0.5,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        with langchain_errors():
            check_actions({"injection": injection, "toxicity": toxicity}, ("block",))
            self._checks = TextChecks(
                pii=pii,
                pii_replace_method=pii_replace_method,
                entity_list=entity_list,
                injection=injection is not None,
                toxicity=toxicity is not None,
                injection_threshold=injection_threshold,
                toxicity_threshold=toxicity_threshold,
            )
            if not (pii or injection or toxicity):
                raise ConfigurationError('no check is on. Set pii="replace", injection="block" or toxicity="block"')
        self._client, self._async_client = new_clients(connection, PredictionGuardCheck)

    def check(self, value: Any) -> CheckReport:
        """Check a value and return what was found. A failed check does not raise."""
        texts = _texts(value)
        with langchain_errors():
            return _report(value, texts, self._client.check_texts(list(dict.fromkeys(texts)), self._checks))

    async def acheck(self, value: Any) -> CheckReport:
        """Async version of `check`."""
        texts = _texts(value)
        with langchain_errors():
            results = await self._async_client.check_texts(list(dict.fromkeys(texts)), self._checks)
            return _report(value, texts, results)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Return the checked value. Raises the `CheckFailedError` of the first text that failed a check."""
        return self._call_with_config(lambda value: _passed(self.check(value)), input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Async version of `invoke`."""

        async def passed(value: Any) -> Any:
            return _passed(await self.acheck(value))

        return await self._acall_with_config(passed, input, config)


def check_actions(actions: dict[str, str | None], allowed: Sequence[str]) -> None:
    """Raise `ConfigurationError` for an action that a check does not know."""
    for name, action in actions.items():
        if action is not None and action not in allowed:
            choices = ", ".join(f'"{each}"' for each in allowed)
            raise ConfigurationError(f"{name} must be {choices} or None, got {action!r}")


def map_texts(message: M, change: Callable[[str], str], *, tool_calls: bool = True) -> M:
    """Return a copy of a message with `change` applied to each text that the model, a tool or the user gets.

    These are its content, text files in it, a refusal, the name of a user, and the strings in the arguments of tool
    calls, unless `tool_calls` is False.
    """
    is_answer = isinstance(message, AIMessage)
    update: dict[str, Any] = {}

    def change_call(call: Any) -> Any:
        names = ("args", "input", "arguments") if tool_calls else ()
        return {**call, **{name: map_strings(call[name], change) for name in names if name in call}}

    content = _content(message)
    if isinstance(content, str):
        update["content"] = change(content) if content else ""
    else:
        update["content"] = [
            change_call(block) if is_tool_call(block) else map_text(block, change, from_assistant=is_answer)
            for block in content
        ]
    if isinstance(message, HumanMessage | ChatMessage) and message.name:
        update["name"] = change(message.name)
    if isinstance(message, AIMessage):
        more = dict(message.additional_kwargs)
        if isinstance(more.get("refusal"), str):
            more["refusal"] = change(more["refusal"])
        if isinstance(more.get("function_call"), dict):
            more["function_call"] = change_call(more["function_call"])
        update["additional_kwargs"] = more
        update["tool_calls"] = [change_call(call) for call in message.tool_calls]
        update["invalid_tool_calls"] = [change_call(call) for call in message.invalid_tool_calls]
    if isinstance(message, AIMessageChunk):  # of a streamed chain: one chunk, which holds the whole answer
        update["tool_call_chunks"] = [
            tool_call_chunk(
                name=call["name"],
                args=call["args"] if isinstance(call["args"], str) else json.dumps(call["args"], ensure_ascii=False),
                id=call["id"],
                index=index,
            )
            for index, call in enumerate([*update["tool_calls"], *update["invalid_tool_calls"]])
        ]
    return message.model_copy(update=update)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with `change` applied to its strings, except keys."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_strings(each, change) for key, each in value.items()}
    return [map_strings(each, change) for each in value] if isinstance(value, list | tuple) else value


def message_texts(message: BaseMessage, *, tool_calls: bool = True) -> list[str]:
    """Return the texts that `map_texts` changes."""
    texts: list[str] = []
    map_texts(message, collect_in(texts), tool_calls=tool_calls)
    return texts


def collect_in(texts: list[str]) -> Callable[[str], str]:
    """Return a function for `map_texts` that appends each text to a list and changes none."""

    def collect(text: str) -> str:
        texts.append(text)
        return text

    return collect


def unchecked_types(message: BaseMessage, *, tool_calls: bool = True) -> list[str]:
    """Return what of a message no check looks at: types of blocks such as "image_url", "reasoning", "tool_calls"."""
    content = _content(message)
    types = [
        str(block.get("type", "unknown")) if isinstance(block, dict) else type(block).__name__
        for block in (content if isinstance(content, list) else [])
        if not is_tool_call(block) and not is_text_only(block, from_assistant=isinstance(message, AIMessage))
    ]
    if message.additional_kwargs.get("reasoning_content"):
        types.append("reasoning")
    if getattr(message, "tool_calls", None) and not tool_calls:
        types.append("tool_calls")
    return list(dict.fromkeys(types))


def _content(message: BaseMessage) -> str | list[Any]:
    if isinstance(message, ToolMessage) and isinstance(message.content, str):
        with contextlib.suppress(ContentError):  # raised with its location when the message is sent
            return tool_result_blocks(message.content)
    return message.content


def _map_value(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value of a chain with `change` applied to its texts, except those of system messages."""
    match value:
        case str():
            return change(value)
        case StringPromptValue():
            return StringPromptValue(text=change(value.text))
        case PromptValue():
            return ChatPromptValue(messages=_map_value(value.to_messages(), change))
        case SystemMessage():
            return value
        case BaseMessage():
            return map_texts(value, change)
        case Sequence() if all(isinstance(each, BaseMessage) for each in value):
            return [_map_value(each, change) for each in value]
    raise TypeError(f"expected a string, a prompt value or messages, got {type(value).__name__}")


def _texts(value: Any) -> list[str]:
    texts: list[str] = []
    _map_value(value, collect_in(texts))
    return texts


def _report(value: Any, texts: list[str], results: list[CheckedText]) -> CheckReport:
    by_text = {result.original: result for result in results}
    messages: Any = value.to_messages() if isinstance(value, PromptValue) else value
    messages = [messages] if isinstance(messages, BaseMessage) else [] if isinstance(messages, str) else messages
    types = dict.fromkeys(kind for message in messages for kind in unchecked_types(message))
    if any(result.is_replaced for result in results):
        value = _map_value(value, lambda text: by_text[text].text)
    return CheckReport(value, tuple(by_text[text] for text in texts), tuple(types))


def _passed(report: CheckReport) -> Any:
    with langchain_errors():
        report.raise_for_failed()
    return report.value
