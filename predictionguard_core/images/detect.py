"""Detect type, size and orientation of an image from its first bytes. Nothing is decoded.

Every function works on any bytes: work and memory are bounded, and only `ImageFormatError` comes out. Bytes are read
through a `ReadAt`, so that base64 is decoded only where something is looked at.
"""

from __future__ import annotations

import re

from predictionguard_core.errors import ImageFormatError
from predictionguard_core.images.headers import READERS, SENDABLE, Header, ReadAt, Source

__all__ = ["SENDABLE", "Header", "ReadAt", "read", "sniff"]

_SVG_WINDOW = 4096

# Atomic and possessive, so that a long prolog without <svg costs one pass.
_SVG = re.compile(
    r"(?>\s+|<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*+(?:\[.*?\])?[^>]*+>)*+<(?:\w+:)?svg[\s>/]", re.DOTALL | re.IGNORECASE
)
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"%PDF-", "application/pdf"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def sniff(head: bytes) -> str | None:
    """Return the media type by the first bytes, or None. 64 are enough, except for an SVG with a prolog."""
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if head[:4] == b"\0\0\1\0" and head[4:6] not in (b"", b"\0\0"):
        return "image/vnd.microsoft.icon"
    if head[4:8] == b"ftyp":
        # ISO 14496-12, 4.3: the major brand, its version, then the compatible brands to the end of the box.
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12]} | {head[at : at + 4] for at in range(16, size - 3, 4)}
        if brands & {b"avif", b"avis"}:
            return "image/avif"
        if brands & _HEIC_BRANDS:
            return "image/heic"
    return "image/svg+xml" if _SVG.match(_text(head)) else None


def read(at: ReadAt, length: int) -> Header:
    """Return the header of the `length` bytes behind `at`.

    Raises `ImageFormatError` if no image type is known by these bytes, or if the header is cut short or corrupt. It
    makes at most 4096 calls of `at`: of at most 8 KiB for the header, of at most 1 MiB for the rest.
    """
    head = at(0, 64)
    media_type = sniff(head)
    if media_type is None and _text(head).lstrip().startswith("<"):
        head = at(0, _SVG_WINDOW)
        media_type = sniff(head)
    if media_type is None:
        raise ImageFormatError(_unknown(head))
    reader = READERS.get(media_type)
    if reader is None:
        return Header(media_type, 0, 0)
    header = reader(Source(at, length, media_type))
    if media_type in SENDABLE and not header.pixels:
        raise ImageFormatError(
            f"the image ({media_type}) is {header.width}×{header.height} pixels according to its header"
        )
    return header


def _text(head: bytes) -> str:
    head = head[:_SVG_WINDOW]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head.decode("utf-16", errors="ignore")
    return head.decode("utf-8-sig", errors="ignore")


def _unknown(head: bytes) -> str:
    """Return why these bytes are no image, for common mistakes. Never the bytes themselves."""
    start = head.lstrip().lower()
    if not head:
        return "the image is empty (0 bytes)"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "this is a web page, not an image: pass the URL of the image file itself"
    if start.startswith(b"data:"):
        return "these bytes are a data URI, not an image file: pass it as a string"
    if start.startswith((b"/9j/", b"ivborw0kggo", b"r0lgod", b"uklgr")):
        return "these bytes are base64 text, not an image file: pass it as a string, or decode it first"
    if start.startswith((b"{", b"[")):
        return "this is JSON or other text, not an image"
    return "the bytes are of no known image type: send JPEG, PNG, WebP or GIF"
