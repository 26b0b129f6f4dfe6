"""`POST /PII`, `/injection`, `/toxicity` and `/factuality`: checks of texts without a model call.

Source: the API's OpenAPI specification, version 1.2. Its schema, its examples and its documentation spell the positions
of personal data in three ways; all of them are read.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from predictionguard_core.api.base import RequestModel, ResponseModel, as_list
from predictionguard_core.errors import CheckFailedError, PIIDetectedError, PromptInjectionError, ToxicityError

PIIReplaceMethod = Literal["random", "fake", "category", "mask"]
CheckName = Literal["pii", "injection", "toxicity"]

_ERRORS: dict[CheckName, tuple[type[CheckFailedError], str]] = {
    "pii": (PIIDetectedError, "pii detected"),
    "injection": (PromptInjectionError, "prompt injection detected"),
    "toxicity": (ToxicityError, "failed toxicity check"),
}


class PIIRequest(RequestModel):
    """Texts to search for personal data. `entity_list` names the kinds of personal data that the check ignores."""

    prompt: str | list[str]
    replace: bool = False
    replace_method: PIIReplaceMethod | None = None
    entity_list: list[str] | None = None


class InjectionRequest(RequestModel):
    """Texts to check for prompt injections."""

    prompt: str | list[str]
    detect: bool = True


class ToxicityRequest(RequestModel):
    """A text to check for toxicity."""

    text: str


class FactualityRequest(RequestModel):
    """A text to compare with a reference."""

    reference: str
    text: str


class TextChecks(RequestModel):
    """Which checks `Client.check_texts` runs.

    Args:
        pii: "block" reports personal data as a failure, "replace" replaces it.
        pii_replace_method: What replaces it: "random" characters, "fake" values, the "category", or a "mask" (`*`).
        entity_list: Kinds of personal data that the check ignores, such as "PHONE_NUMBER".
        injection: Whether to check for prompt injections.
        toxicity: Whether to check for toxicity: one request for each text.
        injection_threshold: Probability from which a text counts as a prompt injection.
        toxicity_threshold: Score from which a text counts as toxic.
    """

    model_config = ConfigDict(frozen=True)

    pii: Literal["block", "replace"] | None = None
    pii_replace_method: PIIReplaceMethod | None = None
    entity_list: list[str] | None = None
    injection: bool = False
    toxicity: bool = False
    injection_threshold: float = Field(default=0.5, ge=0, le=1)
    toxicity_threshold: float = Field(default=0.5, ge=0, le=1)


class _Result(ResponseModel):
    model_config = ConfigDict(frozen=True)


class PIIEntity(_Result):
    """One piece of personal data. `start` and `end` are positions in the text; `end` is not included."""

    type: str
    start: int
    end: int


def _entities(value: Any) -> Any:
    # The documentation shows a JSON string, the specification a list; a single finding may come as an object.
    if isinstance(value, str):
        value = json.loads(value) if value.strip() else []
    return as_list([] if value is None else value)


class ResponseItem(_Result):
    """The response of a check about one text. A `status` that begins with "error" reports an error."""

    index: int | None = None
    status: str | None = None


class PIICheckItem(ResponseItem):
    """The response about one text. `prompt` comes only where it holds no personal data."""

    prompt: str | None = None
    new_prompt: str | None = None
    entities: Annotated[tuple[PIIEntity, ...], BeforeValidator(_entities)] = Field(
        default=(), validation_alias=AliasChoices("pii_types_and_positions", "pii_type_and_positions")
    )


class InjectionCheckItem(ResponseItem):
    """The response about one text."""

    probability: float


class ScoreItem(ResponseItem):
    """The response about one text."""

    score: float


class PIIResponse(ResponseModel):
    """The response of `POST /PII`."""

    checks: Annotated[list[PIICheckItem], BeforeValidator(as_list)]


class InjectionResponse(ResponseModel):
    """The response of `POST /injection`."""

    checks: Annotated[list[InjectionCheckItem], BeforeValidator(as_list)]


class ScoreResponse(ResponseModel):
    """The response of `POST /toxicity` and `POST /factuality`."""

    checks: Annotated[list[ScoreItem], BeforeValidator(as_list)]


class PIICheck(_Result):
    """Personal data in one text.

    Attributes:
        prompt: The text that was checked.
        new_prompt: The text with personal data replaced; None if `replace` was False.
        entities: The personal data that was found. Empty with `replace=True`: the service then names no positions.
    """

    prompt: str
    new_prompt: str | None = None
    entities: tuple[PIIEntity, ...] = ()

    @property
    def has_pii(self) -> bool:
        """Whether the text holds personal data."""
        return bool(self.entities) or (self.new_prompt is not None and self.new_prompt != self.prompt)


class InjectionCheck(_Result):
    """How probable it is, from 0 to 1, that `prompt` is a prompt injection."""

    prompt: str
    probability: float


class ToxicityCheck(_Result):
    """How toxic `text` is, from 0 (harmless) to 1."""

    text: str
    score: float


class FactualityCheck(_Result):
    """How well `reference` supports `text`, from 0 (contradicts it) to 1."""

    reference: str
    text: str
    score: float


class CheckedText(_Result):
    """One text after `Client.check_texts`.

    Attributes:
        text: The text to go on with: personal data is replaced if `TextChecks.pii` is "replace".
        original: The text that was checked.
        pii_entities: The personal data that was found. Empty with "replace": the service then names no positions.
        injection: Probability of a prompt injection; None if that was not checked.
        toxicity: Toxicity score; None if that was not checked.
        failed: The checks that the text failed.
    """

    text: str
    original: str
    pii_entities: tuple[PIIEntity, ...] = ()
    injection: float | None = None
    toxicity: float | None = None
    failed: tuple[CheckName, ...] = ()

    @property
    def is_replaced(self) -> bool:
        """Whether personal data was replaced."""
        return self.text != self.original

    def raise_for_failed(self, where: str = "") -> None:
        """Raise the `CheckFailedError` of the first check that the text failed.

        Args:
            where: What the text is, for the message: "the result of tool search".
        """
        if self.failed:
            raise self.error(self.failed[0], where)

    def error(self, check: CheckName, where: str = "") -> CheckFailedError:
        """Return the error of a failed check, with the facts that the service gave."""
        kind, message = _ERRORS[check]
        if where:
            message += f" in {where}"
        if check == "pii":
            message += f": {', '.join(sorted({entity.type for entity in self.pii_entities}))}"
        else:
            message += f": {'probability' if check == 'injection' else 'score'} {getattr(self, check):.2f}"
        return kind(message, status_code=200)


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What the checks of a message, a prompt or a list of messages found.

    Attributes:
        value: The value to go on with: personal data is replaced if `pii` is "replace".
        texts: One result for each text, in their order; `failed` names the checks that it failed.
        unchecked: The types of content that no check looked at, such as "image_url".
    """

    value: Any
    texts: tuple[CheckedText, ...]
    unchecked: tuple[str, ...]

    @property
    def has_failed(self) -> bool:
        """Whether any text failed a check."""
        return any(text.failed for text in self.texts)

    def raise_for_failed(self) -> None:
        """Raise the `CheckFailedError` of the first text that failed a check."""
        for text in self.texts:
            text.raise_for_failed()
