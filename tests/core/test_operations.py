"""Operations without I/O: each generator is driven by a list of results."""

from __future__ import annotations

import datetime
import email.utils
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictionguard_core import operations
from predictionguard_core.api.chat import ChatRequest, ImagePart, Message
from predictionguard_core.api.completions import CompletionRequest
from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
from predictionguard_core.api.rerank import RerankRequest
from predictionguard_core.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    ContentError,
    ImageBlockedError,
    ImageFetchError,
    ImageFormatError,
    ImageTooLargeError,
    InvalidRequestError,
    InvalidResponseError,
    NotFoundError,
    PIIDetectedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
)
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.retries import MAX_RETRY_AFTER
from predictionguard_core.steps import Compute, Download, Parallel, Response, Send, Wait
from tests.core.images.samples import GIF, b64, data_uri, image_part, png, question

ASKED = ChatRequest(model="m", messages="hi")
PNG = png(4, 4)


def answered(value: Any, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, named, value if isinstance(value, bytes) else json.dumps(value).encode())


def refused(status: int, text: str = "no", **headers: str) -> Response:
    return answered({"error": text}, status, **headers)


WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}}]}


def said(text: str) -> Response:
    return answered({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


FINE = said("fine")
LOST = APIConnectionError("lost", may_retry=True)
LOST_LATE = APIConnectionError("lost", may_retry=False)
LATE = APITimeoutError("late")
SLOW_TO_CONNECT = APITimeoutError("no connection", may_retry=True)


def drive(operation: Any, *results: Any) -> tuple[list[Any], Any]:
    left = list(results)
    steps, outcome = drive_with(operation, left)
    assert not left
    return steps, outcome


def drive_with(operation: Any, left: list[Any]) -> tuple[list[Any], Any]:
    """The steps that the operation takes when each is answered by the next of `results`, and its value or its error.

    A `Wait` is answered by itself. Every result has to be used.
    """
    steps: list[Any] = []
    try:
        step = next(operation)
        while True:
            steps.append(step)
            if isinstance(step, Wait):
                step = operation.send(None)
                continue
            if isinstance(step, Parallel):  # one after the other
                steps.pop()
                values: list[Any] = []
                for part in step.operations:
                    taken, value = drive_with(part, left)
                    steps += taken
                    values.append(value)
                    if isinstance(value, Exception):
                        break
                failed = bool(values) and isinstance(values[-1], Exception)
                step = operation.throw(values[-1]) if failed else operation.send(values)
                continue
            result = left.pop(0)
            step = operation.throw(result) if isinstance(result, BaseException) else operation.send(result)
    except StopIteration as end:
        outcome = end.value
    except Exception as error:
        outcome = error
    return steps, outcome


def chat(*results: Any, request: ChatRequest = ASKED, policy: ImagePolicy | None = None, max_retries: int = 2) -> Any:
    return drive(operations.chat(request, policy or ImagePolicy(), max_retries), *results)


def kinds(steps: list[Any]) -> str:
    return " ".join(type(step).__name__ for step in steps)


def waits(steps: list[Any]) -> list[float]:
    return [step.seconds for step in steps if isinstance(step, Wait)]


def body(send: Send) -> Any:
    assert send.body is not None
    return json.loads(b"".join(send.body))


class TestAsk:
    def test_one_request_and_its_answer(self) -> None:
        (send,), found = chat(FINE)
        assert (send.method, send.path, send.stream) == ("POST", "/chat/completions", False)
        assert body(send) == {"model": "m", "messages": "hi"}
        assert found.message.content == "fine"

    def test_a_stream_is_returned_unread(self) -> None:
        opened = Response(200, {}, unread=object())
        (send,), found = drive(operations.chat_stream(ASKED, ImagePolicy(), 2), opened)
        assert send.stream
        assert body(send) == {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": "hi"}
        assert found is opened

    @pytest.mark.parametrize("given", [b"", b"<html>", {}, {"choices": []}])
    def test_an_invalid_response_is_not_retried(self, given: Any) -> None:
        steps, error = chat(answered(given))
        assert kinds(steps) == "Send"
        assert type(error) is InvalidResponseError

    def test_a_choice_with_an_error_status(self) -> None:
        choice = {"index": 0, "status": "error: pii detected"}
        steps, error = chat(answered({"choices": [choice]}, x_request_id="r-1"))
        assert kinds(steps) == "Send"
        assert type(error) is PIIDetectedError
        assert error.request_id == "r-1"

    def test_an_answer_does_not_show_its_body(self) -> None:
        assert "s3cr3t" not in repr(answered(b"s3cr3t"))


class TestRetries:
    @pytest.mark.parametrize(
        "failure", [refused(status) for status in (408, 429, 500, 502, 503, 504, 529)] + [LOST, SLOW_TO_CONNECT]
    )
    @pytest.mark.parametrize("max_retries", [0, 1, 2, 5])
    def test_temporary_failures_are_retried(self, failure: Any, max_retries: int) -> None:
        steps, error = chat(*[failure] * (max_retries + 1), max_retries=max_retries)
        assert kinds(steps) == "Send" + " Wait Send" * max_retries
        assert isinstance(error, (APIConnectionError, APIStatusError))
        for tries in range(1, max_retries + 1):
            steps, found = chat(*[failure] * tries, FINE, max_retries=max_retries)
            assert kinds(steps) == "Send" + " Wait Send" * tries
            assert found.message.content == "fine"

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (refused(400), InvalidRequestError),
            (refused(400, "pii detected"), PIIDetectedError),
            (refused(401), AuthenticationError),
            (refused(403), AuthenticationError),
            (refused(404), NotFoundError),
            (refused(413), RequestTooLargeError),
            (refused(422), InvalidRequestError),
            (refused(409), APIStatusError),
            (refused(600), APIStatusError),
            (refused(999), APIStatusError),
            (refused(307, location="http://a.example"), APIStatusError),
            (LOST_LATE, APIConnectionError),
            (LATE, APITimeoutError),
        ],
    )
    def test_permanent_failures_are_not_retried(self, failure: Any, kind: type) -> None:
        steps, error = chat(failure)
        assert kinds(steps) == "Send"
        assert isinstance(error, kind)

    def test_each_failure_decides_about_its_retry_and_the_last_is_raised(self) -> None:
        steps, error = chat(LOST, refused(503), refused(429, "quota"))
        assert kinds(steps) == "Send Wait Send Wait Send"
        assert (type(error), error.message) == (RateLimitError, "quota")
        steps, error = chat(refused(503), refused(400, "bad"))
        assert kinds(steps) == "Send Wait Send"
        assert (type(error), error.message) == (InvalidRequestError, "bad")

    def test_a_retry_sends_the_same_bytes(self) -> None:
        steps, _ = chat(refused(503), LOST, FINE, request=question(PNG))
        first, second, third = (b"".join(step.body) for step in steps if isinstance(step, Send))
        assert first == second == third

    def test_a_stream_is_retried_until_its_first_byte(self) -> None:
        opened = Response(200, {}, unread=object())
        steps, found = drive(operations.chat_stream(ASKED, ImagePolicy(), 2), refused(503), LOST, opened)
        assert kinds(steps) == "Send Wait Send Wait Send"
        assert all(step.stream for step in steps if isinstance(step, Send))
        assert found is opened

    def test_waits_grow_and_are_bounded(self) -> None:
        steps, _ = chat(*[LOST] * 12, max_retries=11)
        found = waits(steps)
        for attempt, seconds in enumerate(found):
            middle = min(0.5 * 2**attempt, 8.0)
            assert middle * 0.75 <= seconds <= middle * 1.25

    def test_a_thousand_retries(self) -> None:
        steps, _ = chat(*[refused(429, retry_after="0")] * 1100, LOST, max_retries=1100)
        assert kinds(steps).count("Send") == 1101
        steps, found = chat(*[refused(429, retry_after="0")] * 1100, LOST, FINE, max_retries=1101)
        assert 6 <= waits(steps)[-1] <= 10
        assert found.message.content == "fine"

    def test_waits_have_jitter(self) -> None:
        assert len({waits(chat(LOST, FINE)[0])[0] for _ in range(20)}) > 1

    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ("0", 0),
            ("3", 3),
            ("1.5", 1.5),
            ("60", 60),
            ("-1", 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_sets_the_wait(self, asked: str, seconds: float, status: int) -> None:
        steps, _ = chat(refused(status, retry_after=asked), FINE)
        assert waits(steps) == [seconds]

    @pytest.mark.parametrize(
        "asked", ["61", "86400", "1e9", "1e308", "Fri, 31 Dec 9999 23:59:59 GMT", "in an hour, as a date"]
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_a_retry_after_above_a_minute_is_raised(self, asked: str, status: int) -> None:
        if asked == "in an hour, as a date":
            moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
            asked = email.utils.format_datetime(moment, usegmt=True)
        (send,), error = chat(refused(status, retry_after=asked))
        assert isinstance(send, Send)
        assert type(error) is (RateLimitError if status == 429 else ServerError)
        assert error.retry_after > 60

    def test_status_501_is_not_retried(self) -> None:
        (send,), error = chat(refused(501))
        assert isinstance(send, Send)
        assert "later" not in str(error)
        assert "PREDICTIONGUARD_URL" in str(error)

    @given(
        st.lists(
            st.one_of(
                st.just(LOST),
                st.builds(refused, st.sampled_from([408, 429, 500, 503]), retry_after=st.floats().map(str)),
                st.builds(refused, st.just(429), retry_after=st.text(st.characters(max_codepoint=255))),
            ),
            max_size=6,
        )
    )
    def test_the_waits_are_bounded_for_any_retry_after(self, failures: list[Any]) -> None:
        steps, _ = drive_with(operations.chat(ASKED, ImagePolicy(), len(failures)), [*failures, FINE])
        assert len(waits(steps)) <= len(failures)
        assert all(0 <= seconds <= MAX_RETRY_AFTER for seconds in waits(steps))

    @pytest.mark.parametrize("asked", ["soon", "", "nan", "inf", "1e400", "1_0x", "Wed, 99 Foo 2026", "9" * 5000])
    def test_an_invalid_retry_after_is_ignored(self, asked: str) -> None:
        (wait,) = waits(chat(refused(429, retry_after=asked), FINE)[0])
        assert 0.375 <= wait <= 0.625


class TestImages:
    def test_prepared_images_take_no_step(self) -> None:
        (send,), _ = chat(FINE, request=question(PNG, b64(GIF), data_uri(PNG)))
        urls = [part["image_url"]["url"] for part in body(send)["messages"][0]["content"][1:]]
        assert urls == [data_uri(PNG), data_uri(GIF, "image/gif"), data_uri(PNG)]

    def test_urls_are_downloaded_together_and_files_converted_together(self, tmp_path: Any) -> None:
        (tmp_path / "a.gif").write_bytes(GIF)
        asked = question("http://a.example/1", tmp_path / "a.gif", "https://b.example/2", PNG)
        policy = ImagePolicy()
        operation = operations.chat(asked, policy, 0)
        fetch = next(operation)
        assert fetch == Download(["http://a.example/1", "https://b.example/2"], policy)
        work = operation.send([PNG, GIF])
        assert isinstance(work, Compute)
        send = operation.send([job(60.0) for job in work.jobs])
        urls = [part["image_url"]["url"] for part in body(send)["messages"][0]["content"][1:]]
        assert urls == [data_uri(PNG), data_uri(GIF, "image/gif"), data_uri(GIF, "image/gif"), data_uri(PNG)]

    def test_a_downloaded_image_may_be_converted(self, photos: Any) -> None:
        pytest.importorskip("PIL")
        operation = operations.chat(question("http://a.example/1"), ImagePolicy(), 0)
        next(operation)
        work = operation.send([(photos / "phone_portrait.jpg").read_bytes()])
        assert isinstance(work, Compute)
        ((image,),) = (job(60.0) for job in work.jobs)
        assert image.size == (480, 640)

    def test_images_are_prepared_once_for_all_attempts(self) -> None:
        steps, _ = chat([PNG], LOST, refused(503), FINE, request=question("http://a.example/1"))
        assert kinds(steps) == "Download Send Wait Send Wait Send"

    @pytest.mark.parametrize("stream", [False, True])
    def test_the_request_of_the_caller_is_not_changed(self, stream: bool) -> None:
        asked = question("http://a.example/1", PNG, temperature=1)
        before, messages, parts = repr(asked), asked.messages, list(asked.image_parts())
        operation = (operations.chat_stream if stream else operations.chat)(asked, ImagePolicy(), 0)
        drive(operation, [GIF], FINE)
        assert (repr(asked), asked.messages) == (before, messages)
        assert all(new is old for new, old in zip(asked.image_parts(), parts, strict=True))
        assert [part.image_url.url for part in parts] == ["http://a.example/1", PNG]
        assert [part.location for part in parts] == [(None, None)] * 2

    def test_detail_and_all_other_fields_are_kept(self) -> None:
        part = image_part("http://a.example/1", detail="low")
        messages = [
            Message(role="system", content="s"),
            Message(role="user", content=[part], name="ann"),
            Message(role="user", content="t"),
        ]
        steps, _ = chat([PNG], FINE, request=ChatRequest(model="m", messages=messages, stop="x"))
        image = {"type": "image_url", "image_url": {"url": data_uri(PNG), "detail": "low"}}
        assert body(steps[-1]) == {
            "model": "m",
            "stop": "x",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [image], "name": "ann"},
                {"role": "user", "content": "t"},
            ],
        }

    def test_too_many_images_are_refused_with_both_numbers(self) -> None:
        policy = ImagePolicy(max_images=2)
        steps, found = chat(FINE, request=question(PNG, PNG), policy=policy)
        assert found.message.content == "fine"
        steps, error = chat(request=question(PNG, "http://a.example/", PNG), policy=policy)
        assert (steps, type(error)) == ([], ImageTooLargeError)
        assert "3 images" in str(error)
        assert "allows 2" in str(error)
        assert (error.message_index, error.block_index) == (0, 3)


def placed(source: Any, place: tuple[int | None, int | None]) -> ImagePart:
    return image_part(source).model_copy(update={"location": place})


class TestLocations:
    """An error has the location that an adapter set, else the position in the request."""

    @pytest.mark.parametrize(
        ("source", "result", "kind"),
        [
            (b"no image", None, ImageFormatError),
            ("file:///etc/passwd", None, ImageBlockedError),
            (png(9000, 9000), None, ImageTooLargeError),
            ("http://a.example/", lambda: ImageBlockedError("no"), ImageBlockedError),
            ("http://a.example/", lambda: ImageFetchError("no"), ImageFetchError),
            ("http://a.example/", lambda: b"no image", ImageFormatError),
            (Path("/nonexistent"), lambda: ImageFormatError("no"), ImageFormatError),
        ],
    )
    def test_every_step_adds_the_location(self, source: Any, result: Any, kind: type) -> None:
        text = Message(role="user", content="hi")
        cases = [
            (image_part(source), (2, 1)),
            (placed(source, (7, 3)), (7, 3)),
            (placed(source, (7, None)), (7, None)),
        ]
        for part, place in cases:
            asked = Message(role="user", content=[{"type": "text", "text": "?"}, part])
            results = [[result()]] if result else []
            steps, error = chat(*results, request=ChatRequest(model="m", messages=[text, text, asked]))
            assert "Send" not in kinds(steps)
            assert isinstance(error, kind)
            assert (error.message_index, error.block_index) == place

    def test_the_first_of_several_errors_is_raised(self) -> None:
        results = [PNG, ImageFetchError("second"), ImageBlockedError("third")]
        _, error = chat(results, request=question(*[f"http://a.example/{index}" for index in range(3)]))
        assert (type(error), error.message, error.block_index) == (ImageFetchError, "second", 2)

    def test_other_exceptions_propagate(self) -> None:
        _, error = chat([MemoryError()], request=question("http://a.example/"))
        assert type(error) is MemoryError

    def test_half_a_surrogate_pair(self) -> None:
        steps, error = chat(request=question(PNG, text="\ud800"))
        assert (steps, type(error)) == ([], ContentError)
        assert (error.message_index, error.block_index) == (0, 0)


class TestModels:
    @pytest.mark.parametrize(
        ("capability", "path"), [(None, "/models"), ("chat-with-image", "/models/chat-with-image")]
    )
    def test_are_listed(self, capability: Any, path: str) -> None:
        (send,), found = drive(
            operations.models(capability, 0), answered({"data": [{"id": "a", "max_context_length": 9}]})
        )
        assert (send.method, send.path, send.body) == ("GET", path, None)
        assert [(model.id, model.max_context_length) for model in found] == [("a", 9)]

    def test_an_unknown_capability_is_refused_unsent(self) -> None:
        steps, error = drive(operations.models("../completions", 0))
        assert (steps, type(error)) == ([], ConfigurationError)

    def test_are_retried(self) -> None:
        steps, _ = drive(operations.models(None, 1), refused(503), answered({"data": []}))
        assert kinds(steps) == "Send Wait Send"

    def test_a_server_without_capabilities_is_asked_for_the_plain_list(self) -> None:
        listed = [{"id": "a"}, {"id": "b", "capabilities": {"chat_with_image": False}}]
        steps, found = drive(
            operations.models("chat-with-image", 0), refused(404, "Not Found"), answered({"data": listed})
        )
        assert [step.path for step in steps] == ["/models/chat-with-image", "/models"]
        assert [each.id for each in found] == ["a"]

    def test_facts_about_one_model(self) -> None:
        listed = answered({"data": [{"id": "a"}, {"id": "b", "max_context_length": 9}]})
        assert drive(operations.model_info("b", 0), listed)[1].max_context_length == 9
        assert drive(operations.model_info("c", 0), listed)[1] is None


class TestUnknownModels:
    ASKED = ChatRequest(model="Qwen2.5-VL-7B-Instrct", messages="x")
    LISTED = answered({"data": [{"id": "gpt-oss-120b"}, {"id": "Qwen2.5-VL-7B-Instruct"}]})

    def ask(self, *results: Any, model: str = "Qwen2.5-VL-7B-Instrct") -> Any:
        return drive(operations.chat(ChatRequest(model=model, messages="x"), ImagePolicy(), 2), *results)

    @pytest.mark.parametrize("status", [400, 404])
    def test_the_closest_name_is_suggested(self, status: int) -> None:
        steps, error = self.ask(refused(status, "The model `Qwen2.5-VL-7B-Instrct` does not exist."), self.LISTED)
        assert [(step.method, step.path) for step in steps] == [("POST", "/chat/completions"), ("GET", "/models")]
        assert "Did you mean Qwen2.5-VL-7B-Instruct?" in str(error)

    def test_without_a_list_the_error_stays_as_it_is(self) -> None:
        _, error = self.ask(refused(404, "The model `Qwen2.5-VL-7B-Instrct` does not exist."), refused(500))
        assert type(error) is NotFoundError
        assert "Did you mean" not in str(error)

    def test_nothing_close_is_no_suggestion(self) -> None:
        _, error = self.ask(refused(400, "model 'claude' is not available"), self.LISTED, model="claude")
        assert "Did you mean" not in str(error)

    @pytest.mark.parametrize("text", ["max_tokens is over max_model_len of the model", "no such path", "bad request"])
    def test_other_errors_cost_no_request(self, text: str) -> None:
        (send,), error = self.ask(refused(400, text))
        assert send.path == "/chat/completions"
        assert "predictionguard_core models" not in str(error)


class TestComplete:
    REQUEST = CompletionRequest(model="m", prompt='once "upon', max_tokens=5, extra_body={"seed": 1})

    def test_plain(self) -> None:
        (send,), found = drive(
            operations.complete(self.REQUEST, 0), answered({"choices": [{"index": 0, "text": " a time"}]})
        )
        assert (send.path, send.stream) == ("/completions", False)
        assert body(send) == {"model": "m", "max_tokens": 5, "seed": 1, "prompt": 'once "upon'}
        assert found.message.content == " a time"

    def test_stream(self) -> None:
        opened = Response(200, {}, unread=object())
        steps, found = drive(operations.complete_stream(self.REQUEST, 1), refused(503), opened)
        assert kinds(steps) == "Send Wait Send"
        assert body(steps[0])["stream"] is True
        assert found is opened

    @pytest.mark.parametrize("name", ["prompt", "stream", "stream_options"])
    def test_fields_that_decide_the_form_of_the_response_can_not_be_overridden(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=name):
            CompletionRequest(model="m", prompt="p", extra_body={name: 1})

    def test_documented_fields_are_overridden(self) -> None:
        asked = CompletionRequest(model="m", prompt="p", max_tokens=5, temperature=1, extra_body={"temperature": 3})
        (send,), _ = drive(operations.complete(asked, 0), FINE)
        assert body(send) == {"model": "m", "max_tokens": 5, "temperature": 3, "prompt": "p"}


def vectors(count: int, first: int = 0) -> Response:
    data = [{"index": index, "embedding": [float(first + index)]} for index in range(count)]
    return answered({"data": data[::-1]})


class TestEmbed:
    def ask(self, given: list[Any], *results: Any) -> Any:
        return drive(operations.embed(EmbeddingRequest(model="m", input=given), ImagePolicy(), 0, 8), *results)

    def test_vectors_are_in_the_order_of_the_inputs(self) -> None:
        (send,), found = self.ask(["a", "b", "c"], vectors(3))
        assert (send.path, body(send)) == ("/embeddings", {"model": "m", "input": ["a", "b", "c"]})
        assert found == [[0.0], [1.0], [2.0]]

    def test_in_batches(self) -> None:
        steps, found = self.ask([str(index) for index in range(65)], vectors(30), vectors(30, 30), vectors(5, 60))
        assert [len(body(step)["input"]) for step in steps] == [30, 30, 5]
        assert found == [[float(index)] for index in range(65)]

    def test_an_empty_list_sends_no_request(self) -> None:
        assert self.ask([]) == ([], [])

    def test_images_are_sent_as_plain_base64(self) -> None:
        given = [EmbeddingInput(text='"image":false', image=data_uri(PNG)), EmbeddingInput(image="http://a.example/")]
        steps, found = self.ask(given, [GIF], vectors(2))
        assert kinds(steps) == "Download Send"
        assert body(steps[1])["input"] == [{"text": '"image":false', "image": b64(PNG)}, {"image": b64(GIF)}]
        assert found == [[0.0], [1.0]]

    @pytest.mark.parametrize("extra", [{}, {"index": None}])
    def test_vectors_without_numbers_are_in_order(self, extra: dict[str, Any]) -> None:
        data = [{"embedding": [0.5], **extra}, {"embedding": [1.5], **extra}]
        assert self.ask(["a", "b"], answered({"data": data}))[1] == [[0.5], [1.5]]

    @pytest.mark.parametrize("indices", [[None, 0], [], [0], [0, 0], [0, 2], [1, 2], [0, 1, 2]])
    def test_missing_or_wrongly_numbered_vectors_are_an_error(self, indices: list[int]) -> None:
        data = [{"index": index, "embedding": [0.5]} for index in indices]
        assert type(self.ask(["a", "b"], answered({"data": data}))[1]) is InvalidResponseError

    def test_the_error_of_an_image_has_the_index_of_its_input(self) -> None:
        given = [EmbeddingInput(image=PNG)] * 31 + [EmbeddingInput(image=b"no image")]
        _, error = self.ask(given, vectors(16))  # as many images in a request as the policy allows
        assert (type(error), error.message_index, error.block_index) == (ImageFormatError, None, 31)


class TestRerank:
    REQUEST = RerankRequest(model="m", query="q", documents=["a", "b"])

    def test_results_are_sorted_by_score(self) -> None:
        results = [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9, "text": "b"}]
        (send,), found = drive(operations.rerank(self.REQUEST, 0), answered({"results": results}))
        assert (send.path, body(send)) == ("/rerank", {"model": "m", "query": "q", "documents": ["a", "b"]})
        assert [(each.index, each.relevance_score) for each in found] == [(1, 0.9), (0, 0.1)]

    def test_an_empty_list_sends_no_request(self) -> None:
        assert drive(operations.rerank(RerankRequest(model="m", query="q", documents=[]), 0)) == ([], [])

    def test_missing_results_are_an_error(self) -> None:
        _, error = drive(
            operations.rerank(self.REQUEST, 0), answered({"results": [{"index": 0, "relevance_score": 1}]})
        )
        assert type(error) is InvalidResponseError


