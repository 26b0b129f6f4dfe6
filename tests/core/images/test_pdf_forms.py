"""Filled PDF forms: what was filled in is in the image (pypdfium2 #311)."""

from __future__ import annotations

import pytest

from predictionguard_core import ImagePolicy
from tests.core.images.samples import prepared

Pillow = pytest.importorskip("PIL.Image")
pytest.importorskip("pypdfium2")

LOOK = "<< /Type /XObject /Subtype /Form /BBox [0 0 200 40] /Length 32 >> stream\n"
LOOK += "0 0 0 rg 10 10 100 20 re f      \nendstream"
BOX = "/Type /Annot /Subtype /Widget /Rect [20 20 220 60] /F 4 /P 3 0 R"
TEXT = "/DA (/Helv 24 Tf 0 g)"
FIELDS = {
    "text field": f"{BOX} /FT /Tx /T (a) /V (WWWWWW) {TEXT} /AP << /N 6 0 R >>",
    "text field without an appearance": f"{BOX} /FT /Tx /T (a) /V (WWWWWW) {TEXT}",
    "choice": f"{BOX} /FT /Ch /Ff 131072 /T (a) /Opt [(WWWWWW) (no)] /V (WWWWWW) {TEXT} /AP << /N 6 0 R >>",
    "choice without an appearance": f"{BOX} /FT /Ch /Ff 131072 /T (a) /Opt [(WWWWWW) (no)] /V (WWWWWW) {TEXT}",
    "ticked box": f"{BOX} /FT /Btn /T (a) /V /Yes /AS /Yes /AP << /N << /Yes 6 0 R >> >>",
    "signature": f"{BOX} /FT /Sig /T (a) /V << /Type /Sig >> /AP << /N 6 0 R >>",
}


def form(field: str, rotated: int = 0, entries: str = "/Fields [4 0 R]") -> bytes:
    """Return a PDF with a page that has nothing but a form field; an empty one if `field` is empty."""
    fonts = "/Font << /Helv 5 0 R >>"
    bodies = [
        f"<< /Type /Catalog /Pages 2 0 R /AcroForm << {entries} /DA (/Helv 24 Tf 0 g) /DR << {fonts} >> >> >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Rotate {rotated} /Annots [4 0 R] "
        f"/Resources << {fonts} >> >>",
        f"<< {field or BOX + ' /FT /Tx /T (a)'} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        LOOK,
    ]
    out, offsets = "%PDF-1.7\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj {body} endobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    out += f"xref\n0 7\n0000000000 65535 f \n{table}trailer << /Size 7 /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF"
    return out.encode()


def ink(data: bytes) -> int:
    """Return the number of dark pixels of the only page."""
    (image,) = prepared(data, ImagePolicy(pdf_dpi=72))
    return sum(image.to_pil().convert("L").histogram()[:128])


@pytest.mark.parametrize("rotated", [0, 90])
@pytest.mark.parametrize("name", FIELDS)
def test_what_was_filled_in_is_in_the_image(name: str, rotated: int) -> None:
    assert ink(form("", rotated)) == 0
    assert ink(form(FIELDS[name], rotated)) > 500


@pytest.mark.parametrize("entries", ["/Fields 7", "/Fields [4 0 R 9 0 R null]", "/Fields [4 0 R] /XFA 6 0 R", ""])
def test_a_form_that_is_damaged_does_not_lose_the_page(entries: str) -> None:
    (image,) = prepared(form(FIELDS["text field"], entries=entries), ImagePolicy(pdf_dpi=72))
    assert image.size == (300, 100)


def test_a_form_that_can_not_be_set_up_does_not_lose_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    from predictionguard_core.images.pdf import render

    def fail(self: object) -> None:
        raise pypdfium2.PdfiumError("no form")

    monkeypatch.setattr(pypdfium2.PdfDocument, "init_forms", fail)
    (page,) = render(form(FIELDS["text field"]), max_pages=1, max_pixels=10**6, max_edge=None, dpi=72)
    assert (page.width, page.height) == (300, 100)
