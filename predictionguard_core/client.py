"""`Client` and `AsyncClient`: perform the steps of a flow, and pump the bytes of a stream.

The two classes are one text in two colours; a test rewrites the one into the other and compares.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, overload

from predictionguard_core import endings, later, operations, steps
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.checks import InputChecks, OutputChecks
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.documents import (
    DEFAULT_MAX_BYTES,
    DocumentSource,
    ExtractedDocument,
    ExtractRequest,
)
from predictionguard_core.api.embeddings import EmbeddingRequest
from predictionguard_core.api.models import Capability, Model
from predictionguard_core.api.rerank import Ranked, RerankRequest
from predictionguard_core.api.responses import ChatChunk, ChatCompletion
from predictionguard_core.api.safety import (
    CheckedText,
    FactualityCheck,
    FactualityRequest,
    InjectionCheck,
    InjectionRequest,
    PIICheck,
    PIIReplaceMethod,
    PIIRequest,
    TextChecks,
    ToxicityCheck,
    ToxicityRequest,
)
from predictionguard_core.connection import Connection, Opened
from predictionguard_core.errors import PredictionGuardError
from predictionguard_core.streaming import ChunkReader, Chunks, Piece

T = TypeVar("T")


def until_finished(chunks: Iterator[bytes], reader: ChunkReader) -> Iterator[bytes]:
    """Yield the chunks; once the answer has its finish reason, a connection that breaks is merely its end."""
    try:
        for chunk in chunks:
            yield chunk
    except Exception as error:
        if not (reader.has_finished and later.error_mapping.is_transport_error(error)):
            raise


async def async_until_finished(chunks: AsyncIterator[bytes], reader: ChunkReader) -> AsyncIterator[bytes]:
    """`until_finished`, async."""
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        if not (reader.has_finished and later.error_mapping.is_transport_error(error)):
            raise


class Client(Connection):
    """Prediction Guard's API, synchronous.

    Args:
        api_key: Default: the environment's PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment's PREDICTIONGUARD_URL, else the public service. May carry a path prefix.
        timeout: Seconds. Bounds one attempt of a plain call as a whole, and on a stream the longest silence.
        max_retries: What may come after the first attempt: after lost connections, 408, 429 and 5xx only. Before each
            is a pause of 60 seconds at most, so a request ends within `timeout` x (`max_retries` + 1) + 60 x
            `max_retries` seconds; before it, its pictures are downloaded, 8 side by side, each hop within the shorter
            of `timeout` and 30 seconds.
        images: What may come in as a picture, and what is done to it.
        http_client: Your own client (proxies, certificates); it is used as it is and never closed. Default: one shared
            by all clients of this process.

    Making one touches no network. It survives pickle (the key is not in it: the copy reads the environment), deepcopy,
    fork and threads.

    Raises:
        ConfigurationError: no key, a bad address, or a bad option.
    """

    takes = "Client"

    def chat(self, request: ChatRequest) -> ChatCompletion:
        """Ask, and wait for the whole answer."""
        return self._run(operations.chat(request, self._policy, self._settings.max_retries))

    def stream(self, request: ChatRequest) -> Generator[ChatChunk, None, None]:
        """Ask, and get the answer in chunks as it is produced.

        Where the endpoint can't stream (`ChatRequest.can_stream`), the plain answer comes as one chunk.
        """
        made = Chunks()
        with endings.closing(self.pieces(request)) as pieces:
            for piece in pieces:
                yield made.chunk(piece)

    def pieces(self, request: ChatRequest) -> Generator[Piece, None, None]:
        """`stream`, where text without anything else comes as plain text, at a fraction of a chunk's cost."""
        if not request.can_stream:
            yield self.chat(request).as_chunk()
            return
        flow = operations.chat_stream(request, self._policy, self._settings.max_retries)
        with endings.closing(self._pieces(flow)) as pieces:
            for piece in pieces:
                yield piece

    def complete(self, request: CompletionRequest) -> ChatCompletion:
        """Let a text be gone on with, and wait for the whole answer."""
        return self._run(operations.complete(request, self._settings.max_retries))

    def complete_stream(self, request: CompletionRequest) -> Generator[ChatChunk, None, None]:
        """Let a text be gone on with, in chunks as they are produced; as one chunk where output checks are on."""
        if not request.can_stream:
            yield self.complete(request).as_chunk()
            return
        made, flow = Chunks(), operations.complete_stream(request, self._settings.max_retries)
        with endings.closing(self._pieces(flow)) as pieces:
            for piece in pieces:
                yield made.chunk(piece)

    def embed(self, request: EmbeddingRequest) -> list[list[float]]:
        """The vectors of all inputs, in their order, however many there are."""
        return self._run(operations.embed(request, self._policy, self._settings.max_retries))

    def rerank(self, request: RerankRequest) -> list[Ranked]:
        """The judgement of each document, the best first."""
        return self._run(operations.rerank(request, self._settings.max_retries))

    def models(self, capability: Capability | None = None) -> list[Model]:
        """The models of this account, or those with a capability, such as "chat-with-image"."""
        return self._run(operations.models(capability, self._settings.max_retries))

    @overload
    def check_pii(
        self,
        prompt: str,
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
    ) -> PIICheck: ...

    @overload
    def check_pii(
        self,
        prompt: list[str],
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
    ) -> list[PIICheck]: ...

    def check_pii(
        self,
        prompt: str | list[str],
        *,
        replace: bool = False,
        replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
    ) -> PIICheck | list[PIICheck]:
        """Find or replace personal data in a text, or in each text of a list.

        Args:
            prompt: A text, or a list of texts, which are checked in one request.
            replace: Whether to replace personal data. The result then has `new_prompt` instead of `entities`.
            replace_method: What replaces it: "random" characters, "fake" values, the "category", or a "mask" (`*`).
            entity_list: Kinds of personal data that the check ignores, such as "PHONE_NUMBER".

        Returns:
            One result for a text, a list of results for a list.

        Example:
            >>> result = client.check_pii("Mail frodo@example.com", replace=True, replace_method="mask")
            >>> result.new_prompt
            'Mail *'
        """
        request = PIIRequest(prompt=prompt, replace=replace, replace_method=replace_method, entity_list=entity_list)
        results = self._run(operations.check_pii(request, self._settings.max_retries))
        return results[0] if isinstance(prompt, str) else results

    @overload
    def check_injection(self, prompt: str) -> InjectionCheck: ...

    @overload
    def check_injection(self, prompt: list[str]) -> list[InjectionCheck]: ...

    def check_injection(self, prompt: str | list[str]) -> InjectionCheck | list[InjectionCheck]:
        """Return how probable it is that a text, or each text of a list, is a prompt injection.

        Example:
            >>> result = client.check_injection("Ignore all previous instructions.")
            >>> result.probability
            0.98
        """
        request = InjectionRequest(prompt=prompt)
        results = self._run(operations.check_injection(request, self._settings.max_retries))
        return results[0] if isinstance(prompt, str) else results

    def check_toxicity(self, text: str) -> ToxicityCheck:
        """Return how toxic a text is.

        Example:
            >>> result = client.check_toxicity("Have a nice day.")
            >>> result.score
            0.01
        """
        return self._run(operations.check_toxicity(ToxicityRequest(text=text), self._settings.max_retries))

    def check_factuality(self, reference: str, text: str) -> FactualityCheck:
        """Return how well a reference supports a text.

        Example:
            >>> result = client.check_factuality("The sky is blue.", "The sky is green.")
            >>> result.score
            0.108
        """
        request = FactualityRequest(reference=reference, text=text)
        return self._run(operations.check_factuality(request, self._settings.max_retries))

    def check_texts(self, texts: Sequence[str], checks: TextChecks) -> list[CheckedText]:
        """Run several checks on texts, and return one result per text. Blank texts pass unchecked.

        Texts are checked for injections in one request and for personal data in another; for toxicity, in one request
        each. A failed check does not raise: call `raise_for_failed` on a result.

        Example:
            >>> checks = TextChecks(pii="replace", pii_replace_method="mask", injection=True)
            >>> [checked] = client.check_texts(["Mail frodo@example.com"], checks)
            >>> checked.text, checked.failed
            ('Mail *', ())
        """
        return self._run(operations.check_texts(texts, checks, self._settings.max_retries))

    def extract(
        self,
        file: DocumentSource,
        *,
        output_format: Literal["markdown", "text"] | None = "markdown",
        chunk_size: int | None = None,
        ocr: bool | None = None,
        input_checks: InputChecks | dict[str, Any] | None = None,
        output_checks: OutputChecks | dict[str, Any] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        filename: str | None = None,
    ) -> ExtractedDocument:
        """Extract the text of a document: a PDF, an office file, a scanned page.

        Args:
            file: A path (`pathlib.Path` or string), bytes, or a file object that is open in binary mode. A path is
                read from the disk while it is sent; a file object is read into memory first.
            output_format: "markdown" or "text".
            chunk_size: Split the text into chunks of this size.
            ocr: Whether to recognise the text of images. None: the service decides.
            input_checks: `pii`, `pii_replace_method`, `entity_list` and `block_prompt_injection`, for the extracted
                text. Images in the document are not checked beyond the text that OCR finds in them.
            output_checks: `toxicity`, for the extracted text.
            max_bytes: Largest document that is sent.
            filename: The document's name for the service. Default: that of the file.

        Raises:
            ContentError: the document is missing, empty or larger than `max_bytes`. Nothing was sent.
            CheckFailedError: the extracted text failed a check.

        Example:
            >>> result = client.extract("sample.pdf")
            >>> result.contents
            '## Sample PDF'
        """
        options: dict[str, Any] = {  # pydantic converts checks given as dicts
            "output_format": output_format,
            "chunk_size": chunk_size,
            "ocr": ocr,
            "input_checks": input_checks,
            "output_checks": output_checks,
            "max_bytes": max_bytes,
            "filename": filename,
        }
        request = ExtractRequest(**options)
        return self._run(operations.extract(file, request, self._settings.max_retries))

    def close(self) -> None:
        """Let go of the connections. A later call opens new ones."""
        later.shared_clients.release_client(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pieces(self, flow: steps.Operation[steps.Response]) -> Generator[Piece, None, None]:
        opened = self._run(flow)
        assert isinstance(opened, Opened)
        response = opened.response
        with contextlib.closing(response):
            with self._unechoed(), later.error_mapping.map_stream_errors(self.base_url, self._settings.timeout):
                if "text/event-stream" not in response.headers.get("content-type", "").lower():
                    with later.timeouts.deadline(self._settings.timeout):
                        body = later.size_limits.read_body(response)
                    yield operations.read_completion(opened.read(body)).as_chunk()
                    return
                reader = ChunkReader(operations.request_id(opened))
                pieces = later.size_limits.iter_body(response)
                for data in until_finished(pieces, reader):
                    for piece in reader.feed(data):
                        yield piece
                    if reader.done:
                        if self._own is None:
                            later.timeouts.drain(pieces)
                        return
                for chunk in reader.finish():
                    yield chunk

    def _run(self, flow: steps.Operation[T]) -> T:
        later.load()
        try:
            step = next(flow)
            while True:
                try:
                    result = self._perform(step)
                except PredictionGuardError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except PredictionGuardError as error:
            self._without_echo(error)
            raise

    def _perform(self, step: steps.Step) -> Any:
        match step:
            case steps.Send():
                return self._send(step)
            case steps.Wait():
                return time.sleep(step.seconds)
            case steps.Compute():
                return later.shared_clients.compute_all(step.jobs, self._settings.timeout)
            case steps.Download():
                return later.download.download_all(step.urls, step.policy, self._settings.timeout)

    def _send(self, send: steps.Send) -> steps.Response:
        client = self._own or later.shared_clients.shared_client(self)
        timeout = self._settings.timeout
        with later.error_mapping.map_errors(self.base_url, timeout):
            with later.timeouts.deadline(timeout):
                response = later.send.send_request(client, self._request_head(send), send.body)
                if send.stream and response.is_success:
                    return Opened(response.status_code, response.headers, response=response)
                with contextlib.closing(response):
                    with later.error_mapping.map_errors(self.base_url, timeout, answered=True):
                        body = later.size_limits.read_body(response)
                return steps.Response(response.status_code, response.headers, body)


class AsyncClient(Connection):
    """Prediction Guard's API, asynchronous: `Client` in the other colour, with the same arguments and methods.

    One object may be used in several event loops, one after the other or in several threads; each loop has its own
    connections, which are closed with it where `asyncio.run` runs it.
    """

    takes = "AsyncClient"

    async def chat(self, request: ChatRequest) -> ChatCompletion:
        """Ask, and wait for the whole answer."""
        return await self._run(operations.chat(request, self._policy, self._settings.max_retries))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """Ask, and get the answer in chunks as it is produced.

        Where the endpoint can't stream (`ChatRequest.can_stream`), the plain answer comes as one chunk.
        """
        made = Chunks()
        async with endings.aclosing(self.pieces(request)) as pieces:
            async for piece in pieces:
                yield made.chunk(piece)

    async def pieces(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """`stream`, where text without anything else comes as plain text, at a fraction of a chunk's cost."""
        if not request.can_stream:
            yield (await self.chat(request)).as_chunk()
            return
        flow = operations.chat_stream(request, self._policy, self._settings.max_retries)
        async with endings.aclosing(self._pieces(flow)) as pieces:
            async for piece in pieces:
                yield piece

    async def complete(self, request: CompletionRequest) -> ChatCompletion:
        """Let a text be gone on with, and wait for the whole answer."""
        return await self._run(operations.complete(request, self._settings.max_retries))

    async def complete_stream(self, request: CompletionRequest) -> AsyncGenerator[ChatChunk, None]:
        """Let a text be gone on with, in chunks as they are produced; as one chunk where output checks are on."""
        if not request.can_stream:
            yield (await self.complete(request)).as_chunk()
            return
        made, flow = Chunks(), operations.complete_stream(request, self._settings.max_retries)
        async with endings.aclosing(self._pieces(flow)) as pieces:
            async for piece in pieces:
                yield made.chunk(piece)

    async def embed(self, request: EmbeddingRequest) -> list[list[float]]:
        """The vectors of all inputs, in their order, however many there are."""
        return await self._run(operations.embed(request, self._policy, self._settings.max_retries))

    async def rerank(self, request: RerankRequest) -> list[Ranked]:
        """The judgement of each document, the best first."""
        return await self._run(operations.rerank(request, self._settings.max_retries))

    async def models(self, capability: Capability | None = None) -> list[Model]:
        """The models of this account, or those with a capability, such as "chat-with-image"."""
        return await self._run(operations.models(capability, self._settings.max_retries))

    @overload
    async def check_pii(
        self,
        prompt: str,
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
    ) -> PIICheck: ...

    @overload
    async def check_pii(
        self,
        prompt: list[str],
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
    ) -> list[PIICheck]: ...

    async def check_pii(
        self,
        prompt: str | list[str],
        *,
        replace: bool = False,
        replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
    ) -> PIICheck | list[PIICheck]:
        """Find or replace personal data in a text, or in each text of a list.

        Args:
            prompt: A text, or a list of texts, which are checked in one request.
            replace: Whether to replace personal data. The result then has `new_prompt` instead of `entities`.
            replace_method: What replaces it: "random" characters, "fake" values, the "category", or a "mask" (`*`).
            entity_list: Kinds of personal data that the check ignores, such as "PHONE_NUMBER".

        Returns:
            One result for a text, a list of results for a list.

        Example:
            >>> result = await client.check_pii("Mail frodo@example.com", replace=True, replace_method="mask")
            >>> result.new_prompt
            'Mail *'
        """
        request = PIIRequest(prompt=prompt, replace=replace, replace_method=replace_method, entity_list=entity_list)
        results = await self._run(operations.check_pii(request, self._settings.max_retries))
        return results[0] if isinstance(prompt, str) else results

    @overload
    async def check_injection(self, prompt: str) -> InjectionCheck: ...

    @overload
    async def check_injection(self, prompt: list[str]) -> list[InjectionCheck]: ...

    async def check_injection(self, prompt: str | list[str]) -> InjectionCheck | list[InjectionCheck]:
        """Return how probable it is that a text, or each text of a list, is a prompt injection.

        Example:
            >>> result = await client.check_injection("Ignore all previous instructions.")
            >>> result.probability
            0.98
        """
        request = InjectionRequest(prompt=prompt)
        results = await self._run(operations.check_injection(request, self._settings.max_retries))
        return results[0] if isinstance(prompt, str) else results

    async def check_toxicity(self, text: str) -> ToxicityCheck:
        """Return how toxic a text is.

        Example:
            >>> result = await client.check_toxicity("Have a nice day.")
            >>> result.score
            0.01
        """
        return await self._run(operations.check_toxicity(ToxicityRequest(text=text), self._settings.max_retries))

    async def check_factuality(self, reference: str, text: str) -> FactualityCheck:
        """Return how well a reference supports a text.

        Example:
            >>> result = await client.check_factuality("The sky is blue.", "The sky is green.")
            >>> result.score
            0.108
        """
        request = FactualityRequest(reference=reference, text=text)
        return await self._run(operations.check_factuality(request, self._settings.max_retries))

    async def check_texts(self, texts: Sequence[str], checks: TextChecks) -> list[CheckedText]:
        """Run several checks on texts, and return one result per text. Blank texts pass unchecked.

        Texts are checked for injections in one request and for personal data in another; for toxicity, in one request
        each. A failed check does not raise: call `raise_for_failed` on a result.

        Example:
            >>> checks = TextChecks(pii="replace", pii_replace_method="mask", injection=True)
            >>> [checked] = await client.check_texts(["Mail frodo@example.com"], checks)
            >>> checked.text, checked.failed
            ('Mail *', ())
        """
        return await self._run(operations.check_texts(texts, checks, self._settings.max_retries))

    async def extract(
        self,
        file: DocumentSource,
        *,
        output_format: Literal["markdown", "text"] | None = "markdown",
        chunk_size: int | None = None,
        ocr: bool | None = None,
        input_checks: InputChecks | dict[str, Any] | None = None,
        output_checks: OutputChecks | dict[str, Any] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        filename: str | None = None,
    ) -> ExtractedDocument:
        """Extract the text of a document: a PDF, an office file, a scanned page.

        Args:
            file: A path (`pathlib.Path` or string), bytes, or a file object that is open in binary mode. A path is
                read from the disk while it is sent; a file object is read into memory first.
            output_format: "markdown" or "text".
            chunk_size: Split the text into chunks of this size.
            ocr: Whether to recognise the text of images. None: the service decides.
            input_checks: `pii`, `pii_replace_method`, `entity_list` and `block_prompt_injection`, for the extracted
                text. Images in the document are not checked beyond the text that OCR finds in them.
            output_checks: `toxicity`, for the extracted text.
            max_bytes: Largest document that is sent.
            filename: The document's name for the service. Default: that of the file.

        Raises:
            ContentError: the document is missing, empty or larger than `max_bytes`. Nothing was sent.
            CheckFailedError: the extracted text failed a check.

        Example:
            >>> result = await client.extract("sample.pdf")
            >>> result.contents
            '## Sample PDF'
        """
        options: dict[str, Any] = {  # pydantic converts checks given as dicts
            "output_format": output_format,
            "chunk_size": chunk_size,
            "ocr": ocr,
            "input_checks": input_checks,
            "output_checks": output_checks,
            "max_bytes": max_bytes,
            "filename": filename,
        }
        request = ExtractRequest(**options)
        return await self._run(operations.extract(file, request, self._settings.max_retries))

    async def aclose(self) -> None:
        """Let go of the connections. A later call opens new ones."""
        await later.shared_clients.release_async_client(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _pieces(self, flow: steps.Operation[steps.Response]) -> AsyncGenerator[Piece, None]:
        opened = await self._run(flow)
        assert isinstance(opened, Opened)
        response = opened.response
        async with contextlib.aclosing(response):
            with self._unechoed(), later.error_mapping.map_stream_errors(self.base_url, self._settings.timeout):
                if "text/event-stream" not in response.headers.get("content-type", "").lower():
                    async with later.timeouts.async_deadline(self._settings.timeout):
                        body = await later.size_limits.async_read_body(response)
                    yield operations.read_completion(opened.read(body)).as_chunk()
                    return
                reader = ChunkReader(operations.request_id(opened))
                pieces = later.size_limits.async_iter_body(response)
                async for data in async_until_finished(pieces, reader):
                    for piece in reader.feed(data):
                        yield piece
                    if reader.done:
                        if self._own is None:
                            await later.timeouts.async_drain(pieces)
                        return
                for chunk in reader.finish():
                    yield chunk

    async def _run(self, flow: steps.Operation[T]) -> T:
        await later.async_load()
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._perform(step)
                except PredictionGuardError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except PredictionGuardError as error:
            self._without_echo(error)
            raise

    async def _perform(self, step: steps.Step) -> Any:
        match step:
            case steps.Send():
                return await self._send(step)
            case steps.Wait():
                return await asyncio.sleep(step.seconds)
            case steps.Compute():
                return await later.shared_clients.async_compute_all(step.jobs, self._settings.timeout)
            case steps.Download():
                return await later.download.async_download_all(step.urls, step.policy, self._settings.timeout)

    async def _send(self, send: steps.Send) -> steps.Response:
        client = self._own or await later.shared_clients.shared_async_client(self)
        timeout = self._settings.timeout
        with later.error_mapping.map_errors(self.base_url, timeout):
            async with later.timeouts.async_deadline(timeout):
                response = await later.send.async_send_request(client, self._request_head(send), send.body)
                if send.stream and response.is_success:
                    return Opened(response.status_code, response.headers, response=response)
                async with contextlib.aclosing(response):
                    with later.error_mapping.map_errors(self.base_url, timeout, answered=True):
                        body = await later.size_limits.async_read_body(response)
                return steps.Response(response.status_code, response.headers, body)
