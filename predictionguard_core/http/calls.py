"""A call in the terms of httpcore, which httpx itself runs on: the request, the answer, and what goes wrong."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, ClassVar

import httpcore
import httpx

from predictionguard_core.steps import Request

# Seconds that a closing in another thread is waited for.
_PATIENCE = 0.25

Headers = list[tuple[bytes, bytes]]

# The errors of the lower library by the names that httpx gives to the same things.
_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        "ConnectError",
        "ConnectTimeout",
        "LocalProtocolError",
        "NetworkError",
        "PoolTimeout",
        "ProtocolError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "TimeoutException",
        "UnsupportedProtocol",
        "WriteError",
        "WriteTimeout",
    )
}


class Reply:
    """An answer whose body is still to come: read it and close it, as one does with an httpx response."""

    __slots__ = ("_raw", "_stream", "headers", "status_code")

    def __init__(self, status_code: int, raw: Headers, stream: httpx.SyncByteStream) -> None:
        self.status_code = status_code
        self.headers = named(raw)
        self._raw = raw
        self._stream = stream

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    def iter_bytes(self) -> Iterator[bytes]:
        """The body in pieces, decoded as `Content-Encoding` says. Raises httpx's errors."""
        if "content-encoding" in self.headers:
            return httpx.Response(self.status_code, headers=self._raw, stream=self._stream).iter_bytes()
        return iter(self._stream)

    def close(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        self._stream.close()


class AsyncReply:
    """`Reply`, asynchronous."""

    __slots__ = ("_raw", "_stream", "headers", "status_code")

    def __init__(self, status_code: int, raw: Headers, stream: httpx.AsyncByteStream) -> None:
        self.status_code = status_code
        self.headers = named(raw)
        self._raw = raw
        self._stream = stream

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body in pieces, decoded as `Content-Encoding` says. Raises httpx's errors."""
        if "content-encoding" in self.headers:
            return httpx.Response(self.status_code, headers=self._raw, stream=self._stream).aiter_bytes()
        return aiter(self._stream)

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        await self._stream.aclose()


class Borrowed:
    """The answer of a user's own client.

    It may be the garbage collector that leaves it, in the midst of a call of the same thread that holds the lock of
    httpx's pool; a closing that waits for this lock would then wait for ever. So what closes it is another thread, and
    what would close itself is kept from the collector until then.
    """

    _kept: ClassVar[set[Iterator[bytes]]] = set()

    def __init__(self, response: httpx.Response) -> None:
        self.status_code, self.headers, self.is_success = response.status_code, response.headers, response.is_success
        self._response = response
        self._pieces = response.iter_bytes()
        self._kept.add(self._pieces)

    def iter_bytes(self) -> Iterator[bytes]:
        """The body in pieces, decoded as `Content-Encoding` says. Raises httpx's errors."""
        for piece in self._pieces:  # not `yield from`, which would close them
            yield piece

    def close(self) -> None:
        """Close it. Nothing is left to do if it was read to its end."""
        if not self._response.is_closed:
            closer = threading.Thread(target=self._response.close, name="predictionguard-closing", daemon=True)
            closer.start()
            closer.join(_PATIENCE)
        self._kept.discard(self._pieces)


def request(call: Request, body: Any) -> httpcore.Request:
    """A request as httpcore takes it. `body` is bytes, pieces of them in the caller's colour, or None."""
    url, host = _address(call.url)
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in call.headers.items()]
    wait = {"connect": call.connect_timeout, "read": call.timeout, "write": call.timeout}
    return httpcore.Request(
        call.method, url, headers=[(b"Host", host), *headers], content=body, extensions={"timeout": wait}
    )


def lowered(request: httpx.Request) -> httpcore.Request:
    """An httpx client's request, for the library under it."""
    return httpcore.Request(
        request.method,
        _lowered(request.url),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


@functools.lru_cache(maxsize=64)
def _address(url: str) -> tuple[httpcore.URL, bytes]:
    parsed = httpx.URL(url)
    return _lowered(parsed), parsed.netloc


def _lowered(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def named(raw: Headers) -> Mapping[str, str]:
    """Headers by their names in lower case."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name, text = key.decode("ascii").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """The lower library's errors become httpx's."""
    try:
        yield
    except tuple(_ERRORS) as error:
        kind = next(_ERRORS[each] for each in type(error).__mro__ if each in _ERRORS)
        raise kind(str(error)) from error
