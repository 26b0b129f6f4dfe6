"""One call, thought through without I/O.

A flow is a generator that yields steps and is sent their results; an error of a step is thrown into it. Whoever drives
it performs the steps, in whichever colour: `Fetch` pictures, `Work` that takes its time, `Send` a request, `Wait`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from predictionguard_core import images
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    ConfigurationError,
    ContentError,
    ImageTooLargeError,
    InvalidResponseError,
    PredictionGuardError,
)
from predictionguard_core.images import Image, Job, Remote
from predictionguard_core.policy import ImagePolicy
from predictionguard_core.statuses import from_response
from predictionguard_core.wire import (
    CAPABILITIES,
    MAX_INPUTS,
    Body,
    ChatCompletion,
    ChatRequest,
    CompletionRequest,
    EmbeddingInput,
    EmbeddingList,
    EmbeddingRequest,
    ImagePart,
    ImageURL,
    Model,
    ModelList,
    Place,
    Ranked,
    Ranking,
    RerankRequest,
    chat_body,
    check_status,
    completion_body,
    embedding_body,
    rerank_body,
)

T = TypeVar("T")

LONGEST_WAIT = 60.0
"""Seconds that a `Retry-After` is heeded for."""

_FIRST_WAIT = 0.5
_LONGEST_BACKOFF = 8.0
_REQUEST_ID = "x-request-id"


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Download these pictures side by side; answered by a list with the bytes, or the error, of each."""

    urls: list[str]
    policy: ImagePolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Call these where they may take their time; answered by a list with the result, or the error, of each."""

    jobs: list[Callable[[], Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send a request; answered by an `Answer`. Raises `APIConnectionError` where none comes.

    With `stream`, the body of a success is left unread for the driver.
    """

    method: str
    path: str
    body: Body | None = None
    stream: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`headers` has case-insensitive keys."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for this many seconds."""

    seconds: float


Step = Fetch | Work | Send | Wait
Flow = Generator[Step, Any, T]


