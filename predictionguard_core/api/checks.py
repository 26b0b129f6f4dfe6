"""Prediction Guard's own checks, as options of a request: `input` and `output`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict

from predictionguard_core.api.base import RequestModel


class InputChecks(RequestModel):
    """Checks of the input before a model gets it.

    `pii="block"` refuses input that holds personal data (`PIIDetectedError`); `pii="replace"` replaces it by
    `pii_replace_method`. `entity_list` names the kinds of personal data that the check ignores.
    `block_prompt_injection` refuses input that tries to take over the prompt (`PromptInjectionError`).

    Source: the field `input` of the API's OpenAPI specification.
    """

    model_config = ConfigDict(frozen=True)
    option_name: ClassVar[str] = "input_checks"

    pii: Literal["block", "replace"] | None = None
    pii_replace_method: Literal["random", "fake", "category", "mask"] | None = None
    block_prompt_injection: bool | None = None
    entity_list: list[str] | None = None


class OutputChecks(RequestModel):
    """Checks of the answer before it is delivered. A failed check withholds it (`ToxicityError`, `FactualityError`).

    A checked answer can't be streamed.

    Source: the field `output` of the API's OpenAPI specification.
    """

    model_config = ConfigDict(frozen=True)
    option_name: ClassVar[str] = "output_checks"

    toxicity: bool | None = None
    factuality: bool | None = None

    @property
    def is_on(self) -> bool:
        """Whether any check is asked for."""
        return bool(self.toxicity or self.factuality)
