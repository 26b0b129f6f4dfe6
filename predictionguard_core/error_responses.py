"""HTTP status and body of a response to the matching exception."""

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
_REDIRECT = "The URL leads elsewhere, where the API key is not accepted: check PREDICTIONGUARD_URL or base_url=..."
_OVERFLOW_CODES = ("context_length_exceeded", "exceed_context_size_error")  # OpenAI and vLLM; llama.cpp
_OVERFLOW_TEXTS = (*_OVERFLOW_CODES, "maximum context length", "context window", "available context size")
# "max_model_len" (vLLM) and "model group" (LiteLLM) are in texts about other things.
_UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.{0,200}\b(not found|does not exist|doesn't exist|not available|does not support|doesn't support)\b"
    r"|\b(unknown|invalid|no such|unsupported) model\b(?! group)",
    re.IGNORECASE | re.DOTALL,
)
_MAX_MESSAGE = 2000
_MAX_READ = 64 * 1024
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{80,}={0,2}")
_REQUEST_ID_HEADERS = ("x-request-id", "request-id")


def error_from_response(status_code: int, headers: Mapping[str, str], body: bytes) -> APIStatusError:
    """Return the error for a response with a failing status. `headers` has case-insensitive or lower-case keys."""
    text, code = _message(status_code, body)
    error = _class_of(status_code, text, code)(
        text, status_code=status_code, request_id=request_id(headers), retry_after=retry_after(headers)
    )
    if 300 <= status_code <= 399:
        error.remedy = _REDIRECT
    elif status_code == 501:
        error.remedy = (
            "This endpoint or option is not implemented at this URL: check PREDICTIONGUARD_URL or base_url=..."
        )
    elif type(error) is InvalidRequestError and "streaming" in text and "vision" in text:
        error.remedy = "Leave vision_streaming=True out: answers about images then come in one chunk."
    elif type(error) is InvalidRequestError and _UNKNOWN_MODEL.search(text):
        error.remedy = _MODELS
    return error


def error_from_payload(error: Any, request_id: str | None = None) -> APIStatusError:
    """Return the error for what a delivered response says: a choice's `status`, or an `error` event of a stream."""
    text, code = _text_of(error)
    text = text[len("error:") :] if text.lower().startswith("error:") else text
    text = _shorten(text.strip()) or "the service reported an error without a text"
    status_code = code if isinstance(code, int) and 400 <= code <= 599 else 200
    return _class_of(status_code, text, code)(text, status_code=status_code, request_id=request_id)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of a request, from the headers of its response."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)


def names_unknown_model(error: APIStatusError, model: str) -> bool:
    """Return whether an error says that there is no such model."""
    return (
        type(error) in (InvalidRequestError, NotFoundError)
        and (model in error.message or error.status_code == 404)
        and _UNKNOWN_MODEL.search(error.message) is not None
    )


def error_within(body: bytes) -> Any:
    """Return the `error` of a JSON object, or None."""
    return _object(body).get("error") or None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the `Retry-After` header, a number or a date (RFC 9110, 10.2.3); None without one."""
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
        if code in _OVERFLOW_CODES or any(each in lowered for each in _OVERFLOW_TEXTS):
            return ContextOverflowError
    if 500 <= status_code <= 599:
        return ServerError
    return _BY_STATUS.get(status_code, APIStatusError)


def _message(status_code: int, body: bytes) -> tuple[str, Any]:
    decoded = _object(body)
    text, code = _text_of(decoded.get("error", decoded.get("message", decoded.get("detail"))))
    if text:
        return _shorten(text), code
    text = body.decode("utf-8", errors="replace").strip()
    if not text:
        return f"the service returned status {status_code} with an empty body", None
    return _shorten(f"the service returned: {text}"), None


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body, empty if it is none."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _text_of(error: Any) -> tuple[str, Any]:
    if isinstance(error, str):
        return error, None
    if isinstance(error, dict):
        text, code = error.get("message"), error.get("code")
        # llama.cpp tells an overflow by its type.
        code = error["type"] if error.get("type") in _OVERFLOW_CODES else code
        return text if isinstance(text, str) else json.dumps(error, default=str), code
    return ("", None) if error is None else (json.dumps(error, default=str), None)


def _shorten(text: str) -> str:
    # The service's own text is kept, except for an image that it echoes and the rest of a long page.
    text = _BASE64.sub(lambda found: f"<{len(found[0])} characters>", text[:_MAX_READ])
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}… ({len(text)} characters)"
