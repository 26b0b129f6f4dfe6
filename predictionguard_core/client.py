"""`Client` and `AsyncClient`: the public API of the core.

Both run the same operations (see `steps`) and differ only in how they perform a step; a test compares their texts.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar, overload

from pydantic import SecretStr

from predictionguard_core import operations, parallel, steps
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
from predictionguard_core.error_responses import request_id
from predictionguard_core.errors import (
    APITimeoutError,
    ConfigurationError,
    PredictionGuardError,
    StreamInterruptedError,
)
from predictionguard_core.http import error_mapping, shared_clients, size_limits, timeouts
from predictionguard_core.http.send import RequestHead, async_send_request, send_request
from predictionguard_core.images import download
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.option_names import name_closest_option
from predictionguard_core.redaction import redact_error, secrets_of
from predictionguard_core.settings import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    ApiKey,
    Settings,
    check_api_key,
    check_headers,
    check_http_client,
    check_max_concurrency,
    resolve_settings,
)
from predictionguard_core.streaming import ChunkReader
from predictionguard_core.version import __version__

T = TypeVar("T")

DEFAULT_MAX_CONCURRENCY = 8
"""Batches of embeddings that are sent side by side."""

_USER_AGENT = f"predictionguard-integrations/{__version__}"
_FINISH_TIMEOUT = 5.0
"""Seconds to wait, after the finish reason, for the usage and the end of the stream."""


@name_closest_option(ConfigurationError)
class _BaseClient:
    """What `Client` and `AsyncClient` share: settings, headers, copies and pickles."""

    _http_client_class: ClassVar[str]

    def __init__(
        self,
        api_key: ApiKey = None,
        base_url: str | None = None,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        max_retries: int | None = DEFAULT_MAX_RETRIES,
        images: ImagePolicy | None = None,
        default_headers: Mapping[str, str] | None = None,
        http_client: Any = None,
    ) -> None:
        settings = resolve_settings(api_key, base_url, timeout=timeout, max_retries=max_retries)
        self.base_url = settings.base_url
        """The URL that requests go to, without a slash at its end."""
        self._settings_with_key: Settings | None = settings
        self._picklable_settings: dict[str, Any] = {
            "base_url": settings.base_url,
            "timeout": settings.timeout,
            "max_retries": settings.max_retries,
        }
        self._policy = ImagePolicy.of(images)
        self._default_headers = check_headers(default_headers, "default_headers")
        self._http_client = http_client
        check_http_client(http_client, self._http_client_class, "http_client")

    @property
    def _settings(self) -> Settings:
        if self._settings_with_key is None:
            self._settings_with_key = resolve_settings(**self._picklable_settings)
        return self._settings_with_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Without the API key and without connections: the copy reads PREDICTIONGUARD_API_KEY at its first call, not
        # when it is unpickled, because a pool of workers hangs on a task that does not unpickle.
        return {**self.__dict__, "_settings_with_key": None, "_http_client": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __copy__(self) -> Self:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self.__copy__()

    def _redact(self, error: BaseException, extra_headers: Mapping[str, str] | None, keys: list[SecretStr]) -> None:
        """Remove the API keys of a call and header values from an error of ours."""
        if isinstance(error, PredictionGuardError):
            texts = [key.get_secret_value() for key in keys]
            redact_error(error, [*texts, *secrets_of(self._default_headers), *secrets_of(extra_headers or {})])

    def _request_head(self, send: steps.Send, key: SecretStr, extra_headers: Mapping[str, str]) -> RequestHead:
        # Keyed by the lower-case name, so that default_headers and extra_headers override ours in any spelling.
        headers = {
            "authorization": ("Authorization", f"Bearer {key.get_secret_value()}"),
            "accept": ("Accept", "text/event-stream, application/json" if send.stream else "application/json"),
            "accept-encoding": ("Accept-Encoding", "gzip, deflate"),
            "user-agent": ("User-Agent", _USER_AGENT),
        }
        if send.body is not None:
            headers["content-type"] = ("Content-Type", send.body.content_type)
            headers["content-length"] = ("Content-Length", str(send.body.length))
        for name, value in [*send.headers.items(), *self._default_headers.items(), *extra_headers.items()]:
            headers[name.lower()] = (name, value)
        return RequestHead(send.method, self.base_url + send.path, dict(headers.values()), self._settings.timeout)


class _BaseStream:
    """What `ChatStream` and `AsyncChatStream` share: everything but the waiting."""

    def __init__(self, operation: steps.Operation[ChatCompletion | steps.Response], timeout: float) -> None:
        self._operation = operation
        self._timeout = self._time_left = timeout
        self._ready: collections.deque[ChatChunk] = collections.deque()
        self._error: PredictionGuardError | None = None
        self._is_over = False
        self._reader = ChunkReader()
        self._keys: list[SecretStr] = []
        self._response: Any = None
        self._body: Any = None

    def _feed(self, data: bytes | None, started: float) -> None:
        """Take the next bytes of the response, or None at its end. The wait for them began at `started`."""
        reader = self._reader
        was_finished = reader.has_finished
        try:
            self._ready.extend(reader.finish() if data is None else reader.feed(data))
        except PredictionGuardError as error:
            self._error = error  # raised after the chunks before it are delivered
        self._time_left -= time.monotonic() - started  # megabytes of comments take seconds to parse
        self._is_over = self._is_over or data is None or reader.is_done or self._error is not None
        # The timeout bounds the time without content, so content resets it. After the finish reason at most 5 s are
        # spent on usage and [DONE].
        if reader.has_finished and not was_finished:
            self._time_left = min(self._timeout, _FINISH_TIMEOUT)
        elif reader.has_content and not was_finished:
            self._time_left = self._timeout

    def _next_ready(self) -> ChatChunk | None:
        """Return a chunk that is ready, or None at the end. Raises what ended the stream."""
        if self._ready:
            return self._ready.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None


class ChatStream(_BaseStream):
    """The chunks of one streamed answer. Iterate over it; `close` ends it early, as leaving its `with` block does.

    The request is sent when the first chunk is asked for.
    """

    def __init__(
        self,
        client: Client,
        operation: steps.Operation[ChatCompletion | steps.Response],
        extra_headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(operation, client._settings.timeout)
        self._client = client
        self._extra_headers = extra_headers

    def __iter__(self) -> Iterator[ChatChunk]:
        return self

    def __next__(self) -> ChatChunk:
        try:
            while not (self._ready or self._is_over):
                if self._body is None:
                    self._open()
                else:
                    self._read()
            chunk = self._next_ready()
        except BaseException as error:
            self._client._redact(error, self._extra_headers, self._keys)
            self.close()
            raise
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def _open(self) -> None:
        opened = self._client._run(self._operation, self._extra_headers, self._keys)
        if isinstance(opened, ChatCompletion):
            self._ready.append(opened.as_chunk())
            self._is_over = True
            return
        self._reader = ChunkReader(request_id(opened.headers))
        self._response = opened.unread
        self._body = size_limits.iter_body(self._response)

    def _read(self) -> None:
        client, started = self._client, time.monotonic()
        try:
            with timeouts.deadline(self._time_left):
                data = next(self._body, None)
                timeouts.check_deadline()
        except Exception as error:
            ours = error_mapping.stream_error(error, client.base_url, self._timeout)
            if ours is None:
                raise
            if not self._reader.has_finished or not isinstance(ours, APITimeoutError | StreamInterruptedError):
                raise ours from error
            data = None  # nothing is missing but the end
        self._feed(data, started)
        # A caller's own sync client does not obey `timeouts.deadline`, so draining its connection could block.
        if self._reader.is_done and client._http_client is None:
            timeouts.drain(self._body)

    def close(self) -> None:
        """End the stream and release its connection."""
        self._is_over = True
        self._ready.clear()
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client(_BaseClient):
    """Prediction Guard's API, synchronous.

    Creating a client does not touch the network. One client may be used by several threads. It can be pickled, copied
    and used after a fork; the API key is not pickled, the copy reads it from the environment.

    Args:
        api_key: The key, or a function that returns it and is called for each request (rotating keys). Default: the
            environment variable PREDICTIONGUARD_API_KEY.
        base_url: May carry a path prefix, such as `/v1`. Default: the environment variable PREDICTIONGUARD_URL, else
            the public service.
        timeout: Seconds. For a plain call, the bound on one attempt as a whole; for a stream, the longest time
            without content.
        max_retries: Number of retries after a failed attempt: after lost connections, 408, 429 and 5xx (not 501).
            The wait before each is at most 60 seconds. A service that asks for more is not asked again.
        images: Which images are accepted, and how they are changed before they are sent.
        default_headers: Headers of every request, for gateways and tracing. They override the client's own.
        http_client: Your own `httpx.Client` or `httpx2.Client` (proxies, certificates). It is used as it is and never
            closed. Default: one shared by all clients of this process.

    Every method takes `extra_headers`, headers of this call only. They override `default_headers`.

    Raises:
        ConfigurationError: For a missing key, an invalid URL or an invalid option.
    """

    _http_client_class = "Client"

    def chat(self, request: ChatRequest, *, extra_headers: Mapping[str, str] | None = None) -> ChatCompletion:
        """Send a chat request and return the whole response."""
        return self._run(operations.chat(request, self._policy, self._settings.max_retries), extra_headers)

    def stream(self, request: ChatRequest, *, extra_headers: Mapping[str, str] | None = None) -> ChatStream:
        """Send a chat request and return its response as an iterator of chunks.

        Where the endpoint can't stream (`ChatRequest.can_stream`), the whole response comes as one chunk.
        """
        operation = operations.chat_stream(request, self._policy, self._settings.max_retries)
        return ChatStream(self, operation, check_headers(extra_headers, "extra_headers"))

    def complete(self, request: CompletionRequest, *, extra_headers: Mapping[str, str] | None = None) -> ChatCompletion:
        """Complete a prompt and return the whole response."""
        return self._run(operations.complete(request, self._settings.max_retries), extra_headers)

    def complete_stream(
        self, request: CompletionRequest, *, extra_headers: Mapping[str, str] | None = None
    ) -> ChatStream:
        """Complete a prompt and return the response as an iterator of chunks; of one chunk with output checks."""
        operation = operations.complete_stream(request, self._settings.max_retries)
        return ChatStream(self, operation, check_headers(extra_headers, "extra_headers"))

    def embed(
        self,
        request: EmbeddingRequest,
        *,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        extra_headers: Mapping[str, str] | None = None,
    ) -> list[list[float]]:
        """Return the vectors of all inputs, in their order.

        More inputs than one request takes are sent in batches, `max_concurrency` of them side by side.
        """
        check_max_concurrency(max_concurrency)
        operation = operations.embed(request, self._policy, self._settings.max_retries, max_concurrency)
        return self._run(operation, extra_headers)

    def rerank(self, request: RerankRequest, *, extra_headers: Mapping[str, str] | None = None) -> list[Ranked]:
        """Return the relevance score of each document, the best first."""
        return self._run(operations.rerank(request, self._settings.max_retries), extra_headers)

    def models(
        self, capability: Capability | None = None, *, extra_headers: Mapping[str, str] | None = None
    ) -> list[Model]:
        """Return the models of this account, or those with a capability, such as "chat-with-image"."""
        return self._run(operations.models(capability, self._settings.max_retries), extra_headers)

    def model_info(self, name: str, *, extra_headers: Mapping[str, str] | None = None) -> Model | None:
        """Return what the service says about a model, or None if this account has no such model."""
        return self._run(operations.model_info(name, self._settings.max_retries), extra_headers)

    @overload
    def check_pii(
        self,
        prompt: str,
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
    ) -> PIICheck: ...

    @overload
    def check_pii(
        self,
        prompt: list[str],
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
    ) -> list[PIICheck]: ...

    def check_pii(
        self,
        prompt: str | list[str],
        *,
        replace: bool = False,
        replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
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
        results = self._run(operations.check_pii(request, self._settings.max_retries), extra_headers)
        return results[0] if isinstance(prompt, str) else results

    @overload
    def check_injection(self, prompt: str, *, extra_headers: Mapping[str, str] | None = ...) -> InjectionCheck: ...

    @overload
    def check_injection(
        self, prompt: list[str], *, extra_headers: Mapping[str, str] | None = ...
    ) -> list[InjectionCheck]: ...

    def check_injection(
        self, prompt: str | list[str], *, extra_headers: Mapping[str, str] | None = None
    ) -> InjectionCheck | list[InjectionCheck]:
        """Return how probable it is that a text, or each text of a list, is a prompt injection.

        Example:
            >>> result = client.check_injection("Ignore all previous instructions.")
            >>> result.probability
            0.98
        """
        request = InjectionRequest(prompt=prompt)
        results = self._run(operations.check_injection(request, self._settings.max_retries), extra_headers)
        return results[0] if isinstance(prompt, str) else results

    def check_toxicity(self, text: str, *, extra_headers: Mapping[str, str] | None = None) -> ToxicityCheck:
        """Return how toxic a text is.

        Example:
            >>> result = client.check_toxicity("Have a nice day.")
            >>> result.score
            0.01
        """
        return self._run(
            operations.check_toxicity(ToxicityRequest(text=text), self._settings.max_retries), extra_headers
        )

    def check_factuality(
        self, reference: str, text: str, *, extra_headers: Mapping[str, str] | None = None
    ) -> FactualityCheck:
        """Return how well a reference supports a text.

        Example:
            >>> result = client.check_factuality("The sky is blue.", "The sky is green.")
            >>> result.score
            0.108
        """
        request = FactualityRequest(reference=reference, text=text)
        return self._run(operations.check_factuality(request, self._settings.max_retries), extra_headers)

    def check_texts(
        self, texts: Sequence[str], checks: TextChecks, *, extra_headers: Mapping[str, str] | None = None
    ) -> list[CheckedText]:
        """Run several checks on texts, and return one result per text. Blank texts pass unchecked.

        Texts are checked for injections in one request and for personal data in another; for toxicity, in one request
        each. A failed check does not raise: call `raise_for_failed` on a result.

        Example:
            >>> checks = TextChecks(pii="replace", pii_replace_method="mask", injection=True)
            >>> [checked] = client.check_texts(["Mail frodo@example.com"], checks)
            >>> checked.text, checked.failed
            ('Mail *', ())
        """
        return self._run(operations.check_texts(texts, checks, self._settings.max_retries), extra_headers)

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
        extra_headers: Mapping[str, str] | None = None,
    ) -> ExtractedDocument:
        """Extract the text of a document: a PDF, an office file, a scanned page.

        Args:
            file: A path (`pathlib.Path` or string), bytes, or a file object that is open in binary mode. A string is a
                path here, because it comes from your code; in a message it never is. A path is read from the disk while
                it is sent; a file object is read into memory first.
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
        return self._run(operations.extract(file, request, self._settings.max_retries), extra_headers)

    def close(self) -> None:
        """Close the connections, unless other clients share them. A later call opens new ones."""
        shared_clients.release_client(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self,
        operation: steps.Operation[T],
        extra_headers: Mapping[str, str] | None = None,
        keys: list[SecretStr] | None = None,
    ) -> T:
        extra_headers = check_headers(extra_headers, "extra_headers") if extra_headers else {}
        # The keys of this call: a callable `api_key` may return another one for each attempt.
        keys = [] if keys is None else keys
        try:
            step = next(operation)
            while True:
                try:
                    result = self._perform(step, extra_headers, keys)
                except PredictionGuardError as error:
                    step = operation.throw(error)
                except StopIteration as error:  # it would pass for an end of our own
                    raise RuntimeError(f"api_key or http_client raised {type(error).__name__}") from error
                else:
                    step = operation.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except PredictionGuardError as error:
            self._redact(error, extra_headers, keys)
            raise

    def _perform(self, step: steps.Step, extra_headers: Mapping[str, str], keys: list[SecretStr]) -> Any:
        match step:
            case steps.Send():
                return self._send(step, extra_headers, keys)
            case steps.Wait():
                return time.sleep(step.seconds)
            case steps.Compute():
                return parallel.compute_all(step.jobs, self._settings.timeout)
            case steps.Download():
                return download.download_all(step.urls, step.policy, self._settings.timeout)
            case steps.Parallel():
                run = functools.partial(self._run, extra_headers=extra_headers)
                return parallel.run_all(run, step.operations, step.max_concurrency)

    def _send(self, send: steps.Send, extra_headers: Mapping[str, str], keys: list[SecretStr]) -> steps.Response:
        keys.append(_get_key(self._settings.api_key))
        request = self._request_head(send, keys[-1], extra_headers)
        client = self._http_client or shared_clients.shared_client(self)
        timeout = self._settings.timeout
        with error_mapping.map_errors(self.base_url, timeout):
            with timeouts.deadline(timeout):
                response = send_request(client, request, send.body)
                if send.stream and response.is_success and _is_event_stream(response.headers):
                    return steps.Response(response.status_code, response.headers, unread=response)
                with contextlib.closing(response):
                    with error_mapping.map_errors(self.base_url, timeout, answered=True):
                        body = size_limits.read_body(response)
                return steps.Response(response.status_code, response.headers, body)


