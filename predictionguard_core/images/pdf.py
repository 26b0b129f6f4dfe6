"""Render the pages of a PDF as JPEGs (pypdfium2, the `pdf` extra), forms filled in.

`render` runs in a child process (see `decoder`): PDFium can take any amount of memory and time for a small file.
"""

from __future__ import annotations

import contextlib
import importlib.util
from io import BytesIO
from typing import Any

from predictionguard_core.errors import ImageFormatError, ImageTooLargeError, UnsupportedContentError
from predictionguard_core.images.convert import Converted

_POINTS_PER_INCH = 72  # ISO 32000-1, 8.3.2.3
_QUALITY = 92
_MAX_EDGE = 65_500  # libjpeg's


def is_available() -> bool:
    """Whether the packages that read PDF are installed. Does not import them."""
    return all(importlib.util.find_spec(name) is not None for name in ("pypdfium2", "PIL"))


def require() -> None:
    """Raise `UnsupportedContentError` where the `pdf` extra is missing."""
    if not is_available():
        raise UnsupportedContentError(
            "a PDF is sent as images of its pages, which needs pypdfium2 and Pillow: "
            'pip install "predictionguard-integrations[pdf]"'
        )


def render(data: bytes, *, max_pages: int, max_pixels: int, max_edge: int | None, dpi: int) -> list[Converted]:
    """Return the pages as JPEGs, at `dpi` dots per inch or as many as `max_edge` allows.

    Raises `ImageTooLargeError` for more than `max_pages` pages or a page of more than `max_pixels` pixels, and
    `ImageFormatError` for a file that cannot be read.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError:
        raise ImageFormatError("the PDF is damaged or needs a password: save it again, without one") from None
    try:
        # Before the first page is loaded, or its form fields stay blank (pypdfium2 #311). A form that PDFium cannot
        # set up must not lose the page.
        with contextlib.suppress(pypdfium2.PdfiumError):
            document.init_forms()
        count = len(document)
        if count > max_pages:
            raise ImageTooLargeError(
                f"the PDF has {count:,} pages, the policy allows {max_pages} (ImagePolicy.max_pages)"
            )
        if not count:
            raise ImageFormatError("the PDF has no pages")
        return [_rendered(document, number, max_pixels, max_edge, dpi) for number in range(count)]
    except pypdfium2.PdfiumError:
        raise ImageFormatError("the PDF is damaged: save it again") from None
    finally:
        document.close()


def _rendered(document: Any, number: int, max_pixels: int, max_edge: int | None, dpi: int) -> Converted:
    page = document[number]
    width, height = page.get_size()
    scale = dpi / _POINTS_PER_INCH
    if max_edge is not None:
        scale = min(scale, max_edge / max(width, height, 1))
    if max(width, height) * scale > _MAX_EDGE:
        raise ImageTooLargeError(
            f"page {number + 1} of the PDF has an edge of {round(max(width, height) * scale):,} pixels, a JPEG has at "
            f"most {_MAX_EDGE:,}. Set ImagePolicy(max_edge=...) or a lower pdf_dpi"
        )
    pixels = round(width * scale) * round(height * scale)
    if pixels > max_pixels:
        raise ImageTooLargeError(
            f"page {number + 1} of the PDF has {pixels:,} pixels at {dpi} dpi, the policy allows {max_pixels:,} "
            "(ImagePolicy.max_pixels, pdf_dpi)"
        )
    bitmap = page.render(scale=scale)
    out = BytesIO()
    try:
        image = bitmap.to_pil().convert("RGB")
        image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    except (OSError, ValueError):
        raise ImageFormatError(f"page {number + 1} of the PDF cannot be rendered") from None
    bitmap.close()
    page.close()
    return Converted(out.getvalue(), "image/jpeg", *image.size)
