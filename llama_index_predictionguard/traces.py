"""What events, spans and callback payloads show of a picture: its type, size and hash, never its bytes.

LlamaIndex hands the arguments of a call to whoever watches it. Here they are replaced, outside of its decorators, by
copies in which a mark such as `<image/jpeg 451x300 sha256:…>` stands where the bytes were. Paths and addresses stay.

Where nobody watches, an LLM's calls go past its decorators: an event for each chunk costs more than the chunk.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index_instrumentation import root_manager
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from pydantic import BaseModel

from llama_index_predictionguard.image_sources import image_source
from llama_index_predictionguard.sight import UNREADABLE, Mark, each_hidden, is_data, mark
from predictionguard_core.errors import ContentError

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

_CALLS = ("chat", "stream_chat", "complete", "stream_complete")
CALLS = (*_CALLS, *(f"a{name}" for name in _CALLS))
_IDLE = (NullEventHandler, NullSpanHandler)
_LISTS = ("messages", "image_documents")
_BARE = "complete(...) takes a bare prompt"


def chat_call(method: F) -> F:
    """LlamaIndex's `llm_chat_callback()`, which says nothing of the method's type. `marked` knows the bare method."""
    return _told(method, llm_chat_callback())


def completion_call(method: F) -> F:
    """LlamaIndex's `llm_completion_callback()`, in the same way."""
    return _told(method, llm_completion_callback())


def _told(method: F, callback: Callable[[F], Any]) -> F:
    told = callback(method)
    told.bare = method
    return cast("F", told)


# What was given, behind what is shown


class _Shown(list[Any]):
    """Marked copies in a list. What was given is behind it until it is taken; no copy and no pickle has it."""

    def __init__(self, marked: Sequence[Any], given: Sequence[Any]) -> None:
        super().__init__(marked)
        self._given: Sequence[Any] | None = given

    def take(self) -> Any:
        given, self._given = self._given, None
        return given

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


class Handed(str):
    """A picture's path, address or mark, as text. What was given is behind it until it is taken.

    `place` is where it stood in the list that was given.
    """

    place: int
    _given: Any

    def __new__(cls, place: int, given: Any) -> Handed:
        handed = super().__new__(cls, _name(given))
        handed.place, handed._given = place, given
        return handed

    def take(self) -> Any:
        given, self._given = self._given, None
        return given

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def _name(given: Any) -> str:
    try:
        source = image_source(given)
    except ContentError:
        return UNREADABLE
    is_name = isinstance(source, Path) or (isinstance(source, str) and not is_data(source))
    return str(source) if is_name else mark(given)


def handed(pictures: Iterable[Any]) -> list[Handed]:
    """What stands for pictures that an embedding model is handed. Hashes those that come as bytes."""
    return [Handed(place, each) for place, each in enumerate(pictures)]


def given(shown: Any) -> Any:
    """What the caller gave, for something that was shown in its place; can be asked for once."""
    return shown.take() if isinstance(shown, _Shown | Handed) else shown


def marked(cls: C) -> C:
    """A decorator of classes: the eight calls of an LLM show marks for pictures to whoever watches.

    Who begins to watch while a call runs is told of the next one.
    """
    for name in _CALLS:
        setattr(cls, name, _marking(cls.__dict__[name]))
        setattr(cls, f"a{name}", _amarking(cls.__dict__[f"a{name}"]))
    return cls


def _marking(method: Any) -> Any:
    check = _check_messages if method.__name__.endswith("chat") else _check_prompt
    unwatched = _unwatched(method)

    @functools.wraps(method)
    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _listed(args, kwargs)
        check(*args[:1], **kwargs)
        if not is_watched(self):
            return unwatched(self)(*args, **kwargs)
        if _shows_pictures(args, kwargs):
            args, kwargs = _arguments(args, kwargs, mark)
        return method.__get__(self, type(self))(*args, **kwargs)

    return outer


def _amarking(method: Any) -> Any:
    check = _check_messages if method.__name__.endswith("chat") else _check_prompt
    unwatched = _unwatched(method)

    @functools.wraps(method)
    async def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _listed(args, kwargs)
        check(*args[:1], **kwargs)
        if not is_watched(self):
            return await unwatched(self)(*args, **kwargs)
        if _shows_pictures(args, kwargs):
            args, kwargs = await asyncio.to_thread(_arguments, args, kwargs, mark)  # hashing takes its time
        return await method.__get__(self, type(self))(*args, **kwargs)

    return outer


# LlamaIndex's events would refuse it in their own way, and show all of it.


def _check_messages(messages: Any = (), **_: Any) -> None:
    """Raise `ContentError` for what is no row of messages."""
    if not isinstance(messages, list | tuple):
        raise ContentError(f"chat(...) takes a list of ChatMessage, not {type(messages).__name__}; {_BARE}")
    for index, message in enumerate(messages):
        if not isinstance(message, ChatMessage):
            raise ContentError(
                f"a message is a ChatMessage, not {type(message).__name__}; {_BARE}", message_index=index
            )


def _check_prompt(prompt: Any = "", **_: Any) -> None:
    """Raise `ContentError` for what is no text."""
    if not isinstance(prompt, str):
        raise ContentError(f"a prompt is text, not {type(prompt).__name__}; chat(...) takes messages")


def _unwatched(method: Any) -> Callable[[Any], Any]:
    bare = getattr(method, "bare", method)

    def bound(model: Any) -> Any:
        # LlamaIndex's decorator also waits for the rate limiter.
        chosen = method if getattr(model, "rate_limiter", None) is not None else bare
        return chosen.__get__(model, type(model))

    return bound


def _listed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Messages and pictures in a list, so that who watches and who sends them can both go through them."""
    args = tuple(_list(each) for each in args)
    return args, {name: _list(each) if name in _LISTS else each for name, each in kwargs.items()}


def _list(argument: Any) -> Any:
    if isinstance(argument, list | tuple | str | bool | None):  # nearly always
        return argument
    is_row = isinstance(argument, Iterable) and not isinstance(argument, bytes | Mapping | BaseModel)
    return list(argument) if is_row else argument


def _shows_pictures(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(_shown(each, lambda _: "") is not each for each in (*args, *kwargs.values()))


def is_watched(model: Any) -> bool:
    """Whether anybody is told of this object's calls."""
    # LlamaIndex's own handlers, when none is added, do nothing.
    if getattr(model.callback_manager, "handlers", None):
        return True
    for dispatcher in list(root_manager.dispatchers.values()):  # each import of a module may add one
        for handlers in (dispatcher.event_handlers, dispatcher.span_handlers):
            for handler in handlers:
                if type(handler) not in _IDLE:
                    return True
    return False


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], mark: Mark) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(_shown(each, mark) for each in args), {name: _shown(each, mark) for name, each in kwargs.items()}


def _shown(argument: Any, mark: Mark) -> Any:
    if not isinstance(argument, list | tuple):
        return argument
    marked = each_hidden(argument, mark)
    return argument if marked is argument else _Shown(marked, argument)
