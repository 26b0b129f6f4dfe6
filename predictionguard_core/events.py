"""Bytes of an event stream in, chunks out.

Knows server-sent events as the WHATWG's HTML standard defines them (section 9.2), `[DONE]`, errors inside the stream,
and a stream that was cut.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_core import from_json

from predictionguard_core.errors import InvalidResponseError, StreamInterruptedError, from_reply
from predictionguard_core.wire import ChatChunk, check_status

_BOM = b"\xef\xbb\xbf"
_LONGEST_EVENT = 64 * 1024 * 1024


class EventDecoder:
    """Splits the bytes of an event stream, however they were cut, into the `data` of each event.

    Lines end with LF, CR LF or CR and nothing else: U+0085 and U+2028 are ordinary characters of a JSON string.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._started = False
        self._after_cr = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that `data` completes. Raises `InvalidResponseError` for an event of more than 64 MiB."""
        if not self._started:
            data = self._rest + data
            self._rest = b""
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
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
        lines = data.split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        self._size += len(data)
        if self._size > _LONGEST_EVENT:
            raise InvalidResponseError(f"the stream holds an event of more than {_LONGEST_EVENT} bytes")
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                self._size = 0
                event, self._data = b"\n".join(self._data), []
                yield event

    def finish(self) -> Iterator[bytes]:
        """What stands at the end of the stream without a blank line behind it.

        The standard drops such an event; servers that forget the last blank line after `[DONE]` are too common to.
        """
        if self._rest:
            self._field(self._rest)
            self._rest = b""
        if self._data:
            event, self._data = b"\n".join(self._data), []
            yield event

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])


class ChunkReader:
    """Reads the chunks of one streamed answer: `feed` it bytes as they come, `finish` it at their end.

    All chunks get the first one's id (the service sends a new one with each). `done` says that `[DONE]` came: what
    follows is not read. Raises `StreamInterruptedError` from `finish` if the answer's end never came, the error's own
    class for an error inside the stream, `InvalidResponseError` for an event that is not a chunk.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self.done = False
        self._events = EventDecoder()
        self._request_id = request_id
        self._id: str | None = None
        self._has_text = False
        self._has_finished = False

    def feed(self, data: bytes) -> Iterator[ChatChunk]:
        yield from self._chunks(self._events.feed(data))

    def finish(self) -> Iterator[ChatChunk]:
        yield from self._chunks(self._events.finish())
        if not (self.done or self._has_finished):
            raise StreamInterruptedError(
                "the stream ended before the answer did: what was delivered is only a part of it. Ask again"
            )

    def _chunks(self, events: Iterator[bytes]) -> Iterator[ChatChunk]:
        for event in events:
            if self.done or event.strip() == b"[DONE]":
                self.done = True
                return
            yield self._chunk(event)

    def _chunk(self, event: bytes) -> ChatChunk:
        if b'"error"' in event:
            self._raise_error(event)
        chunk = ChatChunk.parse(event)
        check_status(chunk, self._request_id)
        if self._id is None:
            self._id = chunk.id
        chunk.id = self._id
        for choice in chunk.choices:
            self._has_text = self._has_text or bool(choice.delta.content)
            self._has_finished = self._has_finished or choice.finish_reason is not None
            if choice.generated_text and not self._has_text:
                # A server that delivers the text only at the end, whole.
                choice.delta.content = choice.generated_text
                self._has_text = True
        return chunk

    def _raise_error(self, event: bytes) -> None:
        try:
            decoded = from_json(event)
        except ValueError:
            return
        if isinstance(decoded, dict) and decoded.get("error") is not None:
            raise from_reply(decoded["error"], self._request_id)
