"""Which failures are retried, and how long to wait before each retry."""

from __future__ import annotations

import random

from predictionguard_core.errors import APIConnectionError, APIStatusError, PredictionGuardError

MAX_RETRY_AFTER = 60.0
"""Seconds. A service that asks for a longer pause (a daily quota, say) is not asked again."""

_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 8.0
_NOT_IMPLEMENTED = 501


def can_retry(error: PredictionGuardError) -> bool:
    """Return whether sending the same request again can help: after lost connections, 408, 429 and most 5xx."""
    if isinstance(error, APIStatusError):
        status = error.status_code
        is_temporary = status in (408, 429) or (500 <= status <= 599 and status != _NOT_IMPLEMENTED)
        return is_temporary and (error.retry_after or 0.0) <= MAX_RETRY_AFTER
    return isinstance(error, APIConnectionError) and error.may_retry


def retry_delay(attempt: int, error: PredictionGuardError) -> float:
    """Return the seconds to wait after the failed attempt number `attempt`, counted from 0.

    The `Retry-After` header decides, if there is one; else exponential backoff with jitter, so that many clients that
    failed together do not come back together.
    """
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        return float(retry_after)
    backoff = min(_FIRST_BACKOFF * 2.0 ** min(attempt, 9), _MAX_BACKOFF)
    return backoff * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
