"""What LlamaIndex's spans, and its events about prompts, show of our other methods: marks for pictures, as in `traces`.

LlamaIndex decorates each method that stands in for one of its own, and hands down others that are decorated. Where
somebody watches, each of them is decorated anew, around a function that knows the call as it was made. Where nobody
watches, it is not decorated at all.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, SelectorPromptTemplate
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR
from pydantic import PrivateAttr

from llama_index_predictionguard.sight import MORE, holds_pictures, seen
from llama_index_predictionguard.traces import CALLS, is_watched

C = TypeVar("C", bound=type)
Given = tuple[tuple[Any, ...], dict[str, Any]]

_OPTIONS = ("output_cls", "llm_kwargs")
_TEXTS = {"self", "query", "text", "texts", "show_progress", "kwargs"}


def marked(cls: C) -> C:
    """A decorator of classes: the methods that LlamaIndex shows to who watches show marks for pictures.

    The calls of an LLM are left to `traces.marked`, and what takes nothing but text as it is.
    """
    found = {name: method for base in reversed(cls.__mro__) for name, method in vars(base).items()}
    for name, method in found.items():
        if name not in CALLS and _is_shown(method):
            bare = method.__wrapped__
            outer = (_amarking if inspect.iscoroutinefunction(bare) else _marking)(bare)
            if name not in vars(cls):  # the form of what others wrote of their method is theirs
                outer.__doc__ = (inspect.getdoc(bare) or "").partition("\n\n")[0]
            setattr(cls, name, outer)
    return cls


def _is_shown(method: Any) -> bool:
    # LlamaIndex's wrapper passes for a function, and is none.
    is_wrapper = inspect.isfunction(method) and type(method) is not types.FunctionType
    if not (is_wrapper and hasattr(method, DISPATCHER_SPAN_DECORATED_ATTR)):
        return False
    return not inspect.signature(method).parameters.keys() <= _TEXTS


def _marking(bare: Callable[..., Any]) -> Any:
    @functools.wraps(bare)
    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_watched(self):
            return bare(self, *args, **kwargs)
        shown, made = _call(self, args, kwargs)
        result = None

        def inner(*_: Any, **__: Any) -> Any:
            nonlocal result
            try:
                result = bare(self, *made[0], **made[1])
            finally:
                _release(made, result)
            return seen(result)

        _decorated(inner, bare).__get__(self, type(self))(*shown[0], **shown[1])
        return result

    return outer


def _amarking(bare: Callable[..., Any]) -> Any:
    @functools.wraps(bare)
    async def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_watched(self):
            return await bare(self, *args, **kwargs)
        shown = made = (args, kwargs)
        if holds_pictures(made):
            shown, made = await asyncio.to_thread(_call, self, args, kwargs)  # hashing takes its time
        result = None

        async def inner(*_: Any, **__: Any) -> Any:
            nonlocal result
            try:
                result = await bare(self, *made[0], **made[1])
            finally:
                _release(made, result)
            return await asyncio.to_thread(seen, result) if holds_pictures(result) else result

        await _decorated(inner, bare).__get__(self, type(self))(*shown[0], **shown[1])
        return result

    return outer


def _decorated(inner: Callable[..., Any], bare: Callable[..., Any]) -> Any:
    inner = functools.wraps(bare)(inner)
    vars(inner).pop(DISPATCHER_SPAN_DECORATED_ATTR, None)  # which would leave it as it is
    return get_dispatcher(bare.__module__).span(inner)


def _call(llm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Given, Given]:
    """The call as it is shown, and as it is made.

    A prompt is shown in events, too, by the method itself: that gets the prompt that is shown, with the given one
    behind it.
    """
    made: Given = (args, kwargs)
    shown: Given = seen(made)
    prompt = next((each for each in (*args, *kwargs.values()) if isinstance(each, BasePromptTemplate)), None)
    if prompt is None or shown is made:
        return shown, made
    stand = _ShownPrompt.of(prompt.select(llm) if isinstance(prompt, SelectorPromptTemplate) else prompt, kwargs)
    shown = (
        tuple(stand if old is prompt else new for old, new in zip(args, shown[0], strict=True)),
        {name: stand if old is prompt else shown[1][name] for name, old in kwargs.items()},
    )
    options = {name: kwargs[name] for name in _OPTIONS if name in kwargs}
    return shown, (tuple(stand if old is prompt else old for old in args), {**shown[1], **options})


def _release(made: Given, result: Any) -> None:
    """Let go of what is behind a prompt, once the method is done with it: a stream when nobody has it any more."""
    for each in (*made[0], *made[1].values()):
        if isinstance(each, _ShownPrompt):
            if isinstance(result, Generator | AsyncGenerator):
                weakref.finalize(result, each._behind.clear).atexit = False
            else:
                each._behind.clear()


class _Behind:
    """A prompt as it was given, and what fills it in. No copy, no pickle and no text has it."""

    __slots__ = ("given", "prompt")

    def __init__(self, prompt: BasePromptTemplate | None = None, given: Mapping[str, Any] | None = None) -> None:
        self.prompt, self.given = prompt, given or {}

    def clear(self) -> None:
        self.prompt, self.given = None, {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _Behind, ()


class _ShownPrompt(ChatPromptTemplate):
    """A prompt with marks for pictures, as events and callbacks show it. Its messages are those of the given one."""

    _behind: _Behind = PrivateAttr(default_factory=_Behind)

    @classmethod
    def of(cls, prompt: BasePromptTemplate, given: Mapping[str, Any]) -> _ShownPrompt:
        """What stands for a prompt in a call with these arguments."""
        whole = {name: seen(held) for name, held in vars(prompt).items() if name in BasePromptTemplate.model_fields}
        templates = vars(prompt).get("message_templates")
        if templates is None:
            templates = [ChatMessage(content=_template(prompt))]
        stand = cls.model_construct(**whole, message_templates=seen(templates))
        stand._behind = _Behind(prompt, given)
        return stand

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        """The messages that the given prompt makes."""
        prompt, given = self._filled(kwargs)
        return prompt.format_messages(llm, **given) if prompt else super().format_messages(llm, **kwargs)

    def format(self, llm: Any = None, messages_to_prompt: Any = None, **kwargs: Any) -> str:
        """The text that the given prompt makes, for a model that takes no messages."""
        kwargs["messages_to_prompt"] = messages_to_prompt
        prompt, given = self._filled(kwargs)
        return prompt.format(llm, **given) if prompt else super().format(llm, **kwargs)

    def _filled(self, kwargs: dict[str, Any]) -> tuple[BasePromptTemplate | None, dict[str, Any]]:
        prompt, given = self._behind.prompt, self._behind.given
        if prompt is None:
            return None, kwargs
        given = {name: given.get(name, value) for name, value in kwargs.items()}
        return prompt.model_copy(update={"output_parser": self.output_parser}), given


def _template(prompt: BasePromptTemplate) -> Any:
    try:
        return seen(prompt.get_template())
    except Exception:  # whatever a caller's class does
        return MORE
