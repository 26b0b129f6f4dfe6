"""A PDF in, its pages as pictures out: the only room that reads PDF (pypdfium2, the `pdf` extra).

A page becomes a JPEG, at `ImagePolicy.pdf_dpi` dots an inch or as many as `max_edge` leaves it, in the order of the
document.
"""

from __future__ import annotations

import importlib.util
import threading
from io import BytesIO
from typing import Any

from predictionguard_core.errors import ImageFormatError, ImageTooLargeError, UnsupportedContentError
from predictionguard_core.images.policy import ImagePolicy

_POINTS_PER_INCH = 72  # ISO 32000-1, 8.3.2.3
_QUALITY = 92
_LONGEST_EDGE = 65_500  # libjpeg's

# PDFium keeps state of the whole process and takes one thread at a time.
_lock = threading.Lock()


def available() -> bool:
    """Whether what reads PDF is installed. Imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ("pypdfium2", "PIL"))


def render(data: bytes, policy: ImagePolicy) -> list[bytes]:
    """The pages as JPEGs.

    Raises `UnsupportedContentError` without the extra, `ImageTooLargeError` for more pages than `policy.max_pages` or a
    page of more pixels than `policy.max_pixels`, and `ImageFormatError` for what can't be read.
    """
    if not available():
        raise UnsupportedContentError(
            'a PDF is sent as pictures of its pages, which takes: pip install "predictionguard-integrations[pdf]"'
        )
    import pypdfium2

    with _lock:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError:
            raise ImageFormatError("the PDF is damaged, or needs a password") from None
        try:
            if len(document) > policy.max_pages:
                raise ImageTooLargeError(
                    f"the PDF has {len(document)} pages, the policy allows {policy.max_pages} (ImagePolicy.max_pages)"
                )
            return [_rendered(document, number, policy) for number in range(len(document))]
        except pypdfium2.PdfiumError:
            raise ImageFormatError("the PDF is damaged") from None
        finally:
            document.close()


def _rendered(document: Any, number: int, policy: ImagePolicy) -> bytes:
    page = document[number]
    width, height = page.get_size()
    scale = policy.pdf_dpi / _POINTS_PER_INCH
    if policy.max_edge is not None:
        scale = min(scale, policy.max_edge / max(width, height, 1))
    if max(width, height) * scale > _LONGEST_EDGE:
        raise ImageTooLargeError(
            f"page {number + 1} of the PDF has an edge of {round(max(width, height) * scale):,} pixels, a JPEG has at "
            f"most {_LONGEST_EDGE:,} (ImagePolicy.max_edge, pdf_dpi)"
        )
    pixels = round(width * scale) * round(height * scale)
    if pixels > policy.max_pixels:
        raise ImageTooLargeError(
            f"page {number + 1} of the PDF has {pixels:,} pixels at {policy.pdf_dpi} dpi, the policy allows "
            f"{policy.max_pixels:,} (ImagePolicy.max_pixels, pdf_dpi)"
        )
    bitmap = page.render(scale=scale)
    out = BytesIO()
    try:
        bitmap.to_pil().convert("RGB").save(out, "JPEG", quality=_QUALITY, subsampling=0)
    except (OSError, ValueError, MemoryError):
        raise ImageFormatError(f"page {number + 1} of the PDF can't be drawn") from None
    bitmap.close()
    page.close()
    return out.getvalue()
