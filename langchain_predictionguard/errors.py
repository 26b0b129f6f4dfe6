"""The core's errors as subclasses of LangChain's errors.

The tree is that of `predictionguard_core.errors`. Code that catches the core's class, LangChain's `Model…Error` or the
class of the same name here catches the same error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from langchain_core import exceptions as lc

from predictionguard_core import errors as core


class PredictionGuardError(core.PredictionGuardError, lc.ModelError):
    """Base class of all errors of this package."""


class ConfigurationError(core.ConfigurationError, PredictionGuardError, lc.ModelInvalidRequestError):
    """Raised for a missing API key, a bad URL or a bad option."""


class ContentError(core.ContentError, PredictionGuardError, lc.ModelInvalidRequestError):
    """Raised for content that can't be sent; `message_index` and `block_index` locate it."""


class UnsupportedContentError(core.UnsupportedContentError, ContentError):
    """Raised for audio, video, file ids and unknown content blocks."""


class ImageError(core.ImageError, ContentError):
    """Raised for an image that can't be sent."""


class ImageFormatError(core.ImageFormatError, ImageError):
    """Raised for data that is not an image, is corrupt or is of an unknown type."""


class ImageTooLargeError(core.ImageTooLargeError, ImageError):
    """Raised when the bytes, pixels or number of images exceed the policy."""


class ImageBlockedError(core.ImageBlockedError, ImageError):
    """Raised when the policy refuses a host, address, scheme or path."""


class ImageFetchError(core.ImageFetchError, ImageError):
    """Raised when an allowed download fails."""


class APIConnectionError(core.APIConnectionError, PredictionGuardError, lc.ModelConnectionError):
    """Raised when the service does not respond."""


class APITimeoutError(core.APITimeoutError, APIConnectionError, lc.ModelTimeoutError):
    """Raised when the service does not respond in time."""


class APIStatusError(core.APIStatusError, PredictionGuardError):
    """Raised for an error response; has `status_code`, `message`, `request_id` and `retry_after`."""


class InvalidRequestError(core.InvalidRequestError, APIStatusError, lc.ModelInvalidRequestError):
    """Raised for status 400 and 422."""


class CheckFailedError(core.CheckFailedError, InvalidRequestError):
    """Raised when one of Prediction Guard's checks stops a call."""


class PIIDetectedError(core.PIIDetectedError, CheckFailedError):
    """Raised when the input contains personal data."""


class PromptInjectionError(core.PromptInjectionError, CheckFailedError):
    """Raised when the input contains a prompt injection."""


class ToxicityError(core.ToxicityError, CheckFailedError):
    """Raised when the answer is toxic."""


class FactualityError(core.FactualityError, CheckFailedError):
    """Raised when the answer contradicts its context."""


class ContextOverflowError(core.ContextOverflowError, InvalidRequestError, lc.ContextOverflowError):
    """Raised when the messages exceed the model's context window."""


class AuthenticationError(core.AuthenticationError, APIStatusError, lc.ModelAuthenticationError):
    """Raised for status 401."""


class PermissionDeniedError(core.PermissionDeniedError, AuthenticationError, lc.ModelPermissionDeniedError):
    """Raised for status 403."""


class NotFoundError(core.NotFoundError, APIStatusError, lc.ModelNotFoundError):
    """Raised for status 404."""


class RequestTooLargeError(core.RequestTooLargeError, APIStatusError, lc.ModelInvalidRequestError):
    """Raised for status 413."""


class RateLimitError(core.RateLimitError, APIStatusError, lc.ModelRateLimitError):
    """Raised for status 429."""


class ServerError(core.ServerError, APIStatusError, lc.ModelAPIError):
    """Raised for status 5xx."""


class InvalidResponseError(core.InvalidResponseError, PredictionGuardError, lc.ModelAPIError):
    """Raised for a successful response that is not the documented JSON or event stream."""


class StreamInterruptedError(core.StreamInterruptedError, InvalidResponseError):
    """Raised when a stream ends before the answer is complete."""


TABLE: dict[type[core.PredictionGuardError], type[PredictionGuardError]] = {
    kind.__bases__[0]: kind for kind in list(vars().values()) if isinstance(kind, type) and kind.__module__ == __name__
}
"""Maps each class of the core to its class here."""


@contextlib.contextmanager
def langchain_errors() -> Iterator[None]:
    """Convert errors of the core that leave this block to the classes of this module, with all their attributes."""
    try:
        yield
    except core.PredictionGuardError as error:
        if isinstance(error, lc.ModelError):
            raise
        raise _converted(error) from error.__cause__


def _converted(error: core.PredictionGuardError) -> PredictionGuardError:
    kind = next(TABLE[each] for each in type(error).__mro__ if each in TABLE)
    converted = kind.__new__(kind)
    converted.__dict__.update(error.__dict__)
    converted.args = error.args
    return converted.with_traceback(error.__traceback__)


__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "CheckFailedError",
    "ConfigurationError",
    "ContentError",
    "ContextOverflowError",
    "FactualityError",
    "ImageBlockedError",
    "ImageError",
    "ImageFetchError",
    "ImageFormatError",
    "ImageTooLargeError",
    "InvalidRequestError",
    "InvalidResponseError",
    "NotFoundError",
    "PIIDetectedError",
    "PermissionDeniedError",
    "PredictionGuardError",
    "PromptInjectionError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServerError",
    "StreamInterruptedError",
    "ToxicityError",
    "UnsupportedContentError",
]
