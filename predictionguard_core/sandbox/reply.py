"""What a call comes to: a reply, or a refusal with the endpoint's own words."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING = "required fields are missing"
FORBIDDEN = "api understands the request but refuses to authorize it"
DONE = "[DONE]"


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so many seconds; with None, for as long as the other side waits."""

    seconds: float | None


@dataclass(frozen=True)
class Cut:
    """The connection ends here, in the middle of what was being sent."""


Event = str | Pause | Cut


@dataclass(frozen=True)
class Reply:
    """One answer, free of any socket.

    `body` is a JSON value and is sent when `events` and `raw` are None. `raw` is sent as it is. `events` holds the
    `data` field of each server-sent event in order, the closing `[DONE]` included. `first` happens before all of it.
    """

    status: int
    body: Any = None
    events: Iterable[Event] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    first: Pause | Cut | None = None

    def after(self, first: Pause | Cut) -> Reply:
        """This reply, with something before it."""
        return dataclasses.replace(self, first=first)

    def with_events(self, events: Iterable[Event]) -> Reply:
        """This reply, with other events."""
        return dataclasses.replace(self, events=events)


class Refusal(Exception):  # noqa: N818 (it is no error of the program)
    """The request is refused: `status` is an HTTP status, `text` goes out as `{"error": text}`."""

    def __init__(self, text: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        """The refusal as a reply."""
        return Reply(self.status, {"error": self.text}, headers=self.headers)


def identifier(prefix: str) -> str:
    """A fresh id such as `chat-554c4c24-a1ea-4c9f-b91c-612bbac34f4e`."""
    return f"{prefix}-{uuid.uuid4()}"


def now() -> int:
    """Seconds since 1970, as the `created` field has them."""
    return int(time.time())
