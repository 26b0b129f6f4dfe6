"""A picture's bytes, held once: as they are, or as base64 that arrived ready."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

import pybase64

from predictionguard_core.errors import ImageFormatError

SLICE = 112 * 1024
"""Characters of base64 that are handled at once, a multiple of 4: few enough to stay in the processor's cache and for
the allocator to keep their memory; seven whole records of TLS."""


class Raw:
    """Bytes that are encoded while they are sent."""

    __slots__ = ("_data", "length")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    @property
    def encoded_length(self) -> int:
        return (self.length + 2) // 3 * 4

    def at(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    def encoded(self, size: int = SLICE) -> Iterator[bytes]:
        step = size // 4 * 3
        for offset in range(0, self.length, step):
            yield pybase64.b64encode(self._data[offset : offset + step])


class Encoded:
    """Base64 that arrived ready: passed on as it is, decoded only where somebody looks.

    `start` is where the base64 begins in `text`. What has line breaks, another alphabet, percent signs or no padding
    raises `ImageFormatError`, as what is no base64 does: it may be `mended`.
    """

    __slots__ = ("_end", "_start", "_text", "encoded_length", "length")

    def __init__(self, text: str | bytes, start: int) -> None:
        self._text, self._start, self._end = text, start, len(text)
        self.encoded_length = self._end - start
        tail = text[max(start, self._end - 2) :]
        padding = tail.count("=") if isinstance(tail, str) else tail.count(b"=")
        self.length = self.encoded_length // 4 * 3 - padding
        self._check()

    def at(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self.length - offset))
        first, last = offset // 3 * 4, -(-(offset + count) // 3) * 4
        try:
            decoded = binascii.a2b_base64(self._text[self._start + first : self._start + last], strict_mode=True)
        except (ValueError, binascii.Error):
            raise _damaged() from None
        return decoded[offset % 3 : offset % 3 + count]

    def _check(self) -> None:
        # Every character, slice by slice, without building the whole: what is not base64 could leave its JSON string.
        # Padding that stands anywhere but at the end makes the bytes fewer than there should be.
        decode, count = pybase64.b64decode, 0
        text = self._text if isinstance(self._text, str) else memoryview(self._text)
        try:
            for offset in range(self._start, self._end, SLICE):
                count += len(decode(text[offset : offset + SLICE], validate=True))
        except (ValueError, binascii.Error):
            raise _damaged() from None
        if count != self.length:
            raise _damaged()

    def encoded(self, size: int = SLICE) -> Iterator[bytes]:
        for offset in range(self._start, self._end, size):
            piece = self._text[offset : offset + size]
            yield piece.encode("ascii") if isinstance(piece, str) else piece


Payload = Raw | Encoded


def _damaged() -> ImageFormatError:
    return ImageFormatError("the base64 is damaged: it holds characters that base64 has no use for")


def is_clean(text: str | bytes, start: int) -> bool:
    """Whether base64 can be used as it stands: no line breaks, no other alphabet, nothing left out at its end."""
    # One search a sign, each at the speed of memory.
    return not (-(len(text) - start) % 4 or any(_holds(text, sign, start) for sign in _UNCLEAN))


# The only signs of base64 that an address has to escape.
_ESCAPES = {"%2B": "+", "%2b": "+", "%2F": "/", "%2f": "/", "%3D": "=", "%3d": "="}
_ESCAPES |= {"%0A": "", "%0a": "", "%0D": "", "%0d": "", "%20": ""}
_BLANK = ("\n", "\r", " ", "\t")
_UNCLEAN = (*_BLANK, "-", "_", "%")


def _holds(text: str | bytes, sign: str, start: int) -> bool:
    return text.find(sign, start) >= 0 if isinstance(text, str) else text.find(sign.encode(), start) >= 0


def mended(text: str | bytes, start: int) -> str:
    """Base64 that is not clean, as it should have come. Costs a copy."""
    clean = text[start:] if isinstance(text, str) else text[start:].decode("ascii", "replace")
    for escape, sign in _ESCAPES.items():
        clean = clean.replace(escape, sign)
    for sign in _BLANK:
        clean = clean.replace(sign, "")
    clean = clean.replace("-", "+").replace("_", "/").rstrip("=")
    return clean + "=" * (-len(clean) % 4)
