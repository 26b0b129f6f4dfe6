"""Prediction Guard's document extraction as a LangChain loader and blob parser."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal, Unpack

from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from langchain_predictionguard.clients import ConnectionOptions, new_clients
from langchain_predictionguard.errors import langchain_errors
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.api.documents import DEFAULT_MAX_BYTES, ExtractedDocument, ExtractRequest
from predictionguard_core.errors import ContentError

Source = str | os.PathLike[str] | bytes | Blob


class PredictionGuardBlobParser(BaseBlobParser):
    """Extract the text of documents: PDFs, office files, scanned pages.

    Args:
        output_format: "markdown" or "text".
        chunk_size: Split the text into chunks of this size. Where the service returns chunks, each becomes a
            `Document` of its own, with its number under `chunk` in the metadata.
        ocr: Whether to recognise the text of images. None: the service decides.
        input_checks: `pii`, `pii_replace_method`, `entity_list` and `block_prompt_injection`, for the extracted text.
            Images in a document are not checked beyond the text that OCR finds in them.
        output_checks: `toxicity`, for the extracted text.
        max_bytes: Largest document that is sent.
        connection: `api_key`, `base_url`, `timeout`, `max_retries`, `default_headers`, `http_client` and
            `http_async_client`, as in `ChatPredictionGuard`.

    A document's metadata is that of its blob, with `source`, `title` and `word_count` where they are known.

    Raises:
        ConfigurationError: an option is wrong.

    Example:
        >>> from langchain_core.documents.base import Blob
        >>> parser = PredictionGuardBlobParser(input_checks={"pii": "replace"})
        >>> [document] = parser.parse(Blob.from_path("report.pdf"))
        >>> document.metadata
        {'source': 'report.pdf', 'title': 'report.pdf', 'word_count': 3041}
    """

    def __init__(
        self,
        *,
        output_format: Literal["markdown", "text"] | None = "markdown",
        chunk_size: int | None = None,
        ocr: bool | None = None,
        input_checks: InputChecks | dict[str, Any] | None = None,
        output_checks: OutputChecks | dict[str, Any] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        self._options: dict[str, Any] = {
            "output_format": output_format,
            "chunk_size": chunk_size,
            "ocr": ocr,
            "input_checks": input_checks,
            "output_checks": output_checks,
            "max_bytes": max_bytes,
        }
        with langchain_errors():
            ExtractRequest(**self._options)
        self._client, self._async_client = new_clients(connection, PredictionGuardBlobParser)

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """Extract the text of a document and yield it.

        Raises:
            ContentError: the document is missing, empty or larger than `max_bytes`. Nothing was sent.
            CheckFailedError: the extracted text failed a check.
        """
        file, name = _file(blob)
        with langchain_errors():
            extracted = self._client.extract(file, filename=name, **self._options)
        yield from _documents(extracted, blob)

    async def alazy_parse(self, blob: Blob) -> AsyncIterator[Document]:
        """Async version of `lazy_parse`."""
        file, name = _file(blob)
        with langchain_errors():
            extracted = await self._async_client.extract(file, filename=name, **self._options)
        for document in _documents(extracted, blob):
            yield document


class PredictionGuardLoader(BaseLoader):
    """Load the text of documents: PDFs, office files, scanned pages.

    Args:
        file: A path, bytes, a `Blob`, or a list of these. They are read and sent one after the other, when `lazy_load`
            gets to them.
        options: Those of `PredictionGuardBlobParser`.

    Raises:
        ConfigurationError: an option is wrong.
        ContentError: `file` is none of these.

    Example:
        >>> loader = PredictionGuardLoader("report.pdf", input_checks={"block_prompt_injection": True})
        >>> [document] = loader.load()
        >>> document.page_content
        '## Report'
    """

    def __init__(self, file: Source | list[Source], **options: Any) -> None:
        with langchain_errors():
            self._blobs = [_blob(each) for each in (file if isinstance(file, list) else [file])]
        self._parser = PredictionGuardBlobParser(**options)

    def lazy_load(self) -> Iterator[Document]:
        """Yield the documents. Raises as `PredictionGuardBlobParser.lazy_parse` does."""
        for blob in self._blobs:
            yield from self._parser.lazy_parse(blob)

    async def alazy_load(self) -> AsyncIterator[Document]:
        """Async version of `lazy_load`."""
        for blob in self._blobs:
            async for document in self._parser.alazy_parse(blob):
                yield document


def _blob(file: Source) -> Blob:
    if isinstance(file, Blob):
        return file
    if isinstance(file, str | os.PathLike):
        return Blob.from_path(Path(file))
    if isinstance(file, bytes | bytearray | memoryview):
        return Blob.from_data(bytes(file))
    raise ContentError(f"file: expected a path, bytes or a Blob, got {type(file).__name__}. Pass the file's bytes")


def _file(blob: Blob) -> tuple[Any, str | None]:
    """Return what the core's client reads, and the document's name."""
    name = os.path.basename(blob.path) if blob.path else None
    if blob.data is None:
        return blob.path, name
    return blob.as_bytes(), name


def _documents(extracted: ExtractedDocument, blob: Blob) -> Iterator[Document]:
    metadata = {**blob.metadata}
    if blob.source is not None:
        metadata["source"] = blob.source
    metadata |= {"title": extracted.title} if extracted.title else {}
    metadata |= {"word_count": extracted.count} if extracted.count is not None else {}
    if not extracted.chunks:
        yield Document(extracted.contents, metadata=metadata)
    for number, chunk in enumerate(extracted.chunks):
        yield Document(chunk, metadata={**metadata, "chunk": number})
