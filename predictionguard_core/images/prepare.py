"""Prepare images: read or download, inspect, check, convert. Each image passes each stage once, in this order.

`prepare_images` does it for the images of a request, as a sans-I/O operation; `open_image` for one local image.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from predictionguard_core.api.chat import ChatRequest, ImagePart, Location, Part
from predictionguard_core.api.embeddings import EmbeddingInput, has_image
from predictionguard_core.errors import (
    ContentError,
    ImageBlockedError,
    ImageFormatError,
    ImageTooLargeError,
    UnsupportedContentError,
)
from predictionguard_core.images import convert, decoder, detect, metadata
from predictionguard_core.images.cache import cache_of
from predictionguard_core.images.encoding import Payload, Raw
from predictionguard_core.images.headers import Header
from predictionguard_core.images.image import Image
from predictionguard_core.images.policy import ImagePolicy, check_bytes, check_header
from predictionguard_core.images.sources import Deferred, Remote, local_source, open_source
from predictionguard_core.steps import Compute, Download, Operation, raise_if_error

_MAX_FILE_NAME = 80

_Source = tuple[Any, Location]


def prepare_images(request: ChatRequest, policy: ImagePolicy) -> Operation[tuple[ChatRequest, list[Image]]]:
    """Return the images of a request, in order, and the request with an image part for each of them.

    The request is the caller's own, unless it has a document with several pages.
    """
    sources = list(_image_sources(request))
    if not sources:
        return request, []
    prepared = yield from _prepare(sources, policy)
    if any(len(pages) != 1 for pages in prepared):
        request = _with_pages(request, map(len, prepared))
    return request, [image for pages in prepared for image in pages]


def prepare_inputs(inputs: list[str] | list[EmbeddingInput], start: int, policy: ImagePolicy) -> Operation[list[Image]]:
    """Return the images of the inputs of an embedding request, in order.

    Errors have the number of the input as their `block_index`. The first of `inputs` has the number `start`.
    """
    sources: list[_Source] = [
        (each.image, (None, start + index)) for index, each in enumerate(inputs) if has_image(each)
    ]
    if not sources:
        return []
    prepared = yield from _prepare(sources, policy)
    return [_only(each, location) for each, (_, location) in zip(prepared, sources, strict=True)]


def open_image(source: Any, policy: ImagePolicy) -> Image:
    """Prepare one image from a developer's own code. Raises an `ImageError`."""
    found = open_source(local_source(source), policy)
    if isinstance(found, Remote):
        raise ImageBlockedError(
            "Image.open does not download. Pass the URL to a model, or download the image and pass its bytes"
        )
    if isinstance(found, Image):
        return found
    if isinstance(found, Deferred):
        return _only(_read_and_transform(found, policy), (None, None))
    return _only(_transform(found, _inspect(found, policy), policy), (None, None))


def estimate_size(source: Any, policy: ImagePolicy) -> tuple[int, int] | None:
    """Return the width and height in pixels that an image will have when it is sent.

    None if finding out would take reading a file, a download or decoding. Raises an `ImageError`.
    """
    found = open_source(source, policy)
    if isinstance(found, Image):
        return found.size
    if isinstance(found, Remote) or (isinstance(found, Deferred) and not found.in_memory):
        return None
    payload = found.read() if isinstance(found, Deferred) else found
    size = convert.size_after(_inspect(payload, policy), upright=policy.upright, max_edge=policy.max_edge)
    return size if all(size) else None


def _prepare(sources: list[_Source], policy: ImagePolicy) -> Operation[list[list[Image]]]:
    """Return the images of each source, in order: one, or the pages of a document."""
    if len(sources) > policy.max_images:
        raise _too_many(len(sources), sources[policy.max_images][1], policy)
    cache = cache_of(policy) if policy.cache_bytes else None
    prepared: list[list[Image]] = [[]] * len(sources)
    jobs: dict[int, Any] = {}
    urls: dict[int, str] = {}
    for index, (source, location) in enumerate(sources):
        with _located(location):
            found = open_source(source, policy)
            if isinstance(found, Remote):
                cached = cache.get(found.url) if cache else None
                if cached is None:
                    urls[index] = found.url
                else:
                    prepared[index] = cached
            elif isinstance(found, Image):
                prepared[index] = [found]
            elif isinstance(found, Deferred):
                jobs[index] = partial(_read_and_transform, found, policy)
            else:
                _plan(index, found, policy, prepared, jobs)
    if urls:
        results = yield Download(list(dict.fromkeys(urls.values())), policy)
        downloaded = dict(zip(dict.fromkeys(urls.values()), results, strict=True))
        for index, url in urls.items():
            with _located(sources[index][1]):
                _plan(index, Raw(raise_if_error(downloaded[url])), policy, prepared, jobs)
    if jobs:
        results = yield Compute(list(jobs.values()))
        for index, result in zip(jobs, results, strict=True):
            with _located(sources[index][1]):
                prepared[index] = raise_if_error(result)
    if cache:
        for index, url in urls.items():
            cache.put(url, prepared[index])
    count = sum(map(len, prepared))  # a document becomes an image per page
    if count > policy.max_images:
        pages = [location for (_, location), images in zip(sources, prepared, strict=True) for _ in images]
        raise _too_many(count, pages[policy.max_images], policy)
    return prepared


