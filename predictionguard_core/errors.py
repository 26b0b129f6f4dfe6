"""The exceptions of this package, as a tree.

    PredictionGuardError
    ├─ ConfigurationError                 no API key, bad URL, bad option
    ├─ ContentError                       content that can't be sent: .message_index, .block_index
    │  ├─ UnsupportedContentError         audio, video, file ids, unknown blocks
    │  └─ ImageError
    │     ├─ ImageFormatError             not an image, corrupt, or of no known type
    │     ├─ ImageTooLargeError           bytes, pixels, or count over the policy
    │     ├─ ImageBlockedError            the policy refuses this host, URL, scheme or path
    │     └─ ImageFetchError              an allowed download failed
    ├─ APIConnectionError                 no response
    │  └─ APITimeoutError
    ├─ APIStatusError                     an error response
    │  ├─ InvalidRequestError             400, 422
    │  │  ├─ CheckFailedError             a check of Prediction Guard's stopped the call
    │  │  │  ├─ PIIDetectedError
    │  │  │  ├─ PromptInjectionError
    │  │  │  ├─ ToxicityError
    │  │  │  └─ FactualityError
    │  │  └─ ContextOverflowError
    │  ├─ AuthenticationError             401
    │  │  └─ PermissionDeniedError        403
    │  ├─ NotFoundError                   404
    │  ├─ RequestTooLargeError            413
    │  ├─ RateLimitError                  429
    │  └─ ServerError                     5xx
    └─ InvalidResponseError               a 200 that is not valid JSON or no event stream
       └─ StreamInterruptedError          the stream ended with neither finish_reason nor [DONE]

Every class can be pickled, and none holds an API key or the bytes of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


def _rebuild(kind: type[PredictionGuardError], state: dict[str, Any]) -> PredictionGuardError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (state.get("message", ""),)
    return error


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that led to it, each once.

    An object that is raised again, as mocks do, while an error that it caused is handled, makes the chain a circle.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__context__, each.__cause__]


class PredictionGuardError(Exception):
    """Base class. `message` says what went wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by calling their class with `args`, which keyword arguments don't survive.
        return _rebuild, (type(self), dict(self.__dict__))


class ConfigurationError(PredictionGuardError):
    """Raised for a missing API key, a bad URL or an option outside its documented range. Nothing was sent."""


class ContentError(PredictionGuardError):
    """Raised for content that can't be sent. Nothing was sent.

    `message_index` and `block_index` count from 0 in the caller's messages. Each is None if the content was not part of
    a message (a bare prompt, a list of images).
    """

    def __init__(self, message: str, *, message_index: int | None = None, block_index: int | None = None) -> None:
        super().__init__(message)
        self.message_index = message_index
        self.block_index = block_index

    def with_location(self, message_index: int | None, block_index: int | None) -> ContentError:
        """Fill in the location where the error has none, and return the error."""
        if self.message_index is None:
            self.message_index = message_index
        if self.block_index is None:
            self.block_index = block_index
        return self

    def __str__(self) -> str:
        place = [
            f"{name} {index}"
            for name, index in (("message", self.message_index), ("block", self.block_index))
            if index is not None
        ]
        return f"{', '.join(place)}: {self.message}" if place else self.message


class UnsupportedContentError(ContentError):
    """Raised for content that the endpoint does not accept: audio, video, file ids, unknown blocks."""


class ImageError(ContentError):
    """Raised for an image that can't be sent."""


class ImageFormatError(ImageError):
    """Raised for bytes that are no image, are corrupt, or are of a type that can't be sent."""


class ImageTooLargeError(ImageError):
    """Raised if bytes, pixels or the number of images exceed the `ImagePolicy`. The message has both numbers."""


class ImageBlockedError(ImageError):
    """Raised if the `ImagePolicy` refuses a host, URL, scheme or path. Nothing was connected to or read."""


class ImageFetchError(ImageError):
    """Raised if the download of an image fails."""


class APIConnectionError(PredictionGuardError):
    """Raised if no response arrives: the URL is wrong, no server listens there, or the connection was lost.

    `may_retry` says that no byte of a response had arrived, so that the client retries by itself.
    """

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class APITimeoutError(APIConnectionError):
    """Raised if no response arrives in time."""


class APIStatusError(PredictionGuardError):
    """Raised for a response that reports an error.

    `message` is the endpoint's own text. `status_code` is the HTTP status, or 200 if the error is inside a successful
    response. `request_id` is the service's id of the request, or None. `retry_after` is the pause in seconds that the
    service asked for, or None.
    """

    remedy: str = ""

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = [f"HTTP {self.status_code}"]
        if self.request_id:
            facts.append(f"request {self.request_id}")
        text = f"{self.message} ({', '.join(facts)})"
        return f"{text}. {self.remedy}" if self.remedy else text


class InvalidRequestError(APIStatusError):
    """400 or 422: the endpoint refuses the request. Sending the same request again does not help."""


class CheckFailedError(InvalidRequestError):
    """Raised if one of Prediction Guard's checks stopped the call."""


class PIIDetectedError(CheckFailedError):
    """The service says "pii detected": the input holds personal data and `pii="block"` is set."""

    remedy = 'Remove the personal data, or let the service replace it with InputChecks(pii="replace").'


class PromptInjectionError(CheckFailedError):
    """The service says "prompt injection detected": the input reads like an attempt to take over the prompt."""

    remedy = "Rephrase the input, or treat its author as hostile."


class ToxicityError(CheckFailedError):
    """The service says "failed toxicity check": the answer was toxic and is withheld."""

    remedy = "The model's answer is withheld: ask again in other words."


class FactualityError(CheckFailedError):
    """The service says "failed factuality check": the answer contradicts its context and is withheld."""

    remedy = "The model's answer is withheld: give it the facts as context, or ask again in other words."


class ContextOverflowError(InvalidRequestError):
    """The messages are longer than the model's context window."""

    remedy = "Send fewer or shorter messages, or smaller images (ImagePolicy(max_edge=...))."


class AuthenticationError(APIStatusError):
    """401: the key is missing or unknown."""

    remedy = "Check PREDICTIONGUARD_API_KEY (or api_key=...), and that it belongs to the URL in PREDICTIONGUARD_URL."


class PermissionDeniedError(AuthenticationError):
    """403: the key is known or malformed, and may not do this."""


class NotFoundError(APIStatusError):
    """404: no such path or model at this URL."""

    remedy = (
        "Check the model's name (`python -m predictionguard_core models` lists those of the account), and whether the "
        "URL (base_url=... or PREDICTIONGUARD_URL) ends with a wrong path."
    )


class RequestTooLargeError(APIStatusError):
    """413: the body is larger than the service or a gateway accepts."""

    remedy = "Send fewer or smaller images (ImagePolicy(max_edge=...) shrinks them)."


class RateLimitError(APIStatusError):
    """429: too many requests, or the quota is used up."""

    remedy = "Send fewer requests at a time, allow more attempts with max_retries=..., or ask for a higher limit."


class ServerError(APIStatusError):
    """5xx: the service failed."""

    remedy = "Try again later, or allow more attempts with max_retries."


class InvalidResponseError(PredictionGuardError):
    """Raised for a successful response whose body is not the expected JSON or event stream."""


class StreamInterruptedError(InvalidResponseError):
    """Raised if a stream ends without a finish reason or `[DONE]`: the answer is incomplete."""
