"""Remove or keep the metadata of an image file (EXIF, GPS, XMP, IPTC, comments).

Nothing is decoded or encoded: segments, chunks or blocks of the file are kept or left out, each byte for byte.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from predictionguard_core.errors import ImageFormatError
from predictionguard_core.images.headers import Header

__all__ = ["exif", "only_orientation", "strip", "upright"]

# The application segments that say how the pixels look, with what they begin. The others are metadata.
_JPEG_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}

# The ancillary chunks that say how the pixels look (PNG 3rd edition, 11.3), and those of an animation (11.3.6).
_PNG_KEPT = {b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs"}
_PNG_FRAMES = {b"acTL", b"fcTL", b"fdAT"}

_MAX_PARTS = 65_536


class _Part(NamedTuple):
    """`data[start:end]`: a segment, chunk or block, and whether an image without metadata has it."""

    start: int
    end: int
    kept: bool
    exif: slice | None = None  # where its TIFF block is, if it has one


def strip(data: bytes, header: Header, *, still: bool = False) -> bytes:
    """Return the image without EXIF, GPS, XMP, IPTC, comments, unknown extras and whatever follows its end.

    Kept are the pixels, byte for byte, color profiles, and what a decoder needs; of EXIF only an orientation other
    than 1. `still` also leaves out an APNG's further frames. Returns `data` itself if there is nothing to
    remove. Raises `ImageFormatError` for a type that is not sendable, and for a file whose parts cannot be told apart.
    """
    parts = list(_parts(data, header, still))
    view = memoryview(data)
    kept: list[bytes | memoryview] = [view[part.start : part.end] for part in parts if part.kept]
    if header.orientation == 1 and sum(map(len, kept)) == len(data):
        return data
    orientation = only_orientation(header.orientation) if header.orientation != 1 else b""
    if header.media_type == "image/webp":
        return _webp_joined(kept, orientation)
    if orientation and header.media_type == "image/png":
        kept.insert(2, _png_chunk(b"eXIf", orientation))  # after the signature and IHDR
    elif orientation and header.media_type == "image/jpeg":
        # Both JFIF and EXIF ask to be the first segment; in practice JFIF comes first.
        block = b"Exif\0\0" + orientation
        kept.insert(2 if kept[1][1] == 0xE0 else 1, b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block)
    return b"".join(kept)


def exif(data: bytes, header: Header) -> bytes | None:
    """Return the EXIF of a JPEG, PNG or WebP as a TIFF block (beginning `II*` or `MM`), None if there is none.

    Raises what `strip` raises.
    """
    found = next((part.exif for part in _parts(data, header, False) if part.exif), None)
    return None if found is None else data[found].removeprefix(b"Exif\0\0")


def upright(block: bytes) -> bytes:
    """Return the TIFF block of an EXIF with its orientation set to 1; everything else, offsets too, is unchanged."""
    order: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    edited = bytearray(block)
    ifd = int.from_bytes(block[4:8], order)
    count = int.from_bytes(block[ifd : ifd + 2], order)
    for entry in range(ifd + 2, min(ifd + 2 + count * 12, len(block) - 11), 12):
        if int.from_bytes(block[entry : entry + 2], order) == 0x0112:
            # As one SHORT, whatever it was: the value is left-justified in its four bytes.
            edited[entry + 2 : entry + 12] = b"".join(
                value.to_bytes(size, order) for value, size in ((3, 2), (1, 4), (1, 2), (0, 2))
            )
    return bytes(edited)


def _parts(data: bytes, header: Header, still: bool) -> Iterator[_Part]:
    if header.media_type == "image/png":
        parts = _png(data, still)
    elif header.media_type in _WALKS:
        parts = _WALKS[header.media_type](data)
    else:
        raise ImageFormatError(f"metadata cannot be removed from an image of type {header.media_type}")
    for number, part in enumerate(parts):
        if number == _MAX_PARTS:
            raise _broken()
        yield part


def _broken() -> ImageFormatError:
    return ImageFormatError("the image is corrupt or not fully there: its metadata cannot be told from its pixels")


# Within a scan 0xFF is followed by 0 (a stuffed byte) or a restart marker; any other that begins a segment ends it.
_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")


def _jpeg(data: bytes) -> Iterator[_Part]:
    """ISO 10918-1, B.1. Stray and fill bytes between segments belong to none; a missing EOI is tolerated."""
    yield _Part(0, 2, True)
    offset, scanned = 2, False
    while found := _MARKER.search(data, offset):
        start, marker = found.start(), data[found.start() + 1]
        if marker == 0xD9:
            yield _Part(start, start + 2, True)
            break
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        end = start + 2 + length
        if length < 2 or end > len(data):
            raise _broken()
        if marker == 0xDA:
            scanned = True
            rest = _SCAN_END.search(data, end)
            end = rest.start() if rest else len(data)
        is_extra = 0xE0 <= marker <= 0xEF or marker == 0xFE
        begins = _JPEG_KEPT.get(marker)
        kept = not is_extra or (begins is not None and data.startswith(begins, start + 4))
        is_exif = marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4)
        yield _Part(start, end, kept, slice(start + 10, end) if is_exif else None)
        offset = end
    if not scanned:
        raise _broken()


def _png(data: bytes, still: bool) -> Iterator[_Part]:
    """PNG 3rd edition, 5.3: a chunk is critical if its first letter is a capital."""
    yield _Part(0, 8, True)
    offset, kind = 8, b""
    while kind != b"IEND":
        kind = data[offset + 4 : offset + 8]
        end = offset + 12 + int.from_bytes(data[offset : offset + 4], "big")
        if end > len(data):
            raise _broken()
        is_critical = not kind[0] & 0x20
        kept = is_critical or kind in _PNG_KEPT or (kind in _PNG_FRAMES and not still)
        yield _Part(offset, end, kept, slice(offset + 8, end - 4) if kind == b"eXIf" else None)
        offset = end


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04


def _webp(data: bytes) -> Iterator[_Part]:
    """RFC 9649, 2.3 to 2.7. A missing last padding byte is tolerated."""
    yield _Part(0, 12, True)
    offset, limit = 12, 8 + int.from_bytes(data[4:8], "little")
    if limit > len(data) + 1:
        raise _broken()
    while offset + 8 <= min(limit, len(data)):
        kind, length = data[offset : offset + 4], int.from_bytes(data[offset + 4 : offset + 8], "little")
        end = offset + 8 + length
        if end > min(limit, len(data)):
            raise _broken()
        padded = min(end + (length & 1), len(data))
        yield _Part(offset, padded, kind in _WEBP_KEPT, slice(offset + 8, end) if kind == b"EXIF" else None)
        offset = padded


def _webp_joined(kept: list[bytes | memoryview], exif: bytes) -> bytes:
    """Join the chunks to a RIFF file, with matching sizes and VP8X flags."""
    chunks = kept[1:]
    if chunks and chunks[0][:4] == b"VP8X":
        extended = bytearray(chunks[0])
        extended[8] = extended[8] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if exif else 0)
        chunks[0] = bytes(extended)
    if exif:
        chunks.append(b"EXIF" + len(exif).to_bytes(4, "little") + exif)
    size = 4 + sum(map(len, chunks))
    return b"".join((b"RIFF", size.to_bytes(4, "little"), b"WEBP", *chunks))


_GIF_KEPT = {b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"}


def _gif(data: bytes) -> Iterator[_Part]:
    """GIF89a, 18 to 27. A missing trailer is tolerated."""
    try:
        offset = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
        yield _Part(0, offset, True)
        while offset < len(data):
            start, kind = offset, data[offset]
            kept = True
            if kind == 0x3B:
                yield _Part(start, start + 1, True)
                return
            if kind == 0x2C:
                flags = data[start + 9]
                offset = start + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
            elif kind == 0x21:
                label = data[start + 1]
                kept = label in (0xF9, 0x01) or (label == 0xFF and data[start + 3 : start + 14] in _GIF_KEPT)
                offset = start + 2
            else:
                raise _broken()
            while data[offset]:
                offset += 1 + data[offset]
            offset += 1
            yield _Part(start, offset, kept)
    except IndexError:
        raise _broken() from None


_WALKS: dict[str, Callable[[bytes], Iterator[_Part]]] = {"image/jpeg": _jpeg, "image/webp": _webp, "image/gif": _gif}


def only_orientation(value: int) -> bytes:
    """Return a TIFF block whose one tag is Orientation, a SHORT."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + value.to_bytes(4, "little")
    return b"II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"
