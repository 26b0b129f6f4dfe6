"""Test the live tests without a live service: against a sandbox, and against one that behaves differently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from predictionguard_core.sandbox import Sandbox
from tests.live.comparison import Response, differences, shape

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREDICTIONGUARD_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=900
    )


def test_two_sandboxes_do_not_differ() -> None:
    done = run("tests/live", PREDICTIONGUARD_LIVE="sandbox")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    assert "requests were compared, 0 were answered differently." in done.stdout


def test_differences_are_printed_and_do_not_fail() -> None:
    with Sandbox(vision_streaming=True, api_key="key") as box:
        box.fail(422, "reranking is off", path="/rerank", times=None)
        found = run(
            "tests/live/test_comparison.py",
            "-k",
            "streamed or rerank or embeddings",
            PREDICTIONGUARD_API_KEY="key",
            PREDICTIONGUARD_URL=box.url,
        )
    assert found.returncode == 0, found.stdout
    report = found.stdout.partition("The live service and the sandbox")[2]
    assert "2 were answered differently." in report
    assert "status 200, not 400" in report.partition("an image, streamed")[2].splitlines()[0]
    lines = report.partition("rerank")[2].splitlines()
    assert "status 422, not 200" in lines[0]
    assert "says 'reranking is off', not no error" in lines[1]


def test_without_a_key_the_tests_are_skipped_with_a_reason() -> None:
    done = run("tests/live/test_features.py", "-rs")
    assert done.returncode == 0, done.stdout
    assert "PREDICTIONGUARD_API_KEY is not set" in done.stdout
    assert "passed" not in done.stdout


def response(status: int = 200, value: object = None, **more: object) -> Response:
    return Response(**{"status": status, "kind": "application/json", "text": "", "value": value, **more})  # type: ignore[arg-type]


class TestComparison:
    def test_shapes(self) -> None:
        value = {"a": [{"b": 1}, {"b": None, "c": True}], "d": "x", "e": []}
        assert shape(value) == {
            "a[]": set(),
            "a[].b": {"number", "null"},
            "a[].c": {"boolean"},
            "d": {"string"},
            "e[]": set(),
        }

    @pytest.mark.parametrize(
        ("live", "sandbox", "expected"),
        [
            (response(value={"a": 1}), response(value={"a": 2}), []),
            (response(value={"a": 1}), response(value={}), ["has a (number)"]),
            (response(value={}), response(value={"a": [1]}), ["lacks a[] (number)"]),
            (response(value={"a": None}), response(value={"a": "x"}), ["a is null, not string"]),
            (response(403), response(401), ["status 403, not 401"]),
            (
                response(400, {"error": "no"}),
                response(400, {"error": "never"}),
                ["says 'no', not 'never'"],
            ),
            (
                response(502, None, text="<html>", kind="text/html"),
                response(),
                ["status 502, not 200", "content type text/html, not application/json", "says '<html>', not no error"],
            ),
            (
                response(events=({"a": 1},), is_done=True),
                response(events=({"a": 1}, {"a": None})),
                ["the stream ends with [DONE]", "a is number, not null or number"],
            ),
        ],
    )
    def test_differences(self, live: Response, sandbox: Response, expected: list[str]) -> None:
        assert list(differences(live, sandbox)) == expected
