"""Prediction Guard's text completions as a LangChain LLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue

from langchain_predictionguard import errors
from langchain_predictionguard.connection import CONFIG
from langchain_predictionguard.options import Generating
from predictionguard_core import endings
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.responses import ChatChunk, ChatCompletion, Usage
from predictionguard_core.errors import UnsupportedContentError

if TYPE_CHECKING:
    from langchain_predictionguard import arguments


class PredictionGuard(Generating, BaseLLM):
    """A model of Prediction Guard's that goes on with a text.

    For conversations, pictures and tools take `ChatPredictionGuard`. The connection's arguments are the same.

    Args:
        model: The model's name, such as "Hermes-3-Llama-3.1-8B"; `list_models("completion")` tells which there are.
        temperature: 0 to 2.
        max_tokens: Of the answer.
        top_p: 0 to 1.
        top_k: A whole number.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        logit_bias: Token id to a value of -100 to 100.
        stop: Text, or a list of texts, at which the answer ends, without it.
        input_checks: `InputChecks`, or a dict of its fields.
        output_checks: `OutputChecks`, or a dict of its fields. An answer under a check comes as one chunk.

    Options that are None are not sent. Each may also be given to a call or to `bind`.

    Example:
        >>> from langchain_predictionguard import PredictionGuard
        >>> PredictionGuard(model="Hermes-3-Llama-3.1-8B").invoke("The capital of Austria is")
    """

    model_config = CONFIG

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Generating]) -> None: ...

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with errors.mapped():
            requests = [self._request(prompt, stop, kwargs) for prompt in prompts]
            return _to_result(requests, [self._sync.complete(request) for request in requests])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with errors.mapped():
            requests = [self._request(prompt, stop, kwargs) for prompt in prompts]
            return _to_result(requests, await _together(map(self._async.complete, requests)))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        request = self._request(prompt, stop, kwargs)
        end = _End(request.stop)
        with errors.mapped(), contextlib.closing(self._sync.complete_stream(request)) as chunks:
            for chunk in chunks:
                made = _to_chunk(chunk, end)
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
        end = _End(request.stop)
        with errors.mapped():
            async with endings.aclosing(self._async.complete_stream(request)) as chunks:
                async for chunk in chunks:
                    made = _to_chunk(chunk, end)
                    if run_manager:
                        await run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made

    def _request(self, prompt: str, stop: list[str] | None, given: dict[str, Any]) -> CompletionRequest:
        with errors.mapped():
            return CompletionRequest(prompt=prompt, **self._options(stop, given))

    def _request_of_nothing(self) -> CompletionRequest:
        return self._request("", None, {})

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        prompt = super()._convert_input(model_input)
        with errors.mapped():
            for index, message in enumerate(prompt.to_messages()):
                _check_text(message, index)
        return prompt

    @property
    def _llm_type(self) -> str:
        return "predictionguard"


async def _together(calls: Iterable[Coroutine[Any, Any, ChatCompletion]]) -> list[ChatCompletion]:
    """What all of them answer, in their order. None goes on when this has returned or raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _End:
    """Ends a text where a stop sequence begins: the service is known to send the sequence along."""

    def __init__(self, stop: str | list[str] | None) -> None:
        self._stops = [each for each in ([stop] if isinstance(stop, str) else stop or []) if each]
        self._held = ""
        self._is_over = False

    def cut(self, text: str, *, is_last: bool) -> str:
        """What of the text so far can be said: a piece that may be a stop sequence's beginning waits for the next."""
        if self._is_over:
            return ""
        text = self._held + text
        found = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        if found:
            self._is_over = True
            return text[: min(found)]
        waiting = 0 if is_last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - waiting :]
        return text[: len(text) - waiting]


def _overlap(text: str, stop: str) -> int:
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def _to_result(requests: list[CompletionRequest], completions: list[ChatCompletion]) -> LLMResult:
    output: dict[str, Any] = {"model_name": completions[0].model if completions else None}
    output |= _token_usage([completion.usage for completion in completions])
    generations = [
        [
            Generation(
                text=_End(request.stop).cut(choice.message.content or "", is_last=True),
                generation_info=_reason(choice.finish_reason) or None,
            )
            for choice in completion.choices
        ]
        for request, completion in zip(requests, completions, strict=True)
    ]
    return LLMResult(generations=generations, llm_output=output)


def _to_chunk(chunk: ChatChunk, end: _End) -> GenerationChunk:
    choice = chunk.choices[0]
    info = _reason(choice.finish_reason)
    if chunk.is_last:  # and on no other: LangChain adds up what the chunks say
        info |= {"model_name": chunk.model} if chunk.model else {}
        info |= _token_usage([chunk.usage])
    return GenerationChunk(
        text=end.cut(choice.delta.content or "", is_last=chunk.is_last), generation_info=info or None
    )


def _reason(finish_reason: str | None) -> dict[str, Any]:
    return {"finish_reason": finish_reason} if finish_reason else {}


def _token_usage(given: Sequence[Usage | None]) -> dict[str, Any]:
    used = [usage for usage in given if usage]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {"token_usage": {name: sum(getattr(usage, name) for usage in used) for name in names}} if used else {}


def _check_text(message: BaseMessage, index: int) -> None:
    # LangChain makes a prompt of what is text in a message, and leaves the rest out.
    for block_index, block in enumerate(message.content if isinstance(message.content, list) else []):
        if isinstance(block, dict) and block.get("type") != "text":
            raise UnsupportedContentError(
                f"a text completion takes no block of type {str(block.get('type'))[:60]!r}: ask ChatPredictionGuard",
                message_index=index,
                block_index=block_index,
            )
