"""Server-sent events: bytes in, chunks out.

Covers events as the HTML standard defines them (section 9.2, "Server-sent events"), `[DONE]`, errors inside a stream,
and streams that end early.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from pydantic_core import from_json

from predictionguard_core.api.responses import (
    MAX_TOOL_CALLS,
    ChatChunk,
    ChunkChoice,
    Delta,
    ToolCallDelta,
    raise_for_choice_status,
)
from predictionguard_core.error_responses import error_from_payload
from predictionguard_core.errors import InvalidResponseError, StreamInterruptedError

_BOM = b"\xef\xbb\xbf"
_MAX_EVENT_BYTES = 64 * 1024 * 1024


class Event(NamedTuple):
    """One event of a stream. `name` is empty for most."""

    name: bytes
    data: bytes


class EventDecoder:
    """Splits the bytes of an event stream into events.

    Lines end with LF, CR LF or CR and nothing else: U+0085 and U+2028 are ordinary characters of a JSON string.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._has_started = False
        self._ends_with_cr = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes. Raises `InvalidResponseError` for an event over 64 MiB."""
        events: list[Event] = []
        if not self._has_started:
            data = self._take_line() + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._line.append(data)
                return events
            self._has_started = True
            data = data.removeprefix(_BOM)
        if self._ends_with_cr and data:
            # The second half of a CR LF that was cut in two.
            data = data.removeprefix(b"\n")
            self._ends_with_cr = False
        if b"\r" in data:
            self._ends_with_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._size += len(data)
        if self._size > _MAX_EVENT_BYTES:
            raise InvalidResponseError(f"the stream holds an event of more than {_MAX_EVENT_BYTES:,} bytes")
        first, *lines = data.split(b"\n")
        self._line.append(first)
        if not lines:
            return events
        lines.insert(0, self._take_line())
        self._line.append(lines.pop())
        for line in lines:
            if line:
                self._read_field(line)
            else:
                self._take_event(events)
        return events

    def finish(self) -> list[Event]:
        """Return the event at the end of the stream that no blank line follows.

        The standard drops it, but servers that leave out the last blank line after `[DONE]` are common.
        """
        events: list[Event] = []
        line = self._take_line()
        if line:
            self._read_field(line)
        self._take_event(events)
        return events

    def _take_line(self) -> bytes:
        # Joined once: a long line that comes in many pieces would be copied for each of them.
        line, self._line = b"".join(self._line), []
        return line

    def _take_event(self, events: list[Event]) -> None:
        if self._data:
            events.append(Event(self._name, b"\n".join(self._data)))
        self._name, self._data, self._size = b"", [], 0

    def _read_field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()


class ChunkReader:
    """Reads the chunks of one streamed answer: `feed` it bytes as they come, `finish` it at their end.

    The chunks are the same whatever the server's habits. All have the first one's id (the service sends a new one with
    each). Fragments of one tool call share an index, and its id and name come once. Only choice 0 is read. The last
    chunk, and no other, has `is_last` set, the finish reason and the usage.

    `has_content` says that the bytes fed last held some of the answer. `has_finished` says that the finish reason came,
    `is_done` that `[DONE]` came; nothing after it is read.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self.has_content = self.has_finished = self.is_done = False
        self._events = EventDecoder()
        self._request_id = request_id
        self._final_chunk = ChatChunk(choices=[ChunkChoice(delta=Delta())])
        self._final_chunk.is_last = True
        self._has_begun = self._has_text = False
        self._silent_bytes = 0
        self._calls = ToolCallFragments()

    def feed(self, data: bytes) -> Iterator[ChatChunk]:
        """Yield the chunks that `data` completes.

        Raises the matching error for an error inside the stream, and `InvalidResponseError` for an event that is no
        chunk, or for more than 64 MiB of comments and empty chunks.
        """
        self.has_content = False
        for event in self._events.feed(data):
            if not self.is_done and (chunk := self._read(event)) is not None:
                yield chunk
        self._silent_bytes = 0 if self.has_content else self._silent_bytes + len(data)
        if self._silent_bytes > _MAX_EVENT_BYTES:
            raise InvalidResponseError(f"the stream sent more than {_MAX_EVENT_BYTES:,} bytes without content")

    def finish(self) -> Iterator[ChatChunk]:
        """Yield the chunks that the end of the bytes completes.

        Raises `StreamInterruptedError` if the answer's end never came.
        """
        with contextlib.suppress(InvalidResponseError):  # an event that was cut off
            for event in self._events.finish():
                if not self.is_done and (chunk := self._read(event)) is not None:
                    yield chunk
        if self.is_done:
            return
        if not self.has_finished:
            raise StreamInterruptedError(
                "the stream ended before the answer did: what was delivered is a part of it. Send the request again"
            )
        yield self._final_chunk

    def _read(self, event: Event) -> ChatChunk | None:
        """Return the chunk of an event, or None if nothing is left of it."""
        name, data = event
        if data.strip() == b"[DONE]":
            self.is_done = True
            return self._final_chunk
        if name == b"error" or b'"error"' in data:
            self._raise_error(event)
        chunk, final = ChatChunk.parse(data), self._final_chunk
        raise_for_choice_status(chunk, self._request_id)
        if not self._has_begun:
            self._has_begun = True
            final.id = chunk.id
        # Assigned only where something changes: assigning to a pydantic model costs as much as parsing a field.
        if chunk.id != final.id:
            chunk.id = final.id
        if final.created is None:
            final.created = chunk.created
        if final.model is None:
            final.model = chunk.model
        if chunk.usage is not None:
            # Some servers count on every chunk: the last count is the whole one.
            if chunk.usage.total_tokens or final.usage is None:
                final.usage = chunk.usage
            chunk.usage = None
        choices = [choice for choice in chunk.choices if choice.index == 0 and self._move_to_final_chunk(choice)]
        if len(choices) != len(chunk.choices):
            chunk.choices = choices
        return chunk if choices else None

    def _move_to_final_chunk(self, choice: ChunkChoice) -> bool:
        """Move the finish reason and the whole text to the final chunk. Return whether anything is left."""
        delta = choice.delta
        if choice.generated_text:
            self._final_chunk.choices[0].generated_text = choice.generated_text
            if not (self._has_text or delta.content):
                delta.content = choice.generated_text  # from a server that delivers the text only at the end, whole
        if delta.content:
            self._has_text = True
        if delta.tool_calls:
            self._calls.assign_indices(delta.tool_calls)
        has_content = bool(delta.content or delta.reasoning or delta.refusal or delta.tool_calls)
        if has_content:
            self.has_content = True
        if choice.finish_reason is None:
            return True
        if not self.has_finished:
            self.has_finished = True
            self._final_chunk.choices[0].finish_reason = choice.finish_reason
        choice.finish_reason = choice.generated_text = None
        return has_content

    def _raise_error(self, event: Event) -> None:
        try:
            decoded = from_json(event.data)
        except ValueError:
            decoded = event.data.decode("utf-8", "replace")
        if isinstance(decoded, dict) and decoded.get("error"):
            raise error_from_payload(decoded["error"], self._request_id)
        if event.name == b"error":
            raise error_from_payload(decoded, self._request_id)


