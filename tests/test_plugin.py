"""The pytest plugin in a project of its own: registered, cheap to load, and gone after its test."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(folder: Path, source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest, in a project of one test file."""
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    ours = ("PREDICTIONGUARD_", "PYTEST_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**clean, **environment}, check=False, timeout=300
    )


def test_gives_a_sandbox_and_sets_the_environment(tmp_path: Path) -> None:
    source = """
        import os

        from predictionguard_core import ChatRequest, Client
        from predictionguard_core.sandbox import Sandbox, use_if_no_key

        HELLO = ChatRequest(model="Hermes-3-Llama-3.1-8B", messages="hello")
        BEFORE = dict(os.environ)
        boxes = []

        def test_one(predictionguard_sandbox):
            assert isinstance(predictionguard_sandbox, Sandbox)
            predictionguard_sandbox.fail(503)
            with Client() as client:
                assert client.base_url == predictionguard_sandbox.url == os.environ["PREDICTIONGUARD_URL"]
                client.chat(HELLO)
            assert len(predictionguard_sandbox.requests) == 2
            assert use_if_no_key() is None  # it is one already
            boxes.append(predictionguard_sandbox)

        def test_another_has_a_sandbox_of_its_own(predictionguard_sandbox):
            with Client() as client:
                client.chat(HELLO)
            assert len(predictionguard_sandbox.requests) == 1
            assert predictionguard_sandbox is not boxes[0]

        def test_afterwards_all_is_as_before():
            assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**BEFORE, "PYTEST_CURRENT_TEST": ""}
    """
    # Nobody listens at the proxy's address.
    done = run(tmp_path, source, PREDICTIONGUARD_API_KEY="own", HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="example.com")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_a_fault_that_nothing_meets_fails_the_test(tmp_path: Path) -> None:
    source = """
        def test_one(predictionguard_sandbox):
            predictionguard_sandbox.cut_stream(3)

        def test_another(predictionguard_sandbox):
            predictionguard_sandbox.cut_stream(3).cancel()
            predictionguard_sandbox.fail(model="any", times=None)
    """
    done = run(tmp_path, source)
    assert done.returncode == 1, done.stdout
    assert "scripted, but no request met it: <Fault cut_stream: met 0, 1 left>" in done.stdout
    assert "2 passed, 1 error" in done.stdout


def test_is_registered_with_pytest_and_documented(tmp_path: Path) -> None:
    done = run(tmp_path, "def test(): pass", "--fixtures")
    assert "predictionguard_sandbox" in done.stdout
    assert "A running mock of Prediction Guard's API" in done.stdout
    without = run(tmp_path, "def test(): pass", "--fixtures", "-p", "no:predictionguard")
    assert "predictionguard_sandbox" not in without.stdout


def test_imports_nothing_until_it_is_used(tmp_path: Path) -> None:
    source = """
        import sys

        def test():
            assert "pytest_predictionguard" in sys.modules
            packages = {name.partition(".")[0] for name in sys.modules}
            heavy = {"predictionguard_core", "langchain_predictionguard", "httpx", "pydantic", "PIL"}
            assert not packages & heavy, packages & heavy
    """
    done = run(tmp_path, source, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_PLUGINS="pytest_predictionguard")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "package", ["predictionguard_core.sandbox", "langchain_predictionguard", "llama_index_predictionguard"]
)
def test_the_library_itself_loads_no_pytest(package: str) -> None:
    code = f"import {package}, sys; assert not {{'pytest', '_pytest', 'pytest_predictionguard'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], timeout=300, check=True)
