"""A bounded cache of prepared images, for conversations that send the same images in every turn."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable

from predictionguard_core.images.image import Image
from predictionguard_core.images.policy import ImagePolicy


class ImageCache:
    """Images by their source. Above `max_bytes` the least recently used are dropped. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[Hashable, list[Image]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> list[Image] | None:
        """Return the images of a source, or None if they are not in the cache."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, images: list[Image]) -> None:
        """Keep the images of a source, if they fit at all."""
        size = _size(images)
        if size > self._max_bytes:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = images
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= _size(self._entries.popitem(last=False)[1])


def _size(images: list[Image]) -> int:
    return sum(image.length for image in images)


_caches: weakref.WeakKeyDictionary[ImagePolicy, ImageCache] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def cache_of(policy: ImagePolicy) -> ImageCache:
    """Return the cache that equal policies share."""
    with _lock:
        return _caches.setdefault(policy, ImageCache(policy.cache_bytes))


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _caches.clear()  # another thread may have held their locks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
