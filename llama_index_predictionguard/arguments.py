"""What the constructors of the two chat models take, for type checkers and editors: they would make one of the fields,
which knows neither a model's name by position, nor a key as text, nor checks and policies as dicts.

`tests/typing` holds these names against the constructors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

import httpx
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import BaseOutputParser, PydanticProgramMode
from pydantic import SecretStr

from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.images.policy import ImagePolicy


class Options(TypedDict, total=False):
    """Where calls go, and what is asked of an answer."""

    api_key: str | SecretStr | None
    base_url: str | None
    api_base: str | None
    temperature: float | None
    max_tokens: int | None
    context_window: int | None
    is_function_calling_model: bool
    top_p: float | None
    top_k: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: dict[str, float] | None
    reasoning_effort: Literal["low", "medium", "high"] | None
    stop: str | list[str] | None
    input_checks: InputChecks | dict[str, Any] | None
    output_checks: OutputChecks | dict[str, Any] | None
    timeout: float | None
    max_retries: int | None
    images: ImagePolicy | dict[str, Any] | None
    vision_streaming: bool
    http_client: httpx.Client | None
    async_http_client: httpx.AsyncClient | None
    additional_kwargs: dict[str, Any] | None
    callback_manager: CallbackManager
    rate_limiter: Any


class Chat(Options, total=False):
    """What LlamaIndex's `LLM` takes beyond it."""

    system_prompt: str | None
    messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None
    completion_to_prompt: Callable[[str], str] | None
    output_parser: BaseOutputParser | None
    pydantic_program_mode: PydanticProgramMode
    query_wrapper_prompt: BasePromptTemplate | None
