"""The bytes of an image, held once: raw, or as base64 that is passed through."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

import pybase64

from predictionguard_core.errors import ImageFormatError

SLICE = 112 * 1024
"""Characters of base64 per piece, a multiple of 4: it fits into a processor's cache, and fills seven TLS records."""


_VIEW = 1024 * 1024
"""Bytes per piece where nothing is copied."""


class Raw:
    """Bytes that are encoded as base64 while they are sent."""

    __slots__ = ("_data", "length")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    @property
    def encoded_length(self) -> int:
        return (self.length + 2) // 3 * 4

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return self._data[offset : offset + count]

    def encoded(self, size: int = SLICE) -> Iterator[bytes]:
        """Yield the base64 in pieces of `size` characters."""
        view, step = memoryview(self._data), size // 4 * 3
        for offset in range(0, self.length, step):
            yield pybase64.b64encode(view[offset : offset + step])


class Encoded:
    """Base64 that is passed through unchanged, and decoded only where its bytes are read.

    `start` is where the base64 begins in `text`. Raises `ImageFormatError` for line breaks, the URL-safe alphabet,
    percent escapes or missing padding, which `cleaned` removes, and for anything else that is not base64.
    """

    __slots__ = ("_end", "_start", "_text", "encoded_length", "length")

    def __init__(self, text: str | bytes, start: int) -> None:
        self._text, self._start, self._end = text, start, len(text)
        self.encoded_length = self._end - start
        tail = text[max(start, self._end - 2) :]
        padding = tail.count("=") if isinstance(tail, str) else tail.count(b"=")
        self.length = self.encoded_length // 4 * 3 - padding
        # Every character, slice by slice: a quote in the base64 could leave the JSON string it is spliced into.
        # Padding anywhere but at the end makes fewer bytes than there should be.
        decode, count = pybase64.b64decode, 0
        view = text if isinstance(text, str) else memoryview(text)
        try:
            for offset in range(start, self._end, SLICE):
                count += len(decode(view[offset : offset + SLICE], validate=True))
        except (ValueError, binascii.Error):
            raise _invalid() from None
        if count != self.length:
            raise _invalid()

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        count = max(0, min(count, self.length - offset))
        first, last = offset // 3 * 4, -(-(offset + count) // 3) * 4
        try:
            decoded = binascii.a2b_base64(self._text[self._start + first : self._start + last], strict_mode=True)
        except (ValueError, binascii.Error):
            raise _invalid() from None
        return decoded[offset % 3 : offset % 3 + count]

    def encoded(self, size: int = SLICE) -> Iterator[bytes]:
        """Yield the base64 in pieces: `size` characters of a string; of bytes, views, which take no memory."""
        if isinstance(self._text, str):
            for offset in range(self._start, self._end, size):
                yield self._text[offset : offset + size].encode("ascii")
            return
        view = memoryview(self._text)
        for offset in range(self._start, self._end, _VIEW):
            yield view[offset : offset + _VIEW]  # type: ignore[misc] # sockets and httpx take it like bytes


Payload = Raw | Encoded


def _invalid() -> ImageFormatError:
    return ImageFormatError(
        "the image's base64 contains characters that are not base64: check how it was encoded; a path is not base64"
    )


# The only base64 characters that a URL must escape.
_ESCAPES = {"%2B": "+", "%2b": "+", "%2F": "/", "%2f": "/", "%3D": "=", "%3d": "="}
_ESCAPES |= {"%0A": "", "%0a": "", "%0D": "", "%0d": "", "%20": ""}
_BLANK = ("\n", "\r", " ", "\t")
_UNCLEAN = (*_BLANK, "-", "_", "%")


def is_clean(text: str | bytes, start: int) -> bool:
    """Whether base64 needs no cleaning: no line breaks, no other alphabet, complete padding."""
    # One search per character, each at the speed of memory.
    return not (-(len(text) - start) % 4 or any(_contains(text, character, start) for character in _UNCLEAN))


def _contains(text: str | bytes, character: str, start: int) -> bool:
    return text.find(character, start) >= 0 if isinstance(text, str) else text.find(character.encode(), start) >= 0


def cleaned(text: str | bytes, start: int) -> str:
    """Return base64 in the standard alphabet, with padding and without line breaks. Costs a copy."""
    clean = text[start:] if isinstance(text, str) else text[start:].decode("ascii", "replace")
    for escape, character in _ESCAPES.items():
        clean = clean.replace(escape, character)
    for character in _BLANK:
        clean = clean.replace(character, "")
    clean = clean.replace("-", "+").replace("_", "/").rstrip("=")
    return clean + "=" * (-len(clean) % 4)
