"""Response bodies, decompressed and counted: no server may fill a caller's memory."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from typing import Any

import httpx

from predictionguard_core.errors import InvalidResponseError, PredictionGuardError
from predictionguard_core.http.timeouts import check_deadline

MAX_RESPONSE_BYTES = 128 * 1024 * 1024
"""Bytes of a plain response, decompressed."""

# What our requests accept. Other encodings, or one inside another, turn a few bytes into any number at once.
_COMPRESSED = ("gzip", "deflate")
_MAX_STEP = 1024 * 1024
"""Bytes that are decompressed at once: 64 KB of gzip from the network may hold 66 MB."""


class BodyTooLargeError(Exception):
    """Raised when a body has more than the allowed number of bytes. `size` is what it has at least."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def iter_body(
    response: httpx.Response, kind: Callable[[str], PredictionGuardError] = InvalidResponseError
) -> Generator[bytes, None, None]:
    """Return the body's chunks, decompressed. Raises an error of `kind` for an encoding that was not asked for."""
    encoding = _encoding(response.headers, kind)
    chunks: Any  # a generator, although httpx's type says iterator
    if response.is_stream_consumed:  # a mock, or a hook of the user's client, has read and decompressed it
        chunks = response.iter_bytes()
    elif encoding in _COMPRESSED:
        chunks = _decompressed(response, encoding)
    else:
        chunks = response.iter_raw()
    return chunks  # type: ignore[no-any-return]


def async_iter_body(
    response: httpx.Response, kind: Callable[[str], PredictionGuardError] = InvalidResponseError
) -> AsyncGenerator[bytes, None]:
    """`iter_body`, async."""
    encoding = _encoding(response.headers, kind)
    chunks: Any  # a generator, although httpx's type says iterator
    if response.is_stream_consumed:  # a mock, or a hook of the user's client, has read and decompressed it
        chunks = response.aiter_bytes()
    elif encoding in _COMPRESSED:
        chunks = _async_decompressed(response, encoding)
    else:
        chunks = response.aiter_raw()
    return chunks  # type: ignore[no-any-return]


def _decompressed(response: httpx.Response, encoding: str) -> Generator[bytes, None, None]:
    decompressor = _Decompressor(encoding)
    for chunk in response.iter_raw():
        for part in decompressor.feed(chunk):
            yield part


async def _async_decompressed(response: httpx.Response, encoding: str) -> AsyncGenerator[bytes, None]:
    decompressor = _Decompressor(encoding)
    async for chunk in response.aiter_raw():
        for part in decompressor.feed(chunk):
            yield part


class _Decompressor:
    """Decompresses gzip or deflate in steps, where httpx does it chunk by chunk, whatever becomes of a chunk."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
        self._may_be_bare = encoding == "deflate"  # some servers leave out the zlib header of RFC 9110, 8.4.1.2

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what becomes of a chunk: one piece at least, which may be empty, of at most `_MAX_STEP` bytes each."""
        piece = None
        while piece is None or data or len(piece) == _MAX_STEP:
            yield (piece := self._step(data))
            data = self._zlib.unconsumed_tail

    def _step(self, data: bytes) -> bytes:
        if self._zlib.eof:
            return b""
        try:
            piece = self._zlib.decompress(data, _MAX_STEP)
        except zlib.error as error:
            if not self._may_be_bare:
                raise httpx.DecodingError(str(error)) from error
            self._zlib, self._may_be_bare = zlib.decompressobj(-zlib.MAX_WBITS), False
            return self._step(data)
        self._may_be_bare = False
        return piece


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


def _encoding(headers: Mapping[str, str], kind: Callable[[str], PredictionGuardError]) -> str:
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", *_COMPRESSED):
        raise kind(f"the response is encoded as {encoding[:40]!r}, which was not asked for")
    return encoding


@contextlib.contextmanager
def _too_long() -> Generator[None, None, None]:
    try:
        yield
    except BodyTooLargeError:
        raise InvalidResponseError(
            f"the response has more than {MAX_RESPONSE_BYTES:,} bytes; no answer of this API is that long"
        ) from None
