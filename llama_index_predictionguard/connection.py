"""What everything that calls the endpoint has in common: a model's name, a key, an address, and how it is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from llama_index.core.schema import BaseComponent
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_serializer

from llama_index_predictionguard import later
from predictionguard_core import quick, settings
from predictionguard_core.api.base import checked
from predictionguard_core.api.base import unknown as no_such
from predictionguard_core.errors import ConfigurationError
from predictionguard_core.images.policy import ImagePolicy

if TYPE_CHECKING:
    import httpx

    from predictionguard_core.api.models import Capability, Model
    from predictionguard_core.client import AsyncClient, Client

    HttpClient = httpx.Client
    HttpAsyncClient = httpx.AsyncClient
else:  # checked when one is given: nobody else needs httpx until the first call
    HttpClient = HttpAsyncClient = Any

# The key is in no pickle: a worker reads PREDICTIONGUARD_API_KEY where it wakes up. Open clients can't travel.
_NOT_PICKLED = ("api_key", "http_client", "async_http_client")
_CONNECTING = ("base_url", "timeout", "max_retries", "images", *_NOT_PICKLED)


class Connected(BaseComponent):
    """A component with a model of Prediction Guard's behind it. Making one touches no network.

    Raises:
        ConfigurationError: no key, a bad address, an unknown argument, or an option outside its range.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), defer_build=True)

    model: str = Field(min_length=1)
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    base_url: str | None = None
    timeout: float | None = settings.DEFAULT_TIMEOUT
    max_retries: int | None = settings.DEFAULT_MAX_RETRIES
    http_client: HttpClient | None = Field(default=None, exclude=True, repr=False)
    async_http_client: HttpAsyncClient | None = Field(default=None, exclude=True, repr=False)

    # The clients, and the options they were made with.
    _made: Any = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        quick.sign(cls)

    def __init__(self, **fields: Any) -> None:
        later.load()
        settings.check_http_client(fields.get("http_client"), "Client", "http_client")
        settings.check_http_client(fields.get("async_http_client"), "AsyncClient", "async_http_client")
        unknown = sorted(fields.keys() - type(self).model_fields.keys())
        if unknown:
            raise ConfigurationError(no_such(unknown[0], type(self).model_fields))
        checked(super().__init__, fields, type(self).model_fields)
        resolved = settings.resolve_settings(
            self.api_key, self.base_url, timeout=self.timeout, max_retries=self.max_retries
        )
        self.api_key, self.base_url = resolved.api_key, resolved.base_url
        self.timeout, self.max_retries = resolved.timeout, resolved.max_retries

    def _connection(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("api_key", "base_url", "timeout", "max_retries")}

    def list_models(self, capability: Capability | None = None) -> list[Model]:
        """The account's models, or those with a capability, such as "chat-with-image"."""
        return self._client().models(capability)

    async def alist_models(self, capability: Capability | None = None) -> list[Model]:
        """`list_models`, asynchronous."""
        return await self._async_client().models(capability)

    def _client(self) -> Client:
        return self._clients()[0]

    def _async_client(self) -> AsyncClient:
        return self._clients()[1]

    def _clients(self) -> tuple[Client, AsyncClient]:
        # Made anew where a field was changed. What holds connections is the core's, one for all in a process and loop.
        now, made = [self.__dict__.get(name) for name in _CONNECTING], self._made
        if made is None or made[0] != now:
            clients = (
                later.client.Client(**self._connection(), http_client=self.http_client),
                later.client.AsyncClient(**self._connection(), http_client=self.async_http_client),
            )
            self._made = made = (now, clients)
        return made[1]  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, SecretStr(value) if name == "api_key" and isinstance(value, str) else value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields. A key that is given as text is hidden in it, too."""
        twin = super().model_copy(deep=deep)
        for name, value in (update or {}).items():
            setattr(twin, name, value)
        return twin

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        # What is open, and a limit on the account as a whole, is one for all copies.
        for shared in (self.http_client, self.async_http_client, getattr(self, "rate_limiter", None)):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[str, Any]:
        # The base class takes what does not pickle off the object itself: it gets a twin to do that to.
        twin = self.model_copy()
        for name in _NOT_PICKLED:
            twin.__dict__.pop(name, None)
        twin._made = None
        return super(Connected, twin).__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        try:
            self.__init__(**state["__dict__"])  # type: ignore[misc]
        except ConfigurationError:
            # A pool of processes waits for ever for a task whose arguments fail to wake up: the first call tells.
            self.__init__(**state["__dict__"], api_key="none")  # type: ignore[misc]
            self.api_key = None


class Seeing(Connected):
    """A component that takes pictures. `images` says where they may come from and what is done to them."""

    images: ImagePolicy = ImagePolicy()

    def __init__(self, **fields: Any) -> None:  # type checkers would derive one from the fields
        super().__init__(**fields)

    def _connection(self) -> dict[str, Any]:
        return {**super()._connection(), "images": self.images}

    @field_serializer("images")
    def _images_as_json(self, images: ImagePolicy) -> dict[str, Any]:
        return images.as_dict()
