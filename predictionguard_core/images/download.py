"""Downloads of pictures, performed: what `fetch` decides, in both colours, several side by side."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from predictionguard_core.errors import ImageBlockedError, ImageFetchError
from predictionguard_core.http import error_mapping, shared_clients, transport
from predictionguard_core.images import url_guard
from predictionguard_core.images.policy import ImagePolicy

_DOWNLOADS_AT_ONCE = 8


def fetch_all(
    urls: list[str], policy: ImagePolicy, seconds: float = url_guard.TOTAL_TIMEOUT
) -> list[bytes | BaseException]:
    """Download side by side: the bytes, or the error, of each. `seconds` bounds each hop, as `TOTAL_TIMEOUT` does."""
    if len(urls) == 1:
        return [shared_clients.settled(lambda: download(urls[0], policy, seconds))]
    with ThreadPoolExecutor(min(len(urls), _DOWNLOADS_AT_ONCE), "predictionguard-images") as threads:
        return list(threads.map(lambda url: shared_clients.settled(lambda: download(url, policy, seconds)), urls))


async def async_fetch_all(
    urls: list[str], policy: ImagePolicy, seconds: float = url_guard.TOTAL_TIMEOUT
) -> list[bytes | BaseException]:
    slots = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

    async def one(url: str) -> bytes:
        async with slots:
            return await async_download(url, policy, seconds)

    return await asyncio.gather(*map(one, urls), return_exceptions=True)


def download(url: str, policy: ImagePolicy, seconds: float = url_guard.TOTAL_TIMEOUT) -> bytes:
    flow = url_guard.download(url, policy)
    try:
        step = next(flow)
        while True:
            if isinstance(step, url_guard.Resolve):
                step = flow.send(_addresses(_resolve(step)))
            else:
                step = flow.send(_get(step, min(seconds, url_guard.TOTAL_TIMEOUT)))
    except StopIteration as end:
        body: bytes = end.value
        return body


async def async_download(url: str, policy: ImagePolicy, seconds: float = url_guard.TOTAL_TIMEOUT) -> bytes:
    flow = url_guard.download(url, policy)
    try:
        step = next(flow)
        while True:
            if isinstance(step, url_guard.Resolve):
                step = flow.send(_addresses(await _async_resolve(step)))
            else:
                step = flow.send(await _async_get(step, min(seconds, url_guard.TOTAL_TIMEOUT)))
    except StopIteration as end:
        body: bytes = end.value
        return body


def _get(step: url_guard.Get, seconds: float) -> url_guard.Got:
    url, headers, extensions = step.request
    tls = shared_clients.tls_context()
    with (
        _mapped_download(step.url, seconds),
        error_mapping.limit(seconds) as bound,
        _client(tls) as client,
        client.stream("GET", url, headers=headers, extensions=extensions) as response,
    ):
        if response.has_redirect_location:
            return url_guard.Got(response.status_code, location=response.headers["location"])
        counter = url_guard.BodyCounter(step.max_bytes, response.headers)
        for piece in response.iter_raw():
            counter.add(piece)
            bound.check()
        return url_guard.Got(response.status_code, body=counter.body)


async def _async_get(step: url_guard.Get, seconds: float) -> url_guard.Got:
    url, headers, extensions = step.request
    tls = await shared_clients.async_tls_context()
    async with (
        _async_mapped_download(step.url, seconds),
        error_mapping.async_limit(seconds) as bound,
        _async_client(tls) as client,
        client.stream("GET", url, headers=headers, extensions=extensions) as response,
    ):
        if response.has_redirect_location:
            return url_guard.Got(response.status_code, location=response.headers["location"])
        counter = url_guard.BodyCounter(step.max_bytes, response.headers)
        async for piece in response.aiter_raw():
            counter.add(piece)
            bound.check()
        return url_guard.Got(response.status_code, body=counter.body)


def _client(tls: ssl.SSLContext) -> httpx.Client:
    # One for each download, so that nothing is carried from host to host.
    own = transport.transport(tls, httpx.Limits(), trust_env=False)
    return httpx.Client(verify=tls, trust_env=False, timeout=_timeout(), transport=own)


def _async_client(tls: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=tls, trust_env=False, timeout=_timeout())


def _timeout() -> httpx.Timeout:
    return httpx.Timeout(url_guard.TOTAL_TIMEOUT, connect=url_guard.CONNECT_TIMEOUT)


@contextlib.contextmanager
def _mapped_download(url: httpx.URL, seconds: float) -> Iterator[None]:
    try:
        yield
    except (httpx.TimeoutException, TimeoutError):
        text = (
            f"the host {url_guard.name(url)} did not deliver the picture within {seconds:g} s: "
            "get it in your own code and give its bytes"
        )
        raise ImageFetchError(text) from None
    except (httpx.InvalidURL, UnicodeError):
        # httpx looks at a redirect's target, even where it is not to follow it.
        text = f"the host {url_guard.name(url)} redirects to an address that is no valid URL"
        raise ImageBlockedError(text) from None
    except httpx.HTTPError as error:
        # Without the error's own text and chain: they tell the address that was dialled.
        raise ImageFetchError(
            f"the picture can't be had from the host {url_guard.name(url)} ({type(error).__name__})"
        ) from None


@contextlib.asynccontextmanager
async def _async_mapped_download(url: httpx.URL, seconds: float) -> AsyncIterator[None]:
    with _mapped_download(url, seconds):
        yield


def _resolve(step: url_guard.Resolve) -> Any:
    with _mapped_lookup(step.host):
        return socket.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)


async def _async_resolve(step: url_guard.Resolve) -> Any:
    with _mapped_lookup(step.host):
        async with asyncio.timeout(url_guard.TOTAL_TIMEOUT):
            loop = asyncio.get_running_loop()
            return await loop.getaddrinfo(step.host, step.port, type=socket.SOCK_STREAM)


@contextlib.contextmanager
def _mapped_lookup(host: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError, TimeoutError):
        raise ImageFetchError(
            f"the host {host} has no address that can be looked up: check its spelling and this machine's network (the "
            "environment's proxies are not used for pictures), or get the picture in your own code and give its bytes"
        ) from None


def _addresses(answers: Any) -> list[str]:
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
