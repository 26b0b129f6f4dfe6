"""The tree of errors: as drawn, complete, picklable, and the right class for every answer."""

from __future__ import annotations

import base64
import copy
import datetime
import email.utils
import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import predictionguard_core
from predictionguard_core import errors
from predictionguard_core.error_responses import error_from_payload, error_from_response, retry_after
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CheckFailedError,
    ConfigurationError,
    ContentError,
    ContextOverflowError,
    FactualityError,
    ImageTooLargeError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PIIDetectedError,
    PredictionGuardError,
    PromptInjectionError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    ToxicityError,
)

CHECKS = {
    "pii detected": PIIDetectedError,
    "prompt injection detected": PromptInjectionError,
    "failed toxicity check": ToxicityError,
    "failed factuality check": FactualityError,
}
STATUSES = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: APIStatusError,
    409: APIStatusError,
    413: RequestTooLargeError,
    418: APIStatusError,
    422: InvalidRequestError,
    429: RateLimitError,
    500: ServerError,
    502: ServerError,
    503: ServerError,
    529: ServerError,
    307: APIStatusError,
}


def classes() -> list[type[PredictionGuardError]]:
    found, queue = [], [PredictionGuardError]
    while queue:
        found.append(queue.pop())
        queue += [each for each in found[-1].__subclasses__() if each.__module__ == errors.__name__]
    return found


def drawn_edges() -> set[tuple[str, str]]:
    """(parent, child) for each line of the tree in the module's docstring."""
    above: list[str] = []
    edges = set()
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 3
            above[depth:] = [match[2]]
            if depth:
                edges.add((above[depth - 1], match[2]))
    return edges


def made(kind: type[PredictionGuardError]) -> PredictionGuardError:
    if issubclass(kind, APIStatusError):
        return kind("no", status_code=418, request_id="r-1", retry_after=2.5)
    if issubclass(kind, ContentError):
        return kind("no", message_index=3, block_index=1)
    if issubclass(kind, APIConnectionError):
        return kind("no", may_retry=True)
    return kind("no")


