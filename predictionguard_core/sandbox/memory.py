"""What a sandbox remembers between requests: the last prompt of each model, to count cached tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence

BLOCK = 16
"""Cached tokens are counted in whole blocks of this many, as servers with a prefix cache keep them."""


class Memory:
    """State of one sandbox; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, list[tuple[bytes, int]]] = {}

    def shared(self, model: str, marks: Sequence[tuple[bytes, int]]) -> int:
        """How many leading tokens this prompt shares with the model's last one; then remembers this one.

        `marks` holds a fingerprint and a number of tokens for each part of the prompt, in order.
        """
        with self._lock:
            before = self._last.get(model, [])
            self._last[model] = list(marks)
        common = 0
        for old, new in zip(before, marks, strict=False):
            if old != new:
                break
            common += new[1]
        # The last token is always computed anew.
        whole = sum(size for _, size in marks)
        return max(0, min(common, whole - 1)) // BLOCK * BLOCK

    def clear(self) -> None:
        """Forgets all prompts."""
        with self._lock:
            self._last.clear()
