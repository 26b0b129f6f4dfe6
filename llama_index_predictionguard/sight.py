"""What is shown of anything: marks for the bytes of pictures, wherever in a value they are."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import ImageNode, Node, NodeWithScore
from pydantic import BaseModel

from llama_index_predictionguard.image_sources import image_source, is_data_uri
from predictionguard_core.images import sources
from predictionguard_core.images.detect import SENDABLE
from predictionguard_core.images.policy import ImagePolicy

Mark = Callable[[Any], str]

MORE = "<...>"
"""Stands for what is too much to look through, or can't be."""

UNREADABLE = "<picture>"

_NO_LIMITS = ImagePolicy(max_bytes=sys.maxsize, max_pixels=sys.maxsize, upright=False)
_LONGEST_HEAD = 8192
_OTHER_MEDIA = ("audio", "video", "data")
_NESTED = ("content", "cited_content")
_DEEPEST = 32
_MOST = 20_000
"""Values that are looked through: some milliseconds' work."""
_HEAD = 256
_LONG = 64
_PLAIN = {int, float, bool, type(None)}
_HOLDING = ("message", "blocks", "raw_input", "raw_output")


# Of pictures, and of what LlamaIndex keeps them in


def mark(given: Any) -> str:
    """What is shown of a picture, in whatever form it was given. Reads no file and no address, and decodes nothing."""
    try:
        source = image_source(given)
        found = sources.begin(source, _NO_LIMITS)
        if isinstance(found, sources.Job) and _is_ready(source):
            found = sources.one(found.work())
        return repr(found).replace("×", "x") if isinstance(found, sources.Image) else UNREADABLE
    except Exception:  # whatever is in a caller's object: what is shown of a call is nothing to fail it for
        return UNREADABLE


def _is_ready(source: Any) -> bool:
    """Whether it is base64 of a type that is sent as it is: a job that only has much text to go through."""
    text = source.text if isinstance(source, sources.Base64) else source
    if not isinstance(text, str | bytes):
        return False
    head = str(text[:_LONGEST_HEAD], "latin-1") if isinstance(text, bytes) else text[:_LONGEST_HEAD]
    return sources.sniff_base64(head[head.find(",") + 1 :]) in SENDABLE


def hidden(shown: Any, mark: Mark = mark) -> Any:
    """A message, block or node with marks for its pictures' bytes; itself, if it holds none. It is never edited."""
    if isinstance(shown, ChatMessage):
        return _message(shown, mark)
    if isinstance(shown, ImageBlock):
        if shown.image or is_data(shown.url):
            return shown.model_copy(update={"image": mark(shown).encode(), "url": None})
    elif isinstance(shown, NodeWithScore):
        return _changed(shown, {"node": hidden(shown.node, mark)})
    elif isinstance(shown, ImageNode):
        if shown.image or is_data(shown.image_url):
            return shown.model_copy(update={"image": mark(shown), "image_url": None})
    elif isinstance(shown, Node):
        resource = shown.image_resource
        if resource and (resource.data or is_data(resource.url)):
            marked = resource.model_copy(update={"data": mark(shown).encode(), "url": None})
            return shown.model_copy(update={"image_resource": marked})
    elif isinstance(shown, BaseModel) and hasattr(shown, "block_type"):
        return _block(shown, mark)
    return shown


def _message(message: ChatMessage, mark: Mark) -> Any:
    changes: dict[str, Any] = {"blocks": each_hidden(message.blocks, mark)}
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
            changes[name] = each_hidden(inner, mark)
        elif isinstance(inner, BaseModel):
            changes[name] = hidden(inner, mark)
    return _changed(block, changes)


def each_hidden(given: Sequence[Any], mark: Mark) -> Sequence[Any]:
    """`hidden` for each of them; the row itself, if it holds no picture."""
    marked = [hidden(each, mark) for each in given]
    return marked if any(new is not old for new, old in zip(marked, given, strict=True)) else given


def _changed(shown: Any, changes: dict[str, Any]) -> Any:
    changes = {name: value for name, value in changes.items() if value is not getattr(shown, name)}
    return shown.model_copy(update=changes) if changes else shown


