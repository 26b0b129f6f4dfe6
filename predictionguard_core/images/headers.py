"""One header reader a file format: size in pixels, EXIF orientation, animation. Nothing is decoded.

Each reader takes a `Source` and returns a `Header`, or raises `ImageFormatError` for a header that is cut short or
corrupt. Whatever the bytes are, the number of reads and the memory they take are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from predictionguard_core.errors import ImageFormatError
from predictionguard_core.images import endings

ReadAt = Callable[[int, int], bytes]
"""(offset, count), both in bytes: the bytes there, fewer than `count` only at the end."""

SENDABLE = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
"""The types that go out as they are."""

JPEG_KEPT = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""The application segments that say how the pixels look, with what they begin. The others are metadata."""

PNG_KEPT = {b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs"}
"""The ancillary chunks that say how the pixels look (PNG 3rd edition, 11.3)."""

PNG_FRAMES = {b"acTL", b"fcTL", b"fdAT"}
"""The chunks of an animation (PNG 3rd edition, 11.3.6)."""

_MOST_READS = 4096
_MOST_TAGS = 512
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says.

    `width` and `height` are pixels as stored, before any turning: at least 1 in the `SENDABLE` types, 0 where a type's
    header isn't read (SVG, PDF, ...) or does not say. `orientation` is EXIF's, 1 to 8, and 1 where it is absent or bad.
    `animated`: APNG, animated WebP, or a GIF that loops or times its first frame. `has_metadata`: EXIF, XMP, a comment
    or the like stands before the picture data (in WebP: anywhere); False is no promise that none follows. `is_whole` is
    False for a file of the `SENDABLE` types that ends before its picture does (of a GIF, before its first frame).
    """

    media_type: str
    width: int
    height: int
    orientation: int = 1
    animated: bool = False
    has_metadata: bool = False
    is_whole: bool = True

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


class Source:
    """The bytes behind a `ReadAt`, with a bound on the number of reads."""

    def __init__(self, at: ReadAt, length: int, media_type: str) -> None:
        self._at = at
        self._reads = 0
        self.length = length
        self.media_type = media_type

    def peek(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end."""
        self._reads += 1
        if self._reads >= _MOST_READS - 2:  # `read` itself made up to two
            raise self.corrupt("its header has too many parts")
        count = min(count, self.length - offset)
        return self._at(offset, count) if count > 0 else b""

    def take(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, or an `ImageFormatError`."""
        found = self.peek(offset, count)
        if len(found) < count:
            raise self.corrupt("it ends inside its header")
        return found

    def corrupt(self, why: str) -> ImageFormatError:
        return ImageFormatError(f"the picture ({self.media_type}) is corrupt or not fully there: {why}")


def _tags(source: Source, start: int, size: int) -> dict[int, int]:
    """Width, height and orientation by the first IFD of the TIFF block at `start` (TIFF 6.0, 2), where they stand."""
    head = source.peek(start, min(8, size))
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    offset = int.from_bytes(head[4:8], order)
    if head[:2] not in (b"II", b"MM") or int.from_bytes(head[2:4], order) != 42 or not 8 <= offset <= size - 14:
        return {}
    count = min(int.from_bytes(source.peek(start + offset, 2), order), _MOST_TAGS)
    entries = source.peek(start + offset + 2, min(count * 12, size - offset - 2))
    found: dict[int, int] = {}
    for entry in range(0, len(entries) - 11, 12):
        tag, kind = (int.from_bytes(entries[entry + i : entry + i + 2], order) for i in (0, 2))
        values = int.from_bytes(entries[entry + 4 : entry + 8], order)
        if tag in (_WIDTH, _HEIGHT, _ORIENTATION) and kind in (3, 4) and values == 1:
            # A SHORT (type 3) is left-justified in the four bytes of its value.
            value = entries[entry + 8 : entry + (10 if kind == 3 else 12)]
            found.setdefault(tag, int.from_bytes(value, order))
    return found


def _orientation(source: Source, start: int, size: int) -> int:
    if source.peek(start, min(6, size)) == b"Exif\0\0":  # stands in JPEG, and by mistake in some WebP and PNG
        start, size = start + 6, size - 6
    value = _tags(source, start, size).get(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _jpeg(source: Source) -> Header:
    """ISO 10918-1, B.1.1 and B.2.2: marker segments up to the first scan; the frame header has the size."""
    size: tuple[int, int] | None = None
    exif: int | None = None
    has_metadata = False
    offset = 2
    while True:
        head = source.peek(offset, 24)
        marker_at = head.find(b"\xff")
        if len(head) < 2:
            raise source.corrupt("it ends inside its header")
        if marker_at:  # stray bytes between segments, which decoders skip too
            offset += marker_at if marker_at > 0 else len(head)
            continue
        marker = head[1]
        if marker == 0xFF:  # fill bytes
            fill = len(head) - len(head.lstrip(b"\xff"))
            offset += fill - 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            offset += 2
        elif marker == 0xDA:
            break
        elif marker == 0xD9:
            raise source.corrupt("it ends before its picture")
        else:
            length = int.from_bytes(head[2:4], "big")
            if len(head) < 4 or offset + 2 + length > source.length:
                raise source.corrupt("it ends inside its header")
            if length < 2:
                raise source.corrupt("a segment has an impossible length")
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                if size or length < 8:
                    raise source.corrupt("its frame header is malformed")
                size = int.from_bytes(head[7:9], "big"), int.from_bytes(head[5:7], "big")
            elif marker == 0xE1 and exif is None and length >= 8 and head[4:10] == b"Exif\0\0":
                exif = _orientation(source, offset + 4, length - 2)
            if 0xE0 <= marker <= 0xEF or marker == 0xFE:
                has_metadata = has_metadata or marker not in JPEG_KEPT or not head.startswith(JPEG_KEPT[marker], 4)
            offset += 2 + length
    if size is None:
        raise source.corrupt("it has no frame header")
    is_whole = endings.stands_behind(source, b"\xff\xd9", offset)  # a scan's own data can't hold it
    return Header(source.media_type, *size, orientation=exif or 1, has_metadata=has_metadata, is_whole=is_whole)


def _png(source: Source) -> Header:
    """PNG 3rd edition, 5.3 and 11.2.1: IHDR comes first and has the size; eXIf and acTL come before the first IDAT."""
    head = source.take(8, 16)
    if head[:8] != b"\0\0\0\x0dIHDR":
        raise source.corrupt("it does not begin with an IHDR chunk")
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (8, 12))
    if max(width, height) > 0x7FFFFFFF:
        raise source.corrupt("its size is out of range")
    orientation, animated, has_metadata = 1, False, False
    offset = 33
    while (chunk := source.take(offset, 8))[4:] != b"IDAT":
        length, kind = int.from_bytes(chunk[:4], "big"), chunk[4:]
        if length > 0x7FFFFFFF or offset + 12 + length > source.length or kind == b"IEND":
            raise source.corrupt("it ends before its picture")
        if kind == b"eXIf":
            orientation = _orientation(source, offset + 8, length)
        animated = animated or kind == b"acTL"
        has_metadata = has_metadata or bool(kind[0] & 0x20 and kind not in PNG_KEPT | PNG_FRAMES)
        offset += 12 + length
    is_whole = endings.stands_behind(source, b"IEND", offset)
    return Header(source.media_type, width, height, orientation, animated, has_metadata, is_whole)


def _webp(source: Source) -> Header:
    """RFC 9649, 2.4 to 2.7; the lossy size is RFC 6386's, 9.1."""
    head = source.take(12, 18)
    end = 8 + int.from_bytes(source.take(4, 4), "little")
    is_whole, end = end <= source.length, min(end, source.length)
    kind = head[:4]
    if kind == b"VP8 ":
        if head[11:14] != b"\x9d\x01\x2a":
            raise source.corrupt("its frame header is malformed")
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (14, 16))
        return Header(source.media_type, width, height, is_whole=is_whole)
    if kind == b"VP8L":
        if head[8] != 0x2F:
            raise source.corrupt("its frame header is malformed")
        bits = int.from_bytes(head[9:13], "little")
        return Header(source.media_type, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, is_whole=is_whole)
    if kind != b"VP8X":
        raise source.corrupt("it does not begin with a picture chunk")
    flags = head[8]
    width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (12, 15))
    orientation = 1
    offset = 12
    while flags & 0x08 and offset + 8 <= end:
        chunk = source.take(offset, 8)
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"EXIF":
            orientation = _orientation(source, offset + 8, min(length, end - offset - 8))
            break
        offset += 8 + length + (length & 1)
    return Header(source.media_type, width, height, orientation, bool(flags & 0x02), bool(flags & 0x0C), is_whole)


