"""Stand-ins for what loopback does not have."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from predictionguard_core.images import download, url_guard


def public_photo(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Have every public host serve `body`: names get a public address, and the dial to it is answered here.

    All that judges addresses is still in force; only the network behind it is not there.
    """

    def resolved(step: url_guard.Resolve) -> list[str]:
        return ["93.184.215.14"]

    def got(step: url_guard.Get) -> url_guard.Got:
        return url_guard.Got(200, body=body)

    async def async_resolved(step: url_guard.Resolve) -> list[str]:
        return resolved(step)

    async def async_got(step: url_guard.Get) -> url_guard.Got:
        return got(step)

    monkeypatch.setattr(download, "_resolve", resolved)
    monkeypatch.setattr(download, "_get", got)
    monkeypatch.setattr(download, "_async_resolve", async_resolved)
    monkeypatch.setattr(download, "_async_get", async_got)


def pdf(*pages: Image.Image) -> bytes:
    """A PDF of these pictures, one a page, each at 72 pixels an inch."""
    out = BytesIO()
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return out.getvalue()
