"""What the components share: the connection to the service, and the options of the two chat classes."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.schema import BaseComponent
from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, SecretStr, field_serializer, model_validator

from llama_index_predictionguard import calls
from llama_index_predictionguard.messages import ato_chunks, to_chunks, to_response
from predictionguard_core import models, settings
from predictionguard_core.api.base import ONE_POSITIONAL, checked, unknown, with_text_keys
from predictionguard_core.api.chat import ChatRequest, Message
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    import httpx
    import httpx2

    from predictionguard_core.api.models import Capability, Model
    from predictionguard_core.client import AsyncClient, Client

    # What the constructors accept; pydantic converts it to the types below.
    ApiKey = str | SecretStr | Callable[[], str] | Callable[[], Awaitable[str]]
    HttpClient = httpx.Client | httpx2.Client
    AsyncHttpClient = httpx.AsyncClient | httpx2.AsyncClient
    InputChecksArgument = InputChecks | dict[str, Any]
    OutputChecksArgument = OutputChecks | dict[str, Any]
    ImagePolicyArgument = ImagePolicy | dict[str, Any] | None
    LogitBias = dict[str, float] | dict[int, float]
    AdditionalKwargs = dict[str, Any]
else:
    # Settings check the key and the clients, so that httpx need not be imported to build a class.
    ApiKey = HttpClient = AsyncHttpClient = Any
    InputChecksArgument, OutputChecksArgument = InputChecks, OutputChecks
    ImagePolicyArgument = Annotated[ImagePolicy, BeforeValidator(ImagePolicy.of)]
    LogitBias = Annotated[dict[str, float], BeforeValidator(with_text_keys)]
    AdditionalKwargs = Annotated[dict[str, Any], BeforeValidator(lambda value: value or {})]

# What signatures show for these names.
_SHOWN_TYPES = {
    "ApiKey": "str | SecretStr | Callable",
    "HttpClient": "httpx.Client | httpx2.Client",
    "AsyncHttpClient": "httpx.AsyncClient | httpx2.AsyncClient",
    "InputChecksArgument": "InputChecks | dict",
    "OutputChecksArgument": "OutputChecks | dict",
    "ImagePolicyArgument": "ImagePolicy | dict | None",
    "LogitBias": "dict",
    "AdditionalKwargs": "dict | None",
    "PIIReplaceMethod": "str",
}

# A pickled component has no key: where it is unpickled, PREDICTIONGUARD_API_KEY is read. Open clients can't be pickled.
_NOT_PICKLED = ("api_key", "http_client", "async_http_client")
_CLIENT_FIELDS = ("base_url", "timeout", "max_retries", "default_headers", "images", *_NOT_PICKLED)
# Names of options in ChatRequest that differ from ours.
_API_NAMES = {"max_tokens": "max_completion_tokens", "input_checks": "input", "output_checks": "output"}


class ServiceComponent(BaseComponent):
    """A component that calls the service. Creating one never touches the network.

    Raises:
        ConfigurationError: no API key, an invalid URL, an unknown argument, or an option outside its range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    api_key: ApiKey | None = Field(default=None, exclude=True, repr=False)
    base_url: str | None = None
    api_base: str | None = Field(default=None, exclude=True, repr=False)
    timeout: float | None = settings.DEFAULT_TIMEOUT
    max_retries: int | None = settings.DEFAULT_MAX_RETRIES
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    http_client: HttpClient | None = Field(default=None, exclude=True, repr=False)
    async_http_client: AsyncHttpClient | None = Field(default=None, exclude=True, repr=False)

    _ALIASES: ClassVar[dict[str, str]] = {"api_base": "base_url"}
    _clients: Any = PrivateAttr(default=None)

    def __init__(self, **fields: Any) -> None:
        for alias, name in self._ALIASES.items():
            value = fields.pop(alias, None)
            if value and fields.get(name) not in (None, "", value):
                raise ConfigurationError(f"{name} and {alias} are two names of the same option; pass only one of them")
            if value:
                fields[name] = value
        settings.check_http_client(fields.get("http_client"), "Client", "http_client")
        settings.check_http_client(fields.get("async_http_client"), "AsyncClient", "async_http_client")
        wrong = next((name for name in fields if name not in type(self).model_fields), None)
        if wrong is not None:
            raise ConfigurationError(unknown(wrong, type(self).model_fields))
        checked(super().__init__, fields, type(self).model_fields)
        resolved = settings.resolve_settings(
            self.api_key, self.base_url, timeout=self.timeout, max_retries=self.max_retries
        )
        self.api_key, self.base_url = resolved.api_key, resolved.base_url
        self.timeout, self.max_retries = resolved.timeout, resolved.max_retries
        settings.check_headers(self.default_headers, "default_headers")
        importlib.import_module("predictionguard_core.client")  # here, not at the first call, on an event loop

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.__signature__ = _Signature()  # type: ignore[assignment]

    def _client(self) -> Client:
        return self._both_clients()[0]

    def _async_client(self) -> AsyncClient:
        return self._both_clients()[1]

    def _both_clients(self) -> tuple[Client, AsyncClient]:
        # Cheap to create: all clients of a process share their connections.
        if self._clients is None:
            from predictionguard_core.client import AsyncClient, Client  # httpx costs a third of LlamaIndex's import

            options = self._client_options()
            self._clients = (
                Client(**options, http_client=self.http_client),
                AsyncClient(**options, http_client=self.async_http_client),
            )
        return self._clients  # type: ignore[no-any-return]

    def _client_options(self) -> dict[str, Any]:
        names = ("api_key", "base_url", "timeout", "max_retries", "default_headers")
        return {name: getattr(self, name) for name in names}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, SecretStr(value) if name == "api_key" and isinstance(value, str) else value)
        if name in _CLIENT_FIELDS:
            self._clients = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the component, with other values for some fields."""
        copied = super().model_copy(deep=deep)
        for name, value in (update or {}).items():  # through __setattr__, which hides a key passed as a string
            setattr(copied, name, value)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        # Copies share open clients and the limit on the account.
        for shared in (self.http_client, self.async_http_client, getattr(self, "rate_limiter", None)):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[str, Any]:
        # The base class removes what does not pickle from the object itself, so it gets a copy.
        copied = self.model_copy()
        for name in _NOT_PICKLED:
            copied.__dict__.pop(name, None)
        copied._clients = None
        return super(ServiceComponent, copied).__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        try:
            self.__init__(**state["__dict__"])  # type: ignore[misc]
        except ConfigurationError:
            # A process pool hangs if a task's arguments can't be unpickled: the first call reports the missing key.
            self.__init__(**state["__dict__"], api_key="none")  # type: ignore[misc]
            self.api_key = None


_PACKAGE = "llama_index_predictionguard"
_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MODEL = inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
_OPTIONS = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD, annotation=Any)


class _Signature:
    """What `help()` and notebooks show of a class. In pydantic's own, types and defaults fill several pages."""

    def __get__(self, instance: Any, cls: type[ServiceComponent]) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # an instance that can be called has the signature of `__call__`
        return _signature(cls)


