"""Download images, several side by side. `url_guard` decides which URLs may be asked."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator
from typing import Any

import httpx

from predictionguard_core import parallel
from predictionguard_core.errors import ImageFetchError, ImageTooLargeError
from predictionguard_core.http.error_mapping import is_untrusted
from predictionguard_core.http.size_limits import BodyCollector, BodyTooLargeError, async_iter_body, iter_body
from predictionguard_core.http.timeouts import CONNECT_TIMEOUT, async_deadline, deadline
from predictionguard_core.http.transport import AsyncTransport, Transport, new_async_transport, new_transport
from predictionguard_core.images import url_guard
from predictionguard_core.images.policy import ImagePolicy

_DOWNLOADS_AT_ONCE = 8
# Seconds that a result may come late, so that it is the download's own error that is reported.
_GRACE = 0.5
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=0)
_HEADERS = {
    # Images are compressed as they are. A host that compresses all the same is decompressed, within the limits.
    "Accept-Encoding": "identity",
    "Accept": "image/*",
    "User-Agent": "predictionguard-integrations",
}


def download_all(urls: list[str], policy: ImagePolicy, seconds: float | None = None) -> list[bytes | BaseException]:
    """Download URLs side by side and return the bytes or the error of each.

    Each ends, redirects included, within `seconds` or 30 seconds, whichever is shorter.
    """
    seconds = _bound(seconds)

    def fetch(url: str) -> bytes:
        bound = deadline(seconds)
        with parallel.on_cancel(bound.abort):
            return download(url, policy, bound)

    results: list[bytes | BaseException] = [_late(url, seconds) for url in urls]
    # A lookup of a name that takes too long can only be left alone.
    longest = seconds * math.ceil(len(urls) / _DOWNLOADS_AT_ONCE) + _GRACE
    with contextlib.closing(parallel.run_in_threads(fetch, urls, _DOWNLOADS_AT_ONCE, longest)) as done:
        for index, body, error in done:
            results[index] = body if error is None else error
    return results


async def async_download_all(
    urls: list[str], policy: ImagePolicy, seconds: float | None = None
) -> list[bytes | BaseException]:
    """`download_all`, async."""

    async def fetch(url: str) -> bytes | BaseException:
        try:
            return await async_download(url, policy, async_deadline(_bound(seconds)))
        except Exception as error:
            return error

    return await parallel.async_run_all(fetch, urls, _DOWNLOADS_AT_ONCE)


def download(url: str, policy: ImagePolicy, bound: deadline | None = None) -> bytes:
    """Download an image. Raises `ImageBlockedError`, `ImageFetchError` or `ImageTooLargeError`."""
    steps, bound = url_guard.download(url, policy), bound or deadline(_bound())
    with _map_errors(url, bound.seconds):
        with bound:
            try:
                step = next(steps)
                while True:
                    step = steps.send(_resolve(step) if isinstance(step, url_guard.Resolve) else _get(step))
            except StopIteration as end:
                body: bytes = end.value
                return body


async def async_download(url: str, policy: ImagePolicy, bound: async_deadline | None = None) -> bytes:
    """`download`, async."""
    steps, bound = url_guard.download(url, policy), bound or async_deadline(_bound())
    with _map_errors(url, bound.seconds):
        async with bound:
            try:
                step = next(steps)
                while True:
                    step = steps.send(
                        await _async_resolve(step) if isinstance(step, url_guard.Resolve) else await _async_get(step)
                    )
            except StopIteration as end:
                body: bytes = end.value
                return body


def _resolve(step: url_guard.Resolve) -> list[str]:
    with _map_lookup_errors(step.host):
        return _addresses(socket.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM))


async def _async_resolve(step: url_guard.Resolve) -> list[str]:
    with _map_lookup_errors(step.host):
        loop = asyncio.get_running_loop()
        return _addresses(await loop.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM))


def _get(step: url_guard.Get) -> url_guard.Got:
    # One transport for each request, so that nothing is carried from host to host.
    client = new_transport(_LIMITS, address=step.address)
    with contextlib.closing(client), contextlib.closing(client.handle_request(_request(client, step))) as response:
        if response.has_redirect_location:
            return url_guard.Got(response.status_code, location=response.headers["location"])
        with _map_size_errors(step.max_bytes):
            body = BodyCollector(response.headers, step.max_bytes)
            for chunk in iter_body(response, ImageFetchError):
                body.add(chunk)
        return url_guard.Got(response.status_code, body=body.joined())


async def _async_get(step: url_guard.Get) -> url_guard.Got:
    # One transport for each request, so that nothing is carried from host to host.
    client = new_async_transport(_LIMITS, address=step.address)
    async with (
        contextlib.aclosing(client),
        contextlib.aclosing(await client.handle_async_request(_request(client, step))) as response,
    ):
        if response.has_redirect_location:
            return url_guard.Got(response.status_code, location=response.headers["location"])
        with _map_size_errors(step.max_bytes):
            body = BodyCollector(response.headers, step.max_bytes)
            async for chunk in async_iter_body(response, ImageFetchError):
                body.add(chunk)
        return url_guard.Got(response.status_code, body=body.joined())


def _request(client: object, step: url_guard.Get) -> httpx.Request:
    url, headers = step.url, dict(_HEADERS)
    timeouts = httpx.Timeout(url_guard.TOTAL_TIMEOUT, connect=CONNECT_TIMEOUT).as_dict()
    extensions: dict[str, Any] = {"timeout": timeouts}
    if not isinstance(client, Transport | AsyncTransport):
        # httpx's own pool would look the host up again: give it the address, and the host for Host and TLS.
        headers["Host"] = url.netloc.decode("ascii")
        extensions["sni_hostname"] = url.raw_host.decode("ascii")
        url = url.copy_with(host=step.address)
    return httpx.Request("GET", url, headers=headers, extensions=extensions)


def _bound(seconds: float | None = None) -> float:
    return url_guard.TOTAL_TIMEOUT if seconds is None else min(seconds, url_guard.TOTAL_TIMEOUT)


def _late(url: str, seconds: float) -> ImageFetchError:
    return ImageFetchError(
        f"the host {_host(url)} did not deliver the image within {seconds:g} s; download it in your own code and pass "
        "its bytes"
    )


def _host(url: str) -> str:
    try:
        return url_guard.name(httpx.URL(url))
    except (httpx.InvalidURL, ValueError, TypeError):
        return "of the image"


@contextlib.contextmanager
def _map_errors(url: str, seconds: float) -> Iterator[None]:
    try:
        yield
    except (httpx.TimeoutException, TimeoutError):
        raise _late(url, seconds) from None
    except httpx.HTTPError as error:
        # Without the error's own text and chain: they tell the address behind the host.
        reason = type(error).__name__
        if is_untrusted(error):
            reason = "its certificate is not trusted; the environment variable SSL_CERT_FILE may name your own"
        raise ImageFetchError(f"could not download the image from the host {_host(url)} ({reason})") from None


@contextlib.contextmanager
def _map_lookup_errors(host: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, UnicodeError):
        raise ImageFetchError(
            f"could not resolve host {host}: check its spelling and this machine's network (the environment's proxies "
            "are not used for images), or download the image in your own code and pass its bytes"
        ) from None


@contextlib.contextmanager
def _map_size_errors(max_bytes: int) -> Iterator[None]:
    try:
        yield
    except BodyTooLargeError as error:
        raise ImageTooLargeError(
            f"the image at the URL has {error.size:,} bytes or more, the policy allows {max_bytes:,} "
            "(ImagePolicy.max_bytes)"
        ) from None


def _addresses(answers: Any) -> list[str]:
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
