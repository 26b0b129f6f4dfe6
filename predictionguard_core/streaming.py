"""Bytes of an event stream in, chunks out.

Knows server-sent events as the WHATWG's HTML standard defines them (section 9.2), `[DONE]`, errors inside the stream,
and a stream that was cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from pydantic_core import from_json

from predictionguard_core.api.responses import (
    ChatChunk,
    ChunkChoice,
    ToolCallDelta,
    raise_for_choice_status,
    text_alone,
)
from predictionguard_core.error_responses import error_from_payload
from predictionguard_core.errors import InvalidResponseError, StreamInterruptedError
from predictionguard_core.quick import like

_BOM = b"\xef\xbb\xbf"
_LONGEST_EVENT = 64 * 1024 * 1024


class EventDecoder:
    """Splits the bytes of an event stream, however they were cut, into the `data` of each event.

    Lines end with LF, CR LF or CR and nothing else: U+0085 and U+2028 are ordinary characters of a JSON string. `name`
    is what the event that was given last is called, empty for most.
    """

    def __init__(self) -> None:
        self.name = b""
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._started = False
        self._after_cr = False

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The events that `data` completes. Raises `InvalidResponseError` for an event of more than 64 MiB."""
        if data.startswith(b"data: ") and data.endswith(b"\n\n") and self._is_between_events:
            event = data[6:-2]
            if b"\n" not in event and b"\r" not in event:  # one event, as most servers send them
                self.name = b""
                return (event,)
        return self._events(data)

    @property
    def _is_between_events(self) -> bool:
        return self._started and not (self._size or self._after_cr or self._data or self._name or any(self._rest))

    def _events(self, data: bytes) -> Iterator[bytes]:
        if not self._started:
            data = self._rest_of_line() + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest.append(data)
                return
            self._started = True
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            # The LF of a CR LF that was cut in two.
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._size += len(data)
        if self._size > _LONGEST_EVENT:
            raise InvalidResponseError(f"the stream holds an event of more than {_LONGEST_EVENT} bytes")
        first, *lines = data.split(b"\n")
        self._rest.append(first)
        if not lines:
            return
        lines.insert(0, self._rest_of_line())
        self._rest.append(lines.pop())
        for line in lines:
            if line:
                self._field(line)
            else:
                yield from self._dispatched()

    def _rest_of_line(self) -> bytes:
        # Collected and joined once: a long line that comes in many pieces would be copied for each of them.
        rest, self._rest = b"".join(self._rest), []
        return rest

    def finish(self) -> Iterator[bytes]:
        """What stands at the end of the stream without a blank line behind it.

        The standard drops such an event; servers that forget the last blank line after `[DONE]` are too common to.
        """
        rest = self._rest_of_line()
        if rest:
            self._field(rest)
        yield from self._dispatched()

    def _dispatched(self) -> Iterator[bytes]:
        data, self._data, self._size = self._data, [], 0
        self.name, self._name = self._name, b""
        if data:
            yield b"\n".join(data)

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()


Piece = ChatChunk | str
"""What comes of a stream: a chunk, or the text of one that has text and nothing else. The first is always a chunk."""


class Chunks:
    """Makes chunks of the pieces of one answer, one after the other."""

    def __init__(self) -> None:
        self._likeness: ChatChunk | None = None

    def chunk(self, piece: Piece) -> ChatChunk:
        """A piece as a chunk, with the answer's id, model and time."""
        if isinstance(piece, str):
            assert self._likeness is not None, "the first piece is a chunk"
            choice = self._likeness.choices[0]
            return like(self._likeness, {"choices": [like(choice, {"delta": like(choice.delta, {"content": piece})})]})
        if self._likeness is None:
            self._likeness = ChatChunk(id=piece.id, created=piece.created, model=piece.model, choices=[ChunkChoice()])
        return piece


