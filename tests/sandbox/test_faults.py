"""Scripted faults, as httpx and the clients of this project see them."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import trustme

from predictionguard_core import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    ChatRequest,
    Client,
    FactualityError,
    InputChecks,
    InvalidResponseError,
    OutputChecks,
    PIIDetectedError,
    PromptInjectionError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
    ToxicityError,
)
from predictionguard_core.sandbox import Sandbox

TEXT = "Hermes-3-Llama-3.1-8B"
OTHER = "neural-chat-7b-v3-3"
HELLO = {"model": TEXT, "messages": "hello there, what do you say to nine words and more?"}
ASKED = ChatRequest(**HELLO)


@pytest.fixture
def ours(box):
    with Client("any", box.url, max_retries=0) as opened:
        yield opened


def post(client, path="/chat/completions", **more):
    return client.post(path, json={**HELLO, **more})


def said(client, request):
    """What the model says, as text."""
    return client.chat(request).message.content


def streamed(client):
    return "".join(choice.delta.content or "" for chunk in client.stream(ASKED) for choice in chunk.choices)


class TestFail:
    def test_only_the_scripted_number_of_requests_fails(self, box, client):
        fault = box.fail(429, times=2, retry_after=1.5)
        answers = [post(client) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [429, 429, 200]
        assert answers[0].json() == {"error": "rate limit exceeded"}
        assert answers[0].headers["retry-after"] == "1.5"
        assert (fault.met, fault.left, fault.requests) == (2, 0, [HELLO, HELLO])
        assert len(box.requests) == 3

    def test_a_get_request_meets_it_too(self, box, client):
        fault = box.fail(503)
        assert client.get("/models").status_code == 503
        assert fault.requests == [None]

    @pytest.mark.parametrize(
        ("status", "text"),
        [(500, "internal server error"), (403, "api understands"), (401, "invalid api key"), (599, "status 599")],
    )
    def test_each_status_has_a_default_text(self, box, client, status, text):
        box.fail(status)
        assert text in post(client).json()["error"]

    def test_text_headers_and_retry_after_can_be_set(self, box, client):
        box.fail(402, "no money", retry_after="Wed, 21 Oct 2065 07:28:00 GMT", headers={"x-request-id": "abc"})
        answer = post(client)
        assert (answer.status_code, answer.json()) == (402, {"error": "no money"})
        assert answer.headers["retry-after"].startswith("Wed, 21 Oct 2065")
        assert answer.headers["x-request-id"] == "abc"

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            ("<h1>502</h1>", "text/html"),
            (b"\xff\x00", "text/plain"),
            ("", "text/plain"),
            ({"x": 1}, "application/json"),
        ],
    )
    def test_the_body_can_be_set(self, box, client, body, kind):
        box.fail(502, body=body)
        answer = post(client)
        assert (answer.status_code, answer.headers["content-type"]) == (502, kind)
        assert answer.json() == body if isinstance(body, dict) else answer.content in (body, str(body).encode())

    @pytest.mark.parametrize("status", [204, 304])
    def test_a_status_that_has_no_body(self, box, client, status):
        box.fail(status, "words")
        assert (post(client).status_code, post(client).status_code) == (status, 200)

    def test_a_fault_that_is_cancelled_while_it_is_met_stays_cancelled(self, box, client):
        fault = box.fail(500, times=None)
        fault.left = -1  # as a thread that was just counting leaves it
        assert post(client).status_code == 200

    def test_a_200_with_an_invalid_body(self, box, ours):
        box.fail(200, body="<p>maintenance</p>")
        with pytest.raises(InvalidResponseError):
            ours.chat(ASKED)

    def test_a_fault_can_be_limited_to_a_model_or_a_path(self, box, client):
        of_model = box.fail(429, times=None, model=OTHER)
        of_path = box.fail(500, times=None, path="v1/embeddings/")
        assert post(client).status_code == 200
        assert post(client, model=OTHER).status_code == 429
        assert post(client, model=OTHER).status_code == 429
        assert post(client, "/embeddings").status_code == 500
        assert (of_model.met, of_model.left, of_path.met) == (2, None, 1)
        of_model.cancel()
        assert post(client, model=OTHER).status_code == 200

    def test_faults_happen_in_the_order_of_scripting(self, box, client):
        for status in (500, 429, 503):
            box.fail(status)
        assert [post(client).status_code for _ in range(4)] == [500, 429, 503, 200]

    def test_a_fault_ends_with_its_with_block(self, box, client):
        with box.fail(500, times=None) as fault:
            assert post(client).status_code == 500
        assert post(client).status_code == 200
        assert fault.met == 1

    def test_clear_removes_faults(self, box, client):
        fault = box.fail(500, times=None)
        box.clear()
        assert post(client).status_code == 200
        assert fault.met == 0

    def test_threads_meet_exactly_the_scripted_number(self, box, client):
        fault = box.fail(429, times=40)
        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(lambda _: post(client).status_code, range(100)))
        assert (statuses.count(429), statuses.count(200), fault.met) == (40, 60, 40)

    def test_unmet_lists_faults_that_never_happened(self, box, client):
        met, unmet, lasting, cancelled = (
            box.fail(times=2),
            box.fail(model=OTHER),
            box.stall(times=None, model=OTHER),
            box.drop(),
        )
        cancelled.cancel()
        post(client)
        assert box.unmet == [unmet]
        assert "fail 500: met 1, 1 left" in repr(met)
        assert "any number left" in repr(lasting)

    def test_a_client_that_retries_gets_through(self, box):
        fault = box.fail(429, times=2, retry_after=0)
        with Client("any", box.url) as client:
            assert said(client, ASKED)
        assert fault.met == 2

    def test_a_client_without_retries_left_raises(self, box):
        fault = box.fail(429, times=3, retry_after=0)
        with Client("any", box.url) as client, pytest.raises(RateLimitError, match="rate limit exceeded"):
            client.chat(ASKED)
        assert fault.met == 3


class TestInvalidArguments:
    @pytest.mark.parametrize(
        ("method", "arguments", "words"),
        [
            ("fail", {"status": 199}, "200 to 599"),
            ("fail", {"status": "429"}, "200 to 599"),
            ("fail", {"status": True}, "200 to 599"),
            ("fail", {"times": 0}, "1 or more"),
            ("fail", {"times": 1.5}, "1 or more"),
            ("fail", {"times": True}, "1 or more"),
            ("fail", {"retry_after": -1}, "0 or more"),
            ("fail", {"text": "a", "body": "b"}, "give one"),
            ("stall", {"seconds": -1}, "0 or more"),
            ("stall", {"seconds": "x"}, "0 or more"),
            ("stall", {"seconds": float("nan")}, "0 or more"),
            ("cut_stream", {"after": -1}, "number of events"),
            ("cut_stream", {"after": "3"}, "number of events"),
            ("fail_check", {"check": "PII"}, "pii, injection, toxicity, factuality"),
            ("answer", {}, "tool_calls"),
            ("answer", {"text": 3}, "text must be a string"),
            ("answer", {"tool_calls": ["weigh"]}, r"such as \[\(\"weigh\", \{\"grams\": 3\}\)\], got 'weigh'"),
            ("answer", {"tool_calls": ("weigh", {"grams": 3})}, "got 'weigh'"),
            ("slow_headers", {"seconds": -1}, "0 or more"),
            ("keep_alive", {"after": -1}, "number of events"),
        ],
    )
    def test_raise_where_the_fault_is_scripted(self, box, method, arguments, words):
        with pytest.raises(ValueError, match=words):
            getattr(box, method)(**arguments)
        assert box.unmet == []

    def test_a_body_that_is_not_json_raises(self, box):
        with pytest.raises(TypeError):
            box.fail(body={1, 2})


def test_a_misspelt_option_of_the_sandbox_is_named():
    with pytest.raises(TypeError, match=r"Sandbox has no option 'chunk_dely'; did you mean 'chunk_delay'\?"):
        Sandbox(chunk_dely=1)


class TestDropAndStall:
    def test_no_answer(self, box, client, ours):
        box.drop(times=2)
        with pytest.raises(httpx.RemoteProtocolError):
            post(client)
        with pytest.raises(APIConnectionError):
            ours.chat(ASKED)
        assert said(ours, ASKED)

    def test_a_dropped_request_is_retried(self, box):
        fault = box.drop()
        with Client("any", box.url, max_retries=1) as client:
            assert said(client, ASKED)
        assert fault.met == 1

    def test_silence_and_then_the_answer(self, box, ours):
        box.stall(0.3)
        began = time.monotonic()
        assert said(ours, ASKED)
        assert time.monotonic() - began >= 0.3

    def test_silence_for_as_long_as_the_client_waits(self, box):
        fault, before = box.stall(), set(threading.enumerate())
        with Client("any", box.url, timeout=1, max_retries=0) as client, pytest.raises(APITimeoutError):
            client.chat(ASKED)
        assert fault.met == 1
        ended = time.monotonic() + 30
        while left := set(threading.enumerate()) - before:
            assert time.monotonic() < ended, f"{left} outlived the connection"
            time.sleep(0.02)

    @pytest.mark.parametrize("seconds", [None, 3600])
    def test_stopping_the_sandbox_ends_a_stall(self, seconds):
        box = Sandbox().start()
        fault = box.stall(seconds)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(httpx.post, f"{box.url}/chat/completions", json=HELLO, timeout=60, trust_env=False)
            while not fault.met:
                time.sleep(0.01)
            box.stop()
            with pytest.raises(httpx.HTTPError):
                call.result(60)

    def test_a_stream_falls_silent(self, box):
        box.stall(after=2)
        with Client("any", box.url, timeout=1, max_retries=0) as client:
            chunks = client.stream(ASKED)
            seen = [next(chunks), next(chunks)]
            with pytest.raises(APITimeoutError):
                next(chunks)
        assert len(seen) == 2

    def test_a_stream_that_pauses_is_complete(self, box, ours):
        plain = streamed(ours)
        box.stall(0.2, after=1)
        began = time.monotonic()
        assert streamed(ours) == plain
        assert time.monotonic() - began >= 0.2

    def test_a_stalled_stream_leaves_plain_requests_alone(self, box, ours):
        fault = box.stall(after=1)
        assert said(ours, ASKED)
        assert fault.met == 0


class TestCutStream:
    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_breaks_off_after_so_many_events(self, box, ours, after):
        box.cut_stream(after)
        seen = []
        with pytest.raises(StreamInterruptedError if after else APIConnectionError):
            seen.extend(ours.stream(ASKED))
        assert len(seen) == after

    def test_happens_before_the_last_event_at_the_latest(self, box, ours):
        box.cut_stream(1000)
        with pytest.raises(StreamInterruptedError):
            list(ours.stream(ASKED))

    async def test_the_async_client_sees_it_too(self, box):
        box.cut_stream(2)
        async with AsyncClient("any", box.url, max_retries=0) as client:
            with pytest.raises(StreamInterruptedError):
                async for _ in client.stream(ASKED):
                    pass

    def test_with_an_error_in_the_stream(self, box, ours):
        box.cut_stream(2, text="the model crashed")
        with pytest.raises(APIStatusError, match="the model crashed"):
            list(ours.stream(ASKED))

    def test_leaves_plain_requests_alone(self, box, ours):
        fault = box.cut_stream(1)
        assert said(ours, ASKED)
        assert box.unmet == [fault]

    def test_completions_too(self, box, client):
        box.cut_stream(1)
        body = {"model": TEXT, "prompt": "once upon a time", "stream": True}
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/completions", json=body)
        assert client.post("/completions", json=body).text.endswith("data: [DONE]\n\n")


class TestChecks:
    @pytest.mark.parametrize(
        ("check", "asked", "error"),
        [
            ("pii", {"input": InputChecks(pii="block")}, PIIDetectedError),
            ("injection", {"input": InputChecks(block_prompt_injection=True)}, PromptInjectionError),
            ("toxicity", {"output": OutputChecks(toxicity=True)}, ToxicityError),
            ("factuality", {"output": OutputChecks(factuality=True)}, FactualityError),
        ],
    )
    def test_fail_check_fails_requests_that_ask_for_the_check(self, box, ours, check, asked, error):
        fault = box.fail_check(check)
        assert said(ours, ASKED)
        assert fault.met == 0
        with pytest.raises(error):
            ours.chat(ChatRequest(**HELLO, **asked))
        assert said(ours, ChatRequest(**HELLO, **asked))


class TestAnswer:
    def test_text(self, box, ours):
        box.answer("It is a cat.", times=2)
        assert said(ours, ASKED) == "It is a cat."
        assert streamed(ours) == "It is a cat."
        assert said(ours, ASKED) != "It is a cat."

    def test_tool_calls(self, box, client):
        box.answer(tool_calls=[("weigh", {"grams": 3})])
        choice = post(client).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        called = choice["message"]["tool_calls"][0]["function"]
        assert (called["name"], json.loads(called["arguments"])) == ("weigh", {"grams": 3})

    def test_an_answer_that_was_cut_short(self, box, client):
        box.answer("It is a", finish_reason="length")
        assert post(client).json()["choices"][0]["finish_reason"] == "length"

    def test_output_checks_apply_to_scripted_answers(self, box, ours):
        box.answer("You are an idiot, shut up.")
        with pytest.raises(ToxicityError):
            ours.chat(ChatRequest(**HELLO, output=OutputChecks(toxicity=True)))

    def test_invalid_requests_are_still_refused(self, box, client):
        box.answer("It is a cat.")
        assert post(client, temperature=9).status_code == 400

    def test_the_empty_answer(self, box, ours):
        box.answer("")
        assert said(ours, ASKED) == ""

    def test_a_refusal(self, box, client):
        box.answer(refusal="I can't help with that.", times=2)
        message = post(client).json()["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, "I can't help with that.")
        streamed = post(client, stream=True).text
        assert '"refusal":"I "' in streamed

    def test_more_choices_than_asked_for(self, box, client):
        box.answer("It is a cat.", choices=3)
        assert [choice["index"] for choice in post(client).json()["choices"]] == [0, 1, 2]

    def test_ids_of_chunks(self, box, client):
        for id_ in ("same", ""):
            box.answer(id=id_)
            chunks = [json.loads(line[6:]) for line in post(client, stream=True).text.split("\n\n")[:-2]]
            assert {chunk["id"] for chunk in chunks} == {id_}


class TestSlowness:
    def test_headers_that_arrive_one_by_one(self, box, client):
        box.slow_headers(0.4)
        start = time.monotonic()
        assert post(client).status_code == 200
        assert time.monotonic() - start >= 0.4

    def test_a_stream_of_nothing_but_comments(self, box, client):
        box.keep_alive(0.3, after=2)
        text = post(client, stream=True).text
        assert text.count(": keep-alive\n\n") >= 2
        assert text.endswith("data: [DONE]\n\n")
        box.keep_alive()
        with client.stream("POST", "/chat/completions", json={**HELLO, "stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": keep-alive"

    def test_requests_that_do_not_stream_are_left_alone(self, box, client):
        fault = box.keep_alive()
        assert post(client).status_code == 200
        assert fault.met == 0


class TestTLS:
    @pytest.fixture
    def secure(self):
        authority = trustme.CA()
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(server)
        authority.configure_trust(client)
        with Sandbox(ssl_context=server) as box:
            headers = {"Authorization": "Bearer any"}
            with httpx.Client(base_url=box.url, headers=headers, verify=client, trust_env=False) as opened:
                yield box, opened

    def test_it_answers(self, secure):
        box, client = secure
        assert box.url.startswith("https://")
        assert post(client).status_code == 200
        assert post(client, stream=True).text.endswith("data: [DONE]\n\n")

    def test_connections_close_inside_tls(self, secure):
        box, client = secure
        box.drop()
        with pytest.raises(httpx.TransportError):
            post(client)
        box.cut_stream(2)
        with pytest.raises(httpx.TransportError):
            post(client, stream=True)

    def test_a_pause_ends_when_the_client_leaves(self, secure):
        box, client = secure
        box.stall()
        with pytest.raises(httpx.ReadTimeout):
            client.post("/chat/completions", json=HELLO, timeout=httpx.Timeout(60, read=0.2))


async def test_many_at_once_in_one_loop(box):
    fault = box.fail(503, times=5)
    async with AsyncClient("any", box.url, max_retries=0) as client:
        got = await asyncio.gather(*(client.chat(ASKED) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(each, ServerError) for each in got) == 5 == fault.met


class TestCommandLine:
    COMMAND = (sys.executable, "-m", "predictionguard_core.sandbox", "--port", "0")

    def test_scripts_faults(self):
        faults = ["fail 429 'slow down' retry_after=0 times=2", "answer '2+2=4' times=all"]
        command = [*self.COMMAND, *(word for fault in faults for word in ("--fault", fault))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while "PREDICTIONGUARD_URL=" not in (line := process.stdout.readline()):
                assert line
            url = line.strip().partition("=")[2]
            with httpx.Client(base_url=url, headers={"Authorization": "Bearer any"}, trust_env=False) as client:
                answers = [post(client) for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        assert [answer.status_code for answer in answers] == [429, 429, 200, 200]
        assert answers[0].json() == {"error": "slow down"}
        assert answers[3].json()["choices"][0]["message"]["content"] == "2+2=4"

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            ("explode", "begin with one of fail, drop"),
            ("", "begin with one of fail, drop"),
            ("fail 99", "200 to 599"),
            ("fail 500 nonsense=1", "nonsense"),
            ("fail '", "quotation"),
        ],
    )
    def test_invalid_faults_are_explained(self, fault, words):
        done = subprocess.run(
            [*self.COMMAND, "--fault", fault], capture_output=True, text=True, env=os.environ, check=False
        )
        assert done.returncode == 2
        assert words in done.stderr