def chat(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Flow[ChatCompletion]:
    """Ask, and read the whole answer."""
    request = yield from _with_images_ready(request, policy)
    answer = yield from _sent(Send("POST", "/chat/completions", chat_body(request, stream=False)), max_retries)
    return read_completion(answer)


def chat_stream(request: ChatRequest, policy: ImagePolicy, max_retries: int) -> Flow[Answer]:
    """Ask for a stream, up to its first byte: from there on nothing is tried again."""
    request = yield from _with_images_ready(request, policy)
    body = chat_body(request, stream=True)
    return (yield from _sent(Send("POST", "/chat/completions", body, stream=True), max_retries))


def complete(request: CompletionRequest, max_retries: int) -> Flow[ChatCompletion]:
    """Let a text be gone on with, and read the whole answer."""
    answer = yield from _sent(Send("POST", "/completions", completion_body(request, stream=False)), max_retries)
    return read_completion(answer)


def complete_stream(request: CompletionRequest, max_retries: int) -> Flow[Answer]:
    """The same as a stream, up to its first byte."""
    body = completion_body(request, stream=True)
    return (yield from _sent(Send("POST", "/completions", body, stream=True), max_retries))


def embed(request: EmbeddingRequest, policy: ImagePolicy, max_retries: int) -> Flow[list[list[float]]]:
    """The vectors of all inputs, in their order, asked for in batches of the endpoint's size."""
    vectors: list[list[float]] = []
    for start in range(0, len(request.input), MAX_INPUTS):
        inputs = yield from _inputs_ready(request.input[start : start + MAX_INPUTS], start, policy)
        batch = request.model_copy(update={"input": inputs})
        answer = yield from _sent(Send("POST", "/embeddings", embedding_body(batch)), max_retries)
        data = sorted(EmbeddingList.parse(answer.body).data, key=lambda each: each.index)
        _check_indices([each.index for each in data], len(inputs), "vectors")
        vectors += [each.embedding for each in data]
    return vectors


def rerank(request: RerankRequest, max_retries: int) -> Flow[list[Ranked]]:
    """The judgement of each document, the best first."""
    if not request.documents:
        return []
    answer = yield from _sent(Send("POST", "/rerank", rerank_body(request)), max_retries)
    results = Ranking.parse(answer.body).results
    _check_indices(sorted(each.index for each in results), len(request.documents), "judgements")
    return sorted(results, key=lambda each: -each.relevance_score)


def models(capability: str | None, max_retries: int) -> Flow[list[Model]]:
    """List the models, or those with a capability."""
    if capability is not None and capability not in CAPABILITIES:
        raise ConfigurationError(f"capability: {capability!r} is none of {', '.join(CAPABILITIES)}")
    path = "/models" if capability is None else f"/models/{quote(capability)}"
    answer = yield from _sent(Send("GET", path), max_retries)
    return ModelList.parse(answer.body).data


def read_completion(answer: Answer) -> ChatCompletion:
    """Read a plain answer. Raises `InvalidResponseError`, or the error that a choice's status stands for."""
    completion = ChatCompletion.parse(answer.body)
    check_status(completion, answer.headers.get(_REQUEST_ID))
    return completion


def request_id(answer: Answer) -> str | None:
    return answer.headers.get(_REQUEST_ID)


def _check_indices(indices: list[int], count: int, what: str) -> None:
    if indices != list(range(count)):
        raise InvalidResponseError(f"the service answered {len(indices)} {what} for {count} inputs, or misnumbers them")


def _sent(send: Send, max_retries: int) -> Flow[Answer]:
    """Send, and send again where that can help. Raises what the last attempt came to."""
    attempt = 0
    while True:
        failure: PredictionGuardError
        try:
            answer: Answer = yield send
        except APIConnectionError as error:
            failure = error
        else:
            if answer.is_success:
                return answer
            failure = from_response(answer.status_code, answer.headers, answer.body)
        if attempt >= max_retries or not _can_retry(failure):
            raise failure
        yield Wait(_pause(attempt, failure))
        attempt += 1


def _can_retry(failure: PredictionGuardError) -> bool:
    if isinstance(failure, APIStatusError):
        return failure.status_code in (408, 429) or failure.status_code >= 500
    return isinstance(failure, APIConnectionError) and failure.may_retry


def _pause(attempt: int, failure: PredictionGuardError) -> float:
    asked = getattr(failure, "retry_after", None)
    if asked is not None:
        return min(float(asked), LONGEST_WAIT)
    # Jitter, so that many clients which failed together don't come back together.
    return min(_FIRST_WAIT * 2.0**attempt, _LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def _with_images_ready(request: ChatRequest, policy: ImagePolicy) -> Flow[ChatRequest]:
    """The request with a ready `Image` in each image part: the caller's own parts stay as they are."""
    parts = list(_placed(request))
    if not parts:
        return request
    ready = yield from _images_ready([(part.image_url.url, place) for part, place in parts], policy)
    return _rebuilt(request, iter(ready))


def _inputs_ready(
    inputs: list[str] | list[EmbeddingInput], start: int, policy: ImagePolicy
) -> Flow[list[str] | list[EmbeddingInput]]:
    """The inputs with a ready `Image` in each that has a picture. In an error, the block is the input's number."""
    sources = [
        (each.image, (None, start + index))
        for index, each in enumerate(inputs)
        if isinstance(each, EmbeddingInput) and each.image is not None
    ]
    if not sources:
        return inputs
    # How many pictures a request may hold is a rule for prompts: here each is an input of its own.
    policy = dataclasses.replace(policy, max_images=MAX_INPUTS)
    ready = iter((yield from _images_ready(sources, policy)))
    return [
        each.model_copy(update={"image": next(ready)})
        if isinstance(each, EmbeddingInput) and each.image is not None
        else each
        for each in inputs
    ]  # type: ignore[return-value]


def _images_ready(sources: Sequence[tuple[Any, Place]], policy: ImagePolicy) -> Flow[list[Image]]:
    if len(sources) > policy.max_images:
        raise ImageTooLargeError(
            f"the request holds {len(sources)} pictures, the policy allows {policy.max_images} (ImagePolicy.max_images)"
        )
    places = [place for _, place in sources]
    found = [_begun(source, place, policy) for source, place in sources]
    remote = [index for index, each in enumerate(found) if isinstance(each, Remote)]
    if remote:
        urls = [each.url for each in found if isinstance(each, Remote)]
        for index, data in zip(remote, _results((yield Fetch(urls, policy)), places, remote), strict=True):
            found[index] = _begun(data, places[index], policy)
    heavy = [index for index, each in enumerate(found) if isinstance(each, Job)]
    if heavy:
        jobs = [each.work for each in found if isinstance(each, Job)]
        for index, image in zip(heavy, _results((yield Work(jobs)), places, heavy), strict=True):
            found[index] = image
    return [each for each in found if isinstance(each, Image)]


def _placed(request: ChatRequest) -> Iterator[tuple[ImagePart, Place]]:
    # An adapter says where a part came from; in a request made by hand it stands where it is.
    if isinstance(request.messages, str):
        return
    for message_index, message in enumerate(request.messages):
        if isinstance(message.content, str):
            continue
        for block_index, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                yield part, (message_index, block_index) if part.place == (None, None) else part.place


def _begun(source: Any, place: Place, policy: ImagePolicy) -> Image | Remote | Job:
    try:
        return images.begin(source, policy)
    except ContentError as error:
        raise error.at(*place) from None


def _results(results: list[Any], places: list[Place], indices: list[int]) -> list[Any]:
    for index, result in zip(indices, results, strict=True):
        if isinstance(result, ContentError):
            raise result.at(*places[index])
        if isinstance(result, BaseException):
            raise result
    return results


def _rebuilt(request: ChatRequest, ready: Iterator[Image]) -> ChatRequest:
    assert not isinstance(request.messages, str)
    messages = []
    for message in request.messages:
        if not isinstance(message.content, str):
            content = [
                ImagePart.model_construct(
                    image_url=ImageURL.model_construct(url=next(ready), detail=part.image_url.detail)
                )
                if isinstance(part, ImagePart)
                else part
                for part in message.content
            ]
            message = message.model_copy(update={"content": content})
        messages.append(message)
    return request.model_copy(update={"messages": messages})
