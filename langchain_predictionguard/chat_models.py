"""The chat model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import model_validator

from langchain_predictionguard.base import CONFIG, GenerativeModel
from langchain_predictionguard.errors import langchain_errors
from langchain_predictionguard.headers import extra_headers, without_headers
from predictionguard_core.errors import ConfigurationError, ContentError
from predictionguard_core.models import known_model

if TYPE_CHECKING:
    from langchain_predictionguard.structured_output import Method
    from langchain_predictionguard.tool_calls import OfferedTools
    from predictionguard_core.api.chat import ChatRequest

_TOOL_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls")
"""Options that the API takes only together with tools."""


class ChatPredictionGuard(GenerativeModel, BaseChatModel):
    """Chat model for Prediction Guard's chat and vision endpoint.

    Setup:
        Install the package and set the API key:

        ```bash
        pip install "predictionguard-integrations[langchain]"
        export PREDICTIONGUARD_API_KEY="your-api-key"
        ```

    Args:
        model: Name of the model, such as "Qwen2.5-VL-7B-Instruct". `list_models("chat-with-image")` lists the models
            that accept images.
        api_key: API key, or a function (sync or async) that returns it. Default: PREDICTIONGUARD_API_KEY.
        base_url: URL of the API. Default: PREDICTIONGUARD_URL, else the public service.
        temperature: Randomness of the answer, 0 to 2.
        max_tokens: Maximum number of tokens of the answer.
        top_p: Probability mass that tokens are sampled from, 0 to 1.
        top_k: Number of tokens that are sampled from.
        frequency_penalty: Penalty on frequent tokens, -2 to 2.
        presence_penalty: Penalty on tokens that have occurred, -2 to 2.
        logit_bias: Token id to a bias of -100 to 100.
        reasoning_effort: How much a reasoning model thinks, such as "low", "medium" or "high".
        stop: A string, or a list of strings, that ends the answer.
        input_checks: `InputChecks`, or a dict of its fields.
        output_checks: `OutputChecks`, or a dict of its fields. A checked answer is streamed as one chunk.
        timeout: Seconds that one attempt of a call may take; for a stream, seconds without content.
        max_retries: Number of retries after a failed attempt.
        images: `ImagePolicy`: where images may come from, how large they may be, how they are changed.
        vision_streaming: Whether your deployment streams answers about images. The public service does not, so by
            default such an answer is streamed as one chunk.
        stream_usage: Whether a stream ends with token counts.
        streaming: Whether `invoke` streams internally, for callbacks that want each token.
        extra_body: Further fields of the request body.
        profile_from_service: Whether `profile` is read from the service, when it is first used, instead of from the
            published facts about models.
        default_headers: Headers of every request. A call takes more as `extra_headers`.
        http_client, http_async_client: Your own httpx or httpx2 clients. They are never closed here.

    Options that are None are not sent. Those of the answer, the checks, `extra_body` and `model` may also be passed to
    a call or to `bind`. The constructor makes no network calls. Errors are subclasses of both the core's and
    LangChain's errors (`langchain_predictionguard.errors`).

    Instantiate:
        ```python
        from langchain_predictionguard import ChatPredictionGuard

        chat = ChatPredictionGuard("Qwen2.5-VL-7B-Instruct", temperature=0, max_tokens=200)
        ```

    Invoke:
        ```python
        chat.invoke([("system", "Answer in one word."), ("human", "What is the capital of Austria?")])
        ```

        ```text
        AIMessage(content='Vienna.', response_metadata={'model_provider': 'predictionguard', 'id': 'chat-1',
        'model_name': 'Qwen2.5-VL-7B-Instruct', 'finish_reason': 'stop'}, id='lc_run--...', ...)
        ```

    Stream:
        ```python
        for chunk in chat.stream("What is the capital of Austria?"):
            print(chunk.text, end="|")
        ```

        ```text
        The| capital| of| Austria| is| Vienna|.||
        ```

    Async:
        ```python
        message = await chat.ainvoke("What is the capital of Austria?")
        async for chunk in chat.astream("What is the capital of Austria?"):
            print(chunk.text, end="|")
        ```

    Image input:
        An image may be a URL, a data URI, base64, bytes, a `pathlib.Path`, an open file or a PIL image. `Image.open`
        reads one, and its `block()` is a plain dict, for prompt templates and checkpointers.

        ```python
        from langchain_core.messages import HumanMessage

        from langchain_predictionguard import Image

        question = {"type": "text", "text": "What is in this image?"}
        chat.invoke([HumanMessage([question, Image.open("cat.jpg").block()])]).text
        ```

        ```text
        'A cat lies on a grey sofa.'
        ```

    Tool calling:
        ```python
        from langchain_core.tools import tool


        @tool
        def get_weather(city: str) -> str:
            '''Return the weather in a city.'''
            return f"Sunny in {city}"


        chat.bind_tools([get_weather]).invoke("What is the weather in Vienna?").tool_calls
        ```

        ```text
        [{'name': 'get_weather', 'args': {'city': 'Vienna'}, 'id': 'call_1', 'type': 'tool_call'}]
        ```

    Structured output:
        ```python
        from pydantic import BaseModel


        class Receipt(BaseModel):
            '''A receipt.'''

            shop: str
            total: float


        chat.with_structured_output(Receipt).invoke("Bakery Huber, one loaf of bread, 4.20 euros.")
        ```

        ```text
        Receipt(shop='Bakery Huber', total=4.2)
        ```

    Checks:
        ```python
        from langchain_predictionguard import PIIDetectedError

        checked = ChatPredictionGuard("Qwen2.5-VL-7B-Instruct", input_checks={"pii": "block"})
        try:
            checked.invoke("Write to ann@example.com")
        except PIIDetectedError as error:
            print(error)
        ```

        ```text
        pii detected (status 400)
        ```

    Token usage:
        ```python
        chat.invoke("What is the capital of Austria?").usage_metadata
        ```

        ```text
        {'input_tokens': 14, 'output_tokens': 8, 'total_tokens': 22}
        ```
    """

    reasoning_effort: str | None = None
    vision_streaming: bool = False
    stream_usage: bool = True
    streaming: bool = False
    extra_body: dict[str, Any] | None = None
    profile_from_service: bool = False

    model_config = CONFIG

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        from langchain_predictionguard.messages import to_result

        with langchain_errors():
            request, offered = self._request(messages, stop, kwargs)
            return to_result(self._sync.chat(request, extra_headers=extra_headers(kwargs)), offered)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        from langchain_predictionguard.messages import to_result

        with langchain_errors():
            request, offered = self._request(messages, stop, kwargs)
            return to_result(await self._async.chat(request, extra_headers=extra_headers(kwargs)), offered)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        from langchain_predictionguard.messages import ChunkConverter

        with langchain_errors():
            request, offered = self._request(messages, stop, kwargs)
            converter = ChunkConverter(offered)
            with self._sync.stream(request, extra_headers=extra_headers(kwargs)) as chunks:
                for chunk in chunks:
                    yield from converter.to_chunks(chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        from langchain_predictionguard.messages import ChunkConverter

        with langchain_errors():
            request, offered = self._request(messages, stop, kwargs)
            converter = ChunkConverter(offered)
            async with self._async.stream(request, extra_headers=extra_headers(kwargs)) as chunks:
                async for chunk in chunks:
                    for converted in converter.to_chunks(chunk):
                        yield converted

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, call: dict[str, Any]
    ) -> tuple[ChatRequest, OfferedTools]:
        """Return the request, and the tools that it offers."""
        from langchain_predictionguard.messages import to_api
        from langchain_predictionguard.tool_calls import OfferedTools, tool_choice
        from predictionguard_core.api.chat import ChatRequest, StreamOptions

        if not messages:
            raise ContentError("messages must not be empty")
        options = self._options(stop, call)
        usage = StreamOptions(include_usage=options.pop("stream_usage", self.stream_usage))
        options = {"stream_options": usage, **options}
        response_tool = self._add_response_tool(options)
        if not options.get("tools"):
            if "tools" not in options and options.get("tool_choice", "auto") not in ("auto", "none", False):
                raise ConfigurationError(
                    f"tool_choice is {options['tool_choice']!r}, but the call has no tools: use bind_tools"
                )
            # Agents without tools send an empty list.
            options = {name: value for name, value in options.items() if name not in _TOOL_OPTIONS}
        if "tool_choice" in options:
            names = [tool["function"]["name"] for tool in options["tools"] if "function" in tool]
            options["tool_choice"] = tool_choice(options["tool_choice"], names)
        request = ChatRequest(messages=to_api(messages), **options)
        return request, OfferedTools.of(request, response_tool)

    @classmethod
    def _request_fields(cls) -> set[str]:
        from predictionguard_core.api.chat import ChatRequest

        return {*ChatRequest.model_fields, "max_tokens"}

    def _add_response_tool(self, options: dict[str, Any]) -> str | None:
        """Replace a `response_format` by a tool that the model has to call. Returns the tool's name."""
        if "response_format" not in options:
            return None
        from langchain_predictionguard.structured_output import response_format_tool

        tool = response_format_tool(options.pop("response_format"))
        if tool is None:
            return None
        options["tools"] = [*options.get("tools", []), tool]
        options["tool_choice"] = "required"
        return str(tool["function"]["name"])

    # Tools and structured output

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools that it may call.

        Args:
            tools: Functions, pydantic classes, LangChain tools, or JSON schemas.
            tool_choice: "auto", "none", "any" (also "required" or True: some tool), a tool's name, or a dict in the
                API's form. None leaves it to the service.
            strict: Whether the service has to enforce the tools' schemas.
            **kwargs: Options of the call, such as `parallel_tool_calls`.
        """
        from langchain_predictionguard import tool_calls

        with langchain_errors():
            if not isinstance(tools, Iterable) or isinstance(tools, str | dict | BaseTool):
                raise ConfigurationError(f"tools must be a list, got {type(tools).__name__}: put it in brackets")
            offered = [tool_calls.to_tool(tool, strict=strict) for tool in tools]
            for tool in offered:
                if "function" not in tool:
                    raise ConfigurationError(f"the API takes tools of type 'function', got {tool.get('type')!r}")
            choice = tool_calls.tool_choice(tool_choice, [tool["function"]["name"] for tool in offered])
        if choice is not None:
            kwargs["tool_choice"] = choice
        return self.bind(tools=offered, **kwargs)

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        include_raw: bool = False,
        method: Method = "function_calling",
        strict: bool | None = True,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return this model with answers that follow a schema.

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema, or a tool in the API's form.
            include_raw: Whether to return a dict of `raw` (the message), `parsed` and `parsing_error`.
            method: One of LangChain's names. All of them use a tool that the model has to call.
            strict: Whether the service has to enforce the schema. True makes the schema valid for strict mode, or
                leaves `strict` out if it can't be. vLLM enforces only strict schemas.
            **kwargs: Options of the call.

        Returns:
            A runnable that returns an object of the pydantic class, else a dict.

        Raises:
            ModelRefusalError: (LangChain's) if the model refuses.
            OutputParserException: for an answer in words, for arguments that are not JSON, and for an answer that
                `max_tokens` cut off. With `include_raw` it is the `parsing_error`.
            ValidationError: (pydantic's) for an answer that does not fit the class.
        """
        from langchain_predictionguard import structured_output
        from langchain_predictionguard.tool_calls import to_tool

        with langchain_errors():
            structured_output.check_arguments(method, schema)
            tool = structured_output.schema_tool(schema, strict=strict)
        name = tool["function"]["name"]
        model = self.bind_tools(
            [tool],
            tool_choice=name,
            ls_structured_output_format={
                "kwargs": {"method": "function_calling", "strict": strict},
                "schema": to_tool(schema),
            },
            **kwargs,
        )
        return structured_output.with_parser(model, schema, name, include_raw=include_raw)

    # What LangChain asks for

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of a text offline, or count them with `custom_get_token_ids`."""
        from predictionguard_core.token_counts import estimate_text_tokens

        return len(self.custom_get_token_ids(text)) if self.custom_get_token_ids else estimate_text_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None, **kwargs: Any
    ) -> int:
        """Estimate the tokens of a conversation offline: images by their size in pixels, tools by their schemas."""
        from langchain_predictionguard.messages import to_api
        from predictionguard_core.token_counts import estimate_message_tokens

        with langchain_errors():
            count = estimate_message_tokens(to_api(messages), self._policy, self.get_num_tokens)
        return count + sum(self.get_num_tokens(json.dumps(convert_to_openai_tool(tool))) for tool in tools or [])

    def _resolve_model_profile(self) -> ModelProfile | None:
        return None if self.profile_from_service else self._published_profile()

    def _published_profile(self) -> ModelProfile | None:
        known = known_model(self.model)
        if known is None:
            return None
        return _profile(
            context_window=known.context_window,
            accepts_images=known.accepts_images,
            supports_tools=known.supports_tools,
            is_reasoning=known.is_reasoning,
        )

    @model_validator(mode="after")
    def _defer_profile(self) -> Self:
        if self.profile_from_service and self.profile is None:
            del self.__dict__["profile"]
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # The constructor touches no network, so `profile_from_service` asks when the profile is first read.
            if name == "profile" and "profile" in type(self).model_fields:
                self.profile = self._profile_from_service() or self._published_profile()
                return self.profile
            return super().__getattr__(name)

    def _profile_from_service(self) -> ModelProfile | None:
        found = next((each for each in self.list_models() if each.id == self.model), None)
        if found is None:
            return None
        can = found.capabilities.get
        return _profile(
            context_window=found.max_context_length,
            accepts_images=can("chat_with_image", can("chat-with-image")),
            supports_tools=can("tool_calling"),
            is_reasoning=can("reasoning"),
        )

    @property
    def _llm_type(self) -> str:
        return "chat-predictionguard"

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        # These parameters go to tracers.
        params: dict[str, Any] = super()._get_invocation_params(stop=self._stop(stop), **without_headers(kwargs))
        return params

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return str(super()._get_llm_string(stop=stop, **without_headers(kwargs)))

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        from langchain_predictionguard.content_blocks import traceable

        prompt = super()._convert_input(model_input)
        messages = prompt.to_messages()
        converted = traceable(messages)
        return prompt if converted is messages else ChatPromptValue(messages=converted)

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Generate answers to several conversations; see `BaseChatModel.generate`."""
        from langchain_predictionguard.content_blocks import traceable

        return super().generate([traceable(each) for each in messages], *args, **kwargs)

    async def agenerate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Async version of `generate`."""
        from langchain_predictionguard.content_blocks import traceable

        return await super().agenerate([traceable(each) for each in messages], *args, **kwargs)


def _profile(
    *, context_window: int | None, accepts_images: bool | None, supports_tools: bool | None, is_reasoning: bool | None
) -> ModelProfile:
    profile: dict[str, Any] = {
        "text_inputs": True,
        "text_outputs": True,
        "image_inputs": accepts_images,
        "image_url_inputs": accepts_images,
        "image_tool_message": accepts_images,
        "pdf_inputs": accepts_images,
        "pdf_tool_message": accepts_images,
        "max_input_tokens": context_window,
        "tool_calling": supports_tools,
        "reasoning_output": is_reasoning,
    }
    return cast("ModelProfile", {name: value for name, value in profile.items() if value is not None})
