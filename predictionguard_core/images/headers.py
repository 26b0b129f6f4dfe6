"""Header readers, one per file format: size in pixels, EXIF orientation, pages. Nothing is decoded.

Each reader takes a `Source` and returns a `Header`, or raises `ImageFormatError` for a header that is cut short or
corrupt. Whatever the bytes are, the number of reads and the memory they take are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from predictionguard_core.errors import ImageFormatError, ImageTooLargeError

ReadAt = Callable[[int, int], bytes]
"""(offset, count), both in bytes: the bytes there, fewer than `count` only at the end."""

SENDABLE = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
"""The types that are sent as they are."""

_MAX_READS = 4096
_MAX_TAGS = 400
_MAX_DIRECTORIES = 1024
_MAX_SCANS = 1000
_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image file.

    `width` and `height` are pixels as stored, before any rotation: at least 1 in the `SENDABLE` types, 0 where a type's
    header isn't read (SVG, PDF, ...) or does not say. `orientation` is EXIF's, 1 to 8, and 1 where it is absent or bad.
    `is_whole` is False for a file of the `SENDABLE` types that ends before its image does (of a GIF, before its first
    frame). `frames` are the numbers of the frames that are pages, in order: only a TIFF can have several here.
    """

    media_type: str
    width: int
    height: int
    orientation: int = 1
    is_whole: bool = True
    frames: tuple[int, ...] = (0,)

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
        """Return up to `count` bytes; fewer at the end."""
        self._reads += 1
        if self._reads >= _MAX_READS - 2:  # `detect.read` itself made up to two
            raise self.corrupt("its header has too many parts")
        count = min(count, self.length - offset)
        return self._at(offset, count) if count > 0 else b""

    def take(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes. Raises `ImageFormatError` if there are fewer."""
        found = self.peek(offset, count)
        if len(found) < count:
            raise self.corrupt("it ends inside its header")
        return found

    def corrupt(self, why: str) -> ImageFormatError:
        return ImageFormatError(
            f"the image ({self.media_type}) is corrupt or not fully there: {why}. Save or download it again"
        )


def _is_in_rest(source: Source, mark: bytes, start: int) -> bool:
    """Return whether `mark` occurs from `start` on. It is searched backwards: a camera may append something."""
    end, window = source.length, 64
    while end > start:
        begin = max(start, end - window)
        if mark in source.peek(begin, end + len(mark) - 1 - begin):
            return True
        end, window = begin, _WINDOW
    return False


_WIDTH, _HEIGHT, _ORIENTATION, _SUBFILE, _OLD_SUBFILE, _SUB_IFDS = 0x0100, 0x0101, 0x0112, 0x00FE, 0x00FF, 0x014A
_REDUCED, _MASK = 1, 4
_TIFF_SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # bytes of SHORT, LONG, IFD, LONG8, IFD8


@dataclass(frozen=True, slots=True)
class _Directory:
    """One image file directory (IFD) of a TIFF, and where the next one is; 0 after the last."""

    tags: dict[int, tuple[int, ...]]
    next: int

    def value(self, tag: int, default: int = 0) -> int:
        return self.tags.get(tag, (default,))[0]

    @property
    def is_page(self) -> bool:
        """Whether this is neither a thumbnail nor a mask (TIFF 6.0, 8, NewSubfileType, and SubfileType before it)."""
        return not self.value(_SUBFILE) & (_REDUCED | _MASK) and self.value(_OLD_SUBFILE) != 2

    @property
    def pixels(self) -> int:
        return self.value(_WIDTH) * self.value(_HEIGHT)


class _Tiff:
    """The TIFF block at `start` (TIFF 6.0, 2; a BigTIFF has numbers of 8 bytes). `first` is 0 if it is none."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        self._source, self._start, self._size = source, start, size
        head = source.peek(start, min(16, size))
        self._order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        version = int.from_bytes(head[2:4], self._order)
        self._width = 8 if version == 43 else 4
        at = 8 if version == 43 else 4
        is_tiff = head[:2] in (b"II", b"MM") and version in (42, 43)
        self.first = int.from_bytes(head[at : at + self._width], self._order) if is_tiff else 0

    def directory(self, offset: int) -> _Directory | None:
        """Return the directory at `offset`, or None if it lies outside."""
        width = self._width
        counted, entry = (8, 20) if width == 8 else (2, 12)
        if not 8 <= offset <= self._size - counted - entry:
            return None
        count = int.from_bytes(self._source.peek(self._start + offset, counted), self._order)
        body = offset + counted
        entries = self._source.peek(self._start + body, min(min(count, _MAX_TAGS) * entry, self._size - body))
        tags: dict[int, tuple[int, ...]] = {}
        for at in range(0, len(entries) - entry + 1, entry):
            tag, kind = (int.from_bytes(entries[at + i : at + i + 2], self._order) for i in (0, 2))
            amount = int.from_bytes(entries[at + 4 : at + 4 + width], self._order)
            size = _TIFF_SIZES.get(kind)
            if tag not in _TAGS or size is None or not 1 <= amount <= _MAX_TAGS or (amount > 1 and tag != _SUB_IFDS):
                continue
            value = entries[at + 4 + width : at + entry]  # left-justified, or where the values are
            if amount * size > width:
                where = int.from_bytes(value, self._order)
                value = self._source.peek(self._start + where, amount * size) if where < self._size else b""
            found = tuple(int.from_bytes(value[i * size : (i + 1) * size], self._order) for i in range(amount))
            tags.setdefault(tag, found)
        end = body + count * entry
        following = self._source.peek(self._start + end, width) if end + width <= self._size else b""
        return _Directory(tags, int.from_bytes(following, self._order))

    def directories(self) -> list[_Directory]:
        """Yield the directories of the chain."""
        found: list[_Directory] = []
        offset, seen = self.first, set[int]()
        while offset and offset not in seen:
            if len(found) == _MAX_DIRECTORIES:
                raise ImageTooLargeError(f"the image (image/tiff) has more than {_MAX_DIRECTORIES:,} pages")
            seen.add(offset)
            if (directory := self.directory(offset)) is None:
                break
            found.append(directory)
            offset = directory.next
        return found


_TAGS = {_WIDTH, _HEIGHT, _ORIENTATION, _SUBFILE, _OLD_SUBFILE, _SUB_IFDS}


def _orientation(source: Source, start: int, size: int) -> int:
    if source.peek(start, min(6, size)) == b"Exif\0\0":  # stands in JPEG, and by mistake in some WebP and PNG
        start, size = start + 6, size - 6
    block = _Tiff(source, start, size)
    directory = block.directory(block.first)
    value = directory.value(_ORIENTATION, 1) if directory else 1
    return value if 1 <= value <= 8 else 1


def _jpeg(source: Source) -> Header:
    """ISO 10918-1, B.1.1 and B.2.2: marker segments up to the first scan; the frame header has the size."""
    size: tuple[int, int] | None = None
    exif: int | None = None
    is_progressive = False
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
            raise source.corrupt("it ends before its image")
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
                is_progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            elif marker == 0xE1 and exif is None and length >= 8 and head[4:10] == b"Exif\0\0":
                exif = _orientation(source, offset + 4, length - 2)
            offset += 2 + length
    if size is None:
        raise source.corrupt("it has no frame header")
    if is_progressive:
        _check_scans(source, offset)
    is_whole = _is_in_rest(source, b"\xff\xd9", offset)  # a scan's own data can't hold it
    return Header(source.media_type, *size, orientation=exif or 1, is_whole=is_whole)


def _check_scans(source: Source, offset: int) -> None:
    """Refuse a progressive JPEG of very many scans: each costs a pass over all its pixels (usual are 10)."""
    scans = 0
    for begin in range(offset, source.length, _WINDOW):
        scans += source.peek(begin, _WINDOW + 1).count(b"\xff\xda")
        if scans > _MAX_SCANS:
            raise ImageFormatError(
                f"the image (image/jpeg) has more than {_MAX_SCANS:,} progressive scans, which takes minutes to "
                "decode. Save it again as JPEG"
            )


def _png(source: Source) -> Header:
    """PNG 3rd edition, 5.3 and 11.2.1: IHDR comes first and has the size; eXIf comes before the first IDAT."""
    head = source.take(8, 16)
    if head[:8] != b"\0\0\0\x0dIHDR":
        raise source.corrupt("it does not begin with an IHDR chunk")
    width, height = (int.from_bytes(head[i : i + 4], "big") for i in (8, 12))
    if max(width, height) > 0x7FFFFFFF:
        raise source.corrupt("its size is out of range")
    orientation = 1
    offset = 33
    while (chunk := source.take(offset, 8))[4:] != b"IDAT":
        length, kind = int.from_bytes(chunk[:4], "big"), chunk[4:]
        if length > 0x7FFFFFFF or offset + 12 + length > source.length or kind == b"IEND":
            raise source.corrupt("it ends before its image")
        if kind == b"eXIf":
            orientation = _orientation(source, offset + 8, length)
        offset += 12 + length
    return Header(source.media_type, width, height, orientation, _is_in_rest(source, b"IEND", offset))


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
        raise source.corrupt("it does not begin with an image chunk")
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
    return Header(source.media_type, width, height, orientation, is_whole)


def _gif(source: Source) -> Header:
    """GIF89a, 18 to 26. The size is the logical screen's, or the first frame's where that reaches beyond the screen:
    decoders widen the canvas for it.
    """
    head = source.take(6, 7)
    width, height = (int.from_bytes(head[i : i + 2], "little") for i in (0, 2))
    offset = 13 + (3 << (head[4] & 7) + 1 if head[4] & 0x80 else 0)
    while (block := source.take(offset, 1)) != b",":
        if block != b"!":
            raise source.corrupt("it ends before its image")
        offset += 2
        while size := source.take(offset, 1)[0]:
            offset += 1 + size
        offset += 1
    left, top, wide, high = (int.from_bytes(source.take(offset + i, 2), "little") for i in (1, 3, 5, 7))
    if not (wide and high):
        raise source.corrupt("its first frame is empty")
    flags = int.from_bytes(source.peek(offset + 9, 1))
    # The frame's own colors, if it has any, and the code size come before its data.
    is_whole = _gif_blocks_end(source, offset + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    width, height = max(width, left + wide), max(height, top + high)
    return Header(source.media_type, width, height, is_whole=is_whole)


_GIF_WINDOW = 1 << 16
_MAX_GIF_BLOCKS = 1 << 14


def _gif_blocks_end(source: Source, offset: int) -> bool:
    """Whether the data sub-blocks (GIF89a, 15) at `offset` come to their terminator.

    More than 16,384 of them, four megabytes where they are full, are taken to be complete.
    """
    start, found = offset, b""
    for _ in range(_MAX_GIF_BLOCKS):
        if offset >= start + len(found):
            start, found = offset, source.peek(offset, _GIF_WINDOW)
            if not found:
                return False
        size = found[offset - start]
        if not size:
            return True
        offset += 1 + size
    return True


def _bmp(source: Source) -> Header:
    """BITMAPCOREHEADER has 16-bit sizes, its successors signed 32-bit ones: a negative height means top-down rows."""
    head = source.take(14, 12)
    if head[0] == 12:
        width, height = (int.from_bytes(head[i : i + 2], "little") for i in (4, 6))
    else:
        width, height = (abs(int.from_bytes(head[i : i + 4], "little", signed=True)) for i in (4, 8))
    return Header(source.media_type, width, height)


def _tiff(source: Source) -> Header:
    """TIFF 6.0, 2 and 8: each directory of the chain is a page, a thumbnail or a mask. The size is the first page's."""
    block = _Tiff(source, 0, source.length)
    chain = block.directories()
    if not chain:
        raise source.corrupt("it has no directory")
    frames = tuple(number for number, directory in enumerate(chain) if directory.is_page)
    subs = [block.directory(offset) for each in chain for offset in each.tags.get(_SUB_IFDS, ())[:_MAX_SUB_IFDS]]
    largest = max((chain[number].pixels for number in frames), default=0)
    if not frames or any(sub and sub.is_page and sub.pixels > largest for sub in subs):
        # DNG and other raw formats: the chain holds thumbnails, a SubIFD the image, which needs a raw converter.
        raise ImageFormatError(
            "the image (image/tiff) has only a thumbnail where TIFF readers look, as camera raw files (DNG) do. "
            "Export it as JPEG"
        )
    first = chain[frames[0]]
    orientation = first.value(_ORIENTATION, 1)
    return Header(
        source.media_type,
        first.value(_WIDTH),
        first.value(_HEIGHT),
        orientation if 1 <= orientation <= 8 else 1,
        frames=frames,
    )


_MAX_SUB_IFDS = 16


def _heif(source: Source) -> Header:
    """ISO 23008-12, 6.5.3: the largest `ispe` among the item properties. Thumbnails, tiles and masks have one too, none
    larger than the image's. HEIF rotates an image by properties of its own, so the orientation stays 1.
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