class AsyncChatStream(_BaseStream):
    """The chunks of one streamed answer. Iterate with `async for`; `aclose` or `async with` ends it early.

    The request is sent when the first chunk is asked for.
    """

    def __init__(
        self,
        client: AsyncClient,
        operation: steps.Operation[ChatCompletion | steps.Response],
        extra_headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(operation, client._settings.timeout)
        self._client = client
        self._extra_headers = extra_headers

    def __aiter__(self) -> AsyncIterator[ChatChunk]:
        return self

    async def __anext__(self) -> ChatChunk:
        try:
            while not (self._ready or self._is_over):
                if self._body is None:
                    await self._open()
                else:
                    await self._read()
            chunk = self._next_ready()
        except BaseException as error:
            self._client._redact(error, self._extra_headers, self._keys)
            await self.aclose()
            raise
        if chunk is None:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def _open(self) -> None:
        opened = await self._client._run(self._operation, self._extra_headers, self._keys)
        if isinstance(opened, ChatCompletion):
            self._ready.append(opened.as_chunk())
            self._is_over = True
            return
        self._reader = ChunkReader(request_id(opened.headers))
        self._response = opened.unread
        self._body = size_limits.async_iter_body(self._response)

    async def _read(self) -> None:
        client, started = self._client, time.monotonic()
        try:
            async with timeouts.async_deadline(self._time_left):
                data = await anext(self._body, None)
                timeouts.check_deadline()
        except Exception as error:
            ours = error_mapping.stream_error(error, client.base_url, self._timeout)
            if ours is None:
                raise
            if not self._reader.has_finished or not isinstance(ours, APITimeoutError | StreamInterruptedError):
                raise ours from error
            data = None  # nothing is missing but the end
        self._feed(data, started)
        # A caller's own sync client does not obey `timeouts.deadline`, so draining its connection could block.
        if self._reader.is_done and client._http_client is None:
            await timeouts.async_drain(self._body)

    async def aclose(self) -> None:
        """End the stream and release its connection."""
        self._is_over = True
        self._ready.clear()
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncClient(_BaseClient):
    """Prediction Guard's API, asynchronous: the arguments and methods of `Client`.

    `api_key` may also be an async function, and `http_client` is an `httpx.AsyncClient` or `httpx2.AsyncClient`. One
    client may be used in several event loops, one after the other or in several threads; each loop has its own
    connections, which are closed with it where `asyncio.run` runs it.
    """

    _http_client_class = "AsyncClient"

    async def chat(self, request: ChatRequest, *, extra_headers: Mapping[str, str] | None = None) -> ChatCompletion:
        """Send a chat request and return the whole response."""
        return await self._run(operations.chat(request, self._policy, self._settings.max_retries), extra_headers)

    def stream(self, request: ChatRequest, *, extra_headers: Mapping[str, str] | None = None) -> AsyncChatStream:
        """Send a chat request and return its response as an iterator of chunks.

        Where the endpoint can't stream (`ChatRequest.can_stream`), the whole response comes as one chunk.
        """
        operation = operations.chat_stream(request, self._policy, self._settings.max_retries)
        return AsyncChatStream(self, operation, check_headers(extra_headers, "extra_headers"))

    async def complete(
        self, request: CompletionRequest, *, extra_headers: Mapping[str, str] | None = None
    ) -> ChatCompletion:
        """Complete a prompt and return the whole response."""
        return await self._run(operations.complete(request, self._settings.max_retries), extra_headers)

    def complete_stream(
        self, request: CompletionRequest, *, extra_headers: Mapping[str, str] | None = None
    ) -> AsyncChatStream:
        """Complete a prompt and return the response as an iterator of chunks; of one chunk with output checks."""
        operation = operations.complete_stream(request, self._settings.max_retries)
        return AsyncChatStream(self, operation, check_headers(extra_headers, "extra_headers"))

    async def embed(
        self,
        request: EmbeddingRequest,
        *,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        extra_headers: Mapping[str, str] | None = None,
    ) -> list[list[float]]:
        """Return the vectors of all inputs, in their order.

        More inputs than one request takes are sent in batches, `max_concurrency` of them side by side.
        """
        check_max_concurrency(max_concurrency)
        operation = operations.embed(request, self._policy, self._settings.max_retries, max_concurrency)
        return await self._run(operation, extra_headers)

    async def rerank(self, request: RerankRequest, *, extra_headers: Mapping[str, str] | None = None) -> list[Ranked]:
        """Return the relevance score of each document, the best first."""
        return await self._run(operations.rerank(request, self._settings.max_retries), extra_headers)

    async def models(
        self, capability: Capability | None = None, *, extra_headers: Mapping[str, str] | None = None
    ) -> list[Model]:
        """Return the models of this account, or those with a capability, such as "chat-with-image"."""
        return await self._run(operations.models(capability, self._settings.max_retries), extra_headers)

    async def model_info(self, name: str, *, extra_headers: Mapping[str, str] | None = None) -> Model | None:
        """Return what the service says about a model, or None if this account has no such model."""
        return await self._run(operations.model_info(name, self._settings.max_retries), extra_headers)

    @overload
    async def check_pii(
        self,
        prompt: str,
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
    ) -> PIICheck: ...

    @overload
    async def check_pii(
        self,
        prompt: list[str],
        *,
        replace: bool = ...,
        replace_method: PIIReplaceMethod | None = ...,
        entity_list: list[str] | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
    ) -> list[PIICheck]: ...

    async def check_pii(
        self,
        prompt: str | list[str],
        *,
        replace: bool = False,
        replace_method: PIIReplaceMethod | None = None,
        entity_list: list[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
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
        results = await self._run(operations.check_pii(request, self._settings.max_retries), extra_headers)
        return results[0] if isinstance(prompt, str) else results

    @overload
    async def check_injection(
        self, prompt: str, *, extra_headers: Mapping[str, str] | None = ...
    ) -> InjectionCheck: ...

    @overload
    async def check_injection(
        self, prompt: list[str], *, extra_headers: Mapping[str, str] | None = ...
    ) -> list[InjectionCheck]: ...

    async def check_injection(
        self, prompt: str | list[str], *, extra_headers: Mapping[str, str] | None = None
    ) -> InjectionCheck | list[InjectionCheck]:
        """Return how probable it is that a text, or each text of a list, is a prompt injection.

        Example:
            >>> result = await client.check_injection("Ignore all previous instructions.")
            >>> result.probability
            0.98
        """
        request = InjectionRequest(prompt=prompt)
        results = await self._run(operations.check_injection(request, self._settings.max_retries), extra_headers)
        return results[0] if isinstance(prompt, str) else results

    async def check_toxicity(self, text: str, *, extra_headers: Mapping[str, str] | None = None) -> ToxicityCheck:
        """Return how toxic a text is.

        Example:
            >>> result = await client.check_toxicity("Have a nice day.")
            >>> result.score
            0.01
        """
        return await self._run(
            operations.check_toxicity(ToxicityRequest(text=text), self._settings.max_retries), extra_headers
        )

    async def check_factuality(
        self, reference: str, text: str, *, extra_headers: Mapping[str, str] | None = None
    ) -> FactualityCheck:
        """Return how well a reference supports a text.

        Example:
            >>> result = await client.check_factuality("The sky is blue.", "The sky is green.")
            >>> result.score
            0.108
        """
        request = FactualityRequest(reference=reference, text=text)
        return await self._run(operations.check_factuality(request, self._settings.max_retries), extra_headers)

    async def check_texts(
        self, texts: Sequence[str], checks: TextChecks, *, extra_headers: Mapping[str, str] | None = None
    ) -> list[CheckedText]:
        """Run several checks on texts, and return one result per text. Blank texts pass unchecked.

        Texts are checked for injections in one request and for personal data in another; for toxicity, in one request
        each. A failed check does not raise: call `raise_for_failed` on a result.

        Example:
            >>> checks = TextChecks(pii="replace", pii_replace_method="mask", injection=True)
            >>> [checked] = await client.check_texts(["Mail frodo@example.com"], checks)
            >>> checked.text, checked.failed
            ('Mail *', ())
        """
        return await self._run(operations.check_texts(texts, checks, self._settings.max_retries), extra_headers)

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
        extra_headers: Mapping[str, str] | None = None,
    ) -> ExtractedDocument:
        """Extract the text of a document: a PDF, an office file, a scanned page.

        Args:
            file: A path (`pathlib.Path` or string), bytes, or a file object that is open in binary mode. A string is a
                path here, because it comes from your code; in a message it never is. A path is read from the disk while
                it is sent; a file object is read into memory first.
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
        return await self._run(operations.extract(file, request, self._settings.max_retries), extra_headers)

    async def aclose(self) -> None:
        """Close the connections, unless other clients share them. A later call opens new ones."""
        await shared_clients.release_async_client(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(
        self,
        operation: steps.Operation[T],
        extra_headers: Mapping[str, str] | None = None,
        keys: list[SecretStr] | None = None,
    ) -> T:
        extra_headers = check_headers(extra_headers, "extra_headers") if extra_headers else {}
        # The keys of this call: a callable `api_key` may return another one for each attempt.
        keys = [] if keys is None else keys
        try:
            step = next(operation)
            while True:
                try:
                    result = await self._perform(step, extra_headers, keys)
                except PredictionGuardError as error:
                    step = operation.throw(error)
                except StopAsyncIteration as error:  # it would pass for an end of our own
                    raise RuntimeError(f"api_key or http_client raised {type(error).__name__}") from error
                else:
                    step = operation.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except PredictionGuardError as error:
            self._redact(error, extra_headers, keys)
            raise

    async def _perform(self, step: steps.Step, extra_headers: Mapping[str, str], keys: list[SecretStr]) -> Any:
        match step:
            case steps.Send():
                return await self._send(step, extra_headers, keys)
            case steps.Wait():
                return await asyncio.sleep(step.seconds)
            case steps.Compute():
                return await parallel.async_compute_all(step.jobs, self._settings.timeout)
            case steps.Download():
                return await download.async_download_all(step.urls, step.policy, self._settings.timeout)
            case steps.Parallel():
                run = functools.partial(self._run, extra_headers=extra_headers)
                return await parallel.async_run_all(run, step.operations, step.max_concurrency)

    async def _send(self, send: steps.Send, extra_headers: Mapping[str, str], keys: list[SecretStr]) -> steps.Response:
        keys.append(await _async_get_key(self._settings.api_key))
        request = self._request_head(send, keys[-1], extra_headers)
        client = self._http_client or await shared_clients.shared_async_client(self)
        timeout = self._settings.timeout
        with error_mapping.map_errors(self.base_url, timeout):
            async with timeouts.async_deadline(timeout):
                response = await async_send_request(client, request, send.body)
                if send.stream and response.is_success and _is_event_stream(response.headers):
                    return steps.Response(response.status_code, response.headers, unread=response)
                async with contextlib.aclosing(response):
                    with error_mapping.map_errors(self.base_url, timeout, answered=True):
                        body = await size_limits.async_read_body(response)
                return steps.Response(response.status_code, response.headers, body)


def _get_key(api_key: SecretStr | Callable[[], Any]) -> SecretStr:
    if isinstance(api_key, SecretStr):
        return api_key
    key = api_key()
    if inspect.isawaitable(key):
        if inspect.iscoroutine(key):
            key.close()
        raise ConfigurationError("api_key is an async function; pass one that is not to make sync calls")
    return check_api_key(key)


async def _async_get_key(api_key: SecretStr | Callable[[], Any]) -> SecretStr:
    if isinstance(api_key, SecretStr):
        return api_key
    key = api_key()
    return check_api_key(await key if inspect.isawaitable(key) else key)


def _is_event_stream(headers: Mapping[str, str]) -> bool:
    return "text/event-stream" in headers.get("content-type", "").lower()
