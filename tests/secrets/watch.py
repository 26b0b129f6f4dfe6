"""Whether a text shows the key or the picture, in any form that bytes are given to be read in."""

from __future__ import annotations

import base64
import json
import traceback
import urllib.parse
from collections.abc import Iterator
from typing import Any

from tests.core.images.samples import b64, png

KEY = "pg-Sk3leton~K3y+of/the=tests"
PICTURE = png(5, 4, padding=3000, seed=11)


def _forms_of(secret: bytes) -> Iterator[str]:
    yield secret.decode("latin-1")
    yield repr(secret)[2:-1]
    yield secret.hex()
    for start in range(3):  # base64 of a part looks different at each of three places
        yield base64.b64encode(secret[start : start + (len(secret) - start) // 3 * 3]).decode()
        yield base64.urlsafe_b64encode(secret[start : start + (len(secret) - start) // 3 * 3]).decode()


_KEY = {*_forms_of(KEY.encode()), urllib.parse.quote(KEY, safe=""), json.dumps(KEY)[1:-1], KEY[::-1]}
# A piece of the noise is enough: what shows 24 bytes of it shows bytes of the picture.
_NOISE = PICTURE[200:]
_PICTURE = {form for start in (0, 900, 1800) for form in _forms_of(_NOISE[start : start + 24])}


def shown(text: str | bytes, *, pictures: bool = True) -> list[str]:
    """What of the secrets stands in it. Empty, we hope."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return [form for form in (_KEY | _PICTURE if pictures else _KEY) if form in text]


def told(error: BaseException) -> str:
    """All that an error shows: itself and every error behind it, with arguments, notes, fields and traces."""
    texts, waiting, seen = [], [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        texts += [str(each), repr(each), repr(each.args), repr(vars(each)), repr(getattr(each, "__notes__", ""))]
        texts += traceback.format_exception(each)
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "\n".join(texts)


def deeply(value: Any, depth: int = 6) -> Iterator[str]:
    """The text of a value and of all that it holds."""
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
            yield told(value)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            inner = [vars(value)]
        for each in inner:
            yield from deeply(each, depth - 1)


DATA_URI = f"data:image/png;base64,{b64(PICTURE)}"
