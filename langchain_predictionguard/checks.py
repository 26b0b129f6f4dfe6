"""Prediction Guard's checks as a runnable for LCEL chains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar, Unpack

from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_predictionguard.clients import ConnectionOptions, new_clients
from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.safety import CheckedText, CheckReport, PIIReplaceMethod, TextChecks
from predictionguard_core.errors import ConfigurationError

T = TypeVar("T")


class PredictionGuardCheck(Runnable[Any, Any]):
    """Check texts on their way through a chain: `prompt | check | chat | check`.

    A string, a prompt value, a message or a list of messages goes in, and the same kind comes out. All messages are
    checked except system messages. Images and the arguments of tool calls are not checked: `check` lists them in
    `unchecked`.

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
        self._client, self._async_client = new_clients(connection)

    def check(self, value: Any) -> CheckReport:
        """Check a value and return what was found. A failed check does not raise."""
        parts = _Parts.of(value)
        with langchain_errors():
            results = self._client.check_texts(parts.texts, self._checks)
            return parts.report(results)

    async def acheck(self, value: Any) -> CheckReport:
        """Async version of `check`."""
        parts = _Parts.of(value)
        with langchain_errors():
            results = await self._async_client.check_texts(parts.texts, self._checks)
            return parts.report(results)

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


def message_texts(message: BaseMessage) -> list[str]:
    """Return the texts of a message's content."""
    if isinstance(message.content, str):
        return [message.content]
    return [text for block in message.content if (text := _text(block)) is not None]


def unchecked_types(message: BaseMessage) -> list[str]:
    """Return the types of a message's content that have no text to check, such as "image_url"."""
    blocks = [] if isinstance(message.content, str) else message.content
    types = [str(block.get("type", "unknown")) for block in blocks if isinstance(block, dict) and _text(block) is None]
    return [*types, *(["tool_calls"] if getattr(message, "tool_calls", None) else [])]


def with_texts(message: T, texts: Iterable[str]) -> T:
    """Return a copy of a message with other texts, in the order of `message_texts`."""
    assert isinstance(message, BaseMessage)
    left = iter(texts)
    if isinstance(message.content, str):
        content: Any = next(left)
    else:
        content = [
            block if _text(block) is None else next(left) if isinstance(block, str) else {**block, "text": next(left)}
            for block in message.content
        ]
    return message.model_copy(update={"content": content})


def _text(block: Any) -> str | None:
    text = block if isinstance(block, str) else block.get("text")
    return text if isinstance(text, str) else None


def _passed(report: CheckReport) -> Any:
    with langchain_errors():
        report.raise_for_failed()
    return report.value


@dataclasses.dataclass(frozen=True)
class _Parts:
    """A value of a chain, and the texts in it."""

    value: Any
    messages: list[BaseMessage]
    texts: list[str]

    @classmethod
    def of(cls, value: Any) -> _Parts:
        if isinstance(value, str):
            return cls(value, [], [value])
        if isinstance(value, StringPromptValue):
            return cls(value, [], [value.text])
        messages = value.to_messages() if isinstance(value, PromptValue) else value
        messages = [messages] if isinstance(messages, BaseMessage) else messages
        if not isinstance(messages, Sequence) or not all(isinstance(each, BaseMessage) for each in messages):
            raise TypeError(f"expected a string, a prompt value or messages, got {type(value).__name__}")
        checked = [message for message in messages if not isinstance(message, SystemMessage)]
        return cls(value, list(messages), [text for message in checked for text in message_texts(message)])

    def report(self, results: list[CheckedText]) -> CheckReport:
        types = [kind for message in self.messages for kind in unchecked_types(message)]
        return CheckReport(self._rebuilt(results), tuple(results), tuple(dict.fromkeys(types)))

    def _rebuilt(self, results: list[CheckedText]) -> Any:
        if not any(result.is_replaced for result in results):
            return self.value
        if isinstance(self.value, str):
            return results[0].text
        if isinstance(self.value, StringPromptValue):
            return StringPromptValue(text=results[0].text)
        texts = iter(result.text for result in results)
        messages = [
            message
            if isinstance(message, SystemMessage)
            else with_texts(message, [next(texts) for _ in message_texts(message)])
            for message in self.messages
        ]
        if isinstance(self.value, PromptValue):
            return ChatPromptValue(messages=messages)
        return messages[0] if isinstance(self.value, BaseMessage) else messages
