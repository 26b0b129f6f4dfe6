"""Each of the core's errors as a class that is LangChain's, too, and the place where the one becomes the other.

The tree is the core's (`predictionguard_core.errors`): code that catches the core's class, LangChain's `Model…Error` or
the class of the same name here catches the same error. Which of LangChain's a class is stands in its line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from langchain_core import exceptions as lc

from predictionguard_core import errors as core


class PredictionGuardError(core.PredictionGuardError, lc.ModelError):
    """The root of the tree."""


class ConfigurationError(core.ConfigurationError, PredictionGuardError, lc.ModelInvalidRequestError):
    """No key, a bad address, or a bad option."""


class ContentError(core.ContentError, PredictionGuardError, lc.ModelInvalidRequestError):
    """What was given can't be sent: `message_index`, `block_index`."""


class UnsupportedContentError(core.UnsupportedContentError, ContentError):
    """Audio, video, file ids, unknown blocks."""


class ImageError(core.ImageError, ContentError):
    """A picture that can't be sent."""


class ImageFormatError(core.ImageFormatError, ImageError):
    """Not an image, corrupt, or of no known type."""


class ImageTooLargeError(core.ImageTooLargeError, ImageError):
    """Bytes, pixels, or count over the policy."""


class ImageBlockedError(core.ImageBlockedError, ImageError):
    """The policy refuses this host, address, scheme or path."""


class ImageFetchError(core.ImageFetchError, ImageError):
    """A download that the policy allows failed."""


class APIConnectionError(core.APIConnectionError, PredictionGuardError, lc.ModelConnectionError):
    """No answer."""


class APITimeoutError(core.APITimeoutError, APIConnectionError, lc.ModelTimeoutError):
    """No answer in time."""


class APIStatusError(core.APIStatusError, PredictionGuardError):
    """An answer that is an error: `status_code`, `message`, `request_id`, `retry_after`."""


class InvalidRequestError(core.InvalidRequestError, APIStatusError, lc.ModelInvalidRequestError):
    """400, 422."""


class CheckFailedError(core.CheckFailedError, InvalidRequestError):
    """A check of Prediction Guard's stopped the call."""


class PIIDetectedError(core.PIIDetectedError, CheckFailedError):
    """The input holds personal data."""


class PromptInjectionError(core.PromptInjectionError, CheckFailedError):
    """The input tries to take over the prompt."""


class ToxicityError(core.ToxicityError, CheckFailedError):
    """The answer was toxic."""


class FactualityError(core.FactualityError, CheckFailedError):
    """The answer contradicts its context."""


class ContextOverflowError(core.ContextOverflowError, InvalidRequestError, lc.ContextOverflowError):
    """The messages are longer than the model's context window."""


class AuthenticationError(core.AuthenticationError, APIStatusError, lc.ModelAuthenticationError):
    """401."""


class PermissionDeniedError(core.PermissionDeniedError, AuthenticationError, lc.ModelPermissionDeniedError):
    """403."""


class NotFoundError(core.NotFoundError, APIStatusError, lc.ModelNotFoundError):
    """404."""


class RequestTooLargeError(core.RequestTooLargeError, APIStatusError, lc.ModelInvalidRequestError):
    """413."""


class RateLimitError(core.RateLimitError, APIStatusError, lc.ModelRateLimitError):
    """429."""


class ServerError(core.ServerError, APIStatusError, lc.ModelAPIError):
    """5xx."""


class InvalidResponseError(core.InvalidResponseError, PredictionGuardError, lc.ModelAPIError):
    """A 200 that is not the promised JSON or event stream."""


class StreamInterruptedError(core.StreamInterruptedError, InvalidResponseError):
    """The stream ended before the answer did."""


TABLE: dict[type[core.PredictionGuardError], type[PredictionGuardError]] = {
    kind.__bases__[0]: kind for kind in list(vars().values()) if isinstance(kind, type) and kind.__module__ == __name__
}
"""The core's class to the one that is LangChain's, too."""


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """The core's errors leave as classes that are LangChain's, too, with their place, status and cause."""
    try:
        yield
    except core.PredictionGuardError as error:
        if isinstance(error, lc.ModelError):
            raise
        raise _both(error) from error.__cause__


def _both(error: core.PredictionGuardError) -> PredictionGuardError:
    kind = next(TABLE[each] for each in type(error).__mro__ if each in TABLE)
    both = kind.__new__(kind)
    both.__dict__.update(error.__dict__)
    both.args = error.args
    return both.with_traceback(error.__traceback__)


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
