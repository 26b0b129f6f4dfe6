"""Type, size and EXIF orientation of a picture, read from its header bytes without decoding it.

JPEG (ITU T.81 markers), PNG (W3C), GIF (89a) and WebP (RFC 9649); orientation is tag 0x0112 of EXIF.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from predictionguard_core.sandbox.reply import Refusal

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WebP": "image/webp"}
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_MAX_PARTS = 10_000


class Header(NamedTuple):
    """`format` is JPEG, PNG, GIF or WebP; `width` and `height` are the stored pixels, before any turning."""

    format: str
    width: int
    height: int
    orientation: int


def sniff(data: bytes) -> str | None:
    """The format the bytes begin like, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return None


def read(data: bytes) -> Header:
    """The header of a picture; refuses bytes that are no JPEG, PNG, GIF or WebP or break off too early."""
    found = sniff(data)
    if found is None:
        raise Refusal("is not a JPEG, PNG, WebP or GIF image")
    width, height, exif = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WebP": _webp}[found](data)
    if width < 1 or height < 1:
        raise Refusal(f"is a corrupt {found} image: no size in its header")
    return Header(found, width, height, _orientation(exif))


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _gif(data: bytes) -> tuple[int, int, bytes]:
    return _little(data[6:8]), _little(data[8:10]), b""


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker segments of a JPEG up to its first scan."""
    place = 2
    for _ in range(_MAX_PARTS):
        while data[place : place + 2] == b"\xff\xff":
            place += 1
        if place + 4 > len(data) or data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker in _BARE_MARKERS:
            place += 2
            continue
        length = _big(data[place + 2 : place + 4])
        if marker == 0xDA or length < 2:
            return
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + length


def _jpeg(data: bytes) -> tuple[int, int, bytes]:
    width, height, exif = 0, 0, b""
    for marker, segment in _segments(data):
        if marker in _FRAME_MARKERS and len(segment) >= 5:
            height, width = _big(segment[1:3]), _big(segment[3:5])
        elif marker == 0xE1 and segment[:6] == b"Exif\x00\x00" and not exif:
            exif = segment[6:]
    return width, height, exif


def _chunks(data: bytes, place: int, *, big: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of each chunk; PNG puts the length first, RIFF second and pads to even."""
    for _ in range(_MAX_PARTS):
        if place + 8 > len(data):
            return
        if big:
            length, name = _big(data[place : place + 4]), data[place + 4 : place + 8]
        else:
            name, length = data[place : place + 4], _little(data[place + 4 : place + 8])
        yield name, place + 8, length
        place += 8 + length + (4 if big else length % 2)


def _png(data: bytes) -> tuple[int, int, bytes]:
    width, height, exif = 0, 0, b""
    for name, start, length in _chunks(data, 8, big=True):
        if name == b"IHDR":
            width, height = _big(data[start : start + 4]), _big(data[start + 4 : start + 8])
        elif name == b"eXIf":
            exif = data[start : start + length]
    return width, height, exif


def _webp(data: bytes) -> tuple[int, int, bytes]:
    width, height, exif = 0, 0, b""
    for name, start, length in _chunks(data, 12, big=False):
        head = data[start : start + 10]
        if name == b"VP8X" and not width and len(head) == 10:
            width, height = _little(head[4:7]) + 1, _little(head[7:10]) + 1
        elif name == b"VP8 " and not width and len(head) == 10:
            width, height = _little(head[6:8]) & 0x3FFF, _little(head[8:10]) & 0x3FFF
        elif name == b"VP8L" and not width and len(head) >= 5:
            bits = _little(head[1:5])
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"EXIF":
            exif = data[start : start + length].removeprefix(b"Exif\x00\x00")
    return width, height, exif


def _orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, of a TIFF block; 1 where it says nothing or nothing sensible."""
    if exif[:4] not in (b"II*\x00", b"MM\x00*"):
        return 1
    value = _little if exif[:1] == b"I" else _big
    start = value(exif[4:8])
    for index in range(min(value(exif[start : start + 2]), 500)):
        entry = exif[start + 2 + index * 12 : start + 14 + index * 12]
        if value(entry[:2]) == 0x0112 and len(entry) == 12:
            turned = value(entry[8:10])
            return turned if 1 <= turned <= 8 else 1
    return 1
