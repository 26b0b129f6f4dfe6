"""One call, thought through without I/O: what is sent, waited for and tried again, and what the answer says.

Each function is a flow (see `steps`): whoever drives it performs its steps, in whichever colour.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from predictionguard_core.api.base import ResponseModel
from predictionguard_core.api.body import Body, chat_body, completion_body, embedding_body, json_body
from predictionguard_core.api.chat import ChatRequest
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.documents import DocumentFile, ExtractedDocument, ExtractRequest, Form
from predictionguard_core.api.embeddings import MAX_INPUTS, EmbeddingList, EmbeddingRequest, has_image
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
from predictionguard_core.error_responses import error_from_payload, error_from_response, error_within
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    InvalidResponseError,
    PredictionGuardError,
)
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.prepare import prepare_images, prepare_inputs
from predictionguard_core.steps import Compute, Operation, Response, Send, Wait

R = TypeVar("R", bound=ResponseModel)
C = TypeVar("C", bound=ResponseItem)

_log = logging.getLogger("predictionguard_core")

LONGEST_WAIT = 60.0
"""Seconds that a `Retry-After` is heeded for."""

_FIRST_WAIT = 0.5
_LONGEST_BACKOFF = 8.0
_REQUEST_ID = "x-request-id"


def chat(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Operation[ChatCompletion]:
    """Ask, and read the whole answer."""
    request = yield from prepare_images(request, policy)
    answer = yield from _sent(
        Send("POST", "/chat/completions", chat_body(request, stream=False), request.model), max_retries
    )
    return read_completion(answer)


def chat_stream(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Operation[Response]:
    """Ask for a stream, up to its first byte: from there on nothing is tried again."""
    request = yield from prepare_images(request, policy)
    body = chat_body(request, stream=True)
    return (yield from _sent(Send("POST", "/chat/completions", body, request.model, stream=True), max_retries))


def complete(request: CompletionRequest, max_retries: int) -> Operation[ChatCompletion]:
    """Let a text be gone on with, and read the whole answer."""
    answer = yield from _sent(
        Send("POST", "/completions", completion_body(request, stream=False), request.model), max_retries
    )
    return read_completion(answer)


def complete_stream(request: CompletionRequest, max_retries: int) -> Operation[Response]:
    """The same as a stream, up to its first byte."""
    body = completion_body(request, stream=True)
    return (yield from _sent(Send("POST", "/completions", body, request.model, stream=True), max_retries))


def embed(request: EmbeddingRequest, policy: ImagePolicy, max_retries: int) -> Operation[list[list[float]]]:
    """The vectors of all inputs, in their order, asked for in batches of the endpoint's size."""
    vectors: list[list[float]] = []
    size = min(MAX_INPUTS, policy.max_images) if any(map(has_image, request.input)) else MAX_INPUTS
    for start in range(0, len(request.input), size):
        inputs = yield from prepare_inputs(request.input[start : start + size], start, policy)
        batch = request.model_copy(update={"input": inputs})
        answer = yield from _sent(Send("POST", "/embeddings", embedding_body(batch), request.model), max_retries)
        data = sorted(_read(EmbeddingList, answer).data, key=lambda each: each.index)
        _check_indices([each.index for each in data], len(inputs), "vectors")
        vectors += [each.embedding for each in data]
    return vectors


def rerank(request: RerankRequest, max_retries: int) -> Operation[list[Ranked]]:
    """The judgement of each document, the best first."""
    if not request.documents:
        return []
    answer = yield from _sent(Send("POST", "/rerank", json_body(request), request.model), max_retries)
    results = _read(Ranking, answer).results
    _check_indices(sorted(each.index for each in results), len(request.documents), "judgements")
    return sorted(results, key=lambda each: -each.relevance_score)


def models(capability: str | None, max_retries: int) -> Operation[list[Model]]:
    """List the models, or those with a capability."""
    if capability is not None and capability not in CAPABILITIES:
        raise ConfigurationError(f"capability: {capability!r} is none of {', '.join(CAPABILITIES)}")
    path = "/models" if capability is None else f"/models/{quote(capability)}"
    answer = yield from _sent(Send("GET", path), max_retries)
    return _read(ModelList, answer).data


def check_pii(request: PIIRequest, max_retries: int) -> Operation[list[PIICheck]]:
    """Find or replace personal data in texts. Return one result per text, in their order."""
    prompts = _as_list(request.prompt)
    if not prompts:
        return []
    answer = yield from _sent(Send("POST", "/PII", json_body(request)), max_retries)
    items = _in_order(_read(PIIResponse, answer).checks, len(prompts), answer)
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
    answer = yield from _sent(Send("POST", "/injection", json_body(request)), max_retries)
    items = _in_order(_read(InjectionResponse, answer).checks, len(prompts), answer)
    return [
        InjectionCheck(prompt=prompt, probability=item.probability) for prompt, item in zip(prompts, items, strict=True)
    ]


