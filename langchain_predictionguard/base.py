"""Fields and behaviour that the classes of this package share: the connection, the options, copies and pickles."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from annotated_types import Ge, Le  # a dependency of pydantic
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from langchain_predictionguard.errors import langchain_errors
from predictionguard_core import settings
from predictionguard_core.api.base import ONE_POSITIONAL, checked
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    import httpx
    import httpx2
    from langchain_core.language_models import LangSmithParams
    from langchain_core.runnables import Runnable

    from predictionguard_core.api.models import Capability, Model
    from predictionguard_core.client import AsyncClient, Client

    # What type checkers allow as arguments; at run time pydantic converts it to the types below.
    ApiKey = str | SecretStr | Callable[[], str] | Callable[[], Awaitable[str]]
    Images = ImagePolicy | dict[str, Any]
    Inputs = InputChecks | dict[str, Any]
    Outputs = OutputChecks | dict[str, Any]
    LogitBias = dict[str | int, float] | dict[str, float] | dict[int, float]
    HttpClient = httpx.Client | httpx2.Client
    HttpAsyncClient = httpx.AsyncClient | httpx2.AsyncClient
else:
    ApiKey = SecretStr | Callable[[], Any]
    Images, Inputs, Outputs = ImagePolicy, InputChecks, OutputChecks
    LogitBias = dict[str | int, Annotated[float, Ge(-100), Le(100)]]
    HttpClient = HttpAsyncClient = Any  # checked by `settings.check_http_client`, without an import of httpx

PROVIDER = "predictionguard"

# Each class repeats it, because LangChain's base classes come later in the bases and would ignore unknown options.
CONFIG = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid", protected_namespaces=())

_CONNECTION = ("api_key", "base_url", "timeout", "max_retries", "images", "default_headers")
_NOT_IN_THE_BODY = ("extra_headers", "n", "stream")
_CLIENTS = ("http_client", "http_async_client")


class ServiceModel(BaseModel):
    """A model behind a Prediction Guard API, and the connection to it."""

    model: str = Field(min_length=1, kw_only=False)
    api_key: ApiKey | None = Field(
        default=None, validation_alias=AliasChoices("api_key", "predictionguard_api_key"), exclude=True, repr=False
    )
    base_url: str | None = Field(default=None, validation_alias=AliasChoices("base_url", "predictionguard_url"))
    timeout: float | None = settings.DEFAULT_TIMEOUT
    max_retries: int | None = settings.DEFAULT_MAX_RETRIES
    images: Images = Field(default_factory=ImagePolicy)
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    http_client: HttpClient | None = Field(default=None, exclude=True, repr=False)
    http_async_client: HttpAsyncClient | None = Field(default=None, exclude=True, repr=False)

    model_config = CONFIG

    _client: Any = PrivateAttr(default=None)
    _async_client: Any = PrivateAttr(default=None)

    if TYPE_CHECKING:  # aliases from the retired package; a type checker takes the other arguments from the fields
        predictionguard_api_key: ApiKey | None = None
        predictionguard_url: str | None = None
    else:

        def __init__(self, model: Any = None, *others: Any, **options: Any) -> None:
            if model is not None:
                options["model"] = model
            with langchain_errors():
                if others:
                    raise ConfigurationError(ONE_POSITIONAL)
                checked(super().__init__, options, type(self).model_fields)

        # What `help()` and notebooks show. Without the default, Python itself would raise for a missing model, and
        # with less to say.
        __init__.__signature__ = inspect.Signature(
            [
                inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
                inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str),
                inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD, annotation=Any),
            ]
        )

    def model_post_init(self, context: Any, /) -> None:
        """Run the framework's own hook, which records package versions for tracers, and add the version of ours."""
        super().model_post_init(context)
        if hasattr(self, "_add_version"):
            self._add_version("predictionguard-integrations", __version__)

    @field_validator("images", mode="before")
    @classmethod
    def _to_policy(cls, value: Any) -> ImagePolicy:
        return ImagePolicy.of(value)

    @model_validator(mode="after")
    def _resolve_settings(self) -> Self:
        settings.check_headers(self.default_headers, "default_headers")
        settings.check_http_client(self.http_client, "Client", "http_client")
        settings.check_http_client(self.http_async_client, "AsyncClient", "http_async_client")
        key: Any = self.api_key
        resolved = settings.resolve_settings(key, self.base_url, timeout=self.timeout, max_retries=self.max_retries)
        self.api_key, self.base_url = resolved.api_key, resolved.base_url
        return self

    def list_models(self, capability: Capability | None = None) -> list[Model]:
        """Return the account's models, or those with a capability, such as "chat-with-image"."""
        with langchain_errors():
            return self._sync.models(capability)

    async def alist_models(self, capability: Capability | None = None) -> list[Model]:
        """Async version of `list_models`."""
        with langchain_errors():
            return await self._async.models(capability)

    def close(self) -> None:
        """Close the connections of synchronous calls. A later call opens new ones."""
        if self._client is not None:
            self._client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop. A later call opens new ones."""
        if self._async_client is not None:
            await self._async_client.aclose()

    @property
    def _sync(self) -> Client:
        if self._client is None:
            from predictionguard_core.client import Client

            self._client = Client(**self._connection(), http_client=self.http_client)
        return self._client  # type: ignore[no-any-return]

    @property
    def _async(self) -> AsyncClient:
        if self._async_client is None:
            from predictionguard_core.client import AsyncClient

            self._async_client = AsyncClient(**self._connection(), http_client=self.http_async_client)
        return self._async_client  # type: ignore[no-any-return]

    def _connection(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _CONNECTION}

    @property
    def _policy(self) -> ImagePolicy:
        return ImagePolicy.of(self.images)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "api_key" and isinstance(value, str):
            value = SecretStr(value)
        super().__setattr__(name, value)
        if name in (*_CONNECTION, *_CLIENTS):
            self._client = self._async_client = None
        if name in type(self).model_fields:
            self.__dict__.pop("_serialized", None)  # LangChain caches it, and makes cache keys of it

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values in some fields. An API key given as a string is hidden in the copy too."""
        copied = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(copied, name, value)
        return copied

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._client = copied._async_client = None
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo.update({id(shared): shared for shared in (self.http_client, self.http_async_client)})
        copied = super().__deepcopy__(memo)
        copied._client = copied._async_client = None
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        # A pickle holds neither the key, which the copy reads from the environment, nor anything that is open.
        state = super().__getstate__()
        fields = {**state["__dict__"], "api_key": None, "http_client": None, "http_async_client": None}
        private = {**(state["__pydantic_private__"] or {}), "_client": None, "_async_client": None}
        return {**state, "__dict__": fields, "__pydantic_private__": private}


