"""One generator per endpoint: yields the steps that a call needs, and returns the parsed result.

The generators do no I/O (see `steps`), so sync and async clients run the same ones.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from predictionguard_core.api.base import ResponseModel, check_request
from predictionguard_core.api.body import Body, chat_body, completion_body, embedding_body, json_body
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.documents import DocumentFile, ExtractedDocument, ExtractRequest, Form
from predictionguard_core.api.embeddings import MAX_INPUTS, EmbeddingInput, EmbeddingList, EmbeddingRequest, has_image
from predictionguard_core.api.models import CAPABILITIES, Model, ModelList
from predictionguard_core.api.rerank import Ranked, Ranking, RerankRequest
from predictionguard_core.api.responses import ChatCompletion, raise_for_choice_status
from predictionguard_core.api.safety import (
    CheckedText,
    CheckName,
    FactualityCheck,
    FactualityRequest,
    InjectionCheck,
    InjectionRequest,
    InjectionResponse,
    PIICheck,
    PIICheckItem,
    PIIRequest,
    PIIResponse,
    ResponseItem,
    ScoreResponse,
    TextChecks,
    ToxicityCheck,
    ToxicityRequest,
)
from predictionguard_core.error_responses import (
    error_from_payload,
    error_from_response,
    error_within,
    names_unknown_model,
    request_id,
)
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    PredictionGuardError,
)
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.prepare import prepare_images, prepare_inputs
from predictionguard_core.retries import can_retry, retry_delay
from predictionguard_core.steps import Compute, Operation, Parallel, Response, Send, Wait, raise_if_error


class _Indexed(Protocol):
    @property
    def index(self) -> int | None: ...


C = TypeVar("C", bound=ResponseItem)
N = TypeVar("N", bound=_Indexed)
R = TypeVar("R", bound=ResponseModel)

_log = logging.getLogger("predictionguard_core")

_PARSED_INLINE = 256 * 1024
"""Bytes up to which a response is parsed where it is: parsing more would block an event loop."""


def chat(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Operation[ChatCompletion]:
    """Send a chat request and return the whole response."""
    check_request(request, ChatRequest)
    request, images = yield from prepare_images(request, policy)
    body = chat_body(request, images, stream=False)
    response = yield from _send(Send("POST", "/chat/completions", body, request.model), max_retries)
    return (yield from _read_completion(response))


def chat_stream(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Operation[ChatCompletion | Response]:
    """Send a chat request for a stream. Return the response with the stream unread: from there on nothing is retried.

    Return a `ChatCompletion` where the endpoint can't stream, or does not.
    """
    check_request(request, ChatRequest)
    if not request.can_stream:
        return (yield from chat(request, policy, max_retries))
    request, images = yield from prepare_images(request, policy)
    body = chat_body(request, images, stream=True)
    return (yield from _open_stream(Send("POST", "/chat/completions", body, request.model, stream=True), max_retries))


def complete(request: CompletionRequest, max_retries: int) -> Operation[ChatCompletion]:
    """Complete a prompt and return the whole response."""
    check_request(request, CompletionRequest)
    body = completion_body(request, stream=False)
    response = yield from _send(Send("POST", "/completions", body, request.model), max_retries)
    return (yield from _read_completion(response))


def complete_stream(request: CompletionRequest, max_retries: int) -> Operation[ChatCompletion | Response]:
    """`chat_stream` for a prompt to complete."""
    check_request(request, CompletionRequest)
    if not request.can_stream:
        return (yield from complete(request, max_retries))
    body = completion_body(request, stream=True)
    return (yield from _open_stream(Send("POST", "/completions", body, request.model, stream=True), max_retries))


def embed(
    request: EmbeddingRequest, policy: ImagePolicy, max_retries: int, max_concurrency: int
) -> Operation[list[list[float]]]:
    """Return the vectors of all inputs, in their order. Batches of the endpoint's size are sent side by side."""
    check_request(request, EmbeddingRequest)
    size = min(MAX_INPUTS, policy.max_images) if any(map(has_image, request.input)) else MAX_INPUTS
    batches = [
        _embed_batch(request, request.input[start : start + size], start, policy, max_retries)
        for start in range(0, len(request.input), size)
    ]
    vectors: list[list[list[float]]] = yield Parallel(batches, max_concurrency)
    return [vector for batch in vectors for vector in batch]


def _embed_batch(
    request: EmbeddingRequest,
    inputs: list[str] | list[EmbeddingInput],
    start: int,
    policy: ImagePolicy,
    max_retries: int,
) -> Operation[list[list[float]]]:
    images = yield from prepare_inputs(inputs, start, policy)
    body = embedding_body(request.model_copy(update={"input": inputs}), images)
    response = yield from _send(Send("POST", "/embeddings", body, request.model), max_retries)
    data = (yield from _read(EmbeddingList, response)).data
    return [each.embedding for each in _sorted_by_index(data, len(inputs), "vectors")]