def body(error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


class TestTree:
    def test_matches_the_tree_in_the_docstring(self) -> None:
        actual = {
            (parent.__name__, child.__name__)
            for child in classes()
            for parent in child.__bases__
            if issubclass(parent, PredictionGuardError)
        }
        assert drawn_edges() == actual

    def test_every_class_is_exported(self) -> None:
        names = {kind.__name__ for kind in classes()}
        assert set(errors.__all__) == names
        assert names <= set(predictionguard_core.__all__)
        assert all(getattr(predictionguard_core, kind.__name__) is kind for kind in classes())

    @pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
    def test_every_class_has_a_docstring(self, kind: type) -> None:
        assert kind.__doc__

    @pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
    def test_copies_keep_every_attribute(self, kind: type[PredictionGuardError], copied: Any) -> None:
        error = made(kind)
        restored = copied(error)
        assert type(restored) is kind
        assert vars(restored) == vars(error)
        assert (str(restored), restored.args, restored.message) == (str(error), ("no",), "no")

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_pickle_protocol_works(self, protocol: int) -> None:
        restored = pickle.loads(pickle.dumps(made(RateLimitError), protocol))
        assert (restored.status_code, restored.retry_after, restored.request_id) == (418, 2.5, "r-1")

    def test_a_subclass_of_another_package_is_copied_as_itself(self) -> None:
        restored = pickle.loads(pickle.dumps(made(Foreign)))
        assert type(restored) is Foreign
        assert restored.status_code == 418


class Foreign(RateLimitError, LookupError):
    """As an adapter combines ours with its framework's."""


class TestLocation:
    @pytest.mark.parametrize(
        ("place", "text"),
        [
            ((None, None), "too wide"),
            ((2, None), "message 2: too wide"),
            ((2, 0), "message 2, block 0: too wide"),
            ((None, 4), "block 4: too wide"),
        ],
    )
    def test_precedes_the_text(self, place: tuple[int | None, int | None], text: str) -> None:
        error = ImageTooLargeError("too wide", message_index=place[0], block_index=place[1])
        assert str(error) == text
        assert error.message == "too wide"

    def test_is_added_only_if_it_is_missing(self) -> None:
        error = ContentError("no")
        assert error.with_location(1, None) is error
        assert (error.message_index, error.block_index) == (1, None)
        error.with_location(7, 5)
        assert (error.message_index, error.block_index) == (1, 5)


class TestFromResponse:
    @pytest.mark.parametrize(("status", "kind"), STATUSES.items())
    @pytest.mark.parametrize(
        "shape",
        [
            body("that can't be"),
            body({"message": "that can't be", "type": "x", "code": None}),
            json.dumps({"message": "that can't be"}).encode(),
            json.dumps({"detail": "that can't be"}).encode(),
        ],
    )
    def test_the_status_decides_the_class_and_the_text_is_kept(self, status: int, kind: type, shape: bytes) -> None:
        error = error_from_response(status, {"x-request-id": "r-9"}, shape)
        assert type(error) is kind
        assert error.message == "that can't be"
        assert (error.status_code, error.request_id, error.retry_after) == (status, "r-9", None)
        assert str(error).startswith(f"that can't be (HTTP {status}, request r-9)")

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (b"<html><body>Bad Gateway</body></html>", "<html><body>Bad Gateway</body></html>"),
            (b"", "status 502 with an empty body"),
            (b" \r\n", "status 502 with an empty body"),
            (b"upstream connect error", "upstream connect error"),
            (b'{"error": ', '{"error":'),
            (b'{"error": null}', '{"error": null}'),
            (b'{"error": ""}', '{"error": ""}'),
            (b"[1, 2]", "[1, 2]"),
            (b"null", "null"),
            (b"\xff\xfe\x00", "\ufffd"),
            (b"[" * 100_000, "[[["),
            (b'{"error": {"reason": "no message"}}', "no message"),
            (b'{"error": ["a", "b"]}', "a"),
            (b'{"error": ' + b"9" * 5000 + b"}", "error"),
        ],
    )
    def test_the_response_of_a_gateway_is_quoted(self, given: bytes, text: str) -> None:
        error = error_from_response(502, {}, given)
        assert type(error) is ServerError
        assert text in error.message

    @pytest.mark.parametrize("whole", [b"<p>" * 1_000_000, body("no " * 1_000_000), body({"message": "x" * 3_000_000})])
    def test_a_long_page_is_shortened(self, whole: bytes) -> None:
        assert len(str(error_from_response(500, {}, whole))) < 3000

    @pytest.mark.parametrize(("text", "kind"), CHECKS.items())
    @pytest.mark.parametrize("status", [400, 422])
    @pytest.mark.parametrize("shaped", [lambda text: text, lambda text: {"message": text}, lambda text: f" {text}. "])
    def test_the_four_check_texts(self, text: str, kind: type, status: int, shaped: Any) -> None:
        error = error_from_response(status, {}, body(shaped(text)))
        assert type(error) is kind
        assert isinstance(error, CheckFailedError)
        assert isinstance(error, InvalidRequestError)
        assert text in error.message
        assert error.remedy
        assert error.remedy in str(error)

    @pytest.mark.parametrize("text", CHECKS)
    def test_a_check_text_within_another_text_or_status_is_no_check(self, text: str) -> None:
        assert type(error_from_response(400, {}, body(f"could not run: {text} is off"))) is InvalidRequestError
        assert type(error_from_response(500, {}, body(text))) is ServerError
        assert type(error_from_response(429, {}, body(text))) is RateLimitError

    @pytest.mark.parametrize(
        "error",
        [
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "the input exceeds the context window",
            {"message": "too long", "code": "context_length_exceeded"},
        ],
    )
    def test_a_prompt_that_is_too_long(self, error: Any) -> None:
        assert type(error_from_response(400, {}, body(error))) is ContextOverflowError
        assert type(error_from_response(500, {}, body(error))) is ServerError

    def test_the_texts_that_are_documented_for_a_bad_key(self) -> None:
        error = error_from_response(403, {}, body("api understands the request but refuses to authorize it"))
        assert type(error) is PermissionDeniedError
        assert isinstance(error, AuthenticationError)
        assert "PREDICTIONGUARD_API_KEY" in str(error)

    @pytest.mark.parametrize(
        "echo",
        [
            lambda uri: {"detail": [{"loc": ["body", "messages", 0], "msg": "Field required", "input": {"url": uri}}]},
            lambda uri: {"error": {"message": f"[{{'type': 'missing', 'input': {{'url': '{uri}'}}}}]"}},
            lambda uri: {"error": f"invalid image {uri}"},
            lambda uri: f"<pre>can't parse {uri}</pre>",
        ],
        ids=["FastAPI", "vLLM", "text", "HTML"],
    )
    def test_echoed_image_data_is_removed(self, echo: Any) -> None:
        encoded = base64.b64encode(bytes(range(256)) * 40).decode()
        text = echo(f"data:image/png;base64,{encoded}")
        given = text.encode() if isinstance(text, str) else json.dumps(text).encode()
        error = error_from_response(400, {}, given)
        assert encoded[:80] not in str(error)
        assert encoded[400:480] not in repr(error)

    @given(
        st.integers(300, 599),
        st.binary()
        | st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "detail", "code", "x"]), inner)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
    def test_any_response_becomes_an_error_with_a_text(self, status: int, given_body: bytes) -> None:
        error = error_from_response(status, {}, given_body)
        assert error.status_code == status
        assert error.message
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


