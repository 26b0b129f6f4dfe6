"""The event stream: bytes however they are cut in, chunks that tell the truth out."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core.api.responses import ChatChunk
from predictionguard_core.errors import (
    APIStatusError,
    InvalidResponseError,
    PIIDetectedError,
    PredictionGuardError,
    RateLimitError,
    StreamInterruptedError,
    ToxicityError,
)
from predictionguard_core.streaming import ChunkReader, EventDecoder

ODD = '{"a":"\u2028 \u2029 \u0085 \x0b \x0c \x1c é"}'


def decoded(*pieces: bytes) -> list[bytes]:
    decoder = EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [event.data for event in events + decoder.finish()]


STREAMS = [
    ("LF", b"data: a\n\ndata: b\n\n", ["a", "b"]),
    ("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    ("CR", b"data: a\r\rdata: b\r\r", ["a", "b"]),
    ("mixed", b"data: a\r\n\ndata: b\r\r\ndata: c\n\r", ["a", "b", "c"]),
    ("no space", b"data:a\n\ndata:b\n\n", ["a", "b"]),
    ("two spaces", b"data:  a\n\n", [" a"]),
    ("comments", b": hello\n\n:\ndata: a\n: between\n\n: ping\n\ndata: b\n\n", ["a", "b"]),
    ("other fields", b"event: x\nid: 7\nretry: 10\ndata: a\n\nevent: y\n\n", ["a"]),
    ("comment after an id", b"id: 1\n: c\ndata: a\n\n", ["a"]),
    ("several lines", b"data: a\ndata: b\ndata:\n\n", ["a\nb\n"]),
    ("byte-order mark", b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    ("mark further on", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
    ("many blank lines", b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", ["a", "b"]),
    ("no blank line at the end", b"data: a\n\ndata: [DONE]", ["a", "[DONE]"]),
    ("one line end at the end", b"data: a\n\ndata: [DONE]\n", ["a", "[DONE]"]),
    ("no data", b"event: x\n\n", []),
    ("a name that begins alike", b"database: a\ndata\ndata: b\n\n", ["b"]),
    ("ordinary characters of a string", f"data: {ODD}\n\n".encode(), [ODD]),
    ("empty", b"", []),
]


class TestEventDecoder:
    @pytest.mark.parametrize(("stream", "events"), [case[1:] for case in STREAMS], ids=[case[0] for case in STREAMS])
    def test_the_same_events_wherever_the_bytes_are_cut(self, stream: bytes, events: list[str]) -> None:
        wanted = [event.encode() for event in events]
        assert decoded(stream) == wanted
        assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == wanted
        for cut in range(len(stream) + 1):
            assert decoded(stream[:cut], stream[cut:]) == wanted
            assert decoded(stream[:cut], b"", stream[cut:]) == wanted

    @given(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=5),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.lists(st.integers(0, 200)),
    )
    def test_any_text_in_any_pieces(self, texts: list[str], end: str, cuts: list[int]) -> None:
        stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
        edges = [0, *sorted(cuts), len(stream)]
        pieces = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
        assert decoded(*pieces) == [text.encode() for text in texts]

    def test_events_come_as_soon_as_they_are_whole(self) -> None:
        decoder = EventDecoder()
        assert decoder.feed(b"data: a\n\nevent: y\nda") == [(b"", b"a")]
        assert decoder.feed(b"ta: b\r\n\r") == [(b"y", b"b")]
        assert decoder.feed(b"\ndata: c") == []
        assert decoder.feed(b"\n\n") == [(b"", b"c")]

    def test_an_endless_event_is_refused(self) -> None:
        decoder = EventDecoder()
        line = b"data: " + b"x" * (1 << 20) + b"\n"
        with pytest.raises(InvalidResponseError, match="bytes"):
            [decoder.feed(line) for _ in range(80)]

    def test_a_long_stream_of_short_events_is_accepted(self) -> None:
        decoder = EventDecoder()
        event = b"data: " + b"x" * (1 << 20) + b"\n\n"
        assert sum(len(decoder.feed(event)) for _ in range(80)) == 80

    def test_comments_and_empty_deltas_are_no_content(self) -> None:
        reader = ChunkReader()
        for data in (b": ping\n\n", b"event: ping\n\n", event(chunk({"role": "assistant", "content": ""}))):
            list(reader.feed(data))
            assert not reader.has_content, data
        for delta in ({"content": "a"}, {"reasoning": "a"}, {"refusal": "no"}, {"tool_calls": [call(0, "a", "f")]}):
            list(reader.feed(event(chunk(delta))))
            assert reader.has_content, delta


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, *, name: str = "c-1", **choice: Any) -> dict[str, Any]:
    return {"id": name, "created": 5, "model": "m", "choices": [{"index": 0, "delta": delta or {}, **choice}]}


def text(content: str, **more: Any) -> dict[str, Any]:
    return chunk({"content": content}, **more)


def usage(total: int, **more: Any) -> dict[str, Any]:
    return {"id": "u", "choices": [], "usage": {"prompt_tokens": 1, "total_tokens": total}, **more}


STOP = chunk(finish_reason="stop")
DONE = "[DONE]"


def read(*values: Any) -> list[ChatChunk]:
    reader = ChunkReader("r-1")
    chunks = [each for value in values for each in reader.feed(value if isinstance(value, bytes) else event(value))]
    return chunks if reader.is_done else chunks + list(reader.finish())


def words(chunks: list[ChatChunk]) -> str:
    return "".join(choice.delta.content or "" for each in chunks for choice in each.choices)


def reasons(chunks: list[ChatChunk]) -> list[str]:
    return [choice.finish_reason for each in chunks for choice in each.choices if choice.finish_reason]


def totals(chunks: list[ChatChunk]) -> list[int]:
    return [each.usage.total_tokens for each in chunks if each.usage]


WHOLE = [
    ("ordinary", [text("a"), text("b"), STOP, DONE]),
    ("no [DONE]", [text("a"), text("b"), STOP]),
    ("no finish reason", [text("a"), text("b"), DONE]),
    ("reason beside text", [text("a"), text("b", finish_reason="stop"), DONE]),
    ("reason twice", [text("a"), text("b", finish_reason="stop"), STOP, DONE]),
    ("reason on every chunk", [text("a", finish_reason="stop"), text("b", finish_reason="stop"), DONE]),
    ("usage at the end", [text("a"), text("b"), STOP, usage(9), DONE]),
    ("usage before the end", [text("a"), text("b"), usage(9), STOP, DONE]),
    ("usage beside the reason", [text("a"), text("b"), {**STOP, "usage": {"total_tokens": 9}}, DONE]),
    ("usage, no [DONE]", [text("a"), text("b"), STOP, usage(9)]),
    (
        "cumulative usage",
        [
            {**text("a"), "usage": {"total_tokens": 7}},
            {**text("b"), "usage": {"total_tokens": 8}},
            STOP,
            usage(9),
            DONE,
        ],
    ),
    ("null usage", [{**text("a"), "usage": None}, text("b"), STOP, DONE]),
    ("whole text again at the end", [text("a"), text("b"), chunk(generated_text="ab", finish_reason="stop"), DONE]),
    (
        "whole text only at the end",
        [chunk({"role": "assistant"}), chunk(generated_text="ab", finish_reason="stop"), DONE],
    ),
    ("choices as an object", [{**text("a"), "choices": text("a")["choices"][0]}, text("b"), STOP, DONE]),
    ("no last blank line", [text("a"), text("b"), STOP, b"data: [DONE]"]),
    ("spaces around [DONE]", [text("a"), text("b"), STOP, b"data:  [DONE] \n\n"]),
    ("after [DONE]", [text("a"), text("b"), STOP, DONE, text("c"), {"error": "late"}]),
    ("no delta", [text("a"), text("b"), {"choices": [{"index": 0, "finish_reason": "stop"}]}, DONE]),
    ("an empty event", [text("a"), {}, text("b"), STOP, DONE]),
    ('"error" in a text', [text("a"), text("b"), chunk({"reasoning": '"error"'}), STOP, DONE]),
    ("error: null", [{**text("a"), "error": None}, text("b"), STOP, DONE]),
    ("error: empty", [{**text("a"), "error": ""}, text("b"), {**STOP, "error": {}}, DONE]),
    ("reason empty until the end", [text("a", finish_reason=""), text("b", finish_reason=""), STOP, DONE]),
    ("message in place of delta", [text("a"), {"choices": [{"index": 0, "message": {"content": "b"}}]}, STOP, DONE]),
    ("empty usage behind the usage", [text("a"), text("b"), STOP, usage(9), {"choices": [], "usage": {}}, DONE]),
    ("unreadable usage", [{**text("a"), "usage": []}, text("b"), STOP, usage(9, usage_notes=1), DONE]),
    ("unreadable extras", [text("a"), chunk({"content": "b", "reasoning": {}}, status=200), STOP, DONE]),
]


class TestWholeStreams:
    @pytest.mark.parametrize("values", [case[1] for case in WHOLE], ids=[case[0] for case in WHOLE])
    def test_streams_of_different_servers(self, values: list[Any]) -> None:
        chunks = read(*values)
        assert words(chunks) == "ab"
        assert len({each.id for each in chunks}) == 1
        assert [each.is_last for each in chunks] == [False] * (len(chunks) - 1) + [True]
        assert reasons(chunks) == reasons(chunks[-1:])
        assert totals(chunks) == totals(chunks[-1:])

    @pytest.mark.parametrize("values", [case[1] for case in WHOLE if case[0] != "no finish reason"])
    def test_the_finish_reason_comes_once(self, values: list[Any]) -> None:
        assert reasons(read(*values)) == ["stop"]

    def test_usage_comes_once_and_is_the_last_count(self) -> None:
        for name, values in WHOLE:
            if "usage" in name:
                assert totals(read(*values)) == ([] if name == "null usage" else [9])

    def test_one_id_though_the_service_sends_a_new_one_with_each_chunk(self) -> None:
        chunks = read(
            text("a", name="1"), text("b", name="2"), chunk(name="3", finish_reason="stop"), usage(4, id="4"), DONE
        )
        assert [each.id for each in chunks] == ["1"] * len(chunks)
        assert (chunks[-1].model, chunks[-1].created) == ("m", 5)

    def test_the_last_chunk_has_the_reason_and_the_usage(self) -> None:
        *others, last = read(text("a"), text("b", finish_reason="length"), usage(3), DONE)
        assert words(others) == "ab"
        assert (last.is_last, reasons([last]), totals([last])) == (True, ["length"], [3])

    def test_without_a_finish_reason_and_usage_there_is_still_a_last_chunk(self) -> None:
        *others, last = read(text("a"), DONE)
        assert words(others) == "a"
        assert (last.is_last, reasons([last]), totals([last])) == (True, [], [])

    def test_an_old_completion_streams_its_text(self) -> None:
        assert words(read({"choices": [{"index": 0, "text": "a"}]}, {"choices": [{"text": "b"}]}, STOP, DONE)) == "ab"

    def test_a_model_that_is_named_late_is_known_at_the_end(self) -> None:
        first = {"id": "c-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}
        assert read(first, text("a"), STOP, DONE)[-1].model == "m"

    def test_the_server_does_not_decide_what_is_last(self) -> None:
        chunks = read({**text("a"), "is_last": True}, text("b"), STOP, DONE)
        assert [each.is_last for each in chunks] == [False] * (len(chunks) - 1) + [True]

    def test_the_same_chunks_wherever_the_bytes_are_cut(self) -> None:
        stream = b"".join(map(event, [text("é"), text("\u2028"), STOP, usage(3), DONE]))
        whole = read(stream)
        for cut in range(len(stream)):
            assert read(stream[:cut], stream[cut:]) == whole

    def test_only_the_first_of_several_choices_is_read(self) -> None:
        second = {"id": "c-1", "choices": [{"index": 1, "delta": {"content": "B"}}]}
        both = {"id": "c-1", "choices": [*text("b")["choices"], *second["choices"]]}
        assert words(read(text("a"), second, both, chunk(index=1, finish_reason="length"), STOP, DONE)) == "ab"

    def test_a_refusal_is_delivered(self) -> None:
        chunks = read(chunk({"refusal": "I can't"}), chunk({"refusal": " do that"}), STOP, DONE)
        assert "".join(each.choices[0].delta.refusal or "" for each in chunks) == "I can't do that"

    def test_done_is_known_at_once(self) -> None:
        reader = ChunkReader()
        assert not reader.is_done
        assert words(list(reader.feed(event(text("a")) + event(STOP) + event(DONE) + event(text("late"))))) == "a"
        assert reader.is_done
        assert list(reader.finish()) == []


def test_an_answer_with_thousands_of_tool_calls_is_refused() -> None:
    stream = [chunk({"tool_calls": [call(number, f"id{number}", "f")]}) for number in range(1001)]
    assert len(read(*stream[:1000], STOP, DONE)) == 1001
    with pytest.raises(InvalidResponseError, match="more than 1000 tool calls"):
        read(*stream)


class TestBrokenStreams:
    @pytest.mark.parametrize(
        "values",
        [
            [],
            [text("a")],
            [text("a"), usage(3)],
            *([text("a"), chunk(finish_reason=reason)] for reason in ("", False, 0, [], {})),
            [text("a"), b"data: {"[:4]],
            [b": only a comment\n\n"],
            [b"<html>502</html>"],
            [chunk({"role": "assistant"})],
        ],
    )
    def test_a_cut_stream_raises_after_what_it_delivered(self, values: list[Any]) -> None:
        reader = ChunkReader()
        delivered = [
            each for value in values for each in reader.feed(value if isinstance(value, bytes) else event(value))
        ]
        with pytest.raises(StreamInterruptedError):
            list(reader.finish())
        assert words(delivered) == "".join("a" for value in values if value == text("a"))

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    def test_a_stream_cut_at_any_byte_is_complete_or_raises(self, end: bytes) -> None:
        values = [text("a"), text("\u2028"), STOP, usage(3), DONE]
        stream = b"".join(map(event, values)).replace(b"\n", end)
        finished = stream.index(b'"stop"')  # with the brackets behind it the answer is whole
        found = []
        for cut in range(len(stream) + 1):
            try:
                found.append(words(read(stream[:cut])))
            except StreamInterruptedError:
                found.append("cut")
        at = found.index("a\u2028")
        assert finished < at < finished + 20
        assert found == ["cut"] * at + ["a\u2028"] * (len(stream) + 1 - at)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            ({"error": "pii detected"}, PIIDetectedError),
            ({"error": {"message": "slow down", "code": 429}}, RateLimitError),
            ({"id": "c", "choices": [], "error": {"message": "broken"}}, APIStatusError),
            (chunk(status="error: failed toxicity check"), ToxicityError),
            ({"choices": [{"index": 0, "status": "error: out of memory"}]}, APIStatusError),
        ],
    )
    def test_an_error_in_the_stream_raises_with_the_request_id(self, error: Any, kind: type) -> None:
        reader = ChunkReader("r-1")
        assert words(list(reader.feed(event(text("a"))))) == "a"
        with pytest.raises(kind) as caught:
            list(reader.feed(event(error)))
        assert caught.value.request_id == "r-1"

    def test_an_error_event_raises(self) -> None:
        with pytest.raises(PredictionGuardError):
            read(text("a"), b'event: error\ndata: {"message": "overloaded"}\n\n', DONE)

    @pytest.mark.parametrize("bad", ["{", "[]", '"text"', "hello", '{"choices": 5}', '{"choices": [{"delta": "x"}]}'])
    def test_an_invalid_event_raises(self, bad: str) -> None:
        with pytest.raises(InvalidResponseError):
            read(text("a"), bad, STOP, DONE)


def call(index: Any = None, key: str | None = None, name: str | None = None, text: str | None = None) -> dict[str, Any]:
    return {"index": index, "id": key, "function": {"name": name, "arguments": text}}


def merged(*deltas: list[dict[str, Any]]) -> list[tuple[int | None, str, str, str]]:
    """(index, id, name, arguments) of each call, as a reader that adds up fragments by index has them."""
    calls: dict[int | None, list[str]] = {}
    for each in read(*(chunk({"tool_calls": delta}) for delta in deltas), chunk(finish_reason="tool_calls"), DONE):
        for choice in each.choices:
            for fragment in choice.delta.tool_calls or []:
                entry = calls.setdefault(fragment.index, ["", "", ""])
                parts = (fragment.id, fragment.function.name, fragment.function.arguments)
                calls[fragment.index] = [old + (new or "") for old, new in zip(entry, parts, strict=True)]
    return [(index, entry[0], entry[1], entry[2]) for index, entry in calls.items()]


def only(index: Any, arguments: str) -> dict[str, Any]:
    """A fragment that brings nothing but arguments."""
    return call(index, None, None, arguments)


FG = [(0, "a", "f", "12"), (1, "b", "g", "34")]
CALLS = [
    ("as documented", [[call(0, "a", "f", "")], [only(0, "12")], [call(1, "b", "g")], [only(1, "34")]], FG),
    ("all under index 0", [[call(0, "a", "f", "1")], [only(0, "2")], [call(0, "b", "g", "3")], [only(0, "4")]], FG),
    ("no index", [[call(None, "a", "f", "1")], [only(None, "2")], [call(None, "b", "g", "3")], [only(None, "4")]], FG),
    (
        "id and name again and again",
        [[call(0, "a", "f", "1")], [call(0, "a", "f", "2")], [call(1, "b", "g", "3")], [call(1, "b", "g", "4")]],
        FG,
    ),
    (
        "no index, id again",
        [
            [call(None, "a", "f", "1")],
            [call(None, "b", "g", "3")],
            [call(None, "a", None, "2"), call(None, "b", "g", "4")],
        ],
        FG,
    ),
    (
        "interleaved",
        [[call(0, "a", "f"), call(1, "b", "g")], [only(0, "1"), only(1, "3")], [only(1, "4"), only(0, "2")]],
        FG,
    ),
    ("index as text", [[call("0", "a", "f", "12")], [call("1", "b", "g", "34")]], FG),
    ("index in words", [[call("first", "a", "f", "12")], [call("second", "b", "g", "34")]], FG),
    (
        "index as a fraction",
        [
            [call(0.0, "a", "f"), call(1.0, "b", "g")],
            [only(0.0, "1"), only(1.0, "3")],
            [only(1.0, "4"), only(0.0, "2")],
        ],
        FG,
    ),
    ("index of no kind", [[call([0], "a", "f", "12")], [call({}, "b", "g", "34")]], FG),
    ("index from 1", [[call(1, "a", "f", "12")], [call(2, "b", "g", "34")]], FG),
    ("whole calls in one chunk", [[call(0, "a", "f", "12"), call(1, "b", "g", "34")]], FG),
    ("whole calls, all under index 0", [[call(0, "a", "f", "12"), call(0, "b", "g", "34")]], FG),
    ("name after the id", [[call(0, "a")], [call(0, None, "f")], [only(0, "12")], [call(1, "b", "g", "34")]], FG),
    ("id after the name", [[call(0, None, "f")], [call(0, "a", None, "12")], [call(1, "b", "g", "34")]], FG),
    ("one call alone", [call(0, "a", "f", "12")], [FG[0]]),
    ("no function", [[{"index": 0, "id": "a"}], [call(0, None, "f", "12")]], [FG[0]]),
    ("function null", [[{"index": 0, "id": "a", "function": None}], [call(0, None, "f", "12")]], [FG[0]]),
    (
        "arguments as an object",
        [[{"index": 0, "id": "a", "function": {"name": "f", "arguments": {}}}]],
        [(0, "a", "f", "{}")],
    ),
]


class TestToolCalls:
    @pytest.mark.parametrize(("deltas", "calls"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
    def test_fragments_add_up_to_their_calls(self, deltas: list[Any], calls: list[Any]) -> None:
        assert merged(*deltas) == calls

    @given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3)), max_size=12), st.booleans(), st.booleans())
    def test_any_interleaving(self, pieces: list[tuple[int, str]], repeats_id: bool, has_index: bool) -> None:
        wanted = [[f"id{number}", f"f{number}", ""] for number in range(3)]
        deltas = [[call(number if has_index else None, *wanted[number][:2], "")] for number in range(3)]
        for number, piece in pieces:
            wanted[number][2] += piece
            known = repeats_id or not has_index
            deltas.append([call(number if has_index else None, f"id{number}" if known else None, None, piece)])
        assert merged(*deltas) == [(number, *entry) for number, entry in enumerate(wanted)]
