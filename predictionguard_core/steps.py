"""The steps that an operation asks its client to perform.

An operation is a sans-I/O generator (https://sans-io.readthedocs.io): it yields steps and is sent their results. An
error of a step is thrown into it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from predictionguard_core.api.body import Body

if TYPE_CHECKING:
    from predictionguard_core.images.policy import ImagePolicy

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """Download these images side by side. The result is a list with the bytes, or the error, of each."""

    urls: list[str]
    policy: ImagePolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Compute:
    """Call these functions off the event loop. The result is a list with the return value, or the error, of each.

    Each gets the number of seconds that the call's timeout leaves it.
    """

    jobs: list[Callable[[float], Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send a request. The result is a `Response`; `APIConnectionError` is raised if none arrives.

    With `stream`, the body of a successful response is left unread if it is an event stream.
    """

    method: str
    path: str
    body: Body | None = None
    model: str | None = None
    stream: bool = False
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """A response. `headers` has case-insensitive keys; `unread` is httpx's response if its body is an open stream."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes = dataclasses.field(default=b"", repr=False)
    unread: Any = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Wait for this many seconds."""

    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Parallel:
    """Run these operations side by side, `max_concurrency` at once. The result is the list of their results, in order.

    The first error ends the others and is raised.
    """

    operations: list[Operation[Any]]
    max_concurrency: int


def raise_if_error(result: Any) -> Any:
    """Raise a result of `Download` or `Compute` that is an error; return any other."""
    if isinstance(result, BaseException):
        raise result
    return result


Step = Download | Compute | Send | Wait | Parallel
Operation = Generator[Step, Any, T]
