"""What every class here shares: where calls go, the two clients that make them, and how an object is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from langchain_predictionguard import errors, later
from predictionguard_core import quick, settings
from predictionguard_core.api.base import checked
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    import httpx

    from predictionguard_core.api.models import Capability, Model
    from predictionguard_core.client import AsyncClient, Client

    HttpClient = httpx.Client
    HttpAsyncClient = httpx.AsyncClient
else:  # checked when one is given: nobody else needs httpx until the first call
    HttpClient = HttpAsyncClient = Any

_FIELDS = ("api_key", "base_url", "timeout", "max_retries", "images")

# Each class repeats it: LangChain's own bases would have unknown options ignored.
CONFIG = ConfigDict(
    arbitrary_types_allowed=True, populate_by_name=True, extra="forbid", protected_namespaces=(), defer_build=True
)


class Connected(BaseModel):
    """A model of Prediction Guard's at an address.

    Making one touches no network. The key is in no repr, dump or pickle: an object that is made of one of these reads
    PREDICTIONGUARD_API_KEY where it wakes up.

    Raises `ConfigurationError` for a missing key and for options that can't work.
    """

    model: str = Field(min_length=1)
    api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("api_key", "predictionguard_api_key"), exclude=True, repr=False
    )
    base_url: str | None = Field(default=None, validation_alias=AliasChoices("base_url", "predictionguard_url"))
    timeout: float | None = settings.DEFAULT_TIMEOUT
    max_retries: int | None = settings.DEFAULT_MAX_RETRIES
    images: ImagePolicy = ImagePolicy()
    http_client: HttpClient | None = Field(default=None, exclude=True, repr=False)
    http_async_client: HttpAsyncClient | None = Field(default=None, exclude=True, repr=False)

    model_config = CONFIG

    _client: Any = PrivateAttr(default=None)
    _async_client: Any = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        quick.sign(cls)

    if not TYPE_CHECKING:  # type checkers get the fields, one by one, as keyword arguments

        def __init__(self, model: str | None = None, **options: Any) -> None:
            if model is not None:
                options["model"] = model
            with errors.mapped():
                checked(super().__init__, options, type(self).model_fields)

    @model_validator(mode="after")
    def _settle(self) -> Self:
        later.load()
        settings.check_http_client(self.http_client, "Client", "http_client")
        settings.check_http_client(self.http_async_client, "AsyncClient", "http_async_client")
        resolved = settings.resolve_settings(
            self.api_key, self.base_url, timeout=self.timeout, max_retries=self.max_retries
        )
        self.api_key, self.base_url = resolved.api_key, resolved.base_url
        return self

    def list_models(self, capability: Capability | None = None) -> list[Model]:
        """The account's models, or those with a capability, such as "chat-with-image"."""
        with errors.mapped():
            return self._sync.models(capability)

    async def alist_models(self, capability: Capability | None = None) -> list[Model]:
        """`list_models`, asynchronous."""
        with errors.mapped():
            return await self._async.models(capability)

    def close(self) -> None:
        """Let go of the connections of synchronous calls; a later call opens new ones."""
        if self._client is not None:
            self._client.close()

    async def aclose(self) -> None:
        """Let go of this event loop's connections; a later call opens new ones."""
        if self._async_client is not None:
            await self._async_client.aclose()

    @property
    def _sync(self) -> Client:
        if self._client is None:
            self._client = later.client.Client(**self._arguments(), http_client=self.http_client)
        return self._client  # type: ignore[no-any-return]

    @property
    def _async(self) -> AsyncClient:
        if self._async_client is None:
            self._async_client = later.client.AsyncClient(**self._arguments(), http_client=self.http_async_client)
        return self._async_client  # type: ignore[no-any-return]

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIELDS}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "api_key" and isinstance(value, str):
            value = SecretStr(value)
        super().__setattr__(name, value)
        if name in (*_FIELDS, "http_client", "http_async_client"):
            self._client = self._async_client = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields. A key that is given as text is hidden in it, too."""
        twin = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(twin, name, value)
        return twin

    def __copy__(self) -> Self:
        twin = super().__copy__()
        twin._client = twin._async_client = None
        return twin

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        for shared in (self.http_client, self.http_async_client):
            memo[id(shared)] = shared
        twin = super().__deepcopy__(memo)
        twin._client = twin._async_client = None
        return twin

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        fields = {**state["__dict__"], "api_key": None, "http_client": None, "http_async_client": None}
        private = {**(state["__pydantic_private__"] or {}), "_client": None, "_async_client": None}
        return {**state, "__dict__": fields, "__pydantic_private__": private}
