"""Records blocking calls in the thread of a running event loop: files, name lookups, decoders, hashes of large data."""

from __future__ import annotations

import asyncio
import builtins
import functools
import hashlib
import io
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

import pypdfium2
import pytest
from PIL import Image, ImageFile

LARGE = 4096
"""Number of bytes above which hashing counts as blocking."""

_BLOCKING: tuple[tuple[Any, str], ...] = (
    *((builtins, "open"), (io, "open"), (os, "open"), (os, "read"), (os, "stat"), (os, "lstat"), (os, "listdir")),
    *((socket, "getaddrinfo"), (socket, "gethostbyname"), (socket, "create_connection"), (time, "sleep")),
    *((Image, "open"), (ImageFile.ImageFile, "load"), (Image.Image, "load"), (Image.Image, "resize")),
    *((Image.Image, "transpose"), (Image.Image, "convert"), (Image.Image, "save")),
    *((pypdfium2.PdfDocument, "__init__"), (pypdfium2.PdfPage, "render")),
    (ssl.SSLContext, "load_verify_locations"),
)
_DEPTH = 12
_HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b")


def record(patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects each blocking call in a running loop's thread, with its callers."""
    found: list[str] = []

    def note(what: str) -> None:
        if asyncio._get_running_loop() is None:
            return
        # Without the traceback module, which opens files.
        callers, frame = [], sys._getframe(2)
        while frame is not None and len(callers) < _DEPTH:
            callers.append(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}:{frame.f_lineno}")
            frame = frame.f_back
        if any(each.startswith("linecache.") for each in callers[:3]):
            return  # asyncio's debug mode, which stores where each future was created
        found.append(f"{what} from {' < '.join(callers)}")

    for owner, name in _BLOCKING:
        patch.setattr(owner, name, _noted(getattr(owner, name), f"{owner.__name__}.{name}", note))
    for name in _HASHES:
        patch.setattr(hashlib, name, functools.partial(_Hash, getattr(hashlib, name), note))
    return found


def _noted(real: Any, what: str, note: Callable[[str], None]) -> Any:
    @functools.wraps(real)
    def noted(*args: Any, **kwargs: Any) -> Any:
        note(what)
        return real(*args, **kwargs)

    return noted


class _Hash:
    """A hash that notes updates with large data."""

    def __init__(self, make: Any, note: Callable[[str], None], data: bytes = b"", **more: Any) -> None:
        self._hash = make(**more)
        self._note = note
        self.update(data)

    def update(self, data: Any) -> None:
        if len(data) > LARGE:
            self._note(f"hashlib.{self._hash.name}")
        self._hash.update(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hash, name)