def rerank(request: RerankRequest, max_retries: int) -> Operation[list[Ranked]]:
    """Return the score of each document, the best first."""
    check_request(request, RerankRequest)
    if not request.documents:
        return []
    response = yield from _send(Send("POST", "/rerank", json_body(request), request.model), max_retries)
    results = (yield from _read(Ranking, response)).results
    results = _sorted_by_index(results, len(request.documents), "scores")
    return sorted(results, key=lambda each: -each.relevance_score)


def models(capability: str | None, max_retries: int) -> Operation[list[Model]]:
    """Return the models of the account, or those with a capability.

    A server that has no such list (vLLM, llama.cpp) is asked for the plain one. Models that say nothing about their
    capabilities stay in.
    """
    if capability is not None and capability not in CAPABILITIES:
        raise ConfigurationError(f"capability must be one of {', '.join(CAPABILITIES)}, got {capability!r}")
    if capability is not None:
        try:
            response = yield from _send(Send("GET", f"/models/{quote(capability)}"), max_retries)
            return (yield from _read(ModelList, response)).data
        except NotFoundError:
            pass
    response = yield from _send(Send("GET", "/models"), max_retries)
    found = (yield from _read(ModelList, response)).data
    return [each for each in found if capability is None or each.has_capability(capability) is not False]


def model_info(name: str, max_retries: int) -> Operation[Model | None]:
    """Return what the service says about a model, or None if the account's list does not have it."""
    found = yield from models(None, max_retries)
    return next((each for each in found if each.id == name), None)


def check_pii(request: PIIRequest, max_retries: int) -> Operation[list[PIICheck]]:
    """Find or replace personal data in texts. Return one result per text, in their order."""
    prompts = _as_list(request.prompt)
    if not prompts:
        return []
    response = yield from _send(Send("POST", "/PII", json_body(request)), max_retries)
    items = _in_order((yield from _read(PIIResponse, response)).checks, len(prompts), response)
    return [
        PIICheck(
            prompt=prompt, new_prompt=_new_prompt(item, prompt) if request.replace else None, entities=item.entities
        )
        for prompt, item in zip(prompts, items, strict=True)
    ]


def check_injection(request: InjectionRequest, max_retries: int) -> Operation[list[InjectionCheck]]:
    """Return how probable it is that each text is a prompt injection, in the order of the texts."""
    prompts = _as_list(request.prompt)
    if not prompts:
        return []
    response = yield from _send(Send("POST", "/injection", json_body(request)), max_retries)
    items = _in_order((yield from _read(InjectionResponse, response)).checks, len(prompts), response)
    return [
        InjectionCheck(prompt=prompt, probability=item.probability) for prompt, item in zip(prompts, items, strict=True)
    ]


def check_toxicity(request: ToxicityRequest, max_retries: int) -> Operation[ToxicityCheck]:
    """Return how toxic a text is."""
    response = yield from _send(Send("POST", "/toxicity", json_body(request)), max_retries)
    (item,) = _in_order((yield from _read(ScoreResponse, response)).checks, 1, response)
    return ToxicityCheck(text=request.text, score=item.score)


def check_factuality(request: FactualityRequest, max_retries: int) -> Operation[FactualityCheck]:
    """Return how well a reference supports a text."""
    response = yield from _send(Send("POST", "/factuality", json_body(request)), max_retries)
    (item,) = _in_order((yield from _read(ScoreResponse, response)).checks, 1, response)
    return FactualityCheck(reference=request.reference, text=request.text, score=item.score)


def check_texts(texts: Sequence[str], checks: TextChecks, max_retries: int) -> Operation[list[CheckedText]]:
    """Run several checks on texts. Blank texts pass unchecked: the service refuses them."""
    places = [place for place, text in enumerate(texts) if text.strip()]
    prompts = [texts[place] for place in places]
    results: list[dict[str, Any]] = [{"original": text, "text": text} for text in texts]
    failed: list[list[CheckName]] = [[] for _ in texts]
    if checks.injection:
        for place, found in zip(
            places, (yield from check_injection(InjectionRequest(prompt=prompts), max_retries)), strict=True
        ):
            results[place]["injection"] = found.probability
            if found.probability >= checks.injection_threshold:
                failed[place].append("injection")
    if checks.pii is not None:
        request = PIIRequest(
            prompt=prompts,
            replace=checks.pii == "replace",
            replace_method=checks.pii_replace_method if checks.pii == "replace" else None,
            entity_list=checks.entity_list,
        )
        for place, pii in zip(places, (yield from check_pii(request, max_retries)), strict=True):
            results[place]["pii_entities"] = pii.entities
            if pii.new_prompt is not None:
                results[place]["text"] = pii.new_prompt
            elif pii.has_pii:
                failed[place].append("pii")
    if checks.toxicity:
        for place, prompt in zip(places, prompts, strict=True):
            score = (yield from check_toxicity(ToxicityRequest(text=prompt), max_retries)).score
            results[place]["toxicity"] = score
            if score >= checks.toxicity_threshold:
                failed[place].append("toxicity")
    return [CheckedText(**result, failed=tuple(names)) for result, names in zip(results, failed, strict=True)]