class ToolCallFragments:
    """Tells the fragments of parallel tool calls apart, whatever index and id the server sets.

    A fragment with an id that is not the last one's starts a call, even under an index that was used before or under
    none; a fragment without an id belongs to its index, or to the last call. Afterwards each has an index, and only a
    call's first fragment an id and a name.
    """

    def __init__(self) -> None:
        self._ids: list[str | None] = []
        self._names: list[str | None] = []
        self._has_arguments: list[bool] = []
        self._by_index: dict[int, int] = {}
        self._last_call: int | None = None

    def assign_indices(self, fragments: list[ToolCallDelta]) -> None:
        """Set `index`, `id` and the name of each fragment, in place."""
        for fragment in fragments:
            call = self._find_call(fragment)
            if call is None:
                call = len(self._ids)
                if call >= MAX_TOOL_CALLS:
                    raise InvalidResponseError(f"the answer has more than {MAX_TOOL_CALLS} tool calls")
                self._ids.append(fragment.id)
                self._names.append(None)
                self._has_arguments.append(False)
            elif fragment.id is not None and self._ids[call] is None:
                self._ids[call] = fragment.id
            else:
                fragment.id = None
            self._last_call = call
            if fragment.index is not None:
                self._by_index[fragment.index] = call
            fragment.index = call
            if self._names[call]:
                fragment.function.name = None
            self._names[call] = self._names[call] or fragment.function.name
            self._has_arguments[call] = self._has_arguments[call] or bool(fragment.function.arguments)

    def _find_call(self, fragment: ToolCallDelta) -> int | None:
        """Return the number of the call that a fragment continues, or None if it starts a new one."""
        if fragment.id and fragment.id in self._ids:
            return self._ids.index(fragment.id)
        candidate = self._last_call if fragment.index is None else self._by_index.get(fragment.index)
        if candidate is None:
            return None
        other_id = bool(fragment.id) and self._ids[candidate] is not None
        # Without ids, a second name after the arguments have begun is another call's. The same name is the same tool
        # called twice: a second "{" begins new arguments.
        has_second_name = not fragment.id and bool(fragment.function.name) and self._has_arguments[candidate]
        starts_new_call = has_second_name and (
            fragment.function.name != self._names[candidate] or (fragment.function.arguments or "").startswith("{")
        )
        return None if other_id or starts_new_call else candidate
