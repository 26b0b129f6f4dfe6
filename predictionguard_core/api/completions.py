"""The request of `POST /completions`. Its response is read as a `ChatCompletion`.

Source: the API's OpenAPI specification, version 1.2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field

from predictionguard_core.api.base import ARGUMENT_NAMES, RequestModel, check_extra_body, with_text_keys
from predictionguard_core.api.chat import StreamOptions
from predictionguard_core.api.checks import InputChecks, OutputChecks


class CompletionRequest(RequestModel):
    """A text to complete. Options that are None are not sent. `extra_body` holds further fields, sent as they are.

    Raises `ConfigurationError` for an option outside its documented range or an unknown one.
    """

    model: str = Field(min_length=1)
    prompt: str
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    input: InputChecks | None = Field(default=None, validation_alias=AliasChoices("input", "input_checks"))
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, BeforeValidator(with_text_keys)
    ] = None
    max_tokens: int | None = Field(default=None, ge=1)
    n: Literal[1] | None = None
    output: OutputChecks | None = Field(default=None, validation_alias=AliasChoices("output", "output_checks"))
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=-1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    extra_body: Annotated[dict[str, Any] | None, AfterValidator(check_extra_body)] = Field(default=None, exclude=True)

    model_config = ConfigDict(populate_by_name=True)
    argument_names = ARGUMENT_NAMES

    @property
    def can_stream(self) -> bool:
        """Whether the endpoint streams the answer: not with output checks."""
        output = (self.extra_body or {}).get("output", self.output)
        return not (any(output.values()) if isinstance(output, dict) else output is not None and output.is_on)
