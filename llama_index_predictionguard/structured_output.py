"""Structured output in four forms (plain and streamed, sync and async), with one rule for all of them.

The model is asked for a call of one tool whose parameters are the fields of the class, or, without tools, for JSON.
The object is read from its first tool call or, if it makes none, from the JSON object in its text. Everything else is
an `InvalidResponseError`. LlamaIndex's own programs differ in these points between plain and streamed, leave the system
prompt out of the asynchronous plain form, pass over errors in streams, and end a stream with whatever came last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.types import PydanticProgramMode
from llama_index_instrumentation import get_dispatcher
from pydantic import ValidationError

from llama_index_predictionguard import calls, tool_calls
from predictionguard_core.errors import InvalidResponseError

if TYPE_CHECKING:
    from llama_index.core.prompts import PromptTemplate

_MAX_REASONS = 3

_dispatcher = get_dispatcher(__name__)


class PredictionGuardStructuredLLM(StructuredLLM):
    """LlamaIndex's own, with our errors, and without the values of headers in its events."""


calls.wrap_calls(PredictionGuardStructuredLLM)


class StructuredOutputLLM(FunctionCallingLLM):
    """A function-calling LLM whose structured output follows the rule of this module."""

    strict: bool = True

    def as_structured_llm(self, output_cls: type[Any], **kwargs: Any) -> StructuredLLM:
        """Return an LLM whose every answer is an instance of `output_cls`, as `raw`."""
        calls.check_output_class(output_cls)
        return PredictionGuardStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Return an instance of `output_cls`. Raises `InvalidResponseError` if the answer holds none."""
        mode = self._structured_mode
        if mode is None:
            return super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        _start_event(output_cls, prompt, prompt_args)
        asked = self._structured_request(mode, output_cls, prompt, llm_kwargs, prompt_args)
        ask = self.chat_with_tools if mode == PydanticProgramMode.FUNCTION else self.chat
        return _end_event(parse(ask(**asked), output_cls))

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Asynchronous version of `structured_predict`."""
        mode = self._structured_mode
        if mode is None:
            return await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        _start_event(output_cls, prompt, prompt_args)
        asked = self._structured_request(mode, output_cls, prompt, llm_kwargs, prompt_args)
        ask = self.achat_with_tools if mode == PydanticProgramMode.FUNCTION else self.achat
        return _end_event(parse(await ask(**asked), output_cls))

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        mode = self._structured_mode
        if mode is None:
            return super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = self._structured_request(mode, output_cls, prompt, llm_kwargs, prompt_args)
        ask = self.stream_chat_with_tools if mode == PydanticProgramMode.FUNCTION else self.stream_chat

        def objects() -> Generator[Any, None, None]:
            partial = PartialObjects(output_cls, self)
            for chunk in ask(**asked):
                yield from partial.before(chunk)
            yield parse(partial.last, output_cls)

        return objects()

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        mode = self._structured_mode
        if mode is None:
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = self._structured_request(mode, output_cls, prompt, llm_kwargs, prompt_args)
        ask = self.astream_chat_with_tools if mode == PydanticProgramMode.FUNCTION else self.astream_chat

        async def objects() -> AsyncGenerator[Any, None]:
            partial = PartialObjects(output_cls, self)
            async for chunk in await ask(**asked):
                for each in partial.before(chunk):
                    yield each
            yield parse(partial.last, output_cls)

        return objects()

    @property
    def _structured_mode(self) -> PydanticProgramMode | None:
        """FUNCTION to ask with a tool, LLM to ask in words, None where another package is asked for."""
        mode, calls_tools = self.pydantic_program_mode, self.metadata.is_function_calling_model
        if mode == PydanticProgramMode.DEFAULT:
            return PydanticProgramMode.FUNCTION if calls_tools else PydanticProgramMode.LLM
        if mode == PydanticProgramMode.LLM or (mode == PydanticProgramMode.FUNCTION and calls_tools):
            return mode
        return None

    def _structured_request(
        self,
        mode: PydanticProgramMode,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> dict[str, Any]:
        options = dict(llm_kwargs or {})
        if mode == PydanticProgramMode.LLM:
            from llama_index.core.output_parsers import PydanticOutputParser

            options.pop("strict", None)
            # Without the prompt's own parser, which may be the one of an earlier call.
            messages = prompt.model_copy(update={"output_parser": None}).format_messages(llm=self, **prompt_args)
            messages = PydanticOutputParser(output_cls).format_messages(messages)
            return {**options, "messages": self._extend_messages(messages)}
        from llama_index.core.program.function_program import get_function_tool

        messages = self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        forced = {"tool_required": True, "allow_parallel_tool_calls": False}
        return {**options, **forced, "tools": [get_function_tool(output_cls)], "chat_history": messages}


def _start_event(output_cls: type[Any], prompt: PromptTemplate, prompt_args: dict[str, Any]) -> None:
    event = LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
    _dispatcher.event(event)


def _end_event(output: Any) -> Any:
    _dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


class PartialObjects:
    """Reads from a stream the object as far as it has arrived. `last` is the chunk that came last."""

    def __init__(self, output_cls: type[Any], llm: FunctionCallingLLM) -> None:
        self.last: ChatResponse | None = None
        self._output_cls = output_cls
        self._llm = llm
        self._object: Any = None

    def before(self, chunk: ChatResponse) -> list[Any]:
        """Return the object as of the chunk before this one: the last chunk's is for `parse`."""
        from llama_index.core.program.utils import process_streaming_objects

        last, self.last = self.last, chunk
        if last is None:
            return []
        if last.delta is None:  # from a subclass that streams in its own way; None marks a whole answer
            last = last.model_copy(update={"delta": ""})
        objects = None if self._object is None else [self._object]
        self._object = process_streaming_objects(last, self._output_cls, cur_objects=objects, llm=self._llm)
        return [self._object]


def parse(response: ChatResponse | None, output_cls: type[Any]) -> Any:
    """Return the object of a whole answer. Raises `InvalidResponseError`, with the reason, if it has none."""
    from llama_index.core.output_parsers import PydanticOutputParser

    response = response or ChatResponse(message=ChatMessage())
    tool_calls.check_not_cut(response)
    found, text = tool_calls.calls_of(response.message), response.message.content or ""
    try:
        if found:
            arguments = tool_calls.read_arguments(found[0].arguments)
            if arguments is not None:
                return output_cls.model_validate(arguments)
            reason = f"calls {found[0].name!r} with arguments that are not a JSON object: {_shown(found[0].arguments)}"
        else:
            return PydanticOutputParser(output_cls).parse(text)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = [f"{'.'.join(map(str, each['loc'])) or 'the object'}: {each['msg']}" for each in faults]
        shown = "; ".join(each[: tool_calls.MAX_SHOWN] for each in reasons[:_MAX_REASONS])
        reason = f"is not a valid {output_cls.__name__}: {shown}"
    except ValueError:
        reason = "is a refusal" if _is_refusal(response) else "has no tool call and no JSON object"
        reason += f": {_shown(text)}"
    remedy = "Ask again"
    if response.additional_kwargs.get("finish_reason") == "length":
        remedy = "max_tokens ended the answer early. Raise max_tokens"
    # Raised outside of the except blocks: pydantic's error shows everything that the model wrote.
    raise InvalidResponseError(f"the model's answer {reason}. {remedy}")


def _is_refusal(response: ChatResponse) -> bool:
    # Only the raw response tells a refusal from other text.
    raw = response.raw if isinstance(response.raw, dict) else {}
    return any((choice.get("message") or {}).get("refusal") for choice in raw.get("choices") or ())


def _shown(text: str) -> str:
    return repr(text[: tool_calls.MAX_SHOWN])
