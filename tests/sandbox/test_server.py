import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from predictionguard_core.sandbox import Sandbox
from predictionguard_core.sandbox.server import http as server

HELLO = {"model": "Hermes-3-Llama-3.1-8B", "messages": "hello there"}
ROOT = Path(__file__).parents[2]


def raw(box, data):
    """Sends bytes as they are; gives all that comes back until the server closes."""
    host, port = box.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def post_bytes(body, *headers):
    head = ["POST /chat/completions HTTP/1.1", "Host: x", "Authorization: Bearer any", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def test_requests_holds_every_decoded_body_in_order(box, client):
    client.post("/chat/completions", json=HELLO)
    client.post("/chat/completions", json={"model": "nope", "messages": "x"})
    httpx.post(f"{box.url}/embeddings", json={"unauthorised": True}, trust_env=False)
    client.post("/nowhere", json=[1])
    client.post("/chat/completions", content=b"{not json")
    client.get("/models")
    assert box.requests == [HELLO, {"model": "nope", "messages": "x"}, {"unauthorised": True}, [1]]
    box.clear()
    assert box.requests == []


def test_one_connection_carries_many_requests_and_each_response_has_its_own_request_id(box):
    with socket.create_connection(tuple(box.url.removeprefix("http://").split(":"))) as connection:
        seen = set()
        with connection.makefile("rwb") as file:
            for _ in range(3):
                file.write(b"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n")
                file.flush()
                assert file.readline() == b"HTTP/1.1 200 OK\r\n"
                headers = {}
                while (line := file.readline()) != b"\r\n":
                    name, _, value = line.decode().partition(": ")
                    headers[name.lower()] = value.strip()
                json.loads(file.read(int(headers["content-length"])))
                seen.add(headers["x-request-id"])
    assert len(seen) == 3


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "any"])
def test_without_a_bearer_token_it_is_401(box, header):
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.get(f"{box.url}/completions", headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert isinstance(answer.json()["error"], str)


def test_a_set_key_must_match():
    with Sandbox(api_key="right") as box:
        for key, status in (("right", 200), ("wrong", 403), ("RIGHT", 403)):
            answer = httpx.get(f"{box.url}/completions", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
            assert answer.status_code == status
        assert answer.json() == {"error": "api understands the request but refuses to authorize it"}


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_paths_are_served_with_and_without_version(client, prefix):
    assert client.post(f"{prefix}/chat/completions", json=HELLO).status_code == 200
    assert client.get(f"{prefix}/models/rerank").status_code == 200
    assert client.get(f"{prefix}/completions?x=1").status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/v1/models", "/chat", "/chat/completions/x", "/pii", "/v1models"])
def test_unknown_paths_are_404(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert path in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/chat/completions", "POST"),
        ("DELETE", "/models", "GET"),
        ("PUT", "/completions", "GET, POST"),
        ("PATCH", "/embeddings", "POST"),
        ("POST", "/models/rerank", "GET"),
    ],
)
def test_wrong_methods_are_405(client, method, path, allowed):
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert method in answer.json()["error"]


def test_a_head_request_gets_no_body_and_leaves_the_connection_usable(client):
    answer = client.head("/models")
    assert (answer.status_code, answer.content) == (405, b"")
    assert client.get("/models").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'\xef\xbb\xbf{"model": "m"}',
        b'{"model": "gpt-oss-120b", "messages": "x", "unknown": NaN}',
        b'{"model": "gpt-oss-120b", "messages": "x", "unknown": -Infinity}',
        b"[" * 200_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"max_tokens": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_is_400(client, body):
    answer = client.post("/chat/completions", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"7", b"true"])
def test_json_that_is_no_object_is_400(client, body):
    answer = client.post("/chat/completions", content=body)
    assert answer.status_code == 400
    assert "must be an object" in answer.json()["error"]


def test_a_chunked_request_body_is_read(client, box):
    pieces = iter([json.dumps(HELLO)[:10].encode(), json.dumps(HELLO)[10:].encode()])
    answer = client.post("/chat/completions", content=pieces)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 200
    assert box.requests == [HELLO]


