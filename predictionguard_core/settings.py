"""Key, address, timeout, retries: the argument, else the environment, else the default. No network, ever."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import urllib.parse
from typing import Any

from pydantic import SecretStr

from predictionguard_core.errors import ConfigurationError

API_KEY_VARIABLE = "PREDICTIONGUARD_API_KEY"
URL_VARIABLE = "PREDICTIONGUARD_URL"
DEFAULT_URL = "https://api.predictionguard.com"
DEFAULT_TIMEOUT = 120.0
DEFAULT_MAX_RETRIES = 2

_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/rerank", "/models", "/tokenize", "/detokenize")
_HOST = re.compile(r"[a-z0-9._~:-]*", re.IGNORECASE)  # a name, or an address of either kind without its brackets
_LONGEST_TIMEOUT = 1e9  # a socket takes no more than some 290 years


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Where calls go and how long they may take. `timeout` is in seconds; `base_url` has no slash at its end."""

    api_key: SecretStr
    base_url: str
    timeout: float
    max_retries: int


def resolve_settings(
    api_key: str | SecretStr | None = None,
    base_url: str | None = None,
    *,
    timeout: float | None = None,
    max_retries: int | None = None,
) -> Settings:
    """Read the settings. Raises `ConfigurationError`, with the remedy, for what is missing or can't work."""
    return Settings(
        api_key=_key(api_key),
        base_url=_address(base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL),
        timeout=_seconds(DEFAULT_TIMEOUT if timeout is None else timeout),
        max_retries=_count(DEFAULT_MAX_RETRIES if max_retries is None else max_retries),
    )


def _key(given: str | SecretStr | None) -> SecretStr:
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    if text is not None and not isinstance(text, str):
        raise ConfigurationError(f"api_key: give text, not {type(text).__name__}")
    text = (text or os.environ.get(API_KEY_VARIABLE) or "").strip()
    if not text:
        raise ConfigurationError(
            f"no API key: set {API_KEY_VARIABLE} or pass api_key=... (to try without one, start "
            "`python -m predictionguard_core.sandbox` and set what it prints)"
        )
    if not text.strip("*"):
        raise ConfigurationError(f"the API key is a row of asterisks, as a dump shows it; set {API_KEY_VARIABLE}")
    if text[:7].lower() == "bearer " or (text[0] == text[-1] and text[0] in "'\""):
        raise ConfigurationError(
            f"the API key holds more than the key; set {API_KEY_VARIABLE} without quotes or 'Bearer'"
        )
    if not text.isascii() or not text.isprintable():
        raise ConfigurationError(
            "the API key holds a character that a header can't carry: is it whole, and only the key?"
        )
    return SecretStr(text)


def _address(text: str) -> str:
    # By hand, not by httpx: a model is made where httpx may never be needed.
    text = text.strip() if isinstance(text, str) else ""
    try:
        url = urllib.parse.urlsplit(text)
        host, port = url.hostname or "", url.port
        if not text.isprintable() or " " in text or not _is_host(host):
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"the address is no URL; give one such as {DEFAULT_URL}") from None
    if url.scheme not in ("http", "https") or not host or not (port is None or 0 < port <= 65535):
        raise ConfigurationError(
            f"the address needs http:// or https:// and a host, such as {DEFAULT_URL}; check {URL_VARIABLE} or base_url"
        )
    if "@" in url.netloc:
        raise ConfigurationError("the address must not hold a user name or password; the key is given by itself")
    if url.query or url.fragment:
        raise ConfigurationError("the address must end with its path: no ? or #")
    path = url.path.rstrip("/")
    endpoint = next((each for each in _ENDPOINTS if path.endswith(each)), None)
    if endpoint:
        raise ConfigurationError(f"the address ends with {endpoint}, which each call adds by itself; leave it off")
    return f"{url.scheme}://{url.netloc.lower()}{url.path}".rstrip("/")


def _is_host(text: str) -> bool:
    if text.isascii():
        return _HOST.fullmatch(text) is not None
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _seconds(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST_TIMEOUT:
        raise ConfigurationError(f"timeout: give seconds, a number above 0 and up to {_LONGEST_TIMEOUT:g}")
    return float(timeout)


def _count(max_retries: int) -> int:
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        raise ConfigurationError("max_retries: give a whole number, 0 or more")
    return max_retries


def check_http_client(client: Any, class_name: str, argument: str) -> None:
    """Raise `ConfigurationError` unless `client` is None or of the class of that name in httpx or httpx2."""
    if client is None:
        return
    # Without importing them: who has a client of a module has imported it.
    modules = [module for name in ("httpx", "httpx2") if (module := sys.modules.get(name)) is not None]
    if not any(isinstance(client, getattr(module, class_name)) for module in modules):
        got = f"{type(client).__module__}.{type(client).__qualname__}"
        raise ConfigurationError(f"{argument} must be an httpx.{class_name} or httpx2.{class_name}, got {got}")
