"""What both kinds of generating models take, and how the options of a model and of a call become a request's."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Self

from langchain_core.language_models import LangSmithParams
from pydantic import AliasChoices, Field, model_validator

from langchain_predictionguard.connection import Connected
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.errors import ConfigurationError

PROVIDER = "predictionguard"

# Names of this wing, and of the retired package, to fields of a request; what is not here has the same name there.
_FIELDS = {
    "input_checks": "input",
    "output_checks": "output",
    "predictionguard_input": "input",
    "predictionguard_output": "output",
    "stop_sequences": "stop",
    "max_completion_tokens": "max_tokens",
}


class Generating(Connected):
    """A model of Prediction Guard's that writes. Options that are None are not sent."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str | int, float] | None = None
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    input_checks: InputChecks | None = Field(
        default=None, validation_alias=AliasChoices("input_checks", "predictionguard_input")
    )
    output_checks: OutputChecks | None = Field(
        default=None, validation_alias=AliasChoices("output_checks", "predictionguard_output")
    )

    # The options, by their names here. A class that has more adds them.
    sent: ClassVar[tuple[str, ...]] = (
        "temperature",
        "max_tokens",
        "top_p",
        "top_k",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "stop",
        "input_checks",
        "output_checks",
    )

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self._request_of_nothing()  # the options, as a call would send them
        return self

    @abc.abstractmethod
    def _request_of_nothing(self) -> object:
        """A request without content. Raises what a call would raise for the model's own options."""

    def _options(self, stop: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
        """The fields of a request: the model's options, overridden by those of the call."""
        if "response_format" in given:
            raise ConfigurationError("the endpoint documents no response_format; use with_structured_output(schema)")
        options = {_FIELDS.get(name, name): getattr(self, name) for name in ("model", *self.sent)}
        options |= {_FIELDS.get(name, name): value for name, value in given.items() if name != "stream"}
        options["stop"] = stop or options["stop"] or None
        return {name: value for name, value in options.items() if value is not None}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("model", "base_url", *self.sent)}
        options["images"] = self.images.as_dict() or None  # what a picture becomes is a part of the question
        return {name: value for name, value in options.items() if value is not None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = super()._get_ls_params(stop=stop, **kwargs)  # type: ignore[misc]
        params["ls_provider"] = PROVIDER
        return params