def _signature(cls: type[ServiceComponent]) -> inspect.Signature:
    classes = [
        each for each in cls.__mro__ if issubclass(each, ServiceComponent) or each.__module__.startswith(_PACKAGE)
    ]
    annotations: dict[str, Any] = {}
    for each in reversed(classes):
        annotations |= inspect.get_annotations(each)
    own = [name for name in annotations if name in cls.model_fields and name != "model"]
    parameters = [_MODEL] if "model" in cls.model_fields else []
    for name in own + [name for name in cls.model_fields if name not in annotations]:
        default = cls.model_fields[name].default
        default = default if isinstance(default, str | int | float | bool) else None
        annotation: Any = inspect.Parameter.empty
        if name in annotations:
            annotation = re.sub(r"\w+", lambda found: _SHOWN_TYPES.get(found[0], found[0]), str(annotations[name]))
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return inspect.Signature(parameters)


class Component(ServiceComponent):
    """A component that calls a model of the service."""

    model: str = Field(min_length=1, kw_only=False)  # kw_only: type checkers allow it as the positional argument

    def __init__(self, model: str = "", *others: Any, **options: Any) -> None:
        """Create the component. The class's docstring lists the arguments."""
        if others:
            raise ConfigurationError(ONE_POSITIONAL)
        super().__init__(model=model, **options)

    # Without the default, which is for `model_name`.
    __init__.__signature__ = inspect.Signature([_SELF, _MODEL, _OPTIONS])  # type: ignore[attr-defined]

    def list_models(self, capability: Capability | None = None) -> list[Model]:
        """List the models of the account, or those with a capability such as "chat-with-image"."""
        return self._client().models(capability)

    async def alist_models(self, capability: Capability | None = None) -> list[Model]:
        """Asynchronous version of `list_models`."""
        return await self._async_client().models(capability)


class ImageComponent(Component):
    """A component that accepts images; `images` says which, and what is done to them."""

    images: ImagePolicyArgument = ImagePolicy()

    @property
    def _policy(self) -> ImagePolicy:
        return ImagePolicy.of(self.images)

    def _client_options(self) -> dict[str, Any]:
        return {**super()._client_options(), "images": self._policy}

    @field_serializer("images")
    def _images_to_dict(self, images: ImagePolicy) -> dict[str, Any]:
        return images.as_dict()


