"""What events, spans and callback payloads show of a picture: its type, size and hash, never its bytes.

LlamaIndex hands the arguments of a call to whoever watches it. Here they are replaced, outside of its decorators, by
copies in which a mark such as `<image/jpeg 451x300 sha256:…>` stands where the bytes were. Paths and addresses stay.

Where nobody watches, an LLM's calls go past its decorators: an event for each chunk costs more than the chunk.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.schema import ImageNode, Node, NodeWithScore
from llama_index_instrumentation import root_manager
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from pydantic import BaseModel

from llama_index_predictionguard.pictures import image_source, is_data_uri
from predictionguard_core import images
from predictionguard_core.errors import ContentError
from predictionguard_core.headers import SENDABLE
from predictionguard_core.policy import ImagePolicy

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])
Mark = Callable[[Any], str]

_UNREADABLE = "<picture>"
_HEAD = 8192
_NO_LIMITS = ImagePolicy(max_bytes=sys.maxsize, max_pixels=sys.maxsize, upright=False)
_CALLS = ("chat", "stream_chat", "complete", "stream_complete")
CALLS = (*_CALLS, *(f"a{name}" for name in _CALLS))
_IDLE = (NullEventHandler, NullSpanHandler)
_OTHER_MEDIA = ("audio", "video", "data")
_LISTS = ("messages", "image_documents")
_BARE = "complete(...) takes a bare prompt"
_NESTED = ("content", "cited_content")


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


def mark(given: Any) -> str:
    """What is shown of a picture, in whatever form it was given. Reads no file and no address, and decodes nothing."""
    try:
        source = image_source(given)
        found = images.begin(source, _NO_LIMITS)
        if isinstance(found, images.Job) and _is_ready(source):
            found = images.one(found.work())
        return repr(found).replace("×", "x") if isinstance(found, images.Image) else _UNREADABLE
    except Exception:  # whatever is in a caller's object: what is shown of a call is nothing to fail it for
        return _UNREADABLE


def _is_ready(source: Any) -> bool:
    """Whether it is base64 of a type that is sent as it is: a job that only has much text to go through."""
    text = source.text if isinstance(source, images.Base64) else source
    if not isinstance(text, str | bytes):
        return False
    head = str(text[:_HEAD], "latin-1") if isinstance(text, bytes) else text[:_HEAD]
    return images.sniff_base64(head[head.find(",") + 1 :]) in SENDABLE


def hidden(shown: Any, mark: Mark = mark) -> Any:
    """A message, block or node with marks for its pictures' bytes; itself, if it holds none. It is never edited."""
    if isinstance(shown, ChatMessage):
        return _message(shown, mark)
    if isinstance(shown, ImageBlock):
        if shown.image or _is_data(shown.url):
            return shown.model_copy(update={"image": mark(shown).encode(), "url": None})
    elif isinstance(shown, NodeWithScore):
        return _changed(shown, {"node": hidden(shown.node, mark)})
    elif isinstance(shown, ImageNode):
        if shown.image or _is_data(shown.image_url):
            return shown.model_copy(update={"image": mark(shown), "image_url": None})
    elif isinstance(shown, Node):
        resource = shown.image_resource
        if resource and (resource.data or _is_data(resource.url)):
            marked = resource.model_copy(update={"data": mark(shown).encode(), "url": None})
            return shown.model_copy(update={"image_resource": marked})
    elif isinstance(shown, BaseModel) and hasattr(shown, "block_type"):
        return _block(shown, mark)
    return shown


def _message(message: ChatMessage, mark: Mark) -> Any:
    changes: dict[str, Any] = {"blocks": _each(message.blocks, mark)}
    if message.additional_kwargs.get("images"):  # an older field, whose pictures are among the blocks
        changes["additional_kwargs"] = {key: more for key, more in message.additional_kwargs.items() if key != "images"}
    return _changed(message, changes)


def _block(block: Any, mark: Mark) -> Any:
    changes: dict[str, Any] = {
        name: f"<{block.block_type}>".encode() for name in _OTHER_MEDIA if getattr(block, name, None)
    }
    for name in _NESTED:
        inner = getattr(block, name, None)
        if isinstance(inner, list):
            changes[name] = _each(inner, mark)
        elif isinstance(inner, BaseModel):
            changes[name] = hidden(inner, mark)
    return _changed(block, changes)


def _each(given: Sequence[Any], mark: Mark) -> Sequence[Any]:
    marked = [hidden(each, mark) for each in given]
    return marked if any(new is not old for new, old in zip(marked, given, strict=True)) else given


def _changed(shown: Any, changes: dict[str, Any]) -> Any:
    changes = {name: value for name, value in changes.items() if value is not getattr(shown, name)}
    return shown.model_copy(update=changes) if changes else shown


def _is_data(url: Any) -> bool:
    # A pydantic URL is asked for its scheme: as text it is copied, picture and all.
    scheme = getattr(url, "scheme", None)
    return scheme == "data" if scheme else url is not None and is_data_uri(str(url))


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
        return _UNREADABLE
    is_name = isinstance(source, Path) or (isinstance(source, str) and not _is_data(source))
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
    marked = _each(argument, mark)
    return argument if marked is argument else _Shown(marked, argument)
