"""Fixtures: no pause between retries, so that the tests are fast, and a check of what asyncio logs."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses' jitter comes from `random.uniform`. test_retry_delays.py tests their length."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)


@pytest.fixture(autouse=True)
def _loops_do_not_complain(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if asyncio logged a warning, such as a destroyed task or an error that was never retrieved."""
    yield
    said = [each for each in caplog.get_records("call") if each.name == "asyncio" and each.levelno > logging.INFO]
    assert [each.getMessage() for each in said] == []
