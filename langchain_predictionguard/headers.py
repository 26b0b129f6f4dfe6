"""`extra_headers`, an option of a call: their values may be secret, so no repr, dump or tracer gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableBinding
from pydantic import SecretStr


def hide_headers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call with the values of `extra_headers` as `SecretStr`, so that no repr shows them."""
    headers = options.get("extra_headers")
    if not isinstance(headers, Mapping):
        return dict(options)
    hidden = {name: SecretStr(value) if isinstance(value, str) else value for name, value in headers.items()}
    return {**options, "extra_headers": hidden}


def extra_headers(options: Mapping[str, Any]) -> Any:
    """Return the headers of a call as they are sent."""
    headers = options.get("extra_headers")
    if not isinstance(headers, Mapping):
        return headers
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in headers.items()
    }


class Binding(RunnableBinding[Any, Any]):
    """`RunnableBinding` whose repr and dump hide the values of `extra_headers`, also of those bound later."""

    def __init__(self, *, kwargs: Mapping[str, Any] | None = None, **fields: Any) -> None:
        super().__init__(kwargs=hide_headers(kwargs or {}), **fields)

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the id of `RunnableBinding`: `load` knows it."""
        return RunnableBinding.lc_id()