def test_a_failure_of_the_server_is_kept_as_it_was() -> None:
    _, error = chat(*[refused(503, "busy", x_request_id="r-1", retry_after="0")] * 3)
    assert (type(error), error.message, error.request_id) == (ServerError, "busy", "r-1")


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        ({"error": "pii detected"}, PIIDetectedError, "pii detected"),
        ({"error": {"message": "slow down", "code": 429}}, RateLimitError, "slow down"),
        ({"error": "out of memory", "choices": [], "data": None}, APIStatusError, "out of memory"),
        ({"error": "out of memory", "data": [], "results": [], **WHOLE}, APIStatusError, "out of memory"),
        ({"error": ""}, InvalidResponseError, "not the promised JSON"),
        (["error"], InvalidResponseError, "not the promised JSON"),
    ],
)
def test_an_error_with_the_status_of_a_success_is_that_error(payload: Any, kind: type, text: str) -> None:
    calls = [
        operations.chat(ASKED, ImagePolicy(), 2),
        operations.complete(CompletionRequest(model="m", prompt="p"), 2),
        operations.embed(EmbeddingRequest(model="m", input=["a"]), ImagePolicy(), 2, 8),
        operations.rerank(RerankRequest(model="m", query="q", documents=["d"]), 2),
        operations.models(None, 2),
    ]
    for operation in calls:
        steps, error = drive(operation, answered(payload, x_request_id="r-9"))
        assert (type(error), len(steps)) == (kind, 1)
        assert text in str(error)
        assert getattr(error, "request_id", "r-9") == "r-9"
