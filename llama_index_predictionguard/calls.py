"""Surrounds the calls of an LLM: headers are hidden from observers, and a wrong first argument is explained."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import NodeWithScore
from pydantic import BaseModel, ValidationError

from predictionguard_core.errors import ContentError
from predictionguard_core.settings import check_headers

# Each of them has LlamaIndex's callbacks or spans, and an async version whose name begins with "a".
_CALLS = (
    "chat",
    "stream_chat",
    "complete",
    "stream_complete",
    "predict_and_call",
    "structured_predict",
    "stream_structured_predict",
)


class HiddenHeaders(dict[str, str]):
    """The headers of one call, with asterisks for their values: events and spans show every argument of a call."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(dict.fromkeys(headers, "**********"))
        self.sent = headers


def wrap_calls(cls: type) -> None:
    """Wrap the calls of a class, once LlamaIndex has added its callbacks and spans."""
    for name in _CALLS:
        for each, wrap in ((name, _wrap), (f"a{name}", _wrap_async)):
            method = inspect.getattr_static(cls, each, None)
            if method is not None and not hasattr(method, "is_wrapped"):
                call = wrap(method)
                call.is_wrapped = True
                setattr(cls, each, call)


def _wrap(method: Any) -> Any:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _hide_headers(kwargs)
        try:
            return method.__get__(self)(*args, **kwargs)
        except (ValidationError, AttributeError):
            _check_input(method.__name__, args, kwargs)
            raise

    return call


def _wrap_async(method: Any) -> Any:
    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _hide_headers(kwargs)
        try:
            return await method.__get__(self)(*args, **kwargs)
        except (ValidationError, AttributeError):
            _check_input(method.__name__, args, kwargs)
            raise

    return call


def _hide_headers(kwargs: dict[str, Any]) -> None:
    headers = kwargs.get("extra_headers")
    if headers is not None and not isinstance(headers, HiddenHeaders):
        kwargs["extra_headers"] = HiddenHeaders(check_headers(headers, "extra_headers"))
    if "llm_kwargs" in kwargs:
        kwargs["llm_kwargs"] = dict(kwargs["llm_kwargs"] or {})
        _hide_headers(kwargs["llm_kwargs"])


def _check_input(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    # LlamaIndex's callbacks raise pydantic's errors about their own events, before our code sees the argument.
    if name.endswith("chat"):
        _check_messages(args[0] if args else kwargs.get("messages"))
    elif name.endswith("complete"):
        _check_prompt(args[0] if args else kwargs.get("prompt"))


def _check_messages(messages: Any) -> None:
    if isinstance(messages, str | bytes | BaseModel) or not isinstance(messages, Iterable):
        raise ContentError(
            f"messages must be a list of ChatMessage, got {type(messages).__name__}: pass "
            '[ChatMessage(role="user", content=...)], or call complete with a prompt'
        ) from None
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessage):
            raise ContentError(
                f"messages must be a list of ChatMessage, got {type(message).__name__} in it: pass "
                "ChatMessage(role=..., content=...)",
                message_index=index,
            ) from None


def _check_prompt(prompt: Any) -> None:
    if not isinstance(prompt, str):
        raise ContentError(
            f"prompt must be a string, got {type(prompt).__name__}: to send messages, call chat"
        ) from None


def check_nodes(nodes: Any) -> None:
    """Raise `ContentError` unless `nodes` is a list of `NodeWithScore`."""
    for node in nodes or []:
        if not isinstance(node, NodeWithScore):
            raise ContentError(
                f"nodes must be a list of NodeWithScore, got {type(node).__name__} in it: pass NodeWithScore(node=...)"
            )
