"""Surrounds the calls of an LLM: headers are hidden from observers, and a wrong first argument is explained."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import NodeWithScore
from pydantic import BaseModel, ValidationError

from predictionguard_core.errors import ConfigurationError, ContentError
from predictionguard_core.redaction import may_hold_secret
from predictionguard_core.settings import check_headers

# All have LlamaIndex's callbacks or spans, and an async version whose name begins with "a".
_CALLS = ("chat", "stream_chat", "complete", "stream_complete", "predict_and_call")
_CALLS_WITH_TEMPLATE = ("predict", "stream", "structured_predict", "stream_structured_predict")


_HIDDEN = "**********"


class HiddenHeaders(dict[str, str]):
    """The headers of one call, with asterisks for their values: events and spans show every argument of a call."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(dict.fromkeys(headers, _HIDDEN))
        self.sent = headers


def wrap_calls(cls: type) -> None:
    """Wrap the calls of a class, once LlamaIndex has added its callbacks and spans."""
    for name in (*_CALLS, *_CALLS_WITH_TEMPLATE):
        for each, wrap in ((name, _wrap), (f"a{name}", _wrap_async)):
            method = inspect.getattr_static(cls, each, None)
            if method is not None and not hasattr(method, "is_wrapped"):
                call = wrap(method, name)
                call.is_wrapped = True
                setattr(cls, each, call)


def _wrap(method: Any, name: str) -> Any:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _prepare(name, args, kwargs)
        try:
            return method.__get__(self)(*args, **kwargs)
        except (ValidationError, AttributeError):
            _explain(name, args, kwargs)
            raise

    return call


def _wrap_async(method: Any, name: str) -> Any:
    @functools.wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        _prepare(name, args, kwargs)
        try:
            return await method.__get__(self)(*args, **kwargs)
        except (ValidationError, AttributeError):
            _explain(name, args, kwargs)
            raise

    return call


def _prepare(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _hide_headers(kwargs)
    _hide_unknown(kwargs.get("llm_kwargs", {} if name in _CALLS_WITH_TEMPLATE else kwargs))
    if name in _CALLS_WITH_TEMPLATE:
        arguments = dict(zip(("output_cls", "prompt") if "structured" in name else ("prompt",), args, strict=False))
        _check_template(arguments | kwargs)


def _hide_headers(kwargs: dict[str, Any]) -> None:
    headers = kwargs.get("extra_headers")
    if headers is not None and not isinstance(headers, HiddenHeaders):
        kwargs["extra_headers"] = HiddenHeaders(check_headers(headers, "extra_headers"))
    if "llm_kwargs" in kwargs:
        kwargs["llm_kwargs"] = dict(kwargs["llm_kwargs"] or {})
        _hide_headers(kwargs["llm_kwargs"])


def _hide_unknown(options: dict[str, Any]) -> None:
    # An api_key here is refused, but only after the events of the call.
    for name in options:
        if name != "extra_headers" and may_hold_secret(name):
            options[name] = _HIDDEN


def _explain(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise our error about the first argument, if that is the reason for LlamaIndex's.

    Its callbacks raise pydantic's errors about their own events. No check comes first: that would cost time per call.
    """
    if name.endswith("chat"):
        _check_messages(args[0] if args else kwargs.get("messages"))
    elif name.endswith("complete"):
        _check_prompt(args[0] if args else kwargs.get("prompt"))


def _check_template(arguments: dict[str, Any]) -> None:
    prompt = arguments.get("prompt")
    if not isinstance(prompt, BasePromptTemplate):
        raise ContentError(f"prompt must be a PromptTemplate, got {type(prompt).__name__}: pass PromptTemplate(text)")
    if "output_cls" in arguments:
        check_output_class(arguments["output_cls"])


def check_output_class(output_cls: Any) -> None:
    """Raise `ConfigurationError` unless `output_cls` is a class of pydantic."""
    if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
        got = output_cls if isinstance(output_cls, type) else type(output_cls)
        raise ConfigurationError(f"output_cls must be a class derived from pydantic's BaseModel, got {got.__name__}")


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
    wrong = [nodes]
    if isinstance(nodes, Sequence) and not isinstance(nodes, str):
        wrong = [node for node in nodes if not isinstance(node, NodeWithScore)]
    if wrong:
        raise ContentError(
            f"nodes must be a list of NodeWithScore, got {type(wrong[0]).__name__}: pass [NodeWithScore(node=...)]"
        )
