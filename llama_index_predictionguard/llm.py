"""Prediction Guard's chat and vision models as an LLM of LlamaIndex's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from llama_index.core.base.llms.generic_utils import (
    chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.types import PydanticProgramMode

from llama_index_predictionguard import later, spans
from llama_index_predictionguard.options import ChatOptions
from llama_index_predictionguard.traces import chat_call, completion_call, given, marked

_MODES = (PydanticProgramMode.FUNCTION, PydanticProgramMode.LLM)

if TYPE_CHECKING:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools.types import BaseTool

    from llama_index_predictionguard import arguments


@spans.marked
@marked
class PredictionGuard(ChatOptions, FunctionCallingLLM):
    """A chat model of Prediction Guard's, with pictures and tools.

    Args:
        model: The model's name, such as "Qwen2.5-VL-7B-Instruct".
        api_key: Default: the environment's PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment's PREDICTIONGUARD_URL, else the public service. Also `api_base`.
        temperature: 0 to 2.
        max_tokens: Of the answer.
        context_window: Of the model, in tokens. Default: what is known of it.
        is_function_calling_model: Whether the model calls tools.
        top_p: 0 to 1.
        top_k: A whole number.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        logit_bias: Token id to a value of -100 to 100.
        reasoning_effort: "low", "medium" or "high", for models that reason.
        stop: Text, or a list of texts, at which the answer ends.
        input_checks: `InputChecks`, or a dict of its fields.
        output_checks: `OutputChecks`, or a dict of its fields. An answer under a check comes as one chunk.
        timeout: Seconds. Bounds one attempt of a plain call as a whole, and on a stream the longest silence.
        max_retries: What may come after the first attempt.
        images: `ImagePolicy`, or a dict of its fields: where pictures may come from, how large they may be, what is
            done to them.
        vision_streaming: Whether your deployment streams answers about pictures. The documented service does not: such
            an answer comes as one chunk.
        http_client, async_http_client: Your own httpx clients; used as they are and never closed.
        additional_kwargs: Further options of a request; those that are not documented go out as they are.

    The fields of LlamaIndex's `LLM` (`system_prompt`, `callback_manager` and so on) are taken, too. Options that are
    None are not sent. Every option may also be given to a call. Making a model touches no network.

    An answer's `raw` is the endpoint's, as a dict, and its `additional_kwargs` holds `finish_reason`, `prompt_tokens`,
    `completion_tokens` and `total_tokens`; in a stream, on the last chunk.

    Who watches this object's calls (callbacks, events, spans) is shown a picture's type, size and hash in place of its
    bytes. What LlamaIndex's own objects tell of theirs, such as a `StructuredLLM`, an agent, a tool or a pipeline, they
    tell with all that they were given.

    A streamed structured answer ends in an instance of the class that was asked for, or in `InvalidResponseError`.

    Errors are those of `predictionguard_core.errors`, unchanged: `ConfigurationError` for an option, `ContentError`
    with its place for a message that can't be sent, `APIStatusError` and `APIConnectionError` for what the service
    answers or does not.

    Example:
        >>> from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
        >>> from llama_index_predictionguard import PredictionGuard
        >>> llm = PredictionGuard("Qwen2.5-VL-7B-Instruct")
        >>> blocks = [TextBlock(text="What is in this picture?"), ImageBlock(path="photo.jpg")]
        >>> llm.chat([ChatMessage(role="user", blocks=blocks)]).message.content
    """

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Chat]) -> None: ...

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this class down."""
        return "PredictionGuard"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks about the model. `context_window` and `num_output` are in tokens."""
        return LLMMetadata(**self._limits())

    @chat_call
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer. `kwargs` are options that override the model's."""
        return self._ask(later.messages.to_wire(given(messages)), kwargs)

    @chat_call
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronous."""
        return await self._aask(later.messages.to_wire(given(messages)), kwargs)

    @chat_call
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and get the answer as it is produced: each response has the `delta` and the message so far."""
        return self._ask_stream(later.messages.to_wire(given(messages)), kwargs)

    @chat_call
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronous."""
        return self._aask_stream(later.messages.to_wire(given(messages)), kwargs)

    @completion_call
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Ask with a bare prompt, and wait for the whole answer."""
        return chat_response_to_completion_response(self._ask(later.messages.prompt_to_wire(prompt), kwargs))

    @completion_call
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """`complete`, asynchronous."""
        return chat_response_to_completion_response(await self._aask(later.messages.prompt_to_wire(prompt), kwargs))

    @completion_call
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Ask with a bare prompt, and get the answer as it is produced."""
        return later.messages.to_completions(self._ask_stream(later.messages.prompt_to_wire(prompt), kwargs))

    @completion_call
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronous."""
        return later.messages.ato_completions(self._aask_stream(later.messages.prompt_to_wire(prompt), kwargs))

    # Tools

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        asked = [ChatMessage(role=MessageRole.USER, content=user_msg)] if isinstance(user_msg, str) else [user_msg]
        options = later.tool_calls.offered(
            tools,
            tool_choice=tool_choice,
            tool_required=tool_required,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
        )
        return {"messages": [*(chat_history or []), *(asked if user_msg else [])], **options, **kwargs}

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        return response if allow_parallel_tool_calls else later.tool_calls.with_one_call(response)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls in an answer, or in as much of a streamed one as there is.

        Raises `InvalidResponseError` for arguments that are no JSON object, and for an answer without a call if
        `error_on_no_tool_call`.
        """
        return later.tool_calls.selections(response, error_on_no_tool_call=error_on_no_tool_call)

    # Structured answers, streamed. LlamaIndex's own loop leaves the model free to answer in words, leaves the system
    # prompt out in one colour, passes over errors, and ends in whatever came last.

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        mode = self._structure_mode
        if mode not in _MODES or (mode == PydanticProgramMode.FUNCTION and not self.is_function_calling_model):
            return super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = self._structured(output_cls, prompt, llm_kwargs, prompt_args)
        chunks = self.stream_chat(**asked) if mode == PydanticProgramMode.LLM else self.stream_chat_with_tools(**asked)
        return later.tool_calls.objects(chunks, output_cls, self)

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        mode = self._structure_mode
        if mode not in _MODES or (mode == PydanticProgramMode.FUNCTION and not self.is_function_calling_model):
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        asked = self._structured(output_cls, prompt, llm_kwargs, prompt_args)
        ask = self.astream_chat if mode == PydanticProgramMode.LLM else self.astream_chat_with_tools
        return later.tool_calls.aobjects(await ask(**asked), output_cls, self)

    @property
    def _structure_mode(self) -> PydanticProgramMode:
        """How an object is asked for, as LlamaIndex decides it: with a tool, with words, or with another package."""
        mode = self.pydantic_program_mode
        if mode == PydanticProgramMode.DEFAULT:
            return PydanticProgramMode.FUNCTION if self.is_function_calling_model else PydanticProgramMode.LLM
        return mode

    def _structured(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> dict[str, Any]:
        options = llm_kwargs or {}
        if self._structure_mode == PydanticProgramMode.LLM:
            messages = later.tool_calls.in_words(output_cls, prompt, self, prompt_args)
            return {"messages": self._extend_messages(messages), **options}
        messages = self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        tools = [later.tool_calls.as_tool(output_cls)]
        return {"tools": tools, "chat_history": messages, "tool_required": True, **options}
