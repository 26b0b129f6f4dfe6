"""Prediction Guard's document extraction as a LlamaIndex reader."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import Document
from pydantic import Field

from llama_index_predictionguard.base import InputChecksArgument, OutputChecksArgument, ServiceComponent
from predictionguard_core.api.documents import DEFAULT_MAX_BYTES, ExtractedDocument, ExtractRequest

_OPTIONS = ("output_format", "chunk_size", "ocr", "input_checks", "output_checks", "max_bytes")
Source = str | os.PathLike[str] | bytes


class PredictionGuardReader(ServiceComponent, BasePydanticReader):
    """Read the text of documents: PDFs, office files, scanned pages.

    Args:
        output_format: "markdown" or "text".
        chunk_size: Split the text into chunks of this size. Where the service returns chunks, each becomes a
            `Document` of its own, with its number under `chunk` in the metadata.
        ocr: Whether to recognise the text of images. None: the service decides.
        input_checks: `pii`, `pii_replace_method`, `entity_list` and `block_prompt_injection`, for the extracted text.
            Images in a document are not checked beyond the text that OCR finds in them.
        output_checks: `toxicity`, for the extracted text.
        max_bytes: Largest document that is sent.
        api_key: Default: the environment variable PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment variable PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds for one attempt.
        max_retries: Number of retries after a failed attempt.
        default_headers: Headers of every request.
        http_client, async_http_client: Your own httpx clients.

    In `SimpleDirectoryReader`, pass `raise_on_error=True`: it would otherwise skip a document that fails a check.

    Raises:
        ConfigurationError: an option is wrong.

    Example:
        >>> reader = PredictionGuardReader(input_checks={"pii": "replace"})
        >>> documents = SimpleDirectoryReader(
        ...     "reports", file_extractor={".pdf": reader}, raise_on_error=True
        ... ).load_data()
    """

    is_remote: bool = True
    output_format: Literal["markdown", "text"] | None = "markdown"
    chunk_size: int | None = None
    ocr: bool | None = None
    input_checks: InputChecksArgument | None = None
    output_checks: OutputChecksArgument | None = None
    max_bytes: int = Field(default=DEFAULT_MAX_BYTES)

    def __init__(self, **options: Any) -> None:  # type checkers would derive one from the fields
        super().__init__(**options)
        ExtractRequest(**self._options())

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises this class under."""
        return "PredictionGuardReader"

    def load_data(self, file: Source, extra_info: dict[str, Any] | None = None, fs: Any = None) -> list[Document]:
        """Extract the text of a document.

        Args:
            file: A path, or the bytes of a document.
            extra_info: Metadata of the documents.
            fs: The fsspec file system of the path. Default: the local one.

        Raises:
            ContentError: the document is missing, empty or larger than `max_bytes`. Nothing was sent.
            CheckFailedError: the extracted text failed a check.
        """
        source, name = _opened(file, fs, self.max_bytes)
        return _documents(self._client().extract(source, filename=name, **self._options()), extra_info, name)

    async def aload_data(
        self, file: Source, extra_info: dict[str, Any] | None = None, fs: Any = None
    ) -> list[Document]:
        """Async version of `load_data`."""
        source, name = await asyncio.to_thread(_opened, file, fs, self.max_bytes)
        extracted = await self._async_client().extract(source, filename=name, **self._options())
        return _documents(extracted, extra_info, name)

    def lazy_load_data(self, *args: Any, **kwargs: Any) -> Iterable[Document]:
        """Yield what `load_data` returns."""
        yield from self.load_data(*args, **kwargs)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _OPTIONS}


def _opened(file: Source, fs: Any, max_bytes: int) -> tuple[Any, str | None]:
    """Return what the core's client reads, and the document's name."""
    name = Path(os.fspath(file)).name if isinstance(file, str | os.PathLike) else None
    if fs is None or isinstance(file, bytes):
        return file, name
    with fs.open(str(file), "rb") as opened:
        return opened.read(max_bytes + 1), name


def _documents(extracted: ExtractedDocument, extra_info: dict[str, Any] | None, name: str | None) -> list[Document]:
    metadata = {**({"file_name": name} if name else {}), **(extra_info or {})}
    if extracted.title:
        metadata["title"] = extracted.title
    if extracted.count is not None:
        metadata["word_count"] = extracted.count
    texts = extracted.chunks or (extracted.contents,)
    documents = []
    for number, text in enumerate(texts):
        chunk = {"chunk": number} if extracted.chunks else {}
        hidden = ["word_count", *chunk]
        documents.append(
            Document(
                text=text,
                metadata={**metadata, **chunk},
                excluded_llm_metadata_keys=[*hidden],
                excluded_embed_metadata_keys=[*hidden],
            )
        )
    return documents
