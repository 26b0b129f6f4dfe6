"""Find the API key and the image of these tests in any text, in every common encoding."""

from __future__ import annotations

import base64
import json
import traceback
import urllib.parse
from collections.abc import Iterator
from typing import Any

from tests.core.images.samples import b64, png

KEY = "pg-Sk3leton~K3y+of/the=tests"
IMAGE = png(5, 4, padding=3000, seed=11)
DATA_URI = f"data:image/png;base64,{b64(IMAGE)}"


def _encodings(secret: bytes) -> Iterator[str]:
    yield secret.decode("latin-1")
    yield repr(secret)[2:-1]
    yield secret.hex()
    for start in range(3):  # the base64 of a slice depends on its offset modulo 3
        yield base64.b64encode(secret[start : start + (len(secret) - start) // 3 * 3]).decode()
        yield base64.urlsafe_b64encode(secret[start : start + (len(secret) - start) // 3 * 3]).decode()


_KEY_ENCODINGS = {*_encodings(KEY.encode()), urllib.parse.quote(KEY, safe=""), json.dumps(KEY)[1:-1], KEY[::-1]}
# 24 bytes of the padding are enough: a text with these contains bytes of the image.
_PADDING = IMAGE[200:]
_IMAGE_ENCODINGS = {form for start in (0, 900, 1800) for form in _encodings(_PADDING[start : start + 24])}


def find_secrets(text: str | bytes, *, images: bool = True) -> list[str]:
    """Return the encodings of the key, and of the image unless `images` is False, that the text contains."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return [form for form in (_KEY_ENCODINGS | _IMAGE_ENCODINGS if images else _KEY_ENCODINGS) if form in text]


def error_text(error: BaseException) -> str:
    """Return all text of an error and of its causes: message, arguments, attributes, notes and traceback."""
    texts, pending, done = [], [error], set()
    while pending:
        each = pending.pop()
        if id(each) in done:
            continue
        done.add(id(each))
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), repr(getattr(each, "__notes__", ""))]
        texts += traceback.format_exception(each)
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "\n".join(texts)


def all_texts(value: Any, depth: int = 6) -> Iterator[str]:
    """Yield the text of a value and of everything that it contains, down to `depth`."""
    yield repr(value)
    yield str(value)
    if depth:
        inner: list[Any] = []
        if isinstance(value, dict):
            inner = [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            inner = list(value)
        elif isinstance(value, bytes):
            yield value.decode("latin-1")
        elif isinstance(value, BaseException):
            yield error_text(value)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            inner = [vars(value)]
        for each in inner:
            yield from all_texts(each, depth - 1)