def extract(file: Any, request: ExtractRequest, max_retries: int) -> Operation[ExtractedDocument]:
    """Extract the text of a document, which is read from the disk while it is sent."""
    headers = request.headers
    (document,) = yield Compute([lambda _: DocumentFile.open(file, request.max_bytes, request.filename)])
    form = Form(raise_if_error(document), request.fields)
    body = Body(form.parts, form.content_type)
    response = yield from _send(Send("POST", "/documents/extract", body, headers=headers), max_retries)
    return (yield from _read(ExtractedDocument, response))


def _new_prompt(item: PIICheckItem, prompt: str) -> str:
    if item.new_prompt is not None:
        return item.new_prompt
    if item.prompt is None or item.entities:  # `prompt` comes in its place if there is nothing to replace
        raise InvalidResponseError("the response of /PII lacks new_prompt, though replace is true")
    return prompt


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _in_order(items: list[C], count: int, response: Response) -> list[C]:
    """Return results in the order of their texts. Raises if a result's status is an error."""
    for item in items:
        if item.status is not None and item.status.lower().startswith("error"):
            raise error_from_payload(item.status, request_id(response.headers))
    return _sorted_by_index(items, count, "results")


def _sorted_by_index(items: list[N], count: int, what: str) -> list[N]:
    """Return items in the order of their indices, or as they are if none has an index.

    Raises `InvalidResponseError` unless there is one for each input.
    """
    indices = [-1 if item.index is None else item.index for item in items]
    if all(item.index is None for item in items):
        indices = list(range(len(items)))
    if sorted(indices) != list(range(count)):
        raise InvalidResponseError(
            f"the service returned {len(items)} {what} for {count} inputs, or numbers them wrongly"
        )
    by_index = dict(zip(indices, items, strict=True))
    return [by_index[index] for index in range(count)]


def _read_completion(response: Response) -> Operation[ChatCompletion]:
    completion = yield from _read(ChatCompletion, response)
    raise_for_choice_status(completion, request_id(response.headers))
    return completion


def _read(kind: type[R], response: Response) -> Operation[R]:
    if len(response.body) <= _PARSED_INLINE:
        return _parse(kind, response)
    (result,) = yield Compute([lambda _: _parse(kind, response)])
    parsed: R = raise_if_error(result)
    return parsed


def _parse(kind: type[R], response: Response) -> R:
    # An error may come with a success status, in place of an answer or next to one.
    error = error_within(response.body) if b'"error"' in response.body else None
    if error is not None:
        raise error_from_payload(error, request_id(response.headers))
    return kind.parse(response.body)


def _open_stream(send: Send, max_retries: int) -> Operation[ChatCompletion | Response]:
    response = yield from _send(send, max_retries)
    if response.unread is not None:
        return response
    return (yield from _read_completion(response))


def _send(send: Send, max_retries: int) -> Operation[Response]:
    """Send a request, and retry it where that can help. Raise the error of the last attempt."""
    attempt, started = 0, time.monotonic()
    while True:
        error: PredictionGuardError
        try:
            response: Response = yield send
        except APIConnectionError as failure:
            error = failure
        else:
            if response.is_success:
                _log_request(send, attempt, str(response.status_code), started)
                return response
            error = error_from_response(response.status_code, response.headers, response.body)
        if attempt >= max_retries or not can_retry(error):
            _log_request(send, attempt, type(error).__name__, started)
            if send.model is not None and isinstance(error, APIStatusError) and names_unknown_model(error, send.model):
                yield from _suggest_model(error, send.model)
            raise error
        yield Wait(retry_delay(attempt, error))
        attempt += 1


def _suggest_model(error: APIStatusError, name: str) -> Operation[None]:
    """Add the closest model name of the account to the remedy of an error. One request, never retried."""
    try:
        found = yield from models(None, 0)
    except PredictionGuardError:
        return
    by_lower_case = {each.id.lower(): each.id for each in found if each.id != name}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.7)
    if close:
        error.remedy = f"Did you mean {by_lower_case[close[0]]}? {error.remedy}".strip()


def _log_request(send: Send, attempt: int, outcome: str, started: float) -> None:
    # One line per request. It has no content of the messages: an image is its type, size and hash.
    if _log.isEnabledFor(logging.DEBUG):
        body = send.body or Body([])
        _log.debug(
            "%s %s model=%s bytes=%d images=%s attempts=%d outcome=%s seconds=%.3f",
            send.method,
            send.path,
            send.model,
            body.length,
            body.images,
            attempt + 1,
            outcome,
            time.monotonic() - started,
        )