@pytest.mark.parametrize(
    "body", [b"zz\r\n{}\r\n0\r\n\r\n", b"\r\n", b"-1\r\n", b"2\r\n{}xx0\r\n\r\n", b"f" * 30 + b"\r\n"]
)
def test_a_malformed_chunked_body_is_400(box, body):
    answer = raw(box, post_bytes(body, "Transfer-Encoding: chunked"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"malformed" in answer


def test_chunk_extensions_and_trailers_are_passed_over(box):
    body = json.dumps(HELLO).encode()
    data = b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body)
    assert raw(box, post_bytes(data, "Transfer-Encoding: chunked")).startswith(b"HTTP/1.1 200 ")
    assert box.requests == [HELLO]


def test_two_lengths_at_once_are_refused(box):
    answer = raw(box, post_bytes(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", ["-1", "x", "+5", "9" * 40])
def test_a_length_that_is_no_number_is_400(box, length):
    assert raw(box, post_bytes(b"", f"Content-Length: {length}")).startswith(b"HTTP/1.1 400 ")


def test_too_large_a_body_is_413_and_the_response_arrives(box, monkeypatch):
    monkeypatch.setattr(server, "MAX_BODY", 1000)
    for content in (b"x" * 3_000_000, iter([b"x" * 800, b"x" * 800])):
        answer = httpx.post(box.url + "/chat/completions", content=content, trust_env=False)
        assert answer.status_code == 413
        assert "1000 bytes" in answer.json()["error"]
    assert box.requests == []


@pytest.mark.parametrize(
    "line", [b"nonsense\r\n\r\n", b"BREW /models HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 70_000 + b"\r\n\r\n"]
)
def test_what_is_no_proper_http_gets_a_json_error(box, line):
    answer = raw(box, line)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert answer.split(b" ")[1] in (b"400", b"414", b"501")


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(box):
    body = json.dumps({**HELLO, "stream": True}).encode()
    head = b"POST /chat/completions HTTP/1.0\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = raw(box, head + body)
    assert b"chunked" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def test_a_client_that_leaves_in_the_middle_of_a_stream_prints_nothing(capfd):
    with Sandbox(chunk_delay=0.01) as box:
        with (
            httpx.Client(base_url=box.url, headers={"Authorization": "Bearer k"}, trust_env=False) as client,
            client.stream("POST", "/chat/completions", json={**HELLO, "stream": True}) as answer,
        ):
            next(answer.iter_bytes())
        answer = httpx.get(f"{box.url}/models", headers={"Authorization": "Bearer k"}, trust_env=False)
        assert answer.status_code == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_that_leaves_in_the_middle_of_a_body_prints_nothing(box, client, capfd):
    with socket.create_connection(tuple(box.url.removeprefix("http://").split(":"))) as connection:
        connection.sendall(post_bytes(b'{"model"', "Content-Length: 500"))
    assert client.get("/models").status_code == 200
    box.stop()
    assert capfd.readouterr() == ("", "")


def test_start_and_stop_may_be_repeated_and_leave_nothing_behind():
    before = set(threading.enumerate())
    box = Sandbox()
    box.stop()
    with pytest.raises(RuntimeError):
        _ = box.url
    for _ in range(3):
        assert box.start() is box
        url = box.url
        assert box.start().url == url
        with socket.create_connection(tuple(url.removeprefix("http://").split(":"))) as idle:
            assert httpx.get(f"{url}/models", headers={"Authorization": "Bearer k"}, trust_env=False).status_code == 200
            box.stop()
            box.stop()
            assert idle.recv(1) == b""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/models", trust_env=False)
    assert set(threading.enumerate()) <= before


def test_stop_ends_a_stream_that_is_being_sent():
    box = Sandbox(chunk_delay=3600).start()
    with (
        httpx.Client(base_url=box.url, headers={"Authorization": "Bearer k"}, trust_env=False) as client,
        client.stream("POST", "/chat/completions", json={**HELLO, "stream": True}) as answer,
    ):
        pieces = answer.iter_bytes()
        next(pieces)
        box.stop()
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_a_taken_port_is_an_os_error(box):
    with pytest.raises(OSError, match=r"."):
        Sandbox(port=int(box.url.rsplit(":", 1)[1])).start()
    assert httpx.get(f"{box.url}/nowhere", trust_env=False).status_code == 404


def test_two_sandboxes_are_independent(box, client):
    with Sandbox() as other:
        assert other.url != box.url
        client.post("/chat/completions", json=HELLO)
        assert other.requests == []


def test_many_connections_at_once(box, client):
    def call(number):
        answer = client.post("/chat/completions", json={**HELLO, "messages": f"number {number}"})
        return f"number {number}" in answer.json()["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(48) as pool:
        assert all(pool.map(call, range(200)))
    assert len(box.requests) == 200


def test_an_internal_error_is_a_500_with_its_text(box, client, monkeypatch, capfd):
    def fail(call, settings, memory):
        raise LookupError("a fault")

    monkeypatch.setattr("predictionguard_core.sandbox.routes.respond", fail)
    answer = client.post("/chat/completions", json=HELLO)
    assert answer.status_code == 500
    assert "LookupError" in answer.json()["error"]
    box.stop()
    assert "LookupError: a fault" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_serves_until_a_signal(number):
    command = [sys.executable, "-m", "predictionguard_core.sandbox", "--port", "0", "--api-key", "secret"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, "it ended before it said how to use it"
            lines.append(line.strip())
        url = next(line for line in lines if "PREDICTIONGUARD_URL=" in line).partition("=")[2]
        assert "export PREDICTIONGUARD_API_KEY=secret" in lines
        answer = httpx.get(f"{url}/models", headers={"Authorization": "Bearer secret"}, trust_env=False)
        assert answer.status_code == 200
        process.send_signal(number)
        assert "GET /models 200" in process.stdout.read()
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, ["--port", "--api-key", "--chunk-delay", "--host", "--vision-streaming"]),
        (["--port", "70000"], 2, ["--port"]),
        (["--chunk-delay", "-1"], 2, ["--chunk-delay"]),
        (["--port", "{taken}"], 1, ["cannot listen"]),
    ],
)
def test_the_command_line_explains_itself(box, arguments, status, words):
    arguments = [argument.format(taken=box.url.rsplit(":", 1)[1]) for argument in arguments]
    command = [sys.executable, "-m", "predictionguard_core.sandbox", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == status
    for word in words:
        assert word in done.stdout + done.stderr


def test_it_imports_nothing_of_the_core_and_no_framework():
    folder = ROOT / "predictionguard_core" / "sandbox"
    allowed = (*sys.stdlib_module_names, "PIL", "predictionguard_core.sandbox")
    for path in folder.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                name = words[1]
                assert any(name == one or name.startswith(f"{one}.") for one in allowed), (path.name, line)
                assert name != "predictionguard_core", (path.name, line)
