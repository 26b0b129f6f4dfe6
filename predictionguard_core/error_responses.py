"""Which error an answer stands for: its status, and the text of a check, to a class of the tree."""

from __future__ import annotations

import datetime
import email.utils
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from predictionguard_core.errors import (
    APIStatusError,
    AuthenticationError,
    CheckFailedError,
    ContextOverflowError,
    FactualityError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PIIDetectedError,
    PromptInjectionError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    ToxicityError,
)

_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: RequestTooLargeError,
    422: InvalidRequestError,
    429: RateLimitError,
}

# The four texts are the endpoint's own (its documentation and official clients): the status does not tell them apart.
_BY_CHECK: dict[str, type[CheckFailedError]] = {
    "pii detected": PIIDetectedError,
    "prompt injection detected": PromptInjectionError,
    "failed toxicity check": ToxicityError,
    "failed factuality check": FactualityError,
}

_MODELS = "`python -m predictionguard_core models` lists this account's models and what they can do."
_ELSEWHERE = "The address leads elsewhere, where the key is not taken: check PREDICTIONGUARD_URL or base_url=..."
_OVERFLOW = ("context_length_exceeded", "maximum context length", "context window")
_LONGEST_TEXT = 2000
_LONGEST_READ = 64 * 1024
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{80,}={0,2}")
_REQUEST_ID_HEADERS = ("x-request-id", "request-id")


def error_from_response(status_code: int, headers: Mapping[str, str], body: bytes) -> APIStatusError:
    """The error that an answer with a failing status stands for. `headers` has case-insensitive or lower-case keys."""
    text, code = _message(status_code, body)
    request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)
    error = _class_of(status_code, text, code)(
        text, status_code=status_code, request_id=request_id, retry_after=retry_after(headers)
    )
    if 300 <= status_code <= 399:
        error.remedy = _ELSEWHERE
    elif type(error) is InvalidRequestError and "model" in text.lower():
        error.remedy = _MODELS
    return error


def error_from_payload(error: Any, request_id: str | None = None) -> APIStatusError:
    """The error that stands inside a delivered reply: a choice's `status`, or an `error` event of a stream."""
    text, code = _text_of(error)
    text = text[len("error:") :] if text.lower().startswith("error:") else text
    text = _shortened(text.strip()) or "the service reported an error without a text"
    status_code = code if isinstance(code, int) and 400 <= code <= 599 else 200
    return _class_of(status_code, text, code)(text, status_code=status_code, request_id=request_id)


def error_within(body: bytes) -> Any:
    """What stands under `error` in a reply; None if nothing does."""
    return _object(body).get("error") or None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the `Retry-After` header, given as seconds or as a date (RFC 9110, 10.2.3); None if absent."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError, TypeError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        seconds = (date - datetime.datetime.now(datetime.UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _class_of(status_code: int, text: str, code: Any) -> type[APIStatusError]:
    if status_code in (200, 400, 422):
        lowered = text.strip().rstrip(".").lower()
        check = _BY_CHECK.get(lowered)
        if check:
            return check
        if code == _OVERFLOW[0] or any(sign in lowered for sign in _OVERFLOW):
            return ContextOverflowError
    if 500 <= status_code <= 599:
        return ServerError
    return _BY_STATUS.get(status_code, APIStatusError)


def _message(status_code: int, body: bytes) -> tuple[str, Any]:
    decoded = _object(body)
    text, code = _text_of(decoded.get("error", decoded.get("message", decoded.get("detail"))))
    if text:
        return _shortened(text), code
    text = body.decode("utf-8", errors="replace").strip()
    if not text:
        return f"the service answered status {status_code} with an empty body", None
    return _shortened(f"the service answered: {text}"), None


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; empty where it is none."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _text_of(error: Any) -> tuple[str, Any]:
    if isinstance(error, str):
        return error, None
    if isinstance(error, dict):
        text = error.get("message")
        return text if isinstance(text, str) else json.dumps(error, default=str), error.get("code")
    return ("", None) if error is None else (json.dumps(error, default=str), None)


def _shortened(text: str) -> str:
    # "The endpoint's own text is kept", but for a picture that it echoes and the rest of a page that a gateway sends.
    text = _ENCODED.sub(lambda found: f"<{len(found[0])} characters>", text[:_LONGEST_READ])
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text)} characters)"
