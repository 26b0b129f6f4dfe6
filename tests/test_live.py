"""The suite for the live service, tried without one: against a sandbox in its place, and one that is otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from predictionguard_core.sandbox import Sandbox
from tests.live.comparison import Answer, differences, shape

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREDICTIONGUARD_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False, timeout=900
    )


def test_a_sandbox_in_place_of_the_service_differs_in_nothing() -> None:
    done = run("tests/live", PREDICTIONGUARD_LIVE="sandbox")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    assert "requests were compared, 0 were answered otherwise." in done.stdout


def test_what_is_otherwise_is_printed_and_fails_nothing() -> None:
    with Sandbox(vision_streaming=True, api_key="key") as box:
        box.fail(422, "no ranking today", path="/rerank", times=None)
        found = run(
            "tests/live/test_comparison.py",
            "-k",
            "streamed or ranking or embeddings",
            PREDICTIONGUARD_API_KEY="key",
            PREDICTIONGUARD_URL=box.url,
        )
    assert found.returncode == 0, found.stdout
    report = found.stdout.partition("The live service and the sandbox")[2]
    assert "2 were answered otherwise." in report
    assert "status 200, not 400" in report.partition("a picture, streamed")[2].splitlines()[0]
    told = report.partition("a ranking")[2].splitlines()
    assert "status 422, not 200" in told[0]
    assert "says 'no ranking today', not no error" in told[1]


def test_without_a_key_it_says_why_it_asks_nothing() -> None:
    done = run("tests/live/test_features.py", "-rs")
    assert done.returncode == 0, done.stdout
    assert "PREDICTIONGUARD_API_KEY is not set" in done.stdout
    assert "passed" not in done.stdout


def answer(status: int = 200, value: object = None, **more: object) -> Answer:
    return Answer(**{"status": status, "kind": "application/json", "text": "", "value": value, **more})  # type: ignore[arg-type]


class TestComparison:
    def test_shapes(self) -> None:
        value = {"a": [{"b": 1}, {"b": None, "c": True}], "d": "x", "e": []}
        assert shape(value) == {
            "a[]": set(),
            "a[].b": {"number", "null"},
            "a[].c": {"true or false"},
            "d": {"text"},
            "e[]": set(),
        }

    @pytest.mark.parametrize(
        ("live", "sandbox", "told"),
        [
            (answer(value={"a": 1}), answer(value={"a": 2}), []),
            (answer(value={"a": 1}), answer(value={}), ["has a (number)"]),
            (answer(value={}), answer(value={"a": [1]}), ["lacks a[] (number)"]),
            (answer(value={"a": None}), answer(value={"a": "x"}), ["a is null, not text"]),
            (answer(403), answer(401), ["status 403, not 401"]),
            (
                answer(400, {"error": "no"}),
                answer(400, {"error": "never"}),
                ["says 'no', not 'never'"],
            ),
            (
                answer(502, None, text="<html>", kind="text/html"),
                answer(),
                ["status 502, not 200", "content type text/html, not application/json", "says '<html>', not no error"],
            ),
            (
                answer(events=({"a": 1},), is_done=True),
                answer(events=({"a": 1}, {"a": None})),
                ["the stream ends with [DONE]", "a is number, not null or number"],
            ),
        ],
    )
    def test_differences(self, live: Answer, sandbox: Answer, told: list[str]) -> None:
        assert list(differences(live, sandbox)) == told
