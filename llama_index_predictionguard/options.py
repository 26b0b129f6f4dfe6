"""A chat model's options, and the call itself in its four forms. Both classes of this wing are made of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from pydantic import Field, SecretStr

from llama_index_predictionguard import later
from llama_index_predictionguard.connection import HttpAsyncClient, HttpClient, Seeing
from predictionguard_core import models, settings
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    from predictionguard_core.api.chat import ChatRequest, Message

# Our names to the request's.
_RENAMED = {"max_tokens": "max_completion_tokens", "input_checks": "input", "output_checks": "output"}
_OPTIONS = (
    "model",
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "reasoning_effort",
    "stop",
    "input_checks",
    "output_checks",
    "vision_streaming",
)


class ChatOptions(Seeing):
    """The fields of a chat model, as its constructor takes them."""

    temperature: float | None = None
    max_tokens: int | None = None
    context_window: int | None = Field(default=None, ge=1)
    is_function_calling_model: bool = True
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    stop: str | list[str] | None = None
    input_checks: InputChecks | None = None
    output_checks: OutputChecks | None = None
    vision_streaming: bool = False
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    def __init__(
        self,
        model: str | None = None,  # without one, a `ConfigurationError` says where models are listed
        *,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        api_base: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        context_window: int | None = None,
        is_function_calling_model: bool = True,
        top_p: float | None = None,
        top_k: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        logit_bias: dict[str, float] | None = None,
        reasoning_effort: Literal["low", "medium", "high"] | None = None,
        stop: str | list[str] | None = None,
        input_checks: InputChecks | dict[str, Any] | None = None,
        output_checks: OutputChecks | dict[str, Any] | None = None,
        timeout: float | None = settings.DEFAULT_TIMEOUT,
        max_retries: int | None = settings.DEFAULT_MAX_RETRIES,
        images: ImagePolicy | dict[str, Any] | None = None,
        vision_streaming: bool = False,
        http_client: HttpClient | None = None,
        async_http_client: HttpAsyncClient | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        **framework: Any,
    ) -> None:
        if base_url and api_base and base_url != api_base:
            raise ConfigurationError("base_url and api_base are two names of one thing; give one of them")
        super().__init__(
            model=model,
            api_key=api_key,
            base_url=base_url or api_base,
            temperature=temperature,
            max_tokens=max_tokens,
            context_window=context_window,
            is_function_calling_model=is_function_calling_model,
            top_p=top_p,
            top_k=top_k,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            logit_bias=logit_bias,
            reasoning_effort=reasoning_effort,
            stop=stop,
            input_checks=input_checks,
            output_checks=output_checks,
            timeout=timeout,
            max_retries=max_retries,
            images=ImagePolicy() if images is None else images,
            vision_streaming=vision_streaming,
            http_client=http_client,
            async_http_client=async_http_client,
            additional_kwargs=additional_kwargs or {},
            **framework,
        )
        self._request([], {})  # an option out of its range is told now, not at the first call

    # What a call is

    def _ask(self, messages: list[Message], given: dict[str, Any]) -> ChatResponse:
        return later.messages.to_response(self._client().chat(self._request(messages, given)))

    async def _aask(self, messages: list[Message], given: dict[str, Any]) -> ChatResponse:
        return later.messages.to_response(await self._async_client().chat(self._request(messages, given)))

    def _ask_stream(self, messages: list[Message], given: dict[str, Any]) -> Generator[ChatResponse, None, None]:
        return later.messages.to_chunks(self._client().pieces(self._request(messages, given)))

    def _aask_stream(self, messages: list[Message], given: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        return later.messages.ato_chunks(self._async_client().pieces(self._request(messages, given)))

    def _request(self, messages: list[Message], given: dict[str, Any]) -> ChatRequest:
        """The model's options, overridden by `additional_kwargs`, overridden by those of the call."""
        more = _as_sent(self.additional_kwargs)
        undocumented = {name: more.pop(name) for name in more.keys() - later.chat.ChatRequest.model_fields.keys()}
        options = _as_sent({name: getattr(self, name) for name in _OPTIONS}) | more | _as_sent(given)
        for further in (more, given):
            undocumented |= further.get("extra_body") or {}
        options["extra_body"] = undocumented or None
        sent = {name: value for name, value in options.items() if value is not None}
        return later.chat.ChatRequest(**{**sent, "messages": messages})

    # What the framework asks

    def _limits(self) -> dict[str, Any]:
        known = models.known_model(self.model) or models.ModelFacts()
        return {
            "model_name": self.model,
            "context_window": self.context_window or known.context_window or DEFAULT_CONTEXT_WINDOW,
            "num_output": self.max_tokens or DEFAULT_NUM_OUTPUTS,
            "is_chat_model": True,
            "is_function_calling_model": self.is_function_calling_model,
        }


def _as_sent(options: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in options.items()}
