"""What two answers to the same request have in common, and what not: status, shape, words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx

Shape = dict[str, set[str]]
"""To each place in a JSON value, such as `choices[].index`, the types of what stands there."""

_LONGEST = 160


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer, as far as it is compared. `events` are the decoded events of a stream, without `[DONE]`."""

    status: int
    kind: str
    text: str
    value: Any = None
    events: tuple[Any, ...] | None = None
    is_done: bool = False

    @property
    def error(self) -> str | None:
        """The words of an error."""
        if self.status < 400:
            return None
        error = self.value.get("error") if isinstance(self.value, dict) else None
        return error if isinstance(error, str) else self.text

    @property
    def shape(self) -> Shape:
        """The places of its value, or of all its events."""
        return merged(shape(each) for each in self.events) if self.events is not None else shape(self.value)


def read(response: httpx.Response) -> Answer:
    """What there is to compare of a response that was read to its end."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind != "text/event-stream":
        return Answer(response.status_code, kind, response.text, _decoded(response.text))
    lines = [line.removeprefix("data:").strip() for line in response.text.split("\n") if line.startswith("data:")]
    events = tuple(_decoded(line) for line in lines if line != "[DONE]")
    return Answer(response.status_code, kind, response.text, None, events, "[DONE]" in lines)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def shape(value: Any, at: str = "") -> Shape:
    """The places of a JSON value, and their types. All elements of a list are one place."""
    if isinstance(value, dict):
        return merged(shape(each, f"{at}.{name}" if at else name) for name, each in value.items())
    if isinstance(value, list):
        return merged([{f"{at}[]": set()}, *(shape(each, f"{at}[]") for each in value)])
    name = "null" if value is None else "number" if isinstance(value, int | float) and value is not True else "text"
    return {at: {"true or false" if isinstance(value, bool) else name}}


def merged(shapes: Any) -> Shape:
    """All places of several shapes."""
    places: Shape = {}
    for each in shapes:
        for place, types in each.items():
            places.setdefault(place, set()).update(types)
    return places


def differences(live: Answer, sandbox: Answer) -> Iterator[str]:
    """What the live answer has otherwise, in words."""
    if live.status != sandbox.status:
        yield f"status {live.status}, not {sandbox.status}"
    if live.kind != sandbox.kind:
        yield f"content type {live.kind or 'none'}, not {sandbox.kind or 'none'}"
    if live.error != sandbox.error:
        yield f"says {_shortened(live.error)}, not {_shortened(sandbox.error)}"
    if (live.status < 400) != (sandbox.status < 400):
        return
    if live.is_done != sandbox.is_done:
        yield f"the stream ends {'with' if live.is_done else 'without'} [DONE]"
    ours, theirs = live.shape, sandbox.shape
    for place in sorted(ours.keys() | theirs.keys()):
        if place not in theirs:
            yield f"has {place} ({_types(ours[place])})"
        elif place not in ours:
            yield f"lacks {place} ({_types(theirs[place])})"
        elif ours[place] != theirs[place]:
            yield f"{place} is {_types(ours[place])}, not {_types(theirs[place])}"


def _types(types: set[str]) -> str:
    return " or ".join(sorted(types)) or "list"


def _shortened(text: str | None) -> str:
    if text is None:
        return "no error"
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
