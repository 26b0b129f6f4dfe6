"""Compare two responses to the same request: status, content type, error message and JSON types."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx

Shape = dict[str, set[str]]
"""The JSON types found at each path, such as `choices[].index`."""

_LONGEST = 160


@dataclasses.dataclass(frozen=True)
class Response:
    """The compared parts of an HTTP response. `events` are the decoded events of a stream, without `[DONE]`."""

    status: int
    kind: str
    text: str
    value: Any = None
    events: tuple[Any, ...] | None = None
    is_done: bool = False

    @property
    def error(self) -> str | None:
        """The error message, or None for a success."""
        if self.status < 400:
            return None
        error = self.value.get("error") if isinstance(self.value, dict) else None
        return error if isinstance(error, str) else self.text

    @property
    def shape(self) -> Shape:
        """The paths and types of the JSON value, or of all events together."""
        return merged(shape(each) for each in self.events) if self.events is not None else shape(self.value)


def read(response: httpx.Response) -> Response:
    """Return the compared parts of a response whose body has been read."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind != "text/event-stream":
        return Response(response.status_code, kind, response.text, _decoded(response.text))
    lines = [line.removeprefix("data:").strip() for line in response.text.split("\n") if line.startswith("data:")]
    events = tuple(_decoded(line) for line in lines if line != "[DONE]")
    return Response(response.status_code, kind, response.text, None, events, "[DONE]" in lines)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def shape(value: Any, at: str = "") -> Shape:
    """Return the paths of a JSON value and their types. All elements of a list share one path."""
    if isinstance(value, dict):
        return merged(shape(each, f"{at}.{name}" if at else name) for name, each in value.items())
    if isinstance(value, list):
        return merged([{f"{at}[]": set()}, *(shape(each, f"{at}[]") for each in value)])
    name = "null" if value is None else "number" if isinstance(value, int | float) and value is not True else "string"
    return {at: {"boolean" if isinstance(value, bool) else name}}


def merged(shapes: Any) -> Shape:
    """Return the union of several shapes."""
    paths: Shape = {}
    for each in shapes:
        for path, types in each.items():
            paths.setdefault(path, set()).update(types)
    return paths


def differences(live: Response, sandbox: Response) -> Iterator[str]:
    """Describe how the live response differs from the sandbox's."""
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
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in theirs:
            yield f"has {path} ({_types(ours[path])})"
        elif path not in ours:
            yield f"lacks {path} ({_types(theirs[path])})"
        elif ours[path] != theirs[path]:
            yield f"{path} is {_types(ours[path])}, not {_types(theirs[path])}"


def _types(types: set[str]) -> str:
    return " or ".join(sorted(types)) or "list"


def _shortened(text: str | None) -> str:
    if text is None:
        return "no error"
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
