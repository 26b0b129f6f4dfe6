"""The body of an answer, unfolded and counted: no server may fill a caller's memory.

Each function comes in both colours; a test compares them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from predictionguard_core.errors import InvalidResponseError

if TYPE_CHECKING:
    import httpx

    from predictionguard_core.http.calls import AsyncReply, Borrowed, Reply

    Answered: TypeAlias = Reply | Borrowed
    AsyncAnswered: TypeAlias = AsyncReply | httpx.Response

LONGEST_ANSWER = 128 * 1024 * 1024
"""Bytes of a plain answer, unfolded."""

# What the request asks for. Of other codings, or of one around another, a few bytes may unfold to any number at once.
_CODINGS = ("", "identity", "gzip", "deflate")


def pieces(response: Answered) -> Generator[bytes, None, None]:
    # In pieces, unfolded. Raises `InvalidResponseError` for a coding that was not asked for.
    _check_coding(response.headers)
    found: Any = response.iter_bytes()  # a generator, whoever made the response
    return found  # type: ignore[no-any-return]


def async_pieces(response: AsyncAnswered) -> AsyncGenerator[bytes, None]:
    _check_coding(response.headers)
    found: Any = response.aiter_bytes()
    return found  # type: ignore[no-any-return]


def whole(response: Answered, check: Callable[[], None]) -> bytes:
    # `check` is called between the pieces. Raises `InvalidResponseError` if they are too many.
    collected = _Collected(response.headers)
    with contextlib.closing(pieces(response)) as found:
        for piece in found:
            collected.add(piece)
            check()
    return collected.joined()


async def async_whole(response: AsyncAnswered, check: Callable[[], None]) -> bytes:
    collected = _Collected(response.headers)
    async with contextlib.aclosing(async_pieces(response)) as found:
        async for piece in found:
            collected.add(piece)
            check()
    return collected.joined()


class _Collected:
    def __init__(self, headers: Mapping[str, str]) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        declared = headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > LONGEST_ANSWER):
            raise _too_long()

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > LONGEST_ANSWER:
            raise _too_long()
        self._pieces.append(piece)

    def joined(self) -> bytes:
        return b"".join(self._pieces)


def _check_coding(headers: Mapping[str, str]) -> None:
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in _CODINGS:
        raise InvalidResponseError(f"the answer is encoded as {coding[:40]!r}, which was not asked for")


def _too_long() -> InvalidResponseError:
    return InvalidResponseError(
        f"the answer has more than {LONGEST_ANSWER:,} bytes; no answer of this API is that long"
    )
