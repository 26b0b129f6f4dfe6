"""Prediction Guard's text completions as a LangChain LLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import AliasChoices, Field, model_validator

from langchain_predictionguard import errors
from langchain_predictionguard.connection import CONFIG, Connected
from langchain_predictionguard.messages import PROVIDER
from predictionguard_core.wire import ChatChunk, ChatCompletion, CompletionRequest, InputChecks, OutputChecks

_OPTIONS = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop",
    "input_checks": "input",
    "output_checks": "output",
}
_FIELDS = {
    **_OPTIONS,
    "predictionguard_input": "input",
    "predictionguard_output": "output",
    "stop_sequences": "stop",
}


class PredictionGuard(Connected, BaseLLM):
    """A model of Prediction Guard's that goes on with a text.

    For conversations, pictures and tools take `ChatPredictionGuard`. The connection's arguments are the same.

    Args:
        model: The model's name, such as "Hermes-3-Llama-3.1-8B"; `list_models("completion")` tells which there are.
        temperature: 0 to 2.
        max_tokens: Of the answer.
        top_p: 0 to 1.
        top_k: A whole number.
        stop: Text, or a list of texts, at which the answer ends.
        input_checks: `InputChecks`, or a dict of its fields.
        output_checks: `OutputChecks`, or a dict of its fields. An answer under a check comes as one chunk.

    Options that are None are not sent. Each may also be given to a call or to `bind`.

    Example:
        >>> from langchain_predictionguard import PredictionGuard
        >>> PredictionGuard(model="Hermes-3-Llama-3.1-8B").invoke("The capital of Austria is")
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    input_checks: InputChecks | None = Field(
        default=None, validation_alias=AliasChoices("input_checks", "predictionguard_input")
    )
    output_checks: OutputChecks | None = Field(
        default=None, validation_alias=AliasChoices("output_checks", "predictionguard_output")
    )

    model_config = CONFIG

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self._request("", None, {})
        return self

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with errors.mapped():
            return _to_result([self._sync.complete(self._request(prompt, stop, kwargs)) for prompt in prompts])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with errors.mapped():
            calls = [self._async.complete(self._request(prompt, stop, kwargs)) for prompt in prompts]
            return _to_result(await asyncio.gather(*calls))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        request = self._request(prompt, stop, kwargs)
        with errors.mapped(), contextlib.closing(self._sync.complete_stream(request)) as chunks:
            for chunk in chunks:
                made = _to_chunk(chunk)
                if run_manager:
                    run_manager.on_llm_new_token(made.text, chunk=made)
                yield made

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        request = self._request(prompt, stop, kwargs)
        with errors.mapped():
            async with contextlib.aclosing(self._async.complete_stream(request)) as chunks:
                async for chunk in chunks:
                    made = _to_chunk(chunk)
                    if run_manager:
                        await run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made

    def _request(self, prompt: str, stop: list[str] | None, given: dict[str, Any]) -> CompletionRequest:
        options = {field: getattr(self, name) for name, field in _OPTIONS.items()}
        options |= {_FIELDS.get(name, name): value for name, value in given.items() if name != "stream"}
        options.setdefault("model", self.model)
        options["stop"] = stop or options["stop"] or None
        with errors.mapped():
            return CompletionRequest(
                prompt=prompt, **{name: value for name, value in options.items() if value is not None}
            )

    @property
    def _llm_type(self) -> str:
        return "predictionguard"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("model", "base_url", *_OPTIONS)}
        return {name: value for name, value in options.items() if value is not None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(**{**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": PROVIDER})


def _to_result(completions: list[ChatCompletion]) -> LLMResult:
    used = [completion.usage for completion in completions if completion.usage]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    output: dict[str, Any] = {"model_name": completions[0].model if completions else None}
    if used:
        output["token_usage"] = {name: sum(getattr(usage, name) for usage in used) for name in names}
    generations = [
        [
            Generation(
                text=choice.message.content or "",
                generation_info={"finish_reason": choice.finish_reason} if choice.finish_reason else None,
            )
            for choice in completion.choices
        ]
        for completion in completions
    ]
    return LLMResult(generations=generations, llm_output=output)


def _to_chunk(chunk: ChatChunk) -> GenerationChunk:
    choice = chunk.choices[0]
    info = {"finish_reason": choice.finish_reason} if choice.finish_reason else None
    return GenerationChunk(text=choice.delta.content or "", generation_info=info)
