"""What surrounds the steps of a call, in both colours: bounds on their time, httpx's errors as ours, a stream's end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import httpx

from predictionguard_core.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidResponseError,
    StreamInterruptedError,
)
from predictionguard_core.http import timeouts, transport
from predictionguard_core.streaming import ChunkReader

_PATIENCE = 0.25
"""Seconds that the end of a stream behind `[DONE]` is waited for."""


class Limit:
    """A bound on a piece of work as a whole, in seconds. `check` between its parts."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise TimeoutError


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[Limit]:
    """Bound a block. Waits on our own transport end with it; on a user's own client it ends at the next `check`."""
    with timeouts.deadline(seconds):
        yield Limit(seconds)


@contextlib.asynccontextmanager
async def async_limit(seconds: float) -> AsyncIterator[Limit]:
    async with asyncio.timeout(seconds):
        yield Limit(None)


def drain(pieces: Iterator[bytes]) -> None:
    """Read what a finished answer still has, so that its connection can be used again; but only if that comes now."""
    with contextlib.suppress(httpx.HTTPError), timeouts.deadline(_PATIENCE):
        for _ in pieces:
            pass


async def async_drain(pieces: AsyncIterator[bytes]) -> None:
    """`drain`, asynchronous."""
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            async for _ in pieces:
                pass


def until_finished(pieces: Iterator[bytes], reader: ChunkReader) -> Iterator[bytes]:
    """The same pieces; once the answer has its finish reason, a connection that breaks is merely its end."""
    try:
        for piece in pieces:
            yield piece
    except httpx.TransportError:
        if not reader.has_finished:
            raise


async def async_until_finished(pieces: AsyncIterator[bytes], reader: ChunkReader) -> AsyncIterator[bytes]:
    """`until_finished`, asynchronous."""
    try:
        async for piece in pieces:
            yield piece
    except httpx.TransportError:
        if not reader.has_finished:
            raise


@contextlib.contextmanager
def mapped(base_url: str, timeout: float, *, answered: bool = False) -> Iterator[None]:
    """Httpx's errors become ours. `answered`: the answer had begun, so that it is not asked for again."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise APITimeoutError(f"no connection to {base_url} in time", may_retry=True) from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise APITimeoutError(f"no answer from {base_url} within {timeout:g} s; allow more with timeout=...") from error
    except httpx.ConnectError as error:
        raise APIConnectionError(
            f"can't reach {base_url} ({_reason(error)}); check the address (PREDICTIONGUARD_URL or base_url=...)"
            + (", and the proxy that the environment names" if transport.names_proxy() else ""),
            may_retry=True,
        ) from error
    except httpx.TransportError as error:
        text = f"the connection to {base_url} was lost ({_reason(error)})"
        raise APIConnectionError(text, may_retry=not answered) from error
    except (httpx.TooManyRedirects, httpx.InvalidURL, UnicodeError) as error:
        # httpx looks at a redirect's target, even where it is not to follow it.
        raise InvalidResponseError(f"{base_url} redirects to nowhere; check the address") from error
    except httpx.DecodingError as error:
        raise InvalidResponseError(f"the answer of {base_url} is not encoded as it says") from error


@contextlib.contextmanager
def mapped_stream(base_url: str, timeout: float) -> Iterator[None]:
    """The same for a stream that has begun: when it breaks off, a part of the answer is already delivered."""
    try:
        with mapped(base_url, timeout, answered=True):
            yield
    except APITimeoutError:
        raise
    except APIConnectionError as error:
        raise StreamInterruptedError(f"{error.message}; what was delivered is only a part of the answer") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
