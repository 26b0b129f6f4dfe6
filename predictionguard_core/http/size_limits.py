"""Response bodies, decompressed and counted: no server may fill a caller's memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from predictionguard_core.errors import InvalidResponseError, PredictionGuardError
from predictionguard_core.http.timeouts import check_deadline

if TYPE_CHECKING:
    import httpx

MAX_RESPONSE_BYTES = 128 * 1024 * 1024
"""Bytes of a plain response, decompressed."""

# What our requests accept. Other encodings, or one inside another, turn a few bytes into any number at once.
_ENCODINGS = ("", "identity", "gzip", "deflate")


class BodyTooLargeError(Exception):
    """Raised when a body has more than the allowed number of bytes. `size` is what it has at least."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def iter_body(response: httpx.Response) -> Generator[bytes, None, None]:
    """Return the body's chunks, decompressed. Raises `InvalidResponseError` for an encoding nobody asked for."""
    check_encoding(response.headers, InvalidResponseError)
    chunks: Any = response.iter_bytes()  # a generator, although its type says iterator
    return chunks  # type: ignore[no-any-return]


def async_iter_body(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """`iter_body`, async."""
    check_encoding(response.headers, InvalidResponseError)
    chunks: Any = response.aiter_bytes()
    return chunks  # type: ignore[no-any-return]


def read_body(response: httpx.Response) -> bytes:
    """Return the whole body of a response of the API, within the enclosing deadline.

    Raises `InvalidResponseError` if it is larger than any answer.
    """
    with contextlib.closing(iter_body(response)) as chunks:
        with _too_long():
            body = BodyCollector(response.headers, MAX_RESPONSE_BYTES)
            for chunk in chunks:
                body.add(chunk)
    return body.joined()


async def async_read_body(response: httpx.Response) -> bytes:
    """`read_body`, async."""
    async with contextlib.aclosing(async_iter_body(response)) as chunks:
        with _too_long():
            body = BodyCollector(response.headers, MAX_RESPONSE_BYTES)
            async for chunk in chunks:
                body.add(chunk)
    return body.joined()


class BodyCollector:
    """Collects the chunks of a body.

    Raises `BodyTooLargeError` as soon as it is known to be larger than `max_bytes`, and `TimeoutError` once the
    enclosing deadline is over.
    """

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._size = 0
        declared = headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > max_bytes:
            raise BodyTooLargeError(int(declared))

    def add(self, chunk: bytes) -> None:
        """Add a chunk."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise BodyTooLargeError(self._size)
        self._chunks.append(chunk)
        check_deadline()

    def joined(self) -> bytes:
        """Return the body."""
        return b"".join(self._chunks)


def check_encoding(headers: Mapping[str, str], kind: Callable[[str], PredictionGuardError]) -> None:
    """Raise an error of `kind` if the body is compressed in a way that can't be decompressed within limits."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise kind(f"the response is encoded as {encoding[:40]!r}, which was not asked for")


@contextlib.contextmanager
def _too_long() -> Generator[None, None, None]:
    try:
        yield
    except BodyTooLargeError:
        raise InvalidResponseError(
            f"the response has more than {MAX_RESPONSE_BYTES:,} bytes; no answer of this API is that long"
        ) from None
