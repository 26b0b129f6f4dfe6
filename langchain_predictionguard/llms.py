"""Text completions, as a LangChain LLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue

from langchain_predictionguard.base import CONFIG, GenerativeModel
from langchain_predictionguard.errors import langchain_errors
from langchain_predictionguard.headers import extra_headers, hide_headers
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.responses import ChatChunk, ChatCompletion, Usage
from predictionguard_core.errors import UnsupportedContentError


class PredictionGuard(GenerativeModel, BaseLLM):
    """Text completion model.

    For conversations, images and tools use `ChatPredictionGuard`.

    Setup:
        Install the package and set the API key:

        ```bash
        pip install "predictionguard-integrations[langchain]"
        export PREDICTIONGUARD_API_KEY="your-api-key"
        ```

    Args:
        model: Name of the model, such as "Hermes-3-Llama-3.1-8B"; `list_models("completion")` lists those of the
            account.
        temperature: Randomness of the answer, 0 to 2.
        max_tokens: Maximum number of tokens of the answer.
        top_p: Probability mass that tokens are sampled from, 0 to 1.
        top_k: Number of tokens that are sampled from.
        frequency_penalty: Penalty on frequent tokens, -2 to 2.
        presence_penalty: Penalty on tokens that have occurred, -2 to 2.
        logit_bias: Token id to a bias of -100 to 100.
        stop: A string, or a list of strings, that ends the answer. It is not part of the answer.
        input_checks: `InputChecks`, or a dict of its fields.
        output_checks: `OutputChecks`, or a dict of its fields. A checked answer is streamed as one chunk.
        api_key, base_url, timeout, max_retries, images, default_headers, http_client, http_async_client: See
            `ChatPredictionGuard`.

    Options that are None are not sent. Those of the answer may also be passed to a call or to `bind`.

    Instantiate:
        ```python
        from langchain_predictionguard import PredictionGuard

        llm = PredictionGuard("Hermes-3-Llama-3.1-8B", max_tokens=50)
        ```

    Invoke:
        ```python
        llm.invoke("The capital of Austria is")
        ```

        ```text
        " Vienna."
        ```

    Stream:
        ```python
        for chunk in llm.stream("The capital of Austria is"):
            print(chunk, end="")
        ```

    Async:
        ```python
        await llm.ainvoke("The capital of Austria is")
        ```
    """

    model_config = CONFIG

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with langchain_errors():
            requests = [self._request(prompt, stop, kwargs) for prompt in prompts]
            headers = extra_headers(kwargs)
            return _to_result(requests, [self._sync.complete(request, extra_headers=headers) for request in requests])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with langchain_errors():
            requests = [self._request(prompt, stop, kwargs) for prompt in prompts]
            headers = extra_headers(kwargs)
            return _to_result(
                requests, await _gather(self._async.complete(request, extra_headers=headers) for request in requests)
            )

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        request = self._request(prompt, stop, kwargs)
        cutter, headers = StopCutter(request.stop), extra_headers(kwargs)
        with langchain_errors(), self._sync.complete_stream(request, extra_headers=headers) as chunks:
            for chunk in chunks:
                converted = _to_chunk(chunk, cutter)
                if run_manager:
                    run_manager.on_llm_new_token(converted.text, chunk=converted)
                yield converted

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        request = self._request(prompt, stop, kwargs)
        cutter, headers = StopCutter(request.stop), extra_headers(kwargs)
        with langchain_errors():
            async with self._async.complete_stream(request, extra_headers=headers) as chunks:
                async for chunk in chunks:
                    converted = _to_chunk(chunk, cutter)
                    if run_manager:
                        await run_manager.on_llm_new_token(converted.text, chunk=converted)
                    yield converted

    def _request(self, prompt: str, stop: list[str] | None, call: dict[str, Any]) -> CompletionRequest:
        with langchain_errors():
            return CompletionRequest(prompt=prompt, **self._options(stop, call))

    @classmethod
    def _request_fields(cls) -> set[str]:
        return set(CompletionRequest.model_fields)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        """Stream the answer; see `BaseLLM.stream`, which shows the options of the call to tracers."""
        return super().stream(*args, **hide_headers(kwargs))

    def astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[str]:
        """Async version of `stream`."""
        return super().astream(*args, **hide_headers(kwargs))

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        prompt = super()._convert_input(model_input)
        with langchain_errors():
            for index, message in enumerate(prompt.to_messages()):
                _check_text(message, index)
        return prompt

    @property
    def _llm_type(self) -> str:
        return "predictionguard"


async def _gather(calls: Iterable[Coroutine[Any, Any, ChatCompletion]]) -> list[ChatCompletion]:
    """Return all responses in order. The first error cancels the other calls."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class StopCutter:
    """Ends a text where a stop sequence begins, because the service includes the sequence in the answer."""

    def __init__(self, stop: str | list[str] | None) -> None:
        self._stops = [each for each in ([stop] if isinstance(stop, str) else stop or []) if each]
        self._held = ""
        self._is_over = False

    def cut(self, text: str, *, is_last: bool) -> str:
        """Return the text that can be delivered. What may be the start of a stop sequence waits for the next chunk."""
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
                text=StopCutter(request.stop).cut(choice.message.content or "", is_last=True),
                generation_info=_reason(choice.finish_reason) or None,
            )
            for choice in completion.choices[:1]
        ]
        for request, completion in zip(requests, completions, strict=True)
    ]
    return LLMResult(generations=generations, llm_output=output)


def _to_chunk(chunk: ChatChunk, cutter: StopCutter) -> GenerationChunk:
    choice = chunk.choices[0]
    info = _reason(choice.finish_reason)
    if chunk.is_last:  # LangChain adds up the values of all chunks
        info |= {"model_name": chunk.model} if chunk.model else {}
        info |= _token_usage([chunk.usage])
    return GenerationChunk(
        text=cutter.cut(choice.delta.content or "", is_last=chunk.is_last), generation_info=info or None
    )


def _reason(finish_reason: str | None) -> dict[str, Any]:
    return {"finish_reason": finish_reason} if finish_reason else {}


def _token_usage(usages: Sequence[Usage | None]) -> dict[str, Any]:
    used = [usage for usage in usages if usage]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {"token_usage": {name: sum(getattr(usage, name) for usage in used) for name in names}} if used else {}


def _check_text(message: BaseMessage, index: int) -> None:
    # LangChain would make a prompt of the texts and drop the rest.
    for block_index, block in enumerate(message.content if isinstance(message.content, list) else []):
        if isinstance(block, dict) and block.get("type") != "text":
            raise UnsupportedContentError(
                f"unsupported content block of type {str(block.get('type'))[:60]!r}: completions take text only; "
                "use ChatPredictionGuard",
                message_index=index,
                block_index=block_index,
            )
