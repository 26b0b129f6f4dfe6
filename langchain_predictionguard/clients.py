"""The core's clients for classes that need no model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import SecretStr

from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.base import unknown
from predictionguard_core.client import AsyncClient, Client
from predictionguard_core.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx


class ConnectionOptions(TypedDict, total=False):
    """How to reach the service. Each option defaults to that of `predictionguard_core.Client`."""

    api_key: str | SecretStr | Callable[[], str] | Callable[[], Awaitable[str]] | None
    base_url: str | None
    timeout: float | None
    max_retries: int | None
    default_headers: dict[str, str] | None
    http_client: httpx.Client | None
    http_async_client: httpx.AsyncClient | None


def new_clients(options: ConnectionOptions, owner: type) -> tuple[Client, AsyncClient]:
    """Return a sync and an async client. Neither opens a connection before its first call.

    `owner` is the class that passes these options on; errors suggest its options too.
    """
    with langchain_errors():
        for name in options:
            if name not in ConnectionOptions.__annotations__:
                own = list(inspect.signature(owner.__init__).parameters)[1:-1]  # type: ignore[misc] # no self
                raise ConfigurationError(unknown(name, [*own, *ConnectionOptions.__annotations__]))
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        own, own_async = given.pop("http_client", None), given.pop("http_async_client", None)
        return Client(**given, http_client=own), AsyncClient(**given, http_client=own_async)