def is_data(url: Any) -> bool:
    """Whether an address, in whatever form, is a data URI."""
    # A pydantic URL is asked for its scheme: as text it is copied, picture and all.
    scheme = getattr(url, "scheme", None)
    return scheme == "data" if scheme else url is not None and is_data_uri(str(url))


# Of anything


def seen(value: Any) -> Any:
    """A value with marks for the bytes of pictures that it holds; itself, if it holds none.

    It is never edited, and never the reason for which a call fails: where it is too large, or can't be looked through,
    there is a sign for that.
    """
    return _Copy().of(value) if holds_pictures(value) else value


def holds_pictures(value: Any) -> bool:
    """Whether the bytes of pictures are in it, or may be in what is too much or too odd to be looked through."""
    waiting, met, left = [value], {}, _MOST
    try:
        while waiting:
            each = waiting.pop()
            if type(each) in _PLAIN or id(each) in met:
                continue
            met[id(each)] = each
            inner = _inner(each)
            left -= len(inner)
            if left < 0 or _marked(each, lambda _: "") is not each:
                return True
            waiting += inner.values() if isinstance(inner, dict) else inner
    except Exception:  # whatever a caller's class does
        return True
    return False


class _Copy:
    """One copy of a value and of what it holds, with marks in it. What needs no change is the value's own."""

    def __init__(self) -> None:
        self._left = _MOST
        self._met: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        if type(value) in _PLAIN:
            return value
        if id(value) not in self._met:
            self._met[id(value)] = value, MORE  # which is what it holds where it holds itself
            try:
                shown = self._made(value, depth)
            except Exception:  # whatever a caller's class does
                shown = MORE
            self._met[id(value)] = value, shown
        return self._met[id(value)][1]

    def _made(self, value: Any, depth: int) -> Any:
        shown = _marked(value, mark)
        inner = _inner(value) if shown is value else ()
        if not len(inner):
            return shown
        if depth == _DEEPEST or len(inner) > self._left:
            return MORE
        self._left -= len(inner)
        if isinstance(inner, dict):
            changes = {name: new for name, old in [*inner.items()] if (new := self.of(old, depth + 1)) is not old}
            if not changes:
                return value
            return {**value, **changes} if inner is value else _remade(value, changes)
        held = list(inner)
        each = [self.of(old, depth + 1) for old in held]
        if all(new is old for new, old in zip(each, held, strict=True)):
            return value
        return tuple(each) if isinstance(value, tuple) else each


def _marked(value: Any, mark: Mark) -> Any:
    """The mark for a picture's bytes, and what has a place for pictures with marks there; else the value itself."""
    if isinstance(value, bytes | bytearray):
        return mark(value) if value else value
    if isinstance(value, str):
        return mark(value) if _is_encoded(value) else value
    return hidden(value, mark)


def _is_encoded(text: str) -> bool:
    head = text.lstrip()[:_HEAD]
    if is_data_uri(head):
        kind = head.partition(",")[0].lower()
        return kind.startswith("data:image/") or ";base64" in kind
    return len(text) > _LONG and sources.sniff_base64(head) is not None


def _inner(value: Any) -> Any:
    """What a value holds of which something may be a picture: a row, a dict, or an object's fields as a dict."""
    if isinstance(value, list | tuple | dict):
        return value
    if isinstance(value, BasePromptTemplate):
        return vars(value)
    if isinstance(value, BaseModel):
        return {name: held for name, held in vars(value).items() if name in _HOLDING}
    return _fields(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else ()


def _fields(value: Any) -> dict[str, Any]:
    """What an object holds, as it is stored: what a getter does is its owner's."""
    held = dict(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        for name, slot in vars(cls).items():
            if isinstance(slot, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # an empty one
                    held.setdefault(name, slot.__get__(value))
    return held


def _remade(value: Any, changes: dict[str, Any]) -> Any:
    """A copy of an object with other fields, though it be frozen. Nothing of its class is called."""
    shown = object.__new__(type(value))
    stored = getattr(value, "__dict__", ())
    for name, held in {**_fields(value), **changes}.items():
        if name in stored:
            vars(shown)[name] = held
        else:
            object.__setattr__(shown, name, held)
    return shown