def _plan(index: int, payload: Payload, policy: ImagePolicy, prepared: list[list[Image]], jobs: dict[int, Any]) -> None:
    """Inspect and check an image in memory: it is ready, or a job must change it off the event loop."""
    header = _inspect(payload, policy)
    if policy.strip_metadata or convert.needs_change(header, upright=policy.upright, max_edge=policy.max_edge):
        jobs[index] = partial(_transform, payload, header, policy)
    else:
        prepared[index] = [Image(payload, header.media_type, header.width, header.height)]


def _read_and_transform(deferred: Deferred, policy: ImagePolicy, seconds: float | None = None) -> list[Image]:
    payload = deferred.read()
    try:
        return _transform(payload, _inspect(payload, policy), policy, seconds)
    except ImageFormatError as error:
        if not 0 < len(deferred.file_name) <= _MAX_FILE_NAME:
            raise
        error.message += f" (file {deferred.file_name!r})"
        raise


def _inspect(payload: Payload, policy: ImagePolicy) -> Header:
    """Read the header of an image and check it against the policy."""
    if not payload.length:
        raise ImageFormatError("the image is empty")
    check_bytes(payload.length, policy)
    header = detect.read(payload.read, payload.length)
    check_header(header, policy)
    return header


def _transform(payload: Payload, header: Header, policy: ImagePolicy, seconds: float | None = None) -> list[Image]:
    """Rotate, shrink, convert or strip an image as the policy says. A document becomes an image per page."""
    if not convert.needs_change(header, upright=policy.upright, max_edge=policy.max_edge):
        if policy.strip_metadata:
            payload = Raw(metadata.strip(payload.read(0, payload.length), header))
        return [Image(payload, header.media_type, header.width, header.height)]
    data = payload.read(0, payload.length)
    cache, key = cache_of(policy) if policy.cache_bytes else None, None
    if cache:
        key = hashlib.sha256(data).digest()
        if (cached := cache.get(key)) is not None:
            return cached
    images = [
        Image(Raw(converted.data), converted.media_type, converted.width, converted.height)
        for converted in decoder.decode(data, header, policy, seconds)
    ]
    if cache:
        cache.put(key, images)
    return images


def _only(images: list[Image], location: Location) -> Image:
    if len(images) != 1:
        raise UnsupportedContentError(
            f"expected one image, got a document with {len(images)} pages. Pass an image of each page, or send the "
            "document to a chat model"
        ).with_location(*location)
    return images[0]


def _too_many(count: int, location: Location, policy: ImagePolicy) -> ContentError:
    return ImageTooLargeError(
        f"the request has {count} images, the policy allows {policy.max_images} (ImagePolicy.max_images)"
    ).with_location(*location)


def _image_sources(request: ChatRequest) -> Iterator[_Source]:
    """Yield the images of a request. An adapter sets their locations; in a request of the core's own they are known."""
    if isinstance(request.messages, str):
        return
    for message_index, message in enumerate(request.messages):
        if isinstance(message.content, str):
            continue
        for block_index, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                location = (message_index, block_index) if part.location == (None, None) else part.location
                yield part.image_url.url, location


def _with_pages(request: ChatRequest, counts: Iterator[int]) -> ChatRequest:
    """Return the request with each image part repeated for the pages of its document."""
    assert not isinstance(request.messages, str)
    messages = []
    for message in request.messages:
        if not isinstance(message.content, str):
            content: list[Part] = []
            for part in message.content:
                content += [part] * next(counts) if isinstance(part, ImagePart) else [part]
            message = message.model_copy(update={"content": content})
        messages.append(message)
    return request.model_copy(update={"messages": messages})


@contextlib.contextmanager
def _located(location: Location) -> Iterator[None]:
    """Add the location to a ContentError raised in the block."""
    try:
        yield
    except ContentError as error:
        raise error.with_location(*location) from None
