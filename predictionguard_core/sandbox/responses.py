"""What a request is answered with: a response, or an error in the service's own words. Free of any socket."""

from __future__ import annotations

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
    """Nothing is sent for so many seconds; with None, for as long as the client waits.

    With `keep_alive`, comments are sent meanwhile, as servers and proxies do to keep an event stream open.
    """

    seconds: float | None
    keep_alive: bool = False


@dataclass(frozen=True)
class Disconnect:
    """The connection is closed here, in the middle of what was being sent."""


Event = str | Pause | Disconnect


@dataclass(frozen=True)
class Response:
    """One response.

    `body` is a JSON value and is sent if `events` and `raw` are None. `raw` is sent as it is. `events` holds the `data`
    field of each server-sent event in order, the closing `[DONE]` included. `first` happens before anything is sent,
    and the status line and headers are spread over `head_seconds`.
    """

    status: int
    body: Any = None
    events: Iterable[Event] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    first: Pause | Disconnect | None = None
    head_seconds: float = 0.0


class ServiceError(Exception):
    """Raised to refuse a request: `status` is an HTTP status, `text` is sent as `{"error": text}`."""

    def __init__(self, text: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the response that carries this error."""
        return Response(self.status, {"error": self.text}, headers=self.headers)


def head(prefix: str, kind: str, *, model: str | None = None, response_id: str | None = None) -> dict[str, Any]:
    """Return the fields every response begins with; the id is a new one such as `chat-554c4c24-…` unless given."""
    fields: dict[str, Any] = {
        "id": f"{prefix}-{uuid.uuid4()}" if response_id is None else response_id,
        "object": kind,
        "created": int(time.time()),
    }
    return fields if model is None else {**fields, "model": model}
