"""The cache of prepared images: nothing is downloaded or converted twice, and its size is bounded."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from predictionguard_core import Image, ImagePolicy
from predictionguard_core.errors import ImageFetchError
from predictionguard_core.images import decoder
from predictionguard_core.images.cache import ImageCache, cache_of
from predictionguard_core.images.prepare import prepare_images
from predictionguard_core.steps import Compute, Download
from tests.core.images.samples import png, prepared, question

pytest.importorskip("PIL")

MEBIBYTE = 1 << 20
URL = "https://images.example/cat.png"
PNG = png(64, 48)


def turn(policy: ImagePolicy, *sources: Any, hosted: bytes | Exception = PNG) -> tuple[list[str], list[Image]]:
    """Send a message with images. Return the names of the steps it took, and the images."""
    operation, steps, result = prepare_images(question(*sources), policy), [], None
    try:
        while True:
            step = operation.send(result)
            steps.append(type(step).__name__)
            if isinstance(step, Download):
                result = [hosted] * len(step.urls)
            else:
                assert isinstance(step, Compute)
                result = [job(60.0) for job in step.jobs]
    except StopIteration as end:
        return steps, end.value[1]


def test_without_a_cache_each_turn_downloads_and_converts() -> None:
    policy = ImagePolicy(max_edge=20)
    assert [turn(policy, URL)[0] for _ in range(2)] == [["Download", "Compute"]] * 2


def test_a_url_is_downloaded_once() -> None:
    policy = ImagePolicy(max_edge=21, cache_bytes=MEBIBYTE)
    first, second = turn(policy, URL), turn(policy, URL, hosted=ImageFetchError("the URL has expired"))
    assert (first[0], second[0]) == (["Download", "Compute"], [])
    assert first[1] == second[1]
    assert first[1][0].size == (21, 16)


def test_a_url_that_needs_no_conversion_is_downloaded_once() -> None:
    policy = ImagePolicy(cache_bytes=MEBIBYTE + 1)
    assert [turn(policy, URL)[0] for _ in range(2)] == [["Download"], []]


def test_one_url_twice_in_a_request_is_downloaded_once() -> None:
    operation = prepare_images(question(URL, URL), ImagePolicy())
    assert next(operation) == Download([URL], ImagePolicy())


def test_a_failed_download_is_tried_again() -> None:
    policy = ImagePolicy(cache_bytes=MEBIBYTE + 2)
    with pytest.raises(ImageFetchError):
        turn(policy, URL, hosted=ImageFetchError("no"))
    assert turn(policy, URL)[0] == ["Download"]


def test_an_image_is_converted_once_however_it_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    decoded, decode = [], decoder.decode
    monkeypatch.setattr(decoder, "decode", lambda *args: decoded.append(args) or decode(*args))
    (tmp_path / "a.png").write_bytes(PNG)
    policy = ImagePolicy(max_edge=22, cache_bytes=MEBIBYTE)
    images = [prepared(source, policy)[0] for source in (PNG, tmp_path / "a.png", tmp_path / "a.png")]
    assert len(decoded) == 1
    assert len(set(images)) == 1
    prepared(PNG, ImagePolicy(max_edge=23, cache_bytes=MEBIBYTE))
    assert len(decoded) == 2


def test_equal_policies_share_a_cache_and_it_ends_with_them() -> None:
    policy = ImagePolicy(cache_bytes=MEBIBYTE + 3)
    cache = cache_of(policy)
    assert cache is cache_of(ImagePolicy(cache_bytes=MEBIBYTE + 3))
    assert cache is cache_of(pickle.loads(pickle.dumps(policy)))
    assert cache is not cache_of(ImagePolicy(cache_bytes=MEBIBYTE + 3, max_edge=9))


def test_its_size_is_bounded_and_the_oldest_go_first() -> None:
    images = [Image.open(png(5, 4, padding=1000, seed=seed)) for seed in range(4)]
    cache = ImageCache(images[0].length * 2)
    cache.put("a", [images[0]])
    cache.put("b", [images[1]])
    assert cache.get("a") == [images[0]]
    cache.put("c", [images[2]])
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ([images[0]], None, [images[2]])
    cache.put("d", images[1:])
    assert cache.get("d") is None
    assert cache.get("c") is not None


def test_threads_may_share_it() -> None:
    images = [Image.open(png(5, 4, padding=100, seed=seed)) for seed in range(8)]
    cache = ImageCache(images[0].length * 3)

    def use() -> None:
        for number in range(2000):
            key = number % 8
            cache.put(key, [images[key]])
            assert cache.get(key) in (None, [images[key]])

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache._bytes == sum(image.length for found in cache._entries.values() for image in found)
    assert cache._bytes <= images[0].length * 3
