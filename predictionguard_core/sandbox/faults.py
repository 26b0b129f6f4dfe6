"""What goes wrong on demand, for tests of what a program does then: which request meets which fault.

Free of any socket, like the behaviour: a fault turns a reply into another reply, whose `Pause` and `Cut` the server
performs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from predictionguard_core.sandbox.behaviour import Call, plain_path
from predictionguard_core.sandbox.chat import Outcome
from predictionguard_core.sandbox.checks import FACTUALITY_FAILED, INJECTION_DETECTED, PII_DETECTED, TOXICITY_FAILED
from predictionguard_core.sandbox.reply import DONE, FORBIDDEN, Cut, Event, Pause, Refusal, Reply

GENERATING = ("/chat/completions", "/completions")
CHECKS = {
    "pii": ("input", "pii", PII_DETECTED),
    "injection": ("input", "block_prompt_injection", INJECTION_DETECTED),
    "toxicity": ("output", "toxicity", TOXICITY_FAILED),
    "factuality": ("output", "factuality", FACTUALITY_FAILED),
}
"""Name of a check (also of its header for documents) to the option that asks for it and the text of its failure."""

_TEXTS = {401: "invalid api key", 403: FORBIDDEN, 429: "rate limit exceeded"}
_BARE = (204, 304)  # an answer with one of these has no body, by HTTP itself

Turn = Callable[[Reply], Reply]


class Fault:
    """One thing that goes wrong, for the next requests that it fits. As a context manager it ends with the block.

    `requests` holds the decoded body of each request that met it (None for a GET), and `met` is their number. `left` is
    how many may still meet it, or None for a fault that lasts.
    """

    def __init__(
        self,
        name: str,
        turn: Turn,
        *,
        times: int | None,
        path: str | None = None,
        model: str | None = None,
        only: Callable[[Call], bool] = lambda call: True,
        says: Outcome | None = None,
    ) -> None:
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(f"times={times!r}: give a whole number, 1 or more, or None for every request from now on")
        self.name = name
        self.left = times
        self.requests: list[Any] = []
        self.lasts = times is None
        self.turn = turn
        self.says = says
        self._path = None if path is None else plain_path("/" + path.lstrip("/"))
        self._model = model
        self._only = only

    @property
    def met(self) -> int:
        """How many requests met it."""
        return len(self.requests)

    def fits(self, call: Call) -> bool:
        """Whether it is meant for this call."""
        if (self.left is not None and self.left < 1) or self._path not in (None, plain_path(call.path)):
            return False
        return self._model in (None, field(call, "model")) and self._only(call)

    def cancel(self) -> None:
        """No further request meets it."""
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
    """The faults of a sandbox, in the order in which they were asked for; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Appends a fault; gives it back."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, call: Call) -> Fault | None:
        """The first fault that fits a call, which has then met it."""
        with self._lock:
            fault = next((each for each in self._faults if each.fits(call)), None)
            if fault is not None:
                fault.requests.append(call.body)
                if fault.left is not None:
                    fault.left -= 1
        return fault

    def unmet(self) -> list[Fault]:
        """Those that were asked for a number of requests, were not cancelled, and met none."""
        with self._lock:
            return [each for each in self._faults if not each.lasts and each.left and not each.met]

    def clear(self) -> None:
        """Forgets all faults."""
        with self._lock:
            for fault in self._faults:
                fault.cancel()
            self._faults.clear()


def field(call: Call, *names: str) -> Any:
    """A field of a call's body, however deep; None where there is none."""
    value = call.body
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def streams(call: Call) -> bool:
    """Whether a call asks for a stream of events."""
    return plain_path(call.path) in GENERATING and field(call, "stream") is True


def refusal(
    status: int, text: str | None, retry_after: float | str | None, headers: Mapping[str, str] | None, body: Any
) -> Turn:
    """Puts an error, or whatever `body` is, in place of the answer."""
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status={status!r}: give an HTTP status from 200 to 599")
    if text is not None and body is not None:
        raise ValueError('text and body: give one; text is sent as {"error": text}, body as it is')
    if retry_after is not None and not isinstance(retry_after, str) and not _is_number(retry_after):
        raise ValueError(f"retry_after={retry_after!r}: give seconds, 0 or more, or an HTTP date as text")
    if status in _BARE:
        body = b""
    if text is None:
        text = _TEXTS.get(status) or _phrase(status)
    more = {str(name): str(value) for name, value in (headers or {}).items()}
    if retry_after is not None:
        more["Retry-After"] = str(retry_after)
    if body is None:
        return lambda _: Reply(status, {"error": text}, headers=more)
    if isinstance(body, str | bytes):
        raw = body.encode() if isinstance(body, str) else body
        kind = "text/html" if raw.lstrip()[:1] == b"<" else "text/plain"
        return lambda _: Reply(status, raw=raw, headers={"Content-Type": kind, **more})
    json.dumps(body)  # told now, not in a thread of the server
    return lambda _: Reply(status, body, headers=more)


def failed_check(check: str) -> tuple[Turn, Callable[[Call], bool]]:
    """The endpoint's refusal for a check, and whether a call asks for that check."""
    if check not in CHECKS:
        raise ValueError(f"check={check!r}: there are {', '.join(CHECKS)}")
    side, name, text = CHECKS[check]
    return lambda _: Refusal(text).reply(), lambda call: bool(field(call, side, name)) or _in_header(call, check)


def _in_header(call: Call, check: str) -> bool:
    return plain_path(call.path) == "/documents/extract" and call.headers.get(check, "").lower() not in ("", "false")


def paused(seconds: float | None, after: int) -> Turn:
    """Silence before the answer, or after so many of its events."""
    if seconds is not None and not _is_number(seconds):
        raise ValueError(f"seconds={seconds!r}: give seconds, 0 or more, or None for as long as anybody waits")
    return _broken(Pause(seconds), after)


def cut(after: int, text: str | None = None) -> Turn:
    """The end of the connection after so many events, or before the first byte; with a text, after an error event."""
    return _broken(Cut(), after, text)


def _broken(here: Pause | Cut, after: int, text: str | None = None) -> Turn:
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ValueError(f"after={after!r}: give a number of events, 0 or more")

    def turn(reply: Reply) -> Reply:
        if reply.events is None:
            return reply.after(here)
        return reply.after(here) if after == 0 and text is None else reply.with_events(_until(reply.events))

    def _until(events: Iterable[Event]) -> Iterator[Event]:
        told = False
        for number, event in enumerate(events):
            # At the latest before the event that ends the answer: what comes after it is never missed.
            if not told and (number == after or _ends(event)):
                told = True
                if text is not None:
                    yield json.dumps({"error": text})
                yield here
                if isinstance(here, Cut):
                    return
            yield event

    return turn


def _ends(event: Event) -> bool:
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