class ChatComponent(ImageComponent):
    """The options of a chat model, and its call in four forms.

    A field whose name, or whose name in `_API_NAMES`, is a field of `ChatRequest` is sent; others are not.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: LogitBias | None = None
    reasoning_effort: str | None = None
    stop: str | list[str] | None = None
    input_checks: InputChecksArgument | None = None
    output_checks: OutputChecksArgument | None = None
    vision_streaming: bool = False
    # Not in the repr, as it may hold extra_headers.
    additional_kwargs: AdditionalKwargs = Field(default_factory=dict, repr=False)
    context_window: int | None = Field(default=None, ge=1)
    is_function_calling_model: bool = True
    profile_from_service: bool = False

    _IMAGES_REMEDY: ClassVar[str] = "pass images as ImageBlock(...) in the blocks of a ChatMessage, and call chat"
    _profile: models.ModelFacts | None = PrivateAttr(default=None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # adds LlamaIndex's spans
        calls.wrap_calls(cls)

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self._request([], {})  # ChatRequest defines the range of each option
        return self

    @field_serializer("additional_kwargs")
    def _without_headers(self, additional_kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in additional_kwargs.items() if name != "extra_headers"}

    # The call

    def _chat(self, messages: list[Message], kwargs: dict[str, Any]) -> ChatResponse:
        request, extra_headers = self._request(messages, kwargs)
        return to_response(self._client().chat(request, extra_headers=extra_headers), request)

    async def _achat(self, messages: list[Message], kwargs: dict[str, Any]) -> ChatResponse:
        request, extra_headers = self._request(messages, kwargs)
        completion = await self._async_client().chat(request, extra_headers=extra_headers)
        return to_response(completion, request)

    def _stream_chat(self, messages: list[Message], kwargs: dict[str, Any]) -> Generator[ChatResponse, None, None]:
        request, extra_headers = self._request(messages, kwargs)
        return to_chunks(self._client().stream(request, extra_headers=extra_headers), request)

    def _astream_chat(self, messages: list[Message], kwargs: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        request, extra_headers = self._request(messages, kwargs)
        return ato_chunks(self._async_client().stream(request, extra_headers=extra_headers), request)

    def _request(self, messages: list[Message], kwargs: dict[str, Any]) -> tuple[ChatRequest, dict[str, str] | None]:
        """Return the request, and the headers of the call.

        The model's options are overridden by `additional_kwargs`, and these by the arguments of the call.
        """
        additional, call = _to_api_names(self.additional_kwargs), _to_api_names(kwargs)
        headers = additional.pop("extra_headers", None)
        headers = call.pop("extra_headers", headers)
        headers = headers.sent if isinstance(headers, calls.HiddenHeaders) else headers
        # LlamaIndex users put any key in additional_kwargs: what ChatRequest does not know goes into extra_body. The
        # arguments of a call are not moved, so a typo there is an error.
        undocumented = additional.keys() - ChatRequest.model_fields.keys() - {"n"}
        extra_body = {name: additional.pop(name) for name in undocumented}
        extra_body |= additional.pop("extra_body", None) or {}
        extra_body |= call.pop("extra_body", None) or {}
        own = {api_name: getattr(self, name) for name, api_name in _sent_fields(type(self)).items()}
        options = {**own, **additional, **call, "extra_body": extra_body or None}
        if options.pop("n", None) not in (None, 1):
            raise ConfigurationError("n must be 1: LlamaIndex's responses hold one answer. Call once for each answer")
        options = {name: value for name, value in options.items() if value is not None}
        try:
            return ChatRequest(**{**options, "messages": messages}), headers
        except ConfigurationError:
            wrong = next((name for name in kwargs if name.startswith("image")), None)
            if wrong is None:
                raise
        raise ConfigurationError(f"{wrong}: there is no such option; {self._IMAGES_REMEDY}")

    # What the framework asks

    def _metadata(self) -> dict[str, Any]:
        known = models.known_model(self.model) or models.ModelFacts()
        if self.profile_from_service:
            known = self._facts_from_service(known)
        calls_tools = self.is_function_calling_model
        if known.supports_tools is False and "is_function_calling_model" not in self.model_fields_set:
            calls_tools = False
        return {
            "model_name": self.model,
            "context_window": self.context_window or known.context_window or DEFAULT_CONTEXT_WINDOW,
            "num_output": self.max_tokens or DEFAULT_NUM_OUTPUTS,
            "is_chat_model": True,
            "is_function_calling_model": calls_tools,
        }

    def _facts_from_service(self, known: models.ModelFacts) -> models.ModelFacts:
        if self._profile is None:
            model = self._client().model_info(self.model)
            can = model.capabilities if model else {}
            self._profile = models.ModelFacts(
                context_window=(model.max_context_length if model else None) or known.context_window,
                accepts_images=can.get("chat-with-image", known.accepts_images),
                supports_tools=can.get("tool_calling", known.supports_tools),
                is_reasoning=can.get("reasoning", known.is_reasoning),
            )
        return self._profile

    def to_payload(self) -> dict[str, Any]:
        """Return what events and callbacks show of this model; never the API key or headers."""
        options = {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}
        return {"class_name": self.class_name(), **self._metadata(), **options}


@functools.cache
def _sent_fields(cls: type[ChatComponent]) -> dict[str, str]:
    """Map the fields of a class that are sent to their names in `ChatRequest`."""
    names = {name: _API_NAMES.get(name, name) for name in cls.model_fields}
    return {name: api for name, api in names.items() if api in ChatRequest.model_fields}


def _to_api_names(options: dict[str, Any]) -> dict[str, Any]:
    return {_API_NAMES.get(name, name): value for name, value in options.items()}
