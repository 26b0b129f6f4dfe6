"""What the matrix needs to be quick: pauses between attempts without length."""

from __future__ import annotations

import random

import pytest


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses' jitter comes from `random.uniform`. How long they are is tested in `test_pauses`."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)
