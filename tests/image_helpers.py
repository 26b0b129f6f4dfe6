"""What tests of images share: a fake public network, and PDFs made of images."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from predictionguard_core.images import download, url_guard


def serve_publicly(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Make every public host serve `body`: host names resolve to a public IP address, and GET is faked.

    The checks of URLs and IP addresses stay in force; only the network is replaced.
    """

    def resolve(step: url_guard.Resolve) -> list[str]:
        return ["93.184.215.14"]

    def get(step: url_guard.Get) -> url_guard.Got:
        return url_guard.Got(200, body=body)

    async def async_resolve(step: url_guard.Resolve) -> list[str]:
        return resolve(step)

    async def async_get(step: url_guard.Get) -> url_guard.Got:
        return get(step)

    monkeypatch.setattr(download, "_resolve", resolve)
    monkeypatch.setattr(download, "_get", get)
    monkeypatch.setattr(download, "_async_resolve", async_resolve)
    monkeypatch.setattr(download, "_async_get", async_get)


def pdf(*pages: Image.Image) -> bytes:
    """Return a PDF with one of these images per page, at 72 pixels per inch."""
    out = BytesIO()
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return out.getvalue()
