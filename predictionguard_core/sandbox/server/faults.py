"""Scripted faults: which request meets which fault, and what becomes of its response. Free of any socket."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from predictionguard_core.sandbox.checks.rules import (
    FACTUALITY_FAILED,
    INJECTION_DETECTED,
    PII_DETECTED,
    TOXICITY_FAILED,
)
from predictionguard_core.sandbox.options import ScriptedAnswer
from predictionguard_core.sandbox.responses import DONE, FORBIDDEN, Disconnect, Event, Pause, Response, ServiceError
from predictionguard_core.sandbox.routes import Request, plain_path

GENERATING = ("/chat/completions", "/completions")
CHECKS = {
    "pii": ("input", "pii", PII_DETECTED),
    "injection": ("input", "block_prompt_injection", INJECTION_DETECTED),
    "toxicity": ("output", "toxicity", TOXICITY_FAILED),
    "factuality": ("output", "factuality", FACTUALITY_FAILED),
}
"""Name of a check (also of its header for documents) to the option that asks for it and the text of its failure."""

_TEXTS = {401: "invalid api key", 403: FORBIDDEN, 429: "rate limit exceeded"}
_WITHOUT_BODY = (204, 304)  # RFC 9110, sections 15.3.5 and 15.4.5

Change = Callable[[Response], Response]


class Fault:
    """One scripted fault, for the next requests that match. As a context manager it ends with the block.

    `requests` holds the decoded body of each request that met it (None for a GET), and `met` is their number. `left` is
    how many may still meet it, or None for a fault that lasts.
    """

    def __init__(
        self,
        name: str,
        change: Change,
        *,
        times: int | None,
        path: str | None = None,
        model: str | None = None,
        only: Callable[[Request], bool] = lambda request: True,
        scripted: ScriptedAnswer | None = None,
    ) -> None:
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(f"times={times!r}: give a whole number, 1 or more, or None for every request from now on")
        self.name = name
        self.left = times
        self.requests: list[Any] = []
        self.is_lasting = times is None
        self.change = change
        self.scripted = scripted
        self._path = None if path is None else plain_path("/" + path.lstrip("/"))
        self._model = model
        self._only = only

    @property
    def met(self) -> int:
        """How many requests met it."""
        return len(self.requests)

    def matches(self, request: Request) -> bool:
        """Whether a request would meet it."""
        if (self.left is not None and self.left < 1) or self._path not in (None, plain_path(request.path)):
            return False
        return self._model in (None, field(request, "model")) and self._only(request)

    def cancel(self) -> None:
        """Let no further request meet it."""
        self.left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __repr__(self) -> str:
        left = "any number" if self.left is None else self.left
        return f"<Fault {self.name}: met {self.met}, {left} left>"


class Script:
    """The faults of a sandbox, in the order in which they were scripted; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Append a fault and return it."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, request: Request) -> Fault | None:
        """Return the first fault that a request matches; the request counts as one that met it."""
        with self._lock:
            fault = next((each for each in self._faults if each.matches(request)), None)
            if fault is not None:
                fault.requests.append(request.body)
                if fault.left is not None:
                    fault.left -= 1
        return fault

    def unmet(self) -> list[Fault]:
        """Return those scripted for a number of requests that were not cancelled and met none."""
        with self._lock:
            return [each for each in self._faults if not each.is_lasting and each.left and not each.met]

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            for fault in self._faults:
                fault.cancel()
            self._faults.clear()


def field(request: Request, *names: str) -> Any:
    """Return a field of a request's body, however deep, or None."""
    value = request.body
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def is_stream(request: Request) -> bool:
    """Whether a request asks for a stream of events."""
    return plain_path(request.path) in GENERATING and field(request, "stream") is True


def error(
    status: int, text: str | None, retry_after: float | str | None, headers: Mapping[str, str] | None, body: Any
) -> Change:
    """Return a change that puts an error, or whatever `body` is, in place of the response."""
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status={status!r}: give an HTTP status from 200 to 599")
    if text is not None and body is not None:
        raise ValueError('text and body: give one; text is sent as {"error": text}, body as it is')
    if retry_after is not None and not isinstance(retry_after, str) and not _is_number(retry_after):
        raise ValueError(f"retry_after={retry_after!r}: give seconds, 0 or more, or an HTTP date as text")
    if status in _WITHOUT_BODY:
        body = b""
    if text is None:
        text = _TEXTS.get(status) or _phrase(status)
    more = {str(name): str(value) for name, value in (headers or {}).items()}
    if retry_after is not None:
        more["Retry-After"] = str(retry_after)
    if body is None:
        return lambda _: Response(status, {"error": text}, headers=more)
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        kind = "text/html" if raw.lstrip()[:1] == b"<" else "text/plain"
        return lambda _: Response(status, raw=raw, headers={"Content-Type": kind, **more})
    json.dumps(body)  # raises here, not in a thread of the server
    return lambda _: Response(status, body, headers=more)


def failed_check(check: str) -> tuple[Change, Callable[[Request], bool]]:
    """Return the service's error for a failed check, and whether a request asks for that check."""
    if check not in CHECKS:
        raise ValueError(f"check={check!r}: there are {', '.join(CHECKS)}")
    side, name, text = CHECKS[check]

    def asks(request: Request) -> bool:
        in_header = plain_path(request.path) == "/documents/extract" and request.headers.get(check, "")
        return bool(field(request, side, name)) or str(in_header).lower() not in ("", "false")

    return lambda _: ServiceError(text).response(), asks


def pause(seconds: float | None, after: int, *, keep_alive: bool = False) -> Change:
    """Return a change that puts silence, or only comments, before the response or after so many of its events."""
    if seconds is not None and not _is_number(seconds):
        raise ValueError(f"seconds={seconds!r}: give seconds, 0 or more, or None for as long as anybody waits")
    return _interrupt(Pause(seconds, keep_alive), after)


def slow_headers(seconds: float) -> Change:
    """Return a change that spreads the status line and headers over so many seconds."""
    if not _is_number(seconds):
        raise ValueError(f"seconds={seconds!r}: give seconds, 0 or more")
    return lambda response: dataclasses.replace(response, head_seconds=float(seconds))


def disconnect(after: int, text: str | None = None) -> Change:
    """Return a change that closes the connection after so many events; with a text, after an event with an error."""
    return _interrupt(Disconnect(), after, text)


def _interrupt(here: Pause | Disconnect, after: int, text: str | None = None) -> Change:
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ValueError(f"after={after!r}: give a number of events, 0 or more")
    # Comments and error events need a stream that has begun.
    before_headers = after == 0 and text is None and not (isinstance(here, Pause) and here.keep_alive)

    def change(response: Response) -> Response:
        if response.events is None or before_headers:
            return dataclasses.replace(response, first=here)
        return dataclasses.replace(response, events=interrupted(response.events))

    def interrupted(events: Iterable[Event]) -> Iterator[Event]:
        done = False
        for number, event in enumerate(events):
            # At the latest before the event that ends the answer: what comes after it is never missed.
            if not done and (number == after or _is_end(event)):
                done = True
                if text is not None:
                    yield json.dumps({"error": text})
                yield here
                if isinstance(here, Disconnect):
                    return
            yield event

    return change


def _is_end(event: Event) -> bool:
    if not isinstance(event, str) or event == DONE:
        return event == DONE
    return any(choice.get("finish_reason") for choice in json.loads(event)["choices"])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return f"status {status}"
