"""What a flow may ask of whoever drives it, and what it is answered.

A flow is a generator that yields steps and is sent their results; an error of a step is thrown into it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from predictionguard_core.api import Body
from predictionguard_core.images.policy import ImagePolicy

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Download these pictures side by side; answered by a list with the bytes, or the error, of each."""

    urls: list[str]
    policy: ImagePolicy


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Call these where they may take their time; answered by a list with the result, or the error, of each."""

    jobs: list[Callable[[], Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send a request; answered by an `Answer`. Raises `APIConnectionError` where none comes.

    With `stream`, the body of a success is left unread for the driver.
    """

    method: str
    path: str
    body: Body | None = None
    model: str | None = None
    stream: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A `Send` with its address and headers, as it goes to the network.

    `timeout` and `connect_timeout` are seconds, for one wait each.
    """

    method: str
    url: str
    headers: dict[str, str] = dataclasses.field(repr=False)  # the key is among them
    timeout: float
    connect_timeout: float


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`headers` has case-insensitive keys."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for this many seconds."""

    seconds: float


Step = Fetch | Work | Send | Wait
Flow = Generator[Step, Any, T]
