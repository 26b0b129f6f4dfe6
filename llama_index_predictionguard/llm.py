"""Prediction Guard's chat and vision models as a LlamaIndex LLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
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
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import ToolSelection

from llama_index_predictionguard import tool_calls
from llama_index_predictionguard.base import ChatComponent
from llama_index_predictionguard.messages import ato_api, prompt_to_api, to_api
from llama_index_predictionguard.structured_output import StructuredOutputLLM

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool


F = TypeVar("F", bound=Callable[..., Any])


def _chat_callback(method: F) -> F:
    """Apply LlamaIndex's decorator, and keep the method's type for type checkers."""
    return llm_chat_callback()(method)  # type: ignore[no-any-return]


def _completion_callback(method: F) -> F:
    """Apply LlamaIndex's decorator, and keep the method's type for type checkers."""
    return llm_completion_callback()(method)  # type: ignore[no-any-return]


class PredictionGuard(ChatComponent, StructuredOutputLLM):
    """Chat and vision models of Prediction Guard, with tool calling and structured output.

    Setup:
        Install the package and set the API key.

        .. code-block:: bash

            pip install "predictionguard-integrations[llama-index]"
            export PREDICTIONGUARD_API_KEY="your-api-key"

    Args:
        model: Name of the model, such as "Qwen2.5-VL-7B-Instruct". `list_models()` lists those of your account.
        api_key: A string, or a sync or async function that returns one, called for each request. Default: the
            environment variable PREDICTIONGUARD_API_KEY.
        base_url: URL of the API; also `api_base`. Default: the environment variable PREDICTIONGUARD_URL, else the
            public service.
        temperature: Sampling temperature, 0 to 2.
        max_tokens: Maximum number of tokens of the answer.
        top_p: Nucleus sampling, 0 to 1.
        top_k: Number of most likely tokens to sample from.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        logit_bias: Token ids and their bias, -100 to 100.
        reasoning_effort: For models that reason, such as "low", "medium" or "high".
        stop: A string, or a list of strings, that ends the answer.
        input_checks: `InputChecks`, or a dict of its fields: personal data and prompt injection in the input.
        output_checks: `OutputChecks`, or a dict of its fields: toxicity and factuality of the answer. Checked answers
            are not streamed.
        timeout: Seconds. Limits one attempt of a plain call, and in a stream the time without content.
        max_retries: Number of retries after a failed attempt.
        images: `ImagePolicy`, or a dict of its fields: which images are accepted, and what is done to them.
        vision_streaming: Whether your deployment streams answers about images. The public service does not: such an
            answer arrives as one chunk.
        strict: Whether structured output asks the server to enforce the schema. `llm_kwargs={"strict": False}` turns
            it off for one call.
        context_window: Context window in tokens. Default: the published value.
        is_function_calling_model: Whether the model can call tools.
        profile_from_service: Whether to ask the service (`GET /models`), the first time that LlamaIndex reads
            `metadata`, for the context window and for tool support. For deployments that rename models.
        additional_kwargs: Further fields of the request body. They override the options above.
        default_headers: Headers for every request; `extra_headers=` adds them to one call.
        http_client, async_http_client: Your own httpx or httpx2 clients. They are used as they are and never closed.

    Every field of LlamaIndex's `LLM` (`system_prompt`, `callback_manager`, `rate_limiter`, …) is accepted too. Options
    that are None are not sent. Each option may also be passed to a single call. Creating a model touches no network.

    Instantiate:
        .. code-block:: python

            from llama_index_predictionguard import PredictionGuard

            llm = PredictionGuard("Qwen2.5-VL-7B-Instruct", temperature=0.1, max_tokens=500)

    Complete and chat:
        .. code-block:: python

            from llama_index.core.llms import ChatMessage

            print(llm.complete("The capital of France is").text)
            print(llm.chat([ChatMessage(role="user", content="What is the capital of France?")]).message.content)

        .. code-block:: text

            Paris.
            The capital of France is Paris.

    Stream:
        .. code-block:: python

            for chunk in llm.stream_complete("Count to three"):
                print(chunk.delta, end="|")

        .. code-block:: text

            One|, two|, three|.||

    Async:
        .. code-block:: python

            response = await llm.achat(messages)
            async for chunk in await llm.astream_chat(messages):
                print(chunk.delta, end="")

    Image input:
        .. code-block:: python

            from llama_index.core.llms import ImageBlock, TextBlock

            blocks = [TextBlock(text="What is in this image?"), ImageBlock(path="cat.jpg")]
            print(llm.chat([ChatMessage(role="user", blocks=blocks)]).message.content)

        .. code-block:: text

            A cat that looks at the camera.

        `ImageBlock(image=...)` accepts bytes, an open file, base64 or a data URI; `url=` accepts a URL or a data URI.
        A `DocumentBlock` accepts a PDF, which is sent as images of its pages, or text such as CSV or Markdown.

    Tool calling:
        .. code-block:: python

            from llama_index.core.tools import FunctionTool


            def get_weather(city: str) -> str:
                '''Get the weather in a city.'''
                return f"sunny in {city}"


            response = llm.chat_with_tools([FunctionTool.from_defaults(get_weather)], "What's the weather in Paris?")
            print(llm.get_tool_calls_from_response(response))

        .. code-block:: text

            [ToolSelection(tool_id='call_1', tool_name='get_weather', tool_kwargs={'city': 'Paris'})]

    Structured output:
        .. code-block:: python

            from pydantic import BaseModel


            class Animal(BaseModel):
                species: str
                color: str


            print(llm.as_structured_llm(Animal).chat([ChatMessage(role="user", blocks=blocks)]).raw)

        .. code-block:: text

            species='cat' color='grey'

        Also when streamed, the last object is an `Animal`, or an `InvalidResponseError` is raised.

    Checks:
        .. code-block:: python

            guarded = PredictionGuard("gpt-oss-120b", input_checks={"pii": "block"}, output_checks={"toxicity": True})
            guarded.complete("My e-mail is jo@example.com")

        .. code-block:: text

            PIIDetectedError: pii detected

    Token usage:
        .. code-block:: python

            llm.complete("The capital of France is").additional_kwargs

        .. code-block:: text

            {'finish_reason': 'stop', 'prompt_tokens': 9, 'completion_tokens': 2, 'total_tokens': 11}

        In a stream the last chunk has them. `raw` is the service's answer as a dict.

    Callbacks, events and spans show messages as they are, images included, and never the API key. Tracers have their
    own switches to hide images, such as OPENINFERENCE_HIDE_INPUT_IMAGES.

    Errors are those of `predictionguard_core.errors`: `ConfigurationError` for an option, `ContentError`, with its
    location, for a message that can't be sent, `APIStatusError` and `APIConnectionError` for a failed request.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name that identifies this class in serialized objects."""
        return "PredictionGuard"

    @property
    def metadata(self) -> LLMMetadata:
        """Facts about the model that LlamaIndex asks for. `context_window` and `num_output` are in tokens."""
        return LLMMetadata(**self._metadata())

    @_chat_callback
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Send messages and return the whole answer. `kwargs` are options that override the model's."""
        return self._chat(to_api(messages, self._policy), kwargs)

    @_chat_callback
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Asynchronous version of `chat`."""
        return await self._achat(await ato_api(messages, self._policy), kwargs)

    @_chat_callback
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Send messages and return the answer as it is produced: each response has `delta` and the message so far."""
        return self._stream_chat(to_api(messages, self._policy), kwargs)

    @_chat_callback
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Asynchronous version of `stream_chat`."""
        return self._astream_chat(await ato_api(messages, self._policy), kwargs)

    @_completion_callback
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Send a prompt and return the whole answer."""
        return chat_response_to_completion_response(self._chat(prompt_to_api(prompt), kwargs))

    @_completion_callback
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Asynchronous version of `complete`."""
        return chat_response_to_completion_response(await self._achat(prompt_to_api(prompt), kwargs))

    @_completion_callback
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Send a prompt and return the answer as it is produced."""
        return stream_chat_response_to_completion_response(self._stream_chat(prompt_to_api(prompt), kwargs))

    @_completion_callback
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Asynchronous version of `stream_complete`."""
        return astream_chat_response_to_completion_response(self._astream_chat(prompt_to_api(prompt), kwargs))

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        if strict is None:  # a single required tool is how LlamaIndex's programs ask for structured output
            strict = self.strict and tool_required and len(tools) == 1
        options = tool_calls.offer(
            tools,
            tool_choice=tool_choice,
            tool_required=tool_required,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            strict=strict,
        )
        return {"messages": [*(chat_history or []), *([user_msg] if user_msg else [])], **options, **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls of an answer, or of as much of a streamed one as there is.

        Arguments that are not a JSON object become arguments that make the tool return an error to the model.

        Raises:
            InvalidResponseError: `max_tokens` cut the answer within a call, or, if `error_on_no_tool_call`, the answer
                has no call.
        """
        return tool_calls.selections(response, error_on_no_tool_call=error_on_no_tool_call)
