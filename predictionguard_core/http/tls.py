"""The TLS context of all connections, and what is wrong with the environment's certificates."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import ssl
import threading
from pathlib import Path

import httpx

from predictionguard_core.errors import ConfigurationError

# The name under which OpenSSL looks a certificate up in a directory.
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")


class _Cache:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.context: ssl.SSLContext | None = None


_cache = _Cache()


def reset() -> None:
    """Forget the context: in a child process, another thread of the parent may have held its lock."""
    global _cache
    _cache = _Cache()


def tls_context() -> ssl.SSLContext:
    """Return the process's TLS context. Making it reads every root certificate, which takes longer than a call."""
    with _cache.lock:
        if _cache.context is None:
            _cache.context = _new_context()
        return _cache.context


async def async_tls_context() -> ssl.SSLContext:
    """Return the process's TLS context, made off the event loop."""
    return _cache.context if _cache.context is not None else await asyncio.to_thread(tls_context)


def import_anyio() -> None:
    """Import what httpcore would import on the event loop at the first connection."""
    for name in ("anyio.abc", "anyio.streams.tls", "anyio._backends._asyncio"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _new_context() -> ssl.SSLContext:
    # The same variables in the same order as in httpx. OpenSSL itself ignores a directory that it can't use.
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    variable, path = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
    if not path:
        return httpx.create_ssl_context()
    try:
        if not file:
            _check_folders(path)
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, ssl.SSLError):
            reason = "no certificate in PEM format"
        raise ConfigurationError(
            f"the environment variable {variable} names {path}, which can't be used ({reason}); let it name "
            f"{'a PEM file with' if file else 'a folder of hashed'} certificates, or unset it"
        ) from None


def _check_folders(path: str) -> None:
    names = [each.name for folder in path.split(os.pathsep) for each in Path(folder).iterdir()]
    if not any(map(_HASHED_NAME.fullmatch, names)):
        raise ValueError("no certificate under a hashed name, as `openssl rehash` makes them")