def check_toxicity(request: ToxicityRequest, max_retries: int) -> Operation[ToxicityCheck]:
    """Return how toxic a text is."""
    answer = yield from _sent(Send("POST", "/toxicity", json_body(request)), max_retries)
    (item,) = _in_order(_read(ScoreResponse, answer).checks, 1, answer)
    return ToxicityCheck(text=request.text, score=item.score)


def check_factuality(request: FactualityRequest, max_retries: int) -> Operation[FactualityCheck]:
    """Return how well a reference supports a text."""
    answer = yield from _sent(Send("POST", "/factuality", json_body(request)), max_retries)
    (item,) = _in_order(_read(ScoreResponse, answer).checks, 1, answer)
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
    if isinstance(document, Exception):
        raise document
    form = Form(document, request.fields)
    body = Body(form.parts, form.content_type)
    answer = yield from _sent(Send("POST", "/documents/extract", body, headers=headers), max_retries)
    return _read(ExtractedDocument, answer)


def _new_prompt(item: PIICheckItem, prompt: str) -> str:
    if item.new_prompt is not None:
        return item.new_prompt
    if item.prompt is None or item.entities:  # `prompt` comes in its place if there is nothing to replace
        raise InvalidResponseError("the response of /PII lacks new_prompt, though replace is true")
    return prompt


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _in_order(items: list[C], count: int, answer: Response) -> list[C]:
    """Sort the results of a check by the texts they are about. Raise the error of a result whose status is one."""
    for item in items:
        if item.status is not None and item.status.lower().startswith("error"):
            raise error_from_payload(item.status, request_id(answer))
    if any(item.index is None for item in items):
        indices = list(range(len(items)))
    else:
        items = sorted(items, key=lambda item: item.index or 0)
        indices = [item.index or 0 for item in items]
    _check_indices(indices, count, "results")
    return items


def read_completion(answer: Response) -> ChatCompletion:
    """Read a plain answer. Raises `InvalidResponseError`, or the error that a choice's status stands for."""
    completion = _read(ChatCompletion, answer)
    raise_for_choice_status(completion, request_id(answer))
    return completion


def _read(kind: type[R], answer: Response) -> R:
    # An error may come with the status of a success, in place of an answer or beside one.
    told = error_within(answer.body) if b'"error"' in answer.body else None
    if told is not None:
        raise error_from_payload(told, request_id(answer))
    return kind.parse(answer.body)


def request_id(answer: Response) -> str | None:
    return answer.headers.get(_REQUEST_ID)


def _check_indices(indices: list[int], count: int, what: str) -> None:
    if indices != list(range(count)):
        raise InvalidResponseError(f"the service answered {len(indices)} {what} for {count} inputs, or misnumbers them")


def _sent(send: Send, max_retries: int) -> Operation[Response]:
    """Send, and send again where that can help. Raises what the last attempt came to."""
    attempt, started = 0, time.monotonic()
    while True:
        failure: PredictionGuardError
        try:
            answer: Response = yield send
        except APIConnectionError as error:
            failure = error
        else:
            if answer.is_success:
                _note(send, attempt, str(answer.status_code), started)
                return answer
            failure = error_from_response(answer.status_code, answer.headers, answer.body)
        if attempt >= max_retries or not _can_retry(failure):
            _note(send, attempt, type(failure).__name__, started)
            raise failure
        yield Wait(_pause(attempt, failure))
        attempt += 1


def _note(send: Send, attempt: int, outcome: str, started: float) -> None:
    # A line a request, of nothing that anybody said: a picture is its type, size and hash.
    if _log.isEnabledFor(logging.DEBUG):
        body = send.body or Body([])
        _log.debug(
            "%s %s model=%s bytes=%d pictures=%s attempts=%d outcome=%s seconds=%.3f",
            send.method,
            send.path,
            send.model,
            body.length,
            body.pictures,
            attempt + 1,
            outcome,
            time.monotonic() - started,
        )


def _can_retry(failure: PredictionGuardError) -> bool:
    if isinstance(failure, APIStatusError):
        return failure.status_code in (408, 429) or 500 <= failure.status_code <= 599
    return isinstance(failure, APIConnectionError) and failure.may_retry


def _pause(attempt: int, failure: PredictionGuardError) -> float:
    asked = getattr(failure, "retry_after", None)
    if asked is not None:
        return min(float(asked), LONGEST_WAIT)
    # Jitter, so that many clients which failed together don't come back together.
    return min(_FIRST_WAIT * 2.0 ** min(attempt, 9), _LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
