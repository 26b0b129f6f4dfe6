"""Prediction Guard's checks of texts and chat messages, for workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from pydantic import Field, PrivateAttr

from llama_index_predictionguard.base import ServiceComponent
from predictionguard_core.api.safety import CheckedText, CheckReport, PIIReplaceMethod, TextChecks
from predictionguard_core.errors import ConfigurationError, ContentError


class PredictionGuardChecker(ServiceComponent):
    """Check texts and chat messages, for example in a step of a workflow.

    A string, a `ChatMessage` or a list of messages goes in, and the same kind comes out. All messages are checked
    except system messages, also the name of a user. Images and the arguments of tool calls are not checked: `check`
    lists them in `unchecked`.

    Args:
        pii: "block" refuses personal data, "replace" replaces it, None ignores it.
        injection: "block" refuses prompt injections.
        toxicity: "block" refuses toxic texts; this takes one request for each text.
        pii_replace_method: What replaces personal data: "random" characters, "fake" values, the "category", or a
            "mask" (`*`).
        entity_list: Kinds of personal data that are ignored, such as "PHONE_NUMBER".
        injection_threshold: Probability from which a text counts as a prompt injection.
        toxicity_threshold: Score from which a text counts as toxic.
        api_key: Default: the environment variable PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment variable PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds for one attempt.
        max_retries: Number of retries after a failed attempt.
        default_headers: Headers of every request.
        http_client, async_http_client: Your own httpx clients.

    Raises:
        ConfigurationError: no check is on, or an option is wrong.

    Example:
        >>> checker = PredictionGuardChecker(pii="replace", pii_replace_method="mask", injection="block")
        >>> checker.apply("Write to frodo@example.com")
        'Write to *'
    """

    pii: Literal["block", "replace"] | None = None
    injection: Literal["block"] | None = None
    toxicity: Literal["block"] | None = None
    pii_replace_method: PIIReplaceMethod | None = None
    entity_list: list[str] | None = None
    injection_threshold: float = Field(default=0.5, ge=0, le=1)
    toxicity_threshold: float = Field(default=0.5, ge=0, le=1)

    _checks: TextChecks = PrivateAttr()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not (self.pii or self.injection or self.toxicity):
            raise ConfigurationError('no check is on. Set pii="replace", injection="block" or toxicity="block"')
        self._checks = TextChecks(
            pii=self.pii,
            pii_replace_method=self.pii_replace_method,
            entity_list=self.entity_list,
            injection=self.injection is not None,
            toxicity=self.toxicity is not None,
            injection_threshold=self.injection_threshold,
            toxicity_threshold=self.toxicity_threshold,
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises this class under."""
        return "PredictionGuardChecker"

    def check(self, value: Any) -> CheckReport:
        """Check a value and return what was found. A failed check does not raise."""
        messages, texts = _parts(value)
        return _report(value, messages, self._client().check_texts(texts, self._checks))

    async def acheck(self, value: Any) -> CheckReport:
        """Async version of `check`."""
        messages, texts = _parts(value)
        return _report(value, messages, await self._async_client().check_texts(texts, self._checks))

    def apply(self, value: Any) -> Any:
        """Check a value and return it with personal data replaced.

        Raises:
            CheckFailedError: a text failed a check; its class says which.
        """
        report = self.check(value)
        report.raise_for_failed()
        return report.value

    async def aapply(self, value: Any) -> Any:
        """Async version of `apply`."""
        report = await self.acheck(value)
        report.raise_for_failed()
        return report.value


def _parts(value: Any) -> tuple[list[ChatMessage], list[str]]:
    if isinstance(value, str):
        return [], [value]
    messages = [value] if isinstance(value, ChatMessage) else value
    if not isinstance(messages, Sequence) or not all(isinstance(each, ChatMessage) for each in messages):
        raise ContentError(f"expected a string, a ChatMessage or a list of messages, got {type(value).__name__}")
    texts: list[str] = []
    for message in messages:
        texts += [block.text for block in _text_blocks(message)]
        if _has_name(message):
            texts.append(message.additional_kwargs["name"])
    return list(messages), texts


def _has_name(message: ChatMessage) -> bool:
    return message.role != MessageRole.SYSTEM and isinstance(message.additional_kwargs.get("name"), str)


def _text_blocks(message: ChatMessage) -> list[TextBlock]:
    if message.role == MessageRole.SYSTEM:
        return []
    return [block for block in message.blocks if isinstance(block, TextBlock)]


def _report(value: Any, messages: list[ChatMessage], results: list[CheckedText]) -> CheckReport:
    if not messages:
        return CheckReport(results[0].text if isinstance(value, str) else value, tuple(results), ())
    left = iter(results)
    checked: list[ChatMessage] = []
    unchecked: list[str] = []
    for message in messages:
        unchecked += [block.block_type for block in message.blocks if not isinstance(block, TextBlock)]
        unchecked += ["tool_calls"] if message.additional_kwargs.get("tool_calls") else []
        texts = {id(block): next(left).text for block in _text_blocks(message)}
        blocks = [
            block.model_copy(update={"text": texts[id(block)]}) if id(block) in texts else block
            for block in message.blocks
        ]
        update: dict[str, Any] = {"blocks": blocks}
        if _has_name(message):
            update["additional_kwargs"] = {**message.additional_kwargs, "name": next(left).text}
        checked.append(message.model_copy(update=update))
    found = checked[0] if isinstance(value, ChatMessage) else checked
    return CheckReport(found, tuple(results), tuple(dict.fromkeys(unchecked)))
