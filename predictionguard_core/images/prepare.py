"""The pictures of a request, made ready as a flow: looked at, downloaded, read and changed where that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from predictionguard_core.api.chat import ChatRequest, ImagePart, ImageURL, Location, Part
from predictionguard_core.api.embeddings import EmbeddingInput, has_image
from predictionguard_core.errors import ContentError, ImageTooLargeError
from predictionguard_core.images import sources
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.sources import Image, Job, Remote
from predictionguard_core.steps import Compute, Download, Operation


def with_images_ready(request: ChatRequest, policy: ImagePolicy) -> Operation[ChatRequest]:
    """The request with a ready `Image` in each image part: the caller's own parts stay as they are."""
    parts = list(_placed(request))
    if not parts:
        return request
    ready = yield from _images_ready([(part.image_url.url, place) for part, place in parts], policy)
    # A PDF has become several.
    _check_count([place for (_, place), pictures in zip(parts, ready, strict=True) for _ in pictures], policy)
    return _rebuilt(request, iter(ready))


def inputs_ready(
    inputs: list[str] | list[EmbeddingInput], start: int, policy: ImagePolicy
) -> Operation[list[str] | list[EmbeddingInput]]:
    """The inputs with a ready `Image` in each that has a picture. In an error, the block is the input's number."""
    sources = [(each.image, (None, start + index)) for index, each in enumerate(inputs) if has_image(each)]
    if not sources:
        return inputs
    ready = iter((yield from _images_ready(sources, policy)))
    return [
        each.model_copy(update={"image": _one(next(ready), start + index)}) if has_image(each) else each
        for index, each in enumerate(inputs)
    ]  # type: ignore[return-value]


def _one(found: list[Image], index: int) -> Image:
    try:
        return sources.one(found)
    except ContentError as error:
        raise error.with_location(None, index) from None


def _check_count(places: Sequence[Location], policy: ImagePolicy) -> None:
    # `places` of all pictures: the first that is one too many is named.
    if len(places) > policy.max_images:
        raise ImageTooLargeError(
            f"the request holds {len(places)} pictures, the policy allows {policy.max_images} (ImagePolicy.max_images)"
        ).with_location(*places[policy.max_images])


def _images_ready(sources: Sequence[tuple[Any, Location]], policy: ImagePolicy) -> Operation[list[list[Image]]]:
    """The pictures of each source, in order: one, or the pages of a PDF."""
    places = [place for _, place in sources]
    _check_count(places, policy)
    found = [_begun(source, place, policy) for source, place in sources]
    remote = [index for index, each in enumerate(found) if isinstance(each, Remote)]
    if remote:
        urls = [each.url for each in found if isinstance(each, Remote)]
        for index, data in zip(remote, _results((yield Download(urls, policy)), places, remote), strict=True):
            found[index] = _begun(data, places[index], policy)
    ready: dict[int, list[Image]] = {}
    heavy = [index for index, each in enumerate(found) if isinstance(each, Job)]
    if heavy:
        jobs = [each.work for each in found if isinstance(each, Job)]
        ready = dict(zip(heavy, _results((yield Compute(jobs)), places, heavy), strict=True))
    return [[each] if isinstance(each, Image) else ready[index] for index, each in enumerate(found)]


def _placed(request: ChatRequest) -> Iterator[tuple[ImagePart, Location]]:
    # An adapter says where a part came from; in a request made by hand it stands where it is.
    if isinstance(request.messages, str):
        return
    for message_index, message in enumerate(request.messages):
        if isinstance(message.content, str):
            continue
        for block_index, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                yield part, (message_index, block_index) if part.location == (None, None) else part.location


def _begun(source: Any, place: Location, policy: ImagePolicy) -> Image | Remote | Job:
    try:
        return sources.begin(source, policy)
    except ContentError as error:
        raise error.with_location(*place) from None


def _results(results: list[Any], places: list[Location], indices: list[int]) -> list[Any]:
    for index, result in zip(indices, results, strict=True):
        if isinstance(result, ContentError):
            raise result.with_location(*places[index])
        if isinstance(result, BaseException):
            raise result
    return results


def _rebuilt(request: ChatRequest, ready: Iterator[list[Image]]) -> ChatRequest:
    assert not isinstance(request.messages, str)
    messages = []
    for message in request.messages:
        if not isinstance(message.content, str):
            content: list[Part] = []
            for part in message.content:
                content += _shown(part, next(ready)) if isinstance(part, ImagePart) else [part]
            message = message.model_copy(update={"content": content})
        messages.append(message)
    return request.model_copy(update={"messages": messages})


def _shown(part: ImagePart, pictures: list[Image]) -> list[ImagePart]:
    detail = part.image_url.detail
    return [ImagePart.model_construct(image_url=ImageURL.model_construct(url=each, detail=detail)) for each in pictures]
