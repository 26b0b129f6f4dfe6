"""Prediction Guard's vision endpoint as a LangChain chat model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_predictionguard import errors, later
from langchain_predictionguard.connection import CONFIG
from langchain_predictionguard.options import Generating
from predictionguard_core import endings, models
from predictionguard_core.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_predictionguard import arguments
    from langchain_predictionguard.structured_output import Method
    from predictionguard_core.api.chat import ChatRequest


class ChatPredictionGuard(Generating, BaseChatModel):
    """A chat model of Prediction Guard's, with pictures.

    Args:
        model: The model's name, such as "Qwen2.5-VL-7B-Instruct"; `list_models("chat-with-image")` tells which see.
        api_key: Default: the environment's PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment's PREDICTIONGUARD_URL, else the public service.
        temperature: 0 to 2.
        max_tokens: Of the answer.
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
        images: `ImagePolicy`: where pictures may come from, how large they may be, what is done to them.
        vision_streaming: Whether your deployment streams answers about pictures. The documented service does not: such
            an answer comes as one chunk.
        stream_usage: Whether a stream ends with token counts.
        streaming: Whether `invoke` streams behind the scenes, too, for callbacks that want each token.
        http_client, http_async_client: Your own httpx clients; used as they are and never closed.
        extra_body: Fields that are sent beside the documented ones.

    Options that are None are not sent. Those of the answer, the checks, `extra_body` and `model` may also be given to a
    call or to `bind`. Making a model touches no network.

    Errors are raised as classes that are both ours and LangChain's (`langchain_predictionguard.errors`).

    Example:
        >>> from langchain_predictionguard import ChatPredictionGuard
        >>> chat = ChatPredictionGuard(model="Qwen2.5-VL-7B-Instruct")
        >>> picture = {"type": "image", "url": "https://example.com/photo.jpg"}
        >>> question = {"type": "text", "text": "What is in this picture?"}
        >>> chat.invoke([{"role": "user", "content": [question, picture]}]).text
    """

    reasoning_effort: Literal["low", "medium", "high"] | None = None
    vision_streaming: bool = False
    stream_usage: bool = True
    streaming: bool = False
    extra_body: dict[str, Any] | None = None

    model_config = CONFIG

    if TYPE_CHECKING:

        def __init__(self, model: str, **given: Unpack[arguments.Chat]) -> None: ...

    sent = (*Generating.sent, "reasoning_effort", "extra_body", "vision_streaming")

    # What a call is

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with errors.mapped():
            return later.messages.to_result(self._sync.chat(self._request(messages, stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with errors.mapped():
            return later.messages.to_result(await self._async.chat(self._request(messages, stop, kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with errors.mapped(), contextlib.closing(self._sync.pieces(self._request(messages, stop, kwargs))) as chunks:
            made = later.messages.Chunks()
            for chunk in chunks:
                if not isinstance(chunk, str):
                    yield from made.before(chunk)
                yield made.to_chunk(chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with errors.mapped():
            async with endings.aclosing(self._async.pieces(self._request(messages, stop, kwargs))) as chunks:
                made = later.messages.Chunks()
                async for chunk in chunks:
                    if not isinstance(chunk, str):
                        for earlier in made.before(chunk):
                            yield earlier
                    yield made.to_chunk(chunk)

    def _request(self, messages: Sequence[BaseMessage], stop: list[str] | None, given: dict[str, Any]) -> ChatRequest:
        options = self._options(stop, given)
        usage = later.chat.StreamOptions(include_usage=options.pop("stream_usage", self.stream_usage))
        options = {"stream_options": usage, **options}
        if "tools" in options and not options["tools"]:
            options = {name: value for name, value in options.items() if name not in _ABOUT_TOOLS}
        if "tool_choice" in options:
            offered = [tool["function"]["name"] for tool in options.get("tools") or [] if "function" in tool]
            options["tool_choice"] = _tool_choice(options["tool_choice"], offered)
        return later.chat.ChatRequest(messages=later.messages.to_wire(messages), **options)

    def _request_of_nothing(self) -> ChatRequest:
        return self._request([], None, {})

    # Tools

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Functions, pydantic classes, LangChain tools, or JSON schemas. With none, nothing is sent of tools.
            tool_choice: "auto", "none", "any" (also "required" or True: some tool), a tool's name, or a dict as the
                endpoint has it. None leaves it to the service.
            strict: Whether the arguments must keep to the schema.
            **kwargs: Options of the call, such as `parallel_tool_calls`.
        """
        offered = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        with errors.mapped():
            for tool in offered:
                if "function" not in tool:
                    raise ConfigurationError(f"the endpoint takes tools of type function, not {tool.get('type')!r}")
            names = [tool["function"]["name"] for tool in offered]
            choice = _tool_choice(tool_choice, names)
        if choice is not None:
            kwargs["tool_choice"] = choice
        return self.bind(tools=offered, **kwargs)

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        include_raw: bool = False,
        method: Method = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Have answers that keep to a schema; pictures in the prompt are no hindrance.

        Args:
            schema: A pydantic class, a TypedDict, a JSON schema, or a tool as the endpoint has it.
            include_raw: Whether to get a dict of `raw` (the message), `parsed` and `parsing_error`.
            method: By LangChain's names; all of them go by way of a tool that the model has to call.
            strict: Whether the service shall enforce the schema.
            **kwargs: Options of the call.

        Returns an object of the pydantic class, else a dict. Unless `include_raw`, raises `OutputParserException` for
        an answer in words and for arguments that are no JSON, and pydantic's `ValidationError` for those that don't
        fit the class.
        """
        with errors.mapped():
            later.structured_output.check(method, schema)
        offered = convert_to_openai_tool(schema, strict=strict)
        model = self.bind_tools(
            [offered],
            tool_choice=offered["function"]["name"],
            ls_structured_output_format={"kwargs": {"method": "function_calling"}, "schema": offered},
            **kwargs,
        )
        return later.structured_output.parsed(model, schema, offered["function"]["name"], include_raw=include_raw)

    # What LangChain asks

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a text, estimated offline (`predictionguard_core.tokens` says how)."""
        return later.token_counts.estimate_text_tokens(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None, **kwargs: Any
    ) -> int:
        """Tokens of a conversation, estimated offline: pictures by their size in pixels, tools by their schemas."""
        with errors.mapped():
            count = later.token_counts.estimate_message_tokens(later.messages.to_wire(messages), self.images)
        return count + sum(
            later.token_counts.estimate_text_tokens(json.dumps(convert_to_openai_tool(tool))) for tool in tools or []
        )

    def _resolve_model_profile(self) -> ModelProfile | None:
        known = models.known_model(self.model)
        if known is None:
            return None
        profile: dict[str, Any] = {
            "text_inputs": True,
            "text_outputs": True,
            "image_inputs": known.accepts_images,
            "image_url_inputs": known.accepts_images,
            "image_tool_message": known.accepts_images,
            "max_input_tokens": known.context_window,
            "tool_calling": known.supports_tools,
            "reasoning_output": known.is_reasoning,
        }
        return cast("ModelProfile", {name: value for name, value in profile.items() if value is not None})

    @property
    def _llm_type(self) -> str:
        return "chat-predictionguard"

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        prompt = super()._convert_input(model_input)
        given = prompt.to_messages()
        ready = later.content_blocks.traceable(given)
        return prompt if ready is given else ChatPromptValue(messages=ready)

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """See `BaseChatModel.generate`. Any block that `invoke` takes is taken here, too."""
        return super().generate([later.content_blocks.traceable(each) for each in messages], *args, **kwargs)

    async def agenerate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """`generate`, asynchronous."""
        return await super().agenerate([later.content_blocks.traceable(each) for each in messages], *args, **kwargs)


_ABOUT_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
"""Options that the endpoint takes only of a request with tools."""


def _tool_choice(choice: str | dict[str, Any] | bool | None, names: list[str]) -> str | dict[str, Any] | None:
    if isinstance(choice, dict) or choice is None or choice is False:
        return choice or None
    if choice is True or choice in ("any", "required"):
        return "required"
    if choice in ("auto", "none"):
        return choice
    if choice not in names:
        raise ConfigurationError(f"tool_choice: there is no tool {choice!r} among {', '.join(names) or 'none'}")
    return {"type": "function", "function": {"name": choice}}
