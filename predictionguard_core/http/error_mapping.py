"""Errors of httpx and httpx2 as ours."""

from __future__ import annotations

import contextlib
import os
import ssl
import urllib.parse
from collections.abc import Iterator

from predictionguard_core.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidResponseError,
    PredictionGuardError,
    StreamInterruptedError,
    error_chain,
)
from predictionguard_core.http import proxies

# Statuses with which a proxy refuses for a reason that a second attempt does not change.
_REFUSALS = ("401", "403", "407")


@contextlib.contextmanager
def map_errors(base_url: str, timeout: float, *, answered: bool = False) -> Iterator[None]:
    """Raise errors of httpx, httpx2 and `timeouts` in the block as ours.

    `answered` says that the response had begun, so that the request is not sent again.
    """
    try:
        yield
    except TimeoutError as error:
        raise _timeout_error(base_url, timeout) from error
    except Exception as error:
        mapped = _mapped(error, base_url, timeout, answered)
        if mapped is None:
            raise
        raise mapped from error


def stream_error(error: Exception, base_url: str, timeout: float) -> PredictionGuardError | None:
    """Return our error for one that broke a stream of which a part is already delivered, or None if it is none of
    httpx, httpx2 or `timeouts`.
    """
    if isinstance(error, TimeoutError):
        return _timeout_error(base_url, timeout)
    mapped = _mapped(error, base_url, timeout, answered=True)
    if isinstance(mapped, APIConnectionError) and not isinstance(mapped, APITimeoutError):
        return StreamInterruptedError(f"{mapped.message}; what was delivered is only a part of the answer")
    return mapped


def error_names(error: BaseException) -> set[str]:
    """Return the names of the classes of httpx or httpx2 that `error` belongs to. Both use the same names."""
    return {each.__name__ for each in type(error).__mro__ if each.__module__.partition(".")[0] in ("httpx", "httpx2")}


def _mapped(error: Exception, base_url: str, timeout: float, answered: bool) -> PredictionGuardError | None:
    names, reason = error_names(error), str(error) or type(error).__name__
    if "PoolTimeout" in names:
        return APITimeoutError(
            f"no free connection to {base_url}: every connection is in use; send fewer requests at a time",
            may_retry=True,
        )
    if "ConnectTimeout" in names:
        return APITimeoutError(f"no connection to {base_url} in time; check the URL and the network", may_retry=True)
    if "TimeoutException" in names:
        return _timeout_error(base_url, timeout)
    if "ProxyError" in names:
        text = f"{_proxy(base_url)} refused to connect to {base_url} ({reason})"
        if reason[:3] in ("401", "407"):
            text += "; check the user name and password in the proxy's URL"
        return APIConnectionError(text, may_retry=reason[:3] not in _REFUSALS)
    if "ConnectError" in names:
        if is_untrusted(error):
            return APIConnectionError(_untrusted(base_url, reason))
        text = f"can't reach {base_url} ({reason}); check the URL (PREDICTIONGUARD_URL or base_url=...)"
        host = urllib.parse.urlsplit(base_url).hostname
        if "WRONG_VERSION_NUMBER" in reason:
            text += ": this server speaks http, not https"
        elif host in ("127.0.0.1", "localhost", "::1"):
            text += ". If this is a sandbox, start it again: it ends with the process that started it"
        proxy = proxies.describe_proxy(*_scheme_and_host(base_url))
        return APIConnectionError(
            text + (f", and the proxy that the environment names ({proxy})" if proxy else ""), may_retry=True
        )
    if "TransportError" in names:
        return APIConnectionError(f"the connection to {base_url} was lost ({reason})", may_retry=not answered)
    if names & {"TooManyRedirects", "InvalidURL"} or isinstance(error, UnicodeError):
        # httpx looks at a redirect's target even if it does not follow it.
        return InvalidResponseError(f"{base_url} redirects to an invalid URL, or too often; check the URL")
    if "DecodingError" in names:
        return InvalidResponseError(f"the response of {base_url} is not compressed as its Content-Encoding says")
    return None


def _timeout_error(base_url: str, timeout: float) -> APITimeoutError:
    return APITimeoutError(f"no answer from {base_url} within {timeout:g} s; allow more with timeout=...")


def _proxy(base_url: str) -> str:
    found = proxies.describe_proxy(*_scheme_and_host(base_url))
    return f"the proxy {found}" if found else "the proxy"


def _scheme_and_host(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or ""


def is_untrusted(error: BaseException | None) -> bool:
    """Return whether a certificate that failed verification is behind `error`."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in error_chain(error))


def _untrusted(base_url: str, reason: str) -> str:
    text = (
        f"the certificate of {base_url} is not trusted ({reason}); if your network or server has its own certificate "
        "authority, let the environment variable SSL_CERT_FILE name a PEM file with its certificate"
    )
    return text + (" (REQUESTS_CA_BUNDLE is not read)" if os.environ.get("REQUESTS_CA_BUNDLE") else "")