class TestFromReply:
    @pytest.mark.parametrize(
        ("given", "kind", "status", "message"),
        [
            ("error: pii detected", PIIDetectedError, 200, "pii detected"),
            ("error: failed toxicity check", ToxicityError, 200, "failed toxicity check"),
            ("error: out of memory", APIStatusError, 200, "out of memory"),
            ("error:", APIStatusError, 200, "without a text"),
            ({"message": "overloaded", "code": 503}, ServerError, 503, "overloaded"),
            ({"message": "slow down", "code": 429}, RateLimitError, 429, "slow down"),
            ({"message": "bad", "code": 400}, InvalidRequestError, 400, "bad"),
            ({"message": "x", "code": "context_length_exceeded"}, ContextOverflowError, 200, "x"),
            ({"message": "x", "code": 7}, APIStatusError, 200, "x"),
            ({"reason": "odd"}, APIStatusError, 200, "odd"),
        ],
    )
    def test_class_status_and_text(self, given: Any, kind: type, status: int, message: str) -> None:
        error = error_from_payload(given, "r-3")
        assert type(error) is kind
        assert (error.status_code, error.request_id) == (status, "r-3")
        assert message in error.message


def in_seconds(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(moment, usegmt=True)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0),
            ("7", 7),
            (" 1.5 ", 1.5),
            ("-3", 0),
            ("", None),
            ("soon", None),
            ("nan", None),
            ("inf", None),
            ("1e400", None),
            ("0x10", None),
            ("Mon, 99 Foo", None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
            ("Wed, 21 Oct 2015 07:28:00", 0),
            ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ],
    )
    def test_seconds_past_dates_and_invalid_values(self, value: str, seconds: float | None) -> None:
        assert retry_after({"retry-after": value}) == seconds

    def test_no_header(self) -> None:
        assert retry_after({}) is None

    def test_a_future_date(self) -> None:
        # The header has whole seconds, and a slow machine may take some from reading the clock to being asked.
        found = retry_after({"retry-after": in_seconds(3600)})
        assert found is not None
        assert 3500 < found <= 3600

    @given(st.text(st.characters(codec="latin-1")))
    def test_any_text(self, value: str) -> None:
        found = retry_after({"retry-after": value})
        assert found is None or found >= 0

    @pytest.mark.parametrize("header", ["x-request-id", "request-id"])
    def test_it_is_on_the_error_with_the_request_id(self, header: str) -> None:
        error = error_from_response(429, {"retry-after": "4", header: "r-5"}, b"")
        assert (error.retry_after, error.request_id) == (4.0, "r-5")


def test_a_timeout_is_a_connection_error() -> None:
    assert issubclass(APITimeoutError, APIConnectionError)
    assert APITimeoutError("no").may_retry is False
    assert not issubclass(ConfigurationError, ContentError)
