"""`POST /documents/extract`: the text of an uploaded document, by rules.

A PDF gives its own text layer (read with pypdfium2), plain text and markdown are returned as they are. There is no OCR.
"""

from __future__ import annotations

import email.parser
import ntpath
import threading
from collections.abc import Mapping
from typing import Any

from predictionguard_core.sandbox.checks import rules
from predictionguard_core.sandbox.checks.pii import METHODS
from predictionguard_core.sandbox.checks.rules import Checks
from predictionguard_core.sandbox.responses import MISSING, Response, ServiceError

NO_PDF = 'reading a PDF needs pypdfium2: pip install "predictionguard-integrations[pdf]"'
FORMATS = ("markdown", "text")
_NOTES = {
    "pdf": "Sandbox: the text layer of the PDF. No OCR was run, no image was read, and no AI model was asked.",
    "text": "Sandbox: the file's own text, unchanged. No AI model was asked.",
}
_NOT_CHUNKED = " The document is not split into chunks: the specification does not say how chunks are returned."
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*", b"BM")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "": None, "none": None, "null": None}
_pdfium = threading.Lock()
"""PDFium is not safe to use from several threads at once."""


def parse_form(raw: bytes, content_type: str) -> dict[str, Any]:
    """Return the fields of a `multipart/form-data` body (RFC 7578).

    A text field is a string. A file is a dict with `filename`, `content_type` and `content`.
    """
    boundary = email.parser.HeaderParser().parsestr(f"Content-Type: {content_type}").get_boundary()
    if not boundary:
        raise ServiceError("Content-Type: multipart/form-data needs a boundary")
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    _, *parts = (b"\r\n" + raw).split(delimiter)
    if not parts or not parts[-1].startswith(b"--"):
        raise ServiceError("the multipart request body is malformed: its last boundary is missing")
    fields: dict[str, Any] = {}
    for part in parts[:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        headers = email.parser.HeaderParser().parsestr(head.decode("utf-8", "replace").strip("\r\n"))
        name = headers.get_param("name", header="Content-Disposition")
        if not blank or not isinstance(name, str):
            raise ServiceError("the multipart request body is malformed: a part has no name")
        filename = headers.get_filename()
        if filename is None:
            fields[name] = content.decode("utf-8", "replace")
        else:
            fields[name] = {"filename": filename, "content_type": headers.get("Content-Type"), "content": content}
    return fields


def respond(body: object, headers: Mapping[str, str]) -> Response:
    """Return the text of the `file` in a form; `headers` (names in lower case) ask for checks of that text."""
    if not isinstance(body, dict) or not all(isinstance(value, str | dict) for value in body.values()):
        raise ServiceError("request body: must be multipart/form-data with a field named file")
    upload = body.get("file")
    if not isinstance(upload, dict) or "content" not in upload:
        raise ServiceError(MISSING)
    for name in ("embedImages", "enableOCR"):
        _boolean(name, body.get(name, ""))
    chunked = _boolean("chunkDocument", body.get("chunkDocument", ""))
    size = body.get("chunkSize", "").strip()
    if size and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise ServiceError(f"chunkSize: must be a whole number of at least 1, not {size[:60]!r}")
    if body.get("outputFormat", "") not in ("", *FORMATS):
        raise ServiceError(f"outputFormat: must be one of {', '.join(FORMATS)}")
    wanted = _wanted(headers)
    # Some clients send a path as the name, with either separator.
    title = ntpath.basename(upload["filename"])
    kind, contents = _text(upload["content"], title)
    contents = rules.check_input(contents, wanted)
    rules.check_output(contents, "", wanted)
    note = _NOTES[kind] + (_NOT_CHUNKED if chunked else "")
    return Response(200, {"title": title, "contents": contents, "count": len(contents.split()), "note": note})


def _text(data: bytes, title: str) -> tuple[str, str]:
    if b"%PDF-" in data[:1024]:
        return "pdf", _pdf_text(data)
    if data.startswith(_IMAGES):
        raise ServiceError(f"file: {title!r} is an image, and the sandbox has no OCR")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ServiceError(f"file: {title!r} is neither a PDF nor text in UTF-8; the sandbox extracts nothing else")
    return "text", text


def _pdf_text(data: bytes) -> str:
    try:
        import pypdfium2
    except ImportError:
        raise ServiceError(f"file: {NO_PDF}") from None
    with _pdfium:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            raise ServiceError(f"file: is a PDF that can't be read: {error}") from None
        try:
            texts = []
            for page in document:
                layer = page.get_textpage()
                texts.append(layer.get_text_bounded().replace("\r\n", "\n").strip())
                layer.close()
                page.close()
        except pypdfium2.PdfiumError as error:
            raise ServiceError(f"file: is a PDF that can't be read: {error}") from None
        finally:
            document.close()
    return "\n\n".join(
        text or f"<page {number} has no text layer; the sandbox has no OCR>" for number, text in enumerate(texts, 1)
    )


def _wanted(headers: Mapping[str, str]) -> Checks:
    pii = headers.get("pii", "").strip().lower()
    if pii not in ("", "block", "replace"):
        raise ServiceError("Pii: must be one of block, replace")
    method = headers.get("replace-method", "").strip().lower()
    if method not in ("", *METHODS):
        raise ServiceError(f"Replace-Method: must be one of {', '.join(METHODS)}")
    ignored = headers.get("entity-list", "").strip().strip("[]").split(",")
    return Checks(
        injection=bool(_boolean("Injection", headers.get("injection", ""))),
        pii=pii or None,
        pii_method=method or "random",
        ignored=frozenset(name.strip(" \"'") for name in ignored),
        toxicity=bool(_boolean("Toxicity", headers.get("toxicity", ""))),
    )


def _boolean(name: str, value: object) -> bool | None:
    if not isinstance(value, str) or value.strip().lower() not in _BOOLEANS:
        raise ServiceError(f"{name}: must be true or false")
    return _BOOLEANS[value.strip().lower()]
