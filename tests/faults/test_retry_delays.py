"""The delays between attempts, measured; `tests/core/test_operations.py` tests the numbers."""

from __future__ import annotations

import datetime
import email.utils
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from predictionguard_core.errors import RateLimitError
from tests.faults.methods import CHAT, Method
from tests.faults.recorded_calls import record_call
from tests.faults.server import FaultServer
from tests.faults.table import refusal


@pytest.fixture(autouse=True)
def _no_pauses() -> None:
    """Override the fixture of conftest.py: here the delays are real."""


def in_all_methods(*scripts: Any, good: bool = True, **options: Any) -> list[tuple[Method, Any, int]]:
    """Make a call with each method at the same time. Return its outcome and the number of requests."""

    def one(method: Method) -> tuple[Method, Any, int]:
        with FaultServer(*scripts, *([method.good] if good else [])) as server:
            return method, record_call(method, server.url, server, alone=False, **options), len(server.requests)

    with ThreadPoolExecutor(len(CHAT)) as threads:
        return list(threads.map(one, CHAT))


def test_delays_grow_without_retry_after() -> None:
    for method, outcome, requests in in_all_methods([], []):
        assert (outcome.error, outcome.text, requests) == (None, method.text, 3)
        assert outcome.seconds >= 0.75 * (0.5 + 1)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(status: int) -> None:
    for method, outcome, requests in in_all_methods(refusal(status, retry_after="1")):
        assert (outcome.error, outcome.text, requests) == (None, method.text, 2)
        assert outcome.seconds >= 0.95


def test_retry_after_as_a_date() -> None:
    def now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    ends: list[datetime.datetime] = []
    moment = (now() + datetime.timedelta(seconds=3)).replace(microsecond=0)  # a date has no fractions of a second
    refused = refusal(429, retry_after=email.utils.format_datetime(moment, usegmt=True))
    for method, outcome, requests in in_all_methods(refused, [lambda: ends.append(now())]):
        assert (outcome.error, outcome.text, requests) == (None, method.text, 3)
    assert min(ends) >= moment - datetime.timedelta(seconds=0.05)


@pytest.mark.parametrize("value", ["-5", "nan", "1e400", "1, 2", "Wed, 99 Foo 2026", "\xe9"])
def test_an_invalid_retry_after_is_ignored(value: str) -> None:
    for method, outcome, requests in in_all_methods(refusal(429, retry_after=value)):
        assert (outcome.error, outcome.text, requests) == (None, method.text, 2)
        assert outcome.seconds < 30


@pytest.mark.parametrize(("value", "seconds"), [("1e9", 1e9), ("86400", 86400.0), ("-5", 0.0), ("nan", None)])
def test_the_error_has_the_retry_after_of_the_service(value: str, seconds: float | None) -> None:
    for _, outcome, requests in in_all_methods(refusal(429, retry_after=value), good=False, max_retries=0):
        assert isinstance(outcome.error, RateLimitError)
        assert (outcome.error.retry_after, requests) == (seconds, 1)
