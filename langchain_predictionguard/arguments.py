"""What the constructors take, for type checkers and editors: pydantic's own reading of the fields knows neither a
model's name by position, nor a key as text, nor checks and policies as dicts.

`tests/typing` holds these names against the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict

import httpx
from langchain_core.caches import BaseCache
from langchain_core.callbacks import Callbacks
from langchain_core.language_models import ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import SecretStr

from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.images.policy import ImagePolicy


class Connection(TypedDict, total=False):
    """Where calls go."""

    api_key: str | SecretStr | None
    predictionguard_api_key: str | SecretStr | None
    base_url: str | None
    predictionguard_url: str | None
    timeout: float | None
    max_retries: int | None
    images: ImagePolicy | dict[str, Any]
    http_client: httpx.Client | None
    http_async_client: httpx.AsyncClient | None


class Framework(TypedDict, total=False):
    """What LangChain's own bases of models take."""

    name: str | None
    cache: BaseCache | bool | None
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None


class Generating(Connection, Framework, total=False):
    """What is asked of an answer."""

    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    top_k: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: dict[str | int, float] | dict[str, float] | dict[int, float] | None
    stop: str | list[str] | None
    stop_sequences: str | list[str] | None
    input_checks: InputChecks | dict[str, Any] | None
    predictionguard_input: InputChecks | dict[str, Any] | None
    output_checks: OutputChecks | dict[str, Any] | None
    predictionguard_output: OutputChecks | dict[str, Any] | None


class Chat(Generating, total=False):
    """What a chat takes beyond it."""

    reasoning_effort: Literal["low", "medium", "high"] | None
    vision_streaming: bool
    stream_usage: bool
    streaming: bool
    extra_body: dict[str, Any] | None
    rate_limiter: BaseRateLimiter | None
    disable_streaming: bool | Literal["tool_calling"]
    output_version: str | None
    profile: ModelProfile | None


class Embedding(Connection, total=False):
    """What embeddings take."""

    truncate: bool | None
    truncation_direction: Literal["Left", "Right"] | None


class Rerank(Connection, total=False):
    """What a reranker takes."""

    top_n: int | None
