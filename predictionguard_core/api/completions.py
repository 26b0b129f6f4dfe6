"""What is sent to `POST /completions`. Its answer is read as a `ChatCompletion`, whose older form it is.

Source: the API's OpenAPI specification, version 1.2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from predictionguard_core.api.base import ARGUMENT_NAMES, RequestModel, check_extra_body, with_text_keys
from predictionguard_core.api.chat import StreamOptions
from predictionguard_core.api.checks import InputChecks, OutputChecks


class CompletionRequest(RequestModel):
    """One text to go on with. Options that are None are not sent; `extra_body` is sent beside the documented fields.

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
    extra_body: dict[str, Any] | None = Field(default=None, exclude=True)

    model_config = ConfigDict(populate_by_name=True)
    argument_names = ARGUMENT_NAMES

    def model_post_init(self, context: Any, /) -> None:
        if self.extra_body:
            check_extra_body(self.extra_body)

    @property
    def can_stream(self) -> bool:
        """Whether the endpoint streams the answer: not with output checks."""
        output = (self.extra_body or {}).get("output", self.output)
        return not (any(output.values()) if isinstance(output, dict) else output is not None and output.is_on)