class ChunkReader:
    """Reads the chunks of one streamed answer: `feed` it bytes as they come, `finish` it at their end.

    What comes out is the same whatever the server's habits: all chunks bear the first one's id (the service sends a new
    one with each), the fragments of one tool call share an index and its id and name come once, and exactly one chunk,
    the last, `is_last`: it has the finish reason and the usage.

    `done` says that `[DONE]` came: what follows is not read. Raises `StreamInterruptedError` from `finish` if the
    answer's end never came, the error's own class for an error inside the stream, `InvalidResponseError` for an event
    that is not a chunk. `has_finished` says that the finish reason came.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self.done = False
        self._events = EventDecoder()
        self._request_id = request_id
        self._last = ChatChunk(choices=[ChunkChoice()], is_last=True)
        self._has_begun = self._has_given = False
        self._has_text = False
        self.has_finished = False
        self._calls = ToolCallFragments()
        self._unheard = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """The pieces that `data` completes."""
        events = self._events.feed(data)
        if isinstance(events, tuple) and self._has_given and not self.done:
            # Most events add to the text and do nothing else.
            text = text_alone(events[0])
            if text:
                self._has_text = True
                self._unheard = 0
                return (text,)
        return self._heard(len(data), self._chunks(events))

    def finish(self) -> Iterator[ChatChunk]:
        """The chunks that the end of the bytes completes."""
        with contextlib.suppress(InvalidResponseError):  # an event that was cut is no event
            yield from self._chunks(self._events.finish())
        if self.done:
            return
        if not self.has_finished:
            raise StreamInterruptedError(
                "the stream ended before the answer did: what was delivered is only a part of it. Ask again"
            )
        yield self._last

    def _heard(self, size: int, chunks: Iterator[ChatChunk]) -> Iterator[ChatChunk]:
        # Comments and empty chunks are signs of life now and then, but not without end.
        self._unheard += size
        for chunk in chunks:
            self._unheard = 0
            yield chunk
        if self._unheard > _LONGEST_EVENT:
            raise InvalidResponseError(f"the stream says nothing in {_LONGEST_EVENT} bytes")

    def _chunks(self, events: Iterable[bytes]) -> Iterator[ChatChunk]:
        for event in events:
            if self.done:
                return
            if event.strip() == b"[DONE]":
                self.done = True
                yield self._last
                return
            chunk = self._settled(event)
            if chunk.choices:
                self._has_given = True
                yield chunk

    def _settled(self, event: bytes) -> ChatChunk:
        if b'"error"' in event or self._events.name == b"error":
            self._raise_error(event)
        chunk, last = ChatChunk.parse(event), self._last
        chunk.is_last = False
        raise_for_choice_status(chunk, self._request_id)
        if not self._has_begun:
            self._has_begun = True
            last.id = chunk.id
        chunk.id = last.id
        last.created, last.model = last.created or chunk.created, last.model or chunk.model
        if chunk.usage is not None:
            # Some servers count on every chunk: the last count is the whole one.
            if chunk.usage.total_tokens or last.usage is None:
                last.usage = chunk.usage
            chunk.usage = None
        chunk.choices = [choice for choice in chunk.choices if self._adds(choice)]
        return chunk

    def _adds(self, choice: ChunkChoice) -> bool:
        """Take from a choice what belongs on the last chunk. False if that is all that it has."""
        delta = choice.delta
        if choice.generated_text:
            self._last.choices[0].generated_text = choice.generated_text
            if not (self._has_text or delta.content):
                delta.content = choice.generated_text  # a server that delivers the text only at the end, whole
        self._has_text = self._has_text or bool(delta.content)
        if delta.tool_calls:
            self._calls.settle(delta.tool_calls)
        if choice.finish_reason is None:
            return True
        if not self.has_finished:
            self.has_finished = True
            self._last.choices[0].finish_reason = choice.finish_reason
        choice.finish_reason = choice.generated_text = None
        return bool(delta.content or delta.reasoning or delta.refusal or delta.tool_calls)

    def _raise_error(self, event: bytes) -> None:
        try:
            decoded = from_json(event)
        except ValueError:
            decoded = event.decode("utf-8", "replace")
        if isinstance(decoded, dict) and decoded.get("error"):
            raise error_from_payload(decoded["error"], self._request_id)
        if self._events.name == b"error":
            raise error_from_payload(decoded, self._request_id)


class ToolCallFragments:
    """Tells the fragments of parallel tool calls apart, whatever index and id a server gives them.

    A fragment with an id that is not the last one's begins a call, even under an index that was used before or under
    none; a fragment without an id belongs to its index, or to the last call. Afterwards each has an index, and only a
    call's first fragment an id and a name.
    """

    def __init__(self) -> None:
        self._ids: list[str | None] = []
        self._names: list[str | None] = []
        self._has_arguments: list[bool] = []
        self._by_index: dict[int | None, int] = {}

    def settle(self, fragments: list[ToolCallDelta]) -> None:
        """Set `index`, `id` and the name of each fragment, in place."""
        for fragment in fragments:
            known = self._known(fragment)
            if known is None:
                known = len(self._ids)
                self._ids.append(fragment.id)
                self._names.append(None)
                self._has_arguments.append(False)
            elif fragment.id is not None and self._ids[known] is None:
                self._ids[known] = fragment.id
            else:
                fragment.id = None
            self._by_index[fragment.index] = self._by_index[None] = known
            fragment.index = known
            if self._names[known]:
                fragment.function.name = None
            self._names[known] = self._names[known] or fragment.function.name
            self._has_arguments[known] = self._has_arguments[known] or bool(fragment.function.arguments)

    def _known(self, fragment: ToolCallDelta) -> int | None:
        if fragment.id and fragment.id in self._ids:
            return self._ids.index(fragment.id)
        candidate = self._by_index.get(fragment.index)
        if candidate is None:
            return None
        other_id = bool(fragment.id) and self._ids[candidate] is not None
        # Without ids, a name where one has been said, and arguments begun, is another call's.
        other_name = not fragment.id and bool(fragment.function.name) and self._has_arguments[candidate]
        begins = other_name and (
            fragment.function.name != self._names[candidate] or (fragment.function.arguments or "").startswith("{")
        )
        return None if other_id or begins else candidate
