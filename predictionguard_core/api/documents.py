"""`POST /documents/extract`: a document as a multipart form, checks in headers, its text back.

Source: the API's OpenAPI specification, version 1.2. It does not say in which form chunks come back: `contents` is read
as text and as a list of texts.
"""

from __future__ import annotations

import io
import mimetypes
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from predictionguard_core.api.base import RequestModel, ResponseModel
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.errors import ConfigurationError, ContentError
from predictionguard_core.file_objects import FileObjectError, read_file_object

DocumentSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

DEFAULT_MAX_BYTES = 100 * 1024 * 1024
"""Larger documents are refused before anything is sent, unless `max_bytes` says otherwise."""

_CHUNK_SIZE = 256 * 1024
_LONGEST_NAME = 80
_CHANGED = "the document {name!r} changed while it was sent: it had {size:,} bytes. Write it completely first"


class ExtractRequest(RequestModel):
    """Options of an extraction, without the document itself."""

    output_format: Literal["markdown", "text"] | None = "markdown"
    chunk_size: int | None = Field(default=None, ge=1)
    ocr: bool | None = None
    input_checks: InputChecks | None = None
    output_checks: OutputChecks | None = None
    max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)
    filename: str | None = None

    def model_post_init(self, context: Any, /) -> None:
        if self.output_checks is not None and self.output_checks.factuality:
            raise ConfigurationError(
                "output_checks: factuality can't be checked for documents; use check_factuality(reference, text)"
            )
        for name in (self.input_checks.entity_list or []) if self.input_checks is not None else []:
            if not name.isascii() or not name.isprintable() or "," in name:  # they are sent in one header
                raise ConfigurationError(
                    f'input_checks: entity_list holds {name[:60]!r}, expected names like "PHONE_NUMBER"'
                )

    @property
    def fields(self) -> dict[str, str]:
        """The text fields of the form, without options that are not set."""
        fields: dict[str, str] = {}
        if self.output_format is not None:
            fields["outputFormat"] = self.output_format
        if self.chunk_size is not None:
            fields |= {"chunkDocument": "true", "chunkSize": str(self.chunk_size)}
        if self.ocr is not None:
            fields["enableOCR"] = "true" if self.ocr else "false"
        return fields

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for checks of the extracted text."""
        headers: dict[str, str] = {}
        if (checks := self.input_checks) is not None:
            if checks.pii is not None:
                headers["Pii"] = checks.pii
            if checks.pii_replace_method is not None:
                headers["Replace-Method"] = checks.pii_replace_method
            if checks.entity_list:
                headers["Entity-List"] = ",".join(checks.entity_list)
            if checks.block_prompt_injection is not None:
                headers["Injection"] = "true" if checks.block_prompt_injection else "false"
        if self.output_checks is not None and self.output_checks.toxicity is not None:
            headers["Toxicity"] = "true" if self.output_checks.toxicity else "false"
        return headers


class ExtractedDocument(ResponseModel):
    """The text of a document.

    Attributes:
        title: The document's title; the service gives the file's name.
        contents: The text, as markdown or plain text.
        count: Number of words, as the service counts them.
        chunks: The text in parts, if the service returns it in parts; else empty.
    """

    model_config = ConfigDict(frozen=True)

    title: str = ""
    contents: str
    count: int | None = None
    chunks: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _contents_from_chunks(cls, data: Any) -> Any:
        contents = data.get("contents") if isinstance(data, dict) else None
        if isinstance(contents, list) and all(isinstance(chunk, str) for chunk in contents):
            return {**data, "contents": "\n\n".join(contents), "chunks": contents}
        return data


class DocumentFile:
    """A document that can be sent, and sent again after a failure. It is read while it is sent.

    Use `DocumentFile.open`. Raises `ContentError` while it is read if the file can't be read or has changed its size.
    """

    def __init__(self, name: str, length: int, opened: Callable[[], IO[bytes]], *, is_file: bool) -> None:
        self.name = name
        self.length = length
        self.is_file = is_file
        self._opened = opened

    @classmethod
    def open(cls, file: Any, max_bytes: int = DEFAULT_MAX_BYTES, name: str | None = None) -> DocumentFile:
        """Check a document and return it ready to be sent.

        Args:
            file: A path (`pathlib.Path` or string), bytes, or a file object that is open for reading in binary mode.
                A file object is read from its current position.
            max_bytes: Largest size that is accepted.
            name: The file's name for the service. Default: that of the file.

        Raises:
            ContentError: the file is missing, empty, larger than `max_bytes`, or no regular file.
        """
        if isinstance(file, bytes | bytearray | memoryview):
            return cls._from_bytes(name or "document", bytes(file), max_bytes)
        if isinstance(file, str | os.PathLike):
            return cls._from_path(name, Path(file), max_bytes)
        if callable(getattr(file, "read", None)):
            return cls._from_file_object(name, file, max_bytes)
        raise ContentError(
            f"file: expected a path, bytes or an open binary file, got {type(file).__name__}. "
            "Pass pathlib.Path(...) or the file's bytes"
        )

    @classmethod
    def _from_bytes(cls, name: str, data: bytes, max_bytes: int) -> DocumentFile:
        _check_size(name, len(data), max_bytes)
        return cls(name, len(data), lambda: io.BytesIO(data), is_file=False)

    @classmethod
    def _from_path(cls, name: str | None, path: Path, max_bytes: int) -> DocumentFile:
        shown = path.name[:_LONGEST_NAME]
        if str(path).startswith(("http:/", "https:/")):
            raise ContentError("file: a URL is not downloaded. Download the document and pass its bytes")
        try:
            facts = path.stat()
        except (OSError, ValueError) as error:
            raise ContentError(f"file: can't read {shown!r}: {_reason(error)}. Check the path") from None
        if not stat.S_ISREG(facts.st_mode):
            raise ContentError(f"file: {shown!r} is not a regular file. Pass the path of one document")
        _check_size(shown, facts.st_size, max_bytes)
        return cls(name or path.name, facts.st_size, lambda: path.open("rb"), is_file=True)

    @classmethod
    def _from_file_object(cls, name: str | None, file: Any, max_bytes: int) -> DocumentFile:
        path = getattr(file, "name", None)
        name = name or (os.path.basename(path) if isinstance(path, str) else "") or "document"
        try:
            # Read at once, so that two calls or a retry never share the position of one file object.
            data = read_file_object(file, max_bytes)
        except FileObjectError as error:
            raise ContentError(f"file: can't read {name[:_LONGEST_NAME]!r}: {error}") from None
        return cls._from_bytes(name, data, max_bytes)

    def pieces(self, size: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of the document, at most `size` at a time."""
        left = self.length
        try:
            with self._opened() as file:
                while chunk := file.read(size or _CHUNK_SIZE):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except OSError as error:
            raise ContentError(f"file: can't read {self.name[:_LONGEST_NAME]!r}: {_reason(error)}") from None
        if left:
            raise ContentError("file: " + _CHANGED.format(name=self.name[:_LONGEST_NAME], size=self.length))

    def __repr__(self) -> str:
        return f"document({self.length} bytes)"


class Form:
    """The parts of a `multipart/form-data` body (RFC 7578) around one document."""

    def __init__(self, document: DocumentFile, fields: dict[str, str]) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        # The quoting of WHATWG's form encoding, which servers expect.
        name = document.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {_media_type(document.name)}\r\n\r\n"
        )
        self.parts: list[bytes | DocumentFile] = [
            head.encode("utf-8", "replace"),
            document,
            f"\r\n--{boundary}--\r\n".encode(),
        ]


def _media_type(name: str) -> str:
    # Of the suffix alone: `guess_type` takes a name that starts with "data:" for a URL, and returns what stands in it.
    return mimetypes.guess_type(f"document{Path(name).suffix}")[0] or "application/octet-stream"


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise ContentError(f"file: {name!r} is empty. Pass a document with content")
    if size > max_bytes:
        known = f"{size:,} bytes" if size != max_bytes + 1 else f"at least {size:,} bytes"
        raise ContentError(f"file: {name!r} has {known}, at most {max_bytes:,} are allowed. Raise max_bytes")


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not a valid path"