_CHECKS = {
    "input_checks": InputChecks,
    "output_checks": OutputChecks,
    "predictionguard_input": InputChecks,
    "predictionguard_output": OutputChecks,
}


def _to_checks(name: str, value: Any) -> Any:
    """Return checks for a dict of their fields."""
    return _CHECKS[name](**value) if name in _CHECKS and isinstance(value, dict) else value


# Arguments whose field in the request has another name.
_FIELD_NAMES = {
    "input_checks": "input",
    "output_checks": "output",
    "predictionguard_input": "input",
    "predictionguard_output": "output",
    "stop_sequences": "stop",
    "max_completion_tokens": "max_tokens",
}


class GenerativeModel(ServiceModel):
    """A model that writes. Options that are None are not sent.

    A field with the name of a request field is sent, so a new parameter takes one line here.
    """

    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias | None = None
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    input_checks: Inputs | None = Field(
        default=None, validation_alias=AliasChoices("input_checks", "predictionguard_input")
    )
    output_checks: Outputs | None = Field(
        default=None, validation_alias=AliasChoices("output_checks", "predictionguard_output")
    )

    if TYPE_CHECKING:  # aliases from the retired package
        stop_sequences: str | list[str] | None = None
        predictionguard_input: Inputs | None = None
        predictionguard_output: Outputs | None = None

    model_config = CONFIG

    @field_validator("input_checks", "output_checks", mode="before")
    @classmethod
    def _check_checks(cls, value: Any, info: ValidationInfo) -> Any:
        return _to_checks(str(info.field_name), value)

    @classmethod
    def _request_fields(cls) -> set[str]:
        """Return the names of the fields of a request."""
        raise NotImplementedError

    @classmethod
    @functools.cache
    def _sent(cls) -> tuple[str, ...]:
        """Return the names of the options that are sent."""
        known = cls._request_fields()
        return tuple(name for name in cls.model_fields if _FIELD_NAMES.get(name, name) in known)

    def _options(self, stop: list[str] | None, call: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a request: the model's options, overridden by those of the call."""
        if call.get("n", 1) != 1:
            raise ConfigurationError(f"n must be 1, got {call['n']!r}: for several answers, use `batch`")
        options = {_FIELD_NAMES.get(name, name): getattr(self, name) for name in self._sent()}
        options |= {
            _FIELD_NAMES.get(name, name): _to_checks(name, value)
            for name, value in call.items()
            if name not in _NOT_IN_THE_BODY
        }
        options["stop"] = stop or options["stop"] or None
        return {name: value for name, value in options.items() if value is not None}

    def _stop(self, stop: list[str] | None) -> list[str] | None:
        """Return the stop sequences of a call: its own, else the model's."""
        return stop or ([self.stop] if isinstance(self.stop, str) else self.stop)

    if not TYPE_CHECKING:  # type checkers take the signature of LangChain's

        def bind(self, **kwargs: Any) -> Runnable[Any, Any]:
            """Return this model with options for its calls; see `Runnable.bind`."""
            from langchain_predictionguard.headers import Binding

            return Binding(bound=self, kwargs=kwargs)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in (*self._sent(), "base_url")}
        options["images"] = self._policy.as_dict() or None  # a policy that changes images changes the answers
        return {name: value for name, value in options.items() if value is not None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = super()._get_ls_params(stop=self._stop(stop), **kwargs)  # type: ignore[misc]
        params["ls_provider"] = PROVIDER
        return params

    # Serialisation by `langchain_core.load`

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: `dumps` writes the object without its API key, and `load` reads it back."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable that `load` reads the API key from."""
        return {"api_key": settings.API_KEY_VARIABLE}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The arguments that have no JSON of their own, as dicts."""
        checks: dict[str, Any] = {"input_checks": self.input_checks, "output_checks": self.output_checks}
        dumped = {name: each.model_dump(exclude_none=True) for name, each in checks.items() if each is not None}
        return {"images": self._policy.as_dict(), **dumped}
