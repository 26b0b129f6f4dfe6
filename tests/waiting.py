"""Wait for something that happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds. Generous, for slow machines."""


def until(condition: Callable[[], object]) -> None:
    """Return as soon as `condition()` is true. Raises AssertionError after 30 seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.005)
