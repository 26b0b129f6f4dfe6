"""How long is waited between attempts, by the clock; `tests/core/test_operations.py` has the numbers by themselves."""

from __future__ import annotations

import datetime
import email.utils
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from predictionguard_core.errors import RateLimitError
from tests.faults.meeting import meet
from tests.faults.server import FaultServer
from tests.faults.table import refusal
from tests.faults.ways import CHAT, Way


@pytest.fixture(autouse=True)
def _no_pauses() -> None:
    """Here they are as long as they are."""


def in_all_ways(*scripts: Any, good: bool = True, **options: Any) -> list[tuple[Way, Any, int]]:
    """What comes of a call in each way, side by side, and how many requests it cost."""

    def one(way: Way) -> tuple[Way, Any, int]:
        with FaultServer(*scripts, *([way.good] if good else [])) as server:
            return way, meet(way, server.url, server, alone=False, **options), len(server.requests)

    with ThreadPoolExecutor(len(CHAT)) as threads:
        return list(threads.map(one, CHAT))


def test_delays_grow_without_retry_after() -> None:
    for way, met, requests in in_all_ways([], []):
        assert (met.error, met.text, requests) == (None, way.text, 3)
        assert met.seconds >= 0.75 * (0.5 + 1)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(status: int) -> None:
    for way, met, requests in in_all_ways(refusal(status, retry_after="1")):
        assert (met.error, met.text, requests) == (None, way.text, 2)
        assert met.seconds >= 0.95


def test_retry_after_as_a_date() -> None:
    def now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    ends: list[datetime.datetime] = []
    moment = (now() + datetime.timedelta(seconds=3)).replace(microsecond=0)  # a date has no fractions of a second
    refused = refusal(429, retry_after=email.utils.format_datetime(moment, usegmt=True))
    for way, met, requests in in_all_ways(refused, [lambda: ends.append(now())]):
        assert (met.error, met.text, requests) == (None, way.text, 3)
    assert min(ends) >= moment - datetime.timedelta(seconds=0.05)


@pytest.mark.parametrize("value", ["-5", "nan", "1e400", "1, 2", "Wed, 99 Foo 2026", "\xe9"])
def test_an_invalid_retry_after_is_ignored(value: str) -> None:
    for way, met, requests in in_all_ways(refusal(429, retry_after=value)):
        assert (met.error, met.text, requests) == (None, way.text, 2)
        assert met.seconds < 30


@pytest.mark.parametrize(("value", "seconds"), [("1e9", 1e9), ("86400", 86400.0), ("-5", 0.0), ("nan", None)])
def test_the_error_has_the_retry_after_of_the_service(value: str, seconds: float | None) -> None:
    for _, met, requests in in_all_ways(refusal(429, retry_after=value), good=False, max_retries=0):
        assert isinstance(met.error, RateLimitError)
        assert (met.error.retry_after, requests) == (seconds, 1)