def _gif(source: Source) -> Header:
    """GIF89a, 18 to 26. The size is the logical screen's, or the first frame's where that reaches beyond the screen:
    decoders widen the canvas for it.
    """
    head = source.take(6, 7)
    width, height = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2))
    offset = 13 + (3 << (head[4] & 7) + 1 if head[4] & 0x80 else 0)
    animated = has_metadata = False
    while (block := source.take(offset, 1)) != b",":
        if block != b"!":
            raise source.corrupt("it ends before its picture")
        label, size = source.take(offset + 1, 2)
        first = source.take(offset + 3, size)
        if label == 0xF9 and size >= 4:
            animated = animated or first[1:3] != b"\0\0"
        elif label == 0xFF:
            animated = animated or first in (b"NETSCAPE2.0", b"ANIMEXTS1.0")
            has_metadata = has_metadata or first == b"XMP DataXMP"
        has_metadata = has_metadata or label == 0xFE
        offset += 2
        while size := source.take(offset, 1)[0]:
            offset += 1 + size
        offset += 1
    left, top, wide, high = (int.from_bytes(source.take(offset + i, 2), "little") for i in (1, 3, 5, 7))
    if not (wide and high):
        raise source.corrupt("its first frame is empty")
    flags = int.from_bytes(source.peek(offset + 9, 1))
    # The frame's own colours, if it has any, and the code size come before its data.
    is_whole = endings.blocks_end(source, offset + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    width, height = max(width, left + wide), max(height, top + high)
    return Header(source.media_type, width, height, animated=animated, has_metadata=has_metadata, is_whole=is_whole)


def _bmp(source: Source) -> Header:
    """BITMAPCOREHEADER has 16-bit sizes, its successors signed 32-bit ones: a negative height means top-down rows."""
    head = source.take(14, 12)
    if head[0] == 12:
        width, height = (int.from_bytes(head[i : i + 2], "little") for i in (4, 6))
    else:
        width, height = (abs(int.from_bytes(head[i : i + 4], "little", signed=True)) for i in (4, 8))
    return Header(source.media_type, width, height)


def _tiff(source: Source) -> Header:
    """TIFF 6.0, 2 and 8. A BigTIFF's size is not read."""
    tags = _tags(source, 0, source.length)
    orientation = tags.get(_ORIENTATION, 1)
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    return Header(source.media_type, width, height, orientation if 1 <= orientation <= 8 else 1)


def _heif(source: Source) -> Header:
    """ISO 23008-12, 6.5.3: the largest `ispe` among the item properties. Thumbnails, tiles and masks have one too, none
    larger than the picture's. HEIF turns a picture by properties of its own, so the orientation stays 1.
    """
    width = height = 0
    path = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # how much of a box's body comes before its children
    todo = [(0, source.length)]
    while todo:
        for kind, start, end in _boxes(source, *todo.pop()):
            if kind in path:
                todo.append((start + path[kind], end))
            elif kind == b"ispe":
                body = source.take(start, 12)
                wide, high = (int.from_bytes(body[i : i + 4], "big") for i in (4, 8))
                if wide * high > width * height:
                    width, height = wide, high
    return Header(source.media_type, width, height)


def _boxes(source: Source, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the body of each box (ISO 14496-12, 4.2)."""
    while start + 8 <= end:
        head = source.peek(start, 16)
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = end - start
        if size < body or start + size > end:
            return
        yield kind, start + body, start + size
        start += size


READERS: dict[str, Callable[[Source], Header]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/tiff": _tiff,
    "image/heic": _heif,
    "image/avif": _heif,
}
