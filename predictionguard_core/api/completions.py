"""What is sent to `POST /completions`. Its answer is read as a `ChatCompletion`, whose older form it is.

Source: the API's OpenAPI specification, version 1.2.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from predictionguard_core.api.base import RequestModel, check_extra_body, with_text_keys
from predictionguard_core.api.chat import StreamOptions
from predictionguard_core.api.checks import InputChecks, OutputChecks


class CompletionRequest(RequestModel):
    """One text to go on with. Options that are None are not sent; `extra_body` is sent beside the documented fields.

    Raises `ConfigurationError` for an option outside its documented range or an unknown one.
    """

    model: str = Field(min_length=1)
    prompt: str
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    input: InputChecks | None = None
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, BeforeValidator(with_text_keys)
    ] = None
    max_tokens: int | None = Field(default=None, ge=1)
    output: OutputChecks | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=-1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    extra_body: dict[str, Any] | None = Field(default=None, exclude=True)

    def model_post_init(self, context: Any, /) -> None:
        if self.extra_body:
            check_extra_body(self.extra_body)

    @property
    def can_stream(self) -> bool:
        """Whether the endpoint streams the answer: not with output checks."""
        return self.output is None or not self.output.is_on
