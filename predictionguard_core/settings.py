"""API key, base URL, timeout, retries: the argument, else the environment, else the default."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import SecretStr

from predictionguard_core.errors import ConfigurationError

API_KEY_VARIABLE = "PREDICTIONGUARD_API_KEY"
URL_VARIABLE = "PREDICTIONGUARD_URL"
DEFAULT_URL = "https://api.predictionguard.com"
DEFAULT_TIMEOUT = 120.0
DEFAULT_MAX_RETRIES = 2

ApiKey = str | SecretStr | Callable[[], str] | Callable[[], Awaitable[str]] | None
"""An API key, or a function that returns it. Async clients take an async function, too."""

_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/rerank", "/models", "/tokenize", "/detokenize")
_HOST = re.compile(r"[a-z0-9._~:-]*", re.IGNORECASE)  # a name, or an IP address without its brackets
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_FRAMING = ("content-length", "transfer-encoding", "host", "connection")
_SHORT_HOST = re.compile(r"localhost(:\d{1,5})?|([a-z0-9-]{1,30}\.){1,4}[a-z0-9-]{1,10}(:\d{1,5})?")
_MAX_SHOWN = 30  # a secret value in the place of a name is longer
_MAX_TIMEOUT = 1e9  # a socket takes no more than some 290 years


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Where requests go and how long they may take. `timeout` is in seconds; `base_url` has no slash at its end."""

    api_key: SecretStr | Callable[[], Any]
    base_url: str
    timeout: float
    max_retries: int


def resolve_settings(
    api_key: ApiKey = None,
    base_url: str | None = None,
    *,
    timeout: float | None = None,
    max_retries: int | None = None,
) -> Settings:
    """Return the settings. Raises `ConfigurationError`, with the remedy, for a missing key or an invalid value."""
    return Settings(
        api_key=api_key if callable(api_key) else check_api_key(api_key or os.environ.get(API_KEY_VARIABLE)),
        base_url=_check_url(base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL),
        timeout=_check_timeout(DEFAULT_TIMEOUT if timeout is None else timeout),
        max_retries=_check_max_retries(DEFAULT_MAX_RETRIES if max_retries is None else max_retries),
    )


def check_api_key(api_key: Any) -> SecretStr:
    """Return a key that a header can carry. Raises `ConfigurationError`, which never shows the key."""
    text = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if text is not None and not isinstance(text, str):
        raise ConfigurationError(f"api_key must be a string or a function that returns one, got {type(text).__name__}")
    text = (text or "").strip()
    if not text:
        raise ConfigurationError(
            f"no API key: set {API_KEY_VARIABLE} or pass api_key=... To try without a key, call "
            "predictionguard_core.sandbox.use_if_no_key(), or start `python -m predictionguard_core.sandbox`"
        )
    if not text.strip(".") or text == "your-api-key":  # pasted from the documentation
        raise ConfigurationError(
            f"the API key is the placeholder {text[:12]!r}; set {API_KEY_VARIABLE} to your own key, or unset it to use "
            "the sandbox (use_if_no_key)"
        )
    if not text.strip("*"):
        raise ConfigurationError(f"the API key is a string of asterisks, as dumps show it; set {API_KEY_VARIABLE}")
    if text[:7].lower() == "bearer " or (text[0] == text[-1] and text[0] in "'\""):
        raise ConfigurationError(
            f"the API key holds more than the key; set {API_KEY_VARIABLE} without quotes or 'Bearer'"
        )
    if not text.isascii() or not text.isprintable():
        raise ConfigurationError(
            "the API key holds a character that a header can't carry: check that you copied the complete key and "
            "nothing else"
        )
    return SecretStr(text)


def check_headers(headers: Mapping[str, str] | None, argument: str) -> dict[str, str]:
    """Return a copy of headers. Raises `ConfigurationError`, which shows no value, for a header that can't be sent."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"{argument} must be a dict of strings, got {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            shown = repr(name) if len(str(name)) <= _MAX_SHOWN else f"a text of {len(str(name))} characters"
            raise ConfigurationError(f"{argument}: {shown} is not a valid header name; the dict is {{name: value}}")
        if name.lower() in _FRAMING:
            raise ConfigurationError(f"{argument}: {name} is set by the client; leave it out")
        if not isinstance(value, str):
            raise ConfigurationError(f"{argument}: the value of {name} must be a string, got {type(value).__name__}")
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"{argument}: the value of {name} holds a character that a header can't carry")
    return dict(headers)


def _check_url(text: str) -> str:
    text = text.strip() if isinstance(text, str) else ""
    try:
        url = urllib.parse.urlsplit(text)
        host, port = url.hostname or "", url.port
        if not text.isprintable() or " " in text or not _is_host(host):
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"base_url is not a URL; pass one such as {DEFAULT_URL}") from None
    if url.scheme not in ("http", "https") or not host or not (port is None or 0 < port <= 65535):
        raise ConfigurationError(
            f"base_url needs http:// or https:// and a host, such as {DEFAULT_URL}{_got(text, url)}; check "
            f"{URL_VARIABLE} or base_url"
        )
    if "@" in url.netloc:
        raise ConfigurationError("base_url must not hold a user name or password; pass the key as api_key")
    if url.query or url.fragment:
        raise ConfigurationError("base_url must not have a query or a fragment: leave out ? or # and what follows")
    endpoint = next((each for each in _ENDPOINTS if url.path.rstrip("/").endswith(each)), None)
    if endpoint:
        raise ConfigurationError(f"base_url ends with {endpoint}, which each call adds itself; leave it out")
    return f"{url.scheme}://{url.netloc.lower()}{url.path}".rstrip("/")


def _got(text: str, url: urllib.parse.SplitResult) -> str:
    # Only what is surely a host: a password or a key in the wrong place is in no error.
    if url.netloc:
        return f", got {url.scheme}://{url.netloc}" if _SHORT_HOST.fullmatch(url.netloc) else ""
    return f", got {text}" if _SHORT_HOST.fullmatch(text.partition("/")[0]) and len(text) <= 60 else ""


def _is_host(text: str) -> bool:
    if text.isascii():
        return _HOST.fullmatch(text) is not None
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _check_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_TIMEOUT:
        raise ConfigurationError(
            f"timeout must be a number of seconds above 0 and up to {_MAX_TIMEOUT:g}, got {_shown(timeout)}"
        )
    return float(timeout)


def _check_max_retries(max_retries: int) -> int:
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        raise ConfigurationError(f"max_retries must be an integer of at least 0, got {_shown(max_retries)}")
    return max_retries


def _shown(value: object) -> str:
    return str(value)[:30] if isinstance(value, int | float) else type(value).__name__  # not a key in the wrong place


def check_max_concurrency(max_concurrency: int) -> int:
    """Return the number, or raise `ConfigurationError`."""
    if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
        raise ConfigurationError(f"max_concurrency must be an integer of at least 1, got {_shown(max_concurrency)}")
    return max_concurrency


def check_http_client(client: Any, class_name: str, argument: str) -> None:
    """Raise `ConfigurationError` unless `client` is None or of the class of that name in httpx or httpx2."""
    if client is None:
        return
    # Neither is imported here: a caller with a client of a module has imported the module.
    modules = [module for name in ("httpx", "httpx2") if (module := sys.modules.get(name)) is not None]
    if not any(isinstance(client, getattr(module, class_name)) for module in modules):
        got = f"{type(client).__module__}.{type(client).__qualname__}"
        raise ConfigurationError(f"{argument} must be an httpx.{class_name} or httpx2.{class_name}, got {got}")
