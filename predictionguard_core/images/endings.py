"""Whether a picture is all there, by what ends it: a file that was cut has a good header. Nothing is decoded."""

from __future__ import annotations

from typing import Protocol

_NEAR = 64
_WINDOW = 1 << 20
_BLOCKS = 1 << 16
_MOST_BLOCKS = 1 << 14


class Source(Protocol):
    """`formats.Source`: as much as is needed of it here."""

    length: int

    def peek(self, offset: int, count: int, /) -> bytes: ...


def stands_behind(source: Source, mark: bytes, start: int) -> bool:
    """Whether `mark` is found from `start` on: at the end, or, where a camera appended something to it, before."""
    end, window = source.length, _NEAR
    while end > start:
        begin = max(start, end - window)
        if mark in source.peek(begin, end + len(mark) - 1 - begin):
            return True
        end, window = begin, _WINDOW
    return False


def blocks_end(source: Source, offset: int) -> bool:
    """Whether GIF's data sub-blocks (GIF89a, 15), the first of them at `offset`, come to their terminator.

    Of more than 16,384, four megabytes where they are full, nobody is made to wait for the end.
    """
    start, found = offset, b""
    for _ in range(_MOST_BLOCKS):
        if offset >= start + len(found):
            start, found = offset, source.peek(offset, _BLOCKS)
            if not found:
                return False
        size = found[offset - start]
        if not size:
            return True
        offset += 1 + size
    return True
