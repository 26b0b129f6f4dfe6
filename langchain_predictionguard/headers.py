"""`extra_headers`, an option of a call: their values may be secret, so no repr, dump or tracer gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableBinding
from pydantic import SecretStr

from predictionguard_core.redaction import may_hold_secret


def hide_headers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call with `SecretStr` in `extra_headers`, so that no repr shows the values.

    It does the same to options that calls do not have, such as `api_key`.
    """
    return {name: _hidden(value) if may_hold_secret(name) else value for name, value in options.items()}


def without_headers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call for tracers: without those that may hold secrets."""
    return {name: value for name, value in options.items() if not may_hold_secret(name)}


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each) for each in value]
    return SecretStr(value) if isinstance(value, str) else value


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
