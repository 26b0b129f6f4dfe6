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
    ├─ APIConnectionError                 no answer
    │  └─ APITimeoutError
    ├─ APIStatusError                     an answer that is an error
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
    └─ InvalidResponseError               a 200 that is not the promised JSON or event stream
       └─ StreamInterruptedError          the stream ended with neither finish_reason nor [DONE]

Every class can be pickled, and none holds an API key or the bytes of an image.
"""

from __future__ import annotations

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

    `message_index` and `block_index` count from 0 in the messages as the caller gave them; each is None where the
    content did not come in a message (a bare prompt, a list of images).
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
    """A kind of content that the endpoint has no part for: audio, video, file ids, unknown blocks."""


class ImageError(ContentError):
    """Raised for an image that can't be sent."""


class ImageFormatError(ImageError):
    """The bytes are no image, are corrupt, or are of a type that can't be sent."""


class ImageTooLargeError(ImageError):
    """Bytes, pixels, or count over the `ImagePolicy`. The text says both numbers."""


class ImageBlockedError(ImageError):
    """The `ImagePolicy` refuses this host, URL, scheme or path. Nothing was connected to or read."""


class ImageFetchError(ImageError):
    """A download that the policy allows failed."""


class APIConnectionError(PredictionGuardError):
    """No response came: the URL is wrong, nothing listens there, or the connection was lost.

    `may_retry` says that not a byte of an answer had come, so that the client asks again by itself.
    """

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


class APIStatusError(PredictionGuardError):
    """An answer that is an error.

    `message` is the endpoint's own text. `status_code` is the HTTP status, or 200 where a reply that was delivered says
    that it failed. `request_id` is what the service calls the request, if it said so. `retry_after` is in seconds, if
    the service asked for a pause.
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
    """400 or 422: the endpoint refuses the request as it stands. Trying again does not help."""


class CheckFailedError(InvalidRequestError):
    """A check of Prediction Guard's stopped the call."""


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
    """The service says "failed factuality check": the answer contradicts the context it was given and is withheld."""

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
        "Check the model's name (`python -m predictionguard_core models` lists the account's) and the URL, above all a "
        "path at its end (base_url=... or PREDICTIONGUARD_URL)."
    )


class RequestTooLargeError(APIStatusError):
    """413: the body is larger than the service or a gateway before it takes."""

    remedy = "Send fewer or smaller images (ImagePolicy(max_edge=...) shrinks them)."


class RateLimitError(APIStatusError):
    """429: too many requests, or the quota is used up."""

    remedy = "Send fewer requests at a time, allow more attempts with max_retries=..., or ask for a higher limit."


class ServerError(APIStatusError):
    """5xx: the service failed."""

    remedy = "Try again later, or allow more attempts with max_retries."


class InvalidResponseError(PredictionGuardError):
    """A success status with a body that is not the promised JSON or event stream."""


class StreamInterruptedError(InvalidResponseError):
    """The stream ended with neither a finish reason nor `[DONE]`: what was delivered is a part of the answer."""
